//! Receipts handed in at a member of the council, settled on disk, and what is left of it after a kill, without an index,
//! and in another ledger that is replayed from the blocks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod common;

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use antiphon_ledger::{
    Ledger, Options, Refusal, SealedBatch,
    council::{Chain as _, Council, Court, Kept},
    sequencer::{Answer, Sequencer as _},
    tokens::{NoEarlier, Unsettled},
};
use antiphon_proto::{
    SecretKey,
    economy::{DEFAULT, TOKEN},
    epoch::Escrow,
    wire::{
        Block, Economy, Genesis, Receipt, ReceiptBody, Registration, Served, Song, Span, Transfer, block,
        registration,
    },
};
use common::{Artist, SMALL, START_MS, batches, council_with, genesis, key, member, sealed};

/// Settled once in a second, of plays within the hour.
fn fast() -> Genesis {
    let economy = Economy { epoch_ms: 5_000, window_ms: 3_600_000, ..DEFAULT };
    Genesis { economy: Some(economy), ..genesis() }
}

fn open(dir: &Path) -> Ledger {
    Ledger::open_with(dir, Options::without_rule(Some(fast())), SMALL).unwrap()
}

/// A clock that the test turns.
#[derive(Clone)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(START_MS + 10_000_000)))
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn turn(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }

    fn council(&self, ledger: &Ledger, dir: &Path) -> Council {
        let hand = self.clone();
        council_with(ledger, dir, member(), Arc::new(move || hand.now()))
    }
}

fn play(listener: u8, witness: u8, song: &Song, end_ms: u64) -> Receipt {
    let (listener, witness): (SecretKey, SecretKey) = (key(listener), key(witness));
    let body = ReceiptBody {
        session: vec![9; 16],
        song_id: song.id().0.to_vec(),
        listener: listener.public().0.to_vec(),
        witness: witness.public().0.to_vec(),
        start_ms: end_ms - 100_000,
        end_ms,
        heard: vec![Span { start: 0, end: 100_000 }],
        beats: 20,
        chain: vec![1; 32],
        served: vec![Served { key: witness.public().0.to_vec(), bytes: 1_000 }],
    };
    let message = body.to_sign(&fast().network_id());
    Receipt::new(body, &listener.sign(&message), &witness.sign(&message))
}

fn registration(receipt: &Receipt) -> Registration {
    Registration { body: Some(registration::Body::Receipt(receipt.clone())) }
}

fn transfer(from: u8, to: u8, amount: u64, sequence: u64) -> Registration {
    let (genesis, from) = (fast(), key(from));
    let mut transfer = Transfer {
        from: from.public().0.to_vec(),
        to: key(to).public().0.to_vec(),
        amount,
        sequence,
        ..Transfer::default()
    };
    let network = genesis.network_id();
    transfer.stamp = transfer.stamp_challenge(&network).search(genesis.stamp_bits, 0, 1 << 30).unwrap();
    transfer.sign(&network, &from);
    Registration { body: Some(registration::Body::Transfer(transfer)) }
}

fn units(ledger: &Ledger, who: u8) -> u64 {
    ledger.account(&key(who).public()).unwrap().units
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited too long for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn accepted(answer: &Answer) -> bool {
    matches!(answer, Answer::Accepted { .. })
}

#[test]
fn what_was_kept_is_settled_once_whatever_happens() {
    let dir = tempfile::tempdir().unwrap();
    let hand = Hand::new();
    let ledger = open(dir.path());
    let solo = hand.council(&ledger, dir.path());
    let song = Artist::new(1, &fast()).song(1);
    assert!(accepted(&solo.submit(Registration::of_song(song.clone())).wait()));
    hand.turn(1_000_000);
    let end = hand.now();
    let (one, two) = (play(10, 50, &song, end), play(11, 50, &song, end - 5));
    // Before the epoch is over: it is kept, and that is all. The first settlement is due at once.
    assert_eq!(solo.submit(registration(&one)).wait(), Answer::Kept);
    wait_for("the first settlement", || ledger.tokens().totals.epoch == 1);
    assert_eq!(solo.submit(registration(&two)).wait(), Answer::Kept);
    // Handed in again after it was settled: the same answer as a registration that is there.
    assert!(accepted(&solo.submit(registration(&one)).wait()));
    assert_eq!((units(&ledger, 10), units(&ledger, 11), units(&ledger, 50)), (TOKEN, 0, TOKEN));
    // A kill: what was kept is on disk.
    solo.stop();
    drop(solo);
    drop(ledger);
    let ledger = open(dir.path());
    assert_eq!((units(&ledger, 10), units(&ledger, 11)), (TOKEN, 0));
    hand.turn(6_000);
    let solo = hand.council(&ledger, dir.path());
    wait_for("the second settlement", || ledger.tokens().totals.epoch == 2);
    assert_eq!((units(&ledger, 10), units(&ledger, 11), units(&ledger, 50)), (TOKEN, TOKEN, 2 * TOKEN));
    assert!(accepted(&solo.submit(registration(&two)).wait()));
    // What proves nothing is refused, each with a reason.
    let refused = |receipt: &Receipt| match solo.submit(registration(receipt)).wait() {
        Answer::Refused(refusal) => refusal.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(refused(&play(10, 51, &song, end + 50)).contains("another play at the same time"));
    assert!(refused(&play(12, 51, &song, hand.now() + 700_000)).contains("future"));
    assert!(refused(&play(12, 51, &song, hand.now() - 3_600_001)).contains("window"));
    let mut forged = play(12, 51, &song, hand.now());
    forged.listener_signature = play(13, 51, &song, hand.now()).listener_signature;
    assert!(refused(&forged).contains("signature"));
    // Units move, once.
    let sent = transfer(10, 60, TOKEN / 4, 1);
    let first = solo.submit(sent.clone()).wait();
    assert!(accepted(&first));
    assert_eq!(solo.submit(sent).wait(), first, "the very same record is the one that is there");
    assert!(matches!(
        solo.submit(transfer(10, 60, 5, 1)).wait(),
        Answer::Refused(Refusal::Sequence { expected: 2, .. })
    ));
    assert!(matches!(
        solo.submit(transfer(10, 60, TOKEN, 2)).wait(),
        Answer::Refused(Refusal::Balance { .. })
    ));
    assert_eq!((units(&ledger, 10), units(&ledger, 60)), (TOKEN * 3 / 4, TOKEN / 4));
    solo.stop();
    let tokens = ledger.tokens();
    assert_eq!(tokens.supply(), 6 * TOKEN);
    assert_eq!(ledger.escrow(&Escrow::Name("test".to_owned())).unwrap(), 2 * TOKEN);
    ledger.verify(false, &mut |_| {}).unwrap();
    drop(solo);
    ledger.close().unwrap();
    drop(ledger);
    // The index is derived: without it the state is made again from the blocks.
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    let ledger = open(dir.path());
    assert_eq!((ledger.tokens(), units(&ledger, 60)), (tokens, TOKEN / 4));
    // And by whoever follows, from the blocks alone.
    let other_dir = tempfile::tempdir().unwrap();
    let other = open(other_dir.path());
    for batch in batches(&ledger) {
        other.append(&batch).unwrap();
    }
    assert_eq!((other.tokens(), other.tokens().digest()), (tokens, tokens.digest()));
    let all = ledger.states(&[], None, 1_000).unwrap();
    assert_eq!(other.states(&[], None, 1_000).unwrap(), all);
    assert_eq!(all.len() as u64, tokens.totals.entries);
}

/// A member's view of a batch that another one proposes.
struct Judge {
    court: Court,
    _dir: tempfile::TempDir,
}

#[test]
fn a_settlement_is_held_against_its_receipts() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let artist = Artist::new(1, &fast());
    let (song, other) = (artist.song(1), artist.song(2));
    let songs = [Registration::of_song(song.clone()), Registration::of_song(other.clone())];
    let (batch, _) = sealed(&ledger, START_MS, &songs);
    ledger.append(&batch).unwrap();
    let judge = || {
        let dir = tempfile::tempdir().unwrap();
        let ledger = open(dir.path());
        ledger.append(&batch).unwrap();
        Judge { court: Court::open(ledger, &dir.path().join("receipts")).unwrap(), _dir: dir }
    };
    let now = START_MS + 10_000_000;
    let receipts = vec![play(10, 50, &song, now), play(11, 50, &other, now)];
    let mut proposer = Court::open(ledger.clone(), &dir.path().join("receipts")).unwrap();
    for receipt in &receipts {
        assert_eq!(proposer.keep(now, receipt).unwrap(), Kept::New);
        assert_eq!(proposer.keep(now, receipt).unwrap(), Kept::Known);
    }
    proposer.sync_receipts().unwrap();
    assert!(proposer.is_settlement_due(now).unwrap());
    let proposal = proposer.propose(now, &[]).unwrap();
    assert_eq!((proposal.blocks.len(), proposal.receipts.len()), (1, 2));
    let verdict = |blocks: &[Vec<u8>], receipts: &[Receipt]| {
        let mut judge = judge();
        judge.court.examine(2, blocks, receipts).unwrap().map(drop).map_err(|why| why.to_string())
    };
    assert_eq!(verdict(&proposal.blocks, &proposal.receipts), Ok(()));
    let said = |verdict: Result<(), String>| verdict.unwrap_err();
    // Without its receipts, with others, with a forged one: nobody votes for it.
    assert!(said(verdict(&proposal.blocks, &[])).contains("receipts"));
    assert!(said(verdict(&proposal.blocks, &proposal.receipts[..1])).contains("receipts"));
    let mut forged = proposal.receipts.clone();
    forged[0].witness_signature[0] ^= 1;
    assert!(said(verdict(&proposal.blocks, &forged)).contains("receipts"));
    // A settlement that pays what its receipts do not say, with a state and sums that agree: only receipts tell.
    let foreign = vec![play(20, 50, &song, now)];
    let settled = ledger.settle(now, &foreign, &NoEarlier).unwrap().epoch.unwrap();
    let mut epoch = settled.clone();
    epoch.credits[0].key = key(99).public().0.to_vec();
    epoch.credits.sort_by(|a, b| a.key.cmp(&b.key));
    let made = |epoch| {
        let proposal = ledger.propose_with(now, Some(epoch), &[]).unwrap();
        proposal.blocks
    };
    assert!(made(epoch).is_empty(), "its state is another one");
    assert!(said(verdict(&made(settled), &proposal.receipts)).contains("receipts"));
    // Receipts whose signatures do not hold, in a settlement that is otherwise right.
    let mut unsigned = vec![play(21, 50, &song, now)];
    unsigned[0].listener_signature = vec![7; 64];
    let epoch = ledger.settle(now, &unsigned, &NoEarlier).unwrap().epoch.unwrap();
    assert!(said(verdict(&made(epoch), &unsigned)).contains("signature"));

    // Appended, with its receipts by one member and without by another.
    let batch_of = |proposal: &antiphon_ledger::Proposal| SealedBatch {
        first: proposal.first,
        blocks: proposal.blocks.clone(),
        seal: common::sealer(&fast()).seal(proposal),
    };
    let again = proposer.propose(now, &[]).unwrap();
    let batch = batch_of(&again);
    proposer.commit(&batch, &again.receipts).unwrap().unwrap();
    let mut late = judge();
    late.court.commit(&batch, &[]).unwrap().unwrap();
    assert_eq!((late.court.lacks_receipts_of(), proposer.lacks_receipts_of()), (Some(2), None));
    // The one that lacks them can judge no settlement until it has them.
    let later = now + 200_000;
    let more = play(12, 50, &song, later);
    proposer.keep(later, &more).unwrap();
    let next = proposer.propose(later, &[]).unwrap();
    let judged = late.court.examine(next.first, &next.blocks, &next.receipts).unwrap().map(drop);
    assert!(judged.unwrap_err().to_string().contains("not here yet"));
    let theirs = proposer.settled_receipts(2).unwrap().unwrap();
    assert!(!late.court.supply_receipts(2, &theirs[..1]).unwrap());
    assert!(late.court.supply_receipts(2, &theirs).unwrap());
    assert!(late.court.examine(next.first, &next.blocks, &next.receipts).unwrap().is_ok());
    // A receipt that was settled is not settled again, by whoever proposes it.
    let replayed = ledger.settle(later, &receipts[..1], &NoEarlier).unwrap().epoch.unwrap();
    let blocks = ledger.propose_with(later, Some(replayed), &[]).unwrap().blocks;
    let judged = late.court.examine(3, &blocks, &receipts[..1]).unwrap().map(drop);
    let two_at_once = Unsettled::TwoAtOnce.to_string();
    assert!(judged.unwrap_err().to_string().contains(&two_at_once));
    // What a member has is read again when it starts.
    drop(proposer);
    let court = Court::open(ledger.clone(), &dir.path().join("receipts")).unwrap();
    assert_eq!((court.lacks_receipts_of(), court.receipts_waiting()), (None, 1));
    let block = Block::parse(&ledger.block(2).unwrap().unwrap()).unwrap();
    assert!(matches!(block.body, Some(block::Body::Epoch(_))));
}
