//! Accounts, escrows, rights and plays: what the ledger's records do to them. Pure and deterministic; integers only.
//!
//! The state is a set of entries ([`StateKey`] to a message of `state.proto`) and totals. A record is applied to a
//! [`Draft`], which is thrown away when a rule refuses it and becomes part of the batch's [`Pending`] when none does. The
//! digest of the state is kept up to date entry by entry.

mod book;
mod key;
mod rules;
mod settle;

#[cfg(test)]
mod tests;

pub(crate) use self::{
    book::{Changes, Draft, Pending, StoredTokens},
    rules::{act, claim, epoch, grant, may_hear, purchase, replay, transfer},
    settle::{judge, settle},
};
pub use self::{
    book::{TokenView, Tokens},
    key::StateKey,
    settle::{Earlier, NoEarlier, Settlement, Unsettled},
};
