//! What has changed an account: the ledger's blocks, read backwards.

use std::collections::BTreeMap;

use antiphon_ledger::Ledger;
use antiphon_proto::{
    PublicKey,
    council::Change,
    epoch::Escrow,
    tokens::Shares,
    wire::{Amount, Block, Council, Epoch, Purchase, block::Body},
};
use serde::{Deserialize, Serialize};

use super::wallet_key;
use crate::{
    explorer::Explorer,
    failure::{Failure, Kind},
    ledger_ops::blocking,
    ops::Tell,
    peer::{Peer, select::name},
};

/// Blocks between two words about how far it is.
const TELL_EVERY: usize = 1_024;
/// Blocks that a page of an account looks at: those of a week of settlements.
const LOOKED_AT: usize = 1_000;

/// `antiphon wallet history --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Version of this form.
    pub schema: u32,
    /// Whose account it is.
    pub key: String,
    /// Newest first.
    pub entries: Vec<HistoryLine>,
    /// Whether the ledger was read to its beginning: there is nothing older.
    pub complete: bool,
}

/// A block that has changed an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryLine {
    /// Ledger index.
    pub index: u64,
    /// Batch.
    pub height: u64,
    /// Time of the batch.
    pub time_ms: u64,
    /// `sent`, `received`, `bought`, `sold`, `granted`, `grant_received`, `claimed`, `settled`, `released`.
    pub kind: String,
    /// What came in. Of a release the block does not say it.
    pub in_units: Option<u64>,
    /// What went out.
    pub out_units: Option<u64>,
    /// The other wallet, if there is one.
    pub with: Option<String>,
    /// The song, the artist's name, the memo, or the settlement's number, in words.
    pub about: String,
}

/// `antiphon wallet history`.
pub(crate) async fn history(peer: &Peer, limit: usize, tell: Tell<'_>) -> anyhow::Result<serde_json::Value> {
    let (key, ledger, explorer) = (wallet_key(peer)?, peer.ledger.clone(), peer.open_explorer());
    let work = move |progress: &mut dyn FnMut(u64, u64) -> bool| {
        let others = Others { ledger: &ledger, explorer: explorer.as_deref() };
        Ok(serde_json::to_value(Walk::new(others, key).run(limit, progress)?)?)
    };
    blocking(work, tell).await
}

/// What has changed an account below a block, the newest first, and where to go on. A page may be empty and still have a
/// next one.
///
/// # Errors
/// When ledger or index cannot be read.
pub(crate) fn page_of_account(
    ledger: &Ledger,
    explorer: &Explorer,
    key: PublicKey,
    below: u64,
    limit: usize,
) -> anyhow::Result<(Vec<HistoryLine>, Option<u64>)> {
    let mut walk = Walk::new(Others { ledger, explorer: Some(explorer) }, key);
    let blocks = walk.others.below(below, LOOKED_AT)?;
    let mut entries = Vec::new();
    for index in &blocks {
        entries.extend(walk.at(*index)?);
        if entries.len() >= limit {
            return Ok((
                entries,
                (blocks.last() != Some(index) || blocks.len() == LOOKED_AT).then_some(*index),
            ));
        }
    }
    Ok((entries, blocks.last().copied().filter(|_| blocks.len() == LOOKED_AT)))
}

/// The blocks that can change an account: those that are no music, where the explorer's index knows them; else all.
#[derive(Clone, Copy)]
struct Others<'l> {
    ledger: &'l Ledger,
    explorer: Option<&'l Explorer>,
}

impl Others<'_> {
    /// Below an index, the newest first, at most `limit`; none when there are no more.
    fn below(&self, below: u64, limit: usize) -> anyhow::Result<Vec<u64>> {
        let below = below.min(self.ledger.size());
        let covered = self.explorer.map_or(Ok(0), Explorer::covered)?;
        // The index may be behind.
        let mut found: Vec<u64> = (covered..below).rev().take(limit).collect();
        if let Some(explorer) = self.explorer.filter(|_| found.len() < limit) {
            found.extend(explorer.others(below.min(covered), limit.saturating_sub(found.len()))?);
        }
        Ok(found)
    }
}

/// A walk from the end of the ledger to its beginning.
struct Walk<'l> {
    ledger: &'l Ledger,
    others: Others<'l>,
    key: PublicKey,
    /// Whether an artist's name was the key's at the place that the walk has reached. Absent: as it is now; none: as the
    /// council had decided before that place.
    names: BTreeMap<String, Option<bool>>,
}

impl<'l> Walk<'l> {
    const fn new(others: Others<'l>, key: PublicKey) -> Self {
        Self { ledger: others.ledger, others, key, names: BTreeMap::new() }
    }

    fn run(mut self, limit: usize, progress: &mut dyn FnMut(u64, u64) -> bool) -> anyhow::Result<History> {
        let size = self.ledger.size();
        let mut entries = Vec::new();
        let mut left = size;
        let complete = loop {
            let blocks = self.others.below(left, TELL_EVERY)?;
            if blocks.is_empty() {
                break true;
            }
            for index in blocks {
                if entries.len() >= limit {
                    break;
                }
                left = index;
                entries.extend(self.at(index)?);
            }
            if entries.len() >= limit {
                break left == 0;
            }
            if !progress(size.saturating_sub(left), size) {
                return Err(Failure::new(Kind::Failed, "interrupted").into());
            }
        };
        Ok(History { schema: 1, key: self.key.to_string(), entries, complete })
    }

    fn at(&mut self, index: u64) -> anyhow::Result<Option<HistoryLine>> {
        match self.ledger.parsed(index)? {
            Some(block) => self.line(&block),
            None => Ok(None),
        }
    }

    fn line(&mut self, block: &Block) -> anyhow::Result<Option<HistoryLine>> {
        let line = match &block.body {
            Some(Body::Transfer(transfer)) => {
                let (from, to) = (transfer.from == self.key.0, transfer.to == self.key.0);
                (from || to).then(|| HistoryLine {
                    kind: if from { "sent" } else { "received" }.to_owned(),
                    in_units: to.then_some(transfer.amount),
                    out_units: from.then_some(transfer.amount),
                    with: text(if from { &transfer.to } else { &transfer.from }),
                    about: transfer.memo.clone(),
                    ..HistoryLine::default()
                })
            }
            Some(Body::Purchase(purchase)) => self.purchase(purchase, block.index)?,
            Some(Body::Grant(grant)) => {
                let gives = grant.grantor == self.key.0;
                let involved = gives || grant.holder == self.key.0;
                let about = if involved { self.song_name(&grant.song_id)? } else { String::new() };
                involved.then(|| HistoryLine {
                    kind: if gives { "granted" } else { "grant_received" }.to_owned(),
                    with: text(if gives { &grant.holder } else { &grant.grantor }),
                    about,
                    ..HistoryLine::default()
                })
            }
            Some(Body::Claim(claim)) => (claim.claimant == self.key.0).then(|| HistoryLine {
                kind: "claimed".to_owned(),
                about: claim.artist.clone(),
                ..HistoryLine::default()
            }),
            Some(Body::Epoch(epoch)) => self.epoch(epoch),
            Some(Body::Council(council)) => self.council(council),
            _ => None,
        };
        Ok(line.map(|line| HistoryLine {
            index: block.index,
            height: block.height,
            time_ms: block.time_ms,
            ..line
        }))
    }

    fn epoch(&self, epoch: &Epoch) -> Option<HistoryLine> {
        let of = |amounts: &[Amount]| {
            let found = amounts.binary_search_by(|amount| amount.key[..].cmp(&self.key.0[..])).ok();
            found.and_then(|at| amounts.get(at)).map(|amount| amount.units)
        };
        let (credit, burn) = (of(&epoch.credits), of(&epoch.burns));
        (credit.is_some() || burn.is_some()).then(|| HistoryLine {
            kind: "settled".to_owned(),
            in_units: credit,
            out_units: burn,
            about: format!("settlement {}", epoch.number),
            ..HistoryLine::default()
        })
    }

    fn council(&mut self, council: &Council) -> Option<HistoryLine> {
        let (escrow, to) = match council.act.as_ref()?.change().ok()? {
            Change::Release { escrow, to } => (escrow, to),
            Change::Name { artist, .. } => {
                self.names.insert(artist, None);
                return None;
            }
            _ => return None,
        };
        let about = match escrow {
            Escrow::Key(_) => "the key's own escrow".to_owned(),
            Escrow::Name(artist) => {
                self.names.insert(artist.clone(), None);
                artist
            }
        };
        (to == self.key).then(|| HistoryLine { kind: "released".to_owned(), about, ..HistoryLine::default() })
    }

    fn purchase(&mut self, purchase: &Purchase, index: u64) -> anyhow::Result<Option<HistoryLine>> {
        let buys = purchase.buyer == self.key.0;
        let share = self.share(purchase, index)?;
        if !buys && share == 0 {
            return Ok(None);
        }
        Ok(Some(HistoryLine {
            kind: if buys { "bought" } else { "sold" }.to_owned(),
            in_units: (share > 0).then_some(share),
            out_units: buys.then_some(purchase.price),
            with: if buys { None } else { text(&purchase.buyer) },
            about: self.song_name(&purchase.song_id)?,
            ..HistoryLine::default()
        }))
    }

    /// What the key got of a purchase.
    fn share(&mut self, purchase: &Purchase, index: u64) -> anyhow::Result<u64> {
        let Some(at) = self.ledger.by_song_id(&purchase.song()?)? else { return Ok(0) };
        let Some(song) = self.ledger.song(at)? else { return Ok(0) };
        let key = self.key;
        let shares = song.shares(purchase.price, |name| {
            anyhow::Ok(if self.owned(name, index)? { Some(key) } else { None })
        })?;
        Ok(match shares {
            Shares::Accounts(accounts) => {
                accounts.into_iter().filter(|(payee, _)| *payee == key).map(|(_, units)| units).sum()
            }
            Shares::Escrow(_) | Shares::Nobody => 0,
        })
    }

    /// Whether a name was the key's at a block: what the council decided last before it.
    fn owned(&mut self, artist: &str, index: u64) -> anyhow::Result<bool> {
        let mine = match self.names.get(artist) {
            Some(Some(mine)) => return Ok(*mine),
            None => self.ledger.artist(artist)?.owner == self.key.0,
            Some(None) => self.decided_before(artist, index)?,
        };
        self.names.insert(artist.to_owned(), Some(mine));
        Ok(mine)
    }

    fn decided_before(&self, artist: &str, index: u64) -> anyhow::Result<bool> {
        let mut left = index;
        loop {
            let blocks = self.others.below(left, TELL_EVERY)?;
            let Some(last) = blocks.last() else { return Ok(false) };
            left = *last;
            for at in blocks {
                let Some(Body::Council(council)) = self.ledger.parsed(at)?.and_then(|block| block.body)
                else {
                    continue;
                };
                match council.act.as_ref().and_then(|act| act.change().ok()) {
                    Some(Change::Release { escrow: Escrow::Name(name), to }) if name == artist => {
                        return Ok(to == self.key);
                    }
                    Some(Change::Name { artist: name, owner }) if name == artist => {
                        return Ok(owner == Some(self.key));
                    }
                    _ => {}
                }
            }
        }
    }

    fn song_name(&self, id: &[u8]) -> anyhow::Result<String> {
        let Ok(id) = antiphon_proto::SongId::try_from(id) else { return Ok(String::new()) };
        let song = match self.ledger.by_song_id(&id)? {
            Some(index) => self.ledger.song(index)?,
            None => None,
        };
        Ok(song.map_or_else(String::new, |song| name(&song.artist, &song.title)))
    }
}

fn text(key: &[u8]) -> Option<String> {
    PublicKey::try_from(key).ok().map(|key| key.to_string())
}
