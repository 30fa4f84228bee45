use crate::{
    status::{NatKind, NatStatus, Reachability},
    streams::Transport,
};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use std::{collections::HashMap, net::SocketAddr, time::Instant};
pub(crate) struct Nat {
    public: bool,
}
impl Nat {
    pub(crate) fn new() -> Self {
        Self { public: false }
    }
    pub(crate) fn needs_relay(&self, _: Instant) -> bool {
        !self.public
    }
    pub(crate) fn listens(&mut self, _: &Multiaddr) {}
    pub(crate) fn listens_no_more(&mut self, _: &Multiaddr) {}
    pub(crate) fn told(&mut self, _: &Multiaddr) {
        self.public = true;
    }
    pub(crate) fn observe(&mut self, _: PeerId, _: Transport, _: SocketAddr, _: Instant) {}
    pub(crate) fn tested(&mut self, _: &Multiaddr, ok: bool, _: Instant) {
        self.public |= ok;
    }
    pub(crate) fn network_changed(&mut self, _: Instant) {
        self.public = false;
    }
    pub(crate) fn status(&self, _: Instant) -> NatStatus {
        NatStatus {
            reachability: if self.public { Reachability::Public } else { Reachability::Unknown },
            udp: NatKind::Unknown,
            tcp: NatKind::Unknown,
            advice: Vec::new(),
        }
    }
}
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way {
    Direct,
    Relayed,
    Punched,
}
pub(crate) struct Plan {
    pub(crate) direct: Vec<Multiaddr>,
    pub(crate) relayed: Vec<Multiaddr>,
}
pub(crate) struct Paths {
    known: HashMap<PeerId, Vec<Multiaddr>>,
}
impl Paths {
    pub(crate) fn new(_: PeerId) -> Self {
        Self { known: HashMap::new() }
    }
    pub(crate) fn learn(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, _: Instant) {
        self.known.insert(peer, addresses);
    }
    pub(crate) fn connected(&mut self, _: &PeerId) {}
    pub(crate) fn failed(&mut self, _: &PeerId, _: Way, _: &str, _: Instant) {}
    pub(crate) fn plan(&self, peer: &PeerId, relays: &[(PeerId, Multiaddr)], _: Instant) -> Plan {
        let known = self.known.get(peer).cloned().unwrap_or_default();
        let (mut relayed, direct): (Vec<_>, Vec<_>) = known.into_iter().partition(crate::reach::is_relayed);
        relayed.extend(
            relays
                .iter()
                .map(|(relay, at)| at.clone().with(Protocol::P2p(*relay)).with(Protocol::P2pCircuit)),
        );
        Plan { direct, relayed }
    }
    pub(crate) fn why(&self, _: &PeerId, _: bool) -> String {
        "not reached".into()
    }
}
