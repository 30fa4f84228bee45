//! The keyring of a desktop (Secret Service over D-Bus: GNOME Keyring, KWallet, KeePassXC).
//!
//! A machine without a desktop has none, and must not wait for one: every question has a time limit, and none makes a
//! window appear.

use std::{collections::HashMap, time::Duration};

use antiphon_proto::PublicKey;
use anyhow::{Context, anyhow, bail};
use secret_service::{EncryptionType, SecretService};
use zeroize::Zeroizing;

use super::password::Password;

/// How long a keyring may take to answer: starting its service takes a second on a slow machine.
const WITHIN: Duration = Duration::from_secs(2);
/// How long it may take when it asks its owner to unlock it.
const ASKING_WITHIN: Duration = Duration::from_secs(60);
/// Type of what is stored.
const TEXT: &str = "text/plain";

/// The password of a wallet; `None` when the keyring has none.
///
/// # Errors
/// Why there is no keyring to ask.
pub(super) async fn find(public: &PublicKey) -> anyhow::Result<Option<Password>> {
    let work = async {
        let service = connect().await?;
        let found = service.search_items(attributes(&public.to_string())).await.map_err(said)?;
        match (found.unlocked.first(), found.locked.is_empty()) {
            (Some(item), _) => {
                let secret = Zeroizing::new(item.get_secret().await.map_err(said)?);
                Password::new(secret).map(Some)
            }
            (None, false) => bail!("it is locked"),
            (None, true) => Ok(None),
        }
    };
    tokio::time::timeout(WITHIN, Box::pin(work)).await.context("no answer within 2 s")?
}

/// Stores the password of a wallet; what it had is replaced.
///
/// # Errors
/// Why it could not.
pub async fn remember(public: &PublicKey, password: &Password) -> anyhow::Result<()> {
    let service =
        tokio::time::timeout(WITHIN, Box::pin(connect())).await.context("no answer within 2 s")??;
    let work = async {
        let collection = service.get_default_collection().await.map_err(said)?;
        if collection.is_locked().await.map_err(said)? {
            collection.unlock().await.map_err(said)?;
        }
        let public = public.to_string();
        let label = format!("Antiphon wallet {}", &public[..8]);
        collection
            .create_item(&label, attributes(&public), password.bytes(), true, TEXT)
            .await
            .map_err(said)?;
        anyhow::Ok(())
    };
    tokio::time::timeout(ASKING_WITHIN, Box::pin(work))
        .await
        .context("it was not unlocked within a minute")?
}

/// What goes over the bus is encrypted: others may listen there.
async fn connect() -> anyhow::Result<SecretService<'static>> {
    SecretService::connect(EncryptionType::Dh).await.map_err(|error| {
        tracing::debug!(%error, "no keyring");
        anyhow!("there is none in this session")
    })
}

/// The crate's errors say in their own words what their sources say again.
fn said(error: secret_service::Error) -> anyhow::Error {
    anyhow!("{error}")
}

fn attributes(public: &str) -> HashMap<&str, &str> {
    HashMap::from([("application", "antiphon"), ("wallet", public)])
}
