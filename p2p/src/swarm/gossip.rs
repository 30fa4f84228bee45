//! Settings of gossip, which carries announcements and nothing else.

use std::time::Duration;

use antiphon_proto::NetworkId;
use libp2p::{
    gossipsub::{
        AllowAllSubscriptionFilter, Behaviour, ConfigBuilder, IdentTopic, IdentityTransform,
        MaxCountSubscriptionFilter, Message, MessageAuthenticity, MessageId, MetricsConfig, PeerScoreParams,
        PeerScoreThresholds, TopicScoreParams, ValidationMode,
    },
    identity::Keypair,
    metrics::Registry,
};

use crate::error::StartError;

/// Topics that a peer may follow: all shards of one network. (With more than 100, gossipsub shows none.)
const TOPICS: usize = 64;
/// How long a message is known as seen: longer than it can wander.
const SEEN: Duration = Duration::from_secs(300);
/// Bytes of a message's id. Lists of ids go to some neighbours every second: at the default length of 71 they are half of all
/// traffic, and more than 74 messages a second break the limit on a list.
const ID_BYTES: usize = 16;
/// Neighbours that every message goes to: as many, at least, at most. Fewer than the default of 6 take 0.15 s longer until
/// everybody knows, and cost a third less (docs/measurements.md).
const MESH: usize = 4;
const MESH_LOW: usize = 3;
const MESH_HIGH: usize = 8;
/// Other neighbours that get the lists, however many there are.
const LISTED_TO: usize = 3;
/// Everybody is in one shard: the figures of larger networks are in docs/measurements.md.
const SHARD: u16 = 0;

/// Gossip that keeps within the limits on topics.
pub(crate) type Gossip = Behaviour<IdentityTransform, MaxCountSubscriptionFilter<AllowAllSubscriptionFilter>>;

/// Every message is signed by its author and held until it was judged. The limit on a message's size stays at the
/// default: it is compared with the whole read buffer, and a lower one loses bursts of small messages.
pub(crate) fn behaviour(keypair: &Keypair, registry: &mut Registry) -> Result<Gossip, StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError::Transport(format!("gossip: {error}"));
    let config = ConfigBuilder::default()
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .duplicate_cache_time(SEEN)
        .message_id_fn(message_id)
        .mesh_n(MESH)
        .mesh_n_low(MESH_LOW)
        .mesh_n_high(MESH_HIGH)
        .gossip_lazy(LISTED_TO)
        .gossip_factor(0.0)
        .build()
        .map_err(|error| failed(&error))?;
    let filter = MaxCountSubscriptionFilter {
        filter: AllowAllSubscriptionFilter {},
        max_subscribed_topics: TOPICS,
        max_subscriptions_per_request: TOPICS,
    };
    let key = MessageAuthenticity::Signed(keypair.clone());
    let mut gossip =
        Behaviour::new_with_subscription_filter(key, config, filter).map_err(|error| failed(&error))?;
    gossip.with_peer_score(scores(), thresholds()).map_err(|error| failed(&error))?;
    let registry = registry.sub_registry_with_prefix("libp2p_gossipsub");
    Ok(gossip.with_metrics(registry, MetricsConfig::default()))
}

/// The first bytes of BLAKE3 over the author's peer id and the sequence of its envelope (8 bytes, big-endian). Part of the
/// protocol: peers name messages to one another by it.
fn message_id(message: &Message) -> MessageId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&message.source.map(|author| author.to_bytes()).unwrap_or_default());
    hasher.update(&message.sequence_number.unwrap_or_default().to_be_bytes());
    MessageId::from(&hasher.finalize().as_bytes()[..ID_BYTES])
}

/// What counts against a peer is messages with a false signature and grafting out of turn. Neither how much a peer brings
/// nor how many share its address: whole families sit behind one.
fn scores() -> PeerScoreParams {
    PeerScoreParams {
        ip_colocation_factor_weight: 0.0,
        behaviour_penalty_weight: -1.0,
        slow_peer_weight: 0.0,
        ..PeerScoreParams::default()
    }
}

/// Seven false messages within a minute, and nothing of a peer is listened to for some minutes.
fn thresholds() -> PeerScoreThresholds {
    PeerScoreThresholds {
        gossip_threshold: -100.0,
        publish_threshold: -200.0,
        graylist_threshold: -400.0,
        ..PeerScoreThresholds::default()
    }
}

/// For the topic of announcements.
pub(crate) fn topic_scores() -> TopicScoreParams {
    TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.0,
        first_message_deliveries_weight: 0.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: -10.0,
        invalid_message_deliveries_decay: 0.99,
        ..TopicScoreParams::default()
    }
}

/// The topic of a network's announcements.
pub(crate) fn topic(network: &NetworkId) -> IdentTopic {
    IdentTopic::new(format!("/antiphon/{network}/swarm/{SHARD}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_message_id() {
        let source = libp2p::PeerId::from_bytes(&[&[0, 36, 8, 1, 18, 32][..], &[7; 32]].concat()).ok();
        let topic = topic(&NetworkId([1; 32])).hash();
        let message = Message { source, data: Vec::new(), sequence_number: Some(258), topic };
        let id = message_id(&message);
        assert_eq!(id.to_string(), "dfaaa3c5ff770dd61051452e75524141");
    }

    #[test]
    fn the_settings_are_accepted() {
        let mut gossip = behaviour(&Keypair::generate_ed25519(), &mut Registry::default()).unwrap();
        let topic = topic(&NetworkId([0xab; 32]));
        gossip.set_topic_params(topic.clone(), topic_scores()).unwrap();
        assert!(gossip.subscribe(&topic).unwrap());
        assert_eq!(topic.hash().as_str(), format!("/antiphon/{}/swarm/0", "ab".repeat(32)));
    }
}
