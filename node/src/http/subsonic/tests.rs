//! Every shape of an answer, byte for byte, and what any text must survive.

use proptest::prelude::*;
use quick_xml::{Reader, XmlVersion, events::Event};

use super::{bodies::*, error::*, params::Params, response::*};

/// One answer a line: `XML` or `JSON` without the envelope, which is the same for all. `ANTIPHON_GOLDEN=1` writes it anew.
const GOLDEN: &str = include_str!("golden.txt");

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn song() -> Child {
    let artist = ArtistRef { id: "ar-1".into(), name: "Nobody".into() };
    Child {
        id: "so-7".into(),
        media: Media::Song,
        parent: text("al-1"),
        title: "A <b> & \"c\"".into(),
        album: text("Nothing"),
        artist: text("Nobody"),
        track: Some(3),
        disc_number: Some(1),
        year: Some(1999),
        genre: text("Noise"),
        cover_art: text("al-1"),
        size: Some(5_000_000_000),
        content_type: text("audio/flac"),
        suffix: text("flac"),
        path: text("Nobody/Nothing/03 A.flac"),
        duration: 181,
        bit_rate: Some(900),
        bit_depth: Some(16),
        sampling_rate: Some(44_100),
        channel_count: Some(2),
        user_rating: Some(4),
        play_count: 12,
        played: Some(1_709_210_096_789),
        created: 1_000,
        starred: Some(2_000),
        album_id: text("al-1"),
        artist_id: text("ar-1"),
        bookmark_position: Some(1_500),
        sort_name: "a".into(),
        musicbrainz_id: "189002e7-3285-4e2e-92a3-7f6c30d407a2".into(),
        isrc: vec!["USSM18300073".into()],
        genres: vec!["Noise".into(), "Pop".into()],
        artists: vec![artist.clone()],
        display_artist: "Nobody".into(),
        album_artists: vec![artist],
        display_album_artist: "Nobody".into(),
    }
}

/// The least that a song is.
fn least() -> Child {
    Child { id: "so-8".into(), title: "B".into(), ..Child::default() }
}

fn folder() -> Child {
    Child { id: "al-1".into(), media: Media::Album, title: "Nothing".into(), ..Child::default() }
}

fn album() -> Album {
    Album {
        id: "al-1".into(),
        name: "Nothing".into(),
        artist: text("Nobody"),
        artist_id: text("ar-1"),
        cover_art: text("al-1"),
        song_count: 2,
        duration: 362,
        play_count: 12,
        played: Some(3_000),
        created: 1_000,
        starred: Some(2_000),
        user_rating: Some(5),
        year: Some(1999),
        genre: text("Noise"),
        genres: vec!["Noise".into()],
        artists: vec![ArtistRef { id: "ar-1".into(), name: "Nobody".into() }],
        display_artist: "Nobody".into(),
        musicbrainz_id: String::new(),
        sort_name: "nothing".into(),
        release_types: vec!["Album".into()],
        is_compilation: false,
    }
}

fn artist() -> Artist {
    Artist {
        id: "ar-1".into(),
        name: "Nobody".into(),
        cover_art: text("ar-1"),
        album_count: 1,
        starred: Some(2_000),
        user_rating: Some(3),
        musicbrainz_id: String::new(),
        sort_name: "nobody".into(),
        roles: vec!["artist".into(), "albumartist".into()],
    }
}

fn folder_artist() -> FolderArtist {
    FolderArtist { id: "ar-1".into(), name: "Nobody".into(), starred: Some(2_000), user_rating: None }
}

fn playlist() -> Playlist {
    Playlist {
        id: "pl-0123456789abcdef".into(),
        name: "Mine".into(),
        owner: "joe".into(),
        song_count: 1,
        duration: 181,
        created: 1_000,
        changed: 2_000,
        ..Playlist::default()
    }
}

fn queue<T>(current: Option<T>) -> PlayQueue<T> {
    PlayQueue {
        current,
        position: 1_500,
        username: "joe".into(),
        changed: 2_000,
        changed_by: "app".into(),
        entries: vec![least()],
    }
}

fn info() -> Box<Info> {
    Box::new(Info { notes: text("Words & words"), musicbrainz_id: text("1"), ..Info::default() })
}

fn about() -> Vec<Body> {
    let user = User { username: "joe".into(), stream: true, folders: vec![1], ..User::default() };
    let lines =
        vec![Line { start: Some(0), text: "One".into() }, Line { start: Some(2_000), text: " two".into() }];
    let lyrics = StructuredLyrics {
        artist: text("Nobody"),
        title: text("A"),
        offset: -100,
        synced: true,
        lines,
        ..StructuredLyrics::default()
    };
    let unsynced = StructuredLyrics { synced: false, ..lyrics.clone() };
    vec![
        Body::Empty,
        Body::License(License::default()),
        Body::User(Box::new(user.clone())),
        Body::Users(vec![user]),
        Body::ScanStatus(ScanStatus { scanning: false, count: 12 }),
        Body::TokenInfo("joe".into()),
        Body::Lyrics(Lyrics { artist: text("Nobody"), title: None, text: "One\ntwo".into() }),
        Body::LyricsList(vec![lyrics, unsynced]),
        Body::InternetRadioStations,
        Body::Podcasts,
        Body::NewestPodcasts,
        Body::Shares,
        Body::Extensions(vec![Extension { name: "formPost".into(), versions: vec![1] }]),
    ]
}

fn browsing() -> Vec<Body> {
    let index = vec![Index { name: "N".into(), artists: vec![folder_artist()] }];
    vec![
        Body::MusicFolders(vec![MusicFolder { id: 1, name: "Music".into() }]),
        Body::Indexes(Indexes { ignored_articles: "The".into(), last_modified: 5, index, children: vec![] }),
        Body::Directory(Box::new(Directory {
            id: "ar-1".into(),
            name: "Nobody".into(),
            children: vec![folder()],
            ..Directory::default()
        })),
        Body::Genres(vec![Genre { name: "Noise".into(), song_count: 2, album_count: 1 }]),
        Body::Artists(Artists {
            ignored_articles: "The".into(),
            index: vec![Index { name: "N".into(), artists: vec![artist()] }],
        }),
        Body::Artist(Box::new(artist()), vec![album()]),
        Body::Album(Box::new(album()), vec![song(), least()]),
        Body::Song(Box::new(song())),
        Body::ArtistInfo(info(), vec![folder_artist()]),
        Body::ArtistInfo2(info(), vec![artist()]),
        Body::AlbumInfo(info()),
    ]
}

fn lists() -> Vec<Body> {
    let folders =
        || FoundFolders { artists: vec![folder_artist()], albums: vec![folder()], songs: vec![least()] };
    let tags = || FoundTags { artists: vec![artist()], albums: vec![album()], songs: vec![least()] };
    let playing = NowPlaying {
        song: least(),
        username: "joe".into(),
        minutes_ago: 1,
        player_id: 1,
        player_name: "app".into(),
        place: Some(Place { position_ms: 1_500, rate: 1_250 }),
    };
    let bookmark = Bookmark {
        position: 1_500,
        username: "joe".into(),
        comment: "here".into(),
        created: 1_000,
        changed: 2_000,
        entry: least(),
    };
    vec![
        Body::SimilarSongs(vec![]),
        Body::SimilarSongs2(vec![least()]),
        Body::TopSongs(vec![least()]),
        Body::RandomSongs(vec![least()]),
        Body::SongsByGenre(vec![least()]),
        Body::AlbumList(vec![folder()]),
        Body::AlbumList2(vec![album()]),
        Body::NowPlaying(vec![playing]),
        Body::Starred(folders()),
        Body::Starred2(tags()),
        Body::SearchResult2(folders()),
        Body::SearchResult3(tags()),
        Body::SearchResult3(FoundTags::default()),
        Body::Playlists(vec![playlist()]),
        Body::Playlist(Box::new(playlist()), vec![least()]),
        Body::PlayQueue(queue(text("so-8"))),
        Body::PlayQueueByIndex(queue(Some(0))),
        Body::Bookmarks(vec![bookmark]),
    ]
}

#[test]
fn every_shape() {
    let failed =
        SubsonicError::saying(Code::NotFound, "No \"such\" song.").with_help("http://localhost/help?a=1&b=2");
    let bodies = about().into_iter().chain(browsing()).chain(lists()).map(Ok);
    let mut lines = String::new();
    for answer in bodies.chain([Err(failed)]) {
        for format in [Format::Xml, Format::Json] {
            lines.push_str(&render(&format, &answer).replace(SERVER_VERSION, "0"));
            lines.push('\n');
        }
    }
    if std::env::var_os("ANTIPHON_GOLDEN").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/subsonic/golden.txt");
        std::fs::write(path, &lines).unwrap();
    }
    for (at, (made, golden)) in lines.lines().zip(GOLDEN.lines()).enumerate() {
        assert_eq!(made, golden, "line {}", at + 1);
    }
    assert_eq!(lines.lines().count(), GOLDEN.lines().count());
}

#[test]
fn every_body_has_its_element() {
    for body in about().into_iter().chain(browsing()).chain(lists()) {
        assert_eq!(body.inner().is_none(), body == Body::Empty, "{body:?}");
    }
}

#[test]
fn jsonp() {
    let format = |query: &str| Format::of(&Params::parse(query, b"").unwrap());
    assert_eq!(format(""), Ok(Format::Xml));
    assert_eq!(format("f=yaml"), Ok(Format::Xml));
    assert_eq!(format("f=json&callback=x"), Ok(Format::Json));
    let jsonp = format("f=jsonp&callback=a.$b_2").unwrap();
    let answer = render(&jsonp, &Ok(Body::TokenInfo("\u{2028}\u{2029}".into())));
    assert!(
        answer.starts_with("/**/a.$b_2({\"subsonic-response\":{") && answer.ends_with("}});"),
        "{answer}"
    );
    assert!(answer.contains("\"\\u2028\\u2029\""), "{answer}");
    let long = format!("f=jsonp&callback={}", "a".repeat(CALLBACK_BYTES));
    assert!(format(&long).is_ok());
    for bad in [
        "f=jsonp",
        "f=jsonp&callback=",
        "f=jsonp&callback=a(b)",
        "f=jsonp&callback=a..b",
        "f=jsonp&callback=1a",
        "f=jsonp&callback=.a",
        "f=jsonp&callback=a%C3%A9",
        "f=jsonp&callback=a%0A",
        &(long + "a"),
    ] {
        let error = format(bad).unwrap_err();
        assert!(error.code == Code::Parameter && error.message.contains("callback"), "{bad}");
    }
}

#[test]
fn what_xml_does_not_know_is_replaced() {
    let text = render(&Format::Xml, &Ok(Body::TokenInfo("a\0b\u{b}c\u{fffe}d\u{ffff}e\u{85}".into())));
    assert!(text.contains("username=\"a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}e\u{85}\""), "{text}");
}

/// What a parser gets of the attribute and the text of the same element.
fn read_back(xml: &str) -> (String, String) {
    let mut reader = Reader::from_str(xml);
    let (mut attribute, mut content) = (String::new(), String::new());
    let mut inside = false;
    loop {
        match reader.read_event().unwrap() {
            Event::Start(start) if start.name().as_ref() == "lyrics" => {
                let title = start.try_get_attribute("title").unwrap().unwrap();
                attribute = title.normalized_value(XmlVersion::Implicit1_0).unwrap().into_owned();
                inside = true;
            }
            Event::End(_) => inside = false,
            Event::Text(text) if inside => content.push_str(&text.xml_content(XmlVersion::Implicit1_0)),
            Event::GeneralRef(reference) if inside => {
                let of_number = reference.resolve_char_ref().unwrap();
                content.push(of_number.unwrap_or_else(|| match reference.as_ref() {
                    "lt" => '<',
                    "gt" => '>',
                    "amp" => '&',
                    "quot" => '"',
                    "apos" => '\'',
                    other => panic!("&{other};"),
                }));
            }
            Event::Eof => return (attribute, content),
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn any_text_survives(words in any::<String>(), control in "[\\x00-\\x20<>&\"'\\]\u{fffe}\u{ffff}\u{2028}]{0,16}") {
        let words = words + &control;
        let lyrics = Lyrics { artist: None, title: Some(words.clone()), text: words.clone() };
        let answer = Ok(Body::Lyrics(lyrics));
        let json: serde_json::Value = serde_json::from_str(&render(&Format::Json, &answer)).unwrap();
        let inner = &json["subsonic-response"]["lyrics"];
        prop_assert_eq!(inner["title"].as_str(), Some(words.as_str()));
        prop_assert_eq!(inner["value"].as_str(), Some(words.as_str()));

        let known = |character: char| {
            !matches!(character, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
        };
        let expected: String = words.chars().map(|character| if known(character) { character } else { '\u{fffd}' }).collect();
        let xml = render(&Format::Xml, &answer);
        prop_assert!(xml.chars().all(known));
        let (attribute, content) = read_back(&xml);
        prop_assert_eq!(&attribute, &expected);
        prop_assert_eq!(&content, &expected);
    }
}
