//! Finding files in music folders: links followed once, hidden names and unfinished downloads left alone.

use std::{
    fs::Metadata,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use walkdir::{DirEntry, WalkDir};

use super::catalogue::Stamp;

/// Extensions that are in every music folder and are never audio: not worth opening.
const NEVER_AUDIO: [&str; 34] = [
    "jpg", "jpeg", "png", "gif", "webp", "bmp", "txt", "md", "nfo", "log", "cue", "m3u", "m3u8", "pls",
    "xspf", "pdf", "html", "htm", "xml", "json", "toml", "ini", "db", "sfv", "md5", "ffp", "accurip", "lrc",
    "zip", "rar", "7z", "gz", "torrent", "url",
];

/// One thing found.
#[derive(Debug)]
pub enum Found {
    /// A file that may be audio.
    File {
        /// Absolute path.
        path: PathBuf,
        /// How it looks now.
        stamp: Stamp,
    },
    /// A file that by its name is not.
    NotAudio(PathBuf),
    /// A place that could not be looked at.
    Failed {
        /// Where.
        path: PathBuf,
        /// Why, for people.
        reason: String,
    },
}

/// How a file looks.
#[must_use]
pub fn stamp_of(meta: &Metadata) -> Stamp {
    Stamp {
        size: meta.len(),
        modified: (meta.mtime(), u32::try_from(meta.mtime_nsec()).unwrap_or(0)),
        inode: (meta.dev(), meta.ino()),
    }
}

/// Everything below `folder` (or `folder` itself, when it is a file), one at a time, in no particular order.
pub fn walk(folder: &Path) -> impl Iterator<Item = Found> {
    WalkDir::new(folder).follow_links(true).into_iter().filter_entry(wanted).filter_map(|entry| match entry {
        Ok(entry) if entry.file_type().is_file() => Some(look(&entry)),
        Ok(_) => None,
        Err(error) => failed(&error),
    })
}

/// Hidden names are other programs' business, `.part` is a download that has not ended.
fn wanted(entry: &DirEntry) -> bool {
    if entry.depth() == 0 {
        return true;
    }
    let name = entry.file_name().as_bytes();
    let unfinished = entry.file_type().is_file() && is_unfinished(entry.path());
    !name.starts_with(b".") && !unfinished
}

/// Whether a name is that of a download that has not ended, or of its outboard.
pub(super) fn is_unfinished(path: &Path) -> bool {
    let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
    name.ends_with(b".part") || name.ends_with(b".part.obao")
}

fn look(entry: &DirEntry) -> Found {
    let path = entry.path().to_owned();
    if never_audio(&path) {
        return Found::NotAudio(path);
    }
    match entry.metadata() {
        Ok(meta) => Found::File { path, stamp: stamp_of(&meta) },
        Err(error) => Found::Failed { path, reason: error.to_string() },
    }
}

/// Whether a name alone says that a file is no audio.
#[must_use]
pub fn never_audio(path: &Path) -> bool {
    let Some(extension) = path.extension().and_then(|extension| extension.to_str()) else { return false };
    NEVER_AUDIO.iter().any(|known| known.eq_ignore_ascii_case(extension))
}

fn failed(error: &walkdir::Error) -> Option<Found> {
    let path = error.path().unwrap_or_else(|| Path::new("?")).to_owned();
    if error.loop_ancestor().is_some() {
        // What the link leads to is walked where it really is.
        tracing::debug!(path = %path.display(), "a link leads back to one of its own folders; left out");
        return None;
    }
    let reason = match error.io_error() {
        Some(error) if error.kind() == std::io::ErrorKind::NotFound => return dangling(path),
        Some(error) => error.to_string(),
        None => error.to_string(),
    };
    Some(Found::Failed { path, reason })
}

/// A link to nothing is worth a word; a file that was deleted during the walk is not.
fn dangling(path: PathBuf) -> Option<Found> {
    let link = path.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
    link.then(|| Found::Failed { path, reason: "a link to something that does not exist".into() })
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn loops_hidden_names_and_odd_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(root.join(".hidden")).unwrap();
        symlink(root, root.join("a/b/loop")).unwrap();
        symlink(root.join("nowhere"), root.join("dangling.mp3")).unwrap();
        let odd = root.join(OsStr::from_bytes(b"a/\xff\xfe.mp3"));
        for path in [
            &odd,
            &root.join("a/one.ogg"),
            &root.join(".hidden/x.mp3"),
            &root.join("a/x.ogg.part"),
            &root.join("a/Cover.JPG"),
        ] {
            fs::write(path, b"x").unwrap();
        }
        let (mut files, mut not_audio, mut failed) = (Vec::new(), 0, 0);
        for found in walk(root) {
            match found {
                Found::File { path, .. } => files.push(path),
                Found::NotAudio(_) => not_audio += 1,
                Found::Failed { .. } => failed += 1,
            }
        }
        files.sort();
        assert_eq!(files, [root.join("a/one.ogg"), odd]);
        assert_eq!((not_audio, failed), (1, 1));
    }
}
