//! Random bytes of the system.

use anyhow::Context as _;
use rand::TryRng as _;

/// So many of them.
///
/// # Errors
/// When the system gives none.
pub fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    rand::rngs::SysRng.try_fill_bytes(&mut bytes).context("the system gives no randomness")?;
    Ok(bytes)
}
