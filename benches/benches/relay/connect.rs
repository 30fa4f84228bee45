//! How long it takes from starting a peer to its first connection.

use std::time::Instant;

use antiphon_benches::spread;
use antiphon_p2p::Config;

use crate::{
    QUIC, TCP,
    light::through,
    relays::{Relay, at, behind, seed, until_reserved},
    served::OneFile,
};

/// Prints medians of so many starts.
pub(crate) async fn measure(times: u64) {
    let folder = tempfile::tempdir().unwrap();
    let file = OneFile::make(folder.path(), 1);
    println!("| from starting a peer, ms | over QUIC | over TCP |\n|---|---|---|");
    let mut columns = Vec::new();
    for listen in [QUIC, TCP] {
        let relay = Relay::ours(listen, None, &file).await;
        let source = behind(&relay, listen, &file).await;
        let (direct, circuit) = (&relay.address, through(&relay.address, source.local_peer_id()));
        let mut taken = [const { Vec::new() }; 3];
        for _ in 0..times {
            for (way, address) in [direct, &circuit].into_iter().enumerate() {
                let start = Instant::now();
                let network = file.start_with(Config::default(), seed()).await;
                network.connect(address.clone()).await.unwrap();
                taken[way].push(start.elapsed().as_secs_f64() * 1e3);
                network.shutdown().await;
            }
            let start = Instant::now();
            let network = file.start_with(at(&relay, listen), seed()).await;
            until_reserved(&network).await;
            taken[2].push(start.elapsed().as_secs_f64() * 1e3);
            network.shutdown().await;
        }
        columns.push(taken.map(|taken| spread(&taken, 1)));
        source.shutdown().await;
        relay.end().await;
    }
    let rows = ["a direct connection", "a connection over a relay", "a reservation at a relay"];
    for (row, name) in rows.into_iter().enumerate() {
        println!("| {name} | {} | {} |", columns[0][row], columns[1][row]);
    }
}
