//! How fast receipts of plays are verified and settled.
//!
//! `cargo bench -p antiphon-benches --bench settle -- [RECEIPTS [DIRECTORY]]`
//!
//! On one core, in turns, round by round:
//! - bare: two strict Ed25519 verifications of each receipt's bytes and nothing else, the limit;
//! - verified: form and both signatures;
//! - settled: settlement, and the epoch applied, the state in memory;
//! - both: verified, then settled.
//!
//! Then members with ledgers on disk recompute an epoch of all receipts, in as many settlements as it takes, each
//! committed before the next: one that has never seen the receipts, and one that has taken all of them in.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that prints what it measured")]

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use antiphon_benches::{Cost, NOW_MS, Stopwatch, median, song, spread};
use antiphon_ledger::{
    Ledger, Options, Proposal, SealedBatch,
    bench::Town,
    council::{Chain as _, Court, Kept},
    seal::Sealer,
    tokens::NoEarlier,
};
use antiphon_proto::{
    NetworkId, SecretKey, canonical, economy, limits,
    wire::{Economy, Genesis, Receipt, ReceiptBody, Registration, Served, Song, Span, registration},
};
use ed25519_dalek::{Signature, VerifyingKey};

const LISTENERS: usize = 20_000;
const SONGS: u64 = 5_000;
const SERVERS: usize = 200;
/// Of the songs that [`song`] makes.
const HEARD_MS: u64 = 125_000;
/// Receipts in one round on one core.
const ROUND: usize = 256;
const ROUNDS: usize = 60;
/// Receipts that a member holds while they wait.
const AHEAD: usize = 4_096;
/// A settlement each minute instead of ten, so that many of them stay within the window.
const EPOCH_MS: u32 = 60_000;
/// When settlements begin.
const START_MS: u64 = NOW_MS + 12 * 3_600_000;

fn genesis(member: &SecretKey) -> Genesis {
    Genesis {
        stamp_bits: 0,
        batch_quota: u32::MAX,
        economy: Some(Economy { epoch_ms: EPOCH_MS, ..economy::DEFAULT }),
        ..Genesis::new("bench", NOW_MS, [0; 16], &[member.public()])
    }
}

fn keys(kind: u8, count: usize) -> Vec<SecretKey> {
    let seed = |n: usize| *blake3::hash(&[&[kind][..], &n.to_le_bytes()].concat()).as_bytes();
    (0..count).map(|n| SecretKey::from_seed(&seed(n))).collect()
}

/// As many artists as a fifth of the songs.
fn songs(genesis: &Genesis, registrant: &SecretKey) -> Vec<Song> {
    let make = |number| {
        let mut song = song(number, genesis, registrant);
        song.artist = format!("Artist with a name {}", number % (SONGS / 5));
        song.sign(&genesis.network_id(), registrant);
        song
    };
    (0..SONGS).map(make).collect()
}

/// Plays of half a song, spread over listeners, songs and servers; one in four was served by two.
struct Plays {
    network: NetworkId,
    listeners: Vec<SecretKey>,
    servers: Vec<SecretKey>,
    songs: Vec<Vec<u8>>,
}

impl Plays {
    fn receipt(&self, number: usize) -> Receipt {
        let random = *blake3::hash(&number.to_le_bytes()).as_bytes();
        let pick = |at: usize, of: usize| {
            usize::try_from(u32::from_le_bytes(random[at..at + 4].try_into().unwrap())).unwrap() % of
        };
        let listener = &self.listeners[number % self.listeners.len()];
        let witness = &self.servers[pick(0, self.servers.len())];
        let second = &self.servers[pick(4, self.servers.len())];
        // Each listener hears one song after the other.
        let start_ms = START_MS - 8 * 3_600_000
            + (number / self.listeners.len()) as u64 * 10 * 60_000
            + pick(8, 60_000) as u64;
        let served = |key: &SecretKey, bytes| Served { key: key.public().0.to_vec(), bytes };
        let mut all = vec![served(witness, 20_000_000)];
        if number.is_multiple_of(4) && second.public() != witness.public() {
            all.push(served(second, 10_000_000));
        }
        let body = ReceiptBody {
            session: random[..16].to_vec(),
            song_id: self.songs[pick(12, self.songs.len())].clone(),
            listener: listener.public().0.to_vec(),
            witness: witness.public().0.to_vec(),
            start_ms,
            end_ms: start_ms + HEARD_MS,
            heard: vec![Span { start: 0, end: u32::try_from(HEARD_MS).unwrap() }],
            beats: 26,
            chain: random.to_vec(),
            served: all,
        };
        let message = body.to_sign(&self.network);
        Receipt::new(body, &listener.sign(&message), &witness.sign(&message))
    }
}

/// Seconds on the clock: a thread's processor time is told in steps of 4 ms on some systems, too coarse for a round.
fn cost(work: impl FnOnce()) -> f64 {
    let clock = Instant::now();
    work();
    clock.elapsed().as_secs_f64()
}

/// What bare verification needs of a receipt.
struct Bare {
    message: Vec<u8>,
    signed: [([u8; 32], [u8; 64]); 2],
}

fn bare(receipt: &Receipt, network: &NetworkId) -> Bare {
    let body = receipt.body().unwrap();
    let signature = |bytes: &[u8]| bytes.try_into().unwrap();
    Bare {
        message: body.to_sign(network),
        signed: [
            (body.listener_key().unwrap().0, signature(&receipt.listener_signature)),
            (body.witness_key().unwrap().0, signature(&receipt.witness_signature)),
        ],
    }
}

fn verify_bare(all: &[Bare]) {
    for one in all {
        for (key, signature) in &one.signed {
            let key = VerifyingKey::from_bytes(key).unwrap();
            key.verify_strict(&one.message, &Signature::from_bytes(signature)).unwrap();
        }
    }
}

fn verify(all: &[Receipt], network: &NetworkId) {
    for receipt in all {
        receipt.check_form().unwrap();
        receipt.check_proofs(network).unwrap();
    }
}

/// All of them, in one settlement or a few.
fn settle(town: &mut Town, time_ms: &mut u64, receipts: &[Receipt]) {
    let mut left = receipts.to_vec();
    while !left.is_empty() {
        *time_ms += u64::from(EPOCH_MS);
        let settlement = town.settle(*time_ms, &left, &NoEarlier).unwrap();
        town.apply(&settlement.epoch.unwrap(), *time_ms).unwrap();
        left = settlement.unsettled.iter().map(|(at, _)| left[*at].clone()).collect();
    }
}

fn one_core(genesis: &Genesis, songs: &[Song], receipts: &[Receipt]) {
    let network = genesis.network_id();
    let mut towns = [Town::new(genesis), Town::new(genesis)];
    for town in &mut towns {
        for song in songs {
            town.add_song(song.clone());
        }
    }
    let [alone, after] = &mut towns;
    let (mut alone_ms, mut after_ms) = (START_MS, START_MS);
    let mut times = [const { Vec::new() }; 4];
    for (number, round) in receipts.chunks_exact(ROUND).take(ROUNDS).enumerate() {
        let prepared: Vec<Bare> = round.iter().map(|receipt| bare(receipt, &network)).collect();
        // Another one begins each time.
        for way in (0..4).map(|way| (way + number) % 4) {
            times[way].push(cost(|| match way {
                0 => verify_bare(&prepared),
                1 => verify(round, &network),
                2 => settle(alone, &mut alone_ms, round),
                _ => {
                    verify(round, &network);
                    settle(after, &mut after_ms, round);
                }
            }));
        }
    }
    println!("| one core | receipts/s | microseconds each | of bare |\n|---|---|---|---|");
    for (name, column) in
        ["two bare verifications", "verified", "settled", "verified and settled"].iter().zip(&times)
    {
        let rates: Vec<f64> = column.iter().map(|seconds| ROUND as f64 / seconds).collect();
        let ratios: Vec<f64> = times[0].iter().zip(column).map(|(base, one)| base / one).collect();
        println!(
            "| {name} | {} | {:.1} | {} |",
            spread(&rates, 0),
            median(column) / ROUND as f64 * 1e6,
            spread(&ratios, 2)
        );
    }
}

/// A member with a ledger and receipts on disk.
struct Voter {
    ledger: Ledger,
    court: Court,
}

impl Voter {
    fn open(dir: &Path, genesis: &Genesis) -> Self {
        let ledger = Ledger::open(dir, Options::without_rule(Some(genesis.clone()))).unwrap();
        let court = Court::open(ledger.clone(), &dir.join("receipts")).unwrap();
        Self { ledger, court }
    }

    /// Takes a receipt in as it comes from a peer.
    fn keep(&mut self, wall_ms: u64, receipt: &Receipt) {
        let body = Some(registration::Body::Receipt(receipt.clone()));
        self.ledger.check(&Registration { body }).unwrap();
        assert!(matches!(self.court.keep(wall_ms, receipt).unwrap(), Kept::New));
    }
}

fn append(sealer: &Sealer, voters: &mut [Voter], proposal: Proposal) {
    let seal = sealer.seal(&proposal);
    let batch = SealedBatch { first: proposal.first, blocks: proposal.blocks, seal };
    voters.iter().for_each(|voter| drop(voter.ledger.append(&batch).unwrap()));
}

#[derive(Default)]
struct Costs(Vec<Cost>);

impl Costs {
    fn add<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let watch = Stopwatch::start();
        let done = work();
        self.0.push(watch.stop());
        done
    }

    fn print(&self, name: &str) {
        let seconds: Vec<f64> = self.0.iter().map(|cost| cost.seconds).collect();
        let processor: f64 = self.0.iter().map(|cost| cost.processor).sum();
        println!(
            "| {name} | {:.2} | {processor:.2} | {:.1} |",
            seconds.iter().sum::<f64>(),
            median(&seconds) * 1e3
        );
    }
}

fn epoch(dir: &Path, member: SecretKey, genesis: &Genesis, songs: &[Song], receipts: &[Receipt]) {
    let sealer = Sealer::new(genesis, member).unwrap();
    let mut voters = ["proposer", "cold", "warm"].map(|name| Voter::open(&dir.join(name), genesis));
    for some in songs.chunks(256) {
        let registrations: Vec<_> = some.iter().cloned().map(Registration::of_song).collect();
        let proposal = voters[0].ledger.propose(NOW_MS, &registrations).unwrap();
        assert_eq!(proposal.blocks.len(), some.len());
        append(&sealer, &mut voters, proposal);
    }
    let [proposer, cold, warm] = &mut voters;
    let mut costs: [Costs; 6] = Default::default();
    let (mut come, mut settled, mut settlements, mut time_ms) = (0, 0, 0, START_MS);
    let (mut bytes, mut late) = (0, 0);
    let clock = Instant::now();
    while settled < receipts.len() {
        let next = receipts.len().min(settled + AHEAD);
        let new = &receipts[come..next];
        come = next;
        new.iter().for_each(|receipt| proposer.keep(time_ms, receipt));
        costs[0].add(|| new.iter().for_each(|receipt| warm.keep(time_ms, receipt)));
        time_ms += u64::from(EPOCH_MS);
        let proposal = costs[1].add(|| proposer.court.propose(time_ms, &[]).unwrap());
        let Proposal { first, ref blocks, receipts: ref of, .. } = proposal;
        costs[2].add(|| cold.court.examine(first, blocks, of).unwrap().unwrap());
        costs[3].add(|| warm.court.examine(first, blocks, of).unwrap().unwrap());
        let batch = SealedBatch { first, blocks: blocks.clone(), seal: sealer.seal(&proposal) };
        proposer.court.commit(&batch, of).unwrap().unwrap();
        costs[4].add(|| cold.court.commit(&batch, of).unwrap().unwrap());
        costs[5].add(|| warm.court.commit(&batch, of).unwrap().unwrap());
        bytes += batch.blocks[0].len();
        late += usize::from(come - settled > of.len() && !cold.ledger.tokens().totals.epoch_full);
        settled += of.len();
        settlements += 1;
    }
    println!(
        "\n{settled} receipts in {settlements} settlements of {} and {} B on average (limits {} and {}), {:.0} s for all three \
         members; {late} left some out that would wait for the next epoch",
        settled / settlements,
        bytes / settlements,
        limits::EPOCH_RECEIPTS,
        limits::BLOCK_BYTES,
        clock.elapsed().as_secs_f64()
    );
    println!("state {:02x?}", &proposer.ledger.tokens().digest()[..8]);
    println!("| | s | CPU s | median of a settlement, ms |\n|---|---|---|---|");
    let names = ["take in", "propose", "recompute, cold", "recompute, warm", "commit, cold", "commit, warm"];
    names.iter().zip(&costs).for_each(|(name, costs)| costs.print(name));
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let count: usize = args.next().map_or(100_000, |text| text.parse().unwrap());
    let base = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let scratch = tempfile::tempdir_in(base).unwrap();
    let member = SecretKey::from_seed(&[1; 32]);
    let genesis = genesis(&member);
    let songs = songs(&genesis, &SecretKey::from_seed(&[2; 32]));
    let plays = Plays {
        network: genesis.network_id(),
        listeners: keys(1, LISTENERS),
        servers: keys(2, SERVERS),
        songs: songs.iter().map(|song| song.id().0.to_vec()).collect(),
    };
    let receipts: Vec<Receipt> = (0..count.max(ROUND)).map(|number| plays.receipt(number)).collect();
    let bytes: usize = receipts.iter().map(|receipt| canonical::encode(receipt).len()).sum();
    println!(
        "{} receipts of {} B by {LISTENERS} listeners, {SONGS} songs, {SERVERS} servers\n",
        receipts.len(),
        bytes / receipts.len()
    );
    one_core(&genesis, &songs, &receipts);
    epoch(scratch.path(), member, &genesis, &songs, &receipts);
}
