//! A peer on js-libp2p (`interop/js`), which shares no code with ours, as a process of its own.
//!
//! Needs Node.js and npm. The packages that its lock file names are installed once into the target directory, from npm's
//! registry. Where that cannot be, the tests say so and do nothing, but in CI (`CI` is set), where they fail.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use antiphon_p2p::{Multiaddr, PeerId};
use antiphon_proto::NetworkId;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
};

use crate::harness::within;

/// Oldest that its packages run on.
const NODE: (u32, u32) = (20, 19);

/// Its process; dropping it kills it.
pub(crate) struct JsPeer {
    pub(crate) id: PeerId,
    pub(crate) addresses: Vec<Multiaddr>,
    /// Whether libp2p's QUIC for Node.js has a build for this machine.
    has_quic: bool,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl JsPeer {
    /// Starts it; none where it cannot run. `ledger_size` is what it says of its ledger. Where it has no QUIC, it does not
    /// listen there.
    pub(crate) async fn start(network: NetworkId, ledger_size: u64, listen: &[&str]) -> Option<Self> {
        static INSTALLED: OnceLock<Option<PathBuf>> = OnceLock::new();
        let folder = INSTALLED.get_or_init(install).as_ref()?;
        let mut command = tokio::process::Command::new("node");
        command.arg(folder.join("peer.mjs")).args(["--network", &network.to_string()]);
        command.args(["--ledger-size", &ledger_size.to_string()]);
        listen.iter().for_each(|address| {
            command.args(["--listen", address]);
        });
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let mut errors = BufReader::new(process.stderr.take().unwrap()).lines();
        tokio::spawn(async move {
            while let Ok(Some(line)) = errors.next_line().await {
                eprintln!("  js: {line}");
            }
        });
        let mut peer = Self {
            id: PeerId::random(),
            addresses: Vec::new(),
            has_quic: false,
            stdin: process.stdin.take().unwrap(),
            stdout: BufReader::new(process.stdout.take().unwrap()).lines(),
            _process: process,
        };
        let ready = peer.event("ready", |_| true).await;
        peer.id = peer_id(&ready["peer"]);
        peer.addresses = ready["addresses"]
            .as_array()
            .unwrap()
            .iter()
            .map(|address| address.as_str().unwrap().parse().unwrap())
            .collect();
        peer.has_quic = ready["quic"] == true;
        Some(peer)
    }

    /// Whether it speaks the transport of an address; where it has no QUIC, says so.
    pub(crate) fn speaks(&self, address: &str) -> bool {
        let speaks = self.has_quic || !address.contains("/quic-v1");
        if !speaks {
            // Its lock file has a build for one kind of machine.
            if cfg!(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu")) {
                missing("libp2p's QUIC for Node.js");
            }
            eprintln!("SKIPPED: no QUIC for Node.js on this machine");
        }
        speaks
    }

    /// Tells it to do something.
    pub(crate) async fn tell(&mut self, command: Value) {
        self.stdin.write_all(format!("{command}\n").as_bytes()).await.unwrap();
    }

    /// Waits for an event that fits, and skips the others.
    pub(crate) async fn event(&mut self, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        within(async {
            loop {
                let line = self.stdout.next_line().await.unwrap().expect("the peer has ended");
                let event: Value = serde_json::from_str(&line).unwrap();
                assert_ne!(event["event"], "error", "{event:#}");
                if event["event"] == name && fits(&event) {
                    return event;
                }
            }
        })
        .await
    }
}

pub(crate) fn peer_id(value: &Value) -> PeerId {
    value.as_str().unwrap().parse().unwrap()
}

/// Says that something is not there. In CI it must be.
pub(crate) fn missing(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "{what} is needed in CI");
    eprintln!("SKIPPED: {what} is missing");
}

/// The folder with the peer and its packages.
fn install() -> Option<PathBuf> {
    if node_version().is_none_or(|version| version < NODE) {
        missing(&format!("Node.js {}.{} or newer", NODE.0, NODE.1));
        return None;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("js");
    fs::create_dir_all(&folder).unwrap();
    // Other processes with tests of the same target directory wait here.
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let packages = copy_sources(&folder);
    let mark = folder.join("installed");
    if fs::read_to_string(&mark).is_ok_and(|installed| installed == packages) {
        return Some(folder);
    }
    // What fails half-way leaves nothing that can be used.
    let _ = fs::remove_file(&mark);
    let installed = Command::new("npm").args(["ci", "--loglevel=error"]).current_dir(&folder).output();
    match installed {
        Ok(output) if output.status.success() => {
            fs::write(mark, packages).unwrap();
            Some(folder)
        }
        Ok(output) => {
            eprintln!("{}", String::from_utf8_lossy(&output.stderr));
            missing("a package from npm's registry");
            None
        }
        Err(_) => {
            missing("npm");
            None
        }
    }
}

/// Major and minor number of the Node.js that is there.
fn node_version() -> Option<(u32, u32)> {
    let output = Command::new("node").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut numbers = text.trim().strip_prefix('v')?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Copies the peer into a folder; each file changes in one step, because another test may be starting it. Gives a hash of
/// those that say which packages it needs.
fn copy_sources(folder: &Path) -> String {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../interop/js");
    let mut files: Vec<PathBuf> = fs::read_dir(sources)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    let mut packages = blake3::Hasher::new();
    for path in files {
        let (name, bytes) = (path.file_name().unwrap(), fs::read(&path).unwrap());
        if path.extension().is_none_or(|extension| extension == "json") {
            packages.update(&bytes);
        }
        let (copy, copying) = (folder.join(name), folder.join("copying"));
        if fs::read(&copy).is_ok_and(|there| there == bytes) {
            continue;
        }
        fs::write(&copying, bytes).unwrap();
        fs::rename(&copying, &copy).unwrap();
    }
    packages.finalize().to_string()
}
