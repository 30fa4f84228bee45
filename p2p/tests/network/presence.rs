//! Who is online and what they vouch for, over real sockets.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use antiphon_p2p::{
    Config, ConnectionLimits, Join, PeerId, Vouch,
    libp2p::{
        Swarm, SwarmBuilder,
        futures::{StreamExt, future::join_all},
        gossipsub::{self, IdentTopic, MessageAuthenticity, ValidationMode},
        identity::Keypair,
        swarm::SwarmEvent,
    },
    presence::{LibrarySum, Params},
};
use antiphon_proto::{
    ContentHash,
    announcement::{Announcement, Event, Flags},
};

use crate::{
    connections::in_own_runtime,
    harness::{self, Peer, QUIC, TCP, config, eventually, start, within},
};

/// Blocks in the ledger of a peer that takes part, and songs that they register.
pub(crate) const LEDGER_SIZE: u64 = 2_000;

pub(crate) fn content(index: u64) -> ContentHash {
    ContentHash(*blake3::hash(&index.to_le_bytes()).as_bytes())
}

/// Numbers that rise with every start.
fn sequence() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed) << 32
}

pub(crate) async fn take_part(peer: &Peer, songs: impl IntoIterator<Item = u64>) {
    take_part_as(peer, songs, Flags::default()).await;
}

pub(crate) async fn take_part_as(peer: &Peer, songs: impl IntoIterator<Item = u64>, flags: Flags) {
    peer.ledger.push(LEDGER_SIZE, 8);
    for index in 0..LEDGER_SIZE {
        peer.ledger.register(content(index), index);
    }
    peer.network.set_library(songs.into_iter().map(|index| (index, content(index))));
    let network = peer.ledger.network();
    peer.network.join(Join { network, flags, sequence: sequence() }).await;
}

/// What a peer sees of each other one.
pub(crate) fn seen(peer: &Peer) -> BTreeMap<PeerId, BTreeSet<u64>> {
    let online = peer.network.online();
    let mut seen: BTreeMap<PeerId, BTreeSet<u64>> =
        online.libraries().map(|(peer, _)| (peer, BTreeSet::new())).collect();
    for index in online.indexes() {
        for peer in online.providers(&[index]) {
            seen.get_mut(&peer).unwrap().insert(index);
        }
    }
    seen
}

/// A number of the metrics.
pub(crate) fn metric(peer: &Peer, name: &str) -> u64 {
    let text = peer.metrics();
    let line = text.lines().find(|line| line.starts_with(name));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

pub(crate) fn library_bytes(peer: &Peer, kind: &str) -> u64 {
    metric(peer, &format!("antiphon_p2p_library_bytes_total{{kind=\"{kind}\"}}"))
}

pub(crate) fn announcements(peer: &Peer, kind: &str) -> u64 {
    metric(peer, &format!("antiphon_p2p_announcements_total{{kind=\"{kind}\"}}"))
}

#[tokio::test]
async fn ten_peers_see_one_another_and_who_leaves() {
    for listen in [QUIC, TCP] {
        let mut peers: Vec<(Peer, BTreeSet<u64>)> = Vec::new();
        for number in 0..10u64 {
            let songs: BTreeSet<u64> = (number * 50..number * 50 + 120).collect();
            let peer = harness::peer(&[listen]).await;
            take_part(&peer, songs.clone()).await;
            // All know one of the others; the rest is told.
            if let Some((first, _)) = peers.first() {
                peer.join(first).await;
            }
            peers.push((peer, songs));
        }
        let agree = |peers: &[(Peer, BTreeSet<u64>)]| {
            peers.iter().all(|(peer, _)| {
                let others = peers.iter().filter(|(other, _)| other.id() != peer.id());
                seen(peer) == others.map(|(other, songs)| (other.id(), songs.clone())).collect()
            })
        };
        eventually(|| async { agree(&peers) }).await;
        // One that leaves says so.
        let (gone, _) = peers.remove(3);
        gone.network.shutdown().await;
        eventually(|| async { agree(&peers) }).await;
        assert!(peers.iter().all(|(peer, _)| announcements(peer, "wrong_numbers") == 0));
        // Changes are told one by one.
        let before: Vec<u64> = peers.iter().map(|(peer, _)| library_bytes(peer, "sync_received")).collect();
        peers[2].0.network.vouch(&[Vouch::Add(1_999, content(1_999)), Vouch::Remove(101, content(101))]);
        peers[2].1.insert(1_999);
        peers[2].1.remove(&101);
        eventually(|| async { agree(&peers) }).await;
        let after: Vec<u64> = peers.iter().map(|(peer, _)| library_bytes(peer, "sync_received")).collect();
        assert_eq!(before, after, "two announcements and nothing else");
    }
}

#[test]
fn a_killed_peer_is_gone_and_comes_back_for_96_bytes() {
    for listen in [QUIC, TCP] {
        // Sooner than in life, so that the test does not take so long.
        let presence = Params { heartbeat: Duration::from_millis(500), ..Params::default() };
        let quick = Config { presence, ..config(&[listen]) };
        let (runtime, one) = in_own_runtime(quick.clone(), [1; 32]);
        runtime.block_on(take_part(&one, 0..1_000));
        let (runtime_two, two) = in_own_runtime(quick.clone(), [2; 32]);
        runtime_two.block_on(async {
            take_part(&two, 500..600).await;
            two.join(&one).await;
            let songs: BTreeSet<u64> = (500..600).collect();
            eventually(|| async { seen(&one).get(&two.id()) == Some(&songs) }).await;
        });
        let two_id = two.id();
        runtime_two.shutdown_background();
        drop(two);
        runtime.block_on(eventually(|| async { seen(&one).is_empty() }));
        let (learned, met) = (library_bytes(&one, "sync_received"), library_bytes(&one, "hello_received"));
        let (runtime_two, two) = in_own_runtime(Config { boot_nonce: 2, ..quick }, [2; 32]);
        runtime_two.block_on(async {
            take_part(&two, 500..600).await;
            two.join(&one).await;
            eventually(|| async { seen(&one).get(&two_id).is_some_and(|songs| songs.len() == 100) }).await;
            eventually(|| async { seen(&two).get(&one.id()).is_some_and(|songs| songs.len() == 1_000) })
                .await;
        });
        // What is known of its library is what it was: nothing but hellos came.
        assert_eq!(library_bytes(&one, "sync_received"), learned);
        assert_eq!((library_bytes(&one, "hello_received") - met) % 96, 0);
        runtime.block_on(async { one.network.shutdown().await });
        drop((runtime, runtime_two));
    }
}

#[tokio::test]
async fn an_unchanged_library_costs_96_bytes_each_way() {
    let one = harness::peer(&[QUIC]).await;
    take_part(&one, 0..1_000).await;
    let seed = rand::random();
    for round in 0..3 {
        let two = start(config(&[QUIC]), seed).await;
        take_part(&two, 200..700).await;
        two.join(&one).await;
        eventually(|| async { seen(&one).get(&two.id()).is_some_and(|songs| songs.len() == 500) }).await;
        eventually(|| async { seen(&two).get(&one.id()).is_some_and(|songs| songs.len() == 1_000) }).await;
        assert_eq!((library_bytes(&two, "hello_sent"), library_bytes(&two, "hello_received")), (96, 96));
        if round > 0 {
            // It was taught one's library, which it had forgotten, and had to teach nothing of its own.
            assert_eq!(library_bytes(&two, "sync_sent"), SMALL_QUESTION);
        }
        two.network.shutdown().await;
        eventually(|| async { seen(&one).is_empty() }).await;
    }
}

/// A request for a whole library: network id, an empty message, and the lengths around them.
const SMALL_QUESTION: u64 = 4 + 34 + 2;

/// A hand-made member of the gossip that says what it likes.
struct Liar {
    swarm: Swarm<gossipsub::Behaviour>,
    topic: IdentTopic,
}

impl Liar {
    async fn join(peer: &Peer, authenticity: impl FnOnce(Keypair) -> MessageAuthenticity) -> Self {
        let key = Keypair::generate_ed25519();
        let authenticity = authenticity(key.clone());
        let gossip =
            gossipsub::ConfigBuilder::default().validation_mode(ValidationMode::Permissive).build().unwrap();
        let gossip = gossipsub::Behaviour::new(authenticity, gossip).unwrap();
        let mut swarm = SwarmBuilder::with_existing_identity(key)
            .with_tokio()
            .with_quic()
            .with_behaviour(|_| gossip)
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
            .build();
        let topic = IdentTopic::new(format!("/antiphon/{}/swarm/0", peer.ledger.network()));
        swarm.behaviour_mut().subscribe(&topic).unwrap();
        swarm.dial(peer.address().await).unwrap();
        within(async {
            loop {
                let event = swarm.select_next_some().await;
                if matches!(event, SwarmEvent::Behaviour(gossipsub::Event::Subscribed { .. })) {
                    return;
                }
            }
        })
        .await;
        Self { swarm, topic }
    }

    fn say(&mut self, bytes: &[u8]) {
        self.swarm.behaviour_mut().publish(self.topic.clone(), bytes).unwrap();
    }

    /// Lets the swarm work until something holds.
    async fn until(&mut self, holds: impl Fn() -> bool) {
        within(async {
            while !holds() {
                let _ = tokio::time::timeout(Duration::from_millis(20), self.swarm.select_next_some()).await;
            }
        })
        .await;
    }
}

fn announcement(songs: &[u64], sequence: u64) -> Announcement {
    let sum = songs.iter().fold(LibrarySum::default(), |sum, index| sum.with(&content(*index)));
    Announcement {
        event: Event::Digest,
        flags: Flags::default(),
        songs: sum.songs(),
        sequence,
        time_ms: 1_000_000,
        ledger_size: 2_000,
        digest: sum.digest(),
    }
}

#[tokio::test]
async fn bad_announcements_are_dropped_counted_and_held_against_the_sender() {
    let mut one = harness::peer(&[QUIC]).await;
    take_part(&one, []).await;
    let good = announcement(&[1, 2], 10);
    let mut liar = Liar::join(&one, MessageAuthenticity::Signed).await;
    liar.say(&good.to_bytes());
    liar.until(|| announcements(&one, "accepted") == 1).await;
    // Late is no offence.
    liar.say(&announcement(&[1, 2, 3], 9).to_bytes());
    liar.until(|| announcements(&one, "past_sequence") == 1).await;
    assert_eq!(metric(&one, "antiphon_p2p_offences_total"), 0);
    let bad: [(&str, Vec<u8>); 4] = [
        ("wrong_length", vec![1; 95]),
        ("unknown_version", vec![2; 96]),
        ("wrong_numbers", Announcement { sequence: 11, songs: 3, ..good }.to_bytes().to_vec()),
        ("replayed", Announcement { sequence: 8, time_ms: 1, ..good }.to_bytes().to_vec()),
    ];
    for (name, bytes) in bad {
        liar.say(&bytes);
        liar.until(|| announcements(&one, name) == 1).await;
    }
    let who = *liar.swarm.local_peer_id();
    within(async {
        tokio::select! {
            () = one.banned(who) => {}
            () = async { loop { liar.swarm.select_next_some().await; } } => {}
        }
    })
    .await;
    assert_eq!(announcements(&one, "accepted"), 1);
}

#[tokio::test]
async fn nobody_speaks_for_somebody_else() {
    let one = harness::peer(&[QUIC]).await;
    take_part(&one, []).await;
    let victim = PeerId::random();
    let mut liar = Liar::join(&one, |_| MessageAuthenticity::Author(victim)).await;
    liar.say(&announcement(&[1, 2], 10).to_bytes());
    let invalid = "libp2p_gossipsub_invalid_messages_per_topic_total";
    liar.until(|| metric(&one, invalid) == 1).await;
    assert_eq!((announcements(&one, "accepted"), one.network.online().peers()), (0, 0));
}

#[tokio::test]
async fn peers_of_another_network_are_not_counted() {
    let (one, two) = (harness::peer(&[QUIC]).await, harness::peer(&[QUIC]).await);
    take_part(&one, 0..10).await;
    two.network.set_library((0..5).map(|index| (index, content(index))));
    let other = antiphon_proto::NetworkId([7; 32]);
    two.network.join(Join { network: other, flags: Flags::default(), sequence: 1 }).await;
    two.join(&one).await;
    // A third one of the first network is seen while the stranger is not.
    let three = harness::peer(&[QUIC]).await;
    take_part(&three, 3..6).await;
    three.join(&one).await;
    eventually(|| async { seen(&one).contains_key(&three.id()) && seen(&three).contains_key(&one.id()) })
        .await;
    assert_eq!((one.network.online().peers(), two.network.online().peers()), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_dial_one() {
    let limits = ConnectionLimits { incoming: 60, total: 64, ..ConnectionLimits::default() };
    let one = start(Config { limits, ..config(&[QUIC]) }, rand::random()).await;
    take_part(&one, 0..100).await;
    let mut others = Vec::new();
    for _ in 0..200 {
        others.push(harness::peer(&[]).await);
    }
    let address = one.address().await;
    let dials = others.iter().map(|other| other.network.connect(address.clone()));
    let reached = within(join_all(dials)).await.into_iter().filter(Result::is_ok).count();
    assert!(reached >= 1, "nobody got in");
    assert!(one.network.peers().await.len() <= 60);
    // It works on for those inside.
    let inside = one.network.peers().await.into_iter().map(|known| known.peer).collect::<BTreeSet<_>>();
    let other = others.iter().find(|other| inside.contains(&other.id())).unwrap();
    take_part(other, 5..15).await;
    eventually(|| async { seen(&one).get(&other.id()).is_some_and(|songs| songs.len() == 10) }).await;
    eventually(|| async { seen(other).get(&one.id()).is_some_and(|songs| songs.len() == 100) }).await;
}
