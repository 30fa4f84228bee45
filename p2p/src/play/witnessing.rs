//! The witness's side.

use std::time::Instant;

use antiphon_proto::{
    NetworkId, PublicKey, limits,
    wire::{PlayBeat, PlayRefusalCode, PlayStart, ReceiptBody},
};

use super::{BEATS_AT_ONCE, CLOCK_APART_MS, Hearing, LONGEST_MS, PlayRefused, account::Account};

/// A play as its witness sees it. A refusal ends it.
#[derive(Debug)]
pub struct Witnessing {
    network: NetworkId,
    listener: PublicKey,
    account: Account,
    heartbeat_ms: u32,
    began: Instant,
}

impl Witnessing {
    /// Takes a start, with everything that it says checked but the ledger. `wall_ms` is the witness's clock in
    /// milliseconds since 1970.
    ///
    /// # Errors
    /// [`PlayRefused`]: the form, the signature, the listener's clock, or a listener that is its own witness.
    pub fn begin(
        network: NetworkId,
        start: PlayStart,
        hearing: Hearing,
        wall_ms: u64,
        now: Instant,
    ) -> Result<Self, PlayRefused> {
        let listener = check_start(&network, &start)?;
        let apart = start.start_ms.abs_diff(wall_ms);
        if apart > CLOCK_APART_MS {
            let detail = format!("the clocks of listener and witness are {} s apart", apart / 1_000);
            return Err(PlayRefused::new(PlayRefusalCode::Time, detail));
        }
        let account = Account::new(start, hearing.duration_ms);
        Ok(Self { network, listener, account, heartbeat_ms: hearing.heartbeat_ms.max(1), began: now })
    }

    /// Takes a heartbeat, and gives the receipt that the listener has signed and the witness may sign; none when it has
    /// none.
    ///
    /// # Errors
    /// [`PlayRefused`]: what it says is not what the witness has seen.
    pub fn beat(&mut self, beat: &PlayBeat, now: Instant) -> Result<Option<ReceiptBody>, PlayRefused> {
        self.check_time(beat, now)?;
        self.account.take(beat);
        let Some(theirs) = &beat.receipt else { return Ok(None) };
        let Some(ours) = self.account.body(theirs.served.clone()).filter(|ours| ours == theirs) else {
            let detail = "the receipt is not what its heartbeats make";
            return Err(PlayRefused::new(PlayRefusalCode::Disagrees, detail));
        };
        if !self.listener.verifies(&ours.to_sign(&self.network), &beat.signature) {
            let detail = "the receipt is not signed by its listener";
            return Err(PlayRefused::new(PlayRefusalCode::BadSignature, detail));
        }
        Ok(Some(ours))
    }

    /// Milliseconds heard so far.
    #[must_use]
    pub fn heard_ms(&self) -> u64 {
        self.account.heard_ms()
    }

    /// Whether a heartbeat may be the next one now.
    fn check_time(&self, beat: &PlayBeat, now: Instant) -> Result<(), PlayRefused> {
        let refuse = |code, detail: &str| Err(PlayRefused::new(code, detail));
        if Some(beat.sequence) != self.account.beats().checked_add(1) {
            return refuse(PlayRefusalCode::Malformed, "a heartbeat out of turn");
        }
        let passed = now.saturating_duration_since(self.began).as_millis();
        if passed > LONGEST_MS.into() || beat.elapsed_ms > LONGEST_MS {
            return refuse(PlayRefusalCode::Time, "the play takes longer than a day");
        }
        if beat.elapsed_ms < self.account.elapsed_ms() {
            return refuse(PlayRefusalCode::Time, "the listener's time goes back");
        }
        if u128::from(beat.elapsed_ms) > passed + u128::from(limits::HEARD_AHEAD_MS) {
            return refuse(PlayRefusalCode::Time, "the listener's time runs ahead");
        }
        let most = passed * 4 / u128::from(self.heartbeat_ms) + u128::from(BEATS_AT_ONCE);
        if u128::from(beat.sequence) > most {
            return refuse(PlayRefusalCode::Time, "heartbeats come too often");
        }
        Ok(())
    }
}

/// Checks what a start says by itself, and gives its listener.
pub(crate) fn check_start(network: &NetworkId, start: &PlayStart) -> Result<PublicKey, PlayRefused> {
    use antiphon_proto::record::Invalid;
    let (_, listener) = start.check(network).map_err(|error| {
        let code = match error {
            Invalid::Signature => PlayRefusalCode::BadSignature,
            _ => PlayRefusalCode::Malformed,
        };
        PlayRefused::new(code, error.to_string())
    })?;
    // Its receipts would take one key only.
    if start.witness == listener.0 {
        let detail = "nobody witnesses a play of its own";
        return Err(PlayRefused::new(PlayRefusalCode::Forbidden, detail));
    }
    Ok(listener)
}
