//! The right to hear a song, as it is shown to who serves it.

use std::sync::Arc;

use antiphon_proto::{NetworkId, SecretKey, SongId, canonical, limits, wire::AccessToken};
use libp2p::PeerId;

/// Signs rights to hear for this device.
#[derive(Clone)]
pub struct Access {
    network: NetworkId,
    wallet: Arc<SecretKey>,
    peer: PeerId,
}

impl Access {
    /// By this wallet, shown by this peer.
    #[must_use]
    pub fn new(network: NetworkId, wallet: Arc<SecretKey>, peer: PeerId) -> Self {
        Self { network, wallet, peer }
    }

    /// A token for one song, for as long as one may be signed.
    #[must_use]
    pub fn token(&self, song: &SongId, now_ms: u64) -> Vec<u8> {
        let expires_ms = now_ms.saturating_add(limits::ACCESS_TOKEN_MS);
        let token = AccessToken::new(&self.network, song, &self.wallet, &self.peer.to_bytes(), expires_ms);
        canonical::encode(&token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_from_this_device() {
        let (network, peer) = (NetworkId([1; 32]), PeerId::random());
        let wallet = Arc::new(SecretKey::from_seed(&[3; 32]));
        let token = Access::new(network, wallet.clone(), peer).token(&SongId([2; 32]), 5_000);
        let checked = AccessToken::check(&token, &network, &peer.to_bytes(), 6_000);
        assert_eq!(checked, Ok((SongId([2; 32]), wallet.public())));
        assert!(token.len() <= limits::ACCESS_TOKEN_BYTES);
        assert!(AccessToken::check(&token, &network, &PeerId::random().to_bytes(), 6_000).is_err());
    }
}
