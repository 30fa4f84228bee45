//! Lists of what there is to hear: making one, its memory, and every question, beside a plain scan of the same songs.
//!
//! `cargo bench -p antiphon-benches --bench shelf -- [SONGS]`
//!
//! The scan folds nothing while it looks: names are folded before, and each is searched for the letters of the query. It
//! is what a list without an index does.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that prints what it measured")]

use std::{sync::Arc, time::Instant};

use antiphon::{
    music::{
        id::Id,
        shelf::{AlbumList, Page, Row, Shelf, TrackList},
        song::Names,
    },
    search::name_words,
};
use antiphon_benches::{NOW_MS, median, names::named_song, resident_bytes};

/// Rounds of each question.
const ROUNDS: usize = 21;
fn rows(songs: usize) -> (Names, Vec<Row>) {
    let mut names = Names::default();
    let row = |number| {
        let song = names.song(number as u64, NOW_MS + number as u64, &named_song(number));
        Row { song: Arc::new(song), other: None, sources: 1 }
    };
    let rows = (0..songs).map(row).collect();
    (names, rows)
}

/// Milliseconds, in the median.
fn time(mut work: impl FnMut() -> usize) -> (f64, usize) {
    let mut found = 0;
    let mut round = |_| {
        let started = Instant::now();
        found = work();
        started.elapsed().as_secs_f64() * 1e3
    };
    let times: Vec<f64> = (0..ROUNDS).map(&mut round).collect();
    (median(&times), found)
}

fn page(offset: usize, size: usize) -> Page {
    Page { offset, size }
}

#[allow(clippy::cast_precision_loss, reason = "a few million bytes")]
fn main() {
    let mut args = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let songs: usize = args.next().map_or(100_000, |text| text.parse().unwrap());
    let resident = || resident_bytes(std::process::id());
    let before = resident();
    let started = Instant::now();
    let (names, all) = rows(songs);
    let read = started.elapsed();
    let started = Instant::now();
    let shelf = Shelf::new(all.clone());
    let first = started.elapsed();
    drop(all);
    let resident = resident().saturating_sub(before);
    let (build, _) = {
        let rows: Vec<Row> = shelf
            .tracks(TrackList::All, Page::ALL)
            .into_iter()
            .map(|track| Row { song: track.song().clone(), other: None, sources: 2 })
            .collect();
        time(|| Shelf::new(rows.clone()).len())
    };
    println!(
        "{songs} songs, {} albums, {} artists: rows {:.0} ms, first shelf {:.0} ms, median {build:.0} ms",
        shelf.album_count(),
        shelf.artists().len(),
        read.as_secs_f64() * 1e3,
        first.as_secs_f64() * 1e3,
    );
    println!(
        "{:.0} bytes a song resident, of these {:.0} beside the songs\n",
        resident as f64 / songs as f64,
        shelf.heap() as f64 / songs as f64
    );
    lists(&shelf);
    searches(&shelf);
    drop(names);
}

fn lists(shelf: &Shelf) {
    let genre = shelf.genres().first().map(|genre| genre.name.to_string()).unwrap_or_default();
    let random = TrackList::Random { seed: 5, genre: Some(&genre), years: Some((1_990, 2_000)) };
    let artist = shelf.artists().iter().max_by_key(|artist| artist.songs).unwrap();
    let middle = page(shelf.album_count() / 2, 500);
    println!("| list | ms | entries |\n|---|---|---|");
    let albums = |list| time(|| shelf.albums(list, middle).len());
    let ids: Vec<Id> = shelf.tracks(TrackList::All, page(500, 500)).iter().map(|track| track.id()).collect();
    for (name, (ms, entries)) in [
        ("albums by title", albums(AlbumList::ByTitle)),
        ("albums by artist", albums(AlbumList::ByArtist)),
        ("newest albums", albums(AlbumList::Newest)),
        ("albums of years", albums(AlbumList::Years(2_020, 1_970))),
        ("albums of a genre", time(|| shelf.albums(AlbumList::Genre(&genre), page(0, 500)).len())),
        ("random albums", albums(AlbumList::Random(3))),
        ("all songs", time(|| shelf.tracks(TrackList::All, page(50_000, 500)).len())),
        ("songs of a genre", time(|| shelf.tracks(TrackList::Genre(&genre), page(0, 500)).len())),
        ("random songs of genre and years", time(|| shelf.tracks(random, page(0, 500)).len())),
        ("songs of an artist", time(|| shelf.tracks_by(artist, Page::ALL).len())),
        ("500 songs by id", time(|| shelf.pick_tracks(ids.iter().copied(), Page::ALL).len())),
    ] {
        println!("| {name} | {ms:.3} | {entries} |");
    }
}

fn searches(shelf: &Shelf) {
    let folded: Vec<[String; 3]> = shelf
        .tracks(TrackList::All, Page::ALL)
        .iter()
        .map(|track| {
            let album = shelf.album_of(track).unwrap();
            let names = [&*track.title, &*shelf.artist_of(track).unwrap().name, &*album.title];
            names.map(|name| format!(" {}", name_words(name).join(" ")))
        })
        .collect();
    let common = shelf.tracks(TrackList::All, page(777, 1))[0].title.to_string();
    let artist = shelf.artists()[shelf.artists().len() / 2].name.to_string();
    println!("\n| search | ms | found | plain scan, ms | found | times faster |\n|---|---|---|---|---|---|");
    for query in ["k", "ka", "kaka", &common, &artist, "ka lo mi", "nothing of the kind"] {
        let wanted: Vec<String> = name_words(query).iter().map(|word| format!(" {word}")).collect();
        let (ours, found) = time(|| shelf.find(query, page(0, 20), page(0, 20), page(0, 20)).tracks.len());
        let all = shelf.find(query, page(0, 0), page(0, 0), Page::ALL).tracks.len();
        let (plain, scanned) = time(|| {
            let fits =
                |names: &&[String; 3]| wanted.iter().all(|word| names.iter().any(|name| name.contains(word)));
            folded.iter().filter(fits).count()
        });
        println!("| {query} | {ours:.3} | {found} of {all} | {plain:.3} | {scanned} | {:.0} |", plain / ours);
    }
    let everything = time(|| shelf.find("", page(0, 500), page(0, 500), page(50_000, 500)).tracks.len());
    println!("| (everything, a page) | {:.3} | {} | | | |", everything.0, everything.1);
}
