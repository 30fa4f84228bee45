//! A set of ledger indexes as bytes: about two for each song of a library that is spread over the ledger, one where songs
//! stand side by side.

use antiphon_proto::limits;
use roaring::RoaringBitmap;

/// A page that says no ascending indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// More than a page may hold.
    #[error("a page of {0} bytes is longer than the {max} that are allowed", max = limits::LIBRARY_PAGE_BYTES)]
    Length(usize),
    /// A number that does not end, is written in more bytes than it needs, or leads beyond 32 bits.
    #[error("an index that is no index")]
    Index,
    /// More songs than a library may have.
    #[error("more than {max} songs", max = limits::LIBRARY_SONGS)]
    Songs,
}

/// The pages of a set, each of at most [`limits::LIBRARY_PAGE_BYTES`]; at least one.
#[must_use]
pub fn encode(set: &RoaringBitmap) -> Vec<Vec<u8>> {
    let mut pages = vec![Vec::new()];
    let mut next = 0u64;
    for index in set {
        let mut rest = u64::from(index) - next;
        next = u64::from(index) + 1;
        let mut number = [0; 10];
        let mut length = 0;
        loop {
            let [low, ..] = rest.to_le_bytes();
            rest >>= 7;
            number[length] = (low & 0x7f) | if rest > 0 { 0x80 } else { 0 };
            length += 1;
            if rest == 0 {
                break;
            }
        }
        if pages.last().is_some_and(|page| page.len() + length > limits::LIBRARY_PAGE_BYTES) {
            pages.push(Vec::new());
        }
        if let Some(page) = pages.last_mut() {
            page.extend_from_slice(&number[..length]);
        }
    }
    pages
}

/// Collects the pages of a set.
#[derive(Debug, Default)]
pub struct Pages {
    set: RoaringBitmap,
    next: u64,
}

impl Pages {
    /// Takes the next page.
    ///
    /// # Errors
    /// [`PageError`]; what was taken before is lost then.
    pub fn push(&mut self, page: &[u8]) -> Result<(), PageError> {
        if page.len() > limits::LIBRARY_PAGE_BYTES {
            return Err(PageError::Length(page.len()));
        }
        let mut bytes = page.iter();
        while !bytes.as_slice().is_empty() {
            let distance = varint(&mut bytes).ok_or(PageError::Index)?;
            let index = self.next.checked_add(distance).ok_or(PageError::Index)?;
            let index = u32::try_from(index).map_err(|_| PageError::Index)?;
            if self.set.len() >= u64::from(limits::LIBRARY_SONGS) {
                return Err(PageError::Songs);
            }
            // Ascending by construction, so that it always appends.
            let _ = self.set.try_push(index);
            self.next = u64::from(index) + 1;
        }
        Ok(())
    }

    /// The set.
    #[must_use]
    pub fn finish(self) -> RoaringBitmap {
        compact(self.set)
    }
}

/// A set that is kept: in its shortest form and without room to grow, of which one that was made song by song has half as
/// much again as songs.
pub(super) fn compact(mut set: RoaringBitmap) -> RoaringBitmap {
    set.optimize();
    // The copy's vectors are as long as what is in them.
    set.clone()
}

fn varint(bytes: &mut std::slice::Iter<'_, u8>) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..35).step_by(7) {
        let byte = *bytes.next()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return (byte != 0 || shift == 0).then_some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(pages: &[Vec<u8>]) -> Result<RoaringBitmap, PageError> {
        let mut decoder = Pages::default();
        pages.iter().try_for_each(|page| decoder.push(page))?;
        Ok(decoder.finish())
    }

    #[test]
    fn golden_pages() {
        let set: RoaringBitmap = [0, 1, 2, 200, 70_000, u32::MAX].into_iter().collect();
        let pages = encode(&set);
        assert_eq!(
            pages,
            [[&[0, 0, 0, 0xc5, 1, 0xa7, 0xa1, 0x04][..], &[0x8e, 0xdd, 0xfb, 0xff, 0x0f]].concat()]
        );
        assert_eq!(decode(&pages), Ok(set));
        assert_eq!(encode(&RoaringBitmap::new()), [Vec::<u8>::new()]);
    }

    #[test]
    fn what_is_no_index_is_refused() {
        for (page, error) in [
            (vec![0x80], PageError::Index),
            (vec![0x80, 0], PageError::Index),
            (vec![0xff; 5], PageError::Index),
            (vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0], PageError::Index),
            (vec![0; limits::LIBRARY_PAGE_BYTES + 1], PageError::Length(limits::LIBRARY_PAGE_BYTES + 1)),
        ] {
            assert_eq!(Pages::default().push(&page), Err(error), "{page:?}");
        }
        let mut pages = Pages::default();
        let full = vec![0; limits::LIBRARY_PAGE_BYTES];
        let refused = (0..100).find_map(|_| pages.push(&full).err());
        assert_eq!(refused, Some(PageError::Songs));
    }

    #[test]
    fn a_set_has_no_room_that_it_does_not_use() {
        let spread: RoaringBitmap = (0..10_000u32).map(|number| number * 101).collect();
        let sides = decode(&encode(&spread)).unwrap().statistics();
        assert_eq!(sides.n_values_array_containers, 10_000);
        // The room for one value, by the library's count, is four bytes.
        assert_eq!(sides.n_bytes_array_containers, 4 * 10_000);
    }

    proptest! {
        #[test]
        fn pages_round_trip(set in prop::collection::btree_set(any::<u32>(), 0..2_000), dense in 0u32..100_000) {
            let mut set: RoaringBitmap = set.into_iter().collect();
            set.insert_range(1_000_000..1_000_000 + dense);
            let pages = encode(&set);
            prop_assert!(pages.iter().all(|page| page.len() <= limits::LIBRARY_PAGE_BYTES));
            prop_assert_eq!(decode(&pages), Ok(set));
        }

        #[test]
        fn no_bytes_break_the_decoder(pages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..10)) {
            let _ = decode(&pages);
        }
    }
}
