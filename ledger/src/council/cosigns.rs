//! Cosignatures of the members over the log, gathered into checkpoints.

use std::collections::{BTreeMap, VecDeque};

use antiphon_proto::{
    PublicKey, RootHash, SecretKey,
    genesis::quorum,
    note::{Checkpoint, Cosignature, CosignedCheckpoint},
    wire::Cosigned,
};

/// Sizes of which each member's cosignature is kept: members finish a height a moment before or after one another.
const SIZES: usize = 8;

/// What was heard of one member.
#[derive(Debug, Clone)]
struct Heard {
    checkpoint: Checkpoint,
    cosignature: Cosignature,
}

/// The cosignatures that came in lately.
#[derive(Debug)]
pub(crate) struct Cosigns {
    origin: String,
    heard: BTreeMap<PublicKey, VecDeque<Heard>>,
    /// The newest of this member.
    mine: Option<Cosigned>,
    /// The newest size that was enough for a checkpoint, and by how many.
    done: (u64, usize),
}

impl Cosigns {
    pub(crate) fn new(origin: String) -> Self {
        Self { origin, heard: BTreeMap::new(), mine: None, done: (0, 0) }
    }

    /// Cosigns a log that is on disk here.
    pub(crate) fn sign(&mut self, key: &SecretKey, size: u64, root: RootHash, time_s: u64) -> Cosigned {
        let checkpoint = Checkpoint { origin: self.origin.clone(), size, root };
        let cosignature = checkpoint.cosign(key, time_s);
        let cosigned =
            Cosigned { size, root: root.0.to_vec(), time_s, cosignature: cosignature.signature.to_vec() };
        self.keep(Heard { checkpoint, cosignature });
        self.mine = Some(cosigned.clone());
        cosigned
    }

    /// The newest of this member.
    pub(crate) const fn mine(&self) -> Option<&Cosigned> {
        self.mine.as_ref()
    }

    /// Takes a member's cosignature in, if it is one.
    pub(crate) fn add(&mut self, from: PublicKey, cosigned: &Cosigned) {
        let (Ok(root), Ok(signature)) =
            (RootHash::try_from(&cosigned.root[..]), <[u8; 64]>::try_from(&cosigned.cosignature[..]))
        else {
            return;
        };
        let checkpoint = Checkpoint { origin: self.origin.clone(), size: cosigned.size, root };
        let cosignature = Cosignature { key: from, time_s: cosigned.time_s, signature };
        if cosignature.verifies(&checkpoint) {
            self.keep(Heard { checkpoint, cosignature });
        }
    }

    fn keep(&mut self, heard: Heard) {
        let of_member = self.heard.entry(heard.cosignature.key).or_default();
        of_member.retain(|other| other.checkpoint.size != heard.checkpoint.size);
        if of_member.len() >= SIZES {
            of_member.pop_front();
        }
        of_member.push_back(heard);
    }

    /// The checkpoint of a log that is on disk here, if enough have cosigned it, and more than when it was last asked
    /// for.
    pub(crate) fn checkpoint(
        &mut self,
        key: &SecretKey,
        size: u64,
        root: RootHash,
        members: &[PublicKey],
    ) -> Option<String> {
        let checkpoint = Checkpoint { origin: self.origin.clone(), size, root };
        let mine = |heard: &&Heard| heard.checkpoint == checkpoint;
        let cosignatures: Vec<Cosignature> = members
            .iter()
            .filter_map(|member| self.heard.get(member)?.iter().find(mine))
            .map(|heard| heard.cosignature)
            .collect();
        if cosignatures.len() < quorum(members.len()) || (size, cosignatures.len()) <= self.done {
            return None;
        }
        self.done = (size, cosignatures.len());
        let log_signatures = vec![(key.public(), checkpoint.log_signature(key))];
        Some(
            CosignedCheckpoint { log_signatures, cosignatures, ..CosignedCheckpoint::new(checkpoint) }
                .encode(),
        )
    }

    /// Forgets who is no member any more.
    pub(crate) fn retain(&mut self, is_member: impl Fn(&PublicKey) -> bool) {
        self.heard.retain(|member, _| is_member(member));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_cosignatures_make_a_checkpoint() {
        let mut secrets: Vec<_> = (1..=4u8).map(|n| SecretKey::from_seed(&[n; 32])).collect();
        secrets.sort_by_key(SecretKey::public);
        let keys: Vec<_> = secrets.iter().map(SecretKey::public).collect();
        let root = RootHash([5; 32]);
        let mut one = Cosigns::new("antiphon/test".to_owned());
        let said: Vec<_> = secrets[1..]
            .iter()
            .map(|secret| Cosigns::new("antiphon/test".to_owned()).sign(secret, 9, root, 7))
            .collect();
        one.sign(&secrets[0], 9, root, 7);
        one.add(keys[1], &said[0]);
        one.add(keys[1], &said[0]);
        // In another's name.
        one.add(keys[3], &said[1]);
        assert_eq!(one.checkpoint(&secrets[0], 9, root, &keys), None);
        one.add(keys[2], &said[1]);
        let note = one.checkpoint(&secrets[0], 9, root, &keys).unwrap();
        let opened = CosignedCheckpoint::open(note.as_bytes(), "antiphon/test", &keys).unwrap();
        opened.check(&keys).unwrap();
        assert_eq!((opened.checkpoint.size, opened.cosigners().len()), (9, 3));
        assert_eq!(one.checkpoint(&secrets[0], 9, root, &keys), None, "only when there is more");
        one.add(keys[3], &said[2]);
        assert!(one.checkpoint(&secrets[0], 9, root, &keys).is_some());
        assert_eq!(one.checkpoint(&secrets[0], 9, RootHash([6; 32]), &keys), None);
    }
}
