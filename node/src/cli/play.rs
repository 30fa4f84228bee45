//! `antiphon play`.

use std::{
    io::{self, IsTerminal, Write},
    process::{Child, Command, Stdio},
};

use anyhow::Context;

use super::{
    args::{Common, Play},
    ask_for,
    output::Output,
    show,
};
use crate::{
    failure::{Failure, Kind},
    ops::Request,
    peer::{Reach, play::PlayRequest},
};

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
    let played = ask_for(common, &play.join, Request::Play(request), Reach::Dial, output, &mut take).await;
    if let Some(mut player) = player {
        drop(player.stdin.take());
        // It plays what it has read.
        let _ = tokio::task::spawn_blocking(move || player.wait()).await;
    }
    show::played(played?, output)
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
