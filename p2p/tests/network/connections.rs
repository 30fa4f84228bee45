//! Connecting, losing and finding one another again.

use std::time::Duration;

use antiphon_p2p::{
    Config, ConnectError, ConnectionLimits, DisconnectReason, Event, Multiaddr, PeerId, StartError, Timeouts,
    Transport, libp2p::multiaddr::Protocol,
};

use crate::harness::{self, QUIC, TCP, config, eventually, peer, start, try_start, within};

pub(crate) fn without_id(mut address: Multiaddr) -> Multiaddr {
    assert!(matches!(address.pop(), Some(Protocol::P2p(_))));
    address
}

#[tokio::test]
async fn addresses_work_with_and_without_the_peer_id() {
    for (listen, transport) in [(QUIC, Transport::Quic), (TCP, Transport::Tcp)] {
        let (one, mut two) = (peer(&[listen]).await, peer(&[]).await);
        let address = one.address().await;
        assert_eq!(two.network.connect(without_id(address.clone())).await, Ok(one.id()));
        assert_eq!(two.network.connect(address).await, Ok(one.id()));
        let agent = two
            .event(|event| match event {
                Event::Identified { peer, agent } if *peer == one.id() => Some(agent.clone()),
                _ => None,
            })
            .await;
        assert!(agent.starts_with("antiphon/"), "{agent}");
        let peers = two.network.peers().await;
        assert_eq!((peers.len(), peers[0].peer, peers[0].transport), (1, one.id(), transport));
        assert_eq!(peers[0].agent, agent);
        eventually(|| async { two.network.peers().await[0].rtt.is_some() }).await;
        two.network.disconnect(one.id(), "done").await;
        let reason = two
            .event(|event| match event {
                Event::Disconnected { reason, .. } => Some(reason.clone()),
                _ => None,
            })
            .await;
        assert_eq!(reason, DisconnectReason::Local("done".to_owned()));
    }
}

#[tokio::test]
async fn names_are_resolved() {
    let (one, two) = (peer(&[QUIC]).await, peer(&[]).await);
    let full = one.address().await;
    let port = full.iter().nth(1).unwrap();
    let address =
        Multiaddr::empty().with(Protocol::Dns4("localhost".into())).with(port).with(Protocol::QuicV1);
    assert_eq!(within(two.network.connect(address)).await, Ok(one.id()));
}

#[tokio::test]
async fn failures_to_connect_say_what_is_wrong() {
    let timeouts = Timeouts { dial: Duration::from_secs(1), ..Timeouts::default() };
    let two = start(Config { timeouts, ..config(&[QUIC]) }, rand::random()).await;
    let one = peer(&[QUIC]).await;
    let own = two.network.connect(two.address().await).await;
    assert_eq!(own, Err(ConnectError::Myself));
    let other = without_id(one.address().await).with(Protocol::P2p(PeerId::random()));
    let wrong = within(two.network.connect(other)).await.unwrap_err();
    assert!(matches!(wrong, ConnectError::OtherPeer { found, .. } if found == one.id()), "{wrong}");
    let memory = within(two.network.connect("/memory/1".parse().unwrap())).await.unwrap_err();
    assert!(matches!(memory, ConnectError::Address { .. }), "{memory}");
    // Nobody there: a port that was free a moment ago.
    let gone = peer(&[TCP]).await;
    let address = gone.address().await;
    gone.network.shutdown().await;
    let unreachable = within(two.network.connect(address)).await.unwrap_err();
    assert!(matches!(unreachable, ConnectError::Unreachable { .. }), "{unreachable}");
}

#[tokio::test]
async fn a_port_in_use_is_told_at_the_start() {
    for transport in [QUIC, TCP] {
        let one = peer(&[transport]).await;
        let taken = without_id(one.address().await).to_string();
        let refused = try_start(config(&[QUIC, &taken]), rand::random()).await.map(|_| ());
        assert!(matches!(refused, Err(StartError::Listen { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn connections_are_bounded() {
    let limits = ConnectionLimits { incoming: 3, total: 4, ..ConnectionLimits::default() };
    let one = start(Config { limits, ..config(&[QUIC]) }, rand::random()).await;
    let mut others = Vec::new();
    for _ in 0..10 {
        let other = peer(&[]).await;
        let _ = within(other.network.connect(one.address().await)).await;
        assert!(one.network.peers().await.len() <= 3);
        others.push(other);
    }
    eventually(|| async { one.network.peers().await.len() == 3 }).await;
    // Those that were refused learn it.
    eventually(|| async {
        let mut connected = 0;
        for other in &others {
            connected += other.network.peers().await.len();
        }
        connected == 3
    })
    .await;
}

#[tokio::test]
async fn simultaneous_dials_end_in_one_connection() {
    for transport in [QUIC, TCP] {
        for _ in 0..5 {
            let (one, two) = (peer(&[transport]).await, peer(&[transport]).await);
            let (to_one, to_two) = (one.address().await, two.address().await);
            let dials = tokio::join!(one.network.connect(to_two), two.network.connect(to_one));
            assert_eq!(dials, (Ok(two.id()), Ok(one.id())));
            // Usable at once, and one in the end.
            one.ledger.push(3, 10);
            assert_eq!(within(two.network.ledger_info(one.id())).await.unwrap().size, 3);
            eventually(|| async {
                let (of_one, of_two) = (one.network.peers().await, two.network.peers().await);
                of_one.len() == 1
                    && of_two.len() == 1
                    && of_one[0].connections == 1
                    && of_two[0].connections == 1
                    && of_one[0].direction != of_two[0].direction
            })
            .await;
            assert_eq!(within(one.network.ledger_info(two.id())).await.unwrap().size, 0);
        }
    }
}

/// Runs a peer in a runtime of its own, so that it can be killed as a process is: without a word to anybody.
pub(crate) fn in_own_runtime(config: Config, seed: [u8; 32]) -> (tokio::runtime::Runtime, harness::Peer) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let peer = loop {
        match runtime.block_on(try_start(config.clone(), seed)) {
            Ok(peer) => break peer,
            // The killed one's socket takes a moment to go.
            Err(StartError::Listen { .. }) => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => panic!("{error}"),
        }
    };
    (runtime, peer)
}

#[test]
fn a_killed_peer_that_comes_back_on_its_port_is_used_at_once() {
    for listen in [QUIC, TCP] {
        let seed = rand::random();
        let (first_runtime, first) = in_own_runtime(config(&[listen]), seed);
        let address = first_runtime.block_on(first.address());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut survivor = runtime.block_on(async {
            let mut survivor = peer(&[listen]).await;
            survivor.network.connect(address.clone()).await.unwrap();
            let id = first.id();
            survivor
                .event(|event| matches!(event, Event::Identified { peer, .. } if *peer == id).then_some(()))
                .await;
            survivor
        });
        first_runtime.shutdown_background();
        let listen = without_id(address).to_string();
        let (second_runtime, second) = in_own_runtime(config(&[&listen]), seed);
        second.ledger.push(9, 10);
        let to = runtime.block_on(survivor.address());
        second_runtime.block_on(second.network.connect(to)).unwrap();
        runtime.block_on(async {
            survivor
                .event(|event| match event {
                    // Over TCP the system itself tells that the old process is gone.
                    Event::Restarted { peer } | Event::Disconnected { peer, .. } if *peer == second.id() => {
                        Some(())
                    }
                    _ => None,
                })
                .await;
            eventually(|| async {
                matches!(survivor.network.ledger_info(second.id()).await, Ok(info) if info.size == 9)
            })
            .await;
            eventually(|| async { survivor.network.peers().await[0].connections == 1 }).await;
        });
        drop(first);
        second_runtime.shutdown_background();
    }
}

#[tokio::test]
async fn a_silent_death_is_noticed_by_pings() {
    let timeouts = Timeouts { ping: Duration::from_millis(300), ..Timeouts::default() };
    let mut survivor = start(Config { timeouts, ..config(&[QUIC]) }, rand::random()).await;
    let address = survivor.address().await;
    let dead = tokio::task::spawn_blocking(move || {
        let (runtime, peer) = in_own_runtime(config(&[QUIC]), rand::random());
        let id = runtime.block_on(async {
            peer.network.connect(address).await.unwrap();
            peer.id()
        });
        runtime.shutdown_background();
        drop(peer);
        id
    })
    .await
    .unwrap();
    survivor
        .event(|event| matches!(event, Event::Disconnected { peer, .. } if *peer == dead).then_some(()))
        .await;
}
