//! For measurements: the store without the state machine.

use std::collections::BTreeMap;

use antiphon_proto::{ContentHash, SongId};

use crate::{
    error::AppendError,
    ledger::Ledger,
    state::{Entry, Kind},
    store::{NewBatch, Tip},
};

/// A song block and what it is found by, taken as given.
#[derive(Debug, Clone, Copy)]
pub struct RawSong {
    /// The file.
    pub content: ContentHash,
    /// The song.
    pub song_id: SongId,
}

/// Stores a batch and indexes it without looking at it: no rule, no hash, no check of the seal. The
/// result may not be a ledger that can be opened again; it measures what the store alone costs.
///
/// # Errors
/// As [`Ledger::append`].
pub fn append_raw(
    ledger: &Ledger,
    blocks: &[Vec<u8>],
    songs: &[RawSong],
    seal: &[u8],
) -> Result<(), AppendError> {
    let inner = &*ledger.0;
    let mut writer = inner.writer();
    let mut tip = inner.store.tip();
    let first = tip.position.size;
    let entry = |(song, song_index): (&RawSong, u64)| {
        Some(Entry { content: song.content, song_id: song.song_id, song_index })
    };
    let entries: Vec<Option<Entry>> = songs.iter().zip(first..).map(entry).collect();
    for bytes in blocks {
        tip.add(bytes.len() as u64, Kind::Song);
    }
    tip.position.size = first.saturating_add(blocks.len() as u64);
    let tip = Tip { seal: seal.to_vec(), ..tip };
    inner.store.commit(
        &mut writer.tail,
        NewBatch { first, blocks, entries: &entries, state: BTreeMap::new(), tip },
    )?;
    drop(writer);
    ledger.maintain();
    Ok(())
}
