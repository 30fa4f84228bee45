//! `antiphon ledger verify-proof`: offline, from the proof and the network's genesis document alone.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use antiphon_ledger::log::blockproof::BlockProof;
use antiphon_proto::{
    NetworkId, limits,
    note::origin,
    wire::{Genesis, block::Body},
};
use anyhow::Context;
use serde_json::json;

use super::{
    args::{Common, VerifyProof},
    output::Output,
    root,
};
use crate::{
    export,
    failure::{Failure, Kind},
    peer::select::name,
    system::datadir::DataDir,
};

pub(super) fn run(common: &Common, what: &VerifyProof, output: &Output) -> anyhow::Result<()> {
    let genesis = genesis(common, what.genesis.as_deref())?;
    let network = genesis.network_id();
    insist(what.network.as_deref(), network)?;
    let text = read(&what.file, limits::LOG_PROOF_BYTES)?;
    let wrong = |message: String| Failure::new(Kind::Verification, message);
    let proof = BlockProof::parse(&text).map_err(|error| wrong(error.to_string()))?;
    let members = genesis.member_keys();
    let (block, checkpoint) = proof
        .verify(&origin(&network), &members)
        .map_err(|error| wrong(format!("block {} is not proven: {error}", proof.index)))?;
    let (cosigners, size) = (checkpoint.cosigners().len(), checkpoint.checkpoint.size);
    if output.json {
        return output.value(&json!({
            "schema": 1, "ok": true, "network": network.to_string(), "index": proof.index,
            "checkpoint_size": size, "checkpoint_root": checkpoint.checkpoint.root.to_string(),
            "cosigners": cosigners, "members": members.len(),
            "block": export::json::block(&block, &proof.block),
        }));
    }
    let what = match &block.body {
        Some(Body::Song(song)) => format!("{} (song {})", name(&song.artist, &song.title), song.id()),
        _ => "no song".to_owned(),
    };
    output.line(&format!(
        "proven: block {} of network {network}: {what}; {cosigners} of {} members have cosigned {size} blocks",
        proof.index,
        members.len()
    ))
}

/// Whoever names a network does not want another.
pub(super) fn insist(wanted: Option<&str>, found: NetworkId) -> anyhow::Result<()> {
    let Some(wanted) = wanted else { return Ok(()) };
    let usage = |error| Failure::new(Kind::Usage, format!("--network: {error}"));
    if wanted.parse::<NetworkId>().map_err(usage)? == found {
        return Ok(());
    }
    Err(Failure::new(Kind::Verification, format!("this is network {found}, not {wanted}")).into())
}

/// The named document, or that of the own ledger, which need not be opened for it.
fn genesis(common: &Common, named: Option<&Path>) -> anyhow::Result<Genesis> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => DataDir::existing(&root(common)?)
            .into_iter()
            .flat_map(|data| [data.ledger().join("genesis"), data.light().join("genesis")])
            .find(|path| path.exists())
            .ok_or_else(|| {
                let message =
                    "there is no ledger here that says who may cosign: name the network's genesis document with \
                     --genesis (the file `genesis` of a dump, or /genesis of a log that is served)";
                Failure::new(Kind::NotFound, message)
            })?,
    };
    let bytes = read(&path, limits::GENESIS_BYTES)?;
    Genesis::parse(&bytes).with_context(|| format!("{} is not a genesis document", path.display()))
}

/// A small file, or standard input for `-`.
fn read(path: &Path, limit: usize) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let reader: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(|error| {
            let kind = if error.kind() == io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Failed };
            Failure::new(kind, format!("cannot read {shown}: {error}"))
        })?)
    };
    let mut bytes = Vec::new();
    reader.take(limit as u64 + 1).read_to_end(&mut bytes).with_context(|| format!("cannot read {shown}"))?;
    if bytes.len() > limit {
        return Err(Failure::new(Kind::Verification, format!("{shown} is longer than {limit} bytes")).into());
    }
    Ok(bytes)
}
