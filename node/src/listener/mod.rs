//! What the listener said and did: stars, ratings, plays, playlists, the queue, bookmarks, songs that are to be kept, the
//! passwords of apps, the password of the pages and who is logged in there, settings of the player.
//!
//! All of it is truth: nothing of it can be had from anywhere else. Every change is one transaction that is on disk before
//! it is acknowledged. A file that cannot be read is left as it is, with an error that says so. Nothing here has a clock
//! or randomness of its own, and there is a bound to everything.

mod bookmarks;
mod codec;
mod devices;
mod error;
mod phc;
mod playlists;
mod plays;
mod queue;
mod settings;
mod stars;
mod store;
mod wanted;
mod web;

pub use bookmarks::{BOOKMARKS, Bookmark};
pub use devices::{DEVICES, Device};
pub use error::{ListenerError, Result};
pub use playlists::{Edit, PLAYLIST_SONGS, PLAYLISTS, Playlist, PlaylistId};
pub use plays::{How, JOURNAL, PAGE, PLAYED_SONGS, Play, SongPlays};
pub use queue::{QUEUE_SONGS, Queue};
pub use settings::{SETTING_BYTES, SETTINGS};
pub use stars::{Kind, RATINGS, STARS};
pub use store::Listener;
pub use wanted::WANTED_SONGS;
pub use web::{IDLE_MS, SESSIONS, Session, SessionId, Token};

/// Longest name that somebody gives to something, bytes.
pub const NAME_BYTES: usize = 256;
/// Longest remark, bytes.
pub const COMMENT_BYTES: usize = 1_024;
/// When something was used last is written down no more often than this: every write goes to disk.
const USED_EVERY_MS: u64 = 3_600_000;

/// A text that somebody wrote, when it is not longer than it may be.
fn checked(what: &'static str, text: &str, most: usize) -> std::result::Result<String, ListenerError> {
    if text.len() > most { Err(ListenerError::TooLong { what, most }) } else { Ok(text.to_owned()) }
}

/// A label that a program gave, cut to what it may be.
fn cut(text: &str, most: usize) -> String {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}
