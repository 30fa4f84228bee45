//! The one entry: from a path to what the file is.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use antiphon_proto::Container;

use crate::container::sniff::{SNIFF_BYTES, Sniffed, sniff};
use crate::container::whole;
use crate::decode::{self, Decoded};
use crate::error::AnalyzeError;
use crate::fingerprint::Fingerprint;
use crate::limits::{DEFAULT_TIMEOUT, MAX_DURATION_MS, MAX_FILE_BYTES, MIN_DURATION_MS};
use crate::source::Window;
use crate::tags::{self, Cover, Tags};

/// ID3v2 tags in a row before the audio; one is usual, two happen, more are a trick.
const MAX_ID3_TAGS: u32 = 4;

/// Where the `ffmpeg` program is looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum FfmpegChoice {
    /// The first `ffmpeg` in `PATH`.
    #[default]
    Search,
    /// This program.
    Program(PathBuf),
    /// None, even if there is one: Windows Media Audio is skipped.
    Without,
}

/// Settings of an [`Analyzer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnalyzerConfig {
    /// The program that decodes Windows Media Audio.
    pub ffmpeg: FfmpegChoice,
    /// Wall-clock time for one file. A file that needs longer is reported, not waited for.
    pub timeout: Duration,
}

impl Default for AnalyzerConfig {
    fn default() -> Self {
        Self { ffmpeg: FfmpegChoice::Search, timeout: DEFAULT_TIMEOUT }
    }
}

/// What a file is.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// Kind of file, by its bytes.
    pub container: Container,
    /// Codec's short name, e.g. `vorbis`, `aac`, `pcm_s16le`.
    pub codec: String,
    /// Playing time of the whole file, in milliseconds.
    pub duration_ms: u32,
    /// In Hz.
    pub sample_rate: u32,
    /// Number of channels.
    pub channels: u16,
    /// Mean over the whole file, in 1000 bit/s.
    pub bitrate_kbps: u32,
    /// Whether the codec keeps every sample.
    pub lossless: bool,
    /// Of the first 120 seconds.
    pub fingerprint: Fingerprint,
    /// Title, artist and so on.
    pub tags: Tags,
}

/// Analyses files. Keeps no state between them, so one can be shared by all threads of a scan.
#[derive(Debug, Clone)]
pub struct Analyzer {
    ffmpeg: Option<PathBuf>,
    timeout: Duration,
}

/// A file that has been opened and recognised.
struct Opened {
    file: File,
    bytes: u64,
    container: Container,
    /// Where the container's own first byte is.
    start: u64,
    started: Instant,
    deadline: Instant,
}

impl Analyzer {
    /// Makes an analyzer; looks for `ffmpeg` once, here.
    #[must_use]
    pub fn new(config: AnalyzerConfig) -> Self {
        let ffmpeg = match config.ffmpeg {
            FfmpegChoice::Search => decode::ffmpeg::find(),
            FfmpegChoice::Program(path) => Some(path),
            FfmpegChoice::Without => None,
        };
        Self { ffmpeg, timeout: config.timeout }
    }

    /// Whether Windows Media Audio can be analysed.
    #[must_use]
    pub fn has_ffmpeg(&self) -> bool {
        self.ffmpeg.is_some()
    }

    /// Reads everything about a file. Blocks for the decoding of up to 120 s of audio (tens of milliseconds).
    ///
    /// # Errors
    /// An [`AnalyzeError`] with the reason; it never panics, whatever the file holds. Unreadable tags are no
    /// error, the file's path is used instead.
    pub fn analyze(&self, path: &Path) -> Result<Analysis, AnalyzeError> {
        let opened = self.open(path)?;
        let decoded = self.decode(path, &opened)?;
        let duration_ms = check_duration(decoded.duration_ms)?;
        let tags = opened.tags(path);
        Ok(Analysis {
            container: opened.container,
            codec: decoded.codec,
            duration_ms,
            sample_rate: decoded.sample_rate,
            channels: decoded.channels,
            bitrate_kbps: kbps(opened.bytes, duration_ms),
            lossless: decoded.lossless,
            fingerprint: decoded.fingerprint,
            tags,
        })
    }

    /// Decodes a file and gives only its fingerprint.
    ///
    /// # Errors
    /// As [`Analyzer::analyze`].
    pub fn fingerprint(&self, path: &Path) -> Result<Fingerprint, AnalyzeError> {
        let opened = self.open(path)?;
        let decoded = self.decode(path, &opened)?;
        check_duration(decoded.duration_ms)?;
        Ok(decoded.fingerprint)
    }

    /// The front cover that is embedded in a file, or its first picture; `None` if it has none or one above
    /// [`crate::limits::MAX_COVER_BYTES`].
    ///
    /// # Errors
    /// [`AnalyzeError`] if the file cannot be read or is not audio; a damaged tag is only a missing cover.
    pub fn cover(&self, path: &Path) -> Result<Option<Cover>, AnalyzeError> {
        let opened = self.open(path)?;
        let open = |start| opened.window_from(start);
        Ok(guarded(|| Ok(tags::read_cover(opened.container, &open, opened.start))).unwrap_or(None))
    }

    /// The text that is embedded in a file, with or without times; `None` if it has none or one above
    /// [`crate::limits::MAX_LYRICS_BYTES`].
    ///
    /// # Errors
    /// [`AnalyzeError`] if the file cannot be read or is not audio; a damaged tag is only a missing text.
    pub fn lyrics(&self, path: &Path) -> Result<Option<String>, AnalyzeError> {
        let opened = self.open(path)?;
        let open = |start| opened.window_from(start);
        Ok(guarded(|| Ok(tags::read_lyrics(opened.container, &open, opened.start))).unwrap_or(None))
    }

    fn open(&self, path: &Path) -> Result<Opened, AnalyzeError> {
        let started = Instant::now();
        // A named pipe would block in open(), so the kind is asked for first.
        if !std::fs::metadata(path)?.is_file() {
            return Err(AnalyzeError::NotAFile);
        }
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        let bytes = metadata.len();
        match bytes {
            _ if !metadata.is_file() => return Err(AnalyzeError::NotAFile),
            0 => return Err(AnalyzeError::Empty),
            1..=MAX_FILE_BYTES => {}
            _ => return Err(AnalyzeError::TooLarge(bytes)),
        }
        let (container, start) = recognise(&mut file, bytes)?;
        let deadline = started.checked_add(self.timeout).unwrap_or(started);
        Ok(Opened { file, bytes, container, start, started, deadline })
    }

    fn decode(&self, path: &Path, opened: &Opened) -> Result<Decoded, AnalyzeError> {
        // Before the decoder, which would make a song of any half that it can play.
        if let Some(what) = guarded(|| opened.missing())? {
            return Err(AnalyzeError::Truncated(what));
        }
        if opened.container == Container::Wma {
            let mut window = opened.window()?;
            return decode::ffmpeg::decode(self.ffmpeg.as_deref(), path, &mut window, opened.started);
        }
        let window = opened.window()?;
        guarded(|| decode::decode(opened.container, window))
    }
}

impl Opened {
    fn window(&self) -> io::Result<Window> {
        self.window_from(self.start)
    }

    /// The handles share one file offset, so only the newest window may be read.
    fn window_from(&self, start: u64) -> io::Result<Window> {
        Window::new(self.file.try_clone()?, start, self.bytes, self.deadline)
    }

    fn missing(&self) -> Result<Option<String>, AnalyzeError> {
        let mut window = self.window()?;
        let end = window.len();
        Ok(whole::missing(self.container, &mut window, end)?)
    }

    fn tags(&self, path: &Path) -> Tags {
        let open = |start| self.window_from(start);
        let found = guarded(|| Ok(tags::read(self.container, &open, self.start)));
        let mut tags = found.unwrap_or_else(|error| {
            tracing::debug!(path = %path.display(), %error, "tags cannot be read");
            Tags::default()
        });
        tags.fill_from_path(path);
        tags
    }
}

/// Finds the container and its first byte, behind any ID3v2 tags.
fn recognise(file: &mut File, bytes: u64) -> Result<(Container, u64), AnalyzeError> {
    let mut start = 0u64;
    let mut window = Vec::with_capacity(SNIFF_BYTES);
    for _ in 0..=MAX_ID3_TAGS {
        if start >= bytes {
            return Err(AnalyzeError::Truncated("nothing follows its ID3 tag".into()));
        }
        file.seek(SeekFrom::Start(start))?;
        window.clear();
        file.take(SNIFF_BYTES as u64).read_to_end(&mut window)?;
        match sniff(&window) {
            Sniffed::Audio(container, at) => return Ok((container, start + at)),
            Sniffed::Id3v2(length) => start += length,
            Sniffed::Unknown => break,
        }
    }
    Err(AnalyzeError::NotAudio)
}

/// Runs a reader of untrusted bytes; a panic in it is a damaged file, not the end of the scan.
fn guarded<T>(work: impl FnOnce() -> Result<T, AnalyzeError>) -> Result<T, AnalyzeError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(AnalyzeError::Corrupt("its decoder gave up".into())))
}

fn check_duration(duration_ms: u64) -> Result<u32, AnalyzeError> {
    match u32::try_from(duration_ms) {
        Ok(duration) if duration < MIN_DURATION_MS => Err(AnalyzeError::TooShort(duration_ms)),
        Ok(duration) if duration <= MAX_DURATION_MS => Ok(duration),
        _ => Err(AnalyzeError::TooLong(duration_ms / 1_000)),
    }
}

fn kbps(bytes: u64, duration_ms: u32) -> u32 {
    u32::try_from(bytes.saturating_mul(8) / u64::from(duration_ms.max(1))).unwrap_or(u32::MAX)
}
