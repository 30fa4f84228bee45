//! Which song somebody means: an id, the beginning of one, a ledger index, or words.

use antiphon_ledger::Ledger;
use antiphon_proto::{ContentHash, SongId, wire::Song};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Kind};

/// Shortest beginning of a song id: 32 bits tell a million songs apart well enough to be shown a list otherwise.
const ID_DIGITS: usize = 8;
/// Songs listed when words fit several.
const LISTED: usize = 20;

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
pub fn select(ledger: &Ledger, words: &str) -> anyhow::Result<Selected> {
    let words = words.trim();
    if let Some(index) = words.strip_prefix('#').and_then(|number| number.parse().ok()) {
        let song = ledger.song(index)?;
        let song = song.ok_or_else(|| {
            Failure::new(Kind::NotFound, format!("block {index} is not a song of the ledger"))
        })?;
        return Ok(Selected { index, song, content: None });
    }
    if let Some(found) = by_hash(ledger, words)? {
        return Ok(found);
    }
    by_words(ledger, words)
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

fn by_words(ledger: &Ledger, text: &str) -> anyhow::Result<Selected> {
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    let nothing = || Failure::new(Kind::NotFound, format!("no song of the ledger matches {text:?}"));
    if words.is_empty() {
        return Err(nothing().into());
    }
    let mut matches = Vec::new();
    let mut exact = Vec::new();
    for index in 0..ledger.size() {
        let Some(song) = ledger.song(index)? else { continue };
        let hay = format!("{} {} {}", song.title, song.artist, song.album).to_lowercase();
        if song.title.to_lowercase() == text.to_lowercase() && exact.len() < LISTED {
            exact.push(index);
        }
        if words.iter().all(|word| hay.contains(word)) && matches.len() < LISTED {
            matches.push(index);
        }
    }
    // A whole title is meant before the parts of others.
    match (&exact[..], &matches[..]) {
        ([index], _) | ([], [index]) => one(ledger, *index, None),
        ([], []) => Err(nothing().into()),
        ([], several_found) | (several_found, _) => Err(several(ledger, text, several_found)),
    }
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
