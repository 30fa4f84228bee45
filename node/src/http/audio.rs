//! A song's bytes over HTTP: whole or in parts, while they come.

use std::io;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header},
};
use bytes::Bytes;

use super::{problem::Problem, range};
use crate::stream::{Opened, Reader};

/// The media type of files with this extension.
#[must_use]
pub fn media_type(extension: &str) -> &'static str {
    match extension {
        "mp3" => "audio/mpeg",
        "ogg" => "audio/ogg",
        "opus" => "audio/ogg; codecs=opus",
        "flac" => "audio/flac",
        "m4a" => "audio/mp4",
        "aac" => "audio/aac",
        "wav" => "audio/wav",
        "aiff" => "audio/aiff",
        "wma" => "audio/x-ms-wma",
        "ape" => "audio/x-ape",
        "mka" => "audio/x-matroska",
        _ => "application/octet-stream",
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Answers a request for a song with the original bytes. With a `name`, a browser stores them under it.
///
/// # Errors
/// Why nothing comes.
pub async fn original(
    opened: &Opened,
    headers: &HeaderMap,
    head: bool,
    name: Option<&str>,
) -> Result<Response<Body>, Problem> {
    // The tag is the content: it holds for ever.
    let tag = format!("\"{}\"", opened.content);
    let mut response = Response::new(Body::empty());
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type(opened.extension)));
    out.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, no-transform"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        out.insert(header::ETAG, tag);
    }
    if let Some(name) = name {
        out.insert(header::CONTENT_DISPOSITION, attachment(name));
    }
    if range::is_known(text(headers, header::IF_NONE_MATCH), &tag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    let asked = text(headers, header::RANGE);
    let asked = asked.filter(|_| range::still(text(headers, header::IF_RANGE), &tag));
    let (start, end) = match range::wanted(asked, opened.bytes) {
        range::Wanted::Whole => (0, opened.bytes),
        range::Wanted::Part(start, end) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let place = format!("bytes {start}-{}/{}", end - 1, opened.bytes);
            if let Ok(place) = HeaderValue::from_str(&place) {
                response.headers_mut().insert(header::CONTENT_RANGE, place);
            }
            (start, end)
        }
        range::Wanted::Unsatisfiable => {
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            if let Ok(place) = HeaderValue::from_str(&format!("bytes */{}", opened.bytes)) {
                response.headers_mut().insert(header::CONTENT_RANGE, place);
            }
            return Ok(response);
        }
    };
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(end - start));
    if !head {
        let reader = opened.read_from(start).await?;
        *response.body_mut() = body(reader, end - start);
    }
    Ok(response)
}

/// So many bytes of a song, read as fast as they are taken.
pub(super) fn body(reader: Reader, length: u64) -> Body {
    Body::from_stream(futures::stream::try_unfold((reader, length), async |(mut reader, left)| {
        if left == 0 {
            return Ok(None);
        }
        match reader.next().await {
            Ok(Some(mut bytes)) => {
                bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - bytes.len() as u64;
                Ok::<_, io::Error>(Some((bytes, (reader, left))))
            }
            Ok(None) => Err(io::ErrorKind::UnexpectedEof.into()),
            // The answer has begun: all that can be said is that it is not whole.
            Err(failure) => {
                tracing::info!(%failure, "a song that is being heard has ended early");
                Err(io::Error::other(failure))
            }
        }
    }))
}

/// A name for a file that is stored (RFC 6266), in plain letters and in all of them.
fn attachment(name: &str) -> HeaderValue {
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_graphic() && !"\"\\/%;".contains(c) || c == ' ' { c } else { '_' })
        .collect();
    let mut all = String::new();
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => all.push(char::from(byte)),
            _ => all.push_str(&format!("%{byte:02X}")),
        }
    }
    HeaderValue::from_str(&format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{all}"))
        .unwrap_or(HeaderValue::from_static("attachment"))
}

/// Bytes of a program's output as a body.
pub(super) fn pieces<S>(stream: S) -> Body
where
    S: futures::Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    Body::from_stream(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_stored_files() {
        let said = attachment("Ä \"b\"/c.mp3");
        assert_eq!(
            said.to_str().unwrap(),
            "attachment; filename=\"_ _b__c.mp3\"; filename*=UTF-8''%C3%84%20%22b%22%2Fc.mp3"
        );
    }
}
