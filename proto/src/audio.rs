//! Rules on the audio request.

use crate::{
    canonical::{self, CanonicalError},
    hash::{ContentHash, IdError},
    limits,
    wire::{AudioMode, AudioRequest},
};

/// A request that no peer serves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AudioRequestError {
    /// Bytes that are not the canonical form.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// The content hash is not 32 bytes.
    #[error(transparent)]
    Hash(#[from] IdError),
    /// None, or more than 64.
    #[error("{0} ranges were asked for, 1 to {max} are allowed", max = limits::AUDIO_RANGES)]
    Count(usize),
    /// Empty, overlapping or descending ranges, or beyond the largest file.
    #[error("range {0} is empty, out of order or beyond the largest file")]
    Range(usize),
    /// Neither play nor bulk.
    #[error("mode {0} is not known")]
    Mode(i32),
    /// Too long.
    #[error("an access token of {0} bytes is longer than the {max} that are allowed", max = limits::ACCESS_TOKEN_BYTES)]
    Token(usize),
}

impl AudioRequest {
    /// Reads a request and checks every rule.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn parse(bytes: &[u8]) -> Result<Self, AudioRequestError> {
        let request: Self = canonical::decode("audio request", limits::CONTROL_MESSAGE_BYTES, bytes)?;
        request.check()?;
        Ok(request)
    }

    /// Checks every rule.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), AudioRequestError> {
        self.content()?;
        if self.ranges.is_empty() || self.ranges.len() > limits::AUDIO_RANGES {
            return Err(AudioRequestError::Count(self.ranges.len()));
        }
        let mut end = 0;
        for (position, range) in self.ranges.iter().enumerate() {
            let in_order = range.start >= end && (range.start > end || position == 0);
            if !in_order || range.start >= range.end || range.end > limits::FILE_BYTES {
                return Err(AudioRequestError::Range(position));
            }
            end = range.end;
        }
        AudioMode::try_from(self.mode).map_err(|_| AudioRequestError::Mode(self.mode))?;
        if self.access_token.len() > limits::ACCESS_TOKEN_BYTES {
            return Err(AudioRequestError::Token(self.access_token.len()));
        }
        Ok(())
    }

    /// What is asked for.
    ///
    /// # Errors
    /// [`IdError`] when it is not 32 bytes.
    pub fn content(&self) -> Result<ContentHash, IdError> {
        ContentHash::try_from(&self.content_hash[..])
    }
}
