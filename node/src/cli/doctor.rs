//! `antiphon doctor`: what may stand in the way on this machine, and what to do about it.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    args::{Common, Join},
    config,
    output::Output,
    root,
};
use crate::{
    config::Config,
    control::client::Client,
    failure::{Failure, Kind},
    ops::{self, Request, Status},
    peer::{Peer, Reach},
    peer_ops::PeersReport,
    system::{clock, datadir::DataDir},
};

/// Below this, a scan of a large library may fill the disk.
const FREE_BYTES: u64 = 1024 * 1024 * 1024;
/// A peer with many connections and files needs about this many.
const OPEN_FILES: u64 = 1_024;
/// Folders that can be watched: a usual library has a few thousand.
const WATCHES: u64 = 8_192;
/// How long a known peer may take to answer.
const REACH_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Warning,
    Problem,
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    advice: String,
}

#[derive(Default)]
struct Report(Vec<Check>);

impl Report {
    fn add(&mut self, name: &'static str, verdict: Verdict, found: impl Into<String>, advice: &str) {
        let advice = if verdict == Verdict::Ok { String::new() } else { advice.to_owned() };
        self.0.push(Check { name, verdict, found: found.into(), advice });
    }
}

pub(super) async fn run(common: &Common, join: &Join, output: &Output) -> anyhow::Result<()> {
    let mut report = Report::default();
    let root = root(common)?;
    machine(&mut report, &root);
    match config(common, join) {
        Ok(settings) => {
            report.add("settings", Verdict::Ok, "read", "");
            programs(&mut report, &settings);
            peer(&mut report, &root, &settings, output).await;
        }
        Err(error) => report.add(
            "settings",
            Verdict::Problem,
            format!("{error:#}"),
            "mend the settings file or variable",
        ),
    }
    finish(&report, output)
}

fn finish(report: &Report, output: &Output) -> anyhow::Result<()> {
    let problems = report.0.iter().filter(|check| check.verdict == Verdict::Problem).count();
    if output.json {
        output.value(&json!({ "schema": 1, "ok": problems == 0, "checks": report.0 }))?;
    } else {
        for check in &report.0 {
            let mark = match check.verdict {
                Verdict::Ok => "ok     ",
                Verdict::Warning => "warning",
                Verdict::Problem => "PROBLEM",
            };
            output.line(&format!("{mark}  {:<14} {}", check.name, check.found))?;
            if !check.advice.is_empty() {
                output.line(&format!("         {:<14} -> {}", "", check.advice))?;
            }
        }
    }
    match problems {
        0 => Ok(()),
        problems => Err(Failure::new(
            Kind::Failed,
            format!("{problems} of {} checks found a problem", report.0.len()),
        )
        .into()),
    }
}

fn machine(report: &mut Report, root: &Path) {
    let now = clock::now_ms();
    let verdict = if now >= clock::PLAUSIBLE_MS { Verdict::Ok } else { Verdict::Problem };
    report.add(
        "clock",
        verdict,
        format!("{} s since 1970", now / 1_000),
        "set the clock (a Pi needs a time server): records carry the time",
    );
    match rustix::fs::statvfs(existing(root)) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let verdict = if free >= FREE_BYTES { Verdict::Ok } else { Verdict::Warning };
            report.add(
                "disk",
                verdict,
                format!("{} MiB free at {}", free >> 20, root.display()),
                "make room, or choose another --data-dir",
            );
        }
        Err(error) => report.add("disk", Verdict::Warning, error.to_string(), "check the file system"),
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let verdict = if limit >= OPEN_FILES { Verdict::Ok } else { Verdict::Warning };
    report.add(
        "open files",
        verdict,
        format!("{limit} allowed"),
        "raise it: `ulimit -n 4096`, or LimitNOFILE in the service",
    );
    let watches = fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").ok();
    if let Some(watches) = watches.and_then(|text| text.trim().parse::<u64>().ok()) {
        let verdict = if watches >= WATCHES { Verdict::Ok } else { Verdict::Warning };
        report.add("file watches", verdict, format!("{watches} folders allowed"), "raise it: `sysctl fs.inotify.max_user_watches=65536`; without watches, folders are scanned every 15 minutes");
    }
}

/// The directory itself, or the nearest one above it that exists.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|above| above.exists()).unwrap_or_else(|| Path::new("/"))
}

fn programs(report: &mut Report, settings: &Config) {
    let analyzer = settings.library.analyzer();
    if analyzer.has_ffmpeg() {
        report.add("ffmpeg", Verdict::Ok, "found", "");
    } else {
        report.add(
            "ffmpeg",
            Verdict::Warning,
            "not found",
            "install ffmpeg if you have WMA files; nothing else needs it",
        );
    }
}

async fn peer(report: &mut Report, root: &Path, settings: &Config, output: &Output) {
    if let Some(data) = DataDir::existing(root) {
        match Client::connect(&data.control_socket()).await {
            Ok(Some(client)) => {
                let another = Client::connect(&data.control_socket()).await.ok().flatten();
                return running(report, client, another).await;
            }
            Ok(None) => {}
            Err(error) => {
                return report.add(
                    "control socket",
                    Verdict::Problem,
                    format!("{error:#}"),
                    "is the peer run by another user?",
                );
            }
        }
    }
    report.add("running peer", Verdict::Ok, "none; looking at what is on disk", "");
    if !root.join("ledger").exists() {
        return report.add(
            "ledger",
            Verdict::Ok,
            format!("none yet in {}; `antiphon up` makes one", root.display()),
            "",
        );
    }
    let mut settings = settings.clone();
    // Whoever looks for what stands in the way wants to hear of it, not to be asked.
    settings.wallet.prompt = false;
    // Any free port will do for the check.
    settings.network.listen = vec!["/ip4/0.0.0.0/udp/0/quic-v1".into(), "/ip4/0.0.0.0/tcp/0".into()];
    let opened =
        Peer::open(root.to_owned(), &settings, Reach::Serve, CancellationToken::new(), output.notes()).await;
    let peer = match opened {
        Ok(peer) => peer,
        Err(error) => {
            return report.add("data directory", Verdict::Problem, format!("{error:#}"), "see the message");
        }
    };
    let info = peer.ledger.info();
    report.add(
        "ledger",
        Verdict::Ok,
        format!("{} blocks, {} songs, network {}", info.size, info.songs, info.network),
        "",
    );
    report.add("sockets", Verdict::Ok, "UDP and TCP ports can be opened", "");
    if !peer.orders_here() {
        let reached = peer.connected(REACH_WITHIN).await;
        let (verdict, found) = if reached {
            (Verdict::Ok, "a peer of the network answers")
        } else {
            (Verdict::Problem, "no known peer of the network answers")
        };
        report.add(
            "network",
            verdict,
            found,
            "check that the peer of --peer-vps runs and that its UDP and TCP ports are open",
        );
    }
    peer.close().await;
}

async fn running(report: &mut Report, client: Client, another: Option<Client>) {
    let answer = client.call(Request::Status, &|_| {}).await.and_then(ops::read::<Status>);
    let status = match answer {
        Ok(status) => status,
        Err(error) => {
            return report.add("running peer", Verdict::Problem, format!("{error:#}"), "restart it");
        }
    };
    report.add(
        "running peer",
        Verdict::Ok,
        format!("process {}, version {}", status.pid, status.version),
        "",
    );
    report.add(
        "ledger",
        Verdict::Ok,
        format!("{} blocks, network {}", status.ledger_size, status.network),
        "",
    );
    let alone = !status.sequencer && status.upstream.is_none();
    let found = format!("{} peers{}", status.peers.len(), if alone { ", none of them followed" } else { "" });
    report.add(
        "network",
        if alone { Verdict::Problem } else { Verdict::Ok },
        found,
        "check that the peer of --peer-vps runs and that its UDP and TCP ports are open",
    );
    let ways = match another {
        Some(client) => client.call(Request::Peers, &|_| {}).await.and_then(ops::read::<PeersReport>).ok(),
        None => None,
    };
    if let Some(ways) = ways {
        reachability(report, &ways);
        mini_nodes(report, &ways);
    }
    let by_transport = status.peers.iter().fold(BTreeMap::<&str, usize>::new(), |mut counts, peer| {
        *counts.entry(&peer.transport).or_default() += 1;
        counts
    });
    if !by_transport.is_empty() && !by_transport.contains_key("quic") {
        report.add(
            "quic",
            Verdict::Warning,
            "every connection is over TCP",
            "open the UDP port: QUIC starts faster and loses less",
        );
    }
    if status.library.pending > 0 {
        report.add(
            "registrations",
            Verdict::Warning,
            format!("{} wait for the network", status.library.pending),
            "they are handed in by themselves when a peer of the network is connected",
        );
    }
}

/// How others reach this peer, and what would help.
fn reachability(report: &mut Report, ways: &PeersReport) {
    let (verdict, found) = match ways.reachability.as_str() {
        "public" => (Verdict::Ok, "others can dial this peer".to_owned()),
        "private" if ways.mini_nodes.iter().any(|known| known.reservation == "held") => (
            Verdict::Warning,
            format!("others cannot dial this peer (router: {}); mini-nodes relay to it", ways.nat),
        ),
        "private" => (
            Verdict::Problem,
            format!("others cannot dial this peer (router: {}), and no mini-node relays to it", ways.nat),
        ),
        _ => (Verdict::Ok, "not tested yet".to_owned()),
    };
    report.add("reachability", verdict, found, &ways.advice);
    let (verdict, found) = match ways.upnp.as_str() {
        "mapped" => (Verdict::Ok, "the router forwards the port"),
        "none" => (Verdict::Ok, "no router here answers to it"),
        "behind_another_nat" => (Verdict::Warning, "the router is itself behind another NAT"),
        "expired" => (Verdict::Warning, "the router forwards the port no longer"),
        _ => return,
    };
    report.add(
        "upnp",
        verdict,
        found,
        "a port forwarded by hand works too, if the line has a public address",
    );
}

fn mini_nodes(report: &mut Report, ways: &PeersReport) {
    let known: Vec<_> = ways.mini_nodes.iter().filter(|known| known.is_mini_node != Some(false)).collect();
    if known.is_empty() {
        return;
    }
    let connected = known.iter().filter(|known| known.state == "connected").count();
    let failing = known.iter().filter(|known| known.failures > 0 && known.state != "connected");
    let failing: Vec<String> = failing
        .map(|known| format!("{}: {}", known.addr, known.reason.as_deref().unwrap_or("no answer")))
        .collect();
    let mut found = format!("{connected} of {} connected", known.len());
    if !failing.is_empty() {
        found = format!("{found}; {}", failing.join("; "));
    }
    let verdict = match connected {
        0 => Verdict::Problem,
        _ if failing.is_empty() => Verdict::Ok,
        _ => Verdict::Warning,
    };
    report.add("mini-nodes", verdict, found, "those that do not answer are tried again by themselves");
}
