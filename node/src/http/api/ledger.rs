//! The ledger, for explorers.

use antiphon_ledger::Ledger;
use antiphon_proto::{
    BlockHash, PublicKey,
    epoch::Escrow,
    tokens::artist_name,
    wire::{Block, Song, block::Body},
};
use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::{
    Answer, Shared, ask, blocking,
    extract::{Asked, Named, PageQuery},
};
use crate::{
    explorer::songs_of,
    failure::Failure,
    http::{App, problem::Problem},
    ops::Request,
    token_ops::{self, HistoryLine, history::page_of_account},
    tokens,
};

/// Numbers of the ledger.
#[utoipa::path(get, path = "/api/v1/ledger", tag = "ledger", responses((status = 200, description = "As `antiphon ledger info --json`")))]
pub(super) async fn info(State(app): Shared) -> Answer {
    ask(&app, Request::LedgerInfo).await
}

/// A line about a block.
pub(in crate::http) fn line(block: &Block, bytes: &[u8]) -> Value {
    let (kind, about) = match &block.body {
        Some(Body::Song(song)) => ("song", crate::peer::select::name(&song.artist, &song.title)),
        Some(Body::Variant(variant)) => ("variant", format!("another encoding, {} bytes", variant.bytes)),
        Some(Body::Transfer(transfer)) => ("transfer", format!("{} tokens", tokens::format(transfer.amount))),
        Some(Body::Purchase(purchase)) => ("purchase", format!("{} tokens", tokens::format(purchase.price))),
        Some(Body::Grant(_)) => ("grant", "the right to hear a song".to_owned()),
        Some(Body::Claim(claim)) => ("claim", format!("to be the artist {:?}", claim.artist)),
        Some(Body::Council(_)) => ("council", "an act of the council".to_owned()),
        Some(Body::Epoch(epoch)) => {
            let plays = if epoch.plays == 1 { "play" } else { "plays" };
            ("epoch", format!("settlement {} of {} {plays}", epoch.number, epoch.plays))
        }
        None => ("empty", String::new()),
    };
    json!({
        "index": block.index, "height": block.height, "time_ms": block.time_ms, "kind": kind, "about": about,
        "bytes": bytes.len(), "hash": BlockHash::of(bytes).to_string(),
    })
}

/// Lines about the blocks below `end`, the newest first.
pub(in crate::http) fn lines(ledger: &Ledger, end: u64, limit: usize) -> Result<Vec<Value>, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::of(&anyhow::anyhow!("the ledger: {error}"));
    let mut lines = Vec::new();
    for index in (0..end).rev().take(limit) {
        let Some(bytes) = ledger.block(index).map_err(|error| failed(&error))? else { break };
        let block = Block::parse(&bytes).map_err(|error| failed(&error))?;
        lines.push(line(&block, &bytes));
    }
    Ok(lines)
}

/// Blocks, the newest first.
#[utoipa::path(get, path = "/api/v1/ledger/blocks", tag = "ledger", params(PageQuery), responses((status = 200, description = "Lines about blocks, and the cursor of the next page")))]
pub(super) async fn blocks(State(app): Shared, Asked(page): Asked<PageQuery>) -> Answer {
    let limit = page.limit()?;
    let ledger = app.peer.ledger.clone();
    let size = ledger.size();
    let end = match &page.cursor {
        None => size,
        Some(cursor) => {
            let end: u64 =
                cursor.parse().map_err(|_| Problem::bad("this cursor is not from a page before"))?;
            end.min(size)
        }
    };
    let lines = blocking(move || Ok(lines(&ledger, end, limit)?)).await?;
    let next = end.saturating_sub(lines.len() as u64);
    Ok(Json(json!({ "size": size, "blocks": lines, "next": (next > 0).then(|| next.to_string()) })))
}

/// One block, all of it.
#[utoipa::path(get, path = "/api/v1/ledger/blocks/{which}", tag = "ledger", params(("which" = String, Path, description = "Index, song id, its beginning, the content hash of a file, or the hash of a block")), responses((status = 200, description = "The block"), (status = 404, body = Problem)))]
pub(super) async fn block(State(app): Shared, Named(which): Named<String>) -> Answer {
    ask(&app, Request::LedgerShow { what: which }).await
}

/// A proof that a block is in the log, as C2SP tlog-proof.
#[utoipa::path(get, path = "/api/v1/ledger/blocks/{which}/proof", tag = "ledger", params(("which" = String, Path, description = "Index or song id")), responses((status = 200, description = "As `antiphon ledger proof --json`"), (status = 404, body = Problem)))]
pub(super) async fn proof(State(app): Shared, Named(which): Named<String>) -> Answer {
    ask(&app, Request::LedgerProof { what: which }).await
}

/// What a song has brought, and what it asks.
#[utoipa::path(get, path = "/api/v1/ledger/songs/{which}", tag = "ledger", params(("which" = String, Path, description = "Index or song id")), responses((status = 200, description = "As `antiphon ledger song --json`"), (status = 404, body = Problem)))]
pub(super) async fn song(State(app): Shared, Named(which): Named<String>) -> Answer {
    let what = if which.bytes().all(|byte| byte.is_ascii_digit()) { format!("#{which}") } else { which };
    ask(&app, Request::LedgerSong { what }).await
}

/// What is in an account.
#[utoipa::path(get, path = "/api/v1/ledger/accounts/{key}", tag = "ledger", params(("key" = String, Path, description = "Public key")), responses((status = 200, description = "As `antiphon wallet balance --json`"), (status = 400, body = Problem)))]
pub(super) async fn account(State(app): Shared, Named(key): Named<String>) -> Answer {
    ask(&app, Request::WalletBalance { key: Some(key) }).await
}

/// What has changed an account, the newest first. A page may be empty and still have a next one.
#[utoipa::path(get, path = "/api/v1/ledger/accounts/{key}/history", tag = "ledger", params(("key" = String, Path, description = "Public key"), PageQuery), responses((status = 200, description = "Entries, and the cursor of the next page"), (status = 400, body = Problem)))]
pub(super) async fn account_history(
    State(app): Shared,
    Named(key): Named<String>,
    Asked(page): Asked<PageQuery>,
) -> Answer {
    let (key, limit) = (token_ops::key(&key)?, page.limit()?);
    let below = page.below()?;
    let (entries, next) = blocking(move || history(&app, key, below, limit)).await?;
    Ok(Json(json!({ "entries": entries, "next": next.map(|next| next.to_string()) })))
}

/// The songs that name a key: who registered them, whose they are, who shares in them. The newest first.
#[utoipa::path(get, path = "/api/v1/ledger/accounts/{key}/songs", tag = "ledger", params(("key" = String, Path, description = "Public key"), PageQuery), responses((status = 200, description = "Lines about songs, and the cursor of the next page"), (status = 400, body = Problem)))]
pub(super) async fn account_songs(
    State(app): Shared,
    Named(key): Named<String>,
    Asked(page): Asked<PageQuery>,
) -> Answer {
    let (key, limit, below) = (token_ops::key(&key)?, page.limit()?, page.below()?);
    let found = blocking(move || Ok(songs_of(&app.explorer, &app.peer.ledger, &key, below, limit)?));
    let (songs, next) = found.await?;
    let songs: Vec<Value> = songs.iter().map(|(index, song)| song_line(*index, song)).collect();
    Ok(Json(json!({ "songs": songs, "next": next.map(|next| next.to_string()) })))
}

fn song_line(index: u64, song: &Song) -> Value {
    json!({
        "index": index, "id": song.id().to_string(), "title": song.title, "artist": song.artist,
        "album": song.album, "duration_ms": song.duration_ms,
    })
}

/// Songs of an artist that are counted.
const COUNTED: usize = 1_000;
/// Of these, songs in one answer.
const ARTIST_SONGS: usize = 100;

/// An artist, as the ledger knows one: by name.
pub(in crate::http) struct Artist {
    /// As most songs spell it; as it was asked for when no song has it.
    pub(in crate::http) name: String,
    /// As accounts and claims know it.
    pub(in crate::http) normalised: String,
    /// Key that the council has given the name to.
    pub(in crate::http) owner: Option<String>,
    /// Keys that claim it, and the blocks in which they do.
    pub(in crate::http) claims: Vec<(String, u64)>,
    /// What waits for it, in units.
    pub(in crate::http) escrow: u64,
    /// The first songs, by album, disc and track.
    pub(in crate::http) songs: Vec<(u64, Song)>,
    /// Songs, up to [`COUNTED`].
    pub(in crate::http) total: usize,
}

impl Artist {
    /// The artist of a name that somebody has typed. Blocks on the disk.
    pub(in crate::http) fn named(app: &App, name: &str) -> anyhow::Result<Self> {
        let ledger = &app.peer.ledger;
        let (name, found) = match app.peer.search.artist(name, COUNTED)? {
            Some(found) => (found.name, found.songs),
            None => (name.to_owned(), Vec::new()),
        };
        let normalised = artist_name(&name);
        let (state, escrow) =
            (ledger.artist(&normalised)?, ledger.escrow(&Escrow::Name(normalised.clone()))?);
        let key = |bytes: &[u8]| PublicKey::try_from(bytes).ok().map(|key| key.to_string());
        let mut songs = Vec::new();
        for index in found.iter().take(ARTIST_SONGS) {
            songs.extend(ledger.song(*index)?.map(|song| (*index, song)));
        }
        Ok(Self {
            name,
            normalised,
            owner: key(&state.owner),
            claims: state.claims.iter().filter_map(|claim| Some((key(&claim.key)?, claim.index))).collect(),
            escrow,
            songs,
            total: found.len(),
        })
    }
}

/// An artist by name: whose the name is, who claims it, what waits for it, and its first songs.
#[utoipa::path(get, path = "/api/v1/ledger/artists/{name}", tag = "ledger", params(("name" = String, Path, description = "Name, up to case, accents and punctuation")), responses((status = 200, description = "Owner, claims, escrow and songs")))]
pub(super) async fn artist(State(app): Shared, Named(name): Named<String>) -> Answer {
    let artist = blocking(move || Artist::named(&app, &name)).await?;
    let claims: Vec<Value> =
        artist.claims.iter().map(|(key, index)| json!({ "key": key, "index": index })).collect();
    let songs: Vec<Value> = artist.songs.iter().map(|(index, song)| song_line(*index, song)).collect();
    Ok(Json(json!({
        "name": artist.name, "normalised": artist.normalised, "owner": artist.owner, "claims": claims,
        "escrow_units": artist.escrow, "songs": songs, "songs_found": artist.total,
    })))
}

/// What has changed an account below a block, and where to go on.
pub(in crate::http) fn history(
    app: &App,
    key: PublicKey,
    below: u64,
    limit: usize,
) -> anyhow::Result<(Vec<HistoryLine>, Option<u64>)> {
    page_of_account(&app.peer.ledger, &app.explorer, key, below, limit)
}

/// Settlements, the newest first.
#[utoipa::path(get, path = "/api/v1/ledger/epochs", tag = "ledger", params(PageQuery), responses((status = 200, description = "Settlements, and the cursor of the next page")))]
pub(super) async fn epochs(State(app): Shared, Asked(page): Asked<PageQuery>) -> Answer {
    let (limit, below, explorer) = (page.limit()?, page.below()?, app.explorer.clone());
    let epochs = blocking(move || Ok(explorer.epochs(below, limit)?)).await?;
    let next = epochs.last().filter(|last| last.number > 1).map(|last| last.number.to_string());
    Ok(Json(json!({ "epochs": epochs, "next": next })))
}

/// Points of a chart at most.
const POINTS: usize = 300;

/// Supply, plays and burn over all settlements: some of them, evenly.
#[utoipa::path(get, path = "/api/v1/ledger/chart", tag = "ledger", responses((status = 200, description = "Settlements from the first to the last, at most 301")))]
pub(super) async fn chart(State(app): Shared) -> Answer {
    let explorer = app.explorer.clone();
    let points = blocking(move || Ok(explorer.chart(POINTS)?)).await?;
    Ok(Json(json!({ "points": points })))
}

/// The council, its members and what they vote on.
#[utoipa::path(get, path = "/api/v1/ledger/council", tag = "ledger", responses((status = 200, description = "As `antiphon council status --json`")))]
pub(super) async fn council(State(app): Shared) -> Answer {
    ask(&app, Request::CouncilStatus).await
}

/// Supply, what was minted and burned, and the rules by which that goes.
#[utoipa::path(get, path = "/api/v1/ledger/economy", tag = "ledger", responses((status = 200, description = "Sums and rules")))]
pub(super) async fn economy(State(app): Shared) -> Answer {
    Ok(Json(sums(&app.peer.ledger)))
}

/// Sums over the ledger's tokens.
pub(in crate::http) fn sums(ledger: &Ledger) -> Value {
    let tokens = ledger.tokens();
    let rules = token_ops::EconomyLine::of(&tokens.economy());
    json!({
        "supply_units": tokens.supply(), "minted_units": tokens.totals.minted,
        "burned_units": tokens.totals.burned, "epoch": tokens.totals.epoch,
        "epoch_ms": tokens.totals.epoch_ms, "rules": rules,
    })
}
