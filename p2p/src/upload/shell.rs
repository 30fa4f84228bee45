//! Locks, clocks and wakers around the pure parts.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use antiphon_proto::wire::AudioMode;
use libp2p::PeerId;
use tokio::{
    sync::{Notify, oneshot},
    time,
};
use tokio_util::sync::CancellationToken;

use super::{
    Id,
    places::{Bounds, Effect, Places},
    quota::Quota,
};
use crate::{
    config::UploadLimits,
    metrics::{Held, Labelled, Metrics},
    pacing::{LONGEST_PIECE, Limits, Pacer},
};

/// How long a paused upload sends nothing. Then it may send one piece, so that its receiver does not give it up for
/// stalled (32 KiB in 15 s are enough).
const PAUSE: Duration = Duration::from_secs(5);

/// Peers of which it is known what they were sent lately: as many as are connected by default.
const REMEMBERED_PEERS: usize = 256;

/// Bytes a second that an upload should have at least: what is waited for on a slow link. A rate in all that cannot feed
/// so many is given to fewer, or all would be too slow for their receivers.
const LEAST_RATE: u64 = 8 * 1024;

/// No place, or none in time, or nothing more today.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many uploads")]
pub(crate) struct Busy;

/// The day's bytes are used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the quota of bytes for this day is used up")]
pub(crate) struct OverQuota;

/// Gives out places and permits. Cloning gives another handle of the same.
#[derive(Debug, Clone)]
pub(crate) struct Uploads(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Whether permits have to ask at all: there is a limit on the rate or a quota.
    limited: AtomicBool,
    pacer: Pacer<PeerId>,
    state: Mutex<State>,
    metrics: Metrics,
}

#[derive(Debug)]
struct State {
    places: Places<PeerId>,
    quota: Quota,
    limits: UploadLimits,
    next: Id,
    /// Requests that wait for a place: whether they get one. Bounded by the queue.
    entering: HashMap<Id, oneshot::Sender<bool>>,
    /// Of those that run or are paused. Bounded by the places.
    signals: HashMap<Id, Arc<Signal>>,
}

/// Tells an upload that it has lost its place or has it again.
#[derive(Debug, Default)]
struct Signal {
    paused: AtomicBool,
    resumed: Notify,
}

/// A place, free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Upload {
    shared: Arc<Shared>,
    id: Id,
    peer: PeerId,
    mode: AudioMode,
    signal: Arc<Signal>,
    running: Option<Held>,
}

impl Uploads {
    /// Must be paced by [`Self::pace`].
    pub(crate) fn new(limits: UploadLimits, metrics: Metrics) -> Self {
        let state = State {
            places: Places::new(bounds(&limits)),
            quota: Quota::new(limits.bytes_per_day, limits.quota_stops_play),
            next: 0,
            entering: HashMap::new(),
            signals: HashMap::new(),
            limits,
        };
        let limited = AtomicBool::new(is_limited(&state.limits));
        let pacer = Pacer::new(rates(&state.limits), REMEMBERED_PEERS);
        Self(Arc::new(Shared { limited, pacer, state: Mutex::new(state), metrics }))
    }

    /// Changes every limit from now on. Uploads beyond new numbers of places run to their end.
    pub(crate) fn set(&self, limits: UploadLimits) {
        let shared = &self.0;
        let mut state = shared.lock();
        shared.pacer.set(rates(&limits));
        state.quota.set(limits.bytes_per_day, limits.quota_stops_play);
        let effects = state.places.set(bounds(&limits));
        shared.limited.store(is_limited(&limits), Ordering::Release);
        state.limits = limits;
        shared.apply(&mut state, effects);
    }

    /// Waits for a place, for the limits' `queue_wait` at most. Dropping the future gives the turn up.
    ///
    /// # Errors
    /// [`Busy`].
    pub(crate) async fn enter(&self, peer: PeerId, mode: AudioMode) -> Result<Upload, Busy> {
        let entered = self.wait_for_place(peer, mode).await;
        if entered.is_err() {
            self.0.metrics.uploads_busy.get_or_create(&label(mode)).inc();
        }
        entered
    }

    async fn wait_for_place(&self, peer: PeerId, mode: AudioMode) -> Result<Upload, Busy> {
        let (mut upload, mut answer, patience) = self.0.begin(peer, mode)?;
        let admitted = match answer.try_recv() {
            Ok(admitted) => admitted,
            Err(_) => matches!(time::timeout(patience, answer).await, Ok(Ok(true))),
        };
        if !admitted {
            return Err(Busy);
        }
        upload.running = Some(Held::new(self.0.metrics.uploads.get_or_create_owned(&label(mode))));
        Ok(upload)
    }

    /// Lets go whoever's turn it is, until `closed`.
    pub(crate) async fn pace(self, closed: CancellationToken) {
        let pacer = self.0.pacer.clone();
        drop(self);
        pacer.pace(closed).await;
    }
}

impl Upload {
    /// Waits until some of the next `bytes` may be written, and says how many: all of them while nothing is limited.
    /// Dropping the future gives the turn up.
    ///
    /// # Errors
    /// [`OverQuota`].
    pub(crate) async fn permit(&self, bytes: usize) -> Result<usize, OverQuota> {
        let paused = self.signal.paused.load(Ordering::Acquire);
        if !paused && !self.shared.limited.load(Ordering::Acquire) {
            return Ok(bytes);
        }
        // Boxed, so that the way without limits carries none of it.
        Box::pin(self.permit_in_turn(bytes)).await
    }

    async fn permit_in_turn(&self, bytes: usize) -> Result<usize, OverQuota> {
        let bytes = self.wait_while_paused(bytes).await;
        let piece = self.shared.pacer.piece(bytes);
        {
            let mut state = self.shared.lock();
            let today = today();
            if state.quota.is_over(self.mode, today) {
                return Err(OverQuota);
            }
            state.quota.count(piece as u64, today);
        }
        Ok(self.shared.pacer.permit(self.peer, self.mode, piece).await)
    }

    /// Waits for the place, or for [`PAUSE`] and then one short piece without it.
    async fn wait_while_paused(&self, bytes: usize) -> usize {
        let resumed = async {
            while self.signal.paused.load(Ordering::Acquire) {
                self.signal.resumed.notified().await;
            }
        };
        match time::timeout(PAUSE, resumed).await {
            Ok(()) => bytes,
            Err(_) => bytes.min(usize::try_from(LONGEST_PIECE).unwrap_or(bytes)),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.entering.remove(&self.id);
        state.signals.remove(&self.id);
        let effects = state.places.leave(self.id);
        self.shared.apply(&mut state, effects);
    }
}

impl Shared {
    // Whoever holds the lock leaves the state whole before anything that could panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a place: the upload that it will be, and where the answer comes, and how long to wait for it.
    fn begin(
        self: &Arc<Self>,
        peer: PeerId,
        mode: AudioMode,
    ) -> Result<(Upload, oneshot::Receiver<bool>, Duration), Busy> {
        let mut state = self.lock();
        if state.quota.is_over(mode, today()) {
            return Err(Busy);
        }
        let id = state.next;
        state.next += 1;
        let (sender, answer) = oneshot::channel();
        let signal = Arc::<Signal>::default();
        state.entering.insert(id, sender);
        state.signals.insert(id, signal.clone());
        let effects = state.places.enter(id, peer, mode);
        self.apply(&mut state, effects);
        let upload = Upload { shared: self.clone(), id, peer, mode, signal, running: None };
        Ok((upload, answer, state.limits.queue_wait))
    }

    fn apply(&self, state: &mut State, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Admit(id) | Effect::Refuse(id) => {
                    if let Some(sender) = state.entering.remove(&id) {
                        let _ = sender.send(matches!(effect, Effect::Admit(_)));
                    }
                }
                Effect::Pause(id) | Effect::Resume(id) => {
                    if let Some(signal) = state.signals.get(&id) {
                        signal.paused.store(matches!(effect, Effect::Pause(_)), Ordering::Release);
                        signal.resumed.notify_one();
                    }
                }
            }
        }
        for mode in [AudioMode::Play, AudioMode::Bulk] {
            let waiting = i64::try_from(state.places.waiting(mode)).unwrap_or(i64::MAX);
            self.metrics.upload_queue.get_or_create(&label(mode)).set(waiting);
        }
    }
}

/// The mode in metrics.
pub(crate) fn label(mode: AudioMode) -> Labelled {
    Labelled {
        kind: match mode {
            AudioMode::Play => "play",
            AudioMode::Bulk => "bulk",
        },
    }
}

fn bounds(limits: &UploadLimits) -> Bounds {
    let fed = limits.total_bytes_per_second.map_or(u64::MAX, |rate| (rate.get() / LEAST_RATE).max(1));
    Bounds {
        total: limits.slots.min(usize::try_from(fed).unwrap_or(usize::MAX)),
        per_peer: limits.slots_per_peer,
        play_reserve: limits.play_reserve,
        queue: limits.queue,
    }
}

fn rates(limits: &UploadLimits) -> Limits {
    Limits { total: limits.total_bytes_per_second, peer: limits.peer_bytes_per_second }
}

fn is_limited(limits: &UploadLimits) -> bool {
    rates(limits) != Limits::default() || limits.bytes_per_day.is_some()
}

/// Days since 1970, in UTC.
fn today() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() / (24 * 60 * 60)
}

#[cfg(test)]
#[path = "shell_tests.rs"]
mod tests;
