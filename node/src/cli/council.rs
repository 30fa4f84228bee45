//! `antiphon network …` and `antiphon council …`.

use std::fmt::Write as _;

use antiphon_proto::{
    PublicKey, economy,
    wire::{Economy, Genesis},
};
use anyhow::Context;
use serde_json::json;

use super::{
    args::{Common, Council, Join, Network, Open, Parameters, Propose},
    ask,
    output::Output,
};
use crate::{
    council_ops::{CouncilStatus, Proposal},
    failure::{Failure, Kind},
    genesis_file,
    ops::{self, Request},
    peer::Reach,
    system::{clock, durable, keyfile, random::random},
    token_ops::EconomyLine,
    tokens,
};

pub(super) fn network(what: Network, output: &Output) -> anyhow::Result<()> {
    match what {
        Network::New { members, name, stamp_bits, batch_quota, floor, cap, parameters, out } => {
            let keys = members
                .iter()
                .map(|member| {
                    let wrong = |error| Failure::new(Kind::Usage, format!("--member: {error}"));
                    member.parse::<PublicKey>().map_err(wrong)
                })
                .collect::<Result<Vec<_>, _>>()?;
            let mut genesis = Genesis::new(&name, clock::now_ms().max(1), random()?, &keys);
            genesis.stamp_bits = stamp_bits.unwrap_or(genesis.stamp_bits);
            genesis.batch_quota = batch_quota.unwrap_or(genesis.batch_quota);
            let economy = with(economy(floor, cap), parameters);
            genesis.economy = (economy != economy::DEFAULT).then_some(economy);
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
        Network::Show { file } => {
            let genesis = genesis_file::read(&file)?;
            shown(&genesis, output)?;
            if !output.json {
                output.line(&format!(
                    "{} members, {} stamp bits, {} registrations of one registrant in a batch",
                    genesis.members.len(),
                    genesis.stamp_bits,
                    genesis.batch_quota
                ))?;
                output.line(&EconomyLine::of(&genesis.economy()).to_string())?;
            }
            Ok(())
        }
    }
}

fn economy(floor: Option<u64>, cap: Option<u64>) -> Economy {
    Economy {
        floor_units: floor.unwrap_or(economy::DEFAULT_FLOOR),
        cap_units: cap.unwrap_or(economy::DEFAULT_CAP),
        ..economy::DEFAULT
    }
}

fn with(economy: Economy, parameters: Parameters) -> Economy {
    Economy {
        threshold_plays: parameters.threshold.unwrap_or(economy.threshold_plays),
        coverage_basis_points: parameters.coverage.unwrap_or(economy.coverage_basis_points),
        heartbeat_ms: parameters.heartbeat_ms.unwrap_or(economy.heartbeat_ms),
        epoch_ms: parameters.epoch_ms.unwrap_or(economy.epoch_ms),
        window_ms: parameters.window_ms.unwrap_or(economy.window_ms),
        ..economy
    }
}

fn shown(genesis: &Genesis, output: &Output) -> anyhow::Result<()> {
    let id = genesis.network_id().to_string();
    if output.json {
        let members: Vec<String> = genesis.member_keys().iter().map(ToString::to_string).collect();
        return output.value(&json!({
            "schema": 1, "network": id, "name": genesis.name, "created_ms": genesis.created_ms,
            "members": members, "stamp_bits": genesis.stamp_bits, "batch_quota": genesis.batch_quota,
            "economy": EconomyLine::of(&genesis.economy()),
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
        Council::Propose { add, remove, open, what } => {
            let (proposal, open) = match what {
                None => (Proposal::Members { add, remove }, open),
                Some(what) => proposal(what),
            };
            let request = Request::CouncilPropose { proposal, heights: open.heights };
            motion(common, request, output).await
        }
        Council::Vote { motion: id } => motion(common, Request::CouncilVote { motion: id }, output).await,
    }
}

fn proposal(what: Propose) -> (Proposal, Open) {
    match what {
        Propose::Release { artist, to, key, open } => (Proposal::Release { artist, to: to.or(key) }, open),
        Propose::Parameters { parameters, open } => {
            let Parameters { threshold, coverage, heartbeat_ms, epoch_ms, window_ms } = parameters;
            (Proposal::Parameters { threshold, coverage, heartbeat_ms, epoch_ms, window_ms }, open)
        }
        Propose::Ruling { artist: Some(artist), owner, open, .. } => (Proposal::Name { artist, owner }, open),
        Propose::Ruling { song, withhold, open, .. } => {
            (Proposal::Song { song: song.unwrap_or_default(), withheld: withhold }, open)
        }
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
    let waiting = status.receipts.map_or_else(String::new, |count| format!("; {count} receipts wait here"));
    let _ = match status.epoch {
        0 => writeln!(text, "plays      not settled yet{waiting}"),
        epoch => writeln!(
            text,
            "plays      settled {epoch} times, the last {} s ago{waiting}",
            clock::now_ms().saturating_sub(status.epoch_ms) / 1_000
        ),
    };
    let _ = writeln!(text, "supply     {}", tokens::words(status.supply_units));
    for claim in &status.claims {
        let statement = if claim.statement.is_empty() { "no statement" } else { &claim.statement };
        let _ = writeln!(
            text,
            "claim      {:?} by {}: {statement}; {} wait",
            claim.artist,
            claim.key,
            tokens::words(claim.escrow_units)
        );
    }
    for motion in &status.motions {
        let _ = writeln!(
            text,
            "motion     {} {}: {} of {} votes, open up to height {}",
            motion.id,
            motion.what,
            motion.votes.len(),
            status.quorum,
            motion.expires_height
        );
    }
    output.raw(text.as_bytes())
}
