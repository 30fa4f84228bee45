//! What the listener's file knows, as the rest of the server asks it.

use super::guard::Logins;
use crate::{
    listener::{Listener, Play as Entry, Token},
    stream::plays::{Journal, Play},
    system::{clock, random::random},
};

/// Plays go into the journal, and count once half of the song was heard: as the ledger counts.
pub(super) struct Heard(pub(super) Listener);

impl Journal for Heard {
    fn played(&self, play: Play) {
        let duration_ms = u64::from(play.duration_ms);
        if play.heard_ms.saturating_mul(2) < duration_ms {
            return;
        }
        let entry = Entry {
            time_ms: play.started_ms,
            song: play.song,
            heard_ms: play.heard_ms,
            duration_ms,
            receipts: u32::try_from(play.receipts).unwrap_or(u32::MAX),
            cost_units: if play.receipts > 0 { play.burn_units } else { 0 },
            how: play.how,
        };
        let listener = self.0.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = listener.played(&entry) {
                tracing::warn!(%error, "a play was not written down");
            }
        });
    }
}

/// The web password and its sessions.
pub(super) struct Web(pub(super) Listener);

impl Web {
    /// An error lets nobody in.
    fn sure<T>(found: Result<T, crate::listener::ListenerError>) -> Option<T> {
        found.inspect_err(|error| tracing::error!(%error, "who is logged in is not known")).ok()
    }
}

impl Logins for Web {
    fn has_password(&self) -> bool {
        // Where that is not known, one is asked for.
        Self::sure(self.0.has_password()).unwrap_or(true)
    }

    fn is_password(&self, password: &str) -> bool {
        Self::sure(self.0.check_password(password.as_bytes())).unwrap_or(false)
    }

    fn begin(&self, agent: &str) -> Option<String> {
        let token = Token::new(random().ok()?);
        Self::sure(self.0.begin_session(&token, agent, clock::now_ms()))?;
        Some(token.to_text())
    }

    fn goes_on(&self, shown: &str) -> bool {
        let token = Token::from_text(shown);
        token.is_some_and(|token| {
            Self::sure(self.0.session(&token, clock::now_ms())).is_some_and(|found| found.is_some())
        })
    }

    fn end(&self, shown: &str) {
        if let Some(token) = Token::from_text(shown) {
            Self::sure(self.0.end_session(&token));
        }
    }
}
