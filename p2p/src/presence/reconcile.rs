//! Range-based set reconciliation (negentropy protocol, version 1) over sets of ledger indexes.
//!
//! Items are ordered by ledger index, so that what a peer added lately stands together at the end and differs in one
//! range. An item's id is its index and 24 bytes of BLAKE3 of it: the receiver of an id knows the song at once, and sums of
//! ids, which the fingerprints are made of, collide only by design. Nothing is stored for a set but the set.

use antiphon_proto::limits;
use negentropy::{Bound, Error, Id, Item, Negentropy, NegentropyStorageBase, Storage};
use roaring::RoaringBitmap;

use super::pages::compact;

/// What a message may be long; negentropy ends it there and goes on in the next.
const FRAME_BYTES: u64 = limits::LIBRARY_PAGE_BYTES as u64;

/// A message that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReconcileError {
    /// Not negentropy.
    #[error("a message that is not of the reconciliation: {0}")]
    Message(String),
    /// An id that belongs to no index.
    #[error("an id that belongs to no ledger index")]
    Id,
    /// More songs than a library may have.
    #[error("more than {max} songs", max = limits::LIBRARY_SONGS)]
    Songs,
}

impl From<Error> for ReconcileError {
    fn from(error: Error) -> Self {
        Self::Message(error.to_string())
    }
}

/// The side that wants to know the other's set.
#[derive(Debug)]
pub struct Learner {
    negentropy: Negentropy<'static, Indexes>,
    set: RoaringBitmap,
}

impl Learner {
    /// Starts from what is known; gives the first message.
    ///
    /// # Errors
    /// Never for a set of a library.
    pub fn new(known: RoaringBitmap) -> Result<(Self, Vec<u8>), ReconcileError> {
        let storage = Storage::Owned(Indexes(known.clone()));
        let mut negentropy = Negentropy::new(storage, FRAME_BYTES)?;
        let first = negentropy.initiate()?;
        Ok((Self { negentropy, set: known }, first))
    }

    /// Takes the other's message; gives the next one, or none when the sets are equal now.
    ///
    /// # Errors
    /// [`ReconcileError`].
    pub fn step(&mut self, message: &[u8]) -> Result<Option<Vec<u8>>, ReconcileError> {
        let (mut have, mut need) = (Vec::new(), Vec::new());
        let next = self.negentropy.reconcile_with_ids(message, &mut have, &mut need)?;
        for id in have {
            self.set.remove(index_of(&id)?);
        }
        for id in need {
            self.set.insert(index_of(&id)?);
        }
        if self.set.len() > u64::from(limits::LIBRARY_SONGS) {
            return Err(ReconcileError::Songs);
        }
        Ok(next)
    }

    /// The other's set, once there is no next message.
    #[must_use]
    pub fn finish(self) -> RoaringBitmap {
        compact(self.set)
    }
}

/// The side whose set is learned.
#[derive(Debug)]
pub struct Teacher(Negentropy<'static, Indexes>);

impl Teacher {
    /// Teaches this set.
    ///
    /// # Errors
    /// Never for a set of a library.
    pub fn new(set: RoaringBitmap) -> Result<Self, ReconcileError> {
        Ok(Self(Negentropy::new(Storage::Owned(Indexes(set)), FRAME_BYTES)?))
    }

    /// Answers a message.
    ///
    /// # Errors
    /// [`ReconcileError::Message`].
    pub fn step(&mut self, message: &[u8]) -> Result<Vec<u8>, ReconcileError> {
        Ok(self.0.reconcile(message)?)
    }
}

#[derive(Debug)]
struct Indexes(RoaringBitmap);

fn item(index: u32) -> Item {
    Item::with_timestamp_and_id(u64::from(index), id_of(index))
}

fn id_of(index: u32) -> Id {
    let hash = blake3::hash(&index.to_be_bytes());
    let mut id = [0; 32];
    let (front, back) = id.split_at_mut(8);
    front.copy_from_slice(&u64::from(index).to_be_bytes());
    back.copy_from_slice(&hash.as_bytes()[..24]);
    Id::from_byte_array(id)
}

fn index_of(id: &Id) -> Result<u32, ReconcileError> {
    let front = id.first_chunk::<8>().ok_or(ReconcileError::Id)?;
    let index = u32::try_from(u64::from_be_bytes(*front)).map_err(|_| ReconcileError::Id)?;
    if id_of(index) == *id { Ok(index) } else { Err(ReconcileError::Id) }
}

impl NegentropyStorageBase for Indexes {
    fn size(&self) -> Result<usize, Error> {
        usize::try_from(self.0.len()).map_err(|_| Error::BadRange)
    }

    fn get_item(&self, i: usize) -> Result<Option<Item>, Error> {
        let position = u32::try_from(i).map_err(|_| Error::BadRange)?;
        Ok(self.0.select(position).map(item))
    }

    fn iterate(
        &self,
        begin: usize,
        end: usize,
        cb: &mut dyn FnMut(Item, usize) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        if begin > end || end > self.size()? {
            return Err(Error::BadRange);
        }
        let Some(first) = u32::try_from(begin).ok().and_then(|begin| self.0.select(begin)) else {
            return Ok(());
        };
        for (position, index) in (begin..end).zip(self.0.range(first..)) {
            if !cb(item(index), position)? {
                break;
            }
        }
        Ok(())
    }

    fn find_lower_bound(&self, first: usize, last: usize, value: &Bound) -> usize {
        // Items below the bound's index, and the one of that index if its id is smaller too.
        let Ok(index) = u32::try_from(value.item.timestamp) else { return last };
        let mut below = self.0.rank(index);
        if self.0.contains(index) && item(index) >= value.item {
            below -= 1;
        }
        usize::try_from(below).unwrap_or(usize::MAX).clamp(first, last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reconciles; gives what was learned, the bytes of all messages and the number of the learner's.
    fn run(known: &RoaringBitmap, real: &RoaringBitmap) -> (RoaringBitmap, usize, usize) {
        let (mut learner, mut message) = Learner::new(known.clone()).unwrap();
        let mut teacher = Teacher::new(real.clone()).unwrap();
        let (mut bytes, mut steps) = (0, 0);
        loop {
            let answer = teacher.step(&message).unwrap();
            assert!(message.len().max(answer.len()) <= limits::LIBRARY_PAGE_BYTES);
            bytes += message.len() + answer.len();
            steps += 1;
            match learner.step(&answer).unwrap() {
                Some(next) => message = next,
                None => return (learner.finish(), bytes, steps),
            }
        }
    }

    #[test]
    fn one_song_of_100_000_costs_less_than_4_kb() {
        let known: RoaringBitmap = (0..100_000).map(|number: u32| number * 13 + number % 7).collect();
        for changed in [0, 3_333_333, 650_000, 1_299_999, 2_000_000] {
            let mut real = known.clone();
            if !real.insert(changed) {
                real.remove(changed);
            }
            let (learned, bytes, steps) = run(&known, &real);
            assert_eq!(learned, real);
            assert!(bytes < 4_000 && steps <= 4, "{bytes} bytes in {steps} steps");
        }
        assert!(run(&known, &known).1 < 700);
    }

    #[test]
    fn many_differences_come_in_messages_of_bounded_length() {
        let known: RoaringBitmap = (0..200_000).collect();
        let real: RoaringBitmap = (0..400_000).filter(|index| index % 10 < 7).collect();
        let (learned, _, steps) = run(&known, &real);
        assert_eq!(learned, real);
        assert!(steps > 10, "{steps}");
    }

    #[test]
    fn ids_without_an_index_are_refused() {
        assert_eq!(index_of(&id_of(70_000)), Ok(70_000));
        let mut forged = [0; 32];
        forged[7] = 9;
        assert_eq!(index_of(&Id::from_byte_array(forged)), Err(ReconcileError::Id));
        assert_eq!(index_of(&Id::from_byte_array([0xff; 32])), Err(ReconcileError::Id));
    }

    proptest! {
        #[test]
        fn any_two_sets_become_equal(
            common in prop::collection::btree_set(0u32..50_000, 0..3_000),
            ours in prop::collection::btree_set(0u32..60_000, 0..200),
            theirs in prop::collection::btree_set(any::<u32>(), 0..200),
        ) {
            let known: RoaringBitmap = common.iter().chain(&ours).copied().collect();
            let real: RoaringBitmap = common.iter().chain(&theirs).copied().collect();
            prop_assert_eq!(run(&known, &real).0, real);
        }

        #[test]
        fn no_message_breaks_either_side(
            known in prop::collection::btree_set(any::<u32>(), 0..100),
            message in prop::collection::vec(any::<u8>(), 0..300),
            version in any::<bool>(),
        ) {
            let known: RoaringBitmap = known.into_iter().collect();
            let mut message = message;
            if version && !message.is_empty() {
                message[0] = 0x61;
            }
            let (mut learner, _) = Learner::new(known.clone()).unwrap();
            let _ = learner.step(&message);
            let _ = Teacher::new(known).unwrap().step(&message);
        }
    }
}
