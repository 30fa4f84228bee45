//! Which signatures and work stamps were checked already. A registration is checked when it is handed in, and stands
//! in a batch soon after: checking an Ed25519 signature costs more than everything else that is done with a block.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, PoisonError},
};

use antiphon_proto::{canonical, record::Invalid};
use prost::Message;

/// Records that are remembered: what may wait for its batch, twice. About 600 KB.
const RECORDS: usize = 8_192;

/// Remembers the records whose proofs hold.
#[derive(Debug, Default)]
pub(crate) struct Proofs {
    capacity: usize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    hashes: HashSet<[u8; 32]>,
    /// The same, oldest first.
    order: VecDeque<[u8; 32]>,
}

impl Proofs {
    pub(crate) fn new() -> Self {
        Self { capacity: RECORDS, known: Mutex::default() }
    }

    /// Remembers nothing.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// Runs the check, unless this very record, signature included, has passed it before.
    pub(crate) fn check<M: Message>(
        &self,
        record: &M,
        check: impl FnOnce(&M) -> Result<(), Invalid>,
    ) -> Result<(), Invalid> {
        if self.capacity == 0 {
            return check(record);
        }
        let mut hasher = blake3::Hasher::new();
        // Records of two kinds may have the same bytes.
        hasher.update(std::any::type_name::<M>().as_bytes());
        hasher.update(&canonical::encode(record));
        let hash = *hasher.finalize().as_bytes();
        if self.known.lock().unwrap_or_else(PoisonError::into_inner).hashes.contains(&hash) {
            return Ok(());
        }
        check(record)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.hashes.insert(hash) {
            known.order.push_back(hash);
        }
        if known.order.len() > self.capacity
            && let Some(oldest) = known.order.pop_front()
        {
            known.hashes.remove(&oldest);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Artist;
    use antiphon_proto::wire::Genesis;

    #[test]
    fn a_record_is_checked_once_and_a_changed_one_again() {
        let genesis = Genesis::new("", 1, [0; 16], &[antiphon_proto::PublicKey([1; 32])]);
        let artist = Artist::new(1, &genesis);
        let proofs = Proofs { capacity: 2, ..Proofs::new() };
        let mut checks = 0;
        let mut ask = |n: u64, forged: bool| {
            let mut song = artist.song(n);
            song.signature[0] ^= u8::from(forged);
            proofs.check(&song, |_| {
                checks += 1;
                if forged { Err(Invalid::Signature) } else { Ok(()) }
            })
        };
        assert_eq!((ask(1, false), ask(1, false)), (Ok(()), Ok(())));
        assert_eq!((ask(1, true), ask(1, true)), (Err(Invalid::Signature), Err(Invalid::Signature)));
        // The third record pushes the first out.
        assert_eq!((ask(2, false), ask(3, false), ask(1, false)), (Ok(()), Ok(()), Ok(())));
        assert_eq!(checks, 6);
    }
}
