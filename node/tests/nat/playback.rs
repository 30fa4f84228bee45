//! A song goes on while what it comes through fails: two homes that only a relay can join, three mini-nodes.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    lab::{Home, Kind, Lab, Server},
    lossy::LongLine,
    node::{Link, Node, must, start_all},
    player::{Player, Report, Song},
    table,
};

/// Bytes of a second of our tunes.
const BYTES_PER_SECOND: u64 = 22_050;
/// Its number.
const SONG: u64 = 1;
/// The song's length.
const SECONDS: u32 = 75;
/// What the artist's line sends in a second, in KiB: three times what is heard, as with 320 kbit/s on a line of 1 Mbit/s.
/// So the song is on its way for half a minute, and a few seconds of it are ahead when the failure comes.
const LINE_KIB: &str = "64";
/// What was heard when it comes.
const HEARD: u64 = 5 * BYTES_PER_SECOND;
/// Longest silence that is still called going on: a machine with two cores runs four of these at once.
const SILENCE: Duration = Duration::from_secs(10);

/// What happens in the middle of the song.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// The cable of the mini-node that it comes through is cut.
    CableCut,
    /// The mini-node that it comes through is killed.
    Killed,
    /// The listener's machine gets another address.
    AddressChanged,
    /// The listener's line is long and lossy all the time.
    LongAndLossy,
}

impl Failure {
    const ALL: [Self; 4] = [Self::CableCut, Self::Killed, Self::AddressChanged, Self::LongAndLossy];

    fn name(self) -> &'static str {
        match self {
            Self::CableCut => "the relay's cable is cut",
            Self::Killed => "the relay is killed",
            Self::AddressChanged => "the listener's address changes",
            Self::LongAndLossy => "100 ms and 2 % loss",
        }
    }
}

/// Two homes and three mini-nodes. Processes go before the namespaces.
struct World {
    artist: Node,
    listener: Node,
    minis: Vec<Node>,
    song: String,
    _line: Option<LongLine>,
    listeners_home: Home,
    _artists_home: Home,
    servers: [Server; 3],
    lab: Lab,
}

impl World {
    fn new(lab: Lab, failure: Failure) -> Self {
        let servers: [Server; 3] = ["mini-a", "mini-b", "mini-c"].map(|label| lab.server(label));
        let mut minis: Vec<Node> = Vec::new();
        for (server, label) in servers.iter().zip(["mini-a", "mini-b", "mini-c"]) {
            let joins: Vec<&Node> = minis.iter().collect();
            let mut mini = Node::mini(label, server, &joins);
            mini.up();
            minis.push(mini);
        }
        let homes = [0, 1].map(|_| lab.home(Kind::Symmetric, 1));
        let line = (failure == Failure::LongAndLossy).then(|| {
            let ends = servers.each_ref().map(|server| server.address());
            // Half of the time each way.
            LongLine::new(&homes[1], &ends, Duration::from_millis(50), 20_000)
        });
        let joins: Vec<&Node> = minis.iter().collect();
        let mut artist = Node::peer("artist", &homes[0].machines[0], &joins, 0..0);
        artist.set("UPLOAD__KIB_PER_SECOND", LINE_KIB);
        let song = artist.add_song(SONG, SECONDS);
        let listener = Node::peer("listener", &homes[1].machines[0], &joins, 2..3);
        let mut nodes = [artist, listener];
        start_all(&mut nodes);
        let [artist, listener] = nodes;
        let [artists_home, listeners_home] = homes;
        Self {
            artist,
            listener,
            minis,
            song,
            _line: line,
            listeners_home,
            _artists_home: artists_home,
            servers,
            lab,
        }
    }

    /// The mini-node between the two, as the one that dialled knows it.
    fn relay(&self) -> Option<usize> {
        let [artist, listener] = [&self.artist, &self.listener].map(|node| node.peer_id());
        let links = [self.listener.links().remove(&artist), self.artist.links().remove(&listener)];
        links
            .into_iter()
            .flatten()
            .find_map(|link| self.minis.iter().position(|mini| mini.peer_id() == link.via))
    }

    /// How the listener is connected with the artist.
    fn path(&self) -> Option<Link> {
        self.listener.links().remove(&self.artist.peer_id())
    }

    fn fail(&mut self, failure: Failure) {
        let relay = self.relay();
        match failure {
            Failure::CableCut => {
                let relay = relay.expect("a relay between the two");
                self.lab.cut(&self.servers[relay].line);
            }
            Failure::Killed => self.minis[relay.expect("a relay between the two")].kill(),
            Failure::AddressChanged => self.listeners_home.move_machine(),
            Failure::LongAndLossy => {}
        }
    }

    fn play(&mut self, failure: Failure) -> Report {
        let nodes: Vec<&Node> = [&self.artist, &self.listener].into_iter().chain(&self.minis).collect();
        let within = Duration::from_secs(90);
        must("the artist's song is online", within, &nodes, || self.listener.online_songs() == 1);
        let bytes = std::fs::metadata(self.artist.song(SONG)).unwrap().len();
        let song = Song { content: &self.song, bytes, bytes_per_second: BYTES_PER_SECOND };
        let player = Player::start(&self.listener, song);
        must("the song begins", within, &nodes, || player.heard() >= HEARD);
        must("a relay joins the two", within, &nodes, || self.relay().is_some());
        let before = self.path();
        self.fail(failure);
        let at = Instant::now();
        let report = player.wait();
        let after = at.elapsed().as_secs_f64();
        eprintln!(
            "{}: {after:.1} s of song after it, {before:?} before, {:?} after",
            failure.name(),
            self.path()
        );
        report
    }
}

/// Plays the song, and says what is wrong.
fn one(failure: Failure) -> Option<(Vec<String>, Option<String>)> {
    let mut world = World::new(Lab::new()?, failure);
    let report = world.play(failure);
    let seconds = |duration: Duration| format!("{:.1}", duration.as_secs_f64());
    let intact = report.ended_well && report.heard.content == world.song;
    let row = vec![
        failure.name().to_owned(),
        seconds(report.heard.first),
        report.arrived.least_ahead.map_or("all".to_owned(), seconds),
        seconds(report.arrived.longest_gap),
        seconds(report.heard.longest_silence),
        seconds(report.heard.silence),
        seconds(report.arrived.took),
        if intact { "intact" } else { "FAILED" }.to_owned(),
    ];
    let wrong = (!intact || report.heard.longest_silence > SILENCE).then(|| {
        world.artist.show_log();
        world.listener.show_log();
        format!("{}: {report:?}", failure.name())
    });
    crate::private::assert_none(&world.servers);
    Some((row, wrong))
}

#[test]
fn playback_goes_on() {
    let _turn = crate::turn();
    let results: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> = Failure::ALL
            .into_iter()
            .map(|failure| {
                // The name of the thread is the folder of its logs.
                thread::Builder::new().name(format!("{failure:?}")).spawn_scoped(scope, move || one(failure))
            })
            .collect();
        running.into_iter().map(|thread| thread.unwrap().join()).collect()
    });
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(Some((row, error))) => {
                rows.push(row);
                wrong.extend(error);
            }
            // Said already.
            Ok(None) => return,
            Err(_) => wrong.push("a thread panicked".to_owned()),
        }
    }
    let table = table::markdown(
        &[
            "what happens",
            "first byte after, s",
            "least ahead, s",
            "longest time without new bytes, s",
            "longest silence, s",
            "silence in all, s",
            "song on its way, s",
            "song",
        ],
        &rows,
    );
    eprintln!("{table}");
    table::write_to_file("nat playback", &table);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
