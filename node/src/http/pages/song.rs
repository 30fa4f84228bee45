//! One song: what it asks, what was said of it, and its text.

use askama::Template;
use axum::extract::{Path, State};

use super::{
    Answer, Failed, Page as Shown, Shared, blocking, marks,
    marks::Keep,
    views::{Both, TrackView},
};
use crate::{
    http::problem::Problem,
    library::Located,
    music::{
        id::Id,
        lyrics::{Line, Lyrics},
    },
};

#[derive(Template)]
#[template(path = "song.html")]
struct SongMain {
    track: TrackView,
    keep: Keep,
    year: String,
    price_units: Option<u64>,
    burn: Option<String>,
    plays: u64,
    rating: u8,
    playlists: Vec<(String, String)>,
    lyrics: Vec<Line>,
}

/// One song.
pub(super) async fn song(State(app): Shared, Path(name): Path<String>) -> Answer {
    let index = crate::http::api::player::song_index(&name)?;
    let both = Both::of(&app);
    let gone =
        || Problem::not_found("Nobody who is online has this song now, and it is not in your library.");
    let mut track = both.track(index).ok_or_else(gone)?;
    let known = [&both.own, &both.online].into_iter().find_map(|shelf| shelf.track(index));
    let content = known.map(|track| track.file().content);
    let (ledger, listener, peer) = (app.peer.ledger.clone(), app.listener.clone(), app.peer.clone());
    let found = blocking(move || {
        let burn = ledger.burn_for(index).map_err(anyhow::Error::from)?;
        let plays = listener.plays_of(&[index])?.first().map_or(0, |plays| plays.count);
        let rating = listener.ratings_of(&[Id::Song(index)])?.first().copied().unwrap_or(0);
        let file = content.map(|content| peer.library.locate(&content)).transpose();
        let file = file.map_err(anyhow::Error::from)?;
        let lyrics = match file {
            Some(Located::Here { path, .. }) => Lyrics::of_file(&path, &peer.analyzer),
            _ => None,
        };
        Ok::<_, Failed>((burn, plays, rating, listener.playlists()?, lyrics.unwrap_or_default()))
    });
    let (burn, plays, rating, playlists, lyrics) = found.await?;
    marks::mark(&app, std::slice::from_mut(&mut track)).await?;
    let year = known.map_or(0, |track| track.year);
    let price = known.filter(|track| track.terms == antiphon_proto::wire::TermsKind::Purchase);
    let main = SongMain {
        keep: Keep::of(std::slice::from_ref(&track)),
        year: if year == 0 { String::new() } else { year.to_string() },
        price_units: price.map(|track| track.price),
        burn: (burn > 0).then(|| crate::tokens::words(burn)),
        plays,
        rating,
        playlists: playlists.into_iter().map(|(id, head)| (id.to_string(), head.name)).collect(),
        lyrics: lyrics.lines,
        track,
    };
    Shown::show(main.track.title.clone(), "", &main)
}
