//! What was heard here, and who is connected.

use askama::Template;
use axum::extract::{Query, State};
use serde::Deserialize;

use super::{
    Answer, Page as Shown, Shared, blocking,
    views::{self, Both, PER_PAGE},
};
use crate::{listener::How, peer_ops, tokens};

/// A play in the journal.
struct Line {
    when: String,
    song: u64,
    title: String,
    artist: String,
    heard: String,
    how: &'static str,
    receipts: u32,
    cost: String,
}

#[derive(Template)]
#[template(path = "plays.html")]
struct PlaysMain {
    lines: Vec<Line>,
    next: Option<u64>,
    first: bool,
}

/// Where the journal goes on.
#[derive(Debug, Deserialize)]
pub(super) struct From {
    before: Option<u64>,
}

/// The way of a song, in words.
fn way(how: How) -> &'static str {
    match how {
        How::Library => "Your library",
        How::Direct => "Direct",
        How::Relayed => "Relayed",
        How::App => "An app",
    }
}

/// The journal.
pub(super) async fn plays(State(app): Shared, Query(from): Query<From>) -> Answer {
    let (listener, ledger) = (app.listener.clone(), app.peer.ledger.clone());
    let both = Both::of(&app);
    let main = blocking(move || {
        let journal = listener.journal(from.before, PER_PAGE)?;
        let next = journal.last().filter(|_| journal.len() == PER_PAGE).map(|(number, _)| *number);
        let lines = journal.into_iter().map(|(_, play)| {
            let (title, artist) = both.named(&ledger, play.song);
            Line {
                when: views::when(play.time_ms),
                song: play.song,
                title,
                artist,
                heard: format!("{} of {}", views::length(play.heard_ms), views::length(play.duration_ms)),
                how: way(play.how),
                receipts: play.receipts,
                cost: if play.cost_units == 0 { "free".to_owned() } else { tokens::words(play.cost_units) },
            }
        });
        Ok::<_, super::Failed>(PlaysMain { lines: lines.collect(), next, first: from.before.is_none() })
    });
    Shown::show("Plays", "plays", &main.await?)
}

/// A peer in words.
struct PeerRow {
    id: String,
    short: String,
    way: &'static str,
    relayed: bool,
    transport: String,
    rtt: String,
    agent: String,
    served: String,
    fetched: String,
}

#[derive(Template)]
#[template(path = "peers.html")]
struct PeersMain {
    report: peer_ops::PeersReport,
    rows: Vec<PeerRow>,
    summary: String,
}

/// Who is connected.
pub(super) async fn peers(State(app): Shared) -> Answer {
    let report = peer_ops::peers(&app.peer).await?;
    let rows = report.peers.iter().map(|line| PeerRow {
        id: line.peer_id.clone(),
        short: line.peer_id.chars().skip(line.peer_id.len().saturating_sub(8)).collect(),
        way: match line.path.as_str() {
            "relayed" => "Relayed",
            "punched" => "Direct, through both routers",
            _ => "Direct",
        },
        relayed: line.path == "relayed",
        transport: line.transport.to_uppercase(),
        rtt: line.rtt_us.map_or_else(String::new, |us| format!("{}.{} ms", us / 1_000, us / 100 % 10)),
        agent: line.agent.clone(),
        served: views::bytes(line.served_bytes),
        fetched: views::bytes(line.fetched_bytes),
    });
    let rows: Vec<PeerRow> = rows.collect();
    let relayed = rows.iter().filter(|row| row.relayed).count();
    let summary = format!("{} connected, {} direct, {relayed} relayed", rows.len(), rows.len() - relayed);
    Shown::show("Peers", "peers", &PeersMain { report, rows, summary })
}
