//! `/antiphon/ledger/1`.

use std::time::Duration;

use antiphon_p2p::{FollowStream, Followed, Offence, PeerId, ProofQuery, RequestError, Timeouts};
use antiphon_proto::{
    ContentHash, NetworkId, SongId, limits,
    wire::{
        Batch, Bundle, BundleRequest, FollowRequest, LedgerFrame, LedgerReply, LedgerRequest,
        StreamErrorCode, ledger_frame, ledger_reply, ledger_request,
    },
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
    match within(stream.next()).await.unwrap().expect("the stream has ended") {
        Followed::Batch(batch) => batch,
        other => panic!("{other:?}"),
    }
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
    let missing = within(two.network.ledger_info(PeerId::random())).await;
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

#[tokio::test]
async fn the_log_is_read() {
    for transport in [QUIC, TCP] {
        let (one, two) = (peer(&[transport]).await, peer(&[]).await);
        for number in 0..30 {
            one.ledger.push(1 + number, 2_500);
        }
        let (from, network) = (two.join(&one).await, one.ledger.network());
        let ask = &two.network;
        let missing = within(ask.checkpoint(from, network)).await.unwrap_err();
        assert!(matches!(missing, RequestError::Refused { code: StreamErrorCode::NotFound, .. }));
        one.ledger.cosign("a note");
        assert_eq!(within(ask.checkpoint(from, network)).await.unwrap(), b"a note");
        for (index, width) in [(0, 256), (0, 1), (1, 209)] {
            let bundle = within(ask.bundle(from, network, index, width)).await.unwrap();
            assert_eq!(bundle, one.ledger.blocks(index * 256, index * 256 + u64::from(width)));
            assert!(width == 1 || bundle.seals.len() > 5);
        }
        assert_eq!(within(ask.tile(from, network, 3, 0, 7)).await.unwrap(), [3; 7 * 32]);
        let song = ProofQuery::Song(SongId([5; 32]));
        assert_eq!(within(ask.proof(from, network, &song)).await.unwrap(), format!("{song:?}").as_bytes());
        let code = |error| match error {
            RequestError::Refused { code, .. } => code,
            other => panic!("{other:?}"),
        };
        let beyond = within(ask.bundle(from, network, 1, 210)).await.unwrap_err();
        assert_eq!(code(beyond), StreamErrorCode::NotFound);
        let beyond = within(ask.proof(from, network, &ProofQuery::Index(465))).await.unwrap_err();
        assert_eq!(code(beyond), StreamErrorCode::NotFound);
        let broken = within(ask.proof(from, network, &ProofQuery::Content(ContentHash([1; 32])))).await;
        assert_eq!(code(broken.unwrap_err()), StreamErrorCode::Internal);
        let elsewhere = within(ask.tile(from, NetworkId([1; 32]), 0, 0, 1)).await.unwrap_err();
        assert_eq!(code(elsewhere), StreamErrorCode::OtherNetwork);
        for (index, width) in [(0, 0), (0, 257), (u64::MAX, 1)] {
            let invalid = within(ask.bundle(from, network, index, width)).await;
            assert!(matches!(invalid, Err(RequestError::Invalid(_))));
        }
    }
}

#[tokio::test]
async fn a_bundle_of_the_longest_blocks_comes_in_parts() {
    let (one, two) = (peer(&[QUIC]).await, peer(&[]).await);
    for _ in 0..16 {
        one.ledger.push(16, limits::BLOCK_BYTES);
    }
    let from = two.join(&one).await;
    let bundle = within(two.network.bundle(from, one.ledger.network(), 0, 256)).await.unwrap();
    assert!(bundle == one.ledger.blocks(0, 256));
    assert_eq!(bundle.entries.len(), 16 * 1024 * 1024 + 256);
}

#[tokio::test]
async fn followers_get_new_checkpoints() {
    let (one, two) = (peer(&[QUIC]).await, peer(&[]).await);
    let batch = one.ledger.push(3, 100);
    one.ledger.cosign("first");
    two.join(&one).await;
    let mut stream = follow(&two, &one, 0).await;
    assert_eq!(next(&mut stream).await, batch);
    let checkpoint = async |stream: &mut FollowStream| match within(stream.next()).await {
        Ok(Some(Followed::Checkpoint(note))) => note,
        other => panic!("{other:?}"),
    };
    assert_eq!(checkpoint(&mut stream).await, b"first");
    one.ledger.cosign("second");
    assert_eq!(checkpoint(&mut stream).await, b"second");
    let batch = one.ledger.push(3, 100);
    assert_eq!(next(&mut stream).await, batch);
    assert_eq!(stream.position(), 6);
}

/// A peer that answers every ledger request with this.
async fn liar(reply: ledger_reply::Body) -> RawPeer {
    let raw = RawPeer::start().await;
    raw.serve(raw::LEDGER, move |mut stream| {
        let reply = LedgerReply { body: Some(reply.clone()) };
        async move {
            let _: LedgerRequest = raw::read_frame(&mut stream).await?;
            stream.write_all(&raw::frame(&reply)).await?;
            stream.close().await
        }
    });
    raw
}

#[tokio::test]
async fn answers_of_a_wrong_form_are_offences() {
    let network = NetworkId([1; 32]);
    let empty_block = Bundle { entries: vec![0, 0], seals: vec![] };
    let mut too_many = Bundle::default();
    assert!(too_many.push_block(b"a") && too_many.push_block(b"b"));
    let lies = [
        ledger_reply::Body::Bundle(Bundle::default()),
        ledger_reply::Body::Bundle(empty_block),
        ledger_reply::Body::Bundle(too_many),
        ledger_reply::Body::Tile(vec![1; 32]),
        ledger_reply::Body::Checkpoint(vec![]),
    ];
    for lie in lies {
        let two = peer(&[]).await;
        let raw = liar(lie.clone()).await;
        let from = two.network.connect(raw.address.clone()).await.unwrap();
        let broken = match lie {
            ledger_reply::Body::Checkpoint(_) => {
                within(two.network.checkpoint(from, network)).await.map(|_| ())
            }
            _ => within(two.network.bundle(from, network, 0, 1)).await.map(|_| ()),
        };
        assert!(matches!(broken, Err(RequestError::Malformed(_))), "{broken:?}");
        eventually(|| async { two.metrics().contains("offences_total{kind=\"malformed\"} 1") }).await;
    }
    // And so are wrong requests.
    let one = peer(&[QUIC]).await;
    let raw = RawPeer::start().await;
    let mut stream = raw.open(&one, raw::LEDGER).await;
    let network = one.ledger.network().0.to_vec();
    let request = BundleRequest { network, index: 0, width: 300, skip: 0 };
    let request = LedgerRequest { body: Some(ledger_request::Body::Bundle(request)) };
    stream.write_all(&raw::frame(&request)).await.unwrap();
    let reply: LedgerReply = within(raw::read_frame(&mut stream)).await.unwrap();
    let Some(ledger_reply::Body::Error(error)) = reply.body else { panic!("{reply:?}") };
    assert_eq!(error.code(), StreamErrorCode::Malformed);
    eventually(|| async { one.metrics().contains("offences_total{kind=\"malformed\"} 1") }).await;
}

#[tokio::test]
async fn what_only_the_ledger_can_tell_is_scored_by_its_word() {
    for (offence, times) in [
        (Offence::BadBundle, 1),
        (Offence::BadTile, 1),
        (Offence::BadProof, 1),
        (Offence::ForkedCheckpoint, 1),
        (Offence::BadCheckpoint, 2),
    ] {
        let mut one = peer(&[]).await;
        let who = PeerId::random();
        for _ in 0..times {
            one.network.penalize(who, offence).await;
        }
        one.banned(who).await;
        let line = format!("offences_total{{kind=\"{}\"}} {times}", offence.name());
        assert!(one.metrics().contains(&line));
    }
}
