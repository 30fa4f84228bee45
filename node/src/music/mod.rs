//! What there is to hear, as apps and pages list it.
//!
//! Two shelves: the songs of which the own library holds a file, and those that somebody else online serves right now.
//! [`Music::run`] keeps them up to date: [`rows`] reads songs from the ledger, [`shelf`] puts them in order. Whoever
//! lists songs takes a shelf, which never changes, and answers from it. Pictures are [`cover`]'s, texts [`lyrics`]'.

pub mod cover;
mod draw;
pub mod id;
pub mod lyrics;
mod refresh;
pub mod rows;
pub mod shelf;
pub mod song;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::{
    rows::{Blocks, Listing, Rows, RowsError},
    shelf::{Row, Shelf},
};
use crate::{
    library::catalogue::{Catalogue, CatalogueError},
    search::Sources,
};

/// Which shelf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folder {
    /// Songs of which the own library holds a file.
    Own,
    /// Songs that somebody else online serves.
    Online,
}

impl Folder {
    fn bit(self) -> u8 {
        match self {
            Self::Own => 1,
            Self::Online => 2,
        }
    }
}

/// Numbers that rise with every new shelf; 0 until the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Versions {
    /// Of [`Folder::Own`].
    pub own: u64,
    /// Of [`Folder::Online`].
    pub online: u64,
}

/// What the shelves are made from.
pub struct Parts {
    /// Songs by their index.
    pub blocks: Arc<dyn Blocks>,
    /// Which of them the own library holds.
    pub catalogue: Arc<Catalogue>,
    /// What was only played lies in this folder, and is on no shelf: nobody has kept it.
    pub played: PathBuf,
    /// Which of them others serve.
    pub sources: Arc<dyn Sources>,
    /// Ends a listing that is being made.
    pub cancel: CancellationToken,
}

/// Why a shelf is as it was.
#[derive(Debug, thiserror::Error)]
pub enum MusicError {
    /// The library.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The ledger.
    #[error(transparent)]
    Rows(#[from] RowsError),
}

/// A shelf, and what it was made of.
#[derive(Default)]
struct Place {
    shelf: Arc<Shelf>,
    digest: Option<u64>,
}

/// The two shelves.
pub struct Music {
    parts: Parts,
    /// Held while rows are read, never while they are sorted.
    rows: Mutex<Rows>,
    own: RwLock<Place>,
    online: RwLock<Place>,
    versions: watch::Sender<Versions>,
}

impl Music {
    /// Both shelves are empty until [`Self::refresh`] or [`Self::run`].
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            rows: Mutex::new(Rows::new(parts.blocks.clone())),
            parts,
            own: RwLock::default(),
            online: RwLock::default(),
            versions: watch::Sender::default(),
        }
    }

    fn place(&self, folder: Folder) -> &RwLock<Place> {
        match folder {
            Folder::Own => &self.own,
            Folder::Online => &self.online,
        }
    }

    /// What is on a shelf now.
    #[must_use]
    pub fn shelf(&self, folder: Folder) -> Arc<Shelf> {
        self.place(folder).read().unwrap_or_else(PoisonError::into_inner).shelf.clone()
    }

    /// Changes with every new shelf.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Versions> {
        self.versions.subscribe()
    }

    /// Makes a shelf anew, if anything on it has changed. Says whether some of what others serve is not in the own ledger
    /// yet. Blocks the calling thread; calls for one folder must not overlap.
    ///
    /// # Errors
    /// When library or ledger cannot be read. The shelf is then as it was.
    pub fn refresh(&self, folder: Folder) -> Result<bool, MusicError> {
        let Listing { rows, ahead } = self.list(folder)?;
        let digest = Some(digest(&rows));
        // Peers come and go all the time, mostly with nothing new.
        if self.place(folder).read().unwrap_or_else(PoisonError::into_inner).digest == digest {
            return Ok(ahead);
        }
        let shelf = Arc::new(Shelf::new(rows));
        // What was there is dropped after the lock is let go.
        let before = {
            let mut place = self.place(folder).write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *place, Place { shelf, digest })
        };
        drop(before);
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).forget();
        self.versions.send_modify(|versions| match folder {
            Folder::Own => versions.own += 1,
            Folder::Online => versions.online += 1,
        });
        Ok(ahead)
    }

    fn list(&self, folder: Folder) -> Result<Listing, MusicError> {
        let stop = || self.parts.cancel.is_cancelled();
        let sources = &self.parts.sources;
        let lock = || self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let listing = match folder {
            Folder::Own => {
                let indexes = self.parts.catalogue.known(&self.parts.played)?;
                lock().list(folder, indexes, &|_| 0, &stop)?
            }
            Folder::Online => {
                let mut indexes = Vec::new();
                sources.each(&mut |index| {
                    if indexes.len() <= rows::MAX_FILES {
                        indexes.push(index);
                    }
                });
                let count = |files: &[u64]| match files {
                    [one] => sources.count(*one),
                    several => sources.distinct(&mut several.iter().copied()),
                };
                let mut listing = lock().list(folder, indexes, &count, &stop)?;
                // Somebody has left in between.
                listing.rows.retain(|row| row.sources > 0);
                listing
            }
        };
        Ok(listing)
    }
}

/// Tells two listings apart.
fn digest(rows: &[Row]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for row in rows {
        (row.song.index(), row.other.as_ref().map(|other| other.file.index), row.sources).hash(&mut hasher);
    }
    hasher.finish()
}
