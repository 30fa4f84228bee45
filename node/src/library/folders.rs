//! Which folders are scanned on start: a small file of its own, since nothing else knows it.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::system::{durable, pathhex};

/// One folder. The path for people, and its bytes, which need not be UTF-8.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    path: String,
    hex: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    schema: u32,
    folders: Vec<Entry>,
}

/// The remembered folders.
pub struct Folders {
    file: PathBuf,
    known: Mutex<BTreeSet<PathBuf>>,
}

impl Folders {
    /// Reads the file; none when there is none.
    ///
    /// # Errors
    /// A file that cannot be read or is damaged.
    pub fn open(file: &Path) -> anyhow::Result<Self> {
        let shown = file.display();
        let known = match std::fs::read_to_string(file) {
            Ok(text) => {
                let form: Form = serde_json::from_str(&text)
                    .with_context(|| format!("{shown} is damaged; remove it and name the folders again"))?;
                form.folders.iter().map(|entry| pathhex::decode(&entry.hex)).collect::<anyhow::Result<_>>()?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
        };
        Ok(Self { file: file.to_owned(), known: Mutex::new(known) })
    }

    /// All of them.
    #[must_use]
    pub fn list(&self) -> Vec<PathBuf> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Adds some and takes out others, durably. Says whether anything changed.
    ///
    /// # Errors
    /// When the file cannot be written; nothing is changed then.
    pub fn change(&self, add: &[PathBuf], remove: &[PathBuf]) -> anyhow::Result<bool> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = known.clone();
        next.extend(add.iter().cloned());
        next.retain(|folder| !remove.contains(folder));
        if next == *known {
            return Ok(false);
        }
        let entry =
            |folder: &PathBuf| Entry { path: folder.display().to_string(), hex: pathhex::encode(folder) };
        let form = Form { schema: 1, folders: next.iter().map(entry).collect() };
        durable::write(&self.file, serde_json::to_string_pretty(&form)?.as_bytes(), 0o600)
            .with_context(|| format!("cannot write {}", self.file.display()))?;
        *known = next;
        Ok(true)
    }
}

/// Without those that lie in another one of them: each place once.
#[must_use]
pub fn outermost(paths: impl IntoIterator<Item = PathBuf>) -> BTreeSet<PathBuf> {
    let all: BTreeSet<PathBuf> = paths.into_iter().collect();
    all.iter().filter(|path| !path.ancestors().skip(1).any(|above| all.contains(above))).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt};

    use super::*;

    #[test]
    fn remembered_whatever_their_names() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("folders.json");
        let odd = PathBuf::from(OsString::from_vec(b"/m/\xff".to_vec()));
        let folders = Folders::open(&file).unwrap();
        assert!(folders.change(&[odd.clone(), "/n".into()], &[]).unwrap());
        assert!(!folders.change(std::slice::from_ref(&odd), &[]).unwrap());
        assert!(folders.change(&[], &["/n".into()]).unwrap());
        assert_eq!(Folders::open(&file).unwrap().list(), [odd]);
    }

    #[test]
    fn a_place_is_scanned_once() {
        let paths = ["/m", "/m/a", "/m/a/b", "/n/c", "/music"].map(PathBuf::from);
        let expected = ["/m", "/music", "/n/c"].map(PathBuf::from);
        assert_eq!(outermost(paths).into_iter().collect::<Vec<_>>(), expected);
    }
}
