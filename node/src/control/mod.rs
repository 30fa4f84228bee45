//! How commands reach the running peer: JSON lines over a Unix socket that only its owner can open.
//!
//! A client writes one line, `{"schema": 1, "request": {…}}`. The peer writes any number of `{"progress": …}`, where music is
//! played any number of `{"bytes": N}`, each followed by N raw bytes, and then one `{"result": …}` or `{"failure": {"kind", "message"}}`. A client that hangs up ends its request.

pub mod client;
pub mod server;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{failure::Failure, ops::Request};

/// Version of this language.
pub const SCHEMA: u32 = 1;
/// Longest line of a client: a scan names folders, no more.
pub const REQUEST_BYTES: usize = 256 * 1024;
/// Most bytes that follow one line.
pub const PIECE_BYTES: u32 = 1024 * 1024;
/// Longest line of a peer: a scan report lists 20,000 files at most.
pub const ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// A client's line.
#[derive(Debug, Serialize, Deserialize)]
pub struct Call {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What is wanted.
    pub request: Request,
}

/// A peer's line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// Still at it.
    Progress(Value),
    /// So many raw bytes of music follow the line.
    Bytes(u32),
    /// Done.
    Result(Value),
    /// Not done.
    Failure(Failure),
}
