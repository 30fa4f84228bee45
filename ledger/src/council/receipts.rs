//! Receipts at a member of the council: those that wait for a settlement, and those that were settled, as far back as
//! they matter. Whoever knows the settled ones can tell a receipt that is handed in twice, or a listener who was in two
//! places; so they are kept for the window of the economy, and on disk for a week, for whoever wants to look again.
//!
//! ```text
//! receipts/waiting          records: length u32, CRC-32 of the bytes u32, canonical Receipt; big-endian
//! receipts/settled-INDEX    canonical SettledReceipts of the settlement at that ledger index
//! ```
//! A receipt is on disk before anybody is told that it is kept, and a settlement's receipts are before the settlement is
//! in the ledger. What a crash cuts off at the end of `waiting` was never acknowledged. Those that wait no longer are left
//! in it until there are enough of them to write it anew: whoever reads it knows what was settled.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use antiphon_proto::{
    PublicKey, canonical, limits,
    play::ReceiptId,
    wire::{Receipt, SettledReceipts},
};

use crate::{
    error::FileError,
    store::files,
    tokens::Earlier,
    tree::{Frontier, leaf_hash},
};

/// Receipts that wait at most: some 30 MB.
const WAITING: usize = 65_536;
/// Longest file of receipts that is read: with those in it that wait no longer.
const FILE_BYTES: usize = 2 * WAITING * (limits::RECEIPT_BYTES + 8);
/// Records of receipts that wait no longer: as many may be in the file for nothing.
const STALE: usize = 256;
/// How long settled receipts stay on disk: a week, as long as the longest window.
const AUDIT_MS: u64 = limits::WINDOW_MS_MAX as u64;
/// File of the receipts that wait.
const WAITING_FILE: &str = "waiting";
/// Beginning of the names of the files of settled ones.
const SETTLED: &str = "settled-";

/// No more can wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{WAITING} receipts are waiting already")]
pub(crate) struct Full;

/// What a settlement that is in the ledger says of its receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settled {
    /// Ledger index.
    pub(crate) index: u64,
    /// Time of its block.
    pub(crate) time_ms: u64,
    /// Root over the receipts.
    pub(crate) root: [u8; 32],
}

/// RFC 6962 root over receipts, which are put in the order of their ids.
pub(crate) fn root_of(receipts: &[Receipt]) -> [u8; 32] {
    let leaf = |receipt: &Receipt| {
        let bytes = canonical::encode(receipt);
        (*blake3::hash(&bytes).as_bytes(), leaf_hash(&bytes))
    };
    let mut sorted: Vec<(ReceiptId, [u8; 32])> = receipts.iter().map(leaf).collect();
    sorted.sort_unstable_by_key(|(id, _)| *id);
    let mut tree = Frontier::new();
    sorted.into_iter().for_each(|(_, leaf)| tree.append_leaf(leaf));
    tree.root().0
}

/// The receipts that a member knows, in memory.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    waiting: BTreeMap<ReceiptId, Receipt>,
    /// Settlements by ledger index: their time and receipts.
    settled: BTreeMap<u64, (u64, Vec<ReceiptId>)>,
    /// The settlement of each settled receipt.
    of: HashMap<ReceiptId, u64>,
    /// When each listener was heard listening.
    busy: BTreeMap<PublicKey, BTreeSet<(u64, u64)>>,
    spans: HashMap<ReceiptId, (PublicKey, u64, u64)>,
    /// Settlements of the window whose receipts are not here.
    lacking: BTreeMap<u64, Settled>,
}

impl Earlier for Receipts {
    fn overlaps(&self, listener: &PublicKey, start_ms: u64, end_ms: u64) -> bool {
        let last = self.busy.get(listener).and_then(|busy| busy.range(..=(end_ms, u64::MAX)).next_back());
        last.is_some_and(|(_, end)| *end >= start_ms)
    }
}

impl Receipts {
    /// Takes one in that waits. `true` when it is new.
    pub(crate) fn add(&mut self, receipt: Receipt) -> Result<bool, Full> {
        let id = receipt.id();
        if self.of.contains_key(&id) || self.waiting.contains_key(&id) {
            return Ok(false);
        }
        if self.waiting.len() >= WAITING {
            return Err(Full);
        }
        self.waiting.insert(id, receipt);
        Ok(true)
    }

    pub(crate) fn waiting(&self) -> Vec<&Receipt> {
        self.waiting.values().collect()
    }

    pub(crate) fn waiting_len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether this very receipt waits here: its form and signatures were found good when it was taken in.
    pub(crate) fn is_waiting(&self, receipt: &Receipt) -> bool {
        self.waiting.contains_key(&receipt.id())
    }

    /// A disk that was not flushed has lost it.
    #[cfg(test)]
    pub(crate) fn forget(&mut self, id: &ReceiptId) {
        self.waiting.remove(id);
    }

    /// Those that can never be settled wait for nothing: their window is over, or their time was paid for.
    pub(crate) fn drop_hopeless(&mut self, time_ms: u64, window_ms: u32) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|_, receipt| {
            let Ok(body) = receipt.body() else { return false };
            let ancient = body.end_ms.saturating_add(window_ms.into()) < time_ms;
            let paid = |listener| self.overlaps(&listener, body.start_ms, body.end_ms);
            !ancient && !body.listener_key().is_ok_and(paid)
        });
        self.waiting = waiting;
    }

    /// The settlement that has settled a receipt.
    pub(crate) fn settlement_of(&self, id: &ReceiptId) -> Option<u64> {
        self.of.get(id).copied()
    }

    /// A settlement that is in the ledger, with its receipts.
    pub(crate) fn settle(&mut self, settled: &Settled, receipts: &[Receipt]) {
        self.lacking.remove(&settled.index);
        let mut ids = Vec::with_capacity(receipts.len());
        for receipt in receipts {
            let id = receipt.id();
            self.waiting.remove(&id);
            self.of.insert(id, settled.index);
            ids.push(id);
            let Ok(body) = receipt.body() else { continue };
            if let Ok(listener) = body.listener_key() {
                self.busy.entry(listener).or_default().insert((body.start_ms, body.end_ms));
                self.spans.insert(id, (listener, body.start_ms, body.end_ms));
            }
        }
        self.settled.insert(settled.index, (settled.time_ms, ids));
    }

    /// A settlement that is in the ledger, whose receipts are not here.
    pub(crate) fn lacks(&mut self, settled: Settled) {
        if !self.settled.contains_key(&settled.index) {
            self.lacking.insert(settled.index, settled);
        }
    }

    /// The first settlement of the window whose receipts are not here.
    pub(crate) fn lacking(&self) -> Option<Settled> {
        self.lacking.values().next().copied()
    }

    /// Forgets what was settled before this time: no receipt can overlap it any more.
    pub(crate) fn prune(&mut self, before_ms: u64) {
        let old: Vec<u64> =
            self.settled.iter().filter(|(_, (time, _))| *time < before_ms).map(|(index, _)| *index).collect();
        for index in old {
            for id in self.settled.remove(&index).map(|(_, ids)| ids).unwrap_or_default() {
                self.of.remove(&id);
                let Some((listener, start, end)) = self.spans.remove(&id) else { continue };
                if let Some(busy) = self.busy.get_mut(&listener) {
                    busy.remove(&(start, end));
                    if busy.is_empty() {
                        self.busy.remove(&listener);
                    }
                }
            }
        }
        self.lacking.retain(|_, settled| settled.time_ms >= before_ms);
    }
}

/// The same on disk.
#[derive(Debug)]
pub(crate) struct ReceiptFiles {
    dir: PathBuf,
    waiting: File,
    /// Records in it.
    records: usize,
    /// What was not synced yet.
    dirty: bool,
}

fn record(receipt: &Receipt) -> Vec<u8> {
    let bytes = canonical::encode(receipt);
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut out = Vec::with_capacity(bytes.len() + 8);
    out.extend(length.to_be_bytes());
    out.extend(crc32fast::hash(&bytes).to_be_bytes());
    out.extend(bytes);
    out
}

/// The receipts in these records, up to the first that is not whole.
fn records(mut bytes: &[u8]) -> Vec<Receipt> {
    let mut out = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<8>() {
        let (length, crc) = head.split_at(4);
        let number = |four: &[u8]| four.try_into().map(u32::from_be_bytes).unwrap_or(u32::MAX);
        let Some((body, rest)) = rest.split_at_checked(number(length) as usize) else { break };
        if crc32fast::hash(body) != number(crc) {
            break;
        }
        let Ok(receipt) = canonical::decode::<Receipt>("receipt", limits::RECEIPT_BYTES, body) else { break };
        out.push(receipt);
        bytes = rest;
    }
    out
}

impl ReceiptFiles {
    /// Opens the folder, or makes it; gives the receipts that wait.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Vec<Receipt>), FileError> {
        files::make_dir(dir)?;
        let path = dir.join(WAITING_FILE);
        let waiting = records(&files::read_bounded(&path, FILE_BYTES)?.unwrap_or_default());
        let file = rewrite(&path, &waiting)?;
        let records = waiting.len();
        Ok((Self { dir: dir.to_owned(), waiting: file, records, dirty: false }, waiting))
    }

    fn waiting_path(&self) -> PathBuf {
        self.dir.join(WAITING_FILE)
    }

    fn settled_path(&self, index: u64) -> PathBuf {
        self.dir.join(format!("{SETTLED}{index:012}"))
    }

    /// Writes one that waits; [`ReceiptFiles::sync`] makes it durable.
    pub(crate) fn add(&mut self, receipt: &Receipt) -> Result<(), FileError> {
        let path = self.waiting_path();
        self.waiting.write_all(&record(receipt)).map_err(FileError::new("write", &path))?;
        self.dirty = true;
        self.records = self.records.saturating_add(1);
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> Result<(), FileError> {
        if std::mem::take(&mut self.dirty) {
            let path = self.waiting_path();
            self.waiting.sync_data().map_err(FileError::new("sync", &path))?;
        }
        Ok(())
    }

    /// Begins the file of those that wait anew, if enough of it is of no use: each record is written a few times at most,
    /// however many wait.
    pub(crate) fn tidy(&mut self, receipts: &Receipts) -> Result<(), FileError> {
        let live = receipts.waiting_len();
        if self.records <= live.saturating_add(live / 4).saturating_add(STALE) {
            return Ok(());
        }
        self.waiting = rewrite(&self.waiting_path(), receipts.waiting.values())?;
        (self.records, self.dirty) = (live, false);
        Ok(())
    }

    /// Writes the receipts of a settlement, durably.
    pub(crate) fn write_settled(&self, index: u64, receipts: &[Receipt]) -> Result<(), FileError> {
        let settled = SettledReceipts { index, receipts: receipts.to_vec() };
        files::write_atomically(&self.settled_path(index), &canonical::encode(&settled))
    }

    /// The receipts of a settlement, if they are here and are those that its root stands for.
    pub(crate) fn settled(&self, settled: &Settled) -> Result<Option<Vec<Receipt>>, FileError> {
        let path = self.settled_path(settled.index);
        let limit = limits::COUNCIL_MESSAGE_BYTES;
        let Some(bytes) = files::read_bounded(&path, limit)? else { return Ok(None) };
        let read = canonical::decode::<SettledReceipts>("settled receipts", limit, &bytes);
        Ok(read.ok().map(|read| read.receipts).filter(|receipts| root_of(receipts) == settled.root))
    }

    /// Removes what nobody looks at any more, the oldest first. `time_of` gives the time of a settlement, none for what is
    /// none.
    pub(crate) fn prune(&self, now_ms: u64, time_of: impl Fn(u64) -> Option<u64>) -> Result<(), FileError> {
        let entries = fs::read_dir(&self.dir).map_err(FileError::new("list", &self.dir))?;
        let index_of = |entry: fs::DirEntry| {
            entry.file_name().to_str().and_then(|name| name.strip_prefix(SETTLED)?.parse::<u64>().ok())
        };
        let mut settled: Vec<u64> = entries.flatten().filter_map(index_of).collect();
        settled.sort_unstable();
        for index in settled {
            match time_of(index) {
                // Whatever comes behind it is younger. Each is a block to be read.
                Some(time) if time.saturating_add(AUDIT_MS) >= now_ms => break,
                _ => {
                    let path = self.settled_path(index);
                    fs::remove_file(&path).map_err(FileError::new("remove", &path))?;
                }
            }
        }
        Ok(())
    }
}

fn rewrite<'a>(path: &Path, waiting: impl IntoIterator<Item = &'a Receipt>) -> Result<File, FileError> {
    let bytes = waiting.into_iter().map(record).collect::<Vec<_>>().concat();
    files::write_atomically(path, &bytes)?;
    OpenOptions::new().append(true).open(path).map_err(FileError::new("open", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use antiphon_proto::wire::{ReceiptBody, Served, Span};
    use proptest::prelude::*;

    fn receipt(listener: u8, start_ms: u64, end_ms: u64) -> Receipt {
        let body = ReceiptBody {
            session: vec![listener; 16],
            song_id: vec![1; 32],
            listener: vec![listener; 32],
            witness: vec![2; 32],
            start_ms,
            end_ms,
            heard: vec![Span { start: 0, end: 1 }],
            beats: 2,
            chain: vec![0; 32],
            served: vec![Served { key: vec![2; 32], bytes: 1 }],
        };
        Receipt::new(body, &[3; 64], &[4; 64])
    }

    fn settlement(index: u64, time_ms: u64, receipts: &[Receipt]) -> Settled {
        Settled { index, time_ms, root: root_of(receipts) }
    }

    #[test]
    fn what_was_settled_is_known_until_it_is_pruned() {
        let mut receipts = Receipts::default();
        let (one, two) = (receipt(1, 10, 20), receipt(1, 30, 40));
        assert_eq!((receipts.add(one.clone()), receipts.add(one.clone())), (Ok(true), Ok(false)));
        let settled = settlement(5, 100, std::slice::from_ref(&one));
        receipts.settle(&settled, std::slice::from_ref(&one));
        assert_eq!((receipts.waiting_len(), receipts.add(one.clone())), (0, Ok(false)));
        assert_eq!(receipts.settlement_of(&one.id()), Some(5));
        let listener = PublicKey([1; 32]);
        for (start, end, busy) in
            [(0, 9, false), (0, 10, true), (15, 16, true), (20, 30, true), (21, 30, false)]
        {
            assert_eq!(receipts.overlaps(&listener, start, end), busy, "{start} to {end}");
        }
        assert!(!receipts.overlaps(&PublicKey([2; 32]), 0, 100));
        receipts.lacks(settlement(6, 120, std::slice::from_ref(&two)));
        receipts.prune(101);
        assert!(!receipts.overlaps(&listener, 15, 16));
        assert_eq!(receipts.lacking().map(|settled| settled.index), Some(6));
        receipts.prune(121);
        assert_eq!(receipts.lacking(), None);
    }

    #[test]
    fn a_cut_off_file_keeps_what_was_whole() {
        let dir = tempfile::tempdir().unwrap();
        let all: Vec<Receipt> = (0..5).map(|n| receipt(n, 10, 20)).collect();
        let (mut files, none) = ReceiptFiles::open(dir.path()).unwrap();
        assert!(none.is_empty());
        all.iter().for_each(|one| files.add(one).unwrap());
        files.sync().unwrap();
        let path = dir.path().join(WAITING_FILE);
        let bytes = fs::read(&path).unwrap();
        let length = bytes.len() / 5;
        for cut in 0..=bytes.len() {
            fs::write(&path, &bytes[..cut]).unwrap();
            let (_, read) = ReceiptFiles::open(dir.path()).unwrap();
            assert_eq!(read, all[..cut / length]);
        }
    }

    #[test]
    fn a_file_is_written_anew_when_much_of_it_waits_no_longer() {
        let dir = tempfile::tempdir().unwrap();
        let (mut files, _) = ReceiptFiles::open(dir.path()).unwrap();
        let mut receipts = Receipts::default();
        let all: Vec<Receipt> = (0..STALE as u64 + 2).map(|n| receipt(1, 10 * n + 1, 10 * n + 5)).collect();
        for one in &all {
            assert_eq!(receipts.add(one.clone()), Ok(true));
            files.add(one).unwrap();
        }
        let read = || records(&fs::read(dir.path().join(WAITING_FILE)).unwrap());
        let (old, new) = all.split_at(STALE);
        receipts.settle(&settlement(5, 100, old), old);
        files.tidy(&receipts).unwrap();
        // Not enough yet: whoever opens it leaves out what was settled.
        assert_eq!(read().len(), all.len());
        receipts.forget(&new[0].id());
        files.tidy(&receipts).unwrap();
        assert_eq!(read(), new[1..]);
        files.add(&new[0]).unwrap();
        assert_eq!(read().len(), 2);
    }

    #[test]
    fn settled_files_are_believed_by_their_root() {
        let dir = tempfile::tempdir().unwrap();
        let (files, _) = ReceiptFiles::open(dir.path()).unwrap();
        let mut receipts: Vec<Receipt> = (0..3).map(|n| receipt(n, 10, 20)).collect();
        receipts.sort_by_key(Receipt::id);
        let settled = settlement(7, 100, &receipts);
        assert_eq!(files.settled(&settled).unwrap(), None);
        files.write_settled(7, &receipts).unwrap();
        assert_eq!(files.settled(&settled).unwrap(), Some(receipts.clone()));
        files.write_settled(7, &receipts[..2]).unwrap();
        assert_eq!(files.settled(&settled).unwrap(), None);
        files.prune(u64::MAX, |_| Some(100)).unwrap();
        assert!(!files.settled_path(7).exists());
    }

    proptest! {
        #[test]
        fn records_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = records(&bytes);
        }
    }
}
