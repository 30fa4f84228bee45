//! What a relay costs: how fast a circuit is beside a direct connection, who gets how much of it, what idle peers and
//! music cost a mini-node, and how soon there is a connection. Loopback.
//!
//!     cargo bench -p antiphon-benches --bench relay -- through [MiB] [rounds] [download|raw] [quic|tcp]
//!     cargo bench -p antiphon-benches --bench relay -- fair [seconds]
//!     cargo bench -p antiphon-benches --bench relay -- host [peers] [seconds]
//!     cargo bench -p antiphon-benches --bench relay -- connect [times]
//!
//! The rival is libp2p's own relay server without limits. Rounds are interleaved so that a noisy machine disturbs all
//! kinds alike; trust the ratios more than the rates.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement, not a program"
)]

mod connect;
mod fair;
mod host;
mod light;
mod relays;
#[path = "../transfer/served.rs"]
mod served;
mod through;

const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const TCP: &str = "/ip4/127.0.0.1/tcp/0";

#[tokio::main]
async fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let number =
        |place: usize, default: u64| arguments.get(place).map_or(default, |text| text.parse().unwrap());
    let word = |place: usize| arguments.get(place).cloned();
    match arguments.first().map(String::as_str) {
        None | Some("through") => {
            through::measure(number(1, 256), number(2, 7), word(3).as_deref(), word(4).as_deref()).await;
        }
        Some("fair") => fair::measure(number(1, 20)).await,
        Some("host") => host::measure(number(1, 1_000), number(2, 60)).await,
        // This program once more, as the mini-node.
        Some(host::CHILD) => host::serve().await,
        Some("connect") => connect::measure(number(1, 20)).await,
        Some(other) => panic!("{other}?"),
    }
}
