//! "Bottom-64": the few numbers by which the index finds songs that may be the same.
//!
//! Two versions of a recording share many of their distinct items. Mixed into evenly spread hashes, the 64 smallest
//! of one and of the other then share about the same part, whatever the offset, and a song costs the index
//! 64 postings instead of 900.

use super::MAX_ITEMS;

/// Hashes that a song has in the index.
pub const BOTTOM: usize = 64;

/// Width of a hash in bits.
pub const HASH_BITS: u32 = 28;

/// First multiplier of the mix.
const MULTIPLIER_1: u32 = 0x7feb_352d;

/// Second multiplier of the mix.
const MULTIPLIER_2: u32 = 0x846c_a68b;

/// Spreads an item over 28 bits: three xor-shifts around two odd multipliers (Chris Wellons' "lowbias32", a
/// bijection of 32 bits), of which the upper 28 bits stay. All arithmetic is modulo 2^32.
#[must_use]
pub const fn mix(item: u32) -> u32 {
    let mut x = item;
    x ^= x >> 16;
    x = x.wrapping_mul(MULTIPLIER_1);
    x ^= x >> 15;
    x = x.wrapping_mul(MULTIPLIER_2);
    x ^= x >> 16;
    x >> (u32::BITS - HASH_BITS)
}

/// The [`BOTTOM`] smallest distinct hashes of the items (of the first [`MAX_ITEMS`]), rising. Fewer when there are
/// fewer distinct ones.
#[must_use]
pub fn bottom_hashes(items: &[u32]) -> Vec<u32> {
    let mut hashes: Vec<u32> = items.iter().take(MAX_ITEMS).map(|&item| mix(item)).collect();
    hashes.sort_unstable();
    hashes.dedup();
    hashes.truncate(BOTTOM);
    hashes
}
