//! The bytes of `seals/<N>`: the proofs of the batches that end inside one entry bundle.
//!
//! Magic `ANTPHSLS` (8 bytes), version = 1 (u32), then for each batch, ascending: the ledger's size after it (u64),
//! length of the seal (u32), the seal. Numbers are big-endian, as in entry bundles. A batch may be longer than a
//! bundle, so that a file may hold none.

use antiphon_proto::limits;

use crate::log::tile::TILE_WIDTH;

const MAGIC: &[u8; 8] = b"ANTPHSLS";
const VERSION: u32 = 1;

/// Bytes of the longest file: every block of the bundle ends a batch.
pub const SEALS_BYTES: usize = 12 + 256 * (12 + limits::SEAL_BYTES);

/// Size of the ledger after a batch, and its seal.
pub type Seal = (u64, Vec<u8>);

/// Bytes that are not the seals of this bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SealsError(pub &'static str);

/// The bytes of a file.
#[must_use]
pub fn encode(seals: &[Seal]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_be_bytes());
    for (end, seal) in seals {
        out.extend_from_slice(&end.to_be_bytes());
        // A seal is never longer than limits::SEAL_BYTES.
        out.extend_from_slice(&u32::try_from(seal.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(seal);
    }
    out
}

/// Reads the file of the bundle `index` that is `width` wide.
///
/// # Errors
/// [`SealsError`].
pub fn parse(bytes: &[u8], index: u64, width: u16) -> Result<Vec<Seal>, SealsError> {
    let bad = |what| Err(SealsError(what));
    let Some((head, mut rest)) = bytes.split_first_chunk::<12>() else { return bad("it is too short") };
    if head[..8] != MAGIC[..] {
        return bad("it does not begin as a file of seals");
    }
    if head[8..] != VERSION.to_be_bytes() {
        return bad("its version is not known: a newer antiphon is needed");
    }
    let mut before = index.saturating_mul(TILE_WIDTH);
    let last = before.saturating_add(width.into());
    let mut seals = Vec::new();
    while !rest.is_empty() {
        let Some((end, more)) = rest.split_first_chunk::<8>() else { return bad("it ends inside a seal") };
        let Some((length, more)) = more.split_first_chunk::<4>() else { return bad("it ends inside a seal") };
        let end = u64::from_be_bytes(*end);
        if end <= before || end > last {
            return bad("a batch ends outside the bundle, or before the one before it");
        }
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > limits::SEAL_BYTES {
            return bad("a seal is longer than any may be");
        }
        let Some((seal, more)) = more.split_at_checked(length) else { return bad("it ends inside a seal") };
        seals.push((end, seal.to_vec()));
        (before, rest) = (end, more);
    }
    Ok(seals)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden() {
        let bytes = encode(&[(257, vec![7, 8]), (512, vec![])]);
        let mut golden = b"ANTPHSLS\0\0\0\x01".to_vec();
        golden.extend([0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 2, 7, 8]);
        golden.extend([0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0]);
        assert_eq!(bytes, golden);
        assert_eq!(parse(&bytes, 1, 256), Ok(vec![(257, vec![7, 8]), (512, vec![])]));
        assert_eq!(encode(&[]).len(), 12);
    }

    #[test]
    fn only_the_bundles_own_batches_in_order() {
        let parse_ends = |ends: &[u64], width| {
            let seals: Vec<Seal> = ends.iter().map(|end| (*end, vec![1])).collect();
            parse(&encode(&seals), 1, width)
        };
        assert!(parse_ends(&[257, 300, 512], 256).is_ok());
        for bad in [&[256][..], &[513], &[300, 300], &[300, 299]] {
            assert!(parse_ends(bad, 256).is_err());
        }
        assert!(parse_ends(&[300], 44).is_ok());
        assert!(parse_ends(&[300], 43).is_err());
        let good = encode(&[(300, vec![1; 10])]);
        for length in 0..good.len() {
            assert_eq!(parse(&good[..length], 1, 256).is_ok(), length == 12);
        }
        let mut newer = good;
        newer[11] = 2;
        assert!(parse(&newer, 1, 256).is_err());
        assert!(parse(&encode(&[(300, vec![0; limits::SEAL_BYTES + 1])]), 1, 256).is_err());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60), index: u64, width: u16) {
            let _ = parse(&[&encode(&[])[..], &bytes].concat(), index, width);
        }
    }
}
