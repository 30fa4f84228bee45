//! The task that owns a council's state: who speaks for whom, which streams there are, whom to dial.
//!
//! Streams are tasks of their own that report by notes over one bounded channel. The task never waits for them, and
//! asks nothing of the network's actor but what is answered at once.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use antiphon_proto::{
    PublicKey,
    wire::{self, Binding, CouncilFrame, CouncilWelcome, StreamErrorCode, council_frame, council_welcome},
};
use libp2p::PeerId;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time,
};
use tokio_util::sync::CancellationToken;

use super::{
    Class, CouncilConfig, MemberInfo, Shared, Shell,
    dialing::Dialing,
    link::Writer,
    lock,
    outbox::Outbox,
    reader::{Delivery, Greeted, Held, Reader, refuse},
    roster::{Admission, Roster},
};
use crate::{
    protocol::{frame, penalize},
    score::Offence,
    slots::Slot,
    streams::{Inbound, PeerStream},
    swarm::{Command, Direction, PeerInfo},
};

/// How often dials are looked at.
const TICK: Duration = Duration::from_millis(250);
/// Ticks between two looks at round trip times and our own addresses.
const REFRESH_TICKS: u64 = 8;
/// A member that is silent for longer than this may have been killed, and may be back: a connection of QUIC would show
/// that after many seconds only, a dial shows it at once.
const SUSPECT: Duration = Duration::from_millis(1_300);
/// The node with the larger peer id of two leaves the first dial to the other one for this long.
const COURTESY: Duration = Duration::from_millis(400);
/// At most this passes before a lost member is dialled: not all who lost it do at the same moment.
const FIRST_DIAL: f64 = 0.1;

/// What a stream tells the task.
pub(super) enum Note {
    /// A peer opened a stream and has shown its own, valid binding.
    Inbound(Box<(Greeted, Inbound)>),
    /// Our stream was welcomed. No reply: it is not wanted after all.
    Welcomed {
        peer: PeerId,
        class: Class,
        generation: u64,
        binding: Binding,
        reply: oneshot::Sender<Arc<Outbox>>,
    },
    /// Our stream was refused, its task has ended.
    Refused { peer: PeerId, generation: u64 },
    /// Our stream broke, its task tries again.
    Down { peer: PeerId, class: Class, generation: u64 },
    /// A stream of the peer's has ended.
    ReaderEnded { peer: PeerId, class: Class, id: u64 },
    /// A member tells of others.
    Roster { peer: PeerId, from: PublicKey, roster: wire::Roster },
}

/// The streams with one connected peer.
struct Link {
    /// Cancels our streams; dropped with the link.
    writers: CancellationToken,
    generation: u64,
    /// When to try again after a refusal.
    refused: Option<Dialing>,
    /// For whom it speaks, once it has said so.
    member: Option<PublicKey>,
    /// Time of the last binding that the peer has shown on a stream.
    shown_ms: u64,
    /// Time of the binding that welcomed us.
    welcomed_ms: u64,
    outbox: Arc<Outbox>,
    vote_up: bool,
    body_started: bool,
    /// Its streams, by class.
    readers: HashMap<&'static str, Held>,
    session: Option<u64>,
}

impl Link {
    fn new() -> Self {
        Self {
            writers: CancellationToken::new(),
            generation: 0,
            refused: None,
            member: None,
            shown_ms: 0,
            welcomed_ms: 0,
            outbox: Arc::new(Outbox::new()),
            vote_up: false,
            body_started: false,
            readers: HashMap::new(),
            session: None,
        }
    }

    /// Notes the binding on a stream. Another one than before is that of a process that started anew, whatever its clock
    /// says: what there is of the one before is over.
    fn shown(&mut self, member: PublicKey, binding: &Binding) {
        self.member = Some(member);
        self.refused = None;
        if binding.time_ms != self.shown_ms {
            self.shown_ms = binding.time_ms;
            self.readers.clear();
            if self.session.take().is_some() {
                self.outbox.clear();
            }
        }
    }

    fn is_connected(&self) -> bool {
        self.member.is_some() && self.vote_up && self.readers.contains_key(Class::Vote.name())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.writers.cancel();
    }
}

/// See the module.
pub(super) struct Council {
    shell: Shell,
    config: CouncilConfig,
    shared: Arc<Shared>,
    delivery: Delivery,
    notes: mpsc::Sender<Note>,
    sessions: watch::Sender<BTreeMap<PublicKey, u64>>,
    roster: Roster,
    /// Connected peers, as far as the last look went. Bounded by the limit on connections, as are the links.
    peers: HashMap<PeerId, PeerInfo>,
    links: HashMap<PeerId, Link>,
    /// Members that are not connected, or silent.
    dialing: HashMap<PublicKey, Dialing>,
    /// Numbers streams and sessions.
    counter: u64,
}

impl Council {
    pub(super) fn new(
        shell: Shell,
        config: CouncilConfig,
        member: PublicKey,
        shared: Arc<Shared>,
        delivery: Delivery,
        notes: mpsc::Sender<Note>,
        sessions: watch::Sender<BTreeMap<PublicKey, u64>>,
    ) -> Self {
        let roster = Roster::new(config.network, member, config.binding.clone(), shell.local);
        Self {
            shell,
            config,
            shared,
            delivery,
            notes,
            sessions,
            roster,
            peers: HashMap::new(),
            links: HashMap::new(),
            dialing: HashMap::new(),
            counter: 0,
        }
    }

    /// Runs until the network is shut down or nobody listens any more.
    pub(super) async fn run(mut self, mut notes: mpsc::Receiver<Note>) {
        let closed = self.shell.closed.clone();
        let mut members = self.config.members.clone();
        let mut members_known = true;
        let mut changes = self.shell.changes.clone();
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let mut ticked = 0u64;
        self.set_members(&members.borrow_and_update().clone());
        loop {
            tokio::select! {
                () = closed.cancelled() => break,
                Some(note) = notes.recv() => self.handle_note(note),
                changed = members.changed(), if members_known => {
                    // When nobody keeps the set up to date any more, it stays as it is.
                    members_known = changed.is_ok();
                    let now = members.borrow_and_update().clone();
                    self.set_members(&now);
                }
                changed = changes.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.look_at_peers().await;
                }
                _ = ticks.tick() => {
                    if ticked.is_multiple_of(REFRESH_TICKS) {
                        self.look_at_peers().await;
                        self.look_at_addresses().await;
                    }
                    ticked += 1;
                    self.handle_tick(Instant::now());
                }
            }
        }
        self.links.clear();
        self.publish();
    }

    fn handle_note(&mut self, note: Note) {
        match note {
            Note::Inbound(inbound) => {
                let (greeted, inbound) = *inbound;
                self.handle_inbound(&greeted, inbound);
            }

            Note::Welcomed { peer, class, generation, binding, reply } => {
                self.handle_welcomed(peer, class, generation, &binding, reply);
            }
            Note::Refused { peer, generation } => {
                if let Some(link) = self.link(&peer, generation) {
                    link.writers.cancel();
                    link.vote_up = false;
                    link.refused.get_or_insert_with(|| Dialing::after_refusal(Instant::now()));
                    self.publish();
                }
            }
            Note::Down { peer, class, generation } => {
                if let Some(link) = self.link(&peer, generation).filter(|_| class == Class::Vote) {
                    link.vote_up = false;
                    self.publish();
                }
            }
            Note::ReaderEnded { peer, class, id } => {
                if let Some(link) = self.links.get_mut(&peer)
                    && link.readers.get(class.name()).is_some_and(|held| held.id == id)
                {
                    link.readers.remove(class.name());
                    self.publish();
                }
            }
            Note::Roster { peer, from, roster } => self.handle_roster(peer, &from, &roster),
        }
    }

    /// The link that a note of its present streams is about.
    fn link(&mut self, peer: &PeerId, generation: u64) -> Option<&mut Link> {
        self.links.get_mut(peer).filter(|link| link.generation == generation)
    }

    fn handle_inbound(&mut self, greeted: &Greeted, inbound: Inbound) {
        let Inbound { peer, stream, slot, .. } = inbound;
        let Greeted { member, binding, class } = greeted;
        if !self.roster.takes_part() {
            return self.refuse(stream, slot, StreamErrorCode::Forbidden, "no member of a council");
        }
        if !self.roster.is_member(member) {
            tracing::warn!(%peer, %member, "a council stream is refused: not a member");
            penalize(&self.shell.commands, peer, Offence::NotMember);
            return self.refuse(stream, slot, StreamErrorCode::Forbidden, "not a member of this council");
        }
        if !self.admit(*member, binding, peer) {
            tracing::warn!(%peer, %member, "a council stream is refused: another node speaks for this member");
            return self.refuse(
                stream,
                slot,
                StreamErrorCode::Gone,
                "another node speaks for this member now",
            );
        }
        let id = self.number();
        let link = self.links.entry(peer).or_insert_with(Link::new);
        link.shown(*member, binding);
        // Our streams may lead to the process before.
        let restart = link.writers.is_cancelled()
            || link.generation == 0
            || (link.welcomed_ms > 0 && binding.time_ms != link.welcomed_ms);
        let own = council_welcome::Body::Binding(self.config.binding.clone());
        let reader = Reader {
            id,
            peer,
            member: *member,
            class: *class,
            stream,
            welcome: frame::encode(&CouncilWelcome { body: Some(own) }),
            previous: link.readers.remove(class.name()),
            delivery: self.delivery.clone(),
            notes: self.notes.clone(),
            commands: self.shell.commands.clone(),
            timeouts: self.shell.timeouts.clone(),
            metrics: self.shell.metrics.clone(),
        };
        let (held, work) = reader.start(&self.shell.closed);
        link.readers.insert(class.name(), held);
        self.shell.tasks.spawn(work);
        if restart {
            self.start_writers(peer);
        }
        self.publish();
    }

    fn refuse(&self, mut stream: PeerStream, slot: Slot, code: StreamErrorCode, detail: &'static str) {
        let (timeouts, closed) = (self.shell.timeouts.clone(), self.shell.closed.clone());
        self.shell.tasks.spawn(async move {
            let _slot = slot;
            tokio::select! {
                () = closed.cancelled() => {}
                () = refuse(&mut stream, code, detail, &timeouts) => {}
            }
        });
    }

    fn handle_welcomed(
        &mut self,
        peer: PeerId,
        class: Class,
        generation: u64,
        binding: &Binding,
        reply: oneshot::Sender<Arc<Outbox>>,
    ) {
        // The writer has checked the binding.
        let Ok(member) = PublicKey::try_from(&binding.member[..]) else { return };
        if self.link(&peer, generation).is_none()
            || !self.roster.is_member(&member)
            || !self.admit(member, binding, peer)
        {
            return;
        }
        let everybody = self.roster_frames(&self.roster.everybody());
        let Some(link) = self.link(&peer, generation) else { return };
        link.shown(member, binding);
        link.welcomed_ms = binding.time_ms;
        let start_body = class == Class::Vote && !link.body_started;
        if class == Class::Vote {
            link.vote_up = true;
            link.body_started = true;
            everybody.into_iter().for_each(|frame| link.outbox.push_roster(frame));
        }
        let (outbox, cancel) = (link.outbox.clone(), link.writers.clone());
        if reply.send(outbox).is_ok() && start_body {
            self.spawn_writer(peer, Class::Body, generation, cancel);
        }
        self.publish();
    }

    /// Takes a member's binding; false when another node has a later one.
    fn admit(&mut self, member: PublicKey, binding: &Binding, peer: PeerId) -> bool {
        match self.roster.admit(member, binding, peer) {
            Admission::Known => {}
            Admission::Fresh => self.tell(&[member], Some(peer)),
            Admission::Moved { from } => {
                tracing::info!(%member, %from, to = %peer, "another node speaks for this member now");
                self.links.remove(&from);
                self.tell(&[member], Some(peer));
            }
            Admission::Outdated => return false,
        }
        true
    }

    fn handle_roster(&mut self, peer: PeerId, from: &PublicKey, roster: &wire::Roster) {
        match self.roster.hear(from, roster) {
            Ok(changed) if changed.is_empty() => {}
            Ok(changed) => {
                // Who is known to have moved is no longer spoken to at the old place.
                let roster = &self.roster;
                self.links.retain(|peer, link| {
                    link.member.is_none_or(|member| roster.member_of(peer) == Some(member))
                });
                self.tell(&changed, Some(peer));
                self.publish();
            }
            Err(error) => {
                tracing::warn!(%peer, member = %from, %error, "a council member sends a roster that breaks a rule");
                penalize(&self.shell.commands, peer, error.offence());
            }
        }
    }

    fn set_members(&mut self, members: &[PublicKey]) {
        self.roster.set_members(members);
        let roster = &self.roster;
        // Who was refused, or refused us, may see it differently now.
        self.links.retain(|_, link| {
            let stays = link.member.is_none_or(|member| roster.is_member(&member));
            roster.takes_part() && stays && link.refused.is_none()
        });
        self.dialing.retain(|key, _| roster.is_member(key));
        self.start_missing();
        self.publish();
    }

    async fn look_at_peers(&mut self) {
        let Some(peers) = self.ask(|reply| Command::Peers { reply }).await else { return };
        self.peers = peers.into_iter().map(|info| (info.peer, info)).collect();
        let peers = &self.peers;
        self.links.retain(|peer, _| peers.contains_key(peer));
        let mut news = Vec::new();
        for (peer, link) in &self.links {
            if let (Some(member), Some(info)) = (link.member, peers.get(peer))
                && info.direction == Direction::Outbound
                && self.roster.seen(&member, &info.addr)
            {
                news.push(member);
            }
        }
        self.tell(&news, None);
        self.start_missing();
        self.publish();
    }

    async fn look_at_addresses(&mut self) {
        let Some(addresses) = self.ask(|reply| Command::ListenAddrs { reply }).await else { return };
        if self.roster.listens(addresses) {
            let own = self.roster.everybody().into_iter().take(1).collect::<Vec<_>>();
            self.tell(&own, None);
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let commands = self.shell.commands.upgrade()?;
        let (reply, answer) = oneshot::channel();
        commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Greets every connected peer that was not greeted yet: whether it is a member shows in its answer.
    fn start_missing(&mut self) {
        if !self.roster.takes_part() {
            return;
        }
        let missing: Vec<PeerId> =
            self.peers.keys().filter(|peer| !self.links.contains_key(peer)).copied().collect();
        missing.into_iter().for_each(|peer| self.start_writers(peer));
    }

    /// Opens our streams anew. The votes go first; the bodies follow when the peer has welcomed them.
    fn start_writers(&mut self, peer: PeerId) {
        let generation = self.number();
        let link = self.links.entry(peer).or_insert_with(Link::new);
        link.writers.cancel();
        link.writers = self.shell.closed.child_token();
        link.generation = generation;
        (link.vote_up, link.body_started, link.welcomed_ms) = (false, false, 0);
        let cancel = link.writers.clone();
        self.spawn_writer(peer, Class::Vote, generation, cancel);
    }

    fn spawn_writer(&self, peer: PeerId, class: Class, generation: u64, cancel: CancellationToken) {
        let writer = Writer {
            peer,
            class,
            generation,
            network: self.config.network,
            binding: self.config.binding.clone(),
            opener: self.shell.opener.clone(),
            timeouts: self.shell.timeouts.clone(),
            metrics: self.shell.metrics.clone(),
            notes: self.notes.clone(),
            commands: self.shell.commands.clone(),
        };
        self.shell.tasks.spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = writer.run() => {}
            }
        });
    }

    fn handle_tick(&mut self, now: Instant) {
        if !self.roster.takes_part() {
            return;
        }
        // Members that refused us: they may be behind with the set of members.
        let again: Vec<PeerId> = self
            .links
            .iter_mut()
            .filter(|(peer, _)| self.roster.member_of(peer).is_some())
            .filter_map(|(peer, link)| link.refused.as_mut()?.due(now, rand::random()).then_some(*peer))
            .collect();
        again.into_iter().for_each(|peer| self.start_writers(peer));
        self.dial(now);
    }

    fn dial(&mut self, now: Instant) {
        let Some(commands) = self.shell.commands.upgrade() else { return };
        let mut dialing = HashMap::new();
        for (key, entry) in self.roster.others() {
            let suspect = self.peers.contains_key(&entry.peer);
            if suspect && !self.is_silent(&entry.peer) {
                continue;
            }
            let courtesy = if self.shell.local > entry.peer { COURTESY } else { Duration::ZERO };
            let first =
                || Dialing::new(now, courtesy + Duration::from_secs_f64(rand::random::<f64>() * FIRST_DIAL));
            let mut member = self.dialing.remove(key).unwrap_or_else(first);
            if member.due(now, rand::random()) {
                // A full queue: next time.
                let _ = commands.try_send(Command::Dial {
                    peer: entry.peer,
                    addresses: entry.addresses(),
                    suspect,
                });
            }
            dialing.insert(*key, member);
        }
        self.dialing = dialing;
    }

    /// Whether a connected member was heard, and is not any more.
    fn is_silent(&self, peer: &PeerId) -> bool {
        let readers = self.links.get(peer).map(|link| &link.readers);
        let votes = readers.and_then(|readers| readers.get(Class::Vote.name()));
        votes.is_some_and(|held| held.silent_for(time::Instant::now()) > SUSPECT)
    }

    /// Tells connected members of some, except the one that told us.
    fn tell(&self, keys: &[PublicKey], except: Option<PeerId>) {
        let frames = if keys.is_empty() { Vec::new() } else { self.roster_frames(keys) };
        for (_, link) in self.links.iter().filter(|(peer, link)| link.vote_up && Some(**peer) != except) {
            frames.iter().for_each(|frame| link.outbox.push_roster(frame.clone()));
        }
    }

    fn roster_frames(&self, keys: &[PublicKey]) -> Vec<bytes::Bytes> {
        let frame = |roster| {
            let frame = CouncilFrame { body: Some(council_frame::Body::Roster(roster)) };
            bytes::Bytes::from(frame::encode(&frame))
        };
        self.roster.tell(keys).into_iter().map(frame).collect()
    }

    /// Makes known who is connected, after anything that may change it.
    fn publish(&mut self) {
        let (mut outboxes, mut sessions, mut infos) = (HashMap::new(), BTreeMap::new(), Vec::new());
        for (peer, link) in &mut self.links {
            let Some(member) = link.member.filter(|_| link.is_connected()) else {
                if link.session.take().is_some() {
                    // What waited is old when the member comes back.
                    link.outbox.clear();
                }
                continue;
            };
            let session = *link.session.get_or_insert_with(|| {
                self.counter += 1;
                self.counter
            });
            outboxes.insert(member, link.outbox.clone());
            sessions.insert(member, session);
            let info = self.peers.get(peer);
            infos.push(MemberInfo {
                key: member,
                peer: *peer,
                addr: info.map(|info| info.addr.clone()),
                rtt: info.and_then(|info| info.rtt),
            });
        }
        infos.sort_by_key(|info| info.key);
        self.shell.metrics.council_members.set(i64::try_from(infos.len()).unwrap_or(i64::MAX));
        *lock(&self.shared.outboxes) = outboxes;
        *lock(&self.shared.connected) = infos;
        self.sessions.send_if_modified(|known| {
            let news = *known != sessions;
            *known = sessions;
            news
        });
    }

    fn number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }
}
