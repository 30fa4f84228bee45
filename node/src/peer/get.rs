//! Getting a song from other peers into a file: verified, resumable, under its right name.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use antiphon_p2p::{AudioRefusal, Fetch, FetchError, FetchProgress, Fetched, Network, partial::PartialError};
use antiphon_proto::{
    Container, ContentHash,
    wire::{AudioMode, Song, block::Body},
};
use anyhow::Context;
use libp2p::PeerId;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{
    Peer,
    place::{self, Destination, Wanted},
    select::{self, Selected},
};
use crate::{
    failure::{Failure, Kind},
    library::{Library, Located},
    system::pathhex,
};

/// Variants of one song that are looked at.
const VARIANTS: usize = 64;
/// Rounds over all peers before giving up: a peer may be restarting.
const ROUNDS: u32 = 3;
/// The same while a peer has it but is busy: ten minutes.
const BUSY_ROUNDS: u32 = 300;
/// Pause between rounds.
const ROUND_PAUSE: Duration = Duration::from_secs(2);

/// What to get.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GetRequest {
    /// Song id, its beginning, content hash, `#index`, or words.
    pub song: String,
    /// Folder to put it in: bytes of an absolute path in hexadecimal.
    pub folder: String,
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
    /// Where it is now; bytes that are not UTF-8 are replaced.
    pub path: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// Of these, verified and there before this call.
    pub resumed_bytes: u64,
    /// Peer that sent it; empty when it came from the own library.
    pub peer: String,
    /// How long it took.
    pub seconds: f64,
}

impl GetReport {
    /// What is known before anything was got.
    pub(crate) fn of(song: &Song) -> Self {
        Self {
            schema: 1,
            song: song.id().to_string(),
            title: song.title.clone(),
            artist: song.artist.clone(),
            ..Self::default()
        }
    }

    /// What is known when it is here.
    pub(crate) fn finish(
        mut self,
        got: Got,
        choices: &[Choice],
        started: Instant,
        progress: &watch::Sender<GetProgress>,
    ) -> Self {
        if let Some(choice) = choices.get(got.choice) {
            self.content = choice.wanted.content.to_string();
            self.bytes = choice.wanted.bytes;
        }
        self.resumed_bytes = got.resumed_bytes;
        self.peer = got.peer.map(|peer| peer.to_string()).unwrap_or_default();
        self.path = got.path.to_string_lossy().into_owned();
        progress.send_replace(GetProgress { verified_bytes: self.bytes, total: self.bytes });
        self.seconds = (started.elapsed().as_secs_f64() * 1_000.0).round() / 1_000.0;
        self
    }
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
pub(crate) struct Choice {
    wanted: Wanted,
    index: u64,
}

impl Choice {
    /// The file of a block.
    pub(crate) fn new(content: ContentHash, container: u32, bytes: u64, index: u64) -> Self {
        Self { wanted: Wanted { content, container: container_of(container), bytes }, index }
    }

    /// Whether it is in this container.
    pub(crate) fn is_in(&self, container: &str) -> bool {
        self.extension().eq_ignore_ascii_case(container)
    }

    /// What files of its container are called.
    pub(crate) fn extension(&self) -> &'static str {
        self.wanted.container.extension()
    }
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
        let (ledger, search, words) = (self.ledger.clone(), self.search.clone(), request.song.clone());
        let selected =
            tokio::task::spawn_blocking(move || select::select(&ledger, &search, &words)).await??;
        let choices = self.choices(&selected, request.container.as_deref())?;
        let folder = pathhex::decode(&request.folder)?;
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let report = GetReport::of(&selected.song);
        let got = match self.copy_own(&folder, &selected.song, &choices).await? {
            Some(got) => got,
            None => {
                let fetching = Fetching { network: self.network.as_ref(), library: Some(&self.library) };
                fetching.fetch_any(&folder, &selected.song, &choices, progress).await?
            }
        };
        Ok(report.finish(got, &choices, started, progress))
    }

    /// Encodings that would do, the song's first one first.
    fn choices(&self, selected: &Selected, container: Option<&str>) -> anyhow::Result<Vec<Choice>> {
        let song = &selected.song;
        let mut choices = vec![Choice::new(song.content()?, song.container, song.bytes, selected.index)];
        for index in self.ledger.variants_of(&song.id())?.into_iter().take(VARIANTS) {
            let body = self.ledger.parsed(index)?.and_then(|block| block.body);
            let Some(Body::Variant(variant)) = body else { continue };
            choices.push(Choice::new(variant.content()?, variant.container, variant.bytes, index));
        }
        let known: Vec<&str> = choices.iter().map(Choice::extension).collect();
        let message = format!("{:?} is there as {}, not as asked for", song.title, known.join(", "));
        if let Some(content) = selected.content {
            choices.retain(|choice| choice.wanted.content == content);
        }
        if let Some(wanted) = container {
            choices.retain(|choice| choice.is_in(wanted));
        }
        if choices.is_empty() { Err(Failure::new(Kind::NotFound, message).into()) } else { Ok(choices) }
    }

    async fn copy_own(&self, folder: &Path, song: &Song, choices: &[Choice]) -> anyhow::Result<Option<Got>> {
        for (number, choice) in choices.iter().enumerate() {
            let Located::Here { path, .. } = self.library.locate(&choice.wanted.content)? else { continue };
            let (folder, song, wanted) = (folder.to_owned(), song.clone(), choice.wanted);
            let work =
                tokio::task::spawn_blocking(move || match place::destination(&folder, &song, &wanted)? {
                    Destination::There(path) => Ok((path, wanted.bytes)),
                    Destination::New(_) => place::copy(&path, &folder, &song, &wanted).map(|path| (path, 0)),
                });
            let (path, resumed_bytes) = work.await??;
            return Ok(Some(Got { choice: number, path, peer: None, resumed_bytes }));
        }
        Ok(None)
    }
}

/// Getting from other peers.
pub(crate) struct Fetching<'p> {
    /// Where they are.
    pub(crate) network: Option<&'p Network>,
    /// What is got is served on from here.
    pub(crate) library: Option<&'p Arc<Library>>,
}

impl Fetching<'_> {
    /// Gets the first of these encodings that somebody has, into a folder.
    pub(crate) async fn fetch_any(
        &self,
        folder: &Path,
        song: &Song,
        choices: &[Choice],
        progress: &watch::Sender<GetProgress>,
    ) -> anyhow::Result<Got> {
        let Some(network) = self.network else {
            return Err(Failure::new(
                Kind::NoDaemon,
                "no peer is running here and none is known; start one with `antiphon up`, or name one with --peer-vps",
            )
            .into());
        };
        let mut troubles: Vec<String> = Vec::new();
        let mut rounds = 0;
        let mut busy = false;
        // Who is busy will have time; who fails may not get better.
        while rounds < ROUNDS || (busy && rounds < BUSY_ROUNDS) {
            rounds += 1;
            busy = false;
            if rounds > 1 {
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
                        Err(Trouble::Busy) => busy = true,
                        Err(Trouble::Passing(text)) => {
                            worth_another_round = true;
                            troubles.push(format!("{}: {text}", peer.peer));
                        }
                        Err(Trouble::Ours(error)) => return Err(error),
                    }
                }
            }
            if !worth_another_round && !busy {
                break;
            }
        }
        let title = &song.title;
        if busy {
            let message = format!("whoever has {title:?} is busy; try again later");
            return Err(Failure::new(Kind::Failed, message).into());
        }
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
        let wanted = choice.wanted;
        if let Destination::There(path) = place::destination(folder, song, &wanted).map_err(Trouble::Ours)? {
            return Ok((path, wanted.bytes));
        }
        let (fetch_in, mut fetched_so_far) = watch::channel(FetchProgress::default());
        let part = place::part(folder, song, &wanted);
        let fetch = Fetch {
            content: wanted.content,
            size: wanted.bytes,
            mode: AudioMode::Bulk,
            access_token: Vec::new(),
            part: part.clone(),
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
            Err(FetchError::Refused(AudioRefusal::NotFound | AudioRefusal::Gone)) => {
                return Err(Trouble::NotThere);
            }
            Err(FetchError::Disk(PartialError::InUse { .. })) => return Err(Trouble::Busy),
            Err(FetchError::Refused(AudioRefusal::Busy)) => return Err(Trouble::Busy),
            Err(FetchError::Disk(error)) => {
                let error = anyhow::Error::new(error).context(format!("cannot write {}", part.display()));
                return Err(Trouble::Ours(error));
            }
            Err(error) => return Err(Trouble::Passing(error.to_string())),
        };
        let resumed = wanted.bytes.saturating_sub(fetched.fetched_bytes);
        let (library, folder, song, index) =
            (self.library.cloned(), folder.to_owned(), song.clone(), choice.index);
        let kept = tokio::task::spawn_blocking(move || {
            keep(library.as_deref(), fetched, &folder, &song, &wanted, index)
        });
        let path = kept.await.map_err(|error| Trouble::Ours(error.into()))?.map_err(Trouble::Ours)?;
        Ok((path, resumed))
    }
}

/// Gives a complete download its name and serves it from now on.
fn keep(
    library: Option<&Library>,
    mut fetched: Fetched,
    folder: &Path,
    song: &Song,
    wanted: &Wanted,
    index: u64,
) -> anyhow::Result<PathBuf> {
    let path = loop {
        match place::destination(folder, song, wanted)? {
            Destination::There(path) => {
                fetched.into_partial().discard()?;
                break path;
            }
            Destination::New(path) => {
                let outboard = library.and_then(|library| library.outboard_place(&wanted.content, &path));
                match fetched.finish(&path, outboard.as_deref()) {
                    Ok(()) => break path,
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => {
                        return Err(error).with_context(|| format!("cannot write {}", path.display()));
                    }
                }
            }
        }
    };
    if let Some(Err(error)) = library.map(|library| library.adopt(&path, &wanted.content, index)) {
        tracing::warn!(%error, "the download is complete, but is not served on");
    }
    Ok(path)
}

/// A finished download.
pub(crate) struct Got {
    choice: usize,
    path: PathBuf,
    peer: Option<PeerId>,
    resumed_bytes: u64,
}

/// Why one peer was no help.
enum Trouble {
    NotThere,
    /// It has too much to do, or another command here is at it.
    Busy,
    Passing(String),
    Ours(anyhow::Error),
}

fn container_of(byte: u32) -> Container {
    u8::try_from(byte).ok().and_then(Container::from_byte).unwrap_or(Container::Unknown)
}
