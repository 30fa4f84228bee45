//! How much memory the table of presence takes.

use std::{
    fs,
    time::{Duration, Instant},
};

use antiphon_p2p::{
    PeerId,
    presence::{Learned, LibrarySum, Params, Presence, pages},
};
use antiphon_proto::announcement::{Announcement, Event, Flags};
use roaring::RoaringBitmap;

use super::rng::Rng;

/// Songs of an album, which stand side by side in the ledger as whoever registered them first scanned them together.
const ALBUM: u32 = 12;

/// A random library: single songs, or whole albums.
#[must_use]
pub fn library(rng: &mut Rng, songs: u32, ledger: u32, albums: bool) -> RoaringBitmap {
    let mut set = RoaringBitmap::new();
    let wanted = u64::from(songs.min(ledger));
    while set.len() < wanted {
        if albums {
            let first = rng.below(ledger.div_ceil(ALBUM)) * ALBUM;
            let room = u32::try_from(wanted - set.len()).unwrap_or(ALBUM);
            set.insert_range(first..(first + ALBUM.min(room)).min(ledger));
        } else {
            set.insert(rng.below(ledger));
        }
    }
    set
}

/// Memory of a table.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Peers, as the core says.
    pub peers: usize,
    /// Songs, as the core says.
    pub songs: u64,
    /// Bytes, as the core says.
    pub said: usize,
    /// Bytes that the process took for it.
    pub resident: u64,
    /// The same after a snapshot was taken and every peer has one song more.
    pub changed: u64,
    /// Bytes of the pages by which the libraries came.
    pub pages: u64,
}

/// Fills the table of a fresh core, each library as it comes over the wire. The process should have done little before.
#[must_use]
pub fn fill(peers: u32, songs: u32, ledger: u32, albums: bool, seed: u64) -> Table {
    let mut rng = Rng::new(seed);
    let now = Instant::now();
    let params = Params { peers: usize::MAX, songs: u64::MAX, ..Params::default() };
    let before = resident();
    let mut core = Presence::new(PeerId::random(), params, 0, now);
    let mut paged = 0;
    let ids: Vec<PeerId> = (0..peers).map(|_| PeerId::random()).collect();
    for id in &ids {
        let sum = LibrarySum::from_parts(&rng.bytes(), songs.max(1));
        let said = Announcement {
            event: Event::Digest,
            flags: Flags::default(),
            songs: songs.max(1),
            sequence: 1,
            time_ms: 0,
            ledger_size: u64::from(ledger),
            digest: sum.digest(),
        };
        let _ = core.handle_announcement(*id, &said.to_bytes(), now);
        if songs == 0 {
            continue;
        }
        let pages = pages::encode(&library(&mut rng, songs, ledger, albums));
        let mut set = pages::Pages::default();
        for page in &pages {
            paged += u64::try_from(page.len()).unwrap_or(0);
            let _ = set.push(page);
        }
        let learned = Learned { sequence: 1, set: set.finish(), sum };
        let _ = core.handle_library(*id, learned, now);
    }
    let after = resident();
    let (online, held, said) = core.size();
    let snapshot = core.online();
    for id in &ids {
        let content = antiphon_proto::ContentHash(rng.bytes());
        core.handle_resolved(id, &content, true, Some(u64::from(rng.below(ledger))));
    }
    let _ = core.poll(now + Duration::from_millis(1), 0);
    let changed = resident();
    drop(snapshot);
    Table {
        peers: online,
        songs: held,
        said,
        resident: after.saturating_sub(before),
        changed: changed.saturating_sub(before),
        pages: paged,
    }
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or(0) * 1_024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_have_the_songs_that_were_asked_for() {
        for albums in [false, true] {
            for songs in [0, 1, 1_000, 5_000] {
                let set = library(&mut Rng::new(1), songs, 5_000, albums);
                assert_eq!(set.len(), u64::from(songs));
                assert!(set.max().is_none_or(|last| last < 5_000));
            }
        }
    }
}
