//! Where a peer keeps what it must not lose, and the lock that gives it to one process.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::{ffi::OsStrExt, fs::DirBuilderExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};

/// Longest path of a Unix socket on Linux, with the final zero byte.
const SOCKET_PATH_BYTES: usize = 107;

/// A data directory. Paths only; [`DataDir::lock`] takes possession.
#[derive(Debug, Clone)]
pub struct DataDir {
    root: PathBuf,
}

/// Possession of a data directory, for as long as it lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why there is no possession.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{path} is in use by process {pid}; stop it, or wait until it is done")]
    Held {
        /// The data directory.
        path: PathBuf,
        /// Who holds it, as it wrote down.
        pid: String,
    },
    /// The lock file cannot be made.
    #[error("cannot lock {path}: {source}")]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl DataDir {
    /// Opens or makes the directory (mode 0700).
    ///
    /// # Errors
    /// When it cannot be made or is not a directory.
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        let shown = root.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)
            .with_context(|| format!("cannot make the data directory {shown}"))?;
        let root = root.canonicalize().with_context(|| format!("cannot open the data directory {shown}"))?;
        if !root.is_dir() {
            bail!("the data directory {shown} is not a directory");
        }
        for part in ["keys", "outboards"] {
            DirBuilder::new().recursive(true).mode(0o700).create(root.join(part))?;
        }
        Ok(Self { root })
    }

    /// A directory that is there; nothing is made. `None` when it is not.
    #[must_use]
    pub fn existing(root: &Path) -> Option<Self> {
        root.canonicalize().ok().filter(|root| root.is_dir()).map(|root| Self { root })
    }

    /// `--data-dir`, else `$STATE_DIRECTORY` (a systemd service), else the user's data folder.
    ///
    /// # Errors
    /// When none of them is known.
    pub fn default_root() -> anyhow::Result<PathBuf> {
        if let Some(service) = std::env::var_os("STATE_DIRECTORY") {
            return Ok(PathBuf::from(service));
        }
        match dirs::data_dir() {
            Some(base) => Ok(base.join("antiphon")),
            None => bail!("no home directory is known: name a data directory with --data-dir"),
        }
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The ledger's store.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        self.root.join("ledger")
    }

    /// What a light peer keeps in place of a ledger.
    #[must_use]
    pub fn light(&self) -> PathBuf {
        self.root.join("light")
    }

    /// The near-duplicate index: derived, may be deleted.
    #[must_use]
    pub fn fingerprints(&self) -> PathBuf {
        self.root.join("fingerprints.redb")
    }

    /// The index of songs by words and names: derived, may be deleted.
    #[must_use]
    pub fn search(&self) -> PathBuf {
        self.root.join("search")
    }

    /// What is known of the files in the music folders: derived, may be deleted.
    #[must_use]
    pub fn catalogue(&self) -> PathBuf {
        self.root.join("library.redb")
    }

    /// Folders that are scanned on start.
    #[must_use]
    pub fn folders(&self) -> PathBuf {
        self.root.join("folders.json")
    }

    /// Bao outboards of the library's files: derived, may be deleted.
    #[must_use]
    pub fn outboards(&self) -> PathBuf {
        self.root.join("outboards")
    }

    /// Everything that is secret.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// A key: `node` or `member`.
    #[must_use]
    pub fn key(&self, name: &str) -> PathBuf {
        self.keys().join(format!("{name}.key"))
    }

    /// The wallet.
    #[must_use]
    pub fn wallet(&self) -> PathBuf {
        self.keys().join("wallet.json")
    }

    /// Its password, where nobody has set one of their own.
    #[must_use]
    pub fn wallet_password(&self) -> PathBuf {
        self.keys().join("wallet.password")
    }

    /// The wallet's key as earlier versions kept it, in clear.
    #[must_use]
    pub fn wallet_plain(&self) -> PathBuf {
        self.key("wallet")
    }

    /// The same after the wallet was made of it.
    #[must_use]
    pub fn wallet_migrated(&self) -> PathBuf {
        self.keys().join("wallet.key.migrated")
    }

    /// What explorers ask of the ledger: may be deleted.
    #[must_use]
    pub fn explorer(&self) -> PathBuf {
        self.root.join("explorer.redb")
    }

    /// Songs that the listener has kept.
    #[must_use]
    pub fn kept(&self) -> PathBuf {
        self.root.join("kept")
    }

    /// Songs that were played: may be deleted.
    #[must_use]
    pub fn played(&self) -> PathBuf {
        self.root.join("played")
    }

    /// Receipts of plays that are to be handed in.
    #[must_use]
    pub fn receipts(&self) -> PathBuf {
        self.root.join("receipts")
    }

    /// Bytes that a mini-node has carried this month.
    #[must_use]
    pub fn relay(&self) -> PathBuf {
        self.root.join("relay.json")
    }

    /// What the listener said and did: stars, playlists, app passwords.
    #[must_use]
    pub fn listener(&self) -> PathBuf {
        self.root.join("listener.redb")
    }

    /// The next sequence of announcements.
    #[must_use]
    pub fn sequence(&self) -> PathBuf {
        self.root.join("sequence")
    }

    /// Network settings that the peer has chosen or learnt.
    #[must_use]
    pub fn network_state(&self) -> PathBuf {
        self.root.join("network.json")
    }

    /// Songs that the peer makes itself when there is no music.
    #[must_use]
    pub fn samples(&self) -> PathBuf {
        self.root.join("samples")
    }

    /// Socket by which commands reach the running peer. A data directory with a long path has it under the
    /// system's directory for temporary files, in a folder that only the owner can open.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        let inside = self.root.join("control.sock");
        if inside.as_os_str().len() <= SOCKET_PATH_BYTES {
            return inside;
        }
        let name = blake3::hash(self.root.as_os_str().as_bytes()).to_hex();
        let user = rustix::process::getuid().as_raw();
        std::env::temp_dir().join(format!("antiphon-{user}")).join(format!("{}.sock", &name[..32]))
    }

    /// Takes possession.
    ///
    /// # Errors
    /// [`LockError::Held`] while another process has it.
    pub fn lock(&self) -> Result<Lock, LockError> {
        let path = self.root.join("lock");
        let io = |source| LockError::Io { path: path.clone(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                // Only for the message: whoever holds the lock wrote its number here.
                let _ = file.take(32).read_to_string(&mut pid);
                return Err(LockError::Held { path: self.root.clone(), pid: pid.trim().to_owned() });
            }
            Err(errno) => return Err(io(errno.into())),
        }
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Lock { _file: file })
    }

    /// Makes the folder of the control socket when it is not the data directory, for the owner only.
    ///
    /// # Errors
    /// When the folder belongs to somebody else or cannot be made.
    pub fn prepare_control_socket(&self) -> anyhow::Result<PathBuf> {
        let socket = self.control_socket();
        if let Some(folder) = socket.parent().filter(|folder| *folder != self.root) {
            use std::os::unix::fs::MetadataExt;
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            let meta = fs::symlink_metadata(folder)?;
            if !meta.is_dir() || meta.uid() != rustix::process::getuid().as_raw() || meta.mode() & 0o077 != 0
            {
                bail!("{} must be a folder of this user with mode 700", folder.display());
            }
        }
        Ok(socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_possessor_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::open(&directory.path().join("a/b")).unwrap();
        let lock = data.lock().unwrap();
        let refused = data.lock().unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(lock);
        data.lock().unwrap();
    }

    #[test]
    fn long_paths_still_have_a_socket() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::open(&directory.path().join("x".repeat(120))).unwrap();
        let socket = data.prepare_control_socket().unwrap();
        assert!(socket.as_os_str().len() <= SOCKET_PATH_BYTES);
        assert!(socket.parent().unwrap().is_dir());
    }
}
