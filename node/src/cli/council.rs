//! `antiphon network …` and `antiphon council …`.

use std::fmt::Write as _;

use antiphon_proto::{PublicKey, wire::Genesis};
use anyhow::Context;
use rand::TryRng as _;
use serde_json::json;

use super::{
    args::{Common, Council, Join, Network},
    ask,
    output::Output,
};
use crate::{
    council_ops::CouncilStatus,
    failure::{Failure, Kind},
    genesis_file,
    ops::{self, Request},
    peer::Reach,
    system::{clock, durable, keyfile},
};

pub(super) fn network(what: Network, output: &Output) -> anyhow::Result<()> {
    match what {
        Network::New { members, name, stamp_bits, batch_quota, out } => {
            let keys = members
                .iter()
                .map(|member| {
                    let wrong = |error| Failure::new(Kind::Usage, format!("--member: {error}"));
                    member.parse::<PublicKey>().map_err(wrong)
                })
                .collect::<Result<Vec<_>, _>>()?;
            let mut salt = [0; 16];
            rand::rngs::SysRng.try_fill_bytes(&mut salt).context("the system gives no randomness")?;
            let mut genesis = Genesis::new(&name, clock::now_ms().max(1), salt, &keys);
            genesis.stamp_bits = stamp_bits.unwrap_or(genesis.stamp_bits);
            genesis.batch_quota = batch_quota.unwrap_or(genesis.batch_quota);
            genesis.check().map_err(|error| Failure::new(Kind::Usage, error.to_string()))?;
            let text = genesis_file::write(&genesis);
            let Some(path) = out else { return output.raw(text.as_bytes()) };
            if path.exists() {
                let message = format!("{} exists already; it is not overwritten", path.display());
                return Err(Failure::new(Kind::Failed, message).into());
            }
            durable::write(&path, text.as_bytes(), 0o644)
                .with_context(|| format!("cannot write {}", path.display()))?;
            shown(&genesis, output)
        }
        Network::Show { file } => shown(&genesis_file::read(&file)?, output),
    }
}

fn shown(genesis: &Genesis, output: &Output) -> anyhow::Result<()> {
    let id = genesis.network_id().to_string();
    if output.json {
        let members: Vec<String> = genesis.member_keys().iter().map(ToString::to_string).collect();
        return output.value(&json!({
            "schema": 1, "network": id, "name": genesis.name, "created_ms": genesis.created_ms,
            "members": members, "stamp_bits": genesis.stamp_bits, "batch_quota": genesis.batch_quota,
        }));
    }
    output.line(&id)
}

pub(super) async fn run(common: &Common, what: Council, output: &Output) -> anyhow::Result<()> {
    match what {
        Council::Key { file } => {
            let key = keyfile::load_or_create(&file)?.public().to_string();
            if output.json { output.value(&json!({"schema": 1, "key": key})) } else { output.line(&key) }
        }
        Council::Status => {
            let answer =
                ask(common, &Join::default(), Request::CouncilStatus, Reach::ReadOnly, output).await?;
            if output.json { output.value(&answer) } else { status(&ops::read(answer)?, output) }
        }
        Council::Propose { add, remove, heights } => {
            let request = Request::CouncilPropose { add, remove, heights };
            motion(common, request, output).await
        }
        Council::Vote { motion: id } => motion(common, Request::CouncilVote { motion: id }, output).await,
    }
}

/// Asks a running peer: a motion is passed to the other members by it.
async fn motion(common: &Common, request: Request, output: &Output) -> anyhow::Result<()> {
    let root = super::root(common)?;
    let data = crate::system::datadir::DataDir::existing(&root);
    let Some(client) = super::running(data.as_ref()).await? else {
        let message =
            format!("no peer is running on {}: the council is steered by one that votes", root.display());
        return Err(Failure::new(Kind::NoDaemon, message).into());
    };
    let answer = client.call(request, &|_| {}).await?;
    if output.json {
        return output.value(&answer);
    }
    output.line(answer["motion"].as_str().unwrap_or_default())
}

fn status(status: &CouncilStatus, output: &Output) -> anyhow::Result<()> {
    let mut text = String::new();
    let there = status.members.len().saturating_sub(status.missing.len());
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "council    {} members, {} must agree; height {}",
        status.members.len(),
        status.quorum,
        status.height
    );
    let _ = match &status.why_not {
        None => writeln!(text, "votes      yes"),
        Some(why) => writeln!(text, "votes      no: {why}"),
    };
    if status.quorum_is_there == Some(false) {
        let _ = writeln!(
            text,
            "NO PROGRESS {} members must agree, {there} are there; missing: {}",
            status.quorum,
            status.missing.join(", ")
        );
    }
    if let (Some(round), Some(proposer)) = (status.round, &status.proposer) {
        let _ = writeln!(
            text,
            "deciding   height {}, round {round}, proposed by {proposer}",
            status.height.saturating_add(1)
        );
    }
    if status.pending > 0 {
        let _ = writeln!(text, "waiting    {} registrations", status.pending);
    }
    for member in &status.members {
        let mut notes = Vec::new();
        if member.me {
            notes.push("this peer".to_owned());
        } else if status.quorum_is_there.is_some() {
            notes.push(if member.connected { "connected" } else { "NOT CONNECTED" }.to_owned());
            notes.push(format!("height {}", member.height));
        }
        if member.silent && !member.me {
            notes.push("does not vote".to_owned());
        }
        if member.absent {
            notes.push("has not signed lately".to_owned());
        }
        let _ = writeln!(text, "member     {} {}", member.key, notes.join(", "));
    }
    for key in status.next.iter().flatten() {
        let _ = writeln!(text, "from the height after the next: {key}");
    }
    for motion in &status.motions {
        let mut change = Vec::new();
        change.extend(motion.add.as_ref().map(|key| format!("add {key}")));
        change.extend(motion.remove.as_ref().map(|key| format!("remove {key}")));
        let _ = writeln!(
            text,
            "motion     {} {}: {} of {} votes, open up to height {}",
            motion.id,
            change.join(", "),
            motion.votes.len(),
            status.quorum,
            motion.expires_height
        );
    }
    output.raw(text.as_bytes())
}
