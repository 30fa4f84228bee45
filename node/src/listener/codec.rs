//! How records are written: a version, then bincode.

use bincode::{Decode, Encode};

use super::error::Fault;

/// Version of every record.
const VERSION: u8 = 1;
/// Longest record: 10,000 songs, each with the largest index, and what a queue has besides.
const RECORD_BYTES: usize = 128 * 1_024;

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<RECORD_BYTES>()
}

pub(super) fn encode(what: &'static str, record: &impl Encode) -> Result<Vec<u8>, Fault> {
    let mut bytes = vec![VERSION];
    bytes.append(&mut bincode::encode_to_vec(record, config()).map_err(|_| Fault::Record(what))?);
    Ok(bytes)
}

pub(super) fn decode<T: Decode<()>>(what: &'static str, bytes: &[u8]) -> Result<T, Fault> {
    match bytes.split_first() {
        Some((&VERSION, bytes)) => match bincode::decode_from_slice(bytes, config()) {
            Ok((record, used)) if used == bytes.len() => Ok(record),
            _ => Err(Fault::Record(what)),
        },
        Some((&later, _)) if later > VERSION => Err(Fault::Newer(later.into())),
        _ => Err(Fault::Record(what)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_record() {
        assert!(matches!(decode::<u64>("x", &[]), Err(Fault::Record("x"))));
        assert!(matches!(decode::<u64>("x", &[0, 1]), Err(Fault::Record("x"))));
        assert!(matches!(decode::<u64>("x", &[2, 1]), Err(Fault::Newer(2))));
        assert!(matches!(decode::<u64>("x", &[1, 1, 1]), Err(Fault::Record("x"))));
        assert_eq!(decode::<u64>("x", &[1, 7]).unwrap(), 7);
    }

    #[test]
    fn the_longest_list_fits() {
        let songs = vec![u64::MAX; 10_000];
        assert_eq!(decode::<Vec<u64>>("x", &encode("x", &songs).unwrap()).unwrap(), songs);
        // A length that asks for more memory than any record has.
        let mut long = vec![1, 253];
        long.extend_from_slice(&u64::MAX.to_le_bytes());
        assert!(decode::<Vec<u64>>("x", &long).is_err());
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(bytes: Vec<u8>) {
            let _ = decode::<(String, Vec<u64>, Option<u32>)>("x", &bytes);
        }
    }
}
