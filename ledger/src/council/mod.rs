//! The council: members that agree on the order of the ledger.

mod engine;
