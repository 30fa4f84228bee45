//! Peers against peers, over real sockets on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod audio;
mod catchup;
mod circuit_abuse;
mod circuit_peer;
mod circuits;
mod connections;
mod contention;
mod council;
mod downloads;
mod evil;
mod harness;
mod interop;
mod interop_circuits;
mod js;
mod ledger;
mod moves;
mod plays;
mod presence;
mod raw;
mod register;
#[path = "../common/relay.rs"]
mod relay;
mod relays;
mod transfers;
mod uploads;
