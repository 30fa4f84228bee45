//! Whether this member may sign. It must never sign against what it has signed before, and only its write-ahead log
//! knows all of that. A log that is missing, or older than the last vote (a restored backup), is found out by what
//! others have of this member's signatures: seals in the ledger, and the votes that members have heard. A ledger that
//! is older than the log is found out by the log.
//!
//! So a member that starts asks first, and waits until more than two thirds of the council, itself included, have
//! answered: without them nothing would be decided anyway. One that joins again without its log stays silent for a
//! while. If it has signed at height s, then a quorum had precommitted at s - 1, so one honest member of every quorum
//! has s - 2 on disk and says so: whoever waits for three heights more than a quorum knows is past everything that it
//! can have signed.

use antiphon_proto::{
    PublicKey,
    certificate::Certificate,
    genesis::quorum,
    wire::{self, WalEntry, wal_entry},
};

use super::{
    Chain, Halt, Journal, Member, Now,
    peers::{Peer, rank},
    report::Voting,
};
use crate::{council::chain::End, roster::Roster};

/// Heights beyond what a quorum knows at which a member without its log may have signed.
const UNKNOWN_HEIGHTS: u64 = 3;

/// What a member knows of its own signatures.
#[derive(Debug)]
pub(super) struct Safety {
    me: PublicKey,
    pub(super) state: State,
    /// The newest vote in the log.
    newest: Option<wire::Vote>,
    /// Nothing is signed up to this height.
    silent_until: u64,
    /// A member that lies, in simulations: it does not care what it has signed.
    #[cfg(test)]
    pub(super) reckless: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Waiting for others to tell what they know.
    Asking { rejoin: bool },
    /// It signs.
    Ready,
    /// It does not sign yet.
    Silent,
    /// It must not sign.
    Refused(String),
}

const HOW: &str = "it does not sign, so that it cannot sign against what it has signed. Restore the council's folder of \
                   this data directory as it was last, or start once with --council-rejoin: the member then stays \
                   silent for three heights";

impl Safety {
    pub(super) fn new(
        me: PublicKey,
        end: &End,
        last: Option<&Certificate>,
        entries: &[WalEntry],
        rejoin: bool,
    ) -> Self {
        let mut newest: Option<wire::Vote> = None;
        let mut silent_until = 0;
        for entry in entries {
            match &entry.body {
                Some(wal_entry::Body::Vote(vote))
                    if vote.member == me.0
                        && newest.as_ref().is_none_or(|known| rank(known) < rank(vote)) =>
                {
                    newest = Some(vote.clone());
                }
                Some(wal_entry::Body::SilentUntil(until)) => silent_until = *until,
                _ => {}
            }
        }
        let mut safety = Self {
            me,
            state: State::Asking { rejoin },
            newest,
            silent_until,
            #[cfg(test)]
            reckless: false,
        };
        safety.found(end, last);
        if safety.is_ahead_of(end.position.height) && end.roster.current().len() == 1 && !rejoin {
            // Nobody else has what is missing.
            let why = format!("the ledger ends at height {}: it is older than the log", end.position.height);
            safety.refuse(&why);
        }
        safety
    }

    /// The ledger has grown by what others decided, or was opened: it may hold signatures of this member.
    pub(super) fn found(&mut self, end: &End, last: Option<&Certificate>) {
        let signed = signed_height(&self.me, end, last);
        if signed > self.known_height() && !matches!(self.state, State::Asking { rejoin: true }) {
            self.refuse(&format!("the ledger holds its signature at height {signed}"));
        }
    }

    /// Whether this member has signed at a height that cannot come after this one: then the ledger is the older one,
    /// and what is missing must come first.
    pub(super) fn is_ahead_of(&self, height: u64) -> bool {
        self.newest.as_ref().is_some_and(|vote| vote.height > height.saturating_add(1))
    }

    pub(super) fn is_refused(&self) -> bool {
        matches!(self.state, State::Refused(_))
    }

    /// The height up to which this member knows what it has signed.
    fn known_height(&self) -> u64 {
        self.newest.as_ref().map_or(0, |vote| vote.height).max(self.silent_until)
    }

    fn refuse(&mut self, why: &str) {
        #[cfg(test)]
        if self.reckless {
            return;
        }
        let known = self.known_height();
        let text = format!("the write-ahead log ends at height {known}, but {why}: {HOW}");
        tracing::error!("{text}");
        self.state = State::Refused(text);
    }

    /// Another member shows a vote of this one.
    pub(super) fn shown(&mut self, vote: &wire::Vote) {
        let known = self.newest.as_ref().is_some_and(|newest| {
            rank(newest) > rank(vote) || (rank(newest) == rank(vote) && newest.value == vote.value)
        });
        let rejoining = matches!(self.state, State::Asking { rejoin: true });
        if !known && vote.height > self.silent_until && !rejoining {
            self.refuse(&format!(
                "another member has its vote of height {}, round {}",
                vote.height, vote.round
            ));
        }
    }

    /// This member has signed.
    pub(super) fn signed(&mut self, vote: &wire::Vote) {
        if vote.member == self.me.0 && self.newest.as_ref().is_none_or(|known| rank(known) < rank(vote)) {
            self.newest = Some(vote.clone());
        }
    }

    /// What of the log is of use when a height is over.
    pub(super) fn keep(&self) -> Vec<WalEntry> {
        let vote = self.newest.clone().map(wal_entry::Body::Vote);
        let silent = (self.silent_until > 0).then_some(wal_entry::Body::SilentUntil(self.silent_until));
        [vote, silent].into_iter().flatten().map(|body| WalEntry { body: Some(body) }).collect()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    pub(super) fn is_silent(&self) -> bool {
        !self.is_ready()
    }

    pub(super) fn report(&self) -> Voting {
        match &self.state {
            State::Asking { .. } => Voting::Asking,
            State::Ready => Voting::Ready,
            State::Silent => Voting::Silent { until: self.silent_until },
            State::Refused(why) => Voting::Refused(why.clone()),
        }
    }
}

/// The last height of which the ledger holds a signature of this member.
fn signed_height(me: &PublicKey, end: &End, last: Option<&Certificate>) -> u64 {
    let roster: &Roster = &end.roster;
    let signed = roster.seen(me).map_or(0, |seen| seen.signed);
    let position = roster.last().iter().position(|member| member == me);
    match (position, last) {
        (Some(position), Some(last)) if last.has(position) => signed.max(end.position.height),
        _ => signed,
    }
}

impl<C: Chain, J: Journal> Member<C, J> {
    /// Finds out whether this member may sign by now.
    pub(super) fn safety_step(&mut self, now: Now) -> Result<(), Halt> {
        let end = self.chain.end();
        match self.safety.state {
            State::Asking { rejoin } => {
                let others: Vec<_> = end
                    .roster
                    .current()
                    .iter()
                    .filter(|member| **member != self.me)
                    .filter_map(|member| self.peers.get(member))
                    .filter(|peer| peer.told)
                    .collect();
                let members = end.roster.current().len();
                if others.len().saturating_add(1) < quorum(members) {
                    return Ok(());
                }
                // What they say is believed as far as they prove it: who does not is not waited for.
                let further =
                    |peer: &&Peer| peer.height > end.position.height && peer.shunned_until_ms <= now.ms;
                if others.iter().any(further) {
                    return Ok(());
                }
                if rejoin {
                    let height = end.position.height;
                    // Where all must agree, no member may lie, and all others have answered: they are locked on
                    // whatever this one can have agreed to. (And nothing could be decided while it is silent.)
                    let until = if quorum(members) == members {
                        height
                    } else {
                        height.saturating_add(UNKNOWN_HEIGHTS)
                    };
                    self.safety.silent_until = until;
                    self.replay.clear();
                    self.journal.append(&WalEntry { body: Some(wal_entry::Body::SilentUntil(until)) });
                    self.journal.flush()?;
                    tracing::warn!(until, "this member joins again: it is silent up to this height");
                }
                self.safety.state = State::Silent;
                self.safety_step(now)
            }
            State::Silent if end.position.height >= self.safety.silent_until => {
                tracing::info!(height = end.position.height, "this member votes");
                self.safety.state = State::Ready;
                Ok(())
            }
            State::Silent | State::Ready => Ok(()),
            State::Refused(_) => {
                // Whatever runs must not sign any more.
                self.running = None;
                Ok(())
            }
        }
    }
}
