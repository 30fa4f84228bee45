//! From receipts to a settlement, the same on every member, in whatever order they came.

use std::{
    borrow::Borrow,
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use antiphon_proto::{
    PublicKey, SongId, canonical,
    economy::{TOKEN, divide},
    epoch::Escrow,
    limits,
    play::{ReceiptId, Session},
    record::Invalid,
    tokens::Shares,
    wire::{
        AccountState, Amount, Epoch, EscrowAmount, Receipt, ReceiptBody, RightState, Song, SongPlays,
        SongState,
    },
};

use super::{Draft, StateKey, TokenView, rules};
use crate::{error::Fault, state::ApplyError, tree::Frontier};

/// Bytes of a settlement's parts at most: what is left in a block for the rest.
const PARTS_BYTES: usize = 62 * 1_024;
/// Bytes from which a settlement may have been cut short for want of room. One that is cut short holds at least this
/// much, or more than half of the receipts that it may: an estimate of 60 KiB of which 768 songs are 15 at most, and the
/// rest amounts that take three quarters of what is estimated for them.
pub(super) const FULL_BYTES: usize = PARTS_BYTES / 3;
/// An amount at most, with its key and the lengths around it: 2 + 34 + 1, and 7 for what a settlement can pay or burn.
const AMOUNT_BYTES: usize = 44;
/// The same of an escrow, but for its name.
const ESCROW_BYTES: usize = 16;
/// A song's numbers at most, but for its index: 2 + 1 + 3 + 3 + 7.
const SONG_BYTES: usize = 16;

/// What earlier settlements have paid for, as far back as a receipt may be.
pub trait Earlier {
    /// Whether a listener was heard listening at some time in these milliseconds, both included.
    fn overlaps(&self, listener: &PublicKey, start_ms: u64, end_ms: u64) -> bool;
}

/// Nothing was settled before.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoEarlier;

impl Earlier for NoEarlier {
    fn overlaps(&self, _: &PublicKey, _: u64, _: u64) -> bool {
        false
    }
}

/// Why a receipt is not settled now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsettled {
    /// Its form or a signature.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Its time is yet to come.
    #[error("it ends in the future: a clock is wrong")]
    Future,
    /// Its window is over.
    #[error("it is too old: the window in which it could be settled is over")]
    Ancient,
    /// Nothing is known of the song.
    #[error("song {0} is not in the ledger")]
    UnknownSong(SongId),
    /// More was heard than there is.
    #[error("more was heard than the song has")]
    BeyondTheEnd,
    /// The council has ruled.
    #[error("plays of this song do not count: the council has ruled so")]
    Withheld,
    /// The listener was elsewhere at that time.
    #[error("the listener was in another play at the same time, or this one was settled before")]
    TwoAtOnce,
    /// Not enough was heard; the rest of the play may come yet.
    #[error("{heard_ms} ms were heard of {needed_ms} ms that make a play")]
    NotEnough {
        /// Heard.
        heard_ms: u64,
        /// Needed.
        needed_ms: u64,
    },
    /// Too many receipts of one play.
    #[error("a play of more than {} receipts", limits::PLAY_RECEIPTS)]
    TooMany,
    /// The burn.
    #[error("the listener has {there} units, and the play burns {burn}")]
    CannotPay {
        /// What is there.
        there: u64,
        /// What is to be burned.
        burn: u64,
    },
    /// The song's terms.
    #[error("the song's terms: {0}")]
    Terms(String),
    /// No more fits.
    #[error("the settlement is full: this one goes into the next")]
    Full,
}

impl Unsettled {
    /// Whether the same receipt may be settled later.
    #[must_use]
    pub const fn may_change(&self) -> bool {
        matches!(
            self,
            Self::NotEnough { .. }
                | Self::CannotPay { .. }
                | Self::Full
                | Self::Withheld
                | Self::UnknownSong(_)
        )
    }
}

/// What receipts amount to.
#[derive(Debug, Clone, PartialEq)]
pub struct Settlement {
    /// The settlement; none when no play counts.
    pub epoch: Option<Epoch>,
    /// Positions of the receipts that it settles, ascending by id.
    pub settled: Vec<usize>,
    /// Positions of the others, and why.
    pub unsettled: Vec<(usize, Unsettled)>,
}

/// A receipt while it is settled.
#[derive(Clone)]
struct One<'r> {
    at: usize,
    id: ReceiptId,
    body: &'r ReceiptBody,
}

/// The receipts of one play, in time.
struct Play<'r> {
    listener: PublicKey,
    song: SongId,
    receipts: Vec<One<'r>>,
}

impl Play<'_> {
    /// Plays are taken in the order in which they ended.
    fn order(&self) -> (u64, ReceiptId) {
        let last = self.receipts.last();
        (last.map_or(0, |one| one.body.end_ms), last.map_or([0; 32], |one| one.id))
    }
}

/// Sums while plays are taken in.
#[derive(Default)]
struct Sums {
    songs: BTreeMap<u64, SongPlays>,
    credits: BTreeMap<PublicKey, u64>,
    burns: BTreeMap<PublicKey, u64>,
    escrows: BTreeMap<Escrow, u64>,
    minted: u64,
    /// Of what is above, at most.
    bytes: usize,
    /// A play did not fit: what comes after it waits too.
    full: bool,
    receipts: Vec<(ReceiptId, usize)>,
    /// When each listener listened.
    busy: BTreeMap<PublicKey, BTreeSet<(u64, u64)>>,
    known: BTreeMap<SongId, Option<(u64, Rc<Song>)>>,
}

/// Settles what can be settled of receipts whose form and signatures hold. `time_ms` is the time of the block. Refused as
/// a whole when no settlement is due then.
pub(crate) fn settle<V: TokenView + ?Sized, R: Borrow<Receipt>>(
    draft: &mut Draft<'_, V>,
    time_ms: u64,
    receipts: &[R],
    earlier: &dyn Earlier,
) -> Result<Settlement, ApplyError> {
    let (mut sums, unsettled) = take_in(draft, time_ms, receipts, earlier)?;
    sums.receipts.sort_unstable();
    let settled: Vec<usize> = sums.receipts.iter().map(|(_, at)| *at).collect();
    let epoch = if settled.is_empty() { None } else { Some(sums.finish(draft, time_ms, receipts)?) };
    Ok(Settlement { epoch, settled, unsettled })
}

/// Why receipts would not be settled at this time, whether a settlement is due or not.
pub(crate) fn judge<V: TokenView + ?Sized, R: Borrow<Receipt>>(
    draft: &mut Draft<'_, V>,
    time_ms: u64,
    receipts: &[R],
    earlier: &dyn Earlier,
) -> Result<Vec<(usize, Unsettled)>, Fault> {
    take_in(draft, time_ms, receipts, earlier).map(|(_, unsettled)| unsettled)
}

/// Takes receipts in, play by play.
fn take_in<V: TokenView + ?Sized, R: Borrow<Receipt>>(
    draft: &mut Draft<'_, V>,
    time_ms: u64,
    receipts: &[R],
    earlier: &dyn Earlier,
) -> Result<(Sums, Vec<(usize, Unsettled)>), Fault> {
    let (mut unsettled, mut sums) = (Vec::new(), Sums::default());
    let mut groups: BTreeMap<(PublicKey, Session, SongId), Vec<One<'_>>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (at, receipt) in receipts.iter().map(Borrow::borrow).enumerate() {
        let id = receipt.id();
        match read(receipt) {
            // The same one twice is one.
            Ok((group, body)) if seen.insert(id) => {
                groups.entry(group).or_default().push(One { at, id, body })
            }
            Ok(_) => unsettled.push((at, Unsettled::TwoAtOnce)),
            Err(invalid) => unsettled.push((at, invalid.into())),
        }
    }
    let mut plays: Vec<Play<'_>> = groups
        .into_iter()
        .map(|((listener, _, song), mut receipts)| {
            // Of two of one witness the longer one: an answer was lost, and the other side has what was before it.
            receipts.sort_unstable_by_key(|one| (one.body.start_ms, Reverse(one.body.end_ms), one.id));
            Play { listener, song, receipts }
        })
        .collect();
    plays.sort_unstable_by_key(Play::order);
    let window = draft.tokens.economy().window_ms;
    for mut play in plays {
        thin(&mut play, time_ms, window, earlier, &sums, &mut unsettled);
        if let Err(why) = sums.take(draft, &play)? {
            unsettled.extend(play.receipts.iter().map(|one| (one.at, why.clone())));
        }
    }
    Ok((sums, unsettled))
}

fn read(receipt: &Receipt) -> Result<((PublicKey, Session, SongId), &ReceiptBody), Invalid> {
    let body = receipt.body()?;
    Ok(((body.listener_key()?, body.session_id()?, body.song()?), body))
}

/// Leaves out of a play what cannot be: receipts of the wrong time, of a time that was paid for, of the same time.
fn thin(
    play: &mut Play<'_>,
    time_ms: u64,
    window_ms: u32,
    earlier: &dyn Earlier,
    sums: &Sums,
    unsettled: &mut Vec<(usize, Unsettled)>,
) {
    let listener = play.listener;
    let mut last_end = None;
    play.receipts.retain(|one| {
        let (start, end) = (one.body.start_ms, one.body.end_ms);
        let why = if end > time_ms.saturating_add(limits::CLOCK_AHEAD_MS) {
            Unsettled::Future
        } else if end.saturating_add(window_ms.into()) < time_ms {
            Unsettled::Ancient
        } else if last_end.is_some_and(|last| start <= last)
            || sums.is_busy(&listener, start, end)
            || earlier.overlaps(&listener, start, end)
        {
            Unsettled::TwoAtOnce
        } else {
            last_end = Some(end);
            return true;
        };
        unsettled.push((one.at, why));
        false
    });
}

fn escrow_bytes(escrow: &Escrow) -> usize {
    ESCROW_BYTES
        + match escrow {
            Escrow::Key(key) => key.0.len(),
            Escrow::Name(name) => name.len(),
        }
}

/// Bytes of a number as Protobuf writes it.
const fn varint_bytes(number: u64) -> usize {
    (70 - (number | 1).leading_zeros() as usize) / 7
}

/// What a play brings, and to whom.
#[derive(Default)]
struct Gains {
    credits: Vec<(PublicKey, u64)>,
    escrow: Option<Escrow>,
}

impl Sums {
    fn is_busy(&self, listener: &PublicKey, start: u64, end: u64) -> bool {
        // Those that are there are disjoint: the last that begins at or before the end is the only candidate.
        let before = self.busy.get(listener).and_then(|busy| busy.range(..=(end, u64::MAX)).next_back());
        before.is_some_and(|(_, last)| *last >= start)
    }

    /// Bytes that a play adds at most: what is there already only grows in number.
    fn bytes_of(&self, index: u64, listener: &PublicKey, burn: u64, gains: &Gains) -> usize {
        let mut new: Vec<&PublicKey> = gains.credits.iter().map(|(key, _)| key).collect();
        new.sort_unstable();
        new.dedup();
        new.retain(|key| !self.credits.contains_key(*key));
        let burns = usize::from(burn > 0 && !self.burns.contains_key(listener));
        let escrow = gains.escrow.as_ref().filter(|escrow| !self.escrows.contains_key(*escrow));
        let song = if self.songs.contains_key(&index) { 0 } else { SONG_BYTES + varint_bytes(index) };
        (new.len() + burns) * AMOUNT_BYTES + escrow.map_or(0, escrow_bytes) + song
    }

    fn song<V: TokenView + ?Sized>(
        &mut self,
        draft: &mut Draft<'_, V>,
        id: SongId,
    ) -> Result<Option<(u64, Rc<Song>)>, Fault> {
        if let Some(known) = self.known.get(&id) {
            return Ok(known.clone());
        }
        let found = draft.song(&id)?.map(|(index, song)| (index, Rc::new(song)));
        self.known.insert(id, found.clone());
        Ok(found)
    }

    /// Takes a play in, or says why not; nothing is changed then.
    fn take<V: TokenView + ?Sized>(
        &mut self,
        draft: &mut Draft<'_, V>,
        play: &Play<'_>,
    ) -> Result<Result<(), Unsettled>, Fault> {
        let listener = play.listener;
        let Some(first) = play.receipts.first() else { return Ok(Ok(())) };
        if play.receipts.len() > limits::PLAY_RECEIPTS {
            return Ok(Err(Unsettled::TooMany));
        }
        let mut served = served(play);
        served.remove(&listener);
        // A settlement that is full costs nothing for what is left.
        self.full |= self.receipts.len() + play.receipts.len() > limits::EPOCH_RECEIPTS;
        if self.full {
            return Ok(Err(Unsettled::Full));
        }
        let Some((index, song)) = self.song(draft, play.song)? else {
            return Ok(Err(Unsettled::UnknownSong(play.song)));
        };
        let economy = draft.tokens.economy();
        let heard = match heard(play, song.duration_ms) {
            Ok(heard) => heard,
            Err(why) => return Ok(Err(why)),
        };
        let needed_ms = economy.needed_ms(song.duration_ms);
        if heard < needed_ms {
            return Ok(Err(Unsettled::NotEnough { heard_ms: heard, needed_ms }));
        }
        let state: SongState = draft.get(&StateKey::Song(index))?;
        if state.withheld {
            return Ok(Err(Unsettled::Withheld));
        }
        if song.terms.is_some() {
            let right: RightState = draft.get(&StateKey::Right(index, listener))?;
            if let Err(why) = rules::may_hear(&song, &right, &listener, first.body.start_ms) {
                return Ok(Err(Unsettled::Terms(why)));
            }
        }
        let counted = self.songs.get(&index).map_or(0, |plays| u64::from(plays.plays));
        let discovery = state.plays.saturating_add(counted) < u64::from(economy.threshold_plays);
        let supply = draft.tokens.supply();
        let burn = if discovery { 0 } else { economy.burn(supply) };
        if burn > 0 {
            let account: AccountState = draft.get(&StateKey::Account(listener))?;
            let there = account.units.saturating_sub(self.burns.get(&listener).copied().unwrap_or(0));
            if there < burn {
                return Ok(Err(Unsettled::CannotPay { there, burn }));
            }
        }
        let names_artist = song.escrow().is_some();
        let shares = u64::from(names_artist) + u64::from(discovery) + u64::from(!served.is_empty());
        let room = economy.cap_units.saturating_sub(supply).saturating_sub(self.minted);
        let minted = if room >= shares * TOKEN { shares * TOKEN } else { 0 };
        let gains =
            if minted > 0 { gains(draft, &song, discovery, listener, &served)? } else { Gains::default() };
        let bytes = self.bytes + self.bytes_of(index, &listener, burn, &gains);
        if bytes > PARTS_BYTES {
            self.full = true;
            return Ok(Err(Unsettled::Full));
        }
        self.bytes = bytes;
        for (key, units) in gains.credits {
            *self.credits.entry(key).or_default() += units;
        }
        if let Some(escrow) = gains.escrow {
            *self.escrows.entry(escrow).or_default() += TOKEN;
        }
        if burn > 0 {
            *self.burns.entry(listener).or_default() += burn;
        }
        self.minted += minted;
        let plays = self.songs.entry(index).or_insert(SongPlays { song: index, ..SongPlays::default() });
        plays.plays += 1;
        plays.discovered += u32::from(discovery);
        plays.minted += minted;
        self.receipts.extend(play.receipts.iter().map(|one| (one.id, one.at)));
        let busy = self.busy.entry(listener).or_default();
        busy.extend(play.receipts.iter().map(|one| (one.body.start_ms, one.body.end_ms)));
        Ok(Ok(()))
    }

    /// The settlement, with the digest of the state after it.
    fn finish<V: TokenView + ?Sized, R: Borrow<Receipt>>(
        self,
        draft: &mut Draft<'_, V>,
        time_ms: u64,
        receipts: &[R],
    ) -> Result<Epoch, ApplyError> {
        let mut tree = Frontier::new();
        for (_, at) in &self.receipts {
            receipts.get(*at).into_iter().for_each(|one| tree.append(&canonical::encode(one.borrow())));
        }
        let amounts = |sums: &BTreeMap<PublicKey, u64>| -> Vec<Amount> {
            let some = sums.iter().filter(|(_, units)| **units > 0);
            some.map(|(key, units)| Amount { key: key.0.to_vec(), units: *units }).collect()
        };
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let mut epoch = Epoch {
            number: draft.tokens.totals.epoch.saturating_add(1),
            receipts: number(self.receipts.len()),
            plays: self.songs.values().map(|plays| plays.plays).sum(),
            receipts_root: tree.root().0.to_vec(),
            minted: self.minted,
            burned: self.burns.values().sum(),
            songs: self.songs.into_values().collect(),
            credits: amounts(&self.credits),
            burns: amounts(&self.burns),
            escrows: self.escrows.iter().map(|(escrow, units)| EscrowAmount::new(escrow, *units)).collect(),
            state: vec![0; 32],
        };
        // Applied, to learn the state after it.
        rules::settled(draft, &epoch, time_ms)?;
        epoch.state = draft.digest().to_vec();
        Ok(epoch)
    }
}

/// What a play brings.
fn gains<V: TokenView + ?Sized>(
    draft: &mut Draft<'_, V>,
    song: &Song,
    discovery: bool,
    listener: PublicKey,
    served: &BTreeMap<PublicKey, u64>,
) -> Result<Gains, Fault> {
    let mut gains = Gains::default();
    if discovery {
        gains.credits.push((listener, TOKEN));
        gains.escrow = song.escrow();
    } else {
        match rules::shares(draft, song, TOKEN)? {
            Shares::Accounts(accounts) => gains.credits.extend(accounts),
            Shares::Escrow(escrow) => gains.escrow = Some(escrow),
            Shares::Nobody => {}
        }
    }
    // Who served most comes first, and gets what rounding leaves.
    let mut servers: Vec<(PublicKey, u64)> = served.iter().map(|(key, bytes)| (*key, *bytes)).collect();
    servers.sort_by_key(|(key, bytes)| (Reverse(*bytes), *key));
    let weights: Vec<u64> = servers.iter().map(|(_, bytes)| *bytes).collect();
    gains.credits.extend(servers.iter().map(|(key, _)| *key).zip(divide(TOKEN, &weights)));
    Ok(gains)
}

/// Milliseconds that a play has heard of a song.
fn heard(play: &Play<'_>, duration_ms: u32) -> Result<u64, Unsettled> {
    let mut heard = antiphon_proto::coverage::Heard::default();
    for one in &play.receipts {
        let part = one.body.heard()?;
        if part.spans().last().is_some_and(|span| span.end > duration_ms) {
            return Err(Unsettled::BeyondTheEnd);
        }
        heard.merge(&part);
    }
    Ok(heard.total_ms())
}

/// Who has served a play, and how much: each receipt says it of the whole play so far.
fn served(play: &Play<'_>) -> BTreeMap<PublicKey, u64> {
    let mut most: BTreeMap<PublicKey, u64> = BTreeMap::new();
    for served in play.receipts.iter().flat_map(|one| &one.body.served) {
        if let Ok(key) = PublicKey::try_from(&served.key[..]) {
            let bytes = most.entry(key).or_default();
            *bytes = served.bytes.max(*bytes);
        }
    }
    most
}
