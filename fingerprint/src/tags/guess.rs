//! What a file's name and folders say about its music.

use std::path::{Component, Path};

use super::clean;

/// Folders that hold music rather than name it.
const GENERAL: [&str; 36] = [
    "albums",
    "artists",
    "audio",
    "backup",
    "core",
    "data",
    "desktop",
    "documents",
    "download",
    "downloads",
    "files",
    "flac",
    "games",
    "home",
    "incoming",
    "library",
    "local",
    "media",
    "mnt",
    "mp3",
    "music",
    "musik",
    "new",
    "opt",
    "root",
    "share",
    "shared",
    "songs",
    "sound",
    "sounds",
    "srv",
    "tmp",
    "tracks",
    "unsorted",
    "users",
    "usr",
];
/// Most bytes of a name that are looked at: file systems allow 255.
const MAX_NAME: usize = 1_024;

/// A reading of a path. Empty and zero mean nothing was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Guess {
    pub(super) title: String,
    pub(super) artist: String,
    pub(super) album: String,
    pub(super) track: u32,
    pub(super) disc: u32,
    pub(super) year: u32,
}

/// Reads a path such as `Artist/2009 - Album/03 - Title.ogg` or `Artist - Title.mp3`.
pub(super) fn from_path(path: &Path) -> Guess {
    let mut guess = Guess::default();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    read_name(&name(&stem), &mut guess);
    let mut folders = folders(path).into_iter().rev();
    let mut folder = folders.next();
    if let Some(disc) = folder.as_deref().and_then(disc_number) {
        guess.disc = guess.disc.max(disc);
        folder = folders.next();
    }
    if let Some(folder) = folder {
        let (artist, album) = read_album(&folder, &mut guess);
        if guess.album.is_empty() {
            guess.album = album;
        }
        let artist = if artist.is_empty() { folders.next().unwrap_or_default() } else { artist };
        if guess.artist.is_empty() {
            guess.artist = artist;
        }
    }
    guess
}

/// The folders that may name music, outermost first: those behind the last general one and, for privacy as much
/// as for sense, not a user's own name.
fn folders(path: &Path) -> Vec<String> {
    let names: Vec<String> = path
        .parent()
        .map(|parent| {
            parent
                .components()
                .filter_map(|component| match component {
                    Component::Normal(name) => Some(self::name(&name.to_string_lossy())),
                    _ => None,
                })
                .collect()
        })
        .unwrap_or_default();
    let is = |name: &str, general: &[&str]| general.contains(&name.to_lowercase().as_str());
    let mut start = 0;
    for (number, folder) in names.iter().enumerate() {
        if is(folder, &["home", "users"]) {
            start = number + 2;
        } else if is(folder, &GENERAL) || folder.starts_with('.') {
            start = number + 1;
        }
    }
    names.into_iter().skip(start).filter(|folder| !folder.is_empty()).collect()
}

/// Underscores are spaces if there is no real one.
fn name(raw: &str) -> String {
    let clean = clean::text(raw, MAX_NAME);
    if clean.contains(' ') { clean } else { clean.replace('_', " ").trim().to_owned() }
}

/// `03 - Artist - Title` and its kin.
fn read_name(name: &str, guess: &mut Guess) {
    let rest = leading_number(name, guess);
    let mut parts: Vec<&str> = rest.split(" - ").map(str::trim).filter(|part| !part.is_empty()).collect();
    // A track number between the names.
    if parts.len() > 2 {
        let number = parts.iter().skip(1).position(|part| is_track(part)).map(|at| at + 1);
        if let Some(at) = number.filter(|&at| at + 1 < parts.len()) {
            let number = clean::number(parts.remove(at));
            guess.track = if guess.track == 0 { number } else { guess.track };
        }
    }
    match parts.as_slice() {
        [] => guess.title = name.to_owned(),
        [title] => guess.title = (*title).to_owned(),
        [artist, title] => {
            guess.artist = (*artist).to_owned();
            guess.title = (*title).to_owned();
        }
        [artist, album, title @ ..] => {
            guess.artist = (*artist).to_owned();
            guess.album = (*album).to_owned();
            guess.title = title.join(" - ");
        }
    }
}

fn is_track(part: &str) -> bool {
    (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())
}

/// Takes `03`, `03.`, `03 -`, `1-03` off the front, if a name follows.
fn leading_number<'a>(name: &'a str, guess: &mut Guess) -> &'a str {
    let digits = name.bytes().take_while(u8::is_ascii_digit).count();
    let (number, mut rest) = name.split_at(digits);
    let mut track = number;
    if (1..=2).contains(&digits)
        && let Some(behind) = rest.strip_prefix(['-', '.'])
    {
        let more = behind.bytes().take_while(u8::is_ascii_digit).count();
        if more == 2 {
            guess.disc = clean::number(number);
            (track, rest) = behind.split_at(more);
        }
    }
    let after = rest.trim_start_matches([' ', '.', '-', ')', '_']);
    // "99 Luftballons" has a number, too: two digits with nothing but a space count only with a leading zero.
    let separated =
        rest.starts_with(['.', '-', ')', '_']) || rest.starts_with(" -") || track.starts_with('0');
    if !is_track(track) || after.is_empty() || !separated || rest.len() == after.len() {
        guess.disc = 0;
        return name;
    }
    guess.track = clean::number(track);
    after
}

/// `CD1`, `Disc 2`: the number of the disc.
fn disc_number(folder: &str) -> Option<u32> {
    let lower = folder.to_lowercase();
    let rest = ["cd", "disc", "disk"].iter().find_map(|word| lower.strip_prefix(word))?;
    let number = clean::number(rest);
    (number > 0 && rest.trim().bytes().all(|b| b.is_ascii_digit())).then_some(number)
}

/// `Artist - Album`, `2009 - Album`, `Album (2009)`: artist (often empty) and album.
fn read_album(folder: &str, guess: &mut Guess) -> (String, String) {
    let mut rest = folder.trim();
    for (open, close) in [('(', ')'), ('[', ']')] {
        if let Some(inner) = rest.strip_suffix(close)
            && let Some((before, year)) = inner.rsplit_once(open)
            && is_year(year)
            && !before.trim().is_empty()
        {
            guess.year = clean::year(year);
            rest = before.trim();
        }
    }
    let mut parts: Vec<&str> = rest.split(" - ").map(str::trim).filter(|part| !part.is_empty()).collect();
    if parts.len() > 1
        && let Some(at) = parts.iter().position(|part| is_year(part))
    {
        guess.year = clean::year(parts.remove(at));
    }
    match parts.as_slice() {
        [artist, album @ ..] if !album.is_empty() => ((*artist).to_owned(), album.join(" - ")),
        [album] => (String::new(), (*album).to_owned()),
        _ => (String::new(), rest.to_owned()),
    }
}

fn is_year(text: &str) -> bool {
    text.len() == 4 && clean::year(text) > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(path: &str) -> (String, String, String, u32) {
        let guess = from_path(Path::new(path));
        (guess.artist, guess.album, guess.title, guess.track)
    }

    fn expect(path: &str, artist: &str, album: &str, title: &str, track: u32) {
        assert_eq!(guess(path), (artist.into(), album.into(), title.into(), track), "{path}");
    }

    #[test]
    fn names_and_folders() {
        expect("Artist/Album/03 - Title.ogg", "Artist", "Album", "Title", 3);
        expect("Artist/Album/03 - Someone - Title.ogg", "Someone", "Album", "Title", 3);
        expect("Artist - Album/3. Title.ogg", "Artist", "Album", "Title", 3);
        expect("Artist - 12 - Title.mp3", "Artist", "", "Title", 12);
        expect("X - Y - 12 - Title.mp3", "X", "Y", "Title", 12);
        expect("artist_-_title.mp3", "artist", "", "title", 0);
        expect("Artist/Album (2009)/CD2/1-03 Title.flac", "Artist", "Album", "Title", 3);
        expect("Artist/Album/99 Luftballons.mp3", "Artist", "Album", "99 Luftballons", 0);
        expect("Artist/Album/07 Title.mp3", "Artist", "Album", "Title", 7);
        expect("Artist/Album/01.mp3", "Artist", "Album", "01", 0);
        expect("/mnt/Music/Artist/Album/Title.mp3", "Artist", "Album", "Title", 0);
        expect("/usr/share/games/asc/music/machine_wars.mp3", "", "", "machine wars", 0);
    }

    #[test]
    fn user_names_stay_private() {
        expect("/home/alice/song.mp3", "", "", "song", 0);
        expect("/home/alice/Album/song.mp3", "", "Album", "song", 0);
        expect("/Users/alice/Music/A/B/song.mp3", "A", "B", "song", 0);
    }

    #[test]
    fn years_and_discs() {
        let guess = from_path(Path::new("A/1999 - B/Disc 2/04 C.ogg"));
        assert_eq!((guess.year, guess.disc, guess.track), (1999, 2, 4));
        assert_eq!((guess.artist.as_str(), guess.album.as_str()), ("A", "B"));
        assert_eq!(from_path(Path::new("A/1984/04 C.ogg")).album, "1984");
    }

    #[cfg(unix)]
    #[test]
    fn names_need_not_be_unicode() {
        use std::os::unix::ffi::OsStrExt;
        let path = Path::new(std::ffi::OsStr::from_bytes(b"Art\xffist/Album/T\xe9st.ogg"));
        let guess = from_path(path);
        assert_eq!(guess.title, "T\u{fffd}st");
        assert_eq!(guess.artist, "Art\u{fffd}ist");
    }

    proptest::proptest! {
        #[test]
        fn any_path_is_read(path: String) {
            let _ = from_path(Path::new(&path));
        }
    }
}
