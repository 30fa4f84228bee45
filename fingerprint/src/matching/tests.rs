//! Golden values and properties of the match rule. The golden values were computed by a second implementation, in
//! another language and without the tricks of this one.

use proptest::prelude::*;

use super::*;

/// A small generator for tests (xorshift64*): the same numbers on every machine.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }
}

fn song(seed: u64, len: usize) -> Vec<u32> {
    let mut numbers = Numbers(seed | 1);
    (0..len).map(|_| numbers.next()).collect()
}

/// Flips each bit with a chance of `percent` %.
fn noisy(items: &[u32], seed: u64, percent: u32) -> Vec<u32> {
    let mut numbers = Numbers(seed | 1);
    items
        .iter()
        .map(|item| {
            (0..32).fold(*item, |item, bit| item ^ (u32::from(numbers.next() % 100 < percent) << bit))
        })
        .collect()
}

fn same(items: &[u32]) -> Candidate<'_> {
    Candidate::new(items, 200_000)
}

#[test]
fn the_mix_never_changes() {
    let golden = [
        (0, 0),
        (1, 0x0688_990c),
        (2, 0x0d11_3218),
        (0x0000_ffff, 0x033c_ad8b),
        (0x8000_0000, 0x0cc4_b412),
        (627_964_279, 0x00ab_4bb9),
        (0xdead_beef, 0x0e62_8c68),
        (u32::MAX, 0x0676_8824),
    ];
    for (item, hash) in golden {
        assert_eq!(mix(item), hash, "item {item:#x} -> {:#x}", mix(item));
    }
}

#[test]
fn the_bottom_hashes_never_change() {
    let hashes = bottom_hashes(&song(7, 900));
    assert_eq!(hashes.len(), BOTTOM);
    assert!(hashes.is_sorted_by(|a, b| a < b));
    let digest = hashes.iter().fold(0u64, |sum, &h| sum.wrapping_mul(1_000_003).wrapping_add(u64::from(h)));
    assert_eq!((hashes[0], hashes[63], digest), (656_603, 18_834_073, 3_560_718_940_951_367_426));
}

#[test]
fn bottom_hashes_are_the_smallest_distinct_ones() {
    assert_eq!(bottom_hashes(&[]), Vec::<u32>::new());
    assert_eq!(bottom_hashes(&[9; 900]), vec![mix(9)]);
    let mut twice = song(3, 400);
    twice.extend_from_within(..);
    assert_eq!(bottom_hashes(&twice), bottom_hashes(&song(3, 400)));
    // What lies past the limit counts for nothing.
    let long = song(4, MAX_ITEMS + 500);
    assert_eq!(bottom_hashes(&long), bottom_hashes(&long[..MAX_ITEMS]));
}

#[test]
fn comparisons_never_change() {
    let original = song(1, 948);
    let golden = [
        (noisy(&original, 2, 5), (0, 948, 1_520, Verdict::Match)),
        (noisy(&original[16..], 3, 12), (-16, 932, 3_616, Verdict::Match)),
        (noisy(&original, 4, 20), (0, 948, 5_977, Verdict::GreyZone)),
        (song(99, 948), (-10, 938, 14_927, Verdict::Different(Reason::Errors))),
    ];
    for (other, (offset, overlap, bit_errors, verdict)) in golden {
        let expected = Comparison { offset, overlap, bit_errors, verdict };
        assert_eq!(compare(same(&original), same(&other)), expected);
    }
}

#[test]
fn thresholds_are_inclusive_and_exact() {
    let at = |errors, bits, percent| ErrorRate { errors, bits }.at_most_percent(percent);
    assert!(at(15, 100, 15) && !at(1_501, 10_000, 15));
    assert!(at(768, 5_120, 15) && !at(769, 5_120, 15));
    assert!(!at(0, 0, 15), "nothing compared is no match");

    // 160 items, so 5,120 bits, of which exactly 768 are 15 %.
    let original = song(5, 160);
    let with_errors = |errors: usize| {
        let mut items = original.clone();
        (0..errors).for_each(|e| items[(e * 37) % 160] ^= 1 << ((e / 160) % 16));
        items
    };
    for (errors, verdict) in [(768, Verdict::Match), (769, Verdict::GreyZone), (1_280, Verdict::GreyZone)] {
        let found = compare(same(&original), same(&with_errors(errors)));
        assert_eq!((found.bit_errors as usize, found.verdict), (errors, verdict));
    }
    let found = compare(same(&original), same(&with_errors(1_281)));
    assert_eq!(found.verdict, Verdict::Different(Reason::Errors));
}

#[test]
fn durations_up_to_seven_seconds_apart_match() {
    let items = song(6, 300);
    let verdict = |a, b| compare(Candidate::new(&items, a), Candidate::new(&items, b)).verdict;
    assert_eq!(verdict(100_000, 107_000), Verdict::Match);
    assert_eq!(verdict(107_001, 100_000), Verdict::Different(Reason::Duration));
    assert_eq!(verdict(0, u32::MAX), Verdict::Different(Reason::Duration));
}

#[test]
fn short_songs_are_aligned_but_never_match() {
    let items = song(8, 159);
    let found = compare(same(&items), same(&items));
    assert_eq!((found.verdict, found.overlap), (Verdict::Different(Reason::Overlap), 159));
    for (a, b) in [(&[][..], &[][..]), (&[], &items), (&[1], &[1])] {
        assert_eq!(compare(same(a), same(b)).verdict, Verdict::Different(Reason::Overlap));
    }
    let items = song(8, 160);
    assert!(compare(same(&items), same(&items)).is_match());
}

#[test]
fn offsets_beyond_the_limit_are_not_seen() {
    let original = song(9, 600);
    let shifted = |by: usize| compare(same(&original), same(&original[by..]));
    assert_eq!((shifted(120).offset, shifted(120).verdict), (-120, Verdict::Match));
    assert!(!shifted(121).is_match());
}

#[test]
fn nothing_in_common_is_no_alignment() {
    let low: Vec<u32> = (0..300).collect();
    let high: Vec<u32> = (0..300).map(|i| i | 0x8000_0000).collect();
    let found = compare(same(&low), same(&high));
    let verdict = Verdict::Different(Reason::NoAlignment);
    assert_eq!(found, Comparison { offset: 0, overlap: 0, bit_errors: 0, verdict });
    assert_eq!(found.rate().per_10_000(), 10_000);
}

#[test]
fn constant_and_periodic_fingerprints_are_decided_by_the_tie_order() {
    // All offsets line up without an error; the one with the most votes is 0.
    let found = compare(same(&[42; MAX_ITEMS]), same(&[42; MAX_ITEMS]));
    assert_eq!((found.offset, found.overlap, found.bit_errors), (0, 1_000, 0));
    // Longer lists change nothing.
    assert_eq!(compare(same(&[42; 5_000]), same(&[42; 2_000])), found);
    // 300 over 200 equal items: offsets 0..=100 tie with 200 votes, the smallest wins.
    let found = compare(same(&[42; 200]), same(&[42; 300]));
    assert_eq!((found.offset, found.overlap), (0, 200));
    let periodic: Vec<u32> = (0..1_000).map(|i| mix(i % 8)).collect();
    assert_eq!(compare(same(&periodic), same(&periodic[3..])).offset, -3);
}

#[test]
fn rates_order_by_the_exact_fraction() {
    let rate = |errors, bits| ErrorRate { errors, bits };
    assert!(rate(1, 3).compare(rate(333_333, 1_000_000)).is_gt());
    assert!(rate(2, 6).compare(rate(1, 3)).is_eq());
    assert!(rate(0, 0).compare(rate(32_000, 32_000)).is_gt());
    assert!(rate(0, 0).compare(rate(0, 0)).is_eq());
    assert_eq!((rate(1, 3).per_10_000(), rate(0, 9).per_10_000()), (3_333, 0));
}

/// Items as they may come from outside: random, repeated, or out of a small alphabet (many equal keys).
fn any_items() -> impl Strategy<Value = Vec<u32>> {
    prop_oneof![
        prop::collection::vec(any::<u32>(), 0..400),
        prop::collection::vec(0u32..6, 0..400),
        prop::collection::vec((0u32..6).prop_map(|i| i << 16), 100..1_200),
        (any::<u32>(), 0usize..1_200).prop_map(|(item, len)| vec![item; len]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn comparing_is_symmetric(a in any_items(), b in any_items(), gap in 0u32..14_000) {
        let (a, b) = (Candidate::new(&a, 100_000), Candidate::new(&b, 100_000 + gap));
        let (there, back) = (compare(a, b), compare(b, a));
        prop_assert_eq!(there, back.turned());
        prop_assert!(there.bit_errors <= there.overlap * 32);
        prop_assert!(there.offset.unsigned_abs() <= MatchRule::V1.max_offset);
        prop_assert!(!there.is_match() || there.overlap >= MatchRule::V1.min_overlap);
        // A query that is prepared once gives the same.
        prop_assert_eq!(Query::new(MatchRule::V1, a).compare(b), there);
    }

    #[test]
    fn a_song_matches_itself_shifted_and_noisy(
        seed in any::<u64>(), len in 300usize..=948, from in 0usize..=100, percent in 0u32..=12,
    ) {
        let original = song(seed, len);
        let copy = noisy(&original[from..], seed ^ 0x55, percent);
        let found = compare(same(&original), same(&copy));
        prop_assert!(found.is_match(), "{found:?}");
        prop_assert_eq!(found.offset, -i32::try_from(from).unwrap());
        prop_assert_eq!(found.overlap as usize, len - from);
    }

    #[test]
    fn different_songs_do_not_match(a in any::<u64>(), b in any::<u64>(), len in 160usize..=948) {
        prop_assume!(a | 1 != b | 1);
        let found = compare(same(&song(a, len)), same(&song(b, 948)));
        prop_assert!(matches!(found.verdict, Verdict::Different(Reason::Errors | Reason::NoAlignment)));
    }

    #[test]
    fn the_best_of_the_tried_offsets_is_no_worse_than_any_simple_search(
        seed in any::<u64>(), from in 0usize..=60, percent in 0u32..=15,
    ) {
        let original = song(seed, 500);
        let copy = noisy(&original[from..], seed ^ 0x99, percent);
        let found = compare(same(&original), same(&copy)).rate();
        let errors: u32 = original[from..].iter().zip(&copy).map(|(x, y)| (x ^ y).count_ones()).sum();
        let bits = u32::try_from(copy.len() * 32).unwrap();
        let simple = ErrorRate { errors, bits };
        prop_assert!(found.compare(simple).is_le());
    }
}
