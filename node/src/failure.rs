//! How a command can end, as an exit code and a sentence.

use std::{fmt, io};

use serde::{Deserialize, Serialize};

use crate::listener::ListenerError;

/// Classes of failure that scripts can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Anything else.
    Failed,
    /// The call was wrong.
    Usage,
    /// What was asked for is not there.
    NotFound,
    /// The command needs a running peer.
    NoDaemon,
    /// What was checked is wrong.
    Verification,
    /// It is known, but nobody who has it is online or can be reached now.
    Offline,
    /// The terms of a song do not allow it.
    Refused,
    /// The wallet is locked.
    Locked,
    /// The disk is full.
    Full,
}

impl Kind {
    /// The process's exit code.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Failed | Self::Refused | Self::Locked | Self::Full => 1,
            Self::Usage => 2,
            Self::NotFound | Self::Offline => 3,
            Self::NoDaemon => 4,
            Self::Verification => 5,
        }
    }
}

/// A failure with its class. Travels inside `anyhow::Error`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Class.
    pub kind: Kind,
    /// What, where, and what to do.
    pub message: String,
    /// The first block that is wrong, or cannot be verified, where that is what failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_bad: Option<u64>,
}

impl Failure {
    /// A failure of a class.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), first_bad: None }
    }

    /// The same about a block.
    #[must_use]
    pub fn at(self, first_bad: Option<u64>) -> Self {
        Self { first_bad, ..self }
    }

    /// The class and message of any error.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Self {
        let known = error.downcast_ref::<Self>();
        Self {
            kind: known.map_or_else(|| class(error), |failure| failure.kind),
            message: format!("{error:#}"),
            first_bad: known.and_then(|failure| failure.first_bad),
        }
    }
}

/// The class of a failure that nobody has named.
fn class(error: &anyhow::Error) -> Kind {
    match error.chain().find_map(|cause| cause.downcast_ref::<ListenerError>()) {
        Some(ListenerError::NotFound(_)) => return Kind::NotFound,
        Some(ListenerError::Full { .. } | ListenerError::TooLong { .. } | ListenerError::Refused(_)) => {
            return Kind::Usage;
        }
        _ => {}
    }
    let full = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        })
    };
    if error.chain().any(full) { Kind::Full } else { Kind::Failed }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
