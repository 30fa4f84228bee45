//! `antiphon up`: a peer until it is told to stop.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    args::{Common, Serve, Up},
    config, end_on_second_signal,
    output::Output,
    root, show,
};
use crate::{
    config::{self as settings, Mode},
    control::server::Socket,
    http,
    library::{folders::outermost, scan::Targets, watch},
    light,
    ops::Running,
    peer::{Peer, Reach},
    serve_log,
    system::{clock, datadir::DataDir, sample},
};

/// A scan that takes long says how far it is, this often.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// A peer with music.
pub(super) async fn run(common: &Common, up: Up, output: &Output) -> anyhow::Result<()> {
    serve(common, up.serve, Some(up.folders), output).await
}

/// A peer without.
pub(super) async fn mini_node(common: &Common, serving: Serve, output: &Output) -> anyhow::Result<()> {
    serve(common, serving, None, output).await
}

async fn serve(
    common: &Common,
    up: Serve,
    music: Option<Vec<PathBuf>>,
    output: &Output,
) -> anyhow::Result<()> {
    let cancel = CancellationToken::new();
    end_on_second_signal(cancel.clone(), Arc::new(output.clone()));
    let root = root(common)?;
    let mut settings = config(common, &up.join)?;
    if settings.ledger.mode == Mode::Light {
        return light::refuse("up");
    }
    if !up.listen.is_empty() {
        settings.network.listen.clone_from(&up.listen);
    }
    if !up.external.is_empty() {
        settings.network.external.clone_from(&up.external);
    }
    settings.network.allow_private |= up.allow_private;
    if up.http.is_some() {
        settings.http.addr = up.http;
    }
    if up.serve_log.is_some() {
        settings.http.serve_log = up.serve_log;
    }
    if up.genesis.is_some() {
        settings.network.genesis = up.genesis;
    }
    if up.council_key.is_some() {
        settings.council.key = up.council_key;
    }
    settings.council.rejoin = up.council_rejoin;
    settings.network.mini_node = music.is_none();
    let asked = match &music {
        Some(asked) if !asked.is_empty() => canonical(asked)?,
        Some(_) => canonical(&settings.library.folders)?,
        None => Vec::new(),
    };
    if super::running(DataDir::existing(&root).as_ref()).await?.is_some() {
        bail!("a peer is running on {} already; see `antiphon status`", root.display());
    }
    if clock::now_ms() < clock::PLAUSIBLE_MS {
        tracing::warn!("the clock is not set; what is registered now carries a wrong time");
    }
    let listener = http::bind(settings.http.addr).await?;
    let log = match settings.http.serve_log {
        Some(addr) => Some(serve_log::bind(addr).await?),
        None => None,
    };
    let peer = match Peer::open(root, &settings, Reach::Serve, cancel.clone(), output.notes()).await {
        Ok(peer) => peer,
        // Told to stop before it was whole: that is no failure.
        Err(_) if cancel.is_cancelled() => return Ok(()),
        Err(error) => return Err(error),
    };
    check_public(&peer, &settings.network, output).await;
    let folders = if music.is_some() { folders(&peer, asked, output)? } else { Vec::new() };
    peer.library.remember(&folders)?;
    let url = |listener: &TcpListener| anyhow::Ok(format!("http://{}", listener.local_addr()?));
    let running = Running { http: Some(url(&listener)?), serve_log: log.as_ref().map(url).transpose()? };
    let socket_path = peer.data.prepare_control_socket()?;
    let socket = Socket::bind(socket_path.clone())
        .with_context(|| format!("cannot make the control socket {}", socket_path.display()))?;
    if settings.library.watch {
        peer.spawn(watch::run(peer.library.clone()));
    }
    let peer = Arc::new(peer);
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(socket.serve(peer.clone(), running.clone()));
    let exposed = listener.local_addr().is_ok_and(|addr| !addr.ip().is_loopback());
    let app = http::App::new(peer.clone(), settings.http.clone(), exposed, running.clone()).await?;
    let mut answering = tokio::spawn(http::serve(listener, app, cancel.child_token()));
    if let Some(log) = log {
        serving.spawn(serve_log::serve(log, peer.ledger.clone()));
    }
    ready(&peer, &running, output).await?;
    if music.is_some() {
        serving.spawn(first_scan(peer.clone(), folders, output.clone()));
    }
    cancel.cancelled().await;
    peer.library.stop();
    let _ = (&mut answering).await;
    serving.shutdown().await;
    peer.close().await;
    Ok(())
}

/// A mini-node that nobody can be told of is of no use, and its operator should hear it at once.
async fn check_public(peer: &Peer, settings: &settings::Network, output: &Output) {
    let Some(network) = peer.network.as_ref().filter(|_| settings.mini_node && !settings.allow_private)
    else {
        return;
    };
    let listens = network.listen_addrs().await;
    if settings.external.is_empty() && !listens.iter().any(antiphon_p2p::is_public) {
        output.note(
            "this machine has no public address of its own, so nobody is told of this mini-node, and it relays for nobody: say \
             at which address it is reached (--external /ip4/ADDRESS/udp/PORT/quic-v1), or, in a network of your own, \
             --allow-private",
        );
    }
}

fn canonical(folders: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    folders
        .iter()
        .map(|folder| {
            folder
                .canonicalize()
                .with_context(|| format!("cannot open the music folder {}", folder.display()))
        })
        .collect()
}

/// What was asked for and what is remembered; else the user's music; else a sample.
fn folders(peer: &Peer, asked: Vec<PathBuf>, output: &Output) -> anyhow::Result<Vec<PathBuf>> {
    let mut folders: BTreeSet<PathBuf> = peer.library.folders().into_iter().collect();
    folders.extend(asked);
    if folders.is_empty() {
        match dirs::audio_dir().and_then(|music| music.canonicalize().ok()) {
            Some(music) => {
                output.note(&format!("no music folder was named: {} is used", music.display()));
                folders.insert(music);
            }
            None => {
                let samples = peer.data.samples();
                sample::ensure(&samples).with_context(|| format!("cannot make {}", samples.display()))?;
                output.note(&format!(
                    "no music folder was named and there is none: three sample pieces are in {}",
                    samples.display()
                ));
                folders.insert(samples);
            }
        }
    }
    Ok(folders.into_iter().collect())
}

/// The one line on stdout: others may start now.
async fn ready(peer: &Peer, running: &Running, output: &Output) -> anyhow::Result<()> {
    let Some(network) = &peer.network else { bail!("the network is not up") };
    let listen: Vec<String> = network.listen_addrs().await.iter().map(ToString::to_string).collect();
    let (id, control) = (network.local_peer_id().to_string(), peer.data.control_socket());
    let ledger = peer.ledger.network().to_string();
    let http = running.http.clone().unwrap_or_default();
    if output.json {
        let line = json!({
            "schema": 1, "ready": true, "peer_id": id, "network": ledger, "listen": listen,
            "http": http, "serve_log": running.serve_log, "control": control.display().to_string(),
        });
        return output.line(&line.to_string());
    }
    let log = running.serve_log.as_ref().map(|log| format!(" serve_log={log}")).unwrap_or_default();
    output.line(&format!(
        "ready peer={id} network={ledger} listen={} http={http}{log} control={}",
        listen.join(","),
        control.display()
    ))
}

async fn first_scan(peer: Arc<Peer>, folders: Vec<PathBuf>, output: Output) {
    let targets = Targets { paths: outermost(folders), absent_is_gone: false };
    let progress = peer.library.progress();
    let tell = output.progress();
    let work = peer.library.scan(targets);
    tokio::pin!(work);
    let mut said = tokio::time::interval(SAY_EVERY);
    said.tick().await;
    let mut shown = progress.clone();
    let report = loop {
        tokio::select! {
            report = &mut work => break report,
            Ok(()) = shown.changed() => {
                if let Ok(now) = serde_json::to_value(&*shown.borrow_and_update()) {
                    tell(now);
                }
            }
            _ = said.tick() => {
                let now = progress.borrow().clone();
                tracing::info!(found = now.found, done = now.done, registered = now.registered, "scanning");
            }
        }
    };
    match report {
        Ok(report) => output.note(&show::scan_sentence(&report)),
        Err(error) => tracing::error!(%error, "the scan ended early"),
    }
}
