//! The libp2p swarm: how it is put together, and the one task that owns it.

mod actor;
mod behaviour;
mod candidates;
mod command;
mod gossip;
mod meeting;
mod per_address;
mod table;
mod transport;
mod ways;

pub(crate) use actor::{Actor, Parts};
pub(crate) use behaviour::Behaviour;
pub(crate) use command::Command;
pub(crate) use table::Traffic;
pub use table::{Direction, PeerInfo};
pub(crate) use transport::build as build_transport;
pub(crate) use ways::Ways;
