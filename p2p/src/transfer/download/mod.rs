//! Downloading a file from many peers at once, and listening to it while it comes.
//!
//! One task drives the plan ([`super::schedule`]); each request is a task with a stream of its own ([`request`]), and a
//! thread takes part only while there is something to verify ([`intake`]). All of them write to one partial file.
//! Dropping the future of the download ends all of it; what was verified stays.

mod drive;
mod intake;
mod listener;
mod request;
mod sources;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use antiphon_proto::{ContentHash, wire::AudioMode};
use libp2p::PeerId;

pub(crate) use self::drive::{Context, Driver};
pub use self::listener::Listener;
use self::listener::Playback;
use super::partial::Partial;
use crate::error::FetchError;

/// What to download, and where to.
#[derive(Debug)]
pub struct Download {
    pub(crate) content: ContentHash,
    pub(crate) size: u64,
    pub(crate) part: PathBuf,
    /// Right to hear it, or empty.
    pub access_token: Vec<u8>,
    /// How long to wait for another source when none is left. Zero, the default: not at all.
    pub patience: Duration,
    playback: Option<Playback>,
    /// One source, one request at a time, and no second chance.
    once: Option<AudioMode>,
}

impl Download {
    /// A download of the file with this BLAKE3 hash and size in bytes into the partial file `part`. What is there
    /// already and verifies is not fetched again. Nobody listens: all of it, as fast as it goes.
    #[must_use]
    pub fn new(content: ContentHash, size: u64, part: PathBuf) -> Self {
        let (access_token, patience) = (Vec::new(), Duration::ZERO);
        Self { content, size, part, access_token, patience, playback: None, once: None }
    }

    /// Lets somebody listen to a song of this duration while it comes: what is heard next comes first, until the
    /// listener is dropped.
    pub fn listen(&mut self, duration: Duration) -> Listener {
        let millis = duration.as_millis().max(1);
        let rate = u128::from(self.size) * 1_000 / millis;
        let (playback, listener) = listener::pair(self.size, u64::try_from(rate).unwrap_or(u64::MAX).max(1));
        self.playback = Some(playback);
        listener
    }

    /// Asks each source once only, in this mode.
    pub(crate) fn once(mut self, mode: AudioMode) -> Self {
        self.once = Some(mode);
        self
    }
}

/// How far a download is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DownloadProgress {
    /// Bytes of the file that are on disk and verified.
    pub verified_bytes: u64,
    /// Bytes of the file.
    pub total: u64,
    /// Who takes part or did: at most 256.
    pub sources: Vec<SourceProgress>,
}

/// What one source does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceProgress {
    /// Who.
    pub peer: PeerId,
    /// New verified bytes that it brought.
    pub bytes: u64,
    /// What it does now.
    pub state: SourceState,
}

/// What a source does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceState {
    /// It was asked for something.
    Sending,
    /// It stands by.
    Waiting,
    /// It was busy or failed, and is left alone for a while.
    Resting,
    /// There is no connection with it.
    Away,
    /// It is not asked any more.
    Gone,
}

/// What a source did.
#[derive(Debug)]
pub struct SourceReport {
    /// Who.
    pub peer: PeerId,
    /// New verified bytes that it brought.
    pub bytes: u64,
    /// What went wrong with it last.
    pub failure: Option<FetchError>,
}

/// A complete download, not yet at its place.
#[derive(Debug)]
pub struct Downloaded {
    /// Bytes of the file that came in this download; the rest was there.
    pub fetched_bytes: u64,
    /// Who brought them, and who was no help.
    pub sources: Vec<SourceReport>,
    partial: Partial,
}

impl Downloaded {
    /// See [`Partial::finish`]. Blocks on the disk.
    ///
    /// # Errors
    /// As [`Partial::finish`].
    pub fn finish(&mut self, dest: &Path, outboard: Option<&Path>) -> std::io::Result<()> {
        self.partial.finish(dest, outboard)
    }

    /// The partial file, whole.
    #[must_use]
    pub fn into_partial(self) -> Partial {
        self.partial
    }
}
