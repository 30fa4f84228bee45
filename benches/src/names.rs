//! Songs with names as they are spread in a language and in a shop: few words often, albums of twelve, artists with four
//! albums, guests.

use antiphon_proto::wire::Song;

/// Songs of an album, and of an artist.
const ALBUM: usize = 12;
const ARTIST: usize = 4 * ALBUM;
const SYLLABLES: [&str; 32] = [
    "ka", "lo", "mi", "ra", "zen", "tor", "ul", "ven", "sha", "dor", "el", "fin", "gra", "hul", "is", "jo",
    "kri", "lum", "mor", "na", "ost", "pir", "qua", "rii", "sol", "tha", "ur", "vex", "wyn", "xa", "yor",
    "zu",
];

/// One of some thousand words, the first of them often, as in a language.
fn word(number: u64) -> String {
    let bytes = *blake3::hash(&number.to_le_bytes()).as_bytes();
    let common = usize::from(bytes[0] % 4) * usize::from(bytes[1]) * usize::from(bytes[2]) / 16;
    [common % 32, common / 32 % 32, common / 1_024 % 32].map(|at| SYLLABLES[at]).concat()
}

fn words(number: usize, kind: u64, count: u64) -> String {
    let one = |at| word((number as u64) << 8 | kind << 4 | at);
    (0..count).map(one).collect::<Vec<_>>().join(" ")
}

/// A song of this number, unsigned.
#[must_use]
pub fn named_song(number: usize) -> Song {
    let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let artist = words(number / ARTIST, 1, 2);
    let guest = number % ALBUM == 7;
    Song {
        content_hash: blake3::hash(&number.to_le_bytes()).as_bytes().to_vec(),
        container: 2,
        bytes: 30_000_000,
        duration_ms: 240_000,
        title: words(number, 2, 1 + number as u64 % 5),
        album: words(number / ALBUM, 3, 3),
        artist: if guest { words(number / 3, 1, 2) } else { artist.clone() },
        album_artist: artist,
        genre: words(number / ARTIST % 40, 4, 1),
        year: small(1_960 + number / ALBUM % 65),
        track: small(number % ALBUM + 1),
        isrc: "GBAYE6700150".to_owned(),
        mbid: vec![7; 16],
        ..Song::default()
    }
}
