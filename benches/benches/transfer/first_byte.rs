//! From the wish to hear a song to its first byte that verifies, over a path of 25 ms each way.
//!
//! The relay in the path is in user space: it delays packets of UDP, and what a TCP connection carries, but the three
//! packets that open the connection are answered by the relay itself. Over a real path, TCP has one more round trip.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use antiphon_benches::spread;
use antiphon_p2p::{Download, DownloadProgress, Multiaddr, Network, PeerId, libp2p::multiaddr::Protocol};
use tokio::sync::watch;

use crate::{
    TCP,
    ours::QUIC,
    relay::{Path, Relay},
    served::OneFile,
};

const ONE_WAY: Duration = Duration::from_millis(25);
/// A song of four minutes, about 280 kbit/s.
const MEBIBYTES: usize = 8;
const DURATION: Duration = Duration::from_secs(240);

/// Prints a table: medians of so many starts, in milliseconds and in round trips.
pub(crate) async fn measure(times: usize) {
    let folder = tempfile::tempdir().unwrap();
    let file = OneFile::make(folder.path(), MEBIBYTES);
    println!("| | ms | round trips |\n|---|---|---|");
    for (name, listen) in [("QUIC", QUIC), ("TCP", TCP)] {
        let source = file.start(Some(listen), 1).await;
        let (_relay, address) = through(&source, Path::long(ONE_WAY)).await;
        let (mut cold, mut dial, mut warm) = (Vec::new(), Vec::new(), Vec::new());
        for time in 0..=times {
            // The first time warms caches up.
            let kept = time > 0;
            let listener = file.start(None, 2).await;
            let start = Instant::now();
            let peer = listener.connect(address.clone()).await.unwrap();
            let connected = start.elapsed();
            play(&listener, peer, &file, folder.path()).await;
            let heard = start.elapsed();
            listener.shutdown().await;
            let listener = file.start(None, 3).await;
            let peer = listener.connect(address.clone()).await.unwrap();
            // What is said on a new connection is said by then.
            tokio::time::sleep(20 * ONE_WAY).await;
            let start = Instant::now();
            play(&listener, peer, &file, folder.path()).await;
            let heard_again = start.elapsed();
            listener.shutdown().await;
            if kept {
                cold.push(heard.as_secs_f64() * 1e3);
                dial.push(connected.as_secs_f64() * 1e3);
                warm.push(heard_again.as_secs_f64() * 1e3);
            }
        }
        source.shutdown().await;
        let rows = [("not connected", &cold), ("of it, dialling", &dial), ("connected", &warm)];
        for (what, values) in rows {
            let trips: Vec<f64> = values.iter().map(|ms| ms / (2e3 * ONE_WAY.as_secs_f64())).collect();
            println!("| {name}, {what} | {} | {} |", spread(values, 1), spread(&trips, 2));
        }
    }
}

/// Plays until the first byte is there, and gives the rest up.
async fn play(listener: &Network, peer: PeerId, file: &Arc<OneFile>, folder: &std::path::Path) {
    // Dropped downloads may still write their last piece: each has a file of its own.
    let part = tempfile::tempdir_in(folder).unwrap();
    let mut download = Download::new(file.content, file.size, part.path().join("song.part"));
    let mut reader = download.listen(DURATION);
    let (named, progress) = (watch::channel(vec![peer]), watch::channel(DownloadProgress::default()).0);
    let running = Box::pin(listener.download(download, named.1, progress));
    tokio::select! {
        first = reader.read(1) => assert_eq!(first.unwrap().len(), 1),
        ended = running => panic!("it ended before a byte was heard: {ended:?}"),
    }
}

/// A path to a peer, and the address to dial at its near end.
async fn through(peer: &Network, path: Path) -> (Relay, Multiaddr) {
    let address = peer.listen_addrs().await[0].clone();
    let mut parts: Vec<_> = address.iter().map(Protocol::acquire).collect();
    let Protocol::Ip4(ip) = parts[0] else { panic!("{parts:?}") };
    let target = |port: u16| SocketAddr::from((ip, port));
    let relay = match parts[1] {
        Protocol::Udp(port) => Relay::udp(target(port), path, 1).await.unwrap(),
        Protocol::Tcp(port) => Relay::tcp(target(port), path, 1).await.unwrap(),
        _ => panic!("{parts:?}"),
    };
    match &mut parts[1] {
        Protocol::Udp(port) | Protocol::Tcp(port) => *port = relay.address().port(),
        _ => {}
    }
    (relay, parts.into_iter().collect())
}
