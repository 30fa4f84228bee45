//! How fast a verified transfer is, beside the QUIC under it: one process, both ends, loopback.
//!
//! `cargo bench -p antiphon-benches --bench transfer -- [MiB] [rounds] [folder]`. Rounds are interleaved so that
//! a noisy machine disturbs all kinds alike; trust the ratios more than the rates.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement, not a program"
)]

use std::{
    fs::File,
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use antiphon_benches::median;
use antiphon_p2p::{
    AudioFile, AudioRefusal, AudioSource, Config, Fetch, FetchProgress, LedgerSource, Network, Registrar,
    Services, SourceError,
    libp2p::{identity::Keypair, tls},
    outboard,
};
use antiphon_proto::{
    ContentHash,
    wire::{
        AudioMode, AudioRequest, Batch, LedgerInfo, RegisterReply, RegisterRequest, StreamError,
        StreamErrorCode, register_reply,
    },
};
use futures::future::BoxFuture;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

const BUFFER: usize = 256 * 1024;

/// One file, no ledger.
struct OneFile {
    path: PathBuf,
    outboard: PathBuf,
    size: u64,
}

impl AudioSource for OneFile {
    fn open(&self, _: antiphon_p2p::PeerId, _: &AudioRequest) -> Result<AudioFile, AudioRefusal> {
        let open = |path: &Path| File::open(path).map_err(|_| AudioRefusal::Gone);
        Ok(AudioFile { size: self.size, data: open(&self.path)?, outboard: Some(open(&self.outboard)?) })
    }

    fn failed(&self, _: ContentHash) {}
}

impl LedgerSource for OneFile {
    fn info(&self) -> LedgerInfo {
        LedgerInfo::default()
    }

    fn batch_from(&self, _: u64) -> Result<Option<Batch>, SourceError> {
        Ok(None)
    }

    fn watch(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}

impl Registrar for OneFile {
    fn register(&self, _: antiphon_p2p::PeerId, _: RegisterRequest) -> BoxFuture<'static, RegisterReply> {
        let error = StreamError { code: StreamErrorCode::Busy.into(), detail: String::new() };
        Box::pin(async { RegisterReply { body: Some(register_reply::Body::Unavailable(error)) } })
    }
}

fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |field: usize| fields.get(field).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

/// The transport settings of libp2p's QUIC with our windows.
fn quinn_transport() -> Arc<quinn::TransportConfig> {
    let mut transport = quinn::TransportConfig::default();
    transport.max_concurrent_uni_streams(0u32.into());
    transport.datagram_receive_buffer_size(None);
    transport.allow_spin(false);
    transport.stream_receive_window(2_500_000u32.into());
    transport.receive_window(8_000_000u32.into());
    Arc::new(transport)
}

async fn raw_quinn(bytes: usize) -> (f64, f64) {
    let (server_key, client_key) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let crypto: quinn::crypto::rustls::QuicServerConfig =
        tls::make_server_config(&server_key).unwrap().try_into().unwrap();
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    server.transport = quinn_transport();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = quinn::Endpoint::server(server, any).unwrap();
    let address = server.local_addr().unwrap();
    let sending = tokio::spawn(async move {
        let connection = server.accept().await.unwrap().await.unwrap();
        let (mut send, mut receive) = connection.accept_bi().await.unwrap();
        receive.read_to_end(16).await.unwrap();
        let buffer = vec![7; BUFFER];
        for _ in 0..bytes / BUFFER {
            send.write_all(&buffer).await.unwrap();
        }
        send.finish().unwrap();
        connection.closed().await;
    });
    let crypto: quinn::crypto::rustls::QuicClientConfig =
        tls::make_client_config(&client_key, Some(server_key.public().to_peer_id()))
            .unwrap()
            .try_into()
            .unwrap();
    let mut client = quinn::ClientConfig::new(Arc::new(crypto));
    client.transport_config(quinn_transport());
    let endpoint = quinn::Endpoint::client(any).unwrap();
    let connection = endpoint.connect_with(client, address, "l").unwrap().await.unwrap();
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    let (start, processor) = (Instant::now(), processor_seconds());
    send.write_all(b"go").await.unwrap();
    send.finish().unwrap();
    let mut buffer = vec![0; BUFFER];
    let mut total = 0;
    while let Some(count) = receive.read(&mut buffer).await.unwrap() {
        total += count;
    }
    let taken = (start.elapsed().as_secs_f64(), processor_seconds() - processor);
    assert_eq!(total, bytes);
    connection.close(0u32.into(), b"");
    sending.await.unwrap();
    taken
}

async fn start(listen: Option<&str>, seed: u8, file: Arc<OneFile>) -> Network {
    let services = Services { ledger: file.clone(), registrar: file.clone(), audio: file };
    let listen = listen.iter().map(|address| address.parse().unwrap()).collect();
    let config = Config { listen, ..Config::default() };
    Network::start(config, &[seed; 32], services, &mut Registry::default()).await.unwrap().0
}

async fn fetch(listen: &str, file: &Arc<OneFile>, content: ContentHash, folder: &Path) -> (f64, f64) {
    let server = start(Some(listen), 1, file.clone()).await;
    let client = start(None, 2, file.clone()).await;
    let peer = client.connect(server.listen_addrs().await[0].clone()).await.unwrap();
    let part = folder.join("fetched.part");
    let wanted = Fetch { content, size: file.size, mode: AudioMode::Bulk, access_token: Vec::new(), part };
    let (start, processor) = (Instant::now(), processor_seconds());
    let fetched = client.fetch(peer, wanted, watch::channel(FetchProgress::default()).0).await.unwrap();
    let taken = (start.elapsed().as_secs_f64(), processor_seconds() - processor);
    fetched.into_partial().discard().unwrap();
    client.shutdown().await;
    server.shutdown().await;
    taken
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let mebibytes: usize = arguments.next().map_or(512, |text| text.parse().unwrap());
    let rounds: usize = arguments.next().map_or(5, |text| text.parse().unwrap());
    let folder =
        tempfile::tempdir_in(arguments.next().map_or_else(std::env::temp_dir, PathBuf::from)).unwrap();
    let bytes = mebibytes * 1024 * 1024;
    let path = folder.path().join("served");
    let mut out = File::create(&path).unwrap();
    let mut block = vec![0u8; 1024 * 1024];
    for index in 0..mebibytes {
        blake3::Hasher::new().update(&index.to_le_bytes()).finalize_xof().fill(&mut block);
        out.write_all(&block).unwrap();
    }
    out.sync_all().unwrap();
    let outboard_path = folder.path().join("served.obao");
    let (start, cpu) = (Instant::now(), processor_seconds());
    let (content, size) = outboard::create_file(&path, &outboard_path).unwrap();
    let rate = |seconds: f64| mebibytes as f64 / seconds;
    println!("outboard: {:.0} MiB/s", rate(start.elapsed().as_secs_f64()));
    println!("          {:.2} CPU s", processor_seconds() - cpu);
    let file = Arc::new(OneFile { path, outboard: outboard_path, size });
    let names = ["raw quinn", "fetch over QUIC", "fetch over TCP"];
    let mut seconds = [const { Vec::new() }; 3];
    let mut processor = [const { Vec::new() }; 3];
    for round in 0..=rounds {
        for kind in 0..names.len() {
            let (taken, cpu) = match kind {
                0 => raw_quinn(bytes).await,
                1 => fetch("/ip4/127.0.0.1/udp/0/quic-v1", &file, content, folder.path()).await,
                _ => fetch("/ip4/127.0.0.1/tcp/0", &file, content, folder.path()).await,
            };
            println!("round {round}: {:<16} {:6.0} MiB/s", names[kind], rate(taken));
            // The first round warms caches up.
            if round > 0 {
                seconds[kind].push(taken);
                processor[kind].push(cpu);
            }
        }
    }
    let base = median(&seconds[0]);
    for kind in 0..names.len() {
        let middle = median(&seconds[kind]);
        println!(
            "{:<16} {:6.0} MiB/s   {:.2} of raw QUIC   {:.2} CPU s/GiB",
            names[kind],
            rate(middle),
            base / middle,
            median(&processor[kind]) * 1024.0 / mebibytes as f64,
        );
    }
}
