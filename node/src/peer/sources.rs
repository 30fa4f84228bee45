//! Whom a file is fetched from.

use std::{collections::HashSet, sync::Arc, time::Duration};

use antiphon_p2p::{Network, Online, PeerInfo};
use libp2p::PeerId;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::search::Sources;

/// How often the connected peers are looked at, beside every change of who is online.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Peers named at once; a download uses a few of them at a time.
const SOURCES: usize = 64;
/// Of these, peers that are not connected: each may cost a dial and a way around it.
const AWAY: usize = 16;
/// When so many who have it are connected, the others are left alone.
const ENOUGH: usize = 4;
/// After this, others of those who are not connected get a turn, if there are more of them: time for a dial to fail.
const TURN: Duration = Duration::from_secs(15);
/// How long a peer that has just joined needs to hear who serves what.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// What searches ask about who is online.
pub(super) struct OnlineNow(pub(super) Option<Network>);

impl OnlineNow {
    fn online(&self) -> Arc<Online> {
        self.0.as_ref().map(Network::online).unwrap_or_default()
    }
}

impl Sources for OnlineNow {
    fn count(&self, index: u64) -> u32 {
        self.online().sources(index)
    }

    fn each(&self, each: &mut dyn FnMut(u64)) {
        self.online().indexes().for_each(each);
    }

    fn distinct(&self, indexes: &mut dyn Iterator<Item = u64>) -> u32 {
        self.online().distinct(indexes)
    }
}

/// Who vouches for a block, as presence knows.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Providers {
    /// Connected ones, the nearest first.
    connected: Vec<PeerId>,
    /// Online, but not connected.
    away: Vec<PeerId>,
}

impl Providers {
    /// `turn` says which part of those who are not connected is taken, when there are many.
    fn find(known: &[PeerInfo], online: &Online, index: u64, local: PeerId, turn: usize) -> Self {
        let providers: HashSet<PeerId> = online.providers(&[index]).collect();
        let connected: Vec<PeerId> = known.iter().map(|known| known.peer).collect();
        let mut away: Vec<PeerId> =
            providers.iter().copied().filter(|peer| !connected.contains(peer)).collect();
        // In another order for everybody, so that not all reach for the same few.
        away.sort_by_key(|peer| *blake3::hash(&[local.to_bytes(), peer.to_bytes()].concat()).as_bytes());
        let first = turn.saturating_mul(AWAY).checked_rem(away.len()).unwrap_or(0);
        away.rotate_left(first);
        away.truncate(AWAY);
        let connected = connected.into_iter().filter(|peer| providers.contains(peer)).take(SOURCES).collect();
        Self { connected, away }
    }

    async fn reach(&self, network: &Network) {
        if self.connected.len() < ENOUGH {
            for peer in &self.away {
                network.reach(*peer).await;
            }
        }
    }
}

async fn providers(network: &Network, index: u64, turn: usize) -> (Providers, Vec<PeerInfo>) {
    let mut connected = network.peers().await;
    connected.sort_by_key(|known| known.rtt.unwrap_or(Duration::MAX));
    let local = network.local_peer_id();
    (Providers::find(&connected, &network.online(), index, local, turn), connected)
}

/// Peers that vouch for a block: connected ones first, then some that are not, which are reached for when there are few
/// of the others. All connected ones when nobody is known to vouch for it. (Presence says what peers have told of; a peer
/// that has just learned of the song is not told of yet.)
async fn of(network: &Network, index: u64, turn: usize) -> (Vec<PeerId>, bool) {
    let (found, connected) = providers(network, index, turn).await;
    found.reach(network).await;
    let few = found.connected.len() < ENOUGH;
    let mut sources = found.connected;
    sources.extend(found.away);
    sources.truncate(SOURCES);
    if sources.is_empty() {
        sources.extend(connected.iter().map(|known| known.peer).take(SOURCES));
    }
    (sources, few)
}

/// The same, kept up to date for as long as somebody reads it.
pub(super) async fn feed(network: &Network, index: u64) -> watch::Receiver<Vec<PeerId>> {
    let (send, receive) = watch::channel(of(network, index, 0).await.0);
    let network = network.clone();
    tokio::spawn(async move {
        let (mut online, mut peers) = (network.watch_online(), network.watch_peers());
        let (mut turn, mut next_turn) = (0usize, Instant::now() + TURN);
        loop {
            tokio::select! {
                () = send.closed() => return,
                changed = online.changed() => if changed.is_err() { return },
                changed = peers.changed() => if changed.is_err() { return },
                () = sleep(LOOK_EVERY) => {}
            }
            let (now, few) = of(&network, index, turn).await;
            if Instant::now() >= next_turn {
                (turn, next_turn) = (turn.wrapping_add(usize::from(few)), Instant::now() + TURN);
            }
            send.send_if_modified(|before| {
                let changed = *before != now;
                *before = now;
                changed
            });
        }
    });
    receive
}

/// Waits until somebody who vouches for a block is connected, or nobody is known to.
///
/// # Errors
/// Who is online and was not reached until then, and why, for people.
pub(super) async fn wait_for_one(network: &Network, index: u64, until: Instant) -> Result<(), String> {
    let (mut online, mut peers) = (network.watch_online(), network.watch_peers());
    loop {
        let (found, _) = providers(network, index, 0).await;
        if !found.connected.is_empty() || found.away.is_empty() {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(why_not(network, &found.away).await);
        }
        found.reach(network).await;
        tokio::select! {
            Ok(()) = online.changed() => {}
            Ok(()) = peers.changed() => {}
            () = sleep_until(until.min(Instant::now() + LOOK_EVERY)) => {}
        }
    }
}

async fn why_not(network: &Network, away: &[PeerId]) -> String {
    let mut reasons = Vec::new();
    for peer in away {
        let why = network.why_unreachable(*peer).await;
        reasons.push(format!("{peer}: {}", why.as_deref().unwrap_or("no connection came about")));
    }
    reasons.join("; ")
}

/// Waits until somebody is known to vouch for one of these blocks, or for as long as it takes to hear of those who do.
/// Whether there is somebody.
pub(super) async fn hear_of_one(network: &Network, indexes: &[u64]) -> bool {
    let mut online = network.watch_online();
    let heard = async {
        while network.online().providers(indexes).next().is_none() {
            if online.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    timeout(HEARD_WITHIN, heard).await.is_ok()
}

/// How near those who vouch for each of these blocks are: 0 connected, 1 online, 2 nobody.
pub(super) async fn nearness(network: &Network, indexes: &[u64]) -> Vec<u8> {
    let (known, online) = (network.peers().await, network.online());
    let near = |index: &u64| {
        let found = Providers::find(&known, &online, *index, network.local_peer_id(), 0);
        match (found.connected.is_empty(), found.away.is_empty()) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => 2,
        }
    };
    indexes.iter().map(near).collect()
}

/// How many peers online vouch for a block.
pub(super) fn count(network: &Network, index: u64) -> u32 {
    network.online().sources(index)
}

#[cfg(test)]
mod tests {
    use antiphon_p2p::{
        AudioFile, AudioRefusal, AudioSource, Config, Join, LedgerSource, NoWitness, Registrar, Services,
        SourceError, Vouch,
    };
    use antiphon_proto::{
        ContentHash, NetworkId,
        announcement::Flags,
        wire::{AudioRequest, Batch, LedgerInfo, RegisterReply, RegisterRequest},
    };
    use futures::future::BoxFuture;
    use prometheus_client::registry::Registry;

    use super::*;

    const SONG: ContentHash = ContentHash([7; 32]);

    /// A peer whose ledger has one song.
    struct Stub;

    impl LedgerSource for Stub {
        fn info(&self) -> LedgerInfo {
            LedgerInfo { genesis: b"a network".to_vec(), size: 1, seal: Vec::new() }
        }

        fn batch_from(&self, _: u64) -> Result<Option<Batch>, SourceError> {
            Ok(None)
        }

        fn watch(&self) -> watch::Receiver<u64> {
            watch::channel(1).1
        }

        fn index_of(&self, content: &ContentHash) -> Option<u64> {
            (*content == SONG).then_some(0)
        }
    }

    impl Registrar for Stub {
        fn register(&self, _: PeerId, _: RegisterRequest) -> BoxFuture<'static, RegisterReply> {
            Box::pin(async { RegisterReply::default() })
        }
    }

    impl AudioSource for Stub {
        fn open(&self, _: PeerId, _: &AudioRequest) -> Result<AudioFile, AudioRefusal> {
            Err(AudioRefusal::NotFound)
        }

        fn failed(&self, _: ContentHash) {}
    }

    /// One that dials nobody by itself when it knows one other.
    async fn start(listens: bool) -> Network {
        let listen = listens.then(|| "/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap());
        let config = Config { listen: listen.into_iter().collect(), enough_peers: 1, ..Config::default() };
        let services = Services {
            ledger: Arc::new(Stub),
            registrar: Arc::new(Stub),
            audio: Arc::new(Stub),
            witness: Arc::new(NoWitness),
        };
        let (network, mut events) =
            Network::start(config, &rand::random(), services, &mut Registry::default()).await.unwrap();
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        let id = NetworkId(*blake3::hash(b"a network").as_bytes());
        network.join(Join { network: id, flags: Flags::default(), sequence: 1 }).await;
        network
    }

    async fn eventually(so: impl AsyncFn() -> bool) {
        let waiting = async {
            while !so().await {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(60), waiting).await.unwrap();
    }

    #[tokio::test]
    async fn who_is_online_and_not_connected_is_waited_for_and_named() {
        let (hub, provider, reader) = (start(true).await, start(false).await, start(true).await);
        let at_hub = hub.listen_addrs().await.remove(0);
        // Nobody is known to have it: whoever is connected may.
        assert_eq!(of(&reader, 0, 0).await, (Vec::new(), true));
        reader.connect(at_hub.clone()).await.unwrap();
        assert_eq!(of(&reader, 0, 0).await.0, [hub.local_peer_id()]);
        assert_eq!(wait_for_one(&reader, 0, Instant::now()).await, Ok(()));
        provider.connect(at_hub).await.unwrap();
        let everybody = async || reader.online().peers() == 2 && provider.online().peers() == 2;
        eventually(everybody).await;
        provider.vouch(&[Vouch::Add(0, SONG)]);
        assert!(hear_of_one(&reader, &[0]).await || hear_of_one(&reader, &[0]).await);
        let who = provider.local_peer_id();
        assert_eq!(of(&reader, 0, 0).await, (vec![who], true));
        assert_eq!(nearness(&reader, &[0, 1]).await, [1, 2]);
        // It listens nowhere, and nobody relays.
        let why = wait_for_one(&reader, 0, Instant::now()).await.unwrap_err();
        assert!(why.starts_with(&format!("{who}: ")), "{why}");
        let feed = feed(&reader, 0).await;
        let to = reader.listen_addrs().await.remove(0);
        let until = Instant::now() + Duration::from_secs(60);
        let (waited, connected) = tokio::join!(wait_for_one(&reader, 0, until), provider.connect(to));
        assert_eq!((waited, connected.unwrap()), (Ok(()), reader.local_peer_id()));
        assert_eq!(nearness(&reader, &[0]).await, [0]);
        assert_eq!(*feed.borrow(), [who]);
    }
}
