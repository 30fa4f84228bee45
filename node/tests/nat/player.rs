//! A player: it reads a song from `antiphon play --stdout` at the pace at which it is heard, and notes when nothing comes.

use std::{
    io::Read,
    process::{Child, ChildStdout, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::node::{Meter, Node};

/// What is read at once is heard for so long.
const PIECE: Duration = Duration::from_millis(100);
/// A piece that is late by less was not late: the machine is busy.
const UNHEARD: Duration = Duration::from_millis(50);
/// How often what has come is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// What is ahead counts from here on: before, the song has only begun to come.
const BEGUN: Duration = Duration::from_secs(3);
/// What the peer has got of other peers, verified.
const FETCHED: &str = "antiphon_p2p_fetched_bytes_total";

/// How far both ends are.
#[derive(Debug, Default)]
struct Progress {
    heard: AtomicU64,
    over: AtomicBool,
}

/// A song that is being heard.
pub(crate) struct Player {
    progress: Arc<Progress>,
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
}

/// What came from other peers.
#[derive(Debug, Default)]
pub(crate) struct Arrived {
    /// The longest time in which nothing came, while something was missing.
    pub(crate) longest_gap: Duration,
    /// The least that was there and not yet heard, while something was missing.
    pub(crate) least_ahead: Option<Duration>,
    /// From the first to the last byte.
    pub(crate) took: Duration,
}

/// A song, as the player needs to know it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Song<'s> {
    pub(crate) content: &'s str,
    pub(crate) bytes: u64,
    pub(crate) bytes_per_second: u64,
}

impl Player {
    /// Starts to play a song.
    pub(crate) fn start(node: &Node, song: Song<'_>) -> Self {
        let mut command = node.machine.command();
        command.args(["play", song.content, "--stdout"]).stdout(Stdio::piped()).stderr(Stdio::null());
        let (bytes, bytes_per_second) = (song.bytes, song.bytes_per_second);
        let progress = Arc::new(Progress::default());
        let (meter, watched) = (node.meter(), progress.clone());
        let arriving = thread::spawn(move || arrive(meter.enter(), bytes, bytes_per_second, &watched));
        let mut child = command.spawn().unwrap();
        let (out, counted) = (child.stdout.take().unwrap(), progress.clone());
        let hearing = thread::spawn(move || hear(out, bytes_per_second, &counted));
        Self { progress, hearing, arriving, child }
    }

    /// Bytes that were heard so far.
    pub(crate) fn heard(&self) -> u64 {
        self.progress.heard.load(Ordering::Relaxed)
    }

    /// Waits for the end of the song.
    pub(crate) fn wait(mut self) -> Report {
        let heard = self.hearing.join().unwrap();
        let ended_well = self.child.wait().unwrap().success();
        self.progress.over.store(true, Ordering::Relaxed);
        Report { heard, arrived: self.arriving.join().unwrap(), ended_well }
    }
}

/// Reads a piece when it is time for it. After a silence, the rest is that much later.
fn hear(mut out: ChildStdout, bytes_per_second: u64, progress: &Progress) -> Heard {
    let mut piece = vec![0; (bytes_per_second / 10) as usize];
    let mut hasher = blake3::Hasher::new();
    let start = Instant::now();
    let mut first = None;
    let mut due = start;
    let (mut longest, mut all) = (Duration::ZERO, Duration::ZERO);
    loop {
        let length = fill(&mut out, &mut piece);
        hasher.update(&piece[..length]);
        progress.heard.fetch_add(length as u64, Ordering::Relaxed);
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
        due += PIECE;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Heard {
        content: hasher.finalize().to_hex().to_string(),
        first: first.map_or(Duration::ZERO, |first| first - start),
        longest_silence: longest,
        silence: all,
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

/// Follows what the peer gets. (Its progress on stderr is left out while nobody reads the music.)
fn arrive(meter: Meter, bytes: u64, bytes_per_second: u64, progress: &Progress) -> Arrived {
    let mut arrived = Arrived::default();
    let before = meter.read(FETCHED).unwrap_or(0);
    let (mut there, mut first, mut last) = (0, None, None::<Instant>);
    while there < bytes && !progress.over.load(Ordering::Relaxed) {
        let now = Instant::now();
        let fetched = meter.read(FETCHED).unwrap_or(before).saturating_sub(before);
        if fetched > there {
            there = fetched;
            first.get_or_insert(now);
            if let Some(last) = last.replace(now) {
                arrived.longest_gap = arrived.longest_gap.max(now - last);
            }
        }
        if there < bytes && first.is_some_and(|first| now - first > BEGUN) {
            let ahead = there.saturating_sub(progress.heard.load(Ordering::Relaxed));
            let ahead = Duration::from_secs_f64(ahead as f64 / bytes_per_second as f64);
            arrived.least_ahead = Some(arrived.least_ahead.map_or(ahead, |least| least.min(ahead)));
        }
        thread::sleep(LOOK);
    }
    if let (Some(first), Some(last)) = (first, last) {
        arrived.took = last - first;
    }
    arrived
}
