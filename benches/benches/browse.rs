//! What apps and the browser ask of a peer with a large library: how long each answer takes, and a whole catalogue as apps
//! take it in. A second peer serves half as many songs, of which the first one has half: so "online" is a list of its own.
//!
//! `cargo build --release --workspace --bin antiphon && cargo bench -p antiphon-benches --bench browse -- [SONGS [DIRECTORY]]`
//!
//! The peers are processes of the release build. Their ledgers and catalogues are written beforehand: blocks that are
//! signed, sealed and appended as any, and for each song a sparse file that is small enough to need no tree of hashes, which
//! the scan finds unchanged.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that prints what it measured")]

use std::{
    fs::{self, File},
    ops::Range,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use antiphon::library::{
    catalogue::{Catalogue, Change, FileRecord, State},
    walk::stamp_of,
};
use antiphon_benches::{NOW_MS, http::Client, median, names::named_song, process::Peer};
use antiphon_fingerprint::Fingerprint;
use antiphon_ledger::{Ledger, Options, SealedBatch, seal::Sealer};
use antiphon_proto::{
    NetworkId, SecretKey, limits,
    wire::{Genesis, Registration, Song},
};
use serde_json::Value;

const BATCH: usize = 256;
/// Items of a fingerprint of two minutes.
const FINGERPRINT: usize = 948;
/// Requests of each kind, and how long they go on at most.
const ROUNDS: usize = 40;
const LONG: Duration = Duration::from_secs(4);
/// What an answer should take at most.
const AIM_MS: f64 = 200.0;
/// Longest wait for the peers to have read all.
const PATIENCE: Duration = Duration::from_secs(600);

/// A fingerprint that is near to no other: from item to item some bits change, as in music.
fn fingerprint(number: usize) -> Vec<u8> {
    let mut random = vec![0; 4 + 3 * FINGERPRINT];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut random);
    let (first, changes) = random.split_at(4);
    let mut item = u32::from_le_bytes(first.try_into().unwrap());
    let items = changes.chunks(3).map(|bits| {
        item ^= bits.iter().fold(0, |mask, bit| mask | 1 << (bit % 32));
        item
    });
    Fingerprint::from_items(items.collect()).unwrap().compress()
}

fn signed(number: usize, network: &NetworkId, registrant: &SecretKey) -> Song {
    let mut song = Song {
        registrant: registrant.public().0.to_vec(),
        fingerprint: fingerprint(number),
        created_ms: NOW_MS,
        ..named_song(number)
    };
    song.sign(network, registrant);
    song
}

/// A ledger of this many songs.
fn ledger(folder: &Path, songs: usize) -> NetworkId {
    let member = SecretKey::from_seed(&[1; 32]);
    let genesis = Genesis {
        stamp_bits: 0,
        batch_quota: u32::MAX,
        ..Genesis::new("bench", NOW_MS, [0; 16], &[member.public()])
    };
    let (network, registrant) = (genesis.network_id(), SecretKey::from_seed(&[2; 32]));
    let sealer = Sealer::new(&genesis, member).unwrap();
    let ledger = Ledger::open(folder, Options::without_rule(Some(genesis))).unwrap();
    for first in (0..songs).step_by(BATCH) {
        let batch = first..(first + BATCH).min(songs);
        let time_ms = NOW_MS + first as u64;
        let batch: Vec<Registration> =
            batch.map(|number| Registration::of_song(signed(number, &network, &registrant))).collect();
        let proposal = ledger.propose(time_ms, &batch).unwrap();
        let seal = sealer.seal(&proposal);
        ledger.append(&SealedBatch { first: proposal.first, blocks: proposal.blocks, seal }).unwrap();
    }
    assert_eq!(ledger.size(), songs as u64);
    ledger.close().unwrap();
    network
}

/// A peer's folder: a file for each of these songs, and what is known of them.
fn library(root: &Path, network: &NetworkId, songs: Range<usize>) {
    let music = root.join("music");
    fs::create_dir_all(&music).unwrap();
    let catalogue = Catalogue::open(&root.join("data/library.redb"), network).unwrap();
    let change = |number: usize| {
        let song = named_song(number);
        let folder = music.join(format!("{:04}", number / 500));
        if number.is_multiple_of(500) || number == songs.start {
            fs::create_dir_all(&folder).unwrap();
        }
        let path = folder.join(format!("{number}.flac"));
        let file = File::create(&path).unwrap();
        file.set_len(limits::BAO_GROUP_BYTES).unwrap();
        let content = song.content_hash.try_into().unwrap();
        let state = State::Known { content, index: number as u64 };
        Change::Put(path, FileRecord { stamp: stamp_of(&file.metadata().unwrap()), state })
    };
    let mut rest = songs.clone();
    while !rest.is_empty() {
        let changes: Vec<Change> = rest.by_ref().take(5_000).map(change).collect();
        catalogue.apply(&changes).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// One peer, as an app and as a browser ask it.
struct Asked {
    peer: Peer,
    client: Client,
    key: String,
}

impl Asked {
    fn new(peer: Peer) -> Self {
        let key = peer.tell(&["web", "add-app", "bench"]).unwrap()["password"].as_str().unwrap().to_owned();
        let client = Client::connect(peer.base()).unwrap();
        Self { peer, client, key }
    }

    /// The path of a method with its parameters.
    fn path(&self, method: &str) -> String {
        let mark = if method.contains('?') { '&' } else { '?' };
        format!("/rest/{method}{mark}apiKey={}&v=1.16.1&c=bench&f=json", self.key)
    }

    fn rest(&mut self, method: &str) -> Value {
        let body = self.client.whole(&self.path(method)).unwrap();
        let mut answer: Value = serde_json::from_slice(&body).unwrap();
        let inner = answer["subsonic-response"].take();
        assert_eq!(inner["status"], "ok", "{method}: {inner}");
        inner
    }

    fn form(&mut self, method: &str, form: &str) {
        let path = self.path(method);
        let mut answer = self.client.post(&path, form).unwrap();
        let body = std::io::read_to_string(&mut answer).unwrap();
        assert!(body.contains("\"status\":\"ok\""), "{method}: {body}");
    }

    fn api(&mut self, path: &str) -> Value {
        serde_json::from_slice(&self.client.whole(path).unwrap()).unwrap()
    }

    /// Asks again and again, and prints a line.
    fn time(&mut self, name: &str, path: &str) -> f64 {
        let (mut times, mut bytes, began) = (Vec::new(), 0, Instant::now());
        while times.len() <= ROUNDS && began.elapsed() < LONG {
            let started = Instant::now();
            bytes = self.client.whole(path).unwrap().len();
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
        let first = times.remove(0);
        let (middle, most) = (median(&times), times.iter().copied().fold(first, f64::max));
        let late = if most > AIM_MS { " !" } else { "" };
        println!(
            "| {name} | {first:.1} | {middle:.1} | {most:.1}{late} | {:.0} | {:.0} |",
            1e3 * times.len() as f64 / times.iter().sum::<f64>(),
            bytes as f64 / 1024.0
        );
        most
    }
}

/// Waits until a condition holds.
fn wait(what: &str, mut done: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
    started.elapsed()
}

/// Stars, ratings and plays, so that no list is empty.
fn live(asked: &mut Asked, songs: usize) {
    let step = (songs / 1_000).max(1);
    let every: Vec<usize> = (0..songs).step_by(step).collect();
    for part in every.chunks(400) {
        let ids: Vec<String> = part.iter().map(|number| format!("id=so-{number}")).collect();
        asked.form("star", &ids.join("&"));
        asked.form("scrobble", &ids.join("&"));
    }
    let albums = asked.rest("getAlbumList2?type=random&size=200");
    let ids: Vec<&str> = albums["albumList2"]["album"]
        .as_array()
        .unwrap()
        .iter()
        .map(|album| album["id"].as_str().unwrap())
        .collect();
    let names: Vec<String> = ids.iter().map(|id| format!("albumId={id}")).collect();
    asked.form("star", &names.join("&"));
    for id in ids {
        asked.form("setRating", &format!("id={id}&rating=4"));
    }
}

fn apps(asked: &mut Asked) {
    let artists = asked.rest("getArtists");
    let index = artists["artists"]["index"].as_array().unwrap();
    let all: Vec<&Value> = index.iter().flat_map(|letter| letter["artist"].as_array().unwrap()).collect();
    let artist = all.iter().max_by_key(|artist| artist["albumCount"].as_u64()).unwrap();
    let artist =
        (artist["id"].as_str().unwrap().to_owned(), artist["name"].as_str().unwrap().replace(' ', "%20"));
    let albums = asked.rest("getAlbumList2?type=alphabeticalByName&size=8");
    let album = albums["albumList2"]["album"][7]["id"].as_str().unwrap().to_owned();
    let genres = asked.rest("getGenres");
    let genre = genres["genres"]["genre"].as_array().unwrap().iter();
    let genre =
        genre.max_by_key(|genre| genre["songCount"].as_u64()).unwrap()["value"].as_str().unwrap().to_owned();
    println!("\n| method | first, ms | median | maximum | requests/s | KiB |\n|---|---|---|---|---|---|");
    let mut ask = |method: &str| {
        let path = asked.path(method);
        asked.time(method, &path)
    };
    for method in
        ["ping", "getMusicFolders", "getArtists", "getIndexes", "getGenres", "getStarred2", "getPlaylists"]
    {
        ask(method);
    }
    ask("getIndexes?musicFolderId=2");
    ask(&format!("getArtist?id={}", artist.0));
    ask(&format!("getAlbum?id={album}"));
    ask("getSong?id=so-4711");
    ask("getMusicDirectory?id=1");
    ask(&format!("getSimilarSongs2?id={}&count=50", artist.0));
    ask(&format!("getTopSongs?artist={}&count=50", artist.1));
    for kind in [
        "random",
        "newest",
        "highest",
        "frequent",
        "recent",
        "alphabeticalByName",
        "alphabeticalByArtist",
        "starred",
        "byYear&fromYear=2020&toYear=1970",
        &format!("byGenre&genre={genre}"),
    ] {
        ask(&format!("getAlbumList2?type={kind}&size=500"));
    }
    ask("getAlbumList2?type=alphabeticalByName&size=500&offset=8000");
    ask("getAlbumList?type=newest&size=500");
    ask("getRandomSongs?size=500");
    ask(&format!("getSongsByGenre?genre={genre}&count=500"));
    for query in ["k", "ka", "kaka", "ka%20lo%20mi", "nothing%20of%20the%20kind"] {
        ask(&format!("search3?query={query}"));
    }
    ask("search3?query=&songCount=500&albumCount=0&artistCount=0");
    ask("search3?query=&songCount=500&albumCount=0&artistCount=0&songOffset=60000");
    ask("search3?query=&songCount=0&albumCount=500&artistCount=500");
}

fn browser(asked: &mut Asked) {
    let song = asked.api("/api/v1/songs?limit=1")["songs"][0].clone();
    let albums = asked.api("/api/v1/albums?limit=1");
    let id = |value: &Value| value["id"].as_str().unwrap_or_default().to_owned();
    let (song, album) = (id(&song), id(&albums["albums"][0]));
    let artist = id(&asked.api("/api/v1/artists?limit=1")["artists"][0]);
    println!("\n| page | first, ms | median | maximum | requests/s | KiB |\n|---|---|---|---|---|---|");
    for page in [
        "/",
        "/library",
        "/discover",
        "/search?q=kaka",
        &format!("/album/{album}"),
        &format!("/artist/{artist}"),
        &format!("/song/{song}"),
        "/playlists",
        "/plays",
        "/peers",
        "/wallet",
        "/settings",
        "/explorer",
        "/explorer/blocks",
        "/explorer/block/4711",
        "/explorer/song/4711",
        "/explorer/epochs",
        "/explorer/council",
        "/api/v1/status",
        "/api/v1/songs?shelf=own&limit=100",
        "/api/v1/songs?shelf=online&limit=100",
        "/api/v1/albums?shelf=own&limit=100",
        "/api/v1/artists?shelf=own&limit=100",
        "/api/v1/genres?shelf=own",
        "/api/v1/search?q=kaka",
        "/api/v1/search?q=ka",
        &format!("/api/v1/songs/{song}"),
        &format!("/api/v1/albums/{album}"),
        "/api/v1/ledger",
        "/api/v1/ledger/blocks",
    ] {
        let answer = asked.client.get(page).unwrap();
        let status = answer.status;
        std::io::read_to_string(answer).unwrap();
        if status == 200 {
            asked.time(page, page);
        } else {
            println!("| {page} | {status} | | | | |");
        }
    }
}

/// A whole catalogue, as apps take it in.
fn sync(asked: &mut Asked) {
    let started = Instant::now();
    let (mut songs, mut slowest) = (0, 0.0f64);
    loop {
        let page = Instant::now();
        let answer = asked
            .rest(&format!("search3?query=&songCount=500&albumCount=0&artistCount=0&songOffset={songs}"));
        slowest = slowest.max(page.elapsed().as_secs_f64() * 1e3);
        let found = answer["searchResult3"]["song"].as_array().unwrap().len();
        songs += found;
        if found < 500 {
            break;
        }
    }
    println!(
        "\nall {songs} songs by search3, 500 at a time: {:.1} s, the slowest page {slowest:.0} ms",
        started.elapsed().as_secs_f64()
    );
    let started = Instant::now();
    let (mut albums, mut songs, mut slowest) = (0, 0, 0.0f64);
    loop {
        let answer = asked.rest(&format!("getAlbumList2?type=alphabeticalByName&size=500&offset={albums}"));
        let page = answer["albumList2"]["album"].as_array().unwrap().clone();
        for album in &page {
            let request = Instant::now();
            let whole = asked.rest(&format!("getAlbum?id={}", album["id"].as_str().unwrap()));
            slowest = slowest.max(request.elapsed().as_secs_f64() * 1e3);
            songs += whole["album"]["song"].as_array().unwrap().len();
        }
        albums += page.len();
        if page.len() < 500 {
            break;
        }
    }
    println!(
        "all {albums} albums by getAlbumList2, and each with its songs ({songs}) by getAlbum: {:.1} s, the slowest album \
         {slowest:.0} ms",
        started.elapsed().as_secs_f64()
    );
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let songs: usize = args.next().map_or(100_000, |text| text.parse().unwrap());
    let base = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let scratch = tempfile::tempdir_in(base).unwrap();
    let (own, other) = (scratch.path().join("own"), scratch.path().join("other"));
    let started = Instant::now();
    let network = ledger(&own.join("data/ledger"), songs + songs / 4);
    copy(&own.join("data"), &other.join("data"));
    library(&own, &network, 0..songs);
    library(&other, &network, songs * 3 / 4..songs + songs / 4);
    for root in [&own, &other] {
        let state = format!("{{\"schema\":1,\"network\":\"{network}\",\"port\":null,\"peers\":[]}}");
        fs::write(root.join("data/network.json"), state).unwrap();
    }
    println!(
        "{} blocks and two libraries made in {:.0} s",
        songs + songs / 4,
        started.elapsed().as_secs_f64()
    );

    let serving = Peer::up(&other, &[other.join("music").to_str().unwrap()]).unwrap();
    let started = Instant::now();
    let arguments =
        [own.join("music").to_str().unwrap().to_owned(), "--peer-vps".into(), serving.address().into()];
    let peer = Peer::up(&own, &arguments.each_ref().map(|argument| argument.as_str())).unwrap();
    let ready = started.elapsed();
    let mut asked = Asked::new(peer);
    wait("the own library", || asked.rest("getScanStatus")["scanStatus"]["scanning"] == false);
    let last = |folder: u32, songs: usize| {
        format!(
            "search3?query=&musicFolderId={folder}&artistCount=0&albumCount=0&songCount=1&songOffset={}",
            songs - 1
        )
    };
    let full = |asked: &mut Asked, folder: u32, songs: usize| {
        !asked.rest(&last(folder, songs))["searchResult3"]["song"].as_array().unwrap().is_empty()
    };
    wait("the own songs", || full(&mut asked, 1, songs));
    let scanned = started.elapsed();
    wait("the songs online", || full(&mut asked, 2, songs / 2));
    println!(
        "ready after {:.1} s, {songs} own songs after {:.1} s, {} online after {:.1} s; {:.0} MiB in memory",
        ready.as_secs_f64(),
        scanned.as_secs_f64(),
        songs / 2,
        started.elapsed().as_secs_f64(),
        asked.peer.memory_mib("VmRSS")
    );
    live(&mut asked, songs);
    apps(&mut asked);
    browser(&mut asked);
    sync(&mut asked);
    println!(
        "\nmemory: {:.0} MiB, at most {:.0} MiB",
        asked.peer.memory_mib("VmRSS"),
        asked.peer.memory_mib("VmHWM")
    );
}
