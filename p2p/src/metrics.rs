//! Counters for the operator, in the caller's Prometheus registry.

use libp2p::metrics::{Metrics as Libp2pMetrics, Registry};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Labelled {
    pub(crate) kind: &'static str,
}

/// Handles of all metrics; cloning shares them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    pub(crate) connections: Family<Labelled, Gauge>,
    pub(crate) peers: Gauge,
    pub(crate) served_bytes: Family<Labelled, Counter>,
    pub(crate) fetched_bytes: Counter,
    pub(crate) uploads: Family<Labelled, Gauge>,
    pub(crate) upload_queue: Family<Labelled, Gauge>,
    pub(crate) uploads_busy: Family<Labelled, Counter>,
    pub(crate) inbound_streams: Family<Labelled, Counter>,
    pub(crate) open_streams: Family<Labelled, Gauge>,
    pub(crate) dropped_streams: Family<Labelled, Counter>,
    pub(crate) refusals: Family<Labelled, Counter>,
    pub(crate) offences: Family<Labelled, Counter>,
    pub(crate) bans: Counter,
    pub(crate) banned: Gauge,
    pub(crate) bad_bytes: Counter,
    pub(crate) changed_files: Counter,
    pub(crate) announcements: Family<Labelled, Counter>,
    pub(crate) library_bytes: Family<Labelled, Counter>,
    pub(crate) peers_online: Gauge,
    pub(crate) songs_online: Gauge,
    pub(crate) presence_bytes: Gauge,
    pub(crate) council_members: Gauge,
    pub(crate) council_sent: Family<Labelled, Counter>,
    pub(crate) council_received: Family<Labelled, Counter>,
    pub(crate) council_dropped: Family<Labelled, Counter>,
    pub(crate) relay: RelayMetrics,
}

/// What is carried between others.
#[derive(Debug, Clone, Default)]
pub(crate) struct RelayMetrics {
    pub(crate) reservations: Gauge,
    pub(crate) circuits: Gauge,
    pub(crate) bytes: Counter,
    pub(crate) refused: Family<Labelled, Counter>,
}

impl RelayMetrics {
    fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("antiphon_relay");
        r.register("reservations", "Peers that may be reached through this one", self.reservations.clone());
        r.register("circuits", "Circuits open or being opened", self.circuits.clone());
        r.register("bytes", "Bytes carried between others", self.bytes.clone());
        r.register("refused", "Requests refused and circuits cut, by reason", self.refused.clone());
    }
}

impl Metrics {
    /// Registers ours under `antiphon_p2p_` and `antiphon_relay_`, and libp2p's own under `libp2p_`.
    pub(crate) fn register(registry: &mut Registry) -> (Self, Libp2pMetrics) {
        let libp2p = Libp2pMetrics::new(registry);
        let ours = Self::default();
        let r = registry.sub_registry_with_prefix("antiphon_p2p");
        r.register("connections", "Open connections by transport", ours.connections.clone());
        r.register("peers", "Connected peers", ours.peers.clone());
        r.register("served_bytes", "Audio bytes sent, hashes included", ours.served_bytes.clone());
        r.register("fetched_bytes", "Audio bytes received and verified", ours.fetched_bytes.clone());
        r.register("uploads", "Audio requests being answered", ours.uploads.clone());
        r.register("upload_queue", "Audio requests that wait for a place", ours.upload_queue.clone());
        r.register("uploads_busy", "Audio requests that got no place", ours.uploads_busy.clone());
        r.register("inbound_streams", "Streams that peers opened", ours.inbound_streams.clone());
        r.register("open_streams", "Streams of peers being answered", ours.open_streams.clone());
        r.register("dropped_streams", "Streams of peers beyond their limit", ours.dropped_streams.clone());
        r.register("refusals", "Audio requests refused", ours.refusals.clone());
        r.register("offences", "Broken rules", ours.offences.clone());
        r.register("bans", "Bans imposed", ours.bans.clone());
        r.register("banned_peers", "Peers banned now", ours.banned.clone());
        r.register("bad_bytes", "Fetches that ended with bytes of another file", ours.bad_bytes.clone());
        r.register("changed_files", "Files that changed while they were served", ours.changed_files.clone());
        r.register(
            "announcements",
            "Announcements of peers, by what became of them",
            ours.announcements.clone(),
        );
        r.register("library_bytes", "Bytes of messages about libraries", ours.library_bytes.clone());
        r.register("peers_online", "Peers online", ours.peers_online.clone());
        r.register(
            "songs_online",
            "Songs of all peers online, each counted for each",
            ours.songs_online.clone(),
        );
        r.register("presence_bytes", "Memory of the libraries of others", ours.presence_bytes.clone());
        r.register("council_members", "Council members connected", ours.council_members.clone());
        r.register("council_sent", "Messages sent to council members", ours.council_sent.clone());
        r.register(
            "council_received",
            "Messages received from council members",
            ours.council_received.clone(),
        );
        r.register(
            "council_dropped",
            "Messages to council members that newer ones pushed out",
            ours.council_dropped.clone(),
        );
        ours.relay.register(registry);
        (ours, libp2p)
    }

    pub(crate) fn count_bytes(family: &Family<Labelled, Counter>, kind: &'static str, bytes: usize) {
        family.get_or_create(&Labelled { kind }).inc_by(bytes as u64);
    }

    pub(crate) fn count(family: &Family<Labelled, Counter>, kind: &'static str) {
        family.get_or_create(&Labelled { kind }).inc();
    }
}

/// Counts one in a gauge for as long as it lives, also when its task is dropped.
#[derive(Debug)]
pub(crate) struct Held(Gauge);

impl Held {
    pub(crate) fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}
