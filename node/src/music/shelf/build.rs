//! A shelf of its rows: grouped, sorted, counted.

use std::{cmp::Ordering, collections::HashMap, sync::Arc};

use super::{
    Album, Artist, Genre, IGNORED_ARTICLES, Indexes, MAX_TRACKS, NO_ALBUM, NO_ARTIST, Row, Shelf, Track,
    short, words::Words,
};
use crate::{
    music::{id::Id, song::About},
    search,
};

/// The place of what has no genre.
const NONE: u32 = u32::MAX;

/// Groups, numbered as they come, and how often each is spelled how.
struct Groups<K> {
    numbers: HashMap<K, u32>,
    spelled: HashMap<(u32, Arc<str>), u32>,
}

impl<K: std::hash::Hash + Eq> Groups<K> {
    fn new() -> Self {
        Self { numbers: HashMap::new(), spelled: HashMap::new() }
    }

    fn add(&mut self, key: K, name: &Arc<str>, songs: u32) -> u32 {
        let next = short(self.numbers.len());
        let number = *self.numbers.entry(key).or_insert(next);
        let times = self.spelled.entry((number, name.clone())).or_default();
        *times = times.saturating_add(songs);
        number
    }

    /// Key and name of each: the most frequent spelling, of several the smallest.
    fn named(self) -> Vec<(K, Arc<str>)> {
        let mut best: Vec<Option<(u32, Arc<str>)>> = vec![None; self.numbers.len()];
        for ((number, name), times) in self.spelled {
            let Some(slot) = best.get_mut(number as usize) else { continue };
            let better = |(most, known): &(u32, Arc<str>)| times > *most || times == *most && name < *known;
            if slot.as_ref().is_none_or(better) {
                *slot = Some((times, name));
            }
        }
        let mut keys: Vec<(K, u32)> = self.numbers.into_iter().collect();
        keys.sort_unstable_by_key(|(_, number)| *number);
        let names = best.into_iter().map(|best| best.map(|(_, name)| name).unwrap_or_default());
        keys.into_iter().map(|(key, _)| key).zip(names).collect()
    }
}

/// Numbers of the groups that songs with the same names belong to.
struct Belongs {
    artist: u32,
    album: u32,
    genre: u32,
}

/// Puts groups in order; gives the new place of each number.
fn sort<T>(list: &mut [(u32, T)], order: impl Fn(&T, &T) -> Ordering) -> Vec<u32> {
    list.sort_by(|(_, one), (_, other)| order(one, other));
    let mut places = vec![NONE; list.len()];
    for (place, (number, _)) in list.iter().enumerate() {
        if let Some(slot) = places.get_mut(*number as usize) {
            *slot = short(place);
        }
    }
    places
}

fn at(places: &[u32], number: u32) -> u32 {
    places.get(number as usize).copied().unwrap_or(NONE)
}

/// A name without its article, where something is left.
fn without_article(name: &str) -> &str {
    let Some((first, rest)) = name.trim().split_once(' ') else { return name };
    let is = IGNORED_ARTICLES.split(' ').any(|article| article.eq_ignore_ascii_case(first));
    if is && !rest.trim().is_empty() { rest } else { name }
}

/// What artists are sorted by, and the letter that they stand under.
fn alphabet(name: &str) -> (bool, String, char) {
    let key = search::name_key(without_article(name));
    let letter = key.chars().next().filter(|first| first.is_alphabetic());
    let letter = letter.and_then(|first| first.to_uppercase().next()).unwrap_or('#');
    (letter != '#', key, letter)
}

impl Artist {
    /// What artists of several shelves are put in order by: as those of one are.
    #[must_use]
    pub fn order(&self) -> (bool, String) {
        let (letters, key, _) = alphabet(&self.name);
        if *self.name == *NO_ARTIST { (false, String::new()) } else { (letters, key) }
    }
}

impl Shelf {
    /// Makes a shelf. Rows may come in any order; of a song that is there twice one counts. Beyond [`MAX_TRACKS`] the
    /// rest is left out.
    #[must_use]
    pub fn new(mut rows: Vec<Row>) -> Self {
        rows.sort_by_key(|row| row.song.index());
        rows.dedup_by_key(|row| row.song.index());
        let cut = rows.len() > MAX_TRACKS;
        rows.truncate(MAX_TRACKS);
        let mut groups = Grouped::of(&rows);
        let mut shelf = Self { cut, ..Self::default() };
        shelf.place_artists(&mut groups);
        shelf.place_albums(&mut groups);
        shelf.place_genres(&mut groups);
        shelf.place_tracks(rows, &groups);
        shelf.fill_albums();
        shelf.fill_artists();
        shelf.fill_genres();
        shelf.sort_albums();
        shelf.words = Indexes {
            artists: Words::of(shelf.artists.iter().map(|artist| &*artist.name)),
            albums: Words::of(shelf.albums.iter().map(|album| &*album.title)),
            tracks: Words::of(shelf.tracks.iter().map(|track| &*track.title)),
        };
        shelf.shrink();
        shelf
    }

    /// Lists that were made of others may still have their room.
    fn shrink(&mut self) {
        self.tracks.shrink_to_fit();
        self.albums.shrink_to_fit();
        self.albums_by_title.shrink_to_fit();
        self.artists.shrink_to_fit();
        self.genres.shrink_to_fit();
    }

    fn place_artists(&mut self, groups: &mut Grouped) {
        let named = std::mem::take(&mut groups.artists);
        let mut list: Vec<_> = named
            .into_iter()
            .enumerate()
            .map(|(number, (id, name))| {
                let nameless = search::name_key(&name).is_empty();
                let alphabet = if nameless { (false, String::new(), '#') } else { alphabet(&name) };
                let name = if nameless { NO_ARTIST.into() } else { name };
                (short(number), (alphabet, id, name))
            })
            .collect();
        groups.artist_places = sort(&mut list, Ord::cmp);
        self.artists = list
            .into_iter()
            .map(|(_, ((_, _, letter), id, name))| Artist {
                id,
                name,
                letter,
                own: 0..0,
                guest: Box::default(),
                songs: 0,
            })
            .collect();
    }

    fn place_albums(&mut self, groups: &mut Grouped) {
        let named = std::mem::take(&mut groups.albums);
        let mut list: Vec<_> = named
            .into_iter()
            .enumerate()
            .map(|(number, (id, title))| {
                let owner = at(&groups.artist_places, at(&groups.owners, short(number)));
                let key = search::name_key(&title);
                let title = if key.is_empty() { NO_ALBUM.into() } else { title };
                (short(number), (owner, key, id, title))
            })
            .collect();
        groups.album_places = sort(&mut list, Ord::cmp);
        let mut by_title: Vec<(&str, u32)> =
            list.iter().enumerate().map(|(place, (_, (_, key, ..)))| (&**key, short(place))).collect();
        by_title.sort_unstable();
        self.albums_by_title = by_title.into_iter().map(|(_, place)| place).collect();
        self.albums = list
            .into_iter()
            .map(|(_, (artist, _, id, title))| Album {
                id,
                title,
                artist,
                year: 0,
                genre: NONE,
                tracks: 0..0,
                duration_ms: 0,
                created_ms: 0,
            })
            .collect();
    }

    fn place_genres(&mut self, groups: &mut Grouped) {
        let named = std::mem::take(&mut groups.genres);
        let mut list: Vec<_> =
            named.into_iter().enumerate().map(|(number, genre)| (short(number), genre)).collect();
        groups.genre_places = sort(&mut list, Ord::cmp);
        let genre = |(_, (key, name))| Genre { name, key, albums: Box::default(), tracks: Box::default() };
        self.genres = list.into_iter().map(genre).collect();
    }

    fn place_tracks(&mut self, rows: Vec<Row>, groups: &Grouped) {
        let place = |(row, names): (Row, &u32)| {
            let names = groups.names.get(*names as usize)?;
            Some(Track {
                song: row.song,
                other: row.other,
                sources: row.sources,
                album: at(&groups.album_places, names.album),
                artist: at(&groups.artist_places, names.artist),
                genre: at(&groups.genre_places, names.genre),
            })
        };
        self.tracks = rows.into_iter().zip(&groups.of_row).filter_map(place).collect();
        self.tracks.sort_by(|one, other| {
            let place = |track: &Track| (track.album, track.disc, track.track);
            let then = || one.title.cmp(&other.title).then(one.index().cmp(&other.index()));
            place(one).cmp(&place(other)).then_with(then)
        });
        self.by_index = (0..short(self.tracks.len())).collect();
        let tracks = &self.tracks;
        self.by_index.sort_unstable_by_key(|place| tracks.get(*place as usize).map(|track| track.index()));
    }

    fn fill_albums(&mut self) {
        let mut start = 0;
        for run in self.tracks.chunk_by(|one, other| one.album == other.album) {
            let end = start + run.len();
            let number = run.first().map_or(NONE, |track| track.album);
            if let Some(album) = self.albums.get_mut(number as usize) {
                album.tracks = short(start)..short(end);
                album.duration_ms = run.iter().map(|track| u64::from(track.duration_ms)).sum();
                album.created_ms = run.iter().map(|track| track.created_ms).max().unwrap_or(0);
                album.year = run.iter().map(|track| track.year).filter(|year| *year != 0).min().unwrap_or(0);
                album.genre =
                    most_frequent(run.iter().map(|track| track.genre).filter(|genre| *genre != NONE));
            }
            start = end;
        }
    }

    fn fill_artists(&mut self) {
        let mut start = 0;
        for run in self.albums.chunk_by(|one, other| one.artist == other.artist) {
            let end = start + run.len();
            let number = run.first().map_or(NONE, |album| album.artist);
            if let Some(artist) = self.artists.get_mut(number as usize) {
                artist.own = short(start)..short(end);
                artist.songs = run.iter().map(|album| short(album.tracks.len())).sum();
            }
            start = end;
        }
        let mut guests: Vec<(u32, u32)> = Vec::new();
        for track in &self.tracks {
            let owner = self.albums.get(track.album as usize).map_or(NONE, |album| album.artist);
            if owner != track.artist {
                guests.push((track.artist, track.album));
                if let Some(artist) = self.artists.get_mut(track.artist as usize) {
                    artist.songs += 1;
                }
            }
        }
        guests.sort_unstable();
        guests.dedup();
        for run in guests.chunk_by(|one, other| one.0 == other.0) {
            let number = run.first().map_or(NONE, |guest| guest.0);
            if let Some(artist) = self.artists.get_mut(number as usize) {
                artist.guest = run.iter().map(|(_, album)| *album).collect();
            }
        }
    }

    fn fill_genres(&mut self) {
        let mut tracks: Vec<Vec<u32>> = vec![Vec::new(); self.genres.len()];
        let mut albums = tracks.clone();
        for (place, track) in self.tracks.iter().enumerate() {
            let genre = track.genre as usize;
            if let (Some(tracks), Some(albums)) = (tracks.get_mut(genre), albums.get_mut(genre)) {
                tracks.push(short(place));
                // Songs of an album come one behind the other.
                if albums.last() != Some(&track.album) {
                    albums.push(track.album);
                }
            }
        }
        for ((genre, tracks), albums) in self.genres.iter_mut().zip(tracks).zip(albums) {
            (genre.tracks, genre.albums) = (tracks.into(), albums.into());
        }
    }

    fn sort_albums(&mut self) {
        let albums = &self.albums;
        let of = |place: &u32| albums.get(*place as usize);
        let all: Vec<u32> = (0..short(albums.len())).collect();
        let mut by_id = all.clone();
        by_id.sort_unstable_by_key(|place| of(place).map(|album| album.id));
        let mut by_age = all.clone();
        by_age.sort_by_key(|place| std::cmp::Reverse(of(place).map(|album| album.created_ms)));
        let mut by_year: Vec<u32> =
            all.into_iter().filter(|place| of(place).is_some_and(|album| album.year != 0)).collect();
        by_year.sort_by_key(|place| of(place).map(|album| album.year));
        by_year.shrink_to_fit();
        (self.albums_by_id, self.albums_by_age, self.albums_by_year) = (by_id, by_age, by_year);
        let artists = &self.artists;
        self.artists_by_id = (0..short(artists.len())).collect();
        self.artists_by_id.sort_unstable_by_key(|place| artists.get(*place as usize).map(|artist| artist.id));
    }
}

/// The number that is there most often; of several the smallest.
fn most_frequent(numbers: impl Iterator<Item = u32>) -> u32 {
    let mut sorted: Vec<u32> = numbers.collect();
    sorted.sort_unstable();
    let runs = sorted.chunk_by(|one, other| one == other);
    let most = runs.max_by_key(|run| (run.len(), std::cmp::Reverse(run.first().copied())));
    most.and_then(|run| run.first().copied()).unwrap_or(NONE)
}

/// Rows by their names.
struct Grouped {
    /// What songs with the same names belong to.
    names: Vec<Belongs>,
    /// For each row, its place in `names`.
    of_row: Vec<u32>,
    artists: Vec<(Id, Arc<str>)>,
    albums: Vec<(Id, Arc<str>)>,
    genres: Vec<(Arc<str>, Arc<str>)>,
    /// For each album, its artist.
    owners: Vec<u32>,
    artist_places: Vec<u32>,
    album_places: Vec<u32>,
    genre_places: Vec<u32>,
}

impl Grouped {
    fn of(rows: &[Row]) -> Self {
        // Most songs share their names with others, and then the very object.
        let mut numbers: HashMap<*const About, u32> = HashMap::new();
        let mut distinct: Vec<(&About, u32)> = Vec::new();
        let mut of_row = Vec::with_capacity(rows.len());
        for row in rows {
            let number = *numbers.entry(Arc::as_ptr(&row.song.about)).or_insert_with(|| {
                distinct.push((&row.song.about, 0));
                short(distinct.len() - 1)
            });
            if let Some((_, songs)) = distinct.get_mut(number as usize) {
                *songs += 1;
            }
            of_row.push(number);
        }
        let (mut artists, mut albums, mut genres) = (Groups::new(), Groups::new(), Groups::new());
        let mut owners = Vec::new();
        let mut names = Vec::with_capacity(distinct.len());
        for (about, songs) in distinct {
            let artist = artists.add(about.artist_id, &about.artist, songs);
            let owner = artists.add(about.owner_id, &about.owner, songs);
            let album = albums.add(about.album_id, &about.album, songs);
            if album as usize == owners.len() {
                owners.push(owner);
            }
            let genre = if about.genre_key.is_empty() {
                NONE
            } else {
                genres.add(about.genre_key.clone(), &about.genre, songs)
            };
            names.push(Belongs { artist, album, genre });
        }
        Self {
            names,
            of_row,
            artists: artists.named(),
            albums: albums.named(),
            genres: genres.named(),
            owners,
            artist_places: Vec::new(),
            album_places: Vec::new(),
            genre_places: Vec::new(),
        }
    }
}
