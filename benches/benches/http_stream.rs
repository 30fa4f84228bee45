//! A song over HTTP, from a peer that has it and from one that gets it from there, beside a server that only sends files.
//!
//! `cargo build --release --workspace --bin antiphon && cargo bench -p antiphon-benches --bench http_stream -- [SONGS]`
//!
//! For each song in turn: the plain server (in this process), the peer whose file it is, a second peer that has never had
//! it and gets it from the first (cold), and the same again (warm). The peers are processes of the release build on
//! loopback. A second can be heard when the bytes have come that a decoder reads until it has one, and it has decoded them;
//! what it reads and how long that takes is measured once for each song, from memory.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that prints what it measured")]

use std::{
    collections::HashMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use antiphon_benches::{http::Client, median, package_music, process::Peer, spread};
use axum::{
    Router,
    body::Body,
    extract::{Path as Named, State},
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::Value;
use symphonia::core::{
    codecs::audio::AudioDecoderOptions,
    formats::{FormatOptions, TrackType, probe::Hint},
    io::{MediaSourceStream, ReadOnlySource},
    meta::MetadataOptions,
};
use tokio_util::io::ReaderStream;

const PACKAGES: [&str; 2] = ["wesnoth-1.16-music", "asc-music"];
const KINDS: [&str; 4] = ["plain server", "own file", "from another peer, cold", "the same, warm"];
/// Longest wait for a peer.
const PATIENCE: Duration = Duration::from_secs(120);

/// A song as a file.
struct Song {
    file: PathBuf,
    hash: blake3::Hash,
    /// Bytes that are read until a second can be heard, and the milliseconds of decoding.
    second: (usize, f64),
}

/// Counts what is read.
struct Counted(io::Cursor<Vec<u8>>, Arc<AtomicUsize>);

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer)?;
        self.1.fetch_add(read, Ordering::Relaxed);
        Ok(read)
    }
}

/// How much of a file a decoder reads for the first second, and how long that takes.
fn first_second(bytes: Vec<u8>) -> Option<(usize, f64)> {
    let count = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let source = ReadOnlySource::new(Counted(io::Cursor::new(bytes), count.clone()));
    let stream = MediaSourceStream::new(Box::new(source), Default::default());
    let (options, meta) = (FormatOptions::default(), MetadataOptions::default());
    let mut format = symphonia::default::get_probe().probe(&Hint::new(), stream, options, meta).ok()?;
    let track = format.default_track(TrackType::Audio)?;
    let (id, parameters) = (track.id, track.codec_params.clone()?.audio()?.clone());
    let decoder = symphonia::default::get_codecs();
    let mut decoder = decoder.make_audio_decoder(&parameters, &AudioDecoderOptions::default()).ok()?;
    let (mut frames, rate) = (0, parameters.sample_rate? as usize);
    while frames < rate {
        let packet = format.next_packet().ok()??;
        if packet.track_id == id {
            frames += decoder.decode(&packet).ok()?.frames();
        }
    }
    Some((count.load(Ordering::Relaxed), started.elapsed().as_secs_f64() * 1e3))
}

/// What one request took, in milliseconds.
#[derive(Clone, Copy)]
struct Took {
    first_byte: f64,
    second: f64,
    whole: f64,
    bytes: usize,
}

/// Reads a song to its end.
fn take(client: &mut Client, path: &str, song: &Song) -> Took {
    let started = Instant::now();
    let ms = || started.elapsed().as_secs_f64() * 1e3;
    let mut answer = client.get(path).unwrap();
    assert_eq!(answer.status, 200, "{path}");
    let mut buffer = vec![0; 64 * 1024];
    let (mut whole, mut first_byte, mut second) = (Vec::new(), 0.0, 0.0);
    loop {
        let read = answer.read(&mut buffer).unwrap();
        if read == 0 {
            break;
        }
        if whole.is_empty() {
            first_byte = ms();
        }
        let before = whole.len();
        whole.extend_from_slice(&buffer[..read]);
        if before < song.second.0 && whole.len() >= song.second.0 {
            second = ms() + song.second.1;
        }
    }
    let took = Took { first_byte, second, whole: ms(), bytes: whole.len() };
    assert_eq!(blake3::hash(&whole), song.hash, "other bytes: {path}");
    took
}

async fn file(State(files): State<Arc<Vec<PathBuf>>>, Named(number): Named<usize>) -> Response {
    let file = tokio::fs::File::open(&files[number]).await.unwrap();
    let length = file.metadata().await.unwrap().len();
    let body = Body::from_stream(ReaderStream::with_capacity(file, 64 * 1024));
    ([(header::CONTENT_LENGTH, length)], body).into_response()
}

/// A server that sends files, and nothing else.
fn plain(files: Vec<PathBuf>) -> (tokio::runtime::Runtime, String) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/{number}", get(file)).with_state(Arc::new(files));
    runtime.spawn(async move { axum::serve(listener, router).await });
    (runtime, base)
}

/// Ids of the songs by the hash of their file, when all are on the shelf.
fn listed(client: &mut Client, shelf: &str, songs: usize) -> HashMap<String, String> {
    let started = Instant::now();
    loop {
        let body = client.whole(&format!("/api/v1/songs?shelf={shelf}&limit=100")).unwrap();
        let page: Value = serde_json::from_slice(&body).unwrap();
        let all = page["songs"].as_array().unwrap();
        if all.len() >= songs {
            let text = |song: &Value, name: &str| song[name].as_str().unwrap().to_owned();
            return all.iter().map(|song| (text(song, "content"), text(song, "id"))).collect();
        }
        assert!(started.elapsed() < PATIENCE, "{} of {songs} songs", all.len());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn print(took: &[Vec<Took>]) {
    println!(
        "\n| | first byte, ms | a second can be heard, ms | whole song, ms | MiB/s |\n|---|---|---|---|---|"
    );
    let of = |kind: usize, value: fn(&Took) -> f64| took[kind].iter().map(value).collect::<Vec<f64>>();
    let rate = |took: &Took| took.bytes as f64 / 1_048.576 / took.whole;
    for (kind, name) in KINDS.iter().enumerate() {
        println!(
            "| {name} | {} | {} | {} | {} |",
            spread(&of(kind, |took| took.first_byte), 2),
            spread(&of(kind, |took| took.second), 2),
            spread(&of(kind, |took| took.whole), 1),
            spread(&of(kind, rate), 0)
        );
    }
    println!("\nOf the plain server's, median of the songs' ratios:\n");
    println!("| | first byte | a second can be heard | whole song |\n|---|---|---|---|");
    for (kind, name) in KINDS.iter().enumerate().skip(1) {
        let ratio = |value: fn(&Took) -> f64| {
            let ratios: Vec<f64> =
                took[kind].iter().zip(&took[0]).map(|(one, plain)| value(one) / value(plain)).collect();
            median(&ratios)
        };
        println!(
            "| {name} | {:.1} | {:.1} | {:.1} |",
            ratio(|took| took.first_byte),
            ratio(|took| took.second),
            ratio(|took| took.whole)
        );
    }
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let most: usize = args.next().map_or(60, |text| text.parse().unwrap());
    let scratch = tempfile::tempdir().unwrap();
    let (one, two) = (scratch.path().join("one"), scratch.path().join("two"));
    let folders = [one.join("music"), two.join("music")];
    folders.iter().for_each(|folder| fs::create_dir_all(folder).unwrap());
    let mut songs = Vec::new();
    for (number, source) in package_music(&PACKAGES).into_iter().take(most).enumerate() {
        let bytes = fs::read(&source).unwrap();
        let hash = blake3::hash(&bytes);
        let Some(second) = first_second(bytes) else { continue };
        let file = folders[0].join(format!("{number:02}.{}", source.extension().unwrap().display()));
        fs::copy(&source, &file).unwrap();
        songs.push(Song { file, hash, second });
    }
    assert!(!songs.is_empty(), "none of the packages {PACKAGES:?} is installed");
    let first = Peer::up(&one, &[text(&folders[0])]).unwrap();
    let mut own = Client::connect(first.base()).unwrap();
    let ids = listed(&mut own, "own", songs.len());
    let second = Peer::up(&two, &[text(&folders[1]), "--peer-vps", first.address()]).unwrap();
    let mut other = Client::connect(second.base()).unwrap();
    listed(&mut other, "online", songs.len());
    let (_runtime, base) = plain(songs.iter().map(|song| song.file.clone()).collect());
    let mut plain = Client::connect(&base).unwrap();
    let bytes: Vec<f64> =
        songs.iter().map(|song| fs::metadata(&song.file).unwrap().len() as f64 / 1_048_576.0).collect();
    println!(
        "{} songs of {} MiB; for the first second {} KiB are read, and decoded in {} ms",
        songs.len(),
        spread(&bytes, 1),
        spread(&songs.iter().map(|song| song.second.0 as f64 / 1024.0).collect::<Vec<_>>(), 0),
        spread(&songs.iter().map(|song| song.second.1).collect::<Vec<_>>(), 1)
    );
    let mut took: Vec<Vec<Took>> = KINDS.iter().map(|_| Vec::new()).collect();
    for (number, song) in songs.iter().enumerate() {
        let path = format!("/api/v1/songs/{}/stream", ids[&song.hash.to_hex().to_string()]);
        // The files are in the page cache for all of them; who is first changes from song to song.
        let mut kinds = [0, 1];
        kinds.rotate_left(number % 2);
        for kind in kinds.into_iter().chain([2, 3]) {
            let one = match kind {
                0 => take(&mut plain, &format!("/{number}"), song),
                1 => take(&mut own, &path, song),
                _ => take(&mut other, &path, song),
            };
            took[kind].push(one);
        }
    }
    print(&took);
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
