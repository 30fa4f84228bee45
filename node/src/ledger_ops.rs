//! What commands do with the whole ledger, in the process that has it open.

use std::path::PathBuf;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    export::{self, Outputs},
    ops::{Running, Tell, with_progress},
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

/// Runs long work on a thread of its own and passes its progress on. The work is told to end, by `false` from its
/// progress, when whoever waits for it goes away.
async fn blocking(
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
