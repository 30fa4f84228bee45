//! What is found by which words, and in which order.

use proptest::prelude::*;

use super::{super::*, Shelf, song};

fn music() -> Shelf {
    Shelf::of(&[
        ["Army of Me", "Björk", "Post", "Electronic"],               // 0
        ["Back in Black", "AC/DC", "Back in Black", "Hard Rock"],    // 1
        ["Hells Bells", "AC/DC", "Back in Black", "Hard Rock"],      // 2
        ["Nothing Else Matters", "Metallica", "Metallica", "Metal"], // 3
        ["Don’t Stop Me Now", "Queen", "Jazz", "Rock"],              // 4
        ["群青日和", "東京事変", "教育", "J-Pop"],                   // 5
        ["Yesterday", "The Beatles", "Help!", "Pop"],                // 6
        ["Yesterday Once More", "Carpenters", "Now & Then", "Pop"],  // 7
        ["01 - Intro", "Unknown", "", ""],                           // 8
        ["Svefn-g-englar", "Sigur Rós", "Ágætis byrjun", "Post-Rock"], // 9
        ["!!!", "???", "", ""],                                      // 10
        ["Black", "Pearl Jam", "Ten", "Grunge"],                     // 11
        ["Blackbird", "The Beatles", "The White Album", "Pop"],      // 12
        ["1984", "David Bowie", "Diamond Dogs", "Glam Rock"],        // 13
        ["1985", "Bowling for Soup", "A Hangover", "Punk"],          // 14
    ])
}

#[test]
fn words_are_found_however_they_are_written() {
    let shelf = music();
    for (query, expected) in [
        ("bjork", vec![0]),
        ("BJÖRK", vec![0]),
        ("Bjo\u{308}rk army", vec![0]),
        ("acdc", vec![2, 1]),
        ("ac/dc", vec![2, 1]),
        ("AC-DC hells", vec![2]),
        ("AC DC bells", vec![2]),
        ("dont stop", vec![4]),
        ("don't stop", vec![4]),
        ("東京", vec![5]),
        ("京", vec![5]),
        ("群青 事変", vec![5]),
        ("intro", vec![8]),
        ("01 - Intro", vec![8]),
        ("01 intro", vec![8]),
        ("sigur ros", vec![9]),
        ("agaetis", vec![9]),
        ("!!!", vec![10]),
        ("???", vec![10]),
        ("beatles help", vec![6]),
        ("nowhere", vec![]),
        ("beatles army", vec![]),
        ("", vec![]),
        (" - ", vec![]),
        ("\0", vec![]),
    ] {
        assert_eq!(shelf.found(query), expected, "{query:?}");
    }
}

#[test]
fn typing_errors_are_forgiven() {
    let shelf = music();
    for (query, expected) in [
        ("metalica", vec![3]),
        ("mettalica", vec![3]),
        ("metalcia", vec![3]),
        ("matelica", vec![]),
        ("quene", vec![4]),
        ("qeen", vec![4]),
        ("yestrday beatls", vec![6]),
        ("bjrok", vec![0]),
        // Three letters are too few to guess, and a year is a year.
        ("pist", vec![0]),
        ("pst", vec![]),
        ("1984", vec![13]),
        ("1983", vec![]),
        // Unfinished and wrong at once.
        ("metali", vec![3]),
        ("nothnig els", vec![3]),
    ] {
        let mut found = shelf.found(query);
        found.retain(|index| expected.is_empty() || expected.contains(index));
        assert_eq!(found, expected, "{query:?}: {:?}", shelf.found(query));
    }
}

#[test]
fn whole_titles_come_first_then_words_then_beginnings_then_guesses() {
    let shelf = music();
    // A title, two titles with the word (the shorter first), words of albums, a beginning.
    assert_eq!(shelf.found("black"), [11, 1, 2, 12]);
    assert_eq!(shelf.found("yesterday"), [6, 7]);
    assert_eq!(shelf.found("yesterday o"), [7]);
    // Title, artist, album, genre.
    let shelf = Shelf::of(&[
        ["a", "b", "c", "Stone"],
        ["a", "b", "Stone", "d"],
        ["a", "Stone", "c", "d"],
        ["Stone", "b", "c", "d"],
        ["Stones", "b", "c", "d"],
        ["Store", "b", "c", "d"],
        ["Stone", "b", "c", "d"],
    ]);
    assert_eq!(shelf.found("stone"), [3, 6, 2, 1, 0, 4, 5]);
}

#[test]
fn pages_make_up_the_whole() {
    let shelf = Shelf::new();
    for number in 0..120 {
        shelf.add(song([&format!("Etude {}", number % 7), "Composer", &format!("Book {number}"), ""]));
    }
    shelf.update();
    let all = shelf.search("etude");
    assert_eq!((all.total, all.songs.len()), (120, 120));
    let mut paged = Vec::new();
    for offset in (0..130).step_by(13) {
        let page = shelf.index.search("etude", Page { offset, limit: 13 }, None).unwrap();
        assert_eq!((page.total, page.offset), (120, offset as u64));
        paged.extend(page.songs);
    }
    assert_eq!(paged, all.songs);
    let far = shelf.index.search("etude", Page { offset: usize::MAX, limit: usize::MAX }, None).unwrap();
    assert_eq!((far.total, far.songs.len()), (120, 0));
}

#[test]
fn only_what_is_online_when_that_is_asked_for() {
    let shelf = Shelf::of(&[["One", "A", "", ""], ["One", "B", "", ""], ["One", "C", "", ""]]);
    let variant = shelf.blocks.push(Entry::Variant { song: 1 });
    shelf.update();
    let mut sources = ListedSources::default();
    sources.add(variant, 7);
    sources.add(2, 7);
    sources.add(2, 8);
    let online = shelf.index.search("one", Page { offset: 0, limit: 1 }, Some(&sources)).unwrap();
    assert_eq!(online.total, 2);
    assert_eq!((online.songs[0].song.index, online.songs[0].sources), (1, Some(1)));
    let mut all = shelf.search("one");
    assert_eq!((all.total, all.songs[0].sources), (3, None));
    shelf.index.count_sources(&mut all, &sources).unwrap();
    let counts: Vec<_> = all.songs.iter().map(|hit| hit.sources.unwrap()).collect();
    assert_eq!(counts, [0, 1, 2]);
    assert_eq!(shelf.index.search("one", Page::default(), Some(&NoSources)).unwrap().total, 0);
}

#[test]
fn songs_by_title_and_names_by_name() {
    let shelf = music();
    let index = &shelf.index;
    assert_eq!(index.titled("BLACK", 10).unwrap(), [11]);
    assert_eq!(index.titled("back in black", 10).unwrap(), [1]);
    assert_eq!(index.titled("Yesterday", 10).unwrap(), [6]);
    assert_eq!(index.titled("Don't stop me now", 10).unwrap(), [4]);
    assert!(index.titled("yester", 10).unwrap().is_empty());
    let mut found = index.matching("bea yest", 10).unwrap();
    found.sort_unstable();
    assert_eq!(found, [6]);
    assert!(index.matching("metalica", 10).unwrap().is_empty());
    let named = index.albums("BACK IN BLACK", 10).unwrap();
    assert_eq!(named.len(), 1);
    assert_eq!((named[0].name.as_str(), named[0].owner.as_deref()), ("Back in Black", Some("AC/DC")));
    assert_eq!(named[0].songs, [1, 2]);
    assert_eq!(index.artist("acdc", 10).unwrap().unwrap().songs, [1, 2]);
    assert_eq!(index.artist("the beatles", 1).unwrap().unwrap().songs.len(), 1);
    assert!(index.artist("beatles", 10).unwrap().is_none());
    assert!(index.albums("", 10).unwrap().is_empty() && index.artist("", 10).unwrap().is_none());
}

#[test]
fn what_is_not_indexed_yet_is_found_by_looking() {
    let shelf = music();
    for words in ["bea yest", "acdc hells", "AC/DC bells", "京", "bjork", "rock post", "now", "nowhere"] {
        for at in 0..shelf.blocks.size() {
            let Entry::Song(song) = shelf.blocks.entry(at).unwrap() else { panic!() };
            let indexed = shelf.index.matching(words, 100).unwrap().contains(&at);
            assert_eq!(matches(words, &song), indexed, "{words:?} in {song:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_text_is_an_error(texts in proptest::collection::vec(any::<String>(), 1..6), query in any::<String>()) {
        let shelf = Shelf::new();
        for text in &texts {
            shelf.add(song([text, &query, text, text]));
        }
        shelf.update();
        for text in texts.iter().chain([&query]) {
            let _ = shelf.search(text);
            let _ = shelf.index.titled(text, 5).unwrap();
            let _ = shelf.index.matching(text, 5).unwrap();
            let _ = shelf.index.albums(text, 5).unwrap();
            let _ = shelf.index.artist(text, 5).unwrap();
        }
        let long = texts.concat().repeat(50);
        let _ = shelf.search(&long);
    }
}
