//! Which groups are there, and which are asked for.

use std::ops::Range;

use antiphon_proto::{
    limits::{AUDIO_RANGES, BAO_GROUP_BYTES},
    wire::ByteRange,
};

use crate::transfer::groups::Groups;

/// Neighbouring groups, by number.
pub(super) type Run = Range<u64>;

/// Every group of a file is there, asked for, or free. A byte and a bit for each: 288 KiB for the largest file.
#[derive(Debug)]
pub(super) struct Claims {
    have: Groups,
    /// For each group that is not there: how many requests will bring it.
    copies: Vec<u8>,
    free: u64,
    /// No group before this one is free.
    floor: u64,
}

impl Claims {
    pub(super) fn new(have: Groups) -> Self {
        let count = usize::try_from(have.count()).unwrap_or(usize::MAX);
        let free = have.count() - have.present();
        Self { have, copies: vec![0; count], free, floor: 0 }
    }

    pub(super) fn count(&self) -> u64 {
        self.have.count()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.have.is_complete()
    }

    pub(super) fn has(&self, group: u64) -> bool {
        self.have.contains(group)
    }

    /// Groups that are neither there nor asked for.
    pub(super) fn free(&self) -> u64 {
        self.free
    }

    pub(super) fn copies(&self, group: u64) -> u8 {
        usize::try_from(group).ok().and_then(|group| self.copies.get(group).copied()).unwrap_or(0)
    }

    /// Another request will bring this group. Of one that is there, nothing is noted.
    pub(super) fn claim(&mut self, group: u64) {
        if self.has(group) {
            return;
        }
        if let Some(copies) = usize::try_from(group).ok().and_then(|group| self.copies.get_mut(group)) {
            self.free -= u64::from(*copies == 0);
            *copies = copies.saturating_add(1);
        }
    }

    /// A request will not bring this group after all.
    pub(super) fn release(&mut self, group: u64) {
        if self.has(group) {
            return;
        }
        if let Some(copies) = usize::try_from(group).ok().and_then(|group| self.copies.get_mut(group)) {
            *copies = copies.saturating_sub(1);
            if *copies == 0 {
                self.free += 1;
                self.floor = self.floor.min(group);
            }
        }
    }

    /// A group came. Gives how many requests had it; none when it was there.
    pub(super) fn arrived(&mut self, group: u64) -> Option<u8> {
        let copies = self.copies(group);
        if !self.have.insert_at(group.saturating_mul(BAO_GROUP_BYTES)) {
            return None;
        }
        self.free -= u64::from(copies == 0);
        Some(copies)
    }

    /// First group from `from` on that is not there.
    pub(super) fn next_missing(&self, from: u64) -> Option<u64> {
        self.have.next(from, false)
    }

    /// First free group from `from` on.
    pub(super) fn next_free(&mut self, from: u64) -> Option<u64> {
        if self.free == 0 {
            return None;
        }
        let scan = |start: u64| {
            let mut group = self.have.next(start, false)?;
            while self.copies(group) > 0 {
                group = self.have.next(group + 1, false)?;
            }
            Some(group)
        };
        if from <= self.floor {
            let found = scan(self.floor);
            self.floor = found.unwrap_or(self.count());
            return found;
        }
        scan(from)
    }

    /// Free groups from `from` up to `until`, at most `most` and in as many runs as a request may have.
    pub(super) fn free_runs(&mut self, from: u64, until: u64, most: u64) -> Vec<Run> {
        let mut runs = Vec::new();
        let (mut from, mut left) = (from, most);
        while left > 0 && runs.len() < AUDIO_RANGES {
            let Some(start) = self.next_free(from).filter(|start| *start < until) else { break };
            let mut end = start;
            while end < until && end - start < left && !self.has(end) && self.copies(end) == 0 {
                end += 1;
            }
            left -= end - start;
            runs.push(start..end);
            from = end;
        }
        runs
    }

    /// Runs as they are asked for, in bytes.
    pub(super) fn ranges(&self, runs: &[Run]) -> Vec<ByteRange> {
        let end = |past: u64| past.saturating_mul(BAO_GROUP_BYTES).min(self.have.size());
        runs.iter().map(|run| ByteRange { start: run.start * BAO_GROUP_BYTES, end: end(run.end) }).collect()
    }
}

/// The groups of an ascending list as runs, at most as many as a request may have.
pub(super) fn runs_of(groups: impl Iterator<Item = u64>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for group in groups {
        if let Some(last) = runs.last_mut().filter(|last| last.end == group) {
            last.end += 1;
        } else if runs.len() < AUDIO_RANGES {
            runs.push(group..group + 1);
        } else {
            break;
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_groups_are_found_and_counted() {
        let mut have = Groups::new(10 * BAO_GROUP_BYTES - 1);
        have.insert_at(2 * BAO_GROUP_BYTES);
        let mut claims = Claims::new(have);
        assert_eq!((claims.count(), claims.free()), (10, 9));
        assert_eq!(claims.free_runs(0, 10, 4), [0..2, 3..5]);
        (0..5).for_each(|group| claims.claim(group));
        claims.claim(4);
        assert_eq!((claims.free(), claims.next_free(0), claims.copies(4)), (5, Some(5), 2));
        assert_eq!(claims.arrived(4), Some(2));
        assert_eq!(claims.arrived(4), None);
        assert_eq!(claims.arrived(7), Some(0));
        claims.release(1);
        claims.release(4);
        assert_eq!(claims.free(), 5);
        assert_eq!(claims.next_free(0), Some(1));
        assert_eq!(claims.free_runs(0, 9, 99), [1..2, 5..7, 8..9]);
        let ranges = claims.ranges(&[0..1, 8..10]);
        assert_eq!(ranges[0], ByteRange { start: 0, end: BAO_GROUP_BYTES });
        assert_eq!(ranges[1..], [ByteRange { start: 8 * BAO_GROUP_BYTES, end: 10 * BAO_GROUP_BYTES - 1 }]);
        assert_eq!(runs_of([1, 2, 5, 7, 8].into_iter()), [1..3, 5..6, 7..9]);
    }
}
