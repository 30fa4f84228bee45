//! Songs in another encoding, made by `ffmpeg` while they are sent, where somebody asks for it and it is there.

use std::{ffi::OsString, fs::File, io, os::fd::AsRawFd, path::PathBuf, process::Stdio, sync::Arc};

use axum::body::Body;
use futures::StreamExt;
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{io::ReaderStream, task::AbortOnDropHandle};

use super::{audio, problem::Problem};
use crate::{
    failure::{Failure, Kind},
    stream::Opened,
};

/// Encoders at the same time: each takes a core.
const ENCODERS: usize = 2;
/// Bytes that are sent at once.
const PIECE_BYTES: usize = 64 * 1024;

/// What is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// MPEG layer 3.
    Mp3,
    /// Opus in Ogg.
    Opus,
    /// AAC in ADTS frames.
    Aac,
}

impl Format {
    /// By the name of files in it.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "mp3" => Some(Self::Mp3),
            "opus" | "ogg" | "oga" => Some(Self::Opus),
            "aac" => Some(Self::Aac),
            _ => None,
        }
    }

    /// What files in it are called.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Mp3 => "mp3",
            Self::Opus => "opus",
            Self::Aac => "aac",
        }
    }

    const fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Mp3 => ["-c:a", "libmp3lame", "-f", "mp3"],
            Self::Opus => ["-c:a", "libopus", "-f", "ogg"],
            Self::Aac => ["-c:a", "aac", "-f", "adts"],
        }
    }
}

/// Makes other encodings. A cheap handle.
#[derive(Debug, Clone)]
pub struct Transcoder {
    ffmpeg: Option<PathBuf>,
    places: Arc<Semaphore>,
}

/// Where a program is.
fn in_path(name: &str) -> Option<PathBuf> {
    let path: OsString = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

impl Transcoder {
    /// With this `ffmpeg`, or the one in the path, or none.
    #[must_use]
    pub fn new(ffmpeg: Option<PathBuf>) -> Self {
        Self { ffmpeg: ffmpeg.or_else(|| in_path("ffmpeg")), places: Arc::new(Semaphore::new(ENCODERS)) }
    }

    /// Whether there is an `ffmpeg`.
    #[must_use]
    pub const fn works(&self) -> bool {
        self.ffmpeg.is_some()
    }

    /// A song from `offset_seconds` on, at so many thousand bits a second.
    ///
    /// # Errors
    /// There is no `ffmpeg`, or too much to do already, or the song does not come.
    pub async fn encode(
        &self,
        opened: &Opened,
        format: Format,
        kbits: u32,
        offset_seconds: u32,
    ) -> Result<Body, Problem> {
        let Some(ffmpeg) = &self.ffmpeg else {
            let message = "there is no ffmpeg on this machine, which would make another encoding; install it, or ask for the \
                           song as it is";
            return Err(Failure::new(Kind::Failed, message).into());
        };
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            let message =
                format!("{ENCODERS} songs are being encoded at once already; ask for the song as it is");
            return Err(Problem::new(axum::http::StatusCode::SERVICE_UNAVAILABLE, message));
        };
        let reader = opened.read_from(0).await?;
        let whole = opened.file();
        let mut command = Command::new(ffmpeg);
        command.args(["-hide_banner", "-loglevel", "error"]);
        if offset_seconds > 0 {
            command.args(["-ss", &offset_seconds.to_string()]);
        }
        command.args(["-i", if whole.is_some() { "/dev/stdin" } else { "pipe:0" }]);
        command
            .args(["-map", "0:a:0", "-vn", "-b:a", &format!("{kbits}k")])
            .args(format.arguments())
            .arg("pipe:1");
        command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        // A place of its own in the file for each encoder: some containers have to be read at their end first.
        let opened = whole.and_then(|file| File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).ok());
        let piped = opened.is_none();
        command.stdin(opened.map_or_else(Stdio::piped, Stdio::from));
        let failed = |error: io::Error| {
            Problem::from(Failure::new(Kind::Failed, format!("ffmpeg cannot be started: {error}")))
        };
        let mut child = command.spawn().map_err(failed)?;
        let feeding = child.stdin.take().filter(|_| piped).map(|mut stdin| {
            let mut reader = reader;
            AbortOnDropHandle::new(tokio::spawn(async move {
                while let Ok(Some(bytes)) = reader.next().await {
                    if stdin.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
            }))
        });
        let Some(stdout) = child.stdout.take() else { return Err(failed(io::ErrorKind::BrokenPipe.into())) };
        let held = Held { _child: child, _feeding: feeding, _place: place };
        let stream = ReaderStream::with_capacity(stdout, PIECE_BYTES);
        Ok(audio::pieces(stream.map(move |piece| {
            let _ = &held;
            piece
        })))
    }
}

/// What ends with the answer.
struct Held {
    _child: Child,
    _feeding: Option<AbortOnDropHandle<()>>,
    _place: OwnedSemaphorePermit,
}
