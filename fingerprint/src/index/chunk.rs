//! The bytes that postings are stored in.
//!
//! A run's postings of one partition, sorted by hash and then by song, are cut into chunks that each fill a page of the
//! store. A chunk:
//!
//! ```text
//! 0        u32  CRC-32 of what follows                          (integers little-endian, varints LEB128)
//! 4        u8   number of blocks, 1 to 16
//! 5        6 B  for each block: u32 hash rest of its first list, u16 offset of the list in the body
//! ..       body varint base, then the lists one after another:
//!               varint  hash rest - that of the list before (0 for the first list of a block)
//!               varint  for each song: (ledger index - the one before, at first the base) * 2 + 1 if it is the last
//! ```
//!
//! A block is about 256 bytes, so a look-up reads a sixteenth of a chunk. A list that does not fit is continued in the
//! next chunk, whose `part` then is not 0.

use super::error::IndexError;

/// Longest body. With 16 block entries, checksum and count it makes 4,061 bytes, which with the store's own 16
/// bytes fill one page of 4,096 and never need two.
const BODY_BYTES: usize = 3_960;

/// A list that begins after this many bytes of a block begins a new block.
const BLOCK_BYTES: usize = 256;

/// Bytes of a block entry: hash rest and offset.
const ENTRY_BYTES: usize = 6;

/// Most bytes that one posting adds: a hash rest of 20 bits and a ledger index of 63.
const POSTING_BYTES: usize = 3 + 10;

/// A posting inside a partition: the hash rest and the song.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Posting {
    /// Upper 20 bits of the hash.
    pub(super) rest: u32,
    /// Ledger index of the song.
    pub(super) key: u64,
}

/// A finished chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Hash rest of the first list.
    pub(super) rest: u32,
    /// How many chunks before this one hold the same list; 0 when it begins here.
    pub(super) part: u32,
    /// The stored bytes.
    pub(super) bytes: Vec<u8>,
}

/// Packs rising postings of a run into chunks.
pub(super) struct Packer {
    base: u64,
    /// Songs that a list keeps.
    cap: usize,
    pending: Option<Posting>,
    /// Postings of the pending list so far, the pending one included.
    length: usize,
    open: Option<Open>,
    /// Postings kept.
    kept: u64,
}

/// The chunk that is being filled.
struct Open {
    rest: u32,
    part: u32,
    blocks: Vec<(u32, usize)>,
    body: Vec<u8>,
    /// List that the last written posting belongs to, and its song, while that list goes on.
    list: Option<Posting>,
    last_rest: u32,
}

impl Packer {
    /// A packer for a run whose songs have ledger indexes from `base` on; lists keep their first `cap` songs.
    pub(super) const fn new(base: u64, cap: usize) -> Self {
        Self { base, cap, pending: None, length: 0, open: None, kept: 0 }
    }

    /// Adds a posting, which must be above all before it; gives a chunk when one is full.
    pub(super) fn push(&mut self, posting: Posting) -> Option<Chunk> {
        let same_list = self.pending.is_some_and(|pending| pending.rest == posting.rest);
        if same_list && self.length >= self.cap {
            return None;
        }
        let full = self.write_pending(!same_list);
        self.length = if same_list { self.length + 1 } else { 1 };
        self.pending = Some(posting);
        full
    }

    /// Ends the run: the chunks that are left (at most two) and the number of postings kept.
    pub(super) fn finish(mut self) -> (Vec<Chunk>, u64) {
        let mut chunks: Vec<Chunk> = self.write_pending(true).into_iter().collect();
        chunks.extend(self.open.take().map(Open::close));
        (chunks, self.kept)
    }

    fn write_pending(&mut self, last: bool) -> Option<Chunk> {
        let posting = self.pending.take()?;
        self.kept += 1;
        let mut full = None;
        if self.open.as_ref().is_some_and(|open| open.body.len() + POSTING_BYTES > BODY_BYTES) {
            full = self.open.take();
        }
        let part = full.as_ref().filter(|open| open.list.is_some()).map_or(0, |open| {
            // The list goes on: one more part, counted from the chunk that it began in.
            if open.rest == posting.rest { open.part + 1 } else { 1 }
        });
        let base = self.base;
        let open = self.open.get_or_insert_with(|| Open::new(posting.rest, part, base));
        open.write(posting, base, last);
        full.map(Open::close)
    }
}

impl Open {
    fn new(rest: u32, part: u32, base: u64) -> Self {
        let mut body = Vec::with_capacity(BODY_BYTES);
        put_varint(&mut body, base);
        let blocks = vec![(rest, body.len())];
        Self { rest, part, blocks, body, list: None, last_rest: rest }
    }

    fn write(&mut self, posting: Posting, base: u64, last: bool) {
        let before = if let Some(list) = self.list {
            list.key
        } else {
            let block_start = self.blocks.last().map_or(0, |&(_, offset)| offset);
            if self.body.len() - block_start >= BLOCK_BYTES {
                self.blocks.push((posting.rest, self.body.len()));
                self.last_rest = posting.rest;
            }
            put_varint(&mut self.body, u64::from(posting.rest - self.last_rest));
            self.last_rest = posting.rest;
            base
        };
        put_varint(&mut self.body, ((posting.key - before) << 1) | u64::from(last));
        self.list = (!last).then_some(posting);
    }

    fn close(mut self) -> Chunk {
        // A list that goes on in the next chunk ends here for this one.
        if self.list.is_some() {
            self.end_list();
        }
        let mut bytes = vec![0; 4];
        bytes.push(u8::try_from(self.blocks.len()).unwrap_or(u8::MAX));
        for &(rest, offset) in &self.blocks {
            bytes.extend(rest.to_le_bytes());
            bytes.extend(u16::try_from(offset).unwrap_or(u16::MAX).to_le_bytes());
        }
        bytes.extend(&self.body);
        seal(&mut bytes);
        Chunk { rest: self.rest, part: self.part, bytes }
    }

    /// Sets the flag of the last posting written, which was not the last of its list when it was written. The flag
    /// is bit 0 of the varint's first byte, and the bytes of a varint after the first one follow a set top bit.
    fn end_list(&mut self) {
        let mut at = self.body.len().saturating_sub(1);
        while at > 0 && self.body.get(at - 1).is_some_and(|byte| byte & 0x80 != 0) {
            at -= 1;
        }
        if let Some(first) = self.body.get_mut(at) {
            *first |= 1;
        }
    }
}

/// Writes the checksum into the first four bytes.
pub(super) fn seal(bytes: &mut [u8]) {
    if let Some((head, rest)) = bytes.split_first_chunk_mut::<4>() {
        *head = crc32fast::hash(rest).to_le_bytes();
    }
}

/// The bytes behind a checksum that is right.
pub(super) fn unseal(bytes: &[u8]) -> Result<&[u8], IndexError> {
    match bytes.split_first_chunk::<4>() {
        Some((head, rest)) if crc32fast::hash(rest).to_le_bytes() == *head => Ok(rest),
        _ => Err(IndexError::Damaged("a record's checksum is wrong".into())),
    }
}

/// A chunk that is read.
struct View<'a> {
    entries: &'a [u8],
    body: &'a [u8],
    base: u64,
}

impl<'a> View<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, IndexError> {
        let (&blocks, rest) = unseal(bytes)?.split_first().ok_or_else(malformed)?;
        let split = usize::from(blocks) * ENTRY_BYTES;
        let (entries, body) = rest.split_at_checked(split).ok_or_else(malformed)?;
        let base = Reader(body).varint()?;
        Ok(Self { entries, body, base })
    }

    /// First hash rest and bytes of a block.
    fn block(&self, number: usize) -> Option<(u32, &'a [u8])> {
        let (rest, offset) = self.entry(number)?;
        let end = self.entry(number + 1).map_or(self.body.len(), |(_, offset)| offset);
        Some((rest, self.body.get(offset..end)?))
    }

    fn entry(&self, number: usize) -> Option<(u32, usize)> {
        let (rest, tail) = self.entries.get(number * ENTRY_BYTES..)?.split_first_chunk::<4>()?;
        let offset = tail.first_chunk::<2>()?;
        Some((u32::from_le_bytes(*rest), usize::from(u16::from_le_bytes(*offset))))
    }

    fn blocks(&self) -> usize {
        self.entries.len() / ENTRY_BYTES
    }
}

/// All postings of a chunk, rising.
pub(super) fn unpack(bytes: &[u8]) -> Result<Vec<Posting>, IndexError> {
    let view = View::new(bytes)?;
    let mut postings = Vec::with_capacity(BODY_BYTES / 4);
    for number in 0..view.blocks() {
        let (mut rest, block) = view.block(number).ok_or_else(malformed)?;
        let mut reader = Reader(block);
        while !reader.0.is_empty() {
            rest = reader.next_rest(rest)?;
            reader.list(view.base, |key| postings.push(Posting { rest, key }))?;
        }
    }
    Ok(postings)
}

/// The songs of one hash in a chunk, rising; none when the chunk does not have it.
pub(super) fn look_up(bytes: &[u8], wanted: u32) -> Result<Vec<u64>, IndexError> {
    let view = View::new(bytes)?;
    let mut keys = Vec::new();
    let within = (0..view.blocks()).rev().find(|&n| view.entry(n).is_some_and(|(rest, _)| rest <= wanted));
    let Some(number) = within else { return Ok(keys) };
    let (mut rest, block) = view.block(number).ok_or_else(malformed)?;
    let mut reader = Reader(block);
    while !reader.0.is_empty() {
        rest = reader.next_rest(rest)?;
        if rest > wanted {
            break;
        }
        reader.list(view.base, |key| {
            if rest == wanted {
                keys.push(key);
            }
        })?;
    }
    Ok(keys)
}

/// Bytes that are still to be read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn varint(&mut self) -> Result<u64, IndexError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or_else(malformed)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(malformed())
    }

    fn next_rest(&mut self, rest: u32) -> Result<u32, IndexError> {
        let gap = u32::try_from(self.varint()?).map_err(|_| malformed())?;
        rest.checked_add(gap).ok_or_else(malformed)
    }

    fn list(&mut self, base: u64, mut each: impl FnMut(u64)) -> Result<(), IndexError> {
        let mut key = base;
        loop {
            let step = self.varint()?;
            key = key.checked_add(step >> 1).ok_or_else(malformed)?;
            each(key);
            if step & 1 == 1 {
                return Ok(());
            }
        }
    }
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
}

fn malformed() -> IndexError {
    IndexError::Damaged("a record has impossible contents".into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pack(base: u64, cap: usize, postings: &[Posting]) -> (Vec<Chunk>, u64) {
        let mut packer = Packer::new(base, cap);
        let mut chunks: Vec<Chunk> = postings.iter().filter_map(|&posting| packer.push(posting)).collect();
        let (rest, kept) = packer.finish();
        chunks.extend(rest);
        (chunks, kept)
    }

    fn posting(rest: u32, key: u64) -> Posting {
        Posting { rest, key }
    }

    #[test]
    fn the_layout_never_changes() {
        let (chunks, kept) = pack(
            1_000,
            3,
            &[
                posting(5, 1_000),
                posting(5, 1_001),
                posting(5, 1_300),
                posting(5, 1_301),
                posting(700, 1_002),
            ],
        );
        assert_eq!((chunks.len(), kept), (1, 4));
        let body = [0xe8, 0x07, 0x00, 0x00, 0x02, 0xd7, 0x04, 0xb7, 0x05, 0x05];
        let head = [1, 5, 0, 0, 0, 2, 0];
        assert_eq!(chunks[0].bytes[4..], [&head[..], &body[..]].concat());
        assert_eq!(chunks[0].bytes[..4], crc32fast::hash(&chunks[0].bytes[4..]).to_le_bytes());
        assert_eq!((chunks[0].rest, chunks[0].part), (5, 0));
    }

    #[test]
    fn a_flipped_bit_or_a_cut_is_noticed() {
        let (chunks, _) = pack(0, 99, &(0..50).map(|i| posting(i, u64::from(i) * 9)).collect::<Vec<_>>());
        let good = &chunks[0].bytes;
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(unpack(&bad).is_err() && look_up(&bad, 7).is_err());
        }
        assert!((0..good.len()).all(|len| unpack(&good[..len]).is_err()));
    }

    #[test]
    fn a_long_list_is_continued_in_parts() {
        let postings: Vec<Posting> = (0..9_000).map(|key| posting(77, key << 40)).collect();
        let (chunks, _) = pack(0, usize::MAX, &postings);
        let parts: Vec<u32> = chunks.iter().map(|chunk| chunk.part).collect();
        assert_eq!(parts, (0..u32::try_from(chunks.len()).unwrap()).collect::<Vec<_>>());
        assert!(chunks.len() > 10);
        let read: Vec<u64> = chunks.iter().flat_map(|chunk| look_up(&chunk.bytes, 77).unwrap()).collect();
        assert_eq!(read, postings.iter().map(|p| p.key).collect::<Vec<_>>());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_packed_is_read_back(
            set in prop::collection::btree_set((0u32..600, 0u64..5_000_000), 1..6_000),
            base in 0u64..1 << 40,
            wide in any::<bool>(),
        ) {
            let scale = if wide { 1_747 } else { 1 };
            let postings: Vec<Posting> =
                set.iter().map(|&(rest, key)| posting(rest * scale, base + key)).collect();
            let (chunks, kept) = pack(base, usize::MAX, &postings);
            prop_assert_eq!(kept, postings.len() as u64);
            prop_assert!(chunks.iter().all(|c| c.bytes.len() <= 4_061));
            let read: Vec<Posting> = chunks.iter().flat_map(|c| unpack(&c.bytes).unwrap()).collect();
            prop_assert_eq!(&read, &postings);
            for rest in [0, 1, 300 * scale, 599 * scale] {
                let expected: Vec<u64> =
                    postings.iter().filter(|p| p.rest == rest).map(|p| p.key).collect();
                let found: Vec<u64> =
                    chunks.iter().flat_map(|c| look_up(&c.bytes, rest).unwrap()).collect();
                prop_assert_eq!(found, expected);
            }
        }

        #[test]
        fn any_bytes_behind_a_right_checksum_are_total(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = vec![0; 4];
            bytes.extend(body);
            seal(&mut bytes);
            let _ = unpack(&bytes);
            let _ = look_up(&bytes, 9);
        }
    }
}
