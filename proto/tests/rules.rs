//! Every rule on the form of records is broken once; every decoder is fed what nobody meant to send.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use antiphon_proto::{
    SecretKey,
    announcement::{Announcement, AnnouncementError},
    canonical::{self, CanonicalError},
    note::{Checkpoint, origin},
    record::Invalid,
    wire::{
        AudioRequest, Block, ByteRange, Genesis, LedgerRequest, RefusalCode, RegisterRequest, Song, Split,
        Terms, TermsKind, block,
    },
};
use proptest::prelude::*;

/// A rule, and the change that breaks it.
type Breach = (&'static str, RefusalCode, fn(&mut Song));

const BREACHES: [Breach; 24] = [
    ("short registrant", RefusalCode::Malformed, |s| s.registrant.truncate(31)),
    ("no fingerprint", RefusalCode::Malformed, |s| s.fingerprint.clear()),
    ("long fingerprint", RefusalCode::Limit, |s| s.fingerprint = vec![1; 3_201]),
    ("content hash", RefusalCode::Malformed, |s| s.content_hash.push(0)),
    ("container 11", RefusalCode::Malformed, |s| s.container = 11),
    ("container beyond a byte", RefusalCode::Malformed, |s| s.container = 256),
    ("empty file", RefusalCode::Malformed, |s| s.bytes = 0),
    ("file above 4 GiB", RefusalCode::Limit, |s| s.bytes = 4 * 1024 * 1024 * 1024 + 1),
    ("999 ms", RefusalCode::Malformed, |s| s.duration_ms = 999),
    ("184 hours", RefusalCode::Limit, |s| s.duration_ms = 662_400_000),
    ("long title", RefusalCode::Limit, |s| s.title = "x".repeat(257)),
    ("blank title", RefusalCode::Malformed, |s| s.title = "  ".into()),
    ("line break", RefusalCode::Malformed, |s| s.artist = "a\nb".into()),
    ("long genre", RefusalCode::Limit, |s| s.genre = "x".repeat(129)),
    ("year", RefusalCode::Limit, |s| s.year = 10_000),
    ("isrc", RefusalCode::Malformed, |s| s.isrc = "DE-A12-99-00".into()),
    ("mbid", RefusalCode::Malformed, |s| s.mbid = vec![0; 15]),
    ("splits without artist", RefusalCode::WrongSplits, |s| s.artist_key.clear()),
    ("splits below the whole", RefusalCode::WrongSplits, |s| s.splits[0].basis_points -= 1),
    ("splits above the whole", RefusalCode::WrongSplits, |s| s.splits[0].basis_points += 1),
    ("splits that overflow", RefusalCode::WrongSplits, |s| s.splits[0].basis_points = u32::MAX),
    ("one payee twice", RefusalCode::WrongSplits, |s| s.splits[1].key = s.splits[0].key.clone()),
    ("17 payees", RefusalCode::Limit, |s| {
        s.splits = (0..17).map(|i| Split { key: vec![i; 32], basis_points: 1 }).collect();
    }),
    ("signature length", RefusalCode::BadSignature, |s| s.signature.truncate(63)),
];

#[test]
fn each_breach_is_refused_by_its_class() {
    for (name, code, breach) in BREACHES {
        let mut song = common::song();
        breach(&mut song);
        let error = song.check_form().expect_err(name);
        assert_eq!(error.code(), code, "{name}: {error}");
    }
}

#[test]
fn terms_have_one_encoding() {
    for (kind, price, valid) in [
        (TermsKind::Open, 0, false),
        (TermsKind::PayPerPlay, 0, false),
        (TermsKind::PayPerPlay, 1, true),
        (TermsKind::Grant, 0, true),
        (TermsKind::Grant, 1, false),
    ] {
        let mut song = common::song();
        song.terms = Some(Terms { kind: kind.into(), price });
        assert_eq!(song.check_form().is_ok(), valid, "{kind:?} {price}");
    }
    let mut song = common::song();
    song.terms = Some(Terms { kind: 9, price: 1 });
    assert!(song.check_form().is_err());
}

#[test]
fn proofs_bind_every_field_and_the_network() {
    let song = common::song();
    let network = common::network();
    let changes: [fn(&mut Song); 4] = [
        |s| s.title.push('!'),
        |s| s.splits.swap(0, 1),
        |s| s.stamp = s.stamp.wrapping_add(1),
        |s| s.bytes += 1,
    ];
    for change in changes {
        let mut changed = song.clone();
        change(&mut changed);
        assert!(changed.check_proofs(&network, 0).is_err());
    }
    assert_eq!(song.check_proofs(&network, 40), Err(Invalid::Stamp(40)));
    let other = Genesis::new("other", 1, [0; 16], &[common::secret().public()]).network_id();
    assert!(song.check_proofs(&other, 0).is_err());
    let mut forged = song;
    forged.sign(&network, &SecretKey::from_seed(&[9; 32]));
    assert_eq!(forged.check_proofs(&network, 0), Err(Invalid::Signature));
}

#[test]
fn other_encodings_of_the_same_meaning_are_refused() {
    let bytes = common::block(0, block::Body::Song(common::song())).to_bytes();
    assert!(Block::parse(&bytes).is_ok());
    let not_canonical = |bytes: &[u8]| {
        matches!(Block::parse(bytes), Err(Invalid::Canonical(CanonicalError::NotCanonical { .. })))
    };
    // The index is 0 and therefore absent; written out it is a default value on the wire.
    let mut explicit_default = bytes.clone();
    explicit_default.splice(2..2, [0x10, 0x00]);
    assert!(not_canonical(&explicit_default));
    let mut unknown_field = bytes.clone();
    unknown_field.extend_from_slice(&[0xf8, 0x3f, 0x01]);
    assert!(not_canonical(&unknown_field));
    let mut repeated = bytes.clone();
    repeated.splice(0..0, [0x08, 0x01]);
    assert!(not_canonical(&repeated));
    let mut long_varint = bytes.clone();
    long_varint.splice(1..2, [0x81, 0x00]);
    assert!(not_canonical(&long_varint));
    let mut two_bodies = bytes;
    let variant = common::block(0, block::Body::Variant(common::variant())).to_bytes();
    two_bodies.extend_from_slice(&variant[2 + 2 + 32..]);
    assert!(Block::parse(&two_bodies).is_err());
}

#[test]
fn blocks_have_a_version_a_body_and_a_size() {
    let mut block = common::block(0, block::Body::Song(common::song()));
    block.version = 2;
    assert_eq!(Block::parse(&block.to_bytes()), Err(Invalid::Version(2)));
    block.version = 1;
    block.height = 0;
    assert_eq!(Block::parse(&block.to_bytes()), Err(Invalid::Missing("height")));
    block.height = 1;
    block.body = None;
    assert_eq!(Block::parse(&block.to_bytes()), Err(Invalid::Missing("block body")));
    let mut long = common::song();
    long.fingerprint = vec![1; 3_200];
    long.splits = (0..16).map(|i| Split { key: vec![i + 1; 32], basis_points: 625 }).collect();
    long.title = "x".repeat(256);
    let block = common::block(0, block::Body::Song(long));
    assert!(matches!(Block::parse(&block.to_bytes()), Err(Invalid::Limit { field: "song block", .. })));
}

#[test]
fn genesis_rules() {
    let changes: [fn(&mut Genesis); 8] = [
        |g| g.version = 2,
        |g| g.members.clear(),
        |g| g.members.reverse(),
        |g| g.members[1] = g.members[0].clone(),
        |g| g.members[0].truncate(31),
        |g| g.salt.clear(),
        |g| g.stamp_bits = 41,
        |g| g.batch_quota = 0,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut genesis = common::genesis();
        change(&mut genesis);
        assert!(Genesis::parse(&canonical::encode(&genesis)).is_err(), "change {number}");
        assert_ne!(genesis.network_id(), common::network());
    }
}

#[test]
fn audio_request_ranges() {
    let range = |start, end| ByteRange { start, end };
    for (ranges, valid) in [
        (vec![range(0, 1)], true),
        (vec![range(0, 4 * 1024 * 1024 * 1024)], true),
        (vec![range(5, 6), range(7, 9)], true),
        (vec![], false),
        (vec![range(1, 1)], false),
        (vec![range(2, 1)], false),
        (vec![range(0, 4 * 1024 * 1024 * 1024 + 1)], false),
        (vec![range(5, 6), range(6, 9)], false),
        (vec![range(5, 9), range(7, 12)], false),
        (vec![range(7, 9), range(1, 2)], false),
        ((0..65).map(|i| range(i * 2, i * 2 + 1)).collect(), false),
    ] {
        let request = AudioRequest { ranges, ..common::audio_request() };
        assert_eq!(AudioRequest::parse(&canonical::encode(&request)).is_ok(), valid, "{:?}", request.ranges);
    }
}

#[test]
fn announcements_are_96_bytes_of_one_layout() {
    let bytes = {
        let mut bytes = [0u8; 96];
        bytes[0] = 1;
        bytes
    };
    assert!(Announcement::parse(&bytes).is_ok());
    for length in [0, 1, 95, 97, 1_000] {
        assert_eq!(Announcement::parse(&vec![1; length]), Err(AnnouncementError::Length(length)));
    }
    let with = |at: usize, value: u8| {
        let mut changed = bytes;
        changed[at] = value;
        Announcement::parse(&changed)
    };
    assert_eq!(with(0, 2), Err(AnnouncementError::Version(2)));
    assert_eq!(with(1, 4), Err(AnnouncementError::Kind(4)));
    assert_eq!(with(1, 1), Err(AnnouncementError::Hash));
    assert_eq!(with(32, 1), Err(AnnouncementError::Hash));
    assert_eq!(with(2, 1), Err(AnnouncementError::Flags(256)));
    assert_eq!(with(4, 1), Err(AnnouncementError::Songs(1 << 24)));
}

proptest! {
    #[test]
    fn songs_round_trip(song in common::any_song(), index in any::<u64>(), height in 1u64.., time_ms in any::<u64>()) {
        prop_assert!(song.check_form().is_ok(), "{:?}", song.check_form());
        let block = Block { version: 1, index, prev: vec![1; 32], height, time_ms, body: Some(block::Body::Song(song)) };
        let bytes = block.to_bytes();
        prop_assert_eq!(Block::parse(&bytes).unwrap(), block);
    }

    /// One flipped bit is another record or none, never the same.
    #[test]
    fn a_flipped_bit_never_reads_as_the_same(at in 0usize..3_000, bit in 0u8..8) {
        let block = common::block(3, block::Body::Song(common::song()));
        let mut bytes = block.to_bytes();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(other) = Block::parse(&bytes) {
            prop_assert_ne!(&other, &block);
            prop_assert_eq!(other.to_bytes(), bytes);
        }
    }

    #[test]
    fn announcements_round_trip(bytes in prop::collection::vec(any::<u8>(), 96), kind in 0u8..4) {
        let mut bytes = bytes;
        bytes[..4].copy_from_slice(&[1, kind, 0, 3]);
        bytes[4] = 0;
        if let Ok(read) = Announcement::parse(&bytes) {
            prop_assert_eq!(&read.to_bytes()[..], &bytes[..]);
        }
    }

    /// Whatever comes in, decoders answer; what they accept has exactly the bytes that came in.
    #[test]
    fn decoders_are_total(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(read) = Block::parse(&bytes) {
            prop_assert_eq!(read.to_bytes(), bytes.clone());
        }
        if let Ok(read) = Genesis::parse(&bytes) {
            prop_assert_eq!(canonical::encode(&read), bytes.clone());
        }
        if let Ok(read) = AudioRequest::parse(&bytes) {
            prop_assert_eq!(canonical::encode(&read), bytes.clone());
        }
        let _ = canonical::decode_lenient::<LedgerRequest>("request", 400, &bytes);
        let _ = canonical::decode_lenient::<RegisterRequest>("request", 400, &bytes);
        let _ = Checkpoint::open(&bytes, "antiphon/x", &[common::secret().public()]);
    }

    #[test]
    fn notes_with_a_changed_byte_do_not_open(at in 0usize..400, value in any::<u8>()) {
        let network = common::network();
        let checkpoint = Checkpoint { origin: origin(&network), size: 7, root: antiphon_proto::RootHash([1; 32]) };
        let mut note = checkpoint.sign(&common::secret()).into_bytes();
        let at = at % note.len();
        prop_assume!(note[at] != value);
        note[at] = value;
        prop_assert!(Checkpoint::open(&note, &checkpoint.origin, &[common::secret().public()]).is_err());
    }
}
