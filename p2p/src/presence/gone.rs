//! What is kept of peers that are not there: the last sequence, so that nobody brings them back by repeating what they
//! said, and for a while the library, so that a peer that restarts has to say 96 bytes and no more. In memory only.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use super::peer::Library;

/// Peers whose sequence is kept: 1 MB.
const PEERS: usize = 16_384;
/// How long a library is kept: an update and a reboot of a Pi fit.
const LIBRARY_FOR: Duration = Duration::from_secs(600);

#[derive(Debug)]
struct Trace {
    /// Sequence and time of the last announcement.
    last: (u64, u64),
    left: Instant,
    library: Option<Library>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Gone {
    peers: HashMap<PeerId, Trace>,
    /// Songs of all libraries kept.
    songs: u64,
}

impl Gone {
    /// Keeps what is known of a peer. Libraries beyond `most` songs in all are not kept.
    pub(super) fn keep(
        &mut self,
        peer: PeerId,
        last: (u64, u64),
        library: Option<Library>,
        most: u64,
        now: Instant,
    ) {
        self.take(&peer);
        if self.peers.len() >= PEERS
            && let Some(oldest) = self.peers.iter().min_by_key(|(_, trace)| trace.left).map(|(peer, _)| *peer)
        {
            self.take(&oldest);
        }
        let library = library.filter(|library| self.songs.saturating_add(library.set.len()) <= most);
        self.songs = self.songs.saturating_add(library.as_ref().map_or(0, |library| library.set.len()));
        self.peers.insert(peer, Trace { last, left: now, library });
    }

    /// Sequence and time of the last announcement of a peer that is gone.
    pub(super) fn last(&self, peer: &PeerId) -> Option<(u64, u64)> {
        self.peers.get(peer).map(|trace| trace.last)
    }

    /// The library of a peer that is back.
    pub(super) fn take(&mut self, peer: &PeerId) -> Option<Library> {
        let library = self.peers.remove(peer)?.library;
        self.songs = self.songs.saturating_sub(library.as_ref().map_or(0, |library| library.set.len()));
        library
    }

    /// Drops libraries whose time is over.
    pub(super) fn tidy(&mut self, now: Instant) {
        for trace in self.peers.values_mut() {
            if now.saturating_duration_since(trace.left) >= LIBRARY_FOR
                && let Some(library) = trace.library.take()
            {
                self.songs = self.songs.saturating_sub(library.set.len());
            }
        }
    }
}
