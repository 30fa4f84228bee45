//! The own account: what is in it, what has changed it, and sending.

use askama::Template;
use axum::{
    Form,
    extract::{Path, Query, State},
};
use serde::Deserialize;

use super::{Answer, Page as Shown, Shared, see, views};
use crate::{
    http::{
        api::{ask, player::song_index},
        problem::Problem,
    },
    ops::{self, Request},
    token_ops::{self, History, HistoryLine, record::Wanted},
    tokens,
};

/// Entries of the history.
const ENTRIES: u16 = 50;

/// A line of the history.
struct Line {
    when: String,
    kind: String,
    about: String,
    with: String,
    amount: String,
    incoming: bool,
}

#[derive(Template)]
#[template(path = "wallet.html")]
struct WalletMain {
    /// Nothing: there is no wallet.
    key: Option<String>,
    balance: String,
    escrow: Option<String>,
    lines: Vec<Line>,
    complete: bool,
    locked: bool,
    done: Option<u64>,
}

/// What was just done.
#[derive(Debug, Deserialize)]
pub(super) struct Done {
    done: Option<u64>,
}

/// The account.
pub(super) async fn wallet(State(app): Shared, Query(done): Query<Done>) -> Answer {
    let mut main = WalletMain {
        key: None,
        balance: String::new(),
        escrow: None,
        lines: Vec::new(),
        complete: true,
        locked: app.peer.signer().is_err(),
        done: done.done,
    };
    if app.peer.wallet.is_some() {
        let balance = token_ops::balance(&app.peer, None).await?;
        let history: History = ops::read(ask(&app, Request::WalletHistory { limit: ENTRIES }).await?.0)?;
        main.balance = tokens::words(balance.units);
        main.escrow = (balance.escrow_units > 0).then(|| tokens::words(balance.escrow_units));
        main.key = Some(balance.key);
        main.complete = history.complete;
        main.lines = history.entries.into_iter().map(Line::of).collect();
    }
    Shown::show("Wallet", "wallet", &main)
}

impl Line {
    fn of(line: HistoryLine) -> Self {
        let (amount, incoming) = match (line.in_units, line.out_units) {
            (Some(units), _) => (format!("+{}", tokens::format(units)), true),
            (None, Some(units)) => (format!("−{}", tokens::format(units)), false),
            (None, None) => (String::new(), false),
        };
        Self {
            when: views::when(line.time_ms),
            kind: line.kind.replace('_', " "),
            about: line.about,
            with: line.with.unwrap_or_default(),
            amount,
            incoming,
        }
    }
}

/// Tokens for somebody.
#[derive(Debug, Deserialize)]
pub(super) struct Transfer {
    to: String,
    tokens: String,
    #[serde(default)]
    memo: String,
    confirm: Option<String>,
}

#[derive(Template)]
#[template(path = "confirm.html")]
struct ConfirmMain {
    to: String,
    tokens: String,
    words: String,
    memo: String,
    balance: String,
    enough: bool,
}

/// Shows what would be sent; sends it once that was seen.
pub(super) async fn send(State(app): Shared, Form(transfer): Form<Transfer>) -> Answer {
    let units = tokens::parse(transfer.tokens.trim()).map_err(|why| Problem::bad(why.to_string()))?;
    let to = token_ops::key(transfer.to.trim())?.to_string();
    if units == 0 {
        return Err(Problem::bad("Nothing would be sent: say how many tokens.").into());
    }
    if transfer.confirm.as_deref() != Some("yes") {
        let own = token_ops::balance(&app.peer, None).await?;
        let main = ConfirmMain {
            to,
            tokens: tokens::format(units),
            words: tokens::words(units),
            memo: transfer.memo,
            balance: tokens::words(own.units),
            enough: own.units >= units,
        };
        return Shown::show("Confirm", "wallet", &main);
    }
    let wanted = Wanted::Send { to, units, memo: transfer.memo };
    let done = ask(&app, Request::WalletRecord { wanted }).await?.0;
    Ok(see(&format!("/wallet?done={}", done["index"].as_u64().unwrap_or_default())))
}

/// The price that the buyer saw.
#[derive(Debug, Deserialize)]
pub(super) struct Price {
    price_units: u64,
    confirm: Option<String>,
}

#[derive(Template)]
#[template(path = "buy.html")]
struct BuyMain {
    id: String,
    title: String,
    price_units: u64,
    words: String,
    balance: String,
    enough: bool,
}

/// Shows what a song costs; buys it once that was seen.
pub(super) async fn buy(State(app): Shared, Path(id): Path<String>, Form(price): Form<Price>) -> Answer {
    let index = song_index(&id)?;
    if price.confirm.as_deref() != Some("yes") {
        let own = token_ops::balance(&app.peer, None).await?;
        let track = views::Both::of(&app).track(index);
        let main = BuyMain {
            id,
            title: track.map_or_else(|| format!("song {index}"), |track| track.title),
            price_units: price.price_units,
            words: tokens::words(price.price_units),
            balance: tokens::words(own.units),
            enough: own.units >= price.price_units,
        };
        return Shown::show("Buy", "wallet", &main);
    }
    let wanted = Wanted::Buy { song: format!("#{index}"), price: Some(price.price_units) };
    drop(ask(&app, Request::WalletRecord { wanted }).await?);
    Ok(see(&format!("/song/{id}")))
}
