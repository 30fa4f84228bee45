//! What is fetched, and how far that is: the words that getting, playing and fetching share.

use antiphon_proto::{Container, ContentHash};
use libp2p::PeerId;
use serde::{Deserialize, Serialize};

use super::place::Wanted;

/// What a peer brought.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceLine {
    /// libp2p peer id.
    pub peer: String,
    /// Verified bytes of the file.
    pub bytes: u64,
}

impl SourceLine {
    pub(super) fn of(peer: &PeerId, bytes: u64) -> Self {
        Self { peer: peer.to_string(), bytes }
    }
}

/// How far it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetProgress {
    /// Verified bytes.
    pub verified_bytes: u64,
    /// Bytes of the file.
    pub total: u64,
    /// Who takes part, and what each has brought.
    #[serde(default)]
    pub sources: Vec<SourceLine>,
}

/// One encoding that would do.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    pub(super) wanted: Wanted,
    pub(super) index: u64,
}

impl Choice {
    /// The file of a block.
    pub(crate) fn new(content: ContentHash, container: u32, bytes: u64, index: u64) -> Self {
        Self { wanted: Wanted { content, container: container_of(container), bytes }, index }
    }

    /// BLAKE3 of the file.
    pub(crate) const fn content(&self) -> ContentHash {
        self.wanted.content
    }

    /// Bytes of the file.
    pub(crate) const fn bytes(&self) -> u64 {
        self.wanted.bytes
    }

    /// Whether it is in this container.
    pub(crate) fn is_in(&self, container: &str) -> bool {
        self.extension().eq_ignore_ascii_case(container)
    }

    /// What files of its container are called.
    pub(crate) fn extension(&self) -> &'static str {
        self.wanted.container.extension()
    }
}

fn container_of(byte: u32) -> Container {
    u8::try_from(byte).ok().and_then(Container::from_byte).unwrap_or(Container::Unknown)
}
