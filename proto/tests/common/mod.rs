//! Records that several tests start from, and generators of arbitrary ones.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

use std::{fs, path::PathBuf};

use antiphon_proto::{
    NetworkId, PublicKey, SecretKey,
    wire::{
        AudioMode, AudioRequest, Binding, Block, ByteRange, Genesis, Song, Split, Terms, TermsKind, Variant,
        block,
    },
};
use data_encoding::HEXLOWER;
use proptest::prelude::*;

/// Compares with the frozen bytes; `ANTIPHON_BLESS=1` writes them anew, on purpose only.
pub fn golden(name: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.hex"));
    let text: String = bytes.chunks(32).map(|line| HEXLOWER.encode(line) + "\n").collect::<Vec<_>>().concat();
    if std::env::var_os("ANTIPHON_BLESS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let frozen = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(frozen, text, "{name} no longer has its frozen bytes");
}

pub fn secret() -> SecretKey {
    SecretKey::from_seed(&[0x11; 32])
}

pub fn network() -> NetworkId {
    genesis().network_id()
}

pub fn genesis() -> Genesis {
    Genesis::new("golden", 1_700_000_000_000, [0x5a; 16], &[secret().public(), PublicKey([0x22; 32])])
}

pub fn song() -> Song {
    let mut song = Song {
        registrant: secret().public().0.to_vec(),
        fingerprint: (0..=255).cycle().take(2_532).collect(),
        content_hash: vec![0xc0; 32],
        container: 2,
        bytes: 31_415_926,
        duration_ms: 215_000,
        title: "Vigil für die Nacht".into(),
        artist: "The Example Choir".into(),
        album: "Antiphons".into(),
        album_artist: "Various".into(),
        genre: "Choral".into(),
        year: 1999,
        track: 3,
        disc: 1,
        isrc: "DEA129900001".into(),
        mbid: vec![0xab; 16],
        artist_key: vec![0x33; 32],
        splits: vec![
            Split { key: vec![0x33; 32], basis_points: 7_500 },
            Split { key: vec![0x44; 32], basis_points: 2_500 },
        ],
        terms: Some(Terms { kind: TermsKind::PayPerPlay.into(), price: 12_345 }),
        created_ms: 1_700_000_100_000,
        stamp: 0,
        signature: Vec::new(),
    };
    song.stamp = song.stamp_challenge(&network()).search(8, 0, 1 << 16).unwrap();
    song.sign(&network(), &secret());
    song
}

pub fn variant() -> Variant {
    let mut variant = Variant {
        song_id: song().id().0.to_vec(),
        content_hash: vec![0xc1; 32],
        container: 5,
        bytes: 2_718_281,
        bitrate_kbps: 128,
        registrant: secret().public().0.to_vec(),
        stamp: 0,
        signature: Vec::new(),
    };
    variant.stamp = variant.stamp_challenge(&network()).search(8, 0, 1 << 16).unwrap();
    variant.sign(&network(), &secret());
    variant
}

pub fn block(index: u64, body: block::Body) -> Block {
    Block {
        version: 1,
        index,
        prev: vec![0x77; 32],
        height: index / 2 + 1,
        time_ms: 1_700_000_200_000,
        body: Some(body),
    }
}

pub fn audio_request() -> AudioRequest {
    AudioRequest {
        content_hash: vec![0xc0; 32],
        ranges: vec![ByteRange { start: 0, end: 65_536 }, ByteRange { start: 1_048_576, end: 31_415_926 }],
        mode: AudioMode::Bulk.into(),
        access_token: vec![1, 2, 3],
    }
}

pub fn binding() -> Binding {
    Binding::new(&secret(), &network(), &[0x24; 38], 1_700_000_000_000)
}

pub fn any_bytes32() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 32)
}

prop_compose! {
    /// Any song of valid form; the signature is of the right length only.
    pub fn any_song()(
        registrant in any_bytes32(),
        fingerprint in prop::collection::vec(any::<u8>(), 1..3_000),
        content_hash in any_bytes32(),
        container in prop_oneof![0u32..=10, Just(255u32)],
        bytes in 1u64..=4 * 1024 * 1024 * 1024,
        duration_ms in 1_000u32..=43_200_000,
        texts in prop::collection::vec("\\PC{0,60}", 4),
        year in 0u32..=9_999,
        track in 0u32..=9_999,
        isrc in prop_oneof![Just(String::new()), "[A-Z0-9]{12}"],
        artist in prop::option::of((any_bytes32(), any_bytes32(), 1u32..10_000)),
        price in prop::option::of(1u64..),
        created_ms in 1u64..,
        stamp in any::<u64>(),
        signature in prop::collection::vec(any::<u8>(), 64),
    ) -> Song {
        let (artist_key, splits) = match artist {
            Some((a, b, share)) if a != b => {
                let rest = 10_000 - share;
                let splits = vec![Split { key: a.clone(), basis_points: share }, Split { key: b, basis_points: rest }];
                (a, splits)
            }
            _ => (Vec::new(), Vec::new()),
        };
        Song {
            registrant, fingerprint, content_hash, container, bytes, duration_ms,
            title: format!("t{}", texts[0]), artist: texts[1].clone(), album: texts[2].clone(),
            album_artist: String::new(), genre: texts[3].chars().take(20).collect(),
            year, track, disc: 0, isrc, mbid: Vec::new(), artist_key, splits,
            terms: price.map(|price| Terms { kind: TermsKind::Purchase.into(), price }),
            created_ms, stamp, signature,
        }
    }
}
