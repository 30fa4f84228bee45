//! This peer's part in the swarm: what it vouches for, the sequence of its announcements, whom it remembers.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use antiphon_p2p::{Join, Network, Vouch};
use antiphon_proto::announcement::Flags;
use anyhow::Context;
use libp2p::Multiaddr;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{Peer, Reach, state::NetworkState};
use crate::{
    library::catalogue::Moved,
    system::{clock, durable},
};

/// Sequences set aside by one start: more than announcements that a process can make.
const SEQUENCES: u64 = 1 << 32;
/// How often it is written down who else is here: seldom, for the sake of SD cards.
const REMEMBER_EVERY: Duration = Duration::from_secs(600);
/// The first time, when this peer has met somebody.
const REMEMBER_FIRST: Duration = Duration::from_secs(10);

/// Announces this peer and its library, and learns of others.
pub(super) async fn take_part(
    peer: &Peer,
    network: &Network,
    reach: Reach,
    mini_node: bool,
) -> anyhow::Result<()> {
    let sequence = next_sequence(&peer.data.sequence())?;
    // A peer that does not listen serves nobody.
    if reach == Reach::Serve {
        let (library, tell) = (peer.library.clone(), network.clone());
        let follow = move || library.follow(Box::new(move |moved: &[Moved]| tell.vouch(&changes(moved))));
        let known = tokio::task::spawn_blocking(follow).await??;
        network.set_library(known);
    }
    let flags = Flags { mini_node, ..Flags::default() };
    let join = Join { network: peer.ledger.network(), flags, sequence };
    network.join(join).await;
    Ok(())
}

fn changes(moved: &[Moved]) -> Vec<Vouch> {
    let changes = moved.iter().flat_map(|moved| {
        let went = moved.before.map(|index| Vouch::Remove(index, moved.content));
        let came = moved.after.map(|index| Vouch::Add(index, moved.content));
        [went, came]
    });
    changes.flatten().collect()
}

/// A number beyond every sequence that was used with this data directory, also after a power cut. Others ignore what is not
/// newer than what they heard, so it never goes back; a clock alone would, on a Pi that has none.
fn next_sequence(path: &Path) -> anyhow::Result<u64> {
    let stored = match fs::read_to_string(path) {
        Ok(text) => text.trim().parse::<u64>().ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    // Lost or damaged: what the clock says is beyond what any such number can have reached.
    let next = stored.unwrap_or_else(|| clock::now_ms().saturating_mul(1 << 20));
    let text = format!("{}\n", next.saturating_add(SEQUENCES));
    durable::write(path, text.as_bytes(), 0o600)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(next)
}

/// Keeps the list of addresses for the next start: where this peer was answered, and now and then who else is here.
pub(super) async fn remember(
    network: Network,
    mut state: NetworkState,
    path: PathBuf,
    mut answered: watch::Receiver<Option<Multiaddr>>,
) {
    let mut look = Instant::now() + REMEMBER_FIRST;
    loop {
        let changed = tokio::select! {
            changed = answered.changed() => {
                if changed.is_err() {
                    return;
                }
                let address = answered.borrow_and_update().as_ref().map(ToString::to_string);
                address.is_some_and(|address| state.remember(&address))
            }
            () = sleep_until(look) => {
                let known = network.addresses().await;
                look = Instant::now() + if known.is_empty() { REMEMBER_FIRST } else { REMEMBER_EVERY };
                let mini_nodes = network.ways().await.map(|ways| ways.remembered).unwrap_or_default();
                let others = known.into_iter().filter_map(|(peer, addresses)| {
                    Some(addresses.into_iter().next()?.with_p2p(peer).ok()?.to_string())
                });
                // Those through which everybody is found come first.
                state.remember_others(mini_nodes.iter().map(ToString::to_string).chain(others))
            }
        };
        if changed && let Err(error) = state.save(&path) {
            tracing::warn!(
                error = format!("{error:#}"),
                "the addresses of other peers were not written down"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_never_go_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sequence");
        let first = next_sequence(&path).unwrap();
        assert!(first > 1_700_000_000_000 << 20);
        assert_eq!(next_sequence(&path).unwrap(), first + SEQUENCES);
        fs::write(&path, "50\n").unwrap();
        assert_eq!((next_sequence(&path).unwrap(), next_sequence(&path).unwrap()), (50, 50 + SEQUENCES));
        fs::write(&path, "damaged").unwrap();
        assert!(next_sequence(&path).unwrap() >= first);
    }
}
