//! Artists, albums and songs by words.

use super::{
    Album, Artist, Page, Shelf, Track, long,
    words::{Part, Places, Words},
};
use crate::search;

/// What was found of each kind.
#[derive(Debug)]
pub struct Found<'s> {
    /// By name.
    pub artists: Vec<&'s Artist>,
    /// By title or artist.
    pub albums: Vec<&'s Album>,
    /// By title, artist or album.
    pub tracks: Vec<&'s Track>,
}

/// Words of a query: each whole, and in its parts.
type Query = [(String, Vec<String>)];

/// Names that have every word of a query. A word is there where the whole is, or where all of its parts are.
fn every(query: &Query, length: usize, having: &dyn Fn(&str) -> Places) -> Places {
    let mut found = Places::all(length);
    for (whole, parts) in query {
        let mut here = having(whole);
        if parts.len() > 1 {
            let mut apart = Places::all(length);
            for part in parts {
                apart.keep(&having(part));
            }
            here.join(&apart);
        }
        found.keep(&here);
        if found.is_empty() {
            break;
        }
    }
    found
}

/// What was found, the best first: all words are in the name, then they begin words of the name, then they are found
/// through other names.
fn ranked(query: &Query, words: &Words, all: Places) -> [Places; 3] {
    let length = all.length();
    let mut whole = every(query, length, &|word| words.having(word, Part::Whole));
    let mut begun = every(query, length, &|word| words.having(word, Part::Beginning));
    whole.keep(&all);
    begun.keep(&all);
    let mut rest = all;
    rest.drop_all(&begun);
    begun.drop_all(&whole);
    [whole, begun, rest]
}

fn page<'l, T>(ranks: &[Places; 3], page: Page, list: &'l [T]) -> Vec<&'l T> {
    let Page { mut offset, size } = page;
    let mut taken = Vec::new();
    for rank in ranks {
        let count = rank.count();
        if offset >= count {
            offset -= count;
            continue;
        }
        let wanted = size - taken.len();
        taken.extend(rank.iter().skip(offset).take(wanted).filter_map(|place| list.get(place)));
        offset = 0;
        if taken.len() >= size {
            break;
        }
    }
    taken
}

impl Shelf {
    /// What has every word, or a longer one that begins with it, in its name or the names that it goes with; a page of
    /// each kind. Names with the words themselves come first, then those with longer ones, each in the order of the
    /// shelf. No words (also `""`, as apps write it) mean everything, songs in the order of the ledger: what is new comes
    /// last, so that an app that pages through everything misses nothing.
    #[must_use]
    pub fn find(&self, words: &str, artists: Page, albums: Page, tracks: Page) -> Found<'_> {
        let words = words.trim().trim_matches('"').trim();
        if words.is_empty() {
            let by_index = tracks.of(&self.by_index).iter();
            return Found {
                artists: artists.of(&self.artists).iter().collect(),
                albums: albums.of(&self.albums).iter().collect(),
                tracks: by_index.filter_map(|place| self.tracks.get(*place as usize)).collect(),
            };
        }
        let query = search::asked_words(words);
        if query.is_empty() {
            return Found { artists: Vec::new(), albums: Vec::new(), tracks: Vec::new() };
        }
        // What nobody wants is not looked for.
        let found_artists = if artists.size == 0 { Vec::new() } else { self.find_artists(&query, artists) };
        let found_albums = if albums.size == 0 { Vec::new() } else { self.find_albums(&query, albums) };
        let found_tracks = if tracks.size == 0 { Vec::new() } else { self.find_tracks(&query, tracks) };
        Found { artists: found_artists, albums: found_albums, tracks: found_tracks }
    }

    fn find_artists(&self, query: &Query, wanted: Page) -> Vec<&Artist> {
        let all = every(query, self.artists.len(), &|word| self.words.artists.having(word, Part::Beginning));
        page(&ranked(query, &self.words.artists, all), wanted, &self.artists)
    }

    fn find_albums(&self, query: &Query, wanted: Page) -> Vec<&Album> {
        let all = every(query, self.albums.len(), &|word| self.albums_having(word));
        page(&ranked(query, &self.words.albums, all), wanted, &self.albums)
    }

    fn find_tracks(&self, query: &Query, wanted: Page) -> Vec<&Track> {
        let all = every(query, self.tracks.len(), &|word| self.tracks_having(word));
        page(&ranked(query, &self.words.tracks, all), wanted, &self.tracks)
    }

    /// Albums with such a word in their title or the name of their artist.
    fn albums_having(&self, word: &str) -> Places {
        let mut found = self.words.albums.having(word, Part::Beginning);
        for place in self.words.artists.having(word, Part::Beginning).iter() {
            if let Some(artist) = self.artists.get(place) {
                found.add_range(long(&artist.own));
            }
        }
        found
    }

    /// Songs with such a word in their title, their artist, their album or its artist.
    fn tracks_having(&self, word: &str) -> Places {
        let mut found = self.words.tracks.having(word, Part::Beginning);
        for place in self.albums_having(word).iter() {
            if let Some(album) = self.albums.get(place) {
                found.add_range(long(&album.tracks));
            }
        }
        let artists = self.words.artists.having(word, Part::Beginning);
        // Songs of an artist on the albums of others.
        for (place, artist) in artists.iter().filter_map(|place| Some((place, self.artists.get(place)?))) {
            for album in artist.guest.iter().filter_map(|album| self.albums.get(*album as usize)) {
                for at in long(&album.tracks) {
                    if self.tracks.get(at).is_some_and(|track| track.artist as usize == place) {
                        found.add(at);
                    }
                }
            }
        }
        found
    }
}
