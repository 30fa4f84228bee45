//! Songs as bytes at any place, from the own library, from what was played before, or from others while they come.
//!
//! Players ask for parts of a file over several requests, so a song that comes from others stays open between them: one
//! download ([`coming`]), read by each request for itself. A jump is passed on to the download, which then asks for what
//! is heard next. A song that nobody reads for a while is given up; what was verified is kept and found again.
//!
//! [`plays`] knows what is heard where, and has it paid for.

mod coming;
pub mod plays;
mod reader;

use std::{
    collections::HashMap,
    fs::File,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use antiphon_proto::{ContentHash, wire::Song};
use tokio::{sync::watch, time::Instant};

use self::coming::Coming;
pub use self::reader::Reader;
use crate::{
    failure::{Failure, Kind},
    library::Located,
    peer::{
        Peer,
        choice::{Choice, GetProgress},
        select::Selected,
    },
};

/// Songs that are open at the same time: players look one or two ahead.
const OPEN: usize = 32;
/// A song that nobody reads is given up after this, unless it is complete.
const UNREAD: Duration = Duration::from_secs(30);
/// A complete one is forgotten after this: its file is found again.
const FORGOTTEN: Duration = Duration::from_secs(900);
/// How often it is looked whether there is something to give up.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a player waits for its first byte.
const FIRST_BYTE_WITHIN: Duration = Duration::from_secs(25);

/// A song that can be read.
#[derive(Debug, Clone)]
pub struct Opened {
    /// Ledger index of the song's block.
    pub index: u64,
    /// The song.
    pub song: Arc<Song>,
    /// BLAKE3 of the file.
    pub content: ContentHash,
    /// Bytes of the file.
    pub bytes: u64,
    /// What files of its container are called.
    pub extension: &'static str,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    /// All of it is on this disk.
    Here(Arc<File>),
    /// It comes from others, or has come.
    Coming(Arc<Coming>),
}

impl Opened {
    /// Reads on from this byte. The first bytes are there when this returns.
    ///
    /// # Errors
    /// Why nothing comes: see [`Streams::open`].
    pub async fn read_from(&self, byte: u64) -> Result<Reader, Failure> {
        let mut reader = match &self.source {
            Source::Here(file) => Reader::of_file(file.clone(), byte, self.bytes),
            Source::Coming(coming) => coming.reader(byte, self.bytes),
        };
        if byte < self.bytes {
            match tokio::time::timeout(FIRST_BYTE_WITHIN, reader.fill()).await {
                Ok(filled) => filled?,
                Err(_) => {
                    let message = format!(
                        "{:?}: nothing has come yet from those who serve it; try again",
                        self.song.title
                    );
                    return Err(Failure::new(Kind::Offline, message));
                }
            }
        }
        Ok(reader)
    }

    /// The file, when all of it is on this disk.
    #[must_use]
    pub(crate) fn file(&self) -> Option<Arc<File>> {
        match &self.source {
            Source::Here(file) => Some(file.clone()),
            Source::Coming(coming) => coming.file(),
        }
    }

    /// Whether others send it, or have sent it.
    #[must_use]
    pub fn is_from_others(&self) -> bool {
        matches!(self.source, Source::Coming(_))
    }

    /// How far it is, and who sends it. Ends at once for a file that was here.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<GetProgress> {
        match &self.source {
            Source::Here(_) => {
                let (verified_bytes, total) = (self.bytes, self.bytes);
                watch::channel(GetProgress { verified_bytes, total, sources: Vec::new() }).1
            }
            Source::Coming(coming) => coming.progress.subscribe(),
        }
    }
}

/// Songs that are open. A cheap handle.
#[derive(Clone)]
pub struct Streams(Arc<Inner>);

struct Inner {
    peer: Weak<Peer>,
    open: Mutex<HashMap<u64, Arc<Coming>>>,
}

impl Streams {
    /// None is open. Work ends with the peer.
    #[must_use]
    pub fn new(peer: &Arc<Peer>) -> Self {
        let streams = Self(Arc::new(Inner { peer: Arc::downgrade(peer), open: Mutex::default() }));
        let looked = streams.clone();
        peer.spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                looked.give_up(Instant::now());
            }
        });
        streams
    }

    fn table(&self) -> MutexGuard<'_, HashMap<u64, Arc<Coming>>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_up(&self, now: Instant) {
        self.table().retain(|_, coming| {
            let idle = coming.idle(now);
            idle < if coming.is_complete() { FORGOTTEN } else { UNREAD }
        });
    }

    /// Opens the song in this block.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is no such song; what the song's terms ask. That nobody serves it is said by
    /// [`Opened::read_from`].
    pub async fn open(&self, index: u64) -> Result<Opened, Failure> {
        let Some(peer) = self.0.peer.upgrade() else {
            return Err(Failure::new(Kind::Failed, "the peer is stopping"));
        };
        // What others have just sent still is theirs: players fetch ahead, and tell of the play only then.
        let open = self.table().get(&index).filter(|coming| !coming.has_failed()).cloned();
        let coming = match open {
            Some(coming) => coming,
            None => {
                let failed = |error: anyhow::Error| Failure::of(&error);
                let asked = peer.clone();
                let found = tokio::task::spawn_blocking(move || find(&asked, index)).await;
                let Found { selected, choices, here } =
                    found.map_err(|error| failed(error.into()))?.map_err(failed)?;
                if let Some((file, choice)) = here {
                    return Ok(opened(index, Arc::new(selected.song), &choice, Source::Here(file)));
                }
                peer.check_terms(&selected).await.map_err(failed)?;
                self.begin(&peer, selected, choices)?
            }
        };
        coming.touch();
        let choice = coming.choice().await?;
        Ok(opened(index, coming.song.clone(), &choice, Source::Coming(coming)))
    }

    fn begin(
        &self,
        peer: &Arc<Peer>,
        selected: Selected,
        choices: Vec<Choice>,
    ) -> Result<Arc<Coming>, Failure> {
        let index = selected.index;
        let mut table = self.table();
        // Somebody else was quicker.
        if let Some(coming) = table.get(&index).filter(|coming| !coming.has_failed()) {
            return Ok(coming.clone());
        }
        if table.len() >= OPEN {
            let oldest = table
                .iter()
                .filter(|(_, coming)| !coming.is_read())
                .max_by_key(|(_, c)| c.idle(Instant::now()));
            match oldest.map(|(index, _)| *index) {
                Some(index) => drop(table.remove(&index)),
                None => {
                    let message = format!("{OPEN} songs are being read at once already; close some of them");
                    return Err(Failure::new(Kind::Failed, message));
                }
            }
        }
        let coming = Coming::begin(peer, selected, choices);
        table.insert(index, coming.clone());
        Ok(coming)
    }
}

fn opened(index: u64, song: Arc<Song>, choice: &Choice, source: Source) -> Opened {
    let (content, bytes, extension) = (choice.content(), choice.bytes(), choice.extension());
    Opened { index, song, content, bytes, extension, source }
}

/// What is known of a song before anybody is asked.
struct Found {
    selected: Selected,
    choices: Vec<Choice>,
    here: Option<(Arc<File>, Choice)>,
}

fn find(peer: &Peer, index: u64) -> anyhow::Result<Found> {
    let song = peer
        .ledger
        .song(index)?
        .ok_or_else(|| Failure::new(Kind::NotFound, format!("block {index} is not a song of the ledger")))?;
    let selected = Selected { index, song, content: None };
    let choices = peer.choices(&selected, None)?;
    let mut here = None;
    for choice in &choices {
        if let Located::Here { path, .. } = peer.library.locate(&choice.content())? {
            // Opened now: whatever becomes of the name, these are the bytes.
            if let Ok(file) = File::open(&path) {
                here = Some((Arc::new(file), choice.clone()));
                break;
            }
        }
    }
    Ok(Found { selected, choices, here })
}
