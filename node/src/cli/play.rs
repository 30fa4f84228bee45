//! `antiphon play`.

use std::{
    io::{self, IsTerminal, Write},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

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

/// How often it is looked whether anybody listens.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Programs that play what they read, in the order of preference.
const PLAYERS: [(&str, &[&str]); 2] = [
    ("mpv", &["--no-video", "--really-quiet", "-"]),
    ("ffplay", &["-nodisp", "-autoexit", "-loglevel", "error", "-"]),
];

pub(super) async fn run(common: &Common, play: Play, output: &Output) -> anyhow::Result<()> {
    let counted = if play.stdout { play.counted } else { !play.uncounted };
    let request = PlayRequest { song: play.song.join(" "), container: play.format, counted };
    if play.stdout && io::stdout().is_terminal() {
        let message = "music is not for a terminal; for example: antiphon play SONG --stdout | ffplay -";
        return Err(Failure::new(Kind::Usage, message).into());
    }
    let (mut player, mut into) = if play.stdout {
        (None, None)
    } else {
        let mut player = player()?;
        let into = player.stdin.take();
        (Some(player), into)
    };
    let to_stdout = play.stdout;
    let mut take = |bytes: &[u8]| -> anyhow::Result<()> {
        if to_stdout {
            let mut out = io::stdout().lock();
            out.write_all(bytes)?;
            return Ok(out.flush()?);
        }
        if bytes.is_empty() {
            // It plays what it has, and ends.
            into = None;
            return Ok(());
        }
        match &mut into {
            Some(into) => Ok(into.write_all(bytes)?),
            None => Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
        }
    };
    let request = Request::Play(request);
    let asking = ask_for(common, &play.join, request, Reach::Dial, output, &mut take);
    let played = tokio::select! {
        played = asking => Some(played),
        // Whoever stops listening ends the play: what was heard until then counts.
        () = nobody_listens(player.as_mut()), if counted => None,
    };
    drop(into);
    if let Some(mut player) = player {
        // It plays what it has read.
        let _ = tokio::task::spawn_blocking(move || player.wait()).await;
    }
    match played {
        Some(played) => show::played(played?, output),
        None => Ok(()),
    }
}

/// Ends when the player does, or whoever reads from standard output.
async fn nobody_listens(mut player: Option<&mut Child>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let gone = match &mut player {
            Some(player) => !matches!(player.try_wait(), Ok(None)),
            None => {
                let out = rustix::stdio::stdout();
                let mut asked = [PollFd::new(&out, PollFlags::empty())];
                let now = Timespec { tv_sec: 0, tv_nsec: 0 };
                poll(&mut asked, Some(&now)).is_ok()
                    && asked.iter().any(|out| out.revents().intersects(PollFlags::ERR | PollFlags::HUP))
            }
        };
        if gone {
            return;
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
