//! What commands ask about tokens: balances, what a song has brought, what has changed an account. Records that move
//! tokens or rights are in [`record`].

pub(crate) mod history;
pub mod record;

use std::fmt;

use antiphon_ledger::{Ledger, tokens::StateKey};
use antiphon_proto::{
    PublicKey, canonical,
    epoch::Escrow,
    limits,
    tokens::artist_name,
    wire::{Economy, RightState, Song},
};
use serde::{Deserialize, Serialize};

pub(crate) use self::history::history;
pub use self::history::{History, HistoryLine};
use crate::{
    export::json::terms_kind,
    failure::{Failure, Kind},
    peer::{
        Peer,
        select::{self, name},
    },
    system::clock,
    tokens,
};

/// Rights to a song that are listed at most.
const RIGHTS: usize = 100;

/// What plays are worth.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EconomyLine {
    /// Supply up to which nothing is burned.
    pub floor_units: u64,
    /// The same in tokens.
    pub floor_tokens: String,
    /// Supply beyond which nothing is minted.
    pub cap_units: u64,
    /// The same in tokens.
    pub cap_tokens: String,
    /// Plays of a song up to which its listeners are discoverers.
    pub threshold_plays: u32,
    /// Share of a song that must be heard for a play, in hundredths of a percent.
    pub coverage_basis_points: u32,
    /// From one heartbeat of a play to the next.
    pub heartbeat_ms: u32,
    /// From one settlement to the next.
    pub epoch_ms: u32,
    /// How long after its end a play may be settled.
    pub window_ms: u32,
}

impl EconomyLine {
    /// The line of an economy.
    #[must_use]
    pub fn of(economy: &Economy) -> Self {
        Self {
            floor_units: economy.floor_units,
            floor_tokens: tokens::format(economy.floor_units),
            cap_units: economy.cap_units,
            cap_tokens: tokens::format(economy.cap_units),
            threshold_plays: economy.threshold_plays,
            coverage_basis_points: economy.coverage_basis_points,
            heartbeat_ms: economy.heartbeat_ms,
            epoch_ms: economy.epoch_ms,
            window_ms: economy.window_ms,
        }
    }
}

impl fmt::Display for EconomyLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "floor {}, cap {} tokens, threshold {} plays, coverage {} basis points, heartbeat {} ms, epoch {} ms, window {} \
             ms",
            self.floor_tokens,
            self.cap_tokens,
            self.threshold_plays,
            self.coverage_basis_points,
            self.heartbeat_ms,
            self.epoch_ms,
            self.window_ms
        )
    }
}

/// `antiphon wallet balance --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// Version of this form.
    pub schema: u32,
    /// Whose account it is.
    pub key: String,
    /// What is in it.
    pub units: u64,
    /// The same in tokens.
    pub tokens: String,
    /// Of the account's last record, 0 when there is none.
    pub sequence: u64,
    /// What waits in the key's escrow.
    pub escrow_units: u64,
    /// The same in tokens.
    pub escrow_tokens: String,
    /// All units that exist.
    pub supply_units: u64,
    /// All units that came into being.
    pub minted_units: u64,
    /// All units that were burned.
    pub burned_units: u64,
    /// Supply up to which nothing is burned.
    pub floor_units: u64,
    /// Supply beyond which nothing is minted.
    pub cap_units: u64,
}

impl Balance {
    /// Of an account, now.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn of(ledger: &Ledger, key: &PublicKey) -> anyhow::Result<Self> {
        let (account, sums) = (ledger.account(key)?, ledger.tokens());
        let (economy, escrow_units) = (sums.economy(), ledger.escrow(&Escrow::Key(*key))?);
        Ok(Self {
            schema: 1,
            key: key.to_string(),
            units: account.units,
            tokens: tokens::format(account.units),
            sequence: account.sequence,
            escrow_units,
            escrow_tokens: tokens::format(escrow_units),
            supply_units: sums.supply(),
            minted_units: sums.totals.minted,
            burned_units: sums.totals.burned,
            floor_units: economy.floor_units,
            cap_units: economy.cap_units,
        })
    }
}

/// `antiphon ledger song --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SongReport {
    /// Version of this form.
    pub schema: u32,
    /// Ledger index of its block.
    pub index: u64,
    /// Song id.
    pub id: String,
    /// Title.
    pub title: String,
    /// Artist.
    pub artist: String,
    /// Plays that were settled.
    pub plays: u64,
    /// `discovery` or `paid`.
    pub tier: String,
    /// Plays up to which it is being discovered.
    pub threshold_plays: u32,
    /// Units that came into being for its plays.
    pub minted_units: u64,
    /// Units that were burned to hear it.
    pub burned_units: u64,
    /// Units that were paid for it.
    pub paid_units: u64,
    /// What a play burns now.
    pub burn_units: u64,
    /// What a listener owes.
    pub terms: TermsLine,
    /// What waits for its artist.
    pub escrow: EscrowLine,
    /// Who shares what the artist gets.
    pub splits: Vec<SplitLine>,
    /// Whether its plays do not count, by a ruling of the council.
    pub withheld: bool,
    /// Who has the right to hear it by a purchase or a grant, up to 100.
    pub rights: Vec<RightLine>,
    /// Why the wallet of this peer may not hear it; none when it may, or when there is no wallet.
    pub why_not: Option<String>,
}

/// What a listener owes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermsLine {
    /// `open`, `pay_per_play`, `purchase` or `grant`.
    pub kind: String,
    /// The price.
    pub price_units: u64,
    /// The same in tokens.
    pub price_tokens: String,
}

/// What waits for an artist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EscrowLine {
    /// Key of an artist who has registered.
    pub key: Option<String>,
    /// Normalised name of one who has not.
    pub name: Option<String>,
    /// Key that the council has given the name to.
    pub owner: Option<String>,
    /// What waits.
    pub units: u64,
    /// The same in tokens.
    pub tokens: String,
}

/// A payee.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitLine {
    /// Key.
    pub key: String,
    /// Hundredths of a percent.
    pub basis_points: u32,
}

/// A right to hear a song.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RightLine {
    /// Whose.
    pub key: String,
    /// When it ends; none: never.
    pub until_ms: Option<u64>,
    /// Ledger index of the purchase or grant.
    pub index: u64,
}

impl SongReport {
    fn of(ledger: &Ledger, index: u64, song: &Song, wallet: Option<&PublicKey>) -> anyhow::Result<Self> {
        let (state, economy) = (ledger.song_state(index)?, ledger.economy());
        let discovery = state.plays < economy.threshold_plays.into();
        let (kind, price) = song.asks();
        let why_not = match wallet {
            Some(wallet) => ledger.may_hear(index, song, wallet, clock::now_ms())?.err(),
            None => None,
        };
        Ok(Self {
            schema: 1,
            index,
            id: song.id().to_string(),
            title: song.title.clone(),
            artist: song.artist.clone(),
            plays: state.plays,
            tier: if discovery { "discovery" } else { "paid" }.to_owned(),
            threshold_plays: economy.threshold_plays,
            minted_units: state.minted,
            burned_units: state.burned,
            paid_units: state.paid,
            burn_units: ledger.burn_for(index)?,
            terms: TermsLine {
                kind: terms_kind(kind.into()).to_owned(),
                price_units: price,
                price_tokens: tokens::format(price),
            },
            escrow: escrow(ledger, song)?,
            splits: song
                .splits
                .iter()
                .filter_map(|split| {
                    let key = PublicKey::try_from(&split.key[..]).ok()?.to_string();
                    Some(SplitLine { key, basis_points: split.basis_points })
                })
                .collect(),
            withheld: state.withheld,
            rights: rights(ledger, index)?,
            why_not,
        })
    }

    /// Artist and title.
    #[must_use]
    pub fn name(&self) -> String {
        name(&self.artist, &self.title)
    }
}

fn escrow(ledger: &Ledger, song: &Song) -> anyhow::Result<EscrowLine> {
    if let Ok(key) = PublicKey::try_from(&song.artist_key[..]) {
        let units = ledger.escrow(&Escrow::Key(key))?;
        let key = Some(key.to_string());
        return Ok(EscrowLine { key, name: None, owner: None, units, tokens: tokens::format(units) });
    }
    let artist = artist_name(&song.artist);
    let owner = PublicKey::try_from(&ledger.artist(&artist)?.owner[..]).ok().map(|key| key.to_string());
    let units = ledger.escrow(&Escrow::Name(artist.clone()))?;
    Ok(EscrowLine { key: None, name: Some(artist), owner, units, tokens: tokens::format(units) })
}

fn rights(ledger: &Ledger, index: u64) -> anyhow::Result<Vec<RightLine>> {
    let mut prefix = StateKey::Right(index, PublicKey([0; 32])).to_bytes();
    prefix.truncate(prefix.len().saturating_sub(32));
    let mut lines = Vec::new();
    for (key, bytes) in ledger.states(&prefix, None, RIGHTS)? {
        let StateKey::Right(_, holder) = key else { continue };
        let right: RightState = canonical::decode_lenient("right", limits::CONTROL_MESSAGE_BYTES, &bytes)?;
        lines.push(RightLine {
            key: holder.to_string(),
            until_ms: (right.until_ms != u64::MAX).then_some(right.until_ms),
            index: right.index,
        });
    }
    Ok(lines)
}

/// A key that somebody has typed.
pub(crate) fn key(text: &str) -> Result<PublicKey, Failure> {
    text.parse().map_err(|error| Failure::new(Kind::Usage, format!("{text:?} is not a public key: {error}")))
}

fn wallet_key(peer: &Peer) -> Result<PublicKey, Failure> {
    let none = || Failure::new(Kind::NotFound, "there is no wallet here yet; name a key");
    peer.wallet.as_ref().map(crate::wallet::Wallet::public).ok_or_else(none)
}

/// `antiphon wallet balance`.
pub(crate) async fn balance(peer: &Peer, named: Option<&str>) -> anyhow::Result<Balance> {
    let key = named.map_or_else(|| wallet_key(peer), key)?;
    let ledger = peer.ledger.clone();
    tokio::task::spawn_blocking(move || Balance::of(&ledger, &key)).await?
}

/// `antiphon ledger song`.
pub(crate) async fn song(peer: &Peer, what: String) -> anyhow::Result<SongReport> {
    let (ledger, search) = (peer.ledger.clone(), peer.search.clone());
    let wallet = peer.wallet.as_ref().map(crate::wallet::Wallet::public);
    tokio::task::spawn_blocking(move || {
        let found = select::select(&ledger, &search, &what)?;
        SongReport::of(&ledger, found.index, &found.song, wallet.as_ref())
    })
    .await?
}
