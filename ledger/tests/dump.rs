//! Dumps: whole, continued, interrupted, damaged, forged, and loaded again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use antiphon_ledger::{
    CheckpointError, Ledger, Progress, Proposal, SealedBatch,
    dump::{self, DirSource, DumpError, DumpSource, Report, VerifyOptions, Written},
    seal::{self, Sealed},
};
use antiphon_proto::{
    RootHash, SecretKey,
    certificate::Certificate,
    council::vote_message,
    note,
    note::Checkpoint,
    wire::{Council, CouncilAct, Registration, VoteKind, registration::Body},
};
use common::{
    Artist, START_MS, key,
    logs::{cosigned, grow, network, open, sign},
    member,
};
use tempfile::TempDir;

fn silent(_: Progress) {}

/// A ledger of batches of 150 blocks, with a checkpoint over all of them.
fn ledger(size: u64) -> (TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    extend_to(&ledger, size);
    (dir, ledger)
}

fn extend_to(ledger: &Ledger, size: u64) {
    grow(ledger, size, 150);
    ledger.put_checkpoint(&cosigned(ledger, size, &[member()]), &[member().public()]).unwrap();
}

fn write(ledger: &Ledger, dir: &Path) -> Written {
    dump::write(ledger, dir, 0, &mut silent).unwrap()
}

fn verify(dir: &Path) -> Result<Report, DumpError> {
    let options = VerifyOptions { network: Some(network().network_id()), ..VerifyOptions::default() };
    dump::verify(&mut DirSource::new(dir), &options, &mut silent)
}

fn replay(dir: &Path) -> Result<Report, DumpError> {
    let scratch = tempfile::tempdir().unwrap();
    let ledger = open(scratch.path());
    let options = VerifyOptions { replay: Some(&ledger), ..VerifyOptions::default() };
    dump::verify(&mut DirSource::new(dir), &options, &mut silent)
}

/// Every file of a directory by its path.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut out = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                out.insert(path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    out
}

#[test]
fn a_dump_holds_what_the_ledger_does() {
    let (_dir, ledger) = ledger(700);
    let out = tempfile::tempdir().unwrap();
    let written = write(&ledger, out.path());
    assert_eq!((written.manifest.size, written.manifest.root), (700, ledger.root().to_string()));
    assert_eq!(written.manifest.files, files(out.path()).len() as u64);
    assert_eq!(written.files, written.manifest.files);
    let report = verify(out.path()).unwrap();
    assert_eq!((report.first, report.size, report.root, report.head), (0, 700, ledger.root(), ledger.head()));
    assert_eq!((report.songs, report.variants, report.bytes), (700, 0, ledger.info().bytes));
    assert_eq!((report.batches, report.state), (5, None));
    assert_eq!(report.cosigners, [member().public()]);
    let state = ledger.state_digest(700, &mut silent).unwrap();
    assert_eq!(replay(out.path()).unwrap(), Report { state, ..report });
    // Nothing is written twice.
    assert_eq!(write(&ledger, out.path()).files, 2);
}

#[test]
fn a_continued_dump_is_the_one_made_at_once() {
    let (_dir, ledger) = ledger(100);
    let out = tempfile::tempdir().unwrap();
    for size in [100, 200, 256, 511, 600, 1_024, 1_100] {
        extend_to(&ledger, size);
        let written = write(&ledger, out.path());
        assert_eq!(verify(out.path()).unwrap().size, size);
        let fresh = tempfile::tempdir().unwrap();
        assert_eq!(write(&ledger, fresh.path()).manifest, written.manifest);
        let (all, expected) = (files(out.path()), files(fresh.path()));
        for (path, bytes) in &expected {
            assert_eq!(all.get(path), Some(bytes), "{}", path.display());
        }
        // What is left over are partial tiles whose full tile is not there yet: older checkpoints need them.
        for path in all.keys().filter(|path| !expected.contains_key(*path)) {
            let partial = path.parent().unwrap();
            assert_eq!(partial.extension().unwrap(), "p");
            assert!(!all.contains_key(&partial.with_extension("")), "{}", path.display());
        }
    }
}

#[test]
fn an_interrupted_dump_is_the_old_one_and_goes_on() {
    let (_dir, ledger) = ledger(300);
    let reference = tempfile::tempdir().unwrap();
    for stop in 1..=8 {
        let (_dir, ledger) = (TempDir::new().unwrap(), &ledger);
        let out = tempfile::tempdir().unwrap();
        if ledger.size() == 300 {
            write(ledger, reference.path());
            extend_to(ledger, 2_000);
        }
        for (path, bytes) in files(reference.path()) {
            fs::create_dir_all(out.path().join(&path).parent().unwrap()).unwrap();
            fs::write(out.path().join(path), bytes).unwrap();
        }
        let mut calls = 0;
        let mut stopping = |_: Progress| {
            calls += 1;
            assert!(calls < stop, "stopped on purpose");
        };
        let stopped =
            catch_unwind(AssertUnwindSafe(|| dump::write(ledger, out.path(), 0, &mut stopping).map(drop)));
        assert!(stopped.is_err() || stop > 7);
        assert_eq!(verify(out.path()).unwrap().size, if stopped.is_err() { 300 } else { 2_000 });
        // A crash may have left the beginning of a file, beside its name or, after a power cut, under it.
        fs::write(out.path().join("tile/entries/002.tmp"), b"beginning").unwrap();
        if stopped.is_err() {
            fs::create_dir_all(out.path().join("tile/entries")).unwrap();
            fs::write(out.path().join("tile/entries/003"), b"beginning").unwrap();
        }
        write(ledger, out.path());
        assert_eq!(verify(out.path()).unwrap().size, 2_000);
        assert!(!out.path().join("tile/entries/001.p").exists());
    }
}

#[test]
fn a_checkpoint_without_its_manifest_is_no_contradiction() {
    let (_dir, ledger) = ledger(300);
    let out = tempfile::tempdir().unwrap();
    write(&ledger, out.path());
    let manifest = fs::read(out.path().join("manifest.json")).unwrap();
    extend_to(&ledger, 700);
    write(&ledger, out.path());
    let newer = fs::read(out.path().join("manifest.json")).unwrap();
    fs::write(out.path().join("manifest.json"), manifest).unwrap();
    assert_eq!(verify(out.path()).unwrap().size, 700);
    fs::write(out.path().join("manifest.json"), newer).unwrap();
    fs::write(out.path().join("checkpoint"), cosigned(&ledger, 300, &[member()])).unwrap();
    assert!(matches!(verify(out.path()), Err(DumpError::Manifest(_))));
}

#[test]
fn a_dump_may_begin_later() {
    let (_dir, ledger) = ledger(1_100);
    let out = tempfile::tempdir().unwrap();
    let written = dump::write(&ledger, out.path(), 512, &mut silent).unwrap();
    assert_eq!((written.manifest.first, written.manifest.files), (512, files(out.path()).len() as u64));
    let report = verify(out.path()).unwrap();
    assert_eq!((report.first, report.size, report.root), (512, 1_100, ledger.root()));
    // The first whole batch begins at 600.
    assert_eq!((report.songs, report.batches, report.head), (588, 4, ledger.head()));
    // Continued, it begins where it did.
    extend_to(&ledger, 1_400);
    dump::write(&ledger, out.path(), 512, &mut silent).unwrap();
    assert_eq!(verify(out.path()).unwrap().size, 1_400);
    let other = dump::write(&ledger, out.path(), 0, &mut silent);
    assert!(matches!(other, Err(DumpError::Occupied(_))));
    // A changed hash of what is not in the dump is noticed by the root.
    flip(&out.path().join("tile/1/000.p/5"), 3);
    assert!(matches!(verify(out.path()), Err(DumpError::Root { .. } | DumpError::Bad { .. })));

    let (_dir, short) = self::ledger(300);
    let begin = |from| dump::write(&short, &out.path().join("x"), from, &mut silent);
    assert!(matches!(begin(100), Err(DumpError::Start { .. })));
    assert!(matches!(begin(512), Err(DumpError::Start { .. })));
    let scratch = tempfile::tempdir().unwrap();
    let refused = load(out.path(), &open(scratch.path()));
    assert!(matches!(refused, Err(DumpError::Bad { index: 0, .. })));
}

#[test]
fn nothing_of_somebody_elses_is_overwritten() {
    let (_keep, ledger) = ledger(150);
    let out = tempfile::tempdir().unwrap();
    for (name, text) in [("README.md", "mine"), ("song.ogg", "music")] {
        let file = out.path().join(name);
        fs::write(&file, text).unwrap();
        let refused = dump::write(&ledger, out.path(), 0, &mut silent);
        assert!(matches!(refused, Err(DumpError::Occupied(_))), "{name}");
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        fs::remove_file(file).unwrap();
    }
    write(&ledger, out.path());
}

#[test]
fn there_is_nothing_to_dump_without_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    grow(&ledger, 10, 10);
    let out = tempfile::tempdir().unwrap();
    let try_write = || dump::write(&ledger, out.path(), 0, &mut silent);
    assert!(matches!(try_write(), Err(DumpError::NoCheckpoint)));
    // One inside a batch covers blocks that no seal does.
    ledger.put_checkpoint(&cosigned(&ledger, 5, &[member()]), &[member().public()]).unwrap();
    assert!(matches!(try_write(), Err(DumpError::Bad { .. })));
    let origin = note::origin(&ledger.network());
    let ahead = sign(&Checkpoint { origin, size: 20, root: RootHash([1; 32]) }, &[member()]);
    ledger.put_checkpoint(&ahead, &[member().public()]).unwrap();
    assert!(matches!(try_write(), Err(DumpError::Behind { size: 10, checkpoint: 20 })));
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// What is verified of a damaged copy.
struct Damaged {
    dir: PathBuf,
}

impl Damaged {
    fn with(&self, file: &str, change: impl FnOnce(&mut Vec<u8>)) -> DumpError {
        let path = self.dir.join(file);
        let good = fs::read(&path).unwrap();
        let mut bytes = good.clone();
        change(&mut bytes);
        assert_ne!(bytes, good);
        fs::write(&path, bytes).unwrap();
        let error = verify(&self.dir).expect_err(file);
        fs::write(&path, good).unwrap();
        error
    }

    fn expect(&self, file: &str, index: u64, change: impl FnOnce(&mut Vec<u8>)) {
        let error = self.with(file, change);
        assert_eq!(error.first_bad(), Some(index), "{error}");
        assert!(error.to_string().contains(file), "{error}");
    }
}

#[test]
fn damage_is_named_by_block_and_file() {
    let (_dir, ledger) = ledger(700);
    let out = tempfile::tempdir().unwrap();
    write(&ledger, out.path());
    let damaged = Damaged { dir: out.path().to_owned() };
    let lengths = |first: u64, count: u64| -> Vec<usize> {
        (first..first + count).map(|index| ledger.block(index).unwrap().unwrap().len() + 2).collect()
    };
    // One bit of a block, in a full bundle and in a partial one.
    for (file, first, count) in [("tile/entries/001", 256, 256), ("tile/entries/002.p/188", 512, 188)] {
        let lengths = lengths(first, count);
        for entry in [0usize, 1, 77, 187] {
            let start: usize = lengths[..entry].iter().sum();
            let index = first + entry as u64;
            for at in [2, lengths[entry] / 2, lengths[entry] - 1] {
                damaged.expect(file, index, |bytes| bytes[start + at] ^= 4);
            }
            // The block's length.
            damaged.expect(file, index, |bytes| bytes[start + 1] ^= 1);
            damaged.expect(file, index, |bytes| bytes.truncate(start));
            damaged.expect(file, index, |bytes| bytes.truncate(start + lengths[entry] - 1));
            // Two neighbours change places.
            if entry > 0 {
                let before = start - lengths[entry - 1];
                damaged.expect(file, index - 1, |bytes| {
                    bytes[before..start + lengths[entry]].rotate_left(lengths[entry - 1]);
                });
            }
        }
        damaged.expect(file, first + count, |bytes| bytes.push(0));
    }
    // One bit of a hash.
    for (file, first, each) in
        [("tile/0/001", 256, 1), ("tile/0/002.p/188", 512, 1), ("tile/1/000.p/2", 0, 256)]
    {
        for hash in [0usize, 1] {
            damaged.expect(file, first + each * hash as u64, |bytes| bytes[hash * 32 + 9] ^= 1);
        }
        damaged.expect(file, first, |bytes| bytes.truncate(bytes.len() - 32));
        damaged.expect(file, first, |bytes| bytes.extend([0; 32]));
    }
    // A seal of the batch 300..450, which ends in the second bundle behind that of 150..300.
    let seal = ledger.bundle_seals(1).unwrap()[0].1.len();
    damaged.expect("seals/001", 300, |bytes| bytes[12 + 12 + seal + 12 + 5] ^= 1);
    damaged.expect("seals/001", 150, |bytes| drop(bytes.drain(12..12 + 12 + seal)));
    damaged.expect("seals/001", 256, |bytes| bytes[2] ^= 1);
    damaged.expect("seals/002.p/188", 600, |bytes| bytes.truncate(12 + 12 + seal));
    // The head of the dump.
    let length = fs::read(out.path().join("checkpoint")).unwrap().len();
    for at in 0..length {
        damaged.with("checkpoint", |bytes| bytes[at] ^= 1);
    }
    for at in 0..fs::read(out.path().join("genesis")).unwrap().len() {
        damaged.with("genesis", |bytes| bytes[at] ^= 1);
    }
    for field in ["network", "genesis_sha256", "first", "size", "root", "head", "version", "format"] {
        damaged.with("manifest.json", |bytes| {
            let text = String::from_utf8(bytes.clone()).unwrap();
            *bytes = text
                .replacen(&format!("\"{field}\": "), &format!("\"{field}\": 900, \"x\": "), 1)
                .into_bytes();
        });
    }
    assert!(verify(out.path()).is_ok());
}

#[test]
fn what_is_missing_is_named() {
    let (_dir, ledger) = ledger(700);
    let out = tempfile::tempdir().unwrap();
    write(&ledger, out.path());
    for (file, index) in [
        ("tile/entries/000", 0),
        ("tile/entries/002.p/188", 512),
        ("tile/0/001", 256),
        ("tile/0/002.p/188", 512),
        ("tile/1/000.p/2", 0),
        ("seals/001", 256),
        ("checkpoint", 0),
        ("genesis", 0),
        ("manifest.json", 0),
    ] {
        let (path, aside) = (out.path().join(file), out.path().join("aside"));
        fs::rename(&path, &aside).unwrap();
        let error = verify(out.path()).unwrap_err();
        assert!(
            matches!(&error, DumpError::Missing { file: f, index: i } if f == file && *i == index),
            "{error}"
        );
        fs::rename(&aside, &path).unwrap();
    }
    verify(out.path()).unwrap();
    // A file that was lost is written again.
    fs::remove_file(out.path().join("tile/entries/000")).unwrap();
    write(&ledger, out.path());
    verify(out.path()).unwrap();
}

/// A dump that is continued while somebody verifies it as it was.
struct Moving {
    dir: DirSource,
    ledger: Ledger,
    read: u32,
}

impl DumpSource for Moving {
    fn read(&mut self, path: &str, limit: usize) -> std::io::Result<Option<Vec<u8>>> {
        self.read += 1;
        if self.read == 5 {
            extend_to(&self.ledger, 1_100);
            write(&self.ledger, self.dir.path());
        }
        self.dir.read(path, limit)
    }
}

#[test]
fn a_dump_may_be_continued_while_it_is_read() {
    let (_dir, ledger) = ledger(700);
    let (out, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(&ledger, out.path());
    let mut moving = Moving { dir: DirSource::new(out.path()), ledger, read: 0 };
    let report = dump::verify(&mut moving, &VerifyOptions::default(), &mut silent).unwrap();
    assert_eq!((report.size, report.songs), (700, 700));
    assert!(!out.path().join("tile/entries/002.p").exists());
    let (_dir, ledger) = self::ledger(300);
    let again = tempfile::tempdir().unwrap();
    write(&ledger, again.path());
    let mut moving = Moving { dir: DirSource::new(again.path()), ledger, read: 0 };
    let follower = open(scratch.path());
    assert_eq!(dump::load(&mut moving, &follower, &mut silent).unwrap(), 300);
}

fn load(dir: &Path, ledger: &Ledger) -> Result<u64, DumpError> {
    dump::load(&mut DirSource::new(dir), ledger, &mut silent)
}

#[test]
fn a_dump_fills_a_ledger() {
    let (_dir, source) = ledger(700);
    let out = tempfile::tempdir().unwrap();
    write(&source, out.path());
    for prefix in [0, 150, 450, 700] {
        let dir = tempfile::tempdir().unwrap();
        let ledger = open(dir.path());
        grow(&ledger, prefix, 150);
        assert_eq!(load(out.path(), &ledger).unwrap(), 700 - prefix);
        assert_eq!((ledger.root(), ledger.head()), (source.root(), source.head()));
        assert_eq!(common::batches(&ledger), common::batches(&source));
        assert_eq!(ledger.checkpoint(), source.checkpoint());
        assert_eq!(
            ledger.state_digest(700, &mut silent).unwrap(),
            source.state_digest(700, &mut silent).unwrap()
        );
        assert_eq!(load(out.path(), &ledger).unwrap(), 0);
    }
    // Cut short, it goes on where it was.
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let file = out.path().join("tile/entries/001");
    let good = fs::read(&file).unwrap();
    flip(&file, 20_000);
    assert!(load(out.path(), &ledger).is_err());
    assert!(ledger.size() > 0 && ledger.size() < 512);
    fs::write(&file, good).unwrap();
    load(out.path(), &ledger).unwrap();
    assert_eq!(ledger.root(), source.root());
}

/// The seal of whoever is the whole council, whatever the genesis document says.
fn seal_alone(ledger: &Ledger, proposal: &Proposal, by: &SecretKey) -> Vec<u8> {
    let (network, height, council) = (ledger.network(), proposal.end.height, [by.public()]);
    let sealed = Sealed { council: &council, position: &proposal.end, root: proposal.root };
    let signers: &[u8] = if height > 1 { &[1] } else { &[] };
    let value = sealed.header(&network, signers).digest();
    let mut certificate = Certificate::new(height, 0, value, 1);
    certificate.add(0, by.sign(&vote_message(VoteKind::Precommit, &network, height, 0, Some(&value))));
    seal::encode(signers, &certificate)
}

/// A dump may outlive the council of its genesis document: who has to cosign its checkpoint follows from its blocks.
#[test]
fn a_dump_of_a_council_that_has_changed() {
    let (dir, scratch, out) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ledger, heir) = (open(dir.path()), key(9));
    let act = CouncilAct::change_member(Some(heir.public()), Some(member().public()), 100, [1; 16]);
    let votes = vec![act.vote(&ledger.network(), &member())];
    let change = Registration { body: Some(Body::Council(Council { act: Some(act), votes })) };
    let artist = Artist::new(1, ledger.genesis());
    // Decided at height 1, it takes effect at height 3.
    let old = member();
    for (registration, by) in
        [(change, &old), (artist.song_registration(1), &old), (artist.song_registration(2), &heir)]
    {
        let proposal = ledger.propose(START_MS, &[registration]).unwrap();
        let seal = seal_alone(&ledger, &proposal, by);
        ledger.append(&SealedBatch { first: proposal.first, blocks: proposal.blocks, seal }).unwrap();
    }
    ledger.put_checkpoint(&cosigned(&ledger, 3, std::slice::from_ref(&heir)), &[heir.public()]).unwrap();
    write(&ledger, out.path());
    assert_eq!(verify(out.path()).unwrap().cosigners, [heir.public()]);
    let loaded = open(scratch.path());
    assert_eq!(load(out.path(), &loaded).unwrap(), 3);
    assert_eq!((loaded.root(), loaded.checkpoint()), (ledger.root(), ledger.checkpoint()));
    // The old council's word counts for nothing any more.
    fs::write(out.path().join("checkpoint"), cosigned(&ledger, 3, &[member()])).unwrap();
    assert!(matches!(verify(out.path()), Err(DumpError::Checkpoint(_))));
    assert!(matches!(load(out.path(), &loaded), Err(DumpError::Put(CheckpointError::Note(_)))));
}

#[test]
fn another_network_is_told_apart() {
    let (_dir, ledger) = ledger(20);
    let out = tempfile::tempdir().unwrap();
    write(&ledger, out.path());
    let expected = antiphon_proto::NetworkId([1; 32]);
    let options = VerifyOptions { network: Some(expected), ..VerifyOptions::default() };
    let refused = dump::verify(&mut DirSource::new(out.path()), &options, &mut silent);
    assert!(matches!(refused, Err(DumpError::OtherNetwork { .. })));
    let other = tempfile::tempdir().unwrap();
    let other = common::open(other.path());
    assert!(matches!(load(out.path(), &other), Err(DumpError::OtherNetwork { .. })));
}
