//! Circuits through our relay, between peers on libp2p's own client and between hand-made ones.

use std::{num::NonZeroU64, time::Duration};

use antiphon_p2p::{Config, Multiaddr, PeerId, RelayLimits};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{StreamProtocol, multiaddr::Protocol};

use crate::{
    circuit_peer::{
        Client, HOP, News, RESERVE, STOP_OK, behind, circuits, connect_to, impatient_relay, mini_node,
        read_message, relay, reservations, through,
    },
    harness::{QUIC, TCP, eventually, peer, sample, within},
};

const MIB: u64 = 1024 * 1024;
const BULK: StreamProtocol = StreamProtocol::new("/bulk/1");

fn limits() -> RelayLimits {
    RelayLimits::default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_behind_the_relay_is_reached_and_64_mib_go_both_ways() {
    for transport in [QUIC, TCP] {
        let relay = relay(limits(), &[transport]).await;
        let address = relay.address().await;
        let (mut source, mut destination) = (Client::start(), Client::start());
        destination.reserve(&address).await;
        assert_eq!(relay.network.relay_usage().unwrap().reservations, 1);
        let mut incoming = destination.control.accept(BULK).unwrap();
        within(source.connect(through(&address, destination.id))).await.unwrap();
        assert_eq!(relay.network.relay_usage().unwrap().circuits, 1);

        let bytes = sample(64 * MIB);
        let both_ways = |stream: libp2p::Stream, bytes: Vec<u8>| async move {
            let (mut read, mut write) = stream.split();
            let sending = async {
                write.write_all(&bytes).await.unwrap();
                write.close().await.unwrap();
            };
            let receiving = async {
                let mut got = vec![0; bytes.len()];
                read.read_exact(&mut got).await.unwrap();
                assert_eq!(read.read(&mut [0]).await.unwrap(), 0);
                got
            };
            tokio::join!(sending, receiving).1
        };
        let there = tokio::spawn(both_ways(source.open(destination.id, BULK).await, bytes.clone()));
        let (from, stream) = within(incoming.next()).await.unwrap();
        assert_eq!(from, source.id);
        let back = tokio::spawn(both_ways(stream, bytes.clone()));
        assert!(within(there).await.unwrap() == bytes && within(back).await.unwrap() == bytes);

        let usage = relay.network.relay_usage().unwrap();
        assert!(usage.bytes_total > 128 * MIB && usage.bytes_this_month == usage.bytes_total, "{usage:?}");
        source.leave(destination.id);
        circuits(&relay, 0).await;
        let metrics = relay.metrics();
        assert!(metrics.contains("antiphon_relay_reservations 1\n"), "{metrics}");
        assert!(metrics.contains("antiphon_relay_circuits 0\n"));
        assert!(metrics.contains(&format!("antiphon_relay_bytes_total {}\n", {
            relay.network.relay_usage().unwrap().bytes_total
        })));
        destination.leave(relay.id());
        reservations(&relay, 0).await;
    }
}

#[tokio::test]
async fn a_circuit_comes_over_the_connection_that_reserved() {
    let relay = relay(limits(), &[QUIC, TCP]).await;
    let addresses = relay.network.listen_addrs().await;
    let is_tcp = |address: &&Multiaddr| address.iter().any(|part| matches!(part, Protocol::Tcp(_)));
    let tcp = addresses.iter().find(is_tcp).unwrap();
    let quic = addresses.iter().find(|address| !is_tcp(address)).unwrap();
    let (mut source, mut destination) = (Client::start(), Client::start());
    destination.reserve(tcp).await;
    // A better one; but libp2p's client takes circuits only where it has reserved.
    destination.dial(quic.clone());
    eventually(|| async { relay.network.peers().await.iter().any(|peer| peer.connections == 2) }).await;
    within(source.connect(through(quic, destination.id))).await.unwrap();
}

#[tokio::test]
async fn reservations_are_renewed_in_time() {
    let limits = RelayLimits { reservation_ttl: Duration::from_secs(4), ..limits() };
    let relay = relay(limits, &[QUIC]).await;
    let address = relay.address().await;
    let (mut source, mut destination) = (Client::start(), Client::start());
    destination.reserve(&address).await;
    for _ in 0..2 {
        destination.told(|news| matches!(news, News::Reserved { renewal: true }).then_some(())).await;
    }
    within(source.connect(through(&address, destination.id))).await.unwrap();
    assert_eq!(relay.network.relay_usage().unwrap().reservations, 1);
}

#[tokio::test]
async fn who_does_not_renew_is_not_reached_any_more() {
    let limits = RelayLimits { reservation_ttl: Duration::from_secs(1), ..limits() };
    let relay = relay(limits, &[QUIC]).await;
    let (mut source, mut destination) = (Client::start(), Client::by_hand());
    let _incoming = destination.reserve_by_hand(&relay).await;
    source.connect(relay.address().await).await.unwrap();
    let ask = connect_to(&destination.id);
    eventually(|| async { source.status(relay.id(), &ask).await == 204 }).await;
}

#[tokio::test]
async fn a_destination_that_leaves_loses_its_reservation() {
    let relay = relay(limits(), &[QUIC]).await;
    let address = relay.address().await;
    let (mut source, mut destination) = (Client::start(), Client::start());
    source.connect(address.clone()).await.unwrap();
    let ask = connect_to(&destination.id);
    assert_eq!(source.status(relay.id(), &ask).await, 204);
    destination.reserve(&address).await;
    let (status, circuit) = source.ask(relay.id(), &ask).await.unwrap();
    assert_eq!(status, 100);
    drop(destination);
    reservations(&relay, 0).await;
    assert_eq!(source.status(relay.id(), &ask).await, 204);
    // The circuit has ended with it.
    circuits(&relay, 0).await;
    drop(circuit);
}

#[tokio::test]
async fn every_refusal_has_its_status() {
    let relay = relay(limits(), &[QUIC]).await;
    let mut client = Client::start();
    client.connect(relay.address().await).await.unwrap();
    let statuses: [(&[u8], u64); 7] = [
        // With oneself; a peer without a reservation; no peer; no id; a status; an unknown kind; no kind.
        (&connect_to(&client.id), 202),
        (&connect_to(&PeerId::random()), 204),
        (b"\x02\x08\x01", 400),
        (b"\x06\x08\x01\x12\x02\x0a\x00", 400),
        (b"\x04\x08\x02\x28\x64", 401),
        (b"\x02\x08\x09", 400),
        (b"\x00", 400),
    ];
    for (message, wanted) in statuses {
        assert_eq!(client.status(relay.id(), message).await, wanted, "{message:?}");
    }
    let refused = relay.network.relay_usage().unwrap().refused;
    assert_eq!((refused["oneself"], refused["no_reservation"], refused["malformed"]), (1, 1, 4));
    assert!(relay.metrics().contains("antiphon_relay_refused_total{kind=\"malformed\"} 4\n"));
    // What is no message at all is an offence as well.
    assert_eq!(client.status(relay.id(), b"\x03\x08\x01\xff").await, 400);
    assert_eq!(client.status(relay.id(), b"\xff\xff\x03").await, 400);
    eventually(|| async { relay.metrics().contains("offences_total{kind=\"malformed\"} 2\n") }).await;
}

#[tokio::test]
async fn a_peer_that_is_no_relay_does_not_offer_it() {
    let other = peer(&[QUIC]).await;
    let mut client = Client::start();
    client.connect(other.address().await).await.unwrap();
    assert!(client.control.clone().open_stream(other.id(), HOP).await.is_err());
    assert!(other.network.relay_usage().is_none());
}

#[tokio::test]
async fn nothing_is_relayed_for_those_who_come_through_a_relay() {
    let near = mini_node(QUIC).await;
    // A peer at home that relays, reached over another relay.
    let far = Config { relay: Some(limits()), ..crate::harness::config(&[QUIC]) };
    let far = behind(&near, far).await;
    let addresses = far.network.listen_addrs().await;
    let is_circuit = |address: &&Multiaddr| address.iter().any(|part| part == Protocol::P2pCircuit);
    let address = addresses.iter().find(|address| !is_circuit(address)).unwrap();
    far.network.add_external_address(address.clone()).await;
    let (mut direct, mut through_near) = (Client::start(), Client::start());
    direct.reserve(address).await;
    through_near.connect(through(&near.address().await, far.id())).await.unwrap();
    for message in [RESERVE.to_vec(), connect_to(&direct.id)] {
        assert_eq!(through_near.status(far.id(), &message).await, 202);
    }
    let usage = far.network.relay_usage().unwrap();
    assert_eq!((usage.refused["relayed"], usage.reservations, usage.circuits), (2, 1, 0));
    // It was refused for its way, not for itself.
    through_near.leave(far.id());
    circuits(&near, 0).await;
    through_near.connect(address.clone()).await.unwrap();
    for message in [RESERVE.to_vec(), connect_to(&direct.id)] {
        assert_eq!(through_near.status(far.id(), &message).await, 100);
    }
}

#[tokio::test]
async fn a_relay_that_nobody_can_reach_reserves_nothing() {
    let config = Config { relay: Some(limits()), ..crate::harness::config(&[QUIC]) };
    let relay = crate::harness::start(config, rand::random()).await;
    let mut client = Client::start();
    client.connect(relay.address().await).await.unwrap();
    assert_eq!(client.status(relay.id(), RESERVE).await, 200);
    relay.network.add_external_address(relay.address().await).await;
    assert_eq!(client.status(relay.id(), RESERVE).await, 100);
}

#[tokio::test]
async fn nothing_is_lost_around_the_handshakes() {
    let relay = relay(limits(), &[QUIC]).await;
    let (mut source, mut destination) = (Client::start(), Client::by_hand());
    let mut incoming = destination.reserve_by_hand(&relay).await;
    source.connect(relay.address().await).await.unwrap();
    let mut from = source.open(relay.id(), HOP).await;
    // Bytes of the circuit in the same write as the request, and as the answer.
    from.write_all(&[&connect_to(&destination.id)[..], b"early"].concat()).await.unwrap();
    from.flush().await.unwrap();
    let (_, mut to) = within(incoming.next()).await.unwrap();
    let offer = within(read_message(&mut to)).await.unwrap();
    let id = source.id.to_bytes();
    assert!(offer.starts_with(b"\x08\x00\x12") && offer.ends_with(&id), "{offer:?}");
    to.write_all(&[STOP_OK, b"at once"].concat()).await.unwrap();
    to.flush().await.unwrap();
    assert_eq!(within(read_message(&mut from)).await.unwrap(), b"\x08\x02\x28\x64");
    let (mut early, mut at_once) = ([0; 5], [0; 7]);
    within(to.read_exact(&mut early)).await.unwrap();
    within(from.read_exact(&mut at_once)).await.unwrap();
    assert_eq!((&early, &at_once), (b"early", b"at once"));
    // One half ends, and the other goes on.
    from.close().await.unwrap();
    assert_eq!(within(to.read(&mut early)).await.unwrap(), 0);
    to.write_all(b"goodbye").await.unwrap();
    to.close().await.unwrap();
    within(from.read_exact(&mut at_once)).await.unwrap();
    assert_eq!((&at_once, within(from.read(&mut early)).await.unwrap()), (b"goodbye", 0));
    circuits(&relay, 0).await;
}

#[tokio::test]
async fn a_destination_that_is_silent_or_says_no_is_no_connection() {
    let relay = impatient_relay(limits(), &[QUIC]).await;
    let (mut source, mut destination) = (Client::start(), Client::by_hand());
    let mut incoming = destination.reserve_by_hand(&relay).await;
    source.connect(relay.address().await).await.unwrap();
    let answers: [&[u8]; 6] = [
        b"",
        b"\x04\x08",
        b"\x05\x08\x01\x20\xca\x01",
        b"\x04\x08\x00\x20\x64",
        b"\x02\x08\x01",
        b"\xff\xff\xff",
    ];
    let answering = tokio::spawn(async move {
        let mut held = Vec::new();
        for answer in answers {
            let (_, mut stream) = incoming.next().await.unwrap();
            stream.write_all(answer).await.unwrap();
            stream.flush().await.unwrap();
            held.push(stream);
        }
        held
    });
    for answer in answers {
        assert_eq!(source.status(relay.id(), &connect_to(&destination.id)).await, 203, "{answer:?}");
    }
    let held = within(answering).await.unwrap();
    let usage = relay.network.relay_usage().unwrap();
    assert_eq!((usage.circuits, usage.reservations), (0, 1));
    assert_eq!((usage.refused["unreachable"], usage.refused["declined"]), (3, 3));
    drop(held);
}

#[tokio::test]
async fn a_circuit_ends_when_its_time_is_over() {
    let limits = RelayLimits { circuit_duration: Duration::from_millis(300), ..limits() };
    let relay = relay(limits, &[QUIC]).await;
    let (mut source, mut destination) = (Client::start(), Client::start());
    destination.reserve(&relay.address().await).await;
    source.connect(relay.address().await).await.unwrap();
    let (status, mut circuit) = source.ask(relay.id(), &connect_to(&destination.id)).await.unwrap();
    assert_eq!(status, 100);
    let mut rest = Vec::new();
    let _ = within(circuit.read_to_end(&mut rest)).await;
    circuits(&relay, 0).await;
}

#[tokio::test]
async fn the_months_bytes_end_every_circuit() {
    let limits = RelayLimits { bytes_per_month: NonZeroU64::new(MIB), ..limits() };
    let relay = relay(limits, &[QUIC]).await;
    let (mut source, mut destination) = (Client::start(), Client::by_hand());
    let mut incoming = destination.reserve_by_hand(&relay).await;
    source.connect(relay.address().await).await.unwrap();
    let mut ends = Vec::new();
    for _ in 0..2 {
        let answering = async {
            let (_, mut to) = incoming.next().await.unwrap();
            read_message(&mut to).await.unwrap();
            to.write_all(STOP_OK).await.unwrap();
            to.flush().await.unwrap();
            to
        };
        let ask = connect_to(&destination.id);
        let asking = source.ask(relay.id(), &ask);
        let (asked, to) = within(async { tokio::join!(asking, answering) }).await;
        ends.push((asked.unwrap().1, to));
    }
    let (mut used, mut reading) = ends.pop().unwrap();
    let sending = async {
        // Fails when the circuit is cut.
        let _ = used.write_all(&sample(2 * MIB)).await;
        let _ = used.flush().await;
    };
    let mut got = Vec::new();
    let receiving = async {
        let _ = reading.read_to_end(&mut got).await;
    };
    within(async { tokio::join!(sending, receiving) }).await;
    let carried = relay.network.relay_usage().unwrap().bytes_this_month;
    assert!((MIB..=MIB + 65_536).contains(&carried) && got.len() as u64 <= carried, "{carried}");
    // The idle one as well.
    circuits(&relay, 0).await;
    assert_eq!(source.status(relay.id(), &connect_to(&destination.id)).await, 201);
    assert_eq!(relay.network.relay_usage().unwrap().refused["month"], 3);
    // Reservations are free.
    assert_eq!(source.status(relay.id(), RESERVE).await, 100);
    let month = relay.network.relay_usage().unwrap().month;
    relay.network.set_relay_month(10 * MIB, month);
    assert_eq!(relay.network.relay_usage().unwrap().bytes_this_month, carried + 10 * MIB);
}
