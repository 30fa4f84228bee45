//! Who puts registrations in order. A peer hands them to a [`Sequencer`] and hears what became of them; the sequencer
//! is the council ([`crate::council`]), of one member or of many.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use antiphon_proto::{
    canonical, limits,
    record::Invalid,
    wire::{Registration, registration},
};
use tokio::sync::oneshot;

use crate::refusal::Refusal;

/// What became of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is in the ledger, durably; also when it was there before, by the same registrant and with the same bytes.
    Accepted {
        /// Ledger index of its block.
        index: u64,
        /// Height of its batch.
        height: u64,
    },
    /// A receipt is on the disk of this member of the council, for the next settlement.
    Kept,
    /// It cannot be in the ledger.
    Refused(Refusal),
    /// Not decided: it may be asked again later.
    Unavailable(String),
}

/// An answer that is to come. It always comes: dropping the sequencer makes it [`Answer::Unavailable`].
#[derive(Debug)]
pub struct Submission(oneshot::Receiver<Answer>);

impl Submission {
    /// An answer that is known at once.
    #[must_use]
    pub fn ready(answer: Answer) -> Self {
        let (sender, receiver) = oneshot::channel();
        // The receiver is here: this cannot fail.
        let _ = sender.send(answer);
        Self(receiver)
    }

    /// A submission and the other end, for other sequencers.
    #[must_use]
    pub fn channel() -> (oneshot::Sender<Answer>, Self) {
        let (sender, receiver) = oneshot::channel();
        (sender, Self(receiver))
    }

    /// Blocks until the answer is there. Not for async tasks: those await it.
    #[must_use]
    pub fn wait(self) -> Answer {
        self.0.blocking_recv().unwrap_or_else(|_| stopped())
    }
}

impl Future for Submission {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        Pin::new(&mut self.0).poll(cx).map(|answer| answer.unwrap_or_else(|_| stopped()))
    }
}

fn stopped() -> Answer {
    Answer::Unavailable("this peer is stopping".to_owned())
}

/// Puts registrations in order.
pub trait Sequencer: Send + Sync {
    /// Hands a registration in. Never blocks; a full queue is an answer.
    fn submit(&self, registration: Registration) -> Submission;
}

/// Tells the time: milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What can never become a song block does not wait in memory either.
pub(crate) fn check_size(registration: &Registration) -> Result<(), Refusal> {
    let limit = match &registration.body {
        Some(registration::Body::Receipt(_)) => limits::RECEIPT_BYTES as u64,
        _ => limits::SONG_BLOCK_BYTES as u64,
    };
    let got = registration_len(registration) as u64;
    if got > limit { Err(Invalid::Limit { field: "registration", got, limit }.into()) } else { Ok(()) }
}

fn registration_len(registration: &Registration) -> usize {
    match &registration.body {
        Some(registration::Body::Song(song)) => canonical::encode(song).len(),
        Some(registration::Body::Variant(variant)) => canonical::encode(variant).len(),
        Some(registration::Body::Council(council)) => canonical::encode(council).len(),
        Some(registration::Body::Transfer(transfer)) => canonical::encode(transfer).len(),
        Some(registration::Body::Purchase(purchase)) => canonical::encode(purchase).len(),
        Some(registration::Body::Grant(grant)) => canonical::encode(grant).len(),
        Some(registration::Body::Claim(claim)) => canonical::encode(claim).len(),
        Some(registration::Body::Receipt(receipt)) => canonical::encode(receipt).len(),
        None => 0,
    }
}
