//! Small readers for what the decoding libraries do not tell: kinds of files, exact lengths, encoder delays,
//! protection, ASF tags. Each is total on any bytes and reads a bounded part of a file.

pub(crate) mod adts;
mod ape;
pub mod asf;
mod asf_end;
mod flac;
pub(crate) mod mkv;
pub(crate) mod mp3;
pub(crate) mod mp4;
mod mp4_end;
pub(crate) mod ogg;
mod riff;
pub mod sniff;
pub(crate) mod whole;
