//! Encoder, decoder, outboard and partial file against one another and against bao-tree's own encoder.

use std::{fs::File, path::Path};

use antiphon_proto::{ContentHash, limits, wire::ByteRange};
use bao_tree::{
    ChunkNum, ChunkRanges,
    io::{outboard::PreOrderMemOutboard, sync::encode_ranges},
};
use proptest::prelude::*;
use tempfile::TempDir;

use super::{
    decode::{BadBytes, Decoder, Verified, decode_all},
    encode::{EncodeError, PIECE_BYTES, encode},
    outboard,
    partial::{OUTBOARD_SUFFIX, Partial, PartialError},
    tree,
};
use crate::services::AudioFile;

const GROUP: u64 = limits::BAO_GROUP_BYTES;

/// Where the shape of the tree changes: one byte, a group and its neighbours, two groups, a whole subtree and its
/// neighbours, a lopsided tree.
const SIZES: [u64; 12] = [
    1,
    1_023,
    16_383,
    16_384,
    16_385,
    32_768,
    32_769,
    1_048_575,
    1_048_576,
    1_048_577,
    5 * GROUP + 7,
    10 * 1024 * 1024,
];

fn sample(size: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    blake3::Hasher::new().update(&size.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn whole(size: u64) -> Vec<ByteRange> {
    vec![ByteRange { start: 0, end: size }]
}

/// A file on disk with its outboard.
struct Served {
    folder: TempDir,
    content: ContentHash,
    bytes: Vec<u8>,
}

impl Served {
    fn new(size: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bytes = sample(size);
        std::fs::write(folder.path().join("data"), &bytes).unwrap();
        let made =
            outboard::create_file(&folder.path().join("data"), &folder.path().join("outboard")).unwrap();
        assert_eq!(made, (ContentHash::of(&bytes), size));
        Self { folder, content: made.0, bytes }
    }

    fn file(&self) -> AudioFile {
        let open = |name: &str| File::open(self.folder.path().join(name)).unwrap();
        AudioFile { size: self.bytes.len() as u64, data: open("data"), outboard: Some(open("outboard")) }
    }

    fn encode(&self, ranges: &[ByteRange]) -> (Vec<u8>, Result<(), EncodeError>) {
        let mut stream = Vec::new();
        let chunks = tree::covering(ranges, self.bytes.len() as u64);
        let encoded = encode(&self.content, &self.file(), chunks, &mut |(buffer, filled)| {
            assert_eq!(buffer.len(), PIECE_BYTES);
            stream.extend_from_slice(&buffer[..filled]);
            Some(buffer)
        });
        (stream, encoded)
    }
}

/// Feeds a stream into a partial file; stops at the end of the stream or at bad bytes.
fn store(partial: &mut Partial, ranges: &[ByteRange], mut stream: &[u8]) -> Result<u64, BadBytes> {
    let mut decoder = Decoder::new(&partial.content(), partial.size(), ranges);
    let mut new = 0;
    while let Some(wanted) = decoder.wants() {
        let Some((piece, rest)) = stream.split_at_checked(wanted) else { break };
        stream = rest;
        new += partial.store(&decoder.feed(piece)?).unwrap();
    }
    Ok(new)
}

#[test]
fn streams_are_what_bao_tree_makes_of_the_same_ranges() {
    for size in SIZES {
        let served = Served::new(size);
        let reference = PreOrderMemOutboard::create(&served.bytes, tree::tree(size).block_size());
        assert_eq!(reference.root.as_bytes(), served.content.as_bytes());
        for (start, end) in [(0, size), (0, 1), (size - 1, size), (size / 3, size / 2 + 1)] {
            let ranges = [ByteRange { start, end }];
            let first = ChunkNum(start / GROUP * 16);
            let past = ChunkNum(end.div_ceil(GROUP) * 16);
            let mut expected = Vec::new();
            encode_ranges(&served.bytes[..], &reference, &ChunkRanges::from(first..past), &mut expected)
                .unwrap();
            let (stream, encoded) = served.encode(&ranges);
            encoded.unwrap();
            assert!(stream == expected, "size {size}, range {start}..{end}");
            let verified = decode_all(&served.content, size, &ranges, &stream).unwrap();
            assert_eq!(verified, (end.div_ceil(GROUP) * GROUP).min(size) - start / GROUP * GROUP);
        }
    }
}

#[test]
fn outboards_are_frozen() {
    let served = Served::new(3 * GROUP + 1);
    let bytes = std::fs::read(served.folder.path().join("outboard")).unwrap();
    assert_eq!(bytes.len() as u64, outboard::length(3 * GROUP + 1));
    // Post-order: left pair, right pair, root pair.
    let hash = |range: std::ops::Range<u64>| {
        let (start, end) = (usize::try_from(range.start).unwrap(), usize::try_from(range.end).unwrap());
        tree::group_hash(ChunkNum(range.start / 1024), &served.bytes[start..end], false)
    };
    let left = [hash(0..GROUP), hash(GROUP..2 * GROUP)].concat();
    let right = [hash(2 * GROUP..3 * GROUP), hash(3 * GROUP..3 * GROUP + 1)].concat();
    let parent = |pair: &[u8]| tree::parent_hash(pair.try_into().unwrap(), false);
    let root = [parent(&left), parent(&right)].concat();
    assert_eq!(bytes, [left, right, root].concat());
    assert_eq!(
        blake3::hash(&bytes).to_hex().as_str(),
        "c66c7457babab50b9b4089dc0a1f8f35cdb0ad4866e31f710acbb987cf1ccdf9",
    );
}

#[test]
fn data_of_another_length_than_announced_is_refused() {
    let bytes = sample(40_000);
    let kind = |size| outboard::create(&mut &bytes[..], size, &mut Vec::new()).unwrap_err().kind();
    assert_eq!(kind(40_001), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(kind(39_999), std::io::ErrorKind::InvalidData);
    assert_eq!(kind(limits::FILE_BYTES + 1), std::io::ErrorKind::InvalidData);
}

#[test]
fn it_is_known_how_much_makes_the_next_group() {
    for size in SIZES {
        let served = Served::new(size);
        let ranges = [ByteRange { start: size / 3, end: size }];
        let (stream, ended) = served.encode(&ranges);
        ended.unwrap();
        let (mut decoder, mut rest) = (Decoder::new(&served.content, size, &ranges), &stream[..]);
        while decoder.until_group() > 0 {
            let (mut left, mut groups) = (decoder.until_group(), 0);
            while left > 0 {
                assert_eq!((decoder.until_group(), groups), (left, 0), "{size}");
                let (piece, later) = rest.split_at(decoder.wants().unwrap());
                groups += usize::from(matches!(decoder.feed(piece).unwrap(), Verified::Group { .. }));
                (rest, left) = (later, left - piece.len());
            }
            assert_eq!(groups, 1, "{size}");
        }
        assert!(rest.is_empty() && decoder.wants().is_none());
        let mut decoder = Decoder::new(&served.content, size, &ranges);
        decoder.feed(&[]).unwrap_err();
        assert_eq!((decoder.until_group(), decoder.wants()), (0, None));
    }
}

#[test]
fn a_flipped_byte_is_found_in_its_group() {
    let size = 10 * GROUP + 100;
    let served = Served::new(size);
    let (stream, _) = served.encode(&whole(size));
    for position in (0..stream.len()).step_by(997) {
        let mut bad = stream.clone();
        bad[position] ^= 1;
        let folder = tempfile::tempdir().unwrap();
        let mut partial = Partial::open(&folder.path().join("x.part"), served.content, size).unwrap();
        let error = store(&mut partial, &whole(size), &bad).unwrap_err();
        // Nothing before the bad piece is lost, nothing of it is kept.
        assert!(partial.verified_bytes() <= position as u64);
        assert!(position as u64 - partial.verified_bytes() <= GROUP + 64 * 11, "at {position}");
        assert!(error.offset >= partial.verified_bytes().min(error.offset));
        let on_disk = std::fs::read(folder.path().join("x.part")).unwrap();
        let kept = usize::try_from(partial.verified_bytes()).unwrap();
        assert_eq!(on_disk[..kept], served.bytes[..kept]);
        assert!(on_disk[kept..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_file_that_changed_on_disk_ends_the_stream_before_the_change() {
    let size = 40 * GROUP;
    let mut served = Served::new(size);
    served.bytes[usize::try_from(20 * GROUP).unwrap() + 5] ^= 1;
    std::fs::write(served.folder.path().join("data"), &served.bytes).unwrap();
    let (stream, encoded) = served.encode(&whole(size));
    assert!(matches!(encoded, Err(EncodeError::Changed { offset }) if offset == 20 * GROUP));
    assert_eq!(decode_all(&served.content, size, &whole(size), &stream), Ok(20 * GROUP));
    // Cut short.
    File::options()
        .write(true)
        .open(served.folder.path().join("data"))
        .unwrap()
        .set_len(3 * GROUP + 1)
        .unwrap();
    let (stream, encoded) = served.encode(&whole(size));
    assert!(matches!(encoded, Err(EncodeError::Changed { offset }) if offset == 3 * GROUP));
    assert_eq!(decode_all(&served.content, size, &whole(size), &stream), Ok(3 * GROUP));
}

#[test]
fn a_damaged_outboard_sends_nothing_wrong() {
    let size = 8 * GROUP;
    let served = Served::new(size);
    let path = served.folder.path().join("outboard");
    let good = std::fs::read(&path).unwrap();
    for position in (0..good.len()).step_by(32) {
        let mut bad = good.clone();
        bad[position] ^= 1;
        std::fs::write(&path, bad).unwrap();
        let (stream, encoded) = served.encode(&whole(size));
        assert!(matches!(encoded, Err(EncodeError::Changed { .. })));
        assert!(decode_all(&served.content, size, &whole(size), &stream).is_ok());
    }
    std::fs::write(&path, &good[..100]).unwrap();
    assert!(matches!(served.encode(&whole(size)).1, Err(EncodeError::Changed { .. })));
}

fn reopen(part: &Path, served: &Served) -> Partial {
    Partial::open(part, served.content, served.bytes.len() as u64).unwrap()
}

#[test]
fn only_damaged_groups_are_missing_after_damage() {
    let size = 50 * GROUP + 9;
    let served = Served::new(size);
    let folder = tempfile::tempdir().unwrap();
    let part = folder.path().join("x.part");
    let mut partial = reopen(&part, &served);
    assert_eq!(store(&mut partial, &whole(size), &served.encode(&whole(size)).0), Ok(size));
    assert!(partial.is_complete());
    drop(partial);
    assert!(reopen(&part, &served).is_complete());
    let mut bytes = std::fs::read(&part).unwrap();
    for group in [0u64, 7, 8, 50] {
        bytes[usize::try_from(group * GROUP).unwrap() + 1] ^= 0x80;
    }
    std::fs::write(&part, &bytes).unwrap();
    let mut partial = reopen(&part, &served);
    let missing = partial.missing();
    let range = |start: u64, end: u64| ByteRange { start, end };
    assert_eq!(missing, [range(0, GROUP), range(7 * GROUP, 9 * GROUP), range(50 * GROUP, size)]);
    assert_eq!(store(&mut partial, &missing, &served.encode(&missing).0), Ok(3 * GROUP + 9));
    partial.finish(&folder.path().join("done"), Some(&folder.path().join("done.obao"))).unwrap();
    assert_eq!(std::fs::read(folder.path().join("done")).unwrap(), served.bytes);
    let moved = std::fs::read(folder.path().join("done.obao")).unwrap();
    assert_eq!(moved, std::fs::read(served.folder.path().join("outboard")).unwrap());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_taken_name_stays_and_another_can_be_tried() {
    let size = 5 * GROUP + 1;
    let served = Served::new(size);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut partial = reopen(&at("x.part"), &served);
    store(&mut partial, &whole(size), &served.encode(&whole(size)).0).unwrap();
    std::fs::write(at("song"), b"another song").unwrap();
    for name in ["song.obao", "song.obao", "other.obao"] {
        let taken = partial.finish(&at("song"), Some(&at(name))).unwrap_err();
        assert_eq!(taken.kind(), std::io::ErrorKind::AlreadyExists);
    }
    partial.finish(&at("song 2"), Some(&at("song 2.obao"))).unwrap();
    assert_eq!(std::fs::read(at("song")).unwrap(), b"another song");
    assert_eq!(std::fs::read(at("song 2")).unwrap(), served.bytes);
    let outboard = std::fs::read(served.folder.path().join("outboard")).unwrap();
    assert_eq!(std::fs::read(at("song 2.obao")).unwrap(), outboard);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    let again = partial.finish(&at("song 3"), None).unwrap_err();
    assert_eq!(again.kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn nothing_is_trusted_without_its_hashes() {
    let size = 20 * GROUP;
    let served = Served::new(size);
    let folder = tempfile::tempdir().unwrap();
    let part = folder.path().join("x.part");
    // All the data, as after a power cut that lost the outboard.
    std::fs::write(&part, &served.bytes).unwrap();
    assert_eq!(reopen(&part, &served).verified_bytes(), 0);
    // Another file's leftovers, longer than this one.
    let other = Served::new(30 * GROUP);
    std::fs::write(&part, &other.bytes).unwrap();
    let hashes = outboard::with_suffix(&part, OUTBOARD_SUFFIX);
    std::fs::copy(other.folder.path().join("outboard"), &hashes).unwrap();
    let partial = reopen(&part, &served);
    assert_eq!((partial.verified_bytes(), partial.missing()), (0, whole(size)));
}

#[test]
fn partial_files_are_exclusive_and_bounded() {
    let served = Served::new(GROUP);
    let folder = tempfile::tempdir().unwrap();
    let part = folder.path().join("x.part");
    let mut first = reopen(&part, &served);
    assert!(matches!(Partial::open(&part, served.content, GROUP), Err(PartialError::InUse { .. })));
    let unfinished = first.finish(&folder.path().join("done"), None).unwrap_err();
    assert_eq!(unfinished.kind(), std::io::ErrorKind::InvalidInput);
    drop(first);
    assert!(matches!(Partial::open(&part, served.content, 0), Err(PartialError::Size { size: 0 })));
    let huge = limits::FILE_BYTES + 1;
    assert!(matches!(Partial::open(&part, served.content, huge), Err(PartialError::Size { .. })));
    // A file of one group leaves no outboard behind.
    let mut partial = reopen(&part, &served);
    store(&mut partial, &whole(GROUP), &served.bytes).unwrap();
    partial.finish(&folder.path().join("done"), Some(&folder.path().join("done.obao"))).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let partial = reopen(&part, &served);
    partial.discard().unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn an_unwilling_receiver_ends_the_encoding() {
    let served = Served::new(100 * GROUP);
    let chunks = tree::covering(&whole(100 * GROUP), 100 * GROUP);
    let mut pieces = 0;
    let encoded = encode(&served.content, &served.file(), chunks, &mut |(buffer, _)| {
        pieces += 1;
        (pieces < 2).then_some(buffer)
    });
    assert!(matches!(encoded, Err(EncodeError::ReceiverGone)));
    assert_eq!(pieces, 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_order_of_requests_completes_the_file(
        size in 1..30 * GROUP,
        requests in prop::collection::vec(prop::collection::vec((0..30 * GROUP, 1..5 * GROUP), 1..5), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let served = Served::new(size);
        let folder = tempfile::tempdir().unwrap();
        let part = folder.path().join("x.part");
        for request in requests {
            // Ascending and disjoint, as a request must be.
            let mut ranges: Vec<ByteRange> = Vec::new();
            let mut spans = request;
            spans.sort_unstable();
            for (start, length) in spans {
                let start = start.max(ranges.last().map_or(0, |last| last.end + 1));
                if start < size {
                    ranges.push(ByteRange { start, end: (start + length).min(size) });
                }
            }
            let (stream, encoded) = served.encode(&ranges);
            encoded.unwrap();
            // Each transfer is cut somewhere and the file opened again, as by another process.
            let mut partial = reopen(&part, &served);
            let before = partial.verified_bytes();
            let end = if stream.is_empty() { 0 } else { cut.index(stream.len()) };
            let new = store(&mut partial, &ranges, &stream[..end]).unwrap();
            prop_assert_eq!(partial.verified_bytes(), before + new);
            let missing = partial.missing();
            drop(partial);
            prop_assert_eq!(reopen(&part, &served).missing(), missing);
        }
        let mut partial = reopen(&part, &served);
        while !partial.is_complete() {
            let missing = partial.missing();
            store(&mut partial, &missing, &served.encode(&missing).0).unwrap();
        }
        let done = folder.path().join("done");
        partial.finish(&done, None).unwrap();
        prop_assert_eq!(std::fs::read(done).unwrap(), served.bytes);
    }

    #[test]
    fn no_bytes_break_the_decoder(
        size in 0..limits::FILE_BYTES,
        ranges in prop::collection::vec((any::<u64>(), any::<u64>()), 0..4),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let ranges: Vec<_> = ranges.into_iter().map(|(start, end)| ByteRange { start, end }).collect();
        let verified = decode_all(&ContentHash([7; 32]), size, &ranges, &bytes);
        prop_assert!(matches!(verified, Ok(0) | Err(_)));
    }
}
