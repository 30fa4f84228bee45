//! The relay that other tests use as a slow or long path.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
};

use crate::{
    harness::{QUIC, TCP, Wanted, peer, sample, through, within},
    relay::{Fate, Lane, Path, Relay},
};

#[test]
fn a_lane_keeps_rate_delay_and_queue() {
    let start = Instant::now();
    let path = Path { delay: Duration::from_millis(30), rate: Some(1_000_000), queue: 3_000, loss_ppm: 0 };
    let mut lane = Lane::new(path, 1, start);
    let arrives = |micros: u64| Fate::Arrives(start + Duration::from_micros(micros));
    // One is on the link and two wait; the third that would wait finds no room until one has left.
    assert_eq!(lane.admit(start, 1_000), arrives(31_000));
    assert_eq!(lane.admit(start, 1_000), arrives(32_000));
    assert_eq!(lane.admit(start, 1_000), arrives(33_000));
    assert_eq!(lane.admit(start, 1_000), Fate::Full(start + Duration::from_micros(1_000)));
    assert_eq!(lane.admit(start + Duration::from_micros(1_000), 1_000), arrives(34_000));
    // An idle path saves nothing up; a piece that is longer than the queue passes.
    let later = start + Duration::from_secs(9);
    assert_eq!(lane.admit(later, 10_000), Fate::Arrives(later + Duration::from_millis(40)));
    assert!(
        matches!(lane.admit(later, 10_000), Fate::Full(until) if until == later + Duration::from_millis(10))
    );
}

#[test]
fn the_seed_decides_what_is_lost() {
    let start = Instant::now();
    let lost = |seed| {
        let mut lane = Lane::new(Path { loss_ppm: 100_000, ..Path::default() }, seed, start);
        (0..10_000).filter(|_| lane.admit(start, 1_000) == Fate::Lost).collect::<Vec<_>>()
    };
    assert_eq!(lost(1), lost(1));
    assert_ne!(lost(1), lost(2));
    assert!((900..1_100).contains(&lost(1).len()));
}

async fn echo_udp() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut packet = [0; 2_000];
        while let Ok((length, from)) = socket.recv_from(&mut packet).await {
            socket.send_to(&packet[..length], from).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn packets_come_back_unless_the_path_is_cut() {
    let relay = Relay::udp(echo_udp().await, Path::long(Duration::from_millis(5)), 7).await.unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(relay.address()).await.unwrap();
    let mut packet = [0; 2_000];
    for number in 0..20u8 {
        let sent = Instant::now();
        socket.send(&[number; 100]).await.unwrap();
        assert_eq!(within(socket.recv(&mut packet)).await.unwrap(), 100);
        assert!(packet[0] == number && sent.elapsed() >= Duration::from_millis(10));
    }
    assert_eq!((relay.there(), relay.back()), (2_000, 2_000));
    relay.set(Path { loss_ppm: 1_000_000, ..Path::default() });
    socket.send(&[1]).await.unwrap();
    relay.set(Path::default());
    socket.send(&[2]).await.unwrap();
    within(socket.recv(&mut packet)).await.unwrap();
    assert_eq!(relay.there(), relay.back());
}

#[tokio::test]
async fn streams_arrive_whole_and_end_as_they_began() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let path = Path { rate: Some(20_000_000), loss_ppm: 2_000, ..Path::long(Duration::from_millis(2)) };
    let relay = Relay::tcp(listener.local_addr().unwrap(), path, 7).await.unwrap();
    let (bytes, sent) = (sample(1_000_000), sample(1_000_000));
    let sending = async {
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        stream.write_all(&sent).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        rest
    };
    let receiving = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.unwrap();
        stream.write_all(b"thanks").await.unwrap();
        got
    };
    let (rest, got) = within(async { tokio::join!(sending, receiving) }).await;
    assert!(got == bytes && rest == b"thanks");
    assert_eq!((relay.there(), relay.back()), (1_000_000, 6));
}

#[tokio::test]
async fn peers_meet_over_a_long_path() {
    for transport in [QUIC, TCP] {
        let (one, two) = (peer(&[transport]).await, peer(&[]).await);
        let (relay, address) = through(&one, Path::long(Duration::from_millis(10))).await;
        let from = within(two.network.connect(address)).await.unwrap();
        let content = one.library.add(&sample(300_000));
        let wanted = Wanted::new(content, 300_000);
        let fetched = two.fetch(from, &wanted).await.unwrap();
        assert!(wanted.finish(fetched) == sample(300_000) && relay.back() > 300_000);
    }
}
