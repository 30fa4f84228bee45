//! Certificates: the precommits of more than two thirds of a council for one value at one height.
//!
//! ```text
//! 0   u64 height          8   u32 round          12  value (32 bytes)
//! 44  bitmap of the signers, bit i of byte i / 8 is member i, ascending by key; ceil(n / 8) bytes
//! ..  a signature of 64 bytes for each bit that is set, in the order of members
//! ```
//! Numbers are big-endian. 237 bytes for 3 of 4 members, 1,392 for 21 of 30.

use crate::{
    council::{self, VoteKind},
    genesis::quorum,
    hash::{NetworkId, ValueId},
    keys::PublicKey,
    limits,
};

/// Bytes before the bitmap.
const FIXED: usize = 8 + 4 + 32;
/// Bytes of a signature.
const SIGNATURE: usize = 64;

/// Bytes that do not prove a decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not the format, for a council of this size.
    #[error("not a certificate of a council of {members}: {what}")]
    Format {
        /// Members of the council.
        members: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// Too few have signed.
    #[error("{signed} of {members} members have signed, {needed} are needed")]
    Quorum {
        /// Signatures.
        signed: usize,
        /// Members of the council.
        members: usize,
        /// What a decision takes.
        needed: usize,
    },
    /// A signature that is not the member's.
    #[error("the signature of member {0} is not valid")]
    Signature(PublicKey),
}

/// The signatures on one decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Height that was decided.
    pub height: u64,
    /// Round that decided it.
    pub round: u32,
    /// What was decided: the digest of the batch's header.
    pub value: ValueId,
    /// Members of the council, and the signature of each that has signed.
    signatures: Vec<Option<[u8; SIGNATURE]>>,
}

impl Certificate {
    /// A certificate without signatures, for a council of `members`.
    #[must_use]
    pub fn new(height: u64, round: u32, value: ValueId, members: usize) -> Self {
        Self { height, round, value, signatures: vec![None; members] }
    }

    /// Puts a member's signature in, unverified. Nothing happens to a member that is not there.
    pub fn add(&mut self, member: usize, signature: [u8; SIGNATURE]) {
        if let Some(place) = self.signatures.get_mut(member) {
            *place = Some(signature);
        }
    }

    /// Whether a member has signed.
    #[must_use]
    pub fn has(&self, member: usize) -> bool {
        matches!(self.signatures.get(member), Some(Some(_)))
    }

    /// Number of signatures.
    #[must_use]
    pub fn signed(&self) -> usize {
        self.signatures.iter().flatten().count()
    }

    /// Bit i of byte i / 8 tells whether member i has signed.
    #[must_use]
    pub fn bitmap(&self) -> Vec<u8> {
        let mut bitmap = vec![0u8; self.signatures.len().div_ceil(8)];
        for (member, _) in self.signatures.iter().enumerate().filter(|(_, signature)| signature.is_some()) {
            bitmap[member / 8] |= 1 << (member % 8);
        }
        bitmap
    }

    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes =
            Vec::with_capacity(FIXED + self.signatures.len().div_ceil(8) + SIGNATURE * self.signed());
        bytes.extend(self.height.to_be_bytes());
        bytes.extend(self.round.to_be_bytes());
        bytes.extend(self.value.0);
        bytes.extend(self.bitmap());
        for signature in self.signatures.iter().flatten() {
            bytes.extend(signature);
        }
        bytes
    }

    /// Reads the bytes, for a council of `members`; nothing is verified.
    ///
    /// # Errors
    /// [`CertificateError::Format`].
    pub fn decode(bytes: &[u8], members: usize) -> Result<Self, CertificateError> {
        let bad = |what| CertificateError::Format { members, what };
        if members > limits::COUNCIL_MEMBERS {
            return Err(bad("too many members"));
        }
        let short = || bad("it is too short");
        let (height, rest) = bytes.split_first_chunk::<8>().ok_or_else(short)?;
        let (round, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        let (value, rest) = rest.split_first_chunk::<32>().ok_or_else(short)?;
        let (bitmap, mut rest) = rest.split_at_checked(members.div_ceil(8)).ok_or_else(short)?;
        let is_set = |member: usize| bitmap[member / 8] & (1 << (member % 8)) != 0;
        if (members..bitmap.len() * 8).any(is_set) {
            return Err(bad("it has a signature by a member that does not exist"));
        }
        let mut certificate =
            Self::new(u64::from_be_bytes(*height), u32::from_be_bytes(*round), ValueId(*value), members);
        for member in (0..members).filter(|member| is_set(*member)) {
            let (signature, more) = rest.split_first_chunk::<SIGNATURE>().ok_or_else(short)?;
            certificate.add(member, *signature);
            rest = more;
        }
        if rest.is_empty() { Ok(certificate) } else { Err(bad("it is too long")) }
    }

    /// Whether more than two thirds of `members` have precommitted, with valid signatures only.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn verify(&self, network: &NetworkId, members: &[PublicKey]) -> Result<(), CertificateError> {
        if members.len() != self.signatures.len() {
            let what = "it was made for another council";
            return Err(CertificateError::Format { members: members.len(), what });
        }
        let (signed, needed) = (self.signed(), quorum(members.len()));
        if signed < needed {
            return Err(CertificateError::Quorum { signed, members: members.len(), needed });
        }
        let message =
            council::vote_message(VoteKind::Precommit, network, self.height, self.round, Some(&self.value));
        for (member, signature) in members.iter().zip(&self.signatures) {
            if signature.is_some_and(|signature| !member.verifies(&message, &signature)) {
                return Err(CertificateError::Signature(*member));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SecretKey;
    use proptest::prelude::*;

    fn council(members: u8) -> (Vec<SecretKey>, Vec<PublicKey>) {
        let mut secrets: Vec<_> = (0..members).map(|n| SecretKey::from_seed(&[n; 32])).collect();
        secrets.sort_by_key(SecretKey::public);
        let keys = secrets.iter().map(SecretKey::public).collect();
        (secrets, keys)
    }

    fn signed(secrets: &[SecretKey], by: usize) -> Certificate {
        let (network, value) = (NetworkId([1; 32]), ValueId([2; 32]));
        let message = council::vote_message(VoteKind::Precommit, &network, 3, 4, Some(&value));
        let mut certificate = Certificate::new(3, 4, value, secrets.len());
        for (member, secret) in secrets.iter().enumerate().take(by) {
            certificate.add(member, secret.sign(&message));
        }
        certificate
    }

    #[test]
    fn sizes_and_quorum() {
        for (members, size) in [(1, 44 + 1 + 64), (4, 237), (30, 1_392)] {
            let (secrets, keys) = council(members);
            let certificate = signed(&secrets, quorum(keys.len()));
            assert_eq!(certificate.encode().len(), size);
            assert_eq!(certificate.verify(&NetworkId([1; 32]), &keys), Ok(()));
            assert!(certificate.verify(&NetworkId([2; 32]), &keys).is_err());
            let less = signed(&secrets, quorum(keys.len()) - 1);
            assert!(matches!(less.verify(&NetworkId([1; 32]), &keys), Err(CertificateError::Quorum { .. })));
        }
    }

    #[test]
    fn golden() {
        let mut certificate = Certificate::new(1, 2, ValueId([3; 32]), 9);
        certificate.add(0, [4; 64]);
        certificate.add(8, [5; 64]);
        let mut golden = vec![0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
        golden.extend([3; 32]);
        golden.extend([1, 1]);
        golden.extend([4; 64]);
        golden.extend([5; 64]);
        assert_eq!(certificate.encode(), golden);
        assert_eq!(Certificate::decode(&golden, 9), Ok(certificate));
        assert!(Certificate::decode(&golden, 8).is_err());
        assert!(Certificate::decode(&golden[..golden.len() - 1], 9).is_err());
    }

    #[test]
    fn a_signature_of_another_value_is_refused() {
        let (secrets, keys) = council(4);
        let mut certificate = signed(&secrets, 3);
        certificate.value = ValueId([9; 32]);
        let verdict = certificate.verify(&NetworkId([1; 32]), &keys);
        assert_eq!(verdict, Err(CertificateError::Signature(keys[0])));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), members in 0usize..140) {
            if let Ok(certificate) = Certificate::decode(&bytes, members) {
                prop_assert_eq!(certificate.encode(), bytes);
            }
        }
    }
}
