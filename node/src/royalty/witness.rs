//! What this peer witnesses of others' plays.

use std::sync::{Arc, OnceLock};

use antiphon_p2p::{Hearing, PlayRefused, Witness};
use antiphon_proto::{
    NetworkId, PublicKey, SecretKey, SongId,
    wire::{PlayRefusalCode, PlayStart, Receipt},
};
use libp2p::PeerId;

use super::outbox::Outbox;

/// What the ledger says of a play before it begins. May block on the disk.
pub trait Hearings: Send + Sync + 'static {
    /// The song's duration and the network's heartbeat, when this listener may hear the song and can pay for it.
    ///
    /// # Errors
    /// [`PlayRefused`]: a song that is not in the ledger, its terms, or an account that holds too little.
    fn hearing(&self, song: &SongId, listener: &PublicKey) -> Result<Hearing, PlayRefused>;
}

/// All that a witness needs.
pub struct Parts {
    /// The network.
    pub network: NetworkId,
    /// The wallet that is paid.
    pub wallet: Arc<SecretKey>,
    /// Where receipts go.
    pub outbox: Arc<Outbox>,
    /// The ledger's word.
    pub hearings: Arc<dyn Hearings>,
}

/// The witness of a peer. Until it is filled in it is busy: the network is up before the ledger and the wallet are.
#[derive(Default)]
pub struct Stand {
    parts: OnceLock<Parts>,
}

impl Stand {
    /// Begins to witness. Later calls change nothing.
    pub fn open(&self, parts: Parts) {
        let _ = self.parts.set(parts);
    }
}

impl Witness for Stand {
    fn wallet(&self) -> Option<PublicKey> {
        self.parts.get().map(|parts| parts.wallet.public())
    }

    fn network(&self) -> Option<NetworkId> {
        self.parts.get().map(|parts| parts.network)
    }

    fn begin(&self, peer: PeerId, start: &PlayStart) -> Result<Hearing, PlayRefused> {
        let busy = || PlayRefused::new(PlayRefusalCode::Busy, "this peer has no ledger yet");
        let parts = self.parts.get().ok_or_else(busy)?;
        let (song, listener) = start
            .check(&parts.network)
            .map_err(|error| PlayRefused::new(PlayRefusalCode::Malformed, error.to_string()))?;
        let hearing = parts.hearings.hearing(&song, &listener)?;
        tracing::debug!(%peer, %song, "a play begins");
        Ok(hearing)
    }

    fn sign(&self, message: &[u8]) -> Option<[u8; 64]> {
        self.parts.get().map(|parts| parts.wallet.sign(message))
    }

    fn done(&self, receipt: Receipt) {
        let Some(parts) = self.parts.get() else { return };
        if let Err(error) = parts.outbox.put(&receipt) {
            tracing::warn!(%error, "a receipt of a play that was witnessed here is lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use antiphon_p2p::play::{Listening, Witnessing};

    use super::{super::outbox::tests::NETWORK, *};

    const HEARING: Hearing = Hearing { duration_ms: 60_000, heartbeat_ms: 5_000 };

    /// Knows one song.
    struct One;

    impl Hearings for One {
        fn hearing(&self, song: &SongId, _: &PublicKey) -> Result<Hearing, PlayRefused> {
            let unknown = || PlayRefused::new(PlayRefusalCode::UnknownSong, "no such song");
            (*song == SongId([2; 32])).then_some(HEARING).ok_or_else(unknown)
        }
    }

    #[test]
    fn busy_until_it_is_filled_in_then_what_it_signs_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (listener, wallet) = (SecretKey::from_seed(&[3; 32]), Arc::new(SecretKey::from_seed(&[4; 32])));
        let start = |song: u8| {
            let mut start = PlayStart {
                session: vec![1; 16],
                song_id: vec![song; 32],
                content_hash: vec![9; 32],
                listener: listener.public().0.to_vec(),
                witness: wallet.public().0.to_vec(),
                start_ms: 1_000_000,
                signature: Vec::new(),
            };
            start.sign(&NETWORK, &listener);
            start
        };
        let stand = Stand::default();
        let code = |answer: Result<Hearing, PlayRefused>| answer.unwrap_err().code;
        assert_eq!(code(stand.begin(PeerId::random(), &start(2))), PlayRefusalCode::Busy);
        assert_eq!((stand.wallet(), stand.network(), stand.sign(b"x")), (None, None, None));
        let outbox = Arc::new(Outbox::open(folder.path(), NETWORK).unwrap());
        let (outbox_too, wallet_too) = (outbox.clone(), wallet.clone());
        stand.open(Parts {
            network: NETWORK,
            wallet: wallet_too,
            outbox: outbox_too,
            hearings: Arc::new(One),
        });
        assert_eq!(stand.wallet(), Some(wallet.public()));
        assert_eq!(code(stand.begin(PeerId::random(), &start(7))), PlayRefusalCode::UnknownSong);
        let hearing = stand.begin(PeerId::random(), &start(2)).unwrap();

        let began = std::time::Instant::now();
        let mut witnessing = Witnessing::begin(NETWORK, start(2), hearing, 1_000_000, began).unwrap();
        let mut listening = Listening::new(NETWORK, start(2), HEARING.duration_ms);
        for second in [0, 5] {
            let mut beat = listening.beat(second * 1_000, second * 1_000, &[(wallet.public(), 5)]);
            listening.sign(&mut beat, &listener);
            let at = began + std::time::Duration::from_secs(second.into());
            let body = witnessing.beat(&beat, at).unwrap();
            let signature = body.and_then(|body| stand.sign(&body.to_sign(&NETWORK)));
            listening.answered(beat, signature.as_ref().map_or(&[], |bytes| &bytes[..])).unwrap();
        }
        stand.done(listening.into_receipt().unwrap());
        assert_eq!(outbox.len(), 1);
    }
}
