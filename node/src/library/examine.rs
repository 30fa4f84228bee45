//! What one file is: the work of a scan's worker thread.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Seek},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use antiphon_fingerprint::{AnalyzeError, Analyzer, ErrorClass, SNIFF_BYTES, Sniffed, sniff};
use antiphon_ledger::{Fault, Ledger};
use antiphon_p2p::outboard;
use antiphon_proto::{
    Container, ContentHash, SongId, limits,
    wire::{Registration, Song},
};

use super::{
    catalogue::{Catalogue, FileRecord, Stamp, State},
    describe::Registrant,
    walk,
};
use crate::system::clock;

/// What a worker found out.
#[derive(Debug)]
pub enum Outcome {
    /// Looks as it did when it was last read, and is in the ledger (or waits to be).
    Unchanged,
    /// Looks as it did, and was no audio or went wrong then.
    Same(State),
    /// Something new is known.
    Decided(State),
    /// A song or variant that the ledger does not have; signed.
    Register {
        /// BLAKE3 of the file.
        content: ContentHash,
        /// Signed registration.
        registration: Box<Registration>,
    },
    /// The scan was told to stop.
    Stopped,
}

/// What workers share.
pub struct Examiner {
    /// What was known before.
    pub catalogue: Arc<Catalogue>,
    /// Decoders.
    pub analyzer: Analyzer,
    /// What the network knows.
    pub ledger: Ledger,
    /// Who registers.
    pub registrant: Arc<Registrant>,
    /// Where outboards go.
    pub outboards: Outboards,
    /// Set to stop.
    pub stop: Arc<AtomicBool>,
}

/// The folder of outboards.
#[derive(Debug, Clone)]
pub struct Outboards(pub PathBuf);

impl Outboards {
    /// The outboard of a content.
    #[must_use]
    pub fn path(&self, content: &ContentHash) -> PathBuf {
        let name = content.to_string();
        // 256 folders: a file system with a million names in one folder is slow.
        self.0.join(&name[..2]).join(format!("{name}.obao"))
    }

    /// Whether a file of `size` bytes needs no outboard, or has one of the right length.
    #[must_use]
    pub fn is_whole(&self, content: &ContentHash, size: u64) -> bool {
        size <= limits::BAO_GROUP_BYTES
            || std::fs::metadata(self.path(content)).is_ok_and(|meta| meta.len() == outboard::length(size))
    }

    /// Removes what a killed scan left half made.
    pub fn tidy(&self) {
        let Ok(entries) = std::fs::read_dir(&self.0) else { return };
        for entry in entries.flatten().filter(|entry| entry.file_name().as_bytes().starts_with(b"new-")) {
            let _ = std::fs::remove_file(entry.path());
        }
    }

    /// Removes one that is no longer needed.
    pub fn remove(&self, content: &ContentHash) {
        let path = self.path(content);
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove an outboard");
        }
    }
}

impl Examiner {
    /// Looks at one file.
    #[must_use]
    pub fn examine(&self, path: &Path, stamp: Stamp) -> Outcome {
        match self.catalogue.get(path) {
            Ok(Some(record)) if record.stamp == stamp && !self.worth_another_look(&record) => {
                return match record.state {
                    State::Known { .. } | State::Pending { .. } => Outcome::Unchanged,
                    state => Outcome::Same(state),
                };
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(path = %path.display(), %error, "read again"),
        }
        match self.read(path, stamp) {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Decided(State::Failed { reason: reason_of(&error), again: true }),
        }
    }

    /// A file that has not changed may still have another answer now.
    fn worth_another_look(&self, record: &FileRecord) -> bool {
        match &record.state {
            State::Failed { again, .. } => *again,
            State::Skipped { reason } => reason.starts_with(NEEDS_FFMPEG) && self.analyzer.has_ffmpeg(),
            // The ledger may have been fetched anew, and an outboard may have been deleted or torn by a power cut.
            State::Known { content, index } => {
                *index >= self.ledger.size()
                    || !self.outboards.is_whole(&ContentHash(*content), record.stamp.size)
            }
            State::Pending { content } => {
                !matches!(self.catalogue.pending(&ContentHash(*content)), Ok(Some(_)))
            }
        }
    }

    fn read(&self, path: &Path, stamp: Stamp) -> io::Result<Outcome> {
        if stamp.size == 0 {
            return Ok(skipped("the file is empty"));
        }
        if stamp.size > limits::FILE_BYTES {
            return Ok(skipped("the file is larger than 4 GiB"));
        }
        let mut file = File::open(path)?;
        let mut start = Vec::new();
        (&mut file).take(SNIFF_BYTES as u64).read_to_end(&mut start)?;
        // Behind a tag with a picture, only the analyzer finds out.
        if sniff(&start) == Sniffed::Unknown && !has_audio_name(path) {
            return Ok(skipped("not audio"));
        }
        file.rewind()?;
        let content = self.outboard(&mut file, stamp.size)?;
        if walk::stamp_of(&file.metadata()?) != stamp || walk::stamp_of(&std::fs::metadata(path)?) != stamp {
            return Ok(changed());
        }
        drop(file);
        if let Some(entry) = self.ledger.by_content(&content).map_err(io::Error::other)? {
            return Ok(Outcome::Decided(State::Known { content: content.0, index: entry.index }));
        }
        let analysis = match self.analyzer.analyze(path) {
            Ok(analysis) => analysis,
            Err(error) => {
                self.outboards.remove(&content);
                return Ok(Outcome::Decided(state_of(&error)));
            }
        };
        if walk::stamp_of(&std::fs::metadata(path)?) != stamp {
            return Ok(changed());
        }
        let song = self.registrant.song(&analysis, &content, stamp.size, clock::now_ms());
        let similar = self.similar(&song).map_err(io::Error::other)?;
        let registration = match similar {
            Some(of) => Registration::of_variant(self.registrant.variant(&of, &song)),
            None => Registration::of_song(song),
        };
        let go_on = || !self.stop.load(Ordering::Relaxed);
        Ok(match self.registrant.seal(registration, &go_on) {
            Some(registration) => Outcome::Register { content, registration: Box::new(registration) },
            None => Outcome::Stopped,
        })
    }

    /// The song that the ledger would take this one for.
    fn similar(&self, song: &Song) -> Result<Option<SongId>, Fault> {
        let Some(similar) = self.ledger.check_near_duplicate(song)? else { return Ok(None) };
        Ok(self.ledger.song(similar.index)?.map(|song| song.id()))
    }

    /// Hashes the file and stores its outboard in the same pass. What the decoder then reads of the file comes from
    /// the page cache. An outboard is not synced: it is checked whenever it is used, and made again when it is wrong.
    fn outboard(&self, file: &mut File, size: u64) -> io::Result<ContentHash> {
        if size <= limits::BAO_GROUP_BYTES {
            return outboard::create(file, size, &mut io::sink());
        }
        // The name is known only after the pass.
        let fresh = self.outboards.0.join(format!("new-{:?}", std::thread::current().id()));
        let mut out = BufWriter::new(File::create(&fresh)?);
        let content = outboard::create(file, size, &mut out)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?;
        let place = self.outboards.path(&content);
        if let Some(folder) = place.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::rename(&fresh, &place)?;
        Ok(content)
    }
}

/// Beginning of the reason that goes away when a program is installed.
pub const NEEDS_FFMPEG: &str = "needs ffmpeg";

fn has_audio_name(path: &Path) -> bool {
    path.extension().and_then(|extension| extension.to_str()).is_some_and(Container::is_audio_extension)
}

fn skipped(reason: &str) -> Outcome {
    Outcome::Decided(State::Skipped { reason: reason.to_owned() })
}

fn changed() -> Outcome {
    Outcome::Decided(State::Failed {
        reason: "changed while it was read; the next scan reads it again".into(),
        again: true,
    })
}

fn state_of(error: &AnalyzeError) -> State {
    if matches!(error, AnalyzeError::NeedsFfmpeg) {
        return State::Skipped { reason: format!("{NEEDS_FFMPEG}: {error}") };
    }
    match error.class() {
        ErrorClass::Skipped => State::Skipped { reason: error.to_string() },
        ErrorClass::Failed => {
            State::Failed { reason: error.to_string(), again: matches!(error, AnalyzeError::Io(_)) }
        }
    }
}

fn reason_of(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "cannot be read: permission denied".into(),
        io::ErrorKind::NotFound => "deleted while the scan ran".into(),
        _ => format!("cannot be read: {error}"),
    }
}
