//! The task that moves what presence says and hears.
//!
//! The core is behind a lock that is held for one step at a time: the swarm's task hands announcements and connections in,
//! servers hand in hellos, searches take snapshots. This task takes the effects out, and dials whom presence seeks.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use antiphon_proto::{
    ContentHash, NetworkId,
    announcement::{Announcement, Flags},
    limits,
};
use libp2p::PeerId;
use roaring::RoaringBitmap;
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::JoinSet,
    time::{self, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{Dropped, Effect, LibrarySum, Online, OwnLibrary, Params, Presence, Verdict};
use crate::{
    config::Timeouts,
    error::RequestError,
    metrics::Metrics,
    protocol::{
        library::{Asker, Known},
        report,
    },
    reach::Reach,
    score::Offence,
    services::LedgerSource,
    streams::Opener,
    swarm::Command,
};

/// How often presence looks at the clock.
const TICK: Duration = Duration::from_millis(100);
/// How often the size of all sets is measured for the metrics: it looks at each.
const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// How often peers that are heard of and not connected are sought.
const SEEK_EVERY: Duration = Duration::from_secs(1);
/// Peers that somebody wants to reach and whose addresses are asked for, and for how long.
const WANTED: usize = 64;
const WANTED_FOR: Duration = Duration::from_secs(15);
/// How often mini-nodes that are not connected are asked for, and how many at once.
const MINI_NODES_EVERY: Duration = Duration::from_secs(10);
const MINI_NODES: usize = 16;
/// Contents whose place in the ledger is being looked up; more are looked up when the ledger grows.
const RESOLVING: usize = 1_024;
/// Neighbours asked at once who else is here.
const ASKED: usize = 3;
/// Questions on their way: a hello with each connection that there may be, and a few more.
const QUESTIONS: usize = 512;
/// Dials from hearsay in one round.
const DIALS: usize = 16;

/// What this peer begins or ends to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vouch {
    /// The block at this ledger index, and the content it registers.
    Add(u64, ContentHash),
    /// The same, no longer.
    Remove(u64, ContentHash),
}

/// How a peer takes part in the swarm of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Which network.
    pub network: NetworkId,
    /// What this peer is.
    pub flags: Flags,
    /// A number beyond every sequence that this peer has used.
    pub sequence: u64,
}

/// Presence, as the other tasks reach it.
#[derive(Debug, Clone)]
pub(crate) struct Shared(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    core: Mutex<Presence>,
    network: OnceLock<NetworkId>,
    wake: Notify,
    version: watch::Sender<u64>,
    /// Peers that somebody wants to reach, and since when. Bounded by `WANTED`.
    wanted: Mutex<HashMap<PeerId, Instant>>,
    seek: Notify,
}

impl Shared {
    pub(crate) fn new(local: PeerId, params: Params) -> Self {
        Self(Arc::new(Inner {
            core: Mutex::new(Presence::new(local, params, 0, Instant::now())),
            network: OnceLock::new(),
            wake: Notify::new(),
            version: watch::Sender::new(0),
            wanted: Mutex::default(),
            seek: Notify::new(),
        }))
    }

    /// Has neighbours asked where a peer is.
    pub(crate) fn want(&self, peer: PeerId) {
        let mut wanted = self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        wanted.retain(|_, since| now.saturating_duration_since(*since) < WANTED_FOR);
        if wanted.len() < WANTED && wanted.insert(peer, now).is_none() {
            self.0.seek.notify_one();
        }
    }

    fn wanted(&self) -> Vec<PeerId> {
        let mut wanted = self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        wanted.retain(|_, since| now.saturating_duration_since(*since) < WANTED_FOR);
        wanted.keys().copied().collect()
    }

    fn found(&self, peer: &PeerId) {
        self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner).remove(peer);
    }

    fn core(&self) -> MutexGuard<'_, Presence> {
        // Whole at every unlock.
        self.0.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something and lets the task look at what follows.
    fn with<T>(&self, act: impl FnOnce(&mut Presence) -> T) -> T {
        let mut core = self.core();
        let done = act(&mut core);
        self.note_version(&core);
        drop(core);
        self.0.wake.notify_one();
        done
    }

    fn note_version(&self, core: &Presence) {
        self.0.version.send_if_modified(|version| {
            let changed = *version != core.version();
            *version = core.version();
            changed
        });
    }

    /// Takes part in a network from now on; the first call counts.
    pub(crate) fn join(&self, join: &Join) -> bool {
        let first = self.0.network.set(join.network).is_ok();
        if first {
            self.with(|core| {
                core.set_sequence(join.sequence);
                core.start(join.flags, Instant::now());
            });
        }
        first
    }

    pub(crate) fn network(&self) -> Option<NetworkId> {
        self.0.network.get().copied()
    }

    /// Whether another peer is reached through relays only, by its own word.
    pub(crate) fn is_relayed_only(&self, peer: &PeerId) -> bool {
        self.core().is_relayed_only(peer)
    }

    /// Whether this peer is reached through relays only.
    pub(crate) fn set_relayed_only(&self, relayed_only: bool) {
        self.core().set_relayed_only(relayed_only);
    }

    pub(crate) fn hello(&self) -> Option<[u8; limits::ANNOUNCEMENT_BYTES]> {
        self.network()?;
        Some(self.core().hello(wall_ms()).to_bytes())
    }

    pub(crate) fn handle_hello(&self, peer: PeerId, said: Announcement) -> Result<(), Dropped> {
        self.with(|core| core.handle_hello(peer, said, Instant::now()))
    }

    pub(crate) fn handle_announcement(&self, author: PeerId, bytes: &[u8]) -> Verdict {
        self.with(|core| core.handle_announcement(author, bytes, Instant::now()))
    }

    pub(crate) fn connected(&self, peer: PeerId, dialled: bool) {
        self.with(|core| core.handle_connected(peer, dialled, Instant::now()));
    }

    pub(crate) fn subscribed(&self, peer: &PeerId) {
        self.with(|core| core.handle_subscribed(peer, Instant::now()));
    }

    /// See [`Presence::handle_disconnected`].
    pub(crate) fn disconnected(&self, peer: &PeerId, relayed: bool) {
        self.with(|core| core.handle_disconnected(peer, relayed, Instant::now()));
    }

    pub(crate) fn own_library(&self) -> OwnLibrary {
        self.core().own_library()
    }

    pub(crate) fn neighbours(&self) -> HashSet<PeerId> {
        self.core().neighbours()
    }

    pub(crate) fn replace_own(&self, set: RoaringBitmap, sum: LibrarySum) {
        self.with(|core| core.replace_own(set, sum));
    }

    pub(crate) fn vouch(&self, changes: &[Vouch]) {
        self.with(|core| {
            for change in changes {
                let (index, content, added) = match change {
                    Vouch::Add(index, content) => (index, content, true),
                    Vouch::Remove(index, content) => (index, content, false),
                };
                let Ok(index) = u32::try_from(*index) else { continue };
                if added {
                    core.vouch(index, content)
                } else {
                    core.withdraw(index, content)
                };
            }
        });
    }

    pub(crate) fn online(&self) -> Arc<Online> {
        self.core().online()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.0.version.subscribe()
    }

    pub(crate) fn size(&self) -> (usize, u64, usize) {
        self.core().size()
    }

    /// The last announcement, if any was made.
    pub(crate) fn goodbye(&self) -> Option<[u8; limits::ANNOUNCEMENT_BYTES]> {
        self.network()?;
        Some(self.core().goodbye(wall_ms()).to_bytes())
    }
}

/// What the task uses of the network.
pub(crate) struct Task {
    pub(crate) shared: Shared,
    pub(crate) opener: Opener,
    /// Weak, so that presence does not keep the network alive when every handle is gone.
    pub(crate) commands: mpsc::WeakSender<Command>,
    pub(crate) ledger: Arc<dyn LedgerSource>,
    pub(crate) timeouts: Timeouts,
    pub(crate) metrics: Metrics,
    pub(crate) closed: CancellationToken,
    /// No more peers are dialled from hearsay when so many are connected.
    pub(crate) enough: usize,
    /// Mini-nodes that this peer wants to be connected with.
    pub(crate) mini_nodes: usize,
}

impl Task {
    /// Runs until the network ends.
    pub(crate) async fn run(self) {
        let closed = self.closed.clone();
        let task = Arc::new(self);
        tokio::select! {
            () = closed.cancelled() => {}
            () = task.work() => {}
        }
    }

    async fn work(self: Arc<Self>) {
        let (resolve, resolving) = mpsc::channel(RESOLVING);
        let mut tasks = JoinSet::new();
        tasks.spawn(self.clone().resolve(resolving));
        tasks.spawn(self.clone().seek());
        let mut size = self.ledger.watch();
        let mut measured = time::Instant::now();
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.shared.with(|core| core.set_ledger_size(*size.borrow_and_update()));
        loop {
            tokio::select! {
                () = self.shared.0.wake.notified() => {}
                _ = ticks.tick() => {}
                Ok(()) = size.changed() => {
                    let size = *size.borrow_and_update();
                    self.shared.with(|core| core.set_ledger_size(size));
                }
            }
            while tasks.try_join_next().is_some() {}
            self.act(&resolve, &mut tasks, &mut measured).await;
        }
    }

    async fn act(
        self: &Arc<Self>,
        resolve: &mpsc::Sender<(PeerId, ContentHash, bool)>,
        tasks: &mut JoinSet<()>,
        measured: &mut time::Instant,
    ) {
        loop {
            let effect = {
                let mut core = self.shared.core();
                let effect = core.poll(Instant::now(), wall_ms());
                self.shared.note_version(&core);
                effect
            };
            let Some(effect) = effect else { break };
            match effect {
                Effect::Publish(said) => self.publish(&said).await,
                Effect::Hello(peer) if tasks.len() < QUESTIONS => {
                    tasks.spawn(self.clone().greet(peer));
                }
                Effect::Hello(peer) => self.shared.core().hello_failed(&peer, Instant::now()),
                Effect::Learn { peer, known } => {
                    tasks.spawn(self.clone().learn(peer, known));
                }
                Effect::Resolve { peer, content, added } => {
                    if resolve.try_send((peer, content, added)).is_err() {
                        self.shared.core().handle_resolved(&peer, &content, added, None);
                    }
                }
            }
        }
        if measured.elapsed() < MEASURE_EVERY {
            return;
        }
        *measured = time::Instant::now();
        let (peers, songs, bytes) = self.shared.size();
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.metrics.peers_online.set(number(peers as u64));
        self.metrics.songs_online.set(number(songs));
        self.metrics.presence_bytes.set(number(bytes as u64));
    }

    async fn publish(&self, said: &Announcement) {
        let (Some(network), Some(commands)) = (self.shared.network(), self.commands.upgrade()) else {
            return;
        };
        Metrics::count(&self.metrics.announcements, "said");
        let _ = commands.send(Command::Publish { network, bytes: said.to_bytes() }).await;
    }

    fn asker(&self, peer: PeerId) -> Option<Asker<'_>> {
        let network = self.shared.network()?;
        Some(Asker { opener: &self.opener, timeouts: &self.timeouts, metrics: &self.metrics, peer, network })
    }

    async fn penalize(&self, peer: PeerId, error: &RequestError) {
        if let (RequestError::Malformed(_), Some(commands)) = (error, self.commands.upgrade()) {
            report(&commands, peer, Offence::Malformed).await;
        }
    }

    async fn greet(self: Arc<Self>, peer: PeerId) {
        let (Some(asker), Some(ours)) = (self.asker(peer), self.shared.hello()) else { return };
        let met = match asker.hello(&ours).await {
            Ok(said) => match self.shared.handle_hello(peer, said) {
                Err(Dropped::Numbers) => Err(RequestError::Malformed("numbers that do not fit".to_owned())),
                _ => Ok(()),
            },
            Err(error) => Err(error),
        };
        if let Err(error) = met {
            tracing::debug!(%peer, %error, "no hello");
            self.penalize(peer, &error).await;
            return self.shared.with(|core| core.hello_failed(&peer, Instant::now()));
        }
        tracing::debug!(%peer, "met");
        // Whoever is new here wants to know everybody else.
        self.ask_around(peer, &[]).await;
    }

    async fn learn(self: Arc<Self>, peer: PeerId, known: Option<Arc<RoaringBitmap>>) {
        let Some(asker) = self.asker(peer) else { return };
        tracing::debug!(%peer, "learning its library");
        let learned = asker.library(known.map(|known| (*known).clone())).await;
        let failed = match learned {
            Ok(learned) => {
                let taken = self.shared.with(|core| core.handle_library(peer, learned, Instant::now()));
                taken.map_err(|error| RequestError::Malformed(error.to_string()))
            }
            Err(error) => {
                self.shared.with(|core| core.library_failed(&peer, Instant::now()));
                Err(error)
            }
        };
        if let Err(error) = failed {
            tracing::debug!(%peer, %error, "a library was not learned");
            self.penalize(peer, &error).await;
        }
    }

    /// One after the other, so that answers come in the order of the questions.
    async fn resolve(self: Arc<Self>, mut questions: mpsc::Receiver<(PeerId, ContentHash, bool)>) {
        while let Some((peer, content, added)) = questions.recv().await {
            let ledger = self.ledger.clone();
            let index = tokio::task::spawn_blocking(move || ledger.index_of(&content)).await.ok().flatten();
            self.shared.with(|core| core.handle_resolved(&peer, &content, added, index));
        }
    }

    /// Looks for those who are heard of and not connected, for mini-nodes, and for those that somebody wants to reach.
    async fn seek(self: Arc<Self>) {
        let mut ticks = time::interval(SEEK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut mini_nodes = time::Instant::now();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.shared.0.seek.notified() => {}
            }
            let mut sought = self.shared.wanted();
            let neighbours = {
                let core = self.shared.core();
                sought.extend(core.sought(limits::PEERS_TOLD));
                if mini_nodes.elapsed() >= MINI_NODES_EVERY {
                    mini_nodes = time::Instant::now();
                    sought.splice(..0, core.missing_mini_nodes(self.mini_nodes, MINI_NODES));
                }
                core.neighbours()
            };
            sought.truncate(limits::PEERS_TOLD);
            if sought.is_empty() {
                continue;
            }
            // Any few of them: sets have no order.
            for neighbour in neighbours.into_iter().take(ASKED) {
                self.ask_around(neighbour, &sought).await;
            }
        }
    }

    /// Asks a peer who else is here, and dials whom it names.
    async fn ask_around(&self, teller: PeerId, wanted: &[PeerId]) {
        let Some(asker) = self.asker(teller) else { return };
        let told = match asker.peers(wanted).await {
            Ok(told) => told,
            Err(error) => return self.penalize(teller, &error).await,
        };
        let Some(commands) = self.commands.upgrade() else { return };
        let (reply, peers) = oneshot::channel();
        if commands.send(Command::Peers { reply }).await.is_err() {
            return;
        }
        let connected = peers.await.unwrap_or_default();
        let Some(place) =
            connected.iter().find(|known| known.peer == teller).map(|known| Reach::of(&known.addr))
        else {
            return;
        };
        let free = self.enough.saturating_sub(connected.len()).min(DIALS);
        let sought = self.shared.wanted();
        let new = |(peer, _): &Known| !connected.iter().any(|known| known.peer == *peer);
        for (nth, (peer, mut addresses)) in told.into_iter().filter(new).enumerate() {
            // A peer without any that can be dialled from here may be known to this peer's own relays.
            addresses.retain(|address| Reach::of(address) <= place);
            let is_wanted = sought.contains(&peer);
            if is_wanted {
                self.shared.found(&peer);
            }
            let mini_node = self.shared.core().is_mini_node(&peer);
            let heard = Command::Heard { peer, addresses, mini_node, dial: is_wanted || nth < free };
            let _ = commands.send(heard).await;
        }
    }
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
