//! What this crate needs from the rest of a peer, as traits that the binary implements.

use std::fs::File;

use antiphon_proto::{
    ContentHash, NetworkId, PublicKey, SongId,
    wire::{
        AudioRequest, Batch, Bundle, LedgerInfo, PlayRefusalCode, PlayStart, Receipt, RegisterReply,
        RegisterRequest, StreamErrorCode,
    },
};
use bytes::Bytes;
use futures::future::BoxFuture;
use libp2p::PeerId;
use tokio::sync::watch;

use crate::play::{Hearing, PlayRefused};

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

/// What a proof is wanted of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProofQuery {
    /// The block with this index.
    Index(u64),
    /// The registration of this song.
    Song(SongId),
    /// The block that registers this content.
    Content(ContentHash),
}

/// The ledger that followers read. What has a default is answered "not here" by a peer that does not have it. All of it
/// may block on the disk, but what says that it is from memory: it is called on threads for that.
pub trait LedgerSource: Send + Sync + 'static {
    /// The network and the ledger's size, from memory.
    fn info(&self) -> LedgerInfo;

    /// The batch that starts with block `first`; none when the ledger ends there.
    ///
    /// # Errors
    /// [`SourceError`].
    fn batch_from(&self, first: u64) -> Result<Option<Batch>, SourceError>;

    /// The number of blocks, kept up to date; from memory.
    fn watch(&self) -> watch::Receiver<u64>;

    /// The newest cosigned checkpoint (a C2SP signed note of at most `limits::CHECKPOINT_BYTES`), empty while there is
    /// none; kept up to date, from memory. Followers are sent each new one.
    fn watch_checkpoint(&self) -> watch::Receiver<Bytes> {
        watch::channel(Bytes::new()).1
    }

    /// The ledger index of the block that registers a content, if the ledger has it.
    fn index_of(&self, content: &ContentHash) -> Option<u64> {
        let _ = content;
        None
    }

    /// The newest cosigned checkpoint.
    ///
    /// # Errors
    /// [`SourceError`].
    fn checkpoint(&self) -> Result<Option<Bytes>, SourceError> {
        let newest = self.watch_checkpoint().borrow().clone();
        Ok((!newest.is_empty()).then_some(newest))
    }

    /// The first `width` (1 to 256) blocks of entry bundle `index`, with the seals of the batches that end with one of
    /// them; none when the ledger does not reach so far.
    ///
    /// # Errors
    /// [`SourceError`].
    fn bundle(&self, index: u64, width: u32) -> Result<Option<Bundle>, SourceError> {
        let _ = (index, width);
        Ok(None)
    }

    /// The first `width` (1 to 256) hashes of a tile of the log, 32 bytes each; none when the log does not reach so far.
    ///
    /// # Errors
    /// [`SourceError`].
    fn tile(&self, level: u32, index: u64, width: u32) -> Result<Option<Vec<u8>>, SourceError> {
        let _ = (level, index, width);
        Ok(None)
    }

    /// A C2SP tlog-proof file of a block, with the block in it, of at most `limits::LOG_PROOF_BYTES`; none when there is no
    /// such block or no checkpoint that covers it yet.
    ///
    /// # Errors
    /// [`SourceError`].
    fn proof(&self, query: &ProofQuery) -> Result<Option<Vec<u8>>, SourceError> {
        let _ = query;
        Ok(None)
    }
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

/// Who witnesses what others hear of this peer's files. What may block on the disk is called on threads for that.
pub trait Witness: Send + Sync + 'static {
    /// The wallet that this peer is paid to, from memory; none while it cannot sign.
    fn wallet(&self) -> Option<PublicKey>;

    /// The network, from memory; none while it is not known.
    fn network(&self) -> Option<NetworkId>;

    /// Somebody begins to hear a song. The start has passed every rule of its form, is signed by its listener and names
    /// the wallet of this peer; its clock is checked after this. May block.
    ///
    /// # Errors
    /// [`PlayRefused`], which is sent to the peer: the song is not known, the listener may not hear it or cannot pay.
    fn begin(&self, peer: PeerId, start: &PlayStart) -> Result<Hearing, PlayRefused>;

    /// Signs a receipt with the wallet's key; none when it cannot. Does not block.
    fn sign(&self, message: &[u8]) -> Option<[u8; 64]>;

    /// A play is over: its newest receipt, signed by both. Called once for each play that has one. May block.
    fn done(&self, receipt: Receipt);
}

/// Of a peer that witnesses nothing: always busy.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoWitness;

impl Witness for NoWitness {
    fn wallet(&self) -> Option<PublicKey> {
        None
    }

    fn network(&self) -> Option<NetworkId> {
        None
    }

    fn begin(&self, _peer: PeerId, _start: &PlayStart) -> Result<Hearing, PlayRefused> {
        Err(PlayRefused::new(PlayRefusalCode::Busy, "this peer witnesses nothing"))
    }

    fn sign(&self, _message: &[u8]) -> Option<[u8; 64]> {
        None
    }

    fn done(&self, _receipt: Receipt) {}
}
