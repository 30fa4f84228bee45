//! The write-ahead log of a member: what it signs and what that followed from, on disk before anybody hears of it.
//!
//! ```text
//! 0   "ANTPWAL1"     8   network id, 32      40  member key, 32     72  CRC-32 of the 72 bytes before, u32
//! 76  records: "AWAL", length u32, CRC-32 of the payload u32, payload (a canonical WalGroup with entries)
//! ```
//! Numbers are big-endian. A record is what was written and synced at once, so only the last one can be incomplete. The file only grows, and begins anew (written beside, synced, renamed over it) when it is
//! large and a height is over. What a crash cuts off at its end was never synced, so nobody has heard of it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use antiphon_proto::{
    NetworkId, PublicKey, canonical, limits,
    wire::{WalEntry, WalGroup},
};

use crate::{error::FileError, store::files};

const MAGIC: &[u8; 8] = b"ANTPWAL1";
const HEADER: usize = 8 + 32 + 32 + 4;
/// Begins each record: whatever is damaged before it, a record that follows is found.
const RECORD: &[u8; 4] = b"AWAL";
const RECORD_HEADER: usize = 12;
/// The longest record: what a burst of messages leaves behind, some batches among it.
const GROUP_BYTES: usize = 64 * limits::BATCH_MESSAGE_BYTES;
/// Bytes from which on the file is begun anew between heights.
const LARGE: u64 = 16 * 1024 * 1024;
/// Bytes that are read at most: a height of many rounds with many bodies is far below.
const MOST: u64 = 512 * 1024 * 1024;

/// The log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not what was written.
    #[error(
        "the council's write-ahead log {} is damaged at byte {offset}: {what}. A member that does not know what it has \
         signed must not sign: restore the file, or start once with --council-rejoin", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// Of another network or another key.
    #[error("the council's write-ahead log {} belongs to another {what}: use another data directory", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// Of what it is another.
        what: &'static str,
    },
    /// It grew beyond what this version reads.
    #[error("the council's write-ahead log {} is larger than any height makes it", .0.display())]
    TooLong(PathBuf),
}

/// Where a member writes down what it signs.
pub trait Journal {
    /// Takes an entry, to be written with the next flush.
    fn append(&mut self, entry: &WalEntry);

    /// Makes everything that was appended durable.
    ///
    /// # Errors
    /// [`JournalError`]; what is on the disk is then not known, and nothing must be said that is not.
    fn flush(&mut self) -> Result<(), JournalError>;

    /// A height is over: only `keep` of all entries so far is still of use.
    ///
    /// # Errors
    /// [`JournalError`].
    fn rewind(&mut self, keep: &[WalEntry]) -> Result<(), JournalError>;
}

/// The log in a file.
#[derive(Debug)]
pub struct FileJournal {
    path: PathBuf,
    header: [u8; HEADER],
    file: File,
    length: u64,
    waiting: Vec<WalEntry>,
    /// A write or a sync failed: what is on the disk is not known.
    failed: bool,
}

impl FileJournal {
    /// Opens the log at `path`, or begins one. Returns its entries.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(
        path: &Path,
        network: &NetworkId,
        member: &PublicKey,
    ) -> Result<(Self, Vec<WalEntry>), JournalError> {
        let header = header(network, member);
        if !path.exists() {
            write_anew(path, &header, &[])?;
        }
        let error = |action| FileError::new(action, path);
        let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(error("open"))?;
        let length = file.metadata().map_err(error("look at"))?.len();
        if length > MOST {
            return Err(JournalError::TooLong(path.to_owned()));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(error("read"))?;
        check_header(path, &bytes, &header)?;
        let (entries, end) = read_entries(path, &bytes)?;
        if end < bytes.len() as u64 {
            tracing::warn!(path = %path.display(), end, "the last entry of the write-ahead log was not completed");
            file.set_len(end).map_err(error("cut"))?;
            file.sync_data().map_err(error("sync"))?;
        }
        file.seek(SeekFrom::Start(end)).map_err(error("read"))?;
        let journal =
            Self { path: path.to_owned(), header, file, length: end, waiting: Vec::new(), failed: false };
        Ok((journal, entries))
    }

    /// Puts the log at `path` aside and begins a new one, for a member that joins again.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn begin_anew(path: &Path, network: &NetworkId, member: &PublicKey) -> Result<(), JournalError> {
        if path.exists() {
            let aside = path.with_extension("old");
            std::fs::rename(path, &aside).map_err(FileError::new("rename", path))?;
        }
        Ok(write_anew(path, &header(network, member), &[])?)
    }

    fn write(&mut self) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("an earlier write failed"));
        }
        if self.waiting.is_empty() {
            return Ok(());
        }
        let bytes = record(std::mem::take(&mut self.waiting));
        self.failed = true;
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        self.failed = false;
        self.length = self.length.saturating_add(bytes.len() as u64);
        Ok(())
    }
}

impl Journal for FileJournal {
    fn append(&mut self, entry: &WalEntry) {
        self.waiting.push(entry.clone());
    }

    fn flush(&mut self) -> Result<(), JournalError> {
        let written = self.write();
        Ok(written.map_err(FileError::new("write", self.path.clone()))?)
    }

    fn rewind(&mut self, keep: &[WalEntry]) -> Result<(), JournalError> {
        self.flush()?;
        if self.length < LARGE {
            return Ok(());
        }
        write_anew(&self.path, &self.header, keep)?;
        let error = |action| FileError::new(action, self.path.clone());
        let mut file = OpenOptions::new().read(true).write(true).open(&self.path).map_err(error("open"))?;
        self.length = file.seek(SeekFrom::End(0)).map_err(error("read"))?;
        self.file = file;
        Ok(())
    }
}

fn header(network: &NetworkId, member: &PublicKey) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..40].copy_from_slice(&network.0);
    header[40..72].copy_from_slice(&member.0);
    let crc = crc32fast::hash(&header[..72]);
    header[72..].copy_from_slice(&crc.to_be_bytes());
    header
}

fn record(entries: Vec<WalEntry>) -> Vec<u8> {
    let payload = canonical::encode(&WalGroup { entries });
    // Batches are bounded by the messages that they come in, and messages between two syncs by the host.
    let mut bytes = RECORD.to_vec();
    bytes.extend(u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend(crc32fast::hash(&payload).to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn write_anew(path: &Path, header: &[u8; HEADER], keep: &[WalEntry]) -> Result<(), FileError> {
    let mut bytes = header.to_vec();
    if !keep.is_empty() {
        bytes.extend(record(keep.to_vec()));
    }
    files::write_atomically(path, &bytes)
}

fn check_header(path: &Path, bytes: &[u8], header: &[u8; HEADER]) -> Result<(), JournalError> {
    let damaged = |what| JournalError::Damaged { path: path.to_owned(), offset: 0, what };
    let other = |what| JournalError::Other { path: path.to_owned(), what };
    let Some(found) = bytes.first_chunk::<HEADER>() else { return Err(damaged("it is too short")) };
    if found == header {
        return Ok(());
    }
    if crc32fast::hash(&found[..72]).to_be_bytes() != found[72..] || found[..8] != MAGIC[..] {
        return Err(damaged("its header"));
    }
    Err(other(if found[8..40] == header[8..40] { "member" } else { "network" }))
}

/// The entries, and where they end.
fn read_entries(path: &Path, bytes: &[u8]) -> Result<(Vec<WalEntry>, u64), JournalError> {
    let mut entries = Vec::new();
    let mut at = HEADER;
    while let Some((group, end)) = group_at(bytes, at) {
        entries.extend(group);
        at = end;
    }
    // Behind the first thing that is no record there is none, or this is not the end of what was synced.
    let mut later = at;
    while let Some(found) =
        bytes.get(later..).and_then(|rest| rest.windows(RECORD.len()).position(|four| four == RECORD))
    {
        if group_at(bytes, later + found).is_some() {
            let what = "a record in the middle does not have its checksum";
            return Err(JournalError::Damaged { path: path.to_owned(), offset: at as u64, what });
        }
        later += found + 1;
    }
    Ok((entries, at as u64))
}

/// The entries of the record at a place, if there is one, and where it ends.
fn group_at(bytes: &[u8], at: usize) -> Option<(Vec<WalEntry>, usize)> {
    let rest = bytes.get(at..)?.strip_prefix(RECORD)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes(*length) as usize;
    // A file that a crash has filled up with zeros has no records of length zero.
    if length == 0 || length > GROUP_BYTES {
        return None;
    }
    let payload = rest.get(..length)?;
    if crc32fast::hash(payload) != u32::from_be_bytes(*crc) {
        return None;
    }
    let group: WalGroup = canonical::decode("record of the write-ahead log", GROUP_BYTES, payload).ok()?;
    Some((group.entries, at + RECORD_HEADER + length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use antiphon_proto::wire::{Vote, wal_entry};

    const NETWORK: NetworkId = NetworkId([1; 32]);
    const MEMBER: PublicKey = PublicKey([2; 32]);

    fn entry(height: u64) -> WalEntry {
        let vote =
            Vote { height, round: 1, member: MEMBER.0.to_vec(), signature: vec![3; 64], ..Vote::default() };
        WalEntry { body: Some(wal_entry::Body::Vote(vote)) }
    }

    fn open(path: &Path) -> (FileJournal, Vec<WalEntry>) {
        FileJournal::open(path, &NETWORK, &MEMBER).unwrap()
    }

    #[test]
    fn golden_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wal");
        let (mut journal, _) = open(&path);
        journal.append(&entry(7));
        journal.flush().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let mut golden = b"ANTPWAL1".to_vec();
        golden.extend([1; 32]);
        golden.extend([2; 32]);
        golden.extend(crc32fast::hash(&golden).to_be_bytes());
        let payload = canonical::encode(&WalGroup { entries: vec![entry(7)] });
        golden.extend(b"AWAL");
        golden.extend([0, 0, 0, u8::try_from(payload.len()).unwrap()]);
        golden.extend(crc32fast::hash(&payload).to_be_bytes());
        golden.extend(payload);
        assert_eq!(bytes, golden);
    }

    #[test]
    fn what_was_flushed_comes_back_and_a_torn_end_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wal");
        let (mut journal, none) = open(&path);
        assert!(none.is_empty());
        for height in 1..=3 {
            journal.append(&entry(height));
            journal.flush().unwrap();
        }
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        let two = HEADER + 2 * (whole.len() - HEADER) / 3;
        for cut in two..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (journal, entries) = open(&path);
            assert_eq!(entries, [entry(1), entry(2)]);
            drop(journal);
            // A file that was made longer and never filled.
            let mut zeros = whole[..two].to_vec();
            zeros.resize(whole.len(), 0);
            std::fs::write(&path, zeros).unwrap();
            let (mut journal, entries) = open(&path);
            assert_eq!(entries, [entry(1), entry(2)]);
            journal.append(&entry(9));
            journal.flush().unwrap();
            assert_eq!(open(&path).1, [entry(1), entry(2), entry(9)]);
        }
    }

    #[test]
    fn damage_before_the_end_is_not_taken_for_a_torn_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wal");
        let (mut journal, _) = open(&path);
        for height in 1..=3 {
            journal.append(&entry(height));
            journal.flush().unwrap();
        }
        let good = std::fs::read(&path).unwrap();
        // Any byte of the first two records: mark, length, checksum, payload.
        let two = HEADER + 2 * (good.len() - HEADER) / 3;
        for at in HEADER..two {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            let damaged = FileJournal::open(&path, &NETWORK, &MEMBER);
            assert!(matches!(damaged, Err(JournalError::Damaged { .. })), "byte {at}");
        }
        std::fs::write(&path, &good).unwrap();
        let other = FileJournal::open(&path, &NetworkId([9; 32]), &MEMBER);
        assert!(matches!(other, Err(JournalError::Other { what: "network", .. })));
        let other = FileJournal::open(&path, &NETWORK, &PublicKey([9; 32]));
        assert!(matches!(other, Err(JournalError::Other { what: "member", .. })));
        FileJournal::begin_anew(&path, &NETWORK, &MEMBER).unwrap();
        assert!(open(&path).1.is_empty());
    }

    #[test]
    fn it_begins_anew_when_it_is_large() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wal");
        let (mut journal, _) = open(&path);
        journal.append(&entry(1));
        journal.rewind(&[entry(2)]).unwrap();
        assert_eq!(open(&path).1, [entry(1)]);
        journal.length = LARGE;
        journal.rewind(&[entry(2)]).unwrap();
        journal.append(&entry(3));
        journal.flush().unwrap();
        assert_eq!(open(&path).1, [entry(2), entry(3)]);
    }
}
