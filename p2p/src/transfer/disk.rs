//! The little that transfers need of the file system.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

/// Writes all the bytes at a place of a file that others may be writing at the same time, elsewhere.
#[cfg(unix)]
pub(crate) fn write_all_at(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

/// Writes all the bytes at a place of a file that others may be writing at the same time, elsewhere.
#[cfg(windows)]
pub(crate) fn write_all_at(file: &File, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        offset += count as u64;
        bytes = &bytes[count..];
    }
    Ok(())
}

/// Makes a rename or a new name in the folder of `path` survive a power cut.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    // Folders cannot be opened as files elsewhere, and the rename itself is journalled there.
    if cfg!(unix) {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Renames a file to a name on the same file system that nothing has yet.
///
/// Where the file system knows neither such a rename nor links, another program may take the name between the look
/// and the rename.
///
/// # Errors
/// `AlreadyExists` when something has the name; both files are then as they were.
pub(crate) fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match rename_noreplace(from, to) {
        Err(error) if is_unsupported(&error) => link_to_new(from, to),
        done => done,
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn rename_noreplace(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn rename_noreplace(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn link_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => {
            if let Err(error) = fs::remove_file(from) {
                tracing::warn!(file = %from.display(), %error, "a finished download keeps its second name");
            }
            Ok(())
        }
        // FAT says that links are not permitted.
        Err(error) if is_unsupported(&error) || error.kind() == io::ErrorKind::PermissionDenied => {
            match fs::symlink_metadata(to) {
                Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

/// Old kernels do not know the call, some file systems not the flag: they say `ENOSYS`, `EOPNOTSUPP` or `EINVAL`.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_replaced_whatever_the_file_system_knows() {
        for rename in [rename_to_new, link_to_new] {
            let folder = tempfile::tempdir().unwrap();
            let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
            fs::write(&from, b"new").unwrap();
            fs::write(&to, b"old").unwrap();
            assert_eq!(rename(&from, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(
                (fs::read(&from).unwrap(), fs::read(&to).unwrap()),
                (b"new".to_vec(), b"old".to_vec())
            );
            fs::remove_file(&to).unwrap();
            rename(&from, &to).unwrap();
            assert_eq!(fs::read(&to).unwrap(), b"new");
            assert!(!from.exists());
            assert!(rename(&from, &folder.path().join("third")).is_err());
        }
    }
}
