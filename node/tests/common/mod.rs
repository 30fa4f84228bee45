//! Real processes of the program, each with a data directory and home of its own.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// Longest wait for something that takes a second on an idle machine.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// A machine of its own: home, data directory, music.
pub struct Machine {
    root: TempDir,
}

impl Machine {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for part in ["home", "music", "out"] {
            fs::create_dir(root.path().join(part)).unwrap();
        }
        Self { root }
    }

    pub fn path(&self, part: &str) -> PathBuf {
        self.root.path().join(part)
    }

    pub fn music(&self) -> PathBuf {
        self.path("music")
    }

    pub fn out(&self) -> PathBuf {
        self.path("out")
    }

    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// The program, ready for arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_antiphon"));
        self.dress(&mut command);
        command
    }

    /// Runs a command in this machine's home and folder.
    pub fn dress<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let home = self.path("home");
        command
            .env_remove("XDG_DATA_HOME")
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("STATE_DIRECTORY")
            .env("HOME", home)
            // Tests stay on loopback, and in networks that they make.
            .env("ANTIPHON__NETWORK__MDNS", "false")
            .env("ANTIPHON__NETWORK__UPNP", "false")
            .env("ANTIPHON__NETWORK__ALLOW_PRIVATE", "true")
            // And leave the keyring of whoever runs them alone.
            .env("ANTIPHON__WALLET__KEYRING", "false")
            .env_remove("CREDENTIALS_DIRECTORY")
            .env("ANTIPHON_DATA_DIR", self.data())
            .current_dir(self.out())
            .stdin(Stdio::null())
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command().args(args).output().unwrap()
    }

    /// Runs a command that must work and gives its JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.command().args(args).arg("--json").output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {}\n{errors}", output.status);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
            panic!("{args:?}: {e}: {}\n{errors}", String::from_utf8_lossy(&output.stdout))
        })
    }

    pub fn scan(&self) -> Value {
        let music = self.music();
        self.json(&["scan", music.to_str().unwrap()])
    }

    /// Starts a peer on loopback and waits for its ready line.
    pub fn up(&self, args: &[&str]) -> Peer {
        self.up_by(self.command(), args)
    }

    /// The same, started by a command that runs the program.
    pub fn up_by(&self, command: Command, args: &[&str]) -> Peer {
        let loopback = ["--listen", "/ip4/127.0.0.1/udp/0/quic-v1", "--listen", "/ip4/127.0.0.1/tcp/0"];
        self.up_at(command, &[&loopback, args].concat())
    }

    /// The same, listening where the arguments say.
    pub fn up_at(&self, command: Command, args: &[&str]) -> Peer {
        self.start(command, "up", args)
    }

    /// Starts a mini-node on loopback and waits for its ready line.
    pub fn mini_node(&self, args: &[&str]) -> Peer {
        let loopback = ["--listen", "/ip4/127.0.0.1/udp/0/quic-v1", "--listen", "/ip4/127.0.0.1/tcp/0"];
        self.start(self.command(), "mini-node", &[&loopback, args].concat())
    }

    fn start(&self, mut command: Command, what: &str, args: &[&str]) -> Peer {
        command.args([what, "--json", "--http", "127.0.0.1:0"]);
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Kept from blocking on a full pipe, and shown when a test fails.
        let errors = child.stderr.take().unwrap();
        thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                eprintln!("  peer: {line}");
            }
        });
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
        Peer { child, ready, rest: Some(out) }
    }
}

/// A running peer; killed when dropped.
pub struct Peer {
    child: Child,
    pub ready: Value,
    rest: Option<BufReader<std::process::ChildStdout>>,
}

impl Peer {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its address on loopback, over `quic` or `tcp`.
    pub fn address(&self, transport: &str) -> String {
        let listen = self.ready["listen"].as_array().unwrap();
        let found = listen
            .iter()
            .map(|address| address.as_str().unwrap())
            .find(|address| address.contains(transport));
        found.unwrap_or_else(|| panic!("no {transport} in {listen:?}")).to_owned()
    }

    /// A number of `/metrics`: the first line that begins so; 0 when there is none.
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.http("/metrics");
        let line = text.lines().find(|line| line.starts_with(name));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    pub fn http(&self, path: &str) -> String {
        let base = self.ready["http"].as_str().unwrap().strip_prefix("http://").unwrap();
        let mut stream = std::net::TcpStream::connect(base).unwrap();
        use std::io::Write;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {base}\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and what else it wrote on stdout.
    pub fn stop(mut self) -> (ExitStatus, String) {
        signal(self.child.id(), "TERM");
        let mut rest = String::new();
        if let Some(mut out) = self.rest.take() {
            out.read_to_string(&mut rest).unwrap();
        }
        (self.child.wait().unwrap(), rest)
    }

    /// Kilobytes of a line of `/proc/PID/status`.
    pub fn memory_kb(&self, line: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let found = status.lines().find(|l| l.starts_with(line)).unwrap();
        found.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Waits until `done` gives something.
pub fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = done() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "waited too long for {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until a scan by a running peer is over and every file is settled.
pub fn wait_scanned(machine: &Machine, songs: u64) -> Value {
    wait_for(&format!("{songs} songs in the library"), || {
        let status = machine.json(&["status"]);
        (status["library"]["songs"] == songs).then_some(status)
    })
}

/// Waits until as many own songs are listed: a moment after the scan.
pub fn wait_shelved(peer: &Peer, songs: u64) {
    wait_for(&format!("{songs} own songs in the lists"), || {
        let answer = peer.http("/api/v1/songs?shelf=own&limit=100");
        let page: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
        (page["songs"].as_array()?.len() as u64 == songs).then_some(())
    });
}

pub fn hash(path: &Path) -> String {
    blake3::hash(&fs::read(path).unwrap()).to_hex().to_string()
}

/// Whether a program is there. In CI it must be.
pub fn have(program: &str) -> bool {
    let found =
        Command::new(program).arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    missing(program, found)
}

pub fn missing(what: &str, found: bool) -> bool {
    assert!(found || std::env::var_os("CI").is_none(), "{what} is needed in CI");
    if !found {
        eprintln!("SKIPPED: {what} is not installed");
    }
    found
}

/// A Python that has packages of PyPI (with blanks between), in an environment of its own under the target directory.
pub fn python(package: &str, module: &str) -> Option<PathBuf> {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("python-{module}"));
    let python = home.join("bin/python");
    let works = |command: &mut Command| {
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let imports = || works(Command::new(&python).args(["-c", &format!("import {module}")]));
    let there = imports()
        || (works(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home))
            && works(
                Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(package.split(' ')),
            )
            && imports());
    missing(&format!("{package} from PyPI"), there).then_some(python)
}

/// Files of Debian's music packages, or nothing when they are not installed.
pub fn real_music(package: &str) -> Vec<PathBuf> {
    let listed = Command::new("dpkg").args(["-L", package]).output().map(|o| o.stdout).unwrap_or_default();
    let listed = String::from_utf8(listed).unwrap();
    let mut files: Vec<PathBuf> = listed
        .lines()
        .filter(|line| line.ends_with(".ogg") || line.ends_with(".mp3"))
        .map(PathBuf::from)
        .collect();
    files.sort();
    missing(package, !files.is_empty());
    files
}

/// A piece of random notes, different for each seed, as mono WAVE at 11,025 Hz.
pub fn tune(path: &Path, seed: u64, seconds: u32) {
    const RATE: u32 = 11_025;
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut samples: Vec<i16> = Vec::with_capacity((RATE * seconds) as usize);
    while samples.len() < (RATE * seconds) as usize {
        let notes: Vec<f64> = (0..3).map(|_| 110.0 * 2f64.powf((random() % 40) as f64 / 12.0)).collect();
        let length = 1_500 + random() % 4_000;
        for i in 0..length {
            let t = i as f64 / f64::from(RATE);
            let fall = 1.0 - i as f64 / length as f64;
            let sum: f64 = notes.iter().map(|hz| (t * hz * std::f64::consts::TAU).sin()).sum();
            samples.push((sum * fall * 8_000.0) as i16);
        }
    }
    samples.truncate((RATE * seconds) as usize);
    let data: Vec<u8> = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
    let mut file = b"RIFF".to_vec();
    file.extend_from_slice(&(36 + data.len() as u32).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend_from_slice(&RATE.to_le_bytes());
    file.extend_from_slice(&(RATE * 2).to_le_bytes());
    file.extend_from_slice(b"\x02\0\x10\0data");
    file.extend_from_slice(&(data.len() as u32).to_le_bytes());
    file.extend_from_slice(&data);
    fs::write(path, file).unwrap();
}

pub fn tunes(folder: &Path, seeds: std::ops::Range<u64>, seconds: u32) {
    for seed in seeds {
        tune(&folder.join(format!("tune {seed}.wav")), seed, seconds);
    }
}
