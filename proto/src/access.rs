//! A listener's right to hear, as it is shown to a serving peer: which song, by whom, from which device, until when.
//! Whether the listener has that right is in the ledger; the token says that it is the listener who asks.

use crate::{
    canonical,
    hash::{NetworkId, SongId},
    keys::{Domain, PublicKey, SecretKey, signed_message},
    limits,
    record::{Invalid, key, signed},
    tokens::song_id,
    wire::AccessToken,
};

impl AccessToken {
    /// A token for one song, shown by one device.
    #[must_use]
    pub fn new(
        network: &NetworkId,
        song: &SongId,
        listener: &SecretKey,
        peer: &[u8],
        expires_ms: u64,
    ) -> Self {
        let mut token = Self {
            song_id: song.0.to_vec(),
            listener: listener.public().0.to_vec(),
            peer: peer.to_vec(),
            expires_ms,
            signature: Vec::new(),
        };
        token.signature = listener.sign(&token.to_sign(network)).to_vec();
        token
    }

    /// Reads a token and checks everything but the ledger: that it is signed, for this device, and neither past nor
    /// signed for longer than is allowed. Gives the song and the listener.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(
        bytes: &[u8],
        network: &NetworkId,
        peer: &[u8],
        now_ms: u64,
    ) -> Result<(SongId, PublicKey), Invalid> {
        let token: Self = canonical::decode("access token", limits::ACCESS_TOKEN_BYTES, bytes)?;
        let (song, listener) = (song_id(&token.song_id)?, key("listener", &token.listener)?);
        if token.peer != peer {
            return Err(Invalid::Terms("the access token is another device's"));
        }
        if token.expires_ms <= now_ms {
            return Err(Invalid::Terms("the access token has expired"));
        }
        if token.expires_ms
            > now_ms.saturating_add(limits::ACCESS_TOKEN_MS).saturating_add(limits::CLOCK_AHEAD_MS)
        {
            return Err(Invalid::Terms("the access token is for too long a time"));
        }
        signed(listener, &token.to_sign(network), &token.signature)?;
        Ok((song, listener))
    }

    fn to_sign(&self, network: &NetworkId) -> Vec<u8> {
        let bare = Self { signature: Vec::new(), ..self.clone() };
        signed_message(Domain::Access, network, &canonical::encode(&bare))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_its_listeners_and_its_devices() {
        let (network, song, listener) = (NetworkId([1; 32]), SongId([2; 32]), SecretKey::from_seed(&[3; 32]));
        let token = AccessToken::new(&network, &song, &listener, b"peer", 10_000);
        let bytes = canonical::encode(&token);
        assert!(bytes.len() <= 200);
        let check = |bytes: &[u8], peer: &[u8], now| AccessToken::check(bytes, &network, peer, now);
        assert_eq!(check(&bytes, b"peer", 9_999), Ok((song, listener.public())));
        assert!(check(&bytes, b"peer", 10_000).is_err());
        assert!(check(&bytes, b"reep", 9_999).is_err());
        let long = AccessToken::new(&network, &song, &listener, b"peer", 10_000_000);
        assert!(check(&canonical::encode(&long), b"peer", 9_999).is_err());
        for byte in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[byte] ^= 1;
            assert!(check(&forged, b"peer", 9_999).is_err(), "byte {byte}");
        }
        let other = AccessToken::check(&bytes, &NetworkId([9; 32]), b"peer", 9_999);
        assert_eq!(other, Err(Invalid::Signature));
    }
}
