//! Signed notes and checkpoints in the C2SP formats (`signed-note`, `tlog-checkpoint`, `tlog-cosignature`), with
//! Ed25519 signatures.
//!
//! A checkpoint's text is three lines: origin, size in decimal, root in base64; a log may add others. A signed note is
//! the text, an empty line, and one line for each signature: an em dash, the key's name, and base64 of (key id,
//! signature). Plain signatures carry the log's own name; a council member's cosignature carries the member's.

mod cosignature;
mod cosigned;

pub use cosignature::{Cosignature, MAX_TIME_S, cosigner_key, member_name};
pub use cosigned::CosignedCheckpoint;

use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest as _, Sha256};

use crate::{
    hash::{NetworkId, RootHash},
    keys::{PublicKey, SecretKey},
    limits,
};

/// Signature type byte of plain Ed25519 in the signed-note format.
const ED25519: u8 = 0x01;

/// Text that is not a signed checkpoint of the network that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Longer than any note may be.
    #[error("a note of {0} bytes is longer than any that is allowed")]
    TooLong(usize),
    /// Not the format.
    #[error("not a signed checkpoint: {0}")]
    Format(&'static str),
    /// Another log's checkpoint.
    #[error("the checkpoint is of {found:?}, not of {expected:?}")]
    Origin {
        /// Name found.
        found: String,
        /// Name expected.
        expected: String,
    },
    /// No signature by a key that was asked for.
    #[error("no valid signature by the keys that this network trusts")]
    Unsigned,
    /// A line in the name of a known key that this key has not signed.
    #[error("the signature by {name} is wrong")]
    Signature {
        /// The key's name.
        name: String,
    },
    /// Too few of the council have cosigned.
    #[error("{got} of {members} members have cosigned, {needed} are needed")]
    Quorum {
        /// Distinct members that have.
        got: usize,
        /// Members that must.
        needed: usize,
        /// Members in all.
        members: usize,
    },
}

/// Size and root of a log at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the log.
    pub origin: String,
    /// Number of leaves.
    pub size: u64,
    /// RFC 6962 tree head over them.
    pub root: RootHash,
}

/// Name of a network's log.
#[must_use]
pub fn origin(network: &NetworkId) -> String {
    format!("antiphon/{network}")
}

/// First four bytes of SHA-256(name, newline, signature type, public key): the hint by which verifiers find the key.
#[must_use]
pub fn key_hash(name: &str, key: &PublicKey) -> [u8; 4] {
    key_id(name, ED25519, key)
}

/// [`key_hash`] for a signature type.
fn key_id(name: &str, signature_type: u8, key: &PublicKey) -> [u8; 4] {
    let mut hasher = Sha256::new();
    hasher.update(name.as_bytes());
    hasher.update([b'\n', signature_type]);
    hasher.update(key.0);
    let digest = hasher.finalize();
    [digest[0], digest[1], digest[2], digest[3]]
}

/// The verifier key in the text form that other tools take: name, key hash in hexadecimal, base64 of (type, key).
#[must_use]
pub fn verifier_key(name: &str, key: &PublicKey) -> String {
    verifier_text(name, ED25519, key)
}

fn verifier_text(name: &str, signature_type: u8, key: &PublicKey) -> String {
    let id = HEXLOWER.encode(&key_id(name, signature_type, key));
    let mut typed = vec![signature_type];
    typed.extend_from_slice(&key.0);
    format!("{name}+{id}+{}", BASE64.encode(&typed))
}

/// A signature line, its newline included.
fn line_of(name: &str, id: [u8; 4], signature: &[u8]) -> String {
    let blob = [&id, signature].concat();
    format!("\u{2014} {name} {}\n", BASE64.encode(&blob))
}

impl Checkpoint {
    /// The text that is signed, final newline included.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root.as_bytes()))
    }

    /// The note with one signature, by a key that carries the log's own name.
    #[must_use]
    pub fn sign(&self, secret: &SecretKey) -> String {
        let id = key_hash(&self.origin, &secret.public());
        format!("{}\n{}", self.text(), line_of(&self.origin, id, &self.log_signature(secret)))
    }

    /// The plain Ed25519 signature over the text, as it stands under the log's own name.
    #[must_use]
    pub fn log_signature(&self, secret: &SecretKey) -> [u8; 64] {
        secret.sign(self.text().as_bytes())
    }

    /// Reads a note of the log `origin` and counts the distinct `keys` that have signed it.
    ///
    /// # Errors
    /// [`NoteError`]; [`NoteError::Unsigned`] when none of `keys` has.
    pub fn open(note: &[u8], origin: &str, keys: &[PublicKey]) -> Result<(Self, Vec<PublicKey>), NoteError> {
        let (text, signatures) = split(note, limits::SEAL_BYTES)?;
        let (checkpoint, _) = Self::parse_text(text)?;
        if checkpoint.origin != origin {
            return Err(NoteError::Origin { found: checkpoint.origin, expected: origin.to_owned() });
        }
        let mut signers = Vec::new();
        for line in signatures.lines() {
            let (name, blob) = signature_line(line)?;
            for key in keys {
                let ours = name == origin && blob.get(..4) == Some(&key_hash(origin, key));
                if ours && !signers.contains(key) && key.verifies(text.as_bytes(), &blob[4..]) {
                    signers.push(*key);
                }
            }
        }
        if signers.is_empty() { Err(NoteError::Unsigned) } else { Ok((checkpoint, signers)) }
    }

    /// The checkpoint, and its extension lines, each with its newline: opaque, and never trusted for anything.
    fn parse_text(text: &str) -> Result<(Self, &str), NoteError> {
        let mut rest = text;
        let mut line = || {
            let (line, more) =
                rest.split_once('\n').ok_or(NoteError::Format("it has fewer than three lines"))?;
            rest = more;
            Ok::<_, NoteError>(line)
        };
        let (origin, size, root) = (line()?, line()?, line()?);
        if origin.is_empty() {
            return Err(NoteError::Format("the origin is empty"));
        }
        let parsed: u64 = size.parse().map_err(|_| NoteError::Format("the size is not a number"))?;
        if parsed.to_string() != size {
            return Err(NoteError::Format("the size has leading zeros or a sign"));
        }
        let root = BASE64.decode(root.as_bytes()).map_err(|_| NoteError::Format("the root is not base64"))?;
        let root =
            RootHash::try_from(&root[..]).map_err(|_| NoteError::Format("the root is not 32 bytes"))?;
        if rest.lines().any(str::is_empty) {
            return Err(NoteError::Format("a line of the text is empty"));
        }
        Ok((Self { origin: origin.to_owned(), size: parsed, root }, rest))
    }
}

/// Text with its final newline, and the signature lines.
fn split(note: &[u8], limit: usize) -> Result<(&str, &str), NoteError> {
    if note.len() > limit {
        return Err(NoteError::TooLong(note.len()));
    }
    let note = std::str::from_utf8(note).map_err(|_| NoteError::Format("it is not UTF-8"))?;
    if note.bytes().any(|byte| byte < b' ' && byte != b'\n') {
        return Err(NoteError::Format("it holds control characters"));
    }
    let at = note.rfind("\n\n").ok_or(NoteError::Format("there are no signatures"))?;
    let (text, signatures) = (&note[..=at], &note[at + 2..]);
    if signatures.is_empty() || !signatures.ends_with('\n') {
        return Err(NoteError::Format("the signatures do not end in a newline"));
    }
    Ok((text, signatures))
}

fn signature_line(line: &str) -> Result<(&str, Vec<u8>), NoteError> {
    let bad = NoteError::Format("a signature line is malformed");
    let rest = line.strip_prefix("\u{2014} ").ok_or_else(|| bad.clone())?;
    let (name, blob) = rest.split_once(' ').ok_or_else(|| bad.clone())?;
    let blob = BASE64.decode(blob.as_bytes()).map_err(|_| bad.clone())?;
    let named = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+');
    // Four bytes of key id and at least one of signature.
    if named && blob.len() >= 5 { Ok((name, blob)) } else { Err(bad) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Checkpoint, SecretKey) {
        let network = NetworkId([9; 32]);
        (
            Checkpoint { origin: origin(&network), size: 42, root: RootHash([5; 32]) },
            SecretKey::from_seed(&[1; 32]),
        )
    }

    #[test]
    fn signs_and_opens() {
        let (checkpoint, secret) = sample();
        let note = checkpoint.sign(&secret);
        let (read, signers) =
            Checkpoint::open(note.as_bytes(), &checkpoint.origin, &[secret.public()]).unwrap();
        assert_eq!((read, signers), (checkpoint, vec![secret.public()]));
    }

    #[test]
    fn refuses_strangers_changes_and_other_logs() {
        let (checkpoint, secret) = sample();
        let note = checkpoint.sign(&secret);
        let stranger = SecretKey::from_seed(&[2; 32]).public();
        let open = |note: &str, origin: &str, key| Checkpoint::open(note.as_bytes(), origin, &[key]);
        assert_eq!(open(&note, &checkpoint.origin, stranger), Err(NoteError::Unsigned));
        let changed = note.replace("\n42\n", "\n43\n");
        assert_eq!(open(&changed, &checkpoint.origin, secret.public()), Err(NoteError::Unsigned));
        assert!(matches!(open(&note, "antiphon/other", secret.public()), Err(NoteError::Origin { .. })));
        for broken in ["", "\n", "\n\n", "a\n\nb\n", "a\n01\nAA==\n\n\u{2014} x AAAAAAA=\n"] {
            assert!(matches!(open(broken, &checkpoint.origin, secret.public()), Err(NoteError::Format(_))));
        }
    }

    #[test]
    fn a_signature_repeated_counts_once() {
        let (checkpoint, secret) = sample();
        let note = checkpoint.sign(&secret);
        let line = note.lines().last().unwrap().to_owned();
        let twice = format!("{note}{line}\n");
        let (_, signers) =
            Checkpoint::open(twice.as_bytes(), &checkpoint.origin, &[secret.public()]).unwrap();
        assert_eq!(signers.len(), 1);
    }

    /// The example that the signed-note specification gives: a verifier key and a note that it verifies.
    #[test]
    fn the_example_of_the_specification() {
        let text = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
        let note = "This is an example message.\n\n\u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2\
                    ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
        let material = BASE64.decode(b"AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k").unwrap();
        let key = PublicKey::try_from(&material[1..]).unwrap();
        assert_eq!(verifier_key("example.com/foo", &key), text);
        let (text, signatures) = split(note.as_bytes(), limits::CHECKPOINT_BYTES).unwrap();
        let (name, blob) = signature_line(signatures.trim_end()).unwrap();
        assert_eq!((name, &blob[..4]), ("example.com/foo", &key_hash(name, &key)[..]));
        assert!(key.verifies(text.as_bytes(), &blob[4..]));
    }

    #[test]
    fn verifier_key_shape() {
        let (checkpoint, secret) = sample();
        let text = verifier_key(&checkpoint.origin, &secret.public());
        let parts: Vec<&str> = text.split('+').collect();
        assert_eq!(parts[0], checkpoint.origin);
        assert_eq!(parts[1].len(), 8);
        assert_eq!(BASE64.decode(parts[2..].join("+").as_bytes()).unwrap().len(), 33);
    }
}
