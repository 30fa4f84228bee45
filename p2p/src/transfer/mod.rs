//! Moving audio: Bao streams, outboards and resumable downloads.

pub mod decode;
mod disk;
pub(crate) mod download;
pub(crate) mod encode;
pub(crate) mod fetch;
pub mod groups;
pub mod outboard;
pub mod partial;
pub(crate) mod schedule;
pub(crate) mod tree;

#[cfg(test)]
mod tests;
