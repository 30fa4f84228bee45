//! A mini-node never sends to a private address, whatever peers tell it of theirs.

use std::{thread, time::Duration};

use crate::{
    lab::{Kind, Lab, Server},
    node::{Node, start_all, wait_online},
};

/// How long homes come, go and fetch in this test alone. Every other test looks at the counters too.
const BUSY: Duration = Duration::from_secs(45);

/// Longest wait until everybody sees everybody's songs.
const ALL_SEEN: Duration = Duration::from_secs(60);

/// None of these servers sent anything to a private address, or to a group.
pub(crate) fn assert_none(servers: &[Server]) {
    for server in servers {
        let sent = server.private_packets();
        let whereto = server.private_destinations();
        assert_eq!(
            sent,
            (0, 0),
            "packets to private addresses and groups: {}: {whereto}",
            server.line.address
        );
    }
}

#[test]
fn no_private_packets() {
    let _turn = crate::turn();
    let Some(lab) = Lab::new() else { return };
    let servers: [Server; 2] = ["mini-a", "mini-b"].map(|label| lab.server(label));
    let first = Node::mini("mini-a", &servers[0], &[]);
    let second = Node::mini("mini-b", &servers[1], &[&first]);
    let mut minis = [first, second];
    minis.iter_mut().for_each(Node::up);
    let homes =
        [Kind::Cone, Kind::Symmetric, Kind::Double, Kind::ConeOtherPort].map(|kind| lab.home(kind, 1));
    let mut nodes: Vec<Node> = (0..)
        .zip(&homes)
        .map(|(number, home)| {
            Node::peer(home.kind.name(), &home.machines[0], &[&minis[0]], number..number + 1)
        })
        .collect();
    // Else what was got of a home would be seen by that home too.
    nodes.iter_mut().for_each(|node| node.set("LIBRARY__SHARE_DOWNLOADS", "false"));
    start_all(&mut nodes);
    // That is what they tell everybody.
    assert!(nodes.iter().all(|node| node.listens_on("/ip4/192.168.1.10/")));
    let others = nodes.len() as u64 - 1;
    let all_seen = |nodes: &[Node]| {
        if let Err(error) = wait_online(nodes, others, ALL_SEEN) {
            nodes.iter().for_each(Node::show_log);
            nodes.iter().for_each(|node| eprintln!("{}: {}", node.label, node.peers()));
            panic!("{error}");
        }
    };
    all_seen(&nodes);
    let start = std::time::Instant::now();
    for round in 0.. {
        // What a mini-node remembers, it dials when it is back; what a home tells, it tells when it is back.
        let mini = round % minis.len();
        minis[mini].kill();
        minis[mini].up();
        let home = round % nodes.len();
        nodes[home].kill();
        nodes[home].up();
        all_seen(&nodes);
        let wanted = crate::common::hash(&nodes[home].song(home as u64));
        let getter = &nodes[(home + 1) % nodes.len()];
        getter.get(&wanted).unwrap_or_else(|error| panic!("{error}"));
        assert_none(&servers);
        if start.elapsed() > BUSY {
            break;
        }
        thread::sleep(Duration::from_secs(2));
    }
    assert_none(&servers);
}
