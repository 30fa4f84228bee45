//! A peer on js-libp2p at either end of a circuit over our relay, and at both.

use std::collections::BTreeSet;

use antiphon_p2p::{PeerId, status::Path};
use libp2p::multiaddr::Protocol;
use serde_json::{Value, json};

use crate::{
    circuit_peer::{behind, circuits, mini_node, reservations, through},
    harness::{Peer, QUIC, TCP, config, eventually, peer},
    interop::{FLAGS, agreed, announce, announce_and_see, dial, meet, tell_changes},
    js::{JsPeer, peer_id},
    presence::{LEDGER_SIZE, metric, take_part_as},
};

/// One on js-libp2p that is met at the relay; none where it cannot run.
async fn js_behind(relay: &Peer, network: &Peer) -> Option<JsPeer> {
    let address = relay.address().await;
    let circuit = address.clone().with(Protocol::P2pCircuit).to_string();
    let js = JsPeer::start(network.ledger.network(), LEDGER_SIZE, &[&circuit]).await?;
    if !js.speaks(&circuit) {
        return None;
    }
    reservations(relay, 1).await;
    // It tells others where the relay is by the relay's own word.
    assert_eq!(js.addresses, [through(&address, js.id)]);
    Some(js)
}

/// Once two have met over the relay: what they say is heard, and nothing is missing.
async fn talk(relay: &Peer, one: &Peer, js: &mut JsPeer, songs: &mut BTreeSet<u64>) {
    meet(one, js, songs).await;
    circuits(relay, 1).await;
    let known = one.network.peers().await.into_iter().find(|known| known.peer == js.id).unwrap();
    assert_eq!((known.path, known.connections), (Path::Relayed, 1));
    js.tell(json!({ "do": "ping", "peer": one.id().to_string() })).await;
    js.event("pinged", of(one.id())).await;
    let rtt = || async { one.network.peers().await.iter().find(|known| known.peer == js.id)?.rtt };
    eventually(|| async { rtt().await.is_some() }).await;
    announce_and_see(one, js, &BTreeSet::from([3, 500, 1_999])).await;
    tell_changes(one, js, songs).await;
    for peer in [one, relay] {
        assert_eq!(metric(peer, "antiphon_p2p_offences_total"), 0);
    }
}

fn of(peer: PeerId) -> impl Fn(&Value) -> bool {
    move |event| peer_id(&event["peer"]) == peer
}

async fn one_of_ours_reaches_js(transport: &str) {
    let (relay, one) = (mini_node(transport).await, peer(&[]).await);
    let mut songs = BTreeSet::from([10, 11, 12]);
    take_part_as(&one, songs.clone(), FLAGS).await;
    let Some(mut js) = js_behind(&relay, &one).await else { return };
    let address = js.addresses[0].clone();
    assert_eq!(one.network.connect(address).await.unwrap(), js.id);
    talk(&relay, &one, &mut js, &mut songs).await;
}

#[tokio::test]
async fn a_js_peer_is_reached_over_our_relay_and_tcp() {
    one_of_ours_reaches_js(TCP).await;
}

#[tokio::test]
async fn a_js_peer_is_reached_over_our_relay_and_quic() {
    one_of_ours_reaches_js(QUIC).await;
}

async fn js_reaches_one_of_ours(transport: &str) {
    let relay = mini_node(transport).await;
    let one = behind(&relay, config(&[QUIC])).await;
    let mut songs = BTreeSet::from([10, 11, 12]);
    take_part_as(&one, songs.clone(), FLAGS).await;
    let Some(mut js) = JsPeer::start(one.ledger.network(), LEDGER_SIZE, &[]).await else { return };
    if !js.speaks(transport) {
        return;
    }
    dial(&mut js, &through(&relay.address().await, one.id())).await;
    talk(&relay, &one, &mut js, &mut songs).await;
}

#[tokio::test]
async fn a_js_peer_reaches_one_of_ours_over_our_relay_and_tcp() {
    js_reaches_one_of_ours(TCP).await;
}

#[tokio::test]
async fn a_js_peer_reaches_one_of_ours_over_our_relay_and_quic() {
    js_reaches_one_of_ours(QUIC).await;
}

async fn two_on_js_meet(transport: &str) {
    let relay = mini_node(transport).await;
    let Some(mut reached) = js_behind(&relay, &relay).await else { return };
    let Some(mut other) = JsPeer::start(relay.ledger.network(), LEDGER_SIZE, &[]).await else { return };
    dial(&mut other, &reached.addresses[0]).await;
    let (first, second) = (reached.id, other.id);
    for (js, met) in [(&mut reached, second), (&mut other, first)] {
        let connected = js.event("connected", of(met)).await;
        assert_eq!(connected["limited"], false);
        js.event("subscribed", of(met)).await;
        js.event("greeted", of(met)).await;
    }
    other.tell(announce(&BTreeSet::from([1, 2]))).await;
    let heard = reached.event("announcement", |said| said["songs"] == 2).await;
    assert_eq!(peer_id(&heard["author"]), other.id);
    assert_eq!(agreed(&heard).songs, 2);
    assert_eq!(relay.network.relay_usage().unwrap().circuits, 1);
}

#[tokio::test]
async fn two_js_peers_meet_over_our_relay_and_tcp() {
    two_on_js_meet(TCP).await;
}

#[tokio::test]
async fn two_js_peers_meet_over_our_relay_and_quic() {
    two_on_js_meet(QUIC).await;
}
