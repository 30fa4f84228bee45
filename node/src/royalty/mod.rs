//! Plays that are paid for: what this peer hears of others, what it witnesses for them, and the receipts of both.
//!
//! A listener's [`listen`] says its heartbeats to the peer that serves it most; a serving peer's [`witness`] signs what it
//! has seen. Each keeps the receipt in its [`outbox`], on disk, and hands it to the council until it is settled: so a
//! play is paid though one of the two never comes back. [`access`] is the right to hear, as it is shown to who serves.
//!
//! None of this ever stops the music. What goes wrong here is in the log, and the play does not count.

pub mod access;
pub mod listen;
pub mod outbox;
pub mod witness;

use std::sync::Arc;

use antiphon_ledger::{Ledger, ReadError};
use antiphon_p2p::{Hearing, Network, PlayRefused};
use antiphon_proto::{
    NetworkId, PublicKey, SecretKey, SongId,
    wire::{PlayRefusalCode, Song},
};

use self::{access::Access, listen::Connected, outbox::Outbox, witness::Hearings};
use crate::{
    failure::{Failure, Kind},
    system::clock,
    tokens,
};

/// All that a peer needs to be paid and to pay.
#[derive(Clone)]
pub struct Royalties {
    ledger: Ledger,
    network: NetworkId,
    wallet: Arc<SecretKey>,
    /// The peers that may witness.
    pub(crate) peers: Connected,
    /// Receipts on their way.
    pub outbox: Arc<Outbox>,
    /// The right to hear.
    pub(crate) access: Access,
}

impl Royalties {
    pub(crate) fn new(
        ledger: &Ledger,
        network: &Network,
        wallet: Arc<SecretKey>,
        outbox: Arc<Outbox>,
    ) -> Self {
        let id = ledger.network();
        Self {
            ledger: ledger.clone(),
            network: id,
            peers: Connected::new(network.clone(), id),
            access: Access::new(id, wallet.clone(), network.local_peer_id()),
            wallet,
            outbox,
        }
    }

    /// What the witness of this peer needs.
    pub(crate) fn witness(&self) -> witness::Parts {
        witness::Parts {
            network: self.network,
            wallet: self.wallet.clone(),
            outbox: self.outbox.clone(),
            hearings: Arc::new(Word(self.ledger.clone())),
        }
    }

    /// A song that is about to be heard here, or why it cannot be paid for.
    ///
    /// # Errors
    /// What the account holds and what is needed; the song's terms.
    pub(crate) fn song(
        &self,
        index: u64,
        song: &Song,
        choice: listen::Encoding,
    ) -> anyhow::Result<listen::Song> {
        match hearing(&self.ledger, index, song, &self.wallet.public())? {
            Ok(hearing) => Ok(listen::Song {
                network: self.network,
                index: choice.index,
                id: song.id(),
                duration_ms: hearing.duration_ms,
                content: choice.content,
                heartbeat_ms: hearing.heartbeat_ms,
                wallet: self.wallet.clone(),
            }),
            Err(refused) => {
                let advice = match refused.code {
                    PlayRefusalCode::CannotPay => {
                        "; songs that are still being discovered cost nothing and earn tokens, and `--uncounted` plays \
                         without paying anybody"
                    }
                    _ => "",
                };
                Err(Failure::new(Kind::Refused, format!("{:?}: {}{advice}", song.title, refused.detail))
                    .into())
            }
        }
    }
}

/// Whether a listener may hear a song and can pay for it.
fn hearing(
    ledger: &Ledger,
    index: u64,
    song: &Song,
    listener: &PublicKey,
) -> Result<Result<Hearing, PlayRefused>, ReadError> {
    if let Err(why) = ledger.may_hear(index, song, listener, clock::now_ms())? {
        return Ok(Err(PlayRefused::new(PlayRefusalCode::Forbidden, why)));
    }
    let state = ledger.song_state(index)?;
    let (burn, there) = (ledger.burn_for(index)?, ledger.account(listener)?.units);
    if burn > there {
        let why = format!(
            "it has had {} plays, so that hearing it burns {} tokens, and the account holds {}",
            state.plays,
            tokens::format(burn),
            tokens::format(there)
        );
        return Ok(Err(PlayRefused::new(PlayRefusalCode::CannotPay, why)));
    }
    let heartbeat_ms = ledger.economy().heartbeat_ms;
    Ok(Ok(Hearing { duration_ms: song.duration_ms, heartbeat_ms }))
}

/// The ledger's word on plays.
struct Word(Ledger);

impl Hearings for Word {
    fn hearing(&self, song: &SongId, listener: &PublicKey) -> Result<Hearing, PlayRefused> {
        let busy = |error: ReadError| {
            tracing::warn!(%error, "a play cannot be witnessed");
            PlayRefused::new(PlayRefusalCode::Busy, "the ledger cannot be read")
        };
        let unknown =
            || PlayRefused::new(PlayRefusalCode::UnknownSong, "the song is not in this peer's ledger");
        let index = self.0.by_song_id(song).map_err(busy)?.ok_or_else(unknown)?;
        let found = self.0.song(index).map_err(busy)?.ok_or_else(unknown)?;
        hearing(&self.0, index, &found, listener).map_err(busy)?
    }
}
