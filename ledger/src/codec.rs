//! How values of the index are written: one version byte, then bincode 2 with variable-length integers.
//!
//! Everything in the index is derived from the segments, so its migration chain has one link: a value of another
//! version is not read, and the index is built again.

use bincode::{
    Decode, Encode,
    config::{Configuration, Limit, LittleEndian, Varint},
};

/// Longest value: a mark with the largest seal. Nothing longer is allocated for, whatever a damaged value says.
const LIMIT: usize = 64 * 1024;

const CONFIG: Configuration<LittleEndian, Varint, Limit<LIMIT>> =
    bincode::config::standard().with_limit::<LIMIT>();

/// A value that can be stored, with the version of its form. A changed form needs a new version and new golden bytes.
pub(crate) trait Stored: Encode + Decode<()> {
    /// First byte of the value.
    const VERSION: u8;
    /// What it is, for errors.
    const NAME: &'static str;
}

/// Stored bytes that are not a value of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {what}")]
pub(crate) struct CodecError {
    name: &'static str,
    what: String,
}

/// The bytes of a value.
pub(crate) fn encode<T: Stored>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut out = vec![T::VERSION];
    bincode::encode_into_std_write(value, &mut out, CONFIG)
        .map_err(|error| CodecError { name: T::NAME, what: error.to_string() })?;
    Ok(out)
}

/// Reads a value; every byte must belong to it.
pub(crate) fn decode<T: Stored>(bytes: &[u8]) -> Result<T, CodecError> {
    let bad = |what: String| CodecError { name: T::NAME, what };
    match bytes.split_first() {
        Some((version, rest)) if *version == T::VERSION => {
            let (value, used) =
                bincode::decode_from_slice(rest, CONFIG).map_err(|error| bad(error.to_string()))?;
            if used == rest.len() { Ok(value) } else { Err(bad("bytes follow the value".to_owned())) }
        }
        Some((version, _)) => Err(bad(format!("version {version} is not {}", T::VERSION))),
        None => Err(bad("empty".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Encode, Decode)]
    struct Sample {
        number: u64,
        bytes: Vec<u8>,
    }

    impl Stored for Sample {
        const VERSION: u8 = 3;
        const NAME: &'static str = "sample";
    }

    #[test]
    fn golden() {
        let sample = Sample { number: 300, bytes: vec![1, 2] };
        let bytes = encode(&sample).unwrap();
        assert_eq!(bytes, [3, 251, 44, 1, 2, 1, 2]);
        assert_eq!(decode::<Sample>(&bytes), Ok(sample));
    }

    #[test]
    fn other_versions_and_lengths_are_refused() {
        assert!(decode::<Sample>(&[]).is_err());
        assert!(decode::<Sample>(&[2, 0, 0]).is_err());
        assert!(decode::<Sample>(&[3, 0, 0, 0]).is_err());
        // A length far beyond the limit must not be allocated for.
        assert!(decode::<Sample>(&[3, 0, 253, 255, 255, 255, 255, 255, 255, 255, 127]).is_err());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode::<Sample>(&bytes);
        }
    }
}
