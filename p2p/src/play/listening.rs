//! The listener's side.

use antiphon_proto::{
    NetworkId, PublicKey, SecretKey,
    record::Invalid,
    wire::{PlayBeat, PlayStart, Receipt},
};

use super::account::{Account, in_form};

/// A play as its listener keeps it, with one witness.
#[derive(Debug)]
pub struct Listening {
    network: NetworkId,
    account: Account,
    receipt: Option<Receipt>,
}

impl Listening {
    /// Of a song of this duration; `start` is what the witness was sent.
    #[must_use]
    pub fn new(network: NetworkId, start: PlayStart, duration_ms: u32) -> Self {
        Self { network, account: Account::new(start, duration_ms), receipt: None }
    }

    /// The next heartbeat, not signed yet: the position in the song, the time since the witness took the start, and the
    /// bytes that came from whom. Its receipt is absent while nothing was heard yet, or nobody is known to have served.
    /// Time that goes back stands still.
    pub fn beat(&mut self, position_ms: u32, elapsed_ms: u32, served: &[(PublicKey, u64)]) -> PlayBeat {
        let mut beat = PlayBeat {
            sequence: self.account.beats().saturating_add(1),
            position_ms,
            elapsed_ms: elapsed_ms.max(self.account.elapsed_ms()),
            receipt: None,
            signature: Vec::new(),
        };
        self.account.take(&beat);
        beat.receipt = self.account.body(in_form(served));
        beat
    }

    /// Signs a heartbeat's receipt, if it has one.
    pub fn sign(&self, beat: &mut PlayBeat, listener: &SecretKey) {
        if let Some(body) = &beat.receipt {
            beat.signature = listener.sign(&body.to_sign(&self.network)).to_vec();
        }
    }

    /// Takes the witness's answer to a heartbeat: from now on its receipt is the play's.
    ///
    /// # Errors
    /// What the witness has not signed; the receipt before it stays.
    pub fn answered(&mut self, beat: PlayBeat, signature: &[u8]) -> Result<(), Invalid> {
        match beat.receipt {
            None if signature.is_empty() => Ok(()),
            None => Err(Invalid::Signature),
            Some(body) => {
                let receipt = Receipt::new(body, &beat.signature, signature);
                receipt.check_proofs(&self.network)?;
                self.receipt = Some(receipt);
                Ok(())
            }
        }
    }

    /// What both have signed last.
    #[must_use]
    pub fn receipt(&self) -> Option<&Receipt> {
        self.receipt.as_ref()
    }

    /// What both have signed last, at the end.
    #[must_use]
    pub fn into_receipt(self) -> Option<Receipt> {
        self.receipt
    }

    /// How it began.
    #[must_use]
    pub fn start(&self) -> &PlayStart {
        self.account.start()
    }

    /// When the last heartbeat was, answered or not, by the listener's clock.
    #[must_use]
    pub fn end_ms(&self) -> u64 {
        self.account.end_ms()
    }
}
