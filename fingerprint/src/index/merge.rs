//! Which runs of a partition are merged, and merging them.

use std::iter::Peekable;

use super::chunk::Posting;
use super::error::IndexError;

/// A run is merged with newer ones while it is smaller than this many times what they hold together: a partition then
/// has two or three runs, and each posting is written about ten times on the way to a million songs.
const RATIO: u64 = 4;

/// Most runs of a partition. A look-up reads a page of each, so a merge that was put off happens at this length
/// whatever it costs.
pub(super) const MAX_RUNS: usize = 12;

/// How many of the newest runs (`sizes` in postings, oldest first) are merged with `fresh` new postings. What costs
/// more than `budget` old postings is put off, as far as [`MAX_RUNS`] allows.
pub(super) fn tail_to_merge(sizes: &[u64], fresh: u64, budget: u64) -> usize {
    let forced = sizes.len() >= MAX_RUNS;
    let mut together = fresh;
    let mut cost = 0u64;
    let mut tail = usize::from(forced);
    let mut affordable = tail;
    cost = cost.saturating_add(sizes.iter().rev().take(tail).sum());
    together = together.saturating_add(cost);
    while let Some(&size) = sizes.len().checked_sub(tail + 1).and_then(|at| sizes.get(at)) {
        if size >= together.saturating_mul(RATIO) {
            break;
        }
        tail += 1;
        cost = cost.saturating_add(size);
        together = together.saturating_add(size);
        // Small merges are always affordable: they cost what writing the new postings costs, a few times.
        if cost <= budget.max(fresh.saturating_mul(RATIO)) {
            affordable = tail;
        }
    }
    if forced { tail } else { affordable }
}

/// Postings of one run, rising.
pub(super) type Source<'a> = Box<dyn Iterator<Item = Result<Posting, IndexError>> + 'a>;

/// Several runs as one. The runs are given oldest first and cover separate, rising stretches of the ledger, so
/// of equal hashes the older run's songs come first.
pub(super) struct Merged<'a> {
    sources: Vec<Peekable<Source<'a>>>,
}

impl<'a> Merged<'a> {
    pub(super) fn new(sources: Vec<Source<'a>>) -> Self {
        Self { sources: sources.into_iter().map(Iterator::peekable).collect() }
    }
}

impl Iterator for Merged<'_> {
    type Item = Result<Posting, IndexError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut lowest: Option<(Posting, usize)> = None;
        for (number, source) in self.sources.iter_mut().enumerate() {
            match source.peek() {
                Some(Ok(posting)) if lowest.is_none_or(|(low, _)| *posting < low) => {
                    lowest = Some((*posting, number));
                }
                Some(Err(_)) => return source.next(),
                _ => {}
            }
        }
        self.sources.get_mut(lowest?.1)?.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flushes `flushes` times the same number of postings and returns the sizes and what was written in all.
    fn grow(flushes: u64, fresh: u64, budget: u64) -> (Vec<u64>, u64, usize) {
        let (mut sizes, mut written, mut most) = (Vec::new(), 0, 0);
        for _ in 0..flushes {
            let tail = tail_to_merge(&sizes, fresh, budget);
            let merged: u64 = sizes.split_off(sizes.len() - tail).iter().sum::<u64>() + fresh;
            written += merged;
            sizes.push(merged);
            most = most.max(sizes.len());
        }
        (sizes, written, most)
    }

    #[test]
    fn runs_stay_few_and_writing_bounded() {
        let (sizes, written, most) = grow(500, 512, u64::MAX);
        assert_eq!(sizes.iter().sum::<u64>(), 500 * 512);
        assert!(most <= 5, "{most} runs");
        assert!(written <= 12 * 500 * 512, "{written} postings written");
    }

    #[test]
    fn without_a_budget_runs_stay_below_the_limit() {
        let (sizes, _, most) = grow(5_000, 512, 0);
        assert_eq!(sizes.iter().sum::<u64>(), 5_000 * 512);
        assert!(most <= MAX_RUNS, "{most} runs");
    }

    #[test]
    fn a_forced_merge_takes_at_least_one_run() {
        let falling: Vec<u64> = (0..MAX_RUNS).rev().map(|n| 10u64.pow(u32::try_from(n).unwrap())).collect();
        assert_eq!(tail_to_merge(&falling, 1, 0), 1);
        assert_eq!(tail_to_merge(&falling[..3], 1, 0), 0);
        assert_eq!(tail_to_merge(&[], 5, 0), 0);
    }

    #[test]
    fn merging_keeps_order_and_passes_errors_on() {
        let run = |postings: &[(u32, u64)]| -> Source<'static> {
            let list: Vec<_> = postings.iter().map(|&(rest, key)| Ok(Posting { rest, key })).collect();
            Box::new(list.into_iter())
        };
        let merged = Merged::new(vec![run(&[(1, 1), (3, 2)]), run(&[(1, 5), (2, 5)]), run(&[(3, 9)])]);
        let read: Vec<(u32, u64)> = merged.map(|p| p.unwrap()).map(|p| (p.rest, p.key)).collect();
        assert_eq!(read, [(1, 1), (1, 5), (2, 5), (3, 2), (3, 9)]);
        let bad: Source<'static> = Box::new(std::iter::once(Err(IndexError::Locked)));
        assert!(Merged::new(vec![run(&[(1, 1)]), bad]).next().unwrap().is_err());
    }
}
