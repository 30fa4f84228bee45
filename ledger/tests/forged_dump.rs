//! Dumps whose files agree with one another and are sealed and cosigned, but hold what no ledger may hold.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod common;

use std::{fs, path::Path};

use antiphon_ledger::{
    AppendError, Ledger, Progress, Proposal, Refusal,
    dump::{self, Council, DirSource, DumpError, GenesisCouncil, Report, SealedAt, VerifyOptions, seals},
    log::tile::{Tile, push_entry},
    state::Position,
    tree::{Frontier, leaf_hash},
};
use antiphon_proto::{
    BlockHash, PublicKey,
    note::{self, Checkpoint},
    wire::Block,
};
use common::{
    Artist, START_MS,
    logs::{cosigned, network, open, sign},
    member, sealer,
};
use tempfile::TempDir;

fn silent(_: Progress) {}

/// A good dump of three batches of three blocks, and those blocks.
fn good() -> (TempDir, Vec<Vec<Block>>) {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ledger = open(dir.path());
    let artist = Artist::new(1, &network());
    for batch in 0..3u64 {
        let songs: Vec<_> = (0..3).map(|n| artist.song_registration(batch * 3 + n)).collect();
        common::extend(&ledger, &songs).unwrap();
    }
    ledger.put_checkpoint(&cosigned(&ledger, 9, &[member()]), &[member().public()]).unwrap();
    dump::write(&ledger, out.path(), 0, &mut silent).unwrap();
    let parse = |bytes: &Vec<u8>| Block::parse(bytes).unwrap();
    let batches =
        common::batches(&ledger).iter().map(|batch| batch.blocks.iter().map(parse).collect()).collect();
    (out, batches)
}

/// Links the blocks behind a change anew, each to the one before.
fn relink(batches: &mut [Vec<Block>]) {
    let mut link = BlockHash(network().network_id().0);
    for block in batches.iter_mut().flatten() {
        block.prev = link.0.to_vec();
        link = BlockHash::of(&block.to_bytes());
    }
}

/// Writes a dump of fewer than 256 blocks as the network's only member would if it lied. `sealed` tells which batches
/// get a seal.
fn forge(dir: &Path, batches: &[Vec<Block>], sealed: impl Fn(usize) -> bool) {
    let (mut tree, mut all, mut entries, mut leaves) = (Frontier::new(), Vec::new(), Vec::new(), Vec::new());
    for (number, batch) in batches.iter().enumerate() {
        for block in batch {
            let bytes = block.to_bytes();
            push_entry(&mut entries, &bytes).unwrap();
            leaves.extend(leaf_hash(&bytes));
            tree.append(&bytes);
        }
        if sealed(number) {
            let last = batch.last().unwrap();
            let end = Position {
                size: tree.size(),
                link: BlockHash::of(&last.to_bytes()),
                height: last.height,
                time_ms: last.time_ms,
            };
            let root = tree.root();
            let proposal =
                Proposal { first: 0, blocks: vec![], receipts: vec![], verdicts: vec![], end, root };
            all.push((tree.size(), sealer(&network()).seal(&proposal)));
        }
    }
    let (size, root) = (tree.size(), tree.root());
    let width = u16::try_from(size).unwrap();
    fs::write(dir.join(Tile::entries(0, width).path()), entries).unwrap();
    fs::write(dir.join(Tile::hashes(0, 0, width).path()), leaves).unwrap();
    fs::write(dir.join(dump::seals_path(0, width)), seals::encode(&all)).unwrap();
    let origin = note::origin(&network().network_id());
    fs::write(dir.join("checkpoint"), sign(&Checkpoint { origin, size, root }, &[member()])).unwrap();
    let last = batches.last().unwrap().last().unwrap().to_bytes();
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.join("manifest.json")).unwrap()).unwrap();
    manifest["root"] = root.to_string().into();
    manifest["head"] = BlockHash::of(&last).to_string().into();
    fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
}

fn verify(dir: &Path, replay: Option<&Ledger>) -> Result<Report, DumpError> {
    let options = VerifyOptions { replay, ..VerifyOptions::default() };
    dump::verify(&mut DirSource::new(dir), &options, &mut silent)
}

/// What is found in a dump with this change.
fn changed(change: impl FnOnce(&mut Vec<Vec<Block>>)) -> DumpError {
    let (dir, mut batches) = good();
    change(&mut batches);
    forge(dir.path(), &batches, |_| true);
    verify(dir.path(), None).unwrap_err()
}

#[test]
fn the_forger_can_make_a_good_dump() {
    let (dir, mut batches) = good();
    relink(&mut batches);
    forge(dir.path(), &batches, |_| true);
    verify(dir.path(), None).unwrap();
}

#[test]
fn the_chain_holds_without_any_signature() {
    let bad = |error: DumpError, index: u64, what: &str| {
        assert_eq!(error.first_bad(), Some(index), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    };
    bad(changed(|batches| batches[1][1].prev[0] ^= 1), 4, "does not link");
    // A good link to what stands before, but the block says that it is another.
    let index = changed(|batches| {
        batches[1][1].index = 6;
        relink(batches);
    });
    bad(index, 4, "block 6");
    // Of two heights without a seal between them, the seal is what is missing.
    bad(changed(|batches| (batches[1][1].height = 3, relink(batches)).1), 3, "no seal");
    for (block, height) in [(0, 1), (0, 3), (1, 1), (1, 4)] {
        let error = changed(|batches| {
            batches[1][block].height = height;
            relink(batches);
        });
        bad(error, 3 + block as u64, "height");
    }
    for (block, time_ms) in [(0, START_MS - 1), (1, START_MS + 1)] {
        let error = changed(|batches| {
            batches[1][block].time_ms = time_ms;
            relink(batches);
        });
        bad(error, 3 + block as u64, "time");
    }
    let title = changed(|batches| {
        let Some(antiphon_proto::wire::block::Body::Song(song)) = &mut batches[2][0].body else { panic!() };
        song.title = "x".repeat(300);
        relink(batches);
    });
    bad(title, 6, "title");
    // Two blocks change places, with everything above them made to fit.
    bad(changed(|batches| batches[1].swap(0, 1)), 3, "block 4");
}

#[test]
fn every_batch_needs_its_seal() {
    let (dir, batches) = good();
    forge(dir.path(), &batches, |number| number != 1);
    // The blocks of two heights cannot be one batch.
    assert_eq!(verify(dir.path(), None).unwrap_err().first_bad(), Some(3));
    forge(dir.path(), &batches, |number| number != 2);
    let error = verify(dir.path(), None).unwrap_err();
    assert!(matches!(&error, DumpError::Bad { index: 6, .. }), "{error}");
    assert!(error.to_string().contains("no seal"), "{error}");
}

#[test]
fn the_replay_finds_what_breaks_a_rule() {
    let (dir, mut batches) = good();
    // The same file twice, which is well formed, signed, sealed and cosigned.
    batches[2][1].body = batches[0][0].body.clone();
    relink(&mut batches);
    forge(dir.path(), &batches, |_| true);
    verify(dir.path(), None).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let error = verify(dir.path(), Some(&open(scratch.path()))).unwrap_err();
    assert_eq!(error.first_bad(), Some(7), "{error}");
    let duplicate = matches!(
        error,
        DumpError::Append(AppendError::Disagrees { refusal: Refusal::Duplicate { index: 0, .. }, .. })
    );
    assert!(duplicate);

    let (dir, mut batches) = good();
    let Some(antiphon_proto::wire::block::Body::Song(song)) = &mut batches[1][2].body else { panic!() };
    song.signature[5] ^= 1;
    relink(&mut batches);
    forge(dir.path(), &batches, |_| true);
    let scratch = tempfile::tempdir().unwrap();
    let error = verify(dir.path(), Some(&open(scratch.path()))).unwrap_err();
    assert_eq!(error.first_bad(), Some(5), "{error}");
}

/// Whoever follows the council by the blocks knows its members late, and sees every seal.
struct Late {
    inner: GenesisCouncil,
    sealed: u64,
}

impl Council for Late {
    fn members_at(&mut self, size: u64) -> Option<Vec<PublicKey>> {
        (self.sealed == size).then(|| self.inner.members_at(size))?
    }

    fn see(&mut self, block: &Block) {
        panic!("{} is a song", block.index);
    }

    fn check_seal(&mut self, batch: &SealedAt<'_>) -> Result<(), String> {
        self.sealed += 3;
        assert_eq!((batch.size, batch.first + 3, batch.height * 3), (self.sealed, self.sealed, self.sealed));
        self.inner.check_seal(batch)
    }
}

#[test]
fn a_council_may_be_known_late() {
    let (dir, _) = good();
    let options = VerifyOptions {
        council: Box::new(|genesis| {
            let inner = GenesisCouncil::new(genesis);
            Ok(Box::new(Late { inner, sealed: 0 }))
        }),
        ..VerifyOptions::default()
    };
    let report = dump::verify(&mut DirSource::new(dir.path()), &options, &mut silent).unwrap();
    assert_eq!(report.cosigners, [member().public()]);
}
