//! How fast bytes go, and whose go next, wherever peers share a rate.
//!
//! [`rates`] decides (pure), with token buckets ([`bucket`]); [`Pacer`] is the thin shell around it: a lock, a clock, and
//! a task that wakes up whoever's turn comes. Without limits a permit costs one load of an atomic.

mod bucket;
mod pacer;
mod rates;

pub(crate) use bucket::Bucket;
pub(crate) use pacer::Pacer;
pub(crate) use rates::{LONGEST_PIECE, Limits, Sharer};

/// A piece that waits for its turn. Rises, is never used again.
type Id = u64;
