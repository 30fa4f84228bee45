//! The ledger as static files, which any web server or object store can serve and any C2SP tool can verify.
//!
//! A dump is a `tlog-tiles` directory (`checkpoint`, `tile/…`) with what Antiphon adds: `genesis` (the canonical
//! document, whose hash is the network id), `seals/<N>` (the proof of each batch that ends in entry bundle N),
//! `manifest.json`, and what people need to read it without this program. It ends where the newest cosigned checkpoint
//! does. Files other than `checkpoint` and `manifest.json` never change once they are named by a manifest.
//!
//! [`write`] makes or continues a dump, [`verify`] checks one without a ledger, [`load`] fills a ledger from one.

mod council;
mod digest;
mod levels;
mod load;
mod manifest;
pub mod seals;
mod seen;
mod served;
mod source;
mod verify;
mod write;

use std::io;

use antiphon_proto::{NetworkId, RootHash, genesis::GenesisError, limits, note::NoteError};

pub use self::{
    council::{Council, GenesisCouncil, SealedAt},
    digest::StateDigest,
    load::load,
    manifest::Manifest,
    served::served,
    source::{DirSource, DumpSource},
    verify::{MakeCouncil, Report, VerifyOptions, verify},
    write::{Written, write},
};
use crate::{
    error::{AppendError, FileError, ReadError},
    log::{CheckpointError, tile::index_path},
};

/// Path of the checkpoint.
pub const CHECKPOINT: &str = "checkpoint";
/// Path of the genesis document.
pub const GENESIS: &str = "genesis";
/// Path of the manifest.
pub const MANIFEST: &str = "manifest.json";
/// A manifest is a few hundred bytes.
const MANIFEST_BYTES: usize = 16 * 1024;

/// Path of the seals of the batches that end in an entry bundle of this width.
#[must_use]
pub fn seals_path(index: u64, width: u16) -> String {
    let partial = if width < 256 { format!(".p/{width}") } else { String::new() };
    format!("seals/{}{partial}", index_path(index))
}

/// What is wrong with a dump, or kept one from being made.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// There is nothing yet that a dump could prove.
    #[error("no checkpoint has been cosigned by a quorum yet: there is nothing that a dump could prove")]
    NoCheckpoint,
    /// The ledger is behind what the council has cosigned.
    #[error(
        "the newest checkpoint is over {checkpoint} blocks, and only {size} are here: wait until they are"
    )]
    Behind {
        /// Blocks in the ledger.
        size: u64,
        /// Blocks under the checkpoint.
        checkpoint: u64,
    },
    /// A dump begins with a whole bundle.
    #[error(
        "a dump begins at a multiple of 256 that is not beyond the checkpoint's {size} blocks, not at {from}"
    )]
    Start {
        /// Where it should begin.
        from: u64,
        /// Blocks under the checkpoint.
        size: u64,
    },
    /// The directory holds a dump that this one does not continue.
    #[error("the directory holds another dump ({0}): choose another one")]
    Occupied(String),
    /// A file of the dump is not there.
    #[error("{file} is missing (from block {index} on)")]
    Missing {
        /// Its path in the dump.
        file: String,
        /// First block that cannot be verified without it.
        index: u64,
    },
    /// A file of the dump does not hold what it must.
    #[error("{file} is wrong at block {index}: {what}")]
    Bad {
        /// Its path in the dump.
        file: String,
        /// First block that it is wrong about.
        index: u64,
        /// What is wrong.
        what: String,
    },
    /// The blocks and tiles agree with one another, and not with the checkpoint.
    #[error(
        "the dump's blocks give the root {got}, its checkpoint says {expected}: they are not what was cosigned"
    )]
    Root {
        /// Root under the checkpoint.
        expected: RootHash,
        /// Root over the blocks.
        got: RootHash,
    },
    /// The checkpoint is not the network's.
    #[error("the dump's checkpoint: {0}")]
    Checkpoint(#[from] NoteError),
    /// The genesis document is none.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// The network's council cannot be followed by this version.
    #[error("{0}")]
    Unsupported(String),
    /// The dump belongs to another network.
    #[error("the dump is of network {found}, not of {expected}")]
    OtherNetwork {
        /// Network that was expected.
        expected: NetworkId,
        /// Network of its genesis document.
        found: NetworkId,
    },
    /// The manifest cannot be read, or says other than the files.
    #[error("manifest.json: {0}")]
    Manifest(String),
    /// A file of the dump cannot be read.
    #[error("cannot read {file}: {error}")]
    Source {
        /// Its path in the dump.
        file: String,
        /// Why not.
        error: io::Error,
    },
    /// A block that the rules refuse.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// A checkpoint that the ledger does not keep.
    #[error(transparent)]
    Put(#[from] CheckpointError),
    /// The ledger cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The directory cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl DumpError {
    /// The first block that is wrong or cannot be verified, when it can be told.
    #[must_use]
    pub const fn first_bad(&self) -> Option<u64> {
        match self {
            Self::Missing { index, .. }
            | Self::Bad { index, .. }
            | Self::Append(AppendError::Refused { index, .. } | AppendError::Disagrees { index, .. }) => {
                Some(*index)
            }
            _ => None,
        }
    }

    fn bad(file: impl Into<String>, index: u64, what: impl Into<String>) -> Self {
        Self::Bad { file: file.into(), index, what: what.into() }
    }
}

/// A file that must be there.
fn need(source: &mut dyn DumpSource, file: &str, limit: usize, index: u64) -> Result<Vec<u8>, DumpError> {
    match source.read(file, limit) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(DumpError::Missing { file: file.to_owned(), index }),
        // Longer than it may be: the file is at fault, not the disk.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(DumpError::bad(file, index, error.to_string()))
        }
        Err(error) => Err(DumpError::Source { file: file.to_owned(), error }),
    }
}

/// A file that must be there, and whether it is the full one in place of a partial one: when a dump is continued while
/// it is read, the full file of a tile may have taken the partial one's place, as tlog-tiles allows.
fn need_tile(
    source: &mut dyn DumpSource,
    file: &str,
    limit: usize,
    index: u64,
) -> Result<(Vec<u8>, bool), DumpError> {
    match (need(source, file, limit, index), file.rsplit_once(".p/")) {
        (Err(missing @ DumpError::Missing { .. }), Some((full, _))) => match need(source, full, limit, index)
        {
            Ok(bytes) => Ok((bytes, true)),
            Err(DumpError::Missing { .. }) => Err(missing),
            Err(error) => Err(error),
        },
        (bytes, _) => Ok((bytes?, false)),
    }
}

/// Manifest, genesis document and checkpoint of a dump, which agree with one another.
struct Head {
    manifest: Manifest,
    genesis: antiphon_proto::wire::Genesis,
    network: NetworkId,
    note: Vec<u8>,
}

impl Head {
    fn read(source: &mut dyn DumpSource) -> Result<Self, DumpError> {
        let manifest = Manifest::parse(&need(source, MANIFEST, MANIFEST_BYTES, 0)?)?;
        let bytes = need(source, GENESIS, limits::GENESIS_BYTES, 0)?;
        let genesis = antiphon_proto::wire::Genesis::parse(&bytes)?;
        let network = genesis.network_id();
        manifest.check_genesis(&network, &bytes)?;
        let note = need(source, CHECKPOINT, limits::CHECKPOINT_BYTES, 0)?;
        Ok(Self { manifest, genesis, network, note })
    }
}
