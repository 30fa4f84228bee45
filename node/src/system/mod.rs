//! What the operating system gives: the data directory and its lock, key files, durable small files, clock, numbers.

pub mod clock;
pub mod datadir;
pub mod durable;
pub mod keyfile;
pub mod pathhex;
pub mod random;
pub mod redb_errors;
pub mod sample;
