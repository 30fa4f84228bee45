//! For measurements: the store without the state machine, and the token rules without the store.

use std::collections::{BTreeMap, HashMap};

use antiphon_proto::{
    ContentHash, PublicKey, SongId,
    council::Change,
    wire::{AccountState, Claim, Epoch, EscrowState, Genesis, Receipt, Song},
};
use prost::Message;

use crate::{
    error::{AppendError, Fault, ReadError},
    ledger::Ledger,
    state::{ApplyError, Entry, Kind, Params},
    store::{NewBatch, Tip},
    tokens::{self, Draft, Earlier, Pending, Settlement, StateKey, TokenView, Tokens},
};

/// A song block and what it is found by, taken as given.
#[derive(Debug, Clone, Copy)]
pub struct RawSong {
    /// The file.
    pub content: ContentHash,
    /// The song.
    pub song_id: SongId,
}

/// Stores a batch and indexes it without looking at it: no rule, no hash, no check of the seal. The
/// result may not be a ledger that can be opened again; it measures what the store alone costs.
///
/// # Errors
/// As [`Ledger::append`].
pub fn append_raw(
    ledger: &Ledger,
    blocks: &[Vec<u8>],
    songs: &[RawSong],
    seal: &[u8],
) -> Result<(), AppendError> {
    let inner = &*ledger.0;
    let mut writer = inner.writer();
    let mut tip = inner.store.tip();
    let first = tip.position.size;
    let entry = |(song, song_index): (&RawSong, u64)| {
        Some(Entry { content: song.content, song_id: song.song_id, song_index })
    };
    let entries: Vec<Option<Entry>> = songs.iter().zip(first..).map(entry).collect();
    for bytes in blocks {
        tip.add(bytes.len() as u64, Kind::Song);
    }
    tip.position.size = first.saturating_add(blocks.len() as u64);
    let tip = Tip { seal: seal.to_vec(), ..tip };
    inner.store.commit(
        &mut writer.tail,
        NewBatch { first, blocks, entries: &entries, state: BTreeMap::new(), tip },
    )?;
    drop(writer);
    ledger.maintain();
    Ok(())
}

/// Songs and state in memory, by the rules of the ledger; blocks, stamps and signatures are left out.
#[derive(Debug)]
pub struct Town {
    memory: Memory,
    tokens: Tokens,
    /// Units in accounts and escrows, counted entry by entry as they change.
    held: u128,
    /// Blocks so far, had there been any.
    blocks: u64,
}

#[derive(Debug, Default)]
struct Memory {
    songs: Vec<Song>,
    by_id: HashMap<SongId, u64>,
    state: HashMap<StateKey, Vec<u8>>,
}

impl TokenView for Memory {
    fn state(&mut self, key: &StateKey) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.state.get(key).cloned())
    }

    fn song_at(&mut self, index: u64) -> Result<Option<Song>, Fault> {
        Ok(usize::try_from(index).ok().and_then(|index| self.songs.get(index)).cloned())
    }

    fn index_of(&mut self, id: &SongId) -> Result<Option<u64>, Fault> {
        Ok(self.by_id.get(id).copied())
    }
}

fn unreadable(error: impl std::fmt::Display) -> Fault {
    ReadError::Index(error.to_string()).into()
}

/// Units in an entry of the state.
fn units_of(key: &StateKey, value: &[u8]) -> Result<u64, Fault> {
    match key {
        StateKey::Account(_) => AccountState::decode(value).map(|account| account.units).map_err(unreadable),
        StateKey::Escrow(_) => EscrowState::decode(value).map(|escrow| escrow.units).map_err(unreadable),
        _ => Ok(0),
    }
}

impl Town {
    /// An empty one.
    #[must_use]
    pub fn new(genesis: &Genesis) -> Self {
        let tokens = Tokens::start(&Params::of(genesis));
        Self { memory: Memory::default(), tokens, held: 0, blocks: 0 }
    }

    /// Takes a song in; gives its index.
    pub fn add_song(&mut self, song: Song) -> u64 {
        let index = self.memory.songs.len() as u64;
        self.memory.by_id.insert(song.id(), index);
        self.memory.songs.push(song);
        index
    }

    /// Sums over the state.
    #[must_use]
    pub const fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Units in all accounts and escrows.
    #[must_use]
    pub const fn held(&self) -> u128 {
        self.held
    }

    /// The same, counted anew over the whole state.
    ///
    /// # Errors
    /// [`Fault`] when an entry cannot be read.
    pub fn recount(&self) -> Result<u128, Fault> {
        self.memory.state.iter().try_fold(0, |sum, (key, value)| Ok(sum + u128::from(units_of(key, value)?)))
    }

    /// The value of an entry; all defaults when there is none.
    ///
    /// # Errors
    /// [`Fault`] when it cannot be read.
    pub fn entry<M: Message + Default>(&self, key: &StateKey) -> Result<M, Fault> {
        M::decode(self.memory.state.get(key).map_or(&[][..], Vec::as_slice)).map_err(unreadable)
    }

    /// What receipts amount to, as [`Ledger::settle`].
    ///
    /// # Errors
    /// As [`Ledger::settle`].
    pub fn settle(
        &mut self,
        time_ms: u64,
        receipts: &[Receipt],
        earlier: &dyn Earlier,
    ) -> Result<Settlement, ApplyError> {
        let pending = Pending::new(self.tokens);
        tokens::settle(&mut Draft::new(&mut self.memory, &pending), time_ms, receipts, earlier)
    }

    /// Applies a settlement.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub fn apply(&mut self, epoch: &Epoch, time_ms: u64) -> Result<(), ApplyError> {
        self.change(|draft, _| tokens::epoch(draft, epoch, time_ms))
    }

    /// Somebody claims an artist's name.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub fn claim(&mut self, claim: &Claim) -> Result<PublicKey, ApplyError> {
        self.change(|draft, index| tokens::claim(draft, claim, index))
    }

    /// The council decides.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub fn decide(&mut self, change: Change) -> Result<(), ApplyError> {
        self.change(|draft, _| tokens::act(draft, change))
    }

    fn change<T>(
        &mut self,
        work: impl FnOnce(&mut Draft<'_, Memory>, u64) -> Result<T, ApplyError>,
    ) -> Result<T, ApplyError> {
        let mut pending = Pending::new(self.tokens);
        let mut draft = Draft::new(&mut self.memory, &pending);
        let done = work(&mut draft, self.blocks)?;
        let changes = draft.finish();
        pending.take(changes);
        for (key, new) in pending.entries {
            let old = self.memory.state.get(&key).map_or(&[][..], Vec::as_slice);
            self.held = self.held + u128::from(units_of(&key, &new)?) - u128::from(units_of(&key, old)?);
            self.memory.state.insert(key, new);
        }
        self.tokens = pending.tokens;
        self.blocks += 1;
        Ok(done)
    }
}
