//! Albums and songs by kind and order.

use std::{cmp::Reverse, collections::HashMap, sync::PoisonError};

use super::{
    super::{
        bodies::{Body, Child, Found},
        error::SubsonicError,
    },
    Answer,
    ask::{Ask, MOST},
    convert, kept,
    shelves::{AlbumOf, Shelves, once},
};
use crate::{
    listener::{Kind, PAGE},
    music::{
        id::Id,
        shelf::{AlbumList, NO_ARTIST, Page, Track, TrackList},
    },
};

/// Entries of a list when a request does not say.
const USUAL: usize = 10;
/// Songs that are like another, and those of an artist that are heard most, when a request does not say.
const USUAL_LIKE: usize = 50;
/// Apps whose order at random is remembered.
const SEEDS: usize = 256;

/// The albums that a request asks for.
fn album_list<'s>(ask: &Ask, shelves: &'s Shelves) -> Result<Vec<AlbumOf<'s>>, SubsonicError> {
    let page = ask.page("size", "offset", USUAL)?;
    let params = &ask.params;
    let year = |name| params.needed_number::<u64>(name).map(|year| u16::try_from(year).unwrap_or(u16::MAX));
    let kind = params.filled("type").ok_or_else(|| SubsonicError::missing("type"))?;
    let list = match kind {
        "random" => AlbumList::Random(seed(ask, page.offset)),
        "newest" => AlbumList::Newest,
        "alphabeticalByName" => AlbumList::ByTitle,
        "alphabeticalByArtist" => AlbumList::ByArtist,
        "byYear" => AlbumList::Years(year("fromYear")?, year("toYear")?),
        "byGenre" => AlbumList::Genre(params.filled("genre").ok_or_else(|| SubsonicError::missing("genre"))?),
        _ => return listened(ask, shelves, kind, page),
    };
    Ok(shelves.album_page(page, |shelf, page| shelf.albums(list, page)))
}

/// Albums by what the listener said and did.
fn listened<'s>(
    ask: &Ask,
    shelves: &'s Shelves,
    kind: &str,
    page: Page,
) -> Result<Vec<AlbumOf<'s>>, SubsonicError> {
    let listener = &ask.app().listener;
    let album = |song: u64| {
        let track = shelves.track(song)?;
        Some(track.about.album_id)
    };
    let ids: Vec<Id> = match kind {
        "highest" => kept(listener.rated(Kind::Album))?.into_iter().map(|(id, _)| id).collect(),
        "starred" => kept(listener.starred(Kind::Album))?.into_iter().map(|(id, _)| id).collect(),
        "recent" => {
            kept(listener.last_played(0, PAGE))?.into_iter().filter_map(|(song, _)| album(song)).collect()
        }
        "frequent" => {
            let mut counts: HashMap<Id, u64> = HashMap::new();
            for (song, plays) in kept(listener.most_played(0, PAGE))? {
                if let Some(album) = album(song) {
                    *counts.entry(album).or_default() += plays.count;
                }
            }
            let mut counts: Vec<(Id, u64)> = counts.into_iter().collect();
            counts.sort_unstable_by_key(|(id, count)| (Reverse(*count), *id));
            counts.into_iter().map(|(id, _)| id).collect()
        }
        _ => return Err(SubsonicError::wrong("type", "the name of a list of albums")),
    };
    let mut known = std::collections::HashSet::new();
    let found = ids.into_iter().filter(|id| known.insert(*id)).filter_map(|id| shelves.album(id));
    Ok(found.skip(page.offset).take(page.size).collect())
}

/// A new order at random for a first page, and the same one for those behind it.
fn seed(ask: &Ask, offset: usize) -> u64 {
    let mut seeds = ask.rest.seeds.lock().unwrap_or_else(PoisonError::into_inner);
    if offset == 0 {
        if seeds.len() >= SEEDS {
            seeds.clear();
        }
        seeds.remove(&ask.device.id);
    }
    *seeds.entry(ask.device.id).or_insert_with(rand::random)
}

pub(super) fn albums(ask: &Ask) -> Answer {
    let shelves = ask.shelves()?;
    Ok(Body::AlbumList(ask.album_folders(&album_list(ask, &shelves)?)?))
}

pub(super) fn albums2(ask: &Ask) -> Answer {
    let shelves = ask.shelves()?;
    Ok(Body::AlbumList2(ask.albums(&album_list(ask, &shelves)?)?))
}

pub(super) fn random(ask: &Ask) -> Answer {
    let shelves = ask.shelves()?;
    let size = ask.params.number("size")?.unwrap_or(USUAL).min(MOST);
    let year = |name| {
        let year = ask.params.number::<u64>(name)?;
        Ok::<_, SubsonicError>(year.map(|year| u16::try_from(year).unwrap_or(u16::MAX)))
    };
    let years = match (year("fromYear")?, year("toYear")?) {
        (None, None) => None,
        (from, to) => Some((from.unwrap_or(0), to.unwrap_or(u16::MAX))),
    };
    let seed = rand::random();
    let list = TrackList::Random { seed, genre: ask.params.filled("genre"), years };
    let page = Page { offset: 0, size };
    // Each shelf gives as many of its songs as it has of all of them.
    let total = shelves.len().max(1);
    let mut found: Vec<&Track> = Vec::new();
    for shelf in shelves.each() {
        let share = (size * shelf.len()).div_ceil(total);
        found.extend(shelf.tracks(list, Page { size: share, ..page }));
    }
    if found.len() < size {
        found.extend(shelves.track_page(page, |shelf, page| shelf.tracks(list, page)));
    }
    let mut found = once(found);
    found.truncate(size);
    Ok(Body::RandomSongs(ask.tracks(found)?))
}

pub(super) fn by_genre(ask: &Ask) -> Answer {
    let shelves = ask.shelves()?;
    let page = ask.page("count", "offset", USUAL)?;
    let genre = ask.params.filled("genre").ok_or_else(|| SubsonicError::missing("genre"))?;
    let found = shelves.track_page(page, |shelf, page| shelf.tracks(TrackList::Genre(genre), page));
    Ok(Body::SongsByGenre(ask.tracks(found)?))
}

/// Songs of the same artist and the same genre, by turns.
fn like(ask: &Ask) -> Result<Vec<Child>, SubsonicError> {
    let shelves = ask.both();
    let count = ask.params.number("count")?.unwrap_or(USUAL_LIKE).min(MOST);
    let id: Id = ask.params.id("id")?;
    let (artist, genre) = match id {
        Id::Song(index) => {
            let song = ask.song(&shelves, index)?.ok_or_else(SubsonicError::not_found)?.song;
            (song.about.artist_id, song.about.genre.to_string())
        }
        Id::Album(_) => {
            let album = shelves.album(id).ok_or_else(SubsonicError::not_found)?;
            let genre = album.shelf.album_genre(album.album).map(|genre| genre.name.to_string());
            let owner = album.shelf.owner_of(album.album).map_or(id, |owner| owner.id);
            (owner, genre.unwrap_or_default())
        }
        Id::Artist(_) => {
            shelves.artist(id).ok_or_else(SubsonicError::not_found)?;
            let genre = shelves.tracks_by(id).into_iter().map(|track| track.about.genre.to_string());
            (id, genre.into_iter().find(|genre| !genre.is_empty()).unwrap_or_default())
        }
    };
    let seed: u64 = rand::random();
    let mut same = shelves.tracks_by(artist);
    same.sort_by_cached_key(|track| {
        blake3::hash(&[seed.to_le_bytes(), track.index().to_le_bytes()].concat()).as_bytes().to_owned()
    });
    let list = TrackList::Random { seed, genre: Some(&genre), years: None };
    let page = Page { offset: 0, size: count.saturating_add(1) };
    let others = if genre.is_empty() {
        Vec::new()
    } else {
        shelves.track_page(page, |shelf, page| shelf.tracks(list, page))
    };
    let (mut same, mut others) = (same.into_iter(), others.into_iter());
    let mut mixed = Vec::new();
    loop {
        let pair = (same.next(), others.next());
        if pair.0.is_none() && pair.1.is_none() {
            break;
        }
        mixed.extend(pair.0.into_iter().chain(pair.1));
        if mixed.len() > count.saturating_mul(2) + 2 {
            break;
        }
    }
    let mut found = once(mixed);
    found.retain(|track| track.id() != id);
    found.truncate(count);
    ask.tracks(found)
}

pub(super) fn similar(ask: &Ask) -> Answer {
    like(ask).map(Body::SimilarSongs)
}

pub(super) fn similar2(ask: &Ask) -> Answer {
    like(ask).map(Body::SimilarSongs2)
}

pub(super) fn top(ask: &Ask) -> Answer {
    let shelves = ask.both();
    let count = ask.params.number("count")?.unwrap_or(USUAL_LIKE).min(MOST);
    let artist = if ask.params.filled("id").is_some() {
        let id = ask.params.id("id")?;
        shelves.artist(id).ok_or_else(SubsonicError::not_found)?;
        id
    } else {
        let name = ask.params.filled("artist").ok_or_else(|| SubsonicError::missing("artist"))?;
        // What is shown where nobody knows the artist is no name.
        Id::artist(if name == NO_ARTIST { "" } else { name })
    };
    let mut found = shelves.tracks_by(artist);
    let indexes: Vec<u64> = found.iter().map(|track| track.index()).collect();
    let marks = ask.marks(&indexes, &[])?;
    found.sort_by_key(|track| Reverse(marks.count(track.index())));
    found.truncate(count);
    Ok(Body::TopSongs(ask.tracks(found)?))
}

/// Names of what has a star, the newest first.
fn stars(ask: &Ask, kind: Kind) -> Result<Vec<Id>, SubsonicError> {
    Ok(kept(ask.app().listener.starred(kind))?.into_iter().map(|(id, _)| id).collect())
}

fn starred_songs(ask: &Ask, shelves: &Shelves) -> Result<Vec<Child>, SubsonicError> {
    let mut found = Vec::new();
    let whole = ask.params.filled("musicFolderId").is_none();
    for id in stars(ask, Kind::Song)? {
        let Id::Song(index) = id else { continue };
        // A star lasts, also when nobody is there who has the song.
        if whole {
            found.extend(ask.song(shelves, index)?);
        } else {
            found.extend(shelves.track(index).map(Into::into));
        }
    }
    ask.children(&found)
}

pub(super) fn starred(ask: &Ask) -> Answer {
    let shelves = ask.shelves()?;
    let artists: Vec<_> = stars(ask, Kind::Artist)?.into_iter().filter_map(|id| shelves.artist(id)).collect();
    let albums: Vec<_> = stars(ask, Kind::Album)?.into_iter().filter_map(|id| shelves.album(id)).collect();
    Ok(Body::Starred(Found {
        artists: ask.artists(&artists, convert::folder_artist)?,
        albums: ask.album_folders(&albums)?,
        songs: starred_songs(ask, &shelves)?,
    }))
}

pub(super) fn starred2(ask: &Ask) -> Answer {
    let shelves = ask.shelves()?;
    let artists: Vec<_> = stars(ask, Kind::Artist)?.into_iter().filter_map(|id| shelves.artist(id)).collect();
    let albums: Vec<_> = stars(ask, Kind::Album)?.into_iter().filter_map(|id| shelves.album(id)).collect();
    Ok(Body::Starred2(Found {
        artists: ask.artists(&artists, convert::artist)?,
        albums: ask.albums(&albums)?,
        songs: starred_songs(ask, &shelves)?,
    }))
}
