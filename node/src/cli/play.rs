//! `antiphon play`.

use std::{
    io::{self, IsTerminal, Write},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use anyhow::Context;
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    CONNECT_WITHIN,
    args::{Common, Play},
    catch_up, config, end_on_second_signal, interrupted,
    output::Output,
    root, running, show,
};
use crate::{
    failure::{Failure, Kind},
    light,
    ops::{self, Request},
    peer::{Peer, Reach, play::PlayRequest},
    system::datadir::DataDir,
};

/// Pieces between the download and the player.
const PIECES_AHEAD: usize = 2;
/// Programs that play what they read, in the order of preference.
const PLAYERS: [(&str, &[&str]); 2] = [
    ("mpv", &["--no-video", "--really-quiet", "-"]),
    ("ffplay", &["-nodisp", "-autoexit", "-loglevel", "error", "-"]),
];

pub(super) async fn run(common: &Common, play: Play, output: &Output) -> anyhow::Result<()> {
    let request = PlayRequest { song: play.song.join(" "), container: play.format };
    if play.stdout && io::stdout().is_terminal() {
        let message = "music is not for a terminal; for example: antiphon play SONG --stdout | ffplay -";
        return Err(Failure::new(Kind::Usage, message).into());
    }
    let mut player = if play.stdout { None } else { Some(player()?) };
    let mut take = |bytes: &[u8]| -> anyhow::Result<()> {
        match player.as_mut().map(|player| player.stdin.as_mut()) {
            None => {
                let mut out = io::stdout().lock();
                out.write_all(bytes)?;
                Ok(out.flush()?)
            }
            Some(Some(player)) => Ok(player.write_all(bytes)?),
            Some(None) => Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
        }
    };
    let root = root(common)?;
    let config = config(common, &play.join)?;
    let data = DataDir::existing(&root);
    let tell = output.events();
    let played = match running(data.as_ref()).await? {
        Some(client) => client.call_for(Request::Play(request), &*tell, &mut take).await,
        None if light::is_meant(&config, data.as_ref()) => light::refuse("play").map(|()| Value::Null),
        None if data.is_none_or(|data| !data.ledger().exists()) && config.network.peer_vps.is_empty() => {
            let message =
                "no network is known here: name a peer with --peer-vps, or start one with `antiphon up`";
            Err(Failure::new(Kind::NoDaemon, message).into())
        }
        None => {
            let cancel = CancellationToken::new();
            end_on_second_signal(cancel.clone(), Arc::new(output.clone()));
            let peer = tokio::select! {
                peer = Peer::open(root, &config, Reach::Dial, cancel.clone(), output.notes()) => peer?,
                () = cancel.cancelled() => return Err(interrupted()),
            };
            let played = tokio::select! {
                played = here(&peer, request, &*tell, &mut take) => played,
                () = cancel.cancelled() => Err(interrupted()),
            };
            peer.close().await;
            played
        }
    };
    if let Some(mut player) = player {
        drop(player.stdin.take());
        // It plays what it has read.
        let _ = tokio::task::spawn_blocking(move || player.wait()).await;
    }
    show::played(played?, output)
}

/// Plays without a running peer.
async fn here(
    peer: &Peer,
    request: PlayRequest,
    tell: ops::Tell<'_>,
    take: &mut (dyn FnMut(&[u8]) -> anyhow::Result<()> + Send),
) -> anyhow::Result<Value> {
    if peer.network.is_some() && !peer.connected(CONNECT_WITHIN).await {
        tracing::warn!("no peer of the network answers");
    }
    // The song may be in blocks that are still on their way.
    catch_up(peer).await;
    let (out, mut music) = mpsc::channel::<Bytes>(PIECES_AHEAD);
    let passing = async {
        while let Some(bytes) = music.recv().await {
            take(&bytes)?;
        }
        anyhow::Ok(())
    };
    let playing = ops::play(peer, request, out, tell);
    tokio::pin!(playing, passing);
    tokio::select! {
        played = &mut playing => {
            passing.await?;
            played
        }
        // The player ended.
        passed = &mut passing => {
            passed?;
            playing.await
        }
    }
}

fn player() -> anyhow::Result<Child> {
    for (program, args) in PLAYERS {
        match Command::new(program).args(args).stdin(Stdio::piped()).spawn() {
            Ok(player) => return Ok(player),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot start {program}")),
        }
    }
    let message =
        "neither mpv nor ffplay is installed; another player can read from: antiphon play SONG --stdout";
    Err(Failure::new(Kind::Failed, message).into())
}
