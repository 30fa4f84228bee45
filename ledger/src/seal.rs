//! What proves that a batch was decided. Nothing outside this module knows what a seal is made of.
//!
//! A seal is a certificate of the council, with what the batch's header says that the batch itself does not:
//!
//! ```text
//! 0  version, 1        1  length of the signers' bitmap, u8        2  bitmap (see BatchHeader.signers)
//! .. certificate (antiphon_proto::certificate), to the end
//! ```
//! Ledgers of one member that were begun by version 0.1 hold seals of another kind: a signed C2SP checkpoint by that
//! member, which is text and begins with the log's origin. They are still verified, and no longer made.

use antiphon_proto::{
    NetworkId, PublicKey, RootHash, SecretKey,
    certificate::{Certificate, CertificateError},
    council::{HEADER_VERSION, VoteKind, council_hash, vote_message},
    limits,
    note::{self, Checkpoint, NoteError},
    wire::{BatchHeader, Genesis},
};

use crate::{append::Proposal, state::Position};

/// First byte of a certificate's seal.
const VERSION: u8 = 1;
/// Bytes of a note's signature line: em dash (3), two spaces, base64 of 4 + 64 bytes (92), newline, and the empty line
/// before it. The origin's length comes on top.
const SIGNATURE_LINE: usize = 1 + 3 + 1 + 1 + 92 + 1;

/// A seal that does not seal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key may not seal.
    #[error("key {0} is not a member of the network's council")]
    NotAMember(PublicKey),
    /// Not a certificate by enough of the council.
    #[error("the seal is not valid: {0}")]
    Certificate(#[from] CertificateError),
    /// Not a signed checkpoint of this network by its member.
    #[error("the seal is not valid: {0}")]
    Note(#[from] NoteError),
    /// Bytes that are no seal, or one that is written in another way.
    #[error("the seal is not in its one form")]
    Form,
    /// Made for another place in the ledger, or for other blocks.
    #[error("the seal is over another {0} than the blocks give")]
    Other(&'static str),
}

/// What a seal is taken of: the end of the ledger with the batch.
#[derive(Debug, Clone, Copy)]
pub struct Sealed<'a> {
    /// The council of the height.
    pub council: &'a [PublicKey],
    /// Size, last block, height and time.
    pub position: &'a Position,
    /// Root of the log.
    pub root: RootHash,
}

impl Sealed<'_> {
    /// The header that the council votes on. `signers` tells who signed the batch before.
    #[must_use]
    pub fn header(&self, network: &NetworkId, signers: &[u8]) -> BatchHeader {
        BatchHeader {
            version: HEADER_VERSION,
            network: network.0.to_vec(),
            height: self.position.height,
            size: self.position.size,
            time_ms: self.position.time_ms,
            head: self.position.link.0.to_vec(),
            root: self.root.0.to_vec(),
            council: council_hash(self.council).to_vec(),
            signers: signers.to_vec(),
        }
    }
}

/// The bytes of a seal.
#[must_use]
pub fn encode(signers: &[u8], certificate: &Certificate) -> Vec<u8> {
    // A bitmap of 128 members is 16 bytes.
    let mut bytes = vec![VERSION, u8::try_from(signers.len()).unwrap_or(u8::MAX)];
    bytes.extend(signers);
    bytes.extend(certificate.encode());
    bytes
}

/// Bitmap and certificate.
type Parts<'a> = (&'a [u8], &'a [u8]);

/// Bitmap and certificate of a seal; none for a seal of the old kind.
///
/// # Errors
/// [`SealError::Form`].
fn split(seal: &[u8]) -> Result<Option<Parts<'_>>, SealError> {
    match seal {
        [VERSION, length, rest @ ..] => {
            rest.split_at_checked(usize::from(*length)).map(Some).ok_or(SealError::Form)
        }
        [b'a', ..] => Ok(None),
        _ => Err(SealError::Form),
    }
}

/// Whether a seal may come behind another (empty at the start). One of the old kind comes only behind its like: the
/// log's own signature in a checkpoint is the same bytes, and must not do for a certificate.
///
/// # Errors
/// [`SealError::Form`].
pub fn check_order(previous: &[u8], seal: &[u8]) -> Result<(), SealError> {
    let is_old = |seal: &[u8]| Ok::<_, SealError>(split(seal)?.is_none());
    if is_old(seal)? && !previous.is_empty() && !is_old(previous)? { Err(SealError::Form) } else { Ok(()) }
}

/// Who signed the batch before, as the bitmap in a seal says. A seal of the old kind says nothing.
#[must_use]
pub fn signers(seal: &[u8]) -> &[u8] {
    match split(seal) {
        Ok(Some((signers, _))) => signers,
        _ => &[],
    }
}

/// The certificate in a seal, for a council of `members`; none in a seal of the old kind, or in what is no seal.
#[must_use]
pub fn certificate(seal: &[u8], members: usize) -> Option<Certificate> {
    let (_, certificate) = split(seal).ok().flatten()?;
    Certificate::decode(certificate, members).ok()
}

/// Verifies seals of one network.
#[derive(Debug, Clone)]
pub struct SealPolicy {
    network: NetworkId,
    origin: String,
}

impl SealPolicy {
    /// The policy of a network.
    #[must_use]
    pub fn new(genesis: &Genesis) -> Self {
        let network = genesis.network_id();
        Self { origin: note::origin(&network), network }
    }

    /// Whether `seal` proves that the council has decided this end of the ledger.
    ///
    /// # Errors
    /// [`SealError`] says why not.
    pub fn verify(&self, sealed: &Sealed<'_>, seal: &[u8]) -> Result<(), SealError> {
        if seal.len() > limits::SEAL_BYTES {
            return Err(SealError::Form);
        }
        let Some((signers, certificate)) = split(seal)? else { return self.verify_note(sealed, seal) };
        if signers.len() > limits::COUNCIL_MEMBERS.div_ceil(8) {
            return Err(SealError::Form);
        }
        let certificate = Certificate::decode(certificate, sealed.council.len())?;
        if certificate.height != sealed.position.height {
            return Err(SealError::Other("height"));
        }
        if certificate.value != sealed.header(&self.network, signers).digest() {
            return Err(SealError::Other("batch"));
        }
        Ok(certificate.verify(&self.network, sealed.council)?)
    }

    fn verify_note(&self, sealed: &Sealed<'_>, seal: &[u8]) -> Result<(), SealError> {
        // One signature is more than two thirds of one member only.
        let [member] = sealed.council else { return Err(SealError::Form) };
        let (checkpoint, _) = Checkpoint::open(seal, &self.origin, &[*member])?;
        // One signature and no extension lines: equal batches have equal seals on every peer.
        let text = checkpoint.text();
        if !seal.starts_with(text.as_bytes()) || seal.len() != text.len() + self.origin.len() + SIGNATURE_LINE
        {
            return Err(SealError::Form);
        }
        if checkpoint.size != sealed.position.size {
            return Err(SealError::Other("size"));
        }
        if checkpoint.root != sealed.root {
            return Err(SealError::Other("root"));
        }
        Ok(())
    }
}

/// Makes seals without a council's machinery, where one key is the whole council: for tools and tests.
#[derive(Debug)]
pub struct Sealer {
    network: NetworkId,
    secret: SecretKey,
}

impl Sealer {
    /// The sealer of a network of one member.
    ///
    /// # Errors
    /// [`SealError::NotAMember`] when the key is not the only member's.
    pub fn new(genesis: &Genesis, secret: SecretKey) -> Result<Self, SealError> {
        if genesis.member_keys() == [secret.public()] {
            Ok(Self { network: genesis.network_id(), secret })
        } else {
            Err(SealError::NotAMember(secret.public()))
        }
    }

    /// The seal of the batch that was proposed.
    #[must_use]
    pub fn seal(&self, proposal: &Proposal) -> Vec<u8> {
        let council = [self.secret.public()];
        let sealed = Sealed { council: &council, position: &proposal.end, root: proposal.root };
        let signers: &[u8] = if proposal.end.height > 1 { &[1] } else { &[] };
        let value = sealed.header(&self.network, signers).digest();
        let mut certificate = Certificate::new(proposal.end.height, 0, value, 1);
        let message = vote_message(VoteKind::Precommit, &self.network, proposal.end.height, 0, Some(&value));
        certificate.add(0, self.secret.sign(&message));
        encode(signers, &certificate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use antiphon_proto::{BlockHash, ValueId};

    const ROOT: RootHash = RootHash([7; 32]);

    fn genesis(keys: &[PublicKey]) -> Genesis {
        Genesis::new("test", 1, [0; 16], keys)
    }

    fn at(height: u64) -> Position {
        Position { size: 3, link: BlockHash([4; 32]), height, time_ms: 5 }
    }

    fn secrets(count: u8) -> (Vec<SecretKey>, Vec<PublicKey>) {
        let mut secrets: Vec<_> = (1..=count).map(|n| SecretKey::from_seed(&[n; 32])).collect();
        secrets.sort_by_key(SecretKey::public);
        let keys = secrets.iter().map(SecretKey::public).collect();
        (secrets, keys)
    }

    fn seal(network: &NetworkId, secrets: &[SecretKey], sealed: &Sealed<'_>, signers: &[u8]) -> Vec<u8> {
        let height = sealed.position.height;
        let value = sealed.header(network, signers).digest();
        let message = vote_message(VoteKind::Precommit, network, height, 2, Some(&value));
        let mut certificate = Certificate::new(height, 2, value, sealed.council.len());
        for (member, secret) in secrets.iter().enumerate() {
            certificate.add(member, secret.sign(&message));
        }
        encode(signers, &certificate)
    }

    #[test]
    fn seals_bind_everything() {
        let (secrets, council) = secrets(4);
        let genesis = genesis(&council);
        let (policy, network) = (SealPolicy::new(&genesis), genesis.network_id());
        let position = at(6);
        let sealed = Sealed { council: &council, position: &position, root: ROOT };
        let good = seal(&network, &secrets[..3], &sealed, &[7]);
        assert_eq!(policy.verify(&sealed, &good), Ok(()));
        assert_eq!((signers(&good), good.len()), (&[7u8][..], 237 + 3));
        assert_eq!(certificate(&good, 4).unwrap().signed(), 3);
        let other = Position { size: 4, ..position };
        let elsewhere = Sealed { position: &other, ..sealed };
        assert_eq!(policy.verify(&elsewhere, &good), Err(SealError::Other("batch")));
        let later = at(7);
        let elsewhere = Sealed { position: &later, ..sealed };
        assert_eq!(policy.verify(&elsewhere, &good), Err(SealError::Other("height")));
        let elsewhere = Sealed { root: RootHash([8; 32]), ..sealed };
        assert_eq!(policy.verify(&elsewhere, &good), Err(SealError::Other("batch")));
        let mut changed = good.clone();
        changed[2] = 3;
        assert_eq!(policy.verify(&sealed, &changed), Err(SealError::Other("batch")));
        let too_few = seal(&network, &secrets[..2], &sealed, &[7]);
        assert!(matches!(
            policy.verify(&sealed, &too_few),
            Err(SealError::Certificate(CertificateError::Quorum { .. }))
        ));
        for cut in 0..good.len() {
            assert!(policy.verify(&sealed, &good[..cut]).is_err());
        }
    }

    #[test]
    fn golden_seal() {
        let certificate = Certificate::new(1, 2, ValueId([3; 32]), 1);
        let mut golden = vec![1, 1, 9];
        golden.extend(certificate.encode());
        assert_eq!(encode(&[9], &certificate), golden);
    }

    #[test]
    fn seals_of_version_0_1_are_still_verified() {
        let (secrets, council) = secrets(1);
        let genesis = genesis(&council);
        let policy = SealPolicy::new(&genesis);
        let network = "9fc5818e0abe335ac6857479766691647563a9c5d27b8e75fe8ede5e89394a36";
        assert_eq!(genesis.network_id().to_string(), network);
        let note = format!(
            "antiphon/{network}\n3\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n\n\u{2014} antiphon/{network} \
             KST95+wn81qlli+YCf36ogkHfQPnyHWbRH9GLnIaO6gF7ltmuKntH9p5NlRVVnqvGLz6BeygYrz0Ytl074K35vNTvQc=\n"
        );
        let position = at(1);
        let sealed = Sealed { council: &council, position: &position, root: ROOT };
        assert_eq!(policy.verify(&sealed, note.as_bytes()), Ok(()));
        let twice = format!("{note}{}\n", note.lines().last().unwrap());
        assert_eq!(policy.verify(&sealed, twice.as_bytes()), Err(SealError::Form));
        let other = Position { size: 4, ..position };
        let elsewhere = Sealed { position: &other, ..sealed };
        assert_eq!(policy.verify(&elsewhere, note.as_bytes()), Err(SealError::Other("size")));
        // One signature does not do for a larger council.
        let two = [council[0], SecretKey::from_seed(&[9; 32]).public()];
        let larger = Sealed { council: &two, ..sealed };
        assert_eq!(policy.verify(&larger, note.as_bytes()), Err(SealError::Form));
        drop(secrets);
    }

    #[test]
    fn a_seal_of_the_old_kind_comes_behind_its_like_only() {
        let certificate = encode(&[], &Certificate::new(1, 0, ValueId([3; 32]), 1));
        let note = b"antiphon/x\n1\n";
        assert_eq!(check_order(b"", note), Ok(()));
        assert_eq!(check_order(note, note), Ok(()));
        assert_eq!(check_order(note, &certificate), Ok(()));
        assert_eq!(check_order(&certificate, &certificate), Ok(()));
        assert_eq!(check_order(&certificate, note), Err(SealError::Form));
        assert_eq!(check_order(b"", b"xyz"), Err(SealError::Form));
    }

    #[test]
    fn only_the_one_member_seals() {
        let (a, b) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
        let network = genesis(&[a.public()]);
        let key = b.public();
        assert_eq!(Sealer::new(&network, b).err(), Some(SealError::NotAMember(key)));
    }
}
