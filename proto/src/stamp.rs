//! Work stamps: a small proof of work that gives spam a price.
//!
//! The challenge is BLAKE3 over a tag, the network id and the record's canonical bytes without stamp and signature.
//! A stamp is a u64 such that BLAKE3(challenge, stamp as 8 bytes little-endian) begins with the wanted number of
//! zero bits. Finding one takes 2^bits hashes on average, checking takes one.

use crate::hash::NetworkId;

/// Default difficulty: 131,072 hashes on average, about a tenth of a second on a Raspberry Pi 4.
pub const DEFAULT_BITS: u32 = 17;

const TAG: &[u8] = b"antiphon/v1/stamp\0";

/// What a stamp is found for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Challenge([u8; 32]);

impl Challenge {
    /// The challenge of a record's canonical bytes in a network.
    #[must_use]
    pub fn new(network: &NetworkId, record: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(TAG).update(network.as_bytes()).update(record);
        Self(*hasher.finalize().as_bytes())
    }

    /// Whether `stamp` shows at least `bits` leading zero bits.
    #[must_use]
    pub fn accepts(&self, stamp: u64, bits: u32) -> bool {
        let mut input = [0u8; 40];
        input[..32].copy_from_slice(&self.0);
        input[32..].copy_from_slice(&stamp.to_le_bytes());
        leading_zeros(blake3::hash(&input).as_bytes()) >= bits
    }

    /// Tries `tries` stamps from `start` on, wrapping at the end of u64. The caller owns time: it asks for as many
    /// tries as it wants to block for.
    #[must_use]
    pub fn search(&self, bits: u32, start: u64, tries: u64) -> Option<u64> {
        (0..tries).map(|offset| start.wrapping_add(offset)).find(|stamp| self.accepts(*stamp, bits))
    }
}

fn leading_zeros(hash: &[u8; 32]) -> u32 {
    let mut zeros = 0;
    for byte in hash {
        zeros += byte.leading_zeros();
        if *byte != 0 {
            break;
        }
    }
    zeros
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_zero_bits_across_bytes() {
        let mut hash = [0u8; 32];
        assert_eq!(leading_zeros(&hash), 256);
        hash[2] = 0b0001_0000;
        assert_eq!(leading_zeros(&hash), 19);
        hash[0] = 0x80;
        assert_eq!(leading_zeros(&hash), 0);
    }

    #[test]
    fn golden_stamp() {
        let challenge = Challenge::new(&NetworkId([3; 32]), b"record");
        let stamp = challenge.search(12, 0, 1 << 20);
        assert_eq!(stamp, Some(GOLDEN));
        assert!(challenge.accepts(GOLDEN, 12));
        assert!(!Challenge::new(&NetworkId([4; 32]), b"record").accepts(GOLDEN, 12));
    }

    const GOLDEN: u64 = 9_317;
}
