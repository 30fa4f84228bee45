//! From what a file is to what is said of it in the ledger.

use antiphon_fingerprint::Analysis;
use antiphon_proto::{
    ContentHash, NetworkId, SongId, limits, stamp,
    wire::{Registration, Song, Split, Terms, Variant, registration},
};

use crate::wallet::Wallet;

/// Tries between two looks at whether to stop: some milliseconds of work.
const STAMP_TRIES: u64 = 1 << 14;

/// Who registers, and where.
pub struct Registrant {
    /// Signs registrations. Without it, or while it is locked, nothing is registered.
    pub wallet: Option<Wallet>,
    /// Artist names that are the wallet's own, in lower case.
    pub artist_names: Vec<String>,
    /// The network that registrations are for.
    pub network: NetworkId,
    /// Work that the network asks for.
    pub stamp_bits: u32,
    /// What listeners owe for the wallet's own songs. None: nothing.
    pub terms: Option<Terms>,
}

impl Registrant {
    /// The record of a file, without stamp and signature.
    #[must_use]
    pub fn song(&self, analysis: &Analysis, content: &ContentHash, bytes: u64, now_ms: u64) -> Song {
        let tags = &analysis.tags;
        let mut song = Song {
            registrant: self.key(),
            fingerprint: analysis.fingerprint.compress(),
            content_hash: content.0.to_vec(),
            container: analysis.container.byte().into(),
            bytes,
            duration_ms: analysis.duration_ms,
            title: tags.title.clone(),
            artist: tags.artist.clone(),
            album: tags.album.clone(),
            album_artist: tags.album_artist.clone(),
            genre: tags.genre.clone(),
            year: if tags.year > limits::YEAR_MAX { 0 } else { tags.year },
            track: if tags.track > limits::TRACK_MAX { 0 } else { tags.track },
            disc: if tags.disc > limits::TRACK_MAX { 0 } else { tags.disc },
            isrc: tags.isrc.clone(),
            mbid: tags.mbid.map(|id| id.to_vec()).unwrap_or_default(),
            created_ms: now_ms,
            ..Song::default()
        };
        if self.is_ours(&song) {
            let key = self.key();
            song.artist_key.clone_from(&key);
            song.splits = vec![Split { key, basis_points: limits::BASIS_POINTS }];
            song.terms = self.terms;
        }
        song
    }

    fn key(&self) -> Vec<u8> {
        self.wallet.as_ref().map(|wallet| wallet.public().0.to_vec()).unwrap_or_default()
    }

    fn is_ours(&self, song: &Song) -> bool {
        let named = |name: &str| self.artist_names.contains(&name.to_lowercase());
        (!song.artist.is_empty() && named(&song.artist))
            || (!song.album_artist.is_empty() && named(&song.album_artist))
    }

    /// Another encoding of a song that is in the ledger, without stamp and signature.
    #[must_use]
    pub fn variant(&self, of: &SongId, song: &Song) -> Variant {
        // Bits per millisecond are kilobits per second.
        let kbps = song.bytes.saturating_mul(8) / u64::from(song.duration_ms.max(1));
        Variant {
            song_id: of.0.to_vec(),
            content_hash: song.content_hash.clone(),
            container: song.container,
            bytes: song.bytes,
            bitrate_kbps: u32::try_from(kbps).unwrap_or(u32::MAX),
            registrant: self.key(),
            ..Variant::default()
        }
    }

    /// Finds the work stamp and signs. `go_on` is asked every few milliseconds; `None` when it said no, or when there is
    /// no key to sign with.
    #[must_use]
    pub fn seal(&self, mut registration: Registration, go_on: &dyn Fn() -> bool) -> Option<Registration> {
        let secret = self.wallet.as_ref()?.secret()?;
        match registration.body.as_mut()? {
            registration::Body::Song(song) => {
                song.stamp = work(&song.stamp_challenge(&self.network), self.stamp_bits, go_on)?;
                song.sign(&self.network, secret);
            }
            registration::Body::Variant(variant) => {
                variant.stamp = work(&variant.stamp_challenge(&self.network), self.stamp_bits, go_on)?;
                variant.sign(&self.network, secret);
            }
            // What is not of the library is signed elsewhere.
            _ => return None,
        }
        Some(registration)
    }
}

/// Finds a work stamp of so many bits. `go_on` is asked every few milliseconds; `None` when it said no.
pub(crate) fn work(challenge: &stamp::Challenge, bits: u32, go_on: &dyn Fn() -> bool) -> Option<u64> {
    let mut start = 0;
    while go_on() {
        if let Some(found) = challenge.search(bits, start, STAMP_TRIES) {
            return Some(found);
        }
        start += STAMP_TRIES;
    }
    None
}

/// Content hash of a registration.
#[must_use]
pub fn content_of(registration: &Registration) -> Option<ContentHash> {
    match registration.body.as_ref()? {
        registration::Body::Song(song) => song.content().ok(),
        registration::Body::Variant(variant) => variant.content().ok(),
        _ => None,
    }
}
