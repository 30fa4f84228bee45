//! Parquet files of a range, one for each table, written a row group at a time so that memory stays small.

use std::{fs::File, ops::Range, path::PathBuf, sync::Arc};

use anyhow::Context;
use parquet::{
    basic::{Compression, LogicalType, Repetition, Type as Physical},
    data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type},
    errors::ParquetError,
    file::{
        metadata::KeyValue,
        properties::{WriterProperties, WriterPropertiesPtr},
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::types::{ColumnPath, Type, TypePtr},
};

use super::{
    Row, Sink, Target,
    folder::{Folder, Pending, make_dir, range_name},
    tables::{Cell, Column, Form, TABLES, Table},
};

/// Rows that are gathered before they are written: 4,096 songs are about 13 MB, and as much again while they are
/// encoded.
const GROUP_ROWS: usize = 4_096;

/// The folder of all tables.
pub(super) struct Tables {
    folder: Folder,
}

impl Tables {
    pub(super) fn new(folder: Folder) -> anyhow::Result<Self> {
        for table in &TABLES {
            make_dir(&folder.root().join(table.name))?;
        }
        Ok(Self { folder })
    }

    fn path(&self, table: &Table, first: u64) -> PathBuf {
        self.folder.root().join(table.name).join(range_name(first, "parquet"))
    }
}

impl Target for Tables {
    fn missing(&self, size: u64) -> (Vec<Range<u64>>, u64) {
        let there = |first| TABLES.iter().all(|table| self.path(table, first).is_file());
        let (ranges, kept) = self.folder.missing(size, there);
        (ranges, kept.saturating_mul(TABLES.len() as u64))
    }

    fn begin(&self, range: &Range<u64>) -> anyhow::Result<Box<dyn Sink>> {
        let about = vec![
            KeyValue::new("antiphon.network".to_owned(), self.folder.network().to_owned()),
            KeyValue::new("antiphon.first_block".to_owned(), range.start.to_string()),
            KeyValue::new("antiphon.end_block".to_owned(), range.end.to_string()),
        ];
        let files: anyhow::Result<_> = TABLES
            .iter()
            .map(|table| TableFile::create(table, self.path(table, range.start), about.clone()))
            .collect();
        Ok(Box::new(RangeFiles(files?)))
    }

    fn reached(&mut self, end: u64) -> anyhow::Result<()> {
        self.folder.reached(end)
    }

    fn tells_balances(&self) -> bool {
        true
    }
}

struct RangeFiles(Vec<TableFile>);

impl Sink for RangeFiles {
    fn push(&mut self, row: &Row<'_>) -> anyhow::Result<()> {
        self.0.iter_mut().try_for_each(|file| file.push(row))
    }

    fn finish(self: Box<Self>) -> anyhow::Result<u64> {
        let files = self.0.len() as u64;
        self.0.into_iter().try_for_each(TableFile::finish)?;
        Ok(files)
    }
}

/// A table's file while it is written.
struct TableFile {
    table: &'static Table,
    pending: Pending,
    writer: SerializedFileWriter<File>,
    rows: usize,
    columns: Vec<Buffer>,
}

impl TableFile {
    fn create(table: &'static Table, path: PathBuf, about: Vec<KeyValue>) -> anyhow::Result<Self> {
        let (pending, file) = Pending::create(&path)?;
        let writer = SerializedFileWriter::new(file, schema(table)?, properties(table, about))
            .with_context(|| format!("cannot write {}", path.display()))?;
        let columns = table.columns.iter().map(Buffer::new).collect();
        Ok(Self { table, pending, writer, rows: 0, columns })
    }

    fn push(&mut self, row: &Row<'_>) -> anyhow::Result<()> {
        for cells in (self.table.rows)(row) {
            for (buffer, cell) in self.columns.iter_mut().zip(cells) {
                buffer.push(cell).with_context(|| format!("block {}", row.block.index))?;
            }
            self.rows += 1;
        }
        if self.rows >= GROUP_ROWS { self.write_group() } else { Ok(()) }
    }

    fn write_group(&mut self) -> anyhow::Result<()> {
        let written = group(&mut self.writer, &mut self.columns);
        self.rows = 0;
        written.with_context(|| format!("cannot write {}", self.pending.path().display()))
    }

    fn finish(mut self) -> anyhow::Result<()> {
        if self.rows > 0 {
            self.write_group()?;
        }
        let file = self.writer.into_inner();
        let file = file.with_context(|| format!("cannot write {}", self.pending.path().display()))?;
        self.pending.place(file)
    }
}

/// Writes what the buffers hold as one row group, and empties them.
fn group(writer: &mut SerializedFileWriter<File>, columns: &mut [Buffer]) -> Result<(), ParquetError> {
    let mut group = writer.next_row_group()?;
    for buffer in columns {
        let Some(mut column) = group.next_column()? else {
            return Err(ParquetError::General("the schema has fewer columns than the row".to_owned()));
        };
        buffer.write(&mut column)?;
        column.close()?;
    }
    group.close()?;
    Ok(())
}

/// A column's values that wait for their row group.
struct Buffer {
    values: Values,
    /// For a column that may be NULL: 1 for each value, 0 for each NULL.
    levels: Option<Vec<i16>>,
}

enum Values {
    Long(Vec<i64>),
    Unsigned(Vec<i64>),
    Int(Vec<i32>),
    Bytes(Vec<ByteArray>),
}

impl Buffer {
    fn new(column: &Column) -> Self {
        let values = match column.form {
            Form::Long => Values::Long(Vec::new()),
            Form::Unsigned => Values::Unsigned(Vec::new()),
            Form::Int => Values::Int(Vec::new()),
            Form::Text | Form::Bytes => Values::Bytes(Vec::new()),
        };
        Self { values, levels: column.optional.then(Vec::new) }
    }

    fn push(&mut self, cell: Cell) -> anyhow::Result<()> {
        if let Some(levels) = &mut self.levels {
            levels.push(i16::from(cell != Cell::Null));
            if cell == Cell::Null {
                return Ok(());
            }
        }
        match (&mut self.values, cell) {
            (Values::Long(values), Cell::Number(number)) => values.push(i64::try_from(number)?),
            // The same 64 bits; the column's type says that they have no sign.
            (Values::Unsigned(values), Cell::Number(number)) => values.push(number.cast_signed()),
            (Values::Int(values), Cell::Number(number)) => values.push(i32::try_from(number)?),
            (Values::Bytes(values), Cell::Text(text)) => values.push(text.into_bytes().into()),
            (Values::Bytes(values), Cell::Bytes(bytes)) => values.push(bytes.into()),
            (_, cell) => anyhow::bail!("the column cannot hold {cell:?}"),
        }
        Ok(())
    }

    fn write(&mut self, column: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        let levels = self.levels.as_deref();
        match &mut self.values {
            Values::Long(values) | Values::Unsigned(values) => {
                column.typed::<Int64Type>().write_batch(values, levels, None)?;
                values.clear();
            }
            Values::Int(values) => {
                column.typed::<Int32Type>().write_batch(values, levels, None)?;
                values.clear();
            }
            Values::Bytes(values) => {
                column.typed::<ByteArrayType>().write_batch(values, levels, None)?;
                values.clear();
            }
        }
        if let Some(levels) = &mut self.levels {
            levels.clear();
        }
        Ok(())
    }
}

fn schema(table: &Table) -> Result<TypePtr, ParquetError> {
    let fields: Result<Vec<TypePtr>, ParquetError> = table.columns.iter().map(field).collect();
    Ok(Arc::new(Type::group_type_builder(table.name).with_fields(fields?).build()?))
}

fn field(column: &Column) -> Result<TypePtr, ParquetError> {
    let unsigned = LogicalType::integer(64, false);
    let (physical, logical) = match column.form {
        Form::Long => (Physical::INT64, None),
        Form::Unsigned => (Physical::INT64, Some(unsigned)),
        Form::Int => (Physical::INT32, None),
        Form::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Form::Bytes => (Physical::BYTE_ARRAY, None),
    };
    let repetition = if column.optional { Repetition::OPTIONAL } else { Repetition::REQUIRED };
    let built = Type::primitive_type_builder(column.name, physical)
        .with_repetition(repetition)
        .with_logical_type(logical)
        .build()?;
    Ok(Arc::new(built))
}

fn properties(table: &Table, about: Vec<KeyValue>) -> WriterPropertiesPtr {
    let mut builder = WriterProperties::builder()
        .set_created_by(format!("antiphon {}", env!("CARGO_PKG_VERSION")))
        .set_compression(Compression::SNAPPY)
        .set_key_value_metadata(Some(about));
    for column in table.columns.iter().filter(|column| column.form == Form::Bytes) {
        // What is compressed already, and never twice the same.
        let path = ColumnPath::from(column.name);
        builder = builder
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_compression(path, Compression::UNCOMPRESSED);
    }
    Arc::new(builder.build())
}

#[cfg(test)]
mod tests {
    use antiphon_ledger::tree;
    use antiphon_proto::{
        BlockHash, NetworkId, PublicKey,
        wire::{
            Amount, Block, Council, CouncilAct, CouncilVote, Epoch, Song, Split, Terms, Variant, block::Body,
        },
    };
    use parquet::{
        file::reader::{FileReader, SerializedFileReader},
        record::Field,
    };
    use proptest::prelude::*;

    use super::{super::accounts::Settled, *};

    /// Writes the blocks as one range, reads every table back, and compares.
    fn round_trip(blocks: &[Block]) {
        let directory = tempfile::tempdir().unwrap();
        let size = blocks.len() as u64;
        let folder = Folder::open(directory.path(), "parquet.json", NetworkId([1; 32]), size).unwrap();
        let tables = Tables::new(folder).unwrap();
        let mut sink = tables.begin(&(0..size)).unwrap();
        let mut expected = [const { Vec::new() }; TABLES.len()];
        for block in blocks {
            let bytes = block.to_bytes();
            let song = match &block.body {
                Some(Body::Song(song)) => Some((song.id(), block.index)),
                _ => None,
            };
            let (hash, leaf) = (BlockHash::of(&bytes), tree::leaf_hash(&bytes));
            let settled = match &block.body {
                Some(Body::Epoch(epoch)) => {
                    let balances = epoch.credits.iter().map(|amount| (PublicKey([7; 32]), amount.units));
                    Some(Settled { supply: epoch.minted, balances: balances.collect() })
                }
                _ => None,
            };
            let row = Row { bytes: &bytes, block, hash, leaf, song, settled };
            sink.push(&row).unwrap();
            for (table, rows) in TABLES.iter().zip(&mut expected) {
                rows.extend((table.rows)(&row));
            }
        }
        assert_eq!(sink.finish().unwrap(), TABLES.len() as u64);
        for (table, expected) in TABLES.iter().zip(expected) {
            let reader = SerializedFileReader::new(File::open(tables.path(table, 0)).unwrap()).unwrap();
            let groups = expected.len().div_ceil(GROUP_ROWS);
            assert!(reader.num_row_groups() <= groups, "{}", table.name);
            let read: Vec<Vec<Cell>> = reader
                .get_row_iter(None)
                .unwrap()
                .map(|row| row.unwrap().get_column_iter().map(|(_, field)| cell(field)).collect())
                .collect();
            assert_eq!(read, expected, "{}", table.name);
        }
    }

    fn cell(field: &Field) -> Cell {
        match field {
            Field::Null => Cell::Null,
            Field::Int(number) => Cell::Number(u64::try_from(*number).unwrap()),
            Field::Long(number) => Cell::Number(u64::try_from(*number).unwrap()),
            Field::ULong(number) => Cell::Number(*number),
            Field::Str(text) => Cell::Text(text.clone()),
            Field::Bytes(bytes) => Cell::Bytes(bytes.data().to_vec()),
            other => panic!("{other:?}"),
        }
    }

    prop_compose! {
        fn song()(
            fixed in prop::collection::vec(any::<[u8; 32]>(), 3),
            fingerprint in prop::collection::vec(any::<u8>(), 0..40),
            texts in prop::collection::vec("[a-z ü\u{1F3B5}]{0,12}", 5),
            numbers in prop::collection::vec(0..10_000_u32, 4),
            mbid in prop::option::of(any::<[u8; 16]>()),
            artist in any::<bool>(),
            payees in prop::collection::vec(any::<[u8; 32]>(), 0..5),
            terms in prop::option::of((0..4_i32, any::<u64>())),
            container in prop::sample::select(vec![0_u32, 2, 10, 255]),
            bytes in 1..=4_u64 << 30,
        ) -> Body {
            Body::Song(Song {
                registrant: fixed[0].to_vec(),
                fingerprint,
                content_hash: fixed[1].to_vec(),
                container,
                bytes,
                duration_ms: numbers[0],
                title: texts[0].clone(),
                artist: texts[1].clone(),
                album: texts[2].clone(),
                album_artist: texts[3].clone(),
                genre: texts[4].clone(),
                year: numbers[1],
                track: numbers[2],
                disc: numbers[3],
                isrc: String::new(),
                mbid: mbid.map(|id| id.to_vec()).unwrap_or_default(),
                artist_key: if artist { fixed[2].to_vec() } else { Vec::new() },
                splits: payees.iter().map(|key| Split { key: key.to_vec(), basis_points: 7 }).collect(),
                terms: terms.map(|(kind, price)| Terms { kind, price }),
                created_ms: 1,
                stamp: u64::MAX,
                signature: vec![9; 64],
            })
        }
    }

    fn variant() -> impl Strategy<Value = Body> {
        (any::<[u8; 32]>(), any::<[u8; 32]>(), 0..200_000_u32).prop_map(|(song, content, bitrate_kbps)| {
            Body::Variant(Variant {
                song_id: song.to_vec(),
                content_hash: content.to_vec(),
                container: 1,
                bytes: 5,
                bitrate_kbps,
                registrant: vec![3; 32],
                stamp: 0,
                signature: vec![4; 64],
            })
        })
    }

    fn council() -> impl Strategy<Value = Body> {
        let key = prop::option::of(any::<[u8; 32]>().prop_map(PublicKey));
        (key.clone(), key, any::<u64>(), 0..9_usize).prop_map(|(add, remove, expires_height, votes)| {
            let vote = CouncilVote { member: vec![1; 32], signature: vec![2; 64] };
            Body::Council(Council {
                act: Some(CouncilAct::change_member(add, remove, expires_height, [3; 16])),
                votes: vec![vote; votes],
            })
        })
    }

    fn epoch() -> impl Strategy<Value = Body> {
        (prop::collection::vec(0..1_000_u64, 0..5), 0..1_000_u64, 1..9_u32).prop_map(
            |(units, minted, plays)| {
                let credits = units.into_iter().map(|units| Amount { key: vec![6; 32], units });
                Body::Epoch(Epoch {
                    number: 1,
                    plays,
                    minted,
                    credits: credits.collect(),
                    ..Epoch::default()
                })
            },
        )
    }

    fn block((body, index): (Body, u64)) -> Block {
        Block {
            version: 1,
            index,
            prev: vec![5; 32],
            height: index + 1,
            time_ms: 1_700_000_000_000,
            body: Some(body),
        }
    }

    fn ledger(bodies: Vec<Body>) -> Vec<Block> {
        bodies.into_iter().zip(0..).map(block).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn what_is_written_is_read(bodies in prop::collection::vec(prop_oneof![song(), variant(), council(), epoch()], 0..30)) {
            round_trip(&ledger(bodies));
        }
    }

    #[test]
    fn more_rows_than_a_group_holds() {
        let body = Body::Song(Song {
            registrant: vec![1; 32],
            content_hash: vec![2; 32],
            splits: (0..16).map(|key| Split { key: vec![key; 32], basis_points: 625 }).collect(),
            ..Song::default()
        });
        round_trip(&ledger(vec![body; GROUP_ROWS + 7]));
    }

    #[test]
    fn numbers_that_do_not_fit_are_errors() {
        let long = Column { name: "x", form: Form::Long, optional: false };
        assert!(Buffer::new(&long).push(Cell::Number(u64::MAX)).is_err());
        assert!(Buffer::new(&long).push(Cell::Null).is_err());
        assert!(Buffer::new(&long).push(Cell::Text(String::new())).is_err());
    }
}
