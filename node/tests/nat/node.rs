//! The program in a namespace: peers at home and mini-nodes on servers, started, asked, killed and started again.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    common::{Machine, hash, signal, tune},
    lab::{PORT, Server},
    netns::{Netns, enter},
};

/// Longest wait for a start. A first start waits for the network that it joins.
const START: Duration = Duration::from_secs(90);
/// Last lines of a log that are shown when something failed.
const SHOWN: usize = 60;
/// Seconds of an ordinary song.
const SECONDS: u32 = 25;

/// A process of the program, with a machine of its own that outlives it. Killed when dropped.
pub(crate) struct Node {
    pub(crate) label: String,
    pub(crate) machine: Machine,
    namespace: String,
    arguments: Vec<String>,
    settings: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Mutex<Child>>,
    /// What it said when it was ready, and when that was.
    ready: Arc<Mutex<Option<(Value, Instant)>>>,
    /// Of a mini-node: where others join.
    address: Option<String>,
}

impl Node {
    /// A peer in a home, with so many songs of its own, not started yet.
    pub(crate) fn peer(label: &str, namespace: &Netns, join: &[&Self], songs: std::ops::Range<u64>) -> Self {
        let mut node = Self::new(label, namespace, "up", join);
        for seed in songs {
            node.add_song(seed, SECONDS);
        }
        node.arguments.push(node.machine.music().to_str().unwrap().to_owned());
        node
    }

    /// A mini-node, not started yet.
    pub(crate) fn mini(label: &str, server: &Server, join: &[&Self]) -> Self {
        let mut node = Self::new(label, &server.host, "mini-node", join);
        node.address = Some(format!("/ip4/{}/udp/{PORT}/quic-v1", server.line.address));
        node
    }

    fn new(label: &str, namespace: &Netns, verb: &str, join: &[&Self]) -> Self {
        let mut arguments: Vec<String> = [verb, "--json", "--http", "127.0.0.1:0"].map(str::to_owned).into();
        for transport in [format!("udp/{PORT}/quic-v1"), format!("tcp/{PORT}")] {
            arguments.extend(["--listen".to_owned(), format!("/ip4/0.0.0.0/{transport}")]);
        }
        for mini in join {
            arguments.extend(["--peer-vps".to_owned(), mini.address()]);
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nat");
        fs::create_dir_all(&folder).unwrap();
        let name = thread::current().name().unwrap_or("nat").replace("::", " ");
        let log = folder.join(format!("{name} {label}.log"));
        let _ = fs::remove_file(&log);
        Self {
            label: label.to_owned(),
            machine: Machine::new(),
            namespace: namespace.name().to_owned(),
            arguments,
            settings: Vec::new(),
            log,
            child: None,
            ready: Arc::default(),
            address: None,
        }
    }

    /// Adds a song. Gives its content hash.
    pub(crate) fn add_song(&self, seed: u64, seconds: u32) -> String {
        let path = self.song(seed);
        tune(&path, seed, seconds);
        hash(&path)
    }

    /// The file of a song.
    pub(crate) fn song(&self, seed: u64) -> PathBuf {
        self.machine.music().join(format!("tune {seed}.wav"))
    }

    /// A setting of the environment, as `NETWORK__MDNS`.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.settings.push((format!("ANTIPHON__{key}"), value.to_owned()));
    }

    /// Joins through this address too.
    pub(crate) fn join(&mut self, address: String) {
        self.arguments.extend(["--peer-vps".to_owned(), address]);
    }

    /// Of a mini-node: where others join.
    pub(crate) fn address(&self) -> String {
        self.address.clone().expect("a mini-node")
    }

    /// The same for those who cannot use UDP.
    pub(crate) fn tcp_address(&self) -> String {
        self.address().replace(&format!("/udp/{PORT}/quic-v1"), &format!("/tcp/{PORT}"))
    }

    /// Starts the process without waiting for it.
    pub(crate) fn start(&mut self) {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, env!("CARGO_BIN_EXE_antiphon")]);
        self.machine.dress(&mut command);
        // As it is in the world.
        command.env("ANTIPHON__NETWORK__ALLOW_PRIVATE", "false");
        command.envs(self.settings.iter().map(|(key, value)| (key, value)));
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        command.args(&self.arguments).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let ready = Arc::new(Mutex::new(None));
        let told = ready.clone();
        thread::spawn(move || {
            let mut line = String::new();
            if out.read_line(&mut line).is_ok()
                && let Ok(said) = serde_json::from_str(&line)
            {
                *told.lock().unwrap() = Some((said, Instant::now()));
            }
            // Kept from a broken pipe.
            let _ = std::io::copy(&mut out, &mut std::io::sink());
        });
        (self.child, self.ready) = (Some(Mutex::new(child)), ready);
    }

    /// Waits until the process is ready.
    pub(crate) fn wait_ready(&self) {
        let mut ended = None;
        let ready = until(START, || {
            ended = self.child.as_ref().and_then(|child| child.lock().unwrap().try_wait().unwrap());
            ended.is_some() || self.is_ready()
        });
        if ready.is_none() || ended.is_some() {
            self.show_log();
            panic!("{} does not start: {ended:?}", self.label);
        }
    }

    pub(crate) fn up(&mut self) {
        self.start();
        self.wait_ready();
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take().map(|child| child.into_inner().unwrap()) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take().map(|child| child.into_inner().unwrap()) {
            signal(child.id(), "TERM");
            child.wait().unwrap();
        }
    }

    /// Whether the process is still the one that was started.
    pub(crate) fn is_alive(&self) -> bool {
        self.child.as_ref().is_some_and(|child| child.lock().unwrap().try_wait().unwrap().is_none())
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.lock().unwrap().is_some()
    }

    fn ready(&self) -> (Value, Instant) {
        self.ready.lock().unwrap().clone().expect("a process that is ready")
    }

    pub(crate) fn peer_id(&self) -> String {
        self.ready().0["peer_id"].as_str().unwrap().to_owned()
    }

    /// When the process was ready.
    pub(crate) fn ready_at(&self) -> Instant {
        self.ready().1
    }

    /// Whether it listens on an address that begins so.
    pub(crate) fn listens_on(&self, beginning: &str) -> bool {
        let listen = self.ready().0["listen"].take();
        listen.as_array().unwrap().iter().any(|address| address.as_str().unwrap().starts_with(beginning))
    }

    /// Asks the process over its control socket, as its commands do, without the cost of a process for each question.
    pub(crate) fn ask(&self, request: &Value) -> Result<Value, String> {
        if !self.is_ready() {
            return Err(format!("{}: not ready", self.label));
        }
        let ready = self.ready().0;
        let socket = ready["control"].as_str().unwrap();
        let broken = |error: std::io::Error| format!("{}: {error}", self.label);
        let mut stream = UnixStream::connect(socket).map_err(broken)?;
        stream.set_read_timeout(Some(Duration::from_secs(120))).map_err(broken)?;
        let call = json!({ "schema": 1, "request": request });
        stream.write_all(format!("{call}\n").as_bytes()).map_err(broken)?;
        for line in BufReader::new(stream).lines() {
            let mut line: Value = serde_json::from_str(&line.map_err(broken)?).unwrap();
            if line["failure"].is_object() {
                return Err(format!("{}: {}", self.label, line["failure"]["message"]));
            }
            if !line["result"].is_null() {
                return Ok(line["result"].take());
            }
        }
        Err(format!("{}: no answer", self.label))
    }

    pub(crate) fn status(&self) -> Value {
        self.ask(&json!({ "command": "status" })).unwrap_or_else(|error| panic!("{error}"))
    }

    /// `antiphon peers --json`.
    pub(crate) fn peers(&self) -> Value {
        self.ask(&json!({ "command": "peers" })).unwrap_or_else(|error| panic!("{error}"))
    }

    /// How those that it is connected with are connected, by their ids.
    pub(crate) fn links(&self) -> HashMap<String, Link> {
        let peers = self.peers();
        let list = peers["peers"].as_array().expect("a list of peers");
        let text = |peer: &Value, key: &str| peer[key].as_str().unwrap_or_default().to_owned();
        let link = |peer: &Value| Link {
            path: text(peer, "path"),
            transport: text(peer, "transport"),
            via: text(peer, "via"),
        };
        list.iter().map(|peer| (text(peer, "peer_id"), link(peer))).collect()
    }

    pub(crate) fn online_songs(&self) -> u64 {
        self.status()["online_songs"].as_u64().unwrap()
    }

    /// Gets a song by its content hash and says whether the right bytes arrived.
    pub(crate) fn get(&self, content: &str) -> Result<(), String> {
        let done = self.machine.command().args(["get", content, "--json"]).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        if !done.status.success() {
            // What comes before is progress.
            return Err(format!("{}: {}", self.label, said.lines().last().unwrap_or_default()));
        }
        let got: Value = serde_json::from_slice(&done.stdout).unwrap();
        let found = hash(Path::new(got["path"].as_str().unwrap()));
        if found == content { Ok(()) } else { Err(format!("{}: {found} came for {content}", self.label)) }
    }

    /// What the process counts, to be read by a thread of its own.
    pub(crate) fn meter(&self) -> Meter {
        let url = self.ready().0["http"].as_str().unwrap().to_owned();
        let base = url.strip_prefix("http://").unwrap().to_owned();
        Meter { namespace: self.namespace.clone(), base }
    }

    /// The last lines of what the process wrote, and what it counted of presence.
    pub(crate) fn show_log(&self) {
        let mut text = String::new();
        if let Ok(mut log) = File::open(&self.log) {
            let _ = log.read_to_string(&mut text);
        }
        let lines: Vec<&str> = text.lines().collect();
        eprintln!("--- {} ({})", self.label, self.log.display());
        for line in &lines[lines.len().saturating_sub(SHOWN)..] {
            eprintln!("  {line}");
        }
        if let Ok(status) = self.ask(&json!({ "command": "status" })) {
            let part = |key: &str| format!("{key} {}", status[key]);
            eprintln!("  {}", ["ledger_size", "online_peers", "online_songs"].map(part).join(", "));
        }
        let meter = self.is_ready().then(|| self.meter());
        let counted = thread::scope(|scope| scope.spawn(|| meter?.enter().page().ok()).join().unwrap());
        for line in counted.iter().flat_map(|text| text.lines()).filter(|line| line.contains("announcements"))
        {
            eprintln!("  {line}");
        }
    }
}

/// See [`Node::meter`].
pub(crate) struct Meter {
    namespace: String,
    base: String,
}

impl Meter {
    /// Moves the calling thread to where the process can be asked.
    pub(crate) fn enter(self) -> Self {
        enter(&self.namespace);
        self
    }

    /// A number of `/metrics`. None: there is no such process any more.
    pub(crate) fn read(&self, name: &str) -> Option<u64> {
        let page = self.page().ok()?;
        let line = page.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// What the API answers to something that is sent.
    pub(crate) fn post(&self, path: &str, body: &Value) -> std::io::Result<Value> {
        let (mut stream, body) = (TcpStream::connect(&self.base)?, body.to_string());
        write!(
            stream,
            "POST /api/v1{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.base,
            body.len()
        )?;
        let answer = std::io::read_to_string(stream)?;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        Ok(serde_json::from_str(body)?)
    }

    fn page(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(&self.base)?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.base)?;
        std::io::read_to_string(stream)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How two are connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// `direct`, `punched` or `relayed`.
    pub(crate) path: String,
    /// `quic` or `tcp`.
    pub(crate) transport: String,
    /// The mini-node between them, where there is one.
    pub(crate) via: String,
}

impl Link {
    pub(crate) fn is_relayed(&self) -> bool {
        self.path == "relayed"
    }
}

/// Starts all of them at once.
pub(crate) fn start_all(nodes: &mut [Node]) {
    nodes.iter_mut().for_each(Node::start);
    nodes.iter().for_each(Node::wait_ready);
}

/// Waits until something is so, and says how long that took. None: it was not so in time.
pub(crate) fn until(within: Duration, mut so: impl FnMut() -> bool) -> Option<Duration> {
    let start = Instant::now();
    loop {
        if so() {
            return Some(start.elapsed());
        }
        if start.elapsed() > within {
            return None;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until each of these sees so many songs online, and says how long that took. Else: what each of them sees.
pub(crate) fn wait_online<'n>(
    nodes: impl IntoIterator<Item = &'n Node> + Clone,
    songs: u64,
    within: Duration,
) -> Result<Duration, String> {
    let seen = || nodes.clone().into_iter().map(|node| (node.label.as_str(), node.online_songs()));
    until(within, || seen().all(|(_, online)| online == songs)).ok_or_else(|| {
        format!("not all see {songs} songs within {within:?}: {:?}", seen().collect::<Vec<_>>())
    })
}

/// Waits until something is so, which must be, and says how long that took.
pub(crate) fn must(what: &str, within: Duration, nodes: &[&Node], so: impl FnMut() -> bool) -> Duration {
    until(within, so).unwrap_or_else(|| {
        nodes.iter().for_each(|node| node.show_log());
        panic!("{what}: not within {within:?}")
    })
}
