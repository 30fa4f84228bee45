//! One hash over everything that the state machine made of the blocks: equal ledgers have equal digests, on any machine.
//!
//! D0 = BLAKE3("antiphon/v1/state" || network id); for each block D = BLAKE3(D || index || kind || content hash ||
//! song id || song index), where numbers are eight bytes, big-endian, and the kind is one byte: the number that the
//! body has in the block's .proto definition (16 song, 17 variant). For an act of the council (24), what follows the
//! kind is the act's id.

use std::fmt;

use antiphon_proto::{NetworkId, SongId, wire::Block, wire::block};

use crate::{
    error::{Fault, ReadError},
    ledger::{Ledger, REPORT_EVERY},
    progress::{Progress, Stage},
    state::{ApplyError, Entry, entry_of},
    store::Step,
};

/// Tag of the first hash.
const TAG: &[u8] = b"antiphon/v1/state";

/// The digest after some blocks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StateDigest(pub [u8; 32]);

impl StateDigest {
    /// The digest of a network without blocks.
    #[must_use]
    pub fn start(network: &NetworkId) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(TAG);
        hasher.update(&network.0);
        Self(hasher.finalize().into())
    }

    /// Takes the next block in. `song_index` finds the block of the song that a variant names.
    ///
    /// # Errors
    /// A block that no ledger may hold, or a song that cannot be found.
    pub fn add(
        &mut self,
        block: &Block,
        song_index: impl FnMut(&SongId) -> Result<Option<u64>, Fault>,
    ) -> Result<(), ApplyError> {
        let entry = entry_of(block, song_index)?;
        self.push(block.index, kind(block), entry.as_ref(), block);
        Ok(())
    }

    fn push(&mut self, index: u64, kind: u8, entry: Option<&Entry>, block: &Block) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        hasher.update(&index.to_be_bytes());
        hasher.update(&[kind]);
        if let Some(entry) = entry {
            hasher.update(&entry.content.0);
            hasher.update(&entry.song_id.0);
            hasher.update(&entry.song_index.to_be_bytes());
        }
        if let Some(block::Body::Council(council)) = &block.body
            && let Some(act) = &council.act
        {
            hasher.update(&act.id().0);
        }
        // What the blocks up to here amount to.
        if let Some(block::Body::Epoch(epoch)) = &block.body {
            hasher.update(&epoch.state);
        }
        self.0 = hasher.finalize().into();
    }
}

impl fmt::Display for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateDigest({self})")
    }
}

fn kind(block: &Block) -> u8 {
    match block.body {
        Some(block::Body::Song(_)) => 16,
        Some(block::Body::Variant(_)) => 17,
        Some(block::Body::Epoch(_)) => 19,
        Some(block::Body::Transfer(_)) => 20,
        Some(block::Body::Purchase(_)) => 21,
        Some(block::Body::Grant(_)) => 22,
        Some(block::Body::Claim(_)) => 23,
        Some(block::Body::Council(_)) => 24,
        None => 0,
    }
}

impl Ledger {
    /// The digest over the first `size` blocks; `None` when there are not so many.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn state_digest(
        &self,
        size: u64,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Option<StateDigest>, ReadError> {
        let store = &self.0.store;
        if size > store.size() {
            return Ok(None);
        }
        let mut digest = StateDigest::start(&self.network());
        let mut walker = store.walk();
        let mut at = 0;
        while at < size {
            let Step::Batch(batch) = walker.step()? else {
                return Err(store.damaged_at(at, format!("the segments end before block {size}")));
            };
            for bytes in &batch.blocks {
                if at == size {
                    break;
                }
                let damaged = |what: String| store.damaged_at(at, what);
                let block = Block::parse(bytes).map_err(|error| damaged(error.to_string()))?;
                digest.add(&block, |id| Ok(store.song_index(id)?)).map_err(|error| match error {
                    ApplyError::Fault(Fault::Read(error)) => error,
                    other => damaged(other.to_string()),
                })?;
                at += 1;
                if at.is_multiple_of(REPORT_EVERY) {
                    progress(Progress { stage: Stage::Verify, done: at, total: size });
                }
            }
        }
        Ok(Some(digest))
    }
}

#[cfg(test)]
mod tests {
    use antiphon_proto::ContentHash;

    use super::*;

    #[test]
    fn golden_digest() {
        let mut digest = StateDigest::start(&NetworkId([1; 32]));
        let by_hand = blake3::hash(&[TAG, &[1; 32]].concat());
        assert_eq!(digest.0, *by_hand.as_bytes());
        let entry = Entry { content: ContentHash([2; 32]), song_id: SongId([3; 32]), song_index: 4 };
        digest.push(258, 17, Some(&entry), &Block::default());
        let mut bytes = by_hand.as_bytes().to_vec();
        bytes.extend([0, 0, 0, 0, 0, 0, 1, 2, 17]);
        bytes.extend([2; 32]);
        bytes.extend([3; 32]);
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 4]);
        assert_eq!(digest.0, *blake3::hash(&bytes).as_bytes());
        assert_eq!(digest.to_string().len(), 64);
    }
}
