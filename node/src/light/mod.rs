//! A light peer: no ledger, only the newest checkpoint and the proofs of what it cares about.
//!
//! It trusts the genesis document and nothing else: each checkpoint must be cosigned by a quorum of the council that is
//! named there, and be a continuation of the one before; each song comes with the proof that it is in the log.

mod client;
mod get;
pub mod store;

use std::{path::PathBuf, sync::Arc};

use anyhow::Context;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::{client::Client, store::Store};
use crate::{
    config::{Config, Mode},
    failure::{Failure, Kind},
    ops::{Request, Status, Tell, with_progress},
    system::datadir::DataDir,
    wallet,
};

/// Whether a command is for a light peer: because it was asked for, or because the data directory is one's.
#[must_use]
pub fn is_meant(config: &Config, data: Option<&DataDir>) -> bool {
    let kept = |data: &DataDir| data.light().join("genesis").exists() && !data.ledger().exists();
    config.ledger.mode == Mode::Light || data.is_some_and(kept)
}

/// Why a command cannot be run by a light peer.
///
/// # Errors
/// Always: [`Kind::Usage`].
pub fn refuse(command: &str) -> anyhow::Result<()> {
    let message = format!(
        "a light peer keeps no ledger and cannot `{command}`: it can `get`, `status`, `ledger info` and `ledger proof`. \
         Leave out --light and ledger.mode = \"light\", or name another --data-dir, for a full peer"
    );
    Err(Failure::new(Kind::Usage, message).into())
}

/// Does what a light peer can do.
///
/// # Errors
/// Whatever stands in the way; [`Failure::of`] gives the class.
pub async fn execute(
    root: PathBuf,
    config: &Config,
    request: Request,
    cancel: CancellationToken,
    report: Arc<dyn Fn(&str) + Send + Sync>,
    tell: Tell<'_>,
) -> anyhow::Result<Value> {
    if DataDir::existing(&root).is_some_and(|data| data.ledger().exists()) {
        let message = format!(
            "there is a whole ledger in {}: leave out --light and ledger.mode = \"light\", or name another --data-dir",
            root.display()
        );
        return Err(Failure::new(Kind::Usage, message).into());
    }
    match request {
        Request::Get(request) => {
            let client = Client::open(root, config, cancel, &*report).await?;
            let (send, receive) = tokio::sync::watch::channel(Default::default());
            let got = with_progress(client.get(request, &send), receive, tell).await;
            client.close().await;
            Ok(serde_json::to_value(got?)?)
        }
        Request::Status => status(&kept(root)?),
        Request::LedgerInfo => info(&kept(root)?.1),
        Request::LedgerProof { what } => proof(&kept(root)?.1, &what),
        other => {
            let name = serde_json::to_value(&other)?;
            let name = name["command"].as_str().unwrap_or_default().replace('_', " ");
            refuse(&name).map(|()| Value::Null)
        }
    }
}

/// What is on the disk.
fn kept(root: PathBuf) -> anyhow::Result<(DataDir, Store)> {
    let none = || {
        let message = format!("there is nothing in {}: begin with `antiphon get --light`", root.display());
        Failure::new(Kind::NotFound, message)
    };
    let data = DataDir::existing(&root).ok_or_else(none)?;
    let store = Store::open(&data.light())?.ok_or_else(none)?;
    Ok((data, store))
}

fn status((data, store): &(DataDir, Store)) -> anyhow::Result<Value> {
    let wallet = wallet::locked(data)?.map(|wallet| wallet.public().to_string());
    let status = Status {
        schema: 1,
        mode: Mode::Light,
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        wallet: wallet.unwrap_or_default(),
        network: store.network().to_string(),
        control: data.control_socket().display().to_string(),
        data_dir: data.root().display().to_string(),
        ledger_size: store.checkpoint()?.map_or(0, |kept| kept.checkpoint.size),
        ..Status::default()
    };
    Ok(serde_json::to_value(status)?)
}

fn info(store: &Store) -> anyhow::Result<Value> {
    let checkpoint = store.checkpoint()?;
    Ok(json!({
        "schema": 1, "mode": Mode::Light, "network": store.network().to_string(),
        "size": checkpoint.as_ref().map_or(0, |kept| kept.checkpoint.size),
        "root": checkpoint.as_ref().map(|kept| kept.checkpoint.root.to_string()),
        "cosigners": checkpoint.as_ref().map_or(0, |kept| kept.cosigners().len()),
        "members": store.members().len(),
        "proofs": store.proofs()?.len(), "disk_bytes": store.disk_bytes()?,
    }))
}

/// A proof that is kept.
fn proof(store: &Store, what: &str) -> anyhow::Result<Value> {
    let wanted = get::Wanted::parse(what)?;
    for index in store.proofs()? {
        let Some((proof, proven)) = store.proof(index)? else { continue };
        if wanted.iter().any(|wanted| wanted.is(&proven)) {
            let text = String::from_utf8(proof.encode()).context("the checkpoint is not text")?;
            return Ok(json!({
                "schema": 1, "network": store.network().to_string(), "index": index, "proof": text,
            }));
        }
    }
    let message =
        format!("the proof of {what:?} is not kept here; a light peer keeps those of songs that it got");
    Err(Failure::new(Kind::NotFound, message).into())
}
