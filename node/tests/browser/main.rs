//! The pages in a real browser: Chromium, driven through chromedriver (W3C WebDriver), and real peers with real music.
//!
//! Needs Debian's `chromium`, `chromium-driver` and `wesnoth-1.16-music`, and npm for the one package (axe-core) that looks
//! for what keeps people out. Everything stays on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

mod access;
mod axe;
#[path = "../common/mod.rs"]
mod common;
mod driver;
mod first;
mod ledger;
mod listening;
mod live;
mod own;
mod pictures;
mod plain;
mod queue;
mod scene;
