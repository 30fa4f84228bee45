//! Verifies what a stream brings and writes it to the partial file, on whatever thread has time.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use libp2p::PeerId;
use tokio::sync::watch;

use crate::{
    metrics::Metrics,
    swarm::Traffic,
    transfer::{
        decode::{BadBytes, Decoder, Verified},
        encode::PIECE_BYTES,
        partial::{PartialError, Sink},
    },
};

/// Buffers that wait to be used again; more are given back to the system.
const SPARE_BUFFERS: usize = 4;

/// Why nothing more is taken from a stream.
#[derive(Debug)]
pub(super) enum Refusal {
    Bad(BadBytes),
    Disk(PartialError),
}

/// The verifying end of one request.
pub(super) struct Intake {
    pub(super) decoder: Decoder,
    pub(super) sink: Sink,
    pub(super) tally: Tally,
    /// Bytes of a piece that a buffer ended in; at most one group.
    begun: Vec<u8>,
    /// Groups that came.
    pub(super) groups: u64,
}

/// Where the new bytes of one source are counted.
#[derive(Clone)]
pub(super) struct Tally {
    /// By this download.
    pub(super) brought: Arc<AtomicU64>,
    /// In all, in the file; whoever listens watches it.
    pub(super) verified: Arc<watch::Sender<u64>>,
    pub(super) peer: PeerId,
    pub(super) traffic: Traffic,
    pub(super) metrics: Metrics,
}

impl Tally {
    fn add(&self, bytes: u64) {
        self.brought.fetch_add(bytes, Ordering::Relaxed);
        self.traffic.of(&self.peer).fetched(bytes);
        self.metrics.fetched_bytes.inc_by(bytes);
        self.verified.send_modify(|verified| *verified = verified.saturating_add(bytes));
    }
}

impl Intake {
    pub(super) fn new(decoder: Decoder, sink: Sink, tally: Tally) -> Self {
        Self { decoder, sink, tally, begun: Vec::new(), groups: 0 }
    }

    /// Takes the next bytes of the stream. What was good before a refusal counts.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let taken = self.verify(bytes);
        let flushed = self.sink.flush().map_err(Refusal::Disk);
        let new = self.sink.note();
        if new > 0 {
            self.tally.add(new);
        }
        taken.and(flushed)
    }

    fn verify(&mut self, mut bytes: &[u8]) -> Result<(), Refusal> {
        while let Some(wanted) = self.decoder.wants() {
            if self.begun.is_empty() {
                let Some((piece, rest)) = bytes.split_at_checked(wanted) else {
                    self.begun.extend_from_slice(bytes);
                    return Ok(());
                };
                bytes = rest;
                self.check_and_store(piece)?;
            } else {
                let lacking = wanted.saturating_sub(self.begun.len()).min(bytes.len());
                let (more, rest) = bytes.split_at(lacking);
                self.begun.extend_from_slice(more);
                bytes = rest;
                if self.begun.len() < wanted {
                    return Ok(());
                }
                let piece = std::mem::take(&mut self.begun);
                self.check_and_store(&piece)?;
                self.begun = piece;
                self.begun.clear();
            }
        }
        Ok(())
    }

    fn check_and_store(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        let verified = self.decoder.feed(piece).map_err(Refusal::Bad)?;
        self.sink.store(&verified).map_err(Refusal::Disk)?;
        self.groups += u64::from(matches!(verified, Verified::Group { .. }));
        Ok(())
    }

    /// How many bytes more make a whole group. Fewer are not worth a thread's attention.
    pub(super) fn lacking(&self) -> usize {
        self.decoder.until_group().saturating_sub(self.begun.len())
    }

    /// Whether all that was asked for came.
    pub(super) fn is_complete(&self) -> bool {
        self.decoder.wants().is_none()
    }
}

/// Large buffers, used again by all requests of a download. Each request has at most two, so that a download has at most
/// 8 MiB of them, and seldom more than one.
#[derive(Debug, Clone, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    /// A buffer of [`PIECE_BYTES`].
    pub(super) fn take(&self) -> Vec<u8> {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| vec![0; PIECE_BYTES])
    }

    pub(super) fn give_back(&self, buffer: Vec<u8>) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_BUFFERS {
            spare.push(buffer);
        }
    }
}
