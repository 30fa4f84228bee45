//! A home whose addresses change: how long until songs come again.

use std::time::{Duration, Instant};

use crate::{
    lab::{Home, Kind, Lab, Server},
    node::{Node, must, start_all},
    table,
};

/// Longest wait: the aim is 5 s, on an idle machine.
const CONNECTED: Duration = Duration::from_secs(60);
/// Songs of the other side: one for each change, so that none is here already.
const SONGS: u64 = 4;

/// What happens to the home.
#[derive(Debug, Clone, Copy)]
enum Change {
    /// The machine gets another address at home.
    Machine,
    /// The provider gives the router another one.
    Line,
    /// The cable is out for so long.
    Cable(Duration),
}

struct World {
    /// The one whose addresses change, and the one that it gets songs of.
    nodes: [Node; 2],
    _minis: Vec<Node>,
    homes: [Home; 2],
    servers: [Server; 2],
    lab: Lab,
}

impl World {
    fn new(lab: Lab, other: Kind) -> Self {
        let servers: [Server; 2] = ["mini-a", "mini-b"].map(|label| lab.server(label));
        let mut first = Node::mini("mini-a", &servers[0], &[]);
        first.up();
        let mut second = Node::mini("mini-b", &servers[1], &[&first]);
        second.up();
        let homes = [Kind::Cone, other].map(|kind| lab.home(kind, 1));
        let mut nodes = [
            Node::peer("moving", &homes[0].machines[0], &[&first, &second], 100..101),
            Node::peer("staying", &homes[1].machines[0], &[&first, &second], 0..SONGS),
        ];
        nodes.iter_mut().for_each(|node| node.set("LIBRARY__SHARE_DOWNLOADS", "false"));
        start_all(&mut nodes);
        Self { nodes, _minis: vec![first, second], homes, servers, lab }
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Machine => self.homes[0].move_machine(),
            Change::Line => self.lab.renumber(&mut self.homes[0]),
            Change::Cable(out) => {
                let line = self.homes[0].line.as_ref().unwrap();
                self.lab.cut(line);
                std::thread::sleep(out);
                self.lab.mend(line);
            }
        }
    }

    /// Gets a song of the other, as often as it takes, and says how long that was.
    fn got(&self, song: u64) -> Duration {
        let [moving, staying] = &self.nodes;
        let content = crate::common::hash(&staying.song(song));
        let start = Instant::now();
        let mut last = Ok(());
        must("a song comes", CONNECTED, &[moving, staying], || {
            last = moving.get(&content);
            if let Err(error) = &last {
                eprintln!("after {:.1} s: {error}", start.elapsed().as_secs_f64());
            }
            last.is_ok()
        });
        start.elapsed()
    }

    fn run(&mut self, other: Kind) -> Vec<Vec<String>> {
        let [moving, staying] = &self.nodes;
        must("both see the other's songs", Duration::from_secs(90), &[moving, staying], || {
            moving.online_songs() == SONGS && staying.online_songs() == 1
        });
        let before = self.got(0);
        let mut rows = Vec::new();
        for (song, (name, change)) in (1..).zip([
            ("another address at home", Change::Machine),
            ("another public address", Change::Line),
            ("cable out for 20 s", Change::Cable(Duration::from_secs(20))),
        ]) {
            let path = |world: &Self| {
                let link = world.nodes[0].links().remove(&world.nodes[1].peer_id());
                link.map_or("none".to_owned(), |link| format!("{} {}", link.path, link.transport))
            };
            let path_before = path(self);
            self.change(change);
            let took = self.got(song);
            rows.push(vec![
                name.to_owned(),
                other.name().to_owned(),
                path_before,
                path(self),
                format!("{:.1}", before.as_secs_f64()),
                format!("{:.1}", took.as_secs_f64()),
            ]);
        }
        crate::private::assert_none(&self.servers);
        rows
    }
}

#[test]
fn address_change() {
    let _turn = crate::turn();
    let mut rows = Vec::new();
    for other in [Kind::Cone, Kind::Symmetric] {
        let Some(lab) = Lab::new() else { return };
        rows.extend(World::new(lab, other).run(other));
    }
    let columns =
        ["what happens", "other home", "path before", "path after", "a song before, s", "a song after it, s"];
    let table = table::markdown(&columns, &rows);
    eprintln!("{table}");
    table::write_to_file("nat addresses", &table);
}
