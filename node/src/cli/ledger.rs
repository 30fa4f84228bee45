//! `antiphon ledger …`.

use std::path::PathBuf;

use antiphon_ledger::dump::Manifest;
use serde_json::Value;

use super::{
    args::{Common, Dump, Export, Join, Ledger, Verify},
    ask, dump,
    output::Output,
    proof, show, tokens,
};
use crate::{
    export::Report,
    ops::{self, Request},
    peer::Reach,
    system::pathhex,
};

pub(super) async fn run(common: &Common, what: Ledger, output: &Output) -> anyhow::Result<()> {
    match what {
        Ledger::Info => plain(common, Request::LedgerInfo, output).await,
        Ledger::Show { what } => plain(common, Request::LedgerShow { what: what.join(" ") }, output).await,
        Ledger::Song { song } => {
            let answer = here(common, Request::LedgerSong { what: song.join(" ") }, output).await?;
            tokens::song(answer, output)
        }
        Ledger::Verify(Verify { dump: None, .. }) => plain(common, Request::LedgerVerify, output).await,
        Ledger::Verify(Verify { dump: Some(place), full, network }) => {
            dump::verify(&place, full, network.as_deref(), output).await
        }
        Ledger::Dump(dump) => run_dump(common, dump, output).await,
        Ledger::Load { dump: place, network } => dump::load(common, &place, network.as_deref(), output).await,
        Ledger::Export(export) => run_export(common, export, output).await,
        Ledger::Proof { what } => run_proof(common, what.join(" "), output).await,
        Ledger::VerifyProof(what) => proof::run(common, &what, output).await,
    }
}

async fn here(common: &Common, request: Request, output: &Output) -> anyhow::Result<Value> {
    ask(common, &Join::default(), request, Reach::ReadOnly, output).await
}

async fn plain(common: &Common, request: Request, output: &Output) -> anyhow::Result<()> {
    show::plain(&here(common, request, output).await?, output)
}

/// The peer that writes the file has another working directory.
fn absolute(path: Option<PathBuf>) -> anyhow::Result<Option<String>> {
    let absolute = path.map(std::path::absolute).transpose()?;
    Ok(absolute.map(|path| pathhex::encode(&path)))
}

async fn run_export(common: &Common, export: Export, output: &Output) -> anyhow::Result<()> {
    let request =
        Request::LedgerExport { parquet: absolute(export.parquet)?, jsonl: absolute(export.jsonl)? };
    let answer = here(common, request, output).await?;
    if output.json {
        return output.value(&answer);
    }
    let report: Report = ops::read(answer)?;
    for path in [&report.parquet, &report.jsonl].into_iter().flatten() {
        output.line(path)?;
    }
    output.note(&format!(
        "{} blocks: {} files written, {} unchanged",
        report.blocks, report.files_written, report.files_kept
    ));
    Ok(())
}

/// The proof is data: with nothing around it, so that it can be kept in a file.
async fn run_proof(common: &Common, what: String, output: &Output) -> anyhow::Result<()> {
    let answer = here(common, Request::LedgerProof { what }, output).await?;
    match answer.get("proof").and_then(Value::as_str) {
        Some(proof) if !output.json => output.raw(proof.as_bytes()),
        _ => output.value(&answer),
    }
}

async fn run_dump(common: &Common, what: Dump, output: &Output) -> anyhow::Result<()> {
    let dir = pathhex::encode(&std::path::absolute(what.dir)?);
    let answer = here(common, Request::LedgerDump { dir, from: what.from }, output).await?;
    if output.json {
        return output.value(&answer);
    }
    let manifest: Manifest = ops::read(answer["manifest"].clone())?;
    output.line(answer["dir"].as_str().unwrap_or_default())?;
    output.note(&format!(
        "blocks {} to {} of network {}, root {}: {} files written",
        manifest.first, manifest.size, manifest.network, manifest.root, answer["files_written"]
    ));
    Ok(())
}
