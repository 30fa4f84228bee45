//! Peers as processes of their own: the release build of the program, each with a folder of its own.

use std::{
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::Value;

/// A running peer; killed when dropped.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    root: PathBuf,
    ready: Value,
    _out: BufReader<ChildStdout>,
}

/// The program beside this one: what `cargo build --release --workspace --bin antiphon` makes.
fn program() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(Path::parent).unwrap_or(&own);
    let program = folder.join("antiphon");
    if program.is_file() {
        return Ok(program);
    }
    let message =
        format!("{} is not there: cargo build --release --workspace --bin antiphon", program.display());
    Err(io::Error::new(io::ErrorKind::NotFound, message))
}

/// The program, with this folder as its home and with its data in `data` below it.
fn command(root: &Path) -> io::Result<Command> {
    let mut command = Command::new(program()?);
    command
        .env("HOME", root)
        .env("ANTIPHON_DATA_DIR", root.join("data"))
        .env("ANTIPHON__NETWORK__MDNS", "false")
        .env("ANTIPHON__NETWORK__UPNP", "false")
        .env("ANTIPHON__NETWORK__ALLOW_PRIVATE", "true")
        .env("ANTIPHON__WALLET__KEYRING", "false")
        .env_remove("XDG_DATA_HOME")
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("STATE_DIRECTORY")
        .env_remove("CREDENTIALS_DIRECTORY")
        .stdin(Stdio::null());
    Ok(command)
}

impl Peer {
    /// Starts a peer on loopback and waits until it is ready.
    ///
    /// # Errors
    /// When there is no program, or it does not start.
    pub fn up(root: &Path, arguments: &[&str]) -> io::Result<Self> {
        let mut command = command(root)?;
        command.args(["up", "--json", "--http", "127.0.0.1:0"]);
        command.args(["--listen", "/ip4/127.0.0.1/udp/0/quic-v1", "--listen", "/ip4/127.0.0.1/tcp/0"]);
        let log = std::fs::File::create(root.join("log"))?;
        let mut child = command.args(arguments).stdout(Stdio::piped()).stderr(log).spawn()?;
        let Some(out) = child.stdout.take() else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let mut out = BufReader::new(out);
        let mut line = String::new();
        out.read_line(&mut line)?;
        let ready = serde_json::from_str(&line).map_err(|error| {
            let log = std::fs::read_to_string(root.join("log")).unwrap_or_default();
            io::Error::other(format!("the peer did not start: {error}: {line}\n{log}"))
        })?;
        Ok(Self { child, root: root.to_owned(), ready, _out: out })
    }

    /// The address of its server.
    #[must_use]
    pub fn base(&self) -> &str {
        self.ready["http"].as_str().unwrap_or_default()
    }

    /// Its address for other peers.
    #[must_use]
    pub fn address(&self) -> &str {
        let all = self.ready["listen"].as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().filter_map(Value::as_str).find(|address| address.contains("quic")).unwrap_or_default()
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Runs a command beside it and gives its JSON.
    ///
    /// # Errors
    /// When it fails.
    pub fn tell(&self, arguments: &[&str]) -> io::Result<Value> {
        let output = command(&self.root)?.args(arguments).arg("--json").output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        serde_json::from_slice(&output.stdout).map_err(io::Error::other)
    }

    /// Mebibytes of a line of its `/proc/PID/status`: `VmRSS` is what it has in memory, `VmHWM` what it had at most.
    #[must_use]
    pub fn memory_mib(&self, line: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let found = status.lines().find(|found| found.starts_with(line)).unwrap_or_default();
        found.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
