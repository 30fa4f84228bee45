//! The yardstick: the QUIC under libp2p, alone, with its settings and ours. Nothing is verified.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use antiphon_benches::{Cost, Stopwatch};
use antiphon_p2p::libp2p::{identity::Keypair, tls};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use tokio::{sync::mpsc, task};

const BUFFER: usize = 256 * 1024;
/// Buffers between a thread that waits for the disk and the connection.
const AHEAD: usize = 4;

/// Where bytes come from and go to.
pub(crate) enum Ends {
    /// The same bytes again and again, and nowhere: so many.
    Memory(usize),
    /// From one file to another, on threads of their own.
    Files(PathBuf, PathBuf),
}

/// The transport settings of libp2p's QUIC with the windows of `p2p/src/swarm/transport.rs`.
fn transport() -> Arc<quinn::TransportConfig> {
    let mut transport = quinn::TransportConfig::default();
    transport.max_concurrent_uni_streams(0u32.into());
    transport.datagram_receive_buffer_size(None);
    transport.allow_spin(false);
    transport.stream_receive_window(1_000_000u32.into());
    transport.receive_window(10_000_000u32.into());
    Arc::new(transport)
}

/// Moves everything over one stream of a connection that is there already; libp2p's certificates, so its cipher.
pub(crate) async fn transfer(ends: Ends) -> Cost {
    let (server_key, client_key) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let crypto: QuicServerConfig = tls::make_server_config(&server_key).unwrap().try_into().unwrap();
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    server.transport = transport();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = quinn::Endpoint::server(server, any).unwrap();
    let address = server.local_addr().unwrap();
    let (from, to, bytes) = match ends {
        Ends::Memory(bytes) => (None, None, bytes),
        Ends::Files(from, to) => {
            let bytes = usize::try_from(from.metadata().unwrap().len()).unwrap();
            (Some(from), Some(to), bytes)
        }
    };
    let sending = tokio::spawn(async move {
        let connection = server.accept().await.unwrap().await.unwrap();
        let (send, mut receive) = connection.accept_bi().await.unwrap();
        receive.read_to_end(16).await.unwrap();
        send_all(send, from, bytes).await;
        connection.closed().await;
    });
    let peer = Some(server_key.public().to_peer_id());
    let crypto: QuicClientConfig = tls::make_client_config(&client_key, peer).unwrap().try_into().unwrap();
    let mut client = quinn::ClientConfig::new(Arc::new(crypto));
    client.transport_config(transport());
    let endpoint = quinn::Endpoint::client(any).unwrap();
    let connection = endpoint.connect_with(client, address, "l").unwrap().await.unwrap();
    let (mut send, receive) = connection.open_bi().await.unwrap();
    let watch = Stopwatch::start();
    send.write_all(b"go").await.unwrap();
    send.finish().unwrap();
    assert_eq!(receive_all(receive, to.clone()).await, bytes);
    let cost = watch.stop();
    connection.close(0u32.into(), b"");
    sending.await.unwrap();
    if let Some(to) = to {
        std::fs::remove_file(to).unwrap();
    }
    cost
}

async fn send_all(mut send: quinn::SendStream, from: Option<PathBuf>, bytes: usize) {
    match from {
        None => {
            let buffer = vec![7; BUFFER];
            for _ in 0..bytes / BUFFER {
                send.write_all(&buffer).await.unwrap();
            }
        }
        Some(from) => {
            let (pieces, mut ready) = mpsc::channel::<(Vec<u8>, usize)>(AHEAD);
            let (give_back, mut used) = mpsc::channel::<Vec<u8>>(AHEAD + 2);
            task::spawn_blocking(move || {
                let mut file = File::open(from).unwrap();
                loop {
                    let mut buffer = used.try_recv().unwrap_or_else(|_| vec![0; BUFFER]);
                    let count = file.read(&mut buffer).unwrap();
                    if count == 0 || pieces.blocking_send((buffer, count)).is_err() {
                        return;
                    }
                }
            });
            while let Some((buffer, count)) = ready.recv().await {
                send.write_all(&buffer[..count]).await.unwrap();
                let _ = give_back.try_send(buffer);
            }
        }
    }
    send.finish().unwrap();
}

async fn receive_all(mut receive: quinn::RecvStream, to: Option<PathBuf>) -> usize {
    let (mut buffer, mut total) = (vec![0; BUFFER], 0);
    let Some(to) = to else {
        while let Some(count) = receive.read(&mut buffer).await.unwrap() {
            total += count;
        }
        return total;
    };
    let (pieces, mut ready) = mpsc::channel::<(Vec<u8>, usize)>(AHEAD);
    let (give_back, mut used) = mpsc::channel::<Vec<u8>>(AHEAD + 2);
    let writing = task::spawn_blocking(move || {
        let mut file = File::create(to).unwrap();
        while let Some((buffer, count)) = ready.blocking_recv() {
            file.write_all(&buffer[..count]).unwrap();
            let _ = give_back.try_send(buffer);
        }
    });
    let mut filled = 0;
    loop {
        let read = receive.read(&mut buffer[filled..]).await.unwrap();
        filled += read.unwrap_or(0);
        // At least half full, as ours: what is written at once is large.
        if filled >= BUFFER / 2 || (read.is_none() && filled > 0) {
            total += filled;
            let next = used.try_recv().unwrap_or_else(|_| vec![0; BUFFER]);
            pieces.send((std::mem::replace(&mut buffer, next), filled)).await.unwrap();
            filled = 0;
        }
        if read.is_none() {
            break;
        }
    }
    drop(pieces);
    writing.await.unwrap();
    total
}
