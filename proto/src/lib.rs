//! The words that all of Antiphon's crates use: message types, canonical bytes, identities and limits.
//!
//! Nothing here does I/O, reads a clock or draws randomness: time, random seeds and file contents come in as
//! arguments. The `.proto` files under `schema/` are the specification; [`canonical`] says which of protobuf's
//! encodings is ours.

pub mod access;
pub mod announcement;
pub mod audio;
pub mod binding;
pub mod bundle;
pub mod canonical;
pub mod certificate;
pub mod container;
pub mod council;
pub mod coverage;
pub mod economy;
pub mod epoch;
pub mod genesis;
pub mod hash;
pub mod keys;
pub mod limits;
pub mod note;
pub mod play;
pub mod record;
pub mod stamp;
pub mod tokens;

/// Messages as the `.proto` files define them.
pub mod wire {
    #![allow(
        missing_docs,
        clippy::doc_markdown,
        clippy::large_enum_variant,
        reason = "generated; the .proto files hold the documentation"
    )]
    include!(concat!(env!("OUT_DIR"), "/antiphon.v1.rs"));
}

pub use container::Container;
pub use hash::{ActId, BlockHash, ContentHash, IdError, NetworkId, RootHash, SongId, ValueId};
pub use keys::{PublicKey, SecretKey};
