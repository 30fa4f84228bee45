//! The web password and the passwords of apps, for commands.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    failure::{Failure, Kind},
    listener::Device,
    peer::Peer,
    system::{clock, random::random},
};

/// The user name of apps: there is one listener.
pub const USER: &str = "listener";
/// Shortest web password. Whoever guesses may try one in ten seconds.
pub const SHORTEST: usize = 8;

/// What is done.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Web {
    /// Set the web password, and end all sessions.
    SetPassword(String),
    /// Take it away, and end all sessions.
    ClearPassword,
    /// Which apps have a password?
    Apps,
    /// Make a password for an app.
    AddApp(String),
    /// Take an app's password away.
    RevokeApp(u64),
}

/// The password is left out.
impl std::fmt::Debug for Web {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::SetPassword(_) => "SetPassword",
            Self::ClearPassword => "ClearPassword",
            Self::Apps => "Apps",
            Self::AddApp(_) => "AddApp",
            Self::RevokeApp(_) => "RevokeApp",
        })
    }
}

/// An app without its password.
#[must_use]
pub fn line(device: &Device) -> Value {
    json!({
        "id": device.id, "name": device.name, "user": device.user, "created_ms": device.created_ms,
        "used_ms": device.used_ms,
    })
}

/// Does it.
///
/// # Errors
/// A password that is too short, an app that is not there, the disk.
pub async fn execute(peer: &Peer, what: Web) -> anyhow::Result<Value> {
    let listener = peer.listener()?.clone();
    let work = tokio::task::spawn_blocking(move || -> anyhow::Result<Value> {
        Ok(match what {
            Web::SetPassword(password) => {
                if password.chars().count() < SHORTEST {
                    let message = format!("the web password is too short: {SHORTEST} characters at least");
                    return Err(Failure::new(Kind::Usage, message).into());
                }
                listener.set_password(password.as_bytes(), random()?)?;
                json!({ "schema": 1, "password": true })
            }
            Web::ClearPassword => {
                listener.clear_password()?;
                json!({ "schema": 1, "password": false })
            }
            Web::Apps => {
                let devices = listener.devices()?;
                json!({
                    "schema": 1, "password": listener.has_password()?,
                    "apps": devices.iter().map(line).collect::<Vec<_>>(),
                })
            }
            Web::AddApp(name) => {
                let device = listener.add_device(&name, USER, random()?, clock::now_ms())?;
                let mut made = line(&device);
                made["schema"] = json!(1);
                made["password"] = json!(device.password);
                made
            }
            Web::RevokeApp(id) => {
                if !listener.revoke_device(id)? {
                    let message = format!("there is no app {id}; see `antiphon web apps`");
                    return Err(Failure::new(Kind::NotFound, message).into());
                }
                json!({ "schema": 1, "revoked": id })
            }
        })
    });
    work.await?
}
