//! The segment files: made, listed, read, appended to. What is in them is [`super::record`]'s business, what belongs
//! together is [`super::walk`]'s.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use antiphon_proto::{NetworkId, limits};

use super::{
    files,
    record::{HEADER_BYTES, Header, Kind, RECORD_HEADER_BYTES, RecordHeader},
};
use crate::error::{Damage, FileError, OpenError, ReadError};

/// Size at which a new segment is begun: large enough that 100 M blocks are 1,200 files, small enough to copy.
pub(crate) const SEGMENT_BYTES: u64 = 256 * 1024 * 1024;
/// Open files kept for reading: followers read near the end, listeners anywhere.
const HANDLES: usize = 32;
/// Bytes read at a block's place at once: a song block with its record header comes in one read.
const FIRST_READ: usize = RECORD_HEADER_BYTES + limits::SONG_BLOCK_BYTES;
/// End of a segment's file name.
const EXTENSION: &str = "seg";

/// Place of a record: segment by its number (from 0), offset in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
}

/// One segment file.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
}

/// All segment files of a ledger. Reading is shared; appending goes through the one [`Tail`].
#[derive(Debug)]
pub(crate) struct Segments {
    dir: PathBuf,
    network: NetworkId,
    segment_bytes: u64,
    list: RwLock<Vec<Segment>>,
    handles: Mutex<Vec<(u32, Arc<File>)>>,
}

impl Segments {
    /// Lists the segments of a directory, which is made when it is missing.
    pub(crate) fn open(dir: &Path, network: NetworkId, segment_bytes: u64) -> Result<Self, OpenError> {
        files::make_dir(dir)?;
        let mut firsts = Vec::new();
        for entry in fs::read_dir(dir).map_err(FileError::new("list", dir))? {
            let path = entry.map_err(FileError::new("list", dir))?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some(EXTENSION) => firsts.push(path),
                // A segment that was being made when the power went: nothing in it was ever acknowledged.
                Some(files::TEMPORARY) => {
                    fs::remove_file(&path).map_err(FileError::new("remove", &path))?;
                }
                _ => {}
            }
        }
        firsts.sort_unstable();
        let mut list = Vec::with_capacity(firsts.len());
        for path in firsts {
            list.push(read_segment(path, network)?);
        }
        Ok(Self {
            dir: dir.to_owned(),
            network,
            segment_bytes,
            list: RwLock::new(list),
            handles: Mutex::new(Vec::new()),
        })
    }

    /// Number of segments.
    pub(crate) fn count(&self) -> u32 {
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        u32::try_from(list.len()).unwrap_or(u32::MAX)
    }

    /// A segment by its number.
    pub(crate) fn get(&self, number: u32) -> Option<Segment> {
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        list.get(usize::try_from(number).ok()?).cloned()
    }

    /// A segment and a handle to read it by.
    pub(crate) fn handle(&self, number: u32) -> Result<(Segment, Arc<File>), ReadError> {
        let segment = self
            .get(number)
            .ok_or_else(|| ReadError::Index(format!("it names segment {number}, which is not there")))?;
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = handles.iter().position(|(of, _)| *of == number) {
            let handle = handles.remove(at);
            let file = Arc::clone(&handle.1);
            handles.push(handle);
            return Ok((segment, file));
        }
        let file = Arc::new(File::open(&segment.path).map_err(FileError::new("open", &segment.path))?);
        if handles.len() >= HANDLES {
            handles.remove(0);
        }
        handles.push((number, Arc::clone(&file)));
        Ok((segment, file))
    }

    /// Reads one record; its checksum is checked.
    pub(crate) fn read(&self, place: Place) -> Result<(Kind, Vec<u8>), ReadError> {
        let (segment, file) = self.handle(place.segment)?;
        let damaged = |what: &str| damage(&segment.path, u64::from(place.offset), what.to_owned());
        let mut bytes = vec![0; FIRST_READ];
        let got = read_up_to(&file, &mut bytes, u64::from(place.offset))
            .map_err(FileError::new("read", &segment.path))?;
        let Some(head) = bytes[..got].first_chunk::<RECORD_HEADER_BYTES>() else {
            return Err(damaged("the file ends where a block should be").into());
        };
        let header = RecordHeader::parse(head);
        let length = header.payload_len().ok_or_else(|| damaged("a block's length is not possible"))?;
        let whole = RECORD_HEADER_BYTES + length;
        if whole > bytes.len() {
            bytes.resize(whole, 0);
            let rest = read_up_to(&file, &mut bytes[got..], u64::from(place.offset) + got as u64)
                .map_err(FileError::new("read", &segment.path))?;
            if got + rest < whole {
                return Err(damaged("the file ends inside a block").into());
            }
        } else if got < whole {
            return Err(damaged("the file ends inside a block").into());
        }
        bytes.truncate(whole);
        bytes.drain(..RECORD_HEADER_BYTES);
        if header.matches(&segment.header.salt, &bytes) {
            Ok((header.kind, bytes))
        } else {
            Err(damaged("a block's checksum is wrong").into())
        }
    }

    /// Makes the next segment, which begins with block `first`, and everything about it durable. One that was made for
    /// this block before, and got no batch, is used.
    pub(crate) fn create(&self, first: u64) -> Result<u32, FileError> {
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        if list.last().is_some_and(|last| last.header.first == first) {
            files::sync_dir(&self.dir)?;
            return Ok(u32::try_from(list.len() - 1).unwrap_or(u32::MAX));
        }
        drop(list);
        let mut salt = [0; 8];
        files::random(&mut salt)?;
        let header = Header { network: self.network, first, salt };
        let path = self.path_of(first);
        files::write_atomically(&path, &header.to_bytes())?;
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        list.push(Segment { path, header });
        Ok(u32::try_from(list.len() - 1).unwrap_or(u32::MAX))
    }

    /// Whether there is, or may be, a file of the segment that begins with block `first`.
    pub(crate) fn may_exist(&self, first: u64) -> bool {
        self.path_of(first).try_exists().unwrap_or(true)
    }

    fn path_of(&self, first: u64) -> PathBuf {
        self.dir.join(format!("{first:020}.{EXTENSION}"))
    }

    /// Bytes of all segment files.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        list.iter().filter_map(|segment| fs::metadata(&segment.path).ok()).map(|meta| meta.len()).sum()
    }
}

fn read_segment(path: PathBuf, network: NetworkId) -> Result<Segment, OpenError> {
    let damaged = |what: &str| damage(&path, 0, what.to_owned());
    let file = File::open(&path).map_err(FileError::new("open", &path))?;
    let mut bytes = [0; HEADER_BYTES];
    let got = read_up_to(&file, &mut bytes, 0).map_err(FileError::new("read", &path))?;
    if got < HEADER_BYTES {
        return Err(damaged("it is shorter than a segment's header").into());
    }
    let header = Header::parse(&bytes).map_err(damaged)?;
    if header.network != network {
        return Err(damaged("the segment belongs to another network").into());
    }
    if path.file_stem().and_then(|stem| stem.to_str()) != Some(&format!("{:020}", header.first)) {
        return Err(damaged("the segment's name and its header name different first blocks").into());
    }
    Ok(Segment { path, header })
}

/// Reads until the buffer is full or the file ends.
pub(crate) fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

pub(crate) fn damage(file: &Path, offset: u64, what: String) -> Box<Damage> {
    Box::new(Damage { what, file: file.to_owned(), offset })
}

/// The end of the last segment, where batches are appended. Owned by whoever holds the writer's lock.
#[derive(Debug)]
pub(crate) struct Tail {
    segment: u32,
    path: PathBuf,
    file: File,
    end: u64,
    halted: bool,
}

/// Why a batch is not on the disk.
#[derive(Debug)]
pub(crate) enum CommitError {
    /// The disk said no; nothing of the batch is left there.
    File(FileError),
    /// It is not known what the disk holds.
    Halted,
}

impl Tail {
    /// Opens a segment for appending at `end`, and cuts whatever lies behind.
    pub(crate) fn open(segments: &Segments, number: u32, end: u64) -> Result<Self, OpenError> {
        let (segment, _) = segments.handle(number)?;
        let path = segment.path;
        let file =
            OpenOptions::new().write(true).open(&path).map_err(FileError::new("open for writing", &path))?;
        let length = file.metadata().map_err(FileError::new("examine", &path))?.len();
        if length > end {
            tracing::warn!(
                file = %path.display(), offset = end, bytes = length - end,
                "cut the end of a batch that was never acknowledged"
            );
            file.set_len(end).map_err(FileError::new("cut", &path))?;
        }
        // The process before this one may have been killed between write and sync: what is shown from now on must
        // outlive a power cut.
        file.sync_all().map_err(FileError::new("sync", &path))?;
        Ok(Self { segment: number, path, file, end, halted: false })
    }

    /// Segment and offset of the next record, if `bytes` more fit into this segment.
    pub(crate) fn next(&self, segments: &Segments, bytes: usize) -> Option<Place> {
        let fits = self.end.checked_add(bytes as u64).is_some_and(|end| end <= segments.segment_bytes);
        let offset = u32::try_from(self.end).ok()?;
        fits.then_some(Place { segment: self.segment, offset })
    }

    /// The salt of the records' checksums.
    pub(crate) fn salt(&self, segments: &Segments) -> [u8; 8] {
        segments.get(self.segment).map_or([0; 8], |segment| segment.header.salt)
    }

    /// Writes at the end and waits until it is durable.
    pub(crate) fn commit(&mut self, bytes: &[u8]) -> Result<(), CommitError> {
        if self.halted {
            return Err(CommitError::Halted);
        }
        if let Err(source) = self.file.write_all_at(bytes, self.end) {
            // A full disk: take back what was written, so that the next batch finds a clean end.
            let cut = self.file.set_len(self.end).and_then(|()| self.file.sync_all());
            self.halted = cut.is_err();
            return Err(CommitError::File(FileError::new("write", &self.path)(source)));
        }
        if let Err(source) = self.file.sync_data() {
            // After a failed sync the kernel may have dropped the pages: only reading again tells what is there.
            self.halted = true;
            return Err(CommitError::File(FileError::new("sync", &self.path)(source)));
        }
        self.end = self.end.saturating_add(bytes.len() as u64);
        Ok(())
    }

    /// Stops appending for good.
    pub(crate) const fn halt(&mut self) {
        self.halted = true;
    }

    /// Whether appending has stopped for good.
    pub(crate) const fn is_halted(&self) -> bool {
        self.halted
    }
}
