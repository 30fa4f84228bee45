//! The search for the offset at which two fingerprints agree best.

use super::{Candidate, Comparison, ErrorRate, MAX_ITEMS, MatchRule, Reach, key};

/// A song that is compared with many: its keys are sorted once.
#[derive(Debug, Clone)]
pub struct Query<'a> {
    rule: MatchRule,
    song: Candidate<'a>,
    keys: Vec<u32>,
}

/// An offset that stands for comparison, from the smaller item list to the larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offset {
    votes: u32,
    offset: i32,
}

impl<'a> Query<'a> {
    /// Prepares `song` for comparisons by `rule`.
    #[must_use]
    pub fn new(rule: MatchRule, song: Candidate<'a>) -> Self {
        Self { rule, song, keys: sorted_keys(song.heard()) }
    }

    /// Judges the prepared song against `other`. The cost is bounded: two sorts of at most [`MAX_ITEMS`] keys, for
    /// each item a vote for each of the `2 * max_offset + 1` offsets at most (all items equal), and
    /// `offsets_tried` passes over the overlap.
    #[must_use]
    pub fn compare(&self, other: Candidate<'_>) -> Comparison {
        let keys = sorted_keys(other.heard());
        if self.song.heard() <= other.heard() {
            self.judge((self.song, &self.keys), (other, &keys))
        } else {
            self.judge((other, &keys), (self.song, &self.keys)).turned()
        }
    }

    fn judge(&self, first: (Candidate<'_>, &[u32]), second: (Candidate<'_>, &[u32])) -> Comparison {
        let (a, b) = (first.0.heard(), second.0.heard());
        let shorter = a.len().min(b.len());
        let needed = usize::try_from(self.rule.min_overlap).unwrap_or(usize::MAX);
        // A short pair is aligned as well as it can be, so that a reader sees how alike it is; it never matches.
        let too_short = shorter < needed;
        let mut best: Option<(ErrorRate, Offset)> = None;
        for tried in self.best_offsets(first.1, second.1, (a.len(), b.len()), needed.min(shorter).max(1)) {
            let rate = errors_at(a, b, tried.offset);
            if best.is_none_or(|(lowest, _)| rate.compare(lowest).is_lt()) {
                best = Some((rate, tried));
            }
        }
        let (rate, offset) =
            best.map_or((ErrorRate { errors: 0, bits: 0 }, 0), |(rate, tried)| (rate, tried.offset));
        let reach = match best {
            _ if too_short => Reach::TooShort,
            None => Reach::None,
            Some(_) => Reach::Aligned,
        };
        let durations_agree = self.rule.durations_agree(first.0.duration_ms, second.0.duration_ms);
        Comparison {
            offset,
            overlap: rate.bits / super::ITEM_BITS,
            bit_errors: rate.errors,
            verdict: self.rule.verdict(rate, reach, durations_agree),
        }
    }

    /// The offsets with the most votes, best first.
    fn best_offsets(&self, a: &[u32], b: &[u32], lengths: (usize, usize), needed: usize) -> Vec<Offset> {
        // No offset can be larger than a fingerprint, so a larger setting changes nothing.
        let reach = usize::try_from(self.rule.max_offset).unwrap_or(MAX_ITEMS).min(MAX_ITEMS);
        let votes = count_votes(a, b, reach);
        let mut offsets: Vec<Offset> = votes
            .into_iter()
            .zip(0usize..)
            .filter_map(|(votes, at)| Some((votes, i32::try_from(at).ok()? - i32::try_from(reach).ok()?)))
            .filter(|&(votes, offset)| votes > 0 && overlap(lengths, offset).1 >= needed)
            .map(|(votes, offset)| Offset { votes, offset })
            .collect();
        // The order is total, so an unstable sort gives every peer the same list.
        offsets.sort_unstable_by_key(|o| (std::cmp::Reverse(o.votes), o.offset.unsigned_abs(), o.offset > 0));
        offsets.truncate(self.rule.offsets_tried);
        offsets
    }
}

/// Key in the upper half, position in the lower, sorted: equal keys lie together, by position.
fn sorted_keys(items: &[u32]) -> Vec<u32> {
    let mut keys: Vec<u32> =
        (0u32..).zip(items).map(|(position, &item)| (u32::from(key(item)) << 16) | position).collect();
    keys.sort_unstable();
    keys
}

/// Votes for the offsets `-reach..=reach`: pairs of equal keys at positions `(i, i + offset)`.
fn count_votes(a: &[u32], b: &[u32], reach: usize) -> Vec<u32> {
    let mut votes = vec![0u32; 2 * reach + 1];
    let reach = u32::try_from(reach).unwrap_or(u32::from(u16::MAX));
    // First entry of `b` that may still be near an entry of `a`. Both lists rise, so it only moves forward.
    let mut low = 0;
    for &entry in a {
        let key = entry & 0xffff_0000;
        let position = entry & 0xffff;
        let first = key | position.saturating_sub(reach);
        let last = key | (position + reach).min(0xffff);
        while b.get(low).is_some_and(|&other| other < first) {
            low += 1;
        }
        for &other in b.get(low..).unwrap_or_default() {
            if other > last {
                break;
            }
            // In range 0..=2 * reach: `other` is at most `reach` away from `entry`.
            let at = usize::try_from(other + reach - entry).unwrap_or(usize::MAX);
            if let Some(count) = votes.get_mut(at) {
                *count += 1;
            }
        }
    }
    votes
}

/// Where the overlap at an offset starts in the first list, and how many items it has.
fn overlap((a, b): (usize, usize), offset: i32) -> (usize, usize) {
    let shift = usize::try_from(offset.unsigned_abs()).unwrap_or(usize::MAX);
    if offset >= 0 { (0, a.min(b.saturating_sub(shift))) } else { (shift, a.saturating_sub(shift).min(b)) }
}

/// Bits that differ where the lists overlap at an offset.
fn errors_at(a: &[u32], b: &[u32], offset: i32) -> ErrorRate {
    let (start, items) = overlap((a.len(), b.len()), offset);
    let other_start = overlap((b.len(), a.len()), -offset).0;
    let ours = a.get(start..start + items).unwrap_or_default();
    let theirs = b.get(other_start..other_start + items).unwrap_or_default();
    let errors = ours.iter().zip(theirs).map(|(x, y)| (x ^ y).count_ones()).sum();
    let bits = u32::try_from(ours.len()).unwrap_or(0).saturating_mul(super::ITEM_BITS);
    ErrorRate { errors, bits }
}
