//! Songs by the keys that they name: who registered them, whose they are, who shares in them. Some ten bytes a song, as
//! a library mostly comes in one piece.

use std::collections::BTreeMap;

use antiphon_proto::{PublicKey, wire::Song};
use redb::{ReadableTable, Table, TableDefinition};

use super::error::Result;

/// First eight bytes of a key (big-endian) and number of 4,096 blocks to songs among these blocks: u16, big-endian,
/// ascending.
pub(super) const SONGS: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("songs");

/// Blocks of a part.
const PART: u64 = 4_096;

/// The keys that a song names, each once.
pub(super) fn keys(song: &Song) -> Vec<PublicKey> {
    let splits = song.splits.iter().map(|split| &split.key);
    let named = [&song.registrant, &song.artist_key].into_iter().chain(splits);
    let mut keys: Vec<PublicKey> = named.filter_map(|key| PublicKey::try_from(&key[..]).ok()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn short(key: &PublicKey) -> u64 {
    key.0.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

fn place(index: u64) -> (u32, u16) {
    let at = u16::try_from(index % PART).unwrap_or(u16::MAX);
    (u32::try_from(index / PART).unwrap_or(u32::MAX), at)
}

/// Songs that are still to be written.
#[derive(Default)]
pub(super) struct More(BTreeMap<(u64, u32), Vec<u8>>);

impl More {
    /// Adds a song, whose index is higher than those before.
    pub(super) fn add(&mut self, keys: &[PublicKey], index: u64) {
        let (part, at) = place(index);
        for key in keys {
            self.0.entry((short(key), part)).or_default().extend_from_slice(&at.to_be_bytes());
        }
    }

    /// Writes them behind those that are there.
    pub(super) fn write(self, table: &mut Table<'_, (u64, u32), &'static [u8]>) -> Result<()> {
        for (place, more) in self.0 {
            let mut songs = table.get(place)?.map(|songs| songs.value().to_vec()).unwrap_or_default();
            songs.extend_from_slice(&more);
            table.insert(place, &songs[..])?;
        }
        Ok(())
    }
}

/// Songs below an index that may name a key, the newest first: other keys may begin with the same bytes.
pub(super) fn find(
    table: &impl ReadableTable<(u64, u32), &'static [u8]>,
    key: &PublicKey,
    below: u64,
    limit: usize,
) -> Result<Vec<u64>> {
    let (key, last) = (short(key), place(below).0);
    let mut found = Vec::new();
    for entry in table.range((key, 0)..=(key, last))?.rev() {
        let (at, songs) = entry?;
        let first = u64::from(at.value().1).saturating_mul(PART);
        for song in songs.value().as_chunks::<2>().0.iter().rev() {
            let index = first.saturating_add(u16::from_be_bytes(*song).into());
            if index < below {
                found.push(index);
            }
            if found.len() >= limit {
                return Ok(found);
            }
        }
    }
    Ok(found)
}
