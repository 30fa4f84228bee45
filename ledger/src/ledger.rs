//! The handle that the rest of the program has on the ledger.

use std::{
    fmt,
    path::Path,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use antiphon_proto::{
    BlockHash, ContentHash, NetworkId, PublicKey, RootHash, SongId, canonical,
    epoch::Escrow,
    genesis::GenesisError,
    limits,
    wire::{AccountState, ArtistState, Block, Economy, EscrowState, Genesis, Song, SongState, block},
};
use prost::Message;
use tokio::sync::watch;

use crate::{
    append::{Committed, Prepared, SealedBatch},
    error::{Damage, Fault, OpenError, ReadError},
    heard::Heard,
    log::Log,
    progress::{Progress, Stage},
    proofs::Proofs,
    roster::Roster,
    rule::{Closest, NearDuplicates, NoRule, Similar},
    seal::SealPolicy,
    state::{ContentEntry, Params, View as _},
    store::{self, Store, Tail, Tip, Tuning, files},
    tokens::{self, StateKey, Tokens},
};

/// Variants that one answer lists: a song with more is asked for again, from the last on.
pub const VARIANTS_PAGE: usize = 1_024;
/// File of the genesis document in the ledger's directory.
const GENESIS: &str = "genesis";
/// Blocks between two reports of progress.
pub(crate) const REPORT_EVERY: u64 = 1_024;

/// Told how far a rebuild is.
pub type OnProgress = Box<dyn Fn(Progress) + Send>;

/// How a ledger is opened.
pub struct Options {
    /// The network's genesis document: needed to start a ledger, compared with what is stored otherwise.
    pub genesis: Option<Genesis>,
    /// The near-duplicate rule; it is fed with what it lacks.
    pub rule: Box<dyn NearDuplicates>,
    /// Told how far a rebuild of the index or the rule is.
    pub progress: Option<OnProgress>,
}

impl Options {
    /// A ledger without near-duplicate rule: for tools that read, and for tests.
    #[must_use]
    pub fn without_rule(genesis: Option<Genesis>) -> Self {
        Self { genesis, rule: Box::new(NoRule), progress: None }
    }
}

/// A ledger on disk. Clones are handles on the same one; it is closed, and its lock given back, with the last.
/// Dropping it is safe at any moment; [`Ledger::close`] makes the next start quicker.
#[derive(Clone)]
pub struct Ledger(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) genesis: Genesis,
    pub(crate) params: Params,
    pub(crate) policy: SealPolicy,
    /// Signatures and stamps that were checked.
    pub(crate) proofs: Proofs,
    /// Songs that were settled lately.
    pub(crate) heard: Heard,
    pub(crate) store: Store,
    /// What is derived from the blocks for readers, and the newest checkpoint.
    pub(crate) log: Log,
    /// Whoever appends, proposes or asks the rule holds this.
    pub(crate) writer: Mutex<Writer>,
    pub(crate) size: watch::Sender<u64>,
    /// The last field: the directory is given back when all files are closed.
    _lock: files::DirLock,
}

/// What only one thread at a time may use.
pub(crate) struct Writer {
    pub(crate) tail: Tail,
    pub(crate) rule: Box<dyn NearDuplicates>,
    /// The last proposal, which the rule has taken in.
    pub(crate) prepared: Option<Prepared>,
    /// The rule failed: what it holds is not known until it was mended.
    pub(crate) rule_broken: bool,
}

/// Sums over the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The network.
    pub network: NetworkId,
    /// Number of blocks.
    pub size: u64,
    /// Number of song blocks.
    pub songs: u64,
    /// Number of variant blocks.
    pub variants: u64,
    /// Hash of the last block.
    pub head: Option<BlockHash>,
    /// RFC 6962 root over all blocks.
    pub root: RootHash,
    /// Height of the last batch, 0 when there is none.
    pub height: u64,
    /// Time of the last batch in milliseconds since 1970, 0 when there is none.
    pub time_ms: u64,
    /// Bytes of all blocks.
    pub bytes: u64,
    /// Mean size of a song block in bytes, rounded down; 0 when there is none.
    pub mean_song_block_bytes: u64,
    /// Number of segment files.
    pub segments: u32,
    /// Bytes on disk, index included.
    pub disk_bytes: u64,
}

impl Ledger {
    /// Opens the ledger in `dir`, or starts one there.
    ///
    /// # Errors
    /// [`OpenError`]; nothing acknowledged is ever given up silently.
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        Self::open_with(dir, options, Tuning::default())
    }

    /// [`Ledger::open`] with other sizes, for tests.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    #[doc(hidden)]
    pub fn open_with(dir: &Path, options: Options, tuning: Tuning) -> Result<Self, OpenError> {
        if options.genesis.is_none() && !dir.join(GENESIS).exists() && !store::exists(dir) {
            return Err(OpenError::NotFound { dir: dir.to_owned() });
        }
        files::make_dir(dir)?;
        let lock = files::DirLock::take(dir)?;
        let genesis = genesis(dir, options.genesis)?;
        let params = Params::of(&genesis);
        let policy = SealPolicy::new(&genesis);
        let tell = |progress| {
            if let Some(on_progress) = &options.progress {
                on_progress(progress);
            }
        };
        let check = |tip: &Tip| match tip.position.size {
            0 => Ok(()),
            _ => tip
                .check_seal(&policy)
                .map_err(|error| format!("the blocks up to here are not those that were sealed ({error})")),
        };
        let (store, tail) = Store::open(dir, &genesis, tuning, &check, &tell)?;
        let log = Log::open(dir, &params.network, &store)?;
        let mut rule = options.rule;
        feed(&store, &mut *rule, &tell)?;
        let size = watch::Sender::new(store.size());
        let writer = Mutex::new(Writer { tail, rule, prepared: None, rule_broken: false });
        Ok(Self(Arc::new(Inner {
            genesis,
            params,
            policy,
            proofs: Proofs::new(),
            heard: Heard::default(),
            store,
            log,
            writer,
            size,
            _lock: lock,
        })))
    }

    /// The network's genesis document.
    #[must_use]
    pub fn genesis(&self) -> &Genesis {
        &self.0.genesis
    }

    /// The network's id.
    #[must_use]
    pub fn network(&self) -> NetworkId {
        self.0.params.network
    }

    /// Number of blocks.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.store.size()
    }

    /// Hash of the last block.
    #[must_use]
    pub fn head(&self) -> Option<BlockHash> {
        self.0.store.tip().head()
    }

    /// RFC 6962 root over all blocks.
    #[must_use]
    pub fn root(&self) -> RootHash {
        self.0.store.tip().root()
    }

    /// Height of the last batch, 0 when there is none.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.0.store.tip().position.height
    }

    /// Time of the last batch in milliseconds since 1970, 0 when there is none.
    #[must_use]
    pub fn time_ms(&self) -> u64 {
        self.0.store.tip().position.time_ms
    }

    /// The council around the end of the ledger.
    #[must_use]
    pub fn roster(&self) -> Arc<Roster> {
        self.0.store.tip().roster
    }

    /// Proof over the whole ledger; `None` when it is empty.
    #[must_use]
    pub fn last_seal(&self) -> Option<Vec<u8>> {
        let tip = self.0.store.tip();
        (tip.position.size > 0).then_some(tip.seal)
    }

    /// Size after each durable batch. Slow readers see the newest only.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.size.subscribe()
    }

    /// Sums over the ledger.
    #[must_use]
    pub fn info(&self) -> Info {
        let tip = self.0.store.tip();
        let (segments, disk_bytes) = self.0.store.disk();
        Info {
            network: self.network(),
            size: tip.position.size,
            songs: tip.songs,
            variants: tip.variants,
            head: tip.head(),
            root: tip.root(),
            height: tip.position.height,
            time_ms: tip.position.time_ms,
            bytes: tip.block_bytes,
            mean_song_block_bytes: tip.song_bytes.checked_div(tip.songs).unwrap_or(0),
            segments,
            disk_bytes,
        }
    }

    /// Canonical bytes of a block, as they were appended; `None` at the end of the ledger.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn block(&self, index: u64) -> Result<Option<Vec<u8>>, ReadError> {
        self.0.store.block(index)
    }

    /// A block, decoded; `None` at the end of the ledger.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn parsed(&self, index: u64) -> Result<Option<Block>, ReadError> {
        self.0.store.parsed(index)
    }

    /// The song in a block; `None` when that block is not a song, or at the end of the ledger.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn song(&self, index: u64) -> Result<Option<Song>, ReadError> {
        song_at(&self.0.store, index)
    }

    /// The batch that holds block `first`, from the batch's first block on; `None` when `first` is the size.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn batch_from(&self, first: u64) -> Result<Option<SealedBatch>, ReadError> {
        let batch = self.0.store.batch(first)?;
        Ok(batch.map(|batch| SealedBatch { first: batch.first, blocks: batch.blocks, seal: batch.seal }))
    }

    /// The block of a song.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn by_song_id(&self, id: &SongId) -> Result<Option<u64>, ReadError> {
        self.0.store.song_index(id)
    }

    /// Where a file stands in the ledger.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn by_content(&self, hash: &ContentHash) -> Result<Option<ContentEntry>, ReadError> {
        self.0.store.content(hash).map_err(|fault| match fault {
            Fault::Read(error) => error,
            // The store asks no rule.
            Fault::Rule(error) => ReadError::Index(error.to_string()),
        })
    }

    /// The first [`VARIANTS_PAGE`] blocks of a song's variants, ascending; none for a song that is not there.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn variants_of(&self, id: &SongId) -> Result<Vec<u64>, ReadError> {
        self.variants_from(id, 0)
    }

    /// The first [`VARIANTS_PAGE`] blocks of a song's variants at or behind block `from`, ascending.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn variants_from(&self, id: &SongId, from: u64) -> Result<Vec<u64>, ReadError> {
        match self.by_song_id(id)? {
            Some(song) => self.0.store.variants(song, from, VARIANTS_PAGE),
            None => Ok(Vec::new()),
        }
    }

    /// At most `most` songs whose id begins so, with the indexes of their blocks, in the order of ids.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn songs_with_id_prefix(
        &self,
        prefix: &IdPrefix,
        most: usize,
    ) -> Result<Vec<(SongId, u64)>, ReadError> {
        self.0.store.songs_between(&prefix.lowest, &prefix.highest, most)
    }

    /// Sums over accounts, escrows and plays.
    #[must_use]
    pub fn tokens(&self) -> Tokens {
        self.0.store.tip().tokens
    }

    /// What plays are worth now.
    #[must_use]
    pub fn economy(&self) -> Economy {
        self.tokens().economy()
    }

    fn entry<M: Message + Default>(&self, key: &StateKey) -> Result<M, ReadError> {
        let bytes = self.0.store.state(key)?.unwrap_or_default();
        canonical::decode_lenient("state entry", limits::CONTROL_MESSAGE_BYTES, &bytes)
            .map_err(|error| ReadError::Index(error.to_string()))
    }

    /// A wallet's account; all zeros for one that nothing is known of.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn account(&self, key: &PublicKey) -> Result<AccountState, ReadError> {
        self.entry(&StateKey::Account(*key))
    }

    /// Units that wait for an artist.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn escrow(&self, escrow: &Escrow) -> Result<u64, ReadError> {
        Ok(self.entry::<EscrowState>(&StateKey::Escrow(escrow.clone()))?.units)
    }

    /// Whose a normalised artist's name is, and who claims it.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn artist(&self, name: &str) -> Result<ArtistState, ReadError> {
        self.entry(&StateKey::Artist(name.to_owned()))
    }

    /// Plays of the song in a block, and what they have brought.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn song_state(&self, index: u64) -> Result<SongState, ReadError> {
        self.entry(&StateKey::Song(index))
    }

    /// Units that a play of the song in a block would burn now.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn burn_for(&self, index: u64) -> Result<u64, ReadError> {
        let tokens = self.tokens();
        let economy = tokens.economy();
        let discovery = self.song_state(index)?.plays < economy.threshold_plays.into();
        Ok(if discovery { 0 } else { economy.burn(tokens.supply()) })
    }

    /// Whether a listener may hear the song in a block at a time by its terms; if not, why, in words that name the price.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn may_hear(
        &self,
        index: u64,
        song: &Song,
        listener: &PublicKey,
        time_ms: u64,
    ) -> Result<Result<(), String>, ReadError> {
        if song.terms.is_none() {
            return Ok(Ok(()));
        }
        let right = self.entry(&StateKey::Right(index, *listener))?;
        Ok(tokens::may_hear(song, &right, listener, time_ms))
    }

    /// At most `most` entries of the state whose keys begin with these bytes, behind `after`, ascending.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn states(
        &self,
        prefix: &[u8],
        after: Option<&StateKey>,
        most: usize,
    ) -> Result<Vec<(StateKey, Vec<u8>)>, ReadError> {
        self.0.store.states(prefix, after.map(StateKey::to_bytes).as_deref(), most)
    }

    /// What the near-duplicate rule says of a song against the whole ledger. Nothing is changed.
    ///
    /// # Errors
    /// [`Fault`]; a fingerprint that cannot be read is [`crate::RuleError::BadFingerprint`] in it.
    pub fn check_near_duplicate(&self, song: &Song) -> Result<Option<Similar>, Fault> {
        let mut writer = self.0.writer();
        // A proposal that is not in the ledger must not be found.
        writer.abandon(&self.0.store)?;
        let found = Committed::new(&self.0.store, &mut *writer.rule).similar(song);
        writer.watch(&found);
        found
    }

    /// The song of the ledger that sounds closest to this one, whatever the rule says of the two.
    ///
    /// # Errors
    /// As [`Ledger::check_near_duplicate`].
    pub fn closest(&self, song: &Song) -> Result<Option<Closest>, Fault> {
        let mut writer = self.0.writer();
        writer.abandon(&self.0.store)?;
        let mut fetch = |index| self.song(index);
        let closest = writer.rule.closest(song, &mut fetch).map_err(Fault::from);
        writer.watch(&closest);
        closest
    }

    /// Brings the index on disk up to the end of the ledger.
    ///
    /// # Errors
    /// [`Fault`]; nothing is lost by it, the next start takes longer.
    pub fn fold_now(&self) -> Result<(), Fault> {
        let mut writer = self.0.writer();
        writer.abandon(&self.0.store)?;
        let flushed = writer.rule.flush().map_err(Fault::from);
        writer.watch(&flushed);
        flushed?;
        self.0.store.fold_now().map_err(|error| ReadError::Index(error.to_string()).into())
    }

    /// Ends cleanly: [`Ledger::fold_now`], for the last thing before the last handle is dropped.
    ///
    /// # Errors
    /// As [`Ledger::fold_now`].
    pub fn close(&self) -> Result<(), Fault> {
        self.fold_now()
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ledger({}, {} blocks)", self.network(), self.size())
    }
}

impl Inner {
    pub(crate) fn writer(&self) -> MutexGuard<'_, Writer> {
        // What a panicking thread left: a proposal that is abandoned anyway, and a tail that only a finished commit
        // moves.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The song in a block.
pub(crate) fn song_at(store: &Store, index: u64) -> Result<Option<Song>, ReadError> {
    Ok(match store.parsed(index)?.and_then(|block| block.body) {
        Some(block::Body::Song(song)) => Some(song),
        _ => None,
    })
}

/// The stored genesis document, or the given one, stored first.
fn genesis(dir: &Path, given: Option<Genesis>) -> Result<Genesis, OpenError> {
    let path = dir.join(GENESIS);
    let damaged = |what: String| Box::new(Damage { what, file: path.clone(), offset: 0 });
    let Some(bytes) = files::read_bounded(&path, limits::GENESIS_BYTES)? else {
        if store::exists(dir) {
            return Err(damaged("there are blocks, but the genesis document is missing".to_owned()).into());
        }
        let genesis = given.ok_or_else(|| OpenError::NotFound { dir: dir.to_owned() })?;
        genesis.check()?;
        files::write_atomically(&path, &canonical::encode(&genesis))?;
        return Ok(genesis);
    };
    let stored = Genesis::parse(&bytes).map_err(|error| match error {
        GenesisError::Version(_) => OpenError::Genesis(error),
        error => damaged(error.to_string()).into(),
    })?;
    match given {
        Some(given) if given != stored => Err(OpenError::OtherNetwork {
            dir: dir.to_owned(),
            stored: stored.network_id(),
            given: given.network_id(),
        }),
        _ => Ok(stored),
    }
}

/// Feeds the rule with what it lacks; once more from the start, when its index is ahead of the ledger or fails.
fn feed(store: &Store, rule: &mut dyn NearDuplicates, tell: &dyn Fn(Progress)) -> Result<(), OpenError> {
    let size = store.size();
    if rule.next_index() == u64::MAX {
        return Ok(());
    }
    if rule.next_index() > size {
        tracing::warn!(rule = rule.next_index(), size, "the near-duplicate index is ahead of the ledger");
        rule.reset()?;
    }
    let first = match feed_from(store, rule, size, tell) {
        Err(Fault::Rule(error)) => {
            tracing::warn!(%error, "the near-duplicate index is built again");
            rule.reset()?;
            feed_from(store, rule, size, tell)
        }
        other => other,
    };
    first.map_err(|fault| match fault {
        Fault::Read(error) => error.into(),
        Fault::Rule(error) => error.into(),
    })
}

pub(crate) fn feed_from(
    store: &Store,
    rule: &mut dyn NearDuplicates,
    size: u64,
    tell: &dyn Fn(Progress),
) -> Result<(), Fault> {
    for index in rule.next_index()..size {
        match song_at(store, index)? {
            Some(song) => rule.insert(index, &song)?,
            None => rule.skip(index),
        }
        if rule.should_flush() {
            rule.flush()?;
        }
        if index % REPORT_EVERY == REPORT_EVERY - 1 {
            tell(Progress { stage: Stage::Rule, done: index, total: size });
        }
    }
    Ok(())
}

/// The beginning of a song id, in hexadecimal digits: how people name songs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdPrefix {
    lowest: SongId,
    highest: SongId,
}

/// Text that is not the beginning of a song id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the beginning of a song id: 1 to 64 hexadecimal digits")]
pub struct IdPrefixError(String);

impl FromStr for IdPrefix {
    type Err = IdPrefixError;

    fn from_str(text: &str) -> Result<Self, IdPrefixError> {
        let digits = text.len();
        let fill = |digit: char| -> Option<SongId> {
            let missing = 64usize.checked_sub(digits).filter(|missing| *missing < 64)?;
            format!("{text}{}", digit.to_string().repeat(missing)).parse().ok()
        };
        match (fill('0'), fill('f')) {
            (Some(lowest), Some(highest)) => Ok(Self { lowest, highest }),
            _ => Err(IdPrefixError(text.chars().take(80).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_span_what_begins_with_them() {
        let prefix: IdPrefix = "aB3".parse().unwrap();
        assert_eq!(prefix.lowest.0[..3], [0xab, 0x30, 0]);
        assert_eq!(prefix.highest.0[..3], [0xab, 0x3f, 0xff]);
        let whole: IdPrefix = "11".repeat(32).parse().unwrap();
        assert_eq!(whole.lowest, whole.highest);
        for bad in ["", "xyz", &"1".repeat(65), "-1", "1 "] {
            assert!(bad.parse::<IdPrefix>().is_err(), "{bad:?}");
        }
    }
}
