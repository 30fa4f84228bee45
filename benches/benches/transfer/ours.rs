//! Downloads of ours: verified group by group, into a partial file.

use std::{path::Path, sync::Arc};

use antiphon_benches::{Cost, Stopwatch};
use antiphon_p2p::{Download, DownloadProgress, Network};
use tokio::sync::watch;

use crate::served::OneFile;

pub(crate) const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

/// The whole file from so many sources that are connected already, into a partial file in `folder`.
pub(crate) async fn download(listen: &str, sources: u8, file: &Arc<OneFile>, folder: &Path) -> Cost {
    let client = file.start(None, u8::MAX).await;
    let (mut servers, mut peers): (Vec<Network>, Vec<_>) = (Vec::new(), Vec::new());
    for seed in 1..=sources {
        let server = file.start(Some(listen), seed).await;
        peers.push(client.connect(server.listen_addrs().await[0].clone()).await.unwrap());
        servers.push(server);
    }
    let download = Download::new(file.content, file.size, folder.join("downloaded.part"));
    let (progress, named) = (watch::channel(DownloadProgress::default()).0, watch::channel(peers));
    let watch = Stopwatch::start();
    let downloaded = client.download(download, named.1, progress).await.unwrap();
    let cost = watch.stop();
    assert_eq!(downloaded.fetched_bytes, file.size);
    downloaded.into_partial().discard().unwrap();
    client.shutdown().await;
    for server in servers {
        server.shutdown().await;
    }
    cost
}
