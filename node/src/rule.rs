//! The near-duplicate rule of the ledger, on the fingerprint crate's index: the place where the two meet.

use std::path::{Path, PathBuf};

use antiphon_fingerprint::{
    Fingerprint,
    index::{Fetched, FindError, Index, IndexError},
    matching::{Reason, Verdict},
};
use antiphon_ledger::{Closest, NearDuplicates, RuleError, Similar, rule::Fetch};
use antiphon_proto::wire::Song;

const GONE: &str = "it could not be made anew; start the peer again";

/// The rule with its index on disk.
pub struct Rule {
    /// `None` only after a reset that failed: the file cannot be open twice, so the old one is given up first.
    index: Option<Index>,
    path: PathBuf,
}

impl Rule {
    /// Opens the index, or starts an empty one when it is damaged: the ledger then feeds every song again.
    ///
    /// # Errors
    /// When no index can be made.
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        let index = match Index::open(path) {
            Ok(index) => index,
            Err(error) if error.wants_fresh() => {
                tracing::warn!(%error, "the fingerprint index is unusable and is made anew from the ledger");
                Index::create_fresh(path)?
            }
            Err(error) => return Err(error),
        };
        Ok(Self { index: Some(index), path: path.to_owned() })
    }

    fn index(&self) -> Result<&Index, RuleError> {
        self.index.as_ref().ok_or_else(|| RuleError::Index(GONE.into()))
    }

    fn index_mut(&mut self) -> Result<&mut Index, RuleError> {
        self.index.as_mut().ok_or_else(|| RuleError::Index(GONE.into()))
    }
}

fn items(song: &Song) -> Result<Fingerprint, RuleError> {
    Fingerprint::decompress(&song.fingerprint).map_err(|error| RuleError::BadFingerprint(error.to_string()))
}

fn fetch_items(fetch: &mut Fetch<'_>, key: u64) -> Result<Fetched, RuleError> {
    let Some(other) = fetch(key)? else { return Ok(None) };
    Ok(Some((items(&other)?.items().to_vec(), other.duration_ms)))
}

fn failed(error: FindError<RuleError>) -> RuleError {
    match error {
        FindError::Fetch { error, .. } => error,
        other => RuleError::Index(other.to_string()),
    }
}

fn broken(error: IndexError) -> RuleError {
    RuleError::Index(error.to_string())
}

impl NearDuplicates for Rule {
    fn next_index(&self) -> u64 {
        self.index.as_ref().map_or(0, Index::next_key)
    }

    fn find(&self, song: &Song, fetch: &mut Fetch<'_>) -> Result<Option<Similar>, RuleError> {
        let fingerprint = items(song)?;
        let mut fetch_items = |key| fetch_items(fetch, key);
        let found =
            self.index()?.find(fingerprint.items(), song.duration_ms, &mut fetch_items).map_err(failed)?;
        Ok(found.map(|found| Similar {
            index: found.key,
            error_per_10_000: found.comparison.rate().per_10_000(),
        }))
    }

    fn closest(&self, song: &Song, fetch: &mut Fetch<'_>) -> Result<Option<Closest>, RuleError> {
        let fingerprint = items(song)?;
        let mut fetch_items = |key| fetch_items(fetch, key);
        let found =
            self.index()?.closest(fingerprint.items(), song.duration_ms, &mut fetch_items).map_err(failed)?;
        Ok(found.map(|found| Closest {
            index: found.key,
            error_per_10_000: found.comparison.rate().per_10_000(),
            overlap_items: found.comparison.overlap,
            why_not: why_not(&found.comparison.verdict),
        }))
    }

    fn insert(&mut self, index: u64, song: &Song) -> Result<(), RuleError> {
        let fingerprint = items(song)?;
        self.index_mut()?.insert(index, fingerprint.items(), song.duration_ms).map_err(broken)
    }

    fn skip(&mut self, index: u64) {
        if let Some(own) = &mut self.index {
            own.skip_to(index.saturating_add(1));
        }
    }

    fn truncate(&mut self, size: u64) -> Result<(), RuleError> {
        self.index_mut()?.truncate(size).map_err(broken)
    }

    fn flush(&mut self) -> Result<(), RuleError> {
        self.index_mut()?.flush().map_err(broken)
    }

    fn should_flush(&self) -> bool {
        self.index.as_ref().is_some_and(Index::should_flush)
    }

    fn reset(&mut self) -> Result<(), RuleError> {
        drop(self.index.take());
        self.index = Some(Index::create_fresh(&self.path).map_err(broken)?);
        Ok(())
    }
}

/// A verdict in words; `None` for a match.
fn why_not(verdict: &Verdict) -> Option<String> {
    let words = match verdict {
        Verdict::Match => return None,
        Verdict::GreyZone => "15 to 25 % of the bits differ: too many to be sure, too few to rule it out",
        Verdict::Different(Reason::Duration) => {
            "the durations are more than 7 s apart: another version of the piece"
        }
        Verdict::Different(Reason::Overlap) => "less than 20 s of the two overlap",
        Verdict::Different(Reason::Errors) => "more than 25 % of the bits differ",
        Verdict::Different(Reason::NoAlignment) => "no part of one lines up with a part of the other",
    };
    Some(words.to_owned())
}
