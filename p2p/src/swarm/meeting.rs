//! What the swarm tells presence, and says for it: gossip, and peers found in the local network.

use std::collections::HashMap;

use antiphon_proto::{NetworkId, limits::ANNOUNCEMENT_BYTES};
use libp2p::{
    Multiaddr, PeerId,
    gossipsub::{self, MessageAcceptance, PublishError},
    mdns,
};

use super::{actor::Actor, gossip};
use crate::{metrics::Metrics, presence::Verdict, reach::without_peer, score::Offence};

impl Actor {
    /// Joins the gossip of a network. Who is of it already is told to presence.
    pub(super) fn handle_subscribe(&mut self, network: &NetworkId) {
        let topic = gossip::topic(network);
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        let known = gossip
            .set_topic_params(topic.clone(), gossip::topic_scores())
            .map_err(str::to_owned)
            .and_then(|()| gossip.subscribe(&topic).map_err(|error| error.to_string()));
        if let Err(error) = known {
            tracing::error!(error, "cannot join the network's gossip");
            return;
        }
        let hash = topic.hash();
        let members: Vec<PeerId> =
            gossip.all_peers().filter(|(_, topics)| topics.contains(&&hash)).map(|(peer, _)| *peer).collect();
        self.topic = Some(hash);
        members.iter().for_each(|peer| self.presence.subscribed(peer));
    }

    pub(super) fn handle_publish(&mut self, network: &NetworkId, bytes: [u8; ANNOUNCEMENT_BYTES]) {
        match self.swarm.behaviour_mut().gossip.publish(gossip::topic(network), bytes.to_vec()) {
            // Without anybody who listens there is nobody to miss it: whoever connects hears the state.
            Ok(_) | Err(PublishError::NoPeersSubscribedToTopic) => {}
            Err(error) => {
                Metrics::count(&self.metrics.announcements, "not_sent");
                tracing::debug!(%error, "an announcement was not sent");
            }
        }
    }

    pub(super) fn handle_gossip(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message { propagation_source, message_id, message } => {
                let acceptance = self.judge_announcement(propagation_source, &message);
                let gossip = &mut self.swarm.behaviour_mut().gossip;
                gossip.report_message_validation_result(&message_id, &propagation_source, acceptance);
            }
            gossipsub::Event::Subscribed { peer_id, topic, .. } if Some(&topic) == self.topic.as_ref() => {
                tracing::debug!(peer = %peer_id, "of this network");
                self.presence.subscribed(&peer_id);
            }
            gossipsub::Event::SlowPeer { peer_id, .. } => {
                Metrics::count(&self.metrics.announcements, "slow_peer");
                tracing::debug!(peer = %peer_id, "announcements to a slow peer are dropped");
            }
            _ => {}
        }
    }

    fn judge_announcement(&mut self, from: PeerId, message: &gossipsub::Message) -> MessageAcceptance {
        // Signed messages have an author; another network's are not for us.
        let Some(author) = message.source.filter(|_| Some(&message.topic) == self.topic.as_ref()) else {
            return MessageAcceptance::Ignore;
        };
        let verdict = self.presence.handle_announcement(author, &message.data);
        tracing::trace!(%author, %from, ?verdict, "an announcement");
        match verdict {
            Verdict::Accept => {
                Metrics::count(&self.metrics.announcements, "accepted");
                MessageAcceptance::Accept
            }
            Verdict::Forward(dropped) => {
                Metrics::count(&self.metrics.announcements, dropped.name());
                MessageAcceptance::Accept
            }
            Verdict::Ignore(dropped) => {
                Metrics::count(&self.metrics.announcements, dropped.name());
                MessageAcceptance::Ignore
            }
            Verdict::Reject(dropped) => {
                Metrics::count(&self.metrics.announcements, dropped.name());
                tracing::debug!(%author, %from, ?dropped, "a bad announcement");
                self.handle_offence(from, Offence::BadAnnouncement);
                MessageAcceptance::Reject
            }
        }
    }

    /// Dials who was found in the local network.
    pub(super) fn handle_mdns(&mut self, event: mdns::Event) {
        let mdns::Event::Discovered(found) = event else { return };
        let mut by_peer: HashMap<PeerId, Vec<Multiaddr>> = HashMap::new();
        for (peer, address) in found {
            by_peer.entry(peer).or_default().push(without_peer(address));
        }
        for (peer, addresses) in by_peer {
            if self.table.connected().count() < self.enough_peers && !self.table.is_connected(&peer) {
                tracing::debug!(%peer, ?addresses, "found in the local network");
                self.handle_dial(peer, addresses, false);
            }
        }
    }
}
