//! Which mini-nodes a peer keeps, which of them relay for it, and what NAT it is behind. No sockets, no clock: time and
//! randomness are passed in, and what is to be done comes out as effects.

mod book;
mod core;
mod node;
mod params;

#[cfg(test)]
mod core_tests;
#[cfg(test)]
mod sim;

pub(crate) use self::{
    core::{Effect, Mesh},
    node::{DialTarget, ReserveFailure},
    params::MeshParams,
};
