//! What commands do with the whole ledger, in the process that has it open.

use std::path::PathBuf;

use antiphon_ledger::{
    AppendError, CheckpointError, Ledger,
    dump::{self, DumpError},
};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    export::{self, Outputs},
    failure::{Failure, Kind},
    ops::{NamedBlocks, Running, Tell, with_progress},
    peer::Peer,
    system::pathhex,
};

/// Writes the ledger as tables into folders of this machine.
///
/// # Errors
/// What stands in the way, with the file's name.
pub async fn export(
    peer: &Peer,
    outputs: Outputs,
    running: Option<&Running>,
    tell: Tell<'_>,
) -> anyhow::Result<Value> {
    let ledger = peer.ledger.clone();
    let work = move |progress: &mut dyn FnMut(u64, u64) -> bool| {
        anyhow::Ok(serde_json::to_value(export::run(&ledger, &outputs, progress)?)?)
    };
    by_whom(blocking(work, tell).await, running)
}

/// Writes or continues a dump in a folder of this machine.
///
/// # Errors
/// What stands in the way; [`Kind::NotFound`] while there is no checkpoint.
pub async fn dump(
    peer: &Peer,
    dir: PathBuf,
    from: u64,
    running: Option<&Running>,
    tell: Tell<'_>,
) -> anyhow::Result<Value> {
    let ledger = peer.ledger.clone();
    let work = move |progress: &mut dyn FnMut(u64, u64) -> bool| {
        // Nothing is lost when nobody waits for its end any more.
        let mut tell = |now: antiphon_ledger::Progress| {
            let _ = progress(now.done, now.total);
        };
        let written = dump::write(&ledger, &dir, from, &mut tell).map_err(|error| failure(&error))?;
        anyhow::Ok(json!({
            "schema": 1, "dir": dir.display().to_string(), "manifest": written.manifest,
            "files_written": written.files, "bytes_written": written.bytes,
        }))
    };
    by_whom(blocking(work, tell).await, running)
}

/// The class of what is wrong with a dump, and the first block that is.
#[must_use]
pub fn failure(error: &DumpError) -> Failure {
    let kind = match error {
        DumpError::NoCheckpoint | DumpError::Behind { .. } => Kind::NotFound,
        DumpError::Start { .. } | DumpError::Occupied(_) => Kind::Usage,
        DumpError::Missing { .. }
        | DumpError::Bad { .. }
        | DumpError::Root { .. }
        | DumpError::Checkpoint(_)
        | DumpError::Genesis(_)
        | DumpError::OtherNetwork { .. }
        | DumpError::Manifest(_)
        | DumpError::Put(CheckpointError::Fork { .. } | CheckpointError::Note(_)) => Kind::Verification,
        DumpError::Append(append) if append.is_invalid_batch() => Kind::Verification,
        DumpError::Append(AppendError::Disagrees { .. }) => Kind::Verification,
        DumpError::Source { error, .. } if error.kind() == std::io::ErrorKind::InvalidData => {
            Kind::Verification
        }
        _ => Kind::Failed,
    };
    Failure::new(kind, error.to_string()).at(error.first_bad())
}

/// The councils whose checkpoints a ledger vouches for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Councils {
    /// Version of this form.
    pub schema: u32,
    /// Network id.
    pub network: String,
    /// The keys of each council.
    pub councils: Vec<Vec<String>>,
}

impl Councils {
    /// Those around the end of the ledger. Not those before: their keys may be in anybody's hands by now.
    #[must_use]
    pub fn of(ledger: &Ledger) -> Self {
        let roster = ledger.roster();
        let mut councils: Vec<Vec<String>> = Vec::new();
        for council in roster.councils() {
            let keys = council.iter().map(ToString::to_string).collect();
            if !councils.contains(&keys) {
                councils.push(keys);
            }
        }
        Self { schema: 1, network: ledger.network().to_string(), councils }
    }
}

/// The proof that a block is in the log, as text that anybody can check.
///
/// # Errors
/// [`Kind::NotFound`] when there is no such block, or no checkpoint over it yet.
pub async fn proof(peer: &Peer, what: String) -> anyhow::Result<Value> {
    let (ledger, named) = (peer.ledger.clone(), NamedBlocks::of(peer));
    tokio::task::spawn_blocking(move || {
        let index = named.index(&what)?;
        let size = ledger.size();
        if index >= size {
            let message = format!("there is no block {index}; the ledger has {size}");
            return Err(Failure::new(Kind::NotFound, message).into());
        }
        let proof = ledger.block_proof(index)?.ok_or_else(|| {
            let message = format!("the council has not cosigned a checkpoint over block {index} yet");
            Failure::new(Kind::NotFound, message)
        })?;
        let text = String::from_utf8(proof.encode()).context("the checkpoint is not text")?;
        Ok(json!({
            "schema": 1, "network": ledger.network().to_string(), "index": index, "proof": text,
        }))
    })
    .await?
}

/// Runs long work on a thread of its own and passes its progress on. The work is told to end, by `false` from its
/// progress, when whoever waits for it goes away.
pub(crate) async fn blocking(
    work: impl FnOnce(&mut dyn FnMut(u64, u64) -> bool) -> anyhow::Result<Value> + Send + 'static,
    tell: Tell<'_>,
) -> anyhow::Result<Value> {
    let (send, receive) = watch::channel(json!(null));
    let cancel = CancellationToken::new();
    let _ends_with_this = cancel.clone().drop_guard();
    let thread = tokio::task::spawn_blocking(move || {
        work(&mut |done, total| {
            send.send_replace(json!({"done": done, "total": total}));
            !cancel.is_cancelled()
        })
    });
    with_progress(async { thread.await? }, receive, tell).await
}

/// A file that cannot be written may be so only for the user that the peer runs as.
fn by_whom(done: anyhow::Result<Value>, running: Option<&Running>) -> anyhow::Result<Value> {
    let denied = |error: &anyhow::Error| {
        let io = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>()).next();
        io.is_some_and(|io| io.kind() == std::io::ErrorKind::PermissionDenied)
    };
    match (done, running) {
        (Err(error), Some(_)) if denied(&error) => Err(error)
            .with_context(|| format!("the running peer (process {}) writes the files", std::process::id())),
        (done, _) => done,
    }
}

/// Paths travel as bytes in hexadecimal.
///
/// # Errors
/// Text that is not hexadecimal.
pub fn path(hex: Option<&String>) -> anyhow::Result<Option<PathBuf>> {
    hex.map(|hex| pathhex::decode(hex)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_the_peer_may_not_write_names_the_peer() {
        let denied = || {
            let error = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
            Err(anyhow::Error::from(error).context("cannot write /x"))
        };
        let said = format!("{:#}", by_whom(denied(), Some(&Running::default())).unwrap_err());
        assert!(said.starts_with("the running peer (process ") && said.contains("/x"), "{said}");
        let said = format!("{:#}", by_whom(denied(), None).unwrap_err());
        assert!(said.starts_with("cannot write /x"), "{said}");
    }
}
