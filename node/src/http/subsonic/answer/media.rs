//! Songs as bytes, pictures and texts.

use std::{io, str::FromStr};

use axum::{
    body::{Body as Bytes, Bytes as Piece},
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use futures::{Stream, StreamExt, TryStreamExt};

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
/// Most of them in Opus: one channel has no more.
const OPUS_KBITS: u32 = 256;
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
    let format = other.or(wanted).unwrap_or(Format::Mp3);
    let bound = if format == Format::Opus { OPUS_KBITS } else { KBITS.1 };
    Some((format, most.clamp(KBITS.0, bound)))
}

/// How many bytes of another encoding are announced to who asks for an estimate.
pub(super) fn estimate(format: Format, kbits: u32, duration_ms: u32, offset_s: u32) -> u64 {
    let ms = u64::from(duration_ms).saturating_sub(u64::from(offset_s) * 1_000);
    // Frames at both ends and what a container begins with.
    let bytes = (ms + 2_000) * u64::from(kbits) / 8;
    // What does not fit is cut off, so where the bit rate is only aimed at there is room for more.
    let hundredths = match format {
        Format::Mp3 => 100,
        Format::Aac => 120,
        Format::Opus => 130,
    };
    bytes * hundredths / 100
}

/// A stream of just so many bytes: what is beyond them is left out, and zeros stand for what is missing, which players
/// skip. One that breaks, or has nothing at all, ends early, so that nobody takes it for whole.
fn exactly<S>(stream: S, bytes: u64) -> impl Stream<Item = io::Result<Piece>> + Send
where
    S: Stream<Item = io::Result<Piece>> + Send + Unpin + 'static,
{
    /// Of zeros.
    const PIECE: usize = 64 * 1024;
    futures::stream::try_unfold((stream, bytes, false), move |(mut stream, left, ended)| async move {
        let room = usize::try_from(left).unwrap_or(usize::MAX);
        if room == 0 {
            return Ok(None);
        }
        let next = if ended { None } else { stream.next().await.transpose()? };
        let ended = next.is_none();
        let piece = match next {
            Some(mut piece) => {
                piece.truncate(room);
                piece
            }
            None if left == bytes => {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "there is nothing of the song"));
            }
            None => Piece::from(vec![0; room.min(PIECE)]),
        };
        let left = left.saturating_sub(piece.len() as u64);
        Ok(Some((piece, (stream, left, ended))))
    })
}

async fn open(ask: &Ask) -> Result<Opened, SubsonicError> {
    ask.app().streams.open(ask.song_index("id")?).await.map_err(own::failed)
}

pub(super) async fn stream(ask: Ask) -> Result<Response, SubsonicError> {
    let max_kbits = ask.params.number::<u32>("maxBitRate")?.unwrap_or(0);
    let offset = ask.params.number::<u32>("timeOffset")?.unwrap_or(0);
    let estimated = ask.params.flag("estimateContentLength")? == Some(true);
    let opened = open(&ask).await?;
    let kbits = convert::bit_rate(opened.bytes, opened.song.duration_ms);
    let transcoder = &ask.app().transcoder;
    let other = encoding(ask.params.filled("format"), max_kbits, opened.extension, kbits);
    if let Some((format, kbits)) = other.filter(|_| transcoder.works()) {
        let kind = HeaderValue::from_static(audio::media_type(format.extension()));
        let length = estimated.then(|| estimate(format, kbits, opened.song.duration_ms, offset));
        let body = if ask.head {
            // Nobody knows how long it would be.
            Ok(Bytes::from_stream(futures::stream::empty::<io::Result<Vec<u8>>>()))
        } else {
            transcoder.encode(&opened, format, kbits, offset).await
        };
        match body {
            Ok(body) => {
                let body = match length {
                    Some(length) if !ask.head => {
                        let stream = body.into_data_stream().map_err(io::Error::other);
                        Bytes::from_stream(exactly(stream, length))
                    }
                    _ => body,
                };
                let mut response = Response::new(body);
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_TYPE, kind);
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
                headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
                headers.extend(length.map(|length| (header::CONTENT_LENGTH, length.into())));
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

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(pieces: Vec<io::Result<Piece>>, bytes: u64) -> io::Result<Vec<u8>> {
        let whole: Vec<Piece> = exactly(futures::stream::iter(pieces), bytes).try_collect().await?;
        Ok(whole.concat())
    }

    #[tokio::test]
    async fn just_so_many_bytes() {
        let pieces = || vec![Ok(Piece::from_static(b"abc")), Ok(Piece::from_static(b"def"))];
        assert_eq!(all(pieces(), 6).await.unwrap(), b"abcdef");
        assert_eq!(all(pieces(), 4).await.unwrap(), b"abcd");
        assert_eq!(all(pieces(), 8).await.unwrap(), b"abcdef\0\0");
        assert_eq!(all(pieces(), 200_000).await.unwrap().len(), 200_000);
        assert!(all(Vec::new(), 8).await.is_err(), "nothing of it is no song");
        let broken = vec![Ok(Piece::from_static(b"abc")), Err(io::ErrorKind::BrokenPipe.into())];
        assert!(all(broken, 8).await.is_err(), "a broken one is not filled up");
    }

    #[test]
    fn what_is_announced() {
        assert_eq!(estimate(Format::Mp3, 128, 60_000, 0), 62 * 16_000);
        assert_eq!(estimate(Format::Mp3, 128, 60_000, 50), 12 * 16_000);
        assert_eq!(estimate(Format::Opus, 64, 60_000, 70), 2 * 8_000 * 13 / 10);
    }
}
