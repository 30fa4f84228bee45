//! Another password, backups, and wallets that come from them.

use std::{fs, io, path::Path, sync::Arc};

use antiphon_proto::{PublicKey, SecretKey};
use anyhow::{Context, bail};

use super::{
    file::{Sealed, WalletError},
    password::Password,
    start::{self, Found},
};
use crate::{
    failure::{Failure, Kind},
    system::{datadir::DataDir, durable},
};

/// Encrypts the wallet with another password. The password file beside it is removed, or, with `keep`, holds the new one.
///
/// # Errors
/// Files that cannot be written.
pub async fn password(
    data: &DataDir,
    secret: Arc<SecretKey>,
    new: &Password,
    keep: bool,
) -> anyhow::Result<()> {
    start::write(data, secret, new.clone()).await?;
    if data.wallet_plain().exists() {
        start::set_aside(data)?;
    }
    beside(data, new, keep)
}

/// Brings the password file beside the wallet up to date. Killed before this, a start finds an old password there, tries
/// it in vain, and goes on to the next source.
fn beside(data: &DataDir, password: &Password, keep: bool) -> anyhow::Result<()> {
    let path = data.wallet_password();
    if keep {
        return password.write(&path);
    }
    match fs::remove_file(&path) {
        Ok(()) => Ok(durable::sync_directory(&data.keys())?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot remove {}", path.display())),
    }
}

/// Writes a copy of the wallet, encrypted with a password of its own.
///
/// # Errors
/// A file that is there already, or that cannot be written.
pub async fn back_up(secret: Arc<SecretKey>, password: Password, file: &Path) -> anyhow::Result<()> {
    if fs::symlink_metadata(file).is_ok() {
        let message = format!("{} exists already; it is not overwritten", file.display());
        return Err(Failure::new(Kind::Failed, message).into());
    }
    let path = file.to_owned();
    let work = tokio::task::spawn_blocking(move || Sealed::write(&path, &secret, &password));
    work.await?.with_context(|| format!("cannot write the backup {}", file.display()))?;
    Ok(())
}

/// What restoring a backup did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The wallet's key now.
    pub public: PublicKey,
    /// Files of the wallet that was there before, which are kept.
    pub kept: Vec<String>,
}

/// The backup that a file holds.
///
/// # Errors
/// A file that is not there, or no wallet.
pub fn read_backup(file: &Path) -> anyhow::Result<Arc<Sealed>> {
    let read = Sealed::load_backup(file).with_context(|| format!("the backup {}", file.display()))?;
    let none = || Failure::new(Kind::NotFound, format!("there is no backup {}", file.display()));
    Ok(Arc::new(read.ok_or_else(none)?))
}

/// Makes a backup the wallet of a data directory, whose lock the caller holds. It keeps the backup's password. A wallet
/// with another key is only replaced with `replace`, and its files are kept under other names.
///
/// # Errors
/// A wrong password, another wallet that is there, or files that cannot be written.
pub async fn restore(
    data: &DataDir,
    backup: Arc<Sealed>,
    password: Password,
    replace: bool,
    keep: bool,
) -> anyhow::Result<Restored> {
    let public = backup.public();
    let (opened, guess) = (backup.clone(), password.clone());
    match tokio::task::spawn_blocking(move || opened.unseal(&guess)).await? {
        Ok(_) => {}
        Err(WalletError::Password) => {
            bail!(Failure::new(
                Kind::Failed,
                "wrong password: it is not the one that this backup was made with"
            ))
        }
        Err(error) => return Err(error.into()),
    }
    // With --replace, whatever is there has to go, even if it is damaged.
    let there = match start::look(data) {
        Ok(found) => found,
        Err(_) if replace => Found::Nothing,
        Err(error) => return Err(error),
    };
    let same = there.public() == Some(public);
    if let Some(other) = there.public().filter(|_| !same && !replace) {
        let message = format!(
            "there is a wallet with another key in {}: {other}, and the backup is of {public}. With --replace the \
             backup takes its place, and its files are kept",
            data.root().display()
        );
        return Err(Failure::new(Kind::Failed, message).into());
    }
    let kept = if same { Vec::new() } else { keep_old(data)? };
    backup.save(&data.wallet()).with_context(|| format!("cannot write {}", data.wallet().display()))?;
    if !same {
        // Killed before this, a start finds two keys, says so, and changes nothing.
        clear_old(data)?;
    }
    beside(data, &password, keep)?;
    Ok(Restored { public, kept })
}

/// Copies the files of a wallet to names that are free.
fn keep_old(data: &DataDir) -> anyhow::Result<Vec<String>> {
    let old = [data.wallet(), data.wallet_password(), data.wallet_plain(), data.wallet_migrated()];
    let old: Vec<_> = old.into_iter().filter(|path| path.exists()).collect();
    let kept = |path: &Path, number: u32| {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{number}.replaced"));
        path.with_file_name(name)
    };
    let free = |number: &u32| !old.iter().any(|path| kept(path, *number).exists());
    let number = (1..).find(free).context("there are too many wallets that were replaced")?;
    let mut names = Vec::new();
    for path in &old {
        let to = kept(path, number);
        let bytes = zeroize::Zeroizing::new(fs::read(path)?);
        durable::write(&to, &bytes, 0o600).with_context(|| format!("cannot write {}", to.display()))?;
        names.push(to.display().to_string());
    }
    Ok(names)
}

fn clear_old(data: &DataDir) -> anyhow::Result<()> {
    for path in [data.wallet_plain(), data.wallet_migrated()] {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(durable::sync_directory(&data.keys())?)
}
