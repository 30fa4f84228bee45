//! Cosignatures (C2SP `tlog-cosignature`, `cosignature/v1`): a member states that, at a time, this was the longest
//! consistent log that it had seen.

use data_encoding::HEXLOWER;

use super::{Checkpoint, NoteError, key_id, line_of, signature_line, verifier_text};
use crate::keys::{PublicKey, SecretKey};

/// Signature type byte of a timestamped Ed25519 cosignature.
const TYPE: u8 = 0x04;
/// Bytes behind the key id in a signature line: time and signature.
const BYTES: usize = 8 + 64;
/// Latest time that the format has room for, in seconds since 1970.
pub const MAX_TIME_S: u64 = i64::MAX as u64;

/// A member's name in signature lines: `antiphon/` and the first 16 hexadecimal digits of its public key.
#[must_use]
pub fn member_name(key: &PublicKey) -> String {
    format!("antiphon/{}", HEXLOWER.encode(&key.0[..8]))
}

/// A member's verifier key for cosignatures, in the text form that other tools take.
#[must_use]
pub fn cosigner_key(key: &PublicKey) -> String {
    verifier_text(&member_name(key), TYPE, key)
}

/// One member's statement about a checkpoint. It is worth nothing before [`Cosignature::verifies`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cosignature {
    /// Who.
    pub key: PublicKey,
    /// When, in seconds since 1970.
    pub time_s: u64,
    /// Ed25519 over header, time and text.
    pub signature: [u8; 64],
}

fn message(text: &str, time_s: u64) -> String {
    format!("cosignature/v1\ntime {time_s}\n{text}")
}

impl Checkpoint {
    /// States that this is the longest consistent log seen at `time_s` seconds since 1970. The caller answers for the
    /// truth of it: a member never cosigns two checkpoints of which neither continues the other.
    #[must_use]
    pub fn cosign(&self, secret: &SecretKey, time_s: u64) -> Cosignature {
        let time_s = time_s.min(MAX_TIME_S);
        let signature = secret.sign(message(&self.text(), time_s).as_bytes());
        Cosignature { key: secret.public(), time_s, signature }
    }
}

impl Cosignature {
    /// Whether the key has signed this checkpoint, written without extension lines, at this time.
    #[must_use]
    pub fn verifies(&self, checkpoint: &Checkpoint) -> bool {
        self.verifies_text(&checkpoint.text())
    }

    /// [`Cosignature::verifies`] for a checkpoint's text as it stands.
    pub(super) fn verifies_text(&self, text: &str) -> bool {
        self.time_s <= MAX_TIME_S && self.key.verifies(message(text, self.time_s).as_bytes(), &self.signature)
    }

    /// The signature line, its newline included.
    #[must_use]
    pub fn line(&self) -> String {
        let name = member_name(&self.key);
        let timed = [&self.time_s.to_be_bytes()[..], &self.signature].concat();
        line_of(&name, key_id(&name, TYPE, &self.key), &timed)
    }

    /// Reads a signature line (without its newline) of one of `members`; `None` when it is another key's.
    ///
    /// # Errors
    /// [`NoteError::Format`] when it is no signature line, [`NoteError::Signature`] when a member's line has not the
    /// length of a cosignature. Whether the signature is good is not looked at.
    pub fn parse_line(line: &str, members: &[PublicKey]) -> Result<Option<Self>, NoteError> {
        let (name, blob) = signature_line(line)?;
        Self::parse_blob(name, &blob, members)
    }

    /// As [`Cosignature::parse_line`], of a line that was taken apart.
    pub(super) fn parse_blob(
        name: &str,
        blob: &[u8],
        members: &[PublicKey],
    ) -> Result<Option<Self>, NoteError> {
        let of = |key: &&PublicKey| {
            member_name(key) == name && blob.get(..4) == Some(&key_id(name, TYPE, key)[..])
        };
        // The prefix is looked at first: most lines of the log itself end here.
        let Some(key) = members.iter().find(of) else { return Ok(None) };
        let bad = || NoteError::Signature { name: name.to_owned() };
        let rest: &[u8; BYTES] = blob[4..].try_into().map_err(|_| bad())?;
        let (time, signature) = rest.split_first_chunk::<8>().ok_or_else(bad)?;
        let signature = signature.try_into().map_err(|_| bad())?;
        Ok(Some(Self { key: *key, time_s: u64::from_be_bytes(*time), signature }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::RootHash;

    fn sample() -> (Checkpoint, SecretKey) {
        let checkpoint = Checkpoint { origin: "antiphon/x".to_owned(), size: 7, root: RootHash([5; 32]) };
        (checkpoint, SecretKey::from_seed(&[1; 32]))
    }

    #[test]
    fn the_message_is_the_one_of_the_format() {
        let (checkpoint, _) = sample();
        assert_eq!(
            message(&checkpoint.text(), 1_679_315_147),
            "cosignature/v1\ntime 1679315147\nantiphon/x\n7\nBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU=\n"
        );
    }

    #[test]
    fn lines_round_trip_and_bind_everything() {
        let (checkpoint, secret) = sample();
        let cosignature = checkpoint.cosign(&secret, 1_700_000_000);
        assert!(cosignature.verifies(&checkpoint));
        let line = cosignature.line();
        let read = Cosignature::parse_line(line.trim_end(), &[secret.public()]).unwrap();
        assert_eq!(read, Some(cosignature));
        let stranger = SecretKey::from_seed(&[2; 32]).public();
        assert_eq!(Cosignature::parse_line(line.trim_end(), &[stranger]), Ok(None));
        assert!(!Cosignature { time_s: 1, ..cosignature }.verifies(&checkpoint));
        assert!(!Cosignature { key: stranger, ..cosignature }.verifies(&checkpoint));
        assert!(!cosignature.verifies(&Checkpoint { size: 8, ..checkpoint }));
    }

    #[test]
    fn times_beyond_the_format_verify_nothing() {
        let (checkpoint, secret) = sample();
        let latest = checkpoint.cosign(&secret, u64::MAX);
        assert_eq!(latest.time_s, MAX_TIME_S);
        assert!(latest.verifies(&checkpoint));
        let time_s = MAX_TIME_S + 1;
        let signature = secret.sign(message(&checkpoint.text(), time_s).as_bytes());
        assert!(!Cosignature { key: secret.public(), time_s, signature }.verifies(&checkpoint));
    }

    #[test]
    fn a_members_line_has_one_length() {
        let (checkpoint, secret) = sample();
        let name = member_name(&secret.public());
        let short = line_of(&name, key_id(&name, TYPE, &secret.public()), &checkpoint.log_signature(&secret));
        let read = Cosignature::parse_line(short.trim_end(), &[secret.public()]);
        assert_eq!(read, Err(NoteError::Signature { name }));
    }
}
