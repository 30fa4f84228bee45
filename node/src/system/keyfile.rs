//! Keys made on first start: one text file each, readable by the owner only.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use antiphon_proto::SecretKey;
use anyhow::{Context, bail};
use data_encoding::HEXLOWER;
use rand::TryRng;

use super::durable;

const HEADER: &str = "antiphon key v1";

/// Reads the key at `path`, or makes one.
///
/// # Errors
/// A file that others may read, that is damaged, or that cannot be written; the message says what to do.
pub fn load_or_create(path: &Path) -> anyhow::Result<SecretKey> {
    match fs::read_to_string(path) {
        Ok(text) => parse(path, &text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path),
        Err(error) => Err(error).with_context(|| format!("cannot read the key {}", path.display())),
    }
}

/// Reads the key at `path`; `None` when there is none.
///
/// # Errors
/// As [`load_or_create`].
pub fn load(path: &Path) -> anyhow::Result<Option<SecretKey>> {
    if path.exists() { load_or_create(path).map(Some) } else { Ok(None) }
}

fn parse(path: &Path, text: &str) -> anyhow::Result<SecretKey> {
    let shown = path.display();
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        bail!("the key {shown} can be read by others (mode {:o}): run `chmod 600 {shown}`", mode & 0o777);
    }
    let seed = text
        .strip_prefix(HEADER)
        .map(str::trim)
        .and_then(|hex| HEXLOWER.decode(hex.as_bytes()).ok())
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    match seed {
        Some(seed) => Ok(SecretKey::from_seed(&seed)),
        None => bail!(
            "the key {shown} is damaged: it should hold \"{HEADER}\" and 64 hexadecimal digits. \
             Restore it from a backup; without one, move it away and a new key is made (a new identity)"
        ),
    }
}

fn create(path: &Path) -> anyhow::Result<SecretKey> {
    let mut seed = [0u8; 32];
    rand::rngs::SysRng.try_fill_bytes(&mut seed).context("the system gives no randomness")?;
    let key = SecretKey::from_seed(&seed);
    let text = format!("{HEADER}\n{}\n", HEXLOWER.encode(&seed));
    durable::write(path, text.as_bytes(), 0o600)
        .with_context(|| format!("cannot write the key {}", path.display()))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_then_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wallet.key");
        let made = load_or_create(&path).unwrap().public();
        assert_eq!(load_or_create(&path).unwrap().public(), made);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn open_or_damaged_files_are_refused_with_advice() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wallet.key");
        load_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(load_or_create(&path).unwrap_err().to_string().contains("chmod 600"));
        durable::write(&path, b"antiphon key v1\n12\n", 0o600).unwrap();
        assert!(load_or_create(&path).unwrap_err().to_string().contains("damaged"));
    }
}
