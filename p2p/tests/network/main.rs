//! Peers against peers, over real sockets on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod audio;
mod catchup;
mod connections;
mod council;
mod evil;
mod harness;
mod interop;
mod js;
mod ledger;
mod presence;
mod raw;
mod register;
mod transfers;
