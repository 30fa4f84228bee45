//! The words that all of Antiphon's crates use: message types, canonical bytes, identities and limits.
//!
//! Nothing here does I/O, reads a clock or draws randomness.

pub mod container;

pub use container::Container;
