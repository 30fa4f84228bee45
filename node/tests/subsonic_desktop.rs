//! A peer as the desktop player Strawberry sees it: the real program on a display and a bus of its own, which fetches
//! the catalogue, plays a song that another peer sends, and says that it was heard.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use common::{Machine, missing, tunes, wait_for, wait_scanned};
use data_encoding::BASE64;
use serde_json::Value;

/// Songs, and seconds of each: Strawberry says that a song was heard after half of it and 31 seconds.
const SONGS: u64 = 2;
const SECONDS: u32 = 36;
/// What Strawberry calls itself on the bus.
const NAME: &str = "org.mpris.MediaPlayer2.strawberry";

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Starts a program that says in its first line where it can be reached.
    fn saying(command: &mut Command) -> (Self, String) {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (Self(child), line.trim().to_owned())
    }
}

/// A desktop with a home of its own: a display, a bus, and Strawberry.
struct Desktop {
    home: PathBuf,
    display: String,
    bus: String,
    _running: Vec<Running>,
}

impl Desktop {
    fn new(home: PathBuf) -> Self {
        fs::create_dir_all(home.join("run")).unwrap();
        fs::set_permissions(home.join("run"), fs::Permissions::from_mode(0o700)).unwrap();
        let mut display = Command::new("Xvfb");
        display.args(["-displayfd", "1", "-screen", "0", "1280x900x24", "-nolisten", "tcp"]);
        let (display, number) = Running::saying(display.stderr(Stdio::null()));
        let mut bus = Command::new("dbus-daemon");
        bus.args(["--session", "--nofork", "--print-address"]).env("XDG_RUNTIME_DIR", home.join("run"));
        let (bus, address) = Running::saying(bus.stderr(Stdio::null()));
        Self { home, display: format!(":{number}"), bus: address, _running: vec![bus, display] }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("HOME", &self.home)
            .env("XDG_RUNTIME_DIR", self.home.join("run"))
            .env("DISPLAY", &self.display)
            .env("DBUS_SESSION_BUS_ADDRESS", &self.bus)
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_DATA_HOME")
            .env_remove("XDG_CACHE_HOME")
            .env_remove("WAYLAND_DISPLAY")
            .env("QT_QPA_PLATFORM", "xcb")
            // No loudspeakers, also where there are some: the sound goes nowhere, but takes its time.
            .env("PULSE_SERVER", "none")
            .env("ALSA_CONFIG_PATH", "/dev/null")
            .stdin(Stdio::null());
        command
    }

    /// Starts Strawberry with this server, its view of which is what one sees.
    fn strawberry(&mut self, url: &str, user: &str, password: &str) {
        let folder = self.home.join(".config/strawberry");
        fs::create_dir_all(&folder).unwrap();
        let password = BASE64.encode(password.as_bytes());
        let settings = format!(
            "[Backend]\nengine=gstreamer\noutput=autoaudiosink\n\n[MainWindow]\ncurrent_tab=8\n\n\
             [Subsonic]\nenabled=true\nurl={url}\nusername={user}\npassword={password}\nauthmethod=1\n\
             downloadalbumcovers=true\nserversidescrobbling=true\n\n[Scrobbler]\nenabled=true\n"
        );
        fs::write(folder.join("strawberry.conf"), settings).unwrap();
        let log = fs::File::create(self.home.join("log")).unwrap();
        let mut command = self.command("strawberry");
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self._running.insert(0, Running(command.spawn().unwrap()));
    }

    /// Moves mouse and keys.
    fn input(&self, what: &[&str]) {
        self.command("xdotool").args(what).output().unwrap();
    }

    /// Songs of the server's catalogue that Strawberry has.
    fn catalogue(&self) -> u64 {
        let count = "import sqlite3, sys; base = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True, timeout=5); \
                     print(base.execute('select count(*) from subsonic_songs').fetchone()[0])";
        let base = self.home.join(".local/share/strawberry/strawberry/strawberry.db");
        let output = self.command("python3").args(["-c", count]).arg(base).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or(0)
    }

    /// Asks Strawberry over the bus; nothing while it does not answer.
    fn ask(&self, method: &str, arguments: &[&str]) -> Option<String> {
        let mut command = self.command("dbus-send");
        command.args(["--session", "--print-reply=literal", &format!("--dest={NAME}")]);
        let output = command.args(["/org/mpris/MediaPlayer2", method]).args(arguments).output().unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn player(&self, property: &str) -> Option<String> {
        let player = "string:org.mpris.MediaPlayer2.Player";
        let property = format!("string:{property}");
        let answer = self.ask("org.freedesktop.DBus.Properties.Get", &[player, &property])?;
        answer.split_whitespace().last().map(str::to_owned)
    }

    /// Microseconds that it is in the song.
    fn position(&self) -> u64 {
        self.player("Position").and_then(|position| position.parse().ok()).unwrap_or(0)
    }
}

fn there() -> bool {
    let have = |program: &str| {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
    };
    let programs = ["strawberry", "Xvfb", "xdotool", "dbus-daemon", "dbus-send", "python3"];
    let lacking: Vec<&str> = programs.into_iter().filter(|program| !have(program)).collect();
    missing(&format!("what this test needs ({})", lacking.join(", ")), lacking.is_empty())
}

#[test]
fn strawberry_plays_what_another_peer_sends() {
    if !there() {
        return;
    }
    let (artist, listener) = (Machine::new(), Machine::new());
    tunes(&artist.music(), 0..SONGS, SECONDS);
    let serving = artist.up(&[artist.music().to_str().unwrap()]);
    wait_scanned(&artist, SONGS);
    let listening =
        listener.up(&[listener.music().to_str().unwrap(), "--peer-vps", &serving.address("quic")]);
    let app = listener.json(&["web", "add-app", "desktop"]);
    let (user, password) = (app["user"].as_str().unwrap(), app["password"].as_str().unwrap());
    let rest = |method: &str| -> Value {
        let answer = listening.http(&format!("/rest/{method}&apiKey={password}&f=json&v=1.16.1&c=test"));
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let answer: Value = serde_json::from_str(body).unwrap();
        answer["subsonic-response"].clone()
    };
    wait_for("all songs to be online", || {
        let songs = rest("search3?query=&songCount=10")["searchResult3"]["song"].clone();
        (songs.as_array().unwrap().len() as u64 == SONGS).then_some(())
    });

    let mut desktop = Desktop::new(listener.path("desktop"));
    desktop.strawberry(listening.ready["http"].as_str().unwrap(), user, password);
    wait_for("Strawberry on the bus", || desktop.player("PlaybackStatus"));
    // An empty catalogue is fetched by a click into it.
    let log = || fs::read_to_string(desktop.home.join("log")).unwrap_or_default();
    wait_for("the catalogue in Strawberry", || {
        if desktop.catalogue() == 0 {
            desktop.input(&["mousemove", "125", "400", "click", "1"]);
        }
        (desktop.catalogue() == SONGS).then_some(())
    });
    // What is chosen goes into the playlist, and is played.
    wait_for("Strawberry to play", || {
        if desktop.player("PlaybackStatus").as_deref() == Some("Playing") && desktop.position() > 0 {
            return Some(());
        }
        desktop.input(&[
            "mousemove",
            "125",
            "400",
            "click",
            "1",
            "key",
            "Home",
            "key",
            "Down",
            "key",
            "Return",
        ]);
        desktop.ask("org.mpris.MediaPlayer2.Player.Play", &[])?;
        None
    });
    let began = desktop.position();
    let playing = wait_for("the peer to know what is played", || {
        let entry = rest("getNowPlaying?")["nowPlaying"]["entry"][0].clone();
        entry["id"].is_string().then_some(entry)
    });
    assert!(playing["playerName"].as_str().unwrap().contains("Strawberry"), "{playing}");
    // Its sound takes as long as the song: the place in it grows.
    wait_for("the song to go on", || (desktop.position() > began + 5_000_000).then_some(()));
    let id = playing["id"].as_str().unwrap();
    wait_for("the play to be counted", || {
        let song = rest(&format!("getSong?id={id}"))["song"].clone();
        (song["playCount"] == 1).then_some(())
    });
    // The bytes came from the other peer.
    let size = playing["size"].as_u64().unwrap();
    let fetched = listening.metric("antiphon_p2p_fetched_bytes_total");
    assert!(fetched >= size, "{fetched} of {size} bytes came\n{}", log());
}
