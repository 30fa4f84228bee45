//! Match rule v1: are two recordings the same, judged by their fingerprints and durations alone.
//!
//! Peers agree on the answer to the last bit, so nothing here has a clock, a float, a random order or a
//! dependence on the machine. The rule, for two songs `a` and `b`:
//!
//! 1. Every item gives a 16-bit key ([`key`]). Each pair of equal keys, one in `a` and one in `b`, is a vote for
//!    the offset between them. Only offsets up to [`MatchRule::max_offset`] that leave an overlap of at least
//!    [`MatchRule::min_overlap`] items are counted.
//! 2. The [`MatchRule::offsets_tried`] offsets with the most votes are tried. Equal votes: the smaller distance
//!    from zero first, then the negative one.
//! 3. The bits that differ over the overlap are counted; the offset with the lowest error rate stands, equal
//!    rates in the order of step 2.
//! 4. At most 15 % of the bits differ, and the durations are at most 7 s apart: a match.
//!
//! The rule sees the pair as a set: steps 1 to 3 run with the smaller item list (as a slice of numbers) first, and
//! the offset is turned round afterwards, so `compare(a, b)` and `compare(b, a)` never disagree.
//!
//! What it does not find, by design: changes of speed or pitch from about 0.5 %, and recordings with less than
//! 20 s in common.

mod align;
mod bottom;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::fmt;

pub use align::Query;
pub use bottom::{BOTTOM, HASH_BITS, bottom_hashes, mix};

/// Most items of a fingerprint that the rule looks at; what follows is ignored. 120 s of sound give 948.
pub const MAX_ITEMS: usize = antiphon_proto::limits::FINGERPRINT_ITEMS;

/// Bits in a fingerprint item.
const ITEM_BITS: u32 = 32;

/// The numbers of a match rule. Peers of one network use the same ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatchRule {
    /// Fewest items that must lie over one another. An item is 1,365 samples at 11,025 Hz, 0.124 s.
    pub min_overlap: u32,
    /// Largest offset that is looked at, in items to either side.
    pub max_offset: u32,
    /// Number of offsets whose bits are compared.
    pub offsets_tried: usize,
    /// Highest error rate of a match, in percent, inclusive.
    pub match_percent: u32,
    /// Highest error rate of the grey zone, in percent, inclusive.
    pub grey_percent: u32,
    /// Largest difference of the durations of a match, in milliseconds, inclusive.
    pub max_duration_gap_ms: u32,
}

impl MatchRule {
    /// The rule of the network's first version.
    ///
    /// 160 items are 20 s. 15 % lies well above the worst re-encode that a listener would keep and well below what
    /// two recordings have in common by chance (about 40 %). The 7 s of duration are what trimmed silence
    /// and a faded end need. Offsets stop at 120 items, 15 s, twice that: with equal durations, music cannot honestly
    /// begin later than the durations differ, and a wider search would let a long silence in one song lie
    /// over a long silence in another.
    pub const V1: Self = Self {
        min_overlap: 160,
        max_offset: 120,
        offsets_tried: 4,
        match_percent: 15,
        grey_percent: 25,
        max_duration_gap_ms: 7_000,
    };

    /// Whether two durations in milliseconds are near enough for a match.
    #[must_use]
    pub const fn durations_agree(&self, a_ms: u32, b_ms: u32) -> bool {
        a_ms.abs_diff(b_ms) <= self.max_duration_gap_ms
    }

    /// Judges two songs; see the module for the steps.
    #[must_use]
    pub fn compare(&self, a: Candidate<'_>, b: Candidate<'_>) -> Comparison {
        Query::new(*self, a).compare(b)
    }

    /// The verdict on a pair whose best alignment is known. What speaks most against the pair is named first, so
    /// that "duration" is only said of what would otherwise be the same music.
    fn verdict(&self, rate: ErrorRate, reach: Reach, durations_agree: bool) -> Verdict {
        match reach {
            Reach::TooShort => Verdict::Different(Reason::Overlap),
            Reach::None => Verdict::Different(Reason::NoAlignment),
            Reach::Aligned if !rate.at_most_percent(self.grey_percent) => Verdict::Different(Reason::Errors),
            Reach::Aligned if !durations_agree => Verdict::Different(Reason::Duration),
            Reach::Aligned if rate.at_most_percent(self.match_percent) => Verdict::Match,
            Reach::Aligned => Verdict::GreyZone,
        }
    }
}

/// How far the search for an alignment came.
#[derive(Clone, Copy)]
enum Reach {
    /// One of the fingerprints is shorter than the least overlap.
    TooShort,
    /// No offset got a vote.
    None,
    /// An offset stands.
    Aligned,
}

/// One of the two songs of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Raw Chromaprint items; those past [`MAX_ITEMS`] are ignored.
    pub items: &'a [u32],
    /// Length of the whole song in milliseconds.
    pub duration_ms: u32,
}

impl<'a> Candidate<'a> {
    /// A song of these raw items and this duration in milliseconds.
    #[must_use]
    pub const fn new(items: &'a [u32], duration_ms: u32) -> Self {
        Self { items, duration_ms }
    }

    /// The items that count.
    fn heard(&self) -> &'a [u32] {
        self.items.get(..MAX_ITEMS).unwrap_or(self.items)
    }
}

/// What the rule says of two songs, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    /// Where they line up: item `i` of the first lies over item `i + offset` of the second.
    pub offset: i32,
    /// Items that lie over one another; 0 without an alignment.
    pub overlap: u32,
    /// Bits that differ over the overlap, of `32 * overlap`.
    pub bit_errors: u32,
    /// The judgement.
    pub verdict: Verdict,
}

impl Comparison {
    /// Differing bits over compared bits.
    #[must_use]
    pub const fn rate(&self) -> ErrorRate {
        ErrorRate { errors: self.bit_errors, bits: self.overlap.saturating_mul(ITEM_BITS) }
    }

    /// Whether the two are the same recording.
    #[must_use]
    pub fn is_match(&self) -> bool {
        self.verdict == Verdict::Match
    }

    /// The same judgement with the two songs exchanged.
    const fn turned(self) -> Self {
        Self { offset: -self.offset, ..self }
    }
}

/// The rule's judgement on a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The same recording.
    Match,
    /// Alike (15 to 25 % of the bits differ): worth showing, never acted upon.
    GreyZone,
    /// Not the same recording.
    Different(Reason),
}

/// Why two songs are not the same recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The music agrees, but one song is more than 7 s longer than the other.
    Duration,
    /// A fingerprint is shorter than the 160 items (20 s) that a judgement needs.
    Overlap,
    /// More than 25 % of the bits differ at the best alignment.
    Errors,
    /// Nothing lines up: no item of one resembles an item of the other within the offsets.
    NoAlignment,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Match => "the same recording",
            Self::GreyZone => "alike, but not enough to be sure",
            Self::Different(Reason::Duration) => "the same music, but the durations are more than 7 s apart",
            Self::Different(Reason::Overlap) => "too short to judge: less than 20 s to compare",
            Self::Different(Reason::Errors) => "another recording",
            Self::Different(Reason::NoAlignment) => "another recording: nothing lines up",
        })
    }
}

/// Differing bits over compared bits, kept as two integers so that every peer orders rates alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorRate {
    /// Bits that differ.
    pub errors: u32,
    /// Bits compared; 0 when nothing was.
    pub bits: u32,
}

impl ErrorRate {
    /// Whether at most `percent` of the bits differ. Nothing compared is not at most anything.
    #[must_use]
    pub fn at_most_percent(self, percent: u32) -> bool {
        self.bits > 0 && u64::from(self.errors) * 100 <= u64::from(self.bits) * u64::from(percent)
    }

    /// Differing bits in 10,000, rounded down; 10,000 when nothing was compared. For people, not for the rule.
    #[must_use]
    pub fn per_10_000(self) -> u32 {
        let exact = (u64::from(self.errors) * 10_000).checked_div(u64::from(self.bits));
        exact.and_then(|parts| u32::try_from(parts).ok()).unwrap_or(10_000)
    }

    /// Orders by the exact fraction; nothing compared comes after every rate.
    #[must_use]
    pub fn compare(self, other: Self) -> Ordering {
        match (self.bits, other.bits) {
            (0, 0) => Ordering::Equal,
            (0, _) => Ordering::Greater,
            (_, 0) => Ordering::Less,
            (own, others) => {
                (u64::from(self.errors) * u64::from(others)).cmp(&(u64::from(other.errors) * u64::from(own)))
            }
        }
    }
}

/// Judges two songs by [`MatchRule::V1`].
#[must_use]
pub fn compare(a: Candidate<'_>, b: Candidate<'_>) -> Comparison {
    MatchRule::V1.compare(a, b)
}

/// The 16 bits of an item that vote: the upper half, Chromaprint's first eight two-bit classifiers. Over 60
/// re-encodes of 20 tracks the upper half of an item stayed what it was for 86 % of the items in the median and
/// 69 % at worst; the lower half for 78 and 58 %.
#[must_use]
pub const fn key(item: u32) -> u16 {
    (item >> 16) as u16
}
