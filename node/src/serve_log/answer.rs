//! From a request to a response.

use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{
        ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue,
        IF_NONE_MATCH, X_CONTENT_TYPE_OPTIONS,
    },
};

use super::{
    Shared,
    files::{self, File, Lasts, Missing},
    held::Held,
};
use crate::http::range::is_known;

/// Answers a request, whatever it is.
pub(super) async fn answer(request: &Request<Incoming>, shared: &Shared) -> Response<Held> {
    let head = match *request.method() {
        Method::GET => false,
        Method::HEAD => true,
        _ => {
            let mut response =
                sentence(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
    };
    // A query would give one file many names, each kept by caches.
    let path = match request.uri().path_and_query().map(|whole| (whole.path(), whole.query())) {
        Some((path, None)) => path.to_owned(),
        _ => return missing(&Missing::Name),
    };
    let Ok(_reader) = shared.readers.clone().acquire_owned().await else { return gone() };
    let ledger = shared.ledger.clone();
    match tokio::task::spawn_blocking(move || files::file(&ledger, &path)).await {
        Ok(Ok(file)) => {
            let known = request.headers().get(IF_NONE_MATCH).and_then(|known| known.to_str().ok());
            serve(file, known, head, shared).await
        }
        Ok(Err(why)) => missing(&why),
        Err(_) => gone(),
    }
}

async fn serve(file: File, known: Option<&str>, head: bool, shared: &Shared) -> Response<Held> {
    let (tag, length) = (tag(&file.bytes), file.bytes.len());
    let (content_type, lasts) = (file.content_type, file.lasts);
    let fresh = is_known(known, &tag);
    let body = if head || fresh {
        Held::short("")
    } else {
        match Held::new(file.bytes, &shared.waiting).await {
            Some(body) => body,
            None => return gone(),
        }
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    common(headers, content_type, cache_control(lasts));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(ETAG, tag);
    }
    if fresh {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

/// The strong tag of an answer: a part of the BLAKE3 hash of its bytes.
fn tag(bytes: &[u8]) -> String {
    let hash = blake3::hash(bytes).to_hex();
    format!("\"{}\"", &hash[..32])
}

const fn cache_control(lasts: Lasts) -> &'static str {
    match lasts {
        Lasts::Ever => "public, max-age=31536000, immutable",
        Lasts::Soon => "public, max-age=60",
        // Asked for again each time, answered in a few bytes when nothing has changed.
        Lasts::Now => "no-cache",
    }
}

fn common(headers: &mut hyper::HeaderMap, content_type: &'static str, cache: &'static str) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Public, and the same for everybody: pages of other sites may verify it too.
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
}

fn missing(why: &Missing) -> Response<Held> {
    let text = match why {
        Missing::Name => {
            "there is no such file: this is a log in the layout of C2SP tlog-tiles (/checkpoint, /tile/<L>/<N>[.p/<W>], \
             /tile/entries/<N>[.p/<W>]), with /seals/<N>, /genesis and /manifest.json\n"
        }
        Missing::Beyond => "the log does not reach so far yet: see /checkpoint\n",
        Missing::Checkpoint => "the council has not cosigned a checkpoint yet\n",
        Missing::Behind => {
            let text = "the newest checkpoint is over blocks that are still on their way\n";
            return sentence(StatusCode::SERVICE_UNAVAILABLE, text);
        }
        Missing::Unreadable(error) => {
            tracing::error!(%error, "the log cannot be read");
            return sentence(StatusCode::INTERNAL_SERVER_ERROR, "the log cannot be read\n");
        }
    };
    sentence(StatusCode::NOT_FOUND, text)
}

fn gone() -> Response<Held> {
    sentence(StatusCode::SERVICE_UNAVAILABLE, "the peer is stopping\n")
}

/// A refusal, which no cache must keep: the next batch may change it.
fn sentence(status: StatusCode, text: &'static str) -> Response<Held> {
    let mut response = Response::new(Held::short(text));
    *response.status_mut() = status;
    common(response.headers_mut(), "text/plain; charset=utf-8", "no-store");
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_caches() {
        let tag = tag(b"x");
        assert!(is_known(Some(&tag), &tag));
        assert_eq!(tag.len(), 34);
    }
}
