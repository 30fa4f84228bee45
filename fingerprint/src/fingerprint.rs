//! The Chromaprint fingerprint as data: its items, its packed bytes and its text form.
//!
//! The packed bytes are in the ledger, so they are canonical here: [`Fingerprint::decompress`] accepts exactly
//! the bytes that [`Fingerprint::compress`] makes. Layout (Chromaprint's own compressed form, algorithm 1):
//!
//! ```text
//! 1 byte   algorithm, always 1 (fpcalc's default, "test2")
//! 3 bytes  number of items, big endian
//! n x 3 b  for each item XORed with the one before: the distances between its set bits, counted from bit 0 and
//!          starting at "bit -1"; 7 stands for "7 or more"; 0 ends the item. Little-endian bits, padded with 0.
//! m x 5 b  for each 7 above, what the distance has over 7. Little-endian bits, padded with 0.
//! ```

use data_encoding::BASE64URL_NOPAD;

/// Algorithm byte of every fingerprint in the network: Chromaprint's default, numbered 1 in its packed form.
pub const ALGORITHM: u8 = 1;

/// Most items in a fingerprint. 120 s give 948 items (one each 1365 / 11,025 s, less the 19 that the filters
/// swallow and the last partial frame); a round number above that leaves room for no second meaning.
pub const MAX_ITEMS: usize = antiphon_proto::limits::FINGERPRINT_ITEMS;

/// Most packed bytes: the header and, for each item, 32 distances and a terminator of 3 bits. Longer
/// distances cost 8 bits but stand for at least 7 positions, so they never cost more than that.
pub const MAX_COMPRESSED_BYTES: usize = HEADER_BYTES + (MAX_ITEMS * 33 * 3).div_ceil(8);

/// Most characters of the text form, 4 for every 3 bytes.
pub const MAX_TEXT_BYTES: usize = (MAX_COMPRESSED_BYTES * 4).div_ceil(3);

const HEADER_BYTES: usize = 4;
const NORMAL_WIDTH: u32 = 3;
const NORMAL_ESCAPE: u8 = 7;
const EXTRA_WIDTH: u32 = 5;

/// Why bytes, text or items are not a fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FingerprintError {
    /// No items at all.
    #[error("a fingerprint has at least one item")]
    NoItems,
    /// More items than 120 seconds can give.
    #[error("a fingerprint of {0} items is longer than {MAX_ITEMS}")]
    TooManyItems(usize),
    /// Packed bytes longer than any fingerprint's.
    #[error("{0} bytes are more than a packed fingerprint can have ({MAX_COMPRESSED_BYTES})")]
    TooManyBytes(usize),
    /// The packed bytes end too early.
    #[error("the packed fingerprint ends in its {0}")]
    Truncated(&'static str),
    /// Made by another Chromaprint algorithm.
    #[error("Chromaprint algorithm {0} is not the network's ({ALGORITHM})")]
    Algorithm(u8),
    /// A bit position past the 32 of an item.
    #[error("item {0} of the packed fingerprint has a bit beyond its 32")]
    BitRange(usize),
    /// Readable, but not the one spelling that the ledger accepts.
    #[error("the packed fingerprint is not in canonical form (trailing bytes or padding bits)")]
    NotCanonical,
    /// Not URL-safe base64 without padding.
    #[error("the fingerprint text is not URL-safe base64 without padding")]
    Text,
}

/// A raw Chromaprint fingerprint, algorithm 1, of at most the first 120 seconds.
///
/// Never empty, never above [`MAX_ITEMS`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    items: Vec<u32>,
}

impl Fingerprint {
    /// Takes raw items, one for each 0.1238 s.
    ///
    /// # Errors
    /// [`FingerprintError::NoItems`] and [`FingerprintError::TooManyItems`].
    pub fn from_items(items: Vec<u32>) -> Result<Self, FingerprintError> {
        check_count(items.len())?;
        Ok(Self { items })
    }

    /// The raw items, in time order.
    #[must_use]
    pub fn items(&self) -> &[u32] {
        &self.items
    }

    /// Chromaprint's packed bytes, as the ledger stores them and as `fpcalc` prints them after base64.
    #[must_use]
    pub fn compress(&self) -> Vec<u8> {
        let mut normal = BitWriter::with_capacity(self.items.len() * 5);
        let mut extra = BitWriter::with_capacity(self.items.len() / 2);
        let mut previous = 0u32;
        for &item in &self.items {
            let mut rest = item ^ previous;
            previous = item;
            let mut last_bit = -1i32;
            while rest != 0 {
                let bit = rest.trailing_zeros().cast_signed();
                rest &= rest - 1;
                let distance = (bit - last_bit).unsigned_abs();
                last_bit = bit;
                let escape = u32::from(NORMAL_ESCAPE);
                normal.push(distance.min(escape), NORMAL_WIDTH);
                if distance >= escape {
                    extra.push(distance - escape, EXTRA_WIDTH);
                }
            }
            normal.push(0, NORMAL_WIDTH);
        }
        let count = u32::try_from(self.items.len()).unwrap_or(u32::MAX).to_be_bytes();
        let mut packed = vec![ALGORITHM, count[1], count[2], count[3]];
        packed.append(&mut normal.finish());
        packed.append(&mut extra.finish());
        packed
    }

    /// Reads packed bytes. Total on any input: at most [`MAX_COMPRESSED_BYTES`] are looked at and at most
    /// [`MAX_ITEMS`] items are allocated.
    ///
    /// # Errors
    /// A [`FingerprintError`] for anything but the exact bytes that [`Fingerprint::compress`] makes of some items.
    pub fn decompress(packed: &[u8]) -> Result<Self, FingerprintError> {
        if packed.len() > MAX_COMPRESSED_BYTES {
            return Err(FingerprintError::TooManyBytes(packed.len()));
        }
        let Some((&[algorithm, a, b, c], body)) = packed.split_first_chunk::<HEADER_BYTES>() else {
            return Err(FingerprintError::Truncated("header"));
        };
        if algorithm != ALGORITHM {
            return Err(FingerprintError::Algorithm(algorithm));
        }
        let count = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
        check_count(count)?;

        let normal_bytes = normal_section_bytes(body, count)?;
        let (normal, extra) = body.split_at(normal_bytes);
        let items = unpack(count, BitReader::new(normal), BitReader::new(extra))?;
        let fingerprint = Self { items };
        // One check for all spellings that would read the same: padding bits, trailing bytes.
        if fingerprint.compress() != packed {
            return Err(FingerprintError::NotCanonical);
        }
        Ok(fingerprint)
    }

    /// The text that `fpcalc` prints: the packed bytes in URL-safe base64 without padding.
    #[must_use]
    pub fn to_text(&self) -> String {
        BASE64URL_NOPAD.encode(&self.compress())
    }

    /// Reads `fpcalc`'s text.
    ///
    /// # Errors
    /// As [`Fingerprint::decompress`], and [`FingerprintError::Text`].
    pub fn from_text(text: &str) -> Result<Self, FingerprintError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(FingerprintError::TooManyBytes(text.len()));
        }
        let packed = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| FingerprintError::Text)?;
        Self::decompress(&packed)
    }
}

fn check_count(count: usize) -> Result<(), FingerprintError> {
    match count {
        0 => Err(FingerprintError::NoItems),
        1..=MAX_ITEMS => Ok(()),
        _ => Err(FingerprintError::TooManyItems(count)),
    }
}

/// Bytes that the 3-bit section takes: up to the terminator of item number `count`, then to the byte's end.
fn normal_section_bytes(body: &[u8], count: usize) -> Result<usize, FingerprintError> {
    let mut reader = BitReader::new(body);
    let mut found = 0;
    while found < count {
        let value = reader.read(NORMAL_WIDTH).ok_or(FingerprintError::Truncated("items"))?;
        found += usize::from(value == 0);
    }
    Ok(reader.bytes_touched())
}

fn unpack(count: usize, mut normal: BitReader, mut extra: BitReader) -> Result<Vec<u32>, FingerprintError> {
    let mut items = Vec::with_capacity(count);
    let mut value = 0u32;
    for number in 0..count {
        // The position after the last set bit: distances are at least 1.
        let mut position = 0u32;
        loop {
            let mut distance = normal.read(NORMAL_WIDTH).ok_or(FingerprintError::Truncated("items"))?;
            if distance == 0 {
                break;
            }
            if distance == u32::from(NORMAL_ESCAPE) {
                distance += extra.read(EXTRA_WIDTH).ok_or(FingerprintError::Truncated("long distances"))?;
            }
            position += distance;
            if position > u32::BITS {
                return Err(FingerprintError::BitRange(number));
            }
            value ^= 1 << (position - 1);
        }
        items.push(value);
    }
    Ok(items)
}

/// Little-endian bit fields into bytes.
struct BitWriter {
    bytes: Vec<u8>,
    pending: u32,
    pending_bits: u32,
}

impl BitWriter {
    fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), pending: 0, pending_bits: 0 }
    }

    fn push(&mut self, value: u32, width: u32) {
        self.pending |= value << self.pending_bits;
        self.pending_bits += width;
        while self.pending_bits >= 8 {
            self.bytes.push(self.pending.to_le_bytes()[0]);
            self.pending >>= 8;
            self.pending_bits -= 8;
        }
    }

    fn finish(mut self) -> Vec<u8> {
        if self.pending_bits > 0 {
            self.bytes.push(self.pending.to_le_bytes()[0]);
        }
        self.bytes
    }
}

/// Little-endian bit fields out of bytes; `None` past the end.
struct BitReader<'a> {
    bytes: &'a [u8],
    next: usize,
    pending: u32,
    pending_bits: u32,
}

impl<'a> BitReader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, next: 0, pending: 0, pending_bits: 0 }
    }

    fn read(&mut self, width: u32) -> Option<u32> {
        while self.pending_bits < width {
            let byte = *self.bytes.get(self.next)?;
            self.next += 1;
            self.pending |= u32::from(byte) << self.pending_bits;
            self.pending_bits += 8;
        }
        let value = self.pending & ((1 << width) - 1);
        self.pending >>= width;
        self.pending_bits -= width;
        Some(value)
    }

    fn bytes_touched(&self) -> usize {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Chromaprint's published unit-test vectors: items, then the packed bytes.
    #[test]
    fn golden_bytes() {
        let cases: [(&[u32], &[u8]); 5] = [
            (&[1], &[1, 0, 0, 1, 1]),
            (&[7], &[1, 0, 0, 1, 73, 0]),
            (&[1 << 6], &[1, 0, 0, 1, 7, 0]),
            (&[1 << 8], &[1, 0, 0, 1, 7, 2]),
            (&[1, 0], &[1, 0, 0, 2, 65, 0]),
        ];
        for (items, packed) in cases {
            let fingerprint = Fingerprint::from_items(items.to_vec()).unwrap();
            assert_eq!(fingerprint.compress(), packed, "{items:?}");
            assert_eq!(Fingerprint::decompress(packed).unwrap(), fingerprint);
        }
    }

    #[test]
    fn text_is_url_safe_and_strict() {
        let fingerprint = Fingerprint::from_items(vec![u32::MAX, 0, 0x8000_0001]).unwrap();
        let text = fingerprint.to_text();
        assert_eq!(text, "AQAAA0mSJEmSJEmSJEmSJEiSJEmSJEmSJEmSJEEOGA");
        assert_eq!(Fingerprint::from_text(&text).unwrap(), fingerprint);
        assert_eq!(Fingerprint::from_text(&format!("{text}=")), Err(FingerprintError::Text));
        assert_eq!(Fingerprint::from_text("AQ+A"), Err(FingerprintError::Text));
        assert_eq!(Fingerprint::from_text(""), Err(FingerprintError::Truncated("header")));
    }

    #[test]
    fn refusals_are_typed() {
        use FingerprintError as E;
        let cases: [(&[u8], E); 9] = [
            (&[], E::Truncated("header")),
            (&[1, 0, 0], E::Truncated("header")),
            (&[0, 0, 0, 1, 1], E::Algorithm(0)),
            (&[1, 0, 0, 0], E::NoItems),
            (&[1, 0xff, 0xff, 0xff, 0], E::TooManyItems(0xff_ffff)),
            (&[1, 0, 0, 2, 1], E::Truncated("items")),
            (&[1, 0, 0, 1, 7], E::Truncated("long distances")),
            (&[1, 0, 0, 1, 7, 31], E::BitRange(0)),
            (&[1, 0, 0, 1, 1, 0], E::NotCanonical),
        ];
        for (packed, error) in cases {
            assert_eq!(Fingerprint::decompress(packed), Err(error), "{packed:?}");
        }
        assert_eq!(Fingerprint::decompress(&[1, 0, 0, 1, 0x41]), Err(E::NotCanonical), "padding bits");
        let long = vec![1; MAX_COMPRESSED_BYTES + 1];
        assert_eq!(Fingerprint::decompress(&long), Err(E::TooManyBytes(long.len())));
        assert_eq!(Fingerprint::from_items(vec![]), Err(E::NoItems));
        assert_eq!(Fingerprint::from_items(vec![0; MAX_ITEMS + 1]), Err(E::TooManyItems(MAX_ITEMS + 1)));
    }

    #[test]
    fn the_byte_limit_is_the_worst_case() {
        let worst: Vec<u32> = (0..MAX_ITEMS).map(|i| if i % 2 == 0 { u32::MAX } else { 0 }).collect();
        let packed = Fingerprint::from_items(worst).unwrap().compress();
        assert_eq!(packed.len(), MAX_COMPRESSED_BYTES);
        assert!(Fingerprint::decompress(&packed).is_ok());
    }

    proptest! {
        #[test]
        fn packs_and_unpacks(items in prop::collection::vec(any::<u32>(), 1..=MAX_ITEMS)) {
            let fingerprint = Fingerprint::from_items(items).unwrap();
            let packed = fingerprint.compress();
            prop_assert!(packed.len() <= MAX_COMPRESSED_BYTES);
            prop_assert_eq!(&Fingerprint::decompress(&packed).unwrap(), &fingerprint);
            prop_assert_eq!(&Fingerprint::from_text(&fingerprint.to_text()).unwrap(), &fingerprint);
        }

        #[test]
        fn packs_as_the_reference_port_does(items in prop::collection::vec(any::<u32>(), 1..100)) {
            let config = rusty_chromaprint::Configuration::default();
            let reference = rusty_chromaprint::FingerprintCompressor::from(&config).compress(&items);
            prop_assert_eq!(Fingerprint::from_items(items).unwrap().compress(), reference);
        }

        #[test]
        fn total_and_canonical_on_any_bytes(mut packed in prop::collection::vec(any::<u8>(), 0..600), plausible: bool) {
            if plausible && packed.len() >= 4 {
                packed[..3].copy_from_slice(&[1, 0, 0]);
            }
            if let Ok(fingerprint) = Fingerprint::decompress(&packed) {
                prop_assert_eq!(fingerprint.compress(), packed);
            }
        }
    }
}
