//! Reading the segments batch by batch, and telling a torn tail from damage.
//!
//! A batch is written at once, its seal last, and made durable before the next is begun. So only what follows the
//! last complete batch of the last segment can be the rest of a write that never was acknowledged. It is taken for
//! that only when nothing behind it shows that a later batch had been written: such a sign means that an acknowledged
//! batch is damaged.

use std::{fs::File, sync::Arc};

use antiphon_proto::{limits, wire::Block};

use super::{
    record::{HEADER_BYTES, Kind, RECORD_HEADER_BYTES, RecordHeader},
    segments::{Place, Segment, Segments, damage, read_up_to},
};
use crate::error::{FileError, ReadError};

/// First read of a batch: a small one comes whole.
const READ_MIN: usize = 16 * 1024;
/// Later reads: few calls for a walk over everything, and a small buffer for each walker.
const READ_MAX: usize = 256 * 1024;
/// Step of the search behind a bad record.
const SEARCH_WINDOW: usize = 1024 * 1024;

/// A batch as it is stored.
#[derive(Debug)]
pub(crate) struct RawBatch {
    /// Index of the first block.
    pub(crate) first: u64,
    /// Canonical bytes of each block.
    pub(crate) blocks: Vec<Vec<u8>>,
    /// Where each block's record begins.
    pub(crate) places: Vec<Place>,
    /// The seal.
    pub(crate) seal: Vec<u8>,
    /// Where the batch ends: the next one begins here, or in the next segment.
    pub(crate) end: Place,
}

/// What the walker finds next.
#[derive(Debug)]
pub(crate) enum Step {
    /// A complete batch.
    Batch(RawBatch),
    /// Nothing more; the last segment ends here.
    End(Place),
    /// Only an unacknowledged write behind this place.
    Torn(Place, String),
}

/// Walks over batches, from a place where one begins.
pub(crate) struct Walker<'a> {
    segments: &'a Segments,
    at: Place,
    size: u64,
    height: u64,
    /// Whether everything up to the end of the files was acknowledged, as it was when the ledger is open.
    committed: bool,
    open: Option<Reader>,
}

impl<'a> Walker<'a> {
    /// A walker at the end of the batch after which the ledger had `size` blocks and `height`.
    pub(crate) const fn new(
        segments: &'a Segments,
        at: Place,
        size: u64,
        height: u64,
        committed: bool,
    ) -> Self {
        Self { segments, at, size, height, committed, open: None }
    }

    /// The next batch.
    pub(crate) fn step(&mut self) -> Result<Step, ReadError> {
        loop {
            let reader = match self.open.take() {
                Some(reader) => reader,
                None => Reader::open(self.segments, self.at.segment)?,
            };
            let reader = self.open.insert(reader);
            let offset = u64::from(self.at.offset);
            if offset < reader.length {
                return self.batch();
            }
            if offset > reader.length {
                let what = "the file is shorter than it was".to_owned();
                return Err(damage(&reader.segment.path, reader.length, what).into());
            }
            let Some(next) = self.segments.get(self.at.segment.saturating_add(1)) else {
                return Ok(Step::End(self.at));
            };
            if next.header.first != self.size {
                let what = format!(
                    "it begins with block {}, the segment before it ends with {} blocks: one is missing",
                    next.header.first, self.size
                );
                return Err(damage(&next.path, 0, what).into());
            }
            self.at = Place { segment: self.at.segment.saturating_add(1), offset: START };
            self.open = None;
        }
    }

    fn batch(&mut self) -> Result<Step, ReadError> {
        let Some(mut reader) = self.open.take() else { return Ok(Step::End(self.at)) };
        match reader.batch(self.at, self.size)? {
            Ok(batch) => {
                self.at = batch.end;
                self.size = self.size.saturating_add(batch.blocks.len() as u64);
                self.height = self.height.saturating_add(1);
                self.open = Some(reader);
                Ok(Step::Batch(batch))
            }
            Err(bad) => {
                let last = self.at.segment.saturating_add(1) == self.segments.count();
                if !last || self.committed || reader.later_batch(bad.offset, self.size, self.height)? {
                    Err(damage(&reader.segment.path, bad.offset, bad.what.to_owned()).into())
                } else {
                    Ok(Step::Torn(self.at, bad.what.to_owned()))
                }
            }
        }
    }
}

/// Offset of the first record of a segment.
#[expect(clippy::cast_possible_truncation, reason = "64")]
pub(crate) const START: u32 = HEADER_BYTES as u32;

/// Something else than the next record.
struct Bad {
    offset: u64,
    what: &'static str,
}

/// A segment that is read forward through a small buffer.
struct Reader {
    segment: Segment,
    file: Arc<File>,
    number: u32,
    length: u64,
    buffer: Vec<u8>,
    /// Offset in the file of the buffer's first byte.
    start: u64,
    ahead: usize,
}

impl Reader {
    fn open(segments: &Segments, number: u32) -> Result<Self, ReadError> {
        let (segment, file) = segments.handle(number)?;
        let length = file.metadata().map_err(FileError::new("examine", &segment.path))?.len();
        Ok(Self { segment, file, number, length, buffer: Vec::new(), start: 0, ahead: READ_MIN })
    }

    /// `count` bytes at an offset, or fewer at the end of the file.
    fn bytes(&mut self, offset: u64, count: usize) -> Result<&[u8], ReadError> {
        let within = offset.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        let skip = match within {
            Some(skip) if skip.saturating_add(count) <= self.buffer.len() => skip,
            _ => {
                self.buffer.resize(count.max(self.ahead), 0);
                let got = read_up_to(&self.file, &mut self.buffer, offset)
                    .map_err(FileError::new("read", &self.segment.path))?;
                self.buffer.truncate(got);
                self.start = offset;
                self.ahead = self.ahead.saturating_mul(4).min(READ_MAX);
                0
            }
        };
        let end = self.buffer.len().min(skip + count);
        Ok(&self.buffer[skip.min(end)..end])
    }

    /// The record at an offset, when there is one.
    fn record(&mut self, offset: u64) -> Result<Result<(Kind, Vec<u8>), Bad>, ReadError> {
        let bad = |what| Ok(Err(Bad { offset, what }));
        let salt = self.segment.header.salt;
        let Some(header) = self.bytes(offset, RECORD_HEADER_BYTES)?.first_chunk().map(RecordHeader::parse)
        else {
            return bad("the file ends inside a record");
        };
        let Some(length) = header.payload_len() else { return bad("a record's length is not possible") };
        let payload = self.bytes(offset + RECORD_HEADER_BYTES as u64, length)?;
        if payload.len() < length {
            return bad("the file ends inside a record");
        }
        if header.matches(&salt, payload) {
            Ok(Ok((header.kind, payload.to_vec())))
        } else {
            bad("a record's checksum is wrong")
        }
    }

    /// The batch that begins at `at` with block `first`.
    fn batch(&mut self, at: Place, first: u64) -> Result<Result<RawBatch, Bad>, ReadError> {
        let (mut blocks, mut places, mut total) = (Vec::new(), Vec::new(), 0usize);
        let (mut offset, mut index) = (u64::from(at.offset), first);
        loop {
            let start = offset;
            let bad = |what| Ok(Err(Bad { offset: start, what }));
            let (kind, payload) = match self.record(offset)? {
                Ok(record) => record,
                Err(bad) => return Ok(Err(bad)),
            };
            let Ok(place) = u32::try_from(offset) else { return bad("the segment is longer than 4 GiB") };
            offset += (RECORD_HEADER_BYTES + payload.len()) as u64;
            match kind {
                Kind::Block(got) if got == index && blocks.len() < limits::BATCH_BLOCKS => {
                    total += payload.len();
                    if total > limits::BATCH_BYTES {
                        return bad("a batch is longer than any that is written");
                    }
                    blocks.push(payload);
                    places.push(Place { segment: self.number, offset: place });
                    index += 1;
                }
                Kind::Seal(size) if size == index && !blocks.is_empty() => {
                    let Ok(end) = u32::try_from(offset) else {
                        return bad("the segment is longer than 4 GiB");
                    };
                    let end = Place { segment: self.number, offset: end };
                    return Ok(Ok(RawBatch { first, blocks, places, seal: payload, end }));
                }
                _ => return bad("a record stands where another should be"),
            }
        }
    }

    /// Whether anything behind `from` shows that the batch that begins there was followed by another: a seal that
    /// does not end the file, or a block of a later height.
    fn later_batch(&mut self, from: u64, size: u64, height: u64) -> Result<bool, ReadError> {
        let mut offset = from.saturating_add(1);
        while offset + (RECORD_HEADER_BYTES as u64) < self.length {
            let window = self.bytes(offset, SEARCH_WINDOW)?;
            let Some(found) = plausible(window, size) else {
                // The last bytes may begin a record that ends in the next window.
                match window.len().checked_sub(RECORD_HEADER_BYTES - 1) {
                    Some(searched) if searched > 0 => offset += searched as u64,
                    _ => return Ok(false),
                }
                continue;
            };
            offset += found as u64;
            match self.record(offset)? {
                Ok((kind, payload)) => {
                    offset += (RECORD_HEADER_BYTES + payload.len()) as u64;
                    let later = match kind {
                        Kind::Seal(_) => offset < self.length,
                        Kind::Block(_) => {
                            Block::parse(&payload).is_ok_and(|block| block.height > height.saturating_add(1))
                        }
                    };
                    if later {
                        return Ok(true);
                    }
                }
                Err(_) => offset += 1,
            }
        }
        Ok(false)
    }
}

/// Where in a window bytes might be the header of a record at or behind `size`.
fn plausible(window: &[u8], size: u64) -> Option<usize> {
    // No segment holds more records than this.
    let most = size.saturating_add(u64::from(u32::MAX));
    window.windows(RECORD_HEADER_BYTES).position(|bytes| {
        let Some(header) = bytes.first_chunk().map(RecordHeader::parse) else { return false };
        let index = match header.kind {
            Kind::Block(index) | Kind::Seal(index) => index,
        };
        (size..most).contains(&index) && header.payload_len().is_some()
    })
}
