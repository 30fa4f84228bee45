//! What commands ask about the council.

use antiphon_ledger::council::{MotionError, Report, Voting};
use antiphon_proto::{ActId, PublicKey, council::Change, genesis::quorum, wire::CouncilAct};
use anyhow::{Context, bail};
use rand::TryRng as _;
use serde::{Deserialize, Serialize};

use crate::{
    failure::{Failure, Kind},
    peer::{Peer, council::Seat},
};

/// `antiphon council status --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CouncilStatus {
    /// Version of this form.
    pub schema: u32,
    /// This peer's member key, when it has one.
    pub key: Option<String>,
    /// Whether this peer votes now.
    pub votes: bool,
    /// Why not, in words.
    pub why_not: Option<String>,
    /// The last height in the ledger.
    pub height: u64,
    /// The round that is running, when a height is being decided.
    pub round: Option<u32>,
    /// Whose turn it is.
    pub proposer: Option<String>,
    /// Registrations that wait here.
    pub pending: usize,
    /// Members that must agree.
    pub quorum: usize,
    /// The council of the next height.
    pub members: Vec<MemberLine>,
    /// Members that cannot be reached from here or do not vote. Only a member knows.
    pub missing: Vec<String>,
    /// Whether enough members are there to go on. Only a member knows.
    pub quorum_is_there: Option<bool>,
    /// The council of the height after the next, when it is another.
    pub next: Option<Vec<String>>,
    /// What is being voted on.
    pub motions: Vec<MotionLine>,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberLine {
    /// Its key.
    pub key: String,
    /// It is this peer's.
    pub me: bool,
    /// It can be reached.
    pub connected: bool,
    /// The last height that it says it has.
    pub height: u64,
    /// Milliseconds since something was heard of it.
    pub heard_ago_ms: Option<u64>,
    /// It has not signed lately, and is asked last to propose.
    pub absent: bool,
    /// It says that it does not vote.
    pub silent: bool,
}

/// A motion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MotionLine {
    /// Its id.
    pub id: String,
    /// Who would join.
    pub add: Option<String>,
    /// Who would leave.
    pub remove: Option<String>,
    /// Who has voted for it.
    pub votes: Vec<String>,
    /// The last height that may decide it.
    pub expires_height: u64,
}

fn why_not(voting: &Voting) -> Option<String> {
    match voting {
        Voting::Ready => None,
        Voting::Asking => {
            Some("waiting for more members: they are asked first what they know of its votes".to_owned())
        }
        Voting::Silent { until } => Some(format!("it joins again, and is silent up to height {until}")),
        Voting::Refused(why) | Voting::Halted(why) => Some(why.clone()),
        Voting::NotAMember => Some("its key is not a member's".to_owned()),
    }
}

fn of_report(key: PublicKey, report: &Report) -> CouncilStatus {
    let text = |keys: &[PublicKey]| keys.iter().map(ToString::to_string).collect();
    CouncilStatus {
        schema: 1,
        key: Some(key.to_string()),
        votes: report.voting == Voting::Ready,
        why_not: why_not(&report.voting),
        height: report.height,
        round: report.round,
        proposer: report.proposer.map(|key| key.to_string()),
        pending: report.pending,
        quorum: report.quorum,
        members: report
            .members
            .iter()
            .map(|member| MemberLine {
                key: member.key.to_string(),
                me: member.me,
                connected: member.connected,
                height: member.height,
                heard_ago_ms: member.heard_ago_ms,
                absent: member.absent,
                silent: member.silent,
            })
            .collect(),
        missing: text(&report.missing()),
        quorum_is_there: report.is_member().then(|| report.has_quorum()),
        next: report.next.as_deref().map(text),
        motions: report
            .motions
            .iter()
            .map(|(id, motion)| {
                let (add, remove) = match motion.act.as_ref().and_then(|act| act.change().ok()) {
                    Some(Change::Member { add, remove }) => (add, remove),
                    _ => (None, None),
                };
                let voter = |member: &[u8]| PublicKey::try_from(member).ok().map(|key| key.to_string());
                MotionLine {
                    id: id.to_string(),
                    add: add.map(|key| key.to_string()),
                    remove: remove.map(|key| key.to_string()),
                    votes: motion.votes.iter().filter_map(|vote| voter(&vote.member)).collect(),
                    expires_height: motion.act.as_ref().map_or(0, |act| act.expires_height),
                }
            })
            .collect(),
    }
}

/// Where the council is.
pub(crate) fn status(peer: &Peer) -> CouncilStatus {
    if let Some(seat) = &peer.seat {
        return of_report(seat.key, &seat.council.report());
    }
    let (roster, height) = (peer.ledger.roster(), peer.ledger.height());
    let members = roster.current().iter().map(|key| MemberLine {
        key: key.to_string(),
        me: false,
        connected: false,
        height: 0,
        heard_ago_ms: None,
        absent: roster.is_absent(key, height.saturating_add(1)),
        silent: false,
    });
    CouncilStatus {
        schema: 1,
        key: None,
        votes: false,
        why_not: Some("this peer has no seat in the council: --council-key FILE".to_owned()),
        height,
        round: None,
        proposer: None,
        pending: 0,
        quorum: quorum(roster.current().len()),
        members: members.collect(),
        missing: Vec::new(),
        quorum_is_there: None,
        next: (roster.next() != roster.current())
            .then(|| roster.next().iter().map(ToString::to_string).collect()),
        motions: Vec::new(),
    }
}

/// One sentence for `antiphon status`; none for a peer that is not in the council.
pub(crate) fn sentence(peer: &Peer) -> Option<String> {
    let seat = peer.seat.as_ref()?;
    let report = seat.council.report();
    if !report.is_member() {
        return peer.config_names_a_key.then(|| "the key is not a member's: this peer follows".to_owned());
    }
    let short = |key: &PublicKey| key.to_string()[..8].to_owned();
    let missing: Vec<String> = report.missing().iter().map(short).collect();
    let there = report.members.len().saturating_sub(missing.len());
    let mut text =
        format!("member of {}, {} must agree, {there} are there", report.members.len(), report.quorum);
    if !missing.is_empty() {
        text += &format!("; missing: {}", missing.join(", "));
    }
    if !report.has_quorum() {
        text += "; NO PROGRESS until enough are there";
    }
    if let Some(why) = why_not(&report.voting) {
        text += &format!("; this one does not vote: {why}");
    }
    Some(text)
}

fn seat(peer: &Peer) -> anyhow::Result<&Seat> {
    let no_seat = || {
        let message = "this peer has no seat in the council; start it with --council-key FILE";
        Failure::new(Kind::Failed, message)
    };
    Ok(peer.seat.as_ref().ok_or_else(no_seat)?)
}

fn key(name: &str, text: Option<&String>) -> anyhow::Result<Option<PublicKey>> {
    let parse = |text: &String| {
        text.parse::<PublicKey>().map_err(|error| Failure::new(Kind::Usage, format!("--{name}: {error}")))
    };
    Ok(text.map(parse).transpose()?)
}

fn taken<T>(done: Option<Result<T, MotionError>>) -> anyhow::Result<T> {
    match done {
        Some(Ok(done)) => Ok(done),
        Some(Err(error @ MotionError::Unknown(_))) => {
            Err(Failure::new(Kind::NotFound, error.to_string()).into())
        }
        Some(Err(error)) => bail!("{error}"),
        None => bail!("this member of the council has stopped; `antiphon council status` says why"),
    }
}

/// Proposes a change of the council.
pub(crate) async fn propose(
    peer: &Peer,
    add: Option<&String>,
    remove: Option<&String>,
    heights: u64,
) -> anyhow::Result<ActId> {
    let (add, remove) = (key("add", add)?, key("remove", remove)?);
    let seat = seat(peer)?;
    let roster = peer.ledger.roster();
    if let Some(joins) = add.filter(|joins| roster.next().contains(joins)) {
        bail!("{joins} is a member already");
    }
    if let Some(leaves) = remove.filter(|leaves| !roster.next().contains(leaves)) {
        bail!("{leaves} is not a member; `antiphon council status` lists them");
    }
    let mut nonce = [0; 16];
    rand::rngs::SysRng.try_fill_bytes(&mut nonce).context("the system gives no randomness")?;
    let expires = peer.ledger.height().saturating_add(heights.max(1));
    taken(seat.council.propose(CouncilAct::change_member(add, remove, expires, nonce)).await)
}

/// Votes for a motion, named by its id or the beginning of it.
pub(crate) async fn vote(peer: &Peer, motion: &str) -> anyhow::Result<ActId> {
    let seat = seat(peer)?;
    let report = seat.council.report();
    let begins = |id: &ActId| id.to_string().starts_with(&motion.to_ascii_lowercase());
    let mut found = report.motions.iter().map(|(id, _)| *id).filter(begins);
    let not_found = || {
        let message = format!("there is no motion {motion}; `antiphon council status` lists them");
        Failure::new(Kind::NotFound, message)
    };
    let id = found.next().ok_or_else(not_found)?;
    if found.next().is_some() {
        bail!(Failure::new(
            Kind::Usage,
            format!("{motion} begins more than one motion's id: give more of it")
        ));
    }
    taken(seat.council.vote(id).await)?;
    Ok(id)
}
