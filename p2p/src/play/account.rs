//! What both sides compute of a play, by the same rules from the same words.

use antiphon_proto::{
    PublicKey,
    coverage::{Beat, Coverage},
    limits,
    play::next_chain,
    wire::{PlayBeat, PlayStart, ReceiptBody, Served},
};

/// A play up to its last heartbeat.
#[derive(Debug, Clone)]
pub(super) struct Account {
    start: PlayStart,
    chain: [u8; 32],
    coverage: Coverage,
    beats: u32,
    elapsed_ms: u32,
}

impl Account {
    /// Of a play that begins.
    pub(super) fn new(start: PlayStart, duration_ms: u32) -> Self {
        let (chain, coverage) = (start.chain(), Coverage::new(duration_ms));
        Self { start, chain, coverage, beats: 0, elapsed_ms: 0 }
    }

    /// How it began.
    pub(super) fn start(&self) -> &PlayStart {
        &self.start
    }

    /// Heartbeats so far.
    pub(super) fn beats(&self) -> u32 {
        self.beats
    }

    /// Time from the start to the last heartbeat.
    pub(super) fn elapsed_ms(&self) -> u32 {
        self.elapsed_ms
    }

    /// Milliseconds heard so far.
    pub(super) fn heard_ms(&self) -> u64 {
        self.coverage.heard().total_ms()
    }

    /// When the last heartbeat came, by the listener's clock.
    pub(super) fn end_ms(&self) -> u64 {
        self.start.start_ms.saturating_add(self.elapsed_ms.into())
    }

    /// Takes the next heartbeat in.
    pub(super) fn take(&mut self, beat: &PlayBeat) {
        self.chain = next_chain(&self.chain, beat);
        self.coverage.beat(Beat { position_ms: beat.position_ms, elapsed_ms: beat.elapsed_ms });
        self.beats = beat.sequence;
        self.elapsed_ms = beat.elapsed_ms;
    }

    /// The receipt up to the last heartbeat; none while there can be none: nothing was heard yet, or nobody has served
    /// it.
    pub(super) fn body(&self, served: Vec<Served>) -> Option<ReceiptBody> {
        let body = ReceiptBody {
            session: self.start.session.clone(),
            song_id: self.start.song_id.clone(),
            listener: self.start.listener.clone(),
            witness: self.start.witness.clone(),
            start_ms: self.start.start_ms,
            end_ms: self.end_ms(),
            heard: self.coverage.heard().spans().to_vec(),
            beats: self.beats,
            chain: self.chain.to_vec(),
            served,
        };
        body.check_form().is_ok().then_some(body)
    }
}

/// Who has served, in the form that receipts have it: each key once, who served most first, the first eight.
pub(super) fn in_form(served: &[(PublicKey, u64)]) -> Vec<Served> {
    let mut sums: Vec<(PublicKey, u64)> = Vec::new();
    for (key, bytes) in served.iter().filter(|(_, bytes)| *bytes > 0) {
        match sums.iter_mut().find(|(known, _)| known == key) {
            Some((_, sum)) => *sum = sum.saturating_add(*bytes),
            None => sums.push((*key, *bytes)),
        }
    }
    sums.sort_by(|(a, most), (b, least)| least.cmp(most).then(a.0.cmp(&b.0)));
    sums.truncate(limits::RECEIPT_SERVED);
    let line =
        |(key, bytes): (PublicKey, u64)| Served { key: key.0.to_vec(), bytes: bytes.min(limits::FILE_BYTES) };
    sums.into_iter().map(line).collect()
}
