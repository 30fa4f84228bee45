//! A player is told by which way its song comes.

use std::{thread, time::Duration};

use serde_json::{Value, json};

use crate::{
    lab::{Kind, Lab},
    node::{Node, must, start_all, until},
};

/// How long the song takes to say it.
const WITHIN: Duration = Duration::from_secs(90);

#[test]
fn that_it_comes_through_a_relay() {
    let _turn = crate::turn();
    let Some(lab) = Lab::new() else { return };
    let servers = ["mini-a", "mini-b", "mini-c"].map(|label| lab.server(label));
    let mut minis: Vec<Node> = Vec::new();
    for (server, label) in servers.iter().zip(["mini-a", "mini-b", "mini-c"]) {
        let joins: Vec<&Node> = minis.iter().collect();
        let mut mini = Node::mini(label, server, &joins);
        mini.up();
        minis.push(mini);
    }
    // Two homes that nothing but a relay joins, and a song that is on its way for a while.
    let homes = [0, 1].map(|_| lab.home(Kind::Symmetric, 1));
    let joins: Vec<&Node> = minis.iter().collect();
    let mut artist = Node::peer("artist", &homes[0].machines[0], &joins, 0..0);
    artist.add_song(1, 75);
    artist.set("UPLOAD__KIB_PER_SECOND", "64");
    let listener = Node::peer("listener", &homes[1].machines[0], &joins, 0..0);
    let mut nodes = [artist, listener];
    start_all(&mut nodes);
    let [artist, listener] = &nodes;
    must("the artist's song is online", WITHIN, &[artist, listener], || listener.online_songs() == 1);
    let meter = listener.meter();
    let hear = || {
        let meter = meter.enter();
        let (mut said, mut second) = (Value::Null, 0);
        let relayed = until(WITHIN, || {
            let position =
                json!({ "player": "p", "song": "so-0", "position_ms": second * 1_000, "playing": true });
            said = meter.post("/player/position", &position).unwrap();
            second += 1;
            said["playing"][0]["how"] == "relayed"
        });
        (relayed, said)
    };
    let (relayed, said) = thread::scope(|scope| scope.spawn(hear).join().unwrap());
    if relayed.is_none() {
        artist.show_log();
        listener.show_log();
    }
    assert!(relayed.is_some(), "{said}");
    assert!(listener.links()[&artist.peer_id()].is_relayed());
}
