//! Song durations, packed by 256 ledger indexes.
//!
//! ```text
//! 0    u32  CRC-32 of what follows
//! 4    5 B  for each song, rising: u8 low byte of the ledger index, u32 duration in ms   (little-endian)
//! ```

use super::chunk::{seal, unseal};
use super::error::IndexError;

/// Bytes of a song.
const SONG_BYTES: usize = 5;

/// The record that holds a ledger index, and its place in there.
pub(super) const fn place(key: u64) -> (u64, u8) {
    (key >> 8, key.to_le_bytes()[0])
}

/// A record of durations.
#[derive(Debug, Default, Clone)]
pub(super) struct Durations {
    bytes: Vec<u8>,
}

impl Durations {
    pub(super) fn read(stored: &[u8]) -> Result<Self, IndexError> {
        let songs = unseal(stored)?;
        if !songs.len().is_multiple_of(SONG_BYTES) || songs.len() > 256 * SONG_BYTES {
            return Err(IndexError::Damaged("a record of durations has an impossible length".into()));
        }
        Ok(Self { bytes: songs.to_vec() })
    }

    pub(super) fn get(&self, low: u8) -> Option<u32> {
        let song = self.bytes.chunks_exact(SONG_BYTES).find(|song| song.first() == Some(&low))?;
        song.last_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes))
    }

    /// Adds a song after all others.
    pub(super) fn push(&mut self, low: u8, duration_ms: u32) {
        self.bytes.push(low);
        self.bytes.extend(duration_ms.to_le_bytes());
    }

    pub(super) fn stored(&self) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        bytes.extend(&self.bytes);
        seal(&mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_never_changes() {
        let mut durations = Durations::default();
        durations.push(3, 200_000);
        durations.push(255, u32::MAX);
        let stored = durations.stored();
        assert_eq!(stored[4..], [3, 0x40, 0x0d, 0x03, 0x00, 255, 255, 255, 255, 255]);
        let read = Durations::read(&stored).unwrap();
        assert_eq!((read.get(3), read.get(255), read.get(4)), (Some(200_000), Some(u32::MAX), None));
        assert_eq!(place(0x1_02ff), (0x102, 0xff));
    }

    #[test]
    fn bad_records_are_refused() {
        let mut durations = Durations::default();
        (0..=255).for_each(|low| durations.push(low, 1));
        assert!(Durations::read(&durations.stored()).is_ok());
        durations.push(0, 1);
        assert!(Durations::read(&durations.stored()).is_err());
        let mut odd = vec![0; 7];
        seal(&mut odd);
        assert!(Durations::read(&odd).is_err() && Durations::read(&[1, 2]).is_err());
    }
}
