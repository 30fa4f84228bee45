//! What the listener has said and asked of what a page shows: stars, ratings, and songs that are on their way to the own
//! library. Each is a form, so that it works without a script, and leads back to the page that it was on.

use axum::{
    Form,
    extract::State,
    http::{HeaderMap, Uri, header},
    response::Response,
};
use serde::Deserialize;

use super::{Answer, Failed, Shared, blocking, see, views::TrackView};
use crate::{
    http::{
        App,
        api::{
            marks::{set_rating, set_star},
            player::song_index,
        },
        problem::Problem,
    },
    keep::{Download, State as Stage},
    music::id::Id,
};

/// Back to the page that a form was on. Only its path counts: nobody is sent elsewhere.
fn back(headers: &HeaderMap, otherwise: &str) -> Response {
    let from = headers.get(header::REFERER).and_then(|from| from.to_str().ok());
    let from = from.and_then(|from| from.parse::<Uri>().ok());
    let path = from.as_ref().and_then(Uri::path_and_query).map(|path| path.as_str());
    let ours = path.filter(|path| path.starts_with('/') && !path.starts_with("//") && !path.contains('\\'));
    see(ours.unwrap_or(otherwise))
}

/// How far a song is: `Waiting`, `Paused`, `42 %`.
pub(super) fn how_far(download: &Download) -> String {
    match download.state {
        Stage::Paused => "Paused".to_owned(),
        Stage::Running if download.bytes > 0 => {
            format!("{} %", download.verified_bytes.saturating_mul(100) / download.bytes)
        }
        _ => "Waiting".to_owned(),
    }
}

/// Marks songs with their stars, and with how far they are.
pub(super) async fn mark(app: &App, tracks: &mut [TrackView]) -> Result<(), Failed> {
    let ids: Vec<Id> = tracks.iter().map(|track| Id::Song(track.index)).collect();
    let starred = starred(app, ids).await?;
    let downloads = app.downloads.of(&tracks.iter().map(|track| track.index).collect());
    for (track, starred) in tracks.iter_mut().zip(starred) {
        track.starred = starred;
        match downloads.get(&track.index).filter(|_| !track.here) {
            Some(download) if download.state.is_open() => {
                track.coming = how_far(download);
                if download.state == Stage::Paused {
                    track.waits = download.error.clone().unwrap_or_default();
                }
            }
            Some(Download { state: Stage::Failed, error, .. }) => {
                track.failed = error.clone().unwrap_or_else(|| "it did not come".to_owned());
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether each of these has a star.
pub(super) async fn starred(app: &App, ids: Vec<Id>) -> Result<Vec<bool>, Failed> {
    let listener = app.listener.clone();
    let since = blocking(move || listener.starred_of(&ids)).await?;
    Ok(since.into_iter().map(|since| since.is_some()).collect())
}

/// What can be kept of the songs of a page.
#[derive(Debug, Default)]
pub(super) struct Keep {
    /// Songs that are not here and not on their way, by their names with blanks between.
    pub(super) missing: String,
    /// Songs that are on their way.
    pub(super) open: String,
    /// How far they are.
    pub(super) words: String,
    /// What the first of them waits for.
    pub(super) waits: String,
    /// Why the last one of them did not come.
    pub(super) failed: String,
}

impl Keep {
    /// Of songs that are marked.
    pub(super) fn of(tracks: &[TrackView]) -> Self {
        let names = |which: &dyn Fn(&TrackView) -> bool| -> Vec<&str> {
            tracks.iter().filter(|track| which(track)).map(|track| track.id.as_str()).collect()
        };
        let open = names(&|track| !track.coming.is_empty());
        let words = match *open.as_slice() {
            [] => String::new(),
            [_] => tracks
                .iter()
                .map(|track| track.coming.clone())
                .find(|words| !words.is_empty())
                .unwrap_or_default(),
            _ => format!("{} songs to come", open.len()),
        };
        let waits = tracks.iter().find(|track| !track.waits.is_empty()).map(|track| track.waits.clone());
        let failed = tracks.iter().rev().find(|track| !track.failed.is_empty());
        Self {
            missing: names(&|track| !track.here && track.coming.is_empty()).join(" "),
            open: open.join(" "),
            words,
            waits: waits.unwrap_or_default(),
            failed: failed
                .map(|one| format!("“{}” did not come: {}", one.title, one.failed))
                .unwrap_or_default(),
        }
    }
}

/// Songs, and what is to be done with them.
#[derive(Debug, Deserialize)]
pub(super) struct KeepForm {
    /// `keep` or `stop`.
    action: String,
    /// Names with blanks between.
    songs: String,
}

/// Keeps songs, or stops it.
pub(super) async fn keep(State(app): Shared, headers: HeaderMap, Form(form): Form<KeepForm>) -> Answer {
    let songs: Vec<u64> = form.songs.split_whitespace().map(song_index).collect::<Result<_, _>>()?;
    match form.action.as_str() {
        "keep" => drop(app.downloads.keep(songs).await?),
        "stop" => {
            let known = app.downloads.of(&songs.into_iter().collect());
            for download in known.values().filter(|one| one.state.is_open()) {
                app.downloads.cancel(download.id).await?;
            }
        }
        _ => return Err(Problem::bad("Nobody knows what that form asks for.").into()),
    }
    Ok(back(&headers, "/library"))
}

/// What gets a star, or loses it.
#[derive(Debug, Deserialize)]
pub(super) struct StarForm {
    id: String,
    /// `yes` or `no`.
    on: String,
}

/// Gives a star, or takes it away.
pub(super) async fn star(State(app): Shared, headers: HeaderMap, Form(form): Form<StarForm>) -> Answer {
    set_star(&app, &form.id, form.on == "yes").await?;
    Ok(back(&headers, "/starred"))
}

/// What gets a rating.
#[derive(Debug, Deserialize)]
pub(super) struct RateForm {
    id: String,
    /// 1 to 5; 0 takes it away.
    rating: u8,
}

/// Gives a rating, or takes it away.
pub(super) async fn rate(State(app): Shared, headers: HeaderMap, Form(form): Form<RateForm>) -> Answer {
    set_rating(&app, &form.id, form.rating).await?;
    Ok(back(&headers, "/starred"))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn sent_to(from: &'static str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(header::REFERER, HeaderValue::from_static(from));
        let answer = back(&headers, "/starred");
        answer.headers()[header::LOCATION].to_str().unwrap().to_owned()
    }

    #[test]
    fn back_to_where_one_was() {
        assert_eq!(sent_to("http://127.0.0.1:7711/album/al-1?x=2"), "/album/al-1?x=2");
        assert_eq!(sent_to("https://evil.example/library"), "/library");
        for bad in ["", "nonsense", "http://127.0.0.1//evil.example", "http://127.0.0.1/\\evil.example"] {
            assert_eq!(sent_to(bad), "/starred", "{bad}");
        }
    }

    #[test]
    fn how_far_a_song_is() {
        let mut download = Download {
            id: 1,
            song: 2,
            state: Stage::Waiting,
            verified_bytes: 0,
            bytes: 0,
            sources: 0,
            path: None,
            error: None,
        };
        assert_eq!(how_far(&download), "Waiting");
        (download.state, download.bytes, download.verified_bytes) = (Stage::Running, 3_000, 1_000);
        assert_eq!(how_far(&download), "33 %");
    }
}
