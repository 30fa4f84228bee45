//! The genesis document: what a network is born with, and its id.

use crate::{
    canonical::{self, CanonicalError},
    economy,
    hash::NetworkId,
    keys::PublicKey,
    limits,
    record::Invalid,
    stamp,
    wire::{Economy, Genesis},
};

/// Format version of genesis documents.
pub const GENESIS_VERSION: u32 = 1;

/// Registrations of one registrant that a batch holds by default: a fifth of a full batch, so that one scan of a
/// large library leaves room for four others.
pub const DEFAULT_BATCH_QUOTA: u32 = 64;

/// Members that must agree: more than two thirds of `members`.
#[must_use]
pub const fn quorum(members: usize) -> usize {
    members - members.saturating_sub(1) / 3
}

/// A document that no network can start from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// Bytes that are not the canonical form.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// Written by a newer version.
    #[error("genesis version {0} is not known (this is version 1); a newer antiphon is needed")]
    Version(u32),
    /// A rule is broken.
    #[error("genesis: {0}")]
    Rule(&'static str),
    /// A rule of the economy is broken.
    #[error("genesis: {0}")]
    Economy(Invalid),
}

impl Genesis {
    /// A network with the default parameters. `salt` must be random.
    #[must_use]
    pub fn new(name: &str, created_ms: u64, salt: [u8; 16], members: &[PublicKey]) -> Self {
        let mut members: Vec<Vec<u8>> = members.iter().map(|member| member.0.to_vec()).collect();
        members.sort_unstable();
        Self {
            version: GENESIS_VERSION,
            name: name.to_owned(),
            created_ms,
            salt: salt.to_vec(),
            members,
            stamp_bits: stamp::DEFAULT_BITS,
            batch_quota: DEFAULT_BATCH_QUOTA,
            economy: None,
        }
    }

    /// What plays are worth at the start.
    #[must_use]
    pub fn economy(&self) -> Economy {
        self.economy.unwrap_or(economy::DEFAULT)
    }

    /// Reads a document and checks every rule.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn parse(bytes: &[u8]) -> Result<Self, GenesisError> {
        let genesis: Self = canonical::decode("genesis document", limits::GENESIS_BYTES, bytes)?;
        genesis.check()?;
        Ok(genesis)
    }

    /// Checks every rule.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), GenesisError> {
        let rule = |holds: bool, text| if holds { Ok(()) } else { Err(GenesisError::Rule(text)) };
        if self.version != GENESIS_VERSION {
            return Err(GenesisError::Version(self.version));
        }
        rule(self.name.len() <= limits::TEXT_BYTES, "the name is longer than 256 bytes")?;
        rule(!self.name.chars().any(char::is_control), "the name holds control characters")?;
        rule(self.created_ms > 0, "the time is missing")?;
        rule(self.salt.len() == 16, "the salt is not 16 bytes")?;
        rule(!self.members.is_empty(), "there is no member")?;
        rule(self.members.len() <= limits::COUNCIL_MEMBERS, "there are more than 128 members")?;
        rule(self.members.iter().all(|member| member.len() == 32), "a member's key is not 32 bytes")?;
        rule(self.members.is_sorted_by(|a, b| a < b), "the members are not in ascending order, each once")?;
        rule(self.stamp_bits <= limits::STAMP_BITS, "more than 40 stamp bits")?;
        rule(self.batch_quota > 0, "the batch quota is 0")?;
        // Absence already means the defaults: a second encoding of them would be a second network id.
        rule(self.economy != Some(economy::DEFAULT), "an economy of defaults is left out")?;
        self.economy().check().map_err(GenesisError::Economy)
    }

    /// BLAKE3 of the canonical bytes.
    #[must_use]
    pub fn network_id(&self) -> NetworkId {
        NetworkId(*blake3::hash(&canonical::encode(self)).as_bytes())
    }

    /// The first council's keys.
    #[must_use]
    pub fn member_keys(&self) -> Vec<PublicKey> {
        self.members.iter().filter_map(|member| PublicKey::try_from(&member[..]).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::quorum;

    #[test]
    fn a_quorum_is_the_least_above_two_thirds() {
        for members in 1..=300 {
            let least = quorum(members);
            assert!(3 * least > 2 * members && 3 * (least - 1) <= 2 * members, "{members}");
        }
        assert_eq!([1, 2, 3, 4, 7, 13, 30].map(quorum), [1, 2, 3, 3, 5, 9, 21]);
    }
}
