//! Getting a song into a file, from the own library or from other peers.

use std::{fs, path::Path, time::Instant};

use antiphon_proto::wire::{Song, block::Body};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{
    Peer,
    choice::{Choice, GetProgress, SourceLine},
    fetching::{Fetching, Got},
    place::{self, Destination},
    select::{self, Selected},
};
use crate::{
    failure::{Failure, Kind},
    library::Located,
    system::pathhex,
};

/// Variants of one song that are looked at.
const VARIANTS: usize = 64;

/// What to get.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GetRequest {
    /// Song id, its beginning, content hash, `#index`, or words; an album or artist too.
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
    /// Peer that sent most of it; empty when it came from the own library.
    pub peer: String,
    /// Every peer that sent something.
    #[serde(default)]
    pub sources: Vec<SourceLine>,
    /// How long it took.
    pub seconds: f64,
}

/// What was got of an album or artist.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GetMany {
    /// Version of this form.
    pub schema: u32,
    /// Songs that are here now, in the order of their tracks.
    pub songs: Vec<GetReport>,
    /// The others.
    pub failed: Vec<NotGot>,
}

/// A song that was not got.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotGot {
    /// Song id.
    pub song: String,
    /// Title.
    pub title: String,
    /// Why.
    pub reason: String,
}

/// One song or several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Gotten {
    /// An album or artist.
    Many(GetMany),
    /// One song.
    One(GetReport),
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
        started: Instant,
        progress: &watch::Sender<GetProgress>,
    ) -> Self {
        self.content = got.wanted.content.to_string();
        self.bytes = got.wanted.bytes;
        self.resumed_bytes = got.resumed_bytes;
        self.peer = got.sources.first().map(|most| most.peer.clone()).unwrap_or_default();
        self.sources = got.sources;
        self.path = got.path.to_string_lossy().into_owned();
        progress.send_modify(|now| (now.verified_bytes, now.total) = (self.bytes, self.bytes));
        self.seconds = (started.elapsed().as_secs_f64() * 1_000.0).round() / 1_000.0;
        self
    }
}

impl Peer {
    /// Gets the songs that are meant: one, or all of an album or artist.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is no such song, [`Kind::Offline`] when nobody serves it now; others say what
    /// went wrong with whom. Of several songs, what failed is in the answer.
    pub async fn get(
        &self,
        request: GetRequest,
        progress: &watch::Sender<GetProgress>,
    ) -> anyhow::Result<Gotten> {
        let (ledger, index, words) = (self.ledger.clone(), self.search.clone(), request.song.clone());
        let selected =
            tokio::task::spawn_blocking(move || select::select_many(&ledger, &index, &words)).await??;
        let folder = pathhex::decode(&request.folder)?;
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        if let [one] = &selected[..] {
            let report = self.get_one(one, &folder, request.container.as_deref(), progress).await?;
            return Ok(Gotten::One(report));
        }
        let mut many = GetMany { schema: 1, ..GetMany::default() };
        for selected in &selected {
            match self.get_one(selected, &folder, request.container.as_deref(), progress).await {
                Ok(report) => many.songs.push(report),
                Err(error) => many.failed.push(NotGot {
                    song: selected.song.id().to_string(),
                    title: selected.song.title.clone(),
                    reason: format!("{error:#}"),
                }),
            }
        }
        Ok(Gotten::Many(many))
    }

    async fn get_one(
        &self,
        selected: &Selected,
        folder: &Path,
        container: Option<&str>,
        progress: &watch::Sender<GetProgress>,
    ) -> anyhow::Result<GetReport> {
        let started = Instant::now();
        let choices = self.choices(selected, container)?;
        let report = GetReport::of(&selected.song);
        let got = match self.copy_own(folder, &selected.song, &choices).await? {
            Some(got) => got,
            None => {
                let library = self.settings.share_downloads.then_some(&self.library);
                let fetching = Fetching { network: self.network.as_ref(), library, access: self.access() };
                fetching.fetch_any(folder, &selected.song, &choices, progress).await?
            }
        };
        Ok(report.finish(got, started, progress))
    }

    /// Encodings that would do, the song's first one first.
    pub(crate) fn choices(
        &self,
        selected: &Selected,
        container: Option<&str>,
    ) -> anyhow::Result<Vec<Choice>> {
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
        for choice in choices {
            let Located::Here { path, .. } = self.library.locate(&choice.wanted.content)? else { continue };
            let (folder, song, wanted) = (folder.to_owned(), song.clone(), choice.wanted);
            let work =
                tokio::task::spawn_blocking(move || match place::destination(&folder, &song, &wanted)? {
                    Destination::There(path) => Ok((path, wanted.bytes)),
                    Destination::New(_) => place::copy(&path, &folder, &song, &wanted).map(|path| (path, 0)),
                });
            let (path, resumed_bytes) = work.await??;
            return Ok(Some(Got { wanted, path, sources: Vec::new(), resumed_bytes }));
        }
        Ok(None)
    }
}
