//! `/antiphon/council/1`.

use std::time::{Duration, Instant};

use antiphon_p2p::{
    Class, CouncilConfig, CouncilError, CouncilEvent, CouncilEvents, CouncilSender, Multiaddr, PeerId,
    SendError, libp2p::Stream,
};
use antiphon_proto::{
    NetworkId, PublicKey, SecretKey, limits,
    wire::{
        Binding, CouncilClass, CouncilFrame, CouncilHello, CouncilWelcome, Heartbeat, Roster, RosterEntry,
        StreamErrorCode, council_frame, council_welcome,
    },
};
use bytes::Bytes;
use futures::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use crate::{
    connections::{in_own_runtime, without_id},
    harness::{Peer, QUIC, TCP, config, eventually, start, within},
    raw::{self, RawPeer},
};

const NETWORK: NetworkId = NetworkId([0x7e; 32]);

fn secret(number: u8) -> SecretKey {
    SecretKey::from_seed(&[number; 32])
}

fn key(number: u8) -> PublicKey {
    secret(number).public()
}

fn keys(numbers: impl IntoIterator<Item = u8>) -> Vec<PublicKey> {
    numbers.into_iter().map(key).collect()
}

/// A peer that speaks for a member.
struct Member {
    peer: Peer,
    key: PublicKey,
    sender: CouncilSender,
    events: CouncilEvents,
    members: watch::Sender<Vec<PublicKey>>,
}

/// Makes a peer speak for the member of this number. Every binding is later than the one before.
fn take_part(peer: Peer, number: u8, members: &[PublicKey]) -> Member {
    static CLOCK: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1_700_000_000_000);
    let time_ms = CLOCK.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let binding = Binding::new(&secret(number), &NETWORK, &peer.id().to_bytes(), time_ms);
    let (members, receiver) = watch::channel(members.to_vec());
    let config = CouncilConfig { network: NETWORK, binding, members: receiver };
    let (sender, events) = peer.network.council(config).unwrap();
    Member { peer, key: key(number), sender, events, members }
}

async fn member(number: u8, members: &[PublicKey], listen: &str) -> Member {
    take_part(start(config(&[listen]), rand::random()).await, number, members)
}

impl Member {
    async fn next(&mut self) -> CouncilEvent {
        within(self.events.recv()).await.expect("the council has ended")
    }

    /// Waits until exactly these are connected.
    async fn sees(&self, mut others: Vec<PublicKey>) {
        others.sort_unstable();
        eventually(|| async {
            self.sender.connected().iter().map(|info| info.key).collect::<Vec<_>>() == others
        })
        .await;
    }

    async fn message(&mut self) -> (PublicKey, Bytes) {
        loop {
            if let CouncilEvent::Message { from, message } = self.next().await {
                return (from, message);
            }
        }
    }

    async fn until(&mut self, event: CouncilEvent) {
        while self.next().await != event {}
    }
}

/// Two members that are connected.
async fn pair(listen: &str) -> (Member, Member) {
    let all = keys([1, 2]);
    let mut one = member(1, &all, listen).await;
    let mut two = member(2, &all, listen).await;
    two.peer.join(&one.peer).await;
    one.until(CouncilEvent::Connected(key(2))).await;
    two.until(CouncilEvent::Connected(key(1))).await;
    (one, two)
}

fn text(bytes: &'static str) -> Bytes {
    Bytes::from_static(bytes.as_bytes())
}

#[tokio::test]
async fn a_mesh_grows_from_one_address() {
    for listen in [QUIC, TCP] {
        let all = keys(1..=4);
        let mut members = Vec::new();
        for number in 1..=4 {
            members.push(member(number, &all, listen).await);
        }
        // A listener in between: it is connected to and refuses, and nobody minds.
        let listener = start(config(&[listen]), rand::random()).await;
        members[0].peer.join(&listener).await;
        for other in &members[1..] {
            other.peer.join(&members[0].peer).await;
        }
        for (number, one) in members.iter().enumerate() {
            let own = all[number];
            one.sees(all.iter().copied().filter(|key| *key != own).collect()).await;
        }
        // One connection each in the end, and everybody hears everybody.
        for one in &members {
            eventually(|| async { one.peer.network.peers().await.iter().all(|info| info.connections == 1) })
                .await;
        }
        for sending in 0..4 {
            let said = Bytes::from(vec![u8::try_from(sending).unwrap()]);
            assert_eq!(members[sending].sender.broadcast(Class::Vote, &said), Ok(3));
            let from = members[sending].key;
            for (number, other) in members.iter_mut().enumerate() {
                if number != sending {
                    assert_eq!(other.message().await, (from, said.clone()));
                }
            }
        }
        assert!(!listener.metrics().contains("offences_total{"), "{}", listener.metrics());
    }
}

#[tokio::test]
async fn simultaneous_dials_end_in_one_connection() {
    for listen in [QUIC, TCP] {
        let all = keys([1, 2]);
        let (mut one, mut two) = (member(1, &all, listen).await, member(2, &all, listen).await);
        let (to_one, to_two) = (one.peer.address().await, two.peer.address().await);
        let dials = tokio::join!(one.peer.network.connect(to_two), two.peer.network.connect(to_one));
        assert_eq!(dials, (Ok(two.peer.id()), Ok(one.peer.id())));
        one.until(CouncilEvent::Connected(key(2))).await;
        two.until(CouncilEvent::Connected(key(1))).await;
        // Long-lived streams move to the better connection, and the other one is closed.
        eventually(|| async {
            let (of_one, of_two) = (one.peer.network.peers().await, two.peer.network.peers().await);
            of_one[0].connections == 1 && of_two[0].connections == 1
        })
        .await;
        one.sender.send(key(2), Class::Vote, text("still")).unwrap();
        assert_eq!(two.message().await, (key(1), text("still")));
        assert_eq!(one.sender.connected()[0].key, key(2));
    }
}

#[tokio::test]
async fn a_class_keeps_its_order() {
    let (one, mut two) = pair(QUIC).await;
    for number in 0..1_000u32 {
        one.sender.send(key(2), Class::Vote, Bytes::from(number.to_be_bytes().to_vec())).unwrap();
    }
    for number in 0..20u32 {
        let mut body = vec![0; 200_000];
        body[..4].copy_from_slice(&number.to_be_bytes());
        one.sender.send(key(2), Class::Body, Bytes::from(body)).unwrap();
    }
    let (mut votes, mut bodies) = (0, 0);
    while votes < 1_000 || bodies < 20 {
        let (from, message) = two.message().await;
        assert_eq!(from, key(1));
        let expected = if message.len() == 4 { &mut votes } else { &mut bodies };
        assert_eq!(u32::from_be_bytes(message[..4].try_into().unwrap()), *expected);
        *expected += 1;
    }
}

#[tokio::test]
async fn a_vote_overtakes_bodies() {
    for listen in [QUIC, TCP] {
        let (one, mut two) = pair(listen).await;
        for number in 0..8 {
            one.sender.send(key(2), Class::Body, Bytes::from(vec![number; 1_000_000])).unwrap();
        }
        one.sender.send(key(2), Class::Vote, text("vote")).unwrap();
        let mut bodies_before = 0;
        while two.message().await.1 != text("vote") {
            bodies_before += 1;
        }
        assert!(bodies_before < 6, "{bodies_before}");
        for _ in bodies_before..8 {
            assert_eq!(two.message().await.1.len(), 1_000_000);
        }
    }
}

#[tokio::test]
async fn a_slow_member_costs_its_oldest_messages_and_no_memory() {
    let (one, mut two) = pair(QUIC).await;
    // Two reads nothing. What it is sent fills its queue, the windows, and then our queue.
    for number in 0..60u8 {
        one.sender.send(key(2), Class::Body, Bytes::from(vec![number; 1_000_000])).unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    eventually(|| async { one.peer.metrics().contains("council_dropped_total{kind=\"body\"}") }).await;
    // Votes pass by the bodies that wait.
    one.sender.send(key(2), Class::Vote, text("vote")).unwrap();
    eventually(|| async { two.peer.metrics().contains("council_received_total{kind=\"vote\"} 1") }).await;
    assert!(two.message().await.1 == text("vote"));
    // The newest are there, in order.
    let mut last = 0;
    while last < 59 {
        let (_, body) = two.message().await;
        assert!(body[0] >= last);
        last = body[0];
    }
}

#[tokio::test]
async fn messages_that_cannot_be_sent_are_told() {
    let (one, two) = pair(QUIC).await;
    let sent = one.sender.send(key(9), Class::Vote, text("x"));
    assert_eq!(sent, Err(SendError::NotConnected));
    for class in [Class::Vote, Class::Body] {
        let longest = Bytes::from(vec![1; class.limit()]);
        one.sender.send(key(2), class, longest.clone()).unwrap();
        let longer = Bytes::from([&longest[..], b"x"].concat());
        let refused = SendError::TooLong { got: class.limit() + 1, limit: class.limit() };
        assert_eq!(one.sender.broadcast(class, &longer), Err(refused));
    }
    let mut two = two;
    let lengths = [two.message().await.1.len(), two.message().await.1.len()];
    assert_eq!(lengths.iter().sum::<usize>(), limits::COUNCIL_VOTE_BYTES + limits::COUNCIL_MESSAGE_BYTES);
}

#[tokio::test]
async fn a_binding_must_be_the_nodes_own() {
    let all = keys([1, 2]);
    let one = member(1, &all, QUIC).await;
    let binding = Binding::new(&secret(2), &NETWORK, &one.peer.id().to_bytes(), 7);
    let receiver = watch::channel(all.clone()).1;
    let stranger = start(config(&[QUIC]), rand::random()).await;
    let taken = |binding, network| CouncilConfig { network, binding, members: receiver.clone() };
    let refused = |config| stranger.network.council(config).map(|_| ()).unwrap_err();
    assert_eq!(refused(taken(binding.clone(), NETWORK)), CouncilError::OtherPeer);
    assert!(matches!(refused(taken(binding, NetworkId([1; 32]))), CouncilError::Binding(_)));
    let own = Binding::new(&secret(1), &NETWORK, &one.peer.id().to_bytes(), 7);
    let again = one.peer.network.council(taken(own, NETWORK)).map(|_| ()).unwrap_err();
    assert_eq!(again, CouncilError::Already);
}

/// Greets by hand; gives the answer.
async fn greet(raw: &RawPeer, to: &Peer, binding: Binding, class: CouncilClass) -> (Stream, CouncilWelcome) {
    let mut stream = raw.open(to, raw::COUNCIL).await;
    let hello = CouncilHello { binding: Some(binding), class: class.into() };
    stream.write_all(&raw::frame(&hello)).await.unwrap();
    stream.flush().await.unwrap();
    let welcome = within(raw::read_frame(&mut stream)).await.unwrap();
    (stream, welcome)
}

fn code(welcome: &CouncilWelcome) -> Option<StreamErrorCode> {
    match &welcome.body {
        Some(council_welcome::Body::Error(error)) => Some(error.code()),
        _ => None,
    }
}

#[tokio::test]
async fn forged_bindings_are_refused_and_scored() {
    let all = keys([1, 2]);
    let good = |raw: &RawPeer| Binding::new(&secret(2), &NETWORK, &raw.id.to_bytes(), 5);
    let forge: [&dyn Fn(&RawPeer) -> Binding; 2] = [
        // Another node's, as it could be overheard from a roster.
        &|_| Binding::new(&secret(2), &NETWORK, &PeerId::random().to_bytes(), 5),
        &|raw| Binding { time_ms: 6, ..good(raw) },
    ];
    for forged in forge {
        let mut one = member(1, &all, QUIC).await;
        let raw = RawPeer::start().await;
        for _ in 0..2 {
            let (_, welcome) = greet(&raw, &one.peer, forged(&raw), CouncilClass::Vote).await;
            assert_eq!(code(&welcome), Some(StreamErrorCode::Forbidden));
        }
        one.peer.banned(raw.id).await;
        assert!(one.sender.connected().is_empty());
        assert!(one.peer.metrics().contains("offences_total{kind=\"bad_binding\"} 2"));
    }
}

#[tokio::test]
async fn who_is_no_member_is_refused_and_scored_a_little() {
    let one = member(1, &keys([1, 2]), QUIC).await;
    let raw = RawPeer::start().await;
    let peer = raw.id.to_bytes();
    for _ in 0..5 {
        let stranger = Binding::new(&secret(3), &NETWORK, &peer, 5);
        let (_, welcome) = greet(&raw, &one.peer, stranger, CouncilClass::Vote).await;
        assert_eq!(code(&welcome), Some(StreamErrorCode::Forbidden));
    }
    let elsewhere = NetworkId([1; 32]);
    let other = Binding::new(&secret(2), &elsewhere, &peer, 5);
    let (_, welcome) = greet(&raw, &one.peer, other, CouncilClass::Vote).await;
    assert_eq!(code(&welcome), Some(StreamErrorCode::OtherNetwork));
    eventually(|| async { one.peer.metrics().contains("offences_total{kind=\"not_member\"} 6") }).await;
    assert_eq!(one.peer.network.peers().await.len(), 1, "not banned");
    // Who takes no part at all answers, and notes nothing.
    let listener = start(config(&[QUIC]), rand::random()).await;
    let good = Binding::new(&secret(2), &NETWORK, &peer, 5);
    let (_, welcome) = greet(&raw, &listener, good, CouncilClass::Body).await;
    assert_eq!(code(&welcome), Some(StreamErrorCode::Forbidden));
    assert!(!listener.metrics().contains("offences_total{"));
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_stream_and_is_scored() {
    let frame = |body| raw::frame(&CouncilFrame { body: Some(body) });
    let heartbeat = frame(council_frame::Body::Heartbeat(Heartbeat {}));
    let too_long = u32::try_from(limits::COUNCIL_VOTE_BYTES + 1_000).unwrap().to_be_bytes().to_vec();
    let forged = RosterEntry {
        binding: Some(Binding { signature: vec![1; 64], ..Binding::new(&secret(2), &NETWORK, &[1], 9) }),
        addresses: vec![],
    };
    let roster = Roster { entries: vec![forged] };
    let cases = [
        (CouncilClass::Vote, b"\0\0\0\x02\xff\xff".to_vec(), "malformed"),
        (CouncilClass::Vote, too_long, "oversized"),
        (CouncilClass::Body, heartbeat, "malformed"),
        (CouncilClass::Vote, frame(council_frame::Body::Roster(roster)), "bad_binding"),
    ];
    for (class, bytes, offence) in cases {
        let one = member(1, &keys([1, 2]), QUIC).await;
        let raw = RawPeer::start().await;
        let binding = Binding::new(&secret(2), &NETWORK, &raw.id.to_bytes(), 5);
        let (mut stream, welcome) = greet(&raw, &one.peer, binding, class).await;
        let Some(council_welcome::Body::Binding(own)) = &welcome.body else { panic!("{welcome:?}") };
        assert_eq!(own.check(&NETWORK), Ok(key(1)));
        // What this version does not know is skipped.
        stream.write_all(b"\0\0\0\x03\xfa\x01\x00").await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.flush().await.unwrap();
        let line = format!("offences_total{{kind=\"{offence}\"}} 1");
        eventually(|| async { one.peer.metrics().contains(&line) }).await;
        if offence != "bad_binding" {
            assert_eq!(within(stream.read(&mut [0])).await.unwrap_or(0), 0);
        }
    }
}

#[tokio::test]
async fn a_later_binding_replaces_an_earlier_one() {
    let (mut one, mut two) = pair(QUIC).await;
    // The member moves to another node; the old one goes on running.
    let all = keys([1, 2]);
    let mut moved = member(2, &all, QUIC).await;
    moved.peer.join(&one.peer).await;
    moved.until(CouncilEvent::Connected(key(1))).await;
    one.until(CouncilEvent::Disconnected(key(2))).await;
    one.until(CouncilEvent::Connected(key(2))).await;
    assert_eq!(one.sender.connected()[0].peer, moved.peer.id());
    two.until(CouncilEvent::Disconnected(key(1))).await;
    one.sender.send(key(2), Class::Vote, text("here")).unwrap();
    assert_eq!(moved.message().await.1, text("here"));
}

#[tokio::test]
async fn a_member_that_is_none_any_more_is_cut_and_one_that_becomes_one_is_taken() {
    let all = keys(1..=3);
    let mut members = Vec::new();
    for number in 1..=3 {
        // The third is not a member at first, and knows it.
        members.push(member(number, &all[..2], QUIC).await);
    }
    members[1].peer.join(&members[0].peer).await;
    members[2].peer.join(&members[0].peer).await;
    members[0].sees(vec![key(2)]).await;
    // It becomes one, and is the first to know.
    for number in [2, 1, 0] {
        members[number].members.send(all.clone()).unwrap();
    }
    members[0].sees(keys([2, 3])).await;
    members[1].sees(keys([1, 3])).await;
    members[2].sees(keys([1, 2])).await;
    // The second is removed, and does not know it yet.
    members[0].members.send(keys([1, 3])).unwrap();
    members[2].members.send(keys([1, 3])).unwrap();
    members[0].until(CouncilEvent::Disconnected(key(2))).await;
    members[0].sees(vec![key(3)]).await;
    members[2].sees(vec![key(1)]).await;
    members[1].sees(vec![]).await;
    assert_eq!(members[0].sender.send(key(2), Class::Vote, text("x")), Err(SendError::NotConnected));
}

#[test]
fn a_member_that_starts_again_on_its_port_is_soon_back() {
    for listen in [QUIC, TCP] {
        let all = keys(1..=3);
        let seed = rand::random();
        let (first_runtime, first) = in_own_runtime(config(&[listen]), seed);
        let address = first_runtime.block_on(first.address());
        let first = first_runtime.block_on(async { take_part(first, 1, &all) });
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut survivors = runtime.block_on(async {
            let mut survivors = vec![member(2, &all, listen).await, member(3, &all, listen).await];
            for survivor in &mut survivors {
                survivor.peer.network.connect(address.clone()).await.unwrap();
                survivor.until(CouncilEvent::Connected(key(1))).await;
            }
            survivors[0].sees(keys([1, 3])).await;
            survivors
        });
        // Killed without a word; it comes back and knows nobody: the others must find it.
        first_runtime.shutdown_background();
        let listen = without_id(address).to_string();
        let (second_runtime, second) = in_own_runtime(config(&[&listen]), seed);
        let started = Instant::now();
        let second = second_runtime.block_on(async { take_part(second, 1, &all) });
        runtime.block_on(async {
            for survivor in &mut survivors {
                survivor.until(CouncilEvent::Disconnected(key(1))).await;
                survivor.until(CouncilEvent::Connected(key(1))).await;
            }
        });
        let took = started.elapsed();
        eprintln!("{listen}: back after {took:?}");
        assert!(took < Duration::from_secs(6), "{took:?}");
        second_runtime.block_on(second.sees(keys([2, 3])));
        drop((first, second));
        second_runtime.shutdown_background();
    }
}

#[tokio::test]
async fn nothing_is_left_when_a_council_ends() {
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let all = keys([1, 2]);
    let (one, two) =
        (start(config(&[QUIC]), rand::random()).await, start(config(&[QUIC]), rand::random()).await);
    one.join(&two).await;
    eventually(|| async { !two.network.peers().await.is_empty() }).await;
    let before = alive();
    let (one, two) = (take_part(one, 1, &all), take_part(two, 2, &all));
    one.sees(vec![key(2)]).await;
    two.sees(vec![key(1)]).await;
    assert!(alive() > before);
    // Nobody listens any more: the one's streams end, the other one's task goes on alone.
    let Member { peer, events, sender, .. } = one;
    drop(events);
    eventually(|| async { sender.connected().is_empty() && two.sender.connected().is_empty() }).await;
    two.peer.network.shutdown().await;
    peer.network.shutdown().await;
    eventually(|| async { alive() == 0 }).await;
}

#[tokio::test]
async fn members_are_not_idle() {
    let all = keys([1, 2]);
    let mut members = Vec::new();
    for number in [1, 2] {
        let mut config = config(&[QUIC]);
        config.timeouts.idle = Duration::from_millis(100);
        members.push(take_part(start(config, rand::random()).await, number, &all));
    }
    members[1].peer.join(&members[0].peer).await;
    members[0].until(CouncilEvent::Connected(key(2))).await;
    // Ten times what would close a connection that nobody uses.
    let quiet = tokio::time::timeout(Duration::from_secs(1), members[0].events.recv()).await;
    assert!(quiet.is_err(), "{quiet:?}");
}

/// Restarting over and over leaves one session.
#[tokio::test]
async fn members_that_flap_keep_one_session() {
    let (one, two) = pair(QUIC).await;
    let address: Multiaddr = one.peer.address().await;
    for _ in 0..5 {
        two.peer.network.disconnect(one.peer.id(), "test").await;
        let _ = within(two.peer.network.connect(address.clone())).await;
        one.sees(vec![key(2)]).await;
    }
    two.sees(vec![key(1)]).await;
    eventually(|| async {
        let info = one.sender.connected();
        info.len() == 1 && info[0].addr.is_some() && one.peer.network.peers().await[0].connections == 1
    })
    .await;
}
