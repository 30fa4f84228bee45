//! Time is tokio's paused one: it moves when everybody waits.

use std::num::NonZeroU64;

use futures::FutureExt;
use tokio::{task::JoinSet, time::Instant};

use super::*;

const PLAY: AudioMode = AudioMode::Play;
const BULK: AudioMode = AudioMode::Bulk;
const PIECE: usize = 256 * 1024;

fn start(limits: UploadLimits) -> (Uploads, JoinSet<()>) {
    let uploads = Uploads::new(limits, Metrics::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(uploads.clone().pace(CancellationToken::new()));
    (uploads, tasks)
}

fn small() -> UploadLimits {
    UploadLimits { slots: 1, play_reserve: 0, ..UploadLimits::default() }
}

fn at(bytes_per_second: u64) -> UploadLimits {
    UploadLimits { total_bytes_per_second: NonZeroU64::new(bytes_per_second), ..UploadLimits::default() }
}

/// Nothing is left of uploads that are gone.
fn assert_empty(uploads: &Uploads) {
    let state = uploads.0.lock();
    assert!(state.entering.is_empty() && state.signals.is_empty() && uploads.0.pacer.is_idle(), "{state:?}");
    assert_eq!(state.places.waiting(PLAY) + state.places.waiting(BULK), 0);
}

#[tokio::test(start_paused = true)]
async fn without_limits_nothing_waits() {
    let uploads = Uploads::new(UploadLimits::default(), Metrics::default());
    let upload = uploads.enter(PeerId::random(), BULK).now_or_never().unwrap().unwrap();
    assert_eq!(upload.permit(PIECE).now_or_never(), Some(Ok(PIECE)));
    assert_eq!(uploads.0.metrics.uploads.get_or_create(&label(BULK)).get(), 1);
    drop(upload);
    assert_eq!(uploads.0.metrics.uploads.get_or_create(&label(BULK)).get(), 0);
    assert_empty(&uploads);
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_a_place_and_not_for_ever() {
    let (uploads, _pacer) = start(small());
    let begun = Instant::now();
    let first = uploads.enter(PeerId::random(), BULK).await.unwrap();
    assert_eq!(uploads.enter(PeerId::random(), BULK).await.unwrap_err(), Busy);
    assert_eq!(begun.elapsed().as_secs(), 3);
    let busy = uploads.0.metrics.uploads_busy.get_or_create(&label(BULK)).get();
    assert_eq!((busy, uploads.0.metrics.upload_queue.get_or_create(&label(BULK)).get()), (1, 0));
    // Given up while it waits: the next one is not held up.
    let given_up = time::timeout(Duration::from_millis(10), uploads.enter(PeerId::random(), BULK)).await;
    assert!(given_up.is_err());
    let (second, ()) = tokio::join!(uploads.enter(PeerId::random(), BULK), async {
        time::sleep(Duration::from_secs(1)).await;
        drop(first);
    });
    drop(second.unwrap());
    assert_empty(&uploads);
}

#[tokio::test(start_paused = true)]
async fn bulk_that_makes_room_goes_on_afterwards() {
    let (uploads, _pacer) = start(small());
    let bulk = uploads.enter(PeerId::random(), BULK).await.unwrap();
    let play = uploads.enter(PeerId::random(), PLAY).now_or_never().unwrap().unwrap();
    // Paused, it sends a short piece now and then.
    let begun = Instant::now();
    for pause in 1..4 {
        assert_eq!(bulk.permit(PIECE).await, Ok(64 * 1024));
        assert_eq!(begun.elapsed(), pause * PAUSE);
    }
    let (permitted, ()) = tokio::join!(bulk.permit(PIECE), async { drop(play) });
    assert_eq!((permitted, begun.elapsed()), (Ok(PIECE), 3 * PAUSE));
    drop(bulk);
    assert_empty(&uploads);
}

/// Sends pieces for so many seconds, and gives how many bytes.
async fn send(uploads: Uploads, peer: PeerId, mode: AudioMode, seconds: u64) -> usize {
    let end = Instant::now() + Duration::from_secs(seconds);
    let upload = uploads.enter(peer, mode).await.unwrap();
    let mut sent = 0;
    while let Ok(permitted) = time::timeout_at(end, upload.permit(PIECE)).await {
        let permitted = permitted.unwrap();
        assert!(permitted <= 64 * 1024);
        sent += permitted;
    }
    sent
}

#[tokio::test(start_paused = true)]
async fn rates_are_kept_and_shared() {
    let (uploads, _pacer) = start(at(2_000_000));
    let peers: Vec<_> = (0..3).map(|_| PeerId::random()).collect();
    let greedy = (0..8).map(|_| send(uploads.clone(), peers[0], BULK, 20));
    let greedy = async { futures::future::join_all(greedy).await.iter().sum::<usize>() };
    let (greedy, modest) = tokio::join!(greedy, send(uploads.clone(), peers[1], BULK, 20));
    for sent in [greedy, modest] {
        assert!((19_500_000..20_600_000).contains(&sent), "{greedy} {modest}");
    }
    let (play, bulk) =
        tokio::join!(send(uploads.clone(), peers[2], PLAY, 20), send(uploads.clone(), peers[0], BULK, 20));
    assert!(
        (37_500_000..38_600_000).contains(&play) && (1_900_000..2_200_000).contains(&bulk),
        "{play} {bulk}"
    );
    assert_empty(&uploads);
}

#[tokio::test(start_paused = true)]
async fn a_limit_can_be_lifted_and_imposed() {
    let (uploads, _pacer) = start(at(1));
    let upload = uploads.enter(PeerId::random(), PLAY).await.unwrap();
    // The burst, then next to nothing.
    for _ in 0..4 {
        assert_eq!(upload.permit(PIECE).now_or_never(), Some(Ok(16 * 1024)));
    }
    let begun = Instant::now();
    let (permitted, ()) = tokio::join!(upload.permit(PIECE), async {
        time::sleep(Duration::from_secs(7)).await;
        uploads.set(UploadLimits::default());
    });
    assert_eq!((permitted, begun.elapsed().as_secs()), (Ok(16 * 1024), 7));
    assert_eq!(upload.permit(PIECE).await, Ok(PIECE));
    uploads.set(at(1_000_000));
    assert_eq!(upload.permit(PIECE).await, Ok(50_000));
    // A permit that nobody waits for any more does not hold the others up.
    let other = uploads.enter(PeerId::random(), PLAY).await.unwrap();
    while upload.permit(PIECE).now_or_never().is_some() {}
    assert_eq!(other.permit(PIECE).await, Ok(50_000));
    drop((upload, other));
    assert_empty(&uploads);
}

#[test]
fn a_slow_rate_feeds_few() {
    assert_eq!(bounds(&UploadLimits::default()).total, 32);
    for (rate, places) in [(1, 1), (16_384, 2), (100_000, 12), (u64::MAX, 32)] {
        assert_eq!(bounds(&at(rate)).total, places);
    }
    assert_eq!(bounds(&UploadLimits { slots: 0, ..at(1) }).total, 0);
}

#[tokio::test(start_paused = true)]
async fn the_day_ends_for_bulk() {
    let limits = UploadLimits { bytes_per_day: NonZeroU64::new(1_000_000), ..UploadLimits::default() };
    let (uploads, _pacer) = start(limits.clone());
    let bulk = uploads.enter(PeerId::random(), BULK).await.unwrap();
    let play = uploads.enter(PeerId::random(), PLAY).await.unwrap();
    for _ in 0..4 {
        assert_eq!(bulk.permit(PIECE).await, Ok(PIECE));
    }
    assert_eq!(bulk.permit(PIECE).await, Err(OverQuota));
    assert_eq!(uploads.enter(PeerId::random(), BULK).await.unwrap_err(), Busy);
    assert_eq!(play.permit(PIECE).await, Ok(PIECE));
    uploads.set(UploadLimits { quota_stops_play: true, ..limits });
    assert_eq!(play.permit(PIECE).await, Err(OverQuota));
    uploads.set(UploadLimits::default());
    assert_eq!(bulk.permit(PIECE).await, Ok(PIECE));
}
