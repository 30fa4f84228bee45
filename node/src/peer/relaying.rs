//! What this mini-node carries for others: how much of the month is used is kept on disk, so that a restart does not
//! begin the month anew.

use std::{fs, io, path::Path, path::PathBuf, time::Duration};

use antiphon_p2p::{Network, relay::RelayUsage};
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};

use crate::system::durable;

/// How often the bytes of the month are written down: what a kill forgets is a minute's at most.
const WRITE_EVERY: Duration = Duration::from_secs(60);

/// The file `relay.json`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Month {
    /// Version of this form.
    schema: u32,
    /// In UTC.
    year: u32,
    /// 1 to 12.
    month: u8,
    /// Carried so far.
    bytes: u64,
}

impl Month {
    fn of(usage: &RelayUsage) -> Self {
        let (year, month) = usage.month;
        Self { schema: 1, year, month, bytes: usage.bytes_this_month }
    }

    /// None when nothing was carried yet. A damaged file is no reason not to start: it is worth a month's count.
    fn load(path: &Path) -> Option<Self> {
        match fs::read_to_string(path) {
            Ok(text) => serde_json::from_str(&text)
                .inspect_err(|error| {
                    tracing::warn!(path = %path.display(), %error, "the count of this month's bytes is damaged; it begins anew");
                })
                .ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the count of this month's bytes cannot be read");
                None
            }
        }
    }

    fn save(self, path: &Path) {
        let saved = serde_json::to_string(&self)
            .map_err(io::Error::from)
            .and_then(|text| durable::write(path, text.as_bytes(), 0o600).map_err(io::Error::other));
        if let Err(error) = saved {
            tracing::warn!(path = %path.display(), %error, "the count of this month's bytes was not written down");
        }
    }
}

/// Tells the relay what an earlier process has carried this month, and writes down what this one does.
pub(super) async fn keep_count(network: Network, path: PathBuf) {
    let mut written = Month::load(&path).unwrap_or_default();
    network.set_relay_month(written.bytes, (written.year, written.month));
    let mut ticks = interval(WRITE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(usage) = network.relay_usage() else { return };
        let now = Month::of(&usage);
        if now.bytes > 0 && now != written {
            written = now;
            now.save(&path);
        }
    }
}

/// The last word of a process that ends in order.
pub(super) fn write_count(network: &Network, path: &Path) {
    if let Some(usage) = network.relay_usage().filter(|usage| usage.bytes_this_month > 0) {
        Month::of(&usage).save(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_month_is_kept_and_damage_is_no_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("relay.json");
        assert_eq!(Month::load(&path), None);
        let month = Month { schema: 1, year: 2026, month: 11, bytes: 5 };
        month.save(&path);
        assert_eq!(Month::load(&path), Some(month));
        fs::write(&path, "{").unwrap();
        assert_eq!(Month::load(&path), None);
    }
}
