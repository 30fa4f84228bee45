//! The ledger as a public log: tiles, bundles, proofs and checkpoints are those of the definition, at every size.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod common;

use std::fs;

use antiphon_ledger::{
    CheckpointError, Ledger,
    log::{
        blockproof::{BlockProof, BlockProofError},
        proof::{Hash, verify_consistency, verify_inclusion},
        tile::{Tile, fold, parse_entries},
    },
    tree::{Frontier, leaf_hash},
};
use antiphon_proto::{
    PublicKey, RootHash, SecretKey,
    note::{self, Checkpoint, CosignedCheckpoint, NoteError},
};
use common::{
    key,
    logs::{cosigned, grow, open, sign},
    member,
};
use proptest::prelude::*;

fn leaves(ledger: &Ledger) -> Vec<Hash> {
    (0..ledger.size()).map(|index| leaf_hash(&ledger.block(index).unwrap().unwrap())).collect()
}

fn root_of(leaves: &[Hash]) -> RootHash {
    let mut frontier = Frontier::new();
    leaves.iter().for_each(|leaf| frontier.append_leaf(*leaf));
    frontier.root()
}

#[test]
fn tiles_and_bundles_are_those_of_the_definition() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let mut checked = Vec::new();
    // In steps, so that the derived hashes grow in steps too.
    for size in [1, 255, 256, 257, 600, 1_100] {
        grow(&ledger, size, 100);
        let leaves = leaves(&ledger);
        let level_1: Vec<Hash> = leaves.chunks_exact(256).map(fold).collect();
        for (level, hashes) in [(0, &leaves), (1, &level_1), (2, &Vec::new())] {
            for tile in Tile::of_level(level, size, 0) {
                let first = usize::try_from(tile.index).unwrap() * 256;
                for width in [1, tile.width / 2, tile.width] {
                    let expected = (width > 0).then(|| hashes[first..first + usize::from(width)].concat());
                    assert_eq!(ledger.tile(level, tile.index, width).unwrap(), expected);
                }
                if tile.width < 256 {
                    assert_eq!(ledger.tile(level, tile.index, tile.width + 1).unwrap(), None);
                }
                checked.push(tile);
            }
        }
        for tile in Tile::of_entries(size, 0) {
            let bundle = ledger.tile_at(&tile).unwrap().unwrap();
            let blocks = parse_entries(&bundle, tile.width).unwrap();
            for (block, index) in blocks.iter().zip(tile.index * 256..) {
                assert_eq!(ledger.block(index).unwrap().as_deref(), Some(*block));
            }
            assert_eq!(ledger.bundle(tile.index, tile.width.saturating_add(1)).unwrap(), None);
        }
    }
    // What was there at a smaller size is there still.
    for tile in checked {
        assert!(ledger.tile_at(&tile).unwrap().is_some());
    }
    for (level, index, width) in [(0, u64::MAX, 1), (63, 0, 1), (0, 0, 0), (0, 0, 257), (1, 0, 5)] {
        assert_eq!(ledger.tile(level, index, width).unwrap(), None);
        assert_eq!(ledger.bundle(index, 0).unwrap(), None);
    }
}

#[test]
fn every_batch_has_its_seal_in_one_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    // 128 divides 256, 100 does not, and 340 is more.
    grow(&ledger, 512, 128);
    grow(&ledger, 900, 100);
    grow(&ledger, 2_000, 340);
    let expected: Vec<_> = common::batches(&ledger)
        .into_iter()
        .map(|batch| (batch.first + batch.blocks.len() as u64, batch.seal))
        .collect();
    let bundles: Vec<_> =
        (0..=ledger.size() / 256).map(|index| ledger.bundle_seals(index).unwrap()).collect();
    for (seals, index) in bundles.iter().zip(0u64..) {
        assert!(seals.iter().all(|(end, _)| (end - 1) / 256 == index));
    }
    assert_eq!(bundles.concat(), expected);
    assert!(ledger.bundle_seals(u64::MAX).unwrap().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    #[test]
    fn proofs_hold_at_every_size(size in 2..900u64, each in 50..340u64, picks in proptest::collection::vec(
        (any::<prop::sample::Index>(), any::<prop::sample::Index>()), 30)) {
        let dir = tempfile::tempdir().unwrap();
        let ledger = open(dir.path());
        grow(&ledger, size, each);
        let leaves = leaves(&ledger);
        for (a, b) in picks {
            let new = b.index(leaves.len()) + 1;
            let (index, old) = (a.index(new), a.index(new) + 1);
            let (root, before) = (root_of(&leaves[..new]), root_of(&leaves[..old]));
            let (i, o, n) = (index as u64, old as u64, new as u64);
            prop_assert_eq!(ledger.root_at(n).unwrap(), Some(root));
            let proof = ledger.inclusion_proof(i, n).unwrap().unwrap();
            prop_assert_eq!(verify_inclusion(&leaves[index], i, n, &proof, &root), Ok(()));
            let proof = ledger.consistency_proof(o, n).unwrap().unwrap();
            prop_assert_eq!(verify_consistency(o, &before, n, &root, &proof), Ok(()));
        }
        prop_assert_eq!(ledger.inclusion_proof(size, size).unwrap(), None);
        prop_assert_eq!(ledger.inclusion_proof(0, size + 1).unwrap(), None);
        prop_assert_eq!(ledger.consistency_proof(1, size + 1).unwrap(), None);
        prop_assert_eq!(ledger.root_at(size + 1).unwrap(), None);
    }
}

/// Whatever the file of derived hashes holds, what is served is right.
#[test]
fn derived_hashes_are_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    grow(&ledger, 800, 200);
    let good = ledger.tile(1, 0, 3).unwrap().unwrap();
    drop(ledger);
    let file = dir.path().join("roots");
    let bytes = fs::read(&file).unwrap();
    assert_eq!(bytes[44..], good);
    let flipped = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        bytes
    };
    let longer = [&bytes[..], &[7; 32]].concat();
    let cut = bytes[..bytes.len() - 7].to_vec();
    let mut wrong_and_short = flipped(50);
    wrong_and_short.truncate(44 + 64);
    for damaged in [vec![], flipped(0), flipped(20), flipped(60), longer, cut, wrong_and_short, vec![0; 30]] {
        fs::write(&file, damaged).unwrap();
        let ledger = open(dir.path());
        assert_eq!(ledger.tile(1, 0, 3).unwrap().unwrap(), good);
        drop(ledger);
        assert_eq!(fs::read(&file).unwrap(), bytes);
    }
    fs::remove_file(&file).unwrap();
    let ledger = open(dir.path());
    grow(&ledger, 1_024, 200);
    assert_eq!(ledger.tile(1, 0, 3).unwrap().unwrap(), good);
    assert_eq!(ledger.root_at(1_023).unwrap(), Some(root_of(&leaves(&ledger)[..1_023])));
}

#[test]
fn the_newest_cosigned_checkpoint_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    grow(&ledger, 600, 200);
    let secrets = [member(), key(1), key(2), key(3)];
    let members: Vec<PublicKey> = secrets.iter().map(SecretKey::public).collect();
    let watch = ledger.watch_checkpoint();
    assert_eq!((ledger.checkpoint(), *watch.borrow()), (None, 0));

    let two = cosigned(&ledger, 300, &secrets[..2]);
    let refused = ledger.put_checkpoint(&two, &members);
    assert!(matches!(
        refused,
        Err(CheckpointError::Note(NoteError::Quorum { got: 2, needed: 3, members: 4 }))
    ));
    let three = cosigned(&ledger, 300, &secrets[..3]);
    assert!(ledger.put_checkpoint(&three, &members).unwrap());
    assert_eq!((ledger.checkpoint().as_ref(), *watch.borrow()), (Some(&three), 300));
    // The same again, or an older one, changes nothing; more cosignatures do.
    assert!(!ledger.put_checkpoint(&three, &members).unwrap());
    assert!(!ledger.put_checkpoint(&cosigned(&ledger, 200, &secrets), &members).unwrap());
    let others = cosigned(&ledger, 300, &[key(3), key(2), member()]);
    assert!(ledger.put_checkpoint(&others, &members).unwrap());
    assert!(!ledger.put_checkpoint(&others, &members).unwrap());
    let four = ledger.checkpoint().unwrap();
    let merged = CosignedCheckpoint::open(&four, &note::origin(&ledger.network()), &members).unwrap();
    assert_eq!((merged.cosignatures.len(), merged.log_signatures.len()), (4, 2));

    let origin = note::origin(&ledger.network());
    let fork = sign(&Checkpoint { origin, size: 500, root: RootHash([1; 32]) }, &secrets);
    let refused = ledger.put_checkpoint(&fork, &members);
    assert!(matches!(refused, Err(CheckpointError::Fork { size: 500, .. })));
    assert_eq!(ledger.checkpoint(), Some(four.clone()));
    drop(ledger);
    let ledger = open(dir.path());
    assert_eq!((ledger.checkpoint(), *ledger.watch_checkpoint().borrow()), (Some(four), 300));

    // One that is ahead is kept; when the blocks are there it must fit them.
    let ahead = cosigned(&ledger, 700, &secrets);
    assert!(ledger.put_checkpoint(&ahead, &members).unwrap());
    assert_eq!(ledger.block_proof(0).unwrap(), None);
    grow(&ledger, 700, 100);
    drop(ledger);
    let ledger = open(dir.path());
    assert_eq!(ledger.checkpoint(), None);
    assert!(dir.path().join("checkpoint.bad").exists());
    drop(ledger);
    for damaged in [&b""[..], b"no note", &three[..three.len() - 1]] {
        fs::write(dir.path().join("checkpoint"), damaged).unwrap();
        assert_eq!(open(dir.path()).checkpoint(), None);
    }
}

#[test]
fn a_block_is_proven_to_whoever_has_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    grow(&ledger, 300, 150);
    let members = [member().public()];
    assert_eq!(ledger.block_proof(0).unwrap(), None);
    ledger.put_checkpoint(&cosigned(&ledger, 299, &[member()]), &members).unwrap();
    let origin = note::origin(&ledger.network());
    for index in [0, 1, 255, 256, 298] {
        let proof = ledger.block_proof(index).unwrap().unwrap();
        let text = proof.encode();
        assert!(text.starts_with(b"c2sp.org/tlog-proof@v1\nextra "));
        assert_eq!(BlockProof::parse(&text).as_ref(), Ok(&proof));
        let (block, checkpoint) = proof.verify(&origin, &members).unwrap();
        assert_eq!((block.index, checkpoint.checkpoint.size), (index, 299));
        assert_eq!(proof.verify_under(&checkpoint.checkpoint), Ok(block));
        let other = Checkpoint { root: RootHash([7; 32]), ..checkpoint.checkpoint };
        assert!(matches!(proof.verify_under(&other), Err(BlockProofError::Proof(_))));
        assert!(matches!(proof.verify(&origin, &[key(1).public()]), Err(BlockProofError::Checkpoint(_))));
        assert!(proof.verify("antiphon/other", &members).is_err());
    }
    assert_eq!(ledger.block_proof(299).unwrap(), None);
    // A derived hash that went bad while it was in use is noticed and made again.
    let mut roots = fs::read(dir.path().join("roots")).unwrap();
    roots[50] ^= 1;
    fs::write(dir.path().join("roots"), roots).unwrap();
    ledger.block_proof(256).unwrap().unwrap().verify(&origin, &members).unwrap();

    let text = ledger.block_proof(256).unwrap().unwrap().encode();
    for at in 0..text.len() {
        for bit in [0, 3, 6] {
            let mut bad = text.clone();
            bad[at] ^= 1 << bit;
            let verified =
                BlockProof::parse(&bad).and_then(|proof| proof.verify(&origin, &members).map(drop));
            assert!(verified.is_err(), "byte {at} bit {bit} of {:?}", String::from_utf8_lossy(&bad));
        }
    }
}
