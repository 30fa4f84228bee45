//! The wallet: the key of an artist or a listener, in a file that a password opens.
//!
//! `keys/wallet.json` is the wallet ([`file`]). Its password comes from where [`unlock`] looks. On a first start that is
//! nowhere: the wallet then gets a random password, which lies in `keys/wallet.password` beside it, and guards a copy of the
//! wallet file and nothing else, until its owner sets another ([`change`]). A plain key of an earlier version is taken over
//! once ([`start`]). Whoever only reads needs no password: the public key is in clear.

pub mod change;
pub mod file;
mod keyring;
pub mod password;
pub mod prompt;
pub mod start;
pub mod unlock;

use std::{fmt, sync::Arc};

use antiphon_proto::{PublicKey, SecretKey};

pub use self::{keyring::remember, start::open};
use crate::{
    failure::{Failure, Kind},
    system::datadir::DataDir,
};

/// A wallet, open or locked. Cheap to clone; the secret is wiped with the last one, and never printed.
#[derive(Clone)]
pub struct Wallet {
    public: PublicKey,
    secret: Option<Arc<SecretKey>>,
}

impl Wallet {
    /// A wallet of which only the public key is known: it signs nothing.
    #[must_use]
    pub const fn locked(public: PublicKey) -> Self {
        Self { public, secret: None }
    }

    /// The key that everybody may know.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// The key that signs; `None` in a locked wallet.
    #[must_use]
    pub const fn secret(&self) -> Option<&Arc<SecretKey>> {
        self.secret.as_ref()
    }

    /// The key that signs.
    ///
    /// # Errors
    /// When the wallet is locked.
    pub fn signer(&self) -> Result<&Arc<SecretKey>, Failure> {
        self.secret().ok_or_else(|| Failure::new(Kind::Locked, "the wallet is locked: this peer only reads"))
    }
}

impl From<SecretKey> for Wallet {
    fn from(secret: SecretKey) -> Self {
        Self { public: secret.public(), secret: Some(Arc::new(secret)) }
    }
}

impl fmt::Debug for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.secret.is_some() { "open" } else { "locked" };
        write!(f, "Wallet({}, {state})", self.public)
    }
}

/// The wallet of a data directory as whoever only reads needs it; `None` when there is none yet.
///
/// # Errors
/// A damaged file, or one that others can read.
pub fn locked(data: &DataDir) -> anyhow::Result<Option<Wallet>> {
    Ok(start::look(data)?.public().map(Wallet::locked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let wallet = Wallet::from(SecretKey::from_seed(&[7; 32]));
        let shown = format!("{wallet:?}");
        assert!(shown.contains("open") && !shown.contains("0707"), "{shown}");
        let locked = Wallet::locked(wallet.public());
        assert!(locked.signer().is_err() && wallet.signer().is_ok());
        assert!(format!("{locked:?}").contains("locked"));
    }
}
