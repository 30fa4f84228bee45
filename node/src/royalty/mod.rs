//! Plays that are paid for: what this peer hears of others, what it witnesses for them, and the receipts of both.
//!
//! A listener's [`listen`] says its heartbeats to the peer that serves it most; a serving peer's [`witness`] signs what it
//! has seen. Each keeps the receipt in its [`outbox`], on disk, and hands it to the council until it is settled: so a
//! play is paid though one of the two never comes back. [`access`] is the right to hear, as it is shown to who serves.
//!
//! None of this ever stops the music. What goes wrong here is in the log, and the play does not count.

pub mod access;
pub mod listen;
pub mod outbox;
pub mod witness;
