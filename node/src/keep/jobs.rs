//! Downloads as a list: which comes next, which waits for what, which has ended. No disk, no clock.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{
    failure::{Failure, Kind},
    listener::WANTED_SONGS,
};

/// Ended ones that are remembered.
const ENDED: usize = 500;
/// After what stood in the way it is tried again: so long at first, then twice as long each time, up to an hour.
const AGAIN_AFTER_MS: u64 = 30_000;
const LONGEST_MS: u64 = 3_600_000;
/// What fails for other reasons (somebody left in the middle, a file could not be written) is tried so often at most.
const TRIES: u32 = 8;

/// What is said of one that nobody has.
const NOBODY: &str = "nobody who has it is online";

/// How far one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Others come first.
    Waiting,
    /// Something stands in the way, and `error` says what: nobody who has it is online, the wallet is locked, the disk is
    /// full. It goes on by itself.
    Paused,
    /// It comes.
    Running,
    /// It is here, and served on.
    Done,
    /// It did not come.
    Failed,
    /// Somebody did not want it any more.
    Cancelled,
}

impl State {
    /// Whether it is still to come.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Paused | Self::Running)
    }
}

/// A song that is to be kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Download {
    /// Its number here.
    pub id: u64,
    /// Ledger index of the song's block.
    pub song: u64,
    /// How far it is.
    pub state: State,
    /// Bytes that are here.
    pub verified_bytes: u64,
    /// Bytes of the file, 0 until that is known.
    pub bytes: u64,
    /// Peers that have sent some of it.
    pub sources: usize,
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Why it did not come, or waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How many are how far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// [`State::Waiting`].
    pub waiting: usize,
    /// [`State::Paused`].
    pub paused: usize,
    /// [`State::Running`].
    pub running: usize,
    /// [`State::Done`], of those that are remembered.
    pub done: usize,
    /// [`State::Failed`], of those that are remembered.
    pub failed: usize,
}

struct Job {
    shown: Download,
    cancel: CancellationToken,
    tries: u32,
    not_before_ms: u64,
}

impl Job {
    fn new(id: u64, song: u64, state: State) -> Self {
        let shown =
            Download { id, song, state, verified_bytes: 0, bytes: 0, sources: 0, path: None, error: None };
        Self { shown, cancel: CancellationToken::new(), tries: 0, not_before_ms: 0 }
    }
}

/// How one ended.
pub(super) enum End {
    /// The file is here.
    Here { path: String, bytes: u64 },
    /// It is not, and why.
    Not(Failure),
    /// Nobody wanted it any more.
    Cancelled,
}

/// All downloads, by number.
#[derive(Default)]
pub(super) struct Jobs {
    all: BTreeMap<u64, Job>,
    /// Songs that are still to come, and the numbers of their downloads.
    open: HashMap<u64, u64>,
}

impl Jobs {
    /// Those that were still to come when the peer stopped, as numbers and songs. They wait until somebody has them.
    pub(super) fn restored(wanted: &[(u64, u64)]) -> Self {
        let mut jobs = Self::default();
        for (id, song) in wanted {
            let mut job = Job::new(*id, *song, State::Paused);
            job.shown.error = Some(NOBODY.to_owned());
            jobs.all.insert(*id, job);
            jobs.open.insert(*song, *id);
        }
        jobs
    }

    /// Numbers for those of these songs that are not still to come.
    ///
    /// # Errors
    /// More than [`WANTED_SONGS`] would wait: none of them is taken.
    pub(super) fn plan(&self, songs: &[u64]) -> Result<Vec<(u64, u64)>, Failure> {
        let mut id = self.all.last_key_value().map_or(0, |(id, _)| *id);
        let mut planned = HashSet::new();
        let mut new = Vec::new();
        for song in songs {
            if !self.open.contains_key(song) && planned.insert(*song) {
                id = id.saturating_add(1);
                new.push((id, *song));
            }
        }
        let open = self.open.len();
        if open.saturating_add(new.len()) > WANTED_SONGS {
            let message = format!(
                "{open} songs wait to be kept already, and {WANTED_SONGS} may; wait for some of them"
            );
            return Err(Failure::new(Kind::Usage, message));
        }
        Ok(new)
    }

    /// Adds what was planned, and gives the downloads of all these songs.
    pub(super) fn add(&mut self, planned: &[(u64, u64)], songs: &[u64]) -> Vec<Download> {
        for (id, song) in planned {
            self.all.insert(*id, Job::new(*id, *song, State::Waiting));
            self.open.insert(*song, *id);
        }
        self.forget();
        let of = |song: &u64| self.all.get(self.open.get(song)?).map(|job| job.shown.clone());
        songs.iter().filter_map(of).collect()
    }

    /// Forgets the oldest that have ended.
    fn forget(&mut self) {
        let ended: Vec<u64> =
            self.all.iter().filter(|(_, job)| !job.shown.state.is_open()).map(|(id, _)| *id).collect();
        for id in ended.iter().take(ended.len().saturating_sub(ENDED)) {
            self.all.remove(id);
        }
    }

    /// All, the newest first.
    pub(super) fn list(&self) -> Vec<Download> {
        self.all.values().rev().map(|job| job.shown.clone()).collect()
    }

    /// The newest of each of these songs.
    pub(super) fn of(&self, songs: &HashSet<u64>) -> HashMap<u64, Download> {
        // From the oldest on, so that the newest stays.
        let shown = self.all.values().map(|job| &job.shown).filter(|shown| songs.contains(&shown.song));
        shown.map(|shown| (shown.song, shown.clone())).collect()
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for job in self.all.values() {
            match job.shown.state {
                State::Waiting => counts.waiting += 1,
                State::Paused => counts.paused += 1,
                State::Running => counts.running += 1,
                State::Done => counts.done += 1,
                State::Failed => counts.failed += 1,
                State::Cancelled => {}
            }
        }
        counts
    }

    /// How far one is.
    pub(super) fn state(&self, id: u64) -> Option<State> {
        self.all.get(&id).map(|job| job.shown.state)
    }

    /// Begins the next one: its number, its song, and what ends it.
    pub(super) fn begin(&mut self) -> Option<(u64, u64, CancellationToken)> {
        let job = self.all.values_mut().find(|job| job.shown.state == State::Waiting)?;
        job.shown.state = State::Running;
        job.shown.error = None;
        Some((job.shown.id, job.shown.song, job.cancel.clone()))
    }

    /// How far one has come that runs.
    pub(super) fn progress(&mut self, id: u64, verified_bytes: u64, bytes: u64, sources: usize) {
        if let Some(job) = self.all.get_mut(&id) {
            (job.shown.verified_bytes, job.shown.bytes, job.shown.sources) = (verified_bytes, bytes, sources);
        }
    }

    /// One has ended. `is_there`: whether somebody, or this peer, seems to have it. Says whether it is over: what time
    /// may mend is tried again.
    pub(super) fn end(&mut self, id: u64, end: End, is_there: bool, now_ms: u64) -> bool {
        let Some(job) = self.all.get_mut(&id) else { return true };
        let shown = &mut job.shown;
        match end {
            End::Here { path, bytes } => {
                (shown.state, shown.path) = (State::Done, Some(path));
                (shown.verified_bytes, shown.bytes) = (bytes, bytes);
            }
            End::Cancelled => shown.state = State::Cancelled,
            End::Not(failure) => {
                let nobody = failure.kind == Kind::Offline && !is_there;
                shown.error = Some(if nobody { NOBODY.to_owned() } else { failure.message });
                let mends = match failure.kind {
                    Kind::Offline | Kind::Locked | Kind::Full => true,
                    Kind::Failed => job.tries < TRIES,
                    _ => false,
                };
                if mends {
                    shown.state = State::Paused;
                    let wait = AGAIN_AFTER_MS.saturating_mul(1 << job.tries.min(16)).min(LONGEST_MS);
                    job.not_before_ms = if is_there { now_ms.saturating_add(wait) } else { now_ms };
                    job.tries = job.tries.saturating_add(1);
                } else {
                    shown.state = State::Failed;
                }
            }
        }
        let (over, song) = (!shown.state.is_open(), shown.song);
        if over {
            self.open.remove(&song);
        }
        over
    }

    /// Ends one that waits, or forgets one that has ended.
    pub(super) fn cancel(&mut self, id: u64) {
        let Some(job) = self.all.get_mut(&id) else { return };
        match job.shown.state {
            State::Waiting | State::Paused => {
                (job.shown.state, job.shown.error) = (State::Cancelled, None);
                self.open.remove(&job.shown.song);
            }
            State::Running => job.cancel.cancel(),
            State::Done | State::Failed | State::Cancelled => drop(self.all.remove(&id)),
        }
    }

    /// Lets those go on that wait for somebody who has them, or for their time. Says whether there are any.
    pub(super) fn go_on(&mut self, is_there: impl Fn(u64) -> bool, now_ms: u64) -> bool {
        let mut any = false;
        for job in self.all.values_mut() {
            let paused = job.shown.state == State::Paused && now_ms >= job.not_before_ms;
            if paused && is_there(job.shown.song) {
                job.shown.state = State::Waiting;
                any = true;
            }
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(jobs: &mut Jobs, songs: &[u64]) -> Vec<u64> {
        let planned = jobs.plan(songs).unwrap();
        jobs.add(&planned, songs).iter().map(|download| download.id).collect()
    }

    fn here() -> End {
        End::Here { path: "/kept/a".into(), bytes: 9 }
    }

    fn offline() -> End {
        End::Not(Failure::new(Kind::Offline, "nobody"))
    }

    #[test]
    fn what_is_to_come_is_asked_for_once() {
        let mut jobs = Jobs::default();
        assert_eq!(keep(&mut jobs, &[7, 8, 7]), [1, 2, 1]);
        assert_eq!(keep(&mut jobs, &[8, 9]), [2, 3]);
        let (id, song, _) = jobs.begin().unwrap();
        assert_eq!((id, song), (1, 7));
        assert!(jobs.end(1, here(), true, 0));
        // What has ended can be asked for again.
        assert_eq!(keep(&mut jobs, &[7]), [4]);
        let newest = jobs.of(&HashSet::from([7, 99]));
        assert_eq!((newest.len(), newest[&7].id), (1, 4));
        assert_eq!(jobs.counts(), Counts { waiting: 3, done: 1, ..Counts::default() });
        assert_eq!(jobs.list()[3].path.as_deref(), Some("/kept/a"));
    }

    #[test]
    fn what_time_mends_is_tried_again() {
        let mut jobs = Jobs::default();
        keep(&mut jobs, &[7]);
        jobs.begin().unwrap();
        // Nobody has it: as soon as somebody does.
        assert!(!jobs.end(1, offline(), false, 1_000));
        assert!(!jobs.go_on(|_| false, 9_999_999));
        assert!(jobs.go_on(|song| song == 7, 1_000));
        // Somebody seems to, and it did not come: after a while, and a longer one each time.
        for wait in [60_000, 120_000, 240_000] {
            jobs.begin().unwrap();
            assert!(!jobs.end(1, offline(), true, 1_000));
            assert_eq!(jobs.state(1), Some(State::Paused));
            assert!(!jobs.go_on(|_| true, 999 + wait));
            assert!(jobs.go_on(|_| true, 1_000 + wait));
        }
        jobs.begin().unwrap();
        assert!(jobs.end(1, End::Not(Failure::new(Kind::Refused, "terms")), true, 0));
        assert_eq!(jobs.list()[0].error.as_deref(), Some("terms"));
        assert!(!jobs.go_on(|_| true, u64::MAX));
    }

    #[test]
    fn what_fails_again_and_again_has_failed() {
        let mut jobs = Jobs::default();
        keep(&mut jobs, &[7]);
        let fails = |jobs: &mut Jobs| {
            jobs.begin().unwrap();
            jobs.end(1, End::Not(Failure::new(Kind::Failed, "it broke off")), false, 0)
        };
        for _ in 0..TRIES {
            assert!(!fails(&mut jobs));
            assert!(jobs.go_on(|_| true, 0));
        }
        assert!(fails(&mut jobs));
        assert_eq!(jobs.counts().failed, 1);
    }

    #[test]
    fn after_a_restart_they_wait_for_somebody() {
        let mut jobs = Jobs::restored(&[(4, 70), (9, 80)]);
        assert!(jobs.begin().is_none());
        assert!(jobs.go_on(|song| song == 80, 0));
        assert_eq!(jobs.begin().map(|(id, song, _)| (id, song)), Some((9, 80)));
        assert_eq!(keep(&mut jobs, &[70, 90]), [4, 10]);
    }

    #[test]
    fn ended_by_hand() {
        let mut jobs = Jobs::default();
        keep(&mut jobs, &[7, 8]);
        let (_, _, token) = jobs.begin().unwrap();
        jobs.cancel(1);
        assert!(token.is_cancelled());
        assert!(jobs.end(1, End::Cancelled, true, 0));
        jobs.cancel(2);
        assert_eq!(jobs.state(2), Some(State::Cancelled));
        jobs.cancel(2);
        assert_eq!((jobs.state(2), jobs.state(1)), (None, Some(State::Cancelled)));
        assert!(jobs.begin().is_none() && jobs.open.is_empty());
    }

    #[test]
    fn bounds() {
        let mut jobs = Jobs::default();
        let most: Vec<u64> = (0..WANTED_SONGS as u64).collect();
        keep(&mut jobs, &most);
        assert!(jobs.plan(&[u64::MAX]).is_err());
        assert!(jobs.plan(&most).unwrap().is_empty());
        while let Some((id, ..)) = jobs.begin() {
            jobs.end(id, here(), true, 0);
        }
        keep(&mut jobs, &[1]);
        assert_eq!(jobs.list().len(), ENDED + 1);
    }
}
