//! A relay between peers that cannot reach one another: the serving side of circuit relay v2 ([`wire`]).
//!
//! `table` decides who may reserve and connect, and `usage` what may be carried (both pure); `book` is the lock
//! around them. `serve` speaks with the two peers, `carry` moves the bytes at the pace of `pacing`. The other
//! side, of peers that are reached through a relay, is libp2p's own.
//!
//! **Goals.** An honest pair is served while others flood: every count is bounded in all, by peer and by address, every
//! message has a deadline, and pairs that send share the rate evenly. Memory is bounded by the circuits, and idle ones
//! cost little. What the operator pays for, bytes in a month, has a cap.
//!
//! **Non-goals.** Vouchers, which nobody asks for. Limits on a single circuit that the peers are told of: what is left out
//! there means "none", so that peers use circuits for everything.

mod book;
mod carry;
mod meter;
mod month;
mod refusal;
mod serve;
mod table;
mod usage;
pub mod wire;

pub(crate) use book::Book;
pub use book::RelayUsage;
pub(crate) use serve::Relay;
