//! Hashes of passwords as text: `$argon2id$v=19$m=MEMORY,t=PASSES,p=LANES$SALT$HASH`.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use data_encoding::BASE64_NOPAD;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::ListenerError;
use crate::wallet::file::Cost;

const HASH: usize = 32;
/// Memory that a text may ask for, KiB: as a wallet.
const MEMORY_KIB: u32 = 1_048_576;
/// Passes over it that a text may ask for.
const PASSES: u32 = 16;
/// Lanes that a text may ask for.
const LANES: u32 = 8;
/// Bytes of a salt.
const SALT: std::ops::RangeInclusive<usize> = 8..=64;

fn hashed(password: &[u8], salt: &[u8], cost: Cost) -> Result<[u8; HASH], ListenerError> {
    let Cost { memory_kib, passes, lanes } = cost;
    let unusable = |_| ListenerError::Refused("the password cannot be hashed");
    let params = Params::new(memory_kib, passes, lanes, Some(HASH)).map_err(unusable)?;
    let mut memory: Zeroizing<Vec<Block>> = Zeroizing::new(Vec::new());
    let blocks = params.block_count();
    memory.try_reserve_exact(blocks).map_err(|_| ListenerError::Memory(memory_kib))?;
    memory.resize(blocks, Block::new());
    let mut hash = [0; HASH];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(password, salt, &mut hash, &mut **memory)
        .map_err(unusable)?;
    Ok(hash)
}

/// The text for a password.
pub(super) fn hash(password: &[u8], salt: &[u8], cost: Cost) -> Result<String, ListenerError> {
    let Cost { memory_kib, passes, lanes } = cost;
    let hash = hashed(password, salt, cost)?;
    let (salt, hash) = (BASE64_NOPAD.encode(salt), BASE64_NOPAD.encode(&hash));
    Ok(format!("$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${hash}"))
}

struct Parsed {
    cost: Cost,
    salt: Vec<u8>,
    hash: [u8; HASH],
}

fn parse(text: &str) -> Option<Parsed> {
    let mut parts = text.strip_prefix("$argon2id$v=19$")?.split('$');
    let (cost, salt, hash) = (parts.next()?, parts.next()?, parts.next()?);
    let mut numbers = cost.split(',');
    let mut number = |name: &str| numbers.next()?.strip_prefix(name)?.parse::<u32>().ok();
    let cost = Cost { memory_kib: number("m=")?, passes: number("t=")?, lanes: number("p=")? };
    let bounded = cost.memory_kib <= MEMORY_KIB && cost.passes <= PASSES && cost.lanes <= LANES;
    let salt = BASE64_NOPAD.decode(salt.as_bytes()).ok()?;
    let hash = BASE64_NOPAD.decode(hash.as_bytes()).ok()?.try_into().ok()?;
    let whole = parts.next().is_none() && numbers.next().is_none();
    (whole && bounded && SALT.contains(&salt.len())).then_some(Parsed { cost, salt, hash })
}

/// Whether a text is of this password; `None` when it is no such text.
pub(super) fn verify(text: &str, password: &[u8]) -> Option<Result<bool, ListenerError>> {
    let Parsed { cost, salt, hash } = parse(text)?;
    Some(hashed(password, &salt, cost).map(|found| found.ct_eq(&hash).into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEAST: Cost = Cost { memory_kib: 1_024, passes: 1, lanes: 1 };

    #[test]
    fn a_text_is_of_one_password() {
        let text = hash(b"sesame", &[7; 16], LEAST).unwrap();
        assert!(text.starts_with("$argon2id$v=19$m=1024,t=1,p=1$BwcHBwcHBwcHBwcHBwcHBw$"), "{text}");
        assert!(verify(&text, b"sesame").unwrap().unwrap());
        assert!(!verify(&text, b"sesam").unwrap().unwrap());
        let other = hash(b"sesame", &[8; 16], LEAST).unwrap();
        assert_ne!(text, other);
    }

    #[test]
    fn what_is_no_such_text() {
        let text = hash(b"sesame", &[7; 16], LEAST).unwrap();
        for bad in [
            String::new(),
            text.replace("argon2id", "argon2i"),
            text.replace("v=19", "v=16"),
            text.replace("m=1024", "m=1048577"),
            text.replace("t=1", "t=17"),
            text.replace("p=1$", "p=9$"),
            text.replace("p=1$", "p=1,x=1$"),
            text.clone() + "$",
            text[..text.len() - 1].to_owned(),
        ] {
            assert!(verify(&bad, b"sesame").is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_parsed_or_refused(text in "(\\$argon2id\\$v=19\\$)?[mtp=,0-9$A-Za-z+/]{0,60}") {
            let _ = parse(&text);
        }
    }
}
