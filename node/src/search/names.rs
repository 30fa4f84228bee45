//! Albums and artists of the whole ledger by their name.

use std::collections::BTreeMap;

use super::{
    Named,
    error::Result,
    groups::{Albums, Groups, Row},
    parts::{Part, Snapshot},
    schema::{name, number},
    words,
};

/// Songs that have this name in one of these columns.
fn rows(parts: &[Part], columns: &[&str], key: &str) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    if key.is_empty() {
        return Ok(rows);
    }
    for (at, part) in parts.iter().enumerate() {
        let mut named = Vec::new();
        for column in columns {
            let names = part.names(column)?;
            let spellings = names.spellings(key)?;
            if !spellings.is_empty() {
                named.push((names, spellings));
            }
        }
        if named.is_empty() {
            continue;
        }
        let index = part.numbers(number::INDEX)?;
        for document in 0..part.documents() {
            if named.iter().any(|(names, spellings)| spellings.contains(&names.ordinal(document))) {
                rows.push(Row { part: at, document, song: index.of(document) });
            }
        }
    }
    Ok(rows)
}

pub(super) fn albums(view: &Snapshot, name: &str, most: usize) -> Result<Vec<Named>> {
    let parts = view.parts()?;
    let mut rows = rows(&parts, &[name::ALBUM], &words::key(name))?;
    let albums = Albums::open(&parts, &rows)?;
    albums.sort(&mut rows, most);
    rows.truncate(most);
    let mut found: Vec<(u32, Named)> = Vec::new();
    let mut at: BTreeMap<u32, usize> = BTreeMap::new();
    for row in &rows {
        let owner = albums.owner.of(row);
        let place = *at.entry(owner).or_insert_with(|| {
            let (name, whose) = (albums.titles.name(albums.album.of(row)), albums.people.name(owner));
            found.push((owner, Named { name, owner: Some(whose), songs: Vec::new() }));
            found.len() - 1
        });
        if let Some((_, named)) = found.get_mut(place) {
            named.songs.push(row.song);
        }
    }
    Ok(found.into_iter().map(|(_, named)| named).collect())
}

pub(super) fn artist(view: &Snapshot, name: &str, most: usize) -> Result<Option<Named>> {
    let parts = view.parts()?;
    let key = words::key(name);
    let mut rows = rows(&parts, &[name::ARTIST, name::OWNER], &key)?;
    if rows.is_empty() {
        return Ok(None);
    }
    let albums = Albums::open(&parts, &rows)?;
    let mut people = Groups::default();
    people.absorb(&parts, name::ARTIST, &rows)?;
    people.absorb(&parts, name::OWNER, &rows)?;
    albums.sort(&mut rows, most);
    rows.truncate(most);
    let name = people.find(&key).map(|group| people.name(group)).unwrap_or_default();
    Ok(Some(Named { name, owner: None, songs: rows.iter().map(|row| row.song).collect() }))
}
