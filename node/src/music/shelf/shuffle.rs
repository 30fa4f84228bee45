//! Numbers in an order that looks random, of which any part costs no more than itself.

/// A permutation of the numbers below a length, by a seed: the same seed gives the same order, so that pages fit
/// together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shuffle {
    seed: u64,
    length: u64,
    /// Bits of each half of a number.
    half: u32,
}

/// Rounds of mixing: four make a Feistel network look random enough for music.
const ROUNDS: u64 = 4;

/// A finaliser of splitmix64.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl Shuffle {
    pub(super) fn new(seed: u64, length: usize) -> Self {
        let length = length as u64;
        let bits = u64::BITS - length.saturating_sub(1).leading_zeros();
        Self { seed: mix(seed ^ 0x9e37_79b9_7f4a_7c15), length, half: bits.div_ceil(2).max(1) }
    }

    /// The number at a place. The network works on a power of four; what it gives beyond the length goes round again,
    /// less than four times on average.
    fn at(&self, place: u64) -> u64 {
        let mask = (1u64 << self.half) - 1;
        let mut number = place;
        loop {
            let (mut left, mut right) = (number >> self.half, number & mask);
            for round in 0..ROUNDS {
                let mixed = mix(self.seed ^ right.wrapping_mul(ROUNDS).wrapping_add(round));
                (left, right) = (right, left ^ (mixed & mask));
            }
            number = left << self.half | right;
            if number < self.length {
                return number;
            }
        }
    }

    /// All numbers in their order.
    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        (0..self.length).filter_map(move |place| usize::try_from(self.at(place)).ok())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn orders_differ_by_seed() {
        let order = |seed| Shuffle::new(seed, 100).iter().collect::<Vec<_>>();
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
        // No place prefers a number much.
        let firsts: std::collections::BTreeSet<usize> =
            (0..200).filter_map(|seed| Shuffle::new(seed, 100).iter().next()).collect();
        assert!(firsts.len() > 60, "{}", firsts.len());
    }

    proptest! {
        #[test]
        fn every_number_once(seed: u64, length in 0usize..3_000) {
            let mut all: Vec<usize> = Shuffle::new(seed, length).iter().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..length).collect::<Vec<_>>());
        }
    }
}
