//! Where a download goes: its name, its unfinished form, and never over another file.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use antiphon_p2p::partial::publish;
use antiphon_proto::{Container, ContentHash, wire::Song};
use anyhow::{Context, bail};

use super::select;

/// File names: what file systems allow, less room for a number, a hash and `.part.obao`.
const NAME_BYTES: usize = 180;
/// Files of one name that are looked at.
const NUMBERS: u32 = 100;

/// One encoding, as far as its place is concerned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) content: ContentHash,
    pub(super) container: Container,
    pub(super) bytes: u64,
}

/// Where it goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// The very file is there already.
    There(PathBuf),
    /// Free a moment ago.
    New(PathBuf),
}

/// Where unfinished bytes are kept: the content is in the name, so that two encodings never mix.
pub(super) fn part(folder: &Path, song: &Song, wanted: &Wanted) -> PathBuf {
    let content = wanted.content.to_string();
    folder.join(format!("{}.{}.{}.part", stem(song), &content[..8], wanted.container.extension()))
}

/// `Artist - Title.ext`, or with a number when another file has that name.
pub(super) fn destination(folder: &Path, song: &Song, wanted: &Wanted) -> anyhow::Result<Destination> {
    let (stem, extension) = (stem(song), wanted.container.extension());
    for number in 1..NUMBERS {
        let name = if number == 1 {
            format!("{stem}.{extension}")
        } else {
            format!("{stem} ({number}).{extension}")
        };
        let path = folder.join(name);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Destination::New(path)),
            Ok(meta) if meta.len() == wanted.bytes && hash(&path)? == wanted.content => {
                return Ok(Destination::There(path));
            }
            // Another file, or one that cannot be looked at: the next number.
            _ => {}
        }
    }
    bail!(
        "{NUMBERS} files in {} have the name {stem:?} already; name another folder with --out",
        folder.display()
    )
}

/// Copies a file of the own library and checks the copy.
pub(super) fn copy(from: &Path, folder: &Path, song: &Song, wanted: &Wanted) -> anyhow::Result<PathBuf> {
    let part = part(folder, song, wanted).with_extension(format!("{}.part", rand::random::<u32>()));
    let copied = copy_to(from, &part, folder, song, wanted);
    if copied.is_err() {
        let _ = fs::remove_file(&part);
    }
    copied
}

fn copy_to(from: &Path, part: &Path, folder: &Path, song: &Song, wanted: &Wanted) -> anyhow::Result<PathBuf> {
    fs::copy(from, part).with_context(|| format!("cannot write {}", part.display()))?;
    fs::File::open(part)?.sync_all()?;
    if hash(part)? != wanted.content {
        bail!("{} changed while it was copied; scan again", from.display());
    }
    loop {
        match destination(folder, song, wanted)? {
            Destination::There(path) => {
                fs::remove_file(part)?;
                return Ok(path);
            }
            Destination::New(path) => match publish(part, &path) {
                Ok(()) => return Ok(path),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| format!("cannot write {}", path.display())),
            },
        }
    }
}

/// A name that every file system takes.
fn stem(song: &Song) -> String {
    let whole = select::name(&song.artist, &song.title);
    let safe: String =
        whole.chars().map(|c| if c.is_control() || "/\\:*?\"<>|".contains(c) { '_' } else { c }).collect();
    let safe = safe.trim().trim_start_matches('.').trim_end_matches('.').trim();
    let end = (0..=NAME_BYTES.min(safe.len())).rev().find(|end| safe.is_char_boundary(*end)).unwrap_or(0);
    if end == 0 { "song".into() } else { safe[..end].to_owned() }
}

fn hash(path: &Path) -> anyhow::Result<ContentHash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs::File::open(path)?)?;
    Ok(ContentHash(*hasher.finalize().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn song(artist: &str, title: &str) -> Song {
        Song { artist: artist.into(), title: title.into(), ..Song::default() }
    }

    #[test]
    fn names_are_safe_everywhere() {
        assert_eq!(stem(&song("AC/DC", "T.N.T.")), "AC_DC - T.N.T");
        assert_eq!(stem(&song("", "../../etc/passwd")), "_.._etc_passwd");
        assert_eq!(stem(&song("", "...")), "song");
        assert_eq!(stem(&song("", "a\u{0}b\n")), "a_b_");
        let long = stem(&song("ö".repeat(128).as_str(), "x"));
        assert!(long.len() <= NAME_BYTES && long.starts_with('ö'));
    }

    #[test]
    fn a_taken_name_gets_a_number_and_the_same_file_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let song = song("A", "T");
        let wanted = Wanted { content: ContentHash::of(b"bytes"), container: Container::Flac, bytes: 5 };
        let place = |expected: &str| match destination(folder.path(), &song, &wanted).unwrap() {
            Destination::New(path) => assert_eq!(path, folder.path().join(expected)),
            Destination::There(path) => panic!("{}", path.display()),
        };
        place("A - T.flac");
        fs::write(folder.path().join("A - T.flac"), b"other").unwrap();
        place("A - T (2).flac");
        fs::write(folder.path().join("A - T (2).flac"), b"bytes").unwrap();
        let found = destination(folder.path(), &song, &wanted).unwrap();
        // Nothing is ever replaced.
        fs::write(folder.path().join("x.part"), b"new").unwrap();
        let taken = publish(&folder.path().join("x.part"), &folder.path().join("A - T.flac"));
        assert_eq!(taken.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(folder.path().join("A - T.flac")).unwrap(), b"other");
        assert!(matches!(found, Destination::There(path) if path == folder.path().join("A - T (2).flac")));
    }
}
