//! Who is online and what they vouch for.
//!
//! Peers announce themselves in 96 bytes: what changed, how many songs they vouch for, a digest of all of them. Whoever
//! knows the digest knows the library; whoever does not asks for it, once as a whole, later for the differences
//! ([`reconcile`]). Everything here is in memory: nothing that is said about who is online is ever written to disk.
//!
//! [`core`](Presence) decides and does no I/O; [`task`] moves what it says and hears.

mod core;
mod counts;
pub mod digest;
mod gone;
mod neighbour;
mod online;
mod own;
pub mod pages;
mod peer;
pub mod reconcile;
pub(crate) mod task;
#[cfg(test)]
mod tests;

pub use self::core::{Dropped, Effect, Learned, LibraryError, Params, Presence, Verdict};
pub use digest::LibrarySum;
pub use online::Online;
pub use own::OwnLibrary;
pub use task::{Join, Vouch};
