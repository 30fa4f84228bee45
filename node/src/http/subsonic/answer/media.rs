//! Songs as bytes, pictures and texts.

use std::str::FromStr;

use axum::{
    body::Body as Bytes,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};

use super::{
    super::{
        bodies::{Body, Line, Lyrics, StructuredLyrics},
        error::{Code, SubsonicError},
    },
    Answer,
    ask::{Ask, Heard},
    blocking, convert, kept, own,
};
use crate::{
    http::{audio, problem::Problem, transcode::Format},
    library::Located,
    listener::PlaylistId,
    music::{
        id::Id,
        lyrics,
        shelf::{NO_ARTIST, Page},
    },
    peer::select,
    search,
    stream::Opened,
};

/// Thousands of bits a second of another encoding, when a request does not say.
const USUAL_KBITS: u32 = 192;
/// The least and the most of them.
const KBITS: (u32, u32) = (32, 320);
/// Songs that are looked at for a text.
const LOOKED_AT: usize = 20;

/// What a problem is to an app.
fn told(problem: Problem) -> SubsonicError {
    let code = match StatusCode::from_u16(problem.status) {
        Ok(StatusCode::FORBIDDEN) => Code::NotAllowed,
        Ok(StatusCode::NOT_FOUND) => Code::NotFound,
        _ if problem.kind.ends_with(":offline") => Code::NotFound,
        _ => Code::Generic,
    };
    SubsonicError::saying(code, problem.detail)
}

/// Which other encoding a request means, and with how many thousand bits a second; `None`: the file as it is.
pub(super) fn encoding(
    format: Option<&str>,
    max_kbits: u32,
    extension: &str,
    kbits: Option<u32>,
) -> Option<(Format, u32)> {
    if format == Some("raw") {
        return None;
    }
    let wanted = format.and_then(Format::of);
    // An Ogg file may be any of two; whoever asks for Ogg has it.
    let same = format.is_some_and(|format| format.eq_ignore_ascii_case(extension));
    let other = wanted.filter(|wanted| !same && wanted.extension() != extension);
    let less = max_kbits > 0 && kbits.is_some_and(|kbits| kbits > max_kbits);
    if other.is_none() && !less {
        return None;
    }
    let most = if max_kbits > 0 { max_kbits } else { USUAL_KBITS };
    Some((other.or(wanted).unwrap_or(Format::Mp3), most.clamp(KBITS.0, KBITS.1)))
}

async fn open(ask: &Ask) -> Result<Opened, SubsonicError> {
    ask.app().streams.open(ask.song_index("id")?).await.map_err(own::failed)
}

pub(super) async fn stream(ask: Ask) -> Result<Response, SubsonicError> {
    let max_kbits = ask.params.number::<u32>("maxBitRate")?.unwrap_or(0);
    let offset = ask.params.number::<u32>("timeOffset")?.unwrap_or(0);
    let opened = open(&ask).await?;
    let kbits = convert::bit_rate(opened.bytes, opened.song.duration_ms);
    let transcoder = &ask.app().transcoder;
    let other = encoding(ask.params.filled("format"), max_kbits, opened.extension, kbits);
    if let Some((format, kbits)) = other.filter(|_| transcoder.works()) {
        let kind = HeaderValue::from_static(audio::media_type(format.extension()));
        let body = if ask.head {
            Ok(Bytes::empty())
        } else {
            transcoder.encode(&opened, format, kbits, offset).await
        };
        match body {
            Ok(body) => {
                let mut response = Response::new(body);
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_TYPE, kind);
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
                headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
                return Ok(response);
            }
            // Too much to do already. Better the song as it is than none.
            Err(problem) if offset == 0 => {
                tracing::debug!(detail = problem.detail, "a song is sent as it is");
            }
            Err(problem) => return Err(told(problem)),
        }
    }
    audio::original(&opened, &ask.headers, ask.head, None).await.map_err(told)
}

pub(super) async fn download(ask: Ask) -> Result<Response, SubsonicError> {
    let opened = open(&ask).await?;
    let name = format!("{}.{}", select::name(&opened.song.artist, &opened.song.title), opened.extension);
    audio::original(&opened, &ask.headers, ask.head, Some(&name)).await.map_err(told)
}

/// What a picture is asked of: a playlist shows the one of its first song.
fn pictured(ask: &Ask) -> Result<Id, SubsonicError> {
    let text = ask.params.filled("id").ok_or_else(|| SubsonicError::missing("id"))?;
    if let Ok(playlist) = PlaylistId::from_str(text) {
        let found = kept(ask.app().listener.playlist(playlist))?;
        let first = found.and_then(|(_, songs)| songs.first().copied());
        return first.map(Id::Song).ok_or_else(SubsonicError::not_found);
    }
    text.parse().map_err(|_| SubsonicError::not_found())
}

pub(super) async fn cover(ask: Ask) -> Result<Response, SubsonicError> {
    let size = ask.params.number::<u32>("size")?;
    let rest = ask.rest.clone();
    let id = blocking(move || pictured(&ask)).await?;
    let peer = &rest.app.peer;
    let picture = peer.covers.picture(&peer.music, id, size).await.ok_or_else(SubsonicError::not_found)?;
    let mut response = Response::new(Bytes::from(picture.bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(picture.mime));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=3600"));
    Ok(response)
}

/// The text of a song of which a file is here.
fn text_of(ask: &Ask, heard: &Heard) -> Option<lyrics::Lyrics> {
    let peer = &ask.app().peer;
    let Ok(Located::Here { path, .. }) = peer.library.locate(&heard.file.content) else { return None };
    lyrics::Lyrics::of_file(&path, &peer.analyzer)
}

fn artist_of(heard: &Heard) -> String {
    let artist = &*heard.song.about.artist;
    if artist.is_empty() { NO_ARTIST.to_owned() } else { artist.to_owned() }
}

pub(super) fn lyrics_by_id(ask: &Ask) -> Answer {
    let heard = ask.song(&ask.both(), ask.song_index("id")?)?.ok_or_else(SubsonicError::not_found)?;
    let form = |text: lyrics::Lyrics| StructuredLyrics {
        artist: Some(artist_of(&heard)),
        title: Some(heard.song.title.to_string()),
        synced: text.is_timed(),
        lines: text
            .lines
            .into_iter()
            .map(|line| Line { start: line.start_ms.map(u64::from), text: line.text })
            .collect(),
        ..StructuredLyrics::default()
    };
    Ok(Body::LyricsList(text_of(ask, &heard).map(form).into_iter().collect()))
}

pub(super) fn lyrics(ask: &Ask) -> Answer {
    let (artist, title) = (ask.params.filled("artist"), ask.params.filled("title"));
    let Some(title) = title else { return Ok(Body::Lyrics(Lyrics::default())) };
    let shelves = ask.both();
    let words = format!("{title} {}", artist.unwrap_or_default());
    let none = Page { offset: 0, size: 0 };
    let page = Page { offset: 0, size: LOOKED_AT };
    let found = shelves.track_page(page, |shelf, page| shelf.find(&words, none, none, page).tracks);
    let same = |one: &str, other: &str| search::name_key(one) == search::name_key(other);
    let fitting = found.into_iter().filter(|track| {
        same(&track.title, title) && artist.is_none_or(|artist| same(&track.about.artist, artist))
    });
    for heard in fitting.map(Heard::from) {
        if let Some(text) = text_of(ask, &heard) {
            let lines: Vec<String> = text.lines.into_iter().map(|line| line.text).collect();
            let (artist, title) = (Some(artist_of(&heard)), Some(heard.song.title.to_string()));
            return Ok(Body::Lyrics(Lyrics { artist, title, text: lines.join("\n") }));
        }
    }
    Ok(Body::Lyrics(Lyrics::default()))
}
