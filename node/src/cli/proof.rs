//! `antiphon ledger verify-proof`: offline, from the proof and what is known of the network's council.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use antiphon_ledger::log::blockproof::BlockProof;
use antiphon_proto::{
    NetworkId, PublicKey, limits,
    note::origin,
    wire::{Genesis, block::Body},
};
use anyhow::Context;
use serde_json::json;

use super::{
    args::{Common, Join, VerifyProof},
    ask,
    output::Output,
    root,
};
use crate::{
    export,
    failure::{Failure, Kind},
    genesis_file,
    ledger_ops::Councils,
    ops::{self, Request},
    peer::{Reach, select::name},
    system::datadir::DataDir,
};

/// A network, and the councils one of which must have cosigned.
struct Trust {
    network: NetworkId,
    councils: Vec<Vec<PublicKey>>,
}

pub(super) async fn run(common: &Common, what: &VerifyProof, output: &Output) -> anyhow::Result<()> {
    let trust = match &what.genesis {
        Some(path) => from_genesis(path)?,
        None => match of_light_peer(common)? {
            Some(genesis) => from_genesis(&genesis)?,
            None => from_ledger(common, output).await?,
        },
    };
    let network = trust.network;
    insist(what.network.as_deref(), network)?;
    let text = read(&what.file, limits::LOG_PROOF_BYTES)?;
    let wrong = |message: String| Failure::new(Kind::Verification, message);
    let proof = BlockProof::parse(&text).map_err(|error| wrong(error.to_string()))?;
    let mut refused = None;
    let proven = trust.councils.iter().find_map(|members| match proof.verify(&origin(&network), members) {
        Ok((block, checkpoint)) => Some((block, checkpoint, members)),
        Err(error) => {
            // What the newest council says of it is what people want to know.
            refused.get_or_insert(error);
            None
        }
    });
    let Some((block, checkpoint, members)) = proven else {
        let why = refused.map_or_else(|| "no council is known".to_owned(), |error| error.to_string());
        return Err(wrong(format!("block {} is not proven: {why}", proof.index))
            .at(Some(proof.index))
            .into());
    };
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

/// The first council of a genesis document, in its canonical form or as people keep it.
fn from_genesis(path: &Path) -> anyhow::Result<Trust> {
    let bytes = read(path, limits::GENESIS_BYTES)?;
    let genesis = match (Genesis::parse(&bytes), std::str::from_utf8(&bytes)) {
        (Ok(genesis), _) => genesis,
        (Err(_), Ok(text)) if !text.contains('\0') => genesis_file::parse(text)
            .with_context(|| format!("{} is not a genesis document", path.display()))?,
        (Err(error), _) => {
            return Err(error).with_context(|| format!("{} is not a genesis document", path.display()));
        }
    };
    Ok(Trust { network: genesis.network_id(), councils: vec![genesis.member_keys()] })
}

/// The genesis document of a data directory that is a light peer's.
fn of_light_peer(common: &Common) -> anyhow::Result<Option<PathBuf>> {
    let Some(data) = DataDir::existing(&root(common)?) else { return Ok(None) };
    let genesis = data.light().join("genesis");
    Ok((genesis.exists() && !data.ledger().exists()).then_some(genesis))
}

/// The councils that the own ledger knows of.
async fn from_ledger(common: &Common, output: &Output) -> anyhow::Result<Trust> {
    if !DataDir::existing(&root(common)?).is_some_and(|data| data.ledger().join("genesis").exists()) {
        let message = "there is no ledger here that says who may cosign: name the network's genesis document with \
                       --genesis (the file `genesis` of a dump, or /genesis of a log that is served)";
        return Err(Failure::new(Kind::NotFound, message).into());
    }
    let answer = ask(common, &Join::default(), Request::LedgerCouncils, Reach::ReadOnly, output).await?;
    let known: Councils = ops::read(answer)?;
    let keys = |council: &Vec<String>| council.iter().map(|key| key.parse()).collect::<Result<Vec<_>, _>>();
    let councils = known.councils.iter().map(keys).collect::<Result<_, _>>()?;
    Ok(Trust { network: known.network.parse()?, councils })
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
