//! The state machine: what a block must be to stand where it stands.
//!
//! Pure and deterministic: it reads what came before through [`View`], never a clock or a file, and its verdict on
//! equal ledgers and equal blocks is equal everywhere. A block passes in two steps. [`Checked`] is a block whose
//! form, stamp and signature hold by themselves, which can be found out for many at once, in any order;
//! [`Batch::apply`] then holds it against the ledger and against the blocks before it in its batch.

use std::collections::BTreeMap;

use antiphon_proto::{
    BlockHash, ContentHash, NetworkId, PublicKey, SongId, limits,
    record::{BLOCK_VERSION, Invalid},
    wire::{Block, Council, Economy, Genesis, Registration, Song, Variant, block, registration},
};

use crate::{
    error::Fault,
    proofs::Proofs,
    refusal::Refusal,
    roster::{Changes, Roster},
    rule::{RuleError, Similar},
    tokens::{self, Draft, Pending, StateKey, TokenView, Tokens},
};

/// What the rules take from the genesis document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// The network that signatures and stamps are for.
    pub network: NetworkId,
    /// Leading zero bits of a work stamp.
    pub stamp_bits: u32,
    /// Records of one registrant in one batch.
    pub batch_quota: u32,
    /// What plays are worth at the start.
    pub economy: Economy,
    /// When the network was begun, milliseconds since 1970.
    pub created_ms: u64,
}

impl Params {
    /// The parameters of a network.
    #[must_use]
    pub fn of(genesis: &Genesis) -> Self {
        Self {
            network: genesis.network_id(),
            stamp_bits: genesis.stamp_bits,
            batch_quota: genesis.batch_quota,
            economy: genesis.economy(),
            created_ms: genesis.created_ms,
        }
    }
}

/// Where a ledger ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Number of blocks.
    pub size: u64,
    /// What the next block links to: hash of the last block, or the network id when there is none.
    pub link: BlockHash,
    /// Height of the last batch, 0 when there is none.
    pub height: u64,
    /// Time of the last batch in milliseconds since 1970, 0 when there is none.
    pub time_ms: u64,
}

impl Position {
    /// The start of a network's ledger.
    #[must_use]
    pub const fn start(network: &NetworkId) -> Self {
        Self { size: 0, link: BlockHash(network.0), height: 0, time_ms: 0 }
    }
}

/// Where a file stands in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentEntry {
    /// Block that holds it.
    pub index: u64,
    /// Block of the song that it is an encoding of; the same for the song's own file.
    pub song_index: u64,
    /// That song.
    pub song_id: SongId,
}

/// What the state machine must know of the ledger before the batch, and of the rule.
pub trait View {
    /// Looks a file up.
    ///
    /// # Errors
    /// [`Fault`] when it cannot be read.
    fn content(&mut self, hash: &ContentHash) -> Result<Option<ContentEntry>, Fault>;

    /// Looks a song's block up.
    ///
    /// # Errors
    /// [`Fault`] when it cannot be read.
    fn song_index(&mut self, id: &SongId) -> Result<Option<u64>, Fault>;

    /// The id of the song in a block; asked only for what [`View::similar`] returned from before the batch.
    ///
    /// # Errors
    /// [`Fault`] when it cannot be read.
    fn song_id(&mut self, index: u64) -> Result<Option<SongId>, Fault>;

    /// The near-duplicate rule, over the ledger and everything accepted since.
    ///
    /// # Errors
    /// [`Fault`]; [`RuleError::BadFingerprint`] in it is a verdict on the song.
    fn similar(&mut self, song: &Song) -> Result<Option<Similar>, Fault>;

    /// A song was accepted: the rule must see it from now on.
    ///
    /// # Errors
    /// [`Fault`] when it cannot be taken in.
    fn accept_song(&mut self, index: u64, song: &Song) -> Result<(), Fault>;

    /// A block that is not a song was accepted.
    fn accept_other(&mut self, index: u64);

    /// The song in a block, accepted in this batch or before.
    ///
    /// # Errors
    /// [`Fault`] when it cannot be read.
    fn song(&mut self, index: u64) -> Result<Option<Song>, Fault>;

    /// The value of an entry of the state before the batch.
    ///
    /// # Errors
    /// [`Fault`] when it cannot be read.
    fn state(&mut self, key: &StateKey) -> Result<Option<Vec<u8>>, Fault>;
}

/// The ledger with what a batch has brought so far.
struct InBatch<'a, V> {
    view: &'a mut V,
    songs: &'a BTreeMap<SongId, u64>,
}

impl<V: View> TokenView for InBatch<'_, V> {
    fn state(&mut self, key: &StateKey) -> Result<Option<Vec<u8>>, Fault> {
        self.view.state(key)
    }

    fn song_at(&mut self, index: u64) -> Result<Option<Song>, Fault> {
        self.view.song(index)
    }

    fn index_of(&mut self, id: &SongId) -> Result<Option<u64>, Fault> {
        match self.songs.get(id) {
            Some(index) => Ok(Some(*index)),
            None => self.view.song_index(id),
        }
    }
}

/// A block whose form, stamp and signature hold by themselves.
#[derive(Debug, Clone)]
pub struct Checked {
    block: Block,
    hash: BlockHash,
    bytes: usize,
}

impl Checked {
    /// Reads a block and checks all that can be checked without the ledger.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn parse(params: &Params, bytes: &[u8]) -> Result<Self, Invalid> {
        Self::parse_with(params, &Proofs::none(), bytes)
    }

    /// [`Checked::parse`], without the proofs that are known to hold.
    pub(crate) fn parse_with(params: &Params, proofs: &Proofs, bytes: &[u8]) -> Result<Self, Invalid> {
        let block = Block::parse(bytes)?;
        let (network, bits) = (&params.network, params.stamp_bits);
        match block.body.as_ref().ok_or(Invalid::Missing("block body"))? {
            block::Body::Song(song) => proofs.check(song, |song| song.check_proofs(network, bits))?,
            block::Body::Variant(variant) => {
                proofs.check(variant, |variant| variant.check_proofs(network, bits))?;
            }
            block::Body::Transfer(transfer) => {
                proofs.check(transfer, |transfer| transfer.check_proofs(network, bits))?;
            }
            block::Body::Purchase(purchase) => {
                proofs.check(purchase, |purchase| purchase.check_proofs(network, bits))?;
            }
            block::Body::Grant(grant) => proofs.check(grant, |grant| grant.check_proofs(network, bits))?,
            block::Body::Claim(claim) => proofs.check(claim, |claim| claim.check_proofs(network, bits))?,
            block::Body::Council(council) => {
                proofs.check(council, |council| council.check_proofs(network))?
            }
            // Signed by nobody but the council, with the batch that it stands in.
            block::Body::Epoch(_) => {}
        }
        Ok(Self { block, hash: BlockHash::of(bytes), bytes: bytes.len() })
    }

    /// The block that a registration becomes after `position`, and its bytes.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub(crate) fn build(
        position: &Position,
        height: u64,
        time_ms: u64,
        registration: &CheckedRegistration<'_>,
    ) -> Result<(Self, Vec<u8>), Invalid> {
        let body = body_of(registration.0)?.ok_or(Invalid::Receipt("no block comes of it"))?;
        Self::build_body(position, height, time_ms, body)
    }

    /// The block with this body after `position`, and its bytes.
    ///
    /// # Errors
    /// [`Invalid::Limit`].
    pub(crate) fn build_body(
        position: &Position,
        height: u64,
        time_ms: u64,
        body: block::Body,
    ) -> Result<(Self, Vec<u8>), Invalid> {
        let song = matches!(body, block::Body::Song(_));
        let block = Block {
            version: BLOCK_VERSION,
            index: position.size,
            prev: position.link.0.to_vec(),
            height,
            time_ms,
            body: Some(body),
        };
        let bytes = block.to_bytes();
        let limit = if song { limits::SONG_BLOCK_BYTES } else { limits::BLOCK_BYTES };
        if bytes.len() > limit {
            let field = if song { "song block" } else { "block" };
            return Err(Invalid::Limit { field, got: bytes.len() as u64, limit: limit as u64 });
        }
        Ok((Self { block, hash: BlockHash::of(&bytes), bytes: bytes.len() }, bytes))
    }

    /// The block.
    #[must_use]
    pub const fn block(&self) -> &Block {
        &self.block
    }

    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        Kind::of(&self.block)
    }

    /// Its hash.
    #[must_use]
    pub const fn hash(&self) -> BlockHash {
        self.hash
    }
}

/// A registration whose form, stamp and signature hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CheckedRegistration<'a>(&'a Registration);

impl<'a> CheckedRegistration<'a> {
    pub(crate) fn new(
        params: &Params,
        proofs: &Proofs,
        registration: &'a Registration,
    ) -> Result<Self, Invalid> {
        registration.check_form()?;
        let (network, bits) = (&params.network, params.stamp_bits);
        match registration.body.as_ref().ok_or(Invalid::Missing("registration body"))? {
            registration::Body::Song(song) => proofs.check(song, |song| song.check_proofs(network, bits))?,
            registration::Body::Variant(variant) => {
                proofs.check(variant, |variant| variant.check_proofs(network, bits))?;
            }
            registration::Body::Council(council) => {
                proofs.check(council, |council| council.check_proofs(network))?;
            }
            registration::Body::Transfer(transfer) => {
                proofs.check(transfer, |transfer| transfer.check_proofs(network, bits))?;
            }
            registration::Body::Purchase(purchase) => {
                proofs.check(purchase, |purchase| purchase.check_proofs(network, bits))?;
            }
            registration::Body::Grant(grant) => {
                proofs.check(grant, |grant| grant.check_proofs(network, bits))?
            }
            registration::Body::Claim(claim) => {
                proofs.check(claim, |claim| claim.check_proofs(network, bits))?
            }
            registration::Body::Receipt(receipt) => {
                proofs.check(receipt, |receipt| receipt.check_proofs(network))?;
            }
        }
        Ok(Self(registration))
    }
}

/// What a registration is as a block; none for a receipt, of which no block comes.
pub(crate) fn body_of(registration: &Registration) -> Result<Option<block::Body>, Invalid> {
    Ok(Some(match registration.body.as_ref().ok_or(Invalid::Missing("registration body"))? {
        registration::Body::Song(song) => block::Body::Song(song.clone()),
        registration::Body::Variant(variant) => block::Body::Variant(variant.clone()),
        registration::Body::Council(council) => block::Body::Council(council.clone()),
        registration::Body::Transfer(transfer) => block::Body::Transfer(transfer.clone()),
        registration::Body::Purchase(purchase) => block::Body::Purchase(purchase.clone()),
        registration::Body::Grant(grant) => block::Body::Grant(grant.clone()),
        registration::Body::Claim(claim) => block::Body::Claim(claim.clone()),
        registration::Body::Receipt(_) => return Ok(None),
    }))
}

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A song.
    Song,
    /// Another encoding of one.
    Variant,
    /// An act of the council.
    Council,
    /// A settlement of plays.
    Epoch,
    /// What moves tokens or rights: a transfer, purchase, grant or claim.
    Tokens,
}

impl Kind {
    /// The kind of a block that has a body; parsing makes sure of that.
    #[must_use]
    pub const fn of(block: &Block) -> Self {
        match &block.body {
            Some(block::Body::Song(_)) => Self::Song,
            Some(block::Body::Variant(_)) => Self::Variant,
            Some(block::Body::Epoch(_)) => Self::Epoch,
            Some(
                block::Body::Transfer(_)
                | block::Body::Purchase(_)
                | block::Body::Grant(_)
                | block::Body::Claim(_),
            ) => Self::Tokens,
            Some(block::Body::Council(_)) | None => Self::Council,
        }
    }
}

/// What the ledger says about an accepted block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Its position.
    pub index: u64,
    /// Its batch.
    pub height: u64,
    /// Its time in milliseconds since 1970.
    pub time_ms: u64,
    /// Its hash.
    pub hash: BlockHash,
}

/// What must be remembered of an accepted block, so that it can be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The file that it holds.
    pub content: ContentHash,
    /// The song that the file belongs to.
    pub song_id: SongId,
    /// That song's block; the block's own index when it is a song.
    pub song_index: u64,
}

/// Why a block was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A verdict on the block.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A failure of this machine.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// What a batch that was applied leaves behind.
#[derive(Debug)]
pub struct Applied {
    /// What must be remembered of each block, in order; none for a block that is not looked up.
    pub(crate) entries: Vec<Option<Entry>>,
    /// What it changes in the council.
    pub(crate) changes: Changes,
    /// Sums over the state after it.
    pub tokens: Tokens,
    /// New values of the state's entries; an empty one is an entry that is gone.
    pub state: BTreeMap<StateKey, Vec<u8>>,
}

/// A batch while its blocks are applied, one after the other.
pub struct Batch<'a, V> {
    params: &'a Params,
    view: &'a mut V,
    roster: &'a Roster,
    changes: Changes,
    position: Position,
    blocks: usize,
    bytes: usize,
    contents: BTreeMap<ContentHash, ContentEntry>,
    songs: BTreeMap<SongId, u64>,
    records: BTreeMap<PublicKey, u32>,
    entries: Vec<Option<Entry>>,
    pending: Pending,
}

impl<'a, V: View> Batch<'a, V> {
    /// A batch that begins where the ledger ends.
    pub fn begin(
        params: &'a Params,
        position: Position,
        roster: &'a Roster,
        tokens: Tokens,
        view: &'a mut V,
    ) -> Self {
        Self {
            params,
            view,
            changes: roster.no_changes(),
            roster,
            position,
            blocks: 0,
            bytes: 0,
            contents: BTreeMap::new(),
            songs: BTreeMap::new(),
            records: BTreeMap::new(),
            entries: Vec::new(),
            pending: Pending::new(tokens),
        }
    }

    /// Where the ledger would end with the blocks applied so far.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// What the blocks applied so far leave behind.
    #[must_use]
    pub fn finish(self) -> Applied {
        let Pending { tokens, entries: state } = self.pending;
        Applied { entries: self.entries, changes: self.changes, tokens, state }
    }

    /// Applies the next block: all rules, or no change.
    ///
    /// # Errors
    /// [`ApplyError::Refused`] with the first rule that is broken, or a failure of this machine.
    pub fn apply(&mut self, checked: &Checked) -> Result<Receipt, ApplyError> {
        self.check_frame(checked)?;
        let block = checked.block();
        let (entry, by) = match &block.body {
            Some(block::Body::Song(song)) => some(self.apply_song(song, block.time_ms)?),
            Some(block::Body::Variant(variant)) => some(self.apply_variant(variant)?),
            Some(block::Body::Council(council)) => {
                self.apply_council(council, block.height)?;
                (None, None)
            }
            Some(body) => (None, self.apply_tokens(body, block.time_ms)?),
            None => return Err(Refusal::from(Invalid::Missing("block body")).into()),
        };
        self.remember(checked, entry, by);
        Ok(Receipt { index: block.index, height: block.height, time_ms: block.time_ms, hash: checked.hash() })
    }

    /// Index, link, height, time and the batch's limits.
    fn check_frame(&self, checked: &Checked) -> Result<(), Refusal> {
        let (block, at) = (checked.block(), &self.position);
        if block.index != at.size {
            return Err(Refusal::Index { expected: at.size, got: block.index });
        }
        let got = block.prev_hash()?;
        if got != at.link {
            return Err(Refusal::Link { expected: at.link, got });
        }
        let first = self.blocks == 0;
        let height = if first { at.height.saturating_add(1) } else { at.height };
        if block.height != height {
            return Err(Refusal::Height { expected: height, got: block.height });
        }
        if block.time_ms < at.time_ms || (!first && block.time_ms != at.time_ms) {
            return Err(Refusal::Time { expected: at.time_ms, got: block.time_ms });
        }
        let bytes = self.bytes.saturating_add(checked.bytes);
        if self.blocks >= limits::BATCH_BLOCKS || bytes > limits::BATCH_BYTES {
            return Err(Refusal::BatchFull);
        }
        Ok(())
    }

    fn check_new(&mut self, content: &ContentHash) -> Result<(), ApplyError> {
        let known = match self.contents.get(content) {
            Some(entry) => Some(*entry),
            None => self.view.content(content)?,
        };
        known.map_or(Ok(()), |entry| {
            Err(Refusal::Duplicate {
                content: *content,
                index: entry.index,
                song_id: entry.song_id,
                song_index: entry.song_index,
            }
            .into())
        })
    }

    fn check_quota(&self, registrant: &PublicKey) -> Result<(), Refusal> {
        let limit = self.params.batch_quota;
        let records = self.records.get(registrant).copied().unwrap_or(0);
        if records < limit { Ok(()) } else { Err(Refusal::Quota { limit }) }
    }

    fn apply_song(&mut self, song: &Song, block_ms: u64) -> Result<(Entry, PublicKey), ApplyError> {
        if song.created_ms > block_ms.saturating_add(limits::CLOCK_AHEAD_MS) {
            return Err(Refusal::FromTheFuture { created_ms: song.created_ms, block_ms }.into());
        }
        let registrant = song.registrant_key().map_err(Refusal::from)?;
        let content = song.content().map_err(Refusal::from)?;
        self.check_new(&content)?;
        self.check_quota(&registrant)?;
        self.check_similar(song)?;
        let index = self.position.size;
        self.view.accept_song(index, song)?;
        let song_id = song.id();
        self.songs.insert(song_id, index);
        Ok((Entry { content, song_id, song_index: index }, registrant))
    }

    fn check_similar(&mut self, song: &Song) -> Result<(), ApplyError> {
        let similar = match self.view.similar(song) {
            Err(Fault::Rule(RuleError::BadFingerprint(what))) => {
                return Err(Refusal::BadFingerprint(what).into());
            }
            other => other?,
        };
        let Some(Similar { index, error_per_10_000 }) = similar else { return Ok(()) };
        let in_batch = self.songs.iter().find(|(_, at)| **at == index).map(|(id, _)| *id);
        let song_id = match in_batch {
            Some(id) => id,
            None => self.view.song_id(index)?.ok_or_else(|| {
                Fault::Rule(RuleError::Index(format!("it names block {index}, which is not a song")))
            })?,
        };
        Err(Refusal::NearDuplicate { index, song_id, error_per_10_000 }.into())
    }

    fn apply_variant(&mut self, variant: &Variant) -> Result<(Entry, PublicKey), ApplyError> {
        let registrant = variant.registrant_key().map_err(Refusal::from)?;
        let content = variant.content().map_err(Refusal::from)?;
        let song_id = variant.song().map_err(Refusal::from)?;
        self.check_new(&content)?;
        let song_index = match self.songs.get(&song_id) {
            Some(index) => *index,
            None => self.view.song_index(&song_id)?.ok_or(Refusal::UnknownSong(song_id))?,
        };
        self.check_quota(&registrant)?;
        self.view.accept_other(self.position.size);
        Ok((Entry { content, song_id, song_index }, registrant))
    }

    fn apply_council(&mut self, council: &Council, height: u64) -> Result<(), ApplyError> {
        let mut changes = self.changes.clone();
        let change = self.roster.apply(&mut changes, council, height)?;
        self.draft(|draft| tokens::act(draft, change))?;
        self.changes = changes;
        self.view.accept_other(self.position.size);
        Ok(())
    }

    /// Applies what changes the state, whole or not at all.
    fn draft<T>(
        &mut self,
        work: impl FnOnce(&mut Draft<'_, InBatch<'_, V>>) -> Result<T, ApplyError>,
    ) -> Result<T, ApplyError> {
        let mut view = InBatch { view: &mut *self.view, songs: &self.songs };
        let mut draft = Draft::new(&mut view, &self.pending);
        let done = work(&mut draft)?;
        let changes = draft.finish();
        self.pending.take(changes);
        Ok(done)
    }

    /// Applies a settlement or a record of an account; gives whose it is.
    fn apply_tokens(&mut self, body: &block::Body, time_ms: u64) -> Result<Option<PublicKey>, ApplyError> {
        let index = self.position.size;
        let by = match body {
            block::Body::Epoch(epoch) => {
                // What receipts amount to is found out over the ledger as the batch before has left it.
                if self.blocks > 0 {
                    return Err(Refusal::Epoch("it is not the first of its batch").into());
                }
                self.draft(|draft| tokens::epoch(draft, epoch, time_ms))?;
                None
            }
            body => {
                let signer = match body {
                    block::Body::Transfer(transfer) => &transfer.from,
                    block::Body::Purchase(purchase) => &purchase.buyer,
                    block::Body::Grant(grant) => &grant.grantor,
                    block::Body::Claim(claim) => &claim.claimant,
                    _ => return Err(Refusal::from(Invalid::Missing("block body")).into()),
                };
                if let Ok(signer) = PublicKey::try_from(&signer[..]) {
                    self.check_quota(&signer)?;
                }
                Some(self.draft(|draft| match body {
                    block::Body::Transfer(transfer) => tokens::transfer(draft, transfer, index),
                    block::Body::Purchase(purchase) => tokens::purchase(draft, purchase, index, time_ms),
                    block::Body::Grant(grant) => tokens::grant(draft, grant, index, time_ms),
                    block::Body::Claim(claim) => tokens::claim(draft, claim, index),
                    _ => Err(Refusal::from(Invalid::Missing("block body")).into()),
                })?)
            }
        };
        self.view.accept_other(index);
        Ok(by)
    }

    /// Nothing here fails: a block is applied whole or not at all. `entry` is what it can be found by, `by` whose record
    /// it is.
    fn remember(&mut self, checked: &Checked, entry: Option<Entry>, by: Option<PublicKey>) {
        let block = checked.block();
        if let Some(entry) = &entry {
            let place =
                ContentEntry { index: block.index, song_index: entry.song_index, song_id: entry.song_id };
            self.contents.insert(entry.content, place);
        }
        if let Some(by) = by {
            let records = self.records.entry(by).or_insert(0);
            *records = records.saturating_add(1);
        }
        self.entries.push(entry);
        self.blocks += 1;
        self.bytes += checked.bytes;
        self.position = Position {
            size: block.index.saturating_add(1),
            link: checked.hash(),
            height: block.height,
            time_ms: block.time_ms,
        };
    }
}

/// What a registrant's block can be found by, and whose it is.
const fn some((entry, by): (Entry, PublicKey)) -> (Option<Entry>, Option<PublicKey>) {
    (Some(entry), Some(by))
}

/// What [`Entry`] a block that was accepted before has, given the block of its song when it is a variant.
pub(crate) fn entry_of(
    block: &Block,
    mut song_index: impl FnMut(&SongId) -> Result<Option<u64>, Fault>,
) -> Result<Option<Entry>, ApplyError> {
    match &block.body {
        Some(block::Body::Song(song)) => Ok(Some(Entry {
            content: song.content().map_err(Refusal::from)?,
            song_id: song.id(),
            song_index: block.index,
        })),
        Some(block::Body::Variant(variant)) => {
            let song_id = variant.song().map_err(Refusal::from)?;
            let song_index = song_index(&song_id)?.ok_or(Refusal::UnknownSong(song_id))?;
            Ok(Some(Entry { content: variant.content().map_err(Refusal::from)?, song_id, song_index }))
        }
        Some(_) => Ok(None),
        None => Err(Refusal::from(Invalid::Missing("block body")).into()),
    }
}

#[cfg(test)]
mod tests;
