//! What a mini-node's machine needs: memory and processor time with many idle peers, and with music that it relays.
//!
//! The mini-node is a process of its own, this program once more, so that only it is measured.

use std::{
    io::Read as _,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use antiphon_benches::{processor_seconds_of, resident_bytes, spread};
use antiphon_p2p::Multiaddr;
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::Stream;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time,
};

use crate::{
    QUIC, TCP,
    light::{BULK, Light, through},
    relays::mini_node,
    served::OneFile,
};

/// The argument by which this program is a mini-node.
pub(crate) const CHILD: &str = "mini-node";
const TRANSPORTS: [&str; 2] = ["QUIC", "TCP"];
/// Bytes that a circuit carries as fast as it goes, and how often.
const CARRIED: usize = 512 << 20;
const CARRIED_TIMES: usize = 5;
/// Peers that connect at once.
const AT_ONCE: usize = 32;
/// Relayed streams.
const STREAMS: usize = 50;
/// Bytes a second of each: lossless music.
const MUSIC: u64 = 160_000;
/// What a stream sends at once, ten times a second.
const SIP: Duration = Duration::from_millis(100);
/// After connecting or opening streams, until it is quiet.
const SETTLE: Duration = Duration::from_secs(10);

/// Is a mini-node, tells where, and ends with its input.
pub(crate) async fn serve() {
    let folder = tempfile::tempdir().unwrap();
    let network = mini_node(&[QUIC, TCP], None, &OneFile::make(folder.path(), 1)).await;
    let addresses = network.listen_addrs().await;
    println!("{}", addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await.unwrap().unwrap();
    network.shutdown().await;
}

/// Prints what carrying costs the mini-node, and a table of what many peers do.
pub(crate) async fn measure(peers: u64, seconds: u64) {
    println!("| legs over | CPU s/GiB of the relay alone | MiB/s |\n|---|---|---|");
    for name in TRANSPORTS {
        let (child, addresses) = start().await;
        let (process, address) = (child.id().unwrap(), of(&addresses, name));
        let (mut costs, mut rates) = (Vec::new(), Vec::new());
        for round in 0..=CARRIED_TIMES {
            let (cost, rate) = carry(process, address).await;
            // The first round warms caches up.
            if round > 0 {
                costs.push(cost);
                rates.push(rate);
            }
        }
        println!("| {name} | {} | {} |", spread(&costs, 2), spread(&rates, 0));
    }
    println!();
    crowd(peers, seconds).await;
}

/// One stream over a circuit; processor seconds of the relay for a GiB, and MiB/s.
async fn carry(process: u32, address: &Multiaddr) -> (f64, f64) {
    let (source, sink) = (idle(address).await, Light::start());
    source.give(CARRIED);
    sink.connect(through(address, source.id)).await;
    let (before, start) = (processor_seconds_of(process), time::Instant::now());
    assert_eq!(sink.take(source.id).await, CARRIED);
    let mebibytes = CARRIED as f64 / f64::from(1 << 20);
    let cost = (processor_seconds_of(process) - before) * 1_024.0 / mebibytes;
    (cost, mebibytes / start.elapsed().as_secs_f64())
}

async fn crowd(peers: u64, seconds: u64) {
    println!(
        "| {peers} peers over | MB at the start | with the peers | kB a peer | CPU s/min, idle | \
         MB with {STREAMS} streams | CPU s/min with them | of {} kB/s, came |\n|---|---|---|---|---|---|---|---|",
        MUSIC / 1_000
    );
    for name in TRANSPORTS {
        let (child, addresses) = start().await;
        let (process, address) = (child.id().unwrap(), of(&addresses, name));
        time::sleep(Duration::from_secs(2)).await;
        let empty = resident_bytes(process);
        let many: Vec<Light> = futures::stream::iter((0..peers).map(|_| idle(address)))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        time::sleep(SETTLE).await;
        let idle_cost = processor_per_minute(process, seconds).await;
        let full = resident_bytes(process);
        let came = Arc::new(AtomicU64::new(0));
        for (number, (source, sink)) in many.iter().zip(&many[STREAMS..]).take(STREAMS).enumerate() {
            play(source, sink, address, &came, number).await;
        }
        time::sleep(SETTLE).await;
        let before = (came.load(Ordering::Relaxed), time::Instant::now());
        let busy_cost = processor_per_minute(process, seconds).await;
        let bytes = (came.load(Ordering::Relaxed) - before.0) as f64;
        let wanted = before.1.elapsed().as_secs_f64() * (MUSIC * STREAMS as u64) as f64;
        let busy = resident_bytes(process);
        println!(
            "| {name} | {:.0} | {:.0} | {:.0} | {idle_cost:.2} | {:.0} | {busy_cost:.2} | {:.1} % |",
            empty as f64 / 1e6,
            full as f64 / 1e6,
            (full - empty) as f64 / 1e3 / peers as f64,
            busy as f64 / 1e6,
            bytes / wanted * 100.0
        );
        drop(child);
    }
}

/// The mini-node's process, which ends when it is dropped, and where it is.
async fn start() -> (Child, Vec<Multiaddr>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(CHILD).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    (child, line.split(' ').map(|address| address.parse().unwrap()).collect())
}

fn of<'a>(addresses: &'a [Multiaddr], transport: &str) -> &'a Multiaddr {
    let is_quic = |address: &&Multiaddr| address.to_string().contains("quic");
    addresses.iter().find(|address| is_quic(address) == (transport == "QUIC")).unwrap()
}

async fn idle(relay: &Multiaddr) -> Light {
    let light = Light::start();
    light.reserve(relay).await;
    light
}

async fn processor_per_minute(process: u32, seconds: u64) -> f64 {
    let (before, start) = (processor_seconds_of(process), time::Instant::now());
    time::sleep(Duration::from_secs(seconds)).await;
    (processor_seconds_of(process) - before) * 60.0 / start.elapsed().as_secs_f64()
}

/// Sends music over the relay, from now on.
async fn play(source: &Light, sink: &Light, relay: &Multiaddr, came: &Arc<AtomicU64>, number: usize) {
    let mut incoming = sink.control.clone().accept(BULK).unwrap();
    let came = came.clone();
    tokio::spawn(async move {
        let (_, mut stream) = incoming.next().await.unwrap();
        let mut piece = vec![0; 65_536];
        while let Ok(read @ 1..) = stream.read(&mut piece).await {
            came.fetch_add(read as u64, Ordering::Relaxed);
        }
    });
    source.connect(through(relay, sink.id)).await;
    let stream = source.open(sink.id).await;
    tokio::spawn(async move {
        // Not all at the same moment.
        time::sleep(SIP * u32::try_from(number).unwrap() / u32::try_from(STREAMS).unwrap()).await;
        send(stream).await;
    });
}

async fn send(mut stream: Stream) {
    let sip = vec![7; usize::try_from(MUSIC).unwrap() / 10];
    let mut ticks = time::interval(SIP);
    loop {
        ticks.tick().await;
        if stream.write_all(&sip).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}
