//! Ed25519 keys (RFC 8032) and what they sign: a domain, the network, and canonical bytes.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

pub use crate::hash::IdError;
use crate::hash::{NetworkId, identity, parse_hex};
use std::{fmt, str::FromStr};

identity!(
    /// Ed25519 public key of a wallet, artist or council member.
    PublicKey,
    "public key"
);

/// What a signature is for. Signatures of one domain mean nothing in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// Registration of a song.
    Song,
    /// Registration of a variant.
    Variant,
    /// A member's vote for an act of the council.
    Act,
    /// A member's proposal of a batch.
    Proposal,
    /// A member's prevote.
    Prevote,
    /// A member's precommit: what certificates are made of.
    Precommit,
    /// A council member's word that a node speaks for it.
    Binding,
    /// Tokens from one account to another.
    Transfer,
    /// Payment of a song's price.
    Purchase,
    /// The right to hear a song.
    Grant,
    /// A claim on an artist's name.
    Claim,
    /// The start of a play, by its listener.
    PlayStart,
    /// A receipt, by listener and witness.
    Receipt,
    /// A listener's right to hear, shown to a serving peer.
    Access,
}

impl Domain {
    /// The bytes that stand before everything that is signed in this domain.
    #[must_use]
    pub const fn tag(self) -> &'static [u8] {
        match self {
            Self::Song => b"antiphon/v1/song",
            Self::Variant => b"antiphon/v1/variant",
            Self::Act => b"antiphon/v1/act",
            Self::Proposal => b"antiphon/v1/proposal",
            Self::Prevote => b"antiphon/v1/prevote",
            Self::Precommit => b"antiphon/v1/precommit",
            Self::Binding => b"antiphon/v1/binding",
            Self::Transfer => b"antiphon/v1/transfer",
            Self::Purchase => b"antiphon/v1/purchase",
            Self::Grant => b"antiphon/v1/grant",
            Self::Claim => b"antiphon/v1/claim",
            Self::PlayStart => b"antiphon/v1/play-start",
            Self::Receipt => b"antiphon/v1/receipt",
            Self::Access => b"antiphon/v1/access",
        }
    }
}

/// The message that Ed25519 signs: tag, a zero byte, network id, canonical bytes.
#[must_use]
pub fn signed_message(domain: Domain, network: &NetworkId, canonical: &[u8]) -> Vec<u8> {
    let tag = domain.tag();
    let mut message = Vec::with_capacity(tag.len() + 33 + canonical.len());
    message.extend_from_slice(tag);
    message.push(0);
    message.extend_from_slice(network.as_bytes());
    message.extend_from_slice(canonical);
    message
}

impl PublicKey {
    /// Checks a signature by the strict rules (no small-order keys, no malleable encodings), which every verifier
    /// decides alike.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(key) = VerifyingKey::from_bytes(&self.0) else { return false };
        let Ok(signature) = Signature::from_slice(signature) else { return false };
        key.verify_strict(message, &signature).is_ok()
    }
}

/// An Ed25519 secret. It is wiped from memory when dropped, and never printed.
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key of a 32-byte seed; the caller owns the randomness.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The seed, to be stored by the shell that owns the key file.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs raw bytes; callers build them with [`signed_message`] or another format that names its purpose.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.public())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_8032_test_1() {
        let seed: [u8; 32] =
            parse_hex("seed", "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
        let key = SecretKey::from_seed(&seed);
        assert_eq!(
            key.public().to_string(),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
        let signature = key.sign(b"");
        assert_eq!(signature[..4], [0xe5, 0x56, 0x43, 0x00]);
        assert!(key.public().verifies(b"", &signature));
    }

    #[test]
    fn domain_and_network_are_bound() {
        let key = SecretKey::from_seed(&[7; 32]);
        let network = NetworkId([1; 32]);
        let signature = key.sign(&signed_message(Domain::Song, &network, b"x"));
        assert!(key.public().verifies(&signed_message(Domain::Song, &network, b"x"), &signature));
        assert!(!key.public().verifies(&signed_message(Domain::Variant, &network, b"x"), &signature));
        assert!(!key.public().verifies(&signed_message(Domain::Song, &NetworkId([2; 32]), b"x"), &signature));
        assert!(!key.public().verifies(b"x", &signature[..63]));
    }

    #[test]
    fn secrets_are_not_printed() {
        let key = SecretKey::from_seed(&[7; 32]);
        assert!(!format!("{key:?}").contains("0707"));
    }

    #[test]
    fn small_order_keys_verify_nothing() {
        let mut identity_point = [0u8; 32];
        identity_point[0] = 1;
        let mut signature = [0u8; 64];
        signature[0] = 1;
        assert!(!PublicKey(identity_point).verifies(b"anything", &signature));
    }
}
