//! `manifest.json`: what a dump holds, for people and tools. Nothing in it is trusted that the files do not bear out.

use antiphon_proto::{BlockHash, NetworkId, RootHash};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::DumpError;
use crate::log::tile::TILE_WIDTH;

/// What every manifest says it is.
const FORMAT: &str = "antiphon-dump";
/// Version of the dump's layout.
const VERSION: u32 = 1;

/// What a dump holds. Hashes are in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// `antiphon-dump`.
    pub format: String,
    /// Version of the layout, 1.
    pub version: u32,
    /// Network id: BLAKE3 of the genesis document.
    pub network: String,
    /// SHA-256 of the file `genesis`.
    pub genesis_sha256: String,
    /// First block, a multiple of 256; 0 in a whole dump.
    pub first: u64,
    /// Number of blocks under the checkpoint.
    pub size: u64,
    /// RFC 6962 root under the checkpoint.
    pub root: String,
    /// BLAKE3 hash of the last block; empty when there is none.
    pub head: String,
    /// Number of files, this one included.
    pub files: u64,
    /// Program that made it.
    pub made_by: String,
}

impl Manifest {
    pub(super) fn new(
        network: &NetworkId,
        genesis: &[u8],
        (first, size): (u64, u64),
        root: &RootHash,
        head: Option<BlockHash>,
        files: u64,
    ) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            network: network.to_string(),
            genesis_sha256: HEXLOWER.encode(&Sha256::digest(genesis)),
            first,
            size,
            root: root.to_string(),
            head: head.map(|head| head.to_string()).unwrap_or_default(),
            files,
            made_by: concat!("antiphon ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// [`DumpError::Manifest`].
    pub fn parse(bytes: &[u8]) -> Result<Self, DumpError> {
        let bad = |what: String| DumpError::Manifest(what);
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(bad("it is not the manifest of an antiphon dump".to_owned()));
        }
        if manifest.version != VERSION {
            let version = manifest.version;
            return Err(bad(format!("version {version} is not known: a newer antiphon is needed")));
        }
        if !manifest.first.is_multiple_of(TILE_WIDTH) || manifest.first > manifest.size {
            return Err(bad(format!(
                "a dump of {} blocks cannot begin at {}",
                manifest.size, manifest.first
            )));
        }
        Ok(manifest)
    }

    /// The bytes of the file.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, DumpError> {
        let mut bytes =
            serde_json::to_vec_pretty(self).map_err(|error| DumpError::Manifest(error.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    pub(super) fn check_genesis(&self, network: &NetworkId, genesis: &[u8]) -> Result<(), DumpError> {
        same("network", &self.network, &network.to_string())?;
        same("genesis_sha256", &self.genesis_sha256, &HEXLOWER.encode(&Sha256::digest(genesis)))
    }

    /// Holds the end that the manifest names against the checkpoint. While a dump is being continued the manifest may
    /// be older than the checkpoint; it is never newer.
    pub(super) fn check_end(&self, size: u64, root: &RootHash) -> Result<(), DumpError> {
        if self.size < size {
            return Ok(());
        }
        same("size", &self.size.to_string(), &size.to_string())?;
        same("root", &self.root, &root.to_string())
    }

    /// Holds the last block's hash that the manifest names against the blocks.
    pub(super) fn check_head(&self, size: u64, head: Option<BlockHash>) -> Result<(), DumpError> {
        if self.size < size {
            return Ok(());
        }
        same("head", &self.head, &head.map(|head| head.to_string()).unwrap_or_default())
    }
}

fn same(field: &str, says: &str, is: &str) -> Result<(), DumpError> {
    if says == is {
        Ok(())
    } else {
        Err(DumpError::Manifest(format!("{field} is {says:?}, the files say {is:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        let (network, root) = (NetworkId([1; 32]), RootHash([2; 32]));
        Manifest {
            made_by: "antiphon".to_owned(),
            ..Manifest::new(&network, b"genesis", (256, 300), &root, Some(BlockHash([3; 32])), 12)
        }
    }

    #[test]
    fn golden() {
        let text = format!(
            "{{\n  \"format\": \"antiphon-dump\",\n  \"version\": 1,\n  \"network\": \"{}\",\n  \"genesis_sha256\": \
             \"aeebad4a796fcc2e15dc4c6061b45ed9b373f26adfc798ca7d2d8cc58182718e\",\n  \"first\": 256,\n  \"size\": \
             300,\n  \"root\": \"{}\",\n  \"head\": \"{}\",\n  \"files\": 12,\n  \"made_by\": \"antiphon\"\n}}\n",
            "01".repeat(32),
            "02".repeat(32),
            "03".repeat(32)
        );
        assert_eq!(String::from_utf8(sample().to_bytes().unwrap()).unwrap(), text);
        assert_eq!(Manifest::parse(text.as_bytes()).unwrap(), sample());
    }

    #[test]
    fn others_are_refused() {
        let changed = |change: &dyn Fn(&mut Manifest)| {
            let mut manifest = sample();
            change(&mut manifest);
            Manifest::parse(&manifest.to_bytes().unwrap())
        };
        assert!(changed(&|_| {}).is_ok());
        assert!(changed(&|manifest| manifest.version = 2).is_err());
        assert!(changed(&|manifest| manifest.format.clear()).is_err());
        assert!(changed(&|manifest| manifest.first = 3).is_err());
        assert!(changed(&|manifest| manifest.first = 512).is_err());
        assert!(Manifest::parse(b"").is_err());
    }
}
