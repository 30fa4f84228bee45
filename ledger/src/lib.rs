//! What is agreed: the blocks of the network's ledger, in one order, on disk and by rule.
//!
//! Three layers. [`state`] is the state machine: pure, deterministic, no clock and no files. The store below keeps
//! what it accepted (append-only segments and an index that can always be built from them). [`Ledger`] ties both:
//! it proposes batches, appends sealed ones, and answers questions. Who decides the order is [`sequencer`]'s
//! business and what proves the decision is [`seal`]'s: nothing else here depends on either. What outsiders verify is
//! made from the blocks: tiles and proofs by [`log`], static files by [`dump`].
//!
//! Everything blocks the calling thread, as disks do. Nothing here opens a socket.

mod append;
#[doc(hidden)]
pub mod bench;
mod codec;
pub mod council;
pub mod dump;
pub mod error;
mod heard;
mod ledger;
pub mod log;
mod progress;
mod proofs;
pub mod refusal;
pub mod roster;
pub mod rule;
pub mod seal;
pub mod sequencer;
pub mod state;
mod store;
pub mod tokens;
pub mod tree;
mod verify;

pub use append::{Proposal, SealedBatch, Verdict};
pub use error::{AppendError, Damage, Fault, OpenError, ReadError, VerifyError};
pub use ledger::{IdPrefix, IdPrefixError, Info, Ledger, OnProgress, Options, VARIANTS_PAGE};
pub use log::CheckpointError;
pub use progress::{Progress, Stage};
pub use refusal::Refusal;
pub use roster::Roster;
pub use rule::{Closest, NearDuplicates, NoRule, RuleError, Similar};
pub use state::{ContentEntry, Receipt};
#[doc(hidden)]
pub use store::Tuning;
pub use verify::VerifyReport;

#[cfg(test)]
#[path = "../tests/common/songs.rs"]
mod testing;
