use std::collections::BTreeSet;

use antiphon_proto::wire;
use proptest::prelude::*;

use super::*;
use crate::{music::song::Names, search};

fn block(artist: &str, album: &str, title: &str) -> wire::Song {
    let text = |text: &str| text.to_owned();
    wire::Song { artist: text(artist), album: text(album), title: text(title), ..wire::Song::default() }
}

fn shelf(blocks: &[wire::Song]) -> Shelf {
    let mut names = Names::default();
    let row = |(index, block): (usize, &wire::Song)| {
        let index = index as u64;
        Row { song: Arc::new(names.song(index, 1_000 + index, block)), other: None, sources: 0 }
    };
    Shelf::new(blocks.iter().enumerate().map(row).collect())
}

fn titles(albums: &[&Album]) -> Vec<String> {
    albums.iter().map(|album| album.title.to_string()).collect()
}

fn songs(tracks: &[&Track]) -> Vec<String> {
    tracks.iter().map(|track| track.title.to_string()).collect()
}

fn page(offset: usize, size: usize) -> Page {
    Page { offset, size }
}

/// Two artists of their own, a compilation, songs without names.
fn some() -> Shelf {
    let on = |track, year, genre: &str, song: wire::Song| wire::Song {
        track,
        year,
        genre: genre.to_owned(),
        duration_ms: 1_000,
        ..song
    };
    let various = |song| wire::Song { album_artist: "Various".to_owned(), ..song };
    shelf(&[
        on(2, 1_999, "Hip-Hop", block("The Zebras", "Stripes", "Second")),
        on(1, 2_001, "hip hop", block("the zebras", "STRIPES", "First")),
        on(0, 0, "hip hop", block("The Zebras", "", "Loose")),
        on(1, 1_980, "Pop", block("Ärzte", "Älter", "Help")),
        on(2, 1_980, "Pop", block("Ärzte", "Älter", "Helpless")),
        on(1, 2_010, "Pop", various(block("The Zebras", "Hits", "Guest"))),
        on(2, 2_010, "", various(block("2 Unlimited", "Hits", "No Limit"))),
        on(0, 0, "", block("", "", "Help me")),
    ])
}

#[test]
fn artists_stand_in_an_alphabet() {
    let shelf = some();
    let lines: Vec<(char, &str, u32, usize)> =
        shelf.artists().iter().map(|a| (a.letter, &*a.name, a.songs, a.albums())).collect();
    assert_eq!(
        lines,
        [
            ('#', NO_ARTIST, 1, 1),
            ('#', "2 Unlimited", 1, 1),
            ('A', "Ärzte", 2, 1),
            ('V', "Various", 2, 1),
            ('Z', "The Zebras", 4, 3),
        ]
    );
    let zebras = shelf.artist(Id::artist("THE ZEBRAS")).unwrap();
    assert_eq!(titles(&shelf.albums_of(zebras)), ["STRIPES", NO_ALBUM, "Hits"]);
    assert_eq!(songs(&shelf.tracks_by(zebras, Page::ALL)), ["First", "Second", "Loose", "Guest"]);
    assert_eq!(songs(&shelf.tracks_by(zebras, page(1, 2))), ["Second", "Loose"]);
}

#[test]
fn albums_are_counted_and_in_order() {
    let shelf = some();
    let stripes = shelf.album(Id::album("The Zebras", "stripes")).unwrap();
    assert_eq!((stripes.songs(), stripes.duration_ms, stripes.created_ms), (2, 2_000, 1_001));
    assert_eq!((stripes.year, &*shelf.album_genre(stripes).unwrap().name), (1_999, "hip hop"));
    assert_eq!(&*shelf.owner_of(stripes).unwrap().name, "The Zebras");
    let all = |list| titles(&shelf.albums(list, Page::ALL));
    assert_eq!(all(AlbumList::ByTitle), [NO_ALBUM, NO_ALBUM, "Älter", "Hits", "STRIPES"]);
    assert_eq!(all(AlbumList::ByArtist), [NO_ALBUM, "Älter", "Hits", NO_ALBUM, "STRIPES"]);
    assert_eq!(all(AlbumList::Newest), [NO_ALBUM, "Hits", "Älter", NO_ALBUM, "STRIPES"]);
    assert_eq!(all(AlbumList::Years(1_980, 1_999)), ["Älter", "STRIPES"]);
    assert_eq!(all(AlbumList::Years(3_000, 0)), ["Hits", "STRIPES", "Älter"]);
    assert_eq!(titles(&shelf.albums(AlbumList::Years(3_000, 0), page(1, 1))), ["STRIPES"]);
    assert_eq!(all(AlbumList::Genre("HIP HOP")), [NO_ALBUM, "STRIPES"]);
    assert!(all(AlbumList::Genre("none")).is_empty());
    assert_ne!(all(AlbumList::Random(1)), all(AlbumList::Random(3)));
}

#[test]
fn genres_are_counted_and_songs_picked() {
    let shelf = some();
    let lines: Vec<(&str, usize, usize)> =
        shelf.genres().iter().map(|genre| (&*genre.name, genre.albums(), genre.songs())).collect();
    assert_eq!(lines, [("hip hop", 2, 3), ("Pop", 2, 3)]);
    assert_eq!(songs(&shelf.tracks(TrackList::Genre("pop"), page(1, 5))), ["Helpless", "Guest"]);
    let random = |genre, years| shelf.tracks(TrackList::Random { seed: 7, genre, years }, Page::ALL);
    assert_eq!(random(None, None).len(), 8);
    assert_eq!(random(Some("pop"), Some((2_010, 1_990))).len(), 1);
    assert_eq!(random(None, Some((0, 3_000))).len(), 6);
    assert!(random(Some("none"), None).is_empty());
    let ids = [Id::Song(4), Id::Song(99), Id::artist("x"), Id::Song(0)];
    assert_eq!(songs(&shelf.pick_tracks(ids, Page::ALL)), ["Helpless", "Second"]);
    assert_eq!(songs(&shelf.pick_tracks(ids, page(1, 1))), ["Second"]);
    assert!(shelf.pick_albums(ids, Page::ALL).is_empty());
    assert!(shelf.pick_artists(ids, Page::ALL).is_empty());
}

#[test]
fn the_best_is_found_first() {
    let shelf = some();
    let all = Page::ALL;
    let found = shelf.find("HELP", all, all, all);
    assert_eq!(songs(&found.tracks), ["Help me", "Help", "Helpless"]);
    let found = shelf.find("zebra s", all, all, all);
    assert_eq!(found.artists.len(), 0);
    assert_eq!(titles(&found.albums), ["STRIPES"]);
    assert_eq!(songs(&found.tracks), ["First", "Second"]);
    let found = shelf.find("zebras guest", page(0, 0), all, all);
    assert_eq!((found.artists.len(), songs(&found.tracks)), (0, vec!["Guest".to_owned()]));
    for nothing in ["", "\"\"", "  "] {
        let found = shelf.find(nothing, all, all, all);
        assert_eq!((found.artists.len(), found.albums.len(), found.tracks.len()), (5, 5, 8));
        assert!(found.tracks.is_sorted_by_key(|track| track.index()));
    }
    assert!(shelf.find("\u{200b}", all, all, all).tracks.is_empty());
}

#[test]
fn what_is_beyond_the_limit_is_left_out() {
    let mut names = Names::default();
    let one = Arc::new(names.song(5, 1, &block("a", "b", "c")));
    let row = || Row { song: one.clone(), other: None, sources: 1 };
    assert_eq!(Shelf::new(vec![row(), row()]).len(), 1);
    let many = (0..MAX_TRACKS as u64 + 1)
        .map(|index| Row { song: Arc::new(names.song(index, 1, &block("a", "b", "c"))), ..row() });
    let shelf = Shelf::new(many.collect());
    assert!(shelf.is_cut() && shelf.len() == MAX_TRACKS && shelf.track(MAX_TRACKS as u64).is_none());
    assert!(Shelf::default().is_empty());
    assert!(size_of::<Track>() <= 32);
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "",
        "Air",
        "AIR",
        "Aïr Force",
        "The Air",
        "AC/DC",
        "acdc",
        "!!!",
        "東京",
        "dc comics",
        "a b",
        "The",
        "x-y z",
    ])
    .prop_map(str::to_owned)
}

prop_compose! {
    fn any_block()(
        artist in name(), album in name(), album_artist in name(), title in name(), genre in name(),
        year in 1_998u32..2_002, track in 0u32..3,
    ) -> wire::Song {
        wire::Song { artist, album, album_artist, title, genre, year, track, ..wire::Song::default() }
    }
}

/// Pages of `size` until one is empty.
fn paged<'s, T>(size: usize, get: impl Fn(Page) -> Vec<&'s T>) -> Vec<&'s T> {
    let mut all = Vec::new();
    loop {
        let page = get(Page { offset: all.len(), size });
        assert!(page.len() <= size);
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// What [`Shelf::find`] promises, song by song.
fn scan(shelf: &Shelf, query: &str) -> BTreeSet<u64> {
    let query = search::asked_words(query);
    let fits = |track: &Track| {
        let album = shelf.album_of(track).unwrap();
        let owner = shelf.owner_of(album).unwrap();
        let names = [&*track.title, &*shelf.artist_of(track).unwrap().name, &*album.title, &*owner.name];
        let words: Vec<String> = names.iter().flat_map(|name| search::name_words(name)).collect();
        let begins = |part: &String| words.iter().any(|word| word.starts_with(part.as_str()));
        !query.is_empty() && query.iter().all(|(whole, parts)| begins(whole) || parts.iter().all(begins))
    };
    let all = shelf.tracks(TrackList::All, Page::ALL);
    all.into_iter().filter(|track| fits(track)).map(|track| track.index()).collect()
}

proptest! {
    #[test]
    fn every_song_is_met_on_the_way_from_its_artist(blocks in prop::collection::vec(any_block(), 0..40)) {
        let shelf = shelf(&blocks);
        let (mut met, mut on_albums) = (BTreeSet::new(), 0);
        for artist in shelf.artists() {
            prop_assert!(!artist.name.is_empty());
            prop_assert_eq!(shelf.artist(artist.id).unwrap().id, artist.id);
            prop_assert_eq!(shelf.tracks_by(artist, Page::ALL).len(), artist.songs as usize);
            prop_assert_eq!(shelf.albums_of(artist).len(), artist.albums());
            for album in shelf.albums_of(artist) {
                met.extend(shelf.tracks_of(album).iter().map(|track| track.index()));
            }
        }
        prop_assert_eq!(met.len(), blocks.len());
        for album in shelf.albums(AlbumList::ByArtist, Page::ALL) {
            prop_assert!(album.songs() > 0 && !album.title.is_empty());
            prop_assert_eq!(shelf.album(album.id).unwrap().id, album.id);
            on_albums += album.songs();
        }
        prop_assert_eq!(on_albums, blocks.len());
        for (index, block) in blocks.iter().enumerate() {
            let track = shelf.track(index as u64).unwrap();
            prop_assert_eq!(&*track.title, &block.title);
            prop_assert_eq!(shelf.album_of(track).unwrap().id, Id::album(search::owner(block), &block.album));
            prop_assert_eq!(shelf.artist_of(track).unwrap().id, Id::artist(&block.artist));
            let genre = shelf.genre_of(track).map(|genre| search::same_name(&genre.name, &block.genre));
            prop_assert!(genre.unwrap_or(block.genre.is_empty()));
        }
        let letters: Vec<char> = shelf.artists().iter().map(|artist| artist.letter).collect();
        let runs = letters.chunk_by(|one, other| one == other).count();
        prop_assert_eq!(runs, letters.iter().collect::<BTreeSet<_>>().len());
    }

    #[test]
    fn pages_cover_everything_once(
        blocks in prop::collection::vec(any_block(), 0..40), size in 1usize..7, seed: u64, query in name(),
    ) {
        let shelf = shelf(&blocks);
        for list in [AlbumList::ByTitle, AlbumList::ByArtist, AlbumList::Newest, AlbumList::Random(seed)] {
            let all = paged(size, |page| shelf.albums(list, page));
            prop_assert_eq!(all.iter().map(|album| album.id).collect::<BTreeSet<_>>().len(), shelf.album_count());
            prop_assert_eq!(all.len(), shelf.album_count());
        }
        for list in [
            TrackList::All,
            TrackList::Genre("air"),
            TrackList::Random { seed, genre: None, years: None },
            TrackList::Random { seed, genre: Some("air"), years: Some((1_999, 2_000)) },
        ] {
            let all: Vec<u64> = paged(size, |page| shelf.tracks(list, page)).iter().map(|t| t.index()).collect();
            let whole: Vec<u64> = shelf.tracks(list, Page::ALL).iter().map(|track| track.index()).collect();
            prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
            prop_assert_eq!(all, whole);
        }
        for years in [(1_999, 2_001), (2_001, 1_999)] {
            let all = paged(size, |page| shelf.albums(AlbumList::Years(years.0, years.1), page));
            let fitting = shelf.albums(AlbumList::ByArtist, Page::ALL);
            let fitting = fitting.iter().filter(|album| (1_999..=2_001).contains(&album.year)).count();
            prop_assert_eq!(all.len(), fitting);
        }
        let none = Page { offset: 0, size: 0 };
        let all = paged(size, |page| shelf.find(&query, none, none, page).tracks);
        let whole: BTreeSet<u64> = all.iter().map(|track| track.index()).collect();
        prop_assert_eq!(all.len(), whole.len());
        prop_assert_eq!(all.len(), shelf.find(&query, none, none, Page::ALL).tracks.len());
    }

    #[test]
    fn search_finds_what_a_scan_finds(
        blocks in prop::collection::vec(any_block(), 0..40), one in name(), other in name(), cut in 1usize..8,
    ) {
        let shelf = shelf(&blocks);
        let query: String = format!("{one} {other}").chars().take(cut).collect();
        let found = shelf.find(&query, Page::ALL, Page::ALL, Page::ALL);
        if !query.trim().is_empty() {
            let found: BTreeSet<u64> = found.tracks.iter().map(|track| track.index()).collect();
            prop_assert_eq!(found, scan(&shelf, &query));
        }
    }
}
