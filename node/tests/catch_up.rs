//! A ledger that is far behind, and peers on loopback of which some lie: real networks, in one process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod net;
#[path = "../../ledger/tests/common/mod.rs"]
mod testing;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use antiphon::peer::checkpoints::{self, Judged};
use antiphon_ledger::{
    Ledger, Proposal, SealedBatch,
    council::Council as Seat,
    seal::{self, Sealed},
};
use antiphon_proto::{
    SecretKey,
    certificate::Certificate,
    council::{VoteKind, vote_message},
    note::Checkpoint,
    wire::{Council, CouncilAct, Registration, registration},
};

use net::{Follows, Lie, Peer, eventually};
use testing::{Artist, council, extend, key, logs, member};

/// A ledger of `size` songs, and a checkpoint over it by the council.
fn grown(dir: &Path, size: u64, each: u64) -> Ledger {
    let ledger = logs::open(dir);
    logs::grow(&ledger, size, each);
    cosign(&ledger, &member());
    ledger
}

fn cosign(ledger: &Ledger, by: &SecretKey) {
    let note = logs::cosigned(ledger, ledger.size(), std::slice::from_ref(by));
    ledger.put_checkpoint(&note, &[by.public()]).unwrap();
}

/// Another history of the same network.
fn another(dir: &Path, size: u64) -> Ledger {
    let ledger = logs::open(dir);
    let artist = Artist::new(2, ledger.genesis());
    while ledger.size() < size {
        let end = size.min(ledger.size() + 100);
        let songs: Vec<_> = (ledger.size()..end).map(|n| artist.song_registration(1_000_000 + n)).collect();
        extend(&ledger, &songs).unwrap();
    }
    cosign(&ledger, &member());
    ledger
}

/// Opens a ledger of which something may still hold on to the lock for a moment.
async fn reopened(dir: &Path) -> Ledger {
    loop {
        let options = antiphon_ledger::Options::without_rule(Some(logs::network()));
        match Ledger::open_with(dir, options, testing::SMALL) {
            Ok(ledger) => return ledger,
            Err(antiphon_ledger::OpenError::Locked { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

fn same(one: &Ledger, other: &Ledger) -> bool {
    (one.size(), one.root(), one.head()) == (other.size(), other.root(), other.head())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_peers_of_which_one_lies_and_one_stops() {
    let dirs = tempfile::tempdir().unwrap();
    let source = grown(&dirs.path().join("source"), 5_030, 70);
    let gate = Arc::new(AtomicBool::new(false));
    let good = Peer::serving(&source, Lie::Holds(gate.clone())).await;
    let liar = Peer::serving(&source, Lie::Blocks).await;
    let stops = Peer::serving(&source, Lie::StopsAfter(3)).await;
    let mine = logs::open(&dirs.path().join("mine"));
    let peer = Peer::bare().await;
    let follows = peer.follow(&mine, None, &[&stops, &liar, &good]);
    // Else the good one might be done before the others have sent anything.
    eventually(|| peer.has_banned(&liar)).await;
    eventually(|| follows.status().catching_up.is_some_and(|progress| progress.target == 5_030)).await;
    gate.store(true, Ordering::Relaxed);
    eventually(|| same(&mine, &source)).await;
    eventually(|| mine.checkpoint() == source.checkpoint()).await;
    assert!(!peer.has_banned(&good) && !peer.has_banned(&stops));
    assert_eq!(follows.status().alarm, None);
    // From then on it follows live.
    logs::grow(&source, 5_100, 70);
    cosign(&source, &member());
    eventually(|| same(&mine, &source) && mine.checkpoint() == source.checkpoint()).await;
    eventually(|| follows.status().catching_up.is_none()).await;
    mine.verify(true, &mut |_| {}).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_sends_a_false_seal_or_tile_is_banned_and_nobody_else() {
    let dirs = tempfile::tempdir().unwrap();
    let source = grown(&dirs.path().join("source"), 2_600, 60);
    for (number, lie) in [Lie::Seals, Lie::NoSeals, Lie::Tiles].into_iter().enumerate() {
        let gate = Arc::new(AtomicBool::new(false));
        let good = Peer::serving(&source, Lie::Holds(gate.clone())).await;
        let liar = Peer::serving(&source, lie.clone()).await;
        let mine = logs::open(&dirs.path().join(format!("mine {number}")));
        let peer = Peer::bare().await;
        let follows = match lie {
            // Tiles are asked of one after the other.
            Lie::Tiles => peer.follow(&mine, None, &[&liar]),
            _ => peer.follow(&mine, None, &[&liar, &good]),
        };
        eventually(|| peer.has_banned(&liar)).await;
        gate.store(true, Ordering::Relaxed);
        follows.kill().await;
        let _follows = peer.follow(&mine, None, &[&good]);
        eventually(|| same(&mine, &source)).await;
        assert!(!peer.has_banned(&good), "{lie:?}");
    }
}

/// A seal by one member, whoever that is at the time.
fn seal_alone(ledger: &Ledger, proposal: &Proposal, by: &SecretKey) -> Vec<u8> {
    let (network, height) = (ledger.network(), proposal.end.height);
    let signers: &[u8] = if height > 1 { &[1] } else { &[] };
    let council = [by.public()];
    let value = Sealed { council: &council, position: &proposal.end, root: proposal.root }
        .header(&network, signers)
        .digest();
    let mut certificate = Certificate::new(height, 0, value, 1);
    certificate.add(0, by.sign(&vote_message(VoteKind::Precommit, &network, height, 0, Some(&value))));
    seal::encode(signers, &certificate)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn behind_a_change_of_the_council_it_follows_until_it_knows_who_cosigns() {
    let dirs = tempfile::tempdir().unwrap();
    let source = logs::open(&dirs.path().join("source"));
    let (old, heir) = (member(), key(9));
    let artist = Artist::new(1, source.genesis());
    let add = |registrations: &[Registration], by: &SecretKey| {
        let proposal = source.propose(testing::START_MS, registrations).unwrap();
        let seal = seal_alone(&source, &proposal, by);
        source.append(&SealedBatch { first: proposal.first, blocks: proposal.blocks, seal }).unwrap();
    };
    let act = CouncilAct::change_member(Some(heir.public()), Some(old.public()), 100, [1; 16]);
    let votes = vec![act.vote(&source.network(), &old)];
    let change = Registration { body: Some(registration::Body::Council(Council { act: Some(act), votes })) };
    // Decided at height 1, it takes effect at height 3.
    add(&[change], &old);
    for batch in 0..31 {
        let songs: Vec<_> = (batch * 50..(batch + 1) * 50).map(|n| artist.song_registration(n)).collect();
        add(&songs, if batch == 0 { &old } else { &heir });
    }
    cosign(&source, &heir);
    let good = Peer::serving(&source, Lie::None).await;
    let mine = logs::open(&dirs.path().join("mine"));
    let peer = Peer::bare().await;
    let _follows = peer.follow(&mine, None, &[&good]);
    eventually(|| same(&mine, &source) && mine.checkpoint() == source.checkpoint()).await;
    assert!(good.bundles() >= 6, "{} bundles", good.bundles());
    assert!(!peer.has_banned(&good));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_goes_on_where_it_was_killed() {
    let dirs = tempfile::tempdir().unwrap();
    let source = grown(&dirs.path().join("source"), 4_000, 50);
    let good = Peer::serving(&source, Lie::None).await;
    let mut last = 0;
    for stop_at in [500, 2_000, 4_000] {
        let mine = reopened(&dirs.path().join("mine")).await;
        assert!(mine.size() >= last);
        let peer = Peer::bare().await;
        let follows = peer.follow(&mine, None, &[&good]);
        eventually(|| mine.size() >= stop_at).await;
        // What had begun is given up wherever it was.
        follows.kill().await;
        last = mine.size();
    }
    let mine = reopened(&dirs.path().join("mine")).await;
    assert!(same(&mine, &source));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_forged_certificate_on_the_stream_is_refused() {
    let dirs = tempfile::tempdir().unwrap();
    let source = grown(&dirs.path().join("source"), 40, 10);
    let liar = Peer::serving(&source, Lie::Seals).await;
    let mine = logs::open(&dirs.path().join("mine"));
    let peer = Peer::bare().await;
    let _follows = peer.follow(&mine, None, &[&liar]);
    eventually(|| peer.has_banned(&liar)).await;
    assert_eq!((mine.size(), mine.checkpoint()), (0, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_checkpoint_with_too_few_cosignatures_is_refused() {
    let dirs = tempfile::tempdir().unwrap();
    let source = logs::open(&dirs.path().join("source"));
    logs::grow(&source, 40, 10);
    let root = source.root();
    let at = Checkpoint { origin: antiphon_proto::note::origin(&source.network()), size: 40, root };
    let note = logs::sign(&at, &[key(1), key(2)]);
    let liar = Peer::serving(&source, Lie::Checkpoint(Arc::new(note))).await;
    let mine = logs::open(&dirs.path().join("mine"));
    let peer = Peer::bare().await;
    let follows = peer.follow(&mine, None, &[&liar]);
    // Once may be a mistake; twice is enough.
    eventually(|| peer.has_banned(&liar)).await;
    assert!(same(&mine, &source), "the blocks are good");
    assert_eq!((mine.checkpoint(), follows.status().alarm), (None, None));
}

#[test]
fn what_a_checkpoint_is_to_a_ledger() {
    let dirs = tempfile::tempdir().unwrap();
    let mine = logs::open(&dirs.path().join("mine"));
    let source = grown(&dirs.path().join("source"), 60, 10);
    let note = source.checkpoint().unwrap();
    // Over more than is here: it waits, and may be trusted already.
    assert_eq!(checkpoints::judge(&mine, &note).unwrap(), Judged::Ahead(60));
    assert_eq!(checkpoints::trusted_ahead(&mine, &note).unwrap().map(|trusted| trusted.size), Some(60));
    let at =
        |size: u64, root| Checkpoint { origin: antiphon_proto::note::origin(&mine.network()), size, root };
    let strange = logs::sign(&at(60, source.root()), &[key(1)]);
    assert_eq!(checkpoints::trusted_ahead(&mine, &strange), Ok(None));
    assert_eq!(checkpoints::judge(&mine, &strange).unwrap(), Judged::Ahead(60));
    // Whoever signs in a member's name is found out at once, wherever the ledger is.
    let mut forged = String::from_utf8(note.clone()).unwrap();
    forged = forged.replacen("\n60\n", "\n61\n", 1);
    assert!(checkpoints::trusted_ahead(&mine, forged.as_bytes()).is_err());
    assert!(matches!(checkpoints::judge(&mine, forged.as_bytes()).unwrap(), Judged::Bad(..)));
    assert!(matches!(checkpoints::judge(&mine, b"no note").unwrap(), Judged::Bad(..)));
    // With the blocks there, it is kept.
    logs::grow(&mine, 60, 10);
    assert_eq!(checkpoints::judge(&mine, &note).unwrap(), Judged::Good);
    assert_eq!(mine.checkpoint(), Some(note.clone()));
    assert!(matches!(checkpoints::judge(&mine, &strange).unwrap(), Judged::Bad(..)));
    // An older one by others than today's council may be honest; one that does not fit is not.
    logs::grow(&mine, 80, 10);
    assert_eq!(checkpoints::judge(&mine, &strange).unwrap(), Judged::Old);
    let wrong = logs::sign(&at(50, source.root()), &[key(1)]);
    assert!(matches!(checkpoints::judge(&mine, &wrong).unwrap(), Judged::Bad(..)));
    let fork = logs::sign(&at(50, source.root()), &[member()]);
    assert!(matches!(checkpoints::judge(&mine, &fork).unwrap(), Judged::Fork(_)));
    assert_eq!(mine.checkpoint(), Some(note));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn when_the_first_upstream_is_gone_the_copy_comes_from_the_others() {
    let dirs = tempfile::tempdir().unwrap();
    let source = grown(&dirs.path().join("source"), 5_030, 70);
    let gate = Arc::new(AtomicBool::new(false));
    // The others send nothing before the first one has left in the middle.
    let first = Peer::serving(&source, Lie::StopsAfter(3)).await;
    let others = [
        Peer::serving(&source, Lie::Holds(gate.clone())).await,
        Peer::serving(&source, Lie::Holds(gate.clone())).await,
    ];
    let mine = logs::open(&dirs.path().join("mine"));
    let peer = Peer::bare().await;
    // Only the first one's address is known; the others find this peer.
    let follows = peer.follow(&mine, None, &[&first]);
    eventually(|| follows.upstream() == Some(first.id())).await;
    for other in &others {
        other.network.connect(peer.address.clone()).await.unwrap();
    }
    eventually(|| first.bundles() > 3).await;
    eventually(|| follows.upstream().is_some_and(|now| now != first.id())).await;
    assert!(mine.size() < 5_030);
    gate.store(true, Ordering::Relaxed);
    eventually(|| same(&mine, &source) && mine.checkpoint() == source.checkpoint()).await;
    // It follows live, and when that one goes too, the last one.
    let [one, two] = others;
    let (goes, stays) = if follows.upstream() == Some(one.id()) { (one, two) } else { (two, one) };
    goes.network.shutdown().await;
    eventually(|| follows.upstream() == Some(stays.id())).await;
    logs::grow(&source, 5_100, 70);
    cosign(&source, &member());
    eventually(|| same(&mine, &source) && mine.checkpoint() == source.checkpoint()).await;
    assert_eq!(follows.status().alarm, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_an_address_whoever_connects_is_followed() {
    let dirs = tempfile::tempdir().unwrap();
    let source = grown(&dirs.path().join("source"), 100, 10);
    let other = Peer::serving(&source, Lie::None).await;
    let mine = logs::open(&dirs.path().join("mine"));
    let peer = Peer::bare().await;
    let follows = peer.follow(&mine, None, &[]);
    other.network.connect(peer.address.clone()).await.unwrap();
    eventually(|| same(&mine, &source)).await;
    assert_eq!(follows.upstream(), Some(other.id()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_histories_by_one_council_are_an_alarm() {
    let dirs = tempfile::tempdir().unwrap();
    // The same size, told by the stream; and far ahead, found while catching up.
    for (number, theirs) in [40, 3_000].into_iter().enumerate() {
        let source = another(&dirs.path().join(format!("source {number}")), theirs);
        let mine = grown(&dirs.path().join(format!("mine {number}")), 40, 10);
        let (root, checkpoint) = (mine.root(), mine.checkpoint());
        let other = Peer::serving(&source, Lie::None).await;
        let peer = Peer::bare().await;
        let follows: Follows = peer.follow(&mine, None, &[&other]);
        eventually(|| follows.status().alarm.is_some()).await;
        eventually(|| peer.has_banned(&other)).await;
        assert!(follows.status().alarm.unwrap().contains("forked"));
        assert_eq!((mine.size(), mine.root(), mine.checkpoint()), (40, root, checkpoint));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_follows_nobody_but_stays_connected() {
    let dirs = tempfile::tempdir().unwrap();
    let source = grown(&dirs.path().join("source"), 100, 10);
    let other = Peer::serving(&source, Lie::None).await;
    let mine = logs::open(&dirs.path().join("mine"));
    let seat: Arc<Seat> = Arc::new(council(&mine, &dirs.path().join("mine")));
    let peer = Peer::bare().await;
    let follows = peer.follow(&mine, Some(seat.clone()), &[&other]);
    eventually(|| follows.answered()).await;
    other.connected_to(&peer).await;
    assert!(follows.upstream().is_none());
    // It comes back when the connection is lost.
    peer.network.disconnect(other.id(), "a test").await;
    tokio::time::timeout(Duration::from_secs(20), async {
        while !peer.network.peers().await.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    other.connected_to(&peer).await;
    assert_eq!(mine.size(), 0);
    follows.kill().await;
    seat.stop();
}
