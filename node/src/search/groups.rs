//! Songs grouped by a name, over all segments.
//!
//! In a segment a name is a number in a sorted dictionary. Only names that some song of the answer has are looked up
//! there, and those with one key become one group, whose name is what most of its songs call it.

use std::collections::HashMap;

use super::{
    error::Result,
    parts::{Names, Numbers, Part},
    schema::{name, number},
};

/// A song of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    /// Segment.
    pub(super) part: usize,
    /// Document in it.
    pub(super) document: u32,
    /// Ledger index.
    pub(super) song: u64,
}

/// A column of names in all segments.
pub(super) struct NameColumn(Vec<Names>);

impl NameColumn {
    pub(super) fn open(parts: &[Part], column: &str) -> Result<Self> {
        Ok(Self(parts.iter().map(|part| part.names(column)).collect::<Result<_>>()?))
    }

    /// The column of each segment.
    pub(super) fn parts(&self) -> &[Names] {
        &self.0
    }

    fn ordinal(&self, row: &Row) -> usize {
        self.0.get(row.part).map_or(0, |names| names.ordinal(row.document) as usize)
    }
}

/// A column of numbers in all segments.
pub(super) struct NumberColumn(Vec<Numbers>);

impl NumberColumn {
    pub(super) fn open(parts: &[Part], column: &str) -> Result<Self> {
        Ok(Self(parts.iter().map(|part| part.numbers(column)).collect::<Result<_>>()?))
    }

    pub(super) fn of(&self, row: &Row) -> u64 {
        self.0.get(row.part).map_or(0, |numbers| numbers.of(row.document))
    }
}

/// All spellings of one name.
#[derive(Debug, Default)]
struct Group {
    key: String,
    /// Each with the number of songs that have it.
    spellings: Vec<(String, u32)>,
}

/// Names that occur, each once, by number.
#[derive(Debug, Default)]
pub(super) struct Groups {
    list: Vec<Group>,
    by_key: HashMap<String, u32>,
}

/// The group of each row in one column.
pub(super) struct Grouped {
    column: NameColumn,
    /// By segment and number in its dictionary.
    ids: Vec<Vec<u32>>,
}

impl Grouped {
    pub(super) fn of(&self, row: &Row) -> u32 {
        let ids = self.ids.get(row.part);
        ids.and_then(|ids| ids.get(self.column.ordinal(row))).copied().unwrap_or(0)
    }
}

impl Groups {
    /// Takes in the names that these rows have in a column. Columns that share groups share their numbers.
    pub(super) fn absorb(&mut self, parts: &[Part], column: &str, rows: &[Row]) -> Result<Grouped> {
        let column = NameColumn::open(parts, column)?;
        // First the number of rows with each name, then its group.
        let mut ids: Vec<Vec<u32>> = column.parts().iter().map(|names| vec![0; names.len()]).collect();
        for row in rows {
            if let Some(count) = ids.get_mut(row.part).and_then(|counts| counts.get_mut(column.ordinal(row)))
            {
                *count = count.saturating_add(1);
            }
        }
        for (names, ids) in column.parts().iter().zip(&mut ids) {
            let used: Vec<u64> =
                (0u64..).zip(&*ids).filter(|(_, count)| **count > 0).map(|(at, _)| at).collect();
            let mut at = used.iter();
            names.resolve(&used, &mut |key, name| {
                let place = at.next().and_then(|at| usize::try_from(*at).ok());
                if let Some(slot) = place.and_then(|place| ids.get_mut(place)) {
                    *slot = self.add(key, name, *slot);
                }
            })?;
        }
        Ok(Grouped { column, ids })
    }

    fn add(&mut self, key: &str, name: &str, count: u32) -> u32 {
        let id = match self.by_key.get(key) {
            Some(id) => *id,
            None => {
                let id = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
                self.list.push(Group { key: key.to_owned(), spellings: Vec::new() });
                self.by_key.insert(key.to_owned(), id);
                id
            }
        };
        if let Some(group) = self.list.get_mut(id as usize) {
            match group.spellings.iter_mut().find(|(spelling, _)| spelling == name) {
                Some((_, sum)) => *sum = sum.saturating_add(count),
                None => group.spellings.push((name.to_owned(), count)),
            }
        }
        id
    }

    /// The group of a key.
    pub(super) fn find(&self, key: &str) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    /// Number of groups.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// What most songs of a group call it; of several, the first in the order of letters.
    pub(super) fn name(&self, group: u32) -> String {
        let spellings = self.list.get(group as usize).map_or(&[][..], |group| &group.spellings);
        let best = spellings.iter().max_by(|(a, many), (b, more)| many.cmp(more).then_with(|| b.cmp(a)));
        best.map(|(name, _)| name.clone()).unwrap_or_default()
    }

    /// Whether a group is that of songs without a name.
    pub(super) fn is_nameless(&self, group: u32) -> bool {
        self.list.get(group as usize).is_none_or(|group| group.key.is_empty())
    }

    /// The place of each group in the order of keys; what has no name comes last.
    pub(super) fn ranks(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0u32..).take(self.list.len()).collect();
        let key = |group: &u32| self.list.get(*group as usize).map_or("", |group| group.key.as_str());
        order.sort_unstable_by(|a, b| (key(a).is_empty(), key(a)).cmp(&(key(b).is_empty(), key(b))));
        let mut ranks = vec![0; order.len()];
        for (rank, group) in (0u32..).zip(order) {
            if let Some(slot) = ranks.get_mut(group as usize) {
                *slot = rank;
            }
        }
        ranks
    }
}

/// Whose album a song is on, which, and where on it: how songs are put in order.
pub(super) struct Albums {
    pub(super) people: Groups,
    pub(super) owner: Grouped,
    pub(super) titles: Groups,
    pub(super) album: Grouped,
    places: NumberColumn,
}

impl Albums {
    pub(super) fn open(parts: &[Part], rows: &[Row]) -> Result<Self> {
        let (mut people, mut titles) = (Groups::default(), Groups::default());
        Ok(Self {
            owner: people.absorb(parts, name::OWNER, rows)?,
            album: titles.absorb(parts, name::ALBUM, rows)?,
            people,
            titles,
            places: NumberColumn::open(parts, number::PLACE)?,
        })
    }

    /// The album of a song, as whose and what; `None` for a song without one.
    pub(super) fn key(&self, row: &Row) -> Option<(u32, u32)> {
        let album = self.album.of(row);
        (!self.titles.is_nameless(album)).then(|| (self.owner.of(row), album))
    }

    /// The albums of some songs, by the names of whose they are and their own.
    pub(super) fn keys(&self, rows: &[Row]) -> Vec<(u32, u32)> {
        let mut keys: Vec<(u32, u32)> = rows.iter().filter_map(|row| self.key(row)).collect();
        keys.sort_unstable();
        keys.dedup();
        let (owners, titles) = (self.people.ranks(), self.titles.ranks());
        let rank = |ranks: &[u32], group: u32| ranks.get(group as usize).copied().unwrap_or(u32::MAX);
        keys.sort_unstable_by_key(|(owner, album)| (rank(&owners, *owner), rank(&titles, *album)));
        keys
    }

    /// Puts the first `most` rows in order: by whose album they are on, album, disc, track, and ledger index.
    pub(super) fn sort(&self, rows: &mut [Row], most: usize) {
        let (owners, albums) = (self.people.ranks(), self.titles.ranks());
        let rank = |ranks: &[u32], group: u32| ranks.get(group as usize).copied().unwrap_or(u32::MAX);
        let order = |row: &Row| {
            let (owner, album) = (rank(&owners, self.owner.of(row)), rank(&albums, self.album.of(row)));
            (owner, album, self.places.of(row), row.song)
        };
        let most = if most < rows.len() {
            rows.select_nth_unstable_by_key(most, order);
            most
        } else {
            rows.len()
        };
        rows[..most].sort_by_cached_key(order);
    }
}
