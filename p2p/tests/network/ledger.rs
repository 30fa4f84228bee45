//! `/antiphon/ledger/1`.

use std::time::Duration;

use antiphon_p2p::{FollowStream, RequestError, Timeouts};
use antiphon_proto::{
    NetworkId,
    wire::{Batch, FollowRequest, LedgerFrame, LedgerRequest, StreamErrorCode, ledger_frame, ledger_request},
};
use futures::{AsyncReadExt, AsyncWriteExt};

use crate::{
    harness::{Peer, QUIC, TCP, config, eventually, peer, start, within},
    raw::{self, RawPeer},
};

async fn follow(from: &Peer, to: &Peer, first: u64) -> FollowStream {
    within(from.network.follow(to.id(), to.ledger.network(), first)).await.unwrap()
}

async fn next(stream: &mut FollowStream) -> Batch {
    within(stream.next()).await.unwrap().expect("the stream has ended")
}

#[tokio::test]
async fn info_tells_the_network_and_the_size() {
    for transport in [QUIC, TCP] {
        let (one, two) = (peer(&[transport]).await, peer(&[]).await);
        one.ledger.push(5, 100);
        two.join(&one).await;
        let info = within(two.network.ledger_info(one.id())).await.unwrap();
        assert_eq!((info.genesis, info.size), (b"a genesis document".to_vec(), 5));
        // The other way on the same connection.
        assert_eq!(within(one.network.ledger_info(two.id())).await.unwrap().size, 0);
    }
}

#[tokio::test]
async fn a_follower_catches_up_and_then_lives() {
    let (one, two) = (peer(&[QUIC]).await, peer(&[]).await);
    for number in 0..3_000 {
        one.ledger.push(1 + number % 5, 300);
    }
    let full = one.ledger.push(340, 3_000);
    two.join(&one).await;
    let mut stream = follow(&two, &one, 0).await;
    for expected in one.ledger.batches() {
        assert_eq!(next(&mut stream).await, expected);
    }
    for _ in 0..3 {
        // Dropping the wait loses nothing.
        let waiting = tokio::time::timeout(Duration::from_millis(30), stream.next()).await;
        assert!(waiting.is_err());
        let pushed = one.ledger.push(2, 3_000);
        assert_eq!(next(&mut stream).await, pushed);
    }
    // From the middle, at a batch's start.
    let mut late = follow(&two, &one, full.first).await;
    assert_eq!(next(&mut late).await, full);
    assert_eq!(late.position(), full.first + 340);
}

#[tokio::test]
async fn many_follow_at_once_and_a_shutdown_ends_them() {
    let one = peer(&[QUIC, TCP]).await;
    for _ in 0..200 {
        one.ledger.push(10, 500);
    }
    let mut followers = Vec::new();
    for number in 0..6 {
        let two = peer(&[]).await;
        let addresses = one.network.listen_addrs().await;
        two.network.connect(addresses[number % addresses.len()].clone()).await.unwrap();
        let stream = follow(&two, &one, 0).await;
        followers.push((two, stream));
    }
    for (_, stream) in &mut followers {
        for expected in one.ledger.batches() {
            assert_eq!(next(stream).await, expected);
        }
    }
    one.network.shutdown().await;
    for (_, stream) in &mut followers {
        assert!(!matches!(within(stream.next()).await, Ok(Some(_))));
    }
}

#[tokio::test]
async fn wrong_networks_and_positions_are_refused() {
    let (one, two) = (peer(&[QUIC]).await, peer(&[]).await);
    one.ledger.push(10, 100);
    two.join(&one).await;
    let refusal = async |network: NetworkId, from: u64| {
        let mut stream = within(two.network.follow(one.id(), network, from)).await.unwrap();
        match within(stream.next()).await {
            Err(RequestError::Refused { code, .. }) => code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refusal(NetworkId([1; 32]), 0).await, StreamErrorCode::OtherNetwork);
    assert_eq!(refusal(one.ledger.network(), 11).await, StreamErrorCode::NotFound);
    assert_eq!(refusal(one.ledger.network(), 3).await, StreamErrorCode::NotFound);
    // At the end of the ledger one waits.
    let mut end = follow(&two, &one, 10).await;
    let pushed = one.ledger.push(1, 100);
    assert_eq!(next(&mut end).await, pushed);
    let missing = within(two.network.ledger_info(antiphon_p2p::PeerId::random())).await;
    assert!(matches!(missing, Err(RequestError::NotConnected(_))));
}

#[tokio::test]
async fn a_follower_that_reads_nothing_is_dropped() {
    let timeouts = Timeouts { write: Duration::from_millis(300), ..Timeouts::default() };
    let one = start(antiphon_p2p::Config { timeouts, ..config(&[QUIC]) }, rand::random()).await;
    // More than every window and buffer on the way.
    for _ in 0..40 {
        one.ledger.push(340, 3_000);
    }
    let reader = RawPeer::start().await;
    let mut stream = reader.open(&one, raw::LEDGER).await;
    stream.write_all(&to_follow(&one)).await.unwrap();
    stream.flush().await.unwrap();
    let open = |count: u32| {
        let line = format!("open_streams{{kind=\"/antiphon/ledger/1\"}} {count}");
        let one = &one;
        move || {
            let served = one.metrics().contains(&line);
            async move { served }
        }
    };
    eventually(open(1)).await;
    eventually(open(0)).await;
    // What is read now is what was on its way; then the stream ends, short of the whole.
    let mut rest = Vec::new();
    let _ = within(stream.read_to_end(&mut rest)).await;
    assert!(rest.len() < 35 * 340 * 3_000, "{} bytes", rest.len());
}

/// The request to follow from the start.
fn to_follow(one: &Peer) -> Vec<u8> {
    let follow = FollowRequest { network: one.ledger.network().0.to_vec(), from: 0 };
    raw::frame(&LedgerRequest { body: Some(ledger_request::Body::Follow(follow)) })
}

#[tokio::test]
async fn followers_have_places_of_their_own() {
    let mut config = config(&[QUIC]);
    config.streams.inbound = 1;
    let one = start(config, rand::random()).await;
    let pushed = one.ledger.push(3, 100);
    let two = peer(&[]).await;
    two.join(&one).await;
    // Both of them and the requests beside them share what would be one place.
    let mut followers = Vec::new();
    for _ in 0..2 {
        let mut stream = follow(&two, &one, 0).await;
        assert_eq!(next(&mut stream).await, pushed);
        assert_eq!(within(two.network.ledger_info(one.id())).await.unwrap().size, 3);
        followers.push(stream);
    }
    let mut third = follow(&two, &one, 0).await;
    match within(third.next()).await {
        Err(RequestError::Refused { code: StreamErrorCode::Busy, .. }) => {}
        other => panic!("{other:?}"),
    }
    drop(followers.pop());
    eventually(|| async {
        let mut again = follow(&two, &one, 0).await;
        within(again.next()).await.is_ok()
    })
    .await;
    let pushed = one.ledger.push(1, 100);
    assert_eq!(next(&mut followers[0]).await, pushed);
}

#[tokio::test]
async fn requests_that_are_not_known_yet_are_answered_and_not_counted() {
    let one = peer(&[QUIC]).await;
    let raw = RawPeer::start().await;
    for bytes in [&b"\0\0\0\0"[..], b"\0\0\0\x03\xfa\x01\x00"].iter().cycle().take(8) {
        let mut stream = raw.open(&one, raw::LEDGER).await;
        stream.write_all(bytes).await.unwrap();
        stream.flush().await.unwrap();
        let reply: LedgerFrame = within(raw::read_frame(&mut stream)).await.unwrap();
        let Some(ledger_frame::Body::Error(error)) = reply.body else { panic!("{reply:?}") };
        assert_eq!(error.code(), StreamErrorCode::Malformed);
    }
    assert_eq!(one.network.peers().await.len(), 1, "not banned");
}

#[tokio::test]
async fn a_follower_that_talks_while_it_is_served_is_an_offender() {
    let mut one = peer(&[QUIC]).await;
    for _ in 0..40 {
        one.ledger.push(340, 3_000);
    }
    let raw = RawPeer::start().await;
    for _ in 0..4 {
        let mut stream = raw.open(&one, raw::LEDGER).await;
        stream.write_all(&[to_follow(&one), vec![0; 1_000]].concat()).await.unwrap();
        stream.flush().await.unwrap();
        let mut rest = Vec::new();
        let _ = within(stream.read_to_end(&mut rest)).await;
        assert!(rest.len() < 35 * 340 * 3_000, "{} bytes", rest.len());
    }
    one.banned(raw.id).await;
}
