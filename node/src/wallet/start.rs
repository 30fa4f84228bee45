//! What a start finds, and how it comes to an open wallet: by making one, taking over a plain key, or unlocking.
//!
//! A plain key of an earlier version becomes a wallet in steps. A start that finds the work of another, which was killed
//! after any of them, goes on from there with the same key:
//!
//! 1. the random password is written (unless there is another),
//! 2. the wallet is made and opened, written and read back,
//! 3. the plain key is renamed to `wallet.key.migrated`, and stays as a backup.

use std::{fs, sync::Arc};

use antiphon_proto::{PublicKey, SecretKey};
use anyhow::{Context, bail};
use rand::TryRng;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{
    Wallet,
    file::Sealed,
    password::Password,
    unlock::{Source, Sources, Unlocked},
};
use crate::{
    config,
    failure::{Failure, Kind},
    system::{datadir::DataDir, durable, keyfile},
};

/// What is in a data directory.
#[derive(Debug)]
pub enum Found {
    /// No wallet.
    Nothing,
    /// A key of an earlier version, in clear.
    Plain(Arc<SecretKey>),
    /// A wallet.
    Sealed(Arc<Sealed>),
    /// A wallet, and the plain key that it was made of: a start was killed in between.
    Both(Arc<Sealed>),
}

impl Found {
    /// The key that everybody may know.
    #[must_use]
    pub fn public(&self) -> Option<PublicKey> {
        match self {
            Self::Nothing => None,
            Self::Plain(key) => Some(key.public()),
            Self::Sealed(sealed) | Self::Both(sealed) => Some(sealed.public()),
        }
    }
}

/// Looks at what is there. Changes nothing.
///
/// # Errors
/// Files that are damaged, that others can read, or that contradict one another.
pub fn look(data: &DataDir) -> anyhow::Result<Found> {
    let (json, plain) = (data.wallet(), data.wallet_plain());
    let sealed = Sealed::load(&json).with_context(|| format!("the wallet {}", json.display()))?;
    let key = keyfile::load(&plain)?;
    match (sealed, key) {
        (None, None) if data.wallet_migrated().exists() => bail!(
            "the wallet {} is gone, and the plain key that it was made of is still there: rename {} to {} to make the \
             wallet again, or move it away for a new one (a new identity)",
            json.display(),
            data.wallet_migrated().display(),
            plain.display()
        ),
        (None, None) => Ok(Found::Nothing),
        (None, Some(key)) => Ok(Found::Plain(Arc::new(key))),
        (Some(sealed), None) => Ok(Found::Sealed(Arc::new(sealed))),
        (Some(sealed), Some(key)) if key.public() == sealed.public() => Ok(Found::Both(Arc::new(sealed))),
        (Some(sealed), Some(key)) => bail!(
            "there are two wallets: {} has the key {}, {} has {}. Nothing was changed; move the one away that you do not \
             want",
            json.display(),
            sealed.public(),
            plain.display(),
            key.public()
        ),
    }
}

/// Opens the wallet of a data directory, whose lock the caller holds, and makes one where there is none. `report` is told
/// what its owner should know.
///
/// # Errors
/// Files that are of no use, or a wallet that nothing here unlocks.
pub async fn open(
    data: &DataDir,
    settings: &config::Wallet,
    cancel: &CancellationToken,
    report: &(dyn Fn(&str) + Send + Sync),
) -> anyhow::Result<Wallet> {
    let sources = Sources::new(data, settings);
    match look(data)? {
        Found::Nothing => {
            let (wallet, source) = make(data, &sources, new_key()?).await?;
            if source == Source::Beside {
                report(&format!(
                    "a wallet was made; its password lies beside it, in {}. Set your own with `antiphon wallet \
                     change-password`",
                    data.wallet_password().display()
                ));
            }
            Ok(wallet)
        }
        Found::Plain(key) => {
            let (wallet, source) = make(data, &sources, key).await?;
            set_aside(data)?;
            let beside = if source == Source::Beside { ", its password beside it" } else { "" };
            report(&format!(
                "the wallet's key is encrypted from now on ({}{beside}); the plain key is kept as {}: delete it when you have \
                 a backup (`antiphon wallet backup FILE`)",
                data.wallet().display(),
                data.wallet_migrated().display()
            ));
            Ok(wallet)
        }
        Found::Sealed(sealed) => Ok(unlock(data, &sources, &sealed, cancel).await?.wallet),
        Found::Both(sealed) => {
            let unlocked = unlock(data, &sources, &sealed, cancel).await?;
            set_aside(data)?;
            Ok(unlocked.wallet)
        }
    }
}

/// Makes the wallet of a data directory that has none.
///
/// # Errors
/// When there is one, or it cannot be written.
pub async fn create(
    data: &DataDir,
    settings: &config::Wallet,
    own: Option<Password>,
) -> anyhow::Result<Wallet> {
    if let Some(public) = look(data)?.public() {
        let message = format!("there is a wallet in {} already: {public}", data.root().display());
        return Err(Failure::new(Kind::Failed, message).into());
    }
    let key = new_key()?;
    match own {
        Some(password) => write(data, key, password).await,
        None => Ok(make(data, &Sources::new(data, settings), key).await?.0),
    }
}

/// Unlocks a wallet, and names its file when that fails.
///
/// # Errors
/// What was tried, and what to do.
pub async fn unlock(
    data: &DataDir,
    sources: &Sources,
    sealed: &Arc<Sealed>,
    cancel: &CancellationToken,
) -> anyhow::Result<Unlocked> {
    Box::pin(sources.unlock(sealed, cancel))
        .await
        .with_context(|| format!("the wallet {}", data.wallet().display()))
}

fn new_key() -> anyhow::Result<Arc<SecretKey>> {
    let mut seed = Zeroizing::new([0u8; 32]);
    rand::rngs::SysRng.try_fill_bytes(&mut *seed).context("the system gives no randomness")?;
    Ok(Arc::new(SecretKey::from_seed(&seed)))
}

/// Writes a wallet under the password that is there, or a random one.
async fn make(data: &DataDir, sources: &Sources, key: Arc<SecretKey>) -> anyhow::Result<(Wallet, Source)> {
    let (password, source) = match sources.beforehand()? {
        Some(found) => found,
        None => {
            // On disk before anything needs it.
            let password = Password::random()?;
            password.write(&data.wallet_password())?;
            (password, Source::Beside)
        }
    };
    Ok((write(data, key, password).await?, source))
}

/// Writes a wallet, away from the threads that must not wait.
pub(super) async fn write(data: &DataDir, key: Arc<SecretKey>, password: Password) -> anyhow::Result<Wallet> {
    let path = data.wallet();
    let work = tokio::task::spawn_blocking(move || Sealed::write(&path, &key, &password));
    let shown = || format!("cannot write the wallet {}", data.wallet().display());
    Ok(work.await?.with_context(shown)?.into())
}

/// The plain key is of no use any more, and kept.
pub(super) fn set_aside(data: &DataDir) -> anyhow::Result<()> {
    let (from, to) = (data.wallet_plain(), data.wallet_migrated());
    let shown = || format!("cannot rename {} to {}", from.display(), to.display());
    fs::rename(&from, &to).with_context(shown)?;
    durable::sync_directory(&data.keys()).with_context(shown)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Mutex};

    use super::*;

    struct Machine {
        _folder: tempfile::TempDir,
        data: DataDir,
        settings: config::Wallet,
        said: Mutex<Vec<String>>,
    }

    impl Machine {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let data = DataDir::open(&folder.path().join("data")).unwrap();
            let settings = config::Wallet { keyring: false, ..config::Wallet::default() };
            Self { _folder: folder, data, settings, said: Mutex::default() }
        }

        /// One with a key of an earlier version.
        fn plain() -> (Self, PublicKey) {
            let machine = Self::new();
            let key = keyfile::load_or_create(&machine.data.wallet_plain()).unwrap();
            (machine, key.public())
        }

        async fn open(&self) -> anyhow::Result<Wallet> {
            let report = |text: &str| self.said.lock().unwrap().push(text.to_owned());
            open(&self.data, &self.settings, &CancellationToken::new(), &report).await
        }

        fn files(&self) -> Vec<String> {
            let names = fs::read_dir(self.data.keys()).unwrap();
            let mut names: Vec<_> =
                names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }

        fn said(&self) -> usize {
            self.said.lock().unwrap().len()
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_first_start_makes_a_wallet_and_later_ones_open_it() {
        let machine = Machine::new();
        assert!(super::super::locked(&machine.data).unwrap().is_none());
        let public = machine.open().await.unwrap().public();
        assert_eq!(machine.files(), ["wallet.json", "wallet.password"]);
        for path in [machine.data.wallet(), machine.data.wallet_password()] {
            assert_eq!(mode(&path), 0o600);
        }
        assert_eq!(machine.said(), 1);
        let again = machine.open().await.unwrap();
        assert_eq!((again.public(), again.secret().unwrap().public()), (public, public));
        assert_eq!(
            (machine.said(), super::super::locked(&machine.data).unwrap().unwrap().public()),
            (1, public)
        );
        let error = create(&machine.data, &machine.settings, None).await.unwrap_err().to_string();
        assert!(error.contains("already"), "{error}");
    }

    #[tokio::test]
    async fn a_plain_key_becomes_a_wallet_once() {
        let (machine, public) = Machine::plain();
        assert_eq!(super::super::locked(&machine.data).unwrap().unwrap().public(), public);
        assert_eq!(machine.open().await.unwrap().public(), public);
        assert_eq!(machine.files(), ["wallet.json", "wallet.key.migrated", "wallet.password"]);
        assert_eq!((mode(&machine.data.wallet_migrated()), machine.said()), (0o600, 1));
        assert_eq!(machine.open().await.unwrap().public(), public);
        assert_eq!(machine.said(), 1);
    }

    /// What a kill leaves, step by step.
    #[tokio::test]
    async fn a_start_goes_on_where_another_was_killed() {
        let whole = ["wallet.json", "wallet.key.migrated", "wallet.password"];
        // While or after the password is written.
        for leftover in ["wallet.password.new", "wallet.password"] {
            let (machine, public) = Machine::plain();
            Password::random().unwrap().write(&machine.data.keys().join(leftover)).unwrap();
            if leftover.ends_with("new") {
                // Half of it.
                fs::write(machine.data.keys().join(leftover), "0123").unwrap();
            }
            let before = fs::read(machine.data.wallet_password()).ok();
            assert_eq!(machine.open().await.unwrap().public(), public);
            assert_eq!(machine.files(), whole);
            if let Some(before) = before {
                assert_eq!(fs::read(machine.data.wallet_password()).unwrap(), before);
            }
        }
        // While or after the wallet is written.
        let (machine, public) = Machine::plain();
        Password::random().unwrap().write(&machine.data.wallet_password()).unwrap();
        fs::write(machine.data.keys().join("wallet.json.new"), "{ \"format\"").unwrap();
        assert_eq!(machine.open().await.unwrap().public(), public);
        assert_eq!(machine.files(), whole);
        fs::rename(machine.data.wallet_migrated(), machine.data.wallet_plain()).unwrap();
        assert_eq!(machine.open().await.unwrap().public(), public);
        assert_eq!(machine.files(), whole);
        // A wallet without a plain key, killed after its password was written.
        let machine = Machine::new();
        let password = Password::random().unwrap();
        password.write(&machine.data.wallet_password()).unwrap();
        let public = machine.open().await.unwrap().public();
        assert_eq!(Password::read_beside(&machine.data.wallet_password()).unwrap(), Some(password));
        assert_eq!(machine.open().await.unwrap().public(), public);
    }

    #[tokio::test]
    async fn two_different_keys_are_left_alone() {
        let machine = Machine::new();
        machine.open().await.unwrap();
        keyfile::load_or_create(&machine.data.wallet_plain()).unwrap();
        let before = (machine.files(), fs::read(machine.data.wallet()).unwrap());
        let error = format!("{:#}", machine.open().await.unwrap_err());
        assert!(error.contains("two wallets"), "{error}");
        assert_eq!((machine.files(), fs::read(machine.data.wallet()).unwrap()), before);
    }

    #[tokio::test]
    async fn a_wallet_that_is_gone_is_not_replaced_by_a_new_one() {
        let (machine, public) = Machine::plain();
        machine.open().await.unwrap();
        fs::remove_file(machine.data.wallet()).unwrap();
        let error = format!("{:#}", machine.open().await.unwrap_err());
        assert!(error.contains("rename"), "{error}");
        fs::rename(machine.data.wallet_migrated(), machine.data.wallet_plain()).unwrap();
        assert_eq!(machine.open().await.unwrap().public(), public);
    }

    #[tokio::test]
    async fn a_password_file_comes_before_the_one_beside() {
        let mut machine = Machine::new();
        let file = machine.data.root().join("mine");
        fs::write(&file, "correct horse\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        machine.settings.password_file = Some(file.clone());
        let public = machine.open().await.unwrap().public();
        assert_eq!(machine.files(), ["wallet.json"]);
        assert_eq!(machine.open().await.unwrap().public(), public);

        fs::write(&file, "battery staple\n").unwrap();
        let error = format!("{:#}", machine.open().await.unwrap_err());
        assert!(error.contains(file.to_str().unwrap()) && error.contains("wallet.json"), "{error}");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(format!("{:#}", machine.open().await.unwrap_err()).contains("chmod 600"));
        fs::remove_file(&file).unwrap();
        assert!(format!("{:#}", machine.open().await.unwrap_err()).contains("not there"));

        machine.settings.password_file = None;
        let error = format!("{:#}", machine.open().await.unwrap_err());
        for said in ["systemd credential", "not set", "keyring is off", "terminal", "wallet.password"] {
            assert!(error.contains(said), "{said}: {error}");
        }
        // One that is left from before is tried, said to be wrong, and does not hide the others.
        Password::random().unwrap().write(&machine.data.wallet_password()).unwrap();
        let error = format!("{:#}", machine.open().await.unwrap_err());
        assert!(error.contains("is wrong") && error.contains("terminal"), "{error}");
    }

    #[tokio::test]
    async fn a_credential_comes_first() {
        let machine = Machine::new();
        let public = machine.open().await.unwrap().public();
        let Found::Sealed(sealed) = look(&machine.data).unwrap() else { panic!() };
        let folder = machine.data.root().join("credentials");
        fs::create_dir(&folder).unwrap();
        let sources =
            Sources { credentials: Some(folder.clone()), ..Sources::new(&machine.data, &machine.settings) };
        let cancel = CancellationToken::new();
        let unlocked = sources.unlock(&sealed, &cancel).await.unwrap();
        assert_eq!((unlocked.source, unlocked.tried.len()), (Source::Beside, 2));
        let credential = folder.join(super::super::unlock::CREDENTIAL);
        fs::copy(machine.data.wallet_password(), &credential).unwrap();
        // As systemd has it for a service with a user.
        fs::set_permissions(&credential, fs::Permissions::from_mode(0o440)).unwrap();
        let unlocked = sources.unlock(&sealed, &cancel).await.unwrap();
        assert_eq!((unlocked.source, unlocked.wallet.public()), (Source::Credential, public));
        fs::set_permissions(&credential, fs::Permissions::from_mode(0o640)).unwrap();
        fs::write(&credential, "wrong").unwrap();
        let error = sources.unlock(&sealed, &cancel).await.unwrap_err().to_string();
        assert!(error.contains(credential.to_str().unwrap()), "{error}");
    }
}
