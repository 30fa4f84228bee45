//! Who orders, and what proves it. Nothing outside this module knows what a seal is made of.
//!
//! In this version the genesis document names one member, and a seal is a signed C2SP checkpoint over the ledger up
//! to and including its batch: origin, size, RFC 6962 root, one Ed25519 signature.

use antiphon_proto::{
    PublicKey, RootHash, SecretKey, limits,
    note::{self, Checkpoint, NoteError},
    wire::Genesis,
};

/// Bytes of a seal's signature line: em dash (3), two spaces, base64 of 4 + 64 bytes (92), newline, and the empty
/// line before it. The origin's length comes on top.
const SIGNATURE_LINE: usize = 1 + 3 + 1 + 1 + 92 + 1;

/// A seal that does not seal, or a network that this version cannot follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// More members than this version can follow.
    #[error("the network has {0} members; this version follows networks of one: a newer antiphon is needed")]
    Members(usize),
    /// The key may not seal.
    #[error("key {0} is not the network's member: only the member's peer orders registrations")]
    NotAMember(PublicKey),
    /// Not a signed checkpoint of this network by its member.
    #[error("the seal is not valid: {0}")]
    Note(#[from] NoteError),
    /// A valid checkpoint with something beside it, or written in another way.
    #[error("the seal is not in its one form")]
    Form,
    /// Made for another size.
    #[error("the seal is over {got} blocks, not {expected}")]
    Size {
        /// Size after the batch.
        expected: u64,
        /// What it says.
        got: u64,
    },
    /// Made for other blocks.
    #[error("the seal's root is {got}, the blocks give {expected}")]
    Root {
        /// Root after the batch.
        expected: RootHash,
        /// What it says.
        got: RootHash,
    },
}

/// Verifies seals of one network.
#[derive(Debug, Clone)]
pub struct SealPolicy {
    origin: String,
    member: PublicKey,
}

impl SealPolicy {
    /// The policy that a genesis document prescribes.
    ///
    /// # Errors
    /// [`SealError::Members`] when there is not exactly one.
    pub fn new(genesis: &Genesis) -> Result<Self, SealError> {
        match genesis.member_keys()[..] {
            [member] => Ok(Self { origin: note::origin(&genesis.network_id()), member }),
            ref members => Err(SealError::Members(members.len())),
        }
    }

    /// Whether `seal` proves that the first `size` blocks are those under `root`.
    ///
    /// # Errors
    /// [`SealError`] says why not.
    pub fn verify(&self, size: u64, root: RootHash, seal: &[u8]) -> Result<(), SealError> {
        let (checkpoint, _) = Checkpoint::open(seal, &self.origin, &[self.member])?;
        // One signature and no extension lines: equal batches have equal seals on every peer.
        let text = checkpoint.text();
        if !seal.starts_with(text.as_bytes())
            || seal.len() != text.len() + self.origin.len() + SIGNATURE_LINE
            || seal.len() > limits::SEAL_BYTES
        {
            return Err(SealError::Form);
        }
        if checkpoint.size != size {
            return Err(SealError::Size { expected: size, got: checkpoint.size });
        }
        if checkpoint.root != root {
            return Err(SealError::Root { expected: root, got: checkpoint.root });
        }
        Ok(())
    }
}

/// Makes seals: held by the network's only member.
#[derive(Debug)]
pub struct Sealer {
    policy: SealPolicy,
    secret: SecretKey,
}

impl Sealer {
    /// The sealer of a network.
    ///
    /// # Errors
    /// [`SealError::NotAMember`] when the key is not the member's, or [`SealError::Members`].
    pub fn new(genesis: &Genesis, secret: SecretKey) -> Result<Self, SealError> {
        let policy = SealPolicy::new(genesis)?;
        if policy.member == secret.public() {
            Ok(Self { policy, secret })
        } else {
            Err(SealError::NotAMember(secret.public()))
        }
    }

    /// The proof that the first `size` blocks are those under `root`.
    #[must_use]
    pub fn seal(&self, size: u64, root: RootHash) -> Vec<u8> {
        Checkpoint { origin: self.policy.origin.clone(), size, root }.sign(&self.secret).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn genesis(keys: &[PublicKey]) -> Genesis {
        Genesis::new("test", 1, [0; 16], keys)
    }

    fn sealer() -> (Sealer, SealPolicy) {
        let secret = SecretKey::from_seed(&[1; 32]);
        let genesis = genesis(&[secret.public()]);
        (Sealer::new(&genesis, secret).unwrap(), SealPolicy::new(&genesis).unwrap())
    }

    #[test]
    fn golden_seal() {
        let (sealer, policy) = sealer();
        let seal = sealer.seal(3, RootHash([7; 32]));
        let network = policy.origin.strip_prefix("antiphon/").unwrap();
        assert_eq!(network, "9fc5818e0abe335ac6857479766691647563a9c5d27b8e75fe8ede5e89394a36");
        assert_eq!(
            String::from_utf8(seal).unwrap(),
            format!(
                "antiphon/{network}\n3\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n\n\u{2014} antiphon/{network} \
                 KST95+wn81qlli+YCf36ogkHfQPnyHWbRH9GLnIaO6gF7ltmuKntH9p5NlRVVnqvGLz6BeygYrz0Ytl074K35vNTvQc=\n"
            )
        );
    }

    #[test]
    fn seals_bind_size_and_root() {
        let (sealer, policy) = sealer();
        let root = RootHash([7; 32]);
        let seal = sealer.seal(3, root);
        assert_eq!(policy.verify(3, root, &seal), Ok(()));
        assert_eq!(policy.verify(4, root, &seal), Err(SealError::Size { expected: 4, got: 3 }));
        let other = RootHash([8; 32]);
        assert_eq!(policy.verify(3, other, &seal), Err(SealError::Root { expected: other, got: root }));
        assert!(matches!(policy.verify(3, root, b""), Err(SealError::Note(_))));
    }

    #[test]
    fn one_form_only() {
        let (sealer, policy) = sealer();
        let root = RootHash([7; 32]);
        let seal = String::from_utf8(sealer.seal(3, root)).unwrap();
        let line = seal.lines().last().unwrap();
        let twice = format!("{seal}{line}\n");
        assert_eq!(policy.verify(3, root, twice.as_bytes()), Err(SealError::Form));
        let stranger = SecretKey::from_seed(&[2; 32]);
        let by_stranger = Checkpoint { origin: policy.origin.clone(), size: 3, root }.sign(&stranger);
        assert_eq!(policy.verify(3, root, by_stranger.as_bytes()), Err(SealError::Note(NoteError::Unsigned)));
        let both = format!("{seal}{}\n", by_stranger.lines().last().unwrap());
        assert_eq!(policy.verify(3, root, both.as_bytes()), Err(SealError::Form));
    }

    #[test]
    fn only_the_one_member_seals() {
        let (a, b) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
        let network = genesis(&[a.public()]);
        let key = b.public();
        assert_eq!(Sealer::new(&network, b).err(), Some(SealError::NotAMember(key)));
        assert_eq!(SealPolicy::new(&genesis(&[a.public(), key])).err(), Some(SealError::Members(2)));
    }
}
