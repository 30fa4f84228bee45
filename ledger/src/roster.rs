//! Who is in the council: the members of this height and the next two, and who of them has been heard of lately.
//!
//! All of it follows from what is in the ledger (blocks and seals), so every peer has the same roster at the same
//! height. A change that is decided at height h takes effect at h + 2: whoever votes at h + 1 knows the council
//! without knowing what h decided.

use std::{collections::BTreeMap, sync::Arc};

use antiphon_proto::{
    ActId, PublicKey,
    council::{Change, council_hash},
    genesis::quorum,
    limits,
    wire::Council,
};
use bincode::{Decode, Encode};

use crate::refusal::Refusal;

/// Heights after which a member that has not signed is passed over as proposer: fewer and a member that is slow for a
/// moment is passed over, more and each costs a timeout.
const ABSENT_AFTER: u64 = 4;
/// Acts that are remembered until they expire, so that none is decided twice: each is a vote of more than two thirds.
const ACTS: usize = 256;
/// Heights that an act may be open for: about twelve days at one height a second.
pub const ACT_HEIGHTS: u64 = 1_000_000;

/// The keys of a council, ascending.
pub type Members = Arc<[PublicKey]>;

/// The council around the end of a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    /// Who sealed the last batch; the first council when there is none.
    last: Members,
    /// Who decides the next one.
    current: Members,
    /// Who decides the one after it.
    next: Members,
    /// What is known of each member.
    seen: BTreeMap<PublicKey, Seen>,
    /// Acts that were decided, with the height at which they expire.
    acts: BTreeMap<ActId, u64>,
}

/// What the ledger says of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Height from which on it is a member.
    pub joined: u64,
    /// The last height that it is known to have signed, 0 for none.
    pub signed: u64,
}

/// What a batch changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Changes {
    next: Members,
    acts: Vec<(ActId, u64)>,
}

impl Roster {
    /// The roster that a network is born with. `members` are ascending.
    #[must_use]
    pub fn genesis(members: &[PublicKey]) -> Self {
        let members: Members = members.into();
        let seen = members.iter().map(|member| (*member, Seen::default())).collect();
        Self { last: members.clone(), current: members.clone(), next: members, seen, acts: BTreeMap::new() }
    }

    /// The council that sealed the last batch.
    #[must_use]
    pub const fn last(&self) -> &Members {
        &self.last
    }

    /// The council of the next height.
    #[must_use]
    pub const fn current(&self) -> &Members {
        &self.current
    }

    /// The council of the height after the next.
    #[must_use]
    pub const fn next(&self) -> &Members {
        &self.next
    }

    /// What is known of a member, none for others.
    #[must_use]
    pub fn seen(&self, member: &PublicKey) -> Option<Seen> {
        self.seen.get(member).copied()
    }

    /// Whether a member is passed over as proposer of `height`, the next one.
    #[must_use]
    pub fn is_absent(&self, member: &PublicKey, height: u64) -> bool {
        let seen = self.seen(member).unwrap_or_default();
        seen.joined.max(seen.signed).saturating_add(ABSENT_AFTER).saturating_add(1) < height
    }

    /// Members of the next height in the order in which they propose: round r is the r-th one's, and then from the
    /// start again. Whoever is absent comes last, so that it is asked when nobody else does it.
    #[must_use]
    pub fn proposers(&self, height: u64) -> Vec<PublicKey> {
        let (mut present, absent): (Vec<PublicKey>, Vec<PublicKey>) =
            self.current.iter().partition(|member| !self.is_absent(member, height));
        if let Some(turn) = height.checked_rem(present.len() as u64) {
            present.rotate_left(usize::try_from(turn).unwrap_or(0));
        }
        present.extend(absent);
        present
    }

    /// The councils around the end of the ledger: the one of the last height, of the next and of the one after.
    #[must_use]
    pub fn councils(&self) -> [&Members; 3] {
        [self.last(), self.current(), self.next()]
    }

    /// Whether a key is in a council around the end of the ledger.
    #[must_use]
    pub fn knows(&self, key: &PublicKey) -> bool {
        self.councils().iter().any(|council| council.contains(key))
    }

    /// BLAKE3 over the council of the next height.
    #[must_use]
    pub fn current_hash(&self) -> [u8; 32] {
        council_hash(&self.current)
    }

    /// Whether an act was decided, as long as it has not expired.
    #[must_use]
    pub fn has_decided(&self, act: &ActId) -> bool {
        self.acts.contains_key(act)
    }

    pub(crate) fn no_changes(&self) -> Changes {
        Changes { next: self.next.clone(), acts: Vec::new() }
    }

    /// Holds an act that stands in a batch of `height` against the rules, and against those before it in the batch. What
    /// it changes is returned: the roster itself only takes in who is a member.
    pub(crate) fn apply(
        &self,
        changes: &mut Changes,
        council: &Council,
        height: u64,
    ) -> Result<Change, Refusal> {
        let act = council.act()?;
        if act.expires_height < height || act.expires_height > height.saturating_add(ACT_HEIGHTS) {
            return Err(Refusal::Act("it has expired, or is open for too long"));
        }
        let id = act.id();
        if self.acts.contains_key(&id) || changes.acts.iter().any(|(known, _)| *known == id) {
            return Err(Refusal::Act("it was decided before"));
        }
        if self.acts.len().saturating_add(changes.acts.len()) >= ACTS {
            return Err(Refusal::Act("too many acts are remembered; try again when some have expired"));
        }
        // The votes are of distinct members: their order was checked.
        let voters = council.votes.iter().filter_map(|vote| PublicKey::try_from(&vote.member[..]).ok());
        if !voters.clone().all(|voter| self.current.contains(&voter)) {
            return Err(Refusal::Act("somebody voted who is not a member"));
        }
        if voters.count() < quorum(self.current.len()) {
            return Err(Refusal::Act("not more than two thirds of the members have voted for it"));
        }
        let change = act.change()?;
        let Change::Member { add, remove } = &change else {
            changes.acts.push((id, act.expires_height));
            return Ok(change);
        };
        let mut next = changes.next.to_vec();
        if let Some(remove) = remove {
            let at = next.binary_search(remove).map_err(|_| Refusal::Act("who leaves is not a member"))?;
            next.remove(at);
        }
        if let Some(add) = add {
            match next.binary_search(add) {
                Ok(_) => return Err(Refusal::Act("who joins is a member already")),
                Err(at) => next.insert(at, *add),
            }
        }
        if next.is_empty() || next.len() > limits::COUNCIL_MEMBERS {
            return Err(Refusal::Act("a council has 1 to 128 members"));
        }
        changes.next = next.into();
        changes.acts.push((id, act.expires_height));
        Ok(change)
    }

    /// The roster after the batch of `height`, whose header says who signed the batch before it.
    pub(crate) fn advance(&self, height: u64, signers: &[u8], changes: Changes) -> Self {
        let mut seen = self.seen.clone();
        for (position, member) in self.last.iter().enumerate() {
            let signed = signers.get(position / 8).is_some_and(|byte| byte & (1 << (position % 8)) != 0);
            if let Some(seen) = seen.get_mut(member).filter(|_| signed) {
                seen.signed = seen.signed.max(height.saturating_sub(1));
            }
        }
        for member in changes.next.iter() {
            seen.entry(*member).or_insert_with(|| Seen { joined: height.saturating_add(2), signed: 0 });
        }
        let (last, current, next) = (self.current.clone(), self.next.clone(), changes.next);
        seen.retain(|member, _| [&last, &current, &next].iter().any(|members| members.contains(member)));
        let mut acts = self.acts.clone();
        acts.retain(|_, expires| *expires > height);
        acts.extend(changes.acts.into_iter().filter(|(_, expires)| *expires > height));
        Self { last, current, next, seen, acts }
    }
}

/// How a [`Roster`] is stored in the index.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct StoredRoster {
    last: Vec<[u8; 32]>,
    current: Vec<[u8; 32]>,
    next: Vec<[u8; 32]>,
    /// Key, joined, signed.
    seen: Vec<([u8; 32], u64, u64)>,
    acts: Vec<([u8; 32], u64)>,
}

impl From<&Roster> for StoredRoster {
    fn from(roster: &Roster) -> Self {
        let keys = |members: &Members| members.iter().map(|member| member.0).collect();
        Self {
            last: keys(&roster.last),
            current: keys(&roster.current),
            next: keys(&roster.next),
            seen: roster.seen.iter().map(|(member, seen)| (member.0, seen.joined, seen.signed)).collect(),
            acts: roster.acts.iter().map(|(act, height)| (act.0, *height)).collect(),
        }
    }
}

impl From<StoredRoster> for Roster {
    fn from(stored: StoredRoster) -> Self {
        let members = |keys: Vec<[u8; 32]>| keys.into_iter().map(PublicKey).collect();
        Self {
            last: members(stored.last),
            current: members(stored.current),
            next: members(stored.next),
            seen: stored
                .seen
                .into_iter()
                .map(|(member, joined, signed)| (PublicKey(member), Seen { joined, signed }))
                .collect(),
            acts: stored.acts.into_iter().map(|(act, height)| (ActId(act), height)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use antiphon_proto::{NetworkId, SecretKey, wire::CouncilAct};

    fn secrets(count: u8) -> Vec<SecretKey> {
        let mut secrets: Vec<_> = (1..=count).map(|n| SecretKey::from_seed(&[n; 32])).collect();
        secrets.sort_by_key(SecretKey::public);
        secrets
    }

    fn keys(secrets: &[SecretKey]) -> Vec<PublicKey> {
        secrets.iter().map(SecretKey::public).collect()
    }

    fn voted(act: CouncilAct, by: &[SecretKey]) -> Council {
        let votes = by.iter().map(|secret| act.vote(&NetworkId([1; 32]), secret)).collect();
        Council { act: Some(act), votes }
    }

    fn stranger() -> PublicKey {
        SecretKey::from_seed(&[99; 32]).public()
    }

    #[test]
    fn a_change_takes_effect_two_heights_later() {
        let secrets = secrets(4);
        let roster = Roster::genesis(&keys(&secrets));
        let act = CouncilAct::change_member(Some(stranger()), None, 100, [1; 16]);
        let mut changes = roster.no_changes();
        roster.apply(&mut changes, &voted(act.clone(), &secrets[..3]), 5).unwrap();
        let after_5 = roster.advance(5, &[], changes);
        assert_eq!((after_5.current().len(), after_5.next().len()), (4, 5));
        assert_eq!(after_5.seen(&stranger()), Some(Seen { joined: 7, signed: 0 }));
        let after_6 = after_5.advance(6, &[0b0000_0011], after_5.no_changes());
        assert_eq!((after_6.last().len(), after_6.current().len()), (4, 5));
        assert_eq!(after_6.seen(&after_6.last()[0]), Some(Seen { joined: 0, signed: 5 }));
        // Not a second time, whoever still has the votes.
        let again = after_6.apply(&mut after_6.no_changes(), &voted(act, &secrets[..3]), 7);
        assert_eq!(again, Err(Refusal::Act("it was decided before")));
    }

    #[test]
    fn votes_are_counted_among_the_members_of_the_height() {
        let secrets = secrets(4);
        let roster = Roster::genesis(&keys(&secrets));
        let act = CouncilAct::change_member(None, Some(secrets[0].public()), 100, [1; 16]);
        let apply = |council: &Council, height| roster.apply(&mut roster.no_changes(), council, height);
        assert!(apply(&voted(act.clone(), &secrets[..2]), 5).is_err());
        let outsiders = [SecretKey::from_seed(&[98; 32]), SecretKey::from_seed(&[99; 32])];
        let mut padded = voted(act.clone(), &secrets[..2]);
        padded.votes.extend(voted(act.clone(), &outsiders).votes);
        assert!(apply(&padded, 5).is_err());
        assert!(apply(&voted(act.clone(), &secrets[1..]), 100).is_ok());
        assert!(apply(&voted(act, &secrets[1..]), 101).is_err(), "it expires");
        let unknown = CouncilAct::change_member(None, Some(stranger()), 100, [1; 16]);
        assert!(apply(&voted(unknown, &secrets), 5).is_err());
        let known = CouncilAct::change_member(Some(secrets[0].public()), None, 100, [1; 16]);
        assert!(apply(&voted(known, &secrets), 5).is_err());
    }

    #[test]
    fn a_council_is_never_empty() {
        let secrets = secrets(1);
        let roster = Roster::genesis(&keys(&secrets));
        let act = CouncilAct::change_member(None, Some(secrets[0].public()), 100, [1; 16]);
        assert!(roster.apply(&mut roster.no_changes(), &voted(act, &secrets), 5).is_err());
    }

    #[test]
    fn absent_members_propose_last() {
        let mut roster = Roster::genesis(&keys(&secrets(4)));
        for height in 1..=8 {
            // Everyone but member 2.
            roster = roster.advance(height, &[0b0000_1011], roster.no_changes());
        }
        let absent = roster.current()[2];
        assert!(roster.is_absent(&absent, 9));
        for height in 9..13 {
            let order = roster.proposers(height);
            assert_eq!(order.len(), 4);
            assert_eq!(order[3], absent);
        }
        let first: Vec<_> = (9..12).map(|height| roster.proposers(height)[0]).collect();
        assert!(first[0] != first[1] && first[1] != first[2] && first[0] != first[2]);
        // Once it has signed again, it is one of the others.
        roster = roster.advance(9, &[0b0000_0100], roster.no_changes());
        assert!(!roster.is_absent(&absent, 10));
    }

    #[test]
    fn stored_and_read_again() {
        let secrets = secrets(4);
        let roster = Roster::genesis(&keys(&secrets));
        let act = CouncilAct::change_member(Some(stranger()), Some(secrets[0].public()), 100, [1; 16]);
        let mut changes = roster.no_changes();
        roster.apply(&mut changes, &voted(act, &secrets), 5).unwrap();
        let roster = roster.advance(5, &[1], changes);
        assert_eq!(Roster::from(StoredRoster::from(&roster)), roster);
    }
}
