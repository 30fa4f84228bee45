//! The little that transfers need of the file system.

use std::{fs::File, io, path::Path};

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
