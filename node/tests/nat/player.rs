//! A player: it reads a song from `antiphon play --stdout` at the pace at which it is heard, and notes when nothing comes.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStderr, ChildStdout, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::node::Node;

/// What is read at once is heard for so long.
const PIECE: Duration = Duration::from_millis(100);
/// A piece that is late by less was not late: the machine is busy.
const UNHEARD: Duration = Duration::from_millis(50);

/// The last progress before the end is this far from it, at most.
const UNTOLD: u64 = 128 * 1024;
/// What is ahead counts from here on: before, the song has only begun to come.
const BEGUN: Duration = Duration::from_secs(3);

/// How far both ends are.
#[derive(Debug, Default)]
struct Counters {
    heard: AtomicU64,
    /// Bytes that came from other peers, and how many there are in all. 0: not known yet.
    verified: AtomicU64,
    total: AtomicU64,
}

/// A song that is being heard.
pub(crate) struct Player {
    counters: Arc<Counters>,
    hearing: JoinHandle<Heard>,
    arriving: JoinHandle<Arrived>,
    child: Child,
}

/// How a song was heard.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) heard: Heard,
    pub(crate) arrived: Arrived,
    /// Whether `play` ended well.
    pub(crate) ended_well: bool,
}

/// What came out of the loudspeaker.
#[derive(Debug)]
pub(crate) struct Heard {
    /// BLAKE3 of all of it.
    pub(crate) content: String,
    /// Until the first byte.
    pub(crate) first: Duration,
    /// The longest silence in the middle of the song, and all of them together.
    pub(crate) longest_silence: Duration,
    pub(crate) silence: Duration,
    /// The least that was there and not yet heard while more was to come. None: nothing more was to come.
    pub(crate) least_ahead: Option<Duration>,
}

/// What came from other peers.
#[derive(Debug, Default)]
pub(crate) struct Arrived {
    /// The longest time in which nothing verified came, while something was missing. A peer that is far enough ahead
    /// waits on purpose.
    pub(crate) longest_gap: Duration,
    /// From the first to the last byte.
    pub(crate) took: Duration,
    /// The last lines that were no progress.
    pub(crate) said: Vec<String>,
}

impl Player {
    /// Starts to play a song at so many bytes a second.
    pub(crate) fn start(node: &Node, content: &str, bytes_per_second: usize) -> Self {
        let mut command = node.machine.command();
        command.args(["play", content, "--stdout", "--json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, errors) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let counters = Arc::new(Counters::default());
        let ends = [counters.clone(), counters.clone()];
        let [at_hearing, at_arriving] = ends;
        let hearing = thread::spawn(move || hear(out, bytes_per_second, &at_hearing));
        let arriving = thread::spawn(move || arrive(errors, &at_arriving));
        Self { counters, hearing, arriving, child }
    }

    /// Bytes that were heard so far.
    pub(crate) fn heard(&self) -> u64 {
        self.counters.heard.load(Ordering::Relaxed)
    }

    /// Waits for the end of the song.
    pub(crate) fn wait(mut self) -> Report {
        let heard = self.hearing.join().unwrap();
        let ended_well = self.child.wait().unwrap().success();
        Report { heard, arrived: self.arriving.join().unwrap(), ended_well }
    }
}

/// Reads a piece when it is time for it. After a silence, the rest is that much later.
fn hear(mut out: ChildStdout, bytes_per_second: usize, counters: &Counters) -> Heard {
    let mut piece = vec![0; bytes_per_second / 10];
    let mut hasher = blake3::Hasher::new();
    let start = Instant::now();
    let mut first = None;
    let mut due = start;
    let (mut longest, mut all) = (Duration::ZERO, Duration::ZERO);
    let mut least_ahead = None;
    loop {
        let length = fill(&mut out, &mut piece);
        hasher.update(&piece[..length]);
        counters.heard.fetch_add(length as u64, Ordering::Relaxed);
        if length < piece.len() {
            break;
        }
        let now = Instant::now();
        if first.replace(first.unwrap_or(now)).is_none() {
            due = now;
        }
        let late = now.saturating_duration_since(due);
        if late > UNHEARD {
            (longest, all, due) = (longest.max(late), all + late, now);
        }
        if now.saturating_duration_since(first.unwrap_or(now)) > BEGUN
            && let Some(ahead) = counters.ahead(bytes_per_second)
        {
            least_ahead = Some(least_ahead.map_or(ahead, |least: Duration| least.min(ahead)));
        }
        due += PIECE;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Heard {
        content: hasher.finalize().to_hex().to_string(),
        first: first.map_or(Duration::ZERO, |first| first - start),
        longest_silence: longest,
        silence: all,
        least_ahead,
    }
}

/// Bytes read: fewer than there is room for at the end only.
fn fill(out: &mut ChildStdout, piece: &mut [u8]) -> usize {
    let mut length = 0;
    while length < piece.len() {
        match out.read(&mut piece[length..]) {
            Ok(0) | Err(_) => break,
            Ok(more) => length += more,
        }
    }
    length
}

impl Counters {
    /// How long what is there can be heard. None: everything is there.
    fn ahead(&self, bytes_per_second: usize) -> Option<Duration> {
        let [heard, verified, total] =
            [&self.heard, &self.verified, &self.total].map(|counter| counter.load(Ordering::Relaxed));
        let ahead = verified.saturating_sub(heard) as f64 / bytes_per_second as f64;
        (verified + UNTOLD < total).then(|| Duration::from_secs_f64(ahead))
    }
}

/// Follows the progress on stderr.
fn arrive(errors: ChildStderr, counters: &Counters) -> Arrived {
    let mut arrived = Arrived::default();
    let (mut bytes, mut first, mut last) = (0, None, None::<Instant>);
    for line in BufReader::new(errors).lines().map_while(Result::ok) {
        let now = Instant::now();
        let event: Value = serde_json::from_str(&line).unwrap_or_default();
        let Some(verified) = event["progress"]["verified_bytes"].as_u64() else {
            arrived.said.push(line);
            continue;
        };
        counters.total.store(event["progress"]["total"].as_u64().unwrap_or(0), Ordering::Relaxed);
        counters.verified.store(verified, Ordering::Relaxed);
        if verified > bytes {
            bytes = verified;
            first.get_or_insert(now);
            if let Some(last) = last.replace(now) {
                arrived.longest_gap = arrived.longest_gap.max(now - last);
            }
        }
    }
    if let (Some(first), Some(last)) = (first, last) {
        arrived.took = last - first;
    }
    arrived
}
