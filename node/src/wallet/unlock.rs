//! Where the password of a wallet comes from: systemd, a file, the keyring, a prompt, in this order.

use std::{
    fmt::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use antiphon_proto::SecretKey;
use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::{
    Wallet,
    file::{Sealed, WalletError},
    keyring,
    password::Password,
    prompt,
};
use crate::{
    config,
    failure::{Failure, Kind},
    system::datadir::DataDir,
};

/// Name of the credential that systemd hands to a service (`LoadCredential=antiphon-wallet-password:FILE`).
pub const CREDENTIAL: &str = "antiphon-wallet-password";
/// Times that a prompt is answered before it ends.
const ATTEMPTS: usize = 3;

/// Kinds of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A file in `$CREDENTIALS_DIRECTORY`.
    Credential,
    /// The file that `wallet.password_file` names.
    PasswordFile,
    /// The file that lies beside the wallet.
    Beside,
    /// The keyring of a desktop.
    Keyring,
    /// Somebody at the terminal.
    Prompt,
}

impl Source {
    /// A word for scripts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::PasswordFile => "password_file",
            Self::Beside => "beside",
            Self::Keyring => "keyring",
            Self::Prompt => "prompt",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Credential => "the systemd credential",
            Self::PasswordFile => "the file of wallet.password_file",
            Self::Beside => "the password file beside the wallet",
            Self::Keyring => "the keyring",
            Self::Prompt => "the prompt",
        })
    }
}

/// The sources of this machine.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Folder of systemd's credentials.
    pub credentials: Option<PathBuf>,
    /// `wallet.password_file`.
    pub configured: Option<PathBuf>,
    /// The file beside the wallet.
    pub beside: PathBuf,
    /// Whether the keyring is asked.
    pub keyring: bool,
    /// Whether somebody may be asked.
    pub prompt: bool,
    /// Whether a wrong password in a file that was handed over is passed over too: it may be the next one.
    pub lenient: bool,
}

/// A source that gave nothing, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Which.
    pub source: Source,
    /// Why not.
    pub why: String,
}

/// A wallet that is open.
#[derive(Debug)]
pub struct Unlocked {
    /// With its secret.
    pub wallet: Wallet,
    /// What opened it.
    pub password: Password,
    /// Where that came from.
    pub source: Source,
    /// Sources before it that gave nothing.
    pub tried: Vec<Tried>,
}

impl Sources {
    /// As the environment and the settings say.
    #[must_use]
    pub fn new(data: &DataDir, settings: &config::Wallet) -> Self {
        Self {
            credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            configured: settings.password_file.clone(),
            beside: data.wallet_password(),
            keyring: settings.keyring,
            prompt: settings.prompt,
            lenient: false,
        }
    }

    /// The password for a wallet that is not there yet, if there is one already.
    ///
    /// # Errors
    /// A source that is there and of no use.
    pub fn beforehand(&self) -> anyhow::Result<Option<(Password, Source)>> {
        if let Some(path) = self.credential()
            && let Some(password) = Password::read_credential(&path)?
        {
            return Ok(Some((password, Source::Credential)));
        }
        if let Some(path) = &self.configured {
            return Ok(Some((self.configured(path)?, Source::PasswordFile)));
        }
        Ok(Password::read_beside(&self.beside)?.map(|password| (password, Source::Beside)))
    }

    /// Opens a wallet. A password that was handed over and is wrong ends it; one that may merely be old does not.
    ///
    /// # Errors
    /// What was tried, why it gave nothing, and what to do.
    pub async fn unlock(&self, sealed: &Arc<Sealed>, cancel: &CancellationToken) -> anyhow::Result<Unlocked> {
        let mut tried = Vec::new();
        let mut not = |source, why: String| tried.push(Tried { source, why });

        match self.credential() {
            None => not(Source::Credential, "there is none ($CREDENTIALS_DIRECTORY is not set)".to_owned()),
            Some(path) => match Password::read_credential(&path)? {
                None => not(Source::Credential, format!("there is no {}", path.display())),
                Some(password) => match self.handed_over(sealed, &password, &path).await? {
                    Ok(secret) => return Ok(unlocked(secret, password, Source::Credential, tried)),
                    Err(why) => not(Source::Credential, why),
                },
            },
        }
        match &self.configured {
            None => not(Source::PasswordFile, "wallet.password_file is not set".to_owned()),
            Some(path) => {
                let password = self.configured(path)?;
                match self.handed_over(sealed, &password, path).await? {
                    Ok(secret) => return Ok(unlocked(secret, password, Source::PasswordFile, tried)),
                    Err(why) => not(Source::PasswordFile, why),
                }
            }
        }
        match Password::read_beside(&self.beside)? {
            None => not(Source::Beside, format!("there is no {}", self.beside.display())),
            Some(password) => match open(sealed, &password).await {
                Ok(secret) => return Ok(unlocked(secret, password, Source::Beside, tried)),
                // Left behind when the password was changed and the power failed at that moment.
                Err(WalletError::Password) => {
                    not(Source::Beside, format!("the password in {} is wrong", self.beside.display()));
                }
                Err(error) => return Err(error.into()),
            },
        }
        if self.keyring {
            match keyring::find(&sealed.public()).await {
                Err(error) => not(Source::Keyring, format!("{error:#}")),
                Ok(None) => not(Source::Keyring, "it does not have the password of this wallet".to_owned()),
                Ok(Some(password)) => match open(sealed, &password).await {
                    Ok(secret) => return Ok(unlocked(secret, password, Source::Keyring, tried)),
                    Err(WalletError::Password) => {
                        not(Source::Keyring, "the password in it is wrong".to_owned());
                    }
                    Err(error) => return Err(error.into()),
                },
            }
        } else {
            not(Source::Keyring, "wallet.keyring is off".to_owned());
        }
        if !self.prompt {
            not(Source::Prompt, "nobody is at a terminal".to_owned());
        } else if let Some((secret, password)) = asked(sealed, cancel).await? {
            return Ok(unlocked(secret, password, Source::Prompt, tried));
        } else {
            not(Source::Prompt, format!("the password was wrong {ATTEMPTS} times"));
        }
        Err(self.locked(&tried))
    }

    /// Tries a password that was handed over. The inner error is why it is passed over.
    async fn handed_over(
        &self,
        sealed: &Arc<Sealed>,
        password: &Password,
        path: &Path,
    ) -> anyhow::Result<Result<SecretKey, String>> {
        match open(sealed, password).await {
            Ok(secret) => Ok(Ok(secret)),
            Err(WalletError::Password) => {
                let wrong = format!("the password in {} is not the password of this wallet", path.display());
                if self.lenient {
                    return Ok(Err(wrong));
                }
                let message = format!(
                    "{wrong}; to make it so, `antiphon wallet change-password --password-file {}`",
                    path.display()
                );
                Err(Failure::new(Kind::Failed, message).into())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn credential(&self) -> Option<PathBuf> {
        self.credentials.as_ref().map(|folder| folder.join(CREDENTIAL))
    }

    fn configured(&self, path: &Path) -> anyhow::Result<Password> {
        // Named in the settings; without it nothing is as its owner meant it.
        Password::read(path)?
            .with_context(|| format!("wallet.password_file names {}, which is not there", path.display()))
    }

    fn locked(&self, tried: &[Tried]) -> anyhow::Error {
        let mut message = "the wallet is locked, and nothing here opens it:".to_owned();
        for Tried { source, why } in tried {
            // Writing to a String cannot fail.
            let _ = write!(message, "\n  {source}: {why}");
        }
        let _ = write!(
            message,
            "\nWrite its password into a file that only you can read (chmod 600) and name that in the settings \
             (wallet.password_file), or hand it over as the systemd credential {CREDENTIAL}, or start on a terminal"
        );
        Failure::new(Kind::Failed, message).into()
    }
}

fn unlocked(secret: SecretKey, password: Password, source: Source, tried: Vec<Tried>) -> Unlocked {
    Unlocked { wallet: secret.into(), password, source, tried }
}

/// Asks until the password is right; `None` when it was wrong too often.
async fn asked(
    sealed: &Arc<Sealed>,
    cancel: &CancellationToken,
) -> anyhow::Result<Option<(SecretKey, Password)>> {
    for attempt in 1..=ATTEMPTS {
        let question = if attempt == 1 { "password of the wallet" } else { "wrong; password of the wallet" };
        let cancel = cancel.clone();
        let password = tokio::task::spawn_blocking(move || prompt::ask(question, &cancel)).await??;
        match open(sealed, &password).await {
            Ok(secret) => return Ok(Some((secret, password))),
            Err(WalletError::Password) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// Tries a password, away from the threads that must not wait.
async fn open(sealed: &Arc<Sealed>, password: &Password) -> Result<SecretKey, WalletError> {
    let (sealed, password) = (sealed.clone(), password.clone());
    let work = tokio::task::spawn_blocking(move || sealed.unseal(&password));
    work.await.map_err(|error| WalletError::Io(std::io::Error::other(error)))?
}
