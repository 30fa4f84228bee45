//! What there is to hear, as apps and pages list it.

pub mod id;
pub mod shelf;
pub mod song;
