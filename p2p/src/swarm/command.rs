//! What the handles ask of the actor.

use antiphon_proto::{NetworkId, limits::ANNOUNCEMENT_BYTES};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::oneshot;

use super::PeerInfo;
use crate::{error::ConnectError, score::Offence, status::WaysStatus};

/// A command; replies go back on the channel inside.
#[derive(Debug)]
pub(crate) enum Command {
    Connect {
        address: Multiaddr,
        reply: oneshot::Sender<Result<PeerId, ConnectError>>,
    },
    /// Dials a peer at all of its addresses, and reports nothing. When it is connected only if it is `suspect`: another
    /// process may answer there.
    Dial {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        suspect: bool,
    },
    /// Opens a connection with a peer by whatever way there is, and reports nothing. `suspect`: one that is there may be
    /// dead.
    Reach {
        peer: PeerId,
        suspect: bool,
    },
    /// Asks why a peer cannot be reached, for people.
    Why {
        peer: PeerId,
        reply: oneshot::Sender<Option<String>>,
    },
    /// Somebody tells where a peer is.
    Heard {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        /// It is a mini-node by its own word.
        mini_node: bool,
        /// Dial it too, if it is not connected.
        dial: bool,
    },
    /// Takes part in the gossip of a network.
    Subscribe {
        network: NetworkId,
    },
    /// Announces something to everybody.
    Publish {
        network: NetworkId,
        bytes: [u8; ANNOUNCEMENT_BYTES],
    },
    /// Asks for the connected peers and where they say they listen.
    KnownPeers {
        reply: oneshot::Sender<Vec<(PeerId, Vec<Multiaddr>)>>,
    },
    Disconnect {
        peer: PeerId,
        reason: String,
    },
    Penalize {
        peer: PeerId,
        offence: Offence,
    },
    Peers {
        reply: oneshot::Sender<Vec<PeerInfo>>,
    },
    /// Tells where this peer can be reached.
    AddExternalAddress {
        address: Multiaddr,
    },
    Ways {
        reply: oneshot::Sender<WaysStatus>,
    },
    ListenAddrs {
        reply: oneshot::Sender<Vec<Multiaddr>>,
    },
    Shutdown {
        reply: oneshot::Sender<()>,
    },
}
