//! iroh-blobs as its documentation shows it: a store on disk at either end, no relay, no discovery, loopback only.

use std::{net::Ipv4Addr, path::Path, sync::Arc};

use antiphon_benches::{Cost, Stopwatch};
use anyhow::ensure;
use iroh::{
    Endpoint, EndpointAddr, RelayMode, TransportAddr,
    endpoint::{Builder, presets},
    protocol::Router,
};
use iroh_blobs::{
    BlobFormat, BlobsProtocol, Hash,
    api::blobs::{AddPathOptions, ImportMode},
    store::fs::FsStore,
};
use rustls::crypto::{CryptoProvider, ring};

use crate::served::OneFile;

/// What encrypts.
#[derive(Clone, Copy)]
pub(crate) enum Cipher {
    /// AES, where the processor helps with it.
    ItsOwn,
    /// What libp2p insists on.
    ChaCha20,
}

impl Cipher {
    fn provider(self) -> CryptoProvider {
        let mut provider = ring::default_provider();
        if matches!(self, Self::ChaCha20) {
            // First, not alone: the first packets of any QUIC connection are in AES.
            provider
                .cipher_suites
                .sort_by_key(|suite| suite.suite() != rustls::CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
        }
        provider
    }

    fn endpoint(self) -> anyhow::Result<Builder> {
        let builder = Endpoint::builder(presets::Empty)
            .crypto_provider(Arc::new(self.provider()))
            .relay_mode(RelayMode::Disabled)
            .clear_relay_transports()
            .clear_address_lookup()
            .clear_ip_transports()
            .bind_addr((Ipv4Addr::LOCALHOST, 0))?;
        Ok(builder)
    }
}

/// The whole file, verified into a store on disk, over a connection that is there already.
pub(crate) async fn fetch(cipher: Cipher, file: &OneFile, folder: &Path) -> anyhow::Result<Cost> {
    let (served, fetched) = (tempfile::tempdir_in(folder)?, tempfile::tempdir_in(folder)?);
    let store = FsStore::load(served.path()).await?;
    // Served where it is, as ours.
    let (path, mode) = (file.path.clone(), ImportMode::TryReference);
    let options = AddPathOptions { path, mode, format: BlobFormat::Raw };
    let tag = store.blobs().add_path_with_opts(options).await?;
    let hash = Hash::from_bytes(*file.content.as_bytes());
    ensure!(tag.hash == hash, "another hash: {}", tag.hash);
    let provider = cipher.endpoint()?.bind().await?;
    let sockets = provider.bound_sockets();
    ensure!(sockets.iter().all(|socket| socket.ip().is_loopback()), "bound to {sockets:?}");
    let addresses = sockets.into_iter().map(TransportAddr::Ip);
    let address = EndpointAddr::from_parts(provider.id(), addresses);
    let router = Router::builder(provider).accept(iroh_blobs::ALPN, BlobsProtocol::new(&store, None)).spawn();

    let endpoint = cipher.endpoint()?.bind().await?;
    let target = FsStore::load(fetched.path()).await?;
    let connection = endpoint.connect(address, iroh_blobs::ALPN).await?;
    let watch = Stopwatch::start();
    target.remote().fetch(connection.clone(), hash).await?;
    let cost = watch.stop();
    ensure!(target.blobs().has(hash).await?, "it is not complete");
    connection.close(0u32.into(), b"");
    endpoint.close().await;
    target.shutdown().await?;
    // The store of the other end goes with it.
    router.shutdown().await?;
    Ok(cost)
}
