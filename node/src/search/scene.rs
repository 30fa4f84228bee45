//! The work behind [`super::discover`]: from the indexes that are online to lists by name.
//!
//! Three steps: the songs of these indexes that pass the filter, as rows of (segment, document); the groups of each
//! row, by the columns that a list needs; then, for the groups of the page only, who is online with them. Memory goes
//! by what is online: about 40 bytes a song.

use std::{collections::HashMap, hash::Hash, ops::Range};

use super::{
    Page,
    blocks::{Blocks, Entry},
    discover::{AlbumLine, ArtistLine, Counts, Discovered, Filter, GenreLine, Listed, Scope, TrackLine},
    error::Result,
    groups::{Albums, Grouped, Groups, NumberColumn, Row},
    online::Online,
    parts::{Names, Part, Snapshot, Walk},
    schema::{name, number},
    sources::Sources,
    words,
};
use crate::peer::select::SongLine;

/// A group that no row is in.
const NOWHERE: u32 = u32::MAX;

/// Songs that are online and pass the filter, and what it takes to describe them.
struct Scene<'a> {
    parts: &'a [Part],
    rows: Vec<Row>,
    online: Online,
    sources: &'a dyn Sources,
    page: Page,
}

pub(super) fn discover(
    view: &Snapshot,
    blocks: &dyn Blocks,
    scope: Scope,
    filter: &Filter,
    sources: &dyn Sources,
    page: Page,
) -> Result<Discovered> {
    let parts = view.parts()?;
    let online = Online::now(&parts, sources)?;
    let rows = rows(&parts, &online, filter)?;
    let mut scene = Scene { parts: &parts, rows, online, sources, page };
    let mut discovered = Discovered { schema: 1, ..Discovered::default() };
    match scope {
        Scope::Counts => discovered.counts = Some(scene.counts()?),
        Scope::Artists => discovered.artists = Some(scene.artists()?),
        Scope::Genres => discovered.genres = Some(scene.genres()?),
        Scope::Albums => discovered.albums = Some(scene.albums()?),
        Scope::Tracks => discovered.tracks = Some(scene.tracks(blocks)?),
    }
    Ok(discovered)
}

/// Columns of a segment, and where a name that is asked for stands in each; one of them must have it.
type Allowed = Vec<(Names, Range<u32>)>;

/// One for each name of the filter.
fn allowed(part: &Part, filter: &Filter) -> Result<Vec<Allowed>> {
    let mut all = Vec::new();
    for (wanted, columns) in [
        (&filter.artist, &[name::ARTIST, name::OWNER][..]),
        (&filter.genre, &[name::GENRE]),
        (&filter.album, &[name::ALBUM]),
    ] {
        let Some(wanted) = wanted else { continue };
        let key = words::key(wanted);
        let mut any = Vec::new();
        for column in columns {
            let names = part.names(column)?;
            let spellings = names.spellings(&key)?;
            any.push((names, spellings));
        }
        all.push(any);
    }
    Ok(all)
}

/// The songs that are online and pass.
fn rows(parts: &[Part], online: &Online, filter: &Filter) -> Result<Vec<Row>> {
    let allowed: Vec<Vec<Allowed>> = parts.iter().map(|part| allowed(part, filter)).collect::<Result<_>>()?;
    let mut walk = Walk::new(parts)?;
    let mut rows = Vec::new();
    for song in online.songs() {
        let Some((part, document)) = walk.find(song) else { continue };
        let passes = allowed.get(part).is_none_or(|all| {
            all.iter().all(|any| any.iter().any(|(names, range)| range.contains(&names.ordinal(document))))
        });
        if passes {
            rows.push(Row { part, document, song });
        }
    }
    Ok(rows)
}

/// Artists and whose albums their songs are on, as one set of groups.
struct People {
    groups: Groups,
    artist: Grouped,
    owner: Grouped,
}

impl People {
    /// Whom a song counts for: its artist, and whose album it is on, where these are two.
    fn of(&self, row: &Row) -> impl Iterator<Item = u32> + use<> {
        let (artist, owner) = (self.artist.of(row), self.owner.of(row));
        std::iter::once(artist).chain((owner != artist).then_some(owner))
    }
}

/// The number of distinct seconds for each first, which are numbers below `groups`.
fn distinct<T: Ord + Copy>(mut pairs: Vec<(u32, T)>, groups: usize) -> Vec<u64> {
    pairs.sort_unstable();
    pairs.dedup();
    let mut counts = vec![0u64; groups];
    for (group, _) in pairs {
        if let Some(count) = counts.get_mut(group as usize) {
            *count += 1;
        }
    }
    counts
}

/// The number for a group.
fn at(counts: &[u64], group: u32) -> u64 {
    counts.get(group as usize).copied().unwrap_or(0)
}

impl Scene<'_> {
    fn people(&self) -> Result<People> {
        let mut groups = Groups::default();
        let artist = groups.absorb(self.parts, name::ARTIST, &self.rows)?;
        let owner = groups.absorb(self.parts, name::OWNER, &self.rows)?;
        Ok(People { groups, artist, owner })
    }

    fn listed<T>(&self, total: usize, items: Vec<T>) -> Listed<T> {
        Listed { total: total as u64, offset: self.page.offset as u64, items }
    }

    /// The groups of the page, in the order of their names.
    fn paged(&self, groups: &Groups) -> Vec<u32> {
        let ranks = groups.ranks();
        let mut order = vec![NOWHERE; ranks.len()];
        for (group, rank) in (0u32..).zip(ranks) {
            if let Some(slot) = order.get_mut(rank as usize) {
                *slot = group;
            }
        }
        order.into_iter().skip(self.page.offset).take(self.page.limit).collect()
    }

    /// Distinct peers for each group of a page. `groups` tells the groups of a row.
    fn peers<K, I>(&self, page: &[K], groups: impl Fn(&Row) -> I) -> Vec<u32>
    where
        K: Hash + Eq + Copy,
        I: Iterator<Item = K>,
    {
        let places: HashMap<K, usize> = page.iter().copied().zip(0..).collect();
        let mut served: Vec<Vec<u64>> = vec![Vec::new(); page.len()];
        for row in &self.rows {
            for group in groups(row) {
                if let Some(served) = places.get(&group).and_then(|place| served.get_mut(*place)) {
                    served.extend(self.online.of(row.song));
                }
            }
        }
        served.into_iter().map(|indexes| self.sources.distinct(&mut indexes.into_iter())).collect()
    }

    fn counts(&self) -> Result<Counts> {
        let people = self.people()?;
        let mut genres = Groups::default();
        genres.absorb(self.parts, name::GENRE, &self.rows)?;
        let albums = Albums::open(self.parts, &self.rows)?;
        Ok(Counts {
            artists: people.groups.len() as u64,
            genres: genres.len() as u64,
            albums: albums.keys(&self.rows).len() as u64,
            tracks: self.rows.len() as u64,
        })
    }

    fn artists(&self) -> Result<Listed<ArtistLine>> {
        let people = self.people()?;
        let groups = people.groups.len();
        let mut tracks = vec![0u64; groups];
        for group in self.rows.iter().flat_map(|row| people.of(row)) {
            if let Some(tracks) = tracks.get_mut(group as usize) {
                *tracks += 1;
            }
        }
        let albums = {
            let known = Albums::open(self.parts, &self.rows)?;
            let of = |row| people.of(row).zip(std::iter::repeat(known.key(row)));
            let pairs =
                self.rows.iter().flat_map(|row| of(row).filter_map(|(group, key)| Some((group, key?))));
            distinct(pairs.collect(), groups)
        };
        let page = self.paged(&people.groups);
        let peers = self.peers(&page, |row| people.of(row));
        let line = |(group, sources): (&u32, u32)| ArtistLine {
            name: people.groups.name(*group),
            albums: at(&albums, *group),
            tracks: at(&tracks, *group),
            sources,
        };
        Ok(self.listed(groups, page.iter().zip(peers).map(line).collect()))
    }

    fn genres(&self) -> Result<Listed<GenreLine>> {
        let mut groups = Groups::default();
        let genre = groups.absorb(self.parts, name::GENRE, &self.rows)?;
        let mut people = Groups::default();
        let artist = people.absorb(self.parts, name::ARTIST, &self.rows)?;
        let pairs = self.rows.iter().map(|row| (genre.of(row), artist.of(row)));
        let artists = distinct(pairs.collect(), groups.len());
        let tracks = distinct(self.rows.iter().map(|row| (genre.of(row), row.song)).collect(), groups.len());
        let page = self.paged(&groups);
        let peers = self.peers(&page, |row| std::iter::once(genre.of(row)));
        let line = |(group, sources): (&u32, u32)| GenreLine {
            name: groups.name(*group),
            artists: at(&artists, *group),
            tracks: at(&tracks, *group),
            sources,
        };
        Ok(self.listed(groups.len(), page.iter().zip(peers).map(line).collect()))
    }

    fn albums(&self) -> Result<Listed<AlbumLine>> {
        let albums = Albums::open(self.parts, &self.rows)?;
        let all = albums.keys(&self.rows);
        let page: Vec<(u32, u32)> =
            all.iter().copied().skip(self.page.offset).take(self.page.limit).collect();
        let peers = self.peers(&page, |row| albums.key(row).into_iter());
        let years = NumberColumn::open(self.parts, number::YEAR)?;
        let mut facts: HashMap<(u32, u32), (u64, u64)> = page.iter().map(|key| (*key, (0, 0))).collect();
        for row in &self.rows {
            if let Some((tracks, year)) = albums.key(row).and_then(|key| facts.get_mut(&key)) {
                *tracks += 1;
                *year = match (*year, years.of(row)) {
                    (0, other) | (other, 0) => other,
                    (one, other) => one.min(other),
                };
            }
        }
        let line = |(key, sources): (&(u32, u32), u32)| {
            let (tracks, year) = facts.get(key).copied().unwrap_or_default();
            let (artist, title) = (albums.people.name(key.0), albums.titles.name(key.1));
            AlbumLine { artist, title, year, tracks, sources }
        };
        Ok(self.listed(all.len(), page.iter().zip(peers).map(line).collect()))
    }

    fn tracks(&mut self, blocks: &dyn Blocks) -> Result<Listed<TrackLine>> {
        let mut rows = std::mem::take(&mut self.rows);
        let total = rows.len();
        Albums::open(self.parts, &rows)?.sort(&mut rows, self.page.offset.saturating_add(self.page.limit));
        let mut items = Vec::new();
        for row in rows.iter().skip(self.page.offset).take(self.page.limit) {
            // What is in the index is in the ledger.
            let Entry::Song(song) = blocks.entry(row.song)? else { continue };
            items.push(TrackLine {
                song: SongLine::of(row.song, &song),
                track: song.track,
                disc: song.disc,
                year: song.year,
                sources: self.sources.distinct(&mut self.online.of(row.song)),
            });
        }
        Ok(self.listed(total, items))
    }
}
