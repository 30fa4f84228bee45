//! Who gets how much when all want more than there is.

use std::{
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::Stream;
use tokio::time;

use crate::{
    QUIC, TCP,
    light::{BULK, Light, PIECE, through},
    relays::mini_node,
    served::OneFile,
};

const CIRCUITS: usize = 8;
const LEGS: [(&str, &[&str]); 3] =
    [("QUIC", &[QUIC]), ("TCP", &[TCP]), ("QUIC and TCP, four each", &[QUIC, TCP])];
const RATES: [Option<NonZeroU64>; 3] = [NonZeroU64::new(2 << 20), NonZeroU64::new(16 << 20), None];
/// Until every stream has its pace.
const WARM_UP: Duration = Duration::from_secs(3);

/// Prints what eight circuits get in so many seconds.
pub(crate) async fn measure(seconds: u64) {
    let folder = tempfile::tempdir().unwrap();
    let file = OneFile::make(folder.path(), 1);
    println!(
        "| legs over | limit in all, MiB/s | MiB/s in all | of a circuit: least, most | most / least |\n\
         |---|---|---|---|---|"
    );
    for (name, listen) in LEGS {
        for rate in RATES {
            let rates = share(listen, rate, seconds, &file).await;
            let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
            let most = rates.iter().copied().fold(0.0, f64::max);
            let limit = rate.map_or_else(|| "none".to_owned(), |rate| (rate.get() >> 20).to_string());
            let total: f64 = rates.iter().sum();
            println!("| {name} | {limit} | {total:.2} | {least:.3}, {most:.3} | {:.2} |", most / least);
        }
    }
}

/// MiB/s of each circuit; they take the transports in turn.
async fn share(listen: &[&str], rate: Option<NonZeroU64>, seconds: u64, file: &Arc<OneFile>) -> Vec<f64> {
    let relay = mini_node(listen, rate, file).await;
    let addresses = relay.listen_addrs().await;
    let counts: Arc<[AtomicU64; CIRCUITS]> = Arc::default();
    let mut peers = Vec::new();
    for circuit in 0..CIRCUITS {
        let address = &addresses[circuit % addresses.len()];
        let (source, sink) = (Light::start(), Light::start());
        sink.reserve(address).await;
        count(&sink, &counts, circuit);
        source.connect(through(address, sink.id)).await;
        flood(source.open(sink.id).await);
        peers.push((source, sink));
    }
    time::sleep(WARM_UP).await;
    let read = || counts.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();
    let (before, start) = (read(), time::Instant::now());
    time::sleep(Duration::from_secs(seconds)).await;
    let (after, elapsed) = (read(), start.elapsed().as_secs_f64());
    drop(peers);
    relay.shutdown().await;
    let moved = after.iter().zip(&before).map(|(after, before)| (after - before) as f64);
    moved.map(|bytes| bytes / elapsed / f64::from(1 << 20)).collect()
}

fn count(sink: &Light, counts: &Arc<[AtomicU64; CIRCUITS]>, circuit: usize) {
    let mut incoming = sink.control.clone().accept(BULK).unwrap();
    let counts = counts.clone();
    tokio::spawn(async move {
        let (_, mut stream) = incoming.next().await.unwrap();
        let mut piece = vec![0; PIECE];
        while let Ok(read @ 1..) = stream.read(&mut piece).await {
            counts[circuit].fetch_add(read as u64, Ordering::Relaxed);
        }
    });
}

fn flood(mut stream: Stream) {
    tokio::spawn(async move {
        let piece = vec![7; PIECE];
        while stream.write_all(&piece).await.is_ok() {}
    });
}
