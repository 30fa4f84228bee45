//! A checkpoint with everything that was signed over it.

use std::collections::BTreeSet;

use super::{Checkpoint, Cosignature, NoteError, key_hash, line_of, signature_line, split};
use crate::{genesis::quorum, keys::PublicKey, limits};

/// A checkpoint, the log's signatures, the members' cosignatures, and lines of keys that are not known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CosignedCheckpoint {
    /// What is signed.
    pub checkpoint: Checkpoint,
    /// Lines that the log has added to the text, each with its newline: opaque. Antiphon writes none.
    pub extensions: String,
    /// Plain Ed25519 signatures under the log's own name, one for each key. One is enough for third-party tools; more
    /// cost 172 B each.
    pub log_signatures: Vec<(PublicKey, [u8; 64])>,
    /// One for each member that has cosigned.
    pub cosignatures: Vec<Cosignature>,
    /// Signature lines of other keys, without newlines, unverified: the first [`limits::WITNESS_LINES`] are kept when the
    /// checkpoint is passed on.
    pub witness_lines: Vec<String>,
}

impl CosignedCheckpoint {
    /// A checkpoint that nobody has signed yet.
    #[must_use]
    pub const fn new(checkpoint: Checkpoint) -> Self {
        Self {
            checkpoint,
            extensions: String::new(),
            log_signatures: Vec::new(),
            cosignatures: Vec::new(),
            witness_lines: Vec::new(),
        }
    }

    /// Reads a note of the log `origin` of at most [`limits::CHECKPOINT_BYTES`] and verifies every line that is in
    /// the name of one of `members`. How many of them there are is [`CosignedCheckpoint::check_quorum`]'s business.
    ///
    /// # Errors
    /// [`NoteError`]; [`NoteError::Signature`] when one line of a member is wrong, whatever the others are.
    pub fn open(note: &[u8], origin: &str, members: &[PublicKey]) -> Result<Self, NoteError> {
        let (text, signatures) = split(note, limits::CHECKPOINT_BYTES)?;
        let (checkpoint, extensions) = Checkpoint::parse_text(text)?;
        if checkpoint.origin != origin {
            return Err(NoteError::Origin { found: checkpoint.origin, expected: origin.to_owned() });
        }
        let mut opened = Self { extensions: extensions.to_owned(), ..Self::new(checkpoint) };
        for line in signatures.lines() {
            opened.take(line, text, members)?;
        }
        Ok(opened)
    }

    /// Verifies a line and puts it where it belongs. A second one of the same key is verified and dropped.
    fn take(&mut self, line: &str, text: &str, members: &[PublicKey]) -> Result<(), NoteError> {
        let (name, blob) = signature_line(line)?;
        let wrong = || NoteError::Signature { name: name.to_owned() };
        if let Some(cosignature) = Cosignature::parse_blob(name, &blob, members)? {
            if !cosignature.verifies_text(text) {
                return Err(wrong());
            }
            if !self.cosignatures.iter().any(|other| other.key == cosignature.key) {
                self.cosignatures.push(cosignature);
            }
            return Ok(());
        }
        let (id, signature) = blob.split_at(4);
        let of_log = |key: &&PublicKey| name == self.checkpoint.origin && id == key_hash(name, key);
        let Some(key) = members.iter().find(of_log) else {
            self.take_witness(line);
            return Ok(());
        };
        let signature: [u8; 64] = signature.try_into().map_err(|_| wrong())?;
        if !key.verifies(text.as_bytes(), &signature) {
            return Err(wrong());
        }
        if !self.log_signatures.iter().any(|(other, _)| other == key) {
            self.log_signatures.push((*key, signature));
        }
        Ok(())
    }

    fn take_witness(&mut self, line: &str) -> bool {
        let fits = self.witness_lines.len() < limits::WITNESS_LINES;
        let new = fits && !self.witness_lines.iter().any(|other| other == line);
        if new {
            self.witness_lines.push(line.to_owned());
        }
        new
    }

    /// Drops lines of keys that are not known here but have the name of a member or of the log. Whoever knows them would
    /// refuse the whole note for one that is forged, and blame who passed it on.
    pub fn drop_unknown_members(&mut self) {
        let origin = &self.checkpoint.origin;
        let is_member = |name: &str| {
            let digits = name.strip_prefix("antiphon/").unwrap_or_default();
            digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        self.witness_lines.retain(|line| {
            let name = signature_line(line).map_or("", |(name, _)| name);
            name != origin && !is_member(name)
        });
    }

    /// Takes in what another note says of the same text and this one lacks; both must have been opened with the same
    /// members. Returns whether there was anything.
    pub fn merge(&mut self, other: &Self) -> bool {
        if self.text() != other.text() {
            return false;
        }
        let mut grown = false;
        for signed in &other.log_signatures {
            if !self.log_signatures.iter().any(|(key, _)| *key == signed.0) {
                self.log_signatures.push(*signed);
                grown = true;
            }
        }
        for cosignature in &other.cosignatures {
            if !self.cosignatures.iter().any(|known| known.key == cosignature.key) {
                self.cosignatures.push(*cosignature);
                grown = true;
            }
        }
        for line in &other.witness_lines {
            grown |= self.take_witness(line);
        }
        grown
    }

    /// The text that is signed, final newline included.
    #[must_use]
    pub fn text(&self) -> String {
        self.checkpoint.text() + &self.extensions
    }

    /// The distinct keys of the cosignatures; verified when this was opened with them among the members.
    #[must_use]
    pub fn cosigners(&self) -> BTreeSet<PublicKey> {
        self.cosignatures.iter().map(|cosignature| cosignature.key).collect()
    }

    /// Whether enough of `members` have cosigned: more than two thirds. The cosignatures must have been verified, as
    /// [`CosignedCheckpoint::open`] does.
    ///
    /// # Errors
    /// [`NoteError::Quorum`].
    pub fn check_quorum(&self, members: &[PublicKey]) -> Result<(), NoteError> {
        let members: BTreeSet<_> = members.iter().copied().collect();
        let got = self.cosigners().intersection(&members).count();
        let needed = quorum(members.len());
        if got >= needed && !members.is_empty() {
            Ok(())
        } else {
            Err(NoteError::Quorum { got, needed, members: members.len() })
        }
    }

    /// Whether it can be trusted: a quorum has cosigned it, and one of `members` has signed it for the log itself, which
    /// is the signature that third-party tools look for.
    ///
    /// # Errors
    /// [`NoteError::Quorum`] or [`NoteError::Unsigned`].
    pub fn check(&self, members: &[PublicKey]) -> Result<(), NoteError> {
        self.check_quorum(members)?;
        let signed = self.log_signatures.iter().any(|(key, _)| members.contains(key));
        if signed { Ok(()) } else { Err(NoteError::Unsigned) }
    }

    /// The note: the log's signatures first, then the members', then as many other lines as
    /// [`limits::CHECKPOINT_BYTES`] leaves room for.
    #[must_use]
    pub fn encode(&self) -> String {
        let origin = &self.checkpoint.origin;
        let mut note = self.text() + "\n";
        for (key, signature) in &self.log_signatures {
            note += &line_of(origin, key_hash(origin, key), signature);
        }
        for cosignature in &self.cosignatures {
            note += &cosignature.line();
        }
        for line in &self.witness_lines {
            if note.len() + line.len() < limits::CHECKPOINT_BYTES {
                note += line;
                note.push('\n');
            }
        }
        note
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{hash::RootHash, keys::SecretKey};

    const ORIGIN: &str = "antiphon/test";

    fn keys(count: u8) -> (Vec<SecretKey>, Vec<PublicKey>) {
        let secrets: Vec<_> = (1..=count).map(|n| SecretKey::from_seed(&[n; 32])).collect();
        let members = secrets.iter().map(SecretKey::public).collect();
        (secrets, members)
    }

    fn cosigned(secrets: &[SecretKey]) -> CosignedCheckpoint {
        let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: 9, root: RootHash([3; 32]) };
        let mut out = CosignedCheckpoint::new(checkpoint);
        out.log_signatures =
            secrets[..1].iter().map(|s| (s.public(), out.checkpoint.log_signature(s))).collect();
        out.cosignatures =
            secrets.iter().map(|secret| out.checkpoint.cosign(secret, 1_700_000_000)).collect();
        out
    }

    #[test]
    fn lines_in_a_members_name_are_not_passed_on_unread() {
        let (secrets, members) = keys(4);
        let witness = "\u{2014} witness.example/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9".to_owned();
        let mut made = cosigned(&secrets);
        made.witness_lines.push(witness.clone());
        // Whoever knows three of the four cannot tell the fourth's line from a forged one.
        let mut read = CosignedCheckpoint::open(made.encode().as_bytes(), ORIGIN, &members[1..]).unwrap();
        assert_eq!(read.witness_lines.len(), 3, "a signature of the log, a cosignature, a witness");
        read.drop_unknown_members();
        assert_eq!(read.witness_lines, [witness]);
        read.check_quorum(&members[1..]).unwrap();
    }

    #[test]
    fn opens_what_it_encodes() {
        let (secrets, members) = keys(4);
        let mut made = cosigned(&secrets[..3]);
        made.witness_lines.push("\u{2014} witness.example/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9".to_owned());
        let note = made.encode();
        let read = CosignedCheckpoint::open(note.as_bytes(), ORIGIN, &members).unwrap();
        assert_eq!(read, made);
        assert_eq!(read.cosigners(), members[..3].iter().copied().collect());
        assert_eq!(read.check_quorum(&members), Ok(()));
        assert_eq!(read.check(&members), Ok(()));
        assert_eq!(
            CosignedCheckpoint { log_signatures: vec![], ..read }.check(&members),
            Err(NoteError::Unsigned)
        );
        // Third-party tools open it by the log's own key.
        let (checkpoint, signers) = Checkpoint::open(note.as_bytes(), ORIGIN, &members).unwrap();
        assert_eq!((checkpoint, signers), (made.checkpoint, vec![members[0]]));
    }

    #[test]
    fn too_few_are_no_quorum() {
        let (secrets, members) = keys(4);
        let mut two = cosigned(&secrets[..2]);
        let too_few = Err(NoteError::Quorum { got: 2, needed: 3, members: 4 });
        assert_eq!(two.check_quorum(&members), too_few);
        // Neither a repeated line nor a stranger's makes a third.
        two.cosignatures.push(two.checkpoint.cosign(&secrets[1], 1_700_000_001));
        two.cosignatures.push(two.checkpoint.cosign(&SecretKey::from_seed(&[77; 32]), 1));
        let read = CosignedCheckpoint::open(two.encode().as_bytes(), ORIGIN, &members).unwrap();
        assert_eq!(read.witness_lines.len(), 1);
        assert_eq!(read.check_quorum(&members), too_few);
        assert!(read.check_quorum(&[]).is_err());
    }

    #[test]
    fn one_wrong_line_of_a_member_spoils_it() {
        let (secrets, members) = keys(4);
        let good = cosigned(&secrets);
        let open =
            |note: &CosignedCheckpoint| CosignedCheckpoint::open(note.encode().as_bytes(), ORIGIN, &members);
        let mut bad = good.clone();
        bad.cosignatures[3].signature[7] ^= 1;
        assert!(matches!(open(&bad), Err(NoteError::Signature { .. })));
        let mut bad = good.clone();
        bad.log_signatures[0].1[7] ^= 1;
        assert!(matches!(open(&bad), Err(NoteError::Signature { .. })));
        let note = good.encode().replacen("\n9\n", "\n8\n", 1);
        let read = CosignedCheckpoint::open(note.as_bytes(), ORIGIN, &members);
        assert!(matches!(read, Err(NoteError::Signature { .. })));
    }

    #[test]
    fn extension_lines_are_kept_and_signed() {
        let (secrets, members) = keys(1);
        let mut made = CosignedCheckpoint::new(cosigned(&secrets).checkpoint);
        made.extensions = "more\nand more\n".to_owned();
        let text = made.text();
        made.log_signatures.push((members[0], secrets[0].sign(text.as_bytes())));
        let read = CosignedCheckpoint::open(made.encode().as_bytes(), ORIGIN, &members).unwrap();
        assert_eq!(read, made);
        // A cosignature over the three lines alone is none over these five.
        made.cosignatures.push(made.checkpoint.cosign(&secrets[0], 5));
        assert!(CosignedCheckpoint::open(made.encode().as_bytes(), ORIGIN, &members).is_err());
        let empty_line = made.encode().replacen("and more\n", "\n", 1);
        assert!(matches!(
            CosignedCheckpoint::open(empty_line.as_bytes(), ORIGIN, &members),
            Err(NoteError::Format(_))
        ));
    }

    #[test]
    fn a_full_council_fits() {
        let (secrets, members) = keys(128);
        let mut all = cosigned(&secrets);
        all.witness_lines = vec![format!("\u{2014} w {}", "A".repeat(4000)); 5];
        let note = all.encode();
        assert!(note.len() <= limits::CHECKPOINT_BYTES);
        let read = CosignedCheckpoint::open(note.as_bytes(), ORIGIN, &members).unwrap();
        assert_eq!(read.cosignatures.len(), 128);
        assert!(!read.witness_lines.is_empty() && read.witness_lines.len() < 5);
        let long = note + &format!("\u{2014} w {}\n", "A".repeat(16_000));
        let open = CosignedCheckpoint::open(long.as_bytes(), ORIGIN, &members);
        assert!(matches!(open, Err(NoteError::TooLong(_))));
    }

    #[test]
    fn notes_of_one_text_are_merged() {
        let (secrets, members) = keys(4);
        let whole = cosigned(&secrets);
        let mut one = cosigned(&secrets[..2]);
        let mut other = cosigned(&secrets[2..]);
        other.witness_lines = (0..20).map(|n| format!("\u{2014} w{n} AAAAAAA=")).collect();
        assert!(one.merge(&other));
        assert!(!one.merge(&other));
        assert_eq!((one.log_signatures.len(), one.witness_lines.len()), (2, limits::WITNESS_LINES));
        assert_eq!(one.cosigners(), whole.cosigners());
        let read = CosignedCheckpoint::open(one.encode().as_bytes(), ORIGIN, &members).unwrap();
        assert_eq!(read, one);
        let size = CosignedCheckpoint::new(Checkpoint { size: 10, ..one.checkpoint.clone() });
        assert!(!one.merge(&size));
        let twenty = CosignedCheckpoint::open(other.encode().as_bytes(), ORIGIN, &members).unwrap();
        assert_eq!(twenty.witness_lines.len(), limits::WITNESS_LINES);
    }

    #[test]
    fn names_and_shapes_are_strict() {
        let (secrets, members) = keys(1);
        let note = cosigned(&secrets).encode();
        for line in
            ["\u{2014} a+b AAAAAAA=", "\u{2014} a\u{a0}b AAAAAAA=", "- a AAAAAAA=", "\u{2014} a AAAA", ""]
        {
            let with = format!("{note}{line}\n");
            assert!(CosignedCheckpoint::open(with.as_bytes(), ORIGIN, &members).is_err(), "{line:?}");
        }
        let with_tab = note.replacen("\n9\n", "\n9\t\n", 1);
        assert!(CosignedCheckpoint::open(with_tab.as_bytes(), ORIGIN, &members).is_err());
    }
}
