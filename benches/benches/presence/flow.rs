//! What announcements cost a peer.

use antiphon_benches::presence::{
    Rng,
    overlay::{Gossip, Overlay},
    spread::{Load, Spread},
    wire::{self, Wire},
};

use crate::SEED;

/// Milliseconds of one core of a Pi 4 that a signature takes.
const CHECK_MS: f64 = 0.3;
/// What a peer at home should spend at most: bytes a second each way, and a part of one core.
const HOME: (f64, f64) = (50_000.0, 0.05);

/// What passes through a peer for one announcement, in the mean.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Flow {
    pub(crate) copies: (f64, f64),
    ids: (f64, f64),
    wants: (f64, f64),
}

impl Flow {
    fn of(loads: &[Load], announcements: u64) -> Self {
        let mean = |of: fn(&Load) -> u64| {
            let sum: u64 = loads.iter().map(of).sum();
            crate::float(sum) / crate::float(loads.len() as u64) / crate::float(announcements)
        };
        Self {
            copies: (mean(|load| load.copies_in), mean(|load| load.copies_out)),
            ids: (mean(|load| load.ids_in), mean(|load| load.ids_out)),
            wants: (mean(|load| load.wants_in), mean(|load| load.wants_out)),
        }
    }
}

/// Traffic of a peer a second, in bytes of gossipsub and in bytes on the line.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rate {
    pub(crate) gossip: (f64, f64),
    pub(crate) line: (f64, f64),
    /// Every copy is checked, duplicates too: gossipsub does so before it looks whether it has the message.
    pub(crate) checks: f64,
}

impl Rate {
    /// At so many announcements a second.
    pub(crate) fn of(flow: &Flow, announcements: f64, wire: Wire, gossip: &Gossip) -> Self {
        let copy = wire.copy();
        let ids = (announcements * f64::from(gossip.history)).round().max(1.0);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few thousand")]
        let have = wire.have(ids as u64);
        let way = |copies: f64, told: f64, wants: f64, of: &dyn Fn(u64) -> u64| {
            let each = |bytes: u64| crate::float(of(bytes));
            announcements * (copies * each(copy) + told / ids * each(have) + wants * each(wire.want(1)))
        };
        let inward = |of: &dyn Fn(u64) -> u64| way(flow.copies.0, flow.ids.0, flow.wants.0, of);
        let outward = |of: &dyn Fn(u64) -> u64| way(flow.copies.1, flow.ids.1, flow.wants.1, of);
        let (gossip_in, gossip_out) = (inward(&|bytes| bytes), outward(&|bytes| bytes));
        Self {
            gossip: (gossip_in, gossip_out),
            line: (
                gossip_in + inward(&wire::quic) + outward(&wire::quic_back),
                gossip_out + outward(&wire::quic) + inward(&wire::quic_back),
            ),
            checks: announcements * flow.copies.0,
        }
    }

    pub(crate) fn core(&self) -> f64 {
        self.checks * CHECK_MS / 1_000.0
    }

    pub(crate) fn fits_at_home(&self) -> bool {
        self.line.0.max(self.line.1) <= HOME.0 && self.core() <= HOME.1
    }
}

/// One shard and what its announcements do.
pub(crate) struct Shard {
    pub(crate) overlay: Overlay,
    pub(crate) ordinary: Flow,
    /// The peer with the most traffic but one in a hundred.
    pub(crate) heavy: Flow,
    pub(crate) mini_node: Flow,
    /// Milliseconds until a peer had an announcement, ascending: every peer, every announcement.
    pub(crate) arrivals: Vec<u32>,
}

impl Shard {
    /// Sends announcements of random peers.
    pub(crate) fn new(peers: u32, connections: usize, of_mini_node: usize, gossip: &Gossip) -> Self {
        /// Visits of peers that make the figures.
        const VISITS: u32 = 4_000_000;
        let overlay = Overlay::new(peers, connections, of_mini_node, gossip, SEED);
        let mut spread = Spread::new(overlay.peers(), *gossip, SEED);
        let mut rng = Rng::new(SEED);
        let announcements = (VISITS / peers.max(1)).clamp(40, 1_000);
        let mut arrivals = Vec::new();
        for _ in 0..announcements {
            spread.send(&overlay, rng.below(peers), rng.any() % 1_000_000);
            arrivals.extend((0..peers).filter_map(|peer| spread.arrived(peer)).filter(|time| *time > 0));
        }
        arrivals.sort_unstable();
        let count = spread.announcements;
        let mut loads = spread.loads;
        let mini_node = Flow::of(&loads[..1], count);
        loads.remove(0);
        let ordinary = Flow::of(&loads, count);
        loads.sort_by_key(|load| 4 * load.copies_in + load.ids_in);
        let heavy = loads.len() * 99 / 100;
        let heavy = Flow::of(&loads[heavy..=heavy], count);
        Self { overlay, ordinary, heavy, mini_node, arrivals }
    }
}

/// The value that this part of all is below; of ascending values.
pub(crate) fn quantile<T: Copy + Default>(values: &[T], percent: usize) -> T {
    let last = values.len().saturating_sub(1);
    values.get(last * percent / 100).copied().unwrap_or_default()
}
