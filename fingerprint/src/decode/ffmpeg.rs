//! Windows Media Audio, decoded by an `ffmpeg` program through a pipe.
//!
//! The program gets the path as one argument behind `file:`, so that no name is taken for an option or a protocol;
//! it may open nothing but files and pipes; it has a deadline, after which it is killed; it is always waited for.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

use super::{Decoded, finish, timed_out};
use crate::audio::{Collector, Precision, Progress};
use crate::container::asf::{self, AsfAudio};
use crate::error::AnalyzeError;
use crate::source::Window;

/// Seconds that are asked for: a little more than needed, the collector counts.
const SECONDS: &str = "125";
/// Frames read from the pipe at once.
const CHUNK_FRAMES: usize = 8 * 1024;
/// Chunks on their way between the pipe's thread and the collector.
const QUEUE: usize = 4;
/// What is kept of the program's complaints.
const MAX_STDERR: u64 = 2_048;

/// The first `ffmpeg` in `PATH`.
pub(crate) fn find() -> Option<PathBuf> {
    let name = format!("ffmpeg{}", std::env::consts::EXE_SUFFIX);
    std::env::split_paths(&std::env::var_os("PATH")?)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(&name))
        .find(|program| is_executable(program))
}

#[cfg(unix)]
fn is_executable(program: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(program).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(program: &Path) -> bool {
    program.is_file()
}

/// Decodes the file at `path`, whose header is read from `window`.
pub(crate) fn decode(
    program: Option<&Path>,
    path: &Path,
    window: &mut Window,
    started: Instant,
) -> Result<Decoded, AnalyzeError> {
    let deadline = window.deadline();
    let header = asf::read(window).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => AnalyzeError::Corrupt("no ASF header".into()),
        _ => error.into(),
    })?;
    if header.encrypted {
        return Err(AnalyzeError::Encrypted("Windows Media DRM"));
    }
    if header.video {
        return Err(AnalyzeError::Unsupported("a video file".into()));
    }
    let audio = header.audio.ok_or_else(|| AnalyzeError::Corrupt("an ASF file without audio".into()))?;
    let program = program.ok_or(AnalyzeError::NeedsFfmpeg)?;
    let collector = Collector::new(audio.sample_rate, usize::from(audio.channels), Precision::Float)?;
    let mut child = command(program, path, audio)
        .spawn()
        .map_err(|error| AnalyzeError::Ffmpeg(format!("{} cannot be started: {error}", program.display())))?;
    let result = run(&mut child, collector, started, deadline);
    // Killing a child that has ended is no error; waiting for it leaves no zombie.
    let _ = child.kill();
    let _ = child.wait();
    let (collector, complaint) = result?;
    let damage = (!complaint.is_empty()).then_some(AnalyzeError::Ffmpeg(complaint));
    let fingerprint = finish(collector, audio.sample_rate, header.duration_ms, damage)?;
    Ok(Decoded {
        codec: audio.codec(),
        duration_ms: header.duration_ms,
        sample_rate: audio.sample_rate,
        channels: audio.channels,
        lossless: audio.lossless(),
        fingerprint,
    })
}

fn command(program: &Path, path: &Path, audio: AsfAudio) -> Command {
    let mut input = OsString::from("file:");
    input.push(path);
    let mut command = Command::new(program);
    command
        .args([
            "-nostdin",
            "-hide_banner",
            "-v",
            "error",
            "-protocol_whitelist",
            "file,pipe",
            "-f",
            "asf",
            "-i",
        ])
        .arg(input)
        .args(["-map", "0:a:0", "-t", SECONDS, "-ar", &audio.sample_rate.to_string()])
        .args(["-ac", &audio.channels.to_string(), "-c:a", "pcm_f32le", "-f", "f32le", "pipe:1"])
        .env_remove("FFREPORT")
        .env("AV_LOG_FORCE_NOCOLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Feeds the collector from the pipe. Gives it back with what the program complained about.
fn run(
    child: &mut Child,
    mut collector: Collector,
    started: Instant,
    deadline: Instant,
) -> Result<(Collector, String), AnalyzeError> {
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let chunk_bytes = CHUNK_FRAMES * collector.channels() * size_of::<f32>();
    thread::scope(|scope| {
        let (send, receive) = sync_channel(QUEUE);
        scope.spawn(move || stdout.map(|pipe| pump(pipe, chunk_bytes, &send)));
        let complaint = scope.spawn(move || {
            let mut text = Vec::new();
            if let Some(mut pipe) = stderr {
                let _ = pipe.by_ref().take(MAX_STDERR).read_to_end(&mut text);
                let _ = io::copy(&mut pipe, &mut io::sink());
            }
            String::from_utf8_lossy(&text).trim().to_owned()
        });
        let outcome = collect(&receive, &mut collector, deadline);
        // With the pipe's reader gone or the child dead, both threads come to their end.
        drop(receive);
        let _ = child.kill();
        let complaint = complaint.join().unwrap_or_default();
        match outcome {
            Outcome::Late => Err(timed_out(started, deadline)),
            // What a killed program says of its closed pipe does not matter.
            Outcome::Enough => Ok((collector, String::new())),
            Outcome::Ended => Ok((collector, complaint)),
        }
    })
}

enum Outcome {
    Enough,
    Ended,
    Late,
}

fn collect(receive: &Receiver<Vec<u8>>, collector: &mut Collector, deadline: Instant) -> Outcome {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match receive.recv_timeout(left) {
            Ok(bytes) => {
                let (words, _) = bytes.as_chunks::<4>();
                let samples: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
                if collector.push_interleaved(&samples) == Progress::Done {
                    return Outcome::Enough;
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Outcome::Ended,
            Err(RecvTimeoutError::Timeout) => return Outcome::Late,
        }
    }
}

/// Reads the pipe to its end, in chunks of whole frames.
fn pump(mut pipe: ChildStdout, chunk_bytes: usize, send: &SyncSender<Vec<u8>>) {
    loop {
        let mut chunk = Vec::with_capacity(chunk_bytes);
        let got = pipe.by_ref().take(chunk_bytes as u64).read_to_end(&mut chunk);
        if got.is_err() || chunk.is_empty() || send.send(chunk).is_err() {
            return;
        }
    }
}
