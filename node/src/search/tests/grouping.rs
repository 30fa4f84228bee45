//! What is online, by name.

use std::collections::{BTreeMap, BTreeSet};

use antiphon_proto::wire::Song;
use proptest::prelude::*;

use super::{super::*, Shelf, song};

fn online(shelf: &Shelf, sources: &ListedSources, scope: Scope, filter: &Filter) -> Discovered {
    shelf.index.discover(scope, filter, sources, Page { offset: 0, limit: 500 }).unwrap()
}

fn filter(artist: Option<&str>, genre: Option<&str>, album: Option<&str>) -> Filter {
    let own = |name: Option<&str>| name.map(str::to_owned);
    Filter { artist: own(artist), genre: own(genre), album: own(album) }
}

/// Two albums of one artist with two spellings, a compilation, a song without an album, one that nobody has.
fn shelf() -> (Shelf, ListedSources) {
    let shelf = Shelf::new();
    let track = |fields: [&str; 4], album_artist: &str, track: u32, year: u32| {
        shelf.add(Song { album_artist: album_artist.to_owned(), track, year, ..song(fields) })
    };
    track(["B side", "Sigur Rós", "Takk", "Post-Rock"], "", 2, 2005); // 0
    track(["A side", "Sigur Ros", "TAKK", "post rock"], "", 1, 2006); // 1
    track(["Other", "Sigur Rós", "Von", "Ambient"], "", 1, 1997); // 2
    track(["Mixed", "Alva", "Hits", "Pop"], "Various", 2, 0); // 3
    track(["Mixed too", "Bela", "Hits", "Pop"], "Various", 1, 0); // 4
    track(["Single", "Alva", "", ""], "", 0, 0); // 5
    track(["Nobody has it", "Zoe", "Gone", "Rock"], "", 1, 1990); // 6
    shelf.blocks.push(Entry::Variant { song: 2 }); // 7
    shelf.blocks.push(Entry::Other); // 8
    shelf.blocks.push(Entry::Variant { song: 6 }); // 9
    shelf.update();
    let mut sources = ListedSources::default();
    for (index, peers) in
        [(0, &[1, 2][..]), (1, &[2]), (3, &[1]), (4, &[3]), (5, &[1]), (7, &[4]), (8, &[1]), (99, &[1])]
    {
        for peer in peers {
            sources.add(index, *peer);
        }
    }
    (shelf, sources)
}

#[test]
fn lists_by_name() {
    let (shelf, sources) = shelf();
    let all = Filter::default();
    let counts = online(&shelf, &sources, Scope::Counts, &all).counts.unwrap();
    assert_eq!(counts, Counts { artists: 4, genres: 4, albums: 3, tracks: 6 });
    let artists = online(&shelf, &sources, Scope::Artists, &all).artists.unwrap();
    let lines: Vec<_> = artists
        .items
        .iter()
        .map(|line| (line.name.as_str(), line.albums, line.tracks, line.sources))
        .collect();
    assert_eq!(lines, [("Alva", 1, 2, 1), ("Bela", 1, 1, 1), ("Sigur Rós", 2, 3, 3), ("Various", 1, 2, 2)]);
    let genres = online(&shelf, &sources, Scope::Genres, &all).genres.unwrap();
    let lines: Vec<_> = genres
        .items
        .iter()
        .map(|line| (line.name.as_str(), line.artists, line.tracks, line.sources))
        .collect();
    assert_eq!(lines, [("Ambient", 1, 1, 1), ("Pop", 2, 2, 2), ("Post-Rock", 1, 2, 2), ("", 1, 1, 1)]);
    let albums = online(&shelf, &sources, Scope::Albums, &all).albums.unwrap();
    let lines: Vec<_> = albums
        .items
        .iter()
        .map(|line| (line.artist.as_str(), line.title.as_str(), line.year, line.tracks))
        .collect();
    assert_eq!(
        lines,
        [("Sigur Rós", "TAKK", 2005, 2), ("Sigur Rós", "Von", 1997, 1), ("Various", "Hits", 0, 2)]
    );
    assert_eq!(albums.items[0].sources, 2);
    let tracks = online(&shelf, &sources, Scope::Tracks, &all).tracks.unwrap();
    let lines: Vec<_> = tracks.items.iter().map(|line| (line.song.index, line.sources)).collect();
    assert_eq!(lines, [(5, 1), (1, 1), (0, 2), (2, 1), (4, 1), (3, 1)]);
}

#[test]
fn filters() {
    let (shelf, sources) = shelf();
    let tracks = |filter| -> Vec<u64> {
        let tracks = online(&shelf, &sources, Scope::Tracks, &filter).tracks.unwrap();
        tracks.items.iter().map(|line| line.song.index).collect()
    };
    assert_eq!(tracks(filter(Some("SIGUR ROS"), None, None)), [1, 0, 2]);
    assert_eq!(tracks(filter(Some("various"), None, None)), [4, 3]);
    assert_eq!(tracks(filter(Some("Alva"), None, None)), [5, 3]);
    assert_eq!(tracks(filter(Some("Alva"), Some("pop"), None)), [3]);
    assert_eq!(tracks(filter(None, None, Some("takk"))), [1, 0]);
    assert_eq!(tracks(filter(None, Some(""), None)), [5]);
    assert_eq!(tracks(filter(Some("Zoe"), None, None)), [0; 0]);
    let artists = online(&shelf, &sources, Scope::Artists, &filter(None, Some("POP"), None)).artists.unwrap();
    assert_eq!(artists.total, 3);
}

#[test]
fn nobody_online() {
    let (shelf, _) = shelf();
    for scope in [Scope::Artists, Scope::Genres, Scope::Albums, Scope::Tracks, Scope::Counts] {
        let nothing = shelf.index.discover(scope, &Filter::default(), &NoSources, Page::default()).unwrap();
        assert_eq!(nothing.counts.unwrap_or_default(), Counts::default());
        assert_eq!(nothing.artists.map_or(0, |list| list.total), 0);
        assert_eq!(nothing.tracks.map_or(0, |list| list.total), 0);
    }
    let empty = Shelf::new();
    let nothing =
        empty.index.discover(Scope::Artists, &Filter::default(), &NoSources, Page::default()).unwrap();
    assert_eq!(nothing.artists.unwrap().total, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Against maps over all songs; several segments.
    #[test]
    fn groups_are_those_of_all_songs(
        songs in proptest::collection::vec((0u8..6, 0u8..4, 0u8..3, any::<bool>(), 0u32..9), 1..60),
        variants in proptest::collection::vec(any::<proptest::sample::Index>(), 0..20),
        serve in proptest::collection::vec((any::<proptest::sample::Index>(), 0u32..5), 0..120),
        commits in 1usize..5,
    ) {
        let shelf = Shelf::new();
        for (at, (artist, album, genre, loud, track)) in songs.iter().enumerate() {
            if at % (songs.len() / commits + 1) == 0 {
                shelf.update();
            }
            let case = |name: String| if *loud { name.to_uppercase() } else { name };
            shelf.add(Song { track: *track, ..song([
                "x", &case(format!("artist {artist}")), &case(format!("album {album}")), &format!("genre {genre}"),
            ]) });
        }
        let mut owners: Vec<u64> = (0..songs.len() as u64).collect();
        for variant in &variants {
            let song = variant.index(songs.len()) as u64;
            shelf.blocks.push(Entry::Variant { song });
            owners.push(song);
        }
        shelf.update();
        let mut sources = ListedSources::default();
        let mut serving: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
        for (at, peer) in &serve {
            let index = at.index(owners.len());
            sources.add(index as u64, *peer);
            serving.entry(owners[index]).or_default().insert(*peer);
        }
        let mut artists: BTreeMap<String, (BTreeSet<u8>, u64, BTreeSet<u32>)> = BTreeMap::new();
        let mut order = Vec::new();
        for (song, peers) in &serving {
            let (artist, album, _, _, track) = songs[*song as usize];
            let entry = artists.entry(format!("artist {artist}")).or_default();
            entry.0.insert(album);
            entry.1 += 1;
            entry.2.extend(peers);
            order.push((artist, album, track, *song));
        }
        order.sort_unstable();
        let listed = online(&shelf, &sources, Scope::Artists, &Filter::default()).artists.unwrap();
        prop_assert_eq!(listed.total as usize, artists.len());
        for (line, (name, (albums, tracks, peers))) in listed.items.iter().zip(&artists) {
            prop_assert_eq!(line.name.to_lowercase(), name.clone());
            prop_assert_eq!((line.albums as usize, line.tracks, line.sources as usize), (albums.len(), *tracks, peers.len()));
        }
        let mut paged = Vec::new();
        for offset in (0..order.len() + 7).step_by(7) {
            let page = shelf.index.discover(Scope::Tracks, &Filter::default(), &sources, Page { offset, limit: 7 }).unwrap();
            paged.extend(page.tracks.unwrap().items.iter().map(|line| line.song.index));
        }
        prop_assert_eq!(paged, order.iter().map(|(_, _, _, song)| *song).collect::<Vec<_>>());
    }
}
