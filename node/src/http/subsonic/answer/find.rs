//! Artists, albums and songs by words.

use super::{
    super::{
        bodies::{Body, Found},
        error::SubsonicError,
    },
    Answer,
    ask::{Ask, MOST},
    convert,
    shelves::{AlbumOf, ArtistOf, Shelves},
};
use crate::music::shelf::{Page, Track};

/// Entries of each kind when a request does not say.
const USUAL: usize = 20;
const NONE: Page = Page { offset: 0, size: 0 };

struct All<'s> {
    artists: Vec<ArtistOf<'s>>,
    albums: Vec<AlbumOf<'s>>,
    tracks: Vec<&'s Track>,
}

fn tracks<'s>(shelves: &'s Shelves, words: &str, page: Page) -> Vec<&'s Track> {
    shelves.track_page(page, |shelf, page| shelf.find(words, NONE, NONE, page).tracks)
}

/// A page of each kind. No words mean everything.
fn all<'s>(ask: &Ask, shelves: &'s Shelves) -> Result<All<'s>, SubsonicError> {
    let words = ask.params.text("query")?;
    let artists = ask.page("artistCount", "artistOffset", USUAL)?;
    let albums = ask.page("albumCount", "albumOffset", USUAL)?;
    let songs = ask.page("songCount", "songOffset", USUAL)?;
    Ok(All {
        artists: shelves.artist_page(artists, |shelf, page| shelf.find(words, page, NONE, NONE).artists),
        albums: shelves.album_page(albums, |shelf, page| shelf.find(words, NONE, page, NONE).albums),
        tracks: tracks(shelves, words, songs),
    })
}

pub(super) fn search2(ask: &Ask) -> Answer {
    let shelves = ask.shelves()?;
    let found = all(ask, &shelves)?;
    Ok(Body::SearchResult2(Found {
        artists: ask.artists(&found.artists, convert::folder_artist)?,
        albums: ask.album_folders(&found.albums)?,
        songs: ask.tracks(found.tracks)?,
    }))
}

pub(super) fn search3(ask: &Ask) -> Answer {
    let shelves = ask.shelves()?;
    let found = all(ask, &shelves)?;
    Ok(Body::SearchResult3(Found {
        artists: ask.artists(&found.artists, convert::artist)?,
        albums: ask.albums(&found.albums)?,
        songs: ask.tracks(found.tracks)?,
    }))
}

/// The oldest way to search: songs only. What is said of artist, album and title is looked for as words.
pub(super) fn search(ask: &Ask) -> Answer {
    let shelves = ask.shelves()?;
    let page = ask.page("count", "offset", USUAL)?;
    let said: Vec<&str> =
        ["any", "artist", "album", "title"].iter().filter_map(|name| ask.params.filled(name)).collect();
    let newer = ask.params.number::<u64>("newerThan")?.unwrap_or(0);
    let mut found = tracks(&shelves, &said.join(" "), Page { offset: 0, size: 20 * MOST });
    found.retain(|track| track.created_ms >= newer);
    let total = found.len() as u64;
    let songs = ask.tracks(found.into_iter().skip(page.offset).take(page.size))?;
    Ok(Body::SearchResult(songs, page.offset as u64, total))
}
