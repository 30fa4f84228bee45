//! A block in JSON: every field of it, bytes in hexadecimal.

use antiphon_ledger::tree;
use antiphon_proto::{
    BlockHash, Container,
    council::Change,
    epoch::Escrow,
    wire::{
        Amount, Block, Claim, Council, Economy, Epoch, Grant, Purchase, Song, TermsKind, Transfer, Variant,
        block::Body,
    },
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
        Some(Body::Epoch(body)) => value["epoch"] = epoch(body),
        Some(Body::Transfer(body)) => value["transfer"] = transfer(body),
        Some(Body::Purchase(body)) => value["purchase"] = purchase(body),
        Some(Body::Grant(body)) => value["grant"] = grant(body),
        Some(Body::Claim(body)) => value["claim"] = claim(body),
        None => {}
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
    let change = act.and_then(|act| act.change().ok());
    let (add, remove) = match &change {
        Some(Change::Member { add, remove }) => (*add, *remove),
        _ => (None, None),
    };
    let mut value = json!({
        "act": act.map(|act| act.id().to_string()),
        "expires_height": act.map(|act| act.expires_height),
        "nonce": act.map(|act| HEXLOWER.encode(&act.nonce)),
        "add": add.map(|key| key.to_string()),
        "remove": remove.map(|key| key.to_string()),
        "votes": council.votes.iter().map(|vote| json!({
            "member": HEXLOWER.encode(&vote.member), "signature": HEXLOWER.encode(&vote.signature),
        })).collect::<Vec<_>>(),
    });
    match change {
        Some(Change::Release { escrow, to }) => {
            let artist = match escrow {
                Escrow::Name(name) => name,
                Escrow::Key(_) => String::new(),
            };
            value["release"] = json!({"artist": artist, "to": to.to_string()});
        }
        Some(Change::Parameters(parameters)) => value["parameters"] = economy(&parameters),
        Some(Change::Name { artist, owner }) => {
            value["ruling"] = json!({"artist": artist, "owner": owner.map(|key| key.to_string())});
        }
        Some(Change::Song { song, withheld }) => {
            value["ruling"] = json!({"song_id": song.to_string(), "withheld": withheld});
        }
        Some(Change::Member { .. }) | None => {}
    }
    value
}

fn economy(economy: &Economy) -> Value {
    json!({
        "floor_units": economy.floor_units, "cap_units": economy.cap_units,
        "threshold_plays": economy.threshold_plays, "coverage_basis_points": economy.coverage_basis_points,
        "heartbeat_ms": economy.heartbeat_ms, "epoch_ms": economy.epoch_ms, "window_ms": economy.window_ms,
    })
}

fn epoch(epoch: &Epoch) -> Value {
    let amounts = |amounts: &[Amount]| -> Vec<Value> {
        let amount = |amount: &Amount| json!({"key": HEXLOWER.encode(&amount.key), "units": amount.units});
        amounts.iter().map(amount).collect()
    };
    json!({
        "number": epoch.number,
        "receipts": epoch.receipts,
        "plays": epoch.plays,
        "receipts_root": HEXLOWER.encode(&epoch.receipts_root),
        "minted": epoch.minted,
        "burned": epoch.burned,
        "songs": epoch.songs.iter().map(|song| json!({
            "song": song.song, "plays": song.plays, "discovered": song.discovered, "minted": song.minted,
        })).collect::<Vec<_>>(),
        "credits": amounts(&epoch.credits),
        "burns": amounts(&epoch.burns),
        "escrows": epoch.escrows.iter().map(|escrow| json!({
            "key": HEXLOWER.encode(&escrow.key), "name": escrow.name, "units": escrow.units,
        })).collect::<Vec<_>>(),
        "state": HEXLOWER.encode(&epoch.state),
    })
}

fn transfer(transfer: &Transfer) -> Value {
    json!({
        "from": HEXLOWER.encode(&transfer.from),
        "to": HEXLOWER.encode(&transfer.to),
        "amount": transfer.amount,
        "sequence": transfer.sequence,
        "memo": transfer.memo,
        "stamp": transfer.stamp,
        "signature": HEXLOWER.encode(&transfer.signature),
    })
}

fn purchase(purchase: &Purchase) -> Value {
    json!({
        "buyer": HEXLOWER.encode(&purchase.buyer),
        "song_id": HEXLOWER.encode(&purchase.song_id),
        "price": purchase.price,
        "sequence": purchase.sequence,
        "stamp": purchase.stamp,
        "signature": HEXLOWER.encode(&purchase.signature),
    })
}

fn grant(grant: &Grant) -> Value {
    json!({
        "grantor": HEXLOWER.encode(&grant.grantor),
        "song_id": HEXLOWER.encode(&grant.song_id),
        "holder": HEXLOWER.encode(&grant.holder),
        "until_ms": grant.until_ms,
        "sequence": grant.sequence,
        "stamp": grant.stamp,
        "signature": HEXLOWER.encode(&grant.signature),
    })
}

fn claim(claim: &Claim) -> Value {
    json!({
        "claimant": HEXLOWER.encode(&claim.claimant),
        "artist": claim.artist,
        "statement": claim.statement,
        "sequence": claim.sequence,
        "stamp": claim.stamp,
        "signature": HEXLOWER.encode(&claim.signature),
    })
}

/// Name of a container byte; the number itself for one that this version does not know.
pub(super) fn container(byte: u32) -> String {
    let known = u8::try_from(byte).ok().and_then(Container::from_byte);
    known.map_or_else(|| byte.to_string(), |container| container.to_string())
}

/// Name of a kind of terms.
pub(crate) fn terms_kind(kind: i32) -> &'static str {
    match TermsKind::try_from(kind) {
        Ok(TermsKind::Open) => "open",
        Ok(TermsKind::PayPerPlay) => "pay_per_play",
        Ok(TermsKind::Purchase) => "purchase",
        Ok(TermsKind::Grant) => "grant",
        // No block of this version holds another.
        Err(_) => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use antiphon_proto::wire::{
        CouncilAct, EscrowAmount, Ruling, SongPlays, SongRuling, council_act, ruling,
    };

    use super::*;

    fn shown(body: Body) -> Value {
        block(&Block { body: Some(body), ..Block::default() }, &[])
    }

    #[test]
    fn every_field_of_tokens_is_told() {
        let epoch = Epoch {
            number: 4,
            receipts: 3,
            plays: 2,
            receipts_root: vec![1; 32],
            minted: 9,
            burned: 8,
            songs: vec![SongPlays { song: 7, plays: 2, discovered: 1, minted: 9 }],
            credits: vec![Amount { key: vec![2; 32], units: 5 }],
            burns: vec![Amount { key: vec![3; 32], units: 8 }],
            escrows: vec![EscrowAmount { name: "a".to_owned(), units: 4, ..EscrowAmount::default() }],
            state: vec![4; 32],
        };
        let value = shown(Body::Epoch(epoch));
        assert_eq!((&value["kind"], &value["epoch"]["songs"][0]["discovered"]), (&"epoch".into(), &1.into()));
        assert_eq!(value["epoch"]["escrows"][0], json!({"key": "", "name": "a", "units": 4}));
        assert_eq!(value["epoch"].as_object().unwrap().len(), 11);
        let lengths = [
            (shown(Body::Transfer(Transfer::default())), "transfer", 7),
            (shown(Body::Purchase(Purchase::default())), "purchase", 6),
            (shown(Body::Grant(Grant::default())), "grant", 7),
            (shown(Body::Claim(Claim::default())), "claim", 6),
        ];
        for (value, name, fields) in lengths {
            assert_eq!(value["kind"], name);
            assert_eq!(value[name].as_object().unwrap().len(), fields, "{name}");
        }
        let song = SongRuling { song_id: vec![5; 32], withheld: true };
        let change = council_act::Change::Ruling(Ruling { subject: Some(ruling::Subject::Song(song)) });
        let act = Some(CouncilAct::new(change, 1, [0; 16]));
        let value = shown(Body::Council(Council { act, votes: Vec::new() }));
        assert_eq!(value["council"]["ruling"], json!({"song_id": "05".repeat(32), "withheld": true}));
        assert_eq!(value["council"]["add"], Value::Null);
    }
}
