//! Getting a song from other peers into a file: verified, resumable, under its right name.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use antiphon_p2p::{Fetch, FetchError, FetchProgress, Network};
use antiphon_proto::{
    Container, ContentHash,
    wire::{AudioMode, Block, Song, block::Body},
};
use anyhow::Context;
use libp2p::PeerId;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{
    Peer,
    select::{self, Selected},
};
use crate::{
    failure::{Failure, Kind},
    library::Located,
    system::durable,
};

/// Variants of one song that are looked at.
const VARIANTS: usize = 64;
/// File names: what file systems allow, less room for a number and `.part.obao`.
const NAME_BYTES: usize = 200;
/// Rounds over all peers before giving up: a peer may be restarting.
const ROUNDS: u32 = 3;
/// Pause between rounds.
const ROUND_PAUSE: Duration = Duration::from_secs(2);

/// What to get.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GetRequest {
    /// Song id, its beginning, content hash, `#index`, or words.
    pub song: String,
    /// Folder to put it in.
    pub folder: PathBuf,
    /// Only an encoding in this container.
    pub container: Option<String>,
}

/// What was got.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GetReport {
    /// Version of this form.
    pub schema: u32,
    /// Song id.
    pub song: String,
    /// Title.
    pub title: String,
    /// Artist.
    pub artist: String,
    /// BLAKE3 of the file.
    pub content: String,
    /// Where it is now.
    pub path: PathBuf,
    /// Bytes of the file.
    pub bytes: u64,
    /// Of these, verified and there before this call.
    pub resumed_bytes: u64,
    /// Peer that sent it; empty when it came from the own library.
    pub peer: String,
    /// How long it took.
    pub seconds: f64,
}

/// How far it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetProgress {
    /// Verified bytes.
    pub verified_bytes: u64,
    /// Bytes of the file.
    pub total: u64,
}

/// One encoding that would do.
struct Choice {
    content: ContentHash,
    container: Container,
    bytes: u64,
    index: u64,
}

impl Peer {
    /// Gets a song.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is no such song or nobody serves it; others say what went wrong with whom.
    pub async fn get(
        &self,
        request: GetRequest,
        progress: &watch::Sender<GetProgress>,
    ) -> anyhow::Result<GetReport> {
        let started = Instant::now();
        let (ledger, words) = (self.ledger.clone(), request.song.clone());
        let selected = tokio::task::spawn_blocking(move || select::select(&ledger, &words)).await??;
        let choices = self.choices(&selected, request.container.as_deref())?;
        fs::create_dir_all(&request.folder)
            .with_context(|| format!("cannot make the folder {}", request.folder.display()))?;
        let mut report = GetReport {
            schema: 1,
            song: selected.song.id().to_string(),
            title: selected.song.title.clone(),
            artist: selected.song.artist.clone(),
            ..GetReport::default()
        };
        let got = match self.copy_own(&request.folder, &selected.song, &choices).await? {
            Some(got) => got,
            None => self.fetch_any(&request.folder, &selected.song, &choices, progress).await?,
        };
        let choice = &choices[got.choice];
        report.content = choice.content.to_string();
        report.bytes = choice.bytes;
        report.resumed_bytes = got.resumed_bytes;
        report.peer = got.peer.map(|peer| peer.to_string()).unwrap_or_default();
        report.path = got.path;
        progress.send_replace(GetProgress { verified_bytes: choice.bytes, total: choice.bytes });
        report.seconds = (started.elapsed().as_secs_f64() * 1_000.0).round() / 1_000.0;
        Ok(report)
    }

    /// Encodings that would do, the song's first one first.
    fn choices(&self, selected: &Selected, container: Option<&str>) -> anyhow::Result<Vec<Choice>> {
        let song = &selected.song;
        let first = Choice {
            content: song.content()?,
            container: container_of(song.container),
            bytes: song.bytes,
            index: selected.index,
        };
        let mut choices = vec![first];
        for index in self.ledger.variants_of(&song.id())?.into_iter().take(VARIANTS) {
            let Some(bytes) = self.ledger.block(index)? else { continue };
            let Some(Body::Variant(variant)) = Block::parse(&bytes)?.body else { continue };
            choices.push(Choice {
                content: variant.content()?,
                container: container_of(variant.container),
                bytes: variant.bytes,
                index,
            });
        }
        let known: Vec<&str> = choices.iter().map(|choice| choice.container.extension()).collect();
        let message = format!("{:?} is there as {}, not as asked for", song.title, known.join(", "));
        if let Some(content) = selected.content {
            choices.retain(|choice| choice.content == content);
        }
        if let Some(wanted) = container {
            choices.retain(|choice| choice.container.extension().eq_ignore_ascii_case(wanted));
        }
        if choices.is_empty() { Err(Failure::new(Kind::NotFound, message).into()) } else { Ok(choices) }
    }

    async fn copy_own(&self, folder: &Path, song: &Song, choices: &[Choice]) -> anyhow::Result<Option<Got>> {
        for (number, choice) in choices.iter().enumerate() {
            let Located::Here { path, .. } = self.library.locate(&choice.content)? else { continue };
            let Some(destination) = destination(folder, song, choice)? else { continue };
            if let Destination::There(path) = destination {
                return Ok(Some(Got { choice: number, path, peer: None, resumed_bytes: choice.bytes }));
            }
            let Destination::New(target) = destination else { continue };
            let content = choice.content;
            let copied = tokio::task::spawn_blocking(move || copy(&path, &target, &content).map(|()| target))
                .await??;
            return Ok(Some(Got { choice: number, path: copied, peer: None, resumed_bytes: 0 }));
        }
        Ok(None)
    }

    async fn fetch_any(
        &self,
        folder: &Path,
        song: &Song,
        choices: &[Choice],
        progress: &watch::Sender<GetProgress>,
    ) -> anyhow::Result<Got> {
        let Some(network) = &self.network else {
            return Err(Failure::new(
                Kind::NoDaemon,
                "no peer is running here and none is known; start one with `antiphon up`, or name one with --peer-vps",
            )
            .into());
        };
        let mut troubles: Vec<String> = Vec::new();
        for round in 0..ROUNDS {
            if round > 0 {
                tokio::time::sleep(ROUND_PAUSE).await;
            }
            troubles.clear();
            let peers = network.peers().await;
            let mut worth_another_round = peers.is_empty();
            for (number, choice) in choices.iter().enumerate() {
                for peer in &peers {
                    match self.fetch(network, peer.peer, folder, song, choice, progress).await {
                        Ok((path, resumed_bytes)) => {
                            return Ok(Got { choice: number, path, peer: Some(peer.peer), resumed_bytes });
                        }
                        Err(Trouble::NotThere) => {}
                        Err(Trouble::Passing(text)) => {
                            worth_another_round = true;
                            troubles.push(format!("{}: {text}", peer.peer));
                        }
                        Err(Trouble::Ours(error)) => return Err(error),
                    }
                }
            }
            if !worth_another_round {
                break;
            }
        }
        let title = &song.title;
        if troubles.is_empty() {
            let message =
                format!("no connected peer serves {title:?} right now; try again when its holder is online");
            return Err(Failure::new(Kind::NotFound, message).into());
        }
        let message = format!(
            "{title:?} could not be got; what arrived is kept and the next try goes on there: {}",
            troubles.join("; ")
        );
        Err(Failure::new(Kind::Failed, message).into())
    }

    async fn fetch(
        &self,
        network: &Network,
        peer: PeerId,
        folder: &Path,
        song: &Song,
        choice: &Choice,
        progress: &watch::Sender<GetProgress>,
    ) -> Result<(PathBuf, u64), Trouble> {
        let target = match destination(folder, song, choice).map_err(Trouble::Ours)? {
            Some(Destination::There(path)) => return Ok((path, choice.bytes)),
            Some(Destination::New(path)) => path,
            None => {
                return Err(Trouble::Ours(anyhow::anyhow!(
                    "too many files of this name in {}",
                    folder.display()
                )));
            }
        };
        let (fetch_in, mut fetched_so_far) = watch::channel(FetchProgress::default());
        let fetch = Fetch {
            content: choice.content,
            size: choice.bytes,
            mode: AudioMode::Bulk,
            access_token: Vec::new(),
            part: part_of(&target, &choice.content),
        };
        let running = network.fetch(peer, fetch, fetch_in);
        tokio::pin!(running);
        let fetched = loop {
            tokio::select! {
                fetched = &mut running => break fetched,
                Ok(()) = fetched_so_far.changed() => {
                    let now = *fetched_so_far.borrow_and_update();
                    progress.send_replace(GetProgress { verified_bytes: now.verified_bytes, total: now.total });
                }
            }
        };
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(FetchError::Refused(_)) => return Err(Trouble::NotThere),
            Err(FetchError::Disk(error)) => {
                return Err(Trouble::Ours(
                    anyhow::Error::new(error).context(format!("cannot write {}", target.display())),
                ));
            }
            Err(error) => return Err(Trouble::Passing(error.to_string())),
        };
        let resumed = choice.bytes.saturating_sub(fetched.fetched_bytes);
        let (path, outboard) = (target.clone(), self.library.outboard_place(&choice.content, &target));
        tokio::task::spawn_blocking(move || fetched.finish(&path, outboard.as_deref()))
            .await
            .map_err(|error| Trouble::Ours(error.into()))?
            .map_err(|error| {
                Trouble::Ours(anyhow::Error::new(error).context("cannot put the finished file in its place"))
            })?;
        let (library, kept, content, index) =
            (self.library.clone(), target.clone(), choice.content, choice.index);
        let adopted = tokio::task::spawn_blocking(move || library.adopt(&kept, &content, index)).await;
        if let Ok(Err(error)) = adopted {
            tracing::warn!(%error, "the download is complete, but is not served on");
        }
        Ok((target, resumed))
    }
}

/// A finished download.
struct Got {
    choice: usize,
    path: PathBuf,
    peer: Option<PeerId>,
    resumed_bytes: u64,
}

/// Why one peer was no help.
enum Trouble {
    NotThere,
    Passing(String),
    Ours(anyhow::Error),
}

enum Destination {
    /// The very file is there already.
    There(PathBuf),
    /// Free, or another file's `.part` of the same content.
    New(PathBuf),
}

fn container_of(byte: u32) -> Container {
    u8::try_from(byte).ok().and_then(Container::from_byte).unwrap_or(Container::Unknown)
}

/// Where unfinished bytes of a content are kept: the content is in the name, so that two encodings never mix.
fn part_of(target: &Path, content: &ContentHash) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", &content.to_string()[..8]));
    target.with_file_name(name)
}

/// `Artist - Title.ext`, or with a number when another file has that name.
fn destination(folder: &Path, song: &Song, choice: &Choice) -> anyhow::Result<Option<Destination>> {
    const NUMBERS: u32 = 100;
    let stem = file_stem(song);
    let extension = choice.container.extension();
    for number in 1..NUMBERS {
        let name = if number == 1 {
            format!("{stem}.{extension}")
        } else {
            format!("{stem} ({number}).{extension}")
        };
        let path = folder.join(name);
        match fs::metadata(&path) {
            Err(_) => return Ok(Some(Destination::New(path))),
            Ok(meta) if meta.len() == choice.bytes && hash(&path)? == choice.content => {
                return Ok(Some(Destination::There(path)));
            }
            Ok(_) => {}
        }
    }
    Ok(None)
}

/// A name that every file system takes.
fn file_stem(song: &Song) -> String {
    let whole = select::name(&song.artist, &song.title);
    let safe: String =
        whole.chars().map(|c| if c.is_control() || "/\\:*?\"<>|".contains(c) { '_' } else { c }).collect();
    let safe = safe.trim().trim_start_matches('.').trim_end_matches('.').trim();
    let end = (0..=NAME_BYTES.min(safe.len())).rev().find(|end| safe.is_char_boundary(*end)).unwrap_or(0);
    if end == 0 { "song".into() } else { safe[..end].to_owned() }
}

fn hash(path: &Path) -> anyhow::Result<ContentHash> {
    let mut hasher = blake3::Hasher::new();
    let mut file = fs::File::open(path)?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(ContentHash(*hasher.finalize().as_bytes()));
        }
        hasher.update(&buffer[..read]);
    }
}

/// Copies a file of the library and checks the copy.
fn copy(from: &Path, target: &Path, content: &ContentHash) -> anyhow::Result<()> {
    let part = part_of(target, content);
    fs::copy(from, &part).with_context(|| format!("cannot write {}", part.display()))?;
    fs::File::open(&part)?.sync_all()?;
    if hash(&part)? != *content {
        fs::remove_file(&part)?;
        anyhow::bail!("{} changed while it was copied; scan again", from.display());
    }
    fs::rename(&part, target)?;
    durable::sync_directory(target.parent().unwrap_or_else(|| Path::new(".")))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn song(artist: &str, title: &str) -> Song {
        Song { artist: artist.into(), title: title.into(), ..Song::default() }
    }

    #[test]
    fn names_are_safe_everywhere() {
        assert_eq!(file_stem(&song("AC/DC", "T.N.T.")), "AC_DC - T.N.T");
        assert_eq!(file_stem(&song("", "../../etc/passwd")), "_.._etc_passwd");
        assert_eq!(file_stem(&song("", "...")), "song");
        assert_eq!(file_stem(&song("", "a\u{0}b\n")), "a_b_");
        let long = file_stem(&song("ö".repeat(128).as_str(), "x"));
        assert!(long.len() <= NAME_BYTES && long.starts_with('ö'));
    }

    #[test]
    fn a_taken_name_gets_a_number_and_the_same_file_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let song = song("A", "T");
        let choice =
            Choice { content: ContentHash::of(b"bytes"), container: Container::Flac, bytes: 5, index: 0 };
        let place = |expected: &str| match destination(folder.path(), &song, &choice).unwrap().unwrap() {
            Destination::New(path) => assert_eq!(path, folder.path().join(expected)),
            Destination::There(path) => panic!("{}", path.display()),
        };
        place("A - T.flac");
        fs::write(folder.path().join("A - T.flac"), b"other").unwrap();
        place("A - T (2).flac");
        fs::write(folder.path().join("A - T (2).flac"), b"bytes").unwrap();
        let found = destination(folder.path(), &song, &choice).unwrap().unwrap();
        assert!(matches!(found, Destination::There(path) if path == folder.path().join("A - T (2).flac")));
    }
}
