//! Small readers for what the decoding libraries do not tell: kinds of files, exact lengths, encoder delays,
//! protection, ASF tags. Each is total on any bytes and reads a bounded part of a file.

pub(crate) mod adts;
pub mod asf;
pub(crate) mod mkv;
pub(crate) mod mp3;
pub(crate) mod mp4;
pub(crate) mod ogg;
pub mod sniff;
