//! From the command line to an exit code.

pub mod args;
mod council;
mod doctor;
mod dump;
mod find;
mod ledger;
mod output;
mod peers;
mod play;
mod proof;
mod show;
mod table;
mod tokens;
mod up;
mod wallet;
mod web;

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use clap::{CommandFactory, Parser, error::ErrorKind};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::{
    args::{Cli, Command, Common, Join},
    output::Output,
};
use crate::{
    config::{Config, Mode},
    control::client::Client,
    failure::{Failure, Kind},
    light,
    ops::{self, Request},
    peer::{Peer, Reach, get::GetRequest},
    search_ops::nobody_known,
    system::{datadir::DataDir, pathhex},
    wallet::prompt,
};

/// How long a command without a running peer waits for the network.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);

/// Parses, runs, and says how it ended.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(Kind::Usage.exit_code()),
            };
        }
    };
    let output = Output::new(&cli.common);
    output.start_log(matches!(cli.command, Command::Up(_) | Command::MiniNode(_)));
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output.failure(&Failure::new(Kind::Failed, format!("cannot start: {error}")));
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(command(cli, &output));
    // A thread that still hashes a large file must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(2));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let failure = Failure::of(&error);
            output.failure(&failure);
            ExitCode::from(failure.kind.exit_code())
        }
    }
}

/// Whoever read our output has seen enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

async fn command(cli: Cli, output: &Output) -> anyhow::Result<()> {
    let common = cli.common;
    match cli.command {
        Command::Up(up) => up::run(&common, up, output).await,
        Command::MiniNode(serve) => up::mini_node(&common, serve, output).await,
        Command::Scan(scan) => {
            let request = Request::Scan { paths: absolute(&scan.folders)? };
            let report = ask(&common, &scan.join, request, Reach::Dial, output).await?;
            show::scan(&report, output)
        }
        Command::Forget { folders } => {
            // A folder that is gone can be forgotten too.
            let hex = |path: &PathBuf| {
                let path = path.canonicalize().or_else(|_| std::path::absolute(path))?;
                anyhow::Ok(pathhex::encode(&path))
            };
            let request = Request::Forget { paths: folders.iter().map(hex).collect::<anyhow::Result<_>>()? };
            let answer = ask(&common, &Join::default(), request, Reach::Local, output).await?;
            show::plain(&answer, output)
        }
        Command::Search(search) => find::search(&common, search, output).await,
        Command::Discover(discover) => find::discover(&common, discover, output).await,
        Command::Get(get) => {
            let folder = get.out.unwrap_or_else(|| PathBuf::from("."));
            let request = Request::Get(GetRequest {
                song: get.song.join(" "),
                folder: pathhex::encode(&std::path::absolute(folder)?),
                container: get.format,
            });
            let report = ask(&common, &get.join, request, Reach::Dial, output).await?;
            show::get(report, output)
        }
        Command::Play(play) => play::run(&common, play, output).await,
        Command::Status => {
            let status = ask(&common, &Join::default(), Request::Status, Reach::ReadOnly, output).await?;
            show::status(status, output)
        }
        Command::Peers => {
            let answer = ask(&common, &Join::default(), Request::Peers, Reach::ReadOnly, output).await?;
            peers::show(answer, output)
        }
        Command::Ledger(what) => ledger::run(&common, what, output).await,
        Command::Network(what) => council::network(what, output),
        Command::Wallet(what) => wallet::run(&common, what, output).await,
        Command::Web(what) => web::run(&common, what, output).await,
        Command::Council(what) => council::run(&common, what, output).await,
        Command::Fingerprint(file) => show::fingerprint(&common, &file.file, output),
        Command::Match(file) => {
            let path = std::path::absolute(&file.file)?;
            let request = Request::Match { path: pathhex::encode(&path) };
            let report = ask(&common, &Join::default(), request, Reach::ReadOnly, output).await?;
            show::matched(report, output)
        }
        Command::Doctor(join) => doctor::run(&common, &join, output).await,
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "antiphon", &mut text);
            output.raw(&text)
        }
        Command::Man => {
            let mut text = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut text)?;
            output.raw(&text)
        }
    }
}

/// Folders for a request. One that does not exist is found out before a data directory is made for it.
fn absolute(paths: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    let hex = |path: &PathBuf| match path.canonicalize() {
        Ok(path) => Ok(pathhex::encode(&path)),
        Err(error) => {
            Err(Failure::new(Kind::NotFound, format!("cannot scan {}: {error}", path.display())).into())
        }
    };
    paths.iter().map(hex).collect()
}

/// The data directory that a command is about.
fn root(common: &Common) -> anyhow::Result<PathBuf> {
    match &common.data_dir {
        Some(root) => Ok(std::path::absolute(root)?),
        None => DataDir::default_root(),
    }
}

fn config(common: &Common, join: &Join) -> anyhow::Result<Config> {
    // Variables that are not UTF-8 are not ours.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut config = Config::load(common.config.as_deref(), environment)
        .map_err(|error| Failure::new(Kind::Usage, format!("{error:#}")))?;
    if !join.peer_vps.is_empty() {
        config.network.peer_vps.clone_from(&join.peer_vps);
    }
    config.wallet.prompt = prompt::is_possible();
    if join.light {
        config.ledger.mode = Mode::Light;
    }
    if join.network.is_some() {
        config.network.id.clone_from(&join.network);
    }
    Ok(config)
}

/// Asks the running peer, or does it here when none runs.
async fn ask(
    common: &Common,
    join: &Join,
    request: Request,
    reach: Reach,
    output: &Output,
) -> anyhow::Result<Value> {
    let none = &mut |_: &[u8]| bail!("there is music that was not asked for");
    ask_for(common, join, request, reach, output, none).await
}

/// The same, where music comes with it.
async fn ask_for(
    common: &Common,
    join: &Join,
    request: Request,
    reach: Reach,
    output: &Output,
    take: &mut (dyn FnMut(&[u8]) -> anyhow::Result<()> + Send),
) -> anyhow::Result<Value> {
    let root = root(common)?;
    let config = config(common, join)?;
    // What comes from other peers, and what they and the ledger must be there for.
    let fetches = matches!(request, Request::Get(_) | Request::Play(_));
    let records = matches!(request, Request::WalletRecord { .. });
    let tell = if fetches { output.events() } else { output.progress() };
    let data = DataDir::existing(&root);
    if let Some(client) = running(data.as_ref()).await? {
        if let Some(wanted) = &join.network {
            check_network(data.as_ref(), wanted).await?;
        }
        if !join.peer_vps.is_empty() {
            output.note(
                "a peer is running here: it does this with the peers that it has, --peer-vps is not used",
            );
        }
        return client.call_for(request, &*tell, take).await;
    }
    if find::needs_a_peer(&request) {
        return Err(nobody_known().into());
    }
    if matches!(request, Request::Peers) {
        let message = "no peer is running here, so none is connected; start one with `antiphon up`";
        return Err(Failure::new(Kind::NoDaemon, message).into());
    }
    if light::is_meant(&config, data.as_ref()) {
        let cancel = CancellationToken::new();
        end_on_second_signal(cancel.clone(), Arc::new(output.clone()));
        return tokio::select! {
            answer = Box::pin(light::execute(root, &config, request, cancel.clone(), output.notes(), &*tell)) => answer,
            () = cancel.cancelled() => Err(interrupted()),
        };
    }
    let new = data.is_none_or(|data| !data.ledger().exists());
    if fetches && new && config.network.peer_vps.is_empty() {
        let message =
            "no network is known here: name a peer with --peer-vps, or start one with `antiphon up`";
        return Err(Failure::new(Kind::NoDaemon, message).into());
    }
    if (reach == Reach::Local || records) && new {
        return Err(Failure::new(Kind::NotFound, format!("there is no peer in {}", root.display())).into());
    }
    let cancel = CancellationToken::new();
    end_on_second_signal(cancel.clone(), Arc::new(output.clone()));
    let peer = tokio::select! {
        peer = Peer::open(root, &config, reach, cancel.clone(), output.notes()) => peer?,
        () = cancel.cancelled() => return Err(interrupted()),
    };
    if reach == Reach::Dial && peer.network.is_some() && !peer.connected(CONNECT_WITHIN).await {
        tracing::warn!("no peer of the network answers");
    }
    let (out, mut music) = mpsc::channel(ops::PIECES_AHEAD);
    let answer = if matches!(request, Request::Scan { .. }) {
        // A scan that is told to stop still reports what it has found.
        let library = peer.library.clone();
        let stop = cancel.clone();
        let stopper = tokio::spawn(async move {
            stop.cancelled().await;
            library.stop();
        });
        let answer = ops::execute(&peer, request, None, &*tell, out).await;
        stopper.abort();
        answer
    } else {
        let work = async {
            if fetches || records {
                // The song may be in blocks that are still on their way, and so may a record of the wallet.
                catch_up(&peer).await;
            }
            ops::execute(&peer, request, None, &*tell, out).await
        };
        // Ends with the work, or with whoever takes it.
        let passing = async {
            while let Some(bytes) = music.recv().await {
                take(&bytes)?;
            }
            anyhow::Ok(())
        };
        tokio::select! {
            answer = async { tokio::try_join!(work, passing).map(|(answer, ())| answer) } => answer,
            () = cancel.cancelled() => Err(interrupted()),
        }
    };
    peer.close().await;
    answer
}

fn interrupted() -> anyhow::Error {
    Failure::new(Kind::Failed, "interrupted; what has been done is kept").into()
}

async fn running(data: Option<&DataDir>) -> anyhow::Result<Option<Client>> {
    match data {
        Some(data) => Client::connect(&data.control_socket()).await,
        None => Ok(None),
    }
}

/// Whoever insists on a network should not be served by a peer of another.
async fn check_network(data: Option<&DataDir>, wanted: &str) -> anyhow::Result<()> {
    let Some(client) = running(data).await? else { return Ok(()) };
    let status: ops::Status = ops::read(client.call(Request::Status, &|_| {}).await?)?;
    if status.network.eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    let message =
        format!("the running peer is of network {}, not {wanted}; use another --data-dir", status.network);
    Err(Failure::new(Kind::Usage, message).into())
}

/// Follows the network until the own ledger is as long as the followed peer says its own is, or nothing new arrives.
/// Words mean another song in half a ledger than in a whole one.
async fn catch_up(peer: &Peer) {
    const QUIET: Duration = Duration::from_secs(5);
    let upstream = *peer.upstream.borrow();
    let (Some(network), Some(upstream)) = (&peer.network, upstream) else { return };
    let Ok(info) = network.ledger_info(upstream).await else { return };
    let mut grows = peer.ledger.watch();
    while *grows.borrow_and_update() < info.size {
        if !matches!(tokio::time::timeout(QUIET, grows.changed()).await, Ok(Ok(()))) {
            return;
        }
    }
}

/// Waits for SIGINT or SIGTERM.
async fn signalled() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot listen for SIGINT"),
        _ = terminate.recv() => Ok(()),
    }
}

/// Ends the process at the second signal, whatever it is doing.
fn end_on_second_signal(cancel: CancellationToken, output: Arc<Output>) {
    tokio::spawn(async move {
        if signalled().await.is_ok() {
            cancel.cancel();
            output.note("stopping; once more to stop at once (nothing acknowledged is lost)");
        }
        if signalled().await.is_ok() {
            std::process::exit(130);
        }
    });
}
