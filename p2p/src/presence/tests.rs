//! Peers in virtual time, every one connected with every other, that lose what they are told to lose.

use std::collections::BTreeMap;

use antiphon_proto::limits::ANNOUNCEMENT_BYTES;
use proptest::prelude::*;

use super::{
    reconcile::{Learner, Teacher},
    *,
};
use antiphon_proto::{
    ContentHash,
    announcement::{Announcement, Event, Flags},
};
use libp2p::PeerId;
use roaring::RoaringBitmap;
use std::time::{Duration, Instant};

fn content(index: u32) -> ContentHash {
    ContentHash(*blake3::hash(&index.to_le_bytes()).as_bytes())
}

/// Bytes said about libraries, beyond the 96.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Bytes {
    gossip: usize,
    hello: usize,
    pages: usize,
    reconcile: usize,
}

struct World {
    now: Instant,
    start: Instant,
    peers: BTreeMap<PeerId, Presence>,
    ledger: BTreeMap<ContentHash, u64>,
    /// Whether the next announcements by gossip get lost.
    deaf: bool,
    said: Bytes,
    sequence: u64,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let ledger = (0..2_000).map(|index| (content(index), u64::from(index))).collect();
        Self {
            now,
            start: now,
            peers: BTreeMap::new(),
            ledger,
            deaf: false,
            said: Bytes::default(),
            sequence: 0,
        }
    }

    fn join(&mut self, songs: impl IntoIterator<Item = u32>) -> PeerId {
        let peer = PeerId::random();
        self.join_as(peer, songs);
        peer
    }

    fn join_as(&mut self, peer: PeerId, songs: impl IntoIterator<Item = u32>) {
        self.sequence += 1 << 32;
        let mut presence = Presence::new(peer, Params::default(), self.sequence, self.now);
        let set: RoaringBitmap = songs.into_iter().collect();
        let sum = set.iter().fold(LibrarySum::default(), |sum, index| sum.with(&content(index)));
        presence.replace_own(set, sum);
        presence.set_ledger_size(2_000);
        presence.start(Flags::default(), self.now);
        for (other, known) in &mut self.peers {
            known.handle_connected(peer, false, self.now);
            known.handle_subscribed(&peer, self.now);
            presence.handle_connected(*other, true, self.now);
            presence.handle_subscribed(other, self.now);
        }
        self.peers.insert(peer, presence);
    }

    fn kill(&mut self, peer: &PeerId, closed: bool) {
        self.peers.remove(peer);
        if closed {
            self.disconnect_all(peer, false);
        }
    }

    /// Everybody else's connections with a peer close.
    fn disconnect_all(&mut self, peer: &PeerId, relayed: bool) {
        let now = self.now;
        for (_, other) in self.peers.iter_mut().filter(|(other, _)| *other != peer) {
            other.handle_disconnected(peer, relayed, now);
        }
    }

    fn wall(&self) -> u64 {
        u64::try_from((self.now - self.start).as_millis()).unwrap()
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
            self.now += Duration::from_millis(50);
        }
    }

    fn step(&mut self) {
        let everybody: Vec<PeerId> = self.peers.keys().copied().collect();
        for peer in &everybody {
            loop {
                let wall = self.wall();
                let Some(effect) = self.peers.get_mut(peer).and_then(|p| p.poll(self.now, wall)) else {
                    break;
                };
                self.act(*peer, effect);
            }
        }
    }

    fn act(&mut self, peer: PeerId, effect: Effect) {
        match effect {
            Effect::Publish(said) => {
                for (_, other) in self.peers.iter_mut().filter(|(other, _)| **other != peer) {
                    self.said.gossip += ANNOUNCEMENT_BYTES;
                    if !self.deaf {
                        let verdict = other.handle_announcement(peer, &said.to_bytes(), self.now);
                        assert!(!matches!(verdict, Verdict::Reject(_)), "{verdict:?}");
                    }
                }
            }
            Effect::Hello(other) => {
                let wall = self.wall();
                let Some(theirs) = self.peers.get(&other).map(|other| other.hello(wall)) else { return };
                let ours = self.peers[&peer].hello(wall);
                self.said.hello += 2 * ANNOUNCEMENT_BYTES;
                self.peers.get_mut(&other).unwrap().handle_hello(peer, ours, self.now).unwrap();
                self.peers.get_mut(&peer).unwrap().handle_hello(other, theirs, self.now).unwrap();
            }
            Effect::Learn { peer: of, known } => {
                let Some(library) = self.peers.get(&of).map(Presence::own_library) else {
                    return self.peers.get_mut(&peer).unwrap().library_failed(&of, self.now);
                };
                let set = match known {
                    None => {
                        self.said.pages += pages::encode(&library.set).iter().map(Vec::len).sum::<usize>();
                        (*library.set).clone()
                    }
                    Some(known) => self.reconcile((*known).clone(), (*library.set).clone()),
                };
                let learned = Learned { sequence: library.sequence, set, sum: library.sum };
                self.peers.get_mut(&peer).unwrap().handle_library(of, learned, self.now).unwrap();
            }
            Effect::Resolve { peer: of, content, added } => {
                let index = self.ledger.get(&content).copied();
                self.peers.get_mut(&peer).unwrap().handle_resolved(&of, &content, added, index);
            }
        }
    }

    fn reconcile(&mut self, known: RoaringBitmap, real: RoaringBitmap) -> RoaringBitmap {
        let (mut learner, mut message) = Learner::new(known).unwrap();
        let mut teacher = Teacher::new(real).unwrap();
        loop {
            let answer = teacher.step(&message).unwrap();
            self.said.reconcile += message.len() + answer.len();
            match learner.step(&answer).unwrap() {
                Some(next) => message = next,
                None => return learner.finish(),
            }
        }
    }

    /// Everybody sees the right songs of everybody else, and the counts are those of the sets.
    fn agrees(&mut self) -> bool {
        let real: BTreeMap<PeerId, RoaringBitmap> = self
            .peers
            .iter()
            .map(|(peer, presence)| (*peer, (*presence.own_library().set).clone()))
            .collect();
        self.peers.iter_mut().all(|(peer, presence)| {
            let online = presence.online();
            let seen: BTreeMap<PeerId, RoaringBitmap> =
                online.peers.iter().map(|(peer, set)| (*peer, (**set).clone())).collect();
            let counted: RoaringBitmap = online.counts.each().collect();
            let union = seen.values().fold(RoaringBitmap::new(), |all, set| all | set);
            assert_eq!(counted, union, "the counts are those of the sets");
            real.iter().filter(|(other, _)| *other != peer).all(|(other, set)| seen.get(other) == Some(set))
                && seen.len() + 1 == real.len()
        })
    }

    fn of(&mut self, peer: &PeerId) -> &mut Presence {
        self.peers.get_mut(peer).unwrap()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn ten_peers_know_one_another_within_two_seconds_of_joining() {
    let mut world = World::new();
    for number in 0..10 {
        world.join(number * 50..number * 50 + 100);
        world.run(SECOND);
        assert!(world.agrees(), "after {number}");
    }
    // Nothing is asked for again.
    let before = world.said;
    world.run(60 * SECOND);
    assert!(world.agrees());
    assert_eq!(Bytes { gossip: 0, ..before }, Bytes { gossip: 0, ..world.said });
    // 12 announcements a minute of ten peers, each to nine others.
    assert!((96 * 90 * 11..=96 * 90 * 14).contains(&(world.said.gossip - before.gossip)));
}

#[test]
fn a_goodbye_a_closed_connection_and_silence() {
    let mut world = World::new();
    let peers: Vec<PeerId> = (0..4).map(|number| world.join(number * 10..number * 10 + 15)).collect();
    world.run(2 * SECOND);
    assert!(world.agrees());
    let wall = world.wall();
    let goodbye = world.of(&peers[0]).goodbye(wall);
    world.act(peers[0], Effect::Publish(goodbye));
    world.peers.remove(&peers[0]);
    assert!(world.agrees());
    world.kill(&peers[1], true);
    world.run(SECOND * 3 / 2);
    assert!(world.agrees());
    world.kill(&peers[2], false);
    assert!(!world.agrees());
    world.run(13 * SECOND);
    assert!(world.agrees());
    // Nobody comes back because somebody repeats what it said.
    let repeated = Verdict::Ignore(Dropped::Past);
    assert_eq!(
        world.of(&peers[3]).handle_announcement(peers[0], &goodbye.to_bytes(), Instant::now()),
        repeated
    );
}

#[test]
fn a_closed_connection_hides_until_it_is_heard_of_again() {
    let mut world = World::new();
    let (one, two) = (world.join(0..9), world.join(5..20));
    world.run(2 * SECOND);
    let now = world.now;
    world.of(&one).handle_disconnected(&two, false, now);
    world.run(SECOND * 3 / 2);
    assert_eq!(world.of(&one).online().peers(), 0);
    world.run(6 * SECOND);
    assert!(world.agrees());
}

#[test]
fn whoever_is_heard_of_by_others_does_not_flicker_when_a_connection_closes() {
    let mut world = World::new();
    let peers: Vec<PeerId> = (0..3).map(|number| world.join(number * 10..number * 10 + 15)).collect();
    world.run(2 * SECOND);
    let (before, now) = (world.said.gossip, world.now);
    // Both ends notice it, and both are there.
    world.of(&peers[0]).handle_disconnected(&peers[1], false, now);
    world.of(&peers[1]).handle_disconnected(&peers[0], false, now);
    for _ in 0..100 {
        world.run(Duration::from_millis(50));
        assert!(world.agrees());
    }
    // One announcement more of each.
    assert!(world.said.gossip - before <= 96 * 2 * (3 + 2), "{}", world.said.gossip - before);
    // Many at once are one announcement.
    let (before, now) = (world.said.gossip, world.now);
    for _ in 0..50 {
        world.of(&peers[0]).handle_disconnected(&PeerId::random(), false, now);
        world.run(Duration::from_millis(50));
    }
    let announced = (world.said.gossip - before) / (96 * 2);
    assert!(announced <= 3 + 3, "{announced}");
    // One that only broke and is there again at once says nothing either.
    let now = world.now;
    world.of(&peers[0]).handle_disconnected(&peers[1], false, now);
    world.of(&peers[0]).handle_connected(peers[1], true, now);
    world.run(SECOND * 3 / 2);
    assert!(world.agrees());
}

#[test]
fn a_lost_relayed_connection_says_nothing_about_the_peer() {
    let mut world = World::new();
    let peers: Vec<PeerId> = (0..3).map(|number| world.join(number * 10..number * 10 + 15)).collect();
    world.run(2 * SECOND);
    // The relay is gone, the peer is not; one that is goes by silence.
    world.disconnect_all(&peers[0], true);
    world.run(4 * SECOND);
    assert!(world.agrees());
    world.disconnect_all(&peers[1], true);
    world.peers.remove(&peers[1]);
    world.run(4 * SECOND);
    assert_eq!(world.of(&peers[0]).online().peers(), 2);
    world.run(10 * SECOND);
    assert!(world.agrees());
}

#[test]
fn a_restart_with_the_same_library_costs_96_bytes_each_way_and_no_more() {
    let mut world = World::new();
    let peers: Vec<PeerId> = (0..3).map(|_| world.join(0..1_000)).collect();
    world.run(2 * SECOND);
    for closed in [true, false] {
        world.kill(&peers[0], closed);
        world.run(SECOND);
        if !closed {
            // The connection's end is noticed as the new one comes.
            world.disconnect_all(&peers[0], false);
        }
        let before = world.said;
        world.join_as(peers[0], 0..1_000);
        world.run(SECOND);
        assert!(world.agrees());
        assert_eq!(world.said.hello - before.hello, 2 * 2 * 96);
        assert_eq!(world.said.reconcile, before.reconcile);
        // It must learn the others' libraries, which it has forgotten; they do not learn its own.
        let one = pages::encode(&(0..1_000).collect())[0].len();
        assert_eq!(world.said.pages - before.pages, 2 * one);
    }
}

#[test]
fn one_song_is_one_announcement_and_a_missed_one_is_healed() {
    let mut world = World::new();
    let peers: Vec<PeerId> = (0..3).map(|_| world.join(0..1_000)).collect();
    world.run(2 * SECOND);
    let before = world.said;
    assert!(world.of(&peers[0]).vouch(1_500, &content(1_500)));
    assert!(world.of(&peers[0]).withdraw(3, &content(3)));
    assert!(!world.of(&peers[0]).withdraw(3, &content(3)));
    world.run(SECOND / 5);
    assert!(world.agrees());
    assert_eq!(world.said, Bytes { gossip: before.gossip + 2 * 2 * 96, ..before });
    // One that nobody hears shows in the next.
    world.deaf = true;
    world.of(&peers[0]).vouch(1_600, &content(1_600));
    world.run(SECOND / 5);
    world.deaf = false;
    assert!(!world.agrees());
    world.run(6 * SECOND);
    assert!(world.agrees());
    assert_eq!(world.said.pages, before.pages);
    assert!(world.said.reconcile - before.reconcile < 2 * 4_000);
}

#[test]
fn many_changes_are_told_as_one() {
    let mut world = World::new();
    let peers: Vec<PeerId> = (0..3).map(|_| world.join(0..10)).collect();
    world.run(2 * SECOND);
    let before = world.said;
    for index in 100..1_100 {
        world.of(&peers[1]).vouch(index, &content(index));
        if index % 100 == 0 {
            world.step();
        }
    }
    world.run(2 * SECOND);
    assert!(world.agrees());
    assert!(world.said.gossip - before.gossip < 2 * 96 * 16);
}

#[test]
fn songs_that_the_own_ledger_does_not_have_yet_are_shown_when_it_does() {
    let mut world = World::new();
    let (one, two) = (world.join(0..10), world.join(0..10));
    world.run(2 * SECOND);
    let new = content(5_000);
    world.of(&one).set_ledger_size(5_001);
    world.of(&one).vouch(5_000, &new);
    world.run(SECOND);
    assert_eq!(world.of(&two).online().sources(5_000), 0);
    world.ledger.insert(new, 5_000);
    world.of(&two).set_ledger_size(5_001);
    world.step();
    assert_eq!(world.of(&two).online().sources(5_000), 1);
    assert_eq!(world.of(&two).online().providers(&[5_000]).collect::<Vec<_>>(), [one]);
    assert!(world.agrees());
}

/// Nine of ten peers are gone at once, as when a network splits. Who is left spoke last at the pace of the large network, and
/// speaks more often only from its next announcement on.
#[test]
fn who_is_left_when_most_are_gone_at_once_is_not_given_up() {
    let start = Instant::now();
    let mut presence = Presence::new(PeerId::random(), Params::default(), 0, start);
    let peers: Vec<PeerId> = (0..1_000).map(|_| PeerId::random()).collect();
    let said = |sequence| Announcement {
        event: Event::Digest,
        flags: Flags::default(),
        songs: 0,
        sequence,
        time_ms: 0,
        ledger_size: 0,
        digest: LibrarySum::default().digest(),
    };
    // Everybody knows as many as this one does, and speaks at that pace; after 100 seconds only every tenth does.
    let step = Duration::from_millis(50);
    let mut speaks: Vec<(u32, u64)> = (0..1_000).map(|at| (at, 1)).collect();
    for now in 0..6_000 {
        let time = start + step * now;
        while presence.poll(time, 0).is_some() {}
        let known = u32::try_from(presence.online().peers()).unwrap();
        for (number, (at, sequence)) in speaks.iter_mut().enumerate().filter(|(_, next)| next.0 == now) {
            if now >= 2_000 && number % 10 > 0 {
                continue;
            }
            assert!(*sequence == 1 || presence.is_known(&peers[number]), "{number} was given up at {now}");
            let verdict = presence.handle_announcement(peers[number], &said(*sequence).to_bytes(), time);
            assert_eq!(verdict, Verdict::Accept);
            // The network was there before this one came: its pace is that of all from the first round.
            (*at, *sequence) = (now + if now < 2_000 { 1_000 } else { known.max(100) }, *sequence + 1);
        }
    }
    assert_eq!(presence.online().peers(), 100);
}

#[test]
fn what_breaks_the_rules_is_dropped() {
    let now = Instant::now();
    let (local, author) = (PeerId::random(), PeerId::random());
    let mut presence = Presence::new(local, Params { peers: 1, ..Params::default() }, 0, now);
    let sum = LibrarySum::default().with(&content(1)).with(&content(2));
    let good = Announcement {
        event: Event::Digest,
        flags: Flags::default(),
        songs: 2,
        sequence: 10,
        time_ms: 1,
        ledger_size: 5,
        digest: sum.digest(),
    };
    let verdict = |presence: &mut Presence, said: &Announcement| {
        presence.handle_announcement(author, &said.to_bytes(), now)
    };
    let numbers = Verdict::Reject(Dropped::Numbers);
    // More songs than blocks; none with songs in the digest, and the other way round.
    assert_eq!(verdict(&mut presence, &Announcement { ledger_size: 1, ..good }), numbers);
    assert_eq!(verdict(&mut presence, &Announcement { songs: 0, ..good }), numbers);
    let empty = LibrarySum::default().digest();
    assert_eq!(verdict(&mut presence, &Announcement { digest: empty, ..good }), numbers);
    assert_eq!(verdict(&mut presence, &good), Verdict::Accept);
    for sequence in [9, 10] {
        assert_eq!(
            verdict(&mut presence, &Announcement { sequence, ..good }),
            Verdict::Ignore(Dropped::Past)
        );
    }
    // Another number under the same digest; one song more that makes two more.
    assert_eq!(verdict(&mut presence, &Announcement { sequence: 11, songs: 3, ..good }), numbers);
    let three = sum.with(&content(3));
    let add = Announcement {
        event: Event::Add(content(3)),
        sequence: 11,
        songs: 4,
        digest: three.digest(),
        ..good
    };
    assert_eq!(verdict(&mut presence, &add), numbers);
    assert_eq!(verdict(&mut presence, &Announcement { songs: 3, ..add }), Verdict::Accept);
    for (bytes, name) in
        [(vec![1; 95], "wrong_length"), (vec![2; 96], "unknown_version"), (vec![1; 96], "malformed")]
    {
        let Verdict::Reject(dropped) = presence.handle_announcement(author, &bytes, now) else { panic!() };
        assert_eq!(dropped.name(), name);
    }
    let mine = Verdict::Ignore(Dropped::Own);
    assert_eq!(presence.handle_announcement(local, &good.to_bytes(), now), mine);
    let full = Verdict::Forward(Dropped::Full);
    assert_eq!(presence.handle_announcement(PeerId::random(), &good.to_bytes(), now), full);
}

#[test]
fn a_library_that_contradicts_itself_is_refused() {
    let mut world = World::new();
    let (one, two) = (world.join(0..10), world.join(0..10));
    world.run(2 * SECOND);
    let now = world.now;
    let sum = LibrarySum::default().with(&content(1)).with(&content(2));
    let learned = Learned { sequence: 1, set: [1].into_iter().collect(), sum };
    let refused = LibraryError::Songs { found: 1, said: 2 };
    assert_eq!(world.of(&one).handle_library(two, learned, now), Err(refused));
    world.run(2 * SECOND);
    assert!(world.agrees());
}

#[derive(Debug, Clone)]
enum Act {
    Vouch(prop::sample::Index, u32),
    Withdraw(prop::sample::Index, u32),
    Join(u32),
    Kill(prop::sample::Index, bool),
    Deaf(bool),
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (any::<prop::sample::Index>(), 0u32..300).prop_map(|(who, index)| Act::Vouch(who, index)),
        4 => (any::<prop::sample::Index>(), 0u32..300).prop_map(|(who, index)| Act::Withdraw(who, index)),
        1 => (0u32..250).prop_map(Act::Join),
        1 => any::<(prop::sample::Index, bool)>().prop_map(|(who, closed)| Act::Kill(who, closed)),
        1 => any::<bool>().prop_map(Act::Deaf),
        4 => (0u64..8_000).prop_map(Act::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn everybody_agrees_in_the_end(acts in prop::collection::vec(act(), 0..60)) {
        let mut world = World::new();
        world.join(0..50);
        world.join(20..90);
        for act in acts {
            let who = |world: &World, who: &prop::sample::Index| *world.peers.keys().nth(who.index(world.peers.len())).unwrap();
            match act {
                Act::Vouch(index, song) => {
                    let peer = who(&world, &index);
                    world.of(&peer).vouch(song, &content(song));
                }
                Act::Withdraw(index, song) => {
                    let peer = who(&world, &index);
                    world.of(&peer).withdraw(song, &content(song));
                }
                Act::Join(first) if world.peers.len() < 6 => {
                    world.join(first..first + 40);
                }
                Act::Kill(index, closed) if world.peers.len() > 2 => {
                    let peer = who(&world, &index);
                    world.kill(&peer, closed);
                }
                Act::Deaf(deaf) => world.deaf = deaf,
                Act::Wait(ms) => world.run(Duration::from_millis(ms)),
                _ => {}
            }
        }
        world.deaf = false;
        world.run(20 * SECOND);
        prop_assert!(world.agrees());
    }
}
