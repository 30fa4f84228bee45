//! Folders, artists, albums and songs.

use std::collections::BTreeMap;

use super::{
    super::{
        bodies::{self, Artists, Body, Directory, Index, Indexes, Info, MusicFolder},
        error::SubsonicError,
    },
    Answer,
    ask::Ask,
    convert,
    shelves::{ArtistOf, Shelves},
};
use crate::music::{
    Folder,
    id::Id,
    shelf::{AlbumList, IGNORED_ARTICLES, Page, Shelf, TrackList},
};

/// Numbers and names of the folders.
const FOLDERS: [(u32, &str, Folder); 2] = [(1, "My Library", Folder::Own), (2, "Online now", Folder::Online)];

pub(super) fn folders(_: &Ask) -> Answer {
    let folder = |(id, name, _): (u32, &str, _)| MusicFolder { id, name: name.to_owned() };
    Ok(Body::MusicFolders(FOLDERS.into_iter().map(folder).collect()))
}

/// Artists by letters, in the form that `form` makes.
fn by_letters<T>(
    ask: &Ask,
    shelves: &Shelves,
    form: impl Fn(ArtistOf<'_>, &convert::Marks) -> T,
) -> Result<Vec<Index<T>>, SubsonicError> {
    let artists = shelves.artists();
    let letters: Vec<char> = artists.iter().map(|found| found.artist.letter).collect();
    let mut index: Vec<Index<T>> = Vec::new();
    let mut places: BTreeMap<char, usize> = BTreeMap::new();
    for (letter, artist) in letters.into_iter().zip(ask.artists(&artists, form)?) {
        let next = index.len();
        let place = *places.entry(letter).or_insert(next);
        if place == next {
            index.push(Index { name: letter.to_string(), artists: Vec::new() });
        }
        if let Some(index) = index.get_mut(place) {
            index.artists.push(artist);
        }
    }
    Ok(index)
}

pub(super) fn indexes(ask: &Ask) -> Answer {
    let last_modified = ask.rest.changed_ms();
    let known = ask.params.number::<u64>("ifModifiedSince")?;
    // Who knows all of it already gets an answer without anything.
    let index = if known.is_some_and(|known| known >= last_modified) {
        Vec::new()
    } else {
        by_letters(ask, &ask.shelves()?, convert::folder_artist)?
    };
    let ignored_articles = IGNORED_ARTICLES.to_owned();
    Ok(Body::Indexes(Indexes { ignored_articles, last_modified, index, children: Vec::new() }))
}

pub(super) fn artists(ask: &Ask) -> Answer {
    let index = by_letters(ask, &ask.shelves()?, convert::artist)?;
    Ok(Body::Artists(Artists { ignored_articles: IGNORED_ARTICLES.to_owned(), index }))
}

pub(super) fn artist(ask: &Ask) -> Answer {
    let shelves = ask.both();
    let id = ask.params.id("id")?;
    let found = shelves.artist(id).ok_or_else(SubsonicError::not_found)?;
    let artist = convert::artist(found, &ask.marks(&[], &[id])?);
    Ok(Body::Artist(Box::new(artist), ask.albums(&shelves.albums_of(id))?))
}

pub(super) fn album(ask: &Ask) -> Answer {
    let shelves = ask.both();
    let found = shelves.album(ask.params.id("id")?).ok_or_else(SubsonicError::not_found)?;
    let songs = ask.tracks(found.tracks.iter().copied())?;
    let album = convert::album(&found, &ask.album_marks(std::slice::from_ref(&found))?);
    Ok(Body::Album(Box::new(album), songs))
}

pub(super) fn song(ask: &Ask) -> Answer {
    let found = ask.song(&ask.both(), ask.song_index("id")?)?.ok_or_else(SubsonicError::not_found)?;
    let song = ask.children(&[found])?.pop().ok_or_else(SubsonicError::not_found)?;
    Ok(Body::Song(Box::new(song)))
}

/// A music folder as a directory.
fn folder(ask: &Ask, number: u32) -> Answer {
    let found = FOLDERS.iter().find(|(id, ..)| *id == number).ok_or_else(SubsonicError::not_found)?;
    let shelves = Shelves::new(vec![ask.app().peer.music.shelf(found.2)]);
    let children = ask.artists(&shelves.artists(), convert::artist_folder)?;
    let name = found.1.to_owned();
    Ok(Body::Directory(Box::new(Directory {
        id: number.to_string(),
        name,
        children,
        ..Directory::default()
    })))
}

pub(super) fn directory(ask: &Ask) -> Answer {
    if let Some(number) = ask.params.filled("id").and_then(|id| id.parse().ok()) {
        return folder(ask, number);
    }
    let shelves = ask.both();
    let id: Id = ask.params.id("id")?;
    let directory = match id {
        Id::Song(_) => return Err(SubsonicError::not_found()),
        Id::Album(_) => {
            let found = shelves.album(id).ok_or_else(SubsonicError::not_found)?;
            let about = convert::album_folder(&found, &ask.album_marks(std::slice::from_ref(&found))?);
            Directory {
                id: about.id,
                parent: about.parent,
                name: about.title,
                starred: about.starred,
                user_rating: about.user_rating,
                play_count: about.play_count,
                children: ask.tracks(found.tracks.iter().copied())?,
            }
        }
        Id::Artist(_) => {
            let found = shelves.artist(id).ok_or_else(SubsonicError::not_found)?;
            let about = convert::folder_artist(found, &ask.marks(&[], &[id])?);
            let children = ask.album_folders(&shelves.albums_of(id))?;
            Directory {
                id: about.id,
                parent: None,
                name: about.name,
                starred: about.starred,
                user_rating: about.user_rating,
                play_count: children.iter().map(|album| album.play_count).sum(),
                children,
            }
        }
    };
    Ok(Body::Directory(Box::new(directory)))
}

pub(super) fn genres(ask: &Ask) -> Answer {
    let shelves = ask.shelves()?;
    let mut known: Vec<(&str, bodies::Genre)> = Vec::new();
    let mut seen: Vec<&Shelf> = Vec::new();
    for shelf in shelves.each() {
        for genre in shelf.genres() {
            let name = &*genre.name;
            // What an earlier shelf has was counted there.
            let (songs, albums) = if seen.is_empty() {
                (genre.songs(), genre.albums())
            } else {
                let songs = shelf.tracks(TrackList::Genre(name), Page::ALL).into_iter();
                let songs =
                    songs.filter(|song| !seen.iter().any(|shelf| shelf.track(song.index()).is_some()));
                let albums = shelf.albums(AlbumList::Genre(name), Page::ALL).into_iter();
                let albums = albums.filter(|album| !seen.iter().any(|shelf| shelf.album(album.id).is_some()));
                (songs.count(), albums.count())
            };
            let earlier = seen.iter().find_map(|shelf| shelf.genre(name)).map(|genre| &*genre.name);
            let place = earlier.and_then(|name| known.binary_search_by(|(known, _)| known.cmp(&name)).ok());
            match place.and_then(|place| known.get_mut(place)) {
                Some((_, genre)) => {
                    genre.song_count += songs as u64;
                    genre.album_count += albums as u64;
                }
                None => {
                    let (song_count, album_count) = (songs as u64, albums as u64);
                    known.push((name, bodies::Genre { name: name.to_owned(), song_count, album_count }));
                }
            }
        }
        known.sort_by(|(one, _), (other, _)| one.cmp(other));
        seen.push(shelf);
    }
    Ok(Body::Genres(known.into_iter().map(|(_, genre)| genre).collect()))
}

/// Nobody tells here what others wrote about artists; apps ask for it all the same.
fn known_artist(ask: &Ask) -> Result<(), SubsonicError> {
    let shelves = ask.both();
    let id = ask.params.id("id")?;
    let there = match id {
        Id::Song(index) => ask.song(&shelves, index)?.is_some(),
        Id::Album(_) => shelves.album(id).is_some(),
        Id::Artist(_) => shelves.artist(id).is_some(),
    };
    if there { Ok(()) } else { Err(SubsonicError::not_found()) }
}

pub(super) fn artist_info(ask: &Ask) -> Answer {
    known_artist(ask).map(|()| Body::ArtistInfo(Box::default(), Vec::new()))
}

pub(super) fn artist_info2(ask: &Ask) -> Answer {
    known_artist(ask).map(|()| Body::ArtistInfo2(Box::default(), Vec::new()))
}

pub(super) fn album_info(ask: &Ask) -> Answer {
    known_artist(ask).map(|()| Body::AlbumInfo(Box::new(Info::default())))
}
