//! What the listener keeps: playlists, the queue, bookmarks.

use super::{super::tree::Node, media::Child};

/// A playlist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Playlist {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// A remark.
    pub comment: String,
    /// Whose it is.
    pub owner: String,
    /// Whether others see it.
    pub public: bool,
    /// Songs in it.
    pub song_count: u32,
    /// Seconds.
    pub duration: u32,
    /// When it was made.
    pub created: u64,
    /// When it was last changed.
    pub changed: u64,
    /// By what name its picture is had.
    pub cover_art: Option<String>,
    /// Whether it cannot be changed.
    pub readonly: bool,
}

impl Playlist {
    pub(super) fn node(&self) -> Node {
        Node::new()
            .with("id", &self.id)
            .with("name", &self.name)
            .with("comment", &self.comment)
            .with("owner", &self.owner)
            .with("public", self.public)
            .with("songCount", self.song_count)
            .with("duration", self.duration)
            .date("created", self.created)
            .date("changed", self.changed)
            .maybe("coverArt", self.cover_art.as_ref())
            .with("readonly", self.readonly)
    }
}

/// What is to be played. `T` is how the song that plays is told: by its id, or by its place in the queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlayQueue<T> {
    /// What plays.
    pub current: Option<T>,
    /// Milliseconds in it.
    pub position: u64,
    /// Whose queue it is.
    pub username: String,
    /// When it was last changed.
    pub changed: u64,
    /// By which app.
    pub changed_by: String,
    /// The songs.
    pub entries: Vec<Child>,
}

impl<T: Clone + Into<super::super::tree::Scalar>> PlayQueue<T> {
    pub(super) fn node(&self, current: &'static str) -> Node {
        Node::new()
            .maybe(current, self.current.clone())
            .with("position", self.position)
            .with("username", &self.username)
            .date("changed", self.changed)
            .with("changedBy", &self.changed_by)
            .many("entry", self.entries.iter().map(Child::node))
    }
}

/// A place in a song.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bookmark {
    /// Milliseconds.
    pub position: u64,
    /// Whose it is.
    pub username: String,
    /// A remark.
    pub comment: String,
    /// When it was made.
    pub created: u64,
    /// When it was last changed.
    pub changed: u64,
    /// The song.
    pub entry: Child,
}

impl Bookmark {
    pub(super) fn node(&self) -> Node {
        Node::new()
            .with("position", self.position)
            .with("username", &self.username)
            .with("comment", &self.comment)
            .date("created", self.created)
            .date("changed", self.changed)
            .one("entry", self.entry.node())
    }
}
