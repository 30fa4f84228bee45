//! Peers in one local network find one another with no settings: real processes in network namespaces that the test makes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use std::process::{Command, Stdio};

use common::{Machine, Peer, missing, tunes, wait_for, wait_scanned};

/// Two namespaces joined by a cable, gone when dropped.
struct Lan {
    ends: [String; 2],
}

fn ip(args: &[&str]) -> bool {
    Command::new("ip")
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

impl Lan {
    /// None where namespaces cannot be made.
    fn new() -> Option<Self> {
        let id = std::process::id();
        let lan = Self { ends: [format!("antiphon-{id}-a"), format!("antiphon-{id}-b")] };
        let [a, b] = &lan.ends;
        let (va, vb) = (format!("va{id}"), format!("vb{id}"));
        let made = ip(&["netns", "add", a])
            && ip(&["netns", "add", b])
            && ip(&["link", "add", &va, "netns", a, "type", "veth", "peer", "name", &vb, "netns", b]);
        for (end, cable, address) in [(a, &va, "10.77.0.1/24"), (b, &vb, "10.77.0.2/24")] {
            let up = made
                && ip(&["-n", end, "link", "set", "lo", "up"])
                && ip(&["-n", end, "addr", "add", address, "dev", cable])
                && ip(&["-n", end, "link", "set", cable, "up"])
                && ip(&["-n", end, "route", "add", "default", "dev", cable]);
            if !missing("ip with network namespaces, as root", up) {
                return None;
            }
        }
        Some(lan)
    }

    /// A peer at one end, with nothing set but where it listens.
    fn up(&self, end: usize, machine: &Machine) -> Peer {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.ends[end], env!("CARGO_BIN_EXE_antiphon")]);
        machine.dress(&mut command).env("ANTIPHON__NETWORK__MDNS", "true");
        machine.up_at(command, &[machine.music().to_str().unwrap()])
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for end in &self.ends {
            ip(&["netns", "del", end]);
        }
    }
}

#[test]
fn peers_at_home_find_one_another() {
    let Some(lan) = Lan::new() else { return };
    let (one, two) = (Machine::new(), Machine::new());
    tunes(&one.music(), 0..3, 25);
    tunes(&two.music(), 3..5, 25);
    let first = lan.up(0, &one);
    wait_scanned(&one, 3);
    // The second one joins the network of the first, and both see the other's songs.
    let second = lan.up(1, &two);
    assert_eq!(second.ready["network"], first.ready["network"]);
    let online = |machine: &Machine| machine.json(&["status"])["online_songs"].as_u64();
    wait_for("the first one's songs", || (online(&two) == Some(3)).then_some(()));
    wait_for("the second one's songs", || (online(&one) == Some(2)).then_some(()));
    // After a restart too, without an address on the disk that is still right.
    assert!(second.stop().0.success());
    wait_for("the second one to be gone", || (online(&one) == Some(0)).then_some(()));
    std::fs::remove_file(two.data().join("network.json")).unwrap();
    let second = lan.up(1, &two);
    wait_for("the first one's songs again", || (online(&two) == Some(3)).then_some(()));
    drop((first, second));
}
