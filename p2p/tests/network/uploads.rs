//! Places, rates and quotas of the serving side. What is compared is bytes at moments, never times.

use std::{
    io::{Seek, SeekFrom, Write},
    num::NonZeroU64,
    sync::Arc,
    time::Duration,
};

use antiphon_p2p::{AudioRefusal, Config, FetchError, Network, PeerId, UploadLimits};
use antiphon_proto::{ContentHash, wire::AudioMode};
use tokio::task::{JoinHandle, JoinSet};

use crate::harness::{Peer, QUIC, TCP, Wanted, config, eventually, peer, sample, start, within};

const MIB: u64 = 1024 * 1024;

async fn server(transport: &str, uploads: UploadLimits) -> Peer {
    start(Config { uploads, ..config(&[transport]) }, rand::random()).await
}

fn at(bytes_per_second: u64) -> UploadLimits {
    UploadLimits { total_bytes_per_second: NonZeroU64::new(bytes_per_second), ..UploadLimits::default() }
}

/// A fetch that runs beside the test.
struct Fetching {
    wanted: Arc<Wanted>,
    task: JoinHandle<Result<Vec<u8>, FetchError>>,
}

impl Fetching {
    fn start(network: &Network, from: PeerId, content: ContentHash, size: u64, mode: AudioMode) -> Self {
        let mut wanted = Wanted::new(content, size);
        wanted.fetch.mode = mode;
        let (network, wanted) = (network.clone(), Arc::new(wanted));
        let fetching = wanted.clone();
        let task = tokio::spawn(async move {
            let (fetch, progress) = (fetching.fetch.clone(), fetching.progress.clone());
            let fetched = within(network.fetch(from, fetch, progress)).await?;
            Ok(fetching.finish(fetched))
        });
        Self { wanted, task }
    }

    fn verified(&self) -> u64 {
        self.wanted.progress.borrow().verified_bytes
    }

    async fn reaches(&self, bytes: u64) {
        let mut progress = self.wanted.progress.subscribe();
        within(progress.wait_for(|progress| progress.verified_bytes >= bytes)).await.unwrap();
    }

    async fn done(self) -> Result<Vec<u8>, FetchError> {
        within(self.task).await.unwrap()
    }
}

#[tokio::test]
async fn play_goes_before_bulk() {
    for transport in [QUIC, TCP] {
        let one = server(transport, at(4_000_000)).await;
        let (long, song) = (one.library.add(&sample(64 * MIB)), one.library.add(&sample(4 * MIB)));
        let (two, three) = (peer(&[]).await, peer(&[]).await);
        let from = two.join(&one).await;
        three.join(&one).await;
        let bulk: Vec<_> =
            (0..4).map(|_| Fetching::start(&two.network, from, long, 64 * MIB, AudioMode::Bulk)).collect();
        for fetch in &bulk {
            fetch.reaches(MIB / 4).await;
        }
        let verified = || bulk.iter().map(Fetching::verified).sum::<u64>();
        let play = Fetching::start(&three.network, from, song, 4 * MIB, AudioMode::Play);
        play.reaches(MIB / 2).await;
        let before = verified();
        play.reaches(7 * MIB / 2).await;
        let meanwhile = verified() - before;
        // 3 MiB of play; even sharing would be as much, five parts of a hundred are 160 KiB.
        assert!(meanwhile < MIB, "{meanwhile} bytes of bulk");
        assert!(play.done().await.unwrap() == sample(4 * MIB));
        // And bulk goes on.
        let before = verified();
        eventually(|| async { verified() > before + MIB }).await;
    }
}

#[tokio::test]
async fn play_takes_the_place_of_bulk_and_gives_it_back() {
    let limits = UploadLimits { slots: 1, ..at(4_000_000) };
    let one = server(QUIC, limits).await;
    let (long, song) = (one.library.add(&sample(8 * MIB)), one.library.add(&sample(2 * MIB)));
    let (two, three) = (peer(&[]).await, peer(&[]).await);
    let from = two.join(&one).await;
    three.join(&one).await;
    let bulk = Fetching::start(&two.network, from, long, 8 * MIB, AudioMode::Bulk);
    bulk.reaches(MIB).await;
    let play = Fetching::start(&three.network, from, song, 2 * MIB, AudioMode::Play);
    play.reaches(MIB / 2).await;
    let before = bulk.verified();
    play.reaches(2 * MIB).await;
    let meanwhile = bulk.verified() - before;
    assert!(meanwhile < MIB / 2, "{meanwhile} bytes of bulk");
    assert!(play.done().await.unwrap() == sample(2 * MIB));
    assert!(bulk.done().await.unwrap() == sample(8 * MIB));
    let asked = one.library.requests.lock().unwrap().len();
    assert_eq!(asked, 2, "bulk was paused, not ended");
}

#[tokio::test]
async fn thirty_peers_at_once_are_all_served() {
    let limits = UploadLimits {
        slots: 4,
        play_reserve: 1,
        queue_wait: Duration::from_secs(15),
        ..UploadLimits::default()
    };
    let one = server(QUIC, limits).await;
    let bytes = sample(MIB);
    let content = one.library.add(&bytes);
    let mut peers = Vec::new();
    for _ in 0..30 {
        let peer = peer(&[]).await;
        peer.join(&one).await;
        peers.push(peer);
    }
    let mut fetches = JoinSet::new();
    for (number, peer) in peers.iter().enumerate() {
        let mode = if number % 3 == 0 { AudioMode::Play } else { AudioMode::Bulk };
        let fetching = Fetching::start(&peer.network, one.id(), content, MIB, mode);
        fetches.spawn(fetching.done());
    }
    while let Some(fetched) = fetches.join_next().await {
        assert!(fetched.unwrap().unwrap() == bytes);
    }
    eventually(|| async {
        let metrics = one.metrics();
        let nothing = ["uploads", "upload_queue"]
            .map(|name| ["play", "bulk"].map(|kind| format!("antiphon_p2p_{name}{{kind=\"{kind}\"}} 0")));
        nothing.iter().flatten().all(|line| metrics.contains(line))
    })
    .await;
    assert!(!one.metrics().contains("uploads_busy"));
}

#[tokio::test]
async fn a_peer_that_asks_for_more_gets_no_more() {
    let one = server(QUIC, at(4_000_000)).await;
    let content = one.library.add(&sample(64 * MIB));
    let (greedy, modest) = (peer(&[]).await, peer(&[]).await);
    let from = greedy.join(&one).await;
    modest.join(&one).await;
    let many: Vec<_> =
        (0..8).map(|_| Fetching::start(&greedy.network, from, content, 64 * MIB, AudioMode::Bulk)).collect();
    for fetch in &many {
        fetch.reaches(MIB / 8).await;
    }
    let single = Fetching::start(&modest.network, from, content, 64 * MIB, AudioMode::Bulk);
    single.reaches(MIB / 2).await;
    let verified = || many.iter().map(Fetching::verified).sum::<u64>();
    let before = verified();
    single.reaches(MIB * 7 / 2).await;
    let meanwhile = verified() - before;
    // 3 MiB each. A share for each request would be 24 MiB.
    assert!((2 * MIB..4 * MIB).contains(&meanwhile), "{meanwhile} bytes");
}

#[tokio::test]
async fn limits_change_while_a_transfer_runs() {
    let one = server(TCP, at(100_000)).await;
    let bytes = sample(16 * MIB);
    let content = one.library.add(&bytes);
    let two = peer(&[]).await;
    let from = two.join(&one).await;
    let fetch = Fetching::start(&two.network, from, content, 16 * MIB, AudioMode::Bulk);
    fetch.reaches(100_000).await;
    one.network.set_upload_limits(UploadLimits::default());
    // At the old rate, this would take longer than any test waits.
    assert!(fetch.done().await.unwrap() == bytes);
}

#[tokio::test]
async fn the_quota_ends_what_runs_and_says_so() {
    let limits = UploadLimits { bytes_per_day: NonZeroU64::new(2 * MIB), ..UploadLimits::default() };
    let one = server(QUIC, limits).await;
    let content = one.library.add(&sample(8 * MIB));
    let two = peer(&[]).await;
    let from = two.join(&one).await;
    let fetch = Fetching::start(&two.network, from, content, 8 * MIB, AudioMode::Bulk);
    let wanted = fetch.wanted.clone();
    let refused = fetch.done().await.unwrap_err();
    assert!(matches!(refused, FetchError::Refused(AudioRefusal::Busy)), "{refused}");
    let verified = wanted.progress.borrow().verified_bytes;
    assert!((MIB..3 * MIB).contains(&verified), "{verified}");
    // Whoever listens is still served.
    let play = Fetching::start(&two.network, from, content, 8 * MIB, AudioMode::Play);
    assert!(play.done().await.unwrap() == sample(8 * MIB));
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_served_ends_before_a_wrong_byte() {
    // A byte in the middle, one at the end, a shorter file, another outboard.
    for change in 0..4 {
        let one = server(QUIC, at(1_000_000)).await;
        let mut bytes = sample(8 * MIB);
        let content = one.library.add(&bytes);
        let two = peer(&[]).await;
        let from = two.join(&one).await;
        let fetch = Fetching::start(&two.network, from, content, 8 * MIB, AudioMode::Bulk);
        fetch.reaches(MIB / 4).await;
        let path = one.library.path(&content);
        let wrong_from = match change {
            0 => 5_000_000,
            1 => bytes.len() - 1,
            _ => 6_000_000,
        };
        let open = |path| std::fs::OpenOptions::new().write(true).open(path).unwrap();
        match change {
            0 | 1 => {
                let mut file = open(path);
                file.seek(SeekFrom::Start(wrong_from as u64)).unwrap();
                file.write_all(&[!bytes[wrong_from]]).unwrap();
            }
            2 => open(path).set_len(wrong_from as u64).unwrap(),
            _ => {
                let path = path.with_extension("obao");
                let length = std::fs::metadata(&path).unwrap().len();
                std::fs::write(&path, vec![7; usize::try_from(length).unwrap()]).unwrap();
            }
        }
        one.network.set_upload_limits(UploadLimits::default());
        let wanted = fetch.wanted.clone();
        let refused = fetch.done().await.unwrap_err();
        // The peer is not to blame, and says what it is.
        assert!(matches!(refused, FetchError::Refused(AudioRefusal::Gone)), "{change}: {refused}");
        assert_eq!(*one.library.failed.lock().unwrap(), [content]);
        assert_eq!(two.network.peers().await.len(), 1);
        let verified = wanted.progress.borrow().verified_bytes;
        let group = (wrong_from / 16_384 * 16_384) as u64;
        match change {
            3 => assert!((MIB / 4..8 * MIB).contains(&verified), "{verified}"),
            _ => assert_eq!(verified, group),
        }
        let on_disk = std::fs::read(&wanted.fetch.part).unwrap();
        bytes.truncate(usize::try_from(verified).unwrap());
        assert!(on_disk[..bytes.len()] == bytes[..]);
        assert!(on_disk[bytes.len()..].iter().all(|byte| *byte == 0));
    }
}
