//! Asking peers, and believing only what is proven.

use std::path::PathBuf;

use antiphon_ledger::log::blockproof::{BlockProof, BlockProofError};
use antiphon_p2p::{Network, Offence, ProofQuery, RequestError};
use antiphon_proto::{
    note::{Checkpoint, CosignedCheckpoint, NoteError},
    wire::StreamErrorCode,
};
use anyhow::bail;
use futures::future::join_all;
use libp2p::PeerId;
use tokio_util::sync::CancellationToken;

use super::{
    get::Wanted,
    store::{Proven, Store},
};
use crate::{
    config::Config,
    failure::{Failure, Kind},
    genesis_file,
    peer::{Dialled, Opening, Reach, follow, tiles::Tiles},
    system::datadir::{DataDir, Lock},
};

/// Addresses that are tried at once.
const DIALLED: usize = 8;
/// Peers that are asked.
const ASKED: usize = 16;

/// A light peer that is connected.
pub(super) struct Client {
    pub(super) store: Store,
    pub(super) network: Network,
    _lock: Lock,
}

/// What peers said to a question.
#[derive(Default)]
struct Heard {
    /// Cosigned, but not by a quorum of the council that is known here.
    strangers: usize,
    /// What went wrong with the others.
    troubles: Vec<String>,
}

impl Heard {
    /// Why there is no answer.
    fn failure(&self, what: &str) -> anyhow::Error {
        if self.strangers > 0 {
            return Failure::new(
                Kind::Verification,
                format!(
                    "{what}: what the peers offer is not cosigned by a quorum of the council that the network began \
                     with. Either they deceive, or the council has changed, which this version of a light peer cannot \
                     follow: use a full peer"
                ),
            )
            .into();
        }
        if self.troubles.is_empty() {
            return Failure::new(Kind::NotFound, format!("{what}: no connected peer knows it")).into();
        }
        Failure::new(Kind::Failed, format!("{what}: {}", self.troubles.join("; "))).into()
    }
}

/// Whether the council that signed is merely another one.
const fn is_strange(error: &NoteError) -> bool {
    matches!(error, NoteError::Quorum { .. } | NoteError::Unsigned)
}

impl Client {
    /// Opens the data directory, connects, and learns the network on the first start.
    ///
    /// # Errors
    /// Whatever stands in the way.
    pub(super) async fn open(
        root: PathBuf,
        config: &Config,
        cancel: CancellationToken,
        report: &(dyn Fn(&str) + Send + Sync),
    ) -> anyhow::Result<Self> {
        let data = DataDir::open(&root)?;
        let lock = data.lock()?;
        let known = match (Store::open(&data.light())?, &config.network.genesis) {
            // Nobody's word is taken for it then.
            (None, Some(path)) => Some(Store::create(&data.light(), genesis_file::read(path)?)?),
            (known, _) => known,
        };
        let dialled = Opening::new(data.clone(), config, Reach::Dial, cancel)?.network_only().await?;
        match join(&data, known, &dialled, report).await {
            Ok(store) => Ok(Self { store, network: dialled.network, _lock: lock }),
            Err(error) => {
                dialled.network.shutdown().await;
                Err(error)
            }
        }
    }

    pub(super) async fn close(&self) {
        self.network.shutdown().await;
    }

    async fn peers(&self) -> Vec<PeerId> {
        self.network.peers().await.into_iter().map(|known| known.peer).take(ASKED).collect()
    }

    /// Learns the newest checkpoint of the connected peers. That there is none yet is no error.
    ///
    /// # Errors
    /// [`Kind::Verification`] when none can be believed, or two contradict each other.
    pub(super) async fn refresh(&self) -> anyhow::Result<()> {
        let id = self.store.network();
        let ask = |peer| async move { (peer, self.network.checkpoint(peer, id).await) };
        let mut heard = Heard::default();
        let mut newest: Option<(PeerId, CosignedCheckpoint, Vec<u8>)> = None;
        for (peer, answer) in join_all(self.peers().await.into_iter().map(ask)).await {
            let Ok(note) = answer else { continue };
            match self.store.verify(&note) {
                Ok(opened) => {
                    let size = opened.checkpoint.size;
                    if newest.as_ref().is_none_or(|(_, other, _)| other.checkpoint.size < size) {
                        newest = Some((peer, opened, note));
                    }
                }
                Err(error) if is_strange(&error) => heard.strangers += 1,
                Err(error) => self.found_out(peer, Offence::BadCheckpoint, &error.to_string()).await,
            }
        }
        match newest {
            Some((peer, opened, note)) => self.agree(peer, &opened.checkpoint, &note).await,
            None if heard.strangers > 0 => Err(heard.failure("the newest checkpoint")),
            None => Ok(()),
        }
    }

    /// Holds a verified checkpoint against the one that is kept, and keeps the newer one: one log must begin with the
    /// other. The hashes that show it come from peers and are verified up to the newer root.
    async fn agree(&self, peer: PeerId, new: &Checkpoint, note: &[u8]) -> anyhow::Result<()> {
        let Some(kept) = self.store.checkpoint()? else { return self.store.put_checkpoint(note) };
        let kept = kept.checkpoint;
        let (older, newer) = if new.size < kept.size { (new, &kept) } else { (&kept, new) };
        let begins = if older.size == newer.size {
            newer.root
        } else {
            let (network, id) = (self.network.clone(), self.store.network());
            let mut tiles = Tiles::open(network, id, self.peers().await, newer.size, &newer.root).await?;
            tiles.root_at(older.size).await?
        };
        if begins != older.root {
            self.found_out(peer, Offence::ForkedCheckpoint, "a quorum has cosigned two histories").await;
            let message = format!(
                "a quorum has cosigned a log of {} blocks, and one of {} blocks that does not begin with it: THE NETWORK \
                 HAS FORKED. Nothing was changed here; ask the council",
                older.size, newer.size
            );
            return Err(Failure::new(Kind::Verification, message).into());
        }
        if new.size >= kept.size { self.store.put_checkpoint(note) } else { Ok(()) }
    }

    /// Gets the block that is wanted with its proof, verified, and keeps it.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when no peer knows it, [`Kind::Verification`] when no answer can be believed.
    pub(super) async fn prove(&self, wanted: &Wanted) -> anyhow::Result<Proven> {
        let mut heard = Heard::default();
        for peer in self.peers().await {
            match self.ask_proof(peer, wanted).await {
                Ok(Some((proof, proven))) => {
                    self.agree(peer, &proven.checkpoint, &proof.checkpoint).await?;
                    self.store.put_proof(&proof)?;
                    return Ok(proven);
                }
                Ok(None) => {}
                Err(Trouble::Stranger) => heard.strangers += 1,
                Err(Trouble::Other(text)) => heard.troubles.push(format!("{peer}: {text}")),
            }
        }
        Err(heard.failure(&wanted.to_string()))
    }

    async fn ask_proof(
        &self,
        peer: PeerId,
        wanted: &Wanted,
    ) -> Result<Option<(BlockProof, Proven)>, Trouble> {
        let query: ProofQuery = wanted.query();
        let text = match self.network.proof(peer, self.store.network(), &query).await {
            Ok(text) => text,
            Err(RequestError::Refused { code: StreamErrorCode::NotFound, .. }) => return Ok(None),
            Err(error) => return Err(Trouble::Other(error.to_string())),
        };
        let judged = BlockProof::parse(&text)
            .and_then(|proof| self.store.verify_proof(&proof).map(|proven| (proof, proven)));
        let why = match judged {
            Ok((proof, proven)) if wanted.is(&proven) => return Ok(Some((proof, proven))),
            Ok(_) => "it proves another block".to_owned(),
            Err(BlockProofError::Checkpoint(error)) if is_strange(&error) => return Err(Trouble::Stranger),
            Err(error) => error.to_string(),
        };
        self.found_out(peer, Offence::BadProof, &why).await;
        Err(Trouble::Other(format!("a false proof: {why}")))
    }

    async fn found_out(&self, peer: PeerId, offence: Offence, why: &str) {
        tracing::warn!(%peer, why, "the peer tells what is not true");
        self.network.penalize(peer, offence).await;
    }
}

enum Trouble {
    Stranger,
    Other(String),
}

/// Connects to what is known and gives the folder of the network, made on the first start.
async fn join(
    data: &DataDir,
    known: Option<Store>,
    dialled: &Dialled,
    report: &(dyn Fn(&str) + Send + Sync),
) -> anyhow::Result<Store> {
    let insist = known.as_ref().map(Store::network).or(dialled.insist);
    let tries = dialled.addresses.iter().take(DIALLED);
    let tries =
        join_all(tries.map(|address| async move {
            (address, follow::introduce(&dialled.network, address, insist).await)
        }));
    let mut state = dialled.state.clone();
    let mut first = None;
    let mut troubles = Vec::new();
    for (position, (address, tried)) in tries.await.into_iter().enumerate() {
        match tried {
            Ok((_, genesis)) => {
                state.remember(&address.to_string());
                first.get_or_insert(genesis);
            }
            // Only of what was named now: what is remembered may be somebody else's by now.
            Err(error) if error.is::<Failure>() && position < dialled.named => return Err(error),
            Err(error) => troubles.push(format!("{error:#}")),
        }
    }
    let Some(genesis) = first else {
        let none = "name a peer of the network with --peer-vps".to_owned();
        let why = if troubles.is_empty() { none } else { troubles.join("; ") };
        bail!(Failure::new(Kind::NoDaemon, format!("no peer of the network answers: {why}")));
    };
    let id = genesis.network_id();
    let store = match known {
        Some(store) => store,
        None => {
            report(&format!("a light peer of network {id}"));
            Store::create(&data.light(), genesis)?
        }
    };
    state.network = Some(id.to_string());
    state.save(&data.network_state())?;
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_are_told() {
        let of = |heard: Heard| Failure::of(&heard.failure("song x"));
        assert_eq!(of(Heard::default()).kind, Kind::NotFound);
        let strange = of(Heard { strangers: 1, troubles: vec!["slow".into()] });
        assert_eq!(strange.kind, Kind::Verification);
        assert!(strange.message.contains("full peer"));
        let slow = of(Heard { strangers: 0, troubles: vec!["slow".into()] });
        assert_eq!((slow.kind, slow.message.as_str()), (Kind::Failed, "song x: slow"));
    }
}
