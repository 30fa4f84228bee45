//! The state's entries while records are applied, and their digest.

use std::collections::BTreeMap;

use antiphon_proto::{
    SongId, canonical, limits,
    wire::{Economy, Song, SongState, StateTotals},
};
use bincode::{Decode, Encode};
use prost::Message;

use super::StateKey;
use crate::{
    error::{Fault, ReadError},
    refusal::Refusal,
    state::{ApplyError, Params},
};

/// What must be known of the ledger before a record.
pub trait TokenView {
    /// The value of an entry.
    ///
    /// # Errors
    /// [`Fault`] when it cannot be read.
    fn state(&mut self, key: &StateKey) -> Result<Option<Vec<u8>>, Fault>;

    /// The song at a ledger index.
    ///
    /// # Errors
    /// [`Fault`] when it cannot be read.
    fn song_at(&mut self, index: u64) -> Result<Option<Song>, Fault>;

    /// The ledger index of a song.
    ///
    /// # Errors
    /// [`Fault`] when it cannot be read.
    fn index_of(&mut self, id: &SongId) -> Result<Option<u64>, Fault>;

    /// A song and its ledger index.
    ///
    /// # Errors
    /// [`Fault`] when it cannot be read.
    fn song_of(&mut self, id: &SongId) -> Result<Option<(u64, Song)>, Fault> {
        let Some(index) = self.index_of(id)? else { return Ok(None) };
        Ok(self.song_at(index)?.map(|song| (index, song)))
    }
}

/// Sums over the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tokens {
    /// Totals.
    pub totals: StateTotals,
    /// The economy of the genesis document.
    genesis: Economy,
    /// Sum of the entries' hashes modulo 2^256, least significant word first.
    sum: [u64; 4],
}

impl Tokens {
    /// Of an empty ledger.
    #[must_use]
    pub fn start(params: &Params) -> Self {
        let totals = StateTotals { epoch_ms: params.created_ms, ..StateTotals::default() };
        Self { totals, genesis: params.economy, sum: [0; 4] }
    }

    /// The economy as it is now.
    #[must_use]
    pub fn economy(&self) -> Economy {
        self.totals.economy.unwrap_or(self.genesis)
    }

    /// Units that exist.
    #[must_use]
    pub const fn supply(&self) -> u64 {
        self.totals.minted.saturating_sub(self.totals.burned)
    }

    /// Digest of the state.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for word in self.sum {
            hasher.update(&word.to_le_bytes());
        }
        hasher.update(&canonical::encode(&self.totals));
        *hasher.finalize().as_bytes()
    }

    fn replace(&mut self, key: &StateKey, old: &[u8], new: &[u8]) {
        let key = key.to_bytes();
        if !old.is_empty() {
            self.sum = less(self.sum, hash(&key, old));
            self.totals.entries = self.totals.entries.saturating_sub(1);
        }
        if !new.is_empty() {
            self.sum = more(self.sum, hash(&key, new));
            self.totals.entries = self.totals.entries.saturating_add(1);
        }
    }
}

fn hash(key: &[u8], value: &[u8]) -> [u64; 4] {
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    let mut hasher = blake3::Hasher::new();
    hasher.update(&length.to_be_bytes());
    hasher.update(key);
    hasher.update(value);
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(hasher.finalize().as_bytes().chunks_exact(8)) {
        let mut eight = [0; 8];
        eight.copy_from_slice(bytes);
        *word = u64::from_le_bytes(eight);
    }
    words
}

/// The sum modulo 2^256.
fn more(a: [u64; 4], b: [u64; 4]) -> [u64; 4] {
    let (mut out, mut carry) = ([0; 4], false);
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        let (sum, first) = a.overflowing_add(b);
        let (sum, second) = sum.overflowing_add(carry.into());
        (*out, carry) = (sum, first || second);
    }
    out
}

/// The difference modulo 2^256.
fn less(a: [u64; 4], b: [u64; 4]) -> [u64; 4] {
    let (mut out, mut borrow) = ([0; 4], false);
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        let (rest, first) = a.overflowing_sub(b);
        let (rest, second) = rest.overflowing_sub(borrow.into());
        (*out, borrow) = (rest, first || second);
    }
    out
}

/// How [`Tokens`] are stored in the index.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct StoredTokens {
    totals: Vec<u8>,
    genesis: Vec<u8>,
    sum: [u64; 4],
}

impl From<&Tokens> for StoredTokens {
    fn from(tokens: &Tokens) -> Self {
        Self {
            totals: canonical::encode(&tokens.totals),
            genesis: canonical::encode(&tokens.genesis),
            sum: tokens.sum,
        }
    }
}

impl StoredTokens {
    /// None when it contradicts itself.
    pub(crate) fn into_tokens(self) -> Option<Tokens> {
        let totals = canonical::decode("totals", limits::CONTROL_MESSAGE_BYTES, &self.totals).ok()?;
        let genesis = canonical::decode("economy", limits::CONTROL_MESSAGE_BYTES, &self.genesis).ok()?;
        Some(Tokens { totals, genesis, sum: self.sum })
    }
}

/// What the records of a batch have changed so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) tokens: Tokens,
    /// New values; an empty one is an entry that is gone.
    pub(crate) entries: BTreeMap<StateKey, Vec<u8>>,
}

impl Pending {
    pub(crate) const fn new(tokens: Tokens) -> Self {
        Self { tokens, entries: BTreeMap::new() }
    }

    /// Takes over what a record has changed.
    pub(crate) fn take(&mut self, changes: Changes) {
        self.tokens = changes.tokens;
        self.entries.extend(changes.entries);
    }
}

/// What one record changes.
#[derive(Debug)]
pub(crate) struct Changes {
    tokens: Tokens,
    entries: BTreeMap<StateKey, Vec<u8>>,
}

/// What one record changes, until it is known whether it may.
pub(crate) struct Draft<'a, V: ?Sized> {
    view: &'a mut V,
    pending: &'a Pending,
    pub(crate) tokens: Tokens,
    /// Values before and after.
    entries: BTreeMap<StateKey, (Vec<u8>, Vec<u8>)>,
}

impl<'a, V: TokenView + ?Sized> Draft<'a, V> {
    pub(crate) fn new(view: &'a mut V, pending: &'a Pending) -> Self {
        Self { view, pending, tokens: pending.tokens, entries: BTreeMap::new() }
    }

    /// The value of an entry as the records before have left it.
    fn before(&mut self, key: &StateKey) -> Result<Vec<u8>, Fault> {
        match self.pending.entries.get(key) {
            Some(value) => Ok(value.clone()),
            None => Ok(self.view.state(key)?.unwrap_or_default()),
        }
    }

    /// The value of an entry now; all defaults when there is none.
    pub(crate) fn get<M: Message + Default>(&mut self, key: &StateKey) -> Result<M, Fault> {
        let bytes = match self.entries.get(key) {
            Some((_, now)) => now.clone(),
            None => self.before(key)?,
        };
        canonical::decode_lenient("state entry", limits::CONTROL_MESSAGE_BYTES, &bytes)
            .map_err(|error| ReadError::Index(error.to_string()).into())
    }

    /// Sets an entry.
    pub(crate) fn put<M: Message>(&mut self, key: StateKey, value: &M) -> Result<(), Fault> {
        let new = canonical::encode(value);
        let old = match self.entries.remove(&key) {
            Some((old, _)) => old,
            None => self.before(&key)?,
        };
        self.entries.insert(key, (old, new));
        Ok(())
    }

    /// Changes an entry.
    pub(crate) fn update<M: Message + Default>(
        &mut self,
        key: StateKey,
        change: impl FnOnce(&mut M) -> Result<(), Refusal>,
    ) -> Result<(), ApplyError> {
        let mut value = self.get::<M>(&key)?;
        change(&mut value)?;
        Ok(self.put(key, &value)?)
    }

    /// Whether there is a song at an index.
    pub(crate) fn is_song(&mut self, index: u64) -> Result<bool, Fault> {
        // Nothing else has such an entry, and reading that is much cheaper.
        let known = self.get::<SongState>(&StateKey::Song(index))? != SongState::default();
        Ok(known || self.view.song_at(index)?.is_some())
    }

    /// A song and its ledger index.
    pub(crate) fn song(&mut self, id: &SongId) -> Result<Option<(u64, Song)>, Fault> {
        self.view.song_of(id)
    }

    /// The digest of the state with what this record changes.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut tokens = self.tokens;
        for (key, (old, new)) in &self.entries {
            tokens.replace(key, old, new);
        }
        tokens.digest()
    }

    pub(crate) fn finish(self) -> Changes {
        let mut tokens = self.tokens;
        let mut entries = BTreeMap::new();
        for (key, (old, new)) in self.entries {
            tokens.replace(&key, &old, &new);
            entries.insert(key, new);
        }
        Changes { tokens, entries }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_do_not_depend_on_order(hashes in proptest::collection::vec(any::<[u64; 4]>(), 1..20), turn in any::<usize>()) {
            let mut turned = hashes.clone();
            turned.rotate_left(turn % hashes.len());
            let sum = |all: &[[u64; 4]]| all.iter().fold([0; 4], |sum, one| more(sum, *one));
            prop_assert_eq!(sum(&hashes), sum(&turned));
            prop_assert_eq!(hashes.iter().fold(sum(&turned), |rest, one| less(rest, *one)), [0; 4]);
        }
    }

    #[test]
    fn carries_go_all_the_way() {
        assert_eq!(more([u64::MAX; 4], [1, 0, 0, 0]), [0; 4]);
        assert_eq!(less([0; 4], [1, 0, 0, 0]), [u64::MAX; 4]);
        assert_eq!(more([u64::MAX, u64::MAX, 0, 0], [1, 0, 0, 0]), [0, 0, 1, 0]);
    }
}
