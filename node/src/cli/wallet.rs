//! `antiphon wallet …`. What is here needs no running peer; what writes needs that none runs.

use std::{path::Path, sync::Arc};

use antiphon_proto::SecretKey;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    args::{Common, Join, Wallet},
    config,
    output::Output,
    root, tokens,
};
use crate::{
    config::Config,
    failure::{Failure, Kind},
    system::datadir::{DataDir, Lock},
    wallet::{
        self, change,
        password::Password,
        prompt,
        start::{self, Found},
        unlock::{Sources, Tried},
    },
};

pub(super) async fn run(common: &Common, what: Wallet, output: &Output) -> anyhow::Result<()> {
    let what = match tokens::run(common, what, output).await? {
        Some(what) => what,
        None => return Ok(()),
    };
    let desk = Desk { config: config(common, &Join::default())?, common, output };
    match what {
        Wallet::New { password_file, keep } => desk.make(password_file.as_deref(), keep.keep_file).await,
        Wallet::Show => desk.show(),
        Wallet::Backup { file, password_file } => desk.backup(&file, password_file.as_deref()).await,
        Wallet::Restore { file, password_file, replace, keep } => {
            desk.restore(&file, password_file.as_deref(), replace, keep.keep_file).await
        }
        Wallet::ChangePassword { password_file, keep } => {
            desk.change_password(password_file.as_deref(), keep.keep_file).await
        }
        Wallet::Unlock { remember } => desk.unlock(remember).await,
        // Done above.
        Wallet::Balance { .. }
        | Wallet::History { .. }
        | Wallet::Send { .. }
        | Wallet::Buy { .. }
        | Wallet::Grant { .. }
        | Wallet::Claim { .. } => Ok(()),
    }
}

/// What every command here needs.
struct Desk<'c> {
    common: &'c Common,
    config: Config,
    output: &'c Output,
}

impl Desk<'_> {
    async fn make(&self, password_file: Option<&Path>, keep: bool) -> anyhow::Result<()> {
        let own = password_file.map(Password::named).transpose()?;
        let (data, _lock) = self.take()?;
        let made = start::create(&data, &self.config.wallet, own.clone()).await?;
        if let Some(own) = &own {
            if keep {
                own.write(&data.wallet_password())?;
            }
            self.say_how_to_start(&data, own);
        }
        self.told(&data, &made.public().to_string())
    }

    fn show(&self) -> anyhow::Result<()> {
        let data = self.existing()?;
        let found = start::look(&data)?;
        let Some(public) = found.public() else { return Err(none(&data)) };
        let (file, protection) = match &found {
            Found::Plain(_) => (data.wallet_plain(), Protection::Plain),
            _ if data.wallet_password().exists() => (data.wallet(), Protection::Beside),
            _ => (data.wallet(), Protection::Own),
        };
        let copies = [data.wallet_migrated(), data.wallet_plain()];
        let copies: Vec<String> = copies
            .iter()
            .filter(|path| **path != file && path.exists())
            .map(|path| path.display().to_string())
            .collect();
        if self.output.json {
            let cost = match &found {
                Found::Sealed(sealed) | Found::Both(sealed) => Some(sealed.cost()),
                _ => None,
            };
            return self.output.value(&json!({
                "schema": 1, "wallet": public.to_string(), "file": file.display().to_string(),
                "protection": protection.name(), "plain_copies": copies,
                "kdf": cost.map(|cost| json!({
                    "name": "argon2id", "memory_kib": cost.memory_kib, "passes": cost.passes, "lanes": cost.lanes,
                })),
            }));
        }
        self.output.line(&format!("wallet     {public}"))?;
        self.output.line(&format!("file       {}", file.display()))?;
        self.output.line(&format!("protected  {}", protection.words(&data)))?;
        for copy in copies {
            self.output.line(&format!(
                "IN CLEAR   {copy} holds the key without a password: delete it when you have a backup"
            ))?;
        }
        Ok(())
    }

    async fn backup(&self, file: &Path, password_file: Option<&Path>) -> anyhow::Result<()> {
        let data = self.existing()?;
        let file = std::path::absolute(file)?;
        let secret = self.open(&data, false).await?;
        let password = new_password("password of the backup", password_file).await?;
        let public = secret.public().to_string();
        change::back_up(secret, password, &file).await?;
        if self.output.json {
            let file = file.display().to_string();
            return self.output.value(&json!({ "schema": 1, "wallet": public, "backup": file }));
        }
        self.output.line(&file.display().to_string())
    }

    async fn restore(
        &self,
        file: &Path,
        password_file: Option<&Path>,
        replace: bool,
        keep: bool,
    ) -> anyhow::Result<()> {
        let backup = change::read_backup(file)?;
        let (data, _lock) = self.take()?;
        let password = match password_file {
            Some(path) => Password::named(path)?,
            None => asked("password of the backup", prompt::ask).await?,
        };
        let restored = change::restore(&data, backup, password.clone(), replace, keep).await?;
        for kept in &restored.kept {
            self.output.note(&format!("kept {kept}"));
        }
        self.say_how_to_start(&data, &password);
        self.told(&data, &restored.public.to_string())
    }

    async fn change_password(&self, password_file: Option<&Path>, keep: bool) -> anyhow::Result<()> {
        self.existing()?;
        let (data, _lock) = self.take()?;
        // The file of the settings may hold the next password already.
        let secret = self.open(&data, true).await?;
        let password = new_password("new password of the wallet", password_file).await?;
        let public = secret.public().to_string();
        change::password(&data, secret, &password, keep).await?;
        if data.wallet_migrated().exists() {
            self.output.note(&format!(
                "{} still holds the key without a password: delete it when you have a backup",
                data.wallet_migrated().display()
            ));
        }
        self.say_how_to_start(&data, &password);
        self.told(&data, &public)
    }

    async fn unlock(&self, remember: bool) -> anyhow::Result<()> {
        let data = self.existing()?;
        let sealed = match start::look(&data)? {
            Found::Nothing => return Err(none(&data)),
            Found::Plain(_) => {
                let message =
                    format!("{} is in clear: the next start encrypts it", data.wallet_plain().display());
                return Err(Failure::new(Kind::Failed, message).into());
            }
            Found::Sealed(sealed) | Found::Both(sealed) => sealed,
        };
        let sources = Sources::new(&data, &self.config.wallet);
        let unlocked = start::unlock(&data, &sources, &sealed, &CancellationToken::new()).await?;
        if remember {
            let kept = wallet::remember(&sealed.public(), &unlocked.password).await;
            kept.map_err(|error| Failure::new(Kind::Failed, format!("the keyring: {error:#}")))?;
        }
        if self.output.json {
            let tried = unlocked
                .tried
                .iter()
                .map(|Tried { source, why }| json!({ "source": source.name(), "why": why }));
            return self.output.value(&json!({
                "schema": 1, "wallet": sealed.public().to_string(), "unlocked_by": unlocked.source.name(),
                "remembered": remember, "tried": tried.collect::<Vec<_>>(),
            }));
        }
        for Tried { source, why } in &unlocked.tried {
            self.output.note(&format!("{source}: {why}"));
        }
        let remembered = if remember { "; the keyring has its password now" } else { "" };
        self.output.line(&format!("unlocked by {}{remembered}", unlocked.source))
    }

    /// A data directory that is there.
    fn existing(&self) -> anyhow::Result<DataDir> {
        let root = root(self.common)?;
        DataDir::existing(&root).ok_or_else(|| {
            Failure::new(Kind::NotFound, format!("there is no peer in {}", root.display())).into()
        })
    }

    /// The data directory, made where it is not, and nobody else's while the lock lives.
    fn take(&self) -> anyhow::Result<(DataDir, Lock)> {
        let data = DataDir::open(&root(self.common)?)?;
        let lock = data.lock()?;
        Ok((data, lock))
    }

    /// The wallet's key, wherever its password is.
    async fn open(&self, data: &DataDir, lenient: bool) -> anyhow::Result<Arc<SecretKey>> {
        match start::look(data)? {
            Found::Nothing => Err(none(data)),
            Found::Plain(key) => Ok(key),
            Found::Sealed(sealed) | Found::Both(sealed) => {
                let sources = Sources { lenient, ..Sources::new(data, &self.config.wallet) };
                let unlocked = start::unlock(data, &sources, &sealed, &CancellationToken::new()).await?;
                Ok(unlocked.wallet.signer()?.clone())
            }
        }
    }

    /// Whoever has a password of their own should hear now what a start without a terminal needs.
    fn say_how_to_start(&self, data: &DataDir, password: &Password) {
        if data.wallet_password().exists() {
            return;
        }
        if let Some(path) = &self.config.wallet.password_file {
            let there = Password::read(path).ok().flatten();
            if there.is_none_or(|there| there.bytes() != password.bytes()) {
                self.output.note(&format!(
                    "write the new password into {} too: a start reads it there",
                    path.display()
                ));
            }
            return;
        }
        self.output.note(
            "a start without a terminal needs the password in a file (wallet.password_file), in the systemd credential \
             antiphon-wallet-password, or in the keyring (`antiphon wallet unlock --remember`)",
        );
    }

    fn told(&self, data: &DataDir, public: &str) -> anyhow::Result<()> {
        if !self.output.json {
            return self.output.line(public);
        }
        let protection = if data.wallet_password().exists() { Protection::Beside } else { Protection::Own };
        self.output.value(&json!({
            "schema": 1, "wallet": public, "file": data.wallet().display().to_string(),
            "protection": protection.name(),
        }))
    }
}

/// What stands between a thief and the key.
#[derive(Clone, Copy)]
enum Protection {
    Plain,
    Beside,
    Own,
}

impl Protection {
    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "none",
            Self::Beside => "password_beside",
            Self::Own => "own_password",
        }
    }

    fn words(self, data: &DataDir) -> String {
        match self {
            Self::Plain => "not at all; the next start encrypts it".to_owned(),
            Self::Beside => format!(
                "by the password in {}: a copy of the wallet file alone is of no use to others. Your own password: \
                 `antiphon wallet change-password`",
                data.wallet_password().display()
            ),
            Self::Own => "by a password of your own".to_owned(),
        }
    }
}

fn none(data: &DataDir) -> anyhow::Error {
    let message = format!(
        "there is no wallet in {}; `antiphon up` or `antiphon wallet new` makes one",
        data.root().display()
    );
    Failure::new(Kind::NotFound, message).into()
}

async fn new_password(question: &'static str, file: Option<&Path>) -> anyhow::Result<Password> {
    match file {
        Some(path) => Password::named(path),
        None => asked(question, prompt::ask_new).await,
    }
}

async fn asked(
    question: &'static str,
    ask: fn(&str, &CancellationToken) -> anyhow::Result<Password>,
) -> anyhow::Result<Password> {
    if !prompt::is_possible() {
        let message = format!(
            "the {question} is needed, and nobody is at a terminal: name a file with --password-file"
        );
        return Err(Failure::new(Kind::Usage, message).into());
    }
    tokio::task::spawn_blocking(move || ask(question, &CancellationToken::new())).await?
}
