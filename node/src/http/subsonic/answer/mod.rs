//! The methods of OpenSubsonic under `/rest`.
//!
//! Every request proves itself: [`Ask`] is one whose login was right. Most methods only look things up and write things
//! down; they run where blocking is allowed. What sends bytes, or waits for others, is [`media`]'s and [`own`]'s.

mod ask;
mod browse;
mod convert;
mod find;
mod lists;
mod media;
mod own;
mod playlists;
mod queue;
mod shelves;
mod system;
mod table;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    body::{Body as Bytes, to_bytes},
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};

use self::{ask::Ask, table::Handler};
use super::{
    bodies::Body,
    error::{Code, SubsonicError},
    login::Login,
    params::{BODY_BYTES, Params},
    response::{Format, render},
};
use crate::{
    http::{App, app::ANSWER_WITHIN, guard::Client},
    listener::{self, Device},
    music::Versions,
    system::clock,
};

/// What a method gives, or why not.
type Answer = Result<Body, SubsonicError>;

/// What the methods share beside the rest of the server.
struct Rest {
    app: Arc<App>,
    /// For each app the order in which it pages through everything at random.
    seeds: Mutex<HashMap<u64, u64>>,
    /// What apps say that they play, without having it counted.
    shown: Mutex<Vec<own::Shown>>,
    /// The shelves that were seen last, and since when.
    seen: Mutex<(Versions, u64)>,
}

impl Rest {
    /// When the shelves last changed, milliseconds since 1970; since this start at the earliest.
    fn changed_ms(&self) -> u64 {
        let versions = *self.app.peer.music.changes().borrow();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.0 != versions {
            *seen = (versions, clock::now_ms());
        }
        seen.1
    }

    /// Which app it is. Blocks.
    fn login(&self, params: &Params, client: IpAddr) -> Result<Device, SubsonicError> {
        let login = Login::of(params)?;
        let guard = &self.app.guard;
        if let Err(wait) = guard.may_try(client) {
            let wait = wait.as_secs() + 1;
            let message = format!("Too many wrong passwords from this address; try again in {wait} s.");
            return Err(SubsonicError::saying(Code::WrongLogin, message));
        }
        // Read each time: a password that was taken away is worth nothing at once.
        let devices = kept(self.app.listener.devices())?;
        let found = login.check(&devices).cloned();
        guard.tried(client, found.is_ok());
        let device = found?;
        kept(self.app.listener.used_device(&device, clock::now_ms()))?;
        Ok(device)
    }

    async fn handle(
        self: Arc<Self>,
        handler: Handler,
        params: Params,
        parts: Parts,
    ) -> Result<Reply, SubsonicError> {
        if let Handler::Open(method) = handler {
            return Ok(Reply::Body(method(&self.app)));
        }
        let client = Client::ip(&parts.extensions);
        let rest = self.clone();
        let (device, params) =
            blocking(move || rest.login(&params, client).map(|device| (device, params))).await?;
        let head = parts.method == Method::HEAD;
        let ask = Ask { rest: self, params, device, headers: parts.headers, head };
        match handler {
            Handler::Plain(method) => blocking(move || method(&ask)).await.map(Reply::Body),
            Handler::Stream => media::stream(ask).await.map(Reply::File),
            Handler::Download => media::download(ask).await.map(Reply::File),
            Handler::Cover => media::cover(ask).await.map(Reply::File),
            Handler::Report => own::report(ask).await.map(Reply::Body),
            Handler::Open(method) => Ok(Reply::Body(method(&ask.rest.app))),
        }
    }
}

/// What is sent.
enum Reply {
    Body(Body),
    File(Response),
}

/// Work that waits for the disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SubsonicError> + Send + 'static,
) -> Result<T, SubsonicError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(SubsonicError::new(Code::Generic)))
}

/// What the listener's file says, as apps are told it.
fn kept<T>(result: listener::Result<T>) -> Result<T, SubsonicError> {
    result.map_err(|error| {
        let code = match error {
            listener::ListenerError::NotFound(_) => Code::NotFound,
            _ => Code::Generic,
        };
        SubsonicError::saying(code, error.to_string())
    })
}

/// Every method, with and without `.view`.
pub(in crate::http) fn router(app: Arc<App>) -> Router {
    let rest = Rest {
        app,
        seeds: Mutex::default(),
        shown: Mutex::default(),
        seen: Mutex::new((Versions::default(), clock::now_ms())),
    };
    Router::new().route("/rest/{method}", get(answer).post(answer)).with_state(Arc::new(rest))
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
    })
}

/// The parameters, and the form of the answer even when they are wrong.
async fn params(parts: &Parts, body: Bytes) -> (Format, Result<Params, SubsonicError>) {
    let read = async {
        if parts.method != Method::POST || !is_form(&parts.headers) {
            return Ok(axum::body::Bytes::new());
        }
        to_bytes(body, BODY_BYTES).await.map_err(|_| {
            SubsonicError::saying(
                Code::Parameter,
                "The parameters of the request are too long, or not whole.",
            )
        })
    };
    let query = parts.uri.query().unwrap_or_default();
    let params = match tokio::time::timeout(ANSWER_WITHIN, read).await {
        Ok(Ok(form)) => Params::parse(query, &form),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(SubsonicError::saying(Code::Generic, "The request did not come to its end.")),
    };
    match params {
        Ok(params) => match Format::of(&params) {
            Ok(format) => (format, Ok(params)),
            Err(error) => (Format::Json, Err(error)),
        },
        Err(error) => {
            let format = Params::parse(query, b"").ok().and_then(|params| Format::of(&params).ok());
            (format.unwrap_or_default(), Err(error))
        }
    }
}

async fn answer(State(rest): State<Arc<Rest>>, Path(name): Path<String>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let (format, params) = params(&parts, body).await;
    let name = name.strip_suffix(".view").unwrap_or(&name);
    let Some(handler) = table::handler(name) else {
        // Apps try what a server may not have; this tells them from a server that is broken.
        let error = SubsonicError::saying(Code::Generic, "There is no such method here.");
        return document(StatusCode::NOT_FOUND, &format, &Err(error));
    };
    let params = match params {
        Ok(params) => params,
        Err(error) => return document(StatusCode::OK, &format, &Err(error)),
    };
    let done = Box::pin(rest.handle(handler, params, parts));
    let answer = match tokio::time::timeout(ANSWER_WITHIN, done).await {
        Ok(Ok(Reply::File(response))) => return response,
        Ok(Ok(Reply::Body(body))) => Ok(body),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(SubsonicError::saying(Code::Generic, "This took too long; try again.")),
    };
    document(StatusCode::OK, &format, &answer)
}

fn document(status: StatusCode, format: &Format, answer: &Answer) -> Response {
    let mut response = (status, render(format, answer)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
