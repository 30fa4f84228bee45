//! Registrations for tests: small, valid, and told apart by a number.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test uses some of it")]

use antiphon_proto::{
    NetworkId, PublicKey, SecretKey,
    wire::{Genesis, Registration, Song, Variant},
};

/// When test networks begin, in milliseconds since 1970.
pub const START_MS: u64 = 1_700_000_000_000;
/// Work in test networks: enough that a wrong stamp is noticed now and then, not to wait for.
pub const STAMP_BITS: u32 = 4;

pub fn key(number: u8) -> SecretKey {
    SecretKey::from_seed(&[number; 32])
}

/// The network's member.
pub fn member() -> SecretKey {
    key(200)
}

pub fn genesis_of(member: PublicKey, quota: u32) -> Genesis {
    Genesis {
        stamp_bits: STAMP_BITS,
        batch_quota: quota,
        ..Genesis::new("test", START_MS, [7; 16], &[member])
    }
}

pub fn genesis() -> Genesis {
    genesis_of(member().public(), 64)
}

/// A registrant of one network.
pub struct Artist {
    pub key: SecretKey,
    pub network: NetworkId,
    pub stamp_bits: u32,
}

impl Artist {
    pub fn new(number: u8, genesis: &Genesis) -> Self {
        Self { key: key(number), network: genesis.network_id(), stamp_bits: genesis.stamp_bits }
    }

    /// A song without proofs; `number` makes its content, title and fingerprint.
    pub fn bare_song(&self, number: u64, fingerprint_bytes: usize) -> Song {
        let mut fingerprint = vec![0; fingerprint_bytes];
        blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut fingerprint);
        Song {
            registrant: self.key.public().0.to_vec(),
            fingerprint,
            content_hash: blake3::hash(&number.to_le_bytes()).as_bytes().to_vec(),
            container: 2,
            bytes: 1_000_000 + number,
            duration_ms: 180_000,
            title: format!("Song {number}"),
            artist: "Test".to_owned(),
            created_ms: START_MS,
            ..Song::default()
        }
    }

    pub fn prove_song(&self, mut song: Song) -> Song {
        song.stamp = song.stamp_challenge(&self.network).search(self.stamp_bits, 0, 1 << 30).unwrap();
        song.sign(&self.network, &self.key);
        song
    }

    pub fn song(&self, number: u64) -> Song {
        self.prove_song(self.bare_song(number, 40))
    }

    pub fn variant(&self, of: &Song, number: u64) -> Variant {
        let mut variant = Variant {
            song_id: of.id().0.to_vec(),
            content_hash: blake3::hash(format!("variant {number}").as_bytes()).as_bytes().to_vec(),
            container: 1,
            bytes: 5_000,
            bitrate_kbps: 128,
            registrant: self.key.public().0.to_vec(),
            ..Variant::default()
        };
        variant.stamp = variant.stamp_challenge(&self.network).search(self.stamp_bits, 0, 1 << 30).unwrap();
        variant.sign(&self.network, &self.key);
        variant
    }

    pub fn song_registration(&self, number: u64) -> Registration {
        Registration::of_song(self.song(number))
    }
}
