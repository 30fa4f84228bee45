//! Downloads whose connections come, go and die under them.

use std::{num::NonZeroU64, time::Duration};

use antiphon_p2p::{
    Config, DownloadProgress, Downloaded, FollowStream, Followed, Multiaddr, PeerId, Transport, UploadLimits,
};
use antiphon_proto::ContentHash;

use crate::{
    connections::without_id,
    downloads::{Wanted, brought},
    harness::{Peer, QUIC, TCP, config, eventually, peer, sample, start, through, within},
    presence::metric,
    relay::Path,
};

const MIB: u64 = 1024 * 1024;
/// So much may have been on its way, and come for nothing, when a request left a connection: what the sender may send at
/// once at its rate here, and a piece in each of two requests.
const ON_THE_WAY: u64 = 2 * MIB;

/// A peer that serves a file at 4 MiB/s, so that there is time to do something while it comes.
async fn slow_server(listen: &[&str], bytes: &[u8]) -> Peer {
    let server = start(Config { uploads: at(4 * MIB), ..config(listen) }, rand::random()).await;
    server.library.add(bytes);
    server
}

fn at(bytes_per_second: u64) -> UploadLimits {
    UploadLimits { total_bytes_per_second: NonZeroU64::new(bytes_per_second), ..UploadLimits::default() }
}

async fn address(of: &Peer, transport: Transport) -> Multiaddr {
    let addresses = of.network.listen_addrs().await;
    addresses.into_iter().find(|address| Transport::of(address) == transport).unwrap()
}

/// Connects once more with a peer that is connected.
async fn connect_again(by: &Peer, address: Multiaddr) -> PeerId {
    by.network.connect(without_id(address)).await.unwrap()
}

async fn connections(of: &Peer) -> usize {
    of.network.peers().await.first().map_or(0, |known| known.connections)
}

fn served(by: &Peer) -> u64 {
    metric(by, "antiphon_p2p_served_bytes_total")
}

async fn until(wanted: &Wanted, verified: u64) {
    let mut progress = wanted.progress.subscribe();
    progress.wait_for(|now: &DownloadProgress| now.verified_bytes >= verified).await.unwrap();
}

/// Nothing but what was on its way came twice.
fn check(wanted: &Wanted, downloaded: Downloaded, bytes: &[u8], server: &Peer) {
    let size = bytes.len() as u64;
    assert_eq!((downloaded.fetched_bytes, brought(&downloaded, server.id())), (size, size));
    let sent = served(server);
    assert!(sent < size + size / 100 + ON_THE_WAY, "{sent} bytes were sent of {size}");
    assert!(wanted.finish(downloaded) == bytes);
}

#[tokio::test]
async fn a_download_moves_to_a_better_connection_and_the_old_one_is_closed() {
    let bytes = sample(16 * MIB);
    let server = slow_server(&[TCP, QUIC], &bytes).await;
    let reader = peer(&[]).await;
    let id = reader.network.connect(address(&server, Transport::Tcp).await).await.unwrap();
    let wanted = Wanted::new(ContentHash::of(&bytes), 16 * MIB, vec![id]);
    let better = async {
        until(&wanted, 3 * MIB).await;
        // Slow enough that the download is still there when the old connection is gone.
        server.network.set_upload_limits(at(MIB / 8));
        connect_again(&reader, address(&server, Transport::Quic).await).await;
        // It is not used any more, or it would stay.
        eventually(|| async { connections(&reader).await == 1 }).await;
        let known = reader.network.peers().await;
        assert_eq!(known[0].transport, Transport::Quic);
        let verified = wanted.progress.borrow().verified_bytes;
        assert!(verified < 16 * MIB, "it was closed while the download went on");
        server.network.set_upload_limits(UploadLimits::default());
    };
    let (downloaded, ()) = tokio::join!(wanted.run(&reader, wanted.download()), better);
    let downloaded = downloaded.unwrap();
    assert!(downloaded.sources[0].failure.is_none(), "{downloaded:?}");
    assert!(server.library.requests.lock().unwrap().len() >= 2);
    check(&wanted, downloaded, &bytes, &server);
    // Whoever ends a stream early is no offender.
    assert!(!server.metrics().contains("offences_total{"));
}

#[tokio::test]
async fn when_the_connection_in_use_breaks_another_one_is_used() {
    let bytes = sample(16 * MIB);
    let server = slow_server(&[TCP], &bytes).await;
    let reader = peer(&[]).await;
    let id = reader.network.connect(server.address().await).await.unwrap();
    // Keeps the first connection in use, so that it stays beside the second one.
    let _follows = reader.network.follow(id, server.ledger.network(), 0).await.unwrap();
    let (relay, by_relay) = through(&server, Path::default()).await;
    connect_again(&reader, by_relay).await;
    assert_eq!(connections(&reader).await, 2);
    let wanted = Wanted::new(ContentHash::of(&bytes), 16 * MIB, vec![id]);
    let breaks = async {
        until(&wanted, 3 * MIB).await;
        assert!(relay.back() > 3 * MIB, "the newer one is used");
        drop(relay);
    };
    let (downloaded, ()) = tokio::join!(wanted.run(&reader, wanted.download()), breaks);
    check(&wanted, downloaded.unwrap(), &bytes, &server);
    assert_eq!(connections(&reader).await, 1);
}

#[tokio::test]
async fn a_dead_connection_is_left_as_soon_as_there_is_a_new_one() {
    let bytes = sample(16 * MIB);
    let server = slow_server(&[QUIC], &bytes).await;
    let reader = peer(&[]).await;
    let (relay, by_relay) = through(&server, Path::default()).await;
    let id = reader.network.connect(by_relay).await.unwrap();
    let wanted = Wanted::new(ContentHash::of(&bytes), 16 * MIB, vec![id]);
    let dies = async {
        until(&wanted, 3 * MIB).await;
        relay.set(Path { loss_ppm: 1_000_000, ..Path::default() });
        connect_again(&reader, server.address().await).await;
        until(&wanted, 8 * MIB).await;
        // The dead one has not been noticed as such, or only just.
        assert!(reader.network.peers().await.iter().all(|known| known.peer == id));
    };
    let (downloaded, ()) = tokio::join!(wanted.run(&reader, wanted.download()), dies);
    let downloaded = downloaded.unwrap();
    assert!(downloaded.sources[0].failure.is_none(), "{downloaded:?}");
    check(&wanted, downloaded, &bytes, &server);
}

#[tokio::test]
async fn a_source_whose_only_connection_breaks_is_used_again_when_it_is_back() {
    let bytes = sample(16 * MIB);
    let server = slow_server(&[TCP], &bytes).await;
    let reader = peer(&[]).await;
    let (relay, by_relay) = through(&server, Path::default()).await;
    let id = reader.network.connect(by_relay).await.unwrap();
    let wanted = Wanted::new(ContentHash::of(&bytes), 16 * MIB, vec![id]);
    let back = async {
        until(&wanted, 3 * MIB).await;
        drop(relay);
        eventually(|| async { connections(&reader).await == 0 }).await;
        reader.network.connect(server.address().await).await.unwrap();
    };
    let mut download = wanted.download();
    download.patience = Duration::from_secs(30);
    let (downloaded, ()) = tokio::join!(wanted.run(&reader, download), back);
    check(&wanted, downloaded.unwrap(), &bytes, &server);
}

#[tokio::test]
async fn sources_that_connect_late_are_used_without_being_named_again() {
    let bytes = sample(12 * MIB);
    let (first, late) = (slow_server(&[QUIC], &bytes).await, peer(&[QUIC]).await);
    late.library.add(&bytes);
    let reader = peer(&[]).await;
    let wanted = Wanted::new(ContentHash::of(&bytes), 12 * MIB, vec![late.id(), first.id()]);
    let mut download = wanted.download();
    download.patience = Duration::from_secs(30);
    let connects = async {
        // Nobody is connected at first, and that is no end.
        let mut progress = wanted.progress.subscribe();
        progress.wait_for(|now| now.sources.len() == 2).await.unwrap();
        reader.join(&first).await;
        until(&wanted, MIB).await;
        reader.join(&late).await;
    };
    let (downloaded, ()) = tokio::join!(wanted.run(&reader, download), connects);
    let downloaded = downloaded.unwrap();
    assert!(brought(&downloaded, first.id()) >= MIB, "{downloaded:?}");
    assert!(brought(&downloaded, late.id()) > 4 * MIB, "{downloaded:?}");
    assert!(wanted.finish(downloaded) == bytes);
}

#[tokio::test]
async fn a_follower_moves_to_a_better_connection_and_misses_nothing() {
    let server = start(config(&[TCP, QUIC]), rand::random()).await;
    let reader = peer(&[]).await;
    let id = reader.network.connect(address(&server, Transport::Tcp).await).await.unwrap();
    server.ledger.push(3, 100);
    let mut follows = reader.network.follow(id, server.ledger.network(), 0).await.unwrap();
    let next = async |follows: &mut FollowStream| match within(follows.next()).await.unwrap() {
        Some(Followed::Batch(batch)) => batch,
        other => panic!("{other:?}"),
    };
    assert_eq!(next(&mut follows).await, server.ledger.batches()[0]);
    connect_again(&reader, address(&server, Transport::Quic).await).await;
    let closed = eventually(|| async { connections(&reader).await == 1 });
    tokio::select! {
        followed = follows.next() => panic!("{followed:?}"),
        () = closed => {}
    }
    assert_eq!(reader.network.peers().await[0].transport, Transport::Quic);
    for batch in 1..4 {
        server.ledger.push(2, 100);
        assert_eq!(next(&mut follows).await, server.ledger.batches()[batch]);
    }
    assert_eq!(follows.position(), 9);
    server.network.shutdown().await;
    assert!(!matches!(within(follows.next()).await, Ok(Some(_))));
}

#[tokio::test]
async fn a_follower_whose_connection_breaks_goes_on_over_another() {
    let server = start(config(&[TCP]), rand::random()).await;
    let reader = peer(&[]).await;
    let id = reader.network.connect(server.address().await).await.unwrap();
    server.ledger.push(3, 100);
    // Keeps the first connection in use, so that it stays beside the second one.
    let _first = reader.network.follow(id, server.ledger.network(), 0).await.unwrap();
    let (relay, by_relay) = through(&server, Path::default()).await;
    connect_again(&reader, by_relay).await;
    let mut follows = reader.network.follow(id, server.ledger.network(), 0).await.unwrap();
    assert!(matches!(within(follows.next()).await, Ok(Some(Followed::Batch(_)))));
    drop(relay);
    server.ledger.push(5, 100);
    let Ok(Some(Followed::Batch(batch))) = within(follows.next()).await else { panic!("no batch") };
    assert_eq!((batch.first, connections(&reader).await), (3, 1));
}
