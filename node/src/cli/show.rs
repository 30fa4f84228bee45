//! Answers for people.

use std::{fmt::Write as _, path::Path};

use serde_json::Value;

use super::{
    args::{Common, Join},
    config,
    output::Output,
};
use crate::{
    config::Mode,
    failure::{Failure, Kind},
    library::scan::{NOT_AUDIO_NAME, Report},
    ops::{self, MatchReport, Status},
    peer::{catchup::Progress, choice::SourceLine, get::Gotten, play::PlayReport, select::name},
    tokens,
};

/// Files that are named one by one before the rest is counted.
const NAMED: usize = 20;

/// Any answer: JSON, or its fields one on a line.
pub(super) fn plain(answer: &Value, output: &Output) -> anyhow::Result<()> {
    if output.json {
        return output.value(answer);
    }
    let mut text = String::new();
    fields(answer, 0, &mut text);
    output.raw(text.as_bytes())
}

fn fields(value: &Value, depth: usize, text: &mut String) {
    let Value::Object(map) = value else { return };
    for (name, value) in map {
        let (indent, name) = ("  ".repeat(depth), name.replace('_', " "));
        match value {
            Value::Object(_) => {
                let _ = writeln!(text, "{indent}{name}:");
                fields(value, depth + 1, text);
            }
            Value::String(words) if words.is_empty() => {}
            Value::Null => {}
            Value::String(words) => {
                let _ = writeln!(text, "{indent}{name}: {words}");
            }
            Value::Number(_) if depth == 0 && name == "schema" => {}
            other => {
                let _ = writeln!(text, "{indent}{name}: {other}");
            }
        }
    }
}

/// A scan in a sentence.
pub(super) fn scan_sentence(report: &Report) -> String {
    let mut text = format!(
        "{} files: {} new songs, {} new variants, {} known to the network, {} unchanged, {} skipped, {} failed",
        report.files,
        report.songs_new,
        report.variants_new,
        report.known_new,
        report.unchanged,
        report.skipped.len(),
        report.failed.len(),
    );
    if report.not_listed > 0 {
        let _ = write!(text, " and {} more of either", report.not_listed);
    }
    if report.pending > 0 {
        let _ = write!(text, ", {} wait for the network", report.pending);
    }
    if report.removed > 0 {
        let _ = write!(text, ", {} gone", report.removed);
    }
    let _ = write!(text, ", {:.1} s", report.seconds);
    text
}

pub(super) fn scan(report: &Value, output: &Output) -> anyhow::Result<()> {
    let read: Report = ops::read(report.clone())?;
    if output.json {
        output.value(report)?;
    } else {
        for (name, list) in [("skipped", &read.skipped), ("failed", &read.failed)] {
            // Covers and playlists are everywhere; --json has them.
            let list: Vec<_> = list.iter().filter(|listed| listed.reason != NOT_AUDIO_NAME).collect();
            for listed in list.iter().take(NAMED) {
                output.line(&format!("{name}: {}: {}", listed.path, listed.reason))?;
            }
            if list.len() > NAMED {
                output.line(&format!("{name}: {} more; --json lists them", list.len() - NAMED))?;
            }
        }
        output.line(&scan_sentence(&read))?;
    }
    if read.interrupted {
        return Err(Failure::new(Kind::Failed, "interrupted; the next scan goes on from here").into());
    }
    Ok(())
}

pub(super) fn get(report: Value, output: &Output) -> anyhow::Result<()> {
    let gotten: Gotten = ops::read(report.clone())?;
    if output.json {
        output.value(&report)?;
    }
    let (songs, failed) = match gotten {
        Gotten::One(report) => (vec![report], Vec::new()),
        Gotten::Many(many) => (many.songs, many.failed),
    };
    if !output.json {
        for report in &songs {
            output.line(&report.path)?;
            output.note(&format!(
                "{}: {} bytes from {}, {} of them there before, verified, {:.1} s",
                name(&report.artist, &report.title),
                report.bytes,
                from(&report.sources),
                report.resumed_bytes,
                report.seconds
            ));
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    let mut message = format!("{} of {} songs were not got:", failed.len(), failed.len() + songs.len());
    for song in &failed {
        let _ = write!(message, "\n  {}: {}", song.title, song.reason);
    }
    Err(Failure::new(Kind::Failed, message).into())
}

/// What was played is said on stderr: its bytes have gone to stdout.
pub(super) fn played(report: Value, output: &Output) -> anyhow::Result<()> {
    if output.json {
        output.note(&report.to_string());
        return Ok(());
    }
    let report: PlayReport = ops::read(report)?;
    output.note(&format!(
        "{}: {} bytes from {}, verified, the first after {} ms",
        name(&report.artist, &report.title),
        report.bytes,
        from(&report.sources),
        report.first_byte_ms
    ));
    if report.receipts > 0 {
        let heard = f64::from(u32::try_from(report.heard_ms).unwrap_or(u32::MAX)) / 1_000.0;
        output.note(&format!("{heard:.1} s were heard; the receipt is on its way to the council"));
    }
    Ok(())
}

fn from(sources: &[SourceLine]) -> String {
    match sources {
        [] => "the own library".to_owned(),
        [one] => format!("peer {}", one.peer),
        [most, ..] => format!("{} peers, most from {}", sources.len(), most.peer),
    }
}

pub(super) fn status(status: Value, output: &Output) -> anyhow::Result<()> {
    if output.json {
        return output.value(&status);
    }
    let status: Status = ops::read(status)?;
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{name:<10} {value}");
        }
    };
    line("peer", &if status.running { status.peer_id.clone() } else { "not running".into() });
    if let Some(units) = status.wallet_units {
        let waits = match status.wallet_escrow_units {
            None | Some(0) => String::new(),
            Some(units) => format!("; {} more wait for the council to release", tokens::words(units)),
        };
        line("balance", &format!("{}{waits}", tokens::words(units)));
    }
    line("network", &status.network);
    line(
        "ledger",
        &format!("{} blocks{}", status.ledger_size, if status.sequencer { ", ordered here" } else { "" }),
    );
    if status.mode == Mode::Light {
        line("light", "no ledger is kept here, only the proofs of songs that were got");
    }
    line("council", status.council.as_deref().unwrap_or_default());
    if let Some(progress) = &status.catching_up {
        let Progress { done, target, peers, .. } = progress;
        line("catches up", &format!("{done} of {target} blocks, from {peers} peers"));
    }
    line("ALARM", status.alarm.as_deref().unwrap_or_default());
    line("follows", status.upstream.as_deref().unwrap_or_default());
    let library = &status.library;
    line(
        "library",
        &format!(
            "{} files: {} in the ledger, {} waiting, {} left out",
            library.files, library.songs, library.pending, library.skipped
        ),
    );
    for folder in &library.folders {
        line("", folder);
    }
    for address in &status.listen {
        line("listens", address);
    }
    line("http", status.http.as_deref().unwrap_or_default());
    line("log", status.serve_log.as_deref().unwrap_or_default());
    line("data", &status.data_dir);
    line("online", &format!("{} peers with {} songs", status.online_peers, status.online_songs));
    line("peers", &status.peers.len().to_string());
    for peer in &status.peers {
        let rtt = peer
            .rtt_us
            .map_or_else(|| "-".to_owned(), |us| format!("{}.{} ms", us / 1_000, us % 1_000 / 100));
        line("", &format!("{} {} {rtt} {}", peer.peer, peer.transport, peer.address));
    }
    output.raw(text.as_bytes())
}

pub(super) fn matched(report: Value, output: &Output) -> anyhow::Result<()> {
    if output.json {
        return output.value(&report);
    }
    let report: MatchReport = ops::read(report)?;
    let song = report.song.as_ref().map_or_else(String::new, |song| {
        format!("#{} {} ({})", song.index, name(&song.artist, &song.title), song.album)
    });
    let score =
        report.score.map_or_else(String::new, |score| format!(", {:.2} % of the bits agree", score * 100.0));
    match (report.matched, report.reason) {
        (true, _) => output.line(&format!("match: {song}{score}")),
        (false, Some(reason)) if song.is_empty() => output.line(&format!("no match: {reason}")),
        (false, reason) => {
            output.line(&format!("no match: {}; closest: {song}{score}", reason.unwrap_or_default()))
        }
    }
}

/// `antiphon fingerprint FILE`: as `fpcalc` prints it.
pub(super) fn fingerprint(common: &Common, file: &Path, output: &Output) -> anyhow::Result<()> {
    let config = config(common, &Join::default())?;
    let analyzer = config.library.analyzer();
    let analysis = ops::analyze(&analyzer, file)?;
    let text = analysis.fingerprint.to_text();
    let (seconds, hundredths) = (analysis.duration_ms / 1_000, analysis.duration_ms % 1_000 / 10);
    if output.json {
        // The very form of `fpcalc -json`, so that scripts for it work.
        return output
            .line(&format!(r#"{{"duration": {seconds}.{hundredths:02}, "fingerprint": "{text}"}}"#));
    }
    output.line(&format!("FILE={}", file.display()))?;
    output.line(&format!("DURATION={seconds}"))?;
    output.line(&format!("FINGERPRINT={text}"))
}
