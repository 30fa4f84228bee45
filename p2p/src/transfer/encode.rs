//! The sending end of a Bao stream: reads a file and its outboard, checks what it read, emits large pieces.

use std::{fs::File, io};

use antiphon_proto::{ContentHash, limits};
use bao_tree::{
    ChunkRanges,
    io::sync::ReadAt,
    iter::{BaoChunk, ResponseIter},
};

use super::{
    decode::{outboard_offset, start_of},
    tree,
};
use crate::services::AudioFile;

/// Bytes in a piece that goes to the socket at once. Larger ones were no faster, smaller ones cost system calls.
pub(crate) const PIECE_BYTES: usize = 256 * 1024;
/// First piece: small, so that the first notes leave before 256 KiB were read and hashed.
const FIRST_PIECE_BYTES: usize = 2 * (1024 << limits::BAO_CHUNK_LOG) + 2048;

/// Why a Bao stream ends early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EncodeError {
    /// The file (or its outboard) is not what the content hash says.
    #[error("the file differs from its content hash at offset {offset}")]
    Changed { offset: u64 },
    #[error("reading the file: {0}")]
    Io(#[from] io::Error),
    /// Nobody takes the pieces any more.
    #[error("the receiver is gone")]
    ReceiverGone,
}

/// A buffer and how much of it is filled. Buffers keep their length, so that each is zeroed only once.
pub(crate) type Piece = (Vec<u8>, usize);

/// Takes a filled piece and gives a buffer of [`PIECE_BYTES`] for the next; none when nobody takes any more.
pub(crate) type Emit<'a> = &'a mut dyn FnMut(Piece) -> Option<Vec<u8>>;

/// Collects pieces and hands over full ones.
struct Output<'a> {
    buffer: Vec<u8>,
    filled: usize,
    threshold: usize,
    emit: Emit<'a>,
}

impl Output<'_> {
    /// Gives out room for `length` more bytes, which count once they are taken with [`Self::keep`].
    fn room(&mut self, length: usize) -> Result<&mut [u8], EncodeError> {
        if self.filled + length > self.threshold {
            self.flush()?;
            self.threshold = (self.threshold * 2).min(PIECE_BYTES);
        }
        Ok(&mut self.buffer[self.filled..self.filled + length])
    }

    fn keep(&mut self, length: usize) {
        self.filled += length;
    }

    fn flush(&mut self) -> Result<(), EncodeError> {
        if self.filled > 0 {
            let piece = (std::mem::take(&mut self.buffer), self.filled);
            self.buffer = (self.emit)(piece).ok_or(EncodeError::ReceiverGone)?;
            self.filled = 0;
        }
        Ok(())
    }
}

/// Writes the Bao stream of `ranges` to `emit`. Each group and each pair of hashes is checked after it was read, so a
/// file that changed on disk ends the stream before one wrong byte of it is sent.
pub(crate) fn encode(
    content: &ContentHash,
    file: &AudioFile,
    ranges: ChunkRanges,
    emit: Emit<'_>,
) -> Result<(), EncodeError> {
    let tree = tree::tree(file.size);
    let mut expected = vec![*content.as_bytes()];
    let mut output = Output { buffer: vec![0; PIECE_BYTES], filled: 0, threshold: FIRST_PIECE_BYTES, emit };
    for item in ResponseIter::new(tree, ranges) {
        let (offset, length, matches) = match item {
            BaoChunk::Parent { node, is_root, left, right, .. } => {
                let room = output.room(tree::PAIR)?;
                let mut pair = [0; tree::PAIR];
                read_pair(file.outboard.as_ref(), outboard_offset(&tree, node), &mut pair)?;
                room.copy_from_slice(&pair);
                let matches = expected.pop() == Some(tree::parent_hash(&pair, is_root));
                let (left_hash, right_hash) = tree::split_pair(&pair);
                if right {
                    expected.push(right_hash);
                }
                if left {
                    expected.push(left_hash);
                }
                (start_of(node), tree::PAIR, matches)
            }
            BaoChunk::Leaf { start_chunk, size, is_root, .. } => {
                let offset = start_chunk.to_bytes();
                let room = output.room(size)?;
                let whole = read_group(&file.data, offset, room)?;
                let matches = whole && expected.pop() == Some(tree::group_hash(start_chunk, room, is_root));
                (offset, size, matches)
            }
        };
        if !matches {
            output.flush()?;
            return Err(EncodeError::Changed { offset });
        }
        output.keep(length);
    }
    output.flush()
}

/// Reads a pair of hashes; one that is not there stays zero and matches nothing.
fn read_pair(outboard: Option<&File>, offset: Option<u64>, pair: &mut [u8; tree::PAIR]) -> io::Result<()> {
    let (Some(file), Some(offset)) = (outboard, offset) else { return Ok(()) };
    match file.read_exact_at(offset, pair) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        other => other,
    }
}

/// Reads a group and says whether the file was long enough.
fn read_group(data: &File, offset: u64, group: &mut [u8]) -> io::Result<bool> {
    match data.read_exact_at(offset, group) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
