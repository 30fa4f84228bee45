//! The own account.

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::json;

use super::{
    Answer, Shared, ask,
    extract::{Asked, PageQuery, Sent},
};
use crate::{http::problem::Problem, ops::Request, token_ops::record::Wanted, tokens};

/// What is in the own account.
#[utoipa::path(get, path = "/api/v1/wallet", tag = "wallet", responses((status = 200, description = "As `antiphon wallet balance --json`"), (status = 404, body = Problem)))]
pub(super) async fn balance(State(app): Shared) -> Answer {
    ask(&app, Request::WalletBalance { key: None }).await
}

/// What has changed the own account, the newest first.
#[utoipa::path(get, path = "/api/v1/wallet/history", tag = "wallet", params(PageQuery), responses((status = 200, description = "As `antiphon wallet history --json`")))]
pub(super) async fn history(State(app): Shared, Asked(page): Asked<PageQuery>) -> Answer {
    let limit = u16::try_from(page.limit()?).unwrap_or(u16::MAX);
    ask(&app, Request::WalletHistory { limit }).await
}

/// Tokens for somebody.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct Transfer {
    /// Public key of whom they go to.
    to: String,
    /// How many, as a decimal number.
    tokens: String,
    /// For people; at most 128 bytes.
    #[serde(default)]
    memo: String,
    /// `true` when whoever sends has seen what is sent and to whom. Without it, nothing is sent: the answer says what would
    /// be.
    #[serde(default)]
    confirm: bool,
}

/// Sends tokens. Without `confirm`, says what would be sent.
#[utoipa::path(post, path = "/api/v1/wallet/send", tag = "wallet", request_body = Transfer, responses((status = 200, description = "What was done, or would be"), (status = 400, body = Problem), (status = 423, body = Problem)))]
pub(super) async fn send(State(app): Shared, Sent(transfer): Sent<Transfer>) -> Answer {
    let units = tokens::parse(&transfer.tokens).map_err(|why| Problem::bad(format!("tokens: {why}")))?;
    let to = crate::token_ops::key(&transfer.to)?;
    if !transfer.confirm {
        let own = ask(&app, Request::WalletBalance { key: None }).await?.0;
        let there = own["units"].as_u64().unwrap_or(0);
        return Ok(Json(json!({
            "confirmed": false, "to": to.to_string(), "units": units, "tokens": tokens::format(units),
            "memo": transfer.memo, "balance_units": there, "enough": there >= units,
        })));
    }
    let wanted = Wanted::Send { to: to.to_string(), units, memo: transfer.memo };
    ask(&app, Request::WalletRecord { wanted }).await
}

/// A song to be bought.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct Purchase {
    /// Id of the song.
    song: String,
    /// The price that the buyer was told, in units: nothing is paid when it is another by now.
    price_units: u64,
}

/// Buys the right to hear a song.
#[utoipa::path(post, path = "/api/v1/wallet/buy", tag = "wallet", request_body = Purchase, responses((status = 200, description = "What was done"), (status = 404, body = Problem)))]
pub(super) async fn buy(State(app): Shared, Sent(purchase): Sent<Purchase>) -> Answer {
    let index = super::player::song_index(&purchase.song)?;
    let wanted = Wanted::Buy { song: format!("#{index}"), price: Some(purchase.price_units) };
    ask(&app, Request::WalletRecord { wanted }).await
}
