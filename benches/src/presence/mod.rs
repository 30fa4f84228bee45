//! Presence at scale: the real core of some peers, and a model of the others and of gossipsub, in virtual time.
//!
//! What is real: every decision of the observed peers ([`antiphon_p2p::presence::Presence`]), the 96 bytes, the pages and
//! messages by which libraries are learned. What is a model: connections ([`overlay`]), how one announcement travels
//! through a mesh and how many copies of it every peer sends and gets ([`spread`]), sizes on the wire ([`wire`]), and
//! peers that are not observed, which announce at the pace of a peer that knows everybody ([`world`]). Nothing is lost,
//! nothing queues. Seeded: the same seed gives the same figures; no clock is read.

pub mod memory;
pub mod overlay;
mod rng;
pub mod spread;
#[cfg(test)]
mod tests;
pub mod wire;
pub mod world;

pub use rng::Rng;
