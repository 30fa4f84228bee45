//! Catching up: the bundles of a ledger, from several peers at once, in order.
//!
//! [`plan`] decides, [`CatchUp`] asks. A bundle is shown to the caller's check before it counts; the peer of one that
//! does not pass is banned and the bundle is asked of another. What a check proves is the caller's business: that
//! the blocks are those of a cosigned checkpoint, say. Starting again at [`CatchUp::position`] continues.

mod drive;
pub mod plan;

pub use drive::{CatchUp, CatchUpError, Check, Goal};
