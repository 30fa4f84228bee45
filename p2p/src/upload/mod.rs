//! What this peer gives: who may send when, and how fast.
//!
//! Three pure parts decide: [`places`] (who sends at all), [`rates`] (whose bytes go next) and [`quota`] (whether any go
//! today). [`Uploads`] is the thin shell around them: a lock, clocks, and a task that wakes up whoever's turn comes. An
//! [`Upload`] is one place; it asks for a permit for each piece that it writes. Without limits on the rate, a permit
//! costs two loads of atomics.
//!
//! Under a limit, pieces are short (16 to 64 KiB), so that play never waits for a long piece of bulk. What was written
//! is in the hands of the transport: between streams of one connection it shares evenly, whatever their mode.

mod bucket;
mod places;
mod quota;
mod rates;
mod shell;

pub(crate) use shell::{Upload, Uploads, label};

/// An upload or a request that waits to become one. Rises, is never used again.
type Id = u64;
