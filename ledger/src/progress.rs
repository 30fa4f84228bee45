//! How far something long is.

/// What takes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The index is built from the segments; counted in bytes.
    Index,
    /// The near-duplicate rule is fed; counted in blocks.
    Rule,
    /// The ledger or a dump is verified; counted in blocks.
    Verify,
    /// A dump is written; counted in blocks.
    Dump,
    /// A dump is appended to a ledger; counted in blocks.
    Load,
}

/// How far it is. `done` reaches about `total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Done so far, in the stage's unit.
    pub done: u64,
    /// All of it.
    pub total: u64,
}
