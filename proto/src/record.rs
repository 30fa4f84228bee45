//! Rules on the form of ledger records: what can be said of a block, song or variant without knowing the ledger.

use crate::{
    canonical::{self, CanonicalError},
    container::Container,
    hash::{BlockHash, ContentHash, IdError, NetworkId, SongId},
    keys::{Domain, PublicKey, SecretKey, signed_message},
    limits, stamp,
    wire::{
        Block, Claim, Grant, Purchase, RefusalCode, Registration, Song, Split, TermsKind, Transfer, Variant,
        block, registration,
    },
};

/// Format version of blocks.
pub const BLOCK_VERSION: u32 = 1;

/// A record that no ledger may hold, whatever else it holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Bytes that are not the canonical form.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// A hash or key of the wrong length.
    #[error("{field}: {source}")]
    Identity {
        /// Field of the record.
        field: &'static str,
        /// What is wrong.
        source: IdError,
    },
    /// A block of an unknown version.
    #[error("block version {0} is not known (this is version 1); a newer antiphon is needed")]
    Version(u32),
    /// A required part is absent.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Beyond a limit.
    #[error("{field} is {got}, the limit is {limit}")]
    Limit {
        /// Field of the record.
        field: &'static str,
        /// Value or length found.
        got: u64,
        /// What is allowed.
        limit: u64,
    },
    /// Text with control characters, or not in the form that its field asks for.
    #[error("{field} holds characters that are not allowed there")]
    Text {
        /// Field of the record.
        field: &'static str,
    },
    /// A container byte that no version has assigned.
    #[error("container byte {0} is not assigned")]
    Container(u32),
    /// Payees that do not add up.
    #[error("splits: {0}")]
    Splits(&'static str),
    /// Terms that mean nothing.
    #[error("terms: {0}")]
    Terms(&'static str),
    /// A council act that means nothing.
    #[error("council act: {0}")]
    Act(&'static str),
    /// Parameters of the economy that contradict one another.
    #[error("economy: {0}")]
    Economy(&'static str),
    /// A settlement that contradicts itself.
    #[error("settlement: {0}")]
    Epoch(&'static str),
    /// A receipt that proves nothing.
    #[error("receipt: {0}")]
    Receipt(&'static str),
    /// The signature is not the registrant's (or the voting member's).
    #[error("the signature is not by the key that it names")]
    Signature,
    /// Too little work.
    #[error("the work stamp shows fewer than {0} leading zero bits")]
    Stamp(u32),
}

impl Invalid {
    /// The class that a registrant is told.
    #[must_use]
    pub const fn code(&self) -> RefusalCode {
        match self {
            Self::Limit { .. } => RefusalCode::Limit,
            Self::Splits(_) => RefusalCode::WrongSplits,
            Self::Signature => RefusalCode::BadSignature,
            Self::Stamp(_) => RefusalCode::BadStamp,
            _ => RefusalCode::Malformed,
        }
    }
}

pub(crate) fn at_most(field: &'static str, got: u64, limit: u64) -> Result<(), Invalid> {
    if got > limit { Err(Invalid::Limit { field, got, limit }) } else { Ok(()) }
}

pub(crate) fn text(field: &'static str, value: &str, limit: usize) -> Result<(), Invalid> {
    at_most(field, value.len() as u64, limit as u64)?;
    if value.chars().any(char::is_control) { Err(Invalid::Text { field }) } else { Ok(()) }
}

pub(crate) fn key(field: &'static str, bytes: &[u8]) -> Result<PublicKey, Invalid> {
    PublicKey::try_from(bytes).map_err(|source| Invalid::Identity { field, source })
}

fn content(bytes: &[u8]) -> Result<ContentHash, Invalid> {
    ContentHash::try_from(bytes).map_err(|source| Invalid::Identity { field: "content_hash", source })
}

fn container(byte: u32) -> Result<Container, Invalid> {
    u8::try_from(byte).ok().and_then(Container::from_byte).ok_or(Invalid::Container(byte))
}

fn file_size(bytes: u64) -> Result<(), Invalid> {
    if bytes == 0 {
        return Err(Invalid::Missing("bytes (size of the file)"));
    }
    at_most("bytes", bytes, limits::FILE_BYTES)
}

pub(crate) fn signature_length(bytes: &[u8]) -> Result<(), Invalid> {
    if bytes.len() == 64 { Ok(()) } else { Err(Invalid::Signature) }
}

fn stamped(challenge: stamp::Challenge, found: u64, bits: u32) -> Result<(), Invalid> {
    if challenge.accepts(found, bits) { Ok(()) } else { Err(Invalid::Stamp(bits)) }
}

pub(crate) fn signed(by: PublicKey, message: &[u8], signature: &[u8]) -> Result<(), Invalid> {
    if by.verifies(message, signature) { Ok(()) } else { Err(Invalid::Signature) }
}

/// Work stamp and signature of a record that has both as its last fields.
macro_rules! stamped_and_signed {
    ($type:ident, $domain:expr, $signer:ident) => {
        impl $type {
            /// Canonical bytes without signature: what is signed.
            fn to_sign(&self) -> Vec<u8> {
                canonical::encode(&Self { signature: Vec::new(), ..self.clone() })
            }

            /// What the work stamp is found for: everything but stamp and signature.
            #[must_use]
            pub fn stamp_challenge(&self, network: &NetworkId) -> stamp::Challenge {
                let bare = Self { signature: Vec::new(), stamp: 0, ..self.clone() };
                stamp::Challenge::new(network, &canonical::encode(&bare))
            }

            /// Signs in place; the stamp must be there already.
            pub fn sign(&mut self, network: &NetworkId, secret: &SecretKey) {
                self.signature = secret.sign(&signed_message($domain, network, &self.to_sign())).to_vec();
            }

            /// Checks the work stamp, then the signature: the cheap one first.
            ///
            /// # Errors
            /// [`Invalid::Stamp`] or [`Invalid::Signature`].
            pub fn check_proofs(&self, network: &NetworkId, stamp_bits: u32) -> Result<(), Invalid> {
                stamped(self.stamp_challenge(network), self.stamp, stamp_bits)?;
                let message = signed_message($domain, network, &self.to_sign());
                signed(key(stringify!($signer), &self.$signer)?, &message, &self.signature)
            }
        }
    };
}

stamped_and_signed!(Song, Domain::Song, registrant);
stamped_and_signed!(Variant, Domain::Variant, registrant);
stamped_and_signed!(Transfer, Domain::Transfer, from);
stamped_and_signed!(Purchase, Domain::Purchase, buyer);
stamped_and_signed!(Grant, Domain::Grant, grantor);
stamped_and_signed!(Claim, Domain::Claim, claimant);

fn splits(artist_key: &[u8], splits: &[Split]) -> Result<(), Invalid> {
    at_most("splits", splits.len() as u64, limits::SPLITS as u64)?;
    if artist_key.is_empty() {
        // The share of an artist who has not registered goes to escrow: nobody else may direct it.
        return if splits.is_empty() {
            Ok(())
        } else {
            Err(Invalid::Splits("only an artist key may divide the share"))
        };
    }
    let mut total = 0u32;
    for (position, split) in splits.iter().enumerate() {
        key("splits.key", &split.key)?;
        if split.basis_points == 0 {
            return Err(Invalid::Splits("a payee with nothing"));
        }
        if splits.iter().take(position).any(|other| other.key == split.key) {
            return Err(Invalid::Splits("a payee is named twice"));
        }
        total = total.checked_add(split.basis_points).ok_or(Invalid::Splits("the sum overflows"))?;
    }
    if total == limits::BASIS_POINTS {
        Ok(())
    } else {
        Err(Invalid::Splits("the sum is not 10,000 basis points"))
    }
}

impl Song {
    /// Content hash of the first variant.
    ///
    /// # Errors
    /// [`Invalid::Identity`] when it is not 32 bytes.
    pub fn content(&self) -> Result<ContentHash, Invalid> {
        content(&self.content_hash)
    }

    /// Key of whoever registers.
    ///
    /// # Errors
    /// [`Invalid::Identity`] when it is not 32 bytes.
    pub fn registrant_key(&self) -> Result<PublicKey, Invalid> {
        key("registrant", &self.registrant)
    }

    /// BLAKE3 of the canonical registration.
    #[must_use]
    pub fn id(&self) -> SongId {
        SongId(*blake3::hash(&canonical::encode(self)).as_bytes())
    }

    /// Checks every rule of form and every limit.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check_form(&self) -> Result<(), Invalid> {
        self.registrant_key()?;
        self.content()?;
        container(self.container)?;
        file_size(self.bytes)?;
        if self.fingerprint.is_empty() {
            return Err(Invalid::Missing("fingerprint"));
        }
        at_most("fingerprint", self.fingerprint.len() as u64, limits::FINGERPRINT_BYTES as u64)?;
        if self.duration_ms < limits::DURATION_MS_MIN {
            return Err(Invalid::Missing("duration_ms (at least one second)"));
        }
        at_most("duration_ms", self.duration_ms.into(), limits::DURATION_MS_MAX.into())?;
        self.check_texts()?;
        if !self.artist_key.is_empty() {
            key("artist_key", &self.artist_key)?;
        }
        splits(&self.artist_key, &self.splits)?;
        self.check_terms()?;
        if self.created_ms == 0 {
            return Err(Invalid::Missing("created_ms"));
        }
        signature_length(&self.signature)
    }

    fn check_texts(&self) -> Result<(), Invalid> {
        text("title", &self.title, limits::TEXT_BYTES)?;
        text("artist", &self.artist, limits::TEXT_BYTES)?;
        text("album", &self.album, limits::TEXT_BYTES)?;
        text("album_artist", &self.album_artist, limits::TEXT_BYTES)?;
        text("genre", &self.genre, limits::GENRE_BYTES)?;
        if self.title.trim().is_empty() {
            return Err(Invalid::Missing("title"));
        }
        at_most("year", self.year.into(), limits::YEAR_MAX.into())?;
        at_most("track", self.track.into(), limits::TRACK_MAX.into())?;
        at_most("disc", self.disc.into(), limits::TRACK_MAX.into())?;
        let isrc = self.isrc.as_bytes();
        if !isrc.is_empty()
            && (isrc.len() != 12 || !isrc.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()))
        {
            return Err(Invalid::Text { field: "isrc" });
        }
        if !self.mbid.is_empty() && self.mbid.len() != 16 {
            return Err(Invalid::Text { field: "mbid" });
        }
        Ok(())
    }

    fn check_terms(&self) -> Result<(), Invalid> {
        let Some(terms) = &self.terms else { return Ok(()) };
        match TermsKind::try_from(terms.kind) {
            // Absence already means open: a second encoding of it would be a second song id.
            Ok(TermsKind::Open) => Err(Invalid::Terms("open terms are left out")),
            Ok(TermsKind::PayPerPlay | TermsKind::Purchase) if terms.price == 0 => {
                Err(Invalid::Terms("a price is missing"))
            }
            Ok(TermsKind::Grant) if terms.price != 0 => Err(Invalid::Terms("a grant has no price")),
            Ok(_) => Ok(()),
            Err(_) => Err(Invalid::Terms("unknown kind")),
        }
    }
}

impl Variant {
    /// Content hash of this encoding.
    ///
    /// # Errors
    /// [`Invalid::Identity`] when it is not 32 bytes.
    pub fn content(&self) -> Result<ContentHash, Invalid> {
        content(&self.content_hash)
    }

    /// The song that this is an encoding of.
    ///
    /// # Errors
    /// [`Invalid::Identity`] when it is not 32 bytes.
    pub fn song(&self) -> Result<SongId, Invalid> {
        SongId::try_from(&self.song_id[..]).map_err(|source| Invalid::Identity { field: "song_id", source })
    }

    /// Key of whoever registers.
    ///
    /// # Errors
    /// [`Invalid::Identity`] when it is not 32 bytes.
    pub fn registrant_key(&self) -> Result<PublicKey, Invalid> {
        key("registrant", &self.registrant)
    }

    /// Checks every rule of form and every limit.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check_form(&self) -> Result<(), Invalid> {
        self.song()?;
        self.content()?;
        container(self.container)?;
        file_size(self.bytes)?;
        // 24 bits, 192 kHz and 32 channels are 147 Mbit/s: more is a damaged header.
        at_most("bitrate_kbps", self.bitrate_kbps.into(), 200_000)?;
        self.registrant_key()?;
        signature_length(&self.signature)
    }
}

impl Registration {
    /// Wraps a song.
    #[must_use]
    pub fn of_song(song: Song) -> Self {
        Self { body: Some(registration::Body::Song(song)) }
    }

    /// Wraps a variant.
    #[must_use]
    pub fn of_variant(variant: Variant) -> Self {
        Self { body: Some(registration::Body::Variant(variant)) }
    }

    /// Checks every rule of form of whatever is registered.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check_form(&self) -> Result<(), Invalid> {
        match self.body.as_ref().ok_or(Invalid::Missing("registration body"))? {
            registration::Body::Song(song) => song.check_form(),
            registration::Body::Variant(variant) => variant.check_form(),
            registration::Body::Council(council) => council.check_form(),
            registration::Body::Transfer(transfer) => transfer.check_form(),
            registration::Body::Purchase(purchase) => purchase.check_form(),
            registration::Body::Grant(grant) => grant.check_form(),
            registration::Body::Claim(claim) => claim.check_form(),
            registration::Body::Receipt(receipt) => receipt.check_form(),
        }
    }

    /// Checks form and proofs of whatever is registered.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self, network: &NetworkId, stamp_bits: u32) -> Result<(), Invalid> {
        self.check_form()?;
        match self.body.as_ref().ok_or(Invalid::Missing("registration body"))? {
            registration::Body::Song(song) => song.check_proofs(network, stamp_bits),
            registration::Body::Variant(variant) => variant.check_proofs(network, stamp_bits),
            registration::Body::Council(council) => council.check_proofs(network),
            registration::Body::Transfer(transfer) => transfer.check_proofs(network, stamp_bits),
            registration::Body::Purchase(purchase) => purchase.check_proofs(network, stamp_bits),
            registration::Body::Grant(grant) => grant.check_proofs(network, stamp_bits),
            registration::Body::Claim(claim) => claim.check_proofs(network, stamp_bits),
            registration::Body::Receipt(receipt) => receipt.check_proofs(network),
        }
    }
}

impl Block {
    /// Reads a block: canonical form, limits, and the form of its body. Signatures and stamps are not checked here.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn parse(bytes: &[u8]) -> Result<Self, Invalid> {
        let block: Self = canonical::decode("block", limits::BLOCK_BYTES, bytes)?;
        if block.version != BLOCK_VERSION {
            return Err(Invalid::Version(block.version));
        }
        block.prev_hash()?;
        if block.height == 0 {
            return Err(Invalid::Missing("height"));
        }
        match &block.body {
            Some(block::Body::Song(song)) => {
                at_most("song block", bytes.len() as u64, limits::SONG_BLOCK_BYTES as u64)?;
                song.check_form()?;
            }
            Some(block::Body::Variant(variant)) => variant.check_form()?,
            Some(block::Body::Epoch(epoch)) => epoch.check_form()?,
            Some(block::Body::Transfer(transfer)) => transfer.check_form()?,
            Some(block::Body::Purchase(purchase)) => purchase.check_form()?,
            Some(block::Body::Grant(grant)) => grant.check_form()?,
            Some(block::Body::Claim(claim)) => claim.check_form()?,
            Some(block::Body::Council(council)) => council.check_form()?,
            None => return Err(Invalid::Missing("block body")),
        }
        Ok(block)
    }

    /// Link to the block before.
    ///
    /// # Errors
    /// [`Invalid::Identity`] when it is not 32 bytes.
    pub fn prev_hash(&self) -> Result<BlockHash, Invalid> {
        BlockHash::try_from(&self.prev[..]).map_err(|source| Invalid::Identity { field: "prev", source })
    }

    /// Canonical bytes: what is hashed, stored and sent.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical::encode(self)
    }
}
