//! Who misbehaved, and for how long nobody speaks to them. Time is passed in.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

/// Peers remembered: about 100 KB. Identities cost an attacker nothing, so remembering more would not help.
const PEERS: usize = 1_024;
/// Points at which a peer is banned.
const BAN_POINTS: u32 = 100;
/// A point is forgiven in this time: honest accidents never add up.
const FORGIVE: Duration = Duration::from_secs(6);
/// First ban; each further one is four times as long.
const FIRST_BAN: Duration = Duration::from_secs(300);
/// Longest ban: a repaired peer comes back within a day.
const LONGEST_BAN: Duration = Duration::from_secs(24 * 3600);
/// A peer that behaved for this long after its ban starts anew.
const MEMORY: Duration = Duration::from_secs(24 * 3600);

/// Something that a correct peer does not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Offence {
    /// Audio that does not match its hash: a ban at once.
    BadBytes,
    /// A ledger batch that its proof does not cover: a ban at once.
    BadBatch,
    /// A bundle whose blocks are not those of the log: a ban at once.
    BadBundle,
    /// A tile whose hashes are not those of the log: a ban at once.
    BadTile,
    /// A proof that proves nothing: a ban at once.
    BadProof,
    /// A checkpoint with too few cosignatures. When the council changes, an honest peer may be behind.
    BadCheckpoint,
    /// A cosigned checkpoint that contradicts another one: a ban at once.
    ForkedCheckpoint,
    /// A message that cannot be read or breaks a rule: a few are a bug, more an attack.
    Malformed,
    /// A binding of a council member that is forged or another peer's.
    BadBinding,
    /// A council stream of somebody who is no member here. A new member may be early, so it costs little: tries that
    /// slow down to one in 30 s never add up.
    NotMember,
    /// An announcement that is none, contradicts itself, or was repeated: honest peers do not pass such a thing on.
    BadAnnouncement,
    /// A message longer than its limit.
    Oversized,
    /// A message that does not come to its end.
    TooSlow,
}

impl Offence {
    /// Name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BadBytes => "bad_bytes",
            Self::BadBatch => "bad_batch",
            Self::BadBundle => "bad_bundle",
            Self::BadTile => "bad_tile",
            Self::BadProof => "bad_proof",
            Self::BadCheckpoint => "bad_checkpoint",
            Self::ForkedCheckpoint => "forked_checkpoint",
            Self::Malformed => "malformed",
            Self::BadBinding => "bad_binding",
            Self::NotMember => "not_member",
            Self::BadAnnouncement => "bad_announcement",
            Self::Oversized => "oversized",
            Self::TooSlow => "too_slow",
        }
    }

    /// What it costs; 100 points are a ban.
    #[must_use]
    pub fn points(self) -> u32 {
        match self {
            Self::BadBytes
            | Self::BadBatch
            | Self::BadBundle
            | Self::BadTile
            | Self::BadProof
            | Self::ForkedCheckpoint => BAN_POINTS,
            Self::Oversized | Self::BadBinding | Self::BadCheckpoint => 50,
            Self::Malformed | Self::BadAnnouncement => 25,
            Self::TooSlow => 10,
            Self::NotMember => 3,
        }
    }
}

#[derive(Debug, Clone)]
struct Record {
    points: u32,
    updated: Instant,
    bans: u32,
    banned_until: Option<Instant>,
}

/// What an offence leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Noted,
    Ban(Duration),
}

/// The bounded table of offenders.
#[derive(Debug, Default)]
pub(crate) struct Scores {
    peers: HashMap<PeerId, Record>,
}

impl Scores {
    /// Notes an offence. A second value is a peer whose ban had to be given up because the table is full.
    pub(crate) fn offend(
        &mut self,
        peer: PeerId,
        offence: Offence,
        now: Instant,
    ) -> (Verdict, Option<PeerId>) {
        let released = self.make_room(&peer, now);
        let fresh = Record { points: 0, updated: now, bans: 0, banned_until: None };
        let record = self.peers.entry(peer).or_insert(fresh);
        record.decay(now);
        record.points = record.points.saturating_add(offence.points());
        if record.points < BAN_POINTS || record.banned_until.is_some_and(|until| until > now) {
            return (Verdict::Noted, released);
        }
        record.points = 0;
        let factor = 4u32.saturating_pow(record.bans.min(8));
        let duration = FIRST_BAN.saturating_mul(factor).min(LONGEST_BAN);
        record.bans = record.bans.saturating_add(1);
        record.banned_until = Some(now + duration);
        (Verdict::Ban(duration), released)
    }

    /// Ends the bans whose time has come and gives those peers back. Forgets who behaved long enough.
    pub(crate) fn release(&mut self, now: Instant) -> Vec<PeerId> {
        let mut released = Vec::new();
        self.peers.retain(|peer, record| {
            record.decay(now);
            match record.banned_until {
                Some(until) if until <= now => {
                    record.banned_until = None;
                    record.updated = now;
                    released.push(*peer);
                    true
                }
                Some(_) => true,
                None if record.bans > 0 => now.saturating_duration_since(record.updated) < MEMORY,
                None => record.points > 0,
            }
        });
        released
    }

    /// Peers banned at present.
    pub(crate) fn banned(&self) -> usize {
        self.peers.values().filter(|record| record.banned_until.is_some()).count()
    }

    fn make_room(&mut self, peer: &PeerId, now: Instant) -> Option<PeerId> {
        if self.peers.len() < PEERS || self.peers.contains_key(peer) {
            return None;
        }
        let least = self.peers.iter().min_by_key(|(_, record)| {
            let left = record.banned_until.map(|until| until.saturating_duration_since(now));
            (left, record.bans, record.points)
        });
        let (least, was_banned) = least.map(|(peer, record)| (*peer, record.banned_until.is_some()))?;
        self.peers.remove(&least);
        was_banned.then_some(least)
    }
}

impl Record {
    fn decay(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.updated);
        let forgiven = u32::try_from(elapsed.as_secs() / FORGIVE.as_secs()).unwrap_or(u32::MAX);
        if forgiven > 0 && self.points > 0 {
            self.points = self.points.saturating_sub(forgiven);
            self.updated = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_bytes_ban_at_once_and_longer_each_time() {
        let mut scores = Scores::default();
        let peer = PeerId::random();
        let mut now = Instant::now();
        for expected in [300, 1_200, 4_800, 19_200, 76_800, 86_400, 86_400] {
            let ban = Verdict::Ban(Duration::from_secs(expected));
            assert_eq!(scores.offend(peer, Offence::BadBytes, now), (ban, None));
            assert_eq!(scores.offend(peer, Offence::BadBytes, now), (Verdict::Noted, None));
            assert_eq!(scores.release(now), []);
            now += Duration::from_secs(expected);
            assert_eq!(scores.release(now), [peer]);
            assert_eq!(scores.banned(), 0);
        }
        assert_eq!(scores.release(now + MEMORY), []);
        assert!(scores.peers.is_empty());
    }

    #[test]
    fn accidents_are_forgiven() {
        let mut scores = Scores::default();
        let peer = PeerId::random();
        let mut now = Instant::now();
        for _ in 0..50 {
            assert_eq!(scores.offend(peer, Offence::Malformed, now).0, Verdict::Noted);
            now += FORGIVE * 25;
        }
        let verdicts: Vec<_> = (0..4).map(|_| scores.offend(peer, Offence::Malformed, now).0).collect();
        assert_eq!(verdicts[3], Verdict::Ban(FIRST_BAN));
    }

    #[test]
    fn the_table_is_bounded_and_gives_up_the_shortest_ban() {
        let mut scores = Scores::default();
        let now = Instant::now();
        let first = PeerId::random();
        scores.offend(first, Offence::BadBytes, now);
        for step in 1..PEERS as u64 {
            scores.offend(PeerId::random(), Offence::BadBytes, now + Duration::from_millis(step));
        }
        let later = now + Duration::from_secs(10);
        let (verdict, released) = scores.offend(PeerId::random(), Offence::BadBytes, later);
        assert_eq!((verdict, released), (Verdict::Ban(FIRST_BAN), Some(first)));
        assert_eq!((scores.peers.len(), scores.banned()), (PEERS, PEERS));
    }
}
