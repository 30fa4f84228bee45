//! Downloads that are interrupted, damaged and continued.

use antiphon_p2p::FetchError;
use futures::AsyncWriteExt;

use crate::{
    harness::{QUIC, Wanted, eventually, peer, sample},
    raw::{self, RawPeer},
};

const MIB: u64 = 1024 * 1024;

#[tokio::test]
async fn a_server_killed_in_the_middle_costs_only_what_had_not_come() {
    let size = 8 * MIB + 5;
    let bytes = sample(size);
    let (one, two) = (peer(&[QUIC]).await, peer(&[]).await);
    let content = one.library.add(&bytes);
    let wanted = Wanted::new(content, size);
    let dying = RawPeer::start().await;
    let half = raw::bao_stream(&bytes, &[antiphon_proto::wire::ByteRange { start: 0, end: size }]);
    let half = half[..half.len() / 2].to_vec();
    let (sent, mut all_sent) = tokio::sync::mpsc::channel::<()>(4);
    dying.serve(raw::AUDIO, move |mut stream| {
        let (half, sent) = (half.clone(), sent.clone());
        async move {
            raw::accept_audio(&mut stream, size).await?;
            stream.write_all(&half).await?;
            stream.flush().await?;
            let _ = sent.send(()).await;
            std::future::pending().await
        }
    });
    let from = two.network.connect(dying.address.clone()).await.unwrap();
    let mut progress = wanted.progress.subscribe();
    let killing = async {
        all_sent.recv().await.unwrap();
        // Everything that was sent is on disk, but for the group that was cut.
        progress.wait_for(|progress| progress.verified_bytes > size / 2 - 40_000).await.unwrap();
        two.network.disconnect(from, "killed").await;
        drop(dying);
    };
    let (ended, ()) = tokio::join!(two.fetch(from, &wanted), killing);
    let Err(FetchError::Closed { verified, total }) = ended else { panic!("{ended:?}") };
    assert_eq!(total, size);
    // Another process, another peer: only the rest is asked for and comes.
    let from = two.join(&one).await;
    let fetched = two.fetch(from, &wanted).await.unwrap();
    assert_eq!(fetched.fetched_bytes, size - verified);
    assert_eq!(one.library.asked_bytes(), size - verified);
    assert!(wanted.finish(fetched) == bytes);
}

#[tokio::test]
async fn damage_between_two_runs_is_found_and_repaired() {
    let size = 5 * MIB;
    let bytes = sample(size);
    let (one, two) = (peer(&[QUIC]).await, peer(&[]).await);
    let content = one.library.add(&bytes);
    let from = two.join(&one).await;
    let wanted = Wanted::new(content, size);
    drop(two.fetch(from, &wanted).await.unwrap());
    let mut on_disk = std::fs::read(&wanted.fetch.part).unwrap();
    on_disk[100] ^= 1;
    on_disk[3_000_000] ^= 1;
    std::fs::write(&wanted.fetch.part, &on_disk).unwrap();
    one.library.requests.lock().unwrap().clear();
    let fetched = two.fetch(from, &wanted).await.unwrap();
    assert_eq!((fetched.fetched_bytes, one.library.asked_bytes()), (2 * 16_384, 2 * 16_384));
    assert!(wanted.finish(fetched) == bytes);
}

#[tokio::test]
async fn more_holes_than_a_request_may_name_are_filled() {
    let size = 400 * 16_384 + 1;
    let bytes = sample(size);
    let (one, two) = (peer(&[QUIC]).await, peer(&[]).await);
    let content = one.library.add(&bytes);
    let from = two.join(&one).await;
    let wanted = Wanted::new(content, size);
    drop(two.fetch(from, &wanted).await.unwrap());
    let mut on_disk = std::fs::read(&wanted.fetch.part).unwrap();
    for group in (0..400).step_by(2) {
        on_disk[group * 16_384] ^= 1;
    }
    std::fs::write(&wanted.fetch.part, &on_disk).unwrap();
    one.library.requests.lock().unwrap().clear();
    let fetched = two.fetch(from, &wanted).await.unwrap();
    assert_eq!(fetched.fetched_bytes, 200 * 16_384);
    assert_eq!(one.library.requests.lock().unwrap().len(), 4);
    assert!(wanted.finish(fetched) == bytes);
}

#[tokio::test]
async fn a_fetch_that_is_dropped_keeps_what_it_had() {
    let size = 64 * MIB;
    let bytes = sample(size);
    let (one, two) = (peer(&[QUIC]).await, peer(&[]).await);
    let content = one.library.add(&bytes);
    let from = two.join(&one).await;
    let wanted = Wanted::new(content, size);
    let mut progress = wanted.progress.subscribe();
    tokio::select! {
        ended = two.fetch(from, &wanted) => panic!("faster than the first progress: {ended:?}"),
        _ = progress.wait_for(|progress| progress.verified_bytes > 0) => {}
    }
    one.library.requests.lock().unwrap().clear();
    // The thread of the first fetch lets go of the file within moments.
    let fetched = std::cell::RefCell::new(None);
    eventually(|| async {
        *fetched.borrow_mut() = two.fetch(from, &wanted).await.ok();
        fetched.borrow().is_some()
    })
    .await;
    let fetched = fetched.into_inner().unwrap();
    assert!(fetched.fetched_bytes < size);
    assert!(wanted.finish(fetched) == bytes);
}
