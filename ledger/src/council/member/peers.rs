//! What is known of the other members.

use std::collections::BTreeMap;

use antiphon_proto::{
    PublicKey,
    wire::{self, council_message::Body as Message},
};

/// What is known of another member.
#[derive(Debug, Clone, Default)]
pub(super) struct Peer {
    pub(super) connected: bool,
    /// When something was heard of it last.
    pub(super) heard_ms: u64,
    /// It has told where it is, since this member started.
    pub(super) told: bool,
    /// The last height that it says it has on disk.
    pub(super) height: u64,
    /// It says that it does not vote.
    pub(super) silent: bool,
    /// Its newest vote. Not verified: only its own sender can have put it here.
    pub(super) newest: Option<wire::Vote>,
    /// What it sent was not valid: not asked for batches until then.
    pub(super) shunned_until_ms: u64,
    /// When it was last told everything of a height again.
    pub(super) told_again_ms: Option<u64>,
}

/// The other members.
#[derive(Debug, Default)]
pub(super) struct Peers(BTreeMap<PublicKey, Peer>);

/// The order of one member's votes.
pub(super) fn rank(vote: &wire::Vote) -> (u64, u32, i32) {
    (vote.height, vote.round, vote.kind)
}

impl Peers {
    pub(super) fn get(&self, key: &PublicKey) -> Option<&Peer> {
        self.0.get(key)
    }

    /// A member; keys of members only are ever asked for, so the map is as bounded as a council.
    pub(super) fn entry(&mut self, key: PublicKey) -> &mut Peer {
        self.0.entry(key).or_default()
    }

    pub(super) fn connected(&self) -> impl Iterator<Item = (&PublicKey, &Peer)> {
        self.0.iter().filter(|(_, peer)| peer.connected)
    }

    /// A vote that is in this member's own log: its sender may have forgotten it.
    pub(super) fn logged(&mut self, vote: &wire::Vote) {
        let Ok(member) = PublicKey::try_from(&vote.member[..]) else { return };
        let peer = self.entry(member);
        if peer.newest.as_ref().is_none_or(|known| rank(known) < rank(vote)) {
            peer.newest = Some(vote.clone());
        }
    }

    pub(super) fn heard(&mut self, from: PublicKey, now_ms: u64, message: &Message) {
        let peer = self.entry(from);
        peer.heard_ms = now_ms;
        if let Message::Vote(vote) = message {
            let newer = peer.newest.as_ref().is_none_or(|known| rank(known) < rank(vote));
            if vote.member == from.0 && newer {
                peer.newest = Some(vote.clone());
            }
        }
    }
}
