//! Blocks by their hash, in 7 bytes each.
//!
//! Hashes come in no order, and a tree of them would have to be rewritten all over for every few blocks, which an SD card
//! does not bear. So 65,536 blocks at a time are written once, sorted, in 256 parts by the first byte of the hash; those
//! of the last, incomplete ones are in memory, and read from the ledger again when it is opened.

use redb::{ReadableTable, Table, TableDefinition};

use super::error::Result;

/// Number of the segment and first byte of the hash to entries: five more bytes of the hash, and which block of the segment
/// it is (big-endian), ascending.
pub(super) const HASHES: TableDefinition<(u32, u8), &[u8]> = TableDefinition::new("hashes");

/// Blocks of a segment.
pub(super) const SEGMENT: u64 = 65_536;
/// Bytes of a hash that are kept.
const KEPT: usize = 6;
const ENTRY: usize = KEPT - 1 + 2;

/// The hashes of blocks that do not fill a segment yet.
#[derive(Debug, Default)]
pub(super) struct Tail {
    first: u64,
    hashes: Vec<[u8; KEPT]>,
}

impl Tail {
    /// None, of blocks from this one on, which begins a segment.
    pub(super) const fn from(first: u64) -> Self {
        Self { first, hashes: Vec::new() }
    }

    /// The block after the last one.
    pub(super) fn end(&self) -> u64 {
        self.first.saturating_add(self.hashes.len() as u64)
    }

    /// The first block.
    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    /// Whether it is a segment.
    pub(super) fn is_full(&self) -> bool {
        self.hashes.len() as u64 >= SEGMENT
    }

    /// Adds the hash of the next block.
    pub(super) fn push(&mut self, hash: &[u8; 32]) {
        let mut kept = [0; KEPT];
        kept.copy_from_slice(&hash[..KEPT]);
        self.hashes.push(kept);
    }

    /// Writes the segment, and begins the next one.
    pub(super) fn write(&mut self, table: &mut Table<'_, (u32, u8), &'static [u8]>) -> Result<()> {
        let mut sorted: Vec<([u8; KEPT], u16)> =
            self.hashes.iter().zip(0_u16..=u16::MAX).map(|(hash, at)| (*hash, at)).collect();
        sorted.sort_unstable();
        let segment = segment_of(self.first);
        for part in sorted.chunk_by(|(one, _), (other, _)| one[0] == other[0]) {
            let mut entries = Vec::with_capacity(part.len() * ENTRY);
            for (hash, at) in part {
                entries.extend_from_slice(&hash[1..]);
                entries.extend_from_slice(&at.to_be_bytes());
            }
            if let [(hash, _), ..] = part {
                table.insert((segment, hash[0]), &entries[..])?;
            }
        }
        *self = Self::from(self.first.saturating_add(SEGMENT));
        Ok(())
    }

    /// Blocks that may have this hash.
    fn find(&self, hash: &[u8; 32]) -> impl Iterator<Item = u64> {
        let wanted = &hash[..KEPT];
        let found = (self.first..).zip(&self.hashes).filter(move |(_, kept)| kept[..] == *wanted);
        found.map(|(index, _)| index)
    }
}

fn segment_of(index: u64) -> u32 {
    u32::try_from(index / SEGMENT).unwrap_or(u32::MAX)
}

/// Blocks that may have this hash, mostly one or none, the newest first.
pub(super) fn find(
    table: &impl ReadableTable<(u32, u8), &'static [u8]>,
    tail: &Tail,
    hash: &[u8; 32],
) -> Result<Vec<u64>> {
    let mut found: Vec<u64> = tail.find(hash).collect();
    found.reverse();
    for segment in (0..segment_of(tail.first)).rev() {
        let Some(entries) = table.get((segment, hash[0]))? else { continue };
        let entries = entries.value().as_chunks::<ENTRY>().0;
        let wanted = &hash[1..KEPT];
        let from = entries.partition_point(|entry| &entry[..KEPT - 1] < wanted);
        for entry in entries.iter().skip(from).take_while(|entry| &entry[..KEPT - 1] == wanted) {
            let at = u16::from_be_bytes([entry[KEPT - 1], entry[KEPT]]);
            found.push(u64::from(segment).saturating_mul(SEGMENT).saturating_add(at.into()));
        }
    }
    Ok(found)
}
