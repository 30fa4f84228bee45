//! Every limit on what comes from outside, in one place. A number that several crates must agree on lives here,
//! with its reason; a crate's private bounds (queues, caches) stay with their owner.

/// A song block, header included: 100 M songs must fit on a small server.
pub const SONG_BLOCK_BYTES: usize = 4096;
/// Any block: an epoch's settlement is the largest kind. One less than 64 KiB, so that a block's length fits the two
/// bytes that the entry bundles of C2SP tlog-tiles have for it.
pub const BLOCK_BYTES: usize = 64 * 1024 - 1;
/// Blocks in a batch: about a megabyte of song blocks.
pub const BATCH_BLOCKS: usize = 340;
/// Bytes of all blocks of a batch: what a member sends to every other within a second on a home line.
pub const BATCH_BYTES: usize = 1024 * 1024;
/// Proof that comes with a batch: 1,392 B were measured for a certificate of 30 members.
pub const SEAL_BYTES: usize = 16 * 1024;
/// A checkpoint with its signatures: 128 cosignatures of 135 B, some signatures of the log of 172 B each, and room for
/// outside witnesses.
pub const CHECKPOINT_BYTES: usize = 32 * 1024;
/// Lines of outside witnesses that are passed on with a checkpoint: nobody here can tell good ones from noise.
pub const WITNESS_LINES: usize = 16;
/// A proof that one block is in the log: the largest block in base64, 64 hashes of 45 B, a checkpoint.
pub const LOG_PROOF_BYTES: usize = 128 * 1024;
/// A genesis document: 128 members need 4.4 KB.
pub const GENESIS_BYTES: usize = 16 * 1024;
/// Members of a council. Agreement among more than this is slower than a height's pace.
pub const COUNCIL_MEMBERS: usize = 128;
/// Work stamp bits that a genesis document may ask for: 40 bits take a Pi days.
pub const STAMP_BITS: u32 = 40;

/// A title, artist, album or album artist.
pub const TEXT_BYTES: usize = 256;
/// A genre.
pub const GENRE_BYTES: usize = 128;
/// A compressed fingerprint of 120 s: 2,872 B is the largest of 200 real tracks.
pub const FINGERPRINT_BYTES: usize = 3_200;
/// Items in a fingerprint: 120 s give 948; the rest is room for another rule of framing.
pub const FINGERPRINT_ITEMS: usize = 1_000;
/// Payees of one song: more belong behind a key of their own.
pub const SPLITS: usize = 16;
/// All of an artist's share, in hundredths of a percent.
pub const BASIS_POINTS: u32 = 10_000;
/// Shortest song: below a second nothing can be heard half.
pub const DURATION_MS_MIN: u32 = 1_000;
/// Longest song: 12 h. One bad duration tag must not make a song that nobody can play to its half.
pub const DURATION_MS_MAX: u32 = 12 * 60 * 60 * 1_000;
/// Largest audio file: 4 GiB, what WAVE can describe.
pub const FILE_BYTES: u64 = 4 * 1024 * 1024 * 1024;
/// Years after 9999 are damaged tags.
pub const YEAR_MAX: u32 = 9_999;
/// Tracks or discs beyond this are damaged tags.
pub const TRACK_MAX: u32 = 9_999;
/// How far a registration's clock may be ahead of the ledger's: a Pi whose clock drifts is still served.
pub const CLOCK_AHEAD_MS: u64 = 10 * 60 * 1_000;

/// Units that any amount may have: 10^10 tokens, so that three of them multiplied fit 128 bits with room.
pub const UNITS_MAX: u64 = 1_000_000_000_000_000_000;
/// Text for people in a transfer.
pub const MEMO_BYTES: usize = 128;
/// Receipts in one settlement: with the batch that it stands in they fit a message among members.
pub const EPOCH_RECEIPTS: usize = 1_536;
/// Longest window in which a play may be settled: a week. Members keep every receipt for as long.
pub const WINDOW_MS_MAX: u32 = 7 * 24 * 60 * 60 * 1_000;
/// A receipt: 32 spans and 8 serving peers take 950 B, a usual one 380 B.
pub const RECEIPT_BYTES: usize = 1_024;
/// Spans that were heard: whoever jumps more often has heard little of each.
pub const RECEIPT_SPANS: usize = 32;
/// Serving peers of one play.
pub const RECEIPT_SERVED: usize = 8;
/// Receipts of one play: how often its witness may go away in the middle.
pub const PLAY_RECEIPTS: usize = 8;
/// How far a play may run ahead of the clock: what was heard between two heartbeats may come in at the second.
pub const HEARD_AHEAD_MS: u32 = 2_000;
/// Claims on one artist's name that are remembered.
pub const CLAIMS: usize = 8;
/// How long a right to hear may be shown before it must be signed anew.
pub const ACCESS_TOKEN_MS: u64 = 60 * 60 * 1_000;
/// After a pay-per-play purchase, time beyond the song's duration in which it may be heard.
pub const PLAY_GRACE_MS: u64 = 15 * 60 * 1_000;
/// A message on a play's stream.
pub const PLAY_MESSAGE_BYTES: usize = 2 * 1_024;

/// A message on a stream that is neither a batch nor audio.
pub const CONTROL_MESSAGE_BYTES: usize = 64 * 1024;
/// A batch on a stream: its blocks, its seal, and the lengths around them.
pub const BATCH_MESSAGE_BYTES: usize = BATCH_BYTES + SEAL_BYTES + 8 * BATCH_BLOCKS + 1024;
/// Blocks in an entry bundle and hashes in a tile, by C2SP tlog-tiles.
pub const TILE_WIDTH: u32 = 256;
/// Levels of tiles, by C2SP tlog-tiles: 0 to 63.
pub const TILE_LEVEL_MAX: u32 = 63;
/// Blocks and seals in one bundle message: 256 song blocks, which are at most a megabyte, and their seals fit at once.
/// Longer blocks come in several messages.
pub const BUNDLE_BYTES: usize = 2 * 1024 * 1024;
/// A bundle on a stream: what is counted above, and the lengths around it.
pub const BUNDLE_MESSAGE_BYTES: usize = BUNDLE_BYTES + 32 * 256 + 1024;
/// Text for people inside an error message.
pub const DETAIL_BYTES: usize = 512;
/// Ranges in one audio request.
pub const AUDIO_RANGES: usize = 64;
/// An access token.
pub const ACCESS_TOKEN_BYTES: usize = 512;
/// Peers that may pass a registration on before it reaches who orders.
pub const REGISTER_HOPS: u32 = 4;
/// Chunk group of the Bao tree as a power of two of 1,024 B: 16 KiB, the smallest unit that is checked and played.
pub const BAO_CHUNK_LOG: u8 = 4;
/// Bytes in a chunk group.
pub const BAO_GROUP_BYTES: u64 = 1024 << BAO_CHUNK_LOG;

/// The presence announcement.
pub const ANNOUNCEMENT_BYTES: usize = 96;
/// Songs that one peer may vouch for.
pub const LIBRARY_SONGS: u32 = 5_000_000;

/// A peer id in bytes: an Ed25519 one has 38, the hash of another key 34; the rest is room.
pub const PEER_ID_BYTES: usize = 64;
/// A vote, a certificate or another small message among council members: a certificate of 128 members is 6 KB.
pub const COUNCIL_VOTE_BYTES: usize = 64 * 1024;
/// Any message among council members: a proposed batch, the receipts that it settles, and what its proposer says about
/// it.
pub const COUNCIL_MESSAGE_BYTES: usize =
    BATCH_MESSAGE_BYTES + EPOCH_RECEIPTS * (RECEIPT_BYTES + 8) + 64 * 1024;
/// Members in one roster message: with all their addresses 20 KB. A whole council comes in several.
pub const ROSTER_ENTRIES: usize = 16;
/// Addresses told of one member: two transports on a few interfaces.
pub const MEMBER_ADDRESSES: usize = 8;
/// One address in binary form: a long DNS name fits.
pub const ADDRESS_BYTES: usize = 128;

/// Any message about libraries: a page of indexes, a step of a reconciliation, addresses.
pub const LIBRARY_MESSAGE_BYTES: usize = 64 * 1024;
/// Bytes of indexes in one page: what is left for them in a message.
pub const LIBRARY_PAGE_BYTES: usize = 60 * 1024;
/// Steps of one reconciliation: 16 ranges become one in each, so 5 M songs need six; the rest is for many differences.
pub const RECONCILE_STEPS: usize = 64;
/// Peers named in one question or answer: with six addresses each they fit a message.
pub const PEERS_TOLD: usize = 64;
/// Addresses told of one peer: two transports on its own address or two, and the same at a relay.
pub const PEER_ADDRESSES: usize = 6;
/// Ledger indexes that can be vouched for: those of 32 bits, forty times the 100 M songs of the design.
pub const LIBRARY_INDEX_END: u64 = 1 << 32;
