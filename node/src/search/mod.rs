//! Finding songs by words, and what is online by name.
//!
//! The index is derived from the ledger and may be deleted at any time. It covers the blocks up to [`Index::size`];
//! [`Index::update`] brings it up to the ledger, opening it first and making it anew where it is missing, damaged, or
//! of another version or ledger. Questions are answered from the last commit, whatever an update is doing meanwhile.
//!
//! [`words`] says what a text is made of, [`schema`] what is kept of a block, [`store`] how that gets to the disk,
//! [`query`] which songs some words mean and how they are ranked, [`discover`] how what is online is grouped.
//! [`follow`] keeps the index of a running peer up to date. Only this folder knows the engine (tantivy).
//!
//! Everything blocks the calling thread, except for [`follow`] and [`Index::caught_up`].

mod blocks;
mod discover;
mod distance;
mod error;
mod files;
pub mod follow;
mod groups;
mod merges;
mod names;
mod online;
mod parts;
mod query;
mod scene;
mod schema;
mod sources;
mod store;
#[cfg(test)]
mod tests;
mod words;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, TryLockError},
    time::{Duration, Instant},
};

use antiphon_proto::{NetworkId, wire::Song};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

pub use self::{
    blocks::{Blocks, Entry},
    discover::{AlbumLine, ArtistLine, Counts, Discovered, Filter, GenreLine, Listed, Scope, TrackLine},
    error::{Result, SearchError},
    sources::{ListedSources, NoSources, Sources},
};
use self::{
    online::Online,
    parts::Snapshot,
    query::{Accept, Found},
    store::Store,
};
use crate::peer::select::SongLine;

/// Entries of one page at most.
pub const PAGE: usize = 500;
/// Entries that can be paged through. Whoever looks further should ask for something narrower.
pub const DEEPEST: usize = 100_000;
/// Questions that are worked on at the same time: each takes some bytes for each song of the ledger.
const QUESTIONS: usize = 2;
/// How often somebody who waits for the index to be opened looks.
const OPENING: Duration = Duration::from_millis(5);
/// How long closing waits for an update: it looks whether to stop many times a second.
const CLOSING: Duration = Duration::from_secs(2);

/// Which part of an answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Entries that are left out.
    pub offset: usize,
    /// Entries, at most [`PAGE`].
    pub limit: usize,
}

impl Default for Page {
    fn default() -> Self {
        Self { offset: 0, limit: 50 }
    }
}

impl Page {
    /// Within what is answered at all.
    fn bounded(self) -> Self {
        let offset = self.offset.min(DEEPEST);
        Self { offset, limit: self.limit.min(PAGE).min(DEEPEST - offset) }
    }
}

/// A song that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hit {
    /// The song.
    #[serde(flatten)]
    pub song: SongLine,
    /// Distinct peers online that serve it in any encoding; `None` where nobody was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<u32>,
}

/// `antiphon search --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hits {
    /// Version of this form.
    pub schema: u32,
    /// Songs that were found, on all pages.
    pub total: u64,
    /// Of these, left out before the first here.
    pub offset: u64,
    /// Blocks of the ledger that the index has not looked at yet.
    pub behind: u64,
    /// Best first.
    pub songs: Vec<Hit>,
}

/// Song blocks with some name, in the order of their albums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The name, as most of its songs spell it.
    pub name: String,
    /// Of an album: whose it is.
    pub owner: Option<String>,
    /// Ledger indexes, by album, disc and track.
    pub songs: Vec<u64>,
}

/// The index of a ledger.
pub struct Index {
    root: PathBuf,
    network: String,
    blocks: Arc<dyn Blocks>,
    /// Whoever changes what is on disk holds this. `None`: not opened, or to be looked at again.
    store: Mutex<Option<Store>>,
    /// What questions are asked of.
    view: RwLock<Option<Arc<Snapshot>>>,
    /// Blocks that are covered.
    covered: watch::Sender<u64>,
    /// Somebody waits for the newest blocks.
    wanted: Notify,
    /// Questions that are being worked on, and the time of the last.
    questions: Mutex<(usize, Instant)>,
    turn: Condvar,
}

impl Index {
    /// The index in the folder `root` of the data directory, of these blocks. Nothing is read or made yet; the caller
    /// holds the data directory.
    #[must_use]
    pub fn new(root: &Path, network: &NetworkId, blocks: Arc<dyn Blocks>) -> Self {
        Self {
            root: root.to_owned(),
            network: network.to_string(),
            blocks,
            store: Mutex::new(None),
            view: RwLock::new(None),
            covered: watch::Sender::new(0),
            wanted: Notify::new(),
            questions: Mutex::new((0, Instant::now())),
            turn: Condvar::new(),
        }
    }

    /// Blocks that the index covers; 0 until it was opened.
    #[must_use]
    pub fn size(&self) -> u64 {
        *self.covered.borrow()
    }

    /// Opens what is on disk, if it is usable, without adding to it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(&self) -> Result<u64> {
        self.view().map(|view| view.size())
    }

    /// Brings the index up to the end of the ledger, making it anew where needed. `stop` is asked now and then, `tell`
    /// hears the number of blocks covered.
    ///
    /// # Errors
    /// What stands in the way. What was committed stays; calling again looks at it anew.
    pub fn update(&self, stop: &dyn Fn() -> bool, tell: &dyn Fn(u64)) -> Result<u64> {
        let mut writer = None;
        loop {
            // Held for one batch: questions that find the index closed must not wait for all.
            let mut store = self.lock();
            let done = self.step(&mut store, &mut writer, stop);
            match done {
                Ok(true) => return Ok(self.size()),
                Ok(false) => tell(self.size()),
                Err(error) => {
                    // Its files are looked at before they are used again.
                    *store = None;
                    return Err(error);
                }
            }
        }
    }

    /// Adds a batch; whether that was the last.
    fn step(
        &self,
        slot: &mut Option<Store>,
        writer: &mut Option<tantivy::IndexWriter>,
        stop: &dyn Fn() -> bool,
    ) -> Result<bool> {
        if stop() {
            return Err(SearchError::Stopped);
        }
        if slot.is_none() {
            *writer = None;
            let store = match Store::open(&self.root, &self.network, &*self.blocks) {
                Some(store) => store,
                None => Store::create(&self.root, &self.network)?,
            };
            self.publish(slot.insert(store))?;
        }
        let Some(store) = slot else { return Err(SearchError::Damaged) };
        if store.size() >= self.blocks.size() {
            return Ok(true);
        }
        let writer = match writer {
            Some(writer) => writer,
            None => writer.insert(store.writer()?),
        };
        store.add(writer, &*self.blocks, stop)?;
        store.merge(writer)?;
        self.publish(store)?;
        // Files that only the last view needed.
        writer.garbage_collect_files().wait()?;
        Ok(store.size() >= self.blocks.size())
    }

    fn publish(&self, store: &Store) -> Result<()> {
        let view = Arc::new(Snapshot::new(store.committed()?));
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Some(view);
        self.covered.send_replace(store.size());
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Store>> {
        // A panic in between leaves what was committed, as a kill does.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What questions are asked of. Opens what is on disk when nothing is open.
    fn view(&self) -> Result<Arc<Snapshot>> {
        loop {
            if let Some(view) = &*self.view.read().unwrap_or_else(PoisonError::into_inner) {
                return Ok(view.clone());
            }
            let mut slot = match self.store.try_lock() {
                Ok(slot) => slot,
                Err(TryLockError::Poisoned(slot)) => slot.into_inner(),
                // An update is opening it.
                Err(TryLockError::WouldBlock) => {
                    std::thread::sleep(OPENING);
                    continue;
                }
            };
            match Store::open(&self.root, &self.network, &*self.blocks) {
                Some(store) => self.publish(slot.insert(store))?,
                None => {
                    let nothing = Arc::new(Snapshot::empty());
                    *self.view.write().unwrap_or_else(PoisonError::into_inner) = Some(nothing);
                }
            }
        }
    }

    /// Waits until the index covers what the ledger holds now, at most `within`. Something must be updating it.
    pub async fn caught_up(&self, within: Duration) -> bool {
        let size = self.blocks.size();
        let mut covered = self.covered.subscribe();
        if *covered.borrow_and_update() >= size {
            return true;
        }
        self.wanted.notify_one();
        tokio::time::timeout(within, covered.wait_for(|covered| *covered >= size))
            .await
            .is_ok_and(|now| now.is_ok())
    }

    /// Waits a moment for an update that was told to stop, so that the ledger can be closed after it.
    pub fn close(&self) {
        let started = Instant::now();
        // A merge cannot be stopped, and does not need the ledger.
        while started.elapsed() < CLOSING && matches!(self.store.try_lock(), Err(TryLockError::WouldBlock)) {
            std::thread::sleep(OPENING);
        }
    }

    /// Gives up the memory that questions have made use of, when the last is longer ago than this.
    pub fn rest(&self, unused: Duration) {
        let (working, last) = *self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        if working == 0
            && last.elapsed() >= unused
            && let Some(view) = &*self.view.read().unwrap_or_else(PoisonError::into_inner)
        {
            view.rest();
        }
    }

    /// Works on a question, when it is its turn. A question that fails on files that were found whole has them looked
    /// at again.
    fn ask<T>(&self, work: impl FnOnce(&Snapshot) -> Result<T>) -> Result<T> {
        let view = self.view()?;
        let _turn = Turn::take(self);
        // The engine panics on some kinds of damage.
        let answered = catch_unwind(AssertUnwindSafe(|| work(&view))).unwrap_or(Err(SearchError::Damaged));
        if let Err(SearchError::Damaged | SearchError::Engine(_) | SearchError::File(_)) = answered {
            *self.lock() = None;
            *self.view.write().unwrap_or_else(PoisonError::into_inner) = None;
            self.covered.send_replace(0);
            self.wanted.notify_one();
        }
        answered
    }

    /// Songs for some words, best first: at most 256 bytes and 16 words of the query count. With `online`, only
    /// songs that somebody online serves are found and counted.
    ///
    /// # Errors
    /// When index or ledger cannot be read, never because of the query.
    pub fn search(&self, query: &str, page: Page, online: Option<&dyn Sources>) -> Result<Hits> {
        let page = page.bounded();
        let (found, total, now) = self.ask(|view| {
            let now = online.map(|sources| Online::now(&view.parts()?, sources)).transpose()?;
            let most = page.offset.saturating_add(page.limit);
            let (found, total) = query::find(view, query, Accept::Guesses, most, now.as_ref())?;
            Ok((found, total, now))
        })?;
        let mut songs = Vec::new();
        for found in found.into_iter().skip(page.offset) {
            // What is in the index is in the ledger.
            let Entry::Song(song) = self.blocks.entry(found.index())? else { continue };
            let asked = online.zip(now.as_ref());
            let sources = asked.map(|(sources, now)| sources.distinct(&mut now.of(found.index())));
            songs.push(Hit { song: SongLine::of(found.index(), &song), sources });
        }
        Ok(Hits { schema: 1, total, offset: page.offset as u64, behind: self.behind(), songs })
    }

    /// Fills in how many peers serve what was found.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn count_sources(&self, hits: &mut Hits, sources: &dyn Sources) -> Result<()> {
        for hit in hits.songs.iter_mut().filter(|hit| hit.sources.is_none()) {
            let Entry::Song(song) = self.blocks.entry(hit.song.index)? else { continue };
            let variants = self.blocks.variants(&song)?;
            hit.sources = Some(sources.distinct(&mut std::iter::once(hit.song.index).chain(variants)));
        }
        Ok(())
    }

    /// What is online, grouped; a page of it.
    ///
    /// # Errors
    /// When index or ledger cannot be read.
    pub fn discover(
        &self,
        scope: Scope,
        filter: &Filter,
        sources: &dyn Sources,
        page: Page,
    ) -> Result<Discovered> {
        let page = page.bounded();
        let mut discovered =
            self.ask(|view| scene::discover(view, &*self.blocks, scope, filter, sources, page))?;
        discovered.behind = self.behind();
        Ok(discovered)
    }

    fn behind(&self) -> u64 {
        self.blocks.size().saturating_sub(self.size())
    }

    /// The first songs whose whole title is this, up to case, accents and punctuation.
    ///
    /// # Errors
    /// When index or ledger cannot be read.
    pub fn titled(&self, title: &str, most: usize) -> Result<Vec<u64>> {
        let (found, _) = self.ask(|view| query::find(view, title, Accept::Whole, most, None))?;
        let whole = found.iter().filter(|found| found.is_whole_title());
        let mut titled: Vec<u64> = whole.map(Found::index).collect();
        titled.sort_unstable();
        Ok(titled)
    }

    /// The first songs that have every word, or a longer one that begins with it, in title, artist, album or genre.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn matching(&self, words: &str, most: usize) -> Result<Vec<u64>> {
        let (found, _) = self.ask(|view| query::find(view, words, Accept::Beginnings, most, None))?;
        Ok(found.iter().map(Found::index).collect())
    }

    /// Albums of this name, up to case, accents and punctuation, of the whole ledger. Songs beyond `most` are left out.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn albums(&self, name: &str, most: usize) -> Result<Vec<Named>> {
        self.ask(|view| names::albums(view, name, most))
    }

    /// The artist of this name, up to case, accents and punctuation, of the whole ledger. Songs beyond `most` are left
    /// out.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn artist(&self, name: &str, most: usize) -> Result<Option<Named>> {
        self.ask(|view| names::artist(view, name, most))
    }
}

/// Whether two names are the same, up to case, accents and punctuation.
#[must_use]
pub fn same_name(one: &str, other: &str) -> bool {
    words::key(one) == words::key(other)
}

/// What [`same_name`] compares.
#[must_use]
pub fn name_key(name: &str) -> String {
    words::key(name)
}

/// Every word of a name, and of words with signs inside ("AC/DC") the parts too: what a word of [`asked_words`] may be
/// the beginning of.
#[must_use]
pub fn name_words(name: &str) -> Vec<String> {
    words::words(name).into_iter().flat_map(|word| word.parts.into_iter().chain(word.joined)).collect()
}

/// The words that a query asks for, each whole and in its parts: it is found where the whole is, or where all parts are.
#[must_use]
pub fn asked_words(query: &str) -> Vec<(String, Vec<String>)> {
    words::query_words(query).into_iter().map(|word| (word.whole().to_owned(), word.parts)).collect()
}

/// Whose album a song is on: the album artist, or else the artist.
#[must_use]
pub fn owner(song: &Song) -> &str {
    schema::owner(song)
}

/// Whether a song has every word, or a longer one that begins with it, in title, artist, album or genre: what
/// [`Index::matching`] finds.
#[must_use]
pub fn matches(words: &str, song: &Song) -> bool {
    let texts = [&song.title, &song.artist, &song.album_artist, &song.album, &song.genre];
    let found: Vec<words::Word> = texts.iter().flat_map(|text| words::words(text)).collect();
    let begins = |run: &str| {
        found.iter().any(|word| word.parts.iter().chain(&word.joined).any(|found| found.starts_with(run)))
    };
    let query = words::query_words(words);
    !query.is_empty()
        && query.iter().all(|word| begins(word.whole()) || word.parts.iter().all(|part| begins(part)))
}

/// Leave to work on a question.
struct Turn<'i>(&'i Index);

impl<'i> Turn<'i> {
    fn take(index: &'i Index) -> Self {
        let mut questions = index.questions.lock().unwrap_or_else(PoisonError::into_inner);
        while questions.0 >= QUESTIONS {
            questions = index.turn.wait(questions).unwrap_or_else(PoisonError::into_inner);
        }
        questions.0 += 1;
        Self(index)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut questions = self.0.questions.lock().unwrap_or_else(PoisonError::into_inner);
        *questions = (questions.0.saturating_sub(1), Instant::now());
        self.0.turn.notify_one();
    }
}
