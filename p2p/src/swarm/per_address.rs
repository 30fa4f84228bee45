//! How many connections others may open from one address.
//!
//! Bounds on connections in all are of no use when one host can take every place, handshakes that never end included.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::{IpAddr, Ipv6Addr},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, dummy,
    },
};

use crate::reach::{ip_of, is_relayed};

/// Too many connections come from there.
#[derive(Debug, thiserror::Error)]
#[error("{0} has as many connections as one address may have")]
pub(crate) struct TooMany(IpAddr);

/// See the module. Bounded by the limits on connections.
pub(crate) struct PerAddress {
    most: u32,
    counts: HashMap<IpAddr, u32>,
    connections: HashMap<ConnectionId, IpAddr>,
}

impl PerAddress {
    pub(crate) fn new(most: u32) -> Self {
        Self { most, counts: HashMap::new(), connections: HashMap::new() }
    }

    fn enter(&mut self, id: ConnectionId, remote: &Multiaddr) -> Result<(), TooMany> {
        // What comes through a relay comes from the relay's address, which has a connection already.
        let Some(place) = ip_of(remote).filter(|_| !is_relayed(remote)).map(place) else { return Ok(()) };
        let count = self.counts.entry(place).or_default();
        if *count >= self.most {
            return Err(TooMany(place));
        }
        *count += 1;
        self.connections.insert(id, place);
        Ok(())
    }

    fn leave(&mut self, id: ConnectionId) {
        let Some(place) = self.connections.remove(&id) else { return };
        if let Some(count) = self.counts.get_mut(&place) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(&place);
            }
        }
    }
}

/// Whoever has one IPv6 address has the 2^64 of its subnet.
fn place(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

impl NetworkBehaviour for PerAddress {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.enter(id, remote).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(closed) => self.leave(closed.connection_id),
            FromSwarm::ListenFailure(failed) => self.leave(failed.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_its_share() {
        let mut limit = PerAddress::new(2);
        let id = ConnectionId::new_unchecked;
        let address = |text: &str| text.parse::<Multiaddr>().unwrap();
        limit.enter(id(1), &address("/ip4/50.1.0.1/tcp/1")).unwrap();
        limit.enter(id(2), &address("/ip4/50.1.0.1/udp/1/quic-v1")).unwrap();
        limit.enter(id(3), &address("/ip4/50.1.0.1/tcp/2")).unwrap_err();
        limit.enter(id(4), &address("/ip4/50.1.0.2/tcp/2")).unwrap();
        limit
            .enter(id(5), &address(&format!("/ip4/50.1.0.1/tcp/1/p2p/{}/p2p-circuit", PeerId::random())))
            .unwrap();
        limit.leave(id(1));
        limit.leave(id(3));
        limit.enter(id(6), &address("/ip4/50.1.0.1/tcp/2")).unwrap();
        limit.enter(id(7), &address("/ip6/2606:4700::1/tcp/2")).unwrap();
        limit.enter(id(8), &address("/ip6/2606:4700::2/tcp/2")).unwrap();
        limit.enter(id(9), &address("/ip6/2606:4700::3/tcp/2")).unwrap_err();
        (1..9).for_each(|number| limit.leave(id(number)));
        assert!(limit.counts.is_empty() && limit.connections.is_empty());
    }
}
