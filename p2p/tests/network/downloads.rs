//! Downloads from several peers at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use antiphon_p2p::{
    AudioRefusal, Download, DownloadError, DownloadProgress, Downloaded, FetchError, PeerId, SourceState,
};
use antiphon_proto::ContentHash;
use futures::AsyncWriteExt;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

use crate::{
    harness::{Peer, QUIC, eventually, peer, sample, within},
    raw::{self, RawPeer},
};

const MIB: u64 = 1024 * 1024;

/// A download in a folder of its own.
pub(crate) struct Wanted {
    folder: TempDir,
    content: ContentHash,
    size: u64,
    pub(crate) sources: watch::Sender<Vec<PeerId>>,
    pub(crate) progress: watch::Sender<DownloadProgress>,
}

impl Wanted {
    pub(crate) fn new(content: ContentHash, size: u64, sources: Vec<PeerId>) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            content,
            size,
            sources: watch::channel(sources).0,
            progress: watch::channel(DownloadProgress::default()).0,
        }
    }

    pub(crate) fn download(&self) -> Download {
        Download::new(self.content, self.size, self.folder.path().join("song.part"))
    }

    pub(crate) async fn run(&self, by: &Peer, download: Download) -> Result<Downloaded, DownloadError> {
        within(by.network.download(download, self.sources.subscribe(), self.progress.clone())).await
    }

    pub(crate) fn finish(&self, mut downloaded: Downloaded) -> Vec<u8> {
        let dest = self.folder.path().join("song");
        downloaded.finish(&dest, Some(&self.folder.path().join("song.obao"))).unwrap();
        std::fs::read(dest).unwrap()
    }
}

pub(crate) fn brought(downloaded: &Downloaded, peer: PeerId) -> u64 {
    downloaded.sources.iter().filter(|source| source.peer == peer).map(|source| source.bytes).sum()
}

/// Peers that serve a file, and one that is connected to them.
async fn swarm(count: usize, bytes: &[u8]) -> (Peer, Vec<Peer>, Vec<PeerId>) {
    let reader = peer(&[]).await;
    let (mut peers, mut ids) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let one = peer(&[QUIC]).await;
        one.library.add(bytes);
        ids.push(reader.join(&one).await);
        peers.push(one);
    }
    (reader, peers, ids)
}

#[tokio::test]
async fn files_of_every_boundary_size_come_from_three_peers() {
    let sizes = [1, 16_383, 16_384, 16_385, 65_536, 65_537, MIB - 1, 3 * MIB + 1, 20 * MIB];
    let (reader, peers, ids) = swarm(3, b"something else").await;
    for size in sizes {
        let bytes = sample(size);
        let content = ContentHash::of(&bytes);
        peers.iter().for_each(|peer| assert_eq!(peer.library.add(&bytes), content));
        let wanted = Wanted::new(content, size, ids.clone());
        let downloaded = wanted.run(&reader, wanted.download()).await.unwrap();
        assert_eq!(downloaded.fetched_bytes, size);
        assert_eq!(downloaded.sources.iter().map(|source| source.bytes).sum::<u64>(), size);
        let progress = wanted.progress.borrow().clone();
        assert_eq!((progress.verified_bytes, progress.total, progress.sources.len()), (size, size, 3));
        assert!(wanted.finish(downloaded) == bytes, "{size} bytes");
        let outboard = wanted.folder.path().join("song.obao");
        assert_eq!(outboard.exists(), size > 16_384);
    }
}

/// Sends the first group and then nothing.
fn stall(raw: &RawPeer, bytes: &Arc<Vec<u8>>, asked: &mpsc::Sender<()>) {
    let (bytes, asked) = (bytes.clone(), asked.clone());
    raw.serve(raw::AUDIO, move |mut stream| {
        let (bytes, asked) = (bytes.clone(), asked.clone());
        async move {
            let request = raw::accept_audio(&mut stream, bytes.len() as u64).await?;
            let encoded = raw::bao_stream(&bytes, &request.ranges);
            stream.write_all(&encoded[..encoded.len().min(17_500)]).await?;
            stream.flush().await?;
            let _ = asked.try_send(());
            std::future::pending().await
        }
    });
}

#[tokio::test]
async fn one_is_killed_one_stalls_one_lies_one_is_slow() {
    let size = 12 * MIB + 77;
    let bytes = Arc::new(sample(size));
    let content = ContentHash::of(&bytes);
    let mut reader = peer(&[]).await;
    let [killed, stalls, lies, slow] =
        [RawPeer::start().await, RawPeer::start().await, RawPeer::start().await, RawPeer::start().await];
    let (to_killed, mut killed_is_asked) = mpsc::channel(4);
    let (to_stalls, mut stalls_is_asked) = mpsc::channel(4);
    stall(&killed, &bytes, &to_killed);
    stall(&stalls, &bytes, &to_stalls);
    let served = bytes.clone();
    lies.serve(raw::AUDIO, move |mut stream| {
        let bytes = served.clone();
        async move {
            let request = raw::accept_audio(&mut stream, bytes.len() as u64).await?;
            let mut encoded = raw::bao_stream(&bytes, &request.ranges);
            let middle = encoded.len() / 2;
            encoded[middle] ^= 1;
            stream.write_all(&encoded).await?;
            stream.close().await
        }
    });
    let (served, sent) = (bytes.clone(), Arc::new(AtomicU64::new(0)));
    let counted = sent.clone();
    slow.serve(raw::AUDIO, move |mut stream| {
        let (bytes, sent) = (served.clone(), counted.clone());
        async move {
            let request = raw::accept_audio(&mut stream, bytes.len() as u64).await?;
            for piece in raw::bao_stream(&bytes, &request.ranges).chunks(16_448) {
                stream.write_all(piece).await?;
                stream.flush().await?;
                sent.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            stream.close().await
        }
    });
    let mut ids = Vec::new();
    for raw in [&killed, &stalls, &lies, &slow] {
        ids.push(reader.network.connect(raw.address.clone()).await.unwrap());
    }
    let good = peer(&[QUIC]).await;
    good.library.add(&bytes);
    let good_id = reader.join(&good).await;
    let wanted = Wanted::new(content, size, ids.clone());
    let (network, download) = (reader.network.clone(), wanted.download());
    let (sources, progress) = (wanted.sources.subscribe(), wanted.progress.clone());
    let running = tokio::spawn(async move { network.download(download, sources, progress).await });
    // Each of them has had its turn before the good one joins.
    within(killed_is_asked.recv()).await.unwrap();
    drop(killed);
    within(stalls_is_asked.recv()).await.unwrap();
    reader.banned(ids[2]).await;
    eventually(|| async { sent.load(Ordering::Relaxed) > 3 }).await;
    wanted.sources.send_modify(|sources| sources.push(good_id));
    let downloaded = within(running).await.unwrap().unwrap();
    assert_eq!(downloaded.fetched_bytes, size);
    let report = |peer: PeerId| downloaded.sources.iter().find(|source| source.peer == peer).unwrap();
    assert!(matches!(report(ids[2]).failure, Some(FetchError::BadBytes(_))), "{downloaded:?}");
    assert!(report(ids[3]).bytes > 0 && report(good_id).bytes > size / 2, "{downloaded:?}");
    assert_eq!(downloaded.sources.iter().map(|source| source.bytes).sum::<u64>(), size);
    assert!(wanted.finish(downloaded) == *bytes);
}

#[tokio::test]
async fn a_peer_that_shuts_down_costs_only_what_had_not_come() {
    let size = 48 * MIB;
    let bytes = sample(size);
    let (reader, mut peers, ids) = swarm(3, &bytes).await;
    let wanted = Wanted::new(ContentHash::of(&bytes), size, ids.clone());
    let mut progress = wanted.progress.subscribe();
    let leaving = peers.remove(0);
    let leave = async {
        let brings = |progress: &DownloadProgress| {
            progress.sources.iter().any(|source| source.peer == ids[0] && source.bytes > 0)
        };
        progress.wait_for(brings).await.unwrap();
        drop(leaving);
    };
    let (downloaded, ()) = tokio::join!(wanted.run(&reader, wanted.download()), leave);
    let downloaded = downloaded.unwrap();
    assert!(ids.iter().all(|peer| brought(&downloaded, *peer) > 0), "{downloaded:?}");
    assert!(wanted.finish(downloaded) == bytes);
}

#[tokio::test]
async fn a_download_that_is_dropped_goes_on_where_it_was() {
    let size = 64 * MIB;
    let bytes = sample(size);
    let (reader, peers, ids) = swarm(2, &bytes).await;
    let wanted = Wanted::new(ContentHash::of(&bytes), size, ids);
    let mut progress = wanted.progress.subscribe();
    tokio::select! {
        ended = wanted.run(&reader, wanted.download()) => panic!("faster than the first progress: {ended:?}"),
        _ = progress.wait_for(|progress| progress.verified_bytes > 0) => {}
    }
    // The threads let go of the file within moments.
    let again = std::cell::RefCell::new(None);
    eventually(|| async {
        peers.iter().for_each(|peer| peer.library.requests.lock().unwrap().clear());
        *again.borrow_mut() = wanted.run(&reader, wanted.download()).await.ok();
        again.borrow().is_some()
    })
    .await;
    let downloaded = again.into_inner().unwrap();
    assert!(downloaded.fetched_bytes < size);
    let asked: u64 = peers.iter().map(|peer| peer.library.asked_bytes()).sum();
    assert!(asked < size + 8 * MIB, "{asked}");
    assert!(wanted.finish(downloaded) == bytes);
}

#[tokio::test]
async fn a_listener_hears_in_order_and_jumps() {
    let size = 24 * MIB + 9;
    let bytes = sample(size);
    let (reader, _peers, ids) = swarm(3, &bytes).await;
    let wanted = Wanted::new(ContentHash::of(&bytes), size, ids);
    let mut download = wanted.download();
    let mut listener = download.listen(Duration::from_secs(180));
    let listening = async {
        let hear = async |listener: &mut antiphon_p2p::Listener, until: u64| {
            while listener.position() < until {
                let from = usize::try_from(listener.position()).unwrap();
                let heard = within(listener.read(50_000)).await.unwrap();
                assert!(!heard.is_empty() && heard.len() <= 50_000);
                assert!(heard == bytes[from..from + heard.len()], "at {from}");
            }
        };
        hear(&mut listener, MIB).await;
        listener.seek(20 * MIB + 12_345);
        hear(&mut listener, 21 * MIB).await;
        listener.seek(5 * MIB);
        hear(&mut listener, 6 * MIB).await;
        listener.seek(23 * MIB);
        hear(&mut listener, size).await;
        assert!(listener.is_at_end() && listener.read(1).await.is_none());
        listener.seek(3);
        hear(&mut listener, size).await;
    };
    let (downloaded, ()) = tokio::join!(wanted.run(&reader, download), listening);
    assert!(wanted.finish(downloaded.unwrap()) == bytes);
    // What is there can be heard, though it has another name now.
    listener.seek(size - 5);
    assert_eq!(&*within(listener.read(100)).await.unwrap(), &bytes[bytes.len() - 5..]);
}

#[tokio::test]
async fn a_listener_hears_of_the_end_of_a_failed_download() {
    let size = MIB;
    let bytes = Arc::new(sample(size));
    let reader = peer(&[]).await;
    let raw = RawPeer::start().await;
    let served = bytes.clone();
    raw.serve(raw::AUDIO, move |mut stream| {
        let bytes = served.clone();
        async move {
            let request = raw::accept_audio(&mut stream, bytes.len() as u64).await?;
            let encoded = raw::bao_stream(&bytes, &request.ranges);
            // In a network of one that never comes to its end.
            stream.write_all(&encoded[..encoded.len().min(40_000)]).await?;
            stream.close().await
        }
    });
    let from = reader.network.connect(raw.address.clone()).await.unwrap();
    let wanted = Wanted::new(ContentHash::of(&bytes), size, vec![from]);
    let mut download = wanted.download();
    let mut listener = download.listen(Duration::from_secs(60));
    let listening = async {
        let mut heard = 0;
        while let Some(some) = listener.read(usize::MAX).await {
            heard += some.len() as u64;
            // Leaves as soon as something has come.
            reader.network.disconnect(from, "enough").await;
        }
        heard
    };
    let (ended, heard) = tokio::join!(wanted.run(&reader, download), within(listening));
    let Err(DownloadError::NoSources { verified, total, sources }) = ended else { panic!("{ended:?}") };
    assert!(heard > 0 && heard <= verified && verified < size && total == size, "{heard} {verified}");
    assert_eq!((sources.len(), sources[0].bytes), (1, verified));
    assert!(sources[0].failure.is_some() && !listener.is_at_end());
}

#[tokio::test]
async fn two_downloads_at_the_same_time() {
    let (first, second) = (sample(20 * MIB), sample(20 * MIB + 1));
    let (reader, peers, ids) = swarm(3, &first).await;
    peers.iter().for_each(|peer| {
        peer.library.add(&second);
    });
    let one = Wanted::new(ContentHash::of(&first), 20 * MIB, ids.clone());
    let two = Wanted::new(ContentHash::of(&second), 20 * MIB + 1, ids);
    let (got_one, got_two) = tokio::join!(one.run(&reader, one.download()), two.run(&reader, two.download()));
    assert!(one.finish(got_one.unwrap()) == first && two.finish(got_two.unwrap()) == second);
    // The same file twice at once: the second one is told.
    let again = Wanted::new(ContentHash::of(&first), 20 * MIB, one.sources.borrow().clone());
    let (a, b) = tokio::join!(again.run(&reader, again.download()), again.run(&reader, again.download()));
    assert!(a.is_ok() != b.is_ok());
    assert!(matches!(a.err().or(b.err()), Some(DownloadError::Disk(_))));
}

#[tokio::test]
async fn sources_come_and_go() {
    let size = 2 * MIB;
    let bytes = sample(size);
    let (reader, peers, ids) = swarm(2, &bytes).await;
    let content = ContentHash::of(&bytes);
    // Nobody.
    let wanted = Wanted::new(content, size, Vec::new());
    let none = wanted.run(&reader, wanted.download()).await.unwrap_err();
    assert!(matches!(none, DownloadError::NoSources { verified: 0, total: 2_097_152, .. }), "{none:?}");
    // Nobody who has it, and nobody who is there.
    let stranger = PeerId::random();
    let other = ContentHash([7; 32]);
    let elsewhere = Wanted::new(other, size, vec![ids[0], stranger]);
    let none = elsewhere.run(&reader, elsewhere.download()).await.unwrap_err();
    let DownloadError::NoSources { sources, .. } = none else { panic!("{none:?}") };
    let failure = |peer: PeerId| sources.iter().find(|source| source.peer == peer).unwrap().failure.as_ref();
    assert!(matches!(failure(ids[0]), Some(FetchError::Refused(AudioRefusal::NotFound))), "{sources:?}");
    assert!(matches!(failure(stranger), Some(FetchError::Request(_))), "{sources:?}");
    let gone = elsewhere.progress.borrow().clone();
    let state = |peer: PeerId| gone.sources.iter().find(|source| source.peer == peer).unwrap().state;
    assert_eq!((state(ids[0]), state(stranger)), (SourceState::Gone, SourceState::Away));
    // Somebody comes in time.
    let mut download = wanted.download();
    download.patience = Duration::from_secs(60);
    let join = async {
        let mut progress = wanted.progress.subscribe();
        progress.mark_changed();
        progress.wait_for(|progress| progress.total == size).await.unwrap();
        wanted.sources.send_replace(ids.clone());
    };
    let (downloaded, ()) = tokio::join!(wanted.run(&reader, download), join);
    assert!(wanted.finish(downloaded.unwrap()) == bytes);
    drop(peers);
}

#[tokio::test]
async fn the_right_to_hear_is_shown_with_every_request_and_a_refusal_is_told() {
    let bytes = sample(3 * MIB);
    let (reader, peers, ids) = swarm(2, &bytes).await;
    for peer in &peers {
        *peer.library.right.lock().unwrap() = Some(b"a right to hear".to_vec());
    }
    let wanted = Wanted::new(ContentHash::of(&bytes), 3 * MIB, ids);
    let mut download = wanted.download();
    download.patience = Duration::from_secs(1);
    let Err(DownloadError::NoSources { sources, .. }) = wanted.run(&reader, download).await else {
        panic!("without a right")
    };
    let no = |failure: &Option<FetchError>| matches!(failure, Some(FetchError::Refused(AudioRefusal::Forbidden { detail })) if detail == "buy it first");
    assert!(sources.len() == 2 && sources.iter().all(|source| no(&source.failure)), "{sources:?}");
    for peer in &peers {
        // Whoever says so is not asked again.
        let asked = std::mem::take(&mut *peer.library.requests.lock().unwrap());
        assert!((1..=8).contains(&asked.len()), "{}", asked.len());
    }
    let mut download = wanted.download();
    download.access_token = b"a right to hear".to_vec();
    let downloaded = wanted.run(&reader, download).await.unwrap();
    assert_eq!(wanted.finish(downloaded), bytes);
    for request in peers.iter().flat_map(|peer| peer.library.requests.lock().unwrap().clone()) {
        assert_eq!(request.access_token, b"a right to hear");
    }
}
