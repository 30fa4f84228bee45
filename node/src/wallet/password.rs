//! Passwords: where their bytes live, and files that hold one.

use std::{fmt, fs::File, io::Read, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context, bail};
use data_encoding::HEXLOWER;
use rand::TryRng;
use zeroize::Zeroizing;

use super::file::Cost;
use crate::{
    failure::{Failure, Kind},
    system::durable,
};

/// Longest password. A passphrase of forty words fits.
pub const MAX_BYTES: usize = 1_024;
/// Bytes of a password that this program makes.
const RANDOM_BYTES: usize = 32;

/// A password. Wiped from memory when dropped, and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password {
    bytes: Zeroizing<Vec<u8>>,
    random: bool,
}

impl Password {
    /// A password that somebody has chosen. A line break at its end does not count: editors leave one.
    ///
    /// # Errors
    /// An empty one, or one that is too long.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> anyhow::Result<Self> {
        let mut bytes = bytes;
        for end in [b'\n', b'\r'] {
            if bytes.last() == Some(&end) {
                bytes.pop();
            }
        }
        match bytes.len() {
            0 => bail!("the password is empty"),
            1..=MAX_BYTES => Ok(Self { bytes, random: false }),
            _ => bail!("the password is longer than {MAX_BYTES} bytes"),
        }
    }

    /// 256 bits that nobody can guess, in hexadecimal.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn random() -> anyhow::Result<Self> {
        let mut seed = Zeroizing::new([0u8; RANDOM_BYTES]);
        rand::rngs::SysRng.try_fill_bytes(&mut *seed).context("the system gives no randomness")?;
        let bytes = Zeroizing::new(HEXLOWER.encode(&*seed).into_bytes());
        Ok(Self { bytes, random: true })
    }

    /// The password of a file that others cannot read; `None` when there is no file.
    ///
    /// # Errors
    /// A file that others can read, or that holds no password.
    pub fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        Self::read_as(path, Guard::Owner)
    }

    /// The same of a file that is somebody else's to guard: systemd gives rights by access lists, which look like
    /// rights of a group.
    ///
    /// # Errors
    /// A file that cannot be read, or that holds no password.
    pub fn read_credential(path: &Path) -> anyhow::Result<Option<Self>> {
        Self::read_as(path, Guard::Elsewhere)
    }

    /// The password of a file that was named, and therefore must be there.
    ///
    /// # Errors
    /// As [`Self::read`], and when there is none.
    pub fn named(path: &Path) -> anyhow::Result<Self> {
        let none = || Failure::new(Kind::NotFound, format!("there is no password file {}", path.display()));
        Ok(Self::read(path)?.ok_or_else(none)?)
    }

    /// The password that lies beside the wallet: the one that this program has made, or one that was put there.
    pub(super) fn read_beside(path: &Path) -> anyhow::Result<Option<Self>> {
        let mut found = Self::read(path)?;
        if let Some(password) = &mut found {
            let made = HEXLOWER.decode(&password.bytes).is_ok_and(|bytes| bytes.len() == RANDOM_BYTES);
            password.random = made;
        }
        Ok(found)
    }

    fn read_as(path: &Path, guard: Guard) -> anyhow::Result<Option<Self>> {
        let shown = path.display();
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read the password file {shown}"));
            }
        };
        let meta = file.metadata().with_context(|| format!("cannot read the password file {shown}"))?;
        // A pipe is nobody's to read but ours.
        if guard == Guard::Owner && meta.is_file() && meta.permissions().mode() & 0o077 != 0 {
            let mode = meta.permissions().mode() & 0o777;
            bail!("the password file {shown} can be read by others (mode {mode:o}): run `chmod 600 {shown}`");
        }
        // Room for everything from the start, so that no copy is left behind when it grows.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 64));
        file.take(MAX_BYTES as u64 + 3)
            .read_to_end(&mut bytes)
            .with_context(|| format!("cannot read the password file {shown}"))?;
        Self::new(bytes).with_context(|| format!("in the password file {shown}")).map(Some)
    }

    /// Writes it into a file that only the owner can read.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut line = Zeroizing::new(Vec::with_capacity(self.bytes.len() + 1));
        line.extend_from_slice(&self.bytes);
        line.push(b'\n');
        durable::write(path, &line, 0o600)
            .with_context(|| format!("cannot write the password file {}", path.display()))
    }

    /// The bytes, for the key derivation and the keyring.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What each guess at this password should cost.
    #[must_use]
    pub const fn cost(&self) -> Cost {
        if self.random { Cost::RANDOM } else { Cost::CHOSEN }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Who sees to it that others cannot read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guard {
    Owner,
    Elsewhere,
}

#[cfg(test)]
pub(super) fn password(text: &str) -> Password {
    Password::new(Zeroizing::new(text.as_bytes().to_vec())).unwrap()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_line_break_at_the_end_does_not_count() {
        for text in ["word", "word\n", "word\r\n"] {
            assert_eq!(password(text).bytes(), b"word");
        }
        assert_eq!(password(" two words \n\n").bytes(), b" two words \n");
        assert!(Password::new(Zeroizing::new(b"\n".to_vec())).is_err());
        assert!(Password::new(Zeroizing::new(vec![b'x'; MAX_BYTES])).is_ok());
        assert!(Password::new(Zeroizing::new(vec![b'x'; MAX_BYTES + 1])).is_err());
    }

    #[test]
    fn passwords_are_not_printed() {
        assert_eq!(format!("{:?}", password("hunter2")), "Password(..)");
    }

    #[test]
    fn files_are_for_the_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        assert!(Password::read(&path).unwrap().is_none());
        assert_eq!(Failure::of(&Password::named(&path).unwrap_err()).kind, Kind::NotFound);
        let made = Password::random().unwrap();
        made.write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Password::read_beside(&path).unwrap(), Some(made.clone()));
        assert_eq!((made.cost(), made.bytes().len()), (Cost::RANDOM, 64));
        // Elsewhere nobody knows that it was made.
        assert_eq!(Password::named(&path).unwrap().cost(), Cost::CHOSEN);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = Password::read(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600") && error.contains("640"), "{error}");
        assert!(Password::read_credential(&path).unwrap().is_some());
        fs::write(&path, "x".repeat(MAX_BYTES + 9)).unwrap();
        assert!(format!("{:#}", Password::read_credential(&path).unwrap_err()).contains("longer"));
    }
}
