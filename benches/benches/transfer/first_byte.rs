//! From the wish to hear a song to its first byte that verifies, over a path of 25 ms each way.
//!
//! The relay in the path is in user space: it delays packets of UDP, and what a TCP connection carries, but the three
//! packets that open the connection are answered by the relay itself. Over a real path, TCP has one more round trip.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path as FilePath,
    sync::Arc,
    time::{Duration, Instant},
};

use antiphon_benches::{median, spread};
use antiphon_p2p::{Download, DownloadProgress, Multiaddr, Network, PeerId, libp2p::multiaddr::Protocol};
use tokio::{net::UdpSocket, sync::watch};

use crate::{
    TCP,
    ours::QUIC,
    relay::{Path, Relay},
    served::OneFile,
};

const ONE_WAY: Duration = Duration::from_millis(25);
/// A song of four minutes, about 280 kbit/s; and a file that fits into what QUIC sends before it hears anything: 12 kB,
/// of which the handshake, identify and a probe of the packet size take three. The first group of a song (16 KiB and its
/// proof) does not.
const FILES: [(&str, u64); 2] = [("a song", 8 * 1024 * 1024), ("4 KiB", 4 * 1024)];
const DURATION: Duration = Duration::from_secs(240);

/// Prints a table: medians of so many starts, in milliseconds and in round trips of the path as it is.
pub(crate) async fn measure(times: usize) {
    let folder = tempfile::tempdir().unwrap();
    let trip = round_trip(times).await;
    println!("the path's round trip: {trip:.1} ms\n\n| | ms | round trips |\n|---|---|---|");
    for (what, bytes) in FILES {
        let file = OneFile::make(folder.path(), bytes);
        for (name, listen) in [("QUIC", QUIC), ("TCP", TCP)] {
            let taken = starts(&file, listen, times, folder.path()).await;
            let rows = ["not connected", "of it, dialling", "connected"];
            for (row, values) in rows.iter().zip(&taken) {
                let trips: Vec<f64> = values.iter().map(|ms| ms / trip).collect();
                println!("| {what} over {name}, {row} | {} | {} |", spread(values, 1), spread(&trips, 2));
            }
        }
    }
}

/// The median round trip of a packet in milliseconds: the relay's clock is coarse, so it is a little longer than said.
async fn round_trip(times: usize) -> f64 {
    let [echo, near] = [bind().await, bind().await];
    let relay = Relay::udp(echo.local_addr().unwrap(), Path::long(ONE_WAY), 1).await.unwrap();
    let answering = tokio::spawn(async move {
        let mut packet = [0; 16];
        while let Ok((length, from)) = echo.recv_from(&mut packet).await {
            echo.send_to(&packet[..length], from).await.unwrap();
        }
    });
    let mut trips = Vec::new();
    for _ in 0..times {
        let start = Instant::now();
        near.send_to(b"ping", relay.address()).await.unwrap();
        near.recv_from(&mut [0; 16]).await.unwrap();
        trips.push(start.elapsed().as_secs_f64() * 1e3);
    }
    answering.abort();
    median(&trips)
}

async fn bind() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

/// Milliseconds until the first byte from a peer that is not connected, those of them until it was, and those from one
/// that is connected.
async fn starts(file: &Arc<OneFile>, listen: &str, times: usize, folder: &FilePath) -> [Vec<f64>; 3] {
    let source = file.start(Some(listen), 1).await;
    let (_relay, address) = through(&source, Path::long(ONE_WAY)).await;
    let mut taken = [const { Vec::new() }; 3];
    for time in 0..=times {
        let listener = file.start(None, 2).await;
        let start = Instant::now();
        let peer = listener.connect(address.clone()).await.unwrap();
        let connected = start.elapsed();
        play(&listener, peer, file, folder).await;
        let heard = start.elapsed();
        listener.shutdown().await;
        let listener = file.start(None, 3).await;
        let peer = listener.connect(address.clone()).await.unwrap();
        // What is said on a new connection is said by then.
        tokio::time::sleep(20 * ONE_WAY).await;
        let start = Instant::now();
        play(&listener, peer, file, folder).await;
        let heard_again = start.elapsed();
        listener.shutdown().await;
        // The first time warms caches up.
        if time > 0 {
            let all = [heard, connected, heard_again];
            taken.iter_mut().zip(all).for_each(|(list, time)| list.push(time.as_secs_f64() * 1e3));
        }
    }
    source.shutdown().await;
    taken
}

/// Plays until the first byte is there, and gives the rest up.
async fn play(listener: &Network, peer: PeerId, file: &Arc<OneFile>, folder: &FilePath) {
    // Dropped downloads may still write their last piece: each has a file of its own.
    let part = tempfile::tempdir_in(folder).unwrap();
    let mut download = Download::new(file.content, file.size, part.path().join("song.part"));
    let mut reader = download.listen(DURATION);
    let (named, progress) = (watch::channel(vec![peer]), watch::channel(DownloadProgress::default()).0);
    let mut running = Box::pin(listener.download(download, named.1, progress));
    let first = tokio::select! {
        first = reader.read(1) => first,
        // A short file may be whole before a byte of it is read.
        ended = &mut running => {
            ended.unwrap();
            reader.read(1).await
        }
    };
    assert_eq!(first.unwrap().len(), 1);
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
