//! The network of Antiphon: who is online, and moving ledgers and audio between peers.
//!
//! [`Network`] is a handle; one task owns the libp2p swarm. What a peer serves comes in through the traits of
//! [`services`]; this crate knows neither the ledger nor the library. Audio is verified against its content hash
//! group by group while it streams ([`decode`]), from many peers at once ([`Download`]), kept in partial files that
//! survive being killed ([`partial`]), and served in place with small outboards ([`outboard`]).
//!
//! Everything that comes from a peer has a limit and a deadline; a peer that breaks the rules loses score and is
//! banned for a while, and never costs a panic, an unbounded allocation or a stuck task.

pub mod catchup;
mod config;
mod council;
mod error;
mod event;
mod mesh;
mod metrics;
mod network;
mod pacing;
pub mod play;
pub mod presence;
mod protocol;
mod reach;
pub mod relay;
mod score;
pub mod services;
mod slots;
pub mod status;
mod streams;
mod swarm;
mod transfer;
mod upload;

pub use libp2p::{self, Multiaddr, PeerId};

pub use config::{
    Config, ConnectionLimits, RelayLimits, Role, StreamLimits, Timeouts, UploadLimits, listens_nearby,
};
pub use council::{
    Class, CouncilConfig, CouncilError, CouncilEvent, CouncilEvents, CouncilSender, MemberInfo, SendError,
};
pub use error::{ConnectError, DownloadError, FetchError, PlayError, RequestError, StartError};
pub use event::{DisconnectReason, Event};
pub use network::{Network, Services};
pub use play::{Hearing, PlayRefused};
pub use presence::{Join, Online, Vouch};
pub use protocol::{FollowStream, Followed, PlayStream, frame};
pub use reach::is_public;
pub use relay::RelayUsage;
pub use score::Offence;
pub use services::{
    AudioFile, AudioRefusal, AudioSource, LedgerSource, NoWitness, ProofQuery, Registrar, SourceError,
    Witness,
};
pub use streams::Transport;
pub use swarm::{Direction, PeerInfo};
pub use transfer::{
    decode,
    download::{Download, DownloadProgress, Downloaded, Listener, SourceProgress, SourceReport, SourceState},
    fetch::{Fetch, FetchProgress},
    groups, outboard, partial,
};
