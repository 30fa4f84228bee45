//! What a council signs: votes on batches, and acts about the network itself.

use crate::{
    canonical,
    epoch::Escrow,
    hash::{ActId, NetworkId, SongId, ValueId},
    keys::{Domain, PublicKey, SecretKey, signed_message},
    limits,
    record::{Invalid, key},
    tokens::{check_artist, song_id},
    wire::{BatchHeader, Council, CouncilAct, CouncilVote, Economy, council_act, ruling},
};

pub use crate::wire::VoteKind;

/// Format version of headers.
pub const HEADER_VERSION: u32 = 1;

/// BLAKE3 of the members' keys, which must be ascending: what a header calls its council.
#[must_use]
pub fn council_hash(members: &[PublicKey]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for member in members {
        hasher.update(&member.0);
    }
    *hasher.finalize().as_bytes()
}

/// What a member signs to vote: height (u64), round (u32), both big-endian, and the value, empty for nil.
#[must_use]
pub fn vote_message(
    kind: VoteKind,
    network: &NetworkId,
    height: u64,
    round: u32,
    value: Option<&ValueId>,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(44);
    bytes.extend(height.to_be_bytes());
    bytes.extend(round.to_be_bytes());
    bytes.extend(value.map_or(&[][..], |value| &value.0));
    let domain = match kind {
        VoteKind::Prevote => Domain::Prevote,
        VoteKind::Precommit => Domain::Precommit,
    };
    signed_message(domain, network, &bytes)
}

/// What a member signs to propose: height (u64), round, and one more than the round of the value's polka or 0 (u32
/// each), all big-endian, and the value.
#[must_use]
pub fn proposal_message(network: &NetworkId, height: u64, round: u32, pol: u32, value: &ValueId) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(48);
    bytes.extend(height.to_be_bytes());
    bytes.extend(round.to_be_bytes());
    bytes.extend(pol.to_be_bytes());
    bytes.extend(value.0);
    signed_message(Domain::Proposal, network, &bytes)
}

impl BatchHeader {
    /// BLAKE3 of the canonical bytes: the value that members vote on.
    #[must_use]
    pub fn digest(&self) -> ValueId {
        ValueId(*blake3::hash(&canonical::encode(self)).as_bytes())
    }
}

/// What an act changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Who is a member; at least one is set.
    Member {
        /// Who joins.
        add: Option<PublicKey>,
        /// Who leaves.
        remove: Option<PublicKey>,
    },
    /// What an artist has in escrow becomes the artist's own.
    Release {
        /// Whose.
        escrow: Escrow,
        /// To whom: the escrow's own key, or one that has claimed the name.
        to: PublicKey,
    },
    /// The economy.
    Parameters(Economy),
    /// Whose an artist's name is.
    Name {
        /// Normalised name.
        artist: String,
        /// Whose it is; nobody's.
        owner: Option<PublicKey>,
    },
    /// Whether plays of a song count.
    Song {
        /// The song.
        song: SongId,
        /// They do not.
        withheld: bool,
    },
}

fn optional_key(field: &'static str, bytes: &[u8]) -> Result<Option<PublicKey>, Invalid> {
    if bytes.is_empty() { Ok(None) } else { key(field, bytes).map(Some) }
}

impl CouncilAct {
    /// The act that changes who is a member.
    #[must_use]
    pub fn change_member(
        add: Option<PublicKey>,
        remove: Option<PublicKey>,
        expires_height: u64,
        nonce: [u8; 16],
    ) -> Self {
        let bytes = |key: Option<PublicKey>| key.map(|key| key.0.to_vec()).unwrap_or_default();
        let member = crate::wire::MemberChange { add: bytes(add), remove: bytes(remove) };
        Self { expires_height, nonce: nonce.to_vec(), change: Some(council_act::Change::Member(member)) }
    }

    /// BLAKE3 of the canonical bytes.
    #[must_use]
    pub fn id(&self) -> ActId {
        ActId(*blake3::hash(&canonical::encode(self)).as_bytes())
    }

    /// Any other act.
    #[must_use]
    pub fn new(change: council_act::Change, expires_height: u64, nonce: [u8; 16]) -> Self {
        Self { expires_height, nonce: nonce.to_vec(), change: Some(change) }
    }

    /// What it changes.
    ///
    /// # Errors
    /// [`Invalid`] when that is not said, or what is said cannot be.
    pub fn change(&self) -> Result<Change, Invalid> {
        Ok(match self.change.as_ref().ok_or(Invalid::Missing("change"))? {
            council_act::Change::Member(change) => {
                let (add, remove) =
                    (optional_key("add", &change.add)?, optional_key("remove", &change.remove)?);
                match (add, remove) {
                    (None, None) => return Err(Invalid::Missing("add or remove")),
                    _ if add == remove => return Err(Invalid::Act("it adds the member that it removes")),
                    _ => Change::Member { add, remove },
                }
            }
            council_act::Change::Release(release) => {
                let to = key("to", &release.to)?;
                if release.artist.is_empty() {
                    Change::Release { escrow: Escrow::Key(to), to }
                } else {
                    check_artist(&release.artist)?;
                    Change::Release { escrow: Escrow::Name(release.artist.clone()), to }
                }
            }
            council_act::Change::Parameters(parameters) => {
                let economy = parameters.economy.ok_or(Invalid::Missing("economy"))?;
                economy.check()?;
                Change::Parameters(economy)
            }
            council_act::Change::Ruling(ruling) => match ruling.subject.as_ref() {
                None => return Err(Invalid::Missing("subject of the ruling")),
                Some(ruling::Subject::Name(name)) => {
                    check_artist(&name.artist)?;
                    Change::Name { artist: name.artist.clone(), owner: optional_key("owner", &name.owner)? }
                }
                Some(ruling::Subject::Song(song)) => {
                    Change::Song { song: song_id(&song.song_id)?, withheld: song.withheld }
                }
            },
        })
    }

    /// Checks what can be checked without the ledger.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check_form(&self) -> Result<(), Invalid> {
        if self.nonce.len() != 16 {
            return Err(Invalid::Act("the nonce is not 16 bytes"));
        }
        self.change().map(drop)
    }

    /// A member's vote for this act.
    #[must_use]
    pub fn vote(&self, network: &NetworkId, secret: &SecretKey) -> CouncilVote {
        let signature = secret.sign(&self.to_sign(network));
        CouncilVote { member: secret.public().0.to_vec(), signature: signature.to_vec() }
    }

    /// Whether a vote for this act is its member's; the member is returned.
    ///
    /// # Errors
    /// [`Invalid::Signature`], or a key that is none.
    pub fn check_vote(&self, network: &NetworkId, vote: &CouncilVote) -> Result<PublicKey, Invalid> {
        let member = key("member", &vote.member)?;
        if member.verifies(&self.to_sign(network), &vote.signature) {
            Ok(member)
        } else {
            Err(Invalid::Signature)
        }
    }

    fn to_sign(&self, network: &NetworkId) -> Vec<u8> {
        signed_message(Domain::Act, network, &canonical::encode(self))
    }
}

impl Council {
    /// The act.
    ///
    /// # Errors
    /// [`Invalid::Missing`].
    pub fn act(&self) -> Result<&CouncilAct, Invalid> {
        self.act.as_ref().ok_or(Invalid::Missing("act"))
    }

    /// Checks what can be checked without the ledger, signatures excepted.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check_form(&self) -> Result<(), Invalid> {
        self.act()?.check_form()?;
        if self.votes.is_empty() || self.votes.len() > limits::COUNCIL_MEMBERS {
            return Err(Invalid::Act("it has no votes or more than a council has members"));
        }
        for vote in &self.votes {
            key("member", &vote.member)?;
            if vote.signature.len() != 64 {
                return Err(Invalid::Signature);
            }
        }
        if !self.votes.is_sorted_by(|a, b| a.member < b.member) {
            return Err(Invalid::Act("the votes are not in ascending order of members, each once"));
        }
        Ok(())
    }

    /// Checks every vote's signature; whether the voters are members is the ledger's business.
    ///
    /// # Errors
    /// [`Invalid::Signature`].
    pub fn check_proofs(&self, network: &NetworkId) -> Result<(), Invalid> {
        let act = self.act()?;
        self.votes.iter().try_for_each(|vote| act.check_vote(network, vote).map(drop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: NetworkId = NetworkId([1; 32]);

    fn secret(n: u8) -> SecretKey {
        SecretKey::from_seed(&[n; 32])
    }

    #[test]
    fn golden_header() {
        let header = BatchHeader {
            version: HEADER_VERSION,
            network: vec![1; 32],
            height: 2,
            size: 3,
            time_ms: 4,
            head: vec![5; 32],
            root: vec![6; 32],
            council: vec![7; 32],
            signers: vec![7],
        };
        assert_eq!(
            header.digest().to_string(),
            "4fbdab957104a1d15f1aaea56a6127e5e6e4718cd558e806bcfa05bf141e8136"
        );
    }

    #[test]
    fn golden_messages() {
        let value = ValueId([9; 32]);
        let mut vote = b"antiphon/v1/precommit\0".to_vec();
        vote.extend([1; 32]);
        vote.extend([0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3]);
        assert_eq!(vote_message(VoteKind::Precommit, &NETWORK, 2, 3, None), vote);
        vote.extend([9; 32]);
        assert_eq!(vote_message(VoteKind::Precommit, &NETWORK, 2, 3, Some(&value)), vote);
        let mut proposal = b"antiphon/v1/proposal\0".to_vec();
        proposal.extend([1; 32]);
        proposal.extend([0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0]);
        proposal.extend([9; 32]);
        assert_eq!(proposal_message(&NETWORK, 2, 3, 0, &value), proposal);
    }

    #[test]
    fn acts_are_checked() {
        let (a, b) = (secret(1).public(), secret(2).public());
        let act = |add, remove| CouncilAct::change_member(add, remove, 9, [3; 16]);
        assert_eq!(act(Some(a), Some(b)).check_form(), Ok(()));
        assert_eq!(act(None, Some(b)).change(), Ok(Change::Member { add: None, remove: Some(b) }));
        assert!(act(None, None).check_form().is_err());
        assert!(act(Some(a), Some(a)).check_form().is_err());
        let mut short = act(Some(a), None);
        short.nonce.pop();
        assert!(short.check_form().is_err());
    }

    #[test]
    fn votes_are_bound_to_act_and_network() {
        let act = CouncilAct::change_member(Some(secret(1).public()), None, 9, [3; 16]);
        let vote = act.vote(&NETWORK, &secret(2));
        assert_eq!(act.check_vote(&NETWORK, &vote), Ok(secret(2).public()));
        assert!(act.check_vote(&NetworkId([2; 32]), &vote).is_err());
        let other = CouncilAct { expires_height: 10, ..act.clone() };
        assert!(other.check_vote(&NETWORK, &vote).is_err());
        let twice = Council { act: Some(act), votes: vec![vote.clone(), vote] };
        assert!(matches!(twice.check_form(), Err(Invalid::Act(_))));
    }
}
