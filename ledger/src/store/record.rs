//! The bytes of a segment file, frozen: its header and its records. All integers are little-endian.
//!
//! Header, 64 bytes: magic `ANTPHSEG` (8), version = 1 (u32), network id (32), index of the first block (u64), salt
//! (8 random bytes), CRC-32 (IEEE) of the 60 bytes before (u32).
//!
//! Record: length of the payload (u32), CRC-32 of (salt, length, index, payload) (u32), index (u64), payload. The
//! payload is a block's canonical bytes, or, with the top bit of the index set, the seal of the batch that ends
//! there; the other 63 bits are then the ledger's size after it. The salt keeps registrants, who choose much of a
//! block's bytes, from hiding in them what looks like a record.

use antiphon_proto::{NetworkId, limits};

/// First bytes of every segment file.
const MAGIC: [u8; 8] = *b"ANTPHSEG";
/// Version of header and records.
const VERSION: u32 = 1;
/// Length of a segment's header.
pub(crate) const HEADER_BYTES: usize = 64;
/// Length of a record before its payload.
pub(crate) const RECORD_HEADER_BYTES: usize = 16;
/// Marks the index of a seal.
const SEAL_FLAG: u64 = 1 << 63;

/// Header of a segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Network that the blocks belong to.
    pub(crate) network: NetworkId,
    /// Index of the first block.
    pub(crate) first: u64,
    /// Random bytes that every record's checksum begins with.
    pub(crate) salt: [u8; 8],
}

impl Header {
    pub(crate) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[12..44].copy_from_slice(&self.network.0);
        out[44..52].copy_from_slice(&self.first.to_le_bytes());
        out[52..60].copy_from_slice(&self.salt);
        let crc = crc32fast::hash(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header; the error says what is wrong.
    pub(crate) fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, &'static str> {
        if bytes[..8] != MAGIC {
            return Err("it does not begin like a segment of a ledger");
        }
        if u32_at(bytes, 60) != crc32fast::hash(&bytes[..60]) {
            return Err("the checksum of the segment's header is wrong");
        }
        if u32_at(bytes, 8) != VERSION {
            return Err("the segment is of a version that this antiphon does not know");
        }
        let mut network = [0; 32];
        network.copy_from_slice(&bytes[12..44]);
        let mut salt = [0; 8];
        salt.copy_from_slice(&bytes[52..60]);
        Ok(Self { network: NetworkId(network), first: u64_at(bytes, 44), salt })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut out = [0; 4];
    out.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(out)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(out)
}

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The block at this index.
    Block(u64),
    /// The seal of the batch after which the ledger has this size.
    Seal(u64),
}

impl Kind {
    const fn tag(self) -> u64 {
        match self {
            Self::Block(index) => index,
            Self::Seal(size) => size | SEAL_FLAG,
        }
    }

    const fn of_tag(tag: u64) -> Self {
        if tag & SEAL_FLAG == 0 { Self::Block(tag) } else { Self::Seal(tag & !SEAL_FLAG) }
    }

    /// Longest payload that was ever written for it.
    pub(crate) const fn limit(self) -> usize {
        match self {
            Self::Block(_) => limits::BLOCK_BYTES,
            Self::Seal(_) => limits::SEAL_BYTES,
        }
    }
}

/// The first 16 bytes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) kind: Kind,
    pub(crate) length: u32,
    crc: u32,
}

impl RecordHeader {
    pub(crate) fn parse(bytes: &[u8; RECORD_HEADER_BYTES]) -> Self {
        Self { kind: Kind::of_tag(u64_at(bytes, 8)), length: u32_at(bytes, 0), crc: u32_at(bytes, 4) }
    }

    /// Length of the payload when it is possible at all.
    pub(crate) fn payload_len(&self) -> Option<usize> {
        let length = usize::try_from(self.length).ok()?;
        (length > 0 && length <= self.kind.limit()).then_some(length)
    }

    /// Whether the payload is what was written.
    pub(crate) fn matches(&self, salt: &[u8; 8], payload: &[u8]) -> bool {
        self.crc == checksum(salt, self.length, self.kind.tag(), payload)
    }
}

fn checksum(salt: &[u8; 8], length: u32, tag: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(salt);
    hasher.update(&length.to_le_bytes());
    hasher.update(&tag.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// Writes a record behind what `out` holds. Payloads are bounded by [`Kind::limit`], far below `u32::MAX`.
pub(crate) fn push(out: &mut Vec<u8>, salt: &[u8; 8], kind: Kind, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&checksum(salt, length, kind.tag(), payload).to_le_bytes());
    out.extend_from_slice(&kind.tag().to_le_bytes());
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SALT: [u8; 8] = *b"saltsalt";

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn golden_header() {
        let header = Header { network: NetworkId([0xaa; 32]), first: 0x0102, salt: SALT };
        let golden = format!(
            "414e545048534547{}{}{}{}{}",
            "01000000",
            "aa".repeat(32),
            "0201000000000000",
            "73616c7473616c74",
            "949397b4"
        );
        assert_eq!(hex(&header.to_bytes()), golden);
        assert_eq!(Header::parse(&header.to_bytes()), Ok(header));
    }

    #[test]
    fn golden_records() {
        let mut out = Vec::new();
        push(&mut out, &SALT, Kind::Block(5), b"block");
        push(&mut out, &SALT, Kind::Seal(6), b"seal");
        assert_eq!(
            hex(&out),
            "05000000ef71d99a0500000000000000626c6f636b0400000055e1f0e806000000000000807365616c"
        );
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let header = Header { network: NetworkId([0xaa; 32]), first: 7, salt: SALT }.to_bytes();
        for bit in 0..HEADER_BYTES * 8 {
            let mut bad = header;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::parse(&bad).is_err(), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn records_round_trip_and_flips_are_noticed(
            index in 0..u64::MAX / 2, seal: bool, payload in proptest::collection::vec(any::<u8>(), 1..200),
            flip in any::<prop::sample::Index>()) {
            let kind = if seal { Kind::Seal(index) } else { Kind::Block(index) };
            let mut out = Vec::new();
            push(&mut out, &SALT, kind, &payload);
            let read = |out: &[u8]| {
                let header = RecordHeader::parse(out[..16].try_into().unwrap());
                (header, header.payload_len() == Some(payload.len()) && header.matches(&SALT, &out[16..]))
            };
            let (header, good) = read(&out);
            prop_assert!(good);
            prop_assert_eq!(header.kind, kind);
            let bit = flip.index(out.len() * 8);
            out[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!read(&out).1);
        }
    }
}
