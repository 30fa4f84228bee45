//! `antiphon search` and `antiphon discover`.

use super::{
    args::{Common, Discover, Join, Pages, Search},
    ask,
    output::Output,
    table::{Align, Table, clock},
};
use crate::{
    failure::{Failure, Kind},
    ops::{self, Request},
    peer::Reach,
    search::{AlbumLine, ArtistLine, Discovered, Filter, GenreLine, Hits, Listed, Page, Scope, TrackLine},
    search_ops::{DiscoverRequest, SearchRequest},
};

/// What stands for an artist or genre that a song does not name.
const NAMELESS: &str = "(none)";

impl Pages {
    fn page(&self) -> Page {
        Page { offset: self.offset, limit: usize::from(self.limit) }
    }
}

pub(super) async fn search(common: &Common, search: Search, output: &Output) -> anyhow::Result<()> {
    let words = search.words.join(" ");
    let request = SearchRequest { words: words.clone(), online: search.online, page: search.pages.page() };
    let answer = ask(common, &Join::default(), Request::Search(request), Reach::ReadOnly, output).await?;
    let hits: Hits = ops::read(answer.clone())?;
    if output.json {
        output.value(&answer)?;
    } else {
        output.raw(songs(&hits).as_bytes())?;
        more(output, hits.total, hits.offset, hits.songs.len());
        behind(output, hits.behind);
    }
    if hits.total == 0 {
        let whom = if search.online { "nobody online serves a song that matches" } else { "no song matches" };
        return Err(Failure::new(Kind::NotFound, format!("{whom} {words:?}")).into());
    }
    Ok(())
}

fn songs(hits: &Hits) -> String {
    if hits.songs.is_empty() {
        return String::new();
    }
    let mut table = Table::new([
        ("SONG", Align::Right),
        ("TITLE", Align::Left),
        ("ARTIST", Align::Left),
        ("ALBUM", Align::Left),
        ("TIME", Align::Right),
        ("ONLINE", Align::Right),
    ]);
    for hit in &hits.songs {
        let song = &hit.song;
        table.row([
            format!("#{}", song.index),
            song.title.clone(),
            song.artist.clone(),
            song.album.clone(),
            clock(song.duration_ms),
            hit.sources.map(|sources| sources.to_string()).unwrap_or_default(),
        ]);
    }
    table.text()
}

/// Says what is not shown.
fn more(output: &Output, total: u64, offset: u64, shown: usize) {
    let end = offset.saturating_add(shown as u64);
    if end < total && shown > 0 {
        output.note(&format!("{} to {end} of {total}; --offset {end} shows more", offset + 1));
    }
}

fn behind(output: &Output, behind: u64) {
    if behind > 0 {
        output.note(&format!("{behind} blocks of the ledger are not searched yet"));
    }
}

pub(super) async fn discover(common: &Common, discover: Discover, output: &Output) -> anyhow::Result<()> {
    let scope = [
        (discover.artists, Scope::Artists),
        (discover.genres, Scope::Genres),
        (discover.albums, Scope::Albums),
        (discover.tracks, Scope::Tracks),
    ];
    let filter = Filter { artist: discover.artist, genre: discover.genre, album: discover.album };
    let filtered = filter != Filter::default();
    let request = DiscoverRequest {
        filter,
        scope: scope.iter().find(|(wanted, _)| *wanted).map(|(_, scope)| *scope),
        page: discover.pages.page(),
    };
    let answer = ask(common, &Join::default(), Request::Discover(request), Reach::ReadOnly, output).await?;
    let found: Discovered = ops::read(answer.clone())?;
    if output.json {
        output.value(&answer)?;
    } else {
        show(&found, output)?;
    }
    if filtered && is_empty(&found) {
        return Err(Failure::new(Kind::NotFound, "nobody online serves anything of that name").into());
    }
    Ok(())
}

fn is_empty(found: &Discovered) -> bool {
    found.counts.is_none_or(|counts| counts.tracks == 0)
        && found.artists.as_ref().is_none_or(|list| list.total == 0)
        && found.genres.as_ref().is_none_or(|list| list.total == 0)
        && found.albums.as_ref().is_none_or(|list| list.total == 0)
        && found.tracks.as_ref().is_none_or(|list| list.total == 0)
}

fn show(found: &Discovered, output: &Output) -> anyhow::Result<()> {
    if let Some(counts) = &found.counts {
        output.line(&format!(
            "online: {} artists, {} genres, {} albums, {} tracks",
            counts.artists, counts.genres, counts.albums, counts.tracks
        ))?;
    }
    if let Some(list) = &found.artists {
        let head = [
            ("ARTIST", Align::Left),
            ("ALBUMS", Align::Right),
            ("TRACKS", Align::Right),
            ("ONLINE", Align::Right),
        ];
        let row = |line: &ArtistLine| {
            [named(&line.name), line.albums.to_string(), line.tracks.to_string(), line.sources.to_string()]
        };
        listed(list, head, row, output)?;
    }
    if let Some(list) = &found.genres {
        let head = [
            ("GENRE", Align::Left),
            ("ARTISTS", Align::Right),
            ("TRACKS", Align::Right),
            ("ONLINE", Align::Right),
        ];
        let row = |line: &GenreLine| {
            [named(&line.name), line.artists.to_string(), line.tracks.to_string(), line.sources.to_string()]
        };
        listed(list, head, row, output)?;
    }
    if let Some(list) = &found.albums {
        let head = [
            ("ALBUM", Align::Left),
            ("ARTIST", Align::Left),
            ("YEAR", Align::Right),
            ("TRACKS", Align::Right),
            ("ONLINE", Align::Right),
        ];
        let row = |line: &AlbumLine| {
            let year = if line.year == 0 { String::new() } else { line.year.to_string() };
            [line.title.clone(), named(&line.artist), year, line.tracks.to_string(), line.sources.to_string()]
        };
        listed(list, head, row, output)?;
    }
    if let Some(list) = &found.tracks {
        let head = [
            ("SONG", Align::Right),
            ("TRACK", Align::Right),
            ("TITLE", Align::Left),
            ("ARTIST", Align::Left),
            ("ALBUM", Align::Left),
            ("TIME", Align::Right),
            ("ONLINE", Align::Right),
        ];
        listed(list, head, track, output)?;
    }
    behind(output, found.behind);
    Ok(())
}

fn track(line: &TrackLine) -> [String; 7] {
    let song = &line.song;
    let place = match (line.disc, line.track) {
        (_, 0) => String::new(),
        (0 | 1, track) => track.to_string(),
        (disc, track) => format!("{disc}-{track:02}"),
    };
    [
        format!("#{}", song.index),
        place,
        song.title.clone(),
        song.artist.clone(),
        song.album.clone(),
        clock(song.duration_ms),
        line.sources.to_string(),
    ]
}

fn named(name: &str) -> String {
    if name.is_empty() { NAMELESS.to_owned() } else { name.to_owned() }
}

/// A list as a table.
fn listed<T, const N: usize>(
    list: &Listed<T>,
    head: [(&'static str, Align); N],
    row: impl Fn(&T) -> [String; N],
    output: &Output,
) -> anyhow::Result<()> {
    if list.items.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(head);
    for item in &list.items {
        table.row(row(item));
    }
    output.raw(format!("\n{}", table.text()).as_bytes())?;
    more(output, list.total, list.offset, list.items.len());
    Ok(())
}

/// Whether a request can be answered by a running peer only.
pub(super) fn needs_a_peer(request: &Request) -> bool {
    match request {
        Request::Discover(_) => true,
        Request::Search(search) => search.online,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn requests_travel() {
        let request = Request::Discover(DiscoverRequest {
            filter: Filter { artist: Some("A".into()), ..Filter::default() },
            scope: Some(Scope::Tracks),
            page: Page { offset: 3, limit: 9 },
        });
        let text = serde_json::to_string(&request).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&value["command"], &value["artist"], &value["offset"]),
            (&"discover".into(), &"A".into(), &3.into())
        );
        let back: Request = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
    }
}
