//! A lock, a clock and wakers around the rates.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use antiphon_proto::wire::AudioMode;
use tokio::{
    sync::{Notify, oneshot},
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use super::{
    Id,
    rates::{Limits, Rates, Sharer, Turn},
};

/// Gives out permits. Cloning gives another handle of the same.
#[derive(Debug)]
pub(crate) struct Pacer<S: Sharer>(Arc<Shared<S>>);

impl<S: Sharer> Clone for Pacer<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[derive(Debug)]
struct Shared<S: Sharer> {
    /// Whether permits have to ask at all.
    limited: AtomicBool,
    /// Wakes the pacing task up: somebody asks, or limits have changed.
    changed: Notify,
    state: Mutex<State<S>>,
}

#[derive(Debug)]
struct State<S: Sharer> {
    rates: Rates<S>,
    next: Id,
    /// Who waits for a permit: for how many bytes. Bounded by the places that the callers give.
    asking: HashMap<Id, oneshot::Sender<usize>>,
}

impl<S: Sharer> Pacer<S> {
    /// Must be paced by [`Self::pace`]. Of as many as `remembered` it is known what they were sent lately.
    pub(crate) fn new(limits: Limits, remembered: usize) -> Self {
        let rates = Rates::new(limits, remembered, Instant::now().into_std());
        let limited = AtomicBool::new(limits != Limits::default());
        let state = Mutex::new(State { rates, next: 0, asking: HashMap::new() });
        Self(Arc::new(Shared { limited, changed: Notify::new(), state }))
    }

    /// Changes the limits from now on.
    pub(crate) fn set(&self, limits: Limits) {
        self.0.lock().rates.set(limits, Instant::now().into_std());
        self.0.limited.store(limits != Limits::default(), Ordering::Release);
        self.0.changed.notify_one();
    }

    /// How many of so many bytes are asked for at once.
    pub(crate) fn piece(&self, bytes: usize) -> usize {
        if !self.is_limited() {
            return bytes;
        }
        let piece = self.0.lock().rates.piece().unwrap_or(u64::MAX);
        usize::try_from(piece).unwrap_or(usize::MAX).min(bytes)
    }

    /// Waits until some of the next `bytes` may be written, and says how many: all of them while nothing is limited.
    /// Dropping the future gives the turn up.
    pub(crate) async fn permit(&self, sharer: S, mode: AudioMode, bytes: usize) -> usize {
        if !self.is_limited() {
            return bytes;
        }
        let (id, mut answer) = self.0.ask(sharer, mode, bytes);
        if let Ok(granted) = answer.try_recv() {
            return granted;
        }
        self.0.changed.notify_one();
        let waiting = Asking { shared: &self.0, id, sharer, mode };
        // The sender is kept until it has answered or the asker is dropped.
        let granted = answer.await.unwrap_or(bytes);
        drop(waiting);
        granted
    }

    /// Lets go whoever's turn it is, until `closed`.
    pub(crate) async fn pace(self, closed: CancellationToken) {
        loop {
            let wake = self.0.lock().turn();
            let sleep = async {
                match wake {
                    Some(at) => time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = closed.cancelled() => return,
                () = self.0.changed.notified() => {}
                () = sleep => {}
            }
        }
    }

    /// Whether nobody waits.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.0.lock().asking.is_empty()
    }

    fn is_limited(&self) -> bool {
        self.0.limited.load(Ordering::Acquire)
    }
}

impl<S: Sharer> Shared<S> {
    // Whoever holds the lock leaves the state whole before anything that could panic.
    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, sharer: S, mode: AudioMode, bytes: usize) -> (Id, oneshot::Receiver<usize>) {
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        let (sender, answer) = oneshot::channel();
        state.asking.insert(id, sender);
        let piece = state.rates.piece().unwrap_or(u64::MAX).min(bytes as u64);
        state.rates.ask(id, sharer, mode, piece);
        state.turn();
        (id, answer)
    }
}

impl<S: Sharer> State<S> {
    /// Hands permits out; gives when to look again.
    fn turn(&mut self) -> Option<std::time::Instant> {
        let Turn { granted, wake } = self.rates.turn(Instant::now().into_std());
        for (id, bytes) in granted {
            if let Some(sender) = self.asking.remove(&id) {
                let _ = sender.send(usize::try_from(bytes).unwrap_or(usize::MAX));
            }
        }
        wake
    }
}

/// Somebody who waits for a permit; out of the line when dropped.
struct Asking<'a, S: Sharer> {
    shared: &'a Shared<S>,
    id: Id,
    sharer: S,
    mode: AudioMode,
}

impl<S: Sharer> Drop for Asking<'_, S> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if state.asking.remove(&self.id).is_some() {
            state.rates.cancel(self.id, &self.sharer, self.mode);
            // Perhaps the others waited for this one.
            self.shared.changed.notify_one();
        }
    }
}
