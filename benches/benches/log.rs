//! What proofs, tiles and dumps cost; the verification of a dump beside reading and hashing the same bytes.
//!
//! `cargo bench -p antiphon-benches --bench log -- [BLOCKS [DIRECTORY]]`
//!
//! The yardstick of the verification reads the same bundles in the same run and takes SHA-256 of every block: no
//! verifier can do with less.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that prints what it measured")]

use std::{
    hint::black_box,
    path::{Path, PathBuf},
    time::Instant,
};

use antiphon_benches::median;
use antiphon_benches::{NOW_MS, song};
use antiphon_ledger::{
    Ledger, Options, SealedBatch,
    dump::{self, DirSource, DumpSource as _, VerifyOptions},
    log::{
        blockproof::BlockProof,
        proof::verify_inclusion,
        tile::{BUNDLE_BYTES, Tile, entries_up_to},
    },
    seal::Sealer,
    tree::leaf_hash,
};
use antiphon_proto::{
    PublicKey, SecretKey,
    note::{self, Checkpoint, CosignedCheckpoint},
    wire::{Genesis, Registration},
};

const BATCH: u64 = 256;
const ROUNDS: usize = 5;

/// A ledger of at least `blocks` songs, with a checkpoint by four members over all of it.
fn ledger(dir: &Path, blocks: u64, members: &[SecretKey]) -> Ledger {
    let genesis = Genesis {
        stamp_bits: 0,
        batch_quota: u32::MAX,
        ..Genesis::new("bench", NOW_MS, [0; 16], &[members[0].public()])
    };
    let sealer = Sealer::new(&genesis, SecretKey::from_seed(&members[0].seed())).unwrap();
    let ledger = Ledger::open(dir, Options::without_rule(Some(genesis.clone()))).unwrap();
    while ledger.size() < blocks {
        let songs = (ledger.size()..ledger.size() + BATCH).map(|n| song(n, &genesis, &members[0]));
        let registrations: Vec<_> = songs.map(Registration::of_song).collect();
        let proposal = ledger.propose(NOW_MS, &registrations).unwrap();
        let seal = sealer.seal(&proposal);
        ledger.append(&SealedBatch { first: proposal.first, blocks: proposal.blocks, seal }).unwrap();
    }
    let origin = note::origin(&ledger.network());
    let checkpoint = Checkpoint { origin, size: ledger.size(), root: ledger.root() };
    let mut cosigned = CosignedCheckpoint::new(checkpoint.clone());
    cosigned.log_signatures = vec![(members[0].public(), checkpoint.log_signature(&members[0]))];
    cosigned.cosignatures = members.iter().map(|member| checkpoint.cosign(member, NOW_MS / 1000)).collect();
    let keys: Vec<PublicKey> = members.iter().map(SecretKey::public).collect();
    ledger.put_checkpoint(cosigned.encode().as_bytes(), &keys).unwrap();
    ledger
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// Reads every bundle of a dump and hashes every block in it. Returns the bytes.
fn read_and_hash(dir: &Path, size: u64) -> usize {
    let mut source = DirSource::new(dir);
    let mut total = 0;
    for tile in Tile::of_entries(size, 0) {
        let bytes = source.read(&tile.path(), BUNDLE_BYTES).unwrap().unwrap();
        for entry in entries_up_to(&bytes, tile.width).0 {
            black_box(leaf_hash(entry));
        }
        total += bytes.len();
    }
    total
}

fn micros(name: &str, times: u32, mut work: impl FnMut(u64)) {
    let all: Vec<f64> = (0..times).map(|n| seconds(|| work(n.into())) * 1e6).collect();
    println!("| {name} | {:.1} |", median(&all));
}

fn proofs_and_tiles(ledger: &Ledger, members: &[SecretKey]) {
    let size = ledger.size();
    let keys: Vec<PublicKey> = members.iter().map(SecretKey::public).collect();
    let origin = note::origin(&ledger.network());
    let spread = |n: u64| (n * 48_271 + 7) % size;
    println!("\n| once | us, median |\n|---|---|");
    micros("inclusion proof made, anywhere", 500, |n| drop(ledger.inclusion_proof(spread(n), size).unwrap()));
    micros("inclusion proof made, tile in memory", 500, |n| {
        drop(ledger.inclusion_proof(size - 1 - n % 200, size).unwrap());
    });
    micros("consistency proof made", 500, |n| drop(ledger.consistency_proof(spread(n) + 1, size).unwrap()));
    let proof = ledger.block_proof(size / 3).unwrap().unwrap();
    let checkpoint = CosignedCheckpoint::open(&proof.checkpoint, &origin, &keys).unwrap().checkpoint;
    micros("inclusion proof checked, leaf hash included", 2_000, |_| {
        let leaf = leaf_hash(&proof.block);
        verify_inclusion(&leaf, proof.index, size, &proof.hashes, &checkpoint.root).unwrap();
    });
    micros("block checked under a checkpoint that is known", 2_000, |_| {
        black_box(proof.verify_under(&checkpoint).unwrap());
    });
    let (member, signed) = (&members[0], checkpoint.log_signature(&members[0]));
    let (key, text) = (member.public(), checkpoint.text());
    micros("one Ed25519 signature checked", 500, |_| assert!(key.verifies(text.as_bytes(), &signed)));
    micros("checkpoint checked: 4 members and the log, 5 signatures", 500, |_| {
        CosignedCheckpoint::open(&proof.checkpoint, &origin, &keys).unwrap().check(&keys).unwrap();
    });
    let text = proof.encode();
    println!("| (a proof of one block: {} bytes as text, {} hashes) | |", text.len(), proof.hashes.len());
    micros("proof of a block read and checked, all of it", 500, |_| {
        black_box(BlockProof::parse(&text).unwrap().verify(&origin, &keys).unwrap());
    });
    let tiles = size / BATCH;
    micros("tile of leaf hashes served, from the blocks", 300, |n| {
        drop(ledger.tile(0, (n * 31) % tiles, 256).unwrap());
    });
    micros("tile of leaf hashes served, from memory", 300, |_| drop(ledger.tile(0, 1, 256).unwrap()));
    let upper = u16::try_from(tiles.min(256)).unwrap();
    micros("tile of level 1 served", 300, |_| drop(ledger.tile(1, 0, upper).unwrap()));
    micros("bundle of 256 blocks served", 300, |n| drop(ledger.bundle((n * 31) % tiles, 256).unwrap()));
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let blocks: u64 = args.next().map_or(20_480, |text| text.parse().unwrap());
    let base = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let scratch = tempfile::tempdir_in(base).unwrap();
    let members: Vec<SecretKey> = (1..=4).map(|n| SecretKey::from_seed(&[n; 32])).collect();
    let ledger = ledger(&scratch.path().join("ledger"), blocks, &members);
    let size = ledger.size();
    let extend = seconds(|| drop(ledger.tile(1, 0, 1).unwrap()));
    println!("{size} blocks; derived hashes made in {extend:.2} s");

    let dir = scratch.path().join("dump");
    let written = seconds(|| drop(dump::write(&ledger, &dir, 0, &mut |_| {}).unwrap()));
    let again = seconds(|| drop(dump::write(&ledger, &dir, 0, &mut |_| {}).unwrap()));
    let (mut plain, mut verified, mut bytes) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        plain.push(seconds(|| bytes = read_and_hash(&dir, size)));
        let options = VerifyOptions::default();
        verified.push(seconds(|| {
            dump::verify(&mut DirSource::new(&dir), &options, &mut |_| {}).unwrap();
        }));
    }
    let rate = |seconds: f64| bytes as f64 / 1e6 / seconds;
    println!("\n| dump of {:.0} MB | MB/s | of the yardstick |\n|---|---|---|", bytes as f64 / 1e6);
    println!("| read and hashed (the yardstick) | {:.0} | 1.00 |", rate(median(&plain)));
    let ratio = median(&plain) / median(&verified);
    println!("| verified | {:.0} | {ratio:.2} |", rate(median(&verified)));
    println!("| written | {:.0} | |\n\nwritten again: {:.0} ms", rate(written), again * 1e3);
    proofs_and_tiles(&ledger, &members);
}
