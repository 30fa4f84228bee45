//! What a member says about itself, for people.

use antiphon_proto::{ActId, PublicKey, genesis::quorum, wire::Motion};

use super::{Chain, Journal, Member, Now, peers::Peer};

/// A member that has not told its status so often is taken for gone, in reports only.
const STATUSES_MISSED: u64 = 3;

/// Whether this member votes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Voting {
    /// It asks the others first what they know of its votes.
    Asking,
    /// It votes.
    Ready,
    /// It joins again and votes from the height after this one on.
    Silent {
        /// The height.
        until: u64,
    },
    /// It must not vote, and why.
    Refused(String),
    /// It is not in the council of the next height.
    NotAMember,
    /// It has stopped, and why.
    Halted(String),
}

/// Another member, or this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberReport {
    /// Its key.
    pub key: PublicKey,
    /// It is this peer's.
    pub me: bool,
    /// It can be reached.
    pub connected: bool,
    /// The last height that it says it has.
    pub height: u64,
    /// Milliseconds since it was heard, none when it never was.
    pub heard_ago_ms: Option<u64>,
    /// It has not signed lately and is passed over as proposer.
    pub absent: bool,
    /// It says that it does not vote.
    pub silent: bool,
}

/// Where the council is.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Whether this member votes.
    pub voting: Voting,
    /// The last height that is in the ledger.
    pub height: u64,
    /// The round of the height that is being decided, none when nothing is.
    pub round: Option<u32>,
    /// Whose turn it is.
    pub proposer: Option<PublicKey>,
    /// Registrations that wait.
    pub pending: usize,
    /// Receipts of plays that wait here for a settlement.
    pub receipts: usize,
    /// The council of the next height.
    pub members: Vec<MemberReport>,
    /// How many of them must agree.
    pub quorum: usize,
    /// The council of the height after it, when it is another.
    pub next: Option<Vec<PublicKey>>,
    /// Milliseconds for which too few members have been there, 0 while there are enough.
    pub alone_ms: u64,
    /// Motions that are open.
    pub motions: Vec<(ActId, Motion)>,
}

impl Report {
    /// Members that cannot be reached or do not vote.
    #[must_use]
    pub fn missing(&self) -> Vec<PublicKey> {
        let is_missing = |member: &&MemberReport| match member.me {
            true => self.voting != Voting::Ready,
            false => !member.connected || member.silent,
        };
        self.members.iter().filter(is_missing).map(|member| member.key).collect()
    }

    /// Whether this peer is in the council now.
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.voting != Voting::NotAMember
    }

    /// Whether enough members are there for the next height.
    #[must_use]
    pub fn has_quorum(&self) -> bool {
        self.members.len().saturating_sub(self.missing().len()) >= self.quorum
    }
}

impl<C: Chain, J: Journal> Member<C, J> {
    /// Where the council is, as far as this member knows.
    pub fn report(&self, now: Now) -> Report {
        let end = self.chain.end();
        let (roster, height) = (&end.roster, end.position.height);
        let next_height = height.saturating_add(1);
        // A killed peer's connection may look open for a while; its status comes every few seconds.
        let silent_ms = self.pace.status.saturating_mul(STATUSES_MISSED);
        let there = |peer: &Peer| peer.connected && peer.heard_ms.saturating_add(silent_ms) >= now.ms;
        let members = roster.current().iter().map(|key| {
            let peer = self.peers.get(key);
            let me = *key == self.me;
            MemberReport {
                key: *key,
                me,
                connected: me || peer.is_some_and(there),
                height: if me { height } else { peer.map_or(0, |peer| peer.height) },
                heard_ago_ms: peer
                    .filter(|peer| peer.heard_ms > 0)
                    .map(|peer| now.ms.saturating_sub(peer.heard_ms)),
                absent: roster.is_absent(key, next_height),
                silent: if me { self.safety.is_silent() } else { peer.is_some_and(|peer| peer.silent) },
            }
        });
        let is_member = roster.current().contains(&self.me);
        Report {
            voting: if is_member { self.safety.report() } else { Voting::NotAMember },
            height,
            round: self.running.as_ref().map(|running| running.round),
            proposer: self.running.as_ref().map(|running| running.proposer),
            pending: self.pool.len(),
            receipts: self.chain.receipts_waiting(),
            members: members.collect(),
            quorum: quorum(roster.current().len()),
            next: (roster.next() != roster.current()).then(|| roster.next().to_vec()),
            alone_ms: 0,
            motions: self
                .motions
                .all()
                .filter_map(|motion| motion.act.as_ref().map(|act| (act.id(), motion.clone())))
                .collect(),
        }
    }
}
