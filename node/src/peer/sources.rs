//! Whom a file is fetched from.

use std::{collections::HashSet, sync::Arc, time::Duration};

use antiphon_p2p::{Network, Online};
use libp2p::PeerId;
use tokio::{sync::watch, time::sleep};

use crate::search::Sources;

/// How often the connected peers are looked at, beside every change of who is online.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Peers named at once; a download uses a few of them at a time.
const SOURCES: usize = 64;

/// What searches ask about who is online.
pub(super) struct OnlineNow(pub(super) Option<Network>);

impl OnlineNow {
    fn online(&self) -> Arc<Online> {
        self.0.as_ref().map(Network::online).unwrap_or_default()
    }
}

impl Sources for OnlineNow {
    fn count(&self, index: u64) -> u32 {
        self.online().sources(index)
    }

    fn each(&self, each: &mut dyn FnMut(u64)) {
        self.online().indexes().for_each(each);
    }

    fn distinct(&self, indexes: &mut dyn Iterator<Item = u64>) -> u32 {
        self.online().distinct(indexes)
    }
}

/// Connected peers that vouch for a block; all connected ones when nobody is known to. (Presence says what peers have told
/// of; a peer that has just learned of the song is not told of yet.)
pub(super) async fn of(network: &Network, index: u64) -> Vec<PeerId> {
    let mut connected = network.peers().await;
    // The nearest first.
    connected.sort_by_key(|known| known.rtt.unwrap_or(Duration::MAX));
    let providers: HashSet<PeerId> = network.online().providers(&[index]).collect();
    let known = connected.iter().map(|known| known.peer).filter(|peer| providers.contains(peer));
    let mut sources: Vec<PeerId> = known.take(SOURCES).collect();
    if sources.is_empty() {
        sources.extend(connected.iter().map(|known| known.peer).take(SOURCES));
    }
    sources
}

/// The same, kept up to date for as long as somebody reads it.
pub(super) async fn feed(network: &Network, index: u64) -> watch::Receiver<Vec<PeerId>> {
    let (send, receive) = watch::channel(of(network, index).await);
    let network = network.clone();
    tokio::spawn(async move {
        let mut online = network.watch_online();
        loop {
            tokio::select! {
                () = send.closed() => return,
                changed = online.changed() => if changed.is_err() { return },
                () = sleep(LOOK_EVERY) => {}
            }
            let now = of(&network, index).await;
            send.send_if_modified(|before| {
                let changed = *before != now;
                *before = now;
                changed
            });
        }
    });
    receive
}

/// How many peers online vouch for a block.
pub(super) fn count(network: &Network, index: u64) -> u32 {
    network.online().sources(index)
}
