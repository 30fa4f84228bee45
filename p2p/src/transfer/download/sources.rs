//! Whom a download asks: the sources that the caller names, and which of them are connected.

use std::{collections::HashMap, sync::atomic::Ordering, time::Duration};

use libp2p::PeerId;
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use super::drive::Driver;
use crate::{error::RequestError, swarm::Command, transfer::schedule::SOURCES};

/// Sources of one download that are remembered, also when they are gone: some kilobytes.
const KNOWN: usize = 4 * SOURCES;
/// How often it is looked whether a source without a connection has one again, beside every change: what was found to be
/// so a moment ago may have been overtaken by the change.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The first time, after a source was found to be without a connection.
const LOOK_FIRST: Duration = Duration::from_millis(100);

/// Round trips to the connected peers, where they are known.
type Connected = HashMap<PeerId, Option<Duration>>;

impl Driver<'_> {
    /// The caller names other sources.
    pub(super) async fn update_sources(&mut self, sources: &mut watch::Receiver<Vec<PeerId>>) {
        let named = sources.borrow_and_update().clone();
        let connected = self.connected().await;
        let now = Instant::now().into_std();
        let gone: Vec<PeerId> =
            self.plan.sources(now).map(|(peer, _)| peer).filter(|peer| !named.contains(peer)).collect();
        gone.iter().for_each(|peer| self.plan.remove_source(peer, now));
        self.given_up.retain(|peer, _| named.contains(peer));
        self.use_sources(&named, &connected);
    }

    /// Looks who is connected now.
    pub(super) async fn look(&mut self, sources: &watch::Receiver<Vec<PeerId>>) {
        let named = sources.borrow().clone();
        let connected = self.connected().await;
        self.use_sources(&named, &connected);
    }

    /// Looks in a moment.
    pub(super) fn look_soon(&mut self) {
        let at = Instant::now() + LOOK_FIRST;
        self.look_at = Some(self.look_at.map_or(at, |before| before.min(at)));
    }

    fn use_sources(&mut self, named: &[PeerId], connected: &Connected) {
        let now = Instant::now();
        self.pardon(connected);
        self.make_room();
        for peer in named {
            let rtt = connected.get(peer);
            if self.plan.is_source(peer) {
                if let Some(rtt) = rtt {
                    self.plan.came(peer, *rtt, now.into_std());
                }
                continue;
            }
            let has_room = self.known.len() < KNOWN || self.known.contains_key(peer);
            if !has_room || self.given_up.contains_key(peer) {
                continue;
            }
            self.plan.add_source(*peer, rtt.copied().flatten(), now.into_std());
            if !self.plan.is_source(peer) {
                continue;
            }
            self.known.entry(*peer).or_default();
            if rtt.is_none() {
                self.plan.not_connected(peer, now.into_std());
                self.fails(*peer, RequestError::NotConnected(*peer).into());
            }
        }
        if self.plan.has_hope(now.into_std()) {
            self.give_up_at = None;
        }
        self.look_at = self.plan.is_anybody_away().then(|| now + LOOK_EVERY);
        self.unreported = true;
    }

    /// Whoever was given up and has lost its connection since then may be asked again when it has another one: it may be
    /// another process, or a better way to the same.
    fn pardon(&mut self, connected: &Connected) {
        self.given_up.retain(|peer, vanished| {
            let there = connected.contains_key(peer);
            let back = *vanished && there;
            *vanished |= !there;
            !back
        });
    }

    fn make_room(&mut self) {
        if self.known.len() >= KNOWN {
            let plan = &self.plan;
            self.known
                .retain(|peer, known| plan.is_source(peer) || known.brought.load(Ordering::Relaxed) > 0);
        }
    }

    async fn connected(&self) -> Connected {
        let (reply, answer) = oneshot::channel();
        if self.context.commands.send(Command::Peers { reply }).await.is_err() {
            return HashMap::new();
        }
        answer.await.unwrap_or_default().into_iter().map(|info| (info.peer, info.rtt)).collect()
    }
}
