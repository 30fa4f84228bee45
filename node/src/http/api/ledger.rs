//! The ledger, for explorers.

use antiphon_ledger::Ledger;
use antiphon_proto::{
    BlockHash,
    wire::{Block, block::Body},
};
use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::{
    Answer, Shared, ask,
    extract::{Asked, Named, PageQuery},
};
use crate::{failure::Failure, http::problem::Problem, ops::Request, tokens};

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
            ("epoch", format!("settlement {} of {} plays", epoch.number, epoch.plays))
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
    let lines = tokio::task::spawn_blocking(move || lines(&ledger, end, limit)).await;
    let lines = lines.map_err(anyhow::Error::from)??;
    let next = end.saturating_sub(lines.len() as u64);
    Ok(Json(json!({ "size": size, "blocks": lines, "next": (next > 0).then(|| next.to_string()) })))
}

/// One block, all of it.
#[utoipa::path(get, path = "/api/v1/ledger/blocks/{which}", tag = "ledger", params(("which" = String, Path, description = "Index, song id, its beginning, or the content hash of a file")), responses((status = 200, description = "The block"), (status = 404, body = Problem)))]
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
    let rules = crate::token_ops::EconomyLine::of(&tokens.economy());
    json!({
        "supply_units": tokens.supply(), "minted_units": tokens.totals.minted,
        "burned_units": tokens.totals.burned, "epoch": tokens.totals.epoch,
        "epoch_ms": tokens.totals.epoch_ms, "rules": rules,
    })
}
