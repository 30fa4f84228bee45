//! The state of presence and its rules. No I/O and no clock: see [`Presence`].

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use antiphon_proto::{
    ContentHash,
    announcement::{Announcement, AnnouncementError, Event, Flags},
};
use libp2p::PeerId;
use roaring::RoaringBitmap;

use super::{
    counts::Counts,
    digest::LibrarySum,
    gone::Gone,
    neighbour::Neighbour,
    online::Online,
    own::{Own, OwnLibrary},
    peer::{Learning, Library, Other, Step},
};

/// Announcements that a peer misses before it counts as gone: two may be lost on the way, and the half is for delays.
const MISSED: (u32, u32) = (5, 2);
/// Libraries learned at the same time: each holds a set and a message.
const LEARNING: usize = 8;
/// Most time before a stale library is asked for: neighbours must not all ask in the same moment.
const SPREAD: Duration = Duration::from_millis(300);
/// First and longest pause after a library could not be learned.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Who was not heard of for so long after its connection closed is gone. Who is there announces itself as soon as it has
/// lost a connection, and is heard of by other ways before that; who is not must be hidden within two seconds.
const CLOSED_FOR: Duration = Duration::from_secs(1);
/// Announcements because of lost connections: at most so many in the time between two others.
const EXTRA: u32 = 5;
/// An announcement may be overtaken by others for so long.
const LATE_MS: u64 = 120_000;
/// Outputs that wait; the shell takes them at once.
const EFFECTS: usize = 4_096;

/// How much, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    /// Time from one announcement of a peer to the next, in a small network.
    pub heartbeat: Duration,
    /// The same for each peer that is online: from 100 peers on, all together make 20 announcements a second.
    pub heartbeat_per_peer: Duration,
    /// Peers online that are known: more are not taken in.
    pub peers: usize,
    /// Songs of all their libraries, about 2 bytes each: libraries beyond are left out.
    pub songs: u64,
    /// Songs of libraries of peers that left.
    pub gone_songs: u64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(5),
            heartbeat_per_peer: Duration::from_millis(50),
            peers: 20_000,
            songs: 150_000_000,
            gone_songs: 4_000_000,
        }
    }
}

/// What to do with an announcement that came by gossip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Use it and pass it on.
    Accept,
    /// Pass it on, but there is no room for it here.
    Forward(Dropped),
    /// Drop it. Honest peers send such a thing now and then.
    Ignore(Dropped),
    /// Drop it, and count it against who sent it.
    Reject(Dropped),
}

/// Why an announcement is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// Not 96 bytes of a known form.
    Form(AnnouncementError),
    /// Not newer than what the peer said before.
    Past,
    /// So much older than what the peer said before that somebody repeats it.
    Replayed,
    /// Numbers that contradict one another or what the peer said just before.
    Numbers,
    /// Our own.
    Own,
    /// As many peers are known as there is room for.
    Full,
}

impl Dropped {
    /// Name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Form(AnnouncementError::Length(_)) => "wrong_length",
            Self::Form(AnnouncementError::Version(_)) => "unknown_version",
            Self::Form(_) => "malformed",
            Self::Past => "past_sequence",
            Self::Replayed => "replayed",
            Self::Numbers => "wrong_numbers",
            Self::Own => "own",
            Self::Full => "full",
        }
    }
}

/// What the shell must do. Nothing is repeated: what fails comes back as an input.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum Effect {
    /// Say this to everybody.
    Publish(Announcement),
    /// Exchange announcements with a connected peer: [`Presence::hello`], then [`Presence::handle_hello`] or
    /// [`Presence::hello_failed`].
    Hello(PeerId),
    /// Learn a connected peer's library, from what is known of it if that is given: [`Presence::handle_library`] or
    /// [`Presence::library_failed`].
    Learn {
        /// Whose.
        peer: PeerId,
        /// Its earlier state.
        known: Option<Arc<RoaringBitmap>>,
    },
    /// Find the ledger index of a content: [`Presence::handle_resolved`]. Answers must come in the order of questions.
    Resolve {
        /// Who has it.
        peer: PeerId,
        /// What.
        content: ContentHash,
        /// Whether it came or went.
        added: bool,
    },
}

/// A library as a peer gave it.
#[derive(Debug, Clone, PartialEq)]
pub struct Learned {
    /// Sequence of the newest announcement that it includes.
    pub sequence: u64,
    /// Ledger indexes.
    pub set: RoaringBitmap,
    /// Their sum.
    pub sum: LibrarySum,
}

/// A library that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LibraryError {
    /// Other songs than the sum says.
    #[error("{found} songs came, {said} were said")]
    Songs {
        /// Songs that came.
        found: u64,
        /// Songs that were said.
        said: u32,
    },
}

/// Who is online and what they vouch for, as one peer knows it.
///
/// A peer is online from the first thing that is heard of it until it says goodbye, its connection closes and nothing is
/// heard of it by other ways for a second, or nothing was heard for two and a half times the pace of announcements. Its library is known by a set of ledger indexes and a sum;
/// each announcement is held against the sum, so that a change that was missed shows at once and is asked for.
#[derive(Debug)]
pub struct Presence {
    local: PeerId,
    params: Params,
    own: Own,
    /// Whether announcements are made.
    speaking: bool,
    heartbeat_at: Instant,
    /// When the last announcement was made, whatever it said.
    said_at: Instant,
    peers: HashMap<PeerId, Other>,
    neighbours: HashMap<PeerId, Neighbour>,
    gone: Gone,
    counts: Counts,
    /// Songs of all sets.
    songs: u64,
    learning: usize,
    effects: VecDeque<Effect>,
    version: u64,
    snapshot: Option<Arc<Online>>,
    tidied: Instant,
}

impl Presence {
    /// Nobody is online, nothing is vouched for. `sequence` must be beyond every one that this peer has used.
    #[must_use]
    pub fn new(local: PeerId, params: Params, sequence: u64, now: Instant) -> Self {
        Self {
            local,
            params,
            own: Own::new(sequence, now),
            speaking: false,
            heartbeat_at: now,
            said_at: now,
            peers: HashMap::new(),
            neighbours: HashMap::new(),
            gone: Gone::default(),
            counts: Counts::default(),
            songs: 0,
            learning: 0,
            effects: VecDeque::new(),
            version: 0,
            snapshot: None,
            tidied: now,
        }
    }

    /// Goes on from this sequence, which must be beyond every one that this peer has used.
    pub fn set_sequence(&mut self, sequence: u64) {
        self.own.set_sequence(sequence);
    }

    /// Whether this peer is reached through relays only. Told with the next announcement.
    pub fn set_relayed_only(&mut self, relayed_only: bool) {
        self.own.set_relayed_only(relayed_only);
    }

    /// Begins to announce.
    pub fn start(&mut self, flags: Flags, now: Instant) {
        self.own.set_flags(flags);
        self.speaking = true;
        self.heartbeat_at = now;
    }

    /// Takes a whole library of this peer.
    pub fn replace_own(&mut self, set: RoaringBitmap, sum: LibrarySum) {
        self.own.replace(set, sum);
    }

    /// This peer serves one more song; says whether that is news. `index` is its place in the ledger.
    pub fn vouch(&mut self, index: u32, content: &ContentHash) -> bool {
        self.own.vouch(index, content)
    }

    /// This peer no longer serves a song.
    pub fn withdraw(&mut self, index: u32, content: &ContentHash) -> bool {
        self.own.withdraw(index, content)
    }

    /// The own ledger has grown. Contents whose place was not known are looked up again.
    pub fn set_ledger_size(&mut self, size: u64) {
        self.own.set_ledger_size(size);
        for (peer, other) in &mut self.peers {
            let Some(library) = &mut other.library else { continue };
            for content in std::mem::take(&mut library.unresolved) {
                self.effects.push_back(Effect::Resolve { peer: *peer, content, added: true });
            }
        }
    }

    /// The own library as others may learn it now.
    #[must_use]
    pub fn own_library(&self) -> OwnLibrary {
        self.own.library()
    }

    /// What is said to a peer on meeting it.
    #[must_use]
    pub fn hello(&self, wall_ms: u64) -> Announcement {
        self.own.state(wall_ms)
    }

    /// The last thing to say; announces nothing more.
    pub fn goodbye(&mut self, wall_ms: u64) -> Announcement {
        self.speaking = false;
        self.own.goodbye(wall_ms)
    }

    /// An announcement came by gossip, signed by `author`.
    pub fn handle_announcement(&mut self, author: PeerId, bytes: &[u8], now: Instant) -> Verdict {
        if author == self.local {
            return Verdict::Ignore(Dropped::Own);
        }
        let said = match Announcement::parse(bytes) {
            Ok(said) => said,
            Err(error) => return Verdict::Reject(Dropped::Form(error)),
        };
        match self.judge(&author, &said, false) {
            Ok(()) => {}
            Err(dropped @ (Dropped::Numbers | Dropped::Replayed)) => return Verdict::Reject(dropped),
            Err(Dropped::Full) => return Verdict::Forward(Dropped::Full),
            Err(dropped) => return Verdict::Ignore(dropped),
        }
        self.hear(author, said, now);
        Verdict::Accept
    }

    /// A connected peer said so to this one.
    ///
    /// # Errors
    /// Why it is not taken in: [`Dropped::Numbers`] is against the rules, the rest is not.
    pub fn handle_hello(&mut self, peer: PeerId, said: Announcement, now: Instant) -> Result<(), Dropped> {
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            neighbour.met();
        }
        match self.judge(&peer, &said, true) {
            Ok(()) => self.hear(peer, said, now),
            // What it says by gossip has overtaken it.
            Err(Dropped::Past | Dropped::Replayed) => {}
            Err(dropped) => return Err(dropped),
        }
        Ok(())
    }

    /// The exchange with a connected peer did not work.
    pub fn hello_failed(&mut self, peer: &PeerId, now: Instant) {
        if let Some(neighbour) = self.neighbours.get_mut(peer) {
            neighbour.failed(now);
        }
    }

    fn judge(&self, author: &PeerId, said: &Announcement, directly: bool) -> Result<(), Dropped> {
        let empty = said.digest == LibrarySum::default().digest();
        if (said.songs == 0) != empty || u64::from(said.songs) > said.ledger_size {
            return Err(Dropped::Numbers);
        }
        let Some(known) = self.peers.get(author) else {
            // Directly, nobody can repeat what a peer said once: after a loss of its data it may begin anew.
            if !directly
                && let Some((sequence, time_ms)) = self.gone.last(author)
                && said.sequence <= sequence
            {
                return Err(past(said, time_ms));
            }
            return if self.peers.len() < self.params.peers { Ok(()) } else { Err(Dropped::Full) };
        };
        let before = &known.said;
        if said.sequence < before.sequence || (said.sequence == before.sequence && !directly) {
            return Err(past(said, before.time_ms));
        }
        let contradiction = match said.event {
            _ if said.digest == before.digest => said.songs != before.songs,
            Event::Add(_) if Some(said.sequence) == before.sequence.checked_add(1) => {
                Some(said.songs) != before.songs.checked_add(1)
            }
            Event::Remove(_) if Some(said.sequence) == before.sequence.checked_add(1) => {
                Some(said.songs) != before.songs.checked_sub(1)
            }
            _ => false,
        };
        if contradiction { Err(Dropped::Numbers) } else { Ok(()) }
    }

    /// Takes in what was judged to be new.
    fn hear(&mut self, author: PeerId, said: Announcement, now: Instant) {
        if said.event == Event::Goodbye {
            return self.leave(&author, (said.sequence, said.time_ms), now);
        }
        let patience = self.expiry();
        let gone = &mut self.gone;
        let other = self.peers.entry(author).or_insert_with(|| {
            let mut other = Other::new(said, now, gone.take(&author));
            other.hidden = true;
            other
        });
        (other.said, other.heard, other.patience) = (said, now, patience);
        other.doubted_until = None;
        self.set_hidden(&author, false);
        self.compare(author, &said, now);
    }

    /// Holds what is known of a library against what its peer says.
    fn compare(&mut self, author: PeerId, said: &Announcement, now: Instant) {
        let Some(other) = self.peers.get_mut(&author) else { return };
        match other.follow(said) {
            Step::Current => {
                if other.learning != Learning::Running && other.is_current() {
                    other.learning = Learning::Idle;
                }
            }
            Step::Resolve(content, added) => {
                self.effects.push_back(Effect::Resolve { peer: author, content, added });
            }
            // Nothing is quickly learned.
            Step::Stale if said.songs == 0 => self.set_library(author, Library::default()),
            Step::Stale => {
                if other.learning == Learning::Idle {
                    other.learning = Learning::Due(now + spread(&author, said.sequence));
                }
            }
        }
    }

    /// A first connection with a peer is there. `dialled`: by this side.
    pub fn handle_connected(&mut self, peer: PeerId, dialled: bool, now: Instant) {
        self.neighbours.insert(peer, Neighbour::new(dialled, now));
        if let Some(other) = self.peers.get_mut(&peer) {
            other.doubted_until = None;
        }
    }

    /// A connected peer is of the same network.
    pub fn handle_subscribed(&mut self, peer: &PeerId, now: Instant) {
        if let Some(neighbour) = self.neighbours.get_mut(peer) {
            neighbour.subscribed(now);
        }
    }

    /// The last connection with a peer closed. Its songs are hidden in a second, unless it is heard of before, by others;
    /// and when it is heard of later, they are shown again. `relayed`: the connection went over another peer, or this
    /// side closed it because nobody used it. Then its end says nothing about the peer, and only silence does.
    pub fn handle_disconnected(&mut self, peer: &PeerId, relayed: bool, now: Instant) {
        self.neighbours.remove(peer);
        if let Some(other) = self.peers.get_mut(peer).filter(|_| !relayed) {
            other.doubted_until.get_or_insert(now + CLOSED_FOR);
        }
        // The other side may be in doubt about this one.
        let soon = self.said_at + self.pace() / EXTRA;
        self.heartbeat_at = self.heartbeat_at.min(soon.max(now));
    }

    /// Takes a peer's songs out of what is online, or puts them in again.
    fn set_hidden(&mut self, peer: &PeerId, hidden: bool) {
        let Some(other) = self.peers.get_mut(peer).filter(|other| other.hidden != hidden) else { return };
        other.hidden = hidden;
        match &other.library {
            Some(library) if hidden => {
                self.songs = self.songs.saturating_sub(library.set.len());
                self.counts.remove(&library.set);
            }
            Some(library) => {
                self.songs = self.songs.saturating_add(library.set.len());
                self.counts.add(&library.set);
            }
            None => {}
        }
        self.changed();
    }

    fn leave(&mut self, peer: &PeerId, last: (u64, u64), now: Instant) {
        self.set_hidden(peer, true);
        let other = self.peers.remove(peer);
        self.learning = self.learning.saturating_sub(other.as_ref().map_or(0, Other::lessons));
        let library = other.and_then(|other| other.library);
        let library = library.or_else(|| self.gone.take(peer));
        self.gone.keep(*peer, last, library, self.params.gone_songs, now);
    }

    /// A connected peer's library was learned.
    ///
    /// # Errors
    /// When it contradicts itself.
    pub fn handle_library(
        &mut self,
        peer: PeerId,
        learned: Learned,
        now: Instant,
    ) -> Result<(), LibraryError> {
        let (found, said) = (learned.set.len(), learned.sum.songs());
        if found != u64::from(said) {
            self.library_failed(&peer, now);
            return Err(LibraryError::Songs { found, said });
        }
        let Some(other) = self.peers.get_mut(&peer) else { return Ok(()) };
        self.learning = self.learning.saturating_sub(other.lessons());
        let held = other.library.as_ref().map_or(0, |library| library.set.len());
        if self.songs.saturating_sub(held).saturating_add(found) > self.params.songs {
            other.not_learned();
            other.refused = true;
            tracing::warn!(%peer, songs = found, "too many songs online for the memory that is set aside; a library is left out");
            return Ok(());
        }
        let waiting = other.learned(learned.sequence);
        self.set_library(
            peer,
            Library { set: Arc::new(learned.set), sum: learned.sum, unresolved: Vec::new() },
        );
        for said in waiting {
            self.compare(peer, &said, now);
        }
        if let Some(other) = self.peers.get_mut(&peer)
            && other.learning == Learning::Idle
            && !other.is_current()
        {
            other.learning = Learning::Due(now + PAUSES.0);
        }
        Ok(())
    }

    fn set_library(&mut self, peer: PeerId, library: Library) {
        let Some(other) = self.peers.get_mut(&peer) else { return };
        let new = library.set.clone();
        let old = other.library.replace(library).map(|library| library.set).unwrap_or_default();
        if other.is_online() {
            self.counts.remove(&(&*old - &*new));
            self.counts.add(&(&*new - &*old));
            self.songs = self.songs.saturating_sub(old.len()).saturating_add(new.len());
            self.changed();
        }
    }

    /// A connected peer's library could not be learned.
    pub fn library_failed(&mut self, peer: &PeerId, now: Instant) {
        let Some(other) = self.peers.get_mut(peer) else { return };
        self.learning = self.learning.saturating_sub(other.lessons());
        other.not_learned();
        let pause = PAUSES.0.saturating_mul(1 << other.failures.min(6)).min(PAUSES.1);
        other.learning = Learning::Due(now + pause);
    }

    /// Where a content is in the ledger; none: not there yet.
    pub fn handle_resolved(&mut self, peer: &PeerId, content: &ContentHash, added: bool, index: Option<u64>) {
        let Some(other) = self.peers.get_mut(peer) else { return };
        let online = other.is_online();
        let Some(index) = index.and_then(|index| u32::try_from(index).ok()) else {
            if added
                && !other.keep_unresolved(*content)
                && let Some(library) = &mut other.library
            {
                // Forgotten as a whole: the next announcement shows that it must be learned again.
                library.sum = LibrarySum::default();
            }
            return;
        };
        let Some(library) = &mut other.library else { return };
        let set = Arc::make_mut(&mut library.set);
        let changed = if added { set.insert(index) } else { set.remove(index) };
        if changed && online {
            if added {
                self.counts.increment(index);
                self.songs = self.songs.saturating_add(1);
            } else {
                self.counts.decrement(index);
                self.songs = self.songs.saturating_sub(1);
            }
            self.changed();
        }
    }

    /// What to do next; call it after every input, and every now and then, until there is nothing.
    pub fn poll(&mut self, now: Instant, wall_ms: u64) -> Option<Effect> {
        if let Some(effect) = self.effects.pop_front() {
            return Some(effect);
        }
        self.announce(now, wall_ms);
        self.tidy(now);
        self.meet(now);
        self.effects.pop_front()
    }

    fn announce(&mut self, now: Instant, wall_ms: u64) {
        if !self.speaking {
            return;
        }
        while self.effects.len() < EFFECTS
            && let Some(said) = self.own.poll(now, wall_ms)
        {
            (self.heartbeat_at, self.said_at) = (now + self.pace(), now);
            self.effects.push_back(Effect::Publish(said));
        }
        if now >= self.heartbeat_at && !self.own.has_news() {
            (self.heartbeat_at, self.said_at) = (now + self.pace(), now);
            let said = self.own.digest(now, wall_ms);
            self.effects.push_back(Effect::Publish(said));
        }
    }

    /// Hides whose connection closed and who was not heard of since; forgets who was not heard of for too long.
    fn tidy(&mut self, now: Instant) {
        const EVERY: Duration = Duration::from_millis(250);
        if now.saturating_duration_since(self.tidied) < EVERY {
            return;
        }
        self.tidied = now;
        let lost = |other: &Other| other.doubted_until.is_some_and(|until| until <= now);
        let lost: Vec<PeerId> =
            self.peers.iter().filter(|(_, other)| lost(other)).map(|(peer, _)| *peer).collect();
        for peer in lost {
            if let Some(other) = self.peers.get_mut(&peer) {
                other.doubted_until = None;
            }
            self.set_hidden(&peer, true);
        }
        let expiry = self.expiry();
        let silent = |other: &Other| now.saturating_duration_since(other.heard) >= expiry.max(other.patience);
        let silent: Vec<(PeerId, (u64, u64))> = self
            .peers
            .iter()
            .filter(|(_, other)| silent(other))
            .map(|(peer, other)| (*peer, (other.said.sequence, other.said.time_ms)))
            .collect();
        for (peer, last) in silent {
            self.leave(&peer, last, now);
        }
        self.gone.tidy(now);
    }

    /// Says hello to new neighbours, and learns the libraries of those that are due.
    fn meet(&mut self, now: Instant) {
        for (peer, neighbour) in &mut self.neighbours {
            if self.speaking && neighbour.hello_is_due(now) {
                self.effects.push_back(Effect::Hello(*peer));
            }
            if !neighbour.is_of_network() {
                continue;
            }
            let Some(other) = self.peers.get_mut(peer).filter(|_| self.learning < LEARNING) else { continue };
            match other.learning {
                Learning::Due(at) if at <= now && !other.refused => {
                    other.learning = Learning::Running;
                    self.learning += 1;
                    let known = other.library.as_ref().map(|library| library.set.clone());
                    let known = known.filter(|set| !set.is_empty());
                    self.effects.push_back(Effect::Learn { peer: *peer, known });
                }
                _ => {}
            }
        }
    }

    /// Time from one own announcement to the next.
    fn pace(&self) -> Duration {
        self.pace_among(self.peers.len())
    }

    fn pace_among(&self, peers: usize) -> Duration {
        let peers = u32::try_from(peers).unwrap_or(u32::MAX);
        self.params.heartbeat.max(self.params.heartbeat_per_peer.saturating_mul(peers))
    }

    /// How long a peer may be silent. Others may know a quarter more peers, and then speak less often.
    fn expiry(&self) -> Duration {
        let peers = self.peers.len().saturating_add(self.peers.len() / 4);
        self.pace_among(peers).saturating_mul(MISSED.0) / MISSED.1
    }

    /// Peers heard of whose library is not known and that are not connected: somebody should connect with them.
    #[must_use]
    pub fn sought(&self, most: usize) -> Vec<PeerId> {
        let sought = |(peer, other): &(&PeerId, &Other)| {
            other.is_online() && !other.is_current() && !other.refused && !self.neighbours.contains_key(*peer)
        };
        self.peers.iter().filter(sought).take(most).map(|(peer, _)| *peer).collect()
    }

    /// Mini-nodes online that are not connected, by their own word; none when so many are that no more are needed.
    #[must_use]
    pub fn missing_mini_nodes(&self, enough: usize, most: usize) -> Vec<PeerId> {
        let (connected, missing): (Vec<PeerId>, Vec<PeerId>) = self
            .peers
            .iter()
            .filter(|(_, other)| other.is_online() && other.said.flags.mini_node)
            .map(|(peer, _)| *peer)
            .partition(|peer| self.neighbours.contains_key(peer));
        if connected.len() >= enough { Vec::new() } else { missing.into_iter().take(most).collect() }
    }

    /// Whether a peer that was heard of is reached through relays only, by its own word.
    #[must_use]
    pub fn is_relayed_only(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|other| other.said.flags.relayed_only)
    }

    /// Whether a peer that was heard of is a mini-node, by its own word.
    #[must_use]
    pub fn is_mini_node(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|other| other.said.flags.mini_node)
    }

    /// Whether a peer was heard of and is not forgotten.
    #[must_use]
    pub fn is_known(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    /// Connected peers of this network.
    #[must_use]
    pub fn neighbours(&self) -> HashSet<PeerId> {
        self.neighbours
            .iter()
            .filter(|(_, neighbour)| neighbour.is_of_network())
            .map(|(peer, _)| *peer)
            .collect()
    }

    fn changed(&mut self) {
        self.version = self.version.wrapping_add(1);
        self.snapshot = None;
    }

    /// Changes whenever who is online or what they vouch for does.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Who is online now.
    pub fn online(&mut self) -> Arc<Online> {
        if let Some(snapshot) = &self.snapshot {
            return snapshot.clone();
        }
        let online = self.peers.iter().filter(|(_, other)| other.is_online());
        let set =
            |other: &Other| other.library.as_ref().map(|library| library.set.clone()).unwrap_or_default();
        let peers = online.map(|(peer, other)| (*peer, set(other))).collect();
        let snapshot = Arc::new(Online { counts: self.counts.clone(), peers });
        self.snapshot = Some(snapshot.clone());
        snapshot
    }

    /// Peers online, songs of all their libraries, and about how many bytes these take.
    #[must_use]
    pub fn size(&self) -> (usize, u64, usize) {
        let online = self.peers.values().filter(|other| other.is_online()).count();
        let sets = self.peers.values().filter_map(|other| other.library.as_ref());
        let bytes: usize = sets.map(|library| library.set.serialized_size()).sum();
        (online, self.songs, bytes + self.counts.bytes())
    }
}

/// What is older by the author's own clock than gossip keeps anything is not late, it is repeated.
fn past(said: &Announcement, newest_ms: u64) -> Dropped {
    if newest_ms.saturating_sub(said.time_ms) > LATE_MS { Dropped::Replayed } else { Dropped::Past }
}

/// A part of [`SPREAD`] that differs from peer to peer and from time to time.
fn spread(peer: &PeerId, sequence: u64) -> Duration {
    let bytes = peer.to_bytes();
    let seed = bytes.iter().fold(sequence, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    SPREAD.mul_f64(f64::from(u8::try_from(seed % 256).unwrap_or(0)) / 256.0)
}
