//! Paths as text that loses nothing: the bytes in hexadecimal, since a path need not be UTF-8.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use data_encoding::HEXLOWER;

/// The text of a path.
#[must_use]
pub fn encode(path: &Path) -> String {
    HEXLOWER.encode(path.as_os_str().as_bytes())
}

/// The path of a text.
///
/// # Errors
/// When it is not hexadecimal.
pub fn decode(hex: &str) -> anyhow::Result<PathBuf> {
    let bytes = HEXLOWER.decode(hex.as_bytes()).context("a path is not in hexadecimal digits")?;
    Ok(PathBuf::from(OsString::from_vec(bytes)))
}
