//! Pages for listeners. They are whole without a script: links, forms and a browser's own audio player. With scripts the
//! same pages are fetched in part (`X-Part: main`), so that a song plays on while somebody looks around.

mod accounts;
mod assets;
mod browse;
mod chart;
mod downloads;
mod explorer;
mod here;
mod login;
mod marks;
mod playlists;
mod settings;
mod song;
mod starred;
mod views;
mod wallet;

use std::sync::Arc;

use askama::Template;
use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use tower_http::timeout::TimeoutLayer;

use super::{App, app::ANSWER_WITHIN, problem::Problem};
use crate::{failure::Failure, listener::ListenerError};

/// What is shared, as handlers take it.
type Shared = State<Arc<App>>;
/// What handlers give.
type Answer = Result<Response, Failed>;

/// Asks for the main part of a page alone.
const PART: HeaderName = HeaderName::from_static("x-part");

/// A page before the frame is around it.
#[derive(Debug, Clone)]
struct Page {
    title: String,
    /// Where it belongs in the navigation.
    place: &'static str,
    main: String,
    status: StatusCode,
    /// Without navigation and player.
    bare: bool,
}

impl Page {
    /// The page of a template.
    fn of(title: impl Into<String>, place: &'static str, main: &impl Template) -> Result<Self, Failed> {
        let main = main.render().map_err(|error| Failed(anyhow::Error::from(error).into()))?;
        Ok(Self { title: title.into(), place, main, status: StatusCode::OK, bare: false })
    }

    /// The same as an answer.
    fn show(title: impl Into<String>, place: &'static str, main: &impl Template) -> Answer {
        Ok(Self::of(title, place, main)?.into_response())
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// Why there is no page.
struct Failed(Problem);

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self(failure.into())
    }
}

impl From<crate::explorer::ExplorerError> for Failed {
    fn from(error: crate::explorer::ExplorerError) -> Self {
        anyhow::Error::from(error).into()
    }
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Self {
        Self(error.into())
    }
}

impl From<ListenerError> for Failed {
    fn from(error: ListenerError) -> Self {
        anyhow::Error::from(error).into()
    }
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemMain<'p> {
    /// What is not there may come.
    gone: bool,
    heading: &'p str,
    detail: &'p str,
    hint: &'p str,
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let Problem { status, detail, .. } = self.0;
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (heading, hint) = match status {
            StatusCode::NOT_FOUND => {
                ("Not found", "It may have been removed, or whoever shared it has gone offline.")
            }
            StatusCode::BAD_REQUEST => ("That did not work", "Go back, change it, and try again."),
            StatusCode::LOCKED => {
                ("The wallet is locked", "Restart the peer and type the wallet's password there.")
            }
            StatusCode::SERVICE_UNAVAILABLE => ("Not reachable now", "Try again in a moment."),
            StatusCode::UNAUTHORIZED => ("Wrong password", "Go back and try again."),
            StatusCode::TOO_MANY_REQUESTS => ("Wait a moment", "Too many wrong passwords were tried."),
            _ => ("Something went wrong", "The log of the peer may say more."),
        };
        let main = ProblemMain { gone: status == StatusCode::NOT_FOUND, heading, detail: &detail, hint }
            .render()
            .unwrap_or(detail.clone());
        Page { title: heading.to_owned(), place: "", main, status, bare: false }.into_response()
    }
}

#[derive(Template)]
#[template(path = "frame.html")]
struct Frame<'p> {
    page: &'p Page,
    theme: &'p str,
    has_password: bool,
    assets: assets::Links,
}

#[derive(Template)]
#[template(path = "part.html")]
struct Part<'p> {
    page: &'p Page,
}

/// Work on disk, away from the threads that answer.
async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Failed>
where
    T: Send + 'static,
    E: Into<Failed> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Into::into),
        Err(error) => Err(anyhow::Error::from(error).into()),
    }
}

/// Back to a page after a form.
fn see(path: &str) -> Response {
    Redirect::to(path).into_response()
}

/// All pages.
pub(in crate::http) fn router(app: Arc<App>) -> Router {
    let dressed = middleware::from_fn_with_state(app.clone(), dress);
    let pages = Router::new()
        .route("/", get(browse::home))
        .route("/library", get(browse::library))
        .route("/discover", get(browse::discover))
        .route("/search", get(browse::search))
        .route("/album/{id}", get(browse::album))
        .route("/artist/{id}", get(browse::artist))
        .route("/genre", get(browse::genre))
        .route("/song/{id}", get(song::song))
        .route("/song/{id}/buy", post(wallet::buy))
        .route("/playlists", get(playlists::all).post(playlists::create))
        .route("/playlists/{id}", get(playlists::one).post(playlists::edit))
        .route("/starred", get(starred::starred))
        .route("/star", post(marks::star))
        .route("/rate", post(marks::rate))
        .route("/keep", post(marks::keep))
        .route("/downloads", get(downloads::downloads))
        .route("/plays", get(here::plays))
        .route("/peers", get(here::peers))
        .route("/wallet", get(wallet::wallet))
        .route("/wallet/send", post(wallet::send))
        .route("/settings", get(settings::show))
        .route("/settings/folders", post(settings::folders))
        .route("/settings/theme", post(settings::theme))
        .route("/settings/apps", post(settings::apps))
        .route("/settings/password", post(settings::password))
        .route("/settings/sessions", post(settings::sessions))
        .route("/explorer", get(explorer::home))
        .route("/explorer/blocks", get(explorer::blocks))
        .route("/explorer/block/{which}", get(explorer::block))
        .route("/explorer/block/{which}/proof", get(explorer::proof))
        .route("/explorer/song/{which}", get(explorer::song))
        .route("/explorer/account/{key}", get(accounts::account))
        .route("/explorer/account/{key}/songs", get(accounts::songs))
        .route("/explorer/artist/{name}", get(accounts::artist))
        .route("/explorer/epochs", get(explorer::epochs))
        .route("/explorer/council", get(explorer::council))
        .route("/explorer/find", get(explorer::find))
        .route("/explorer/{*rest}", get(explorer::nothing))
        .route("/login", get(login::form).post(login::login))
        .route("/logout", post(login::logout))
        .route("/offline", get(login::offline))
        .fallback(async || Failed(Problem::not_found("There is no page at this address.")))
        .layer(dressed)
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, ANSWER_WITHIN));
    Router::new()
        .route("/assets/{name}", get(assets::asset))
        .route("/manifest.webmanifest", get(assets::manifest))
        .route("/sw.js", get(assets::worker))
        .route("/favicon.ico", get(assets::favicon))
        .route("/cover/{id}", get(browse::cover))
        .merge(pages)
        .with_state(app)
}

/// Puts the frame around a page, or sends the main part alone.
async fn dress(State(app): Shared, request: Request, next: Next) -> Response {
    let part = request.headers().get(PART).is_some_and(|part| part == "main");
    let mut response = next.run(request).await;
    let Some(page) = response.extensions_mut().remove::<Arc<Page>>() else { return response };
    let listener = app.listener.clone();
    let known = blocking(move || {
        let theme = crate::http::api::settings::theme_of(&listener)?;
        Ok::<_, ListenerError>((theme, listener.has_password()?))
    });
    let (theme, has_password) = known.await.unwrap_or_default();
    let text = if part {
        Part { page: &page }.render()
    } else {
        Frame { page: &page, theme: &theme, has_password, assets: assets::Links::get() }.render()
    };
    let Ok(text) = text else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static("X-Part, Cookie"));
    headers.remove(header::CONTENT_LENGTH);
    *response.body_mut() = text.into();
    response
}
