//! Peers behind NATs of every kind: real processes in network namespaces that the tests make.
//!
//!     cargo test -p antiphon --test nat -- matrix --nocapture
//!
//! prints which kinds of homes reach one another, and how. Needs root, `ip` and `nft`; nothing leaves the namespaces.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

mod address;
#[path = "../common/mod.rs"]
mod common;
mod heard;
mod lab;
mod lossy;
mod matrix;
mod mesh;
mod netns;
mod node;
mod playback;
mod player;
mod private;
mod probe;
#[path = "../../../p2p/tests/common/relay.rs"]
mod relay;
mod table;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One laboratory at a time: each keeps the machine busy, and times are measured.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
