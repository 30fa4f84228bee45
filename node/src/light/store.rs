//! What a light peer keeps: the genesis document, the newest checkpoint, and a proof for each block that it cares about.
//!
//! ```text
//! light/genesis                    the network's genesis document
//! light/checkpoint                 the newest checkpoint (C2SP signed note)
//! light/proofs/<index>.tlog-proof  C2SP tlog-proof files with the block in them, which `ledger verify-proof` checks
//! ```
//! Everything is verified again when it is read: a file is no better than what a stranger sends.

use std::{
    fs, io,
    io::Read,
    path::{Path, PathBuf},
};

use antiphon_ledger::log::blockproof::BlockProof;
use antiphon_proto::{
    NetworkId, PublicKey, canonical, limits,
    note::{self, Checkpoint, CosignedCheckpoint},
    wire::{Block, Genesis},
};
use anyhow::{Context, bail};

use crate::system::durable;

/// Ending of proof files.
const ENDING: &str = ".tlog-proof";

/// A block that is proven.
#[derive(Debug, Clone, PartialEq)]
pub struct Proven {
    /// Its position.
    pub index: u64,
    /// The block.
    pub block: Block,
    /// The checkpoint that vouches for it.
    pub checkpoint: Checkpoint,
}

/// The folder of a light peer.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
    genesis: Genesis,
    members: Vec<PublicKey>,
    origin: String,
}

impl Store {
    /// Opens the folder; `None` when it is not one of a light peer.
    ///
    /// # Errors
    /// A genesis document that cannot be read.
    pub fn open(dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = dir.join("genesis");
        let Some(bytes) = read(&path, limits::GENESIS_BYTES)? else { return Ok(None) };
        let genesis = Genesis::parse(&bytes)
            .with_context(|| format!("{} is damaged; remove the folder and join again", path.display()))?;
        Ok(Some(Self::of(dir, genesis)))
    }

    /// Makes the folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(dir: &Path, genesis: Genesis) -> anyhow::Result<Self> {
        fs::create_dir_all(dir.join("proofs")).with_context(|| format!("cannot make {}", dir.display()))?;
        durable::write(&dir.join("genesis"), &canonical::encode(&genesis), 0o644)
            .with_context(|| format!("cannot write in {}", dir.display()))?;
        Ok(Self::of(dir, genesis))
    }

    fn of(dir: &Path, genesis: Genesis) -> Self {
        let (members, origin) = (genesis.member_keys(), note::origin(&genesis.network_id()));
        Self { dir: dir.to_owned(), genesis, members, origin }
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> NetworkId {
        self.genesis.network_id()
    }

    /// The council that the network began with: the one that is known here.
    #[must_use]
    pub fn members(&self) -> &[PublicKey] {
        &self.members
    }

    /// Verifies a checkpoint: a quorum of the council that is known here.
    ///
    /// # Errors
    /// [`note::NoteError`].
    pub fn verify(&self, note: &[u8]) -> Result<CosignedCheckpoint, note::NoteError> {
        let opened = CosignedCheckpoint::open(note, &self.origin, &self.members)?;
        opened.check(&self.members)?;
        Ok(opened)
    }

    /// Verifies a proof.
    ///
    /// # Errors
    /// [`antiphon_ledger::log::blockproof::BlockProofError`].
    pub fn verify_proof(
        &self,
        proof: &BlockProof,
    ) -> Result<Proven, antiphon_ledger::log::blockproof::BlockProofError> {
        let (block, opened) = proof.verify(&self.origin, &self.members)?;
        Ok(Proven { index: proof.index, block, checkpoint: opened.checkpoint })
    }

    /// The newest checkpoint.
    ///
    /// # Errors
    /// A file that cannot be read or does not verify.
    pub fn checkpoint(&self) -> anyhow::Result<Option<CosignedCheckpoint>> {
        let path = self.dir.join("checkpoint");
        let Some(note) = read(&path, limits::CHECKPOINT_BYTES)? else { return Ok(None) };
        let opened = self.verify(&note).with_context(|| format!("{} is damaged", path.display()))?;
        Ok(Some(opened))
    }

    /// Keeps a checkpoint, which must have been found consistent with the one before.
    ///
    /// # Errors
    /// The disk.
    pub fn put_checkpoint(&self, note: &[u8]) -> anyhow::Result<()> {
        let path = self.dir.join("checkpoint");
        durable::write(&path, note, 0o644).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The proof of a block, as it is kept, verified.
    ///
    /// # Errors
    /// A file that cannot be read or does not verify.
    pub fn proof(&self, index: u64) -> anyhow::Result<Option<(BlockProof, Proven)>> {
        let path = self.place(index);
        let Some(text) = read(&path, limits::LOG_PROOF_BYTES)? else { return Ok(None) };
        let damaged = || format!("{} is damaged; remove it and get the song again", path.display());
        let proof = BlockProof::parse(&text).with_context(damaged)?;
        let proven = self.verify_proof(&proof).with_context(damaged)?;
        if proven.index != index {
            bail!("{} is the proof of another block", path.display());
        }
        Ok(Some((proof, proven)))
    }

    /// Keeps a verified proof.
    ///
    /// # Errors
    /// The disk.
    pub fn put_proof(&self, proof: &BlockProof) -> anyhow::Result<()> {
        let path = self.place(proof.index);
        durable::write(&path, &proof.encode(), 0o644)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Blocks whose proofs are kept, ascending.
    ///
    /// # Errors
    /// The disk.
    pub fn proofs(&self) -> anyhow::Result<Vec<u64>> {
        let folder = self.dir.join("proofs");
        let mut indexes = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let name = entry?.file_name();
            let index = name.to_str().and_then(|name| name.strip_suffix(ENDING));
            indexes.extend(index.and_then(|index| index.parse::<u64>().ok()));
        }
        indexes.sort_unstable();
        Ok(indexes)
    }

    /// Bytes of all files.
    ///
    /// # Errors
    /// The disk.
    pub fn disk_bytes(&self) -> anyhow::Result<u64> {
        let mut bytes = 0;
        for folder in [&self.dir, &self.dir.join("proofs")] {
            for entry in fs::read_dir(folder)? {
                let meta = entry?.metadata()?;
                bytes += if meta.is_file() { meta.len() } else { 0 };
            }
        }
        Ok(bytes)
    }

    fn place(&self, index: u64) -> PathBuf {
        self.dir.join("proofs").join(format!("{index}{ENDING}"))
    }
}

/// A file of at most `limit` bytes; `None` when it is not there.
fn read(path: &Path, limit: usize) -> anyhow::Result<Option<Vec<u8>>> {
    let shown = path.display();
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
    };
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes).with_context(|| format!("cannot read {shown}"))?;
    if bytes.len() > limit {
        bail!("{shown} is longer than the {limit} bytes that it may have");
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use antiphon_ledger::tree::leaf_hash;
    use antiphon_proto::{
        RootHash, SecretKey,
        wire::{Song, block::Body},
    };

    use super::*;

    fn member() -> SecretKey {
        SecretKey::from_seed(&[1; 32])
    }

    fn note(store: &Store, size: u64, root: RootHash, by: &SecretKey) -> Vec<u8> {
        let checkpoint = Checkpoint { origin: store.origin.clone(), size, root };
        let mut made = CosignedCheckpoint::new(checkpoint.clone());
        made.log_signatures = vec![(by.public(), checkpoint.log_signature(by))];
        made.cosignatures = vec![checkpoint.cosign(by, 1_700_000_000)];
        made.encode().into_bytes()
    }

    fn store(dir: &Path) -> Store {
        Store::create(dir, Genesis::new("test", 1, [0; 16], &[member().public()])).unwrap()
    }

    /// A log of one block.
    fn proof(store: &Store, by: &SecretKey) -> BlockProof {
        let song = Song { title: "t".into(), ..Song::default() };
        let block = Block { version: 1, body: Some(Body::Song(song)), ..Block::default() };
        let block = canonical::encode(&block);
        let checkpoint = note(store, 1, RootHash(leaf_hash(&block)), by);
        BlockProof { index: 0, block, hashes: Vec::new(), checkpoint }
    }

    #[test]
    fn what_is_kept_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Store::open(dir.path()).unwrap().is_none());
        let store = store(dir.path());
        assert_eq!(store.checkpoint().unwrap(), None);
        store.put_checkpoint(&note(&store, 7, RootHash([2; 32]), &member())).unwrap();
        let again = Store::open(dir.path()).unwrap().unwrap();
        assert_eq!(again.network(), store.network());
        assert_eq!(again.checkpoint().unwrap().unwrap().checkpoint.size, 7);
        assert_eq!((again.proofs().unwrap(), again.proof(3).unwrap()), (Vec::new(), None));
    }

    #[test]
    fn nothing_is_believed_because_it_is_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let stranger = SecretKey::from_seed(&[9; 32]);
        store.put_checkpoint(&note(&store, 7, RootHash([2; 32]), &stranger)).unwrap();
        assert!(store.checkpoint().is_err());
        store.put_proof(&proof(&store, &stranger)).unwrap();
        assert!(store.proof(0).is_err());
        fs::write(dir.path().join("checkpoint"), vec![b'a'; limits::CHECKPOINT_BYTES + 1]).unwrap();
        assert!(store.checkpoint().is_err());
    }
}
