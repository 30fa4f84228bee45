//! The near-duplicate rule as the ledger sees it: a deterministic verdict on one song against all before it, with
//! an index that its implementation keeps by itself.

use antiphon_proto::wire::Song;

use crate::error::ReadError;

/// A song in the ledger that sounds the same as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Similar {
    /// Ledger index of its block.
    pub index: u64,
    /// Bits that differ, in hundredths of a percent of those compared.
    pub error_per_10_000: u32,
}

/// The song that comes closest to another, whatever the verdict: for people who ask why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closest {
    /// Ledger index of its block.
    pub index: u64,
    /// Bits that differ, in hundredths of a percent of those compared.
    pub error_per_10_000: u32,
    /// Fingerprint items that were compared.
    pub overlap_items: u32,
    /// Why it is not the same recording, in words; `None` when it is.
    pub why_not: Option<String>,
}

/// Why a rule has no verdict.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// The song's fingerprint is not one: the registration is malformed.
    #[error("the fingerprint is malformed: {0}")]
    BadFingerprint(String),
    /// The index is damaged or cannot be written; the ledger feeds it again before it is next used.
    #[error("the near-duplicate index failed: {0}")]
    Index(String),
    /// A song could not be fetched.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Reads the song at a ledger index, `None` when that block is not a song.
pub type Fetch<'a> = dyn FnMut(u64) -> Result<Option<Song>, ReadError> + 'a;

/// The deterministic rule. Equal songs in equal order give equal verdicts on every machine, whatever the index looks
/// like inside and whenever it was flushed.
pub trait NearDuplicates: Send {
    /// Ledger indexes below this are in the index already; `u64::MAX` when the rule keeps none and is never fed.
    fn next_index(&self) -> u64;

    /// The song that `song` is a near-duplicate of, among those inserted.
    ///
    /// # Errors
    /// [`RuleError::BadFingerprint`] refuses the song; any other error means that there is no verdict.
    fn find(&self, song: &Song, fetch: &mut Fetch<'_>) -> Result<Option<Similar>, RuleError>;

    /// The song that comes closest, same recording or not; none when nothing is comparable, or when the rule cannot
    /// tell.
    ///
    /// # Errors
    /// As [`NearDuplicates::find`].
    fn closest(&self, _song: &Song, _fetch: &mut Fetch<'_>) -> Result<Option<Closest>, RuleError> {
        Ok(None)
    }

    /// Takes a song in: `find` sees it at once; it need not be durable. Indexes come in ascending order.
    ///
    /// # Errors
    /// [`RuleError`] when it cannot.
    fn insert(&mut self, index: u64, song: &Song) -> Result<(), RuleError>;

    /// Passes over a block that is not a song.
    fn skip(&mut self, index: u64);

    /// Forgets everything at or above `size`: an abandoned proposal.
    ///
    /// # Errors
    /// [`RuleError`] when it cannot.
    fn truncate(&mut self, size: u64) -> Result<(), RuleError>;

    /// Makes what was inserted durable.
    ///
    /// # Errors
    /// [`RuleError`] when it cannot.
    fn flush(&mut self) -> Result<(), RuleError>;

    /// Whether a flush is worth its cost now; asked after commits.
    fn should_flush(&self) -> bool;

    /// Empties the index, because it is damaged or ahead of the ledger; every song is then fed again.
    ///
    /// # Errors
    /// [`RuleError`] when it cannot.
    fn reset(&mut self) -> Result<(), RuleError>;
}

/// A rule that finds nothing alike: for tools that only read, and for tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRule;

impl NearDuplicates for NoRule {
    fn next_index(&self) -> u64 {
        u64::MAX
    }

    fn find(&self, _: &Song, _: &mut Fetch<'_>) -> Result<Option<Similar>, RuleError> {
        Ok(None)
    }

    fn insert(&mut self, _: u64, _: &Song) -> Result<(), RuleError> {
        Ok(())
    }

    fn skip(&mut self, _: u64) {}

    fn truncate(&mut self, _: u64) -> Result<(), RuleError> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), RuleError> {
        Ok(())
    }

    fn should_flush(&self) -> bool {
        false
    }

    fn reset(&mut self) -> Result<(), RuleError> {
        Ok(())
    }
}
