//! What commands ask about the council.

use antiphon_ledger::{
    Ledger,
    council::{MotionError, Report, Voting},
    tokens::StateKey,
};
use antiphon_proto::{
    ActId, PublicKey,
    council::Change,
    epoch::Escrow,
    genesis::quorum,
    tokens::artist_name,
    wire::{
        CouncilAct, Economy, EscrowRelease, MemberChange, NameRuling, ParameterChange, Ruling, SongRuling,
        block::Body, council_act, ruling,
    },
};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::{
    failure::{Failure, Kind},
    peer::{Peer, council::Seat, select},
    search::Index,
    system::random::random,
    token_ops::{self, EconomyLine},
};

/// Entries of the state that are read at a time.
const PAGE: usize = 256;
/// Claims that are listed at most.
const CLAIMS: usize = 200;

/// What is proposed, as people name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Proposal {
    /// Who is a member.
    Members {
        /// Who joins: a key.
        add: Option<String>,
        /// Who leaves: a key.
        remove: Option<String>,
    },
    /// What waits in escrow.
    Release {
        /// Name of an artist; none: the escrow of the key.
        artist: Option<String>,
        /// Who gets it: a key.
        to: Option<String>,
    },
    /// What plays are. None: as it is now.
    Parameters {
        /// Plays of a song up to which its listeners are discoverers.
        threshold: Option<u32>,
        /// Share of a song that must be heard, in hundredths of a percent.
        coverage: Option<u32>,
        /// From one heartbeat to the next.
        heartbeat_ms: Option<u32>,
        /// From one settlement to the next.
        epoch_ms: Option<u32>,
        /// How long a play may be settled.
        window_ms: Option<u32>,
    },
    /// Whose an artist's name is.
    Name {
        /// The name.
        artist: String,
        /// A key; none: nobody.
        owner: Option<String>,
    },
    /// Whether plays of a song count.
    Song {
        /// Id or words.
        song: String,
        /// They do not.
        withheld: bool,
    },
}

/// `antiphon council status --json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Who claims an artist's name and waits for the council.
    pub claims: Vec<ClaimLine>,
    /// Receipts of plays that wait here for a settlement. Only a member knows.
    pub receipts: Option<usize>,
    /// Number of the last settlement, 0 when there is none.
    pub epoch: u64,
    /// When it was, milliseconds since 1970; of the network's beginning when there is none.
    pub epoch_ms: u64,
    /// All units that exist.
    pub supply_units: u64,
    /// All units that came into being.
    pub minted_units: u64,
    /// All units that were burned.
    pub burned_units: u64,
    /// What plays are worth.
    pub economy: EconomyLine,
}

/// A claim on an artist's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimLine {
    /// Normalised name.
    pub artist: String,
    /// Whose the name is now.
    pub owner: Option<String>,
    /// Who claims it.
    pub key: String,
    /// What is said to prove it.
    pub statement: String,
    /// Ledger index of the claim.
    pub index: u64,
    /// What waits for the name.
    pub escrow_units: u64,
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
    /// What it would do, in a sentence.
    pub what: String,
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

fn of_report(key: PublicKey, report: &Report, of_ledger: CouncilStatus) -> CouncilStatus {
    let text = |keys: &[PublicKey]| keys.iter().map(ToString::to_string).collect();
    CouncilStatus {
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
                let change = motion.act.as_ref().and_then(|act| act.change().ok());
                let what = change.as_ref().map(sentence_of).unwrap_or_default();
                let (add, remove) = match change {
                    Some(Change::Member { add, remove }) => (add, remove),
                    _ => (None, None),
                };
                let voter = |member: &[u8]| PublicKey::try_from(member).ok().map(|key| key.to_string());
                MotionLine {
                    id: id.to_string(),
                    what,
                    add: add.map(|key| key.to_string()),
                    remove: remove.map(|key| key.to_string()),
                    votes: motion.votes.iter().filter_map(|vote| voter(&vote.member)).collect(),
                    expires_height: motion.act.as_ref().map_or(0, |act| act.expires_height),
                }
            })
            .collect(),
        receipts: report.is_member().then_some(report.receipts),
        ..of_ledger
    }
}

/// What the ledger says that the council should know; the rest of a status is yet to be filled in.
fn of_ledger(ledger: &Ledger) -> anyhow::Result<CouncilStatus> {
    let sums = ledger.tokens();
    Ok(CouncilStatus {
        schema: 1,
        claims: claims(ledger)?,
        epoch: sums.totals.epoch,
        epoch_ms: sums.totals.epoch_ms,
        supply_units: sums.supply(),
        minted_units: sums.totals.minted,
        burned_units: sums.totals.burned,
        economy: EconomyLine::of(&sums.economy()),
        ..CouncilStatus::default()
    })
}

/// Claims that wait, in the order of names, up to [`CLAIMS`].
fn claims(ledger: &Ledger) -> anyhow::Result<Vec<ClaimLine>> {
    let prefix = StateKey::Artist(String::new()).to_bytes();
    let (mut lines, mut after) = (Vec::new(), None::<StateKey>);
    loop {
        let page = ledger.states(&prefix, after.as_ref(), PAGE)?;
        after = page.last().map(|(key, _)| key.clone());
        let is_last = page.len() < PAGE;
        for (key, _) in page {
            let StateKey::Artist(name) = key else { continue };
            let artist = ledger.artist(&name)?;
            let escrow_units = ledger.escrow(&Escrow::Name(name.clone()))?;
            let owner = PublicKey::try_from(&artist.owner[..]).ok().map(|key| key.to_string());
            for claim in &artist.claims {
                let statement = match ledger.parsed(claim.index)?.and_then(|block| block.body) {
                    Some(Body::Claim(claim)) => claim.statement,
                    _ => String::new(),
                };
                lines.push(ClaimLine {
                    artist: name.clone(),
                    owner: owner.clone(),
                    key: PublicKey::try_from(&claim.key[..])
                        .map_or_else(|_| String::new(), |key| key.to_string()),
                    statement,
                    index: claim.index,
                    escrow_units,
                });
            }
        }
        if is_last || lines.len() >= CLAIMS {
            lines.truncate(CLAIMS);
            return Ok(lines);
        }
    }
}

/// What is changed, in a sentence.
fn sentence_of(change: &Change) -> String {
    match change {
        Change::Member { add, remove } => {
            let mut parts = Vec::new();
            parts.extend(add.map(|key| format!("add {key}")));
            parts.extend(remove.map(|key| format!("remove {key}")));
            parts.join(", ")
        }
        Change::Release { escrow: Escrow::Key(_), to } => format!("release the escrow of {to}"),
        Change::Release { escrow: Escrow::Name(name), to } => {
            format!("release the escrow of {name:?} to {to}, whose the name is from then on")
        }
        Change::Parameters(economy) => format!("parameters: {}", EconomyLine::of(economy)),
        Change::Name { artist, owner: Some(owner) } => format!("the name {artist:?} is {owner}'s"),
        Change::Name { artist, owner: None } => {
            format!("the name {artist:?} is nobody's, and no claim on it holds")
        }
        Change::Song { song, withheld: true } => format!("plays of song {song} do not count"),
        Change::Song { song, withheld: false } => format!("plays of song {song} count again"),
    }
}

/// Where the council is.
pub(crate) async fn status(peer: &Peer) -> anyhow::Result<CouncilStatus> {
    let ledger = peer.ledger.clone();
    let of_ledger = tokio::task::spawn_blocking(move || of_ledger(&ledger)).await??;
    if let Some(seat) = &peer.seat {
        return Ok(of_report(seat.key, &seat.council.report(), of_ledger));
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
    Ok(CouncilStatus {
        why_not: Some("this peer has no seat in the council: --council-key FILE".to_owned()),
        height,
        quorum: quorum(roster.current().len()),
        members: members.collect(),
        next: (roster.next() != roster.current())
            .then(|| roster.next().iter().map(ToString::to_string).collect()),
        ..of_ledger
    })
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

/// Proposes something to the council. What the ledger would refuse is said at once: nobody should vote on it.
pub(crate) async fn propose(peer: &Peer, proposal: Proposal, heights: u64) -> anyhow::Result<ActId> {
    let seat = seat(peer)?;
    let (ledger, search) = (peer.ledger.clone(), peer.search.clone());
    let change = tokio::task::spawn_blocking(move || change(&ledger, &search, &proposal)).await??;
    let expires = peer.ledger.height().saturating_add(heights.max(1));
    taken(seat.council.propose(CouncilAct::new(change, expires, random()?)).await)
}

fn change(ledger: &Ledger, search: &Index, proposal: &Proposal) -> anyhow::Result<council_act::Change> {
    match proposal {
        Proposal::Members { add, remove } => members(ledger, add.as_ref(), remove.as_ref()),
        Proposal::Release { artist, to } => release(ledger, artist.as_deref(), to.as_ref()),
        Proposal::Parameters { threshold, coverage, heartbeat_ms, epoch_ms, window_ms } => {
            let now = ledger.economy();
            let economy = Economy {
                threshold_plays: threshold.unwrap_or(now.threshold_plays),
                coverage_basis_points: coverage.unwrap_or(now.coverage_basis_points),
                heartbeat_ms: heartbeat_ms.unwrap_or(now.heartbeat_ms),
                epoch_ms: epoch_ms.unwrap_or(now.epoch_ms),
                window_ms: window_ms.unwrap_or(now.window_ms),
                ..now
            };
            if economy == now {
                let message = format!("nothing would change; now: {}", EconomyLine::of(&now));
                bail!(Failure::new(Kind::Usage, message));
            }
            economy.check().map_err(|error| Failure::new(Kind::Usage, error.to_string()))?;
            Ok(council_act::Change::Parameters(ParameterChange { economy: Some(economy) }))
        }
        Proposal::Name { artist, owner } => name(ledger, artist, owner.as_ref()),
        Proposal::Song { song, withheld } => {
            let found = select::select(ledger, search, song)?;
            if ledger.song_state(found.index)?.withheld == *withheld {
                let how = if *withheld { "are withheld" } else { "count" };
                bail!("plays of {} {how} already", select::name(&found.song.artist, &found.song.title));
            }
            let song = SongRuling { song_id: found.song.id().0.to_vec(), withheld: *withheld };
            Ok(council_act::Change::Ruling(Ruling { subject: Some(ruling::Subject::Song(song)) }))
        }
    }
}

fn members(
    ledger: &Ledger,
    add: Option<&String>,
    remove: Option<&String>,
) -> anyhow::Result<council_act::Change> {
    let (add, remove) = (key("add", add)?, key("remove", remove)?);
    let roster = ledger.roster();
    if let Some(joins) = add.filter(|joins| roster.next().contains(joins)) {
        bail!("{joins} is a member already");
    }
    if let Some(leaves) = remove.filter(|leaves| !roster.next().contains(leaves)) {
        bail!("{leaves} is not a member; `antiphon council status` lists them");
    }
    let bytes = |key: Option<PublicKey>| key.map(|key| key.0.to_vec()).unwrap_or_default();
    Ok(council_act::Change::Member(MemberChange { add: bytes(add), remove: bytes(remove) }))
}

/// A key that may have a name: one that has claimed it, or whose it is.
fn claimed(ledger: &Ledger, artist: &str, key: &PublicKey) -> anyhow::Result<()> {
    let state = ledger.artist(artist)?;
    if state.owner == key.0 || state.claims.iter().any(|claim| claim.key == key.0) {
        return Ok(());
    }
    bail!(
        "{key} has not claimed the name {artist:?}: it has to hand in `antiphon wallet claim` first; `antiphon council \
         status` lists the claims"
    )
}

fn release(
    ledger: &Ledger,
    artist: Option<&str>,
    to: Option<&String>,
) -> anyhow::Result<council_act::Change> {
    let to = to.context("it is not said to whom")?;
    let to = token_ops::key(to)?;
    let artist = artist.map(artist_name).unwrap_or_default();
    if artist.is_empty() {
        if ledger.escrow(&Escrow::Key(to))? == 0 {
            bail!("nothing waits in the escrow of {to}");
        }
    } else {
        let owner = PublicKey::try_from(&ledger.artist(&artist)?.owner[..]).ok();
        if let Some(owner) = owner.filter(|owner| *owner != to) {
            bail!(
                "the name {artist:?} is {owner}'s: release it to that key, or propose a ruling on the name first"
            );
        }
        claimed(ledger, &artist, &to)?;
    }
    Ok(council_act::Change::Release(EscrowRelease { artist, to: to.0.to_vec() }))
}

fn name(ledger: &Ledger, artist: &str, owner: Option<&String>) -> anyhow::Result<council_act::Change> {
    let artist = artist_name(artist);
    let owner = key("owner", owner)?;
    if let Some(owner) = &owner {
        claimed(ledger, &artist, owner)?;
    } else {
        let state = ledger.artist(&artist)?;
        if state.owner.is_empty() && state.claims.is_empty() {
            bail!("nobody has claimed the name {artist:?}; `antiphon council status` lists the claims");
        }
    }
    let owner = owner.map(|key| key.0.to_vec()).unwrap_or_default();
    let subject = Some(ruling::Subject::Name(NameRuling { artist, owner }));
    Ok(council_act::Change::Ruling(Ruling { subject }))
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
