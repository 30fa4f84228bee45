//! A block in JSON: every field of it, bytes in hexadecimal.

use antiphon_ledger::tree;
use antiphon_proto::{
    BlockHash, Container,
    council::Change,
    wire::{Block, Council, Song, TermsKind, Variant, block::Body},
};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use super::kind_of;

/// A block and its canonical bytes, as one line of an export has them.
#[must_use]
pub fn block(block: &Block, bytes: &[u8]) -> Value {
    let mut value = json!({
        "version": block.version,
        "index": block.index,
        "hash": BlockHash::of(bytes).to_string(),
        "leaf_hash": HEXLOWER.encode(&tree::leaf_hash(bytes)),
        "prev": HEXLOWER.encode(&block.prev),
        "height": block.height,
        "time_ms": block.time_ms,
        "bytes": bytes.len(),
        "kind": kind_of(block),
    });
    match &block.body {
        Some(Body::Song(body)) => value["song"] = song(body),
        Some(Body::Variant(body)) => value["variant"] = variant(body),
        Some(Body::Council(body)) => value["council"] = council(body),
        _ => {}
    }
    value
}

fn song(song: &Song) -> Value {
    json!({
        "id": song.id().to_string(),
        "registrant": HEXLOWER.encode(&song.registrant),
        "fingerprint": HEXLOWER.encode(&song.fingerprint),
        "content_hash": HEXLOWER.encode(&song.content_hash),
        "container": container(song.container),
        "bytes": song.bytes,
        "duration_ms": song.duration_ms,
        "title": song.title, "artist": song.artist, "album": song.album,
        "album_artist": song.album_artist, "genre": song.genre,
        "year": song.year, "track": song.track, "disc": song.disc,
        "isrc": song.isrc, "mbid": HEXLOWER.encode(&song.mbid),
        "artist_key": HEXLOWER.encode(&song.artist_key),
        "splits": song.splits.iter().map(|split| json!({
            "key": HEXLOWER.encode(&split.key), "basis_points": split.basis_points,
        })).collect::<Vec<_>>(),
        "terms": song.terms.as_ref().map(|terms| json!({"kind": terms_kind(terms.kind), "price": terms.price})),
        "created_ms": song.created_ms,
        "stamp": song.stamp,
        "signature": HEXLOWER.encode(&song.signature),
    })
}

fn variant(variant: &Variant) -> Value {
    json!({
        "song_id": HEXLOWER.encode(&variant.song_id),
        "content_hash": HEXLOWER.encode(&variant.content_hash),
        "container": container(variant.container),
        "bytes": variant.bytes,
        "bitrate_kbps": variant.bitrate_kbps,
        "registrant": HEXLOWER.encode(&variant.registrant),
        "stamp": variant.stamp,
        "signature": HEXLOWER.encode(&variant.signature),
    })
}

fn council(council: &Council) -> Value {
    let act = council.act.as_ref();
    let (add, remove) = match act.and_then(|act| act.change().ok()) {
        Some(Change::Member { add, remove }) => (add, remove),
        _ => (None, None),
    };
    json!({
        "act": act.map(|act| act.id().to_string()),
        "expires_height": act.map(|act| act.expires_height),
        "nonce": act.map(|act| HEXLOWER.encode(&act.nonce)),
        "add": add.map(|key| key.to_string()),
        "remove": remove.map(|key| key.to_string()),
        "votes": council.votes.iter().map(|vote| json!({
            "member": HEXLOWER.encode(&vote.member), "signature": HEXLOWER.encode(&vote.signature),
        })).collect::<Vec<_>>(),
    })
}

/// Name of a container byte; the number itself for one that this version does not know.
pub(super) fn container(byte: u32) -> String {
    let known = u8::try_from(byte).ok().and_then(Container::from_byte);
    known.map_or_else(|| byte.to_string(), |container| container.to_string())
}

/// Name of a kind of terms.
pub(super) fn terms_kind(kind: i32) -> &'static str {
    match TermsKind::try_from(kind) {
        Ok(TermsKind::Open) => "open",
        Ok(TermsKind::PayPerPlay) => "pay_per_play",
        Ok(TermsKind::Purchase) => "purchase",
        Ok(TermsKind::Grant) => "grant",
        // No block of this version holds another.
        Err(_) => "unknown",
    }
}
