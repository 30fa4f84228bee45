//! What several tests use.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test uses some of it")]

mod ledgers;
pub mod logs;
mod songs;

#[allow(unused_imports, reason = "each test uses some of it")]
pub use self::{ledgers::*, songs::*};
