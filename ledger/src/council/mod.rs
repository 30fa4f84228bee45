//! The council: members that agree on the order of the ledger.
//!
//! [`Member`] is one member, sans-IO; the simulator and the host drive the same one. It runs the consensus algorithm
//! (`engine`, the only place that knows which), height after height, on digests of batch headers; it spreads the
//! batches themselves, asks for what it lacks, and keeps what it signs in a write-ahead log ([`Journal`]) that is
//! durable before anybody hears of it.

mod chain;
mod cosigns;
mod court;
mod engine;
mod host;
mod journal;
mod member;
mod motions;
mod pool;
mod receipts;

pub use chain::{Chain, ChainFault, End, Kept, NotValid};
pub use court::{Court, OpenError};
pub use host::{Council, MESSAGE_BYTES, NoTransport, Options, StartError, Transport};
pub use journal::{FileJournal, Journal, JournalError};
pub use member::{Halt, Member, MemberReport, Now, Output, Pace, Report, Setup, Voting};
pub use motions::MotionError;
pub use pool::Ticket;

#[cfg(test)]
mod sim;
