//! How near an address is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

/// How near an address is. What a peer tells of nearer addresses than its own means nothing here: a stranger on the
/// internet must not make this peer knock at its own doors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// Anywhere.
    Global,
    /// In a local network.
    Local,
    /// On this machine.
    Loopback,
    /// Nowhere that can be dialled from hearsay: names, wildcards.
    Nowhere,
}

impl Reach {
    pub(crate) fn of(address: &Multiaddr) -> Self {
        match address.iter().next() {
            Some(Protocol::Ip4(ip)) if ip.is_loopback() => Self::Loopback,
            Some(Protocol::Ip4(ip)) if ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() => {
                Self::Nowhere
            }
            Some(Protocol::Ip4(ip)) if ip.is_private() || ip.is_link_local() => Self::Local,
            Some(Protocol::Ip4(_)) => Self::Global,
            Some(Protocol::Ip6(ip)) if ip.is_loopback() => Self::Loopback,
            Some(Protocol::Ip6(ip)) if ip.is_unspecified() || ip.is_multicast() => Self::Nowhere,
            Some(Protocol::Ip6(ip)) if ip.is_unique_local() || ip.is_unicast_link_local() => Self::Local,
            Some(Protocol::Ip6(_)) => Self::Global,
            _ => Self::Nowhere,
        }
    }
}

/// The IP address that an address begins with.
pub(crate) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => Some(ip.into()),
        Some(Protocol::Ip6(ip)) => Some(ip.into()),
        _ => None,
    }
}

/// Whether the address leads through a relay.
pub(crate) fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// The relay that an address leads through.
pub(crate) fn relay_of(address: &Multiaddr) -> Option<PeerId> {
    let mut relay = None;
    for part in address {
        match part {
            Protocol::P2p(peer) => relay = Some(peer),
            Protocol::P2pCircuit => return relay,
            _ => {}
        }
    }
    None
}

/// The address without the identity at its end.
pub(crate) fn without_peer(mut address: Multiaddr) -> Multiaddr {
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        address.pop();
    }
    address
}

/// Whether the whole internet can reach the address: it is in none of the ranges that the registries of special-purpose
/// addresses (RFC 6890 and its successors) keep from it. Stricter than [`Reach::Global`], which only says that an address
/// is not of a local network: hosters take packets to any of these ranges for a scan.
#[must_use]
pub fn is_public(address: &Multiaddr) -> bool {
    match ip_of(address) {
        Some(IpAddr::V4(ip)) => is_public_v4(ip),
        Some(IpAddr::V6(ip)) => is_public_v6(ip),
        None => false,
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = a == 0
        || ip.is_private()
        || (a == 100 && (64..128).contains(&b))
        || ip.is_loopback()
        || ip.is_link_local()
        || (a, b, c) == (192, 0, 0)
        || ip.is_documentation()
        || (a == 198 && (18..20).contains(&b))
        || a >= 224;
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    // Global unicast is 2000::/3; the first 512 networks of 2001::/16 are protocols (Teredo and the like), 2001:db8::/32 and
    // 3fff::/20 are for documentation, 2002::/16 carries IPv4 addresses of any kind.
    let [a, b, ..] = ip.segments();
    (0x2000..0x4000).contains(&a)
        && !(a == 0x2001 && (b < 0x200 || b == 0xdb8))
        && a != 0x2002
        && !(a == 0x3fff && b < 0x1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_no_mini_node_may_send_to() {
        let public = |ip: &str| is_public(&Multiaddr::from(ip.parse::<IpAddr>().unwrap()));
        for ip in
            ["1.1.1.1", "50.1.0.1", "100.63.0.1", "100.128.0.1", "172.32.0.1", "2606:4700::1", "2001:200::1"]
        {
            assert!(public(ip), "{ip}");
        }
        for ip in [
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.1.1",
            "172.16.0.1",
            "172.31.0.1",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2002:a00:1::1",
            "3fff::1",
            "64:ff9b::a00:1",
            "::ffff:10.0.0.1",
        ] {
            assert!(!public(ip), "{ip}");
        }
        assert!(!is_public(&"/dns4/example.org/tcp/1".parse().unwrap()));
    }

    #[test]
    fn addresses_are_as_near_as_they_say() {
        let of = |address: &str| Reach::of(&address.parse().unwrap());
        assert_eq!(of("/ip4/127.0.0.1/tcp/1"), Reach::Loopback);
        assert_eq!(of("/ip4/192.168.1.2/udp/1/quic-v1"), Reach::Local);
        assert_eq!(of("/ip4/192.0.2.1/tcp/1"), Reach::Global);
        assert_eq!(of("/ip6/::1/tcp/1"), Reach::Loopback);
        assert_eq!(of("/ip6/fd00::1/tcp/1"), Reach::Local);
        assert_eq!(of("/ip6/2001:db8::1/tcp/1"), Reach::Global);
        assert_eq!(of("/ip4/0.0.0.0/tcp/1"), Reach::Nowhere);
        assert_eq!(of("/dns4/example.org/tcp/1"), Reach::Nowhere);
        assert!(
            Reach::Global < Reach::Local
                && Reach::Local < Reach::Loopback
                && Reach::Loopback < Reach::Nowhere
        );
    }

    #[test]
    fn addresses_say_how_they_lead_to_a_peer() {
        let address = |text: &str| text.parse::<Multiaddr>().unwrap();
        let relay = PeerId::random();
        let direct = address("/ip4/1.2.3.4/udp/4001/quic-v1");
        let relayed = address(&format!("/ip6/::1/tcp/4001/p2p/{relay}/p2p-circuit"));
        assert!(!is_relayed(&direct) && is_relayed(&relayed));
        assert_eq!(ip_of(&direct), Some([1, 2, 3, 4].into()));
        assert_eq!(ip_of(&relayed), Some(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(ip_of(&address(&format!("/p2p/{relay}"))), None);
    }
}
