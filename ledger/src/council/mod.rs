//! The council: members that agree on the order of the ledger.

mod chain;
mod engine;
mod journal;
mod motions;
mod pool;

pub use chain::{Chain, ChainFault, End, NotValid};
pub use journal::{FileJournal, Journal, JournalError};
pub use motions::MotionError;
pub use pool::Ticket;
