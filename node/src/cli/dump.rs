//! `antiphon ledger verify DIR|URL` and `ledger load DIR|URL`: what somebody else has written, checked here.

use std::path::Path;

use antiphon_ledger::{
    Ledger, OpenError, Options, Progress,
    dump::{self, DirSource, DumpSource, VerifyOptions},
};
use antiphon_proto::{NetworkId, limits, wire::Genesis};
use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::{args::Common, output::Output, proof::insist, root, running, show};
use crate::{
    failure::{Failure, Kind},
    ledger_ops::failure,
    mirror::{Mirror, is_url},
    peer::state::NetworkState,
    rule::Rule,
    system::datadir::DataDir,
};

type Source = Box<dyn DumpSource + Send>;

/// The dump that a folder or address names.
fn open(place: &Path) -> anyhow::Result<Source> {
    if let Some(url) = place.to_str().filter(|place| is_url(place)) {
        return Ok(Box::new(Mirror::open(url)?));
    }
    if place.is_dir() {
        return Ok(Box::new(DirSource::new(place)));
    }
    let message = format!("there is no folder {}", place.display());
    Err(Failure::new(Kind::NotFound, message).into())
}

fn network_id(text: Option<&str>) -> anyhow::Result<Option<NetworkId>> {
    let usage = |error| Failure::new(Kind::Usage, format!("--network: {error}"));
    Ok(text.map(|text| text.parse().map_err(usage)).transpose()?)
}

pub(super) async fn verify(
    place: &Path,
    full: bool,
    network: Option<&str>,
    output: &Output,
) -> anyhow::Result<()> {
    let network = network_id(network)?;
    let (place, tell) = (place.to_owned(), output.progress());
    let work = move || {
        let mut source = open(&place)?;
        let mut progress = |now: Progress| tell(json!({"done": now.done, "total": now.total}));
        // The replay needs a ledger to replay into; it is gone afterwards.
        let scratch =
            if full { Some(tempfile::tempdir().context("cannot make a temporary folder")?) } else { None };
        let replay = match &scratch {
            Some(folder) => Some(ledger(folder.path(), &folder.path().join("rule"), genesis(&mut *source)?)?),
            None => None,
        };
        let options = VerifyOptions { network, replay: replay.as_ref(), ..VerifyOptions::default() };
        let report = dump::verify(&mut *source, &options, &mut progress).map_err(|error| failure(&error))?;
        anyhow::Ok(json!({
            "schema": 1, "ok": true, "network": report.network.to_string(), "first": report.first,
            "blocks": report.size, "batches": report.batches, "songs": report.songs,
            "variants": report.variants, "root": report.root.to_string(),
            "head": report.head.map(|head| head.to_string()), "cosigners": report.cosigners.len(),
            "state_digest": report.state.map(|state| state.to_string()),
        }))
    };
    let report: Value = tokio::task::spawn_blocking(work).await??;
    show::plain(&report, output)
}

/// The genesis document that a dump holds; whether it is the right one is for others to say.
fn genesis(source: &mut dyn DumpSource) -> anyhow::Result<Genesis> {
    let bytes =
        source.read(dump::GENESIS, limits::GENESIS_BYTES).context("cannot read the genesis document")?;
    let wrong = |message: String| Failure::new(Kind::Verification, message);
    let bytes = bytes.ok_or_else(|| wrong("genesis is missing: this is no dump of a ledger".to_owned()))?;
    Ok(Genesis::parse(&bytes).map_err(|error| wrong(format!("genesis: {error}")))?)
}

fn ledger(dir: &Path, rule: &Path, genesis: Genesis) -> anyhow::Result<Ledger> {
    let rule =
        Rule::open(rule).map_err(|error| anyhow::anyhow!("fingerprint index {}: {error}", rule.display()))?;
    let options = Options { genesis: Some(genesis), rule: Box::new(rule), progress: None };
    Ledger::open(dir, options).map_err(|error| match error {
        OpenError::OtherNetwork { .. } => Failure::new(Kind::Usage, error.to_string()).into(),
        other => other.into(),
    })
}

pub(super) async fn load(
    common: &Common,
    place: &Path,
    network: Option<&str>,
    output: &Output,
) -> anyhow::Result<()> {
    network_id(network)?;
    let root = root(common)?;
    if running(DataDir::existing(&root).as_ref()).await?.is_some() {
        bail!("a peer is running on {}: stop it first, or let it fetch the ledger itself", root.display());
    }
    let (place, network, tell) = (place.to_owned(), network.map(str::to_owned), output.progress());
    let work = move || {
        let mut source = open(&place)?;
        // Nothing is made for a dump that is not wanted.
        let genesis = genesis(&mut *source)?;
        let id = genesis.network_id();
        insist(network.as_deref(), id)?;
        check_place(&root, id)?;
        let data = DataDir::open(&root)?;
        let _lock = data.lock()?;
        let ledger = ledger(&data.ledger(), &data.fingerprints(), genesis)?;
        let mut progress = |now: Progress| tell(json!({"done": now.done, "total": now.total}));
        let loaded = dump::load(&mut *source, &ledger, &mut progress);
        let closed = ledger.close();
        let loaded = loaded.map_err(|error| failure(&error))?;
        closed?;
        anyhow::Ok(json!({
            "schema": 1, "network": id.to_string(), "loaded": loaded, "blocks": ledger.size(),
            "root": ledger.root().to_string(), "data_dir": data.root().display().to_string(),
        }))
    };
    let report = tokio::task::spawn_blocking(work).await??;
    show::plain(&report, output)
}

/// A data directory is of one network for ever.
fn check_place(root: &Path, network: NetworkId) -> anyhow::Result<()> {
    let Some(data) = DataDir::existing(root) else { return Ok(()) };
    match NetworkState::load(&data.network_state())?.network {
        Some(own) if own != network.to_string() => {
            let message = format!(
                "{} belongs to network {own}, the dump is of {network}: use another --data-dir",
                root.display()
            );
            Err(Failure::new(Kind::Usage, message).into())
        }
        _ => Ok(()),
    }
}
