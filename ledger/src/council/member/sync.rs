//! Catching up: a member that is behind asks the others for the batches that it lacks. Each is verified by its seal.

use antiphon_proto::{
    PublicKey, limits,
    wire::{Batches, BatchesRequest, MemberStatus, StoredBatch, council_message::Body as Message},
};

use super::{Chain, Halt, Journal, Member, Now, is_signed};
use crate::append::SealedBatch;

/// A member that is one height behind may be about to decide it itself.
const PATIENCE_MS: u64 = 300;
/// After this a question is taken for lost.
const ANSWER_MS: u64 = 2_000;
/// Questions without an answer after which who was asked is passed over for a while.
const UNANSWERED: u32 = 3;
/// How long a member that sent what is not valid is not asked.
const SHUN_MS: u64 = 30_000;

/// How far catching up is.
#[derive(Debug, Default)]
pub(super) struct Sync {
    /// Since when this member knows that it is behind.
    behind_since_ms: Option<u64>,
    /// Who was asked, and when.
    asked: Option<(PublicKey, u64)>,
    /// Who was asked last, so that another one is next.
    last: Option<PublicKey>,
    /// Questions that got no answer since the last that did.
    unanswered: u32,
}

impl Sync {
    pub(super) fn grown(&mut self, now_ms: u64) {
        self.behind_since_ms = self.behind_since_ms.map(|_| now_ms);
    }

    pub(super) fn next_wake(&self) -> Option<u64> {
        let since = self.behind_since_ms?;
        Some(match self.asked {
            Some((_, at)) => at.saturating_add(ANSWER_MS),
            None => since.saturating_add(PATIENCE_MS),
        })
    }
}

impl<C: Chain, J: Journal> Member<C, J> {
    /// A member can be reached now.
    pub fn connected(&mut self, now: Now, key: PublicKey) {
        let peer = self.peers.entry(key);
        peer.connected = true;
        peer.heard_ms = now.ms;
        self.tell_status(Some(key), true);
        let asked: Vec<_> = self.pool.asked_for().cloned().collect();
        for registrations in super::height::chunks(asked) {
            self.send(Some(key), true, Message::Pending(antiphon_proto::wire::Pending { registrations }));
        }
        for motion in self.motions.all().collect::<Vec<_>>() {
            self.send(Some(key), false, Message::Motion(motion));
        }
        if let Some(cosigned) = self.cosigns.mine().cloned() {
            self.send(Some(key), false, Message::Cosigned(cosigned));
        }
    }

    /// A member cannot be reached any more.
    pub fn disconnected(&mut self, key: PublicKey) {
        self.peers.entry(key).connected = false;
        if self.sync.asked.is_some_and(|(asked, _)| asked == key) {
            self.sync.asked = None;
        }
    }

    /// Tells where this member is: one other, or all. Each is told which of its votes is known here.
    pub(super) fn tell_status(&mut self, to: Option<PublicKey>, ask: bool) {
        let Some(key) = to else {
            let all: Vec<PublicKey> = self.peers.connected().map(|(key, _)| *key).collect();
            all.into_iter().for_each(|key| self.tell_status(Some(key), ask));
            return;
        };
        let position = self.chain.end().position;
        let status = MemberStatus {
            height: position.height,
            size: position.size,
            yours: self.peers.get(&key).and_then(|peer| peer.newest.clone()),
            ask,
            silent: self.safety.is_silent(),
        };
        self.send(Some(key), false, Message::Status(status));
    }

    pub(super) fn hear_status(
        &mut self,
        now: Now,
        from: PublicKey,
        status: &MemberStatus,
    ) -> Result<(), Halt> {
        if let Some(vote) = &status.yours
            && vote.member == self.me.0
            && is_signed(&self.network, vote)
        {
            self.safety.shown(vote);
            if self.safety.is_refused() {
                // Not one signature more.
                self.running = None;
            }
        }
        let height = self.chain.end().position.height;
        let peer = self.peers.entry(from);
        let new = !peer.told;
        peer.told = true;
        peer.height = peer.height.max(status.height);
        peer.silent = status.silent;
        if status.ask {
            self.tell_status(Some(from), false);
        }
        if status.height == height && (status.ask || new) {
            self.say_again(now, from);
        }
        self.catch_up(now);
        Ok(())
    }

    /// Asks for what is missing, if somebody has it.
    pub(super) fn catch_up(&mut self, now: Now) {
        let end = self.chain.end();
        let best = self.peers.connected().map(|(_, peer)| peer.height).max().unwrap_or(0);
        if best <= end.position.height {
            self.sync.behind_since_ms = None;
            self.sync.asked = None;
            return;
        }
        let since = *self.sync.behind_since_ms.get_or_insert(now.ms);
        let one_behind = self.running.is_some() && best == end.position.height.saturating_add(1);
        if one_behind && since.saturating_add(PATIENCE_MS) > now.ms {
            return;
        }
        match self.sync.asked {
            Some((_, at)) if at.saturating_add(ANSWER_MS) > now.ms => return,
            Some((silent, _)) => {
                // Each question is counted once.
                self.sync.asked = None;
                self.sync.unanswered = self.sync.unanswered.saturating_add(1);
                // It says that it has more, and does not show it.
                if self.sync.unanswered >= UNANSWERED {
                    self.peers.entry(silent).shunned_until_ms = now.ms.saturating_add(SHUN_MS);
                    self.sync.unanswered = 0;
                }
            }
            None => {}
        }
        let has_more =
            |peer: &super::peers::Peer| peer.height > end.position.height && peer.shunned_until_ms <= now.ms;
        let candidates: Vec<PublicKey> =
            self.peers.connected().filter(|(_, peer)| has_more(peer)).map(|(key, _)| *key).collect();
        let next = candidates.iter().find(|key| Some(**key) > self.sync.last).or(candidates.first()).copied();
        let Some(key) = next else { return };
        self.sync.asked = Some((key, now.ms));
        self.sync.last = Some(key);
        self.send(Some(key), false, Message::BatchesRequest(BatchesRequest { first: end.position.size }));
    }

    /// Sends batches from a block on, a message's worth.
    pub(super) fn send_batches(&mut self, to: PublicKey, first: u64) -> Result<(), Halt> {
        let mut batches = Vec::new();
        let (mut next, mut bytes) = (first, 0usize);
        while next < self.chain.end().position.size {
            let Some(batch) = self.chain.batch_from(next)? else { break };
            if batch.first != next {
                break;
            }
            bytes = bytes.saturating_add(batch.blocks.iter().map(Vec::len).sum::<usize>() + batch.seal.len());
            if !batches.is_empty() && bytes > limits::BATCH_BYTES {
                break;
            }
            next = next.saturating_add(batch.blocks.len() as u64);
            batches.push(StoredBatch { first: batch.first, blocks: batch.blocks, seal: batch.seal });
        }
        if !batches.is_empty() {
            self.send(Some(to), true, Message::Batches(Batches { batches }));
        }
        Ok(())
    }

    pub(super) fn hear_batches(&mut self, now: Now, from: PublicKey, batches: Batches) -> Result<(), Halt> {
        for StoredBatch { first, blocks, seal } in batches.batches {
            let size = self.chain.end().position.size;
            if first < size {
                continue;
            }
            let batch = SealedBatch { first, blocks, seal };
            if let Err(why) = self.chain.commit(&batch, &[])? {
                tracing::warn!(member = %from, %why, "a batch that a member sent is not valid");
                self.peers.entry(from).shunned_until_ms = now.ms.saturating_add(SHUN_MS);
                break;
            }
            self.after_commit(now, &batch, None)?;
        }
        if self.sync.asked.is_some_and(|(asked, _)| asked == from) {
            self.sync.asked = None;
            self.sync.unanswered = 0;
            // Whoever needed this much help needs the rest too.
            self.sync.behind_since_ms = Some(now.ms.saturating_sub(PATIENCE_MS));
        }
        self.catch_up(now);
        Ok(())
    }
}
