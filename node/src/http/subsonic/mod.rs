//! OpenSubsonic, which the apps that people have speak: its words, and in [`answer`] its methods.
//!
//! The words are what a request says and how an answer is written; they have no I/O and no clock.
//!
//! A request is [`params::Params`], of which [`login::Login`] and [`response::Format`] are read first. An answer is a
//! [`bodies::Body`] or an [`error::SubsonicError`]; [`response::render`] writes either as XML, JSON or JSONP. All three
//! forms come from one [`tree::Node`], so that none of them can lack what another has.

pub(in crate::http) mod answer;
pub mod bodies;
pub mod date;
pub mod error;
mod json;
pub mod login;
pub mod params;
pub mod response;
pub mod tree;
mod xml;

#[cfg(test)]
mod tests;
