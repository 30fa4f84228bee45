//! A peer on js-libp2p takes part: what is on the wire is libp2p and the layouts that are written down, nothing else.

use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

use antiphon_p2p::{Multiaddr, Vouch, presence::LibrarySum};
use antiphon_proto::{
    ContentHash,
    announcement::{Announcement, Event, Flags},
};
use serde_json::{Value, json};

use crate::{
    harness::{self, Peer, QUIC, TCP, eventually},
    js::{JsPeer, peer_id},
    presence::{LEDGER_SIZE, announcements, content, library_bytes, metric, seen, take_part, take_part_as},
};

/// Far more than any test takes, and nothing beside a time whose bytes are in another order.
const HOUR_MS: u128 = 3_600_000;
pub(crate) const FLAGS: Flags = Flags { relayed_only: false, mini_node: true };

fn hash(text: &Value) -> [u8; 32] {
    *blake3::Hash::from_hex(text.as_str().unwrap()).unwrap().as_bytes()
}

fn number(text: &Value) -> u64 {
    text.as_str().unwrap().parse().unwrap()
}

/// An announcement as the other side has read it, field by field.
fn read_by_js(said: &Value) -> Announcement {
    let content = ContentHash(hash(&said["content_hash"]));
    let flags = said["flags"].as_u64().unwrap();
    Announcement {
        event: match said["kind"].as_str().unwrap() {
            "digest" => Event::Digest,
            "add" => Event::Add(content),
            "remove" => Event::Remove(content),
            "goodbye" => Event::Goodbye,
            kind => panic!("kind {kind}"),
        },
        flags: Flags { relayed_only: flags & 1 != 0, mini_node: flags & 2 != 0 },
        songs: u32::try_from(said["songs"].as_u64().unwrap()).unwrap(),
        sequence: number(&said["sequence"]),
        time_ms: number(&said["time_ms"]),
        ledger_size: number(&said["ledger_size"]),
        digest: hash(&said["digest"]),
    }
}

/// The same, and it is what our own reader finds in the 96 bytes that the other side has received.
pub(crate) fn agreed(said: &Value) -> Announcement {
    let text = said["bytes"].as_str().unwrap();
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..text.len()).step_by(2).map(byte).collect();
    let read = read_by_js(said);
    assert_eq!(Announcement::parse(&bytes), Ok(read));
    read
}

fn digest(songs: &BTreeSet<u64>) -> [u8; 32] {
    songs.iter().fold(LibrarySum::default(), |sum, index| sum.with(&content(*index))).digest()
}

/// Checks an announcement of ours that the other side has read.
fn is_ours(said: &Announcement, event: Event, songs: &BTreeSet<u64>) {
    // Whether it is reached through relays only shows as it runs.
    let flags = Flags { relayed_only: said.flags.relayed_only, ..FLAGS };
    assert_eq!((said.event, said.flags, said.ledger_size), (event, flags, LEDGER_SIZE));
    assert_eq!((said.songs as usize, said.digest), (songs.len(), digest(songs)));
}

fn song(command: &str, index: u64) -> Value {
    json!({ "do": command, "index": index, "content": content(index).to_string() })
}

pub(crate) fn announce(songs: &BTreeSet<u64>) -> Value {
    let song = |index: &u64| json!({ "index": index, "content": content(*index).to_string() });
    json!({ "do": "announce", "songs": songs.iter().map(song).collect::<Vec<_>>() })
}

/// Has the other side dial.
pub(crate) async fn dial(js: &mut JsPeer, address: &Multiaddr) {
    js.tell(json!({ "do": "dial", "address": address.to_string() })).await;
}

/// Waits until the two, one of which has dialled, have heard of one another directly.
pub(crate) async fn meet(one: &Peer, js: &mut JsPeer, songs: &BTreeSet<u64>) {
    let of_one = |event: &Value| peer_id(&event["peer"]) == one.id();
    let connected = js.event("connected", of_one).await;
    assert_eq!(connected["limited"], false);
    js.event("subscribed", of_one).await;
    let greeted = js.event("greeted", of_one).await;
    is_ours(&agreed(&greeted), Event::Digest, songs);
}

/// The other side announces songs; ours sees them. Whoever has been heard by gossip hears it too.
pub(crate) async fn announce_and_see(one: &Peer, js: &mut JsPeer, songs: &BTreeSet<u64>) {
    js.tell(announce(songs)).await;
    let published = js.event("published", |said| said["songs"] == songs.len()).await;
    let said = agreed(&published);
    assert_eq!((said.flags, said.ledger_size, said.digest), (Flags::default(), LEDGER_SIZE, digest(songs)));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    assert!(u128::from(said.time_ms).abs_diff(now) < HOUR_MS, "{} is not about now", said.time_ms);
    eventually(|| async { announcements(one, "accepted") > 0 && seen(one).get(&js.id) == Some(songs) }).await;
}

/// Ours changes its library; the other side hears that.
pub(crate) async fn tell_changes(one: &Peer, js: &mut JsPeer, songs: &mut BTreeSet<u64>) {
    // The number of songs tells it from the digests that come every few seconds.
    let heard = async |js: &mut JsPeer, kind: &str, songs: &BTreeSet<u64>| {
        let fits = |said: &Value| said["kind"] == kind && said["songs"] == songs.len();
        let said = js.event("announcement", fits).await;
        assert_eq!(peer_id(&said["author"]), one.id());
        agreed(&said)
    };
    one.network.vouch(&[Vouch::Add(40, content(40))]);
    songs.insert(40);
    let added = heard(js, "add", songs).await;
    is_ours(&added, Event::Add(content(40)), songs);
    one.network.vouch(&[Vouch::Remove(11, content(11))]);
    songs.remove(&11);
    let removed = heard(js, "remove", songs).await;
    is_ours(&removed, Event::Remove(content(11)), songs);
    assert!(removed.sequence > added.sequence && removed.time_ms >= added.time_ms);
    // As many at once are told as a digest.
    one.network.vouch(&(100..120).map(|index| Vouch::Add(index, content(index))).collect::<Vec<_>>());
    songs.extend(100..120);
    is_ours(&heard(js, "digest", songs).await, Event::Digest, songs);
}

async fn takes_part(listen: &str, js_dials: bool) {
    let one = harness::peer(&[listen]).await;
    let mut songs = BTreeSet::from([10, 11, 12]);
    take_part_as(&one, songs.clone(), FLAGS).await;
    let listens: &[&str] = if js_dials { &[] } else { &[listen] };
    let Some(mut js) = JsPeer::start(one.ledger.network(), LEDGER_SIZE, listens).await else { return };
    if !js.speaks(listen) {
        return;
    }
    if js_dials {
        dial(&mut js, &one.address().await).await;
    } else {
        assert_eq!(one.network.connect(js.addresses[0].clone()).await.unwrap(), js.id);
    }
    meet(&one, &mut js, &songs).await;
    let mut theirs = BTreeSet::from([3, 500, 1_999]);
    announce_and_see(&one, &mut js, &theirs).await;
    tell_changes(&one, &mut js, &mut songs).await;
    // Its changes come one by one, without its library being asked for again.
    let learned = library_bytes(&one, "sync_received");
    js.tell(song("add", 700)).await;
    theirs.insert(700);
    eventually(|| async { seen(&one).get(&js.id) == Some(&theirs) }).await;
    js.tell(song("remove", 3)).await;
    theirs.remove(&3);
    eventually(|| async { seen(&one).get(&js.id) == Some(&theirs) }).await;
    assert_eq!(library_bytes(&one, "sync_received"), learned);
    // It is its goodbye that counts: the connection is still there.
    js.tell(json!({ "do": "goodbye" })).await;
    eventually(|| async { seen(&one).is_empty() }).await;
    assert!(one.network.peers().await.iter().any(|peer| peer.peer == js.id));
    assert_eq!(metric(&one, "antiphon_p2p_offences_total"), 0);
}

#[tokio::test]
async fn a_js_peer_takes_part_over_tcp() {
    takes_part(TCP, true).await;
    takes_part(TCP, false).await;
}

#[tokio::test]
async fn a_js_peer_takes_part_over_quic() {
    takes_part(QUIC, true).await;
    takes_part(QUIC, false).await;
}

#[tokio::test]
async fn bad_announcements_of_a_js_peer_are_dropped_and_counted() {
    let one = harness::peer(&[TCP]).await;
    take_part(&one, []).await;
    let Some(mut js) = JsPeer::start(one.ledger.network(), LEDGER_SIZE, &[]).await else { return };
    dial(&mut js, &one.address().await).await;
    js.event("subscribed", |_| true).await;
    let theirs = BTreeSet::from([1, 2]);
    announce_and_see(&one, &mut js, &theirs).await;
    let addition_of_nothing = format!("0101{}", "00".repeat(94));
    for (name, bytes) in [("wrong_length", "01".repeat(95)), ("malformed", addition_of_nothing)] {
        js.tell(json!({ "do": "publish", "bytes": bytes })).await;
        eventually(|| async { announcements(&one, name) == 1 }).await;
    }
    assert_eq!(metric(&one, "antiphon_p2p_offences_total"), 2);
    // A few are a bug, and what it said before and says after counts.
    assert_eq!(seen(&one).get(&js.id), Some(&theirs));
    js.tell(song("add", 3)).await;
    eventually(|| async { seen(&one).get(&js.id).is_some_and(|songs| songs.contains(&3)) }).await;
}
