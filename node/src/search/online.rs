//! Which songs are online, in which encodings.

use super::{
    error::Result,
    parts::{Part, Walk},
    sources::Sources,
};

/// A file that somebody online serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Encoding {
    /// Ledger index of its song.
    song: u64,
    /// Ledger index of its own block.
    index: u64,
}

/// What is online at one moment: 16 bytes a file.
#[derive(Debug, Default)]
pub(super) struct Online {
    /// Sorted.
    encodings: Vec<Encoding>,
}

impl Online {
    /// Asks who is online.
    pub(super) fn now(parts: &[Part], sources: &dyn Sources) -> Result<Self> {
        let mut walk = Walk::new(parts)?;
        let mut encodings = Vec::new();
        sources.each(&mut |index| {
            if let Some(place) = walk.find(index) {
                encodings.push(Encoding { song: walk.song(place), index });
            }
        });
        // Nearly sorted: only variants come behind their songs.
        encodings.sort();
        Ok(Self { encodings })
    }

    /// Whether any encoding of a song is online.
    pub(super) fn has(&self, song: u64) -> bool {
        let at = self.encodings.partition_point(|encoding| encoding.song < song);
        self.encodings.get(at).is_some_and(|encoding| encoding.song == song)
    }

    /// Blocks of a song's encodings that are online, its own or variants'.
    pub(super) fn of(&self, song: u64) -> impl Iterator<Item = u64> {
        let at = self.encodings.partition_point(|encoding| encoding.song < song);
        self.encodings[at..]
            .iter()
            .take_while(move |encoding| encoding.song == song)
            .map(|encoding| encoding.index)
    }

    /// The songs, ascending, each once.
    pub(super) fn songs(&self) -> impl Iterator<Item = u64> {
        self.encodings
            .chunk_by(|one, other| one.song == other.song)
            .filter_map(|song| song.first())
            .map(|e| e.song)
    }
}
