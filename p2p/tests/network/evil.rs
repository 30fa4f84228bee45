//! Peers that lie, dawdle or flood.

use std::time::Duration;

use antiphon_p2p::{Config, Event, FetchError, Followed, RequestError, Timeouts, decode::BadBytes};
use antiphon_proto::{
    ContentHash, limits,
    wire::{Batch, LedgerFrame, LedgerInfo, ledger_frame},
};
use futures::{AsyncReadExt, AsyncWriteExt};

use crate::{
    harness::{Peer, QUIC, Wanted, config, eventually, peer, sample, start, within},
    raw::{self, RawPeer},
};

const MIB: u64 = 1024 * 1024;

/// A peer that soon loses patience.
async fn impatient() -> Peer {
    let timeouts = Timeouts {
        request: Duration::from_secs(2),
        message: Duration::from_millis(500),
        stall: Duration::from_millis(500),
        ..Timeouts::default()
    };
    start(Config { timeouts, ..config(&[QUIC]) }, rand::random()).await
}

#[tokio::test]
async fn a_flipped_byte_is_caught_in_its_group_and_its_sender_banned() {
    let size = 2 * MIB;
    let bytes = sample(size);
    let content = ContentHash::of(&bytes);
    for flipped in [0usize, 16_384, 1_000_000, 2_097_151] {
        let mut two = peer(&[]).await;
        let liar = RawPeer::start().await;
        let mut lie = bytes.clone();
        lie[flipped] ^= 0x10;
        let good = bytes.clone();
        liar.serve(raw::AUDIO, move |mut stream| {
            let (good, lie) = (good.clone(), lie.clone());
            async move {
                let request = raw::accept_audio(&mut stream, size).await?;
                // The true hashes around one false byte.
                let mut encoded = raw::bao_stream(&good, &request.ranges);
                let place = encoded.windows(48).position(|window| {
                    let end = (flipped + 1).max(48);
                    window == &good[end - 48..end]
                });
                encoded[place.unwrap() + 47.min(flipped)] = lie[flipped];
                stream.write_all(&encoded).await?;
                stream.close().await
            }
        });
        let from = two.network.connect(liar.address.clone()).await.unwrap();
        let wanted = Wanted::new(content, size);
        let caught = two.fetch(from, &wanted).await.unwrap_err();
        let group = (flipped / 16_384 * 16_384) as u64;
        assert!(matches!(caught, FetchError::BadBytes(BadBytes { offset }) if offset == group), "{caught}");
        // On disk: all that was good before, and nothing after.
        let on_disk = std::fs::read(&wanted.fetch.part).unwrap();
        let (kept, rest) = on_disk.split_at(usize::try_from(group).unwrap());
        assert!(kept == &bytes[..kept.len()] && rest.iter().all(|byte| *byte == 0));
        two.banned(from).await;
        eventually(|| async { two.network.peers().await.is_empty() }).await;
        assert!(two.network.connect(liar.address.clone()).await.is_err());
        assert!(two.metrics().contains("antiphon_p2p_bad_bytes_total 1"));
        // An honest peer gets the rest.
        let one = peer(&[QUIC]).await;
        one.library.add(&bytes);
        let fetched = two.fetch(two.join(&one).await, &wanted).await.unwrap();
        assert_eq!(fetched.fetched_bytes, size - group);
        assert!(wanted.finish(fetched) == bytes);
    }
}

#[tokio::test]
async fn silence_is_a_stall_and_no_lie() {
    let size = MIB;
    let bytes = sample(size);
    let content = ContentHash::of(&bytes);
    for good_bytes in [0, 20_000, 500_000] {
        let two = impatient().await;
        let silent = RawPeer::start().await;
        let bytes = bytes.clone();
        silent.serve(raw::AUDIO, move |mut stream| {
            let bytes = bytes.clone();
            async move {
                let request = raw::accept_audio(&mut stream, size).await?;
                stream.write_all(&raw::bao_stream(&bytes, &request.ranges)[..good_bytes]).await?;
                stream.flush().await?;
                std::future::pending().await
            }
        });
        let from = two.network.connect(silent.address.clone()).await.unwrap();
        let wanted = Wanted::new(content, size);
        let stalled = two.fetch(from, &wanted).await.unwrap_err();
        let FetchError::Stalled { verified, total, .. } = stalled else { panic!("{stalled}") };
        assert_eq!(total, size);
        assert!(verified <= good_bytes as u64 && verified + 18_000 >= good_bytes as u64, "{verified}");
        assert_eq!(two.network.peers().await.len(), 1, "not banned");
    }
}

#[tokio::test]
async fn a_trickle_that_completes_no_group_is_a_stall() {
    let size = MIB;
    let bytes = sample(size);
    let content = ContentHash::of(&bytes);
    let two = impatient().await;
    let slow = RawPeer::start().await;
    slow.serve(raw::AUDIO, move |mut stream| {
        let bytes = bytes.clone();
        async move {
            let request = raw::accept_audio(&mut stream, size).await?;
            for byte in raw::bao_stream(&bytes, &request.ranges) {
                stream.write_all(&[byte]).await?;
                stream.flush().await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        }
    });
    let from = two.network.connect(slow.address.clone()).await.unwrap();
    let stalled = two.fetch(from, &Wanted::new(content, size)).await.unwrap_err();
    assert!(matches!(stalled, FetchError::Stalled { verified: 0, .. }), "{stalled}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_a_stall() {
    let two = impatient().await;
    let mute = RawPeer::start().await;
    mute.serve(raw::AUDIO, |stream| async move {
        let _held = stream;
        std::future::pending().await
    });
    let from = two.network.connect(mute.address.clone()).await.unwrap();
    let stalled = two.fetch(from, &Wanted::new(ContentHash([1; 32]), 5)).await.unwrap_err();
    assert!(matches!(stalled, FetchError::Stalled { .. }), "{stalled}");
    // One that speaks no such protocol is told apart.
    let unknown = within(two.network.ledger_info(from)).await.unwrap_err();
    assert!(matches!(unknown, RequestError::Unsupported(_)), "{unknown:?}");
}

#[tokio::test]
async fn a_clean_end_in_the_middle_is_no_success() {
    let size = MIB;
    let bytes = sample(size);
    let content = ContentHash::of(&bytes);
    let two = peer(&[]).await;
    let short = RawPeer::start().await;
    short.serve(raw::AUDIO, move |mut stream| {
        let bytes = bytes.clone();
        async move {
            let request = raw::accept_audio(&mut stream, size).await?;
            let encoded = raw::bao_stream(&bytes, &request.ranges);
            stream.write_all(&encoded[..encoded.len() / 2]).await?;
            stream.close().await
        }
    });
    let from = two.network.connect(short.address.clone()).await.unwrap();
    let closed = two.fetch(from, &Wanted::new(content, size)).await.unwrap_err();
    assert!(matches!(closed, FetchError::Closed { verified, .. } if verified > 0), "{closed}");
    assert_eq!(two.network.peers().await.len(), 1, "not banned");
}

#[tokio::test]
async fn broken_messages_to_a_server_cost_a_ban() {
    // How often each may happen before the ban; the last one of each kind brings it.
    let cases: [(&[u8], usize); 3] = [(b"\0\0\0\x03abc", 4), (b"\xff\xff\xff\xff", 2), (b"\0\x01\0\x01", 2)];
    for (bytes, times) in cases {
        let mut one = peer(&[QUIC]).await;
        let raw = RawPeer::start().await;
        for _ in 0..times {
            let mut stream = raw.open(&one, raw::LEDGER).await;
            stream.write_all(bytes).await.unwrap();
            stream.flush().await.unwrap();
            let mut rest = Vec::new();
            let _ = within(stream.read_to_end(&mut rest)).await;
        }
        one.banned(raw.id).await;
        eventually(|| async { one.network.peers().await.is_empty() }).await;
    }
}

#[tokio::test]
async fn half_messages_do_not_hold_streams_for_long() {
    let mut one = impatient().await;
    let raw = RawPeer::start().await;
    let mut streams = Vec::new();
    for protocol in [raw::LEDGER, raw::REGISTER, raw::AUDIO].iter().cycle().take(10) {
        let mut stream = raw.open(&one, protocol.clone()).await;
        stream.write_all(b"\0\0\0").await.unwrap();
        stream.flush().await.unwrap();
        streams.push(stream);
    }
    for stream in &mut streams {
        let mut rest = Vec::new();
        let _ = within(stream.read_to_end(&mut rest)).await;
        assert_eq!(rest, b"");
    }
    one.banned(raw.id).await;
}

#[tokio::test]
async fn broken_answers_are_refused_and_counted() {
    let mut two = peer(&[]).await;
    let liar = RawPeer::start().await;
    let reply = LedgerInfo { genesis: vec![1; limits::GENESIS_BYTES + 1], size: 1, seal: Vec::new() };
    liar.serve(raw::LEDGER, move |mut stream| {
        let reply = raw::frame(&reply);
        async move {
            stream.write_all(&reply).await?;
            stream.close().await
        }
    });
    let from = two.network.connect(liar.address.clone()).await.unwrap();
    for _ in 0..4 {
        let refused = within(two.network.ledger_info(from)).await;
        assert!(matches!(refused, Err(RequestError::Malformed(_))), "{refused:?}");
    }
    two.banned(from).await;
}

#[tokio::test]
async fn batches_out_of_order_end_the_following() {
    let two = peer(&[]).await;
    let liar = RawPeer::start().await;
    liar.serve(raw::LEDGER, move |mut stream| async move {
        for first in [0, 1, 3] {
            let batch = Batch { first, blocks: vec![vec![1]], seal: Vec::new() };
            let frame = LedgerFrame { body: Some(ledger_frame::Body::Batch(batch)) };
            stream.write_all(&raw::frame(&frame)).await?;
        }
        stream.flush().await?;
        std::future::pending().await
    });
    let from = two.network.connect(liar.address.clone()).await.unwrap();
    let mut stream = two.network.follow(from, two.ledger.network(), 0).await.unwrap();
    for first in [0, 1] {
        let next = within(stream.next()).await.unwrap().unwrap();
        assert!(matches!(next, Followed::Batch(batch) if batch.first == first));
    }
    assert!(matches!(within(stream.next()).await, Err(RequestError::Malformed(_))));
    assert_eq!(stream.position(), 2);
}

#[tokio::test]
async fn a_ban_closes_the_connection_and_says_so() {
    let (one, mut two) = (peer(&[QUIC]).await, peer(&[]).await);
    let from = two.join(&one).await;
    two.network.penalize(from, antiphon_p2p::Offence::BadBatch).await;
    let duration = two
        .event(|event| match event {
            Event::Banned { peer, duration } if *peer == from => Some(*duration),
            _ => None,
        })
        .await;
    assert_eq!(duration, Duration::from_secs(300));
    let reason = two
        .event(|event| match event {
            Event::Disconnected { peer, reason } if *peer == from => Some(reason.clone()),
            _ => None,
        })
        .await;
    assert_eq!(reason, antiphon_p2p::DisconnectReason::Banned);
    assert!(two.network.connect(one.address().await).await.is_err());
}
