//! Logging in and out, and the page for when the peer is away.

use askama::Template;
use axum::{
    Form,
    extract::{Query, State},
    http::{Extensions, HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::{Answer, Page, Shared, see};
use crate::http::guard::Client;

/// Where to go afterwards.
#[derive(Debug, Deserialize)]
pub(super) struct Next {
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginMain<'p> {
    next: &'p str,
    wrong: &'p str,
}

/// A path of this peer; else the start.
fn local(next: Option<&str>) -> &str {
    let fits = |next: &&str| {
        let rest = next.strip_prefix('/');
        rest.is_some_and(|rest| !rest.starts_with(['/', '\\']))
            && next.len() <= 512
            && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
            && !next.starts_with("/login")
    };
    next.filter(fits).unwrap_or("/")
}

fn page(next: &str, wrong: &str, status: StatusCode) -> Answer {
    let page = Page::of("Log in", "", &LoginMain { next, wrong })?;
    Ok(Page { bare: true, status, ..page }.into_response())
}

/// Asks for the password.
pub(super) async fn form(Query(next): Query<Next>) -> Answer {
    page(local(next.next.as_deref()), "", StatusCode::OK)
}

/// The password.
#[derive(Deserialize)]
pub(super) struct Said {
    password: String,
    next: Option<String>,
}

/// Begins a session.
pub(super) async fn login(
    State(app): Shared,
    extensions: Extensions,
    headers: HeaderMap,
    Form(said): Form<Said>,
) -> Answer {
    let next = local(said.next.as_deref());
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or("a browser");
    match app.guard.login(Client::ip(&extensions), said.password, agent.to_owned()).await {
        Ok(cookie) => Ok(with_cookie(cookie, next)),
        Err(problem) => {
            let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::UNAUTHORIZED);
            page(next, &problem.detail, status)
        }
    }
}

fn with_cookie(cookie: axum::http::HeaderValue, path: &str) -> Response {
    let mut response = see(path);
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    response
}

/// Ends the session.
pub(super) async fn logout(State(app): Shared, headers: HeaderMap) -> Answer {
    Ok(with_cookie(app.guard.logout(&headers)?, "/"))
}

#[derive(Template)]
#[template(path = "offline.html")]
struct OfflineMain;

/// What the service worker shows when the peer does not answer.
pub(super) async fn offline() -> Answer {
    let page = Page::of("Peer not reachable", "", &OfflineMain)?;
    Ok(Page { bare: true, ..page }.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_this_peer() {
        for fine in ["/", "/library", "/album/al-1"] {
            assert_eq!(local(Some(fine)), fine);
        }
        for bad in
            ["", "//evil.example", "/\\evil.example", "https://evil.example", "library", "/a\nb", "/login"]
        {
            assert_eq!(local(Some(bad)), "/", "{bad:?}");
        }
        assert_eq!(local(None), "/");
    }
}
