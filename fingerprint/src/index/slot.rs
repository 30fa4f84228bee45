//! Where a hash lives: its partition and its place within.

use crate::matching::HASH_BITS;

/// Bits that choose one of the 256 partitions.
const PARTITION_BITS: u32 = 8;

/// Bits of a hash that are left inside a partition.
pub(super) const REST_BITS: u32 = HASH_BITS - PARTITION_BITS;

/// A hash turned round: its lowest 8 bits in front, as the partition, the upper 20 behind. The hashes of a song are
/// the smallest of all of its own, so their upper bits are nearly always 0 and would fill few partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot(u32);

impl Slot {
    /// The slot of a 28-bit hash.
    pub(super) const fn of(hash: u32) -> Self {
        Self(((hash & 0xff) << REST_BITS) | ((hash >> PARTITION_BITS) & ((1 << REST_BITS) - 1)))
    }

    pub(super) const fn partition(self) -> u8 {
        self.0.to_be_bytes()[0] << 4 | self.0.to_be_bytes()[1] >> 4
    }

    /// The upper 20 bits of the hash.
    pub(super) const fn rest(self) -> u32 {
        self.0 & ((1 << REST_BITS) - 1)
    }

    /// First and last slot of a partition.
    pub(super) fn bounds(partition: u8) -> (Self, Self) {
        let first = u32::from(partition) << REST_BITS;
        (Self(first), Self(first | ((1 << REST_BITS) - 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_the_hash_turned_by_eight_bits() {
        let slot = Slot::of(0x0abc_de12);
        assert_eq!((slot.partition(), slot.rest()), (0x12, 0xa_bcde));
        assert_eq!((Slot::of(0x0fff_ffff).partition(), Slot::of(0x0fff_ffff).rest()), (255, 0xf_ffff));
        for partition in [0, 1, 0x7f, 255] {
            let (first, last) = Slot::bounds(partition);
            assert_eq!((first.partition(), last.partition()), (partition, partition));
            assert_eq!((first.rest(), last.rest()), (0, 0xf_ffff));
        }
    }
}
