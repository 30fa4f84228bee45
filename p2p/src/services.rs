//! What this crate needs from the rest of a peer, as traits that the binary implements.

use std::fs::File;

use antiphon_proto::{
    ContentHash,
    wire::{AudioRequest, Batch, LedgerInfo, RegisterReply, RegisterRequest, StreamErrorCode},
};
use futures::future::BoxFuture;
use libp2p::PeerId;
use tokio::sync::watch;

/// A ledger that cannot give what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// No batch starts there.
    #[error("no batch starts at block {0}")]
    NotFound(u64),
    /// The store fails. The text is for this peer's log and is not sent.
    #[error("the ledger's store: {0}")]
    Internal(String),
}

/// The ledger that followers read.
pub trait LedgerSource: Send + Sync + 'static {
    /// The network and the ledger's size, from memory.
    fn info(&self) -> LedgerInfo;

    /// The batch that starts with block `first`; none when the ledger ends there. May block on the disk: it is called
    /// on a thread for that.
    ///
    /// # Errors
    /// [`SourceError`].
    fn batch_from(&self, first: u64) -> Result<Option<Batch>, SourceError>;

    /// The number of blocks, kept up to date.
    fn watch(&self) -> watch::Receiver<u64>;
}

/// Who takes registrations from peers.
pub trait Registrar: Send + Sync + 'static {
    /// Decides on a registration or passes it on. The request has at most the permitted hops and a network id of 32
    /// bytes; nothing else is checked. The same request may come again when a reply was lost: registering is safe to
    /// repeat because the ledger holds a song id once.
    fn register(&self, from: PeerId, request: RegisterRequest) -> BoxFuture<'static, RegisterReply>;
}

/// A file that may be served.
#[derive(Debug)]
pub struct AudioFile {
    /// Its size in bytes when its content hash was computed.
    pub size: u64,
    /// The file.
    pub data: File,
    /// Its outboard; none for a file of at most one chunk group (16 KiB).
    pub outboard: Option<File>,
}

/// Why a file is not served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AudioRefusal {
    /// This peer does not have it.
    #[error("the peer does not have this file")]
    NotFound,
    /// It was there, but is gone or was changed since.
    #[error("the peer no longer has this file as it was")]
    Gone,
    /// Too much to do just now.
    #[error("the peer is busy; try again later or elsewhere")]
    Busy,
    /// The song's terms ask for a right that the token does not prove.
    #[error("the song's terms do not allow it: {detail}")]
    Forbidden {
        /// For people.
        detail: String,
    },
    /// The request breaks a rule.
    #[error("the peer does not understand the request: {detail}")]
    Malformed {
        /// For people.
        detail: String,
    },
    /// The server's own failure.
    #[error("the peer failed to serve this file")]
    Internal,
}

impl AudioRefusal {
    /// The code on the wire.
    #[must_use]
    pub fn code(&self) -> StreamErrorCode {
        match self {
            Self::NotFound => StreamErrorCode::NotFound,
            Self::Gone => StreamErrorCode::Gone,
            Self::Busy => StreamErrorCode::Busy,
            Self::Forbidden { .. } => StreamErrorCode::Forbidden,
            Self::Malformed { .. } => StreamErrorCode::Malformed,
            Self::Internal => StreamErrorCode::Internal,
        }
    }

    /// Reads a code from the wire; what an audio server does not say counts as its failure.
    #[must_use]
    pub fn from_code(code: StreamErrorCode, detail: String) -> Self {
        match code {
            StreamErrorCode::NotFound => Self::NotFound,
            StreamErrorCode::Gone => Self::Gone,
            StreamErrorCode::Busy => Self::Busy,
            StreamErrorCode::Forbidden => Self::Forbidden { detail },
            StreamErrorCode::Malformed => Self::Malformed { detail },
            StreamErrorCode::Internal | StreamErrorCode::OtherNetwork => Self::Internal,
        }
    }

    /// Text for people that goes with the code.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Forbidden { detail } | Self::Malformed { detail } => detail.clone(),
            _ => String::new(),
        }
    }
}

/// The files that this peer serves.
pub trait AudioSource: Send + Sync + 'static {
    /// Finds and opens a file, after checking that it has not changed (size, time) and that the access token allows
    /// it. The request has passed every rule of its format. May block: it is called on a thread for that.
    ///
    /// # Errors
    /// [`AudioRefusal`], which is sent to the peer.
    fn open(&self, peer: PeerId, request: &AudioRequest) -> Result<AudioFile, AudioRefusal>;

    /// While it was being sent, the file turned out not to match this hash any more (or its outboard is damaged).
    /// From now on it should be refused as gone until it was hashed again. May block, as [`Self::open`].
    fn failed(&self, content: ContentHash);
}
