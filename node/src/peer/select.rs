//! Which song somebody means: an id, the beginning of one, a ledger index, or words; or which album or artist.

use std::collections::BTreeSet;

use antiphon_ledger::Ledger;
use antiphon_proto::{ContentHash, SongId, wire::Song};
use serde::{Deserialize, Serialize};

use crate::{
    failure::{Failure, Kind},
    search::{self, Index, Named, Page},
};

/// Shortest beginning of a song id: 32 bits tell a million songs apart well enough to be shown a list otherwise.
const ID_DIGITS: usize = 8;
/// Songs listed when words fit several.
const LISTED: usize = 20;
/// Songs that an album or an artist may mean. Whoever wants more should say which albums.
pub const MANY: usize = 2_000;
/// Songs that are suggested when none is meant.
const SUGGESTED: usize = 3;
/// What says that an album is meant.
const ALBUM: &str = "album:";
/// What says that an artist is meant.
const ARTIST: &str = "artist:";

/// A song of the ledger, as commands show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SongLine {
    /// Ledger index of its block.
    pub index: u64,
    /// Song id.
    pub id: String,
    /// Title.
    pub title: String,
    /// Artist.
    pub artist: String,
    /// Album.
    pub album: String,
    /// Milliseconds.
    pub duration_ms: u32,
}

/// Artist and title, the way people name a song.
#[must_use]
pub fn name(artist: &str, title: &str) -> String {
    if artist.is_empty() { title.to_owned() } else { format!("{artist} - {title}") }
}

impl SongLine {
    /// The line of a song.
    #[must_use]
    pub fn of(index: u64, song: &Song) -> Self {
        Self {
            index,
            id: song.id().to_string(),
            title: song.title.clone(),
            artist: song.artist.clone(),
            album: song.album.clone(),
            duration_ms: song.duration_ms,
        }
    }
}

/// A song, and the one encoding that was asked for by its content hash.
pub struct Selected {
    /// Ledger index of the song's block.
    pub index: u64,
    /// The song.
    pub song: Song,
    /// When a content hash was given: only this will do.
    pub content: Option<ContentHash>,
}

/// Finds the one song that `words` mean. Reads the ledger; call it off the event loop.
///
/// # Errors
/// [`Kind::NotFound`] when there is none, [`Kind::Usage`] with a list when there are several.
pub fn select(ledger: &Ledger, index: &Index, words: &str) -> anyhow::Result<Selected> {
    let words = words.trim();
    if let Some(found) = by_number(ledger, words)? {
        return Ok(found);
    }
    Candidates::of(ledger, index, words)?.one(ledger, index)
}

/// Finds the songs that `words` mean: one as [`select`] does, or all of an album or artist. `album:NAME`, `artist:NAME`
/// and both together say so; plain words mean an album or artist when they are its whole name and no song's whole
/// title. Albums are in the order of their tracks. Reads the ledger; call it off the event loop.
///
/// # Errors
/// As [`select`]; [`Kind::Usage`] for more than [`MANY`] songs too.
pub fn select_many(ledger: &Ledger, index: &Index, words: &str) -> anyhow::Result<Vec<Selected>> {
    let words = words.trim();
    if let Some((artist, album)) = prefixed(words) {
        return match album {
            Some(album) => one_album(ledger, words, albums(ledger, index, album, artist)?),
            None => by_artist(ledger, index, artist.unwrap_or_default())?
                .map_or_else(|| Err(no_such(words)), |named| all(ledger, words, named)),
        };
    }
    if let Some(found) = by_number(ledger, words)? {
        return Ok(vec![found]);
    }
    let songs = Candidates::of(ledger, index, words)?;
    if songs.titled.is_empty() {
        let albums = albums(ledger, index, words, None)?;
        match (albums.is_empty(), by_artist(ledger, index, words)?) {
            (true, None) => {}
            (true, Some(named)) => return all(ledger, words, named),
            (false, None) => return one_album(ledger, words, albums),
            (false, Some(_)) => {
                let message =
                    format!("{words:?} is an album and an artist; write {ALBUM}{words} or {ARTIST}{words}");
                return Err(Failure::new(Kind::Usage, message).into());
            }
        }
    }
    Ok(vec![songs.one(ledger, index)?])
}

/// A ledger index or a hash.
fn by_number(ledger: &Ledger, words: &str) -> anyhow::Result<Option<Selected>> {
    if let Some(index) = words.strip_prefix('#').and_then(|number| number.parse().ok()) {
        let song = ledger.song(index)?;
        let song = song.ok_or_else(|| {
            Failure::new(Kind::NotFound, format!("block {index} is not a song of the ledger"))
        })?;
        return Ok(Some(Selected { index, song, content: None }));
    }
    by_hash(ledger, words)
}

fn by_hash(ledger: &Ledger, text: &str) -> anyhow::Result<Option<Selected>> {
    if text.len() < ID_DIGITS || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    if let Ok(id) = text.parse::<SongId>() {
        if let Some(index) = ledger.by_song_id(&id)? {
            return one(ledger, index, None).map(Some);
        }
        let content = ContentHash(id.0);
        return match ledger.by_content(&content)? {
            Some(entry) => one(ledger, entry.song_index, Some(content)).map(Some),
            None => Ok(None),
        };
    }
    let matches = ledger.songs_with_id_prefix(&text.parse()?, LISTED)?;
    let matches: Vec<u64> = matches.into_iter().map(|(_, index)| index).collect();
    match matches[..] {
        [] => Ok(None),
        [index] => one(ledger, index, None).map(Some),
        _ => Err(several(ledger, text, &matches)),
    }
}

fn one(ledger: &Ledger, index: u64, content: Option<ContentHash>) -> anyhow::Result<Selected> {
    let song = ledger
        .song(index)?
        .ok_or_else(|| Failure::new(Kind::NotFound, format!("block {index} is not a song")))?;
    Ok(Selected { index, song, content })
}

/// Songs that words may mean, [`LISTED`] of each kind at most.
struct Candidates<'w> {
    words: &'w str,
    /// Their whole title is this.
    titled: Vec<u64>,
    /// They have every word.
    matching: Vec<u64>,
}

impl<'w> Candidates<'w> {
    fn of(ledger: &Ledger, index: &Index, words: &'w str) -> anyhow::Result<Self> {
        let (covered, (titled, matching)) =
            indexed(index, |index| Ok((index.titled(words, LISTED)?, index.matching(words, LISTED)?)));
        let mut found = Self { words, titled, matching };
        each_behind(ledger, covered, |index, song| {
            found.add(index, search::same_name(&song.title, words), search::matches(words, song));
        })?;
        Ok(found)
    }

    fn add(&mut self, index: u64, titled: bool, matching: bool) {
        for (list, is) in [(&mut self.titled, titled), (&mut self.matching, matching)] {
            if is && list.len() < LISTED && !list.contains(&index) {
                list.push(index);
            }
        }
    }

    /// The one that is meant. A whole title is meant before the parts of others.
    fn one(&self, ledger: &Ledger, index: &Index) -> anyhow::Result<Selected> {
        match (&self.titled[..], &self.matching[..]) {
            ([found], _) | ([], [found]) => one(ledger, *found, None),
            ([], []) => Err(none(index, self.words)),
            ([], found) | (found, _) => Err(several(ledger, self.words, found)),
        }
    }
}

/// What the index says, and how many blocks it covers. Without a usable index that is nothing, and the ledger is read
/// instead: whoever waits for a song can do without it.
fn indexed<T: Default>(index: &Index, ask: impl Fn(&Index) -> search::Result<T>) -> (u64, T) {
    match index.open().and_then(|covered| Ok((covered, ask(index)?))) {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "the whole ledger is read instead");
            (0, T::default())
        }
    }
}

/// Every song that the index does not cover.
fn each_behind(ledger: &Ledger, covered: u64, mut each: impl FnMut(u64, &Song)) -> anyhow::Result<()> {
    for index in covered..ledger.size() {
        if let Some(song) = ledger.song(index)? {
            each(index, &song);
        }
    }
    Ok(())
}

/// Artist and album, where words begin by saying that they are these.
fn prefixed(words: &str) -> Option<(Option<&str>, Option<&str>)> {
    let split = |text: &'_ str, at: &str| text.find(&format!(" {at}"));
    if let Some(rest) = words.strip_prefix(ALBUM) {
        let end = split(rest, ARTIST).unwrap_or(rest.len());
        let (album, artist) = rest.split_at(end);
        return Some((artist.trim().strip_prefix(ARTIST).map(str::trim), Some(album.trim())));
    }
    let rest = words.strip_prefix(ARTIST)?;
    let end = split(rest, ALBUM).unwrap_or(rest.len());
    let (artist, album) = rest.split_at(end);
    Some((Some(artist.trim()), album.trim().strip_prefix(ALBUM).map(str::trim)))
}

/// Albums of this name, by that artist.
fn albums(ledger: &Ledger, index: &Index, name: &str, artist: Option<&str>) -> anyhow::Result<Vec<Named>> {
    let (covered, mut found) = indexed(index, |index| index.albums(name, MANY + 1));
    each_behind(ledger, covered, |index, song| {
        if !name.is_empty() && search::same_name(&song.album, name) {
            let owner = search::owner(song);
            let is =
                |named: &&mut Named| named.owner.as_deref().is_some_and(|own| search::same_name(own, owner));
            match found.iter_mut().find(is) {
                Some(named) => add(named, index),
                None => {
                    let (name, owner) = (song.album.clone(), Some(owner.to_owned()));
                    found.push(Named { name, owner, songs: vec![index] });
                }
            }
        }
    })?;
    found.retain(|named| {
        artist.is_none_or(|artist| named.owner.as_deref().is_some_and(|own| search::same_name(own, artist)))
    });
    Ok(found)
}

/// Everything by an artist.
fn by_artist(ledger: &Ledger, index: &Index, name: &str) -> anyhow::Result<Option<Named>> {
    let (covered, mut found) = indexed(index, |index| index.artist(name, MANY + 1));
    each_behind(ledger, covered, |index, song| {
        let is = |own: &str| !name.is_empty() && search::same_name(own, name);
        if is(&song.artist) || is(search::owner(song)) {
            let new = || Named { name: name.to_owned(), owner: None, songs: Vec::new() };
            add(found.get_or_insert_with(new), index);
        }
    })?;
    Ok(found)
}

fn add(named: &mut Named, index: u64) {
    if named.songs.len() <= MANY {
        named.songs.push(index);
    }
}

fn one_album(ledger: &Ledger, words: &str, mut albums: Vec<Named>) -> anyhow::Result<Vec<Selected>> {
    match (albums.pop(), albums.is_empty()) {
        (None, _) => Err(no_such(words)),
        (Some(album), true) => all(ledger, words, album),
        (Some(last), false) => {
            albums.push(last);
            let lines: Vec<String> = albums
                .iter()
                .take(LISTED)
                .map(|named| {
                    format!("  {ALBUM}{} {ARTIST}{}", named.name, named.owner.as_deref().unwrap_or(""))
                })
                .collect();
            let message =
                format!("{words:?} means several albums; name one like this:\n{}", lines.join("\n"));
            Err(Failure::new(Kind::Usage, message).into())
        }
    }
}

fn all(ledger: &Ledger, words: &str, named: Named) -> anyhow::Result<Vec<Selected>> {
    if named.songs.len() > MANY {
        let message = format!("{words:?} means more than {MANY} songs; name one album after the other");
        return Err(Failure::new(Kind::Usage, message).into());
    }
    let mut seen = BTreeSet::new();
    let once = named.songs.into_iter().filter(|index| seen.insert(*index));
    once.map(|index| one(ledger, index, None)).collect()
}

fn no_such(words: &str) -> anyhow::Error {
    Failure::new(Kind::NotFound, format!("the ledger has nothing of the name {words:?}")).into()
}

/// Says so, and what sounds like it.
fn none(index: &Index, words: &str) -> anyhow::Error {
    let mut message = format!("no song of the ledger matches {words:?}");
    let near = index.search(words, Page { offset: 0, limit: SUGGESTED }, None).map(|hits| hits.songs);
    for (at, hit) in near.unwrap_or_default().iter().enumerate() {
        let song = &hit.song;
        message += if at == 0 { "; did you mean one of these?" } else { "" };
        message += &format!("\n  #{}  {} ({})", song.index, name(&song.artist, &song.title), song.album);
    }
    Failure::new(Kind::NotFound, message).into()
}

fn several(ledger: &Ledger, text: &str, indexes: &[u64]) -> anyhow::Error {
    let lines: Vec<String> = indexes
        .iter()
        .filter_map(|index| ledger.song(*index).ok().flatten().map(|song| (index, song)))
        .map(|(index, song)| {
            let id = song.id().to_string();
            format!("  #{index}  {}  {} ({})", &id[..12], name(&song.artist, &song.title), song.album)
        })
        .collect();
    let message =
        format!("{text:?} means several songs; name one by its number or id:\n{}", lines.join("\n"));
    Failure::new(Kind::Usage, message).into()
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
