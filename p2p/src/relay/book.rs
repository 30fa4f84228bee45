//! The lock around the table and the usage, and what is counted of them for the operator.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use libp2p::PeerId;
use tokio::{sync::watch, time::Instant};

use super::{
    month::Month,
    refusal::Refusal,
    table::{Ends, Origin, Table},
    usage::{Mark, Usage},
};
use crate::{
    config::RelayLimits,
    metrics::{Metrics, RelayMetrics},
    streams::Way,
};

/// What a relay does and has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayUsage {
    /// Peers that may be reached through this one.
    pub reservations: usize,
    /// Circuits that are open or being opened.
    pub circuits: usize,
    /// Bytes carried since the start.
    pub bytes_total: u64,
    /// Bytes carried in [`Self::month`], those that [`crate::Network::set_relay_month`] told of included.
    pub bytes_this_month: u64,
    /// The month (in UTC): year, and 1 to 12.
    pub month: (u32, u8),
    /// The most that may be carried in a month; none: any number.
    pub bytes_per_month: Option<u64>,
    /// Requests refused and circuits cut since the start, by reason.
    pub refused: BTreeMap<&'static str, u64>,
}

/// Shared by the streams that are served and whatever notices that peers go. Cloning gives another handle of the same.
#[derive(Debug, Clone)]
pub(crate) struct Book(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Moves when the month's bytes are used up.
    spent: watch::Sender<u64>,
    bytes_per_month: Option<u64>,
    metrics: RelayMetrics,
}

#[derive(Debug)]
struct State {
    table: Table<PeerId, Way>,
    usage: Usage<PeerId>,
    refused: BTreeMap<&'static str, u64>,
}

/// A circuit's place, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    book: Book,
    ends: Ends<PeerId>,
}

impl Book {
    pub(crate) fn new(limits: RelayLimits, metrics: &Metrics) -> Self {
        let usage = Usage::new(limits.peer_bytes_per_day, limits.bytes_per_month, unix_now());
        let bytes_per_month = limits.bytes_per_month.map(Into::into);
        let state = State { table: Table::new(limits), usage, refused: BTreeMap::new() };
        let metrics = metrics.relay.clone();
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            spent: watch::channel(0).0,
            bytes_per_month,
            metrics,
        }))
    }

    pub(super) fn reserve(&self, peer: PeerId, origin: Origin, way: Way) -> Result<(), Refusal> {
        let mut state = self.lock();
        let reserved = state.table.reserve(peer, origin, way, Instant::now().into_std());
        self.show(&state);
        reserved
    }

    /// To be called when the last direct connection with a peer has closed.
    pub(crate) fn forget(&self, peer: &PeerId) {
        let mut state = self.lock();
        state.table.forget(peer);
        self.show(&state);
    }

    pub(super) fn expire(&self) {
        let mut state = self.lock();
        state.table.expire(Instant::now().into_std());
        self.show(&state);
    }

    /// Takes a place for a circuit; gives how its destination is reached.
    pub(super) fn admit(&self, ends: Ends<PeerId>) -> Result<(Place, Way), Refusal> {
        let mut state = self.lock();
        state.usage.check([ends.source, ends.destination], unix_now())?;
        let way = state.table.admit(&ends, Instant::now().into_std())?;
        self.show(&state);
        Ok((Place { book: self.clone(), ends }, way))
    }

    /// Counts bytes that are about to be carried.
    pub(super) fn spend(&self, between: [PeerId; 2], bytes: u64) -> Result<(), Refusal> {
        let mut state = self.lock();
        state.usage.spend(between, bytes, unix_now())?;
        self.0.metrics.bytes.inc_by(bytes);
        self.tell(&mut state);
        Ok(())
    }

    /// Moves when the month's bytes are used up.
    pub(super) fn spent(&self) -> watch::Receiver<u64> {
        self.0.spent.subscribe()
    }

    pub(super) fn count(&self, refusal: Refusal) {
        let name = refusal.name();
        *self.lock().refused.entry(name).or_insert(0) += 1;
        Metrics::count(&self.0.metrics.refused, name);
    }

    pub(crate) fn usage(&self) -> RelayUsage {
        let mut state = self.lock();
        let (month, bytes_this_month) = state.usage.month(unix_now());
        RelayUsage {
            reservations: state.table.reservations(),
            circuits: state.table.circuits(),
            bytes_total: state.usage.total(),
            bytes_this_month,
            month,
            bytes_per_month: self.0.bytes_per_month,
            refused: state.refused.clone(),
        }
    }

    pub(crate) fn set_month(&self, bytes: u64, month: Month) {
        let mut state = self.lock();
        state.usage.set_month(bytes, month, unix_now());
        self.tell(&mut state);
    }

    fn tell(&self, state: &mut State) {
        match state.usage.news() {
            None => {}
            Some(Mark::Warning) => {
                tracing::warn!(
                    limit = self.0.bytes_per_month,
                    "most of the relay's bytes for this month are used"
                );
            }
            Some(Mark::Full) => {
                tracing::warn!(
                    limit = self.0.bytes_per_month,
                    "the relay's bytes for this month are used up"
                );
                self.0.spent.send_modify(|count| *count = count.wrapping_add(1));
            }
        }
    }

    fn show(&self, state: &State) {
        let number = |count| i64::try_from(count).unwrap_or(i64::MAX);
        self.0.metrics.reservations.set(number(state.table.reservations()));
        self.0.metrics.circuits.set(number(state.table.circuits()));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole at every unlock.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.book.lock();
        state.table.release(&self.ends);
        self.book.show(&state);
    }
}

/// Seconds since 1970.
pub(super) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
