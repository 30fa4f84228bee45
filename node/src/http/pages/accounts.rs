//! Pages of the explorer about whoever is paid: accounts by their key, artists by their name.

use antiphon_ledger::Ledger;
use antiphon_proto::wire::Song;
use askama::Template;
use axum::extract::State;

use super::{
    Answer, Page, Shared, blocking,
    explorer::{Below, LINES, PLACE},
    views::{length, when},
};
use crate::{
    explorer::songs_of,
    http::api::{
        extract::{Asked, Named},
        ledger::{Artist, history},
    },
    token_ops::{self, Balance, HistoryLine},
    tokens,
};

/// Songs on an account's first page.
const SONGS: usize = 20;

/// A change of an account.
struct Change {
    line: HistoryLine,
    when: String,
    came: String,
    went: String,
}

impl Change {
    fn of(line: HistoryLine) -> Self {
        let amount = |units: Option<u64>| units.map(tokens::format).unwrap_or_default();
        let (came, went) = (amount(line.in_units), amount(line.out_units));
        Self { when: when(line.time_ms), came, went, line }
    }
}

/// A song of somebody's.
struct Theirs {
    index: u64,
    title: String,
    artist: String,
    album: String,
    length: String,
    plays: u64,
    paid: String,
}

impl Theirs {
    fn of(ledger: &Ledger, index: u64, song: Song) -> anyhow::Result<Self> {
        let state = ledger.song_state(index)?;
        Ok(Self {
            index,
            title: song.title,
            artist: song.artist,
            album: song.album,
            length: length(song.duration_ms.into()),
            plays: state.plays,
            paid: tokens::format(state.minted.saturating_add(state.paid)),
        })
    }
}

/// Songs with what they have brought. Blocks on the disk.
fn theirs(ledger: &Ledger, songs: Vec<(u64, Song)>) -> anyhow::Result<Vec<Theirs>> {
    songs.into_iter().map(|(index, song)| Theirs::of(ledger, index, song)).collect()
}

#[derive(Template)]
#[template(path = "explorer/account.html")]
struct Account {
    balance: Balance,
    changes: Vec<Change>,
    next: Option<u64>,
    songs: Vec<Theirs>,
    more_songs: Option<u64>,
}

/// What is in an account, what has changed it, and the songs that name its key.
pub(super) async fn account(
    State(app): Shared,
    Named(key): Named<String>,
    Asked(query): Asked<Below>,
) -> Answer {
    let key = token_ops::key(&key)?;
    let below = query.below.unwrap_or(u64::MAX);
    let main = blocking(move || {
        let ledger = &app.peer.ledger;
        let balance = Balance::of(ledger, &key)?;
        let (changes, next) = history(&app, key, below, LINES)?;
        let (songs, more_songs) = match query.below {
            None => songs_of(&app.explorer, ledger, &key, u64::MAX, SONGS)?,
            Some(_) => (Vec::new(), None),
        };
        anyhow::Ok(Account {
            balance,
            changes: changes.into_iter().map(Change::of).collect(),
            next,
            songs: theirs(ledger, songs)?,
            more_songs,
        })
    });
    Page::show("Account", PLACE, &main.await?)
}

#[derive(Template)]
#[template(path = "explorer/songs.html")]
struct Songs {
    key: String,
    songs: Vec<Theirs>,
    more_songs: Option<u64>,
}

/// The songs that name a key.
pub(super) async fn songs(
    State(app): Shared,
    Named(key): Named<String>,
    Asked(query): Asked<Below>,
) -> Answer {
    let key = token_ops::key(&key)?;
    let main = blocking(move || {
        let (ledger, below) = (&app.peer.ledger, query.below.unwrap_or(u64::MAX));
        let (songs, more_songs) = songs_of(&app.explorer, ledger, &key, below, LINES)?;
        anyhow::Ok(Songs { key: key.to_string(), songs: theirs(ledger, songs)?, more_songs })
    });
    Page::show("Songs of an account", PLACE, &main.await?)
}

#[derive(Template)]
#[template(path = "explorer/artist.html")]
struct ArtistPage {
    artist: Artist,
    escrow: String,
    songs: Vec<Theirs>,
}

/// An artist: whose the name is, who claims it, what waits for it, and its songs.
pub(super) async fn artist(State(app): Shared, Named(name): Named<String>) -> Answer {
    let main = blocking(move || {
        let mut artist = Artist::named(&app, &name)?;
        let songs = theirs(&app.peer.ledger, std::mem::take(&mut artist.songs))?;
        anyhow::Ok(ArtistPage { escrow: tokens::format(artist.escrow), songs, artist })
    });
    let main = main.await?;
    Page::show(main.artist.name.clone(), PLACE, &main)
}
