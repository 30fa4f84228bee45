//! Sources whose connections come and go: what a request loses with its connection, or leaves for a better one, says
//! nothing of how good its source is.

use std::time::{Duration, Instant};

use super::{ACTIVE, End, Output, Scheduler, Why, health::FAILURE_PAUSE, source::Source};

/// A source is asked anew because of a better connection at most this often.
const MOVE_EVERY: Duration = Duration::from_secs(1);
/// Connections that a source may lose in a row without having brought anything in between.
const LOSSES: u32 = 3;
/// How long a source whose connection broke may take to come back before it counts as gone: a few attempts to dial.
const COMES_BACK: Duration = Duration::from_secs(4);
/// When nothing has come for so long while somebody listens, those who are waited for are called, and again this often.
/// Longer than a bad moment of a radio link, and much shorter than it takes a connection to notice its death.
const SILENT_PLAY: Duration = Duration::from_secs(2);
/// The same when nobody listens.
const SILENT_BULK: Duration = Duration::from_secs(5);

impl<P: Copy + Ord> Scheduler<P> {
    /// There is a connection with a source (again).
    pub(crate) fn came(&mut self, peer: &P, rtt: Option<Duration>, now: Instant) {
        let Some(source) = self.sources.get_mut(peer) else { return };
        if source.is_away() {
            source.came(rtt, now);
            self.ended &= self.claims.is_complete();
        }
    }

    /// There is no connection with a source of which nothing was known before.
    pub(crate) fn not_connected(&mut self, peer: &P, now: Instant) {
        if let Some(source) =
            self.sources.get_mut(peer).filter(|source| !source.met && source.requests.is_empty())
        {
            source.away.get_or_insert(now);
        }
    }

    /// Whether there is no connection with one of the sources.
    pub(crate) fn is_anybody_away(&self) -> bool {
        self.sources.values().any(Source::is_away)
    }

    /// Whether there is a source that can be asked sooner or later, as far as it is known.
    pub(crate) fn has_hope(&self, now: Instant) -> bool {
        self.sources.values().any(|source| source.away.is_none_or(|until| until > now))
    }

    /// A request ended with its connection, or could not begin for want of one.
    pub(super) fn path_ended(&mut self, id: u64, end: End, now: Instant) {
        let Some(request) = self.take_back(id) else { return };
        let peer = request.peer;
        let Some(source) = self.sources.get_mut(&peer) else { return };
        source.moved(id, now);
        match end {
            End::Moved => {
                // Those that run were asked before; what is asked from now on stays for a while.
                source.moved_at = Some(now);
            }
            End::Lost => {
                source.met = true;
                source.losses = source.losses.saturating_add(1);
                if source.losses > LOSSES {
                    self.fail(&peer, FAILURE_PAUSE, Why::Ended(end), now);
                }
            }
            _ if self.settings.once => self.drop_source(&peer, Why::Ended(end), now),
            _ => {
                let hope = if source.met { COMES_BACK } else { Duration::ZERO };
                source.away.get_or_insert(now + hope);
                source.seated = false;
                let theirs = std::mem::take(&mut source.requests);
                for id in theirs {
                    if self.take_back(id).is_some() {
                        self.outputs.push_back(Output::Cancel { id });
                    }
                }
            }
        }
    }

    /// Until when the next request of a source must not be moved.
    pub(super) fn stays_until(&self, peer: &P, now: Instant) -> Instant {
        let moved_at = self.sources.get(peer).and_then(|source| source.moved_at);
        moved_at.map_or(now, |at| at + MOVE_EVERY)
    }

    /// When nothing comes from anybody, those who are waited for may be behind dead connections, or gone.
    pub(super) fn call_the_silent(&mut self, now: Instant) {
        let limit = if self.playhead.is_some() { SILENT_PLAY } else { SILENT_BULK };
        if now.saturating_duration_since(self.heard_at) < limit {
            return;
        }
        let long_ago = |at: Option<Instant>| at.is_none_or(|at| now.saturating_duration_since(at) >= limit);
        let silent = |source: &Source| {
            source.is_away() || !source.requests.is_empty() && self.silence(source, now) >= limit
        };
        let due = |source: &Source| long_ago(source.called_at) && silent(source);
        let due: Vec<P> = self
            .sources
            .iter()
            .filter(|(_, source)| due(source))
            .map(|(peer, _)| *peer)
            .take(ACTIVE)
            .collect();
        for peer in due {
            if let Some(source) = self.sources.get_mut(&peer) {
                source.called_at = Some(now);
            }
            self.outputs.push_back(Output::Call { peer });
        }
    }
}
