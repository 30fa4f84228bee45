//! Getting a file from whoever has it: verified, resumable, from many peers at once.

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use antiphon_p2p::{
    AudioRefusal, Download, DownloadError, DownloadProgress, Downloaded, FetchError, Listener, Network,
    RequestError, SourceReport, partial::PartialError,
};
use antiphon_proto::wire::Song;
use anyhow::Context;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep_until},
};

use super::{
    choice::{Choice, GetProgress, SourceLine},
    place::{self, Destination, Wanted},
    sources,
};
use crate::{
    failure::{Failure, Kind},
    library::Library,
    royalty::access::Access,
    system::clock,
};

/// Rounds over all encodings before giving up: a peer may be restarting.
const ROUNDS: u32 = 3;
/// The same while another download here writes the file: ten minutes.
const BUSY_ROUNDS: u32 = 300;
/// A download that brings nothing for so long is given up: whoever has the file is busy.
const NOTHING_FOR: Duration = Duration::from_secs(300);
/// Pause between rounds.
const ROUND_PAUSE: Duration = Duration::from_secs(2);
/// How long to wait for a first connection when those who have it are online and none of them is connected: a dial, and
/// the ways around one that fails.
const REACHED_WITHIN: Duration = Duration::from_secs(20);
/// How long a download that has begun waits for another source when all have left.
const PATIENCE: Duration = Duration::from_secs(10);

/// Getting from other peers.
pub(crate) struct Fetching<'p> {
    /// Where they are.
    pub(crate) network: Option<&'p Network>,
    /// What is got is served on from here.
    pub(crate) library: Option<&'p Arc<Library>>,
    /// Shows the right to hear; none: only what everybody may hear is got.
    pub(crate) access: Option<&'p Access>,
}

/// A finished download.
pub(crate) struct Got {
    /// Which encoding.
    pub(super) wanted: Wanted,
    /// Where it is.
    pub(super) path: PathBuf,
    /// Who sent it, most first; nobody when it was here.
    pub(super) sources: Vec<SourceLine>,
    /// Bytes that were there before.
    pub(super) resumed_bytes: u64,
}

impl Got {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn sources(&self) -> &[SourceLine] {
        &self.sources
    }
}

/// Why nobody was a help.
enum Trouble {
    NotThere,
    /// Whoever has it has too much to do, or another command here is at it.
    Busy,
    /// The song's terms, as whoever has it says.
    Forbidden(String),
    /// Nobody who has it can be connected with.
    Unreachable(String),
    Passing(String),
    Ours(anyhow::Error),
}

impl Fetching<'_> {
    /// Gets one of these encodings into a folder: one that peers are known to serve if there is such, the first before the
    /// others.
    pub(crate) async fn fetch_any(
        &self,
        folder: &Path,
        song: &Song,
        choices: &[Choice],
        progress: &watch::Sender<GetProgress>,
    ) -> anyhow::Result<Got> {
        let network = self.network()?;
        let mut troubles = Troubles::default();
        let (mut rounds, mut busy) = (0, false);
        let until = Instant::now() + REACHED_WITHIN;
        // Who is busy will have time; who fails may not get better.
        while rounds < ROUNDS || (busy && rounds < BUSY_ROUNDS) {
            rounds += 1;
            if rounds > 1 {
                tokio::time::sleep(ROUND_PAUSE).await;
            }
            busy = false;
            troubles = Troubles::default();
            for choice in self.in_order(choices).await {
                match self.fetch(folder, song, choice, None, until, progress).await {
                    Ok(got) => return Ok(got),
                    Err(Trouble::NotThere) => {}
                    Err(Trouble::Busy) => busy = true,
                    Err(Trouble::Forbidden(text)) => troubles.forbidden.push(text),
                    Err(Trouble::Unreachable(text)) => troubles.unreachable.push(text),
                    Err(Trouble::Passing(text)) => troubles.passing.push(text),
                    Err(Trouble::Ours(error)) => return Err(error),
                }
            }
            // Asking again changes nothing.
            if !troubles.forbidden.is_empty() {
                break;
            }
            let settled = troubles.passing.is_empty() && !busy && !network.peers().await.is_empty();
            if settled && (rounds > 1 || !troubles.unreachable.is_empty() || !self.hears_of(choices).await) {
                break;
            }
        }
        Err(give_up(song, busy, &troubles).into())
    }

    /// Whether somebody is known to serve one of these encodings, after a moment at most.
    pub(crate) async fn hears_of(&self, choices: &[Choice]) -> bool {
        let indexes: Vec<u64> = choices.iter().map(|choice| choice.index).collect();
        match self.network {
            Some(network) => sources::hear_of_one(network, &indexes).await,
            None => false,
        }
    }

    /// Encodings in the order in which they are worth trying: those that somebody connected is known to serve first, then
    /// those that somebody online does, else as they come.
    pub(crate) async fn in_order<'c>(&self, choices: &'c [Choice]) -> Vec<&'c Choice> {
        let Some(network) = self.network else { return choices.iter().collect() };
        let indexes: Vec<u64> = choices.iter().map(|choice| choice.index).collect();
        let nearness = sources::nearness(network, &indexes).await;
        let mut ordered: Vec<(u8, &Choice)> = nearness.into_iter().zip(choices).collect();
        ordered.sort_by_key(|(nearness, _)| *nearness);
        ordered.into_iter().map(|(_, choice)| choice).collect()
    }

    /// These encodings one after the other, for whoever hears the first one that comes.
    pub(crate) async fn tries<'c>(&self, choices: &'c [Choice]) -> Tries<'c> {
        let ordered = self.in_order(choices).await.into();
        Tries { choices, ordered, again: true, last: None }
    }

    fn network(&self) -> anyhow::Result<&Network> {
        let none = "no peer is running here and none is known; start one with `antiphon up`, or name one with --peer-vps";
        Ok(self.network.ok_or_else(|| Failure::new(Kind::NoDaemon, none))?)
    }

    /// Gets one encoding while somebody listens to it. Where it goes in the end is as for [`Self::fetch_any`].
    pub(crate) async fn listen(
        &self,
        folder: &Path,
        song: &Song,
        choice: &Choice,
        hand_over: oneshot::Sender<Listener>,
        progress: &watch::Sender<GetProgress>,
    ) -> anyhow::Result<Got> {
        let until = Instant::now() + REACHED_WITHIN;
        let fetched = self.fetch(folder, song, choice, Some(hand_over), until, progress).await;
        fetched.map_err(|trouble| {
            let (mut troubles, mut busy) = (Troubles::default(), false);
            match trouble {
                Trouble::Ours(error) => return error,
                Trouble::NotThere => {}
                Trouble::Busy => busy = true,
                Trouble::Forbidden(text) => troubles.forbidden.push(text),
                Trouble::Unreachable(text) => troubles.unreachable.push(text),
                Trouble::Passing(text) => troubles.passing.push(text),
            }
            give_up(song, busy, &troubles).into()
        })
    }

    /// `until`: how long to wait for a connection with somebody who has it.
    async fn fetch(
        &self,
        folder: &Path,
        song: &Song,
        choice: &Choice,
        hand_over: Option<oneshot::Sender<Listener>>,
        until: Instant,
        progress: &watch::Sender<GetProgress>,
    ) -> Result<Got, Trouble> {
        let (network, wanted) = (self.network().map_err(Trouble::Ours)?, choice.wanted);
        if let Destination::There(path) = place::destination(folder, song, &wanted).map_err(Trouble::Ours)? {
            return Ok(Got { wanted, path, sources: Vec::new(), resumed_bytes: wanted.bytes });
        }
        sources::wait_for_one(network, choice.index, until).await.map_err(Trouble::Unreachable)?;
        let part = place::part(folder, song, &wanted);
        let mut download = Download::new(wanted.content, wanted.bytes, part.clone());
        if let Some(access) = self.access {
            download.access_token = access.token(&song.id(), clock::now_ms());
        }
        download.patience = if sources::count(network, choice.index) > 0 { PATIENCE } else { Duration::ZERO };
        if let Some(hand_over) = hand_over {
            let listener = download.listen(Duration::from_millis(song.duration_ms.into()));
            let _ = hand_over.send(listener);
        }
        let feed = sources::feed(network, choice.index).await;
        let downloaded = with_progress(network, download, feed, progress).await;
        let downloaded = downloaded.map_err(|error| trouble(error, &part))?.ok_or(Trouble::Busy)?;
        let resumed_bytes = wanted.bytes.saturating_sub(downloaded.fetched_bytes);
        let sources = brought(&downloaded.sources);
        let (library, folder, song, index) =
            (self.library.cloned(), folder.to_owned(), song.clone(), choice.index);
        let kept = tokio::task::spawn_blocking(move || {
            keep(library.as_deref(), downloaded, &folder, &song, &wanted, index)
        });
        let path = kept.await.map_err(|error| Trouble::Ours(error.into()))?.map_err(Trouble::Ours)?;
        Ok(Got { wanted, path, sources, resumed_bytes })
    }
}

/// What went wrong with whom, for people.
#[derive(Debug, Default)]
struct Troubles {
    /// Of those who say that it is not allowed.
    forbidden: Vec<String>,
    /// Of those who were asked.
    passing: Vec<String>,
    /// Of those who could not be.
    unreachable: Vec<String>,
}

/// Why nobody was a help, for people.
/// Encodings that are still to be tried.
pub(crate) struct Tries<'c> {
    choices: &'c [Choice],
    ordered: VecDeque<&'c Choice>,
    /// Whether it may begin anew when somebody is heard of.
    again: bool,
    last: Option<anyhow::Error>,
}

impl<'c> Tries<'c> {
    /// The next one.
    pub(crate) fn next(&mut self) -> Option<&'c Choice> {
        self.ordered.pop_front()
    }

    /// This one did not come. Another one can be tried only where nobody serves it, and while nothing was heard.
    ///
    /// # Errors
    /// What went wrong, when no other can.
    pub(crate) async fn failed(
        &mut self,
        fetching: &Fetching<'_>,
        error: anyhow::Error,
        heard: bool,
    ) -> anyhow::Result<()> {
        if heard || Failure::of(&error).kind != Kind::Offline {
            return Err(error);
        }
        self.last = Some(error);
        // A peer that has just joined may not have heard yet who has it.
        if self.ordered.is_empty() && std::mem::take(&mut self.again) && fetching.hears_of(self.choices).await
        {
            self.ordered = fetching.in_order(self.choices).await.into();
        }
        Ok(())
    }

    /// Why none came.
    pub(crate) fn error(self) -> anyhow::Error {
        self.last.unwrap_or_else(|| Failure::new(Kind::Offline, "there is nothing to play").into())
    }
}

fn give_up(song: &Song, busy: bool, troubles: &Troubles) -> Failure {
    let title = &song.title;
    if !troubles.forbidden.is_empty() {
        let message = format!("{title:?} may not be heard: {}", troubles.forbidden.join("; "));
        return Failure::new(Kind::Refused, message);
    }
    if busy {
        return Failure::new(Kind::Offline, format!("whoever has {title:?} is busy; try again later"));
    }
    if troubles.passing.is_empty() && !troubles.unreachable.is_empty() {
        let why = troubles.unreachable.join("; ");
        let message = format!("{title:?} is online, but nobody who serves it can be reached: {why}");
        return Failure::new(Kind::Offline, message);
    }
    if troubles.passing.is_empty() {
        let message =
            format!("no connected peer serves {title:?} right now; try again when its holder is online");
        return Failure::new(Kind::Offline, message);
    }
    let message = format!(
        "{title:?} could not be got; what arrived is kept and the next try goes on there: {}",
        troubles.passing.join("; ")
    );
    Failure::new(Kind::Failed, message)
}

/// Downloads, and passes on how far it is; none when nothing came for too long.
async fn with_progress(
    network: &Network,
    download: Download,
    feed: watch::Receiver<Vec<libp2p::PeerId>>,
    progress: &watch::Sender<GetProgress>,
) -> Result<Option<Downloaded>, DownloadError> {
    let (send, mut so_far) = watch::channel(DownloadProgress::default());
    let running = network.download(download, feed, send);
    tokio::pin!(running);
    let (mut seen, mut give_up) = (0, Instant::now() + NOTHING_FOR);
    loop {
        tokio::select! {
            downloaded = &mut running => return downloaded.map(Some),
            // Whoever has it is busy all the time.
            () = sleep_until(give_up) => return Ok(None),
            Ok(()) = so_far.changed() => {
                let now = so_far.borrow_and_update().clone();
                if now.verified_bytes > seen {
                    (seen, give_up) = (now.verified_bytes, Instant::now() + NOTHING_FOR);
                }
                progress.send_replace(GetProgress {
                    verified_bytes: now.verified_bytes,
                    total: now.total,
                    sources: now.sources.iter().map(|s| SourceLine::of(&s.peer, s.bytes)).collect(),
                });
            }
        }
    }
}

fn brought(sources: &[SourceReport]) -> Vec<SourceLine> {
    let mut brought: Vec<SourceLine> = sources
        .iter()
        .filter(|source| source.bytes > 0)
        .map(|source| SourceLine::of(&source.peer, source.bytes))
        .collect();
    brought.sort_by_key(|source| std::cmp::Reverse(source.bytes));
    brought
}

/// What those say who do not serve it to this listener, each thing once.
fn forbidden(sources: &[SourceReport]) -> Option<String> {
    let mut said: Vec<String> = Vec::new();
    for source in sources {
        if let Some(FetchError::Refused(refusal @ AudioRefusal::Forbidden { .. })) = &source.failure {
            let text = refusal.to_string();
            if !said.contains(&text) {
                said.push(text);
            }
        }
    }
    (!said.is_empty()).then(|| said.join("; "))
}

fn trouble(error: DownloadError, part: &Path) -> Trouble {
    match error {
        DownloadError::NoSources { sources, verified, total } => {
            let absent = |failure: &FetchError| {
                matches!(
                    failure,
                    FetchError::Refused(AudioRefusal::NotFound | AudioRefusal::Gone)
                        | FetchError::Request(RequestError::Unsupported(_))
                )
            };
            if let Some(text) = forbidden(&sources) {
                return Trouble::Forbidden(text);
            }
            let failures: Vec<(String, &FetchError)> = sources
                .iter()
                .filter_map(|source| Some((source.peer.to_string(), source.failure.as_ref()?)))
                .filter(|(_, failure)| !absent(failure))
                .collect();
            if failures.iter().any(|(_, failure)| matches!(failure, FetchError::Refused(AudioRefusal::Busy)))
            {
                return Trouble::Busy;
            }
            if failures.is_empty() {
                return Trouble::NotThere;
            }
            let lines: Vec<String> =
                failures.iter().map(|(peer, failure)| format!("{peer}: {failure}")).collect();
            Trouble::Passing(format!("{verified} of {total} bytes; {}", lines.join("; ")))
        }
        DownloadError::Disk(PartialError::InUse { .. }) => Trouble::Busy,
        DownloadError::Disk(error) => {
            Trouble::Ours(anyhow::Error::new(error).context(format!("cannot write {}", part.display())))
        }
        error @ (DownloadError::Shutdown | DownloadError::Internal) => Trouble::Passing(error.to_string()),
    }
}

/// Gives a complete download its name and serves it from now on.
fn keep(
    library: Option<&Library>,
    mut downloaded: Downloaded,
    folder: &Path,
    song: &Song,
    wanted: &Wanted,
    index: u64,
) -> anyhow::Result<PathBuf> {
    let path = loop {
        match place::destination(folder, song, wanted)? {
            Destination::There(path) => {
                downloaded.into_partial().discard()?;
                break path;
            }
            Destination::New(path) => {
                let outboard = library.and_then(|library| library.outboard_place(&wanted.content, &path));
                match downloaded.finish(&path, outboard.as_deref()) {
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

/// Removes the least recently used files of a folder until the rest is within `most` bytes; unfinished ones too. What is
/// `kept` stays.
pub(super) fn tidy(folder: &Path, most: u64, kept: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut total = 0u64;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_file() {
            total = total.saturating_add(meta.len());
            files.push((meta.modified()?, entry.path(), meta.len()));
        }
    }
    files.sort();
    let mut removed = Vec::new();
    for (_, path, bytes) in files {
        if total <= most {
            break;
        }
        if path != kept {
            fs::remove_file(&path)?;
            total = total.saturating_sub(bytes);
            removed.push(path);
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn the_oldest_go_first_and_what_is_kept_stays() {
        let directory = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = ["a", "b.part", "c", "d"].map(|name| directory.path().join(name)).into();
        let start = SystemTime::now() - Duration::from_secs(100);
        for (path, age) in paths.iter().zip(0..) {
            fs::write(path, [0; 100]).unwrap();
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(start + Duration::from_secs(age)).unwrap();
        }
        assert_eq!(tidy(directory.path(), 400, &paths[0]).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(tidy(directory.path(), 250, &paths[0]).unwrap(), paths[1..3]);
        assert_eq!(tidy(directory.path(), 0, Path::new("")).unwrap(), [paths[0].clone(), paths[3].clone()]);
    }
}
