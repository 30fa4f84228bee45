//! A request whose login was right, and what methods read of it.

use std::{collections::HashSet, sync::Arc};

use antiphon_proto::wire::block::Body as Block;
use axum::http::HeaderMap;

use super::{
    super::{
        bodies::{Album, Child},
        error::{Code, SubsonicError},
        params::Params,
    },
    Rest,
    convert::{self, Marks},
    kept,
    shelves::{AlbumOf, ArtistOf, Shelves},
};
use crate::{
    http::App,
    listener::Device,
    music::{
        Folder,
        id::Id,
        shelf::{Page, Track},
        song::{File, Names, Song},
    },
};

/// Most entries of one answer.
pub(super) const MOST: usize = 500;

/// A request whose login was right.
pub(super) struct Ask {
    pub(super) rest: Arc<Rest>,
    pub(super) params: Params,
    /// Who asks.
    pub(super) device: Device,
    pub(super) headers: HeaderMap,
    /// Whether only the head of the answer is wanted.
    pub(super) head: bool,
}

/// A song that is named, also when it is on no shelf.
#[derive(Clone)]
pub(super) struct Heard {
    pub(super) song: Arc<Song>,
    pub(super) file: File,
}

impl From<&Track> for Heard {
    fn from(track: &Track) -> Self {
        Self { song: track.song().clone(), file: *track.file() }
    }
}

impl Ask {
    pub(super) fn app(&self) -> &App {
        &self.rest.app
    }

    /// The shelves that the request is about: the one of its folder, or both.
    pub(super) fn shelves(&self) -> Result<Shelves, SubsonicError> {
        let music = &self.app().peer.music;
        let shelves = match self.params.number::<u32>("musicFolderId")? {
            None => return Ok(self.both()),
            Some(1) => vec![music.shelf(Folder::Own)],
            Some(2) => vec![music.shelf(Folder::Online)],
            Some(_) => Vec::new(),
        };
        Ok(Shelves::new(shelves))
    }

    /// Both shelves.
    pub(super) fn both(&self) -> Shelves {
        let music = &self.app().peer.music;
        Shelves::new(vec![music.shelf(Folder::Own), music.shelf(Folder::Online)])
    }

    /// Which part of a list is wanted, by the names of two parameters.
    pub(super) fn page(&self, count: &str, offset: &str, usual: usize) -> Result<Page, SubsonicError> {
        let size = self.params.number(count)?.unwrap_or(usual).min(MOST);
        Ok(Page { offset: self.params.number(offset)?.unwrap_or(0), size })
    }

    /// The song of a ledger index: as a shelf has it, else as the ledger has it.
    pub(super) fn song(&self, shelves: &Shelves, index: u64) -> Result<Option<Heard>, SubsonicError> {
        if let Some(track) = shelves.track(index) {
            return Ok(Some(track.into()));
        }
        let block = self.app().peer.ledger.parsed(index);
        let block = block.map_err(|error| SubsonicError::saying(Code::Generic, error.to_string()))?;
        let Some(block) = block else { return Ok(None) };
        let Some(Block::Song(song)) = &block.body else { return Ok(None) };
        let song = Names::default().song(index, block.time_ms, song);
        let file = song.own;
        Ok(Some(Heard { song: Arc::new(song), file }))
    }

    /// The songs of these ledger indexes, in their order; what is none is left out.
    pub(super) fn songs(&self, indexes: impl IntoIterator<Item = u64>) -> Result<Vec<Heard>, SubsonicError> {
        let shelves = self.both();
        indexes.into_iter().filter_map(|index| self.song(&shelves, index).transpose()).collect()
    }

    /// The ledger index of the song that a parameter names.
    pub(super) fn song_index(&self, name: &str) -> Result<u64, SubsonicError> {
        match self.params.id(name)? {
            Id::Song(index) => Ok(index),
            Id::Album(_) | Id::Artist(_) => Err(SubsonicError::not_found()),
        }
    }

    /// Every song that a parameter names. Each of them is in the ledger.
    pub(super) fn song_indexes(&self, name: &str) -> Result<Vec<u64>, SubsonicError> {
        let shelves = self.both();
        let mut known = HashSet::new();
        let mut indexes = Vec::new();
        for text in self.params.all(name).filter(|text| !text.is_empty()) {
            let Ok(Id::Song(index)) = text.parse() else { return Err(SubsonicError::not_found()) };
            if known.insert(index) && self.song(&shelves, index)?.is_none() {
                return Err(SubsonicError::not_found());
            }
            indexes.push(index);
        }
        Ok(indexes)
    }

    /// Plays of these songs, stars and ratings of these things.
    pub(super) fn marks(&self, songs: &[u64], ids: &[Id]) -> Result<Marks, SubsonicError> {
        kept(Marks::read(&self.app().listener, songs, ids))
    }

    /// What the listener said of albums, and plays of their songs.
    pub(super) fn album_marks(&self, albums: &[AlbumOf<'_>]) -> Result<Marks, SubsonicError> {
        let songs: Vec<u64> =
            albums.iter().flat_map(|album| &album.tracks).map(|track| track.index()).collect();
        let ids: Vec<Id> = albums.iter().map(|album| album.album.id).collect();
        self.marks(&songs, &ids)
    }

    /// Albums as apps see them.
    pub(super) fn albums(&self, albums: &[AlbumOf<'_>]) -> Result<Vec<Album>, SubsonicError> {
        let marks = self.album_marks(albums)?;
        Ok(albums.iter().map(|album| convert::album(album, &marks)).collect())
    }

    /// Albums as older apps see them.
    pub(super) fn album_folders(&self, albums: &[AlbumOf<'_>]) -> Result<Vec<Child>, SubsonicError> {
        let marks = self.album_marks(albums)?;
        Ok(albums.iter().map(|album| convert::album_folder(album, &marks)).collect())
    }

    /// Artists in the form that `form` makes.
    pub(super) fn artists<'s, T>(
        &self,
        artists: &[ArtistOf<'s>],
        form: impl Fn(ArtistOf<'s>, &Marks) -> T,
    ) -> Result<Vec<T>, SubsonicError> {
        let marks = if artists.len() > MOST {
            // All of them: what has a mark is less than what has a name.
            kept(Marks::of_artists(&self.app().listener))?
        } else {
            let ids: Vec<Id> = artists.iter().map(|found| found.artist.id).collect();
            self.marks(&[], &ids)?
        };
        Ok(artists.iter().map(|found| form(*found, &marks)).collect())
    }

    /// Songs as apps see them.
    pub(super) fn children(&self, songs: &[Heard]) -> Result<Vec<Child>, SubsonicError> {
        let indexes: Vec<u64> = songs.iter().map(|heard| heard.song.index()).collect();
        let ids: Vec<Id> = indexes.iter().copied().map(Id::Song).collect();
        let marks = self.marks(&indexes, &ids)?;
        Ok(songs.iter().map(|heard| convert::song(heard, &marks)).collect())
    }

    /// Songs of shelves as apps see them.
    pub(super) fn tracks<'t>(
        &self,
        tracks: impl IntoIterator<Item = &'t Track>,
    ) -> Result<Vec<Child>, SubsonicError> {
        self.children(&tracks.into_iter().map(Heard::from).collect::<Vec<_>>())
    }

    /// What the app calls itself.
    pub(super) fn app_name(&self) -> &str {
        self.params.filled("c").unwrap_or(&self.device.name)
    }

    /// The name of the player that the app is.
    pub(super) fn player(&self) -> String {
        format!("app {} {}", self.device.user, self.app_name())
    }
}
