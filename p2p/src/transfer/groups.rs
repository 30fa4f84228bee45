//! Which chunk groups of a file are there: one bit for each 16 KiB.

use antiphon_proto::{limits, wire::ByteRange};

/// A set of chunk groups. 32 KiB for the largest file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    size: u64,
    count: u64,
    present: u64,
    words: Vec<u64>,
}

impl Groups {
    /// The empty set for a file of `size` bytes.
    #[must_use]
    pub fn new(size: u64) -> Self {
        let count = size.div_ceil(limits::BAO_GROUP_BYTES);
        let words = usize::try_from(count.div_ceil(64)).unwrap_or(usize::MAX);
        Self { size, count, present: 0, words: vec![0; words] }
    }

    /// Adds the group that starts at byte `offset`, and says whether it is new. Offsets beyond the file are ignored.
    pub fn insert_at(&mut self, offset: u64) -> bool {
        let group = offset / limits::BAO_GROUP_BYTES;
        if group >= self.count {
            return false;
        }
        let Some((word, bit)) = self.position(group) else { return false };
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.present += u64::from(new);
        new
    }

    /// Size of the file in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Groups of the file.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Groups in the set.
    #[must_use]
    pub fn present(&self) -> u64 {
        self.present
    }

    /// Whether the group is in the set.
    #[must_use]
    pub fn contains(&self, group: u64) -> bool {
        group < self.count && self.position(group).is_some_and(|(word, bit)| self.words[word] & bit != 0)
    }

    /// Whether every group is in the set.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.present == self.count
    }

    /// Bytes of the file that the groups in the set hold.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let last_is_short = match self.count.checked_sub(1) {
            Some(last) if self.contains(last) => self.count * limits::BAO_GROUP_BYTES - self.size,
            _ => 0,
        };
        self.present * limits::BAO_GROUP_BYTES - last_is_short
    }

    /// What is missing: the first `most` runs, ascending and disjoint, as an audio request wants them.
    #[must_use]
    pub fn missing(&self, most: usize) -> Vec<ByteRange> {
        let mut runs = Vec::new();
        let mut group = 0;
        while runs.len() < most {
            let Some(first) = self.next(group, false) else { break };
            let past = self.next(first, true).unwrap_or(self.count);
            let end = (past * limits::BAO_GROUP_BYTES).min(self.size);
            runs.push(ByteRange { start: first * limits::BAO_GROUP_BYTES, end });
            group = past;
        }
        runs
    }

    /// First group from `from` on that is in the set, or is not.
    pub(crate) fn next(&self, from: u64, present: bool) -> Option<u64> {
        let mut group = from;
        while group < self.count {
            let (word, _) = self.position(group)?;
            let bits = if present { self.words[word] } else { !self.words[word] };
            let ahead = bits >> (group % 64);
            if ahead != 0 {
                let found = group + u64::from(ahead.trailing_zeros());
                return (found < self.count).then_some(found);
            }
            group = (group / 64 + 1) * 64;
        }
        None
    }

    fn position(&self, group: u64) -> Option<(usize, u64)> {
        let word = usize::try_from(group / 64).ok()?;
        (word < self.words.len()).then_some((word, 1 << (group % 64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const GROUP: u64 = limits::BAO_GROUP_BYTES;

    #[test]
    fn last_group_counts_its_real_bytes() {
        let mut groups = Groups::new(GROUP + 1);
        assert_eq!(groups.missing(64), [ByteRange { start: 0, end: GROUP + 1 }]);
        assert!(groups.insert_at(GROUP));
        assert!(!groups.insert_at(GROUP));
        assert_eq!(groups.bytes(), 1);
        assert!(groups.insert_at(0));
        assert_eq!(groups.bytes(), GROUP + 1);
        assert!(groups.is_complete() && groups.missing(64).is_empty());
        assert!(!groups.insert_at(2 * GROUP));
        assert!(Groups::new(0).is_complete());
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_set(size in 1u64..200 * GROUP, picks in prop::collection::vec(0u64..220, 0..300)) {
            let mut groups = Groups::new(size);
            let mut model = BTreeSet::new();
            let count = size.div_ceil(GROUP);
            for pick in picks {
                let new = pick < count && model.insert(pick);
                prop_assert_eq!(groups.insert_at(pick * GROUP), new);
            }
            let bytes: u64 = model.iter().map(|group| (size - group * GROUP).min(GROUP)).sum();
            prop_assert_eq!(groups.bytes(), bytes);
            prop_assert_eq!(groups.is_complete(), model.len() as u64 == count);
            let missing = groups.missing(usize::MAX);
            prop_assert!(missing.windows(2).all(|pair| pair[0].end < pair[1].start));
            let named: BTreeSet<u64> =
                missing.iter().flat_map(|run| run.start / GROUP..run.end.div_ceil(GROUP)).collect();
            prop_assert_eq!(named, (0..count).filter(|group| !model.contains(group)).collect::<BTreeSet<_>>());
            prop_assert_eq!(missing.iter().map(|run| run.end - run.start).sum::<u64>(), size - bytes);
            prop_assert_eq!(groups.missing(3), missing.into_iter().take(3).collect::<Vec<_>>());
        }
    }
}
