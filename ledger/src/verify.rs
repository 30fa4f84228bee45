//! Verifying a whole ledger: every byte and every rule again, from the first block on.

use std::{collections::BTreeMap, sync::Arc};

use antiphon_proto::{BlockHash, ContentHash, RootHash, SongId, wire::Song};

use crate::{
    append::{Committed, in_parallel},
    error::{Fault, VerifyError},
    ledger::{Inner, Ledger, REPORT_EVERY},
    progress::{Progress, Stage},
    rule::{NearDuplicates, NoRule, Similar},
    seal::{check_order, signers},
    state::{Applied, ApplyError, Batch, Checked, ContentEntry, Entry, Position, View},
    store::{RawBatch, Step, Tip},
    tokens::StateKey,
};

/// What was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// Number of blocks.
    pub blocks: u64,
    /// Number of batches, each with its seal.
    pub batches: u64,
    /// Number of song blocks.
    pub songs: u64,
    /// Number of variant blocks.
    pub variants: u64,
    /// Bytes of all blocks.
    pub bytes: u64,
    /// Hash of the last block.
    pub head: Option<BlockHash>,
    /// RFC 6962 root over all blocks.
    pub root: RootHash,
    /// Whether the near-duplicate rule was among the rules.
    pub near_duplicates: bool,
}

/// The ledger as it was before the batch that is verified.
struct Historic<'a> {
    committed: Committed<'a>,
    first: u64,
    state: &'a State,
}

/// The state as it is made again from the first block on.
type State = BTreeMap<StateKey, Vec<u8>>;

impl View for Historic<'_> {
    fn content(&mut self, hash: &ContentHash) -> Result<Option<ContentEntry>, Fault> {
        // The index names the first block that holds it.
        Ok(self.committed.content(hash)?.filter(|entry| entry.index < self.first))
    }

    fn song_index(&mut self, id: &SongId) -> Result<Option<u64>, Fault> {
        Ok(self.committed.song_index(id)?.filter(|index| *index < self.first))
    }

    fn song_id(&mut self, index: u64) -> Result<Option<SongId>, Fault> {
        self.committed.song_id(index)
    }

    fn similar(&mut self, song: &Song) -> Result<Option<Similar>, Fault> {
        self.committed.similar(song)
    }

    fn accept_song(&mut self, index: u64, song: &Song) -> Result<(), Fault> {
        self.committed.accept_song(index, song)
    }

    fn accept_other(&mut self, index: u64) {
        self.committed.accept_other(index);
    }

    fn song(&mut self, index: u64) -> Result<Option<Song>, Fault> {
        self.committed.song(index)
    }

    fn state(&mut self, key: &StateKey) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.state.get(key).cloned())
    }
}

impl Ledger {
    /// Reads the whole ledger again: checksums, canonical form, links, heights, times, stamps, signatures, all rules,
    /// every seal against the root, and the index against the blocks. With `full` also the near-duplicate rule, whose
    /// index is built anew for that; nothing can be appended meanwhile.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify(
        &self,
        full: bool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<VerifyReport, VerifyError> {
        let inner = &*self.0;
        if !full {
            return inner.verify(&mut NoRule, false, progress);
        }
        let mut writer = inner.writer();
        writer.prepared = None;
        // Until it holds the whole ledger again.
        writer.rule_broken = true;
        writer.rule.reset()?;
        let report = inner.verify(&mut *writer.rule, true, progress);
        if report.is_ok() {
            writer.rule.flush()?;
            writer.rule_broken = false;
        } else if let Err(error) = writer.abandon(&inner.store) {
            tracing::error!(%error, "the near-duplicate index is out of step; it is fed again when it is needed");
        }
        report
    }
}

impl Inner {
    fn verify(
        &self,
        rule: &mut dyn NearDuplicates,
        near_duplicates: bool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<VerifyReport, VerifyError> {
        let end = self.store.tip();
        let total = end.position.size;
        let mut tip = Tip::start(&self.genesis);
        let mut walker = self.store.walk();
        let (mut batches, mut reported, mut state) = (0u64, 0, State::new());
        while tip.position.size < total {
            let batch = match walker.step()? {
                Step::Batch(batch) => batch,
                Step::End(_) | Step::Torn(..) => {
                    let what = format!("the segments end before block {total}");
                    return Err(self.store.damaged_at(tip.position.size, what).into());
                }
            };
            self.verify_batch(rule, &mut tip, &mut state, &batch)?;
            // A rule keeps only so much in memory; nobody else empties it meanwhile.
            if rule.should_flush() {
                rule.flush()?;
            }
            batches = batches.saturating_add(1);
            if tip.position.size - reported >= REPORT_EVERY || tip.position.size == total {
                reported = tip.position.size;
                progress(Progress { stage: Stage::Verify, done: reported, total });
            }
        }
        if (tip.position, tip.root(), tip.songs, tip.block_bytes, tip.tokens)
            != (end.position, end.root(), end.songs, end.block_bytes, end.tokens)
        {
            return Err(VerifyError::Index { index: total, what: "sums" });
        }
        Ok(VerifyReport {
            blocks: total,
            batches,
            songs: tip.songs,
            variants: tip.variants,
            bytes: tip.block_bytes,
            head: tip.head(),
            root: tip.root(),
            near_duplicates,
        })
    }

    /// Holds one batch against the rules and its seal, and moves the tip behind it.
    fn verify_batch(
        &self,
        rule: &mut dyn NearDuplicates,
        tip: &mut Tip,
        known: &mut State,
        batch: &RawBatch,
    ) -> Result<(), VerifyError> {
        let checked = in_parallel(&batch.blocks, |bytes| Checked::parse(&self.params, bytes));
        let committed = Committed::new(&self.store, rule);
        let mut view = Historic { committed, first: batch.first, state: known };
        let roster = Arc::clone(&tip.roster);
        let mut state = Batch::begin(&self.params, tip.position, &roster, tip.tokens, &mut view);
        for ((block, bytes), index) in checked.into_iter().zip(&batch.blocks).zip(batch.first..) {
            let refused = |refusal| VerifyError::Refused { index, refusal };
            let block = block.map_err(|invalid| refused(invalid.into()))?;
            state.apply(&block).map_err(|error| match error {
                ApplyError::Refused(refusal) => refused(refusal),
                ApplyError::Fault(fault) => fault.into(),
            })?;
            tip.count(bytes, block.kind());
        }
        tip.position = state.position();
        let Applied { entries, changes, tokens, state } = state.finish();
        tip.tokens = tokens;
        for (key, value) in state {
            if value.is_empty() {
                known.remove(&key);
            } else {
                known.insert(key, value);
            }
        }
        tip.roster = Arc::new(roster.advance(tip.position.height, signers(&batch.seal), changes));
        let (first, last) = (batch.first, tip.position.size.saturating_sub(1));
        check_order(&tip.seal, &batch.seal)
            .and_then(|()| {
                tip.seal.clone_from(&batch.seal);
                tip.check_seal(&self.policy)
            })
            .map_err(|source| VerifyError::Seal { first, last, source })?;
        self.verify_index(batch, &entries, &tip.position)
    }

    /// Everything that can be looked up about a batch's blocks must lead to them.
    fn verify_index(
        &self,
        batch: &RawBatch,
        entries: &[Option<Entry>],
        end: &Position,
    ) -> Result<(), VerifyError> {
        for ((entry, bytes), index) in entries.iter().zip(&batch.blocks).zip(batch.first..end.size) {
            let wrong = |what| VerifyError::Index { index, what };
            if self.store.block(index)?.as_ref() != Some(bytes) {
                return Err(wrong("place"));
            }
            let Some(entry) = entry else { continue };
            let place = ContentEntry { index, song_index: entry.song_index, song_id: entry.song_id };
            if self.store.content(&entry.content)? != Some(place) {
                return Err(wrong("content"));
            }
            if entry.song_index == index {
                if self.store.song_index(&entry.song_id)? != Some(index) {
                    return Err(wrong("song id"));
                }
            } else if self.store.variants(entry.song_index, index, 1)? != [index] {
                return Err(wrong("variant"));
            }
        }
        Ok(())
    }
}
