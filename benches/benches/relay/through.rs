//! How fast a circuit is, beside a direct connection and libp2p's relay. Three ends in one process.

use std::{path::Path, sync::Arc};

use antiphon_benches::{Cost, Rounds, Stopwatch};
use antiphon_p2p::{Config, Download, DownloadProgress, Network, status};
use tokio::sync::watch;

use crate::{
    QUIC, TCP,
    light::{Light, through},
    relays::{Relay, behind, seed},
    served::OneFile,
};

#[derive(Debug, Clone, Copy)]
enum Route {
    Direct,
    Ours,
    Rival,
}

const ROUTES: [(Route, &str); 3] =
    [(Route::Direct, "direct"), (Route::Ours, "through ours"), (Route::Rival, "through libp2p's")];

/// Prints a table for each transport of the legs, of verified downloads and of a bare stream.
pub(crate) async fn measure(mebibytes: u64, rounds: u64, what: Option<&str>, legs: Option<&str>) {
    let folder = tempfile::tempdir().unwrap();
    let bytes = usize::try_from(mebibytes << 20).unwrap();
    let file = OneFile::make(folder.path(), bytes as u64);
    let mut tables = Vec::new();
    for (listen, transport) in [(QUIC, "quic"), (TCP, "tcp")] {
        for kind in ["download", "raw"] {
            if legs.is_none_or(|legs| legs == transport) && what.is_none_or(|what| what == kind) {
                tables.push((listen, transport, kind, Rounds::new(&ROUTES.map(|(_, name)| name), bytes)));
            }
        }
    }
    for round in 0..=usize::try_from(rounds).unwrap() {
        for (listen, transport, kind, measured) in &mut tables {
            for place in measured.order(round) {
                let (route, name) = ROUTES[place];
                let cost = match *kind {
                    "download" => download(route, listen, &file, folder.path()).await,
                    _ => raw(route, listen, &file).await,
                };
                let rate = mebibytes as f64 / cost.seconds;
                println!("round {round}: {kind} over {transport}, {name:<16} {rate:6.0} MiB/s");
                // The first round warms caches up.
                if round > 0 {
                    measured.add(place, cost);
                }
            }
        }
    }
    for (_, transport, kind, measured) in &tables {
        println!("\n{kind}, legs over {transport}\n\n{}", measured.table());
    }
}

async fn relay(route: Route, listen: &str, file: &Arc<OneFile>) -> Option<Relay> {
    match route {
        Route::Direct => None,
        Route::Ours => Some(Relay::ours(listen, None, file).await),
        Route::Rival => Some(Relay::rival(listen).await),
    }
}

/// A download as the program does it.
async fn download(route: Route, listen: &str, file: &Arc<OneFile>, folder: &Path) -> Cost {
    let relay = relay(route, listen, file).await;
    let source: Network = match &relay {
        Some(relay) => behind(relay, listen, file).await,
        None => file.start(Some(listen), 1).await,
    };
    // It listens nowhere, so that nobody looks for a better way than the circuit.
    let sink = file.start_with(Config::default(), seed()).await;
    let address = match &relay {
        Some(relay) => through(&relay.address, source.local_peer_id()),
        None => source.listen_addrs().await[0].clone(),
    };
    let peer = sink.connect(address).await.unwrap();
    let download = Download::new(file.content, file.size, folder.join("downloaded.part"));
    let (progress, named) = (watch::channel(DownloadProgress::default()).0, watch::channel(vec![peer]));
    let watch = Stopwatch::start();
    let downloaded = sink.download(download, named.1, progress).await.unwrap();
    let cost = watch.stop();
    assert_eq!(downloaded.fetched_bytes, file.size);
    downloaded.into_partial().discard().unwrap();
    let known = sink.peers().await.into_iter().find(|known| known.peer == peer).unwrap();
    assert_eq!(known.path == status::Path::Relayed, relay.is_some());
    for network in [sink, source] {
        network.shutdown().await;
    }
    if let Some(relay) = relay {
        relay.end().await;
    }
    cost
}

/// One stream between two peers that do nothing else.
async fn raw(route: Route, listen: &str, file: &Arc<OneFile>) -> Cost {
    let relay = relay(route, listen, file).await;
    let (source, address) = match &relay {
        Some(relay) => {
            let source = Light::start();
            source.reserve(&relay.address).await;
            let address = through(&relay.address, source.id);
            (source, address)
        }
        None => Light::listening(listen).await,
    };
    let (sink, bytes) = (Light::start(), usize::try_from(file.size).unwrap());
    source.give(bytes);
    sink.connect(address).await;
    let watch = Stopwatch::start();
    assert_eq!(sink.take(source.id).await, bytes);
    let cost = watch.stop();
    if let Some(relay) = relay {
        relay.end().await;
    }
    cost
}
