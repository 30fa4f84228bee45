//! What each record does to the state, or why it may not.

use antiphon_proto::{
    PublicKey, SongId,
    council::Change,
    economy::TOKEN,
    epoch::Escrow,
    limits,
    tokens::Shares,
    wire::{
        AccountState, ArtistState, Block, Claim, ClaimState, Epoch, EscrowState, Grant, Purchase, RightState,
        Song, SongState, TermsKind, Transfer, block::Body,
    },
};
use prost::Message as _;

use super::{Changes, Draft, Pending, StateKey, TokenView};
use crate::{error::Fault, refusal::Refusal, state::ApplyError};

type Done = Result<(), ApplyError>;

/// Ends for ever.
pub(crate) const FOR_EVER: u64 = u64::MAX;

/// Counts a record of an account: each sequence stands once.
fn count<V: TokenView + ?Sized>(draft: &mut Draft<'_, V>, key: PublicKey, sequence: u64, index: u64) -> Done {
    draft.update(StateKey::Account(key), |account: &mut AccountState| {
        let expected = account.sequence.saturating_add(1);
        if sequence != expected {
            let last = (sequence == account.sequence).then(|| account.last.checked_sub(1)).flatten();
            return Err(Refusal::Sequence { expected, got: sequence, last });
        }
        account.sequence = sequence;
        account.last = index.saturating_add(1);
        Ok(())
    })
}

fn pay_in<V: TokenView + ?Sized>(draft: &mut Draft<'_, V>, to: PublicKey, units: u64) -> Done {
    draft.update(StateKey::Account(to), |account: &mut AccountState| {
        account.units = account.units.checked_add(units).ok_or(Refusal::Overflow)?;
        Ok(())
    })
}

fn pay_out<V: TokenView + ?Sized>(draft: &mut Draft<'_, V>, from: PublicKey, units: u64) -> Done {
    draft.update(StateKey::Account(from), |account: &mut AccountState| {
        let there = account.units;
        account.units = there.checked_sub(units).ok_or(Refusal::Balance { there, needed: units })?;
        Ok(())
    })
}

fn pay_escrow<V: TokenView + ?Sized>(draft: &mut Draft<'_, V>, escrow: Escrow, units: u64) -> Done {
    draft.update(StateKey::Escrow(escrow), |escrow: &mut EscrowState| {
        escrow.units = escrow.units.checked_add(units).ok_or(Refusal::Overflow)?;
        Ok(())
    })
}

/// Tokens from one account to another.
pub(crate) fn transfer<V: TokenView + ?Sized>(
    draft: &mut Draft<'_, V>,
    transfer: &Transfer,
    index: u64,
) -> Result<PublicKey, ApplyError> {
    let (from, to) = (transfer.payer().map_err(Refusal::from)?, transfer.payee().map_err(Refusal::from)?);
    if from == to {
        return Err(Refusal::Forbidden("nobody can pay themselves").into());
    }
    count(draft, from, transfer.sequence, index)?;
    pay_out(draft, from, transfer.amount)?;
    pay_in(draft, to, transfer.amount)?;
    Ok(from)
}

/// The artist's share of a song, as names are given out now.
pub(super) fn shares<V: TokenView + ?Sized>(
    draft: &mut Draft<'_, V>,
    song: &Song,
    units: u64,
) -> Result<Shares, Fault> {
    song.shares(units, |name| {
        let artist: ArtistState = draft.get(&StateKey::Artist(name.to_owned()))?;
        Ok(PublicKey::try_from(&artist.owner[..]).ok())
    })
}

fn known<V: TokenView + ?Sized>(draft: &mut Draft<'_, V>, id: SongId) -> Result<(u64, Song), ApplyError> {
    Ok(draft.song(&id)?.ok_or(Refusal::UnknownSong(id))?)
}

/// A listener pays, the payees get it, and the listener may hear the song: all or nothing.
pub(crate) fn purchase<V: TokenView + ?Sized>(
    draft: &mut Draft<'_, V>,
    purchase: &Purchase,
    index: u64,
    time_ms: u64,
) -> Result<PublicKey, ApplyError> {
    let buyer = purchase.buyer_key().map_err(Refusal::from)?;
    let (song_index, song) = known(draft, purchase.song().map_err(Refusal::from)?)?;
    count(draft, buyer, purchase.sequence, index)?;
    let (kind, price) = song.asks();
    let until_ms = match kind {
        TermsKind::Purchase => FOR_EVER,
        TermsKind::PayPerPlay => {
            time_ms.saturating_add(song.duration_ms.into()).saturating_add(limits::PLAY_GRACE_MS)
        }
        TermsKind::Open => return Err(Refusal::Terms("the song is free to hear").into()),
        TermsKind::Grant => {
            return Err(Refusal::Terms("the song is not for sale: its artist grants it").into());
        }
    };
    if purchase.price != price {
        return Err(Refusal::Price { price, got: purchase.price }.into());
    }
    pay_out(draft, buyer, price)?;
    match shares(draft, &song, price)? {
        Shares::Accounts(accounts) => {
            for (key, units) in accounts.into_iter().filter(|(_, units)| *units > 0) {
                pay_in(draft, key, units)?;
            }
        }
        Shares::Escrow(escrow) => pay_escrow(draft, escrow, price)?,
        Shares::Nobody => return Err(Refusal::Terms("the song names no artist who could be paid").into()),
    }
    draft.update(StateKey::Right(song_index, buyer), |right: &mut RightState| {
        if right.until_ms == FOR_EVER {
            return Err(Refusal::Terms("the buyer may hear the song for ever already"));
        }
        right.until_ms = right.until_ms.max(until_ms);
        right.index = index;
        Ok(())
    })?;
    draft.update(StateKey::Song(song_index), |state: &mut SongState| {
        state.paid = state.paid.saturating_add(price);
        Ok(())
    })?;
    Ok(buyer)
}

/// The artist gives, or takes, the right to hear a song.
pub(crate) fn grant<V: TokenView + ?Sized>(
    draft: &mut Draft<'_, V>,
    grant: &Grant,
    index: u64,
    time_ms: u64,
) -> Result<PublicKey, ApplyError> {
    let grantor = grant.grantor_key().map_err(Refusal::from)?;
    let holder = grant.holder_key().map_err(Refusal::from)?;
    let (song_index, song) = known(draft, grant.song().map_err(Refusal::from)?)?;
    if song.artist_key != grantor.0 {
        return Err(Refusal::Forbidden("only the song's artist grants it").into());
    }
    if song.asks().0 == TermsKind::Open {
        return Err(Refusal::Terms("the song is free to hear").into());
    }
    count(draft, grantor, grant.sequence, index)?;
    let until_ms = if grant.until_ms == 0 { FOR_EVER } else { grant.until_ms };
    let right = if until_ms <= time_ms { RightState::default() } else { RightState { until_ms, index } };
    draft.put(StateKey::Right(song_index, holder), &right)?;
    Ok(grantor)
}

/// Somebody says who they are.
pub(crate) fn claim<V: TokenView + ?Sized>(
    draft: &mut Draft<'_, V>,
    claim: &Claim,
    index: u64,
) -> Result<PublicKey, ApplyError> {
    let claimant = claim.claimant_key().map_err(Refusal::from)?;
    count(draft, claimant, claim.sequence, index)?;
    draft.update(StateKey::Artist(claim.artist.clone()), |artist: &mut ArtistState| {
        if artist.owner == claimant.0 {
            return Err(Refusal::Claim("the name is the claimant's already"));
        }
        artist.claims.retain(|other| other.key != claimant.0);
        if artist.claims.len() >= limits::CLAIMS {
            return Err(Refusal::Claim(
                "too many have claimed the name: the council has to rule on it first",
            ));
        }
        artist.claims.push(ClaimState { key: claimant.0.to_vec(), index });
        Ok(())
    })?;
    Ok(claimant)
}

/// Makes a name somebody's, who has claimed it; every other claim is dismissed.
fn give_name(artist: &mut ArtistState, to: &PublicKey) -> Result<(), Refusal> {
    let claimed = artist.owner == to.0 || artist.claims.iter().any(|claim| claim.key == to.0);
    if !claimed {
        return Err(Refusal::Claim("this key has not claimed the name"));
    }
    artist.owner = to.0.to_vec();
    artist.claims.clear();
    Ok(())
}

/// What the council has decided, but for who is in it.
pub(crate) fn act<V: TokenView + ?Sized>(draft: &mut Draft<'_, V>, change: Change) -> Done {
    match change {
        Change::Member { .. } => Ok(()),
        Change::Release { escrow, to } => {
            if let Escrow::Name(name) = &escrow {
                let stranger = |artist: &ArtistState| !artist.owner.is_empty() && artist.owner != to.0;
                draft.update(StateKey::Artist(name.clone()), |artist: &mut ArtistState| {
                    if stranger(artist) {
                        return Err(Refusal::Claim(
                            "the escrow is another's: the name was given to another key",
                        ));
                    }
                    give_name(artist, &to)
                })?;
            }
            let held: EscrowState = draft.get(&StateKey::Escrow(escrow.clone()))?;
            if held.units == 0 {
                // A claim on a name is worth granting before anything has come in.
                return match escrow {
                    Escrow::Name(_) => Ok(()),
                    Escrow::Key(_) => Err(Refusal::Claim("there is nothing in this escrow").into()),
                };
            }
            draft.put(StateKey::Escrow(escrow), &EscrowState::default())?;
            pay_in(draft, to, held.units)
        }
        Change::Parameters(economy) => {
            let now = draft.tokens.economy();
            if (economy.floor_units, economy.cap_units) != (now.floor_units, now.cap_units) {
                return Err(Refusal::Act("floor and cap stay what the network was born with").into());
            }
            if economy == now {
                return Err(Refusal::Act("the parameters are these already").into());
            }
            draft.tokens.totals.economy = Some(economy);
            Ok(())
        }
        Change::Name { artist, owner } => {
            draft.update(StateKey::Artist(artist), |artist: &mut ArtistState| match owner {
                Some(owner) => give_name(artist, &owner),
                None if artist.owner.is_empty() && artist.claims.is_empty() => {
                    Err(Refusal::Claim("nobody has claimed the name"))
                }
                None => {
                    *artist = ArtistState::default();
                    Ok(())
                }
            })
        }
        Change::Song { song, withheld } => {
            let (index, _) = known(draft, song)?;
            draft.update(StateKey::Song(index), |state: &mut SongState| {
                if state.withheld == withheld {
                    return Err(Refusal::Act("the song is ruled on like that already"));
                }
                state.withheld = withheld;
                Ok(())
            })
        }
    }
}

/// A settlement: everything about it that follows from what is in the ledger. That its receipts say so is found out by
/// whoever has them, before voting.
pub(crate) fn epoch<V: TokenView + ?Sized>(draft: &mut Draft<'_, V>, epoch: &Epoch, time_ms: u64) -> Done {
    settled(draft, epoch, time_ms)?;
    if draft.digest()[..] == epoch.state {
        Ok(())
    } else {
        Err(Refusal::Epoch("its state is another one").into())
    }
}

/// The same, but for the digest of the state after it.
pub(super) fn settled<V: TokenView + ?Sized>(draft: &mut Draft<'_, V>, epoch: &Epoch, time_ms: u64) -> Done {
    let supply = draft.tokens.supply();
    sums(draft, epoch, time_ms)?;
    let economy = draft.tokens.economy();
    let burn = economy.burn(supply);
    let mut paying = 0u64;
    for plays in &epoch.songs {
        if !draft.is_song(plays.song)? {
            return Err(Refusal::Epoch("it counts plays of what is not a song").into());
        }
        let (all, found) = (u64::from(plays.plays), u64::from(plays.discovered));
        paying = paying.saturating_add(all.saturating_sub(found));
        draft.update(StateKey::Song(plays.song), |state: &mut SongState| {
            let left = u64::from(economy.threshold_plays).saturating_sub(state.plays);
            if state.withheld {
                return Err(Refusal::Epoch("it counts plays of a song that is withheld"));
            }
            if found != all.min(left) {
                return Err(Refusal::Epoch("it counts other plays as discoveries than there are"));
            }
            let most = found.saturating_mul(3).saturating_add(all.saturating_sub(found).saturating_mul(2));
            if plays.minted > most.saturating_mul(TOKEN) || plays.minted % TOKEN != 0 {
                return Err(Refusal::Epoch("more was minted for a song than its plays are worth"));
            }
            let burned = burn.checked_mul(all.saturating_sub(found)).ok_or(Refusal::Overflow)?;
            state.plays = state.plays.checked_add(all).ok_or(Refusal::Overflow)?;
            state.minted = state.minted.checked_add(plays.minted).ok_or(Refusal::Overflow)?;
            state.burned = state.burned.checked_add(burned).ok_or(Refusal::Overflow)?;
            Ok(())
        })?;
    }
    if burn.checked_mul(paying) != Some(epoch.burned) {
        return Err(Refusal::Epoch("it burns something else than its plays cost").into());
    }
    // What is burned was there before: what a settlement brings cannot pay for it.
    for amount in &epoch.burns {
        pay_out(draft, PublicKey::try_from(&amount.key[..]).map_err(|_| Refusal::Overflow)?, amount.units)?;
    }
    for amount in &epoch.credits {
        pay_in(draft, PublicKey::try_from(&amount.key[..]).map_err(|_| Refusal::Overflow)?, amount.units)?;
    }
    for amount in &epoch.escrows {
        pay_escrow(draft, amount.escrow().map_err(Refusal::from)?, amount.units)?;
    }
    Ok(())
}

/// What a block that was accepted before has changed; `act` is the council's when it is one.
pub(crate) fn replay<V: TokenView + ?Sized>(
    view: &mut V,
    pending: &Pending,
    block: &Block,
    act_of: Option<Change>,
) -> Result<Changes, ApplyError> {
    let mut draft = Draft::new(view, pending);
    match (&block.body, act_of) {
        (_, Some(change)) => act(&mut draft, change)?,
        (Some(Body::Transfer(record)), _) => drop(transfer(&mut draft, record, block.index)?),
        (Some(Body::Purchase(record)), _) => drop(purchase(&mut draft, record, block.index, block.time_ms)?),
        (Some(Body::Grant(record)), _) => drop(grant(&mut draft, record, block.index, block.time_ms)?),
        (Some(Body::Claim(record)), _) => drop(claim(&mut draft, record, block.index)?),
        (Some(Body::Epoch(record)), _) => epoch(&mut draft, record, block.time_ms)?,
        (Some(Body::Song(_) | Body::Variant(_) | Body::Council(_)) | None, None) => {}
    }
    Ok(draft.finish())
}

/// Number, time and the sums over everything.
fn sums<V: TokenView + ?Sized>(draft: &mut Draft<'_, V>, epoch: &Epoch, time_ms: u64) -> Result<(), Refusal> {
    let (economy, supply) = (draft.tokens.economy(), draft.tokens.supply());
    let totals = &mut draft.tokens.totals;
    if epoch.number != totals.epoch.saturating_add(1) {
        return Err(Refusal::Epoch("it is not the next one"));
    }
    let due = totals.epoch_ms.saturating_add(economy.epoch_ms.into());
    if time_ms < due && !totals.epoch_full {
        return Err(Refusal::Epoch("it comes too early"));
    }
    if supply.checked_add(epoch.minted).is_none_or(|after| after > economy.cap_units) && epoch.minted > 0 {
        return Err(Refusal::Epoch("it mints past the cap"));
    }
    totals.minted = totals.minted.checked_add(epoch.minted).ok_or(Refusal::Overflow)?;
    totals.burned = totals.burned.checked_add(epoch.burned).ok_or(Refusal::Overflow)?;
    totals.epoch = epoch.number;
    totals.epoch_ms = time_ms;
    // One that was cut short always is so large: what was left need not wait.
    totals.epoch_full = epoch.receipts as usize > limits::EPOCH_RECEIPTS / 2
        || epoch.encoded_len() > super::settle::FULL_BYTES;
    Ok(())
}

/// Whether somebody may hear a song at a time; why not, in words.
pub(crate) fn may_hear(
    song: &Song,
    right: &RightState,
    listener: &PublicKey,
    time_ms: u64,
) -> Result<(), String> {
    let (kind, price) = song.asks();
    let party = song.artist_key == listener.0 || song.splits.iter().any(|split| split.key == listener.0);
    if kind == TermsKind::Open || party || right.until_ms > time_ms {
        return Ok(());
    }
    let price = format!("{}.{:08}", price / TOKEN, price % TOKEN);
    Err(match kind {
        TermsKind::PayPerPlay => {
            format!("each play costs {price} tokens; `antiphon wallet buy` pays for one")
        }
        TermsKind::Purchase => format!("it costs {price} tokens; `antiphon wallet buy` pays for it"),
        _ if right.until_ms > 0 => "the artist's grant has expired".to_owned(),
        _ => "its artist grants it to whoever may hear it".to_owned(),
    })
}
