//! Which mini-nodes a peer keeps, which of them relay for it, what NAT it is behind, and by which ways others may be
//! reached. No sockets, no clock: time and randomness are passed in, and what is to be done comes out as effects.

mod book;
mod confirmed;
mod core;
mod nat;
mod node;
mod params;
mod paths;

#[cfg(test)]
mod core_tests;
#[cfg(test)]
mod nat_tests;
#[cfg(test)]
mod paths_tests;
#[cfg(test)]
mod props;
#[cfg(test)]
mod sim;

pub(crate) use self::{
    core::{Effect, Mesh},
    nat::{Carrier, Nat, Observation},
    node::{DialTarget, ReserveFailure},
    params::MeshParams,
    paths::{PathFailure, Paths},
};
