//! `/antiphon/audio/1` between honest peers.

use std::time::Duration;

use antiphon_p2p::{
    AudioRefusal, Config, Event, FetchError, RequestError, StreamLimits, Timeouts, UploadLimits,
};
use antiphon_proto::{
    ContentHash,
    wire::{AudioMode, AudioReply, AudioRequest, ByteRange, StreamErrorCode, audio_reply},
};
use futures::AsyncWriteExt;

use crate::{
    harness::{QUIC, TCP, Wanted, config, eventually, peer, sample, start, within},
    raw::{self, RawPeer},
};

const MIB: u64 = 1024 * 1024;

#[tokio::test]
async fn files_of_every_boundary_size_arrive_whole() {
    for transport in [QUIC, TCP] {
        let (one, two) = (peer(&[transport]).await, peer(&[]).await);
        let from = two.join(&one).await;
        for size in [1, 16_383, 16_384, 16_385, 32_768, MIB - 1, MIB, MIB + 1, 10 * MIB] {
            let bytes = sample(size);
            let content = one.library.add(&bytes);
            assert!(within(two.network.has(from, content)).await.unwrap());
            let wanted = Wanted::new(content, size);
            let fetched = two.fetch(from, &wanted).await.unwrap();
            assert_eq!(fetched.fetched_bytes, size);
            let progress = *wanted.progress.borrow();
            assert_eq!((progress.verified_bytes, progress.total), (size, size));
            assert!(wanted.finish(fetched) == bytes, "{size} bytes over {transport}");
        }
        let metrics = one.metrics();
        assert!(metrics.contains("antiphon_p2p_served_bytes_total"), "{metrics}");
        let info = &two.network.peers().await[0];
        assert!(info.fetched_bytes > 13 * MIB, "{info:?}");
    }
}

#[tokio::test]
async fn refusals_say_why() {
    let (one, two) = (peer(&[QUIC]).await, peer(&[]).await);
    let from = two.join(&one).await;
    let unknown = ContentHash([1; 32]);
    assert!(!within(two.network.has(from, unknown)).await.unwrap());
    let refused = two.fetch(from, &Wanted::new(unknown, 5)).await.unwrap_err();
    assert!(matches!(refused, FetchError::Refused(AudioRefusal::NotFound)), "{refused}");
    let content = one.library.add(&sample(50_000));
    let size = two.fetch(from, &Wanted::new(content, 50_001)).await.unwrap_err();
    assert!(matches!(size, FetchError::Size { expected: 50_001, found: 50_000 }), "{size}");
    let empty = two.fetch(from, &Wanted::new(content, 0)).await.unwrap_err();
    assert!(matches!(empty, FetchError::Disk(_)), "{empty}");
    let mut long = Wanted::new(content, 50_000);
    long.fetch.access_token = vec![0; 513];
    let invalid = two.fetch(from, &long).await.unwrap_err();
    assert!(matches!(invalid, FetchError::Request(RequestError::Invalid(_))), "{invalid}");
    let stranger =
        two.fetch(antiphon_p2p::PeerId::random(), &Wanted::new(content, 50_000)).await.unwrap_err();
    assert!(matches!(stranger, FetchError::Request(RequestError::NotConnected(_))), "{stranger}");
}

#[tokio::test]
async fn requests_that_break_a_rule_are_answered_and_counted() {
    let mut one = peer(&[QUIC]).await;
    let content = one.library.add(&sample(50_000));
    let raw = RawPeer::start().await;
    let ask = async |ranges: Vec<(u64, u64)>| {
        let ranges = ranges.into_iter().map(|(start, end)| ByteRange { start, end }).collect();
        let mode = AudioMode::Play.into();
        let request =
            AudioRequest { content_hash: content.0.to_vec(), ranges, mode, access_token: Vec::new() };
        let mut stream = raw.open(&one, raw::AUDIO).await;
        stream.write_all(&raw::frame(&request)).await.unwrap();
        let reply: AudioReply = within(raw::read_frame(&mut stream)).await.unwrap();
        match reply.body {
            Some(audio_reply::Body::Error(error)) => Err(error.code()),
            Some(audio_reply::Body::Serving(serving)) => Ok(serving.size),
            None => panic!("an empty reply"),
        }
    };
    assert_eq!(ask(vec![(0, 1), (20_000, 60_000)]).await, Ok(50_000));
    // Beyond the end: an answer, no offence, however often.
    for _ in 0..10 {
        assert_eq!(ask(vec![(50_000, 50_001)]).await, Err(StreamErrorCode::Malformed));
    }
    // So is a mode that a later version may have.
    for _ in 0..6 {
        let (content_hash, ranges) = (content.0.to_vec(), vec![ByteRange { start: 0, end: 1 }]);
        let request = AudioRequest { content_hash, ranges, mode: 77, access_token: Vec::new() };
        let mut stream = raw.open(&one, raw::AUDIO).await;
        stream.write_all(&raw::frame(&request)).await.unwrap();
        let reply: AudioReply = within(raw::read_frame(&mut stream)).await.unwrap();
        let Some(audio_reply::Body::Error(error)) = reply.body else { panic!("{reply:?}") };
        assert_eq!(error.code(), StreamErrorCode::Malformed);
    }
    assert_eq!(ask(vec![]).await, Err(StreamErrorCode::Malformed));
    assert_eq!(ask(vec![(5, 5)]).await, Err(StreamErrorCode::Malformed));
    assert_eq!(ask(vec![(5, 9), (7, 12)]).await, Err(StreamErrorCode::Malformed));
    let _ = ask(vec![(0, 1); 65]).await;
    one.banned(raw.id).await;
}

#[tokio::test]
async fn a_changed_file_is_noticed_and_never_sent() {
    let (one, two) = (peer(&[QUIC]).await, peer(&[]).await);
    let from = two.join(&one).await;
    let mut bytes = sample(4 * MIB);
    let content = one.library.add(&bytes);
    bytes[3_000_000] ^= 1;
    std::fs::write(one.library.path(&content), &bytes).unwrap();
    let wanted = Wanted::new(content, 4 * MIB);
    let refused = two.fetch(from, &wanted).await.unwrap_err();
    assert!(matches!(refused, FetchError::Refused(AudioRefusal::Gone)), "{refused}");
    assert_eq!(*one.library.failed.lock().unwrap(), [content]);
    // All before the change is good and kept; the peer is not to blame.
    assert_eq!(wanted.progress.borrow().verified_bytes, 3_000_000 / 16_384 * 16_384);
    assert!(!within(two.network.has(from, content)).await.unwrap());
    assert_eq!(two.network.peers().await.len(), 1);
    assert!(one.metrics().contains("antiphon_p2p_changed_files_total 1"));
}

#[tokio::test]
async fn upload_places_are_bounded_and_taken_back() {
    let uploads =
        UploadLimits { slots: 1, queue_wait: Duration::from_millis(100), ..UploadLimits::default() };
    let timeouts = Timeouts { write: Duration::from_millis(500), ..Timeouts::default() };
    let one = start(Config { uploads, timeouts, ..config(&[QUIC]) }, rand::random()).await;
    let two = peer(&[]).await;
    let from = two.join(&one).await;
    let bytes = sample(20 * MIB);
    let content = one.library.add(&bytes);
    let raw = RawPeer::start().await;
    let ranges = vec![ByteRange { start: 0, end: 20 * MIB }];
    let request = AudioRequest { content_hash: content.0.to_vec(), ranges, ..AudioRequest::default() };
    let mut idle = raw.open(&one, raw::AUDIO).await;
    idle.write_all(&raw::frame(&request)).await.unwrap();
    let _: AudioReply = within(raw::read_frame(&mut idle)).await.unwrap();
    let wanted = Wanted::new(content, 20 * MIB);
    let busy = two.fetch(from, &wanted).await.unwrap_err();
    assert!(matches!(busy, FetchError::Refused(AudioRefusal::Busy)), "{busy}");
    // Whoever takes nothing loses the place.
    eventually(|| async { two.network.has(from, content).await.is_ok() }).await;
    eventually(|| async { two.fetch(from, &wanted).await.is_ok() }).await;
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_network() {
    let (mut one, mut two) = (peer(&[QUIC]).await, peer(&[]).await);
    let from = two.join(&one).await;
    one.event(|event| matches!(event, Event::Connected { .. }).then_some(())).await;
    let stream = within(one.network.follow(two.id(), one.ledger.network(), 0)).await.unwrap();
    drop(one);
    two.event(|event| matches!(event, Event::Disconnected { peer, .. } if *peer == from).then_some(())).await;
    drop(stream);
}

#[tokio::test]
async fn a_burst_beyond_the_limits_is_served_in_the_end() {
    let streams = StreamLimits { inbound_per_peer: 4, ..StreamLimits::default() };
    let one = start(Config { streams, ..config(&[QUIC]) }, rand::random()).await;
    let two = peer(&[]).await;
    let from = two.join(&one).await;
    let asking = (0..60).map(|_| two.network.ledger_info(from));
    let answers = within(futures::future::join_all(asking)).await;
    let failed: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[tokio::test]
async fn a_shutdown_is_seen_at_once_and_ends_everything() {
    let (one, mut two) = (peer(&[QUIC]).await, peer(&[]).await);
    let from = two.join(&one).await;
    one.network.shutdown().await;
    two.event(|event| matches!(event, Event::Disconnected { peer, .. } if *peer == from).then_some(())).await;
    let gone = two.fetch(from, &Wanted::new(ContentHash([1; 32]), 5)).await.unwrap_err();
    assert!(matches!(gone, FetchError::Request(RequestError::NotConnected(_))), "{gone}");
    assert!(one.network.connect(QUIC.parse().unwrap()).await.is_err());
    assert!(one.network.peers().await.is_empty());
}
