//! The server of real processes: songs from others as streams, who is answered, and plays that players tell of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    time::Duration,
};

use common::{Machine, Peer, tunes, wait_for, wait_scanned};
use serde_json::{Value, json};

/// An answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.head, String::from_utf8_lossy(&self.body)))
    }
}

/// Sends a request and reads the answer to its end.
fn send(peer: &Peer, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Answer {
    let base = peer.ready["http"].as_str().unwrap().strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(base).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        head += &format!("Host: {base}\r\n");
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let body = body.map(Value::to_string).unwrap_or_default();
    if !body.is_empty() {
        head += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    }
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
    let head = String::from_utf8(all[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut answer = Answer { status, head, body: all.split_off(end + 4) };
    if answer.header("transfer-encoding") == Some("chunked") {
        answer.body = unchunked(&answer.body);
    }
    answer
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(line) = body.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&body[..line]).unwrap(), 16).unwrap();
        whole.extend_from_slice(&body[line + 2..line + 2 + size]);
        body = &body[line + 4 + size..];
        if size == 0 {
            break;
        }
    }
    whole
}

fn get(peer: &Peer, path: &str) -> Answer {
    send(peer, "GET", path, &[], None)
}

fn post(peer: &Peer, path: &str, body: &Value) -> Answer {
    send(peer, "POST", path, &[], Some(body))
}

/// A peer with music and one that has joined it and sees all of it.
fn two(songs: u64, seconds: u32) -> (Machine, Peer, Machine, Peer) {
    let (artist, listener) = (Machine::new(), Machine::new());
    tunes(&artist.music(), 0..songs, seconds);
    let serving = artist.up(&[artist.music().to_str().unwrap()]);
    wait_scanned(&artist, songs);
    let listening =
        listener.up(&[listener.music().to_str().unwrap(), "--peer-vps", &serving.address("quic")]);
    wait_for("all songs to be online", || {
        let page = get(&listening, "/api/v1/songs?shelf=online").json();
        (page["songs"].as_array().unwrap().len() as u64 == songs).then_some(())
    });
    (artist, serving, listener, listening)
}

/// The file of a song in a folder of tunes.
fn file_of(machine: &Machine, song: &Value) -> Vec<u8> {
    let content = song["content"].as_str().unwrap();
    let mut files = fs::read_dir(machine.music()).unwrap().map(|entry| entry.unwrap().path());
    let file = files.find(|path| common::hash(path) == content).expect("the file of the song");
    fs::read(file).unwrap()
}

#[test]
fn songs_of_others_are_streams() {
    let (artist, serving, _listener, listening) = two(3, 20);
    let page = get(&listening, "/api/v1/songs?shelf=online&limit=2").json();
    assert_eq!(page["songs"].as_array().unwrap().len(), 2);
    let rest =
        get(&listening, &format!("/api/v1/songs?limit=2&cursor={}", page["next"].as_str().unwrap())).json();
    assert_eq!((rest["songs"].as_array().unwrap().len(), &rest["next"]), (1, &Value::Null));

    // The end of a song that nothing has come of yet.
    let song = &page["songs"][0];
    let (id, whole) = (song["id"].as_str().unwrap(), file_of(&artist, song));
    let path = format!("/api/v1/songs/{id}/stream");
    let (from, size) = (whole.len() * 4 / 5, whole.len());
    let part = send(&listening, "GET", &path, &[("Range", &format!("bytes={from}-"))], None);
    assert_eq!(part.status, 206, "{}", part.head);
    assert_eq!(part.header("content-range"), Some(&*format!("bytes {from}-{}/{size}", size - 1)));
    assert!(part.body == whole[from..], "other bytes");

    let all = get(&listening, &path);
    assert_eq!((all.status, all.header("content-type")), (200, Some("audio/wav")));
    assert_eq!(all.header("accept-ranges"), Some("bytes"));
    assert!(all.body == whole, "other bytes");
    let tag = all.header("etag").unwrap().to_owned();
    assert_eq!(send(&listening, "GET", &path, &[("If-None-Match", &tag)], None).status, 304);
    let ranged = |if_range: &str| {
        send(&listening, "GET", &path, &[("Range", "bytes=0-9"), ("If-Range", if_range)], None)
    };
    assert_eq!((ranged(&tag).status, ranged("\"other\"").status), (206, 200));
    let head = send(&listening, "HEAD", &path, &[], None);
    assert_eq!((head.status, head.header("content-length")), (200, Some(&*size.to_string())));
    assert!(head.body.is_empty());
    let beyond = send(&listening, "GET", &path, &[("Range", &format!("bytes={size}-"))], None);
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some(&*format!("bytes */{size}"))));

    for (path, status) in
        [("/api/v1/songs/so-999/stream", 404), ("/api/v1/songs/x/stream", 404), ("/api/v1/nothing", 404)]
    {
        let problem = get(&listening, path);
        assert_eq!(problem.status, status, "{path}");
        assert_eq!(problem.header("content-type"), Some("application/problem+json"));
        assert_eq!(problem.json()["status"], status);
    }
    assert_eq!(get(&listening, "/api/v1/songs?limit=0").status, 400);

    // Played is not kept: the own shelf stays empty. Kept: it goes there.
    assert_eq!(get(&listening, "/api/v1/songs?shelf=own").json()["songs"], json!([]));
    let kept = page["songs"][1]["id"].as_str().unwrap();
    let taken = post(&listening, "/api/v1/downloads", &json!({ "songs": [kept] }));
    assert_eq!((taken.status, taken.json()["downloads"][0]["song"].as_str().unwrap()), (202, kept));
    let done = wait_for("the song to be kept", || {
        let list = get(&listening, "/api/v1/downloads").json();
        (list["downloads"][0]["state"] == "done").then(|| list["downloads"][0].clone())
    });
    assert!(fs::read(done["path"].as_str().unwrap()).unwrap() == file_of(&artist, &page["songs"][1]));
    wait_for("the kept song on the own shelf", || {
        let own = get(&listening, "/api/v1/songs?shelf=own").json();
        own["songs"].as_array().unwrap().iter().any(|song| song["id"] == kept).then_some(())
    });

    // Nobody has the last one any more.
    let last = rest["songs"][0]["id"].as_str().unwrap().to_owned();
    serving.stop();
    wait_for("the songs to leave", || {
        let page = get(&listening, "/api/v1/songs?shelf=online").json();
        page["songs"].as_array().unwrap().is_empty().then_some(())
    });
    let gone = get(&listening, &format!("/api/v1/songs/{last}/stream"));
    assert_eq!((gone.status, &gone.json()["type"]), (503, &json!("urn:antiphon:problem:offline")));
    // What was heard and kept is still here.
    assert!(get(&listening, &path).body == whole);
}

#[test]
fn what_is_to_be_kept_outlives_everybody() {
    let (artist, serving, listener, listening) = two(2, 10);
    let song = get(&listening, "/api/v1/songs").json()["songs"][0].clone();
    serving.stop();
    wait_for("the songs to leave", || {
        let page = get(&listening, "/api/v1/songs?shelf=online").json();
        page["songs"].as_array().unwrap().is_empty().then_some(())
    });
    let download = |peer: &Peer| get(peer, "/api/v1/downloads").json()["downloads"][0].clone();
    assert_eq!(post(&listening, "/api/v1/downloads", &json!({ "songs": [song["id"]] })).status, 202);
    let paused = wait_for("the download to wait for somebody", || {
        let download = download(&listening);
        (download["state"] == "paused").then_some(download)
    });
    assert!(paused["error"].as_str().unwrap().contains("online"), "{paused}");
    // Killed, without a word.
    drop(listening);

    let serving = artist.up(&[artist.music().to_str().unwrap()]);
    let listening =
        listener.up(&[listener.music().to_str().unwrap(), "--peer-vps", &serving.address("quic")]);
    assert_eq!(download(&listening)["id"], paused["id"]);
    let done = wait_for("the download to go on", || {
        let download = download(&listening);
        (download["state"] == "done").then_some(download)
    });
    assert!(fs::read(done["path"].as_str().unwrap()).unwrap() == file_of(&artist, &song));

    // One that nobody wants any more does not come back.
    let last = get(&listening, "/api/v1/songs?shelf=online").json()["songs"][1]["id"].clone();
    serving.stop();
    wait_for("the songs to leave again", || {
        let page = get(&listening, "/api/v1/songs?shelf=online").json();
        page["songs"].as_array().unwrap().is_empty().then_some(())
    });
    let taken = post(&listening, "/api/v1/downloads", &json!({ "songs": [last] })).json();
    let path = format!("/api/v1/downloads/{}", taken["downloads"][0]["id"]);
    wait_for("it to wait", || (download(&listening)["state"] == "paused").then_some(()));
    assert_eq!(send(&listening, "DELETE", &path, &[], None).status, 200);
    drop(listening);
    let listening = listener.up(&[listener.music().to_str().unwrap()]);
    assert_eq!(get(&listening, "/api/v1/downloads").json()["downloads"], json!([]));
}

#[test]
fn what_a_listener_says_of_music() {
    let machine = Machine::new();
    tunes(&machine.music(), 0..2, 10);
    let peer = machine.up(&[machine.music().to_str().unwrap()]);
    wait_scanned(&machine, 2);
    let songs = wait_for("both songs on the shelf", || {
        let songs = get(&peer, "/api/v1/songs?shelf=own").json()["songs"].as_array().unwrap().clone();
        (songs.len() == 2).then_some(songs)
    });
    let [one, other] = [&songs[0]["id"], &songs[1]["id"]];
    let delete = |path: &str| send(&peer, "DELETE", path, &[], None);

    let star = |id: &Value, starred| post(&peer, "/api/v1/starred", &json!({ "id": id, "starred": starred }));
    assert_eq!(star(one, true).status, 200);
    assert_eq!(star(&json!("so-999"), true).status, 404);
    assert_eq!(star(&json!("nonsense"), false).status, 404);
    let starred = get(&peer, "/api/v1/starred").json();
    assert_eq!((&starred["songs"][0]["id"], starred["albums"].as_array().unwrap().len()), (one, 0));
    star(one, false);
    assert_eq!(get(&peer, "/api/v1/starred").json()["songs"], json!([]));
    let rate = |rating| post(&peer, "/api/v1/ratings", &json!({ "id": other, "rating": rating })).status;
    assert_eq!((rate(5), rate(0), rate(6)), (200, 200, 400));

    assert_eq!(post(&peer, "/api/v1/playlists", &json!({ "name": " " })).status, 400);
    let made = post(&peer, "/api/v1/playlists", &json!({ "name": "Evening", "song_ids": [one, other] }));
    assert_eq!((made.status, &made.json()["songs"]), (201, &json!(2)));
    let path = format!("/api/v1/playlists/{}", made.json()["id"].as_str().unwrap());
    let edited = post(&peer, &path, &json!({ "comment": "slow", "song_ids": [other, one, other] })).json();
    assert_eq!((&edited["name"], &edited["song_ids"]), (&json!("Evening"), &json!([other, one, other])));
    assert_eq!(post(&peer, &path, &json!({ "nmae": "x" })).status, 422);
    assert_eq!(get(&peer, "/api/v1/playlists").json()["playlists"][0]["comment"], "slow");
    assert_eq!((delete(&path).status, delete(&path).status, get(&peer, &path).status), (200, 404, 404));

    let settings = "/api/v1/settings";
    assert_eq!(get(&peer, settings).json()["theme"], "");
    assert_eq!(post(&peer, settings, &json!({ "theme": "dark" })).json()["theme"], "dark");
    assert_eq!(post(&peer, settings, &json!({ "theme": "pink" })).status, 400);
    let app = post(&peer, "/api/v1/settings/apps", &json!({ "name": "phone" }));
    assert_eq!(app.status, 201);
    assert!(app.json()["password"].as_str().unwrap().len() > 20);
    assert_eq!(get(&peer, settings).json()["apps"][0]["name"], "phone");
    let path = format!("/api/v1/settings/apps/{}", app.json()["id"]);
    assert_eq!((delete(&path).status, delete(&path).status), (200, 404));
    let password =
        |password: Value| post(&peer, "/api/v1/settings/password", &json!({ "password": password }));
    assert_eq!(password(json!("short")).status, 400);
    assert_eq!(password(json!("long enough")).json()["password"], true);
    // From now on one has to log in.
    assert_eq!(get(&peer, settings).status, 401);
}

#[test]
fn who_is_answered() {
    let machine = Machine::new();
    tunes(&machine.music(), 0..1, 10);
    let peer = machine.up(&[machine.music().to_str().unwrap()]);
    let status = "/api/v1/status";
    let asked = |headers: &[(&str, &str)]| send(&peer, "GET", status, headers, None).status;
    assert_eq!(asked(&[]), 200);
    assert_eq!(asked(&[("Host", "localhost:1")]), 200);
    assert_eq!(asked(&[("Host", "evil.example")]), 421);
    // Through a proxy it is not this machine.
    assert_eq!(asked(&[("X-Forwarded-For", "192.0.2.1")]), 403);
    let scanned = |origin| send(&peer, "POST", "/api/v1/library/scan", &[("Origin", origin)], None).status;
    let own = peer.ready["http"].as_str().unwrap();
    assert_eq!((scanned(own), scanned("http://evil.example"), scanned("null")), (202, 403, 403));

    let file = machine.path("password");
    fs::write(&file, "short").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let set = ["web", "password", "--file", file.to_str().unwrap()];
    assert_eq!(machine.run(&set).status.code(), Some(2));
    fs::write(&file, "a long password\n").unwrap();
    machine.json(&set);
    assert_eq!(asked(&[]), 401);
    // What anybody may see.
    for public in ["/healthz", "/metrics", "/api/v1/openapi.json"] {
        assert_eq!(get(&peer, public).status, 200, "{public}");
    }
    let log_in = |password: &str| {
        let body = format!("password={}", password.replace(' ', "+"));
        let length = body.len().to_string();
        let base = own.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(base).unwrap();
        write!(
            stream,
            "POST /login HTTP/1.1\r\nHost: {base}\r\nConnection: close\r\nContent-Length: {length}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let cookie_of = |text: &str| {
        let line = text.lines().find(|line| line.to_ascii_lowercase().starts_with("set-cookie:"));
        line.map(|line| line.split_once(':').unwrap().1.split(';').next().unwrap().trim().to_owned())
    };
    assert_eq!(cookie_of(&log_in("a wrong password")), None);
    let cookie = cookie_of(&log_in("a long password")).expect("a session");
    assert_eq!(asked(&[("Cookie", &cookie)]), 200);
    assert_eq!(asked(&[("Cookie", "antiphon_session=00")]), 401);
    for _ in 0..5 {
        log_in("a wrong password");
    }
    assert_eq!(cookie_of(&log_in("a long password")), None, "after five wrong ones it has to wait");
    assert_eq!(asked(&[("Cookie", &cookie)]), 200);
    machine.json(&["web", "password", "--clear"]);
    assert_eq!(asked(&[]), 200);

    let app = machine.json(&["web", "add-app", "my", "phone"]);
    assert_eq!(app["name"], "my phone");
    assert_eq!(machine.json(&["web", "apps"])["apps"][0]["name"], "my phone");
    machine.json(&["web", "revoke-app", &app["id"].to_string()]);
    assert_eq!(machine.json(&["web", "apps"])["apps"], json!([]));
}

#[test]
fn plays_that_pages_tell_of_are_paid_for() {
    let (_artist, _serving, listener, listening) = two(1, 24);
    let song = get(&listening, "/api/v1/songs").json()["songs"][0]["id"].as_str().unwrap().to_owned();
    let at = |position_ms: u64, playing| {
        let said = json!({ "player": "p", "song": song, "position_ms": position_ms, "playing": playing });
        post(&listening, "/api/v1/player/position", &said)
    };
    assert_eq!(at(0, true).json()["playing"][0]["counted"], true);
    get(&listening, &format!("/api/v1/songs/{song}/stream"));
    // As a page does: once in a second, for as long as it takes to hear half of it.
    for second in 1..=14 {
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(at(second * 1_000, true).status, 200);
    }
    let stopped = post(&listening, "/api/v1/player/stop", &json!({ "player": "p" }));
    assert_eq!(stopped.json()["playing"], json!([]));
    let heard = wait_for("the play in the journal", || {
        let play = get(&listening, "/api/v1/plays?limit=1").json()["plays"][0].clone();
        play.is_object().then_some(play)
    });
    assert_eq!((&heard["song"], &heard["how"]), (&json!(song), &json!("direct")), "{heard}");
    wait_for("a receipt on its way", || (listening.metric("antiphon_receipts_outbox") > 0).then_some(()));
    assert_eq!(listener.json(&["status"])["running"], true);
    let unknown = json!({ "player": "p", "song": "so-77", "position_ms": 0, "playing": true });
    assert_eq!(post(&listening, "/api/v1/player/position", &unknown).status, 404);
}
