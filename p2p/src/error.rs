//! What can go wrong between peers.

use std::time::Duration;

use antiphon_proto::wire::StreamErrorCode;
use libp2p::{Multiaddr, PeerId};

use crate::{
    play::PlayRefused,
    services::AudioRefusal,
    transfer::{decode::BadBytes, download::SourceReport, partial::PartialError},
};

/// The network does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The seed gives no key.
    #[error("the node key is not an Ed25519 seed: {0}")]
    Key(String),
    /// Noise or TLS refuses the key.
    #[error("setting up the transports: {0}")]
    Transport(String),
    /// An address cannot be listened on.
    #[error("listening on {address}: {reason}; is another program using the port?")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// What the system says.
        reason: String,
    },
}

/// A peer cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// No transport takes this address.
    #[error("{address} is not an address that can be dialled: {reason}")]
    Address {
        /// The address.
        address: Multiaddr,
        /// What is wrong.
        reason: String,
    },
    /// Nobody answers.
    #[error("{address} cannot be reached: {reason}")]
    Unreachable {
        /// The address.
        address: Multiaddr,
        /// What the transports say.
        reason: String,
    },
    /// Somebody else answers.
    #[error("{address} is now the peer {found}; its identity changed or the address is wrong")]
    OtherPeer {
        /// The address.
        address: Multiaddr,
        /// Who answers.
        found: PeerId,
    },
    /// The address is ours.
    #[error("this is our own address")]
    Myself,
    /// A limit or a ban of ours.
    #[error("not allowed: {0}")]
    Denied(String),
    /// The network is shut down.
    #[error("the network is shut down")]
    Shutdown,
}

/// A request to a peer failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// There is no connection to it.
    #[error("not connected to {0}")]
    NotConnected(PeerId),
    /// It does not speak this protocol.
    #[error("the peer does not speak {0}")]
    Unsupported(&'static str),
    /// It does not answer.
    #[error("no {what} within {after:?}")]
    Timeout {
        /// What was awaited.
        what: &'static str,
        /// How long.
        after: Duration,
    },
    /// The stream ended too early.
    #[error("the stream ended before the {what}: {reason}")]
    Closed {
        /// What was awaited.
        what: &'static str,
        /// What the transport says.
        reason: String,
    },
    /// It sends what breaks the rules.
    #[error("the peer breaks the protocol: {0}")]
    Malformed(String),
    /// It says no.
    #[error("the peer answers {code:?}: {detail}")]
    Refused {
        /// Why.
        code: StreamErrorCode,
        /// For people.
        detail: String,
    },
    /// Our own request breaks a rule and was not sent.
    #[error("the request breaks a rule: {0}")]
    Invalid(String),
    /// The network is shut down.
    #[error("the network is shut down")]
    Shutdown,
}

/// A play does not begin, or is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlayError {
    /// No answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The witness says no.
    #[error(transparent)]
    Refused(#[from] PlayRefused),
}

/// A file was not fetched. What was verified stays in the partial file.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The peer sent bytes of another file. It is banned for a while.
    #[error("bad bytes from the peer: {0}")]
    BadBytes(#[from] BadBytes),
    /// Nothing new was verified for too long: try another peer.
    #[error("nothing arrived for {after:?}; {verified} of {total} bytes are there")]
    Stalled {
        /// How long.
        after: Duration,
        /// Bytes of the file that are there.
        verified: u64,
        /// Bytes of the file.
        total: u64,
    },
    /// The stream ended early.
    #[error("the transfer ended early; {verified} of {total} bytes are there")]
    Closed {
        /// Bytes of the file that are there.
        verified: u64,
        /// Bytes of the file.
        total: u64,
    },
    /// The peer does not serve it.
    #[error(transparent)]
    Refused(AudioRefusal),
    /// The peer has another size than the one asked for.
    #[error("the peer has {found} bytes under this content hash, {expected} were expected")]
    Size {
        /// Size asked for.
        expected: u64,
        /// Size of the peer's file.
        found: u64,
    },
    /// No answer to the request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The partial file.
    #[error(transparent)]
    Disk(#[from] PartialError),
    /// The thread that verifies and writes ended.
    #[error("the transfer's thread failed")]
    Internal,
}

/// A file was not downloaded. What was verified stays in the partial file, and another download goes on there.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// Nobody is left to ask.
    #[error("no peer is left to ask; {verified} of {total} bytes are there")]
    NoSources {
        /// Bytes of the file that are there.
        verified: u64,
        /// Bytes of the file.
        total: u64,
        /// Who was asked, and what went wrong.
        sources: Vec<SourceReport>,
    },
    /// The partial file.
    #[error(transparent)]
    Disk(#[from] PartialError),
    /// The network is shut down.
    #[error("the network is shut down")]
    Shutdown,
    /// A thread of ours failed.
    #[error("the download's thread failed")]
    Internal,
}
