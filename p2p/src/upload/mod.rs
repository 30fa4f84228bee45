//! What this peer gives: who may send when, and how fast.
//!
//! Three pure parts decide: [`places`] (who sends at all), [`quota`] (whether any bytes go today) and the rates of
//! [`crate::pacing`] (whose bytes go next). [`Uploads`] is the thin shell around them: a lock and clocks. An [`Upload`]
//! is one place; it asks for a permit for each piece that it writes. Without limits on the rate, a permit costs a few
//! loads of atomics.
//!
//! Under a limit, pieces are short (16 to 64 KiB), so that play never waits for a long piece of bulk. What was written
//! is in the hands of the transport: between streams of one connection it shares evenly, whatever their mode.

mod places;
mod quota;
mod shell;

pub(crate) use shell::{Upload, Uploads, label};

/// An upload or a request that waits to become one. Rises, is never used again.
type Id = u64;
