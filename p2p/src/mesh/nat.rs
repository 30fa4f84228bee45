//! What NAT this peer is behind, judged by what others see of it, and whether it can be reached from outside.

use std::{
    cmp::Reverse,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use super::confirmed::Confirmations;
use crate::{
    reach::is_relayed,
    status::{NatKind, Reachability},
};

/// Observers kept for each carrier: three mini-nodes and some peers are what a peer talks to outside; more would not
/// make the judgement better.
const OBSERVERS: usize = 16;
/// An observation is news for so long: routers change their mappings when they restart.
const OBSERVED_FOR: Duration = Duration::from_secs(2 * 3600);
/// Own listening addresses: two carriers on some interfaces, each with several IPv6 addresses.
const LISTENING: usize = 64;
/// Candidates that are worth a test each.
const CANDIDATES: usize = 8;

/// What carries a connection, as a NAT sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Carrier {
    /// QUIC.
    Udp,
    /// TCP.
    Tcp,
}

/// What another peer sees of a connection that this peer dialled. Of one that the other dialled, it can only say what
/// it was told before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Observation {
    /// Who tells.
    pub(crate) observer: PeerId,
    /// Where it is.
    pub(crate) observer_ip: IpAddr,
    /// By what.
    pub(crate) carrier: Carrier,
    /// Where this peer comes from, by its word.
    pub(crate) observed: SocketAddr,
    /// Where the connection comes from on this machine, if that is known. One from a port on which nobody listens says
    /// nothing about others.
    pub(crate) local: Option<SocketAddr>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Nat {
    /// Whether private addresses count as the outside: in networks that are not connected to the Internet.
    private_counts: bool,
    listening: Vec<(Carrier, SocketAddr)>,
    /// The newest of each observer and carrier, the newest last.
    pub(super) seen: Vec<(Instant, Observation)>,
    confirmations: Confirmations,
}

impl Nat {
    /// Nothing is known. `private_counts`: whether private addresses are taken for public ones.
    pub(crate) fn new(private_counts: bool) -> Self {
        Self {
            private_counts,
            listening: Vec::new(),
            seen: Vec::new(),
            confirmations: Confirmations::default(),
        }
    }

    /// The addresses of this machine on which this peer listens now.
    pub(crate) fn set_listening<'a>(&mut self, addresses: impl IntoIterator<Item = &'a Multiaddr>) {
        self.listening = addresses.into_iter().filter_map(socket_of).take(LISTENING).collect();
    }

    /// Notes what another peer sees.
    pub(crate) fn observe(&mut self, observation: Observation, now: Instant) {
        let Observation { observer, carrier, observed, local, .. } = observation;
        let outside = self.is_outside(observation.observer_ip) && self.is_outside(observed.ip());
        let listens = |port| self.listening.iter().any(|own| own.0 == carrier && own.1.port() == port);
        if !outside || local.is_some_and(|local| !listens(local.port())) {
            return;
        }
        self.seen.retain(|(_, seen)| (seen.observer, seen.carrier) != (observer, carrier));
        let of_carrier = |(_, seen): &(Instant, Observation)| seen.carrier == carrier;
        if self.seen.iter().filter(|seen| of_carrier(seen)).count() >= OBSERVERS
            && let Some(oldest) = self.seen.iter().position(of_carrier)
        {
            self.seen.remove(oldest);
        }
        self.seen.push((now, observation));
    }

    /// Another machine tried to connect to one of this peer's addresses.
    pub(crate) fn tested(&mut self, address: &Multiaddr, reached: bool, now: Instant) {
        let ip = address.iter().next();
        let outside = match ip {
            Some(Protocol::Ip4(ip)) => self.is_outside(ip.into()),
            Some(Protocol::Ip6(ip)) => self.is_outside(ip.into()),
            _ => true,
        };
        if outside && !is_relayed(address) {
            self.confirmations.tested(address, reached, now);
        }
    }

    /// This machine's addresses or routes changed: all that was known is of another network.
    pub(crate) fn network_changed(&mut self) {
        self.seen.clear();
        self.confirmations = Confirmations::default();
    }

    /// The NAT, for one carrier. IPv4 is judged where there is any: it is what most peers have.
    pub(crate) fn kind(&self, carrier: Carrier, now: Instant) -> NatKind {
        let (four, six): (Vec<&Observation>, Vec<&Observation>) =
            self.fresh(carrier, now).partition(|seen| seen.observed.is_ipv4());
        let seen = if four.is_empty() { six } else { four };
        if seen.iter().any(|seen| self.listening.contains(&(carrier, seen.observed))) {
            return NatKind::None;
        }
        // One voice for each address from which somebody observes: the newest.
        let mut voices: Vec<(IpAddr, SocketAddr)> = Vec::new();
        for observation in seen.iter().rev() {
            if voices.iter().all(|(ip, _)| *ip != observation.observer_ip) {
                voices.push((observation.observer_ip, observation.observed));
            }
        }
        judge(&voices)
    }

    /// Addresses at which others may reach this peer, worth a test: what most observers see first, and then the port
    /// on which it listens, which may be forwarded.
    pub(crate) fn external(&self, carrier: Carrier, now: Instant) -> Vec<SocketAddr> {
        let mut counted: Vec<(usize, SocketAddr)> = Vec::new();
        for seen in self.fresh(carrier, now) {
            match counted.iter_mut().find(|(_, address)| *address == seen.observed) {
                Some((count, _)) => *count += 1,
                None => counted.push((1, seen.observed)),
            }
        }
        counted.sort_by_key(|(count, _)| Reverse(*count));
        let observed: Vec<SocketAddr> = counted.into_iter().map(|(_, address)| address).collect();
        // A mapping that is made for each destination anew is of no use to others.
        let is_useful = self.kind(carrier, now) != NatKind::Symmetric;
        let mut candidates = if is_useful { observed.clone() } else { Vec::new() };
        for address in observed {
            let ports = self
                .listening
                .iter()
                .filter(|(of, own)| *of == carrier && own.is_ipv4() == address.is_ipv4());
            candidates.extend(ports.map(|(_, own)| SocketAddr::new(address.ip(), own.port())));
        }
        let mut seen = Vec::new();
        candidates.retain(|address| {
            let new = !seen.contains(address);
            seen.push(*address);
            new
        });
        candidates.truncate(CANDIDATES);
        candidates
    }

    /// Whether others can connect by themselves.
    pub(crate) fn reachability(&self, now: Instant) -> Reachability {
        let kinds = [Carrier::Udp, Carrier::Tcp].map(|carrier| self.kind(carrier, now));
        let is_mapped = kinds.iter().any(|kind| matches!(kind, NatKind::Cone | NatKind::Symmetric));
        if self.confirmations.any(now) {
            Reachability::Public
        } else if is_mapped || self.confirmations.has_failed(now) {
            Reachability::Private
        } else {
            Reachability::Unknown
        }
    }

    /// Whether relays are needed: until an address is confirmed that peers with IPv4 alone can use.
    pub(crate) fn needs_relay(&self, now: Instant) -> bool {
        !self.confirmations.any_ipv4(now)
    }

    /// Addresses that another machine reached lately.
    pub(crate) fn confirmed(&self, now: Instant) -> Vec<Multiaddr> {
        self.confirmations.addresses(now).cloned().collect()
    }

    /// For people: what NAT this is, what it means, and what can be done.
    pub(crate) fn advice(&self, now: Instant) -> String {
        let port = self.listening.iter().map(|(_, own)| own.port()).next();
        let port = port.map_or_else(|| "this peer's port".to_owned(), |port| format!("port {port}"));
        let open =
            format!("forward UDP and TCP {port} to this machine in the router, or switch UPnP on there");
        if !self.needs_relay(now) {
            return "Others reach this machine directly; nothing needs to be done.".to_owned();
        }
        if self.confirmations.any(now) {
            return format!(
                "Peers with IPv6 reach this machine directly; others come through a relay. To be reached by them \
                 too: {open}."
            );
        }
        let (udp, tcp) = (self.kind(Carrier::Udp, now), self.kind(Carrier::Tcp, now));
        let kind = if udp == NatKind::Unknown { tcp } else { udp };
        let advice = match kind {
            NatKind::None => format!(
                "This machine has an address of its own on the Internet, but nobody was seen to reach it there: let \
                 UDP and TCP {port} in through its firewall. Until then others come through a relay."
            ),
            NatKind::Cone => format!(
                "This machine is behind a router that gives it one port for everybody (a cone NAT): most peers get a \
                 direct connection after meeting at a relay; those behind a symmetric NAT stay on the relay. To be \
                 reached at once and by all: {open}."
            ),
            NatKind::Symmetric => format!(
                "This machine is behind a router that takes another port for each connection (a symmetric NAT): only \
                 peers that can be reached from outside are connected directly, all others through a relay, which is \
                 slower. To change that: {open}."
            ),
            NatKind::Unknown => format!(
                "It is not known yet how others see this machine: that takes two mini-nodes outside this network. \
                 Until somebody reaches it from outside, others come through a relay. To be reached surely: {open}."
            ),
        };
        self.with_obstacles(advice, (udp, tcp), now)
    }

    fn with_obstacles(&self, mut advice: String, (udp, tcp): (NatKind, NatKind), now: Instant) -> String {
        if self.listening.iter().any(|(_, own)| is_shared(own.ip())) {
            advice.push_str(
                " Its address is one that a provider shares among customers: forwarding is up to the provider, \
                 unless it also offers IPv6.",
            );
        }
        if udp == NatKind::Unknown
            && tcp != NatKind::Unknown
            && self.fresh(Carrier::Udp, now).next().is_none()
        {
            advice.push_str(" No connection over UDP was seen to get out: a firewall may block it.");
        }
        advice
    }

    fn fresh(&self, carrier: Carrier, now: Instant) -> impl Iterator<Item = &Observation> {
        let fresh = self.seen.iter().filter(move |(at, _)| now < *at + OBSERVED_FOR);
        fresh.map(|(_, seen)| seen).filter(move |seen| seen.carrier == carrier)
    }

    fn is_outside(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(ip) => is_usable_v4(ip) && (self.private_counts || is_global_v4(ip)),
            IpAddr::V6(ip) => is_usable_v6(ip) && (self.private_counts || is_global_v6(ip)),
        }
    }
}

/// What observers at different addresses say, taken together. A liar is outvoted by two who agree.
fn judge(voices: &[(IpAddr, SocketAddr)]) -> NatKind {
    let agree = |with: SocketAddr| voices.iter().filter(|(_, observed)| *observed == with).count();
    let most = voices.iter().map(|(_, observed)| agree(*observed)).max().unwrap_or(0);
    if most >= 2 && most * 2 > voices.len() {
        return NatKind::Cone;
    }
    let differ = |(_, one): &(IpAddr, SocketAddr)| {
        voices.iter().any(|(_, other)| one.ip() == other.ip() && one.port() != other.port())
    };
    if voices.iter().any(differ) { NatKind::Symmetric } else { NatKind::Unknown }
}

fn socket_of(address: &Multiaddr) -> Option<(Carrier, SocketAddr)> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Udp(port) => Some((Carrier::Udp, (ip, port).into())),
        Protocol::Tcp(port) => Some((Carrier::Tcp, (ip, port).into())),
        _ => None,
    }
}

fn is_usable_v4(ip: Ipv4Addr) -> bool {
    !(ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast())
}

fn is_usable_v6(ip: Ipv6Addr) -> bool {
    !(ip.is_unspecified() || ip.is_multicast())
}

/// Addresses for documentation count: laboratories use them as the Internet.
fn is_global_v4(ip: Ipv4Addr) -> bool {
    !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || is_shared(ip.into()))
}

fn is_global_v6(ip: Ipv6Addr) -> bool {
    !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local())
}

/// 100.64.0.0/10, between a provider's NAT and its customers (RFC 6598).
fn is_shared(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64)
}
