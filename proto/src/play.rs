//! Rules on the form of plays and receipts, and what their signatures and chains are made of.

use crate::{
    canonical,
    coverage::Heard,
    hash::{ContentHash, NetworkId, SongId},
    keys::{Domain, PublicKey, SecretKey, signed_message},
    limits,
    record::{Invalid, key, signature_length, signed},
    tokens::song_id,
    wire::{PlayBeat, PlayStart, Receipt, ReceiptBody},
};

/// BLAKE3 of a receipt's canonical bytes.
pub type ReceiptId = [u8; 32];

/// Names a play: random, of the listener's making.
pub type Session = [u8; 16];

fn session(bytes: &[u8]) -> Result<Session, Invalid> {
    bytes.try_into().map_err(|_| Invalid::Receipt("the session is not 16 bytes"))
}

impl PlayStart {
    fn to_sign(&self, network: &NetworkId) -> Vec<u8> {
        let bare = Self { signature: Vec::new(), ..self.clone() };
        signed_message(Domain::PlayStart, network, &canonical::encode(&bare))
    }

    /// Signs in place.
    pub fn sign(&mut self, network: &NetworkId, listener: &SecretKey) {
        self.signature = listener.sign(&self.to_sign(network)).to_vec();
    }

    /// Checks form and signature; gives the song and its listener.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self, network: &NetworkId) -> Result<(SongId, PublicKey), Invalid> {
        session(&self.session)?;
        let song = song_id(&self.song_id)?;
        ContentHash::try_from(&self.content_hash[..])
            .map_err(|source| Invalid::Identity { field: "content_hash", source })?;
        key("witness", &self.witness)?;
        if self.start_ms == 0 {
            return Err(Invalid::Missing("start_ms"));
        }
        let listener = key("listener", &self.listener)?;
        signed(listener, &self.to_sign(network), &self.signature)?;
        Ok((song, listener))
    }

    /// The chain of heartbeats before the first: BLAKE3 of the canonical start.
    #[must_use]
    pub fn chain(&self) -> [u8; 32] {
        *blake3::hash(&canonical::encode(self)).as_bytes()
    }
}

/// The chain after a heartbeat: BLAKE3 of the chain before it, its sequence, position and elapsed time (u32 each,
/// big-endian).
#[must_use]
pub fn next_chain(chain: &[u8; 32], beat: &PlayBeat) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(chain);
    for number in [beat.sequence, beat.position_ms, beat.elapsed_ms] {
        hasher.update(&number.to_be_bytes());
    }
    *hasher.finalize().as_bytes()
}

impl ReceiptBody {
    /// What listener and witness sign.
    #[must_use]
    pub fn to_sign(&self, network: &NetworkId) -> Vec<u8> {
        signed_message(Domain::Receipt, network, &canonical::encode(self))
    }

    /// The song.
    ///
    /// # Errors
    /// [`Invalid::Identity`] when it is not 32 bytes.
    pub fn song(&self) -> Result<SongId, Invalid> {
        song_id(&self.song_id)
    }

    /// Whose play it is.
    ///
    /// # Errors
    /// [`Invalid::Identity`] when it is not 32 bytes.
    pub fn listener_key(&self) -> Result<PublicKey, Invalid> {
        key("listener", &self.listener)
    }

    /// Who has seen it.
    ///
    /// # Errors
    /// [`Invalid::Identity`] when it is not 32 bytes.
    pub fn witness_key(&self) -> Result<PublicKey, Invalid> {
        key("witness", &self.witness)
    }

    /// Which play it is of.
    ///
    /// # Errors
    /// [`Invalid::Receipt`] when it is not 16 bytes.
    pub fn session_id(&self) -> Result<Session, Invalid> {
        session(&self.session)
    }

    /// What was heard.
    ///
    /// # Errors
    /// [`Invalid::Receipt`] when it is not in its one form.
    pub fn heard(&self) -> Result<Heard, Invalid> {
        Heard::from_spans(&self.heard).map_err(Invalid::Receipt)
    }

    /// Checks every rule of form: times that are in order, no more heard than time has passed, each serving peer once.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check_form(&self) -> Result<(), Invalid> {
        let rule = |holds: bool, text| if holds { Ok(()) } else { Err(Invalid::Receipt(text)) };
        self.session_id()?;
        self.song()?;
        self.listener_key()?;
        self.witness_key()?;
        rule(self.start_ms > 0 && self.end_ms > self.start_ms, "it ends before it begins")?;
        let passed = self.end_ms.saturating_sub(self.start_ms);
        // Half a day of music and as much of pauses.
        rule(passed <= 2 * u64::from(limits::DURATION_MS_MAX), "it took longer than a day")?;
        let heard = self.heard()?.total_ms();
        rule(heard > 0, "nothing was heard")?;
        rule(
            heard <= passed.saturating_add(limits::HEARD_AHEAD_MS.into()),
            "more was heard than time has passed",
        )?;
        rule(self.beats >= 2, "it has fewer than two heartbeats")?;
        rule(self.chain.len() == 32, "the chain is not 32 bytes")?;
        rule(
            !self.served.is_empty() && self.served.len() <= limits::RECEIPT_SERVED,
            "nobody served it, or too many",
        )?;
        for (position, served) in self.served.iter().enumerate() {
            key("served.key", &served.key)?;
            rule(
                served.bytes > 0 && served.bytes <= limits::FILE_BYTES,
                "a serving peer of no bytes, or too many",
            )?;
            let twice = self.served.iter().take(position).any(|other| other.key == served.key);
            rule(!twice, "a serving peer is named twice")?;
        }
        rule(self.served.is_sorted_by(|a, b| a.bytes >= b.bytes), "who served most does not come first")
    }
}

impl Receipt {
    /// The body.
    ///
    /// # Errors
    /// [`Invalid::Missing`].
    pub fn body(&self) -> Result<&ReceiptBody, Invalid> {
        self.body.as_ref().ok_or(Invalid::Missing("receipt body"))
    }

    /// BLAKE3 of the canonical bytes.
    #[must_use]
    pub fn id(&self) -> ReceiptId {
        *blake3::hash(&canonical::encode(self)).as_bytes()
    }

    /// A receipt that both have signed.
    #[must_use]
    pub fn new(body: ReceiptBody, listener: &[u8], witness: &[u8]) -> Self {
        Self { body: Some(body), listener_signature: listener.to_vec(), witness_signature: witness.to_vec() }
    }

    /// Checks every rule of form and every limit.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check_form(&self) -> Result<(), Invalid> {
        self.body()?.check_form()?;
        signature_length(&self.listener_signature)?;
        signature_length(&self.witness_signature)
    }

    /// Checks both signatures.
    ///
    /// # Errors
    /// [`Invalid::Signature`].
    pub fn check_proofs(&self, network: &NetworkId) -> Result<(), Invalid> {
        let body = self.body()?;
        let message = body.to_sign(network);
        signed(body.listener_key()?, &message, &self.listener_signature)?;
        signed(body.witness_key()?, &message, &self.witness_signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Served, Span};

    const NETWORK: NetworkId = NetworkId([1; 32]);

    fn secret(n: u8) -> SecretKey {
        SecretKey::from_seed(&[n; 32])
    }

    fn body() -> ReceiptBody {
        ReceiptBody {
            session: vec![1; 16],
            song_id: vec![2; 32],
            listener: secret(3).public().0.to_vec(),
            witness: secret(4).public().0.to_vec(),
            start_ms: 1_700_000_000_000,
            end_ms: 1_700_000_100_000,
            heard: vec![Span { start: 0, end: 60_000 }, Span { start: 90_000, end: 100_000 }],
            beats: 20,
            chain: vec![5; 32],
            served: vec![Served { key: secret(4).public().0.to_vec(), bytes: 3_000_000 }],
        }
    }

    fn receipt(body: ReceiptBody) -> Receipt {
        let message = body.to_sign(&NETWORK);
        Receipt::new(body, &secret(3).sign(&message), &secret(4).sign(&message))
    }

    #[test]
    fn golden_receipt() {
        let receipt = receipt(body());
        assert_eq!(receipt.check_form(), Ok(()));
        assert_eq!(receipt.check_proofs(&NETWORK), Ok(()));
        assert!(receipt.check_proofs(&NetworkId([2; 32])).is_err());
        let bytes = canonical::encode(&receipt);
        assert!(bytes.len() <= 400, "{}", bytes.len());
        let id = data_encoding::HEXLOWER.encode(&receipt.id());
        assert_eq!(id, "b5cb1eb782aaafbfa53256e8e44a396ed07d95918c1ac21438f5b951e3c905d3");
    }

    #[test]
    fn both_must_sign() {
        let mut forged = receipt(body());
        forged.witness_signature = forged.listener_signature.clone();
        assert_eq!(forged.check_proofs(&NETWORK), Err(Invalid::Signature));
        let mut forged = receipt(body());
        forged.listener_signature = forged.witness_signature.clone();
        assert_eq!(forged.check_proofs(&NETWORK), Err(Invalid::Signature));
        let mut changed = receipt(body());
        if let Some(body) = &mut changed.body {
            body.end_ms += 1;
        }
        assert_eq!(changed.check_proofs(&NETWORK), Err(Invalid::Signature));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |change: &dyn Fn(&mut ReceiptBody)| {
            let mut body = body();
            change(&mut body);
            body.check_form().is_err()
        };
        assert!(!refused(&|_| {}));
        assert!(refused(&|body| body.end_ms = body.start_ms));
        // 70 s were heard; 68 s are enough for that, 67.999 are not.
        assert!(!refused(&|body| body.end_ms = body.start_ms + 68_000));
        assert!(refused(&|body| body.end_ms = body.start_ms + 67_999));
        assert!(refused(&|body| body.end_ms = body.start_ms + 86_400_001));
        assert!(refused(&|body| body.heard.clear()));
        assert!(refused(&|body| body.heard.swap(0, 1)));
        assert!(refused(&|body| body.beats = 1));
        assert!(refused(&|body| body.served.clear()));
        assert!(refused(&|body| body.served.extend_from_within(..)));
        assert!(refused(&|body| body.served[0].bytes = 0));
        assert!(refused(&|body| body.session.truncate(15)));
        assert!(refused(&|body| body.listener.truncate(31)));
    }

    #[test]
    fn chains_depend_on_every_beat() {
        let mut start = PlayStart {
            session: vec![1; 16],
            song_id: vec![2; 32],
            content_hash: vec![9; 32],
            listener: secret(3).public().0.to_vec(),
            witness: secret(4).public().0.to_vec(),
            start_ms: 5,
            signature: Vec::new(),
        };
        start.sign(&NETWORK, &secret(3));
        assert_eq!(start.check(&NETWORK), Ok((SongId([2; 32]), secret(3).public())));
        assert!(start.check(&NetworkId([2; 32])).is_err());
        let beat = |position_ms| PlayBeat { sequence: 1, position_ms, elapsed_ms: 7, ..PlayBeat::default() };
        let chain = start.chain();
        assert_eq!(next_chain(&chain, &beat(1)), next_chain(&chain, &beat(1)));
        assert_ne!(next_chain(&chain, &beat(1)), next_chain(&chain, &beat(2)));
    }
}
