//! Asking for a password on a terminal, without an echo.

use std::{
    io::{self, IsTerminal, Write},
    os::fd::AsFd,
};

use anyhow::{Context, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr},
};
use tokio_util::sync::CancellationToken;
use zeroize::{Zeroize, Zeroizing};

use super::password::{MAX_BYTES, Password};

/// How often a prompt looks whether the process is told to stop.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Whether somebody sits at a terminal, and this process may read from it: one in the background would be stopped.
#[must_use]
pub fn is_possible() -> bool {
    let terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
    // Where the terminal is not the one that controls this process, nothing stops it.
    let foreground = || tcgetpgrp(io::stdin()).map_or(true, |group| group == rustix::process::getpgrp());
    terminal && foreground()
}

/// Asks once.
///
/// # Errors
/// An empty password, the end of the input, Ctrl-C, or `cancel`.
pub fn ask(question: &str, cancel: &CancellationToken) -> anyhow::Result<Password> {
    let mut error = io::stderr();
    write!(error, "{question}: ")?;
    error.flush()?;
    let typed = {
        let _quiet = Quiet::new().context("cannot turn off the echo of the terminal")?;
        read(cancel)
    };
    writeln!(error)?;
    Password::new(typed?)
}

/// Asks for a new password, twice.
///
/// # Errors
/// As [`ask`], and when both are not the same.
pub fn ask_new(question: &str, cancel: &CancellationToken) -> anyhow::Result<Password> {
    let first = ask(question, cancel)?;
    if ask("once more", cancel)? != first {
        bail!("the two passwords are not the same; nothing was changed");
    }
    Ok(first)
}

fn read(cancel: &CancellationToken) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let input = io::stdin();
    let mut line = Line::default();
    loop {
        if cancel.is_cancelled() {
            bail!("interrupted");
        }
        let mut waits = [PollFd::from_borrowed_fd(input.as_fd(), PollFlags::IN)];
        match poll(&mut waits, Some(&LOOK_EVERY)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(errno) => return Err(io::Error::from(errno).into()),
        }
        // A key at a time, past the buffer of the standard library, which would keep what was typed.
        let mut key = [0];
        let step = match rustix::io::read(&input, &mut key) {
            Ok(0) => Step::Ended,
            Ok(_) => line.take(key[0]),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => continue,
            Err(errno) => return Err(io::Error::from(errno).into()),
        };
        key.zeroize();
        match step {
            Step::More => {}
            Step::Done => return Ok(line.0),
            Step::Ended => bail!("no password was given"),
            Step::Interrupted => bail!("interrupted"),
        }
    }
}

/// A terminal that neither shows keys nor acts on them. As it was when dropped.
struct Quiet(Termios);

impl Quiet {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        // Ctrl-C too is only a key: a process that it ends would leave the terminal without an echo.
        quiet.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN;
        tcsetattr(io::stdin(), OptionalActions::Now, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // What was typed ahead stays for whoever reads next. Nothing can be done about an error here.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// What a key means.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    More,
    Done,
    Ended,
    Interrupted,
}

/// What has been typed.
struct Line(Zeroizing<Vec<u8>>);

impl Default for Line {
    fn default() -> Self {
        // Room for everything from the start, so that no copy is left behind when it grows.
        Self(Zeroizing::new(Vec::with_capacity(MAX_BYTES + 1)))
    }
}

impl Line {
    fn take(&mut self, key: u8) -> Step {
        match key {
            b'\r' | b'\n' => return Step::Done,
            0x03 => return Step::Interrupted,
            0x04 if self.0.is_empty() => return Step::Ended,
            0x04 => return Step::Done,
            // Backspace takes back a whole character, of however many bytes.
            0x08 | 0x7f => while self.0.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            // Ctrl-U.
            0x15 => self.0.zeroize(),
            key if self.0.len() <= MAX_BYTES => self.0.push(key),
            // Too long; said when it is whole.
            _ => {}
        }
        Step::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[u8]) -> (Step, Vec<u8>) {
        let mut line = Line::default();
        let last = keys.iter().map(|key| line.take(*key)).last().unwrap();
        (last, line.0.to_vec())
    }

    #[test]
    fn keys() {
        assert_eq!(typed(b"word\r"), (Step::Done, b"word".to_vec()));
        assert_eq!(typed("w\u{f6}\x7f\x7f\x7fab\n".as_bytes()), (Step::Done, b"ab".to_vec()));
        assert_eq!(typed(b"wrong\x15right\x04"), (Step::Done, b"right".to_vec()));
        assert_eq!(typed(b"\x04").0, Step::Ended);
        assert_eq!(typed(b"wo\x03").0, Step::Interrupted);
        let (step, long) = typed(&[b'x'; MAX_BYTES + 50]);
        assert_eq!((step, long.len()), (Step::More, MAX_BYTES + 1));
    }
}
