//! Acts that the council votes on before they stand in the ledger.

use std::collections::BTreeMap;

use antiphon_proto::{
    ActId, NetworkId, PublicKey,
    genesis::quorum,
    record::Invalid,
    wire::{Council, CouncilAct, CouncilVote, Motion, Registration, registration},
};

use crate::roster::{ACT_HEIGHTS, Roster};

/// Motions that are open at most: people vote on them.
const MOTIONS: usize = 64;

/// A motion that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MotionError {
    /// It breaks a rule of its form.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Only members vote.
    #[error("{0} is not a member of the council")]
    NotAMember(PublicKey),
    /// It could never be decided.
    #[error("the motion has expired, was decided already, or is open for too long")]
    Over,
    /// Too many are open.
    #[error("{MOTIONS} motions are open already; wait until one is decided or expires")]
    Full,
    /// Nobody has proposed it.
    #[error("there is no motion {0}; `antiphon council status` lists them")]
    Unknown(ActId),
}

#[derive(Debug, Clone)]
struct Open {
    act: CouncilAct,
    votes: BTreeMap<PublicKey, CouncilVote>,
}

/// The motions that are open.
#[derive(Debug, Default)]
pub(crate) struct Motions(BTreeMap<ActId, Open>);

impl Motions {
    /// Takes votes for an act in. `true` when there was something new.
    pub(crate) fn add(
        &mut self,
        motion: &Motion,
        network: &NetworkId,
        roster: &Roster,
        height: u64,
    ) -> Result<bool, MotionError> {
        let act = motion.act.as_ref().ok_or(Invalid::Missing("act"))?;
        act.check_form()?;
        let id = act.id();
        let expires = act.expires_height;
        if expires <= height || expires > height.saturating_add(ACT_HEIGHTS) || roster.has_decided(&id) {
            return Err(MotionError::Over);
        }
        let (mut fresh, mut stranger) = (BTreeMap::new(), None);
        for vote in motion.votes.iter().take(roster.current().len()) {
            let known = self.0.get(&id).map(|open| &open.votes);
            let voter = PublicKey::try_from(&vote.member[..])
                .map_err(|source| Invalid::Identity { field: "member", source })?;
            if known.is_some_and(|votes| votes.contains_key(&voter)) {
                continue;
            }
            if !roster.current().contains(&voter) && !roster.next().contains(&voter) {
                // Others' votes are not worse for it: it may have been a member when it voted.
                stranger = Some(voter);
                continue;
            }
            act.check_vote(network, vote)?;
            fresh.insert(voter, vote.clone());
        }
        if fresh.is_empty() {
            return stranger.map_or(Ok(false), |voter| Err(MotionError::NotAMember(voter)));
        }
        if !self.0.contains_key(&id) && self.0.len() >= MOTIONS {
            return Err(MotionError::Full);
        }
        self.0
            .entry(id)
            .or_insert_with(|| Open { act: act.clone(), votes: BTreeMap::new() })
            .votes
            .extend(fresh);
        Ok(true)
    }

    /// The act of an open motion.
    pub(crate) fn act(&self, id: &ActId) -> Option<&CouncilAct> {
        self.0.get(id).map(|open| &open.act)
    }

    /// Every open motion with its votes.
    pub(crate) fn all(&self) -> impl Iterator<Item = Motion> {
        self.0
            .values()
            .map(|open| Motion { act: Some(open.act.clone()), votes: open.votes.values().cloned().collect() })
    }

    /// Open motions whose votes are enough, as what is put into the ledger.
    pub(crate) fn carried(&self, roster: &Roster) -> Vec<Registration> {
        let members = roster.current();
        let carried = |open: &Open| {
            let votes: Vec<CouncilVote> = open
                .votes
                .iter()
                .filter(|(voter, _)| members.contains(voter))
                .map(|(_, vote)| vote.clone())
                .collect();
            (votes.len() >= quorum(members.len())).then(|| Registration {
                body: Some(registration::Body::Council(Council { act: Some(open.act.clone()), votes })),
            })
        };
        self.0.values().filter_map(carried).collect()
    }

    /// Forgets what was decided or has expired. `true` when there was any.
    pub(crate) fn prune(&mut self, roster: &Roster, height: u64) -> bool {
        let before = self.0.len();
        self.0.retain(|id, open| open.act.expires_height > height && !roster.has_decided(id));
        self.0.len() != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use antiphon_proto::SecretKey;

    const NETWORK: NetworkId = NetworkId([1; 32]);

    #[test]
    fn votes_gather_until_they_are_enough() {
        let mut secrets: Vec<_> = (1..=4u8).map(|n| SecretKey::from_seed(&[n; 32])).collect();
        secrets.sort_by_key(SecretKey::public);
        let keys: Vec<_> = secrets.iter().map(SecretKey::public).collect();
        let roster = Roster::genesis(&keys);
        let stranger = SecretKey::from_seed(&[9; 32]);
        let act = CouncilAct::change_member(Some(stranger.public()), None, 50, [0; 16]);
        let mut motions = Motions::default();
        let vote =
            |secret: &SecretKey| Motion { act: Some(act.clone()), votes: vec![act.vote(&NETWORK, secret)] };
        assert_eq!(motions.add(&vote(&secrets[0]), &NETWORK, &roster, 3), Ok(true));
        assert_eq!(motions.add(&vote(&secrets[0]), &NETWORK, &roster, 3), Ok(false));
        let outsider = motions.add(&vote(&stranger), &NETWORK, &roster, 3);
        assert_eq!(outsider, Err(MotionError::NotAMember(stranger.public())));
        let mut forged = vote(&secrets[1]);
        forged.votes[0].signature[0] ^= 1;
        assert!(matches!(motions.add(&forged, &NETWORK, &roster, 3), Err(MotionError::Invalid(_))));
        assert_eq!(motions.add(&vote(&secrets[1]), &NETWORK, &roster, 3), Ok(true));
        assert!(motions.carried(&roster).is_empty());
        assert_eq!(motions.add(&vote(&secrets[3]), &NETWORK, &roster, 3), Ok(true));
        let carried = motions.carried(&roster);
        assert_eq!(carried.len(), 1);
        assert_eq!(carried[0].check(&NETWORK, 0), Ok(()));
        assert_eq!(motions.all().count(), 1);
        assert!(motions.prune(&roster, 50) && motions.carried(&roster).is_empty());
        assert_eq!(motions.add(&vote(&secrets[0]), &NETWORK, &roster, 50), Err(MotionError::Over));
    }
}
