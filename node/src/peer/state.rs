//! What a peer remembers of its network between starts.

use std::{io, path::Path};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::system::durable;

/// Addresses remembered: enough to find the network again, few enough to try in a minute.
const PEERS: usize = 32;

/// The file `network.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkState {
    /// Version of this form.
    pub schema: u32,
    /// Network id that this data directory belongs to, once known.
    pub network: Option<String>,
    /// Port that stays the same over restarts, so that others find the peer again.
    pub port: Option<u16>,
    /// Addresses of peers that answered.
    pub peers: Vec<String>,
}

impl NetworkState {
    /// Reads the file; the defaults when there is none.
    ///
    /// # Errors
    /// A file that cannot be read or is damaged.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { schema: 1, ..Self::default() });
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
        };
        let state: Self = serde_json::from_str(&text)
            .with_context(|| format!("{shown} is damaged; move it away and name --peer-vps again"))?;
        if state.schema != 1 {
            bail!("{shown} is of version {}, this antiphon knows 1", state.schema);
        }
        Ok(state)
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        durable::write(path, text.as_bytes(), 0o600)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Puts addresses of connected peers behind the one that answered last. Says whether any is new.
    pub fn remember_others(&mut self, addresses: impl IntoIterator<Item = String>) -> bool {
        let (mut kept, before) = (Vec::new(), std::mem::take(&mut self.peers));
        let mut new = false;
        let first = before.first().cloned();
        for address in first.into_iter().chain(addresses).take(PEERS).chain(before.iter().cloned()) {
            if kept.len() < PEERS && !kept.contains(&address) {
                new |= !before.contains(&address);
                kept.push(address);
            }
        }
        self.peers = kept;
        new
    }

    /// Puts an address that answered to the front. Says whether that changed anything.
    pub fn remember(&mut self, address: &str) -> bool {
        if self.peers.first().is_some_and(|first| first == address) {
            return false;
        }
        self.peers.retain(|known| known != address);
        self.peers.insert(0, address.to_owned());
        self.peers.truncate(PEERS);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_bounds() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("network.json");
        let mut state = NetworkState::load(&path).unwrap();
        for number in 0..40 {
            assert!(state.remember(&format!("/ip4/192.0.2.{number}/tcp/1")));
        }
        assert!(!state.remember("/ip4/192.0.2.39/tcp/1"));
        assert_eq!((state.peers.len(), state.peers[0].as_str()), (PEERS, "/ip4/192.0.2.39/tcp/1"));
        assert!(
            state.remember_others(["/ip4/192.0.2.50/tcp/1".to_owned(), "/ip4/192.0.2.38/tcp/1".to_owned()])
        );
        assert_eq!(state.peers[..3], ["39", "50", "38"].map(|end| format!("/ip4/192.0.2.{end}/tcp/1")));
        assert!(!state.remember_others(["/ip4/192.0.2.50/tcp/1".to_owned()]));
        assert_eq!(state.peers.len(), PEERS);
        state.save(&path).unwrap();
        assert_eq!(NetworkState::load(&path).unwrap(), state);
        std::fs::write(&path, "{").unwrap();
        assert!(NetworkState::load(&path).is_err());
    }
}
