//! Songs, albums and artists as apps see them.

use std::collections::HashMap;

use data_encoding::HEXLOWER;

use super::{
    super::bodies::{Album, Artist, ArtistRef, Child, FolderArtist, Media},
    ask::Heard,
    shelves::{AlbumOf, ArtistOf},
};
use crate::{
    http::audio,
    listener::{self, Kind, Listener, SongPlays},
    music::{
        id::Id,
        shelf::{NO_ALBUM, NO_ARTIST},
        song::Song,
    },
};

/// What the listener said of a page of things.
#[derive(Debug, Default)]
pub(super) struct Marks {
    plays: HashMap<u64, SongPlays>,
    starred: HashMap<Id, u64>,
    ratings: HashMap<Id, u8>,
}

impl Marks {
    /// Plays of these songs, stars and ratings of these things. Blocks.
    pub(super) fn read(listener: &Listener, songs: &[u64], ids: &[Id]) -> listener::Result<Self> {
        let starred = listener.starred_of(ids)?;
        let ratings = listener.ratings_of(ids)?;
        let plays = listener.plays_of(songs)?;
        Ok(Self {
            plays: songs.iter().copied().zip(plays).collect(),
            starred: ids.iter().copied().zip(starred).filter_map(|(id, at)| Some((id, at?))).collect(),
            ratings: ids.iter().copied().zip(ratings).filter(|(_, rating)| *rating > 0).collect(),
        })
    }

    /// Stars and ratings of all artists. Blocks.
    pub(super) fn of_artists(listener: &Listener) -> listener::Result<Self> {
        Ok(Self {
            plays: HashMap::new(),
            starred: listener.starred(Kind::Artist)?.into_iter().collect(),
            ratings: listener.rated(Kind::Artist)?.into_iter().collect(),
        })
    }

    fn starred(&self, id: Id) -> Option<u64> {
        self.starred.get(&id).copied()
    }

    fn rating(&self, id: Id) -> Option<u32> {
        self.ratings.get(&id).map(|rating| u32::from(*rating))
    }

    /// How often a song was played.
    pub(super) fn count(&self, song: u64) -> u64 {
        self.plays.get(&song).map_or(0, |plays| plays.count)
    }

    fn played(&self, song: u64) -> Option<u64> {
        self.plays.get(&song).filter(|plays| plays.count > 0).map(|plays| plays.last_ms)
    }
}

fn named<'n>(name: &'n str, else_: &'n str) -> &'n str {
    if name.trim().is_empty() { else_ } else { name }
}

fn known(number: u16) -> Option<u32> {
    (number != 0).then_some(u32::from(number))
}

/// Whole seconds. A song that is there is never of none.
pub(super) fn seconds(ms: u64) -> u32 {
    let seconds = if ms == 0 { 0 } else { (ms.saturating_add(500) / 1_000).max(1) };
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// Thousands of bits a second.
pub(super) fn bit_rate(bytes: u64, duration_ms: u32) -> Option<u32> {
    let rate = bytes.saturating_mul(8).checked_div(u64::from(duration_ms))?;
    u32::try_from(rate).ok().filter(|rate| *rate > 0)
}

/// 16 bytes as MusicBrainz writes them.
fn uuid(id: [u8; 16]) -> String {
    let hex = HEXLOWER.encode(&id);
    let part = |range| hex.get(range).unwrap_or_default();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

/// By what name a song's picture is had: that of its album, where it is on one.
fn cover(song: &Song) -> String {
    if song.about.album.trim().is_empty() { song.id().to_string() } else { song.about.album_id.to_string() }
}

/// Where a file of the song would lie.
fn path(song: &Song, extension: &str) -> String {
    let part = |text: &str| {
        let text: String = text.chars().map(|c| if c == '/' || c.is_control() { '_' } else { c }).collect();
        if text.trim().trim_matches('.').is_empty() { "_".to_owned() } else { text }
    };
    let owner = part(named(&song.about.owner, NO_ARTIST));
    let album = part(named(&song.about.album, NO_ALBUM));
    let number = if song.track == 0 { String::new() } else { format!("{:02} - ", song.track) };
    format!("{owner}/{album}/{number}{}.{extension}", part(&song.title))
}

/// A song.
pub(super) fn song(heard: &Heard, marks: &Marks) -> Child {
    let (song, file) = (&heard.song, &heard.file);
    let about = &song.about;
    let (artist, owner) = (named(&about.artist, NO_ARTIST), named(&about.owner, NO_ARTIST));
    let genre = Some(&*about.genre).filter(|genre| !genre.trim().is_empty()).map(str::to_owned);
    let extension = file.container.extension();
    let artist_of = |id: Id, name: &str| vec![ArtistRef { id: id.to_string(), name: name.to_owned() }];
    Child {
        id: song.id().to_string(),
        media: Media::Song,
        parent: Some(about.album_id.to_string()),
        title: named(&song.title, "[Unknown Title]").to_owned(),
        album: Some(named(&about.album, NO_ALBUM).to_owned()),
        artist: Some(artist.to_owned()),
        track: known(song.track),
        disc_number: known(song.disc),
        year: known(song.year),
        genres: genre.iter().cloned().collect(),
        genre,
        cover_art: Some(cover(song)),
        size: Some(file.bytes),
        content_type: Some(audio::media_type(extension).to_owned()),
        suffix: Some(extension.to_owned()),
        path: Some(path(song, extension)),
        duration: seconds(u64::from(song.duration_ms)),
        bit_rate: bit_rate(file.bytes, song.duration_ms),
        user_rating: marks.rating(song.id()),
        play_count: marks.count(song.index()),
        played: marks.played(song.index()),
        created: song.created_ms,
        starred: marks.starred(song.id()),
        album_id: Some(about.album_id.to_string()),
        artist_id: Some(about.artist_id.to_string()),
        musicbrainz_id: song.mbid().map(uuid).unwrap_or_default(),
        isrc: song.isrc().map(str::to_owned).into_iter().collect(),
        artists: artist_of(about.artist_id, artist),
        display_artist: artist.to_owned(),
        album_artists: artist_of(about.owner_id, owner),
        display_album_artist: owner.to_owned(),
        ..Child::default()
    }
}

/// What albums are told by, also as folders.
struct Summary {
    artist: Option<ArtistRef>,
    genre: Option<String>,
    year: Option<u32>,
    duration: u32,
    play_count: u64,
    played: Option<u64>,
    created: u64,
}

impl Summary {
    fn of(album: &AlbumOf<'_>, marks: &Marks) -> Self {
        let tracks = || album.tracks.iter();
        let owner = album.shelf.owner_of(album.album);
        Self {
            artist: owner.map(|owner| ArtistRef { id: owner.id.to_string(), name: owner.name.to_string() }),
            genre: album.shelf.album_genre(album.album).map(|genre| genre.name.to_string()),
            year: known(album.album.year),
            duration: seconds(tracks().map(|track| u64::from(track.duration_ms)).sum()),
            play_count: tracks().map(|track| marks.count(track.index())).sum(),
            played: tracks().filter_map(|track| marks.played(track.index())).max(),
            created: tracks().map(|track| track.created_ms).max().unwrap_or(0),
        }
    }
}

/// An album.
pub(super) fn album(of: &AlbumOf<'_>, marks: &Marks) -> Album {
    let Summary { artist, genre, year, duration, play_count, played, created } = Summary::of(of, marks);
    let id = of.album.id;
    let first = of.tracks.first().map(|track| track.about.artist_id);
    Album {
        id: id.to_string(),
        name: of.album.title.to_string(),
        artist: artist.as_ref().map(|artist| artist.name.clone()),
        artist_id: artist.as_ref().map(|artist| artist.id.clone()),
        cover_art: Some(id.to_string()),
        song_count: u32::try_from(of.tracks.len()).unwrap_or(u32::MAX),
        duration,
        play_count,
        played,
        created,
        starred: marks.starred(id),
        user_rating: marks.rating(id),
        year,
        genres: genre.iter().cloned().collect(),
        genre,
        display_artist: artist.as_ref().map(|artist| artist.name.clone()).unwrap_or_default(),
        artists: artist.into_iter().collect(),
        is_compilation: of.tracks.iter().any(|track| Some(track.about.artist_id) != first),
        ..Album::default()
    }
}

/// An album as a folder.
pub(super) fn album_folder(of: &AlbumOf<'_>, marks: &Marks) -> Child {
    let Summary { artist, genre, year, duration, play_count, played, created } = Summary::of(of, marks);
    let (id, title) = (of.album.id, of.album.title.to_string());
    let name = artist.as_ref().map(|artist| artist.name.clone());
    let artist_id = artist.as_ref().map(|artist| artist.id.clone());
    Child {
        id: id.to_string(),
        media: Media::Album,
        parent: artist_id.clone(),
        title: title.clone(),
        album: Some(title),
        display_artist: name.clone().unwrap_or_default(),
        display_album_artist: name.clone().unwrap_or_default(),
        artist: name,
        artist_id,
        album_id: Some(id.to_string()),
        year,
        genres: genre.iter().cloned().collect(),
        genre,
        cover_art: Some(id.to_string()),
        duration,
        user_rating: marks.rating(id),
        play_count,
        played,
        created,
        starred: marks.starred(id),
        album_artists: artist.iter().cloned().collect(),
        artists: artist.into_iter().collect(),
        ..Child::default()
    }
}

/// An artist.
pub(super) fn artist(of: ArtistOf<'_>, marks: &Marks) -> Artist {
    let id = of.artist.id;
    Artist {
        id: id.to_string(),
        name: of.artist.name.to_string(),
        cover_art: Some(id.to_string()),
        album_count: u32::try_from(of.albums).unwrap_or(u32::MAX),
        starred: marks.starred(id),
        user_rating: marks.rating(id),
        roles: vec!["artist".to_owned()],
        ..Artist::default()
    }
}

/// An artist as a folder.
pub(super) fn folder_artist(of: ArtistOf<'_>, marks: &Marks) -> FolderArtist {
    let id = of.artist.id;
    FolderArtist {
        id: id.to_string(),
        name: of.artist.name.to_string(),
        starred: marks.starred(id),
        user_rating: marks.rating(id),
    }
}

/// An artist as a folder in a folder.
pub(super) fn artist_folder(of: ArtistOf<'_>, marks: &Marks) -> Child {
    let (id, name) = (of.artist.id, of.artist.name.to_string());
    Child {
        id: id.to_string(),
        media: Media::Artist,
        title: name.clone(),
        artist: Some(name.clone()),
        display_artist: name,
        artist_id: Some(id.to_string()),
        cover_art: Some(id.to_string()),
        created: of.created_ms,
        user_rating: marks.rating(id),
        starred: marks.starred(id),
        ..Child::default()
    }
}
