//! A relay under those who take too much, and who shares what there is.

use std::{
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use antiphon_p2p::{Config, ConnectionLimits, PeerId, RelayLimits, StreamLimits, Timeouts};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, stream::FuturesUnordered};
use libp2p::{Stream, StreamProtocol};

use crate::{
    circuit_peer::{
        Client, HOP, News, RESERVE, STOP_OK, circuits, connect_to, impatient_relay, read_message, relay,
        relay_with, reservations, through,
    },
    harness::{Peer, QUIC, TCP, config, eventually, sample, within},
};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

fn limits() -> RelayLimits {
    RelayLimits::default()
}

/// Accepts every circuit and counts what comes, by source.
async fn count_all(destination: &mut Client, relay: &Peer, sources: [PeerId; 2]) -> Arc<[AtomicU64; 2]> {
    let mut incoming = destination.reserve_by_hand(relay).await;
    let counts = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let counting = counts.clone();
    tokio::spawn(async move {
        while let Some((_, mut stream)) = incoming.next().await {
            let offer = read_message(&mut stream).await.unwrap();
            let from = sources.iter().position(|source| offer.ends_with(&source.to_bytes())).unwrap();
            stream.write_all(STOP_OK).await.unwrap();
            stream.flush().await.unwrap();
            let counting = counting.clone();
            tokio::spawn(async move {
                let mut piece = vec![0; 65_536];
                while let Ok(read @ 1..) = stream.read(&mut piece).await {
                    counting[from].fetch_add(read as u64, Ordering::Relaxed);
                }
            });
        }
    });
    counts
}

/// Sends without end.
fn flood(mut stream: Stream) {
    tokio::spawn(async move {
        let piece = sample(64 * KIB);
        while stream.write_all(&piece).await.is_ok() {}
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn pairs_share_the_rate_evenly_however_many_circuits_they_have() {
    let limits = RelayLimits { total_bytes_per_second: NonZeroU64::new(2 * MIB), ..limits() };
    let relay = relay(limits, &[QUIC, TCP]).await;
    let (mut one, mut other, mut destination) = (Client::by_hand(), Client::by_hand(), Client::by_hand());
    let counts = count_all(&mut destination, &relay, [one.id, other.id]).await;
    let addresses = relay.network.listen_addrs().await;
    let ask = connect_to(&destination.id);
    one.connect(addresses[0].clone()).await.unwrap();
    other.connect(addresses[1].clone()).await.unwrap();
    for (client, circuits) in [(&one, 1), (&other, 4)] {
        for _ in 0..circuits {
            let (status, stream) = client.ask(relay.id(), &ask).await.unwrap();
            assert_eq!(status, 100);
            flood(stream);
        }
    }
    let count = || [0, 1].map(|which| counts[which].load(Ordering::Relaxed));
    eventually(|| async { count().iter().all(|bytes| *bytes > MIB) }).await;
    let begun = count();
    eventually(|| async { count().iter().sum::<u64>() > begun.iter().sum::<u64>() + 4 * MIB }).await;
    let now = count();
    let (one, other) = (now[0] - begun[0], now[1] - begun[1]);
    // Four circuits against one would be four to one.
    assert!(one.min(other) * 2 > one.max(other), "{one} and {other}");
}

#[tokio::test]
async fn a_peers_day_ends_its_circuits_and_no_others() {
    let limits = RelayLimits { peer_bytes_per_day: NonZeroU64::new(512 * KIB), ..limits() };
    let relay = relay(limits, &[QUIC]).await;
    let (mut greedy, mut modest) = (Client::by_hand(), Client::by_hand());
    let (mut first, mut second) = (Client::by_hand(), Client::by_hand());
    let _first = count_all(&mut first, &relay, [greedy.id, modest.id]).await;
    let _second = count_all(&mut second, &relay, [greedy.id, modest.id]).await;
    for client in [&mut greedy, &mut modest] {
        client.connect(relay.address().await).await.unwrap();
    }
    let (status, stream) = greedy.ask(relay.id(), &connect_to(&first.id)).await.unwrap();
    assert_eq!(status, 100);
    flood(stream);
    circuits(&relay, 0).await;
    let carried = relay.network.relay_usage().unwrap().bytes_total;
    assert!((512 * KIB..=576 * KIB).contains(&carried), "{carried}");
    // The other peer of that circuit has used its day as well.
    assert_eq!(greedy.status(relay.id(), &connect_to(&second.id)).await, 201);
    assert_eq!(modest.status(relay.id(), &connect_to(&first.id)).await, 201);
    assert_eq!(modest.status(relay.id(), &connect_to(&second.id)).await, 100);
    assert_eq!(relay.network.relay_usage().unwrap().refused["day"], 3);
}

#[tokio::test]
async fn one_peer_that_reserves_again_and_again_is_refused() {
    let relay = relay(limits(), &[QUIC]).await;
    let mut client = Client::by_hand();
    client.connect(relay.address().await).await.unwrap();
    let mut refused = 0;
    for _ in 0..100 {
        match client.status(relay.id(), RESERVE).await {
            100 => {}
            200 => refused += 1,
            status => panic!("{status}"),
        }
    }
    let usage = relay.network.relay_usage().unwrap();
    assert!(refused > 80 && usage.refused["too_often"] == refused && usage.reservations == 1, "{usage:?}");
    // A neighbour is not concerned.
    let mut neighbour = Client::start();
    neighbour.reserve(&relay.address().await).await;
}

#[tokio::test]
async fn one_address_has_its_part_of_the_reservations() {
    let relay = relay(RelayLimits { reservations_per_ip: 4, ..limits() }, &[QUIC]).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = Client::by_hand();
        client.connect(relay.address().await).await.unwrap();
        let status = client.status(relay.id(), RESERVE).await;
        assert!(if clients.len() < 4 { status == 100 } else { [200, 201].contains(&status) }, "{status}");
        clients.push(client);
    }
    // Those that have one renew it, and who leaves makes room.
    assert_eq!(clients[0].status(relay.id(), RESERVE).await, 100);
    assert_eq!(relay.network.relay_usage().unwrap().reservations, 4);
    clients[1].leave(relay.id());
    reservations(&relay, 3).await;
    eventually(|| async { clients[7].status(relay.id(), RESERVE).await == 100 }).await;
}

#[tokio::test]
async fn circuits_beyond_the_bounds_are_refused_and_places_come_back() {
    let bounds = RelayLimits { circuits_per_source: 3, circuits_per_destination: 5, ..limits() };
    let relay = relay(bounds, &[QUIC]).await;
    let (mut one, mut other, mut destination) = (Client::by_hand(), Client::by_hand(), Client::by_hand());
    let _counts = count_all(&mut destination, &relay, [one.id, other.id]).await;
    let ask = connect_to(&destination.id);
    let mut held = Vec::new();
    for (client, granted) in [(&mut one, 3), (&mut other, 2)] {
        client.connect(relay.address().await).await.unwrap();
        for number in 0..6 {
            let (status, stream) = client.ask(relay.id(), &ask).await.unwrap();
            assert_eq!(status, if number < granted { 100 } else { 201 }, "{number}");
            held.push(stream);
        }
    }
    let usage = relay.network.relay_usage().unwrap();
    assert_eq!(usage.circuits, 5);
    assert_eq!((usage.refused["circuits_of_source"], usage.refused["circuits_of_destination"]), (3, 4));
    drop(held);
    circuits(&relay, 0).await;
    assert_eq!(one.status(relay.id(), &ask).await, 100);
}

#[tokio::test]
async fn circuits_do_not_hold_the_places_of_other_streams() {
    let streams = StreamLimits { inbound: 8, inbound_per_peer: 4, ..StreamLimits::default() };
    let relay = relay_with(Config { relay: Some(limits()), streams, ..config(&[QUIC]) }).await;
    let (mut source, mut destination) = (Client::by_hand(), Client::by_hand());
    let _counts = count_all(&mut destination, &relay, [source.id; 2]).await;
    source.connect(relay.address().await).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..20 {
        let (status, stream) = source.ask(relay.id(), &connect_to(&destination.id)).await.unwrap();
        assert_eq!(status, 100);
        held.push(stream);
    }
    assert_eq!(relay.network.relay_usage().unwrap().circuits, 20);
}

#[tokio::test]
async fn slow_requests_hold_few_places_and_not_for_long() {
    let relay = impatient_relay(RelayLimits { handshakes_per_ip: 4, ..limits() }, &[QUIC]).await;
    let (mut slow, mut honest) = (Client::by_hand(), Client::by_hand());
    slow.connect(relay.address().await).await.unwrap();
    honest.connect(relay.address().await).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut stream = slow.open(relay.id(), HOP).await;
        stream.write_all(b"\x02").await.unwrap();
        stream.flush().await.unwrap();
        held.push(stream);
    }
    // Whoever comes from the same address waits at most until they are given up.
    eventually(|| async {
        match honest.ask(relay.id(), RESERVE).await {
            Ok((status, _)) => status == 100,
            Err(_) => false,
        }
    })
    .await;
    for mut stream in held {
        assert!(!matches!(within(stream.read(&mut [0])).await, Ok(1..)));
    }
    eventually(|| async { relay.metrics().contains("offences_total{kind=\"too_slow\"} 4\n") }).await;
}

#[tokio::test]
async fn a_silent_destination_does_not_hold_up_others() {
    let bounds = RelayLimits { circuits_per_destination: 2, ..limits() };
    let relay = impatient_relay(bounds, &[QUIC]).await;
    let (mut source, mut silent, mut honest) = (Client::by_hand(), Client::by_hand(), Client::by_hand());
    let mut ignored = silent.reserve_by_hand(&relay).await;
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Some(stream) = ignored.next().await {
            held.push(stream);
        }
    });
    let _counts = count_all(&mut honest, &relay, [source.id; 2]).await;
    source.connect(relay.address().await).await.unwrap();
    let ask = connect_to(&silent.id);
    let many: FuturesUnordered<_> = (0..10).map(|_| source.status(relay.id(), &ask)).collect();
    let to_honest = connect_to(&honest.id);
    let reached = source.status(relay.id(), &to_honest);
    let (statuses, reached) = within(async { tokio::join!(many.collect::<Vec<_>>(), reached) }).await;
    assert_eq!(reached, 100);
    let count = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    assert!(count(203) >= 2 && count(203) + count(201) == 10, "{statuses:?}");
}

#[tokio::test]
async fn a_reader_that_takes_nothing_ends_its_circuit_alone() {
    let relay = impatient_relay(limits(), &[QUIC]).await;
    let (mut source, mut destination) = (Client::by_hand(), Client::by_hand());
    let mut incoming = destination.reserve_by_hand(&relay).await;
    source.connect(relay.address().await).await.unwrap();
    let ask = connect_to(&destination.id);
    let accepting = async {
        let (_, mut stream) = incoming.next().await.unwrap();
        read_message(&mut stream).await.unwrap();
        stream.write_all(STOP_OK).await.unwrap();
        stream.flush().await.unwrap();
        stream
    };
    let (asked, never_read) = within(async { tokio::join!(source.ask(relay.id(), &ask), accepting) }).await;
    flood(asked.unwrap().1);
    circuits(&relay, 1).await;
    circuits(&relay, 0).await;
    assert!(relay.network.relay_usage().unwrap().bytes_total < 32 * MIB);
    assert_eq!(relay.network.peers().await.len(), 2);
    drop(never_read);
}

#[tokio::test]
async fn half_a_circuit_is_not_held_open_by_silence() {
    let relay = impatient_relay(limits(), &[QUIC]).await;
    let (mut source, mut destination) = (Client::by_hand(), Client::by_hand());
    let mut incoming = destination.reserve_by_hand(&relay).await;
    source.connect(relay.address().await).await.unwrap();
    let ask = connect_to(&destination.id);
    let accepting = async {
        let (_, mut stream) = incoming.next().await.unwrap();
        read_message(&mut stream).await.unwrap();
        stream.write_all(STOP_OK).await.unwrap();
        stream.flush().await.unwrap();
        stream
    };
    let (asked, mut held) = within(async { tokio::join!(source.ask(relay.id(), &ask), accepting) }).await;
    asked.unwrap().1.close().await.unwrap();
    assert_eq!(within(held.read(&mut [0])).await.unwrap(), 0);
    circuits(&relay, 0).await;
}

/// Strangers, each with an identity of its own, that all reserve and connect.
async fn strangers(relay: &Peer, number: usize, target: PeerId) -> usize {
    const AT_ONCE: usize = 32;
    let address = relay.network.listen_addrs().await[1].clone();
    let id = relay.id();
    let one = || async {
        let mut stranger = Client::by_hand();
        if stranger.connect(address.clone()).await.is_err() {
            return None;
        }
        for message in [RESERVE.to_vec(), connect_to(&target)] {
            let mut stream = stranger.control.clone().open_stream(id, HOP).await.ok()?;
            stream.write_all(&message).await.ok()?;
            stream.flush().await.ok()?;
            // Refused or dropped, it is all the same.
            let _ = read_message(&mut stream).await;
        }
        Some(stranger)
    };
    let coming = futures::stream::iter((0..number).map(|_| one())).buffer_unordered(AT_ONCE);
    let stayed: Vec<_> = within(coming.filter_map(|stranger| async { stranger }).collect()).await;
    let usage = relay.network.relay_usage().unwrap();
    assert!(usage.reservations <= 17 && usage.circuits <= 9, "{usage:?}");
    stayed.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_connections_from_one_address_do_not_end_an_honest_circuit() {
    let bounds = RelayLimits { reservations_per_ip: 16, circuits_per_ip: 8, ..limits() };
    let many = ConnectionLimits { incoming: 300, total: 310, ..ConnectionLimits::default() };
    // Far more than a machine with too much to do needs.
    let timeouts = Timeouts { ping: Duration::from_secs(30), ..config(&[]).timeouts };
    let config = Config { relay: Some(bounds), limits: many, timeouts, ..config(&[QUIC, TCP]) };
    let relay = relay_with(config).await;
    let address = relay.address().await;
    let bulk = StreamProtocol::new("/bulk/1");
    let (mut source, mut destination) = (Client::start(), Client::start());
    destination.reserve(&address).await;
    let mut incoming = destination.control.accept(bulk.clone()).unwrap();
    source.connect(through(&address, destination.id)).await.unwrap();
    let mut sending = source.open(destination.id, bulk).await;
    sending.write_all(b"x").await.unwrap();
    sending.flush().await.unwrap();
    let (_, mut receiving) = within(incoming.next()).await.unwrap();
    within(receiving.read_exact(&mut [0])).await.unwrap();

    let bytes = sample(4 * MIB);
    let wanted = bytes.clone();
    let carrying = tokio::spawn(async move {
        // As long as the strangers come.
        for _ in 0..8 {
            let mut got = vec![0; wanted.len()];
            let (sent, read) = tokio::join!(
                async {
                    sending.write_all(&bytes).await?;
                    sending.flush().await
                },
                receiving.read_exact(&mut got)
            );
            sent.unwrap();
            read.unwrap();
            assert!(got == wanted);
        }
    });
    let stayed = strangers(&relay, 1_000, destination.id).await;
    within(carrying).await.unwrap();
    assert!(stayed < 1_000, "the limits of connections hold");
    // The honest renew and come back though the address has no places left.
    let usage = relay.network.relay_usage().unwrap();
    assert!(usage.refused.values().sum::<u64>() > 0, "{usage:?}");
    while let Ok(news) = destination.news.try_recv() {
        assert!(!matches!(news, News::ListenerClosed), "{news:?}");
    }
}
