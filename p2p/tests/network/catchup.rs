//! Catching up from several peers.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use antiphon_p2p::{
    PeerId,
    catchup::{CatchUp, CatchUpError, Check, Goal, plan::Limits},
};
use antiphon_proto::wire::{Bundle, BundleRequest, LedgerReply, LedgerRequest, ledger_reply, ledger_request};
use futures::{AsyncReadExt, AsyncWriteExt};

use crate::{
    harness::{MemoryLedger, Peer, QUIC, eventually, peer, within},
    raw::{self, RawPeer},
};

const BATCH: u64 = 100;

/// The same batches for everybody.
fn fill(ledger: &MemoryLedger, batches: u64) {
    for _ in 0..batches {
        ledger.push(BATCH, 1_000);
    }
}

async fn source(batches: u64) -> Peer {
    let source = peer(&[QUIC]).await;
    fill(&source.ledger, batches);
    source
}

/// The ledger as it should be, the check against it, and the bundles that did not pass.
fn truth(batches: u64) -> (Arc<MemoryLedger>, Check, Arc<Mutex<Vec<u64>>>) {
    let ledger = Arc::new(MemoryLedger::new(b"a genesis document"));
    fill(&ledger, batches);
    let (wrong, known) = (Arc::new(Mutex::new(Vec::new())), ledger.clone());
    let noted = wrong.clone();
    let check = move |index: u64, bundle: &Bundle| {
        let blocks = bundle.blocks().unwrap().len() as u64;
        let good = *bundle == known.blocks(index * 256, index * 256 + blocks);
        if !good {
            noted.lock().unwrap().push(index);
        }
        good
    };
    (ledger, Arc::new(check), wrong)
}

fn goal(ledger: &MemoryLedger, start: u64, target: u64) -> Goal {
    Goal { network: ledger.network(), start, target, limits: Limits::default() }
}

/// Reads to the end.
async fn drain(catch_up: &mut CatchUp, ledger: &MemoryLedger, target: u64) -> Vec<u64> {
    let mut found = Vec::new();
    while let Some((index, bundle)) = within(catch_up.next()).await.unwrap() {
        assert!(bundle == ledger.blocks(index * 256, target.min((index + 1) * 256)));
        found.push(index);
    }
    found
}

/// Serves bundles of a ledger through `change`, so many bytes every five milliseconds.
async fn odd_source(batches: u64, rate: usize, change: fn(&mut Bundle)) -> RawPeer {
    let raw = RawPeer::start().await;
    let ledger = Arc::new(MemoryLedger::new(b"a genesis document"));
    fill(&ledger, batches);
    raw.serve(raw::LEDGER, move |mut stream| {
        let ledger = ledger.clone();
        async move {
            let request: LedgerRequest = raw::read_frame(&mut stream).await?;
            let Some(ledger_request::Body::Bundle(BundleRequest { index, width, .. })) = request.body else {
                return Ok(());
            };
            let mut bundle = ledger.blocks(index * 256, index * 256 + u64::from(width));
            change(&mut bundle);
            let reply = LedgerReply { body: Some(ledger_reply::Body::Bundle(bundle)) };
            for part in raw::frame(&reply).chunks(rate) {
                stream.write_all(part).await?;
                stream.flush().await?;
                if rate < 100_000 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            stream.close().await?;
            let _ = stream.read(&mut [0]).await;
            Ok(())
        }
    });
    raw
}

#[tokio::test]
async fn everything_comes_in_order_from_several_peers() {
    let (ledger, check, wrong) = truth(100);
    let two = peer(&[]).await;
    let mut sources = Vec::new();
    for _ in 0..3 {
        sources.push(source(100).await);
        two.join(&sources[sources.len() - 1]).await;
    }
    let ids: Vec<PeerId> = sources.iter().map(Peer::id).collect();
    let mut catch_up = two.network.catch_up(ids.clone(), goal(&ledger, 0, 10_000), check.clone());
    assert_eq!(drain(&mut catch_up, &ledger, 10_000).await, (0..40).collect::<Vec<_>>());
    assert_eq!(catch_up.position(), 10_240);
    // From the middle, up to the middle.
    let mut catch_up = two.network.catch_up(ids, goal(&ledger, 1_000, 2_600), check);
    assert_eq!(catch_up.position(), 1_000);
    assert_eq!(drain(&mut catch_up, &ledger, 2_600).await, (3..11).collect::<Vec<_>>());
    assert!(wrong.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_liar_is_banned_and_its_bundles_come_from_others() {
    let (ledger, check, wrong) = truth(60);
    let lies: [fn(&mut Bundle); 2] = [
        |bundle| *bundle.entries.last_mut().unwrap() ^= 1,
        |bundle| bundle.seals.iter_mut().for_each(|seal| seal.seal[0] ^= 1),
    ];
    for lie in lies {
        let mut two = peer(&[]).await;
        let (good, liar) = (source(60).await, odd_source(60, 1_000_000, lie).await);
        let ids = [two.network.connect(liar.address.clone()).await.unwrap(), two.join(&good).await];
        let mut catch_up = two.network.catch_up(ids, goal(&ledger, 0, 6_000), check.clone());
        assert_eq!(drain(&mut catch_up, &ledger, 6_000).await, (0..24).collect::<Vec<_>>());
        two.banned(liar.id).await;
        assert!(two.metrics().contains("offences_total{kind=\"bad_bundle\"}"));
        assert!(!wrong.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_slow_peer_holds_nobody_up() {
    let (ledger, check, _) = truth(60);
    let two = peer(&[]).await;
    // A bundle of 256 kB takes it six seconds.
    let (good, slow) = (source(60).await, odd_source(60, 200, |_| {}).await);
    let ids = [two.network.connect(slow.address.clone()).await.unwrap(), two.join(&good).await];
    let mut catch_up = two.network.catch_up(ids, goal(&ledger, 0, 6_000), check);
    let started = std::time::Instant::now();
    assert_eq!(drain(&mut catch_up, &ledger, 6_000).await.len(), 24);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(!two.metrics().contains("offences_total{"), "to be slow is no offence");
}

#[tokio::test]
async fn a_peer_that_dies_is_replaced_and_without_any_it_is_told_where() {
    let (ledger, check, _) = truth(100);
    let two = peer(&[]).await;
    let (one, other) = (source(100).await, source(100).await);
    let ids = [two.join(&one).await, two.join(&other).await];
    let limits = Limits { in_flight: 4, per_peer: 2, ahead_bytes: 1_000_000 };
    let goal = Goal { limits, ..goal(&ledger, 0, 10_000) };
    let mut catch_up = two.network.catch_up(ids, goal, check);
    for index in 0..5 {
        assert_eq!(within(catch_up.next()).await.unwrap().map(|next| next.0), Some(index));
    }
    one.network.shutdown().await;
    for index in 5..15 {
        assert_eq!(within(catch_up.next()).await.unwrap().map(|next| next.0), Some(index));
    }
    other.network.shutdown().await;
    let mut next = 15;
    let stuck = loop {
        match within(catch_up.next()).await {
            Ok(Some((index, _))) => assert_eq!(std::mem::replace(&mut next, index + 1), index),
            Ok(None) => panic!("the end cannot have come"),
            Err(error) => break error,
        }
    };
    assert_eq!(stuck, CatchUpError::NoPeers { position: next * 256 });
    // With a new peer it goes on.
    let third = source(100).await;
    catch_up.add(two.join(&third).await);
    assert_eq!(drain(&mut catch_up, &ledger, 10_000).await, (next..40).collect::<Vec<_>>());
}

#[tokio::test]
async fn who_reads_the_bundles_slowly_is_not_outrun() {
    let (ledger, check, _) = truth(100);
    let two = peer(&[]).await;
    let one = source(100).await;
    let ids = [two.join(&one).await];
    let limits = Limits { ahead_bytes: 600_000, ..Limits::default() };
    let goal = Goal { limits, ..goal(&ledger, 0, 10_000) };
    let mut catch_up = two.network.catch_up(ids, goal, check);
    let open = || async { one.metrics().contains("open_streams{kind=\"/antiphon/ledger/1\"} 0") };
    let asked = |metrics: String| {
        let line = metrics
            .lines()
            .find(|line| line.contains("inbound_streams_total{kind=\"/antiphon/ledger/1\""))
            .unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    assert!(within(catch_up.next()).await.unwrap().is_some());
    eventually(open).await;
    // Nobody asks for more while nobody reads.
    assert!(asked(one.metrics()) <= 5, "{}", one.metrics());
    assert_eq!(drain(&mut catch_up, &ledger, 10_000).await.len(), 39);
}
