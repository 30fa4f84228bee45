//! The answers of every method of OpenSubsonic, in JSON and XML, against what its specification says that is in them
//! (`subsonic/contract.txt`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;
#[path = "subsonic/table.rs"]
mod table;
#[path = "subsonic/xml.rs"]
mod xml;

use std::{collections::BTreeSet, fs};

use common::{Machine, Peer, real_music, tunes, wait_scanned, wait_shelved};
use serde_json::{Map, Value};
use table::{Contract, Form, Need};

/// A peer and the password of an app.
struct Server {
    peer: Peer,
    key: String,
}

impl Server {
    /// The body of an answer.
    fn ask(&self, form: &str, query: &str) -> String {
        let mark = if query.contains('?') { '&' } else { '?' };
        let path = format!("/rest/{query}{mark}apiKey={}&v=1.16.1&c=test&f={form}", self.key);
        let answer = self.peer.http(&path);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
        body.to_owned()
    }

    fn json(&self, query: &str) -> Value {
        let document: Value = serde_json::from_str(&self.ask("json", query)).unwrap();
        document["subsonic-response"].clone()
    }

    fn xml(&self, query: &str) -> xml::Element {
        let root = xml::parse(&self.ask("xml", query));
        assert_eq!(root.name, "subsonic-response", "{query}");
        root
    }
}

/// What is found in answers.
struct Check<'c> {
    contract: &'c Contract,
    wrong: Vec<String>,
    /// Fields that OpenSubsonic has added, by type: those that were there, and those that were not.
    said: BTreeSet<(String, String)>,
    unsaid: BTreeSet<(String, String)>,
}

impl Check<'_> {
    fn wrong(&mut self, at: &str, what: &str) {
        self.wrong.push(format!("{at}: {what}"));
    }

    /// A value against its form.
    fn value(&mut self, value: &Value, form: &Form, at: &str) {
        match form {
            Form::Many(inner) => match value.as_array() {
                Some(all) => all.iter().for_each(|one| self.value(one, inner, &format!("{at}[]"))),
                None => self.wrong(at, "not an array"),
            },
            Form::Of(name) => self.object(value, name, at),
            plain => {
                let right = match plain {
                    Form::Number => value.is_u64() || value.is_i64(),
                    Form::Decimal => value.is_number(),
                    Form::Rating => value.as_u64().is_some_and(|rating| (1..=5).contains(&rating)),
                    Form::Flag => value.is_boolean(),
                    Form::Date => value.as_str().is_some_and(is_date),
                    _ => value.is_string(),
                };
                if !right {
                    self.wrong(at, &format!("{value} is no {plain:?}"));
                }
            }
        }
    }

    fn object(&mut self, value: &Value, name: &str, at: &str) {
        let Some(object) = value.as_object() else { return self.wrong(at, "not an object") };
        let fields = self.contract.fields(name);
        for field in &fields {
            let there = object.get(&field.name);
            match (field.need, there) {
                (Need::Must, None) => self.wrong(at, &format!("{} is missing", field.name)),
                (Need::Always, there) => {
                    let key = (name.to_owned(), field.name.clone());
                    if there.is_some() {
                        self.said.insert(key)
                    } else {
                        self.unsaid.insert(key)
                    };
                }
                _ => {}
            }
            if let Some(there) = there {
                self.value(there, &field.form, &format!("{at}.{}", field.name));
            }
        }
        for key in object.keys() {
            if !fields.iter().any(|field| field.name == *key) {
                self.wrong(at, &format!("{key} is unknown"));
            }
        }
    }
}

/// `2026-01-31T12:34:56.789Z`
fn is_date(text: &str) -> bool {
    let form = "dddd-dd-ddTdd:dd:dd.dddZ";
    text.len() == form.len()
        && text.bytes().zip(form.bytes()).all(|(byte, form)| match form {
            b'd' => byte.is_ascii_digit(),
            other => byte == other,
        })
}

/// Without arrays of nothing, which XML cannot tell from none.
fn full(value: &Value) -> Value {
    match value {
        Value::Array(all) => Value::Array(all.iter().map(full).collect()),
        Value::Object(object) => {
            let there = object.iter().filter(|(_, value)| value.as_array().is_none_or(|all| !all.is_empty()));
            Value::Object(there.map(|(name, value)| (name.clone(), full(value))).collect::<Map<_, _>>())
        }
        plain => plain.clone(),
    }
}

/// A peer with all kinds of songs.
fn server() -> (Machine, Server) {
    let machine = Machine::new();
    let music = machine.music();
    for track in real_music("wesnoth-1.16-music").into_iter().take(3) {
        fs::copy(&track, music.join(track.file_name().unwrap())).unwrap();
    }
    tunes(&music, 0..2, 12);
    let songs = fs::read_dir(&music).unwrap().count() as u64;
    fs::write(music.join("tune 0.lrc"), "[00:01.50]one & <two>\n[00:02.00]three\n").unwrap();
    let peer = machine.up(&[music.to_str().unwrap()]);
    wait_scanned(&machine, songs);
    wait_shelved(&peer, songs);
    let app = machine.json(&["web", "add-app", "contract"]);
    let key = app["password"].as_str().unwrap().to_owned();
    (machine, Server { peer, key })
}

/// What a method is asked, once or several times.
fn questions(server: &Server, method: &str, ids: &Ids) -> Vec<String> {
    let Ids { song, other, album, artist, name, genre, playlist, words } = ids;
    let one = |query: &str| vec![format!("{method}?{query}")];
    match method {
        "getUser" => one("username=listener"),
        "getMusicDirectory" => {
            [String::from("1"), album.clone(), artist.clone()].map(|id| format!("{method}?id={id}")).into()
        }
        "getArtist" | "getArtistInfo" | "getArtistInfo2" | "getSimilarSongs2" => one(&format!("id={artist}")),
        "getAlbum" | "getAlbumInfo" | "getAlbumInfo2" => one(&format!("id={album}")),
        "getSong" | "getSimilarSongs" => vec![format!("{method}?id={song}"), format!("{method}?id={other}")],
        "getTopSongs" => vec![format!("{method}?artist={name}"), format!("{method}?id={artist}")],
        "getAlbumList" | "getAlbumList2" => [
            "alphabeticalByName",
            "alphabeticalByArtist",
            "newest",
            "highest",
            "frequent",
            "recent",
            "starred",
            "byYear&fromYear=1900&toYear=2100",
            &format!("byGenre&genre={genre}"),
        ]
        .map(|kind| format!("{method}?type={kind}"))
        .into(),
        "getSongsByGenre" => one(&format!("genre={genre}")),
        "search" => one("any=tune"),
        "search2" | "search3" => vec![format!("{method}?query="), format!("{method}?query=tune")],
        "star" | "unstar" => one(&format!("id={song}&albumId={album}&artistId={artist}")),
        "setRating" => [song, album, artist].map(|id| format!("{method}?id={id}&rating=4")).into(),
        "scrobble" => one(&format!("id={song}&time=1700000000000")),
        "reportPlayback" => {
            one(&format!("mediaId={song}&mediaType=song&positionMs=1000&state=playing&playbackRate=1.25"))
        }
        "getPlaylist" => one(&format!("id={playlist}")),
        "createPlaylist" => one(&format!("name=new&songId={song}&songId={other}")),
        "updatePlaylist" => one(&format!("playlistId={playlist}&comment=a%20remark")),
        "deletePlaylist" => {
            let made = server.json(&format!("createPlaylist?name=gone&songId={song}"));
            one(&format!("id={}", made["playlist"]["id"].as_str().unwrap()))
        }
        "savePlayQueue" => one(&format!("id={song}&id={other}&current={other}&position=7")),
        "savePlayQueueByIndex" => one(&format!("id={song}&id={other}&currentIndex=1&position=7")),
        "createBookmark" => one(&format!("id={song}&position=4000&comment=here")),
        "deleteBookmark" => {
            server.json(&format!("createBookmark?id={other}&position=1"));
            one(&format!("id={other}"))
        }
        "getLyrics" => one("title=tune%200"),
        "getLyricsBySongId" => one(&format!("id={words}")),
        _ => vec![method.to_owned()],
    }
}

/// What requests name.
struct Ids {
    song: String,
    other: String,
    album: String,
    artist: String,
    /// The artist's.
    name: String,
    genre: String,
    playlist: String,
    /// A song with a text.
    words: String,
}

impl Ids {
    fn of(server: &Server) -> Self {
        let found = server.json("search3?query=&songCount=50&albumCount=50")["searchResult3"].clone();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let encoded = |value: &Value| text(value).replace(' ', "%20");
        let songs = found["song"].as_array().unwrap();
        let song = songs.iter().find(|song| song["genre"].is_string()).unwrap_or(&songs[0]);
        let other = songs.iter().find(|other| other["id"] != song["id"]).unwrap();
        let words = songs.iter().find(|song| song["title"] == "tune 0").unwrap();
        let artist = server.json(&format!("getAlbum?id={}", text(&song["albumId"])))["album"].clone();
        let made = server.json(&format!("createPlaylist?name=list&songId={}", text(&song["id"])));
        Self {
            song: text(&song["id"]),
            other: text(&other["id"]),
            album: text(&song["albumId"]),
            artist: text(&artist["artistId"]),
            name: encoded(&artist["artist"]),
            genre: encoded(&song["genre"]),
            playlist: text(&made["playlist"]["id"]),
            words: text(&words["id"]),
        }
    }
}

#[test]
fn answers_are_what_the_specification_says() {
    let contract = Contract::read(include_str!("subsonic/contract.txt"));
    let (_machine, server) = server();
    let ids = Ids::of(&server);
    let (said, unsaid) = (BTreeSet::new(), BTreeSet::new());
    let mut check = Check { contract: &contract, wrong: Vec::new(), said, unsaid };
    // What changes something first, so that there is something to see; what takes it away last.
    let (mut changes, mut looks, mut takes) = (Vec::new(), Vec::new(), Vec::new());
    for method in &contract.methods {
        match &*method.name {
            "unstar" | "deleteBookmark" => takes.push(method),
            _ if method.form.is_none() => changes.push(method),
            _ => looks.push(method),
        }
    }
    for method in changes.into_iter().chain(looks).chain(takes) {
        let asked = questions(&server, &method.name, &ids).into_iter().map(|question| {
            let json = server.json(&question);
            (question, json)
        });
        let asked: Vec<(String, Value)> = asked.collect();
        // Made anew: what takes something away needs it to be there again.
        for (again, (question, json)) in questions(&server, &method.name, &ids).into_iter().zip(asked) {
            let xml = server.xml(&again);
            let status =
                if method.form.as_ref().is_some_and(|(name, _)| name == "error") { "failed" } else { "ok" };
            assert_eq!(json["status"], status, "{question}: {json}");
            let name = check.contract.envelope(method);
            check.object(&json, &name, &question);
            match xml::value(&xml, &contract, &name) {
                Ok(told) if method.same => {
                    assert_eq!(full(&told), full(&json), "{question}: XML, and JSON");
                }
                // Random, or of another moment; its form has been seen.
                Ok(_) => {}
                Err(wrong) => check.wrong(&question, &format!("in XML {wrong}")),
            }
        }
    }
    let halves: Vec<_> = check.said.intersection(&check.unsaid).collect();
    assert!(halves.is_empty(), "said in some answers only: {halves:?}");
    assert!(check.wrong.is_empty(), "{}", check.wrong.join("\n"));
}
