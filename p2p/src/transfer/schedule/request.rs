//! A request that is out.

use std::time::Instant;

use super::claims::Run;

/// What was asked of whom. Its groups come in ascending order, so their number says which ones came.
#[derive(Debug)]
pub(super) struct Request<P> {
    pub(super) peer: P,
    runs: Vec<Run>,
    /// Groups asked for.
    total: u64,
    /// Groups that came.
    delivered: u64,
    /// Only so many of its groups are still wanted from this request; the others were given to somebody else.
    wanted: u64,
    /// Of the wanted ones that did not come yet, those that are not there.
    pub(super) needed: u64,
    pub(super) asked_at: Instant,
    /// When the reply came.
    pub(super) answered_at: Option<Instant>,
    /// When the last group came, or else the reply, or else it was asked.
    pub(super) progress_at: Instant,
    /// One of two for the same first groups.
    pub(super) race: bool,
}

impl<P> Request<P> {
    /// All of the groups must be missing.
    pub(super) fn new(peer: P, runs: Vec<Run>, race: bool, now: Instant) -> Self {
        let total = runs.iter().map(|run| run.end - run.start).sum();
        Self {
            peer,
            runs,
            total,
            delivered: 0,
            wanted: total,
            needed: total,
            asked_at: now,
            answered_at: None,
            progress_at: now,
            race,
        }
    }

    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Whether every group that was asked for came.
    pub(super) fn is_over(&self) -> bool {
        self.delivered >= self.total
    }

    /// The groups at these places.
    fn groups(&self, from: u64, to: u64) -> impl Iterator<Item = u64> {
        let mut before = 0;
        self.runs.iter().flat_map(move |run| {
            let (first, length) = (before, run.end - run.start);
            before += length;
            let start = from.saturating_sub(first).min(length);
            let end = to.saturating_sub(first).min(length).max(start);
            run.start + start..run.start + end
        })
    }

    /// The groups that this request is still to bring.
    pub(super) fn outstanding(&self) -> impl Iterator<Item = u64> {
        self.groups(self.delivered, self.wanted)
    }

    /// Notes that in all so many groups came, and gives the new ones, and how many of these, from the first on, were
    /// still wanted of it.
    pub(super) fn deliver(&mut self, delivered: u64) -> (Vec<u64>, u64) {
        let delivered = delivered.min(self.total).max(self.delivered);
        let new = self.groups(self.delivered, delivered).collect();
        let wanted = self.wanted.min(delivered).saturating_sub(self.delivered);
        self.delivered = delivered;
        (new, wanted)
    }

    /// Wants only the first `kept` of the outstanding groups.
    pub(super) fn keep(&mut self, kept: u64) {
        self.wanted = self.wanted.min(self.delivered.saturating_add(kept));
    }

    /// Whether this request is still to bring the group.
    pub(super) fn holds(&self, group: u64) -> bool {
        let mut before = 0;
        for run in &self.runs {
            if run.contains(&group) {
                let place = before + group - run.start;
                return place >= self.delivered && place < self.wanted;
            }
            before += run.end - run.start;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_groups_agree() {
        let mut request = Request::new((), vec![3..5, 8..11, 20..21], false, Instant::now());
        assert_eq!(request.outstanding().collect::<Vec<_>>(), [3, 4, 8, 9, 10, 20]);
        assert_eq!(request.deliver(3), (vec![3, 4, 8], 3));
        assert_eq!(request.deliver(2), (vec![], 0));
        assert!(request.holds(9) && !request.holds(8) && !request.holds(5));
        request.keep(1);
        assert_eq!(request.outstanding().collect::<Vec<_>>(), [9]);
        assert!(!request.holds(10) && !request.is_over());
        // What was on its way comes all the same.
        assert_eq!(request.deliver(99), (vec![9, 10, 20], 1));
        assert!(request.is_over() && request.outstanding().next().is_none());
    }
}
