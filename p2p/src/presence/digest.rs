//! The summary of a library that travels in announcements.

use antiphon_proto::ContentHash;

/// Sum modulo 2^256 of BLAKE3(content hash) over a library, and the number of its songs. The digest is BLAKE3 of both,
/// so that two libraries with the same digest are the same, and one song more or less costs one addition. (A peer could
/// construct another set with its own sum; it can only lie about itself.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LibrarySum {
    /// Little-endian words.
    words: [u64; 4],
    songs: u32,
}

impl LibrarySum {
    /// Reads a sum that a peer told.
    #[must_use]
    pub fn from_parts(sum: &[u8; 32], songs: u32) -> Self {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(sum.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Self { words, songs }
    }

    /// The sum as 32 bytes, little-endian.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (part, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.words) {
            *part = word.to_le_bytes();
        }
        bytes
    }

    /// Number of songs.
    #[must_use]
    pub fn songs(&self) -> u32 {
        self.songs
    }

    /// With one more song.
    #[must_use]
    pub fn with(&self, content: &ContentHash) -> Self {
        let term = term(content);
        let (mut words, mut carry) = ([0; 4], false);
        for ((word, a), b) in words.iter_mut().zip(self.words).zip(term) {
            let (sum, over) = a.overflowing_add(b);
            let (sum, over_again) = sum.overflowing_add(u64::from(carry));
            (*word, carry) = (sum, over | over_again);
        }
        Self { words, songs: self.songs.saturating_add(1) }
    }

    /// With one song less; the caller knows that it is in.
    #[must_use]
    pub fn without(&self, content: &ContentHash) -> Self {
        let term = term(content);
        let (mut words, mut borrow) = ([0; 4], false);
        for ((word, a), b) in words.iter_mut().zip(self.words).zip(term) {
            let (rest, under) = a.overflowing_sub(b);
            let (rest, under_again) = rest.overflowing_sub(u64::from(borrow));
            (*word, borrow) = (rest, under | under_again);
        }
        Self { words, songs: self.songs.saturating_sub(1) }
    }

    /// The library digest of an announcement: BLAKE3 of the sum (32 bytes, little-endian) and the number of songs (4
    /// bytes, big-endian).
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.to_bytes());
        hasher.update(&self.songs.to_be_bytes());
        *hasher.finalize().as_bytes()
    }
}

fn term(content: &ContentHash) -> [u64; 4] {
    let hash = *blake3::hash(content.as_bytes()).as_bytes();
    LibrarySum::from_parts(&hash, 0).words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(bytes: [u8; 32]) -> String {
        blake3::Hash::from_bytes(bytes).to_hex().to_string()
    }

    #[test]
    fn golden_digests() {
        let empty = LibrarySum::default();
        let two = empty.with(&ContentHash([1; 32])).with(&ContentHash([0xff; 32]));
        assert_eq!(hex(empty.digest()), "245097bfbd7049db2fb9a8004cb070f1175011ba47b11ed9240864cc87072d33");
        assert_eq!(hex(two.digest()), "201edb23c6b49118aeb4f231c5fc9e9cdbff8b503fc693f6decf7438ea492484");
        assert_eq!(hex(two.to_bytes()), "304af4f06cae82dc5a995e1d1da3fdccae9e95f31a0378826f16e2c1af96d552");
        assert_eq!(two.songs(), 2);
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_what_is_taken_out_was_never_in(
            kept in prop::collection::vec(any::<[u8; 32]>(), 0..20),
            gone in prop::collection::vec(any::<[u8; 32]>(), 0..20),
        ) {
            let all = kept.iter().chain(&gone);
            let mut sum = all.fold(LibrarySum::default(), |sum, content| sum.with(&ContentHash(*content)));
            for content in &gone {
                sum = sum.without(&ContentHash(*content));
            }
            let plain = kept.iter().rev().fold(LibrarySum::default(), |sum, content| sum.with(&ContentHash(*content)));
            prop_assert_eq!(sum, plain);
            prop_assert_eq!(LibrarySum::from_parts(&sum.to_bytes(), sum.songs()), sum);
        }
    }
}
