//! A follower has what the sequencer has, and takes nothing else.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod common;

use antiphon_ledger::{
    AppendError, Ledger, Options, Proposal, Refusal, SealedBatch, seal::SealError, state::Position,
};
use antiphon_proto::{
    BlockHash,
    certificate::CertificateError,
    council::{VoteKind, vote_message},
    wire::Block,
};
use common::{Artist, batches, extend, genesis, key, open, sealed, sealer};

/// A ledger of six batches: songs, variants, and one block alone.
fn source(dir: &std::path::Path) -> Ledger {
    let ledger = open(dir);
    let artist = Artist::new(1, ledger.genesis());
    for batch in 0..6u64 {
        let songs = (0..1 + batch).map(|n| artist.song_registration(batch * 100 + n));
        let variant = artist.variant(&artist.song(batch * 100), batch);
        let mut registrations: Vec<_> = songs.collect();
        registrations.push(antiphon_proto::wire::Registration::of_variant(variant));
        extend(&ledger, &registrations).unwrap();
    }
    ledger
}

#[test]
fn replaying_gives_the_same_ledger() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = source(a.path());
    let follower = open(b.path());
    let watch = follower.watch();
    for batch in batches(&source) {
        let receipts = follower.append(&batch).unwrap();
        assert_eq!(receipts.len(), batch.blocks.len());
        assert_eq!(receipts[0].index, batch.first);
        assert_eq!(*watch.borrow(), follower.size());
    }
    let (mut ours, mut theirs) = (source.info(), follower.info());
    // How the index lies on the disk is each one's own.
    (ours.disk_bytes, theirs.disk_bytes) = (0, 0);
    assert_eq!(ours, theirs);
    assert_eq!(source.last_seal(), follower.last_seal());
    assert_eq!(batches(&source), batches(&follower));
    for index in 0..source.size() {
        assert_eq!(source.batch_from(index).unwrap(), follower.batch_from(index).unwrap());
    }
    let report = follower.verify(true, &mut |_| {}).unwrap();
    assert_eq!((report.blocks, report.batches, report.root), (source.size(), 6, source.root()));
    assert_eq!((report.songs, report.variants), (ours.songs, ours.variants));
}

/// A follower that has the first two of the source's batches, and all of them.
fn follower() -> (tempfile::TempDir, Ledger, Vec<SealedBatch>) {
    let a = tempfile::tempdir().unwrap();
    let all = batches(&source(a.path()));
    let dir = tempfile::tempdir().unwrap();
    let follower = open(dir.path());
    for batch in &all[..2] {
        follower.append(batch).unwrap();
    }
    (dir, follower, all)
}

/// Whatever is refused leaves the ledger as it was, and the right batch still fits.
fn refuses(follower: &Ledger, batch: &SealedBatch, next: &SealedBatch) -> AppendError {
    let before = (follower.info(), follower.last_seal());
    let error = follower.append(batch).unwrap_err();
    assert_eq!((follower.info(), follower.last_seal()), before);
    follower.append(next).unwrap();
    error
}

#[test]
fn every_tampered_byte_is_refused() {
    let (_dir, follower, all) = follower();
    let next = &all[2];
    for block in 0..next.blocks.len() {
        for byte in (0..next.blocks[block].len()).step_by(7) {
            let mut bad = next.clone();
            bad.blocks[block][byte] ^= 1;
            assert!(follower.append(&bad).unwrap_err().is_invalid_batch());
        }
    }
    for byte in 0..next.seal.len() {
        let mut bad = next.clone();
        bad.seal[byte] ^= 1;
        assert!(matches!(follower.append(&bad), Err(AppendError::Seal(_))));
    }
    follower.append(next).unwrap();
}

#[test]
fn gaps_and_replays() {
    let (_dir, follower, all) = follower();
    let size = follower.size();
    for wrong in [&all[0], &all[1], &all[3], &all[5]] {
        let error = follower.append(wrong).unwrap_err();
        assert!(
            matches!(error, AppendError::NotNext { size: s, first } if s == size && first == wrong.first)
        );
        assert!(!error.is_invalid_batch());
    }
    let moved = SealedBatch { first: size, ..all[3].clone() };
    assert!(matches!(refuses(&follower, &moved, &all[2]), AppendError::Seal(_)));
}

#[test]
fn other_seals_orders_and_cuts() {
    let (_dir, follower, all) = follower();
    let next = &all[2];
    let mut reordered = next.clone();
    reordered.blocks.swap(0, 1);
    assert!(matches!(follower.append(&reordered), Err(AppendError::Seal(SealError::Other(_)))));
    let mut short = next.clone();
    short.blocks.pop();
    assert!(matches!(follower.append(&short), Err(AppendError::Seal(SealError::Other(_)))));
    let empty = SealedBatch { blocks: vec![], ..next.clone() };
    assert!(matches!(follower.append(&empty), Err(AppendError::Empty)));
    let other_seal = SealedBatch { seal: all[3].seal.clone(), ..next.clone() };
    assert!(matches!(follower.append(&other_seal), Err(AppendError::Seal(SealError::Other(_)))));
    let no_seal = SealedBatch { seal: vec![], ..next.clone() };
    assert!(matches!(follower.append(&no_seal), Err(AppendError::Seal(SealError::Form))));
    follower.append(next).unwrap();
}

#[test]
fn a_stranger_cannot_seal() {
    let (_dir, follower, all) = follower();
    let mut certificate = antiphon_ledger::seal::certificate(&all[2].seal, 1).unwrap();
    let message = vote_message(
        VoteKind::Precommit,
        &follower.network(),
        certificate.height,
        certificate.round,
        Some(&certificate.value),
    );
    certificate.add(0, key(9).sign(&message));
    let seal = antiphon_ledger::seal::encode(antiphon_ledger::seal::signers(&all[2].seal), &certificate);
    let bad = SealedBatch { seal, ..all[2].clone() };
    let error = refuses(&follower, &bad, &all[2]);
    assert!(matches!(error, AppendError::Seal(SealError::Certificate(CertificateError::Signature(_)))));
}

/// The member itself cannot put in what breaks a rule: every peer looks for itself.
#[test]
fn the_member_is_bound_by_the_rules() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let artist = Artist::new(1, ledger.genesis());
    extend(&ledger, &[artist.song_registration(1)]).unwrap();
    let (good, proposal) = sealed(&ledger, common::START_MS, &[artist.song_registration(2)]);
    let try_changed = |change: &dyn Fn(&mut Block)| {
        let mut block = Block::parse(&good.blocks[0]).unwrap();
        change(&mut block);
        let blocks = vec![block.to_bytes()];
        let root = root_with(&ledger, &blocks);
        let end = Position {
            size: 2,
            link: BlockHash::of(&blocks[0]),
            height: block.height,
            time_ms: block.time_ms,
        };
        let seal = sealer(ledger.genesis()).seal(&Proposal { end, root, ..proposal.clone() });
        match ledger.append(&SealedBatch { first: 1, blocks, seal }) {
            Err(AppendError::Disagrees { index: 1, refusal }) => refusal,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(try_changed(&|block| block.index = 2), Refusal::Index { expected: 1, got: 2 }));
    assert!(matches!(try_changed(&|block| block.prev[0] ^= 1), Refusal::Link { .. }));
    assert!(matches!(try_changed(&|block| block.height = 3), Refusal::Height { expected: 2, got: 3 }));
    assert!(matches!(try_changed(&|block| block.time_ms -= 1), Refusal::Time { .. }));
    assert!(matches!(try_changed(&|block| block.version = 2), Refusal::Invalid(_)));
    let song = |n, change: &dyn Fn(&mut antiphon_proto::wire::Song)| {
        let mut song = artist.song(n);
        change(&mut song);
        move |block: &mut Block| block.body = Some(antiphon_proto::wire::block::Body::Song(song.clone()))
    };
    assert!(matches!(try_changed(&song(1, &|_| ())), Refusal::Duplicate { index: 0, .. }));
    assert!(matches!(try_changed(&song(2, &|song| song.title.push('!'))), Refusal::Invalid(_)));
    assert!(matches!(try_changed(&song(2, &|song| song.signature[5] ^= 1)), Refusal::Invalid(_)));
    ledger.append(&good).unwrap();
    ledger.verify(false, &mut |_| {}).unwrap();
}

fn root_with(ledger: &Ledger, blocks: &[Vec<u8>]) -> antiphon_proto::RootHash {
    let mut tree = antiphon_ledger::tree::Frontier::new();
    for index in 0..ledger.size() {
        tree.append(&ledger.block(index).unwrap().unwrap());
    }
    for block in blocks {
        tree.append(block);
    }
    tree.root()
}

#[test]
fn too_many_blocks_are_refused_before_anything_else() {
    let (_dir, follower, all) = follower();
    let mut many = all[2].clone();
    many.blocks = vec![vec![0; 10]; antiphon_proto::limits::BATCH_BLOCKS + 1];
    let error = refuses(&follower, &many, &all[2]);
    assert!(matches!(error, AppendError::Refused { refusal: Refusal::BatchFull, .. }));
    assert!(error.is_invalid_batch());
    let mut large = all[3].clone();
    large.blocks[0] = vec![0; antiphon_proto::limits::BATCH_BYTES + 1];
    let error = refuses(&follower, &large, &all[3]);
    assert!(matches!(error, AppendError::Refused { refusal: Refusal::BatchFull, .. }));
}

#[test]
fn the_genesis_document_is_kept_and_compared() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Ledger::open(&dir.path().join("x"), Options::without_rule(None));
    assert!(matches!(missing, Err(antiphon_ledger::OpenError::NotFound { .. })));
    assert!(!dir.path().join("x").exists());
    drop(open(dir.path()));
    let stored = Ledger::open(dir.path(), Options::without_rule(None)).unwrap();
    assert_eq!(stored.genesis(), &genesis());
    drop(stored);
    let other = common::genesis_of(key(3).public(), 64);
    let wrong = Ledger::open(dir.path(), Options::without_rule(Some(other.clone())));
    match wrong {
        Err(antiphon_ledger::OpenError::OtherNetwork { stored, given, .. }) => {
            assert_eq!((stored, given), (genesis().network_id(), other.network_id()));
        }
        other => panic!("{other:?}"),
    }
}
