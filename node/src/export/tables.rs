//! The tables: their columns, and the rows that a block gives them.

use antiphon_proto::wire::{Song, Variant, block::Body, council_act::Change};
use data_encoding::HEXLOWER;

use super::{Row, json, kind_of};

/// How a column is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// 64 bits, signed: BIGINT.
    Long,
    /// 64 bits, unsigned: UBIGINT.
    Unsigned,
    /// 32 bits, signed: INTEGER.
    Int,
    /// UTF-8 text: VARCHAR.
    Text,
    /// Bytes as they are: BLOB.
    Bytes,
}

/// A column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    /// Its name.
    pub(super) name: &'static str,
    /// How it is stored.
    pub(super) form: Form,
    /// Whether it may be NULL, which is what stands for "not known".
    pub(super) optional: bool,
}

/// One value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell {
    Null,
    Number(u64),
    Text(String),
    Bytes(Vec<u8>),
}

/// A table.
pub(super) struct Table {
    /// Name of its folder.
    pub(super) name: &'static str,
    /// Its columns, in order.
    pub(super) columns: &'static [Column],
    /// Rows that a block gives it.
    pub(super) rows: fn(&Row<'_>) -> Vec<Vec<Cell>>,
}

const fn column(name: &'static str, form: Form) -> Column {
    Column { name, form, optional: false }
}

const fn optional(name: &'static str, form: Form) -> Column {
    Column { name, form, optional: true }
}

/// Every table.
pub(super) const TABLES: [Table; 7] = [
    Table {
        name: "blocks",
        columns: &[
            column("index", Form::Long),
            column("height", Form::Long),
            column("time_ms", Form::Long),
            column("kind", Form::Text),
            column("prev", Form::Text),
            column("hash", Form::Text),
            column("bytes", Form::Int),
            column("leaf_hash", Form::Text),
        ],
        rows: blocks,
    },
    Table {
        name: "songs",
        columns: &[
            column("index", Form::Long),
            column("song_id", Form::Text),
            column("content_hash", Form::Text),
            column("container", Form::Text),
            column("bytes", Form::Long),
            column("duration_ms", Form::Int),
            column("title", Form::Text),
            optional("artist", Form::Text),
            optional("album", Form::Text),
            optional("album_artist", Form::Text),
            optional("genre", Form::Text),
            optional("year", Form::Int),
            optional("track", Form::Int),
            optional("disc", Form::Int),
            optional("isrc", Form::Text),
            optional("mbid", Form::Text),
            column("registrant", Form::Text),
            optional("artist_key", Form::Text),
            column("terms_kind", Form::Text),
            column("price", Form::Unsigned),
            column("created_ms", Form::Long),
            column("block_time_ms", Form::Long),
            column("fingerprint", Form::Bytes),
        ],
        rows: songs,
    },
    Table {
        name: "variants",
        columns: &[
            column("index", Form::Long),
            column("song_id", Form::Text),
            optional("song_index", Form::Long),
            column("content_hash", Form::Text),
            column("container", Form::Text),
            column("bytes", Form::Long),
            column("bitrate_kbps", Form::Int),
            column("registrant", Form::Text),
            column("block_time_ms", Form::Long),
        ],
        rows: variants,
    },
    Table {
        name: "splits",
        columns: &[
            column("song_id", Form::Text),
            column("song_index", Form::Long),
            column("position", Form::Int),
            column("key", Form::Text),
            column("basis_points", Form::Int),
        ],
        rows: splits,
    },
    Table {
        name: "council",
        columns: &[
            column("index", Form::Long),
            column("height", Form::Long),
            column("time_ms", Form::Long),
            column("act_id", Form::Text),
            optional("added", Form::Text),
            optional("removed", Form::Text),
            column("votes", Form::Int),
        ],
        rows: council,
    },
    Table {
        name: "epochs",
        columns: &[
            column("epoch", Form::Long),
            column("height", Form::Long),
            column("time_ms", Form::Long),
            column("plays", Form::Long),
            column("minted_units", Form::Long),
            column("burned_units", Form::Long),
            column("supply_units", Form::Long),
        ],
        rows: epochs,
    },
    Table {
        name: "balances",
        columns: &[column("height", Form::Long), column("account", Form::Text), column("units", Form::Long)],
        rows: balances,
    },
];

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

fn hex(bytes: &[u8]) -> Cell {
    Cell::Text(HEXLOWER.encode(bytes))
}

fn number(number: impl Into<u64>) -> Cell {
    Cell::Number(number.into())
}

/// Empty text is how a block says that something is not known.
fn known_text(known: &str) -> Cell {
    if known.is_empty() { Cell::Null } else { text(known) }
}

/// Zero is how a block says that something is not known.
fn known_number(known: u32) -> Cell {
    if known == 0 { Cell::Null } else { number(known) }
}

fn blocks(row: &Row<'_>) -> Vec<Vec<Cell>> {
    vec![vec![
        number(row.block.index),
        number(row.block.height),
        number(row.block.time_ms),
        text(kind_of(row.block)),
        hex(&row.block.prev),
        hex(&row.hash.0),
        number(row.bytes.len() as u64),
        hex(&row.leaf),
    ]]
}

fn song_in<'r>(row: &'r Row<'_>) -> Option<(&'r Song, String)> {
    match (&row.block.body, row.song) {
        (Some(Body::Song(song)), Some((id, _))) => Some((song, id.to_string())),
        _ => None,
    }
}

fn songs(row: &Row<'_>) -> Vec<Vec<Cell>> {
    let Some((song, id)) = song_in(row) else { return Vec::new() };
    let (terms, price) =
        song.terms.as_ref().map_or(("open", 0), |terms| (json::terms_kind(terms.kind), terms.price));
    let mbid = if song.mbid.is_empty() { Cell::Null } else { Cell::Text(uuid(&song.mbid)) };
    let artist_key = if song.artist_key.is_empty() { Cell::Null } else { hex(&song.artist_key) };
    vec![vec![
        number(row.block.index),
        Cell::Text(id),
        hex(&song.content_hash),
        Cell::Text(json::container(song.container)),
        number(song.bytes),
        number(song.duration_ms),
        text(&song.title),
        known_text(&song.artist),
        known_text(&song.album),
        known_text(&song.album_artist),
        known_text(&song.genre),
        known_number(song.year),
        known_number(song.track),
        known_number(song.disc),
        known_text(&song.isrc),
        mbid,
        hex(&song.registrant),
        artist_key,
        text(terms),
        number(price),
        number(song.created_ms),
        number(row.block.time_ms),
        Cell::Bytes(song.fingerprint.clone()),
    ]]
}

/// How MusicBrainz writes its ids: 8-4-4-4-12 hexadecimal digits.
fn uuid(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(36);
    for (position, byte) in bytes.iter().enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        out.push_str(&HEXLOWER.encode(&[*byte]));
    }
    out
}

fn variants(row: &Row<'_>) -> Vec<Vec<Cell>> {
    let Some(Body::Variant(variant)) = &row.block.body else { return Vec::new() };
    let Variant { song_id, content_hash, container, bytes, bitrate_kbps, registrant, .. } = variant;
    vec![vec![
        number(row.block.index),
        hex(song_id),
        row.song.map_or(Cell::Null, |(_, index)| number(index)),
        hex(content_hash),
        Cell::Text(json::container(*container)),
        number(*bytes),
        number(*bitrate_kbps),
        hex(registrant),
        number(row.block.time_ms),
    ]]
}

fn splits(row: &Row<'_>) -> Vec<Vec<Cell>> {
    let Some((song, id)) = song_in(row) else { return Vec::new() };
    let payees = song.splits.iter().zip(0_u64..);
    payees
        .map(|(split, position)| {
            vec![
                text(&id),
                number(row.block.index),
                number(position),
                hex(&split.key),
                number(split.basis_points),
            ]
        })
        .collect()
}

fn council(row: &Row<'_>) -> Vec<Vec<Cell>> {
    let Some(Body::Council(council)) = &row.block.body else { return Vec::new() };
    let Some(act) = &council.act else { return Vec::new() };
    let key = |key: Option<&Vec<u8>>| key.filter(|key| !key.is_empty()).map_or(Cell::Null, |key| hex(key));
    let member = act.change.as_ref().and_then(|change| match change {
        Change::Member(member) => Some(member),
        _ => None,
    });
    vec![vec![
        number(row.block.index),
        number(row.block.height),
        number(row.block.time_ms),
        Cell::Text(act.id().to_string()),
        key(member.map(|member| &member.add)),
        key(member.map(|member| &member.remove)),
        number(council.votes.len() as u64),
    ]]
}

fn epochs(row: &Row<'_>) -> Vec<Vec<Cell>> {
    let (Some(Body::Epoch(epoch)), Some(settled)) = (&row.block.body, &row.settled) else {
        return Vec::new();
    };
    vec![vec![
        number(epoch.number),
        number(row.block.height),
        number(row.block.time_ms),
        number(epoch.plays),
        number(epoch.minted),
        number(epoch.burned),
        number(settled.supply),
    ]]
}

fn balances(row: &Row<'_>) -> Vec<Vec<Cell>> {
    let settled = row.settled.iter().flat_map(|settled| &settled.balances);
    settled.map(|(key, units)| vec![number(row.block.height), hex(&key.0), number(*units)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_look_as_musicbrainz_writes_them() {
        let bytes: Vec<u8> = (0..16).collect();
        assert_eq!(uuid(&bytes), "00010203-0405-0607-0809-0a0b0c0d0e0f");
    }

    #[test]
    fn every_column_is_in_the_data_dictionary() {
        let text = include_str!("../../../docs/DATA.md");
        for table in &TABLES {
            let heading = format!("### {}\n", table.name);
            let section = text.split_once(&heading).unwrap_or_else(|| panic!("no {heading:?}")).1;
            let section = section.split("\n### ").next().unwrap();
            let described: Vec<&str> = section
                .lines()
                .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
                .map(|(name, _)| name)
                .collect();
            let columns: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
            assert_eq!(described, columns, "{}", table.name);
        }
    }
}
