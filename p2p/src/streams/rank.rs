//! Which of several connections with one peer is the one to use.

use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, Endpoint},
    multiaddr::Protocol,
};

/// How a connection travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// QUIC.
    Quic,
    /// TCP with Noise and Yamux.
    Tcp,
    /// Something else.
    Other,
}

impl Transport {
    /// The transport of an address.
    #[must_use]
    pub fn of(address: &Multiaddr) -> Self {
        let mut transport = Self::Other;
        for part in address {
            match part {
                Protocol::QuicV1 => return Self::Quic,
                Protocol::Tcp(_) => transport = Self::Tcp,
                _ => {}
            }
        }
        transport
    }

    /// Name in metrics and listings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
            Self::Other => "other",
        }
    }
}

/// Order of preference among connections with one peer, the smallest first. Both ends compute the same: direct before
/// relayed, QUIC before TCP, then the one that the smaller peer id dialled, so that two peers that dial one another
/// at the same moment keep the same connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    relayed: bool,
    transport: Transport,
    dialled_by_larger: bool,
}

/// Whether this side is the one that dialled. Of a connection through two NATs both did at the same moment, and one of
/// them took the other part by agreement.
pub(crate) fn dialled(endpoint: &ConnectedPoint) -> bool {
    matches!(endpoint, ConnectedPoint::Dialer { role_override: Endpoint::Dialer, .. })
}

impl Rank {
    pub(crate) fn new(local: &PeerId, remote: &PeerId, endpoint: &ConnectedPoint) -> Self {
        let address = match endpoint {
            ConnectedPoint::Dialer { address, .. } => address,
            ConnectedPoint::Listener { send_back_addr, .. } => send_back_addr,
        };
        let local_is_smaller = local.to_bytes() < remote.to_bytes();
        Self {
            relayed: endpoint.is_relayed(),
            transport: Transport::of(address),
            dialled_by_larger: dialled(endpoint) != local_is_smaller,
        }
    }
}
