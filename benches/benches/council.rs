//! How fast councils of 1, 4, 7 and 13 members decide, all members in this one process, each with a ledger and a
//! write-ahead log of its own on disk, synced. The network between them is a function call.
//!
//! `cargo bench -p antiphon-benches --bench council -- [SONGS [DIRECTORY]]`
//!
//! Beside it, in the same run: a plain file that takes the same bytes with one write and one sync for each batch, once.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that prints what it measured")]

use std::{
    collections::HashMap,
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
    thread,
    time::{Duration, Instant},
};

use antiphon_benches::{NOW_MS, song};
use antiphon_ledger::{
    Ledger,
    council::{Council, Options, Pace, Transport},
    sequencer::{Answer, Sequencer as _, Submission},
};
use antiphon_proto::{
    PublicKey, SecretKey, canonical,
    wire::{Genesis, Registration},
};

/// Registrants, so that a full batch does not depend on one of them.
const ARTISTS: u8 = 8;
const BATCH: usize = 340;
/// Songs that are handed in one after the other, to see how long one takes.
const LONE: u64 = 20;

/// Carries a message into the other members' queues.
struct Lan {
    me: PublicKey,
    all: Arc<RwLock<HashMap<PublicKey, Arc<Council>>>>,
}

impl Transport for Lan {
    fn send(&self, to: Option<PublicKey>, _: bool, message: Vec<u8>) {
        let all = self.all.read().unwrap();
        for (key, member) in all.iter() {
            if *key != self.me && to.is_none_or(|to| to == *key) {
                member.hear(self.me, &message);
            }
        }
    }
}

struct Measured {
    songs_per_s: f64,
    heights: u64,
    lone: Duration,
    certificate: usize,
    checkpoint: usize,
}

fn council(dir: &Path, members: u8, songs: u64) -> Measured {
    let keys: Vec<SecretKey> = (0..members).map(|n| SecretKey::from_seed(&[n + 1; 32])).collect();
    let public: Vec<PublicKey> = keys.iter().map(SecretKey::public).collect();
    let genesis =
        Genesis { stamp_bits: 0, batch_quota: 340, ..Genesis::new("bench", NOW_MS, [members; 16], &public) };
    let all = Arc::new(RwLock::new(HashMap::new()));
    let mut ledgers = Vec::new();
    for key in keys {
        let (me, home) = (key.public(), dir.join(key.public().to_string()));
        let ledger =
            Ledger::open(&home, antiphon_ledger::Options::without_rule(Some(genesis.clone()))).unwrap();
        let options = Options {
            dir: home.join("council"),
            key,
            clock: Arc::new(|| NOW_MS),
            pace: Pace { height: 0, ..Pace::default() },
            rejoin: false,
        };
        let lan = Lan { me, all: all.clone() };
        let member = Arc::new(Council::start(ledger.clone(), Arc::new(lan), options).unwrap());
        all.write().unwrap().insert(me, member);
        ledgers.push(ledger);
    }
    let members: Vec<(PublicKey, Arc<Council>)> =
        all.read().unwrap().iter().map(|(key, member)| (*key, member.clone())).collect();
    for (key, member) in &members {
        for (other, _) in members.iter().filter(|(other, _)| other != key) {
            member.connected(*other);
        }
    }
    let artists: Vec<SecretKey> = (0..ARTISTS).map(|n| SecretKey::from_seed(&[100 + n; 32])).collect();
    let artist = |number: u64| &artists[usize::try_from(number).unwrap() % artists.len()];
    let made: Vec<Registration> =
        (0..songs).map(|n| Registration::of_song(song(n, &genesis, artist(n)))).collect();
    let first = &members[0].1;
    // One after the other, on a council that has nothing else to do. The first ones wait for the start.
    let mut lone: Vec<Duration> = (0..LONE)
        .map(|n| {
            let registration = Registration::of_song(song(1_000_000 + n, &genesis, artist(n)));
            let start = Instant::now();
            assert!(matches!(first.submit(registration).wait(), Answer::Accepted { .. }));
            start.elapsed()
        })
        .collect();
    lone.sort_unstable();
    let before = ledgers[0].height();
    let start = Instant::now();
    let submitted: Vec<Submission> = made.into_iter().map(|one| first.submit(one)).collect();
    for submission in submitted {
        let answer = submission.wait();
        assert!(matches!(answer, Answer::Accepted { .. }), "{answer:?}");
    }
    let elapsed = start.elapsed();
    let heights = ledgers[0].height() - before;
    // The others are there a moment later.
    let until = Instant::now() + Duration::from_secs(60);
    while ledgers.iter().any(|ledger| ledger.size() < ledgers[0].size() || ledger.checkpoint().is_none()) {
        assert!(Instant::now() < until, "a member did not follow");
        thread::sleep(Duration::from_millis(10));
    }
    let checkpoint = ledgers[0].checkpoint().unwrap().len();
    let seal = ledgers[0].last_seal().unwrap();
    let certificate = antiphon_ledger::seal::certificate(&seal, members.len()).unwrap().encode().len();
    members.iter().for_each(|(_, member)| member.stop());
    all.write().unwrap().clear();
    #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
    let songs_per_s = songs as f64 / elapsed.as_secs_f64();
    Measured { songs_per_s, heights, lone: lone[lone.len() / 2], certificate, checkpoint }
}

/// The same bytes, a batch at a time, into one file.
fn plain(dir: &Path, songs: u64) -> f64 {
    let key = SecretKey::from_seed(&[1; 32]);
    let genesis = Genesis::new("bench", NOW_MS, [0; 16], &[key.public()]);
    let bytes: Vec<Vec<u8>> =
        (0..songs).map(|n| canonical::encode(&Registration::of_song(song(n, &genesis, &key)))).collect();
    let mut file = File::create(dir.join("plain")).unwrap();
    let start = Instant::now();
    for batch in bytes.chunks(BATCH) {
        file.write_all(&batch.concat()).unwrap();
        file.sync_data().unwrap();
    }
    #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
    let per_s = songs as f64 / start.elapsed().as_secs_f64();
    per_s
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let songs: u64 = arguments.next().map_or(3_400, |songs| songs.parse().unwrap());
    assert!(songs <= 4_000, "more than 4,000 songs do not wait at once");
    let base = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let home = tempfile::tempdir_in(base).unwrap();
    let limit = plain(home.path(), songs);
    println!("{songs} songs; a plain file takes {limit:.0} songs/s\n");
    println!(
        "| members | songs/s | of the plain file | heights | one song alone, median | certificate | checkpoint |"
    );
    println!("|---|---|---|---|---|---|---|");
    for members in [1u8, 4, 7, 13] {
        let dir = home.path().join(members.to_string());
        std::fs::create_dir(&dir).unwrap();
        let measured = council(&dir, members, songs);
        println!(
            "| {members} | {:.0} | {:.2} | {} | {:.1} ms | {} B | {} B |",
            measured.songs_per_s,
            measured.songs_per_s / limit,
            measured.heights,
            measured.lone.as_secs_f64() * 1_000.0,
            measured.certificate,
            measured.checkpoint,
        );
    }
}
