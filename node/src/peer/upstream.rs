//! Whom to follow next, and how long to wait before. No I/O and no clock.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use antiphon_p2p::PeerInfo;
use libp2p::PeerId;

/// First and longest time for which a peer that could not be followed is left alone, while there are others.
const AVOIDED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Peers that are left alone and remembered: more than are connected at once. When there are more, all get another chance.
const FAILED: usize = 512;
/// First pause when nobody can be followed, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause while others are connected, who may be of use soon, and when nobody is.
const PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(30));

/// How good an upstream a peer is, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// A mini-node, or one whose address this peer was told to use.
    MiniNode,
    /// Any other: it has the ledger from somebody too.
    Other,
}

#[derive(Debug)]
struct Failed {
    until: Instant,
    pause: Duration,
}

/// What is known of those who may be followed.
#[derive(Debug)]
pub(super) struct Upstreams {
    /// Who could not be followed of late; at most [`FAILED`].
    failed: HashMap<PeerId, Failed>,
    /// Who answered at an address that was named; as many as there are addresses, and some that these had before.
    named: HashSet<PeerId>,
    pause: Duration,
}

impl Default for Upstreams {
    fn default() -> Self {
        Self { failed: HashMap::new(), named: HashSet::new(), pause: FIRST_PAUSE }
    }
}

impl Upstreams {
    /// This peer answered at an address that was named.
    pub(super) fn answered(&mut self, peer: PeerId) {
        if self.named.len() >= FAILED {
            self.named.clear();
        }
        self.named.insert(peer);
    }

    /// How good a connected peer is.
    pub(super) fn rank(&self, known: &PeerInfo) -> Rank {
        let first = known.mini_node || self.named.contains(&known.peer);
        if first { Rank::MiniNode } else { Rank::Other }
    }

    /// Connected peers that may be followed now, by rank, the nearest first.
    pub(super) fn candidates(&self, connected: &[PeerInfo], now: Instant) -> [Vec<PeerId>; 2] {
        let mut usable: Vec<&PeerInfo> =
            connected.iter().filter(|known| !self.is_avoided(&known.peer, now)).collect();
        usable.sort_by_key(|known| known.rtt.unwrap_or(Duration::MAX));
        let of =
            |rank| usable.iter().filter(|known| self.rank(known) == rank).map(|known| known.peer).collect();
        [of(Rank::MiniNode), of(Rank::Other)]
    }

    /// Whether a peer was tried a moment ago.
    pub(super) fn is_avoided(&self, peer: &PeerId, now: Instant) -> bool {
        self.failed.get(peer).is_some_and(|failed| failed.until > now)
    }

    /// A peer could not be followed, or not any more; `worth_it`: it was of use until then.
    pub(super) fn failed(&mut self, peer: PeerId, worth_it: bool, now: Instant) {
        if worth_it {
            self.failed.remove(&peer);
            self.pause = FIRST_PAUSE;
        }
        if self.failed.len() >= FAILED {
            self.failed.clear();
        }
        let before = self.failed.get(&peer).map(|failed| failed.pause);
        let pause = before.map_or(AVOIDED.0, |pause| (pause * 2).min(AVOIDED.1));
        self.failed.insert(peer, Failed { until: now + pause, pause });
    }

    /// How long to wait when nobody could be followed. `others`: whether anybody is connected.
    pub(super) fn pause(&mut self, others: bool) -> Duration {
        let longest = if others { PAUSES.0 } else { PAUSES.1 };
        let pause = self.pause.min(longest);
        self.pause = (self.pause * 2).min(PAUSES.1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use antiphon_p2p::{Direction, Transport};

    use super::*;

    fn known(mini_node: bool, rtt_ms: u64) -> PeerInfo {
        PeerInfo {
            peer: PeerId::random(),
            addr: "/ip4/192.0.2.1/tcp/1".parse().unwrap(),
            transport: Transport::Tcp,
            direction: Direction::Outbound,
            rtt: Some(Duration::from_millis(rtt_ms)),
            path: antiphon_p2p::status::Path::Direct,
            via: None,
            agent: String::new(),
            mini_node,
            connected_since: SystemTime::now(),
            connections: 1,
            served_bytes: 0,
            fetched_bytes: 0,
        }
    }

    #[test]
    fn mini_nodes_and_named_peers_come_first_and_who_failed_waits() {
        let (start, mut upstreams) = (Instant::now(), Upstreams::default());
        let all = [known(false, 5), known(true, 90), known(true, 20), known(false, 1)];
        let [one, two, three, four] = [all[0].peer, all[1].peer, all[2].peer, all[3].peer];
        assert_eq!(upstreams.candidates(&all, start), [vec![three, two], vec![four, one]]);
        upstreams.answered(one);
        assert_eq!(upstreams.candidates(&all, start), [vec![one, three, two], vec![four]]);
        upstreams.failed(one, false, start);
        upstreams.failed(three, true, start);
        assert_eq!(upstreams.candidates(&all, start), [vec![two], vec![four]]);
        let later = start + AVOIDED.0;
        assert_eq!(upstreams.candidates(&all, later), [vec![one, three, two], vec![four]]);
        // Each time for longer, until it was of use.
        for _ in 0..9 {
            upstreams.failed(one, false, later);
        }
        assert!(upstreams.is_avoided(&one, later + AVOIDED.1 / 2));
        assert!(!upstreams.is_avoided(&one, later + AVOIDED.1));
        upstreams.failed(one, true, later);
        assert!(!upstreams.is_avoided(&one, later + AVOIDED.0));
    }

    #[test]
    fn pauses_grow_and_are_shorter_while_others_are_there() {
        let mut upstreams = Upstreams::default();
        let alone: Vec<u128> = (0..8).map(|_| upstreams.pause(false).as_millis()).collect();
        assert_eq!(alone, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        assert_eq!(upstreams.pause(true), PAUSES.0);
        upstreams.failed(PeerId::random(), true, Instant::now());
        assert_eq!(upstreams.pause(true), FIRST_PAUSE);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut upstreams = Upstreams::default();
        for _ in 0..3 * FAILED {
            upstreams.failed(PeerId::random(), false, Instant::now());
            upstreams.answered(PeerId::random());
        }
        assert!(upstreams.failed.len() <= FAILED && upstreams.named.len() <= FAILED);
    }
}
