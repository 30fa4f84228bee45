//! The peer: settings, commands, the library of music files, and everything that ties ledger, network and
//! fingerprints together. The binary `antiphon` is a thin `main` over [`cli::run`].

pub mod cli;
pub mod config;
pub mod control;
pub mod council_ops;
pub mod explorer;
pub mod export;
pub mod failure;
pub mod genesis_file;
pub mod http;
pub mod keep;
pub mod ledger_ops;
pub mod library;
pub mod light;
pub mod listener;
pub mod mirror;
pub mod music;
pub mod ops;
pub mod peer;
pub mod peer_ops;
pub mod royalty;
pub mod rule;
pub mod search;
pub mod search_ops;
pub mod serve_log;
pub mod stream;
pub mod system;
pub mod token_ops;
pub mod tokens;
pub mod wallet;
pub mod web_ops;
