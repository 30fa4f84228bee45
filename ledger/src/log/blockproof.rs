//! One block with its proof, in the text of C2SP `tlog-proof`: what somebody needs who holds nothing of the ledger.
//!
//! The lines are the header, the block's bytes in base64 as the format's `extra`, its index, the inclusion hashes, an
//! empty line, and the cosigned checkpoint. Pure: no files, no clock.

use antiphon_proto::{
    PublicKey, limits,
    note::{Checkpoint, CosignedCheckpoint, NoteError},
    record::Invalid,
    wire::Block,
};
use data_encoding::BASE64;

use super::proof::{Hash, PROOF_HASHES, ProofError, verify_inclusion};
use crate::tree::leaf_hash;

/// First line of every proof.
const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// A block that a checkpoint vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockProof {
    /// Position of the block.
    pub index: u64,
    /// Its canonical bytes.
    pub block: Vec<u8>,
    /// From the leaf's sibling up to the root's child.
    pub hashes: Vec<Hash>,
    /// The cosigned checkpoint, as a note.
    pub checkpoint: Vec<u8>,
}

/// Text that proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockProofError {
    /// Longer than any proof may be.
    #[error("a proof of {0} bytes is longer than the {max} that are allowed", max = limits::LOG_PROOF_BYTES)]
    TooLong(usize),
    /// Not the format.
    #[error("not a proof of a block: {0}")]
    Format(&'static str),
    /// The checkpoint is not one of the network by a quorum.
    #[error("the proof's checkpoint: {0}")]
    Checkpoint(#[from] NoteError),
    /// The hashes do not lead from the block to the checkpoint.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// What is proven is not a block of the ledger.
    #[error("the proven block: {0}")]
    Block(#[from] Invalid),
    /// What is proven says that it is another block.
    #[error("the proof is of block {expected}, and the block says that it is {got}")]
    Index {
        /// Index of the proof.
        expected: u64,
        /// Index in the block.
        got: u64,
    },
}

impl BlockProof {
    /// The proof as text.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = format!("{HEADER}\nextra {}\nindex {}\n", BASE64.encode(&self.block), self.index);
        for hash in &self.hashes {
            out += &BASE64.encode(hash);
            out.push('\n');
        }
        out.push('\n');
        let mut out = out.into_bytes();
        out.extend_from_slice(&self.checkpoint);
        out
    }

    /// Reads a proof. Nothing is verified.
    ///
    /// # Errors
    /// [`BlockProofError::Format`] or [`BlockProofError::TooLong`].
    pub fn parse(text: &[u8]) -> Result<Self, BlockProofError> {
        use BlockProofError::Format;
        if text.len() > limits::LOG_PROOF_BYTES {
            return Err(BlockProofError::TooLong(text.len()));
        }
        let mut rest = text;
        let mut line = || {
            let end = rest.iter().position(|byte| *byte == b'\n').ok_or(Format("it ends inside a line"))?;
            let (line, more) = rest.split_at(end);
            rest = &more[1..];
            std::str::from_utf8(line).map_err(|_| Format("it is not UTF-8"))
        };
        if line()? != HEADER {
            return Err(Format("it does not begin as a proof of version 1"));
        }
        let extra = line()?.strip_prefix("extra ").ok_or(Format("the block's bytes are missing"))?;
        let block = BASE64.decode(extra.as_bytes()).map_err(|_| Format("the block is not base64"))?;
        let digits = line()?.strip_prefix("index ").ok_or(Format("the index is missing"))?;
        let index: u64 = digits.parse().map_err(|_| Format("the index is not a number"))?;
        if index.to_string() != digits {
            return Err(Format("the index has leading zeros or a sign"));
        }
        let mut hashes = Vec::new();
        loop {
            match line()? {
                "" => break,
                _ if hashes.len() == PROOF_HASHES => return Err(Format("it has too many hashes")),
                hash => {
                    let hash = BASE64.decode(hash.as_bytes()).ok().and_then(|hash| hash.try_into().ok());
                    hashes.push(hash.ok_or(Format("a hash is not 32 bytes in base64"))?);
                }
            }
        }
        Ok(Self { index, block, hashes, checkpoint: rest.to_vec() })
    }

    /// Verifies everything: the checkpoint by a quorum of `members` and by the log's own signature, then what
    /// [`BlockProof::verify_under`] does. Nearly all of the time goes into the signatures.
    ///
    /// # Errors
    /// [`BlockProofError`], the first thing that is wrong.
    pub fn verify(
        &self,
        origin: &str,
        members: &[PublicKey],
    ) -> Result<(Block, CosignedCheckpoint), BlockProofError> {
        let opened = CosignedCheckpoint::open(&self.checkpoint, origin, members)?;
        opened.check(members)?;
        Ok((self.verify_under(&opened.checkpoint)?, opened))
    }

    /// Verifies the block under a checkpoint that was found good before, which is then the one that counts, not the
    /// proof's own: the hashes lead from the block to its root, and the block has its form and index. Whether the
    /// block's signatures hold was the council's business.
    ///
    /// # Errors
    /// [`BlockProofError`], the first thing that is wrong.
    pub fn verify_under(&self, trusted: &Checkpoint) -> Result<Block, BlockProofError> {
        verify_inclusion(&leaf_hash(&self.block), self.index, trusted.size, &self.hashes, &trusted.root)?;
        let block = Block::parse(&self.block)?;
        if block.index == self.index {
            Ok(block)
        } else {
            Err(BlockProofError::Index { expected: self.index, got: block.index })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> BlockProof {
        BlockProof {
            index: 7,
            block: b"block".to_vec(),
            hashes: vec![[1; 32], [2; 32]],
            checkpoint: b"log\n9\n...\n\n...\n".to_vec(),
        }
    }

    #[test]
    fn golden_text() {
        let text = "c2sp.org/tlog-proof@v1\nextra YmxvY2s=\nindex 7\n\
                    AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n\
                    AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=\n\nlog\n9\n...\n\n...\n";
        assert_eq!(String::from_utf8(sample().encode()).unwrap(), text);
        assert_eq!(BlockProof::parse(text.as_bytes()), Ok(sample()));
        let none = BlockProof { hashes: vec![], ..sample() };
        assert_eq!(BlockProof::parse(&none.encode()), Ok(none));
    }

    #[test]
    fn other_forms_are_refused() {
        let text = String::from_utf8(sample().encode()).unwrap();
        for (from, to) in [
            ("@v1", "@v2"),
            ("extra ", "extra"),
            ("extra YmxvY2s=\n", ""),
            ("YmxvY2s=", "YmxvY2s"),
            ("index 7", "index 07"),
            ("index 7", "index +7"),
            ("index 7", "index 18446744073709551616"),
            ("\nAQEB", "\nAQ"),
            ("\n\nlog", "\n \nlog"),
        ] {
            let bad = text.replacen(from, to, 1);
            assert!(matches!(BlockProof::parse(bad.as_bytes()), Err(BlockProofError::Format(_))), "{from:?}");
        }
        let many = BlockProof { hashes: vec![[0; 32]; PROOF_HASHES + 1], ..sample() };
        assert!(matches!(BlockProof::parse(&many.encode()), Err(BlockProofError::Format(_))));
        let long = vec![b'a'; limits::LOG_PROOF_BYTES + 1];
        assert_eq!(BlockProof::parse(&long), Err(BlockProofError::TooLong(long.len())));
    }
}
