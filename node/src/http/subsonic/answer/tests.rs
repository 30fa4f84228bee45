//! What needs no peer.

use std::{collections::BTreeSet, sync::Arc};

use antiphon_proto::wire;

use super::{
    ask::Heard,
    convert::{self, Marks},
    media::encoding,
    shelves::Shelves,
    table::{self, Handler},
};
use crate::{
    http::transcode::Format,
    music::{
        id::Id,
        shelf::{AlbumList, Page, Row, Shelf, TrackList},
        song::Names,
    },
};

#[test]
fn every_method_is_there_once() {
    let names: Vec<&str> = table::names().collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    for name in names {
        assert!(matches!(table::handler(name), Some(Handler::Plain(_))), "{name}");
    }
    assert!(matches!(table::handler("stream"), Some(Handler::Stream)));
    assert!(matches!(table::handler("download"), Some(Handler::Download)));
    assert!(matches!(table::handler("getCoverArt"), Some(Handler::Cover)));
    assert!(matches!(table::handler("reportPlayback"), Some(Handler::Report)));
    // The only one that says nothing of the listener needs no login.
    assert!(matches!(table::handler("getOpenSubsonicExtensions"), Some(Handler::Open(_))));
    for unknown in ["", "Ping", "ping.view", "createUser", "jukeboxControl", "hls"] {
        assert!(table::handler(unknown).is_none(), "{unknown}");
    }
}

/// The test of the contract asks every method that its table has.
#[test]
fn every_method_is_in_the_contract() {
    let contract = include_str!("../../../../tests/subsonic/contract.txt");
    let lines: BTreeSet<&str> = contract.lines().filter_map(|line| line.strip_prefix("method ")).collect();
    for name in table::names().chain(["getOpenSubsonicExtensions", "reportPlayback"]) {
        assert!(lines.iter().any(|line| line.split(' ').next() == Some(name)), "{name}");
    }
}

#[test]
fn what_is_encoded_anew() {
    for (format, most, extension, kbits, other) in [
        (None, 0, "flac", Some(900), None),
        (None, 320, "mp3", Some(192), None),
        (None, 0, "mp3", None, None),
        (None, 128, "mp3", Some(192), Some((Format::Mp3, 128))),
        (None, 8, "flac", Some(900), Some((Format::Mp3, 32))),
        (Some("raw"), 64, "flac", Some(900), None),
        (Some("mp3"), 0, "mp3", Some(320), None),
        (Some("MP3"), 0, "flac", Some(900), Some((Format::Mp3, 192))),
        (Some("opus"), 96, "flac", Some(900), Some((Format::Opus, 96))),
        (Some("ogg"), 0, "ogg", Some(900), None),
        (Some("ogg"), 0, "opus", Some(900), None),
        (Some("opus"), 64, "opus", Some(128), Some((Format::Opus, 64))),
        (Some("flac"), 0, "mp3", Some(128), None),
        (Some("aac"), 999, "mp3", Some(128), Some((Format::Aac, 320))),
        (Some("opus"), 999, "mp3", Some(128), Some((Format::Opus, 256))),
    ] {
        assert_eq!(encoding(format, most, extension, kbits), other, "{format:?} {most} {extension}");
    }
}

fn row(index: u64, title: &str, album: &str) -> Row {
    let song = wire::Song {
        title: title.into(),
        artist: "Somebody".into(),
        album: album.into(),
        genre: "Rock".into(),
        duration_ms: 1_000,
        bytes: 16_000,
        container: 1,
        year: 1_999,
        track: 3,
        content_hash: vec![1; 32],
        mbid: (0..16).collect(),
        ..wire::Song::default()
    };
    Row { song: Arc::new(Names::default().song(index, 77, &song)), other: None, sources: 0 }
}

fn both() -> Shelves {
    let own = Shelf::new(vec![row(1, "One", "A"), row(2, "Two", "A"), row(3, "Three", "B")]);
    let online = Shelf::new(vec![row(2, "Two", "A"), row(4, "Four", "A"), row(5, "Five", "C")]);
    Shelves::new(vec![Arc::new(own), Arc::new(online)])
}

#[test]
fn two_shelves_are_one() {
    let shelves = both();
    let album = shelves.album(Id::album("Somebody", "A")).unwrap();
    let songs: BTreeSet<u64> = album.tracks.iter().map(|track| track.index()).collect();
    assert_eq!((album.tracks.len(), songs), (3, BTreeSet::from([1, 2, 4])));
    let artist = shelves.artist(Id::artist("somebody")).unwrap();
    assert_eq!((artist.albums, artist.created_ms), (3, 77));
    assert_eq!(shelves.albums_of(artist.artist.id).len(), 3);
    assert_eq!(shelves.tracks_by(artist.artist.id).len(), 5);
    assert_eq!(shelves.artists().len(), 1);
    assert!(shelves.track(5).is_some() && shelves.track(6).is_none());
    assert!(shelves.album(Id::album("Somebody", "D")).is_none());
}

#[test]
fn pages_of_two_shelves_fit_together() {
    let shelves = both();
    for size in 1..7 {
        let (mut found, mut albums) = (Vec::new(), Vec::new());
        for at in 0..7 {
            let page = Page { offset: at * size, size };
            let tracks = shelves.track_page(page, |shelf, page| shelf.tracks(TrackList::All, page));
            assert!(tracks.len() <= size);
            found.extend(tracks.into_iter().map(|track| track.index()));
            let some = shelves.album_page(page, |shelf, page| shelf.albums(AlbumList::ByTitle, page));
            albums.extend(some.into_iter().map(|album| album.album.title.to_string()));
        }
        let each: BTreeSet<u64> = found.iter().copied().collect();
        assert_eq!((found.len(), each), (5, (1..6).collect()), "{size}");
        assert!(found.iter().take(3).all(|index| *index <= 3), "what is here comes first: {found:?}");
        assert_eq!(albums, ["A", "B", "C"], "{size}");
    }
    let none =
        shelves.track_page(Page { offset: 0, size: 0 }, |shelf, page| shelf.tracks(TrackList::All, page));
    assert!(none.is_empty());
}

#[test]
fn songs_as_apps_see_them() {
    let shelves = both();
    let marks = Marks::default();
    let child = convert::song(&Heard::from(shelves.track(1).unwrap()), &marks);
    assert_eq!(
        (&*child.id, child.duration, child.bit_rate, child.size),
        ("so-1", 1, Some(128), Some(16_000))
    );
    assert_eq!(child.path.as_deref(), Some("Somebody/A/03 - One.mp3"));
    assert_eq!((child.suffix.as_deref(), child.content_type.as_deref()), (Some("mp3"), Some("audio/mpeg")));
    assert_eq!(child.musicbrainz_id, "00010203-0405-0607-0809-0a0b0c0d0e0f");
    assert_eq!((child.play_count, child.starred, child.created), (0, None, 77));
    assert_eq!(child.cover_art, child.album_id);
    let nameless = row(9, "../x/y", "");
    let child = convert::song(&Heard { file: nameless.song.own, song: nameless.song }, &marks);
    assert_eq!(child.path.as_deref(), Some("Somebody/[Unknown Album]/03 - .._x_y.mp3"));
    assert_eq!((child.cover_art.as_deref(), child.album.as_deref()), (Some("so-9"), Some("[Unknown Album]")));
    let album = convert::album(&shelves.album(Id::album("Somebody", "A")).unwrap(), &marks);
    assert_eq!((album.song_count, album.duration, album.is_compilation), (3, 3, false));
    assert_eq!((album.year, album.genre.as_deref()), (Some(1_999), Some("Rock")));
    assert_eq!(
        (convert::seconds(0), convert::seconds(1), convert::seconds(1_499), convert::seconds(1_500)),
        (0, 1, 1, 2)
    );
    assert_eq!((convert::bit_rate(1, 0), convert::bit_rate(0, 1_000)), (None, None));
}
