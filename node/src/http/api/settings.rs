//! Settings of the player: looks, the password of the pages, passwords of apps. Folders are the library's.

use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, Shared, ask, blocking,
    extract::{Named, Sent},
};
use crate::{
    http::{App, problem::Problem},
    listener::Listener,
    ops::Request,
    web_ops::Web,
};

/// Name of the setting for looks.
const THEME: &str = "theme";
/// What they can be; nothing: as the system has it.
const THEMES: [&str; 3] = ["", "dark", "light"];

/// How pages look; empty: as the system has it. Blocks.
pub(in crate::http) fn theme_of(listener: &Listener) -> crate::listener::Result<String> {
    Ok(listener.setting(THEME)?.unwrap_or_default())
}

/// Sets the looks.
pub(in crate::http) async fn set_theme(app: &App, theme: String) -> Result<(), Problem> {
    if !THEMES.contains(&theme.as_str()) {
        return Err(Problem::bad("There is no such theme: dark, light, or nothing for the system's."));
    }
    let listener = app.listener.clone();
    blocking(move || Ok(listener.set_setting(THEME, &theme)?)).await
}

/// Looks, whether the pages have a password, and the apps that have one of their own.
#[utoipa::path(get, path = "/api/v1/settings", tag = "settings", responses((status = 200, description = "Settings and apps")))]
pub(super) async fn all(State(app): Shared) -> Answer {
    let listener = app.listener.clone();
    let theme = blocking(move || Ok(theme_of(&listener)?)).await?;
    let mut settings = ask(&app, Request::Web(Web::Apps)).await?;
    settings["theme"] = json!(theme);
    Ok(settings)
}

/// What is to be changed.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    /// `dark`, `light`, or empty for the system's.
    theme: String,
}

/// Changes settings.
#[utoipa::path(post, path = "/api/v1/settings", tag = "settings", request_body = Change, responses((status = 200, description = "Settings as they are now"), (status = 400, body = Problem)))]
pub(super) async fn change(State(app): Shared, Sent(change): Sent<Change>) -> Answer {
    set_theme(&app, change.theme).await?;
    all(State(app)).await
}

/// A password of the pages.
#[derive(Deserialize, utoipa::ToSchema)]
pub(super) struct Password {
    /// The new one, 8 characters or more; null: none from now on.
    password: Option<String>,
}

/// Sets the password of the pages, or takes it away. Every browser has to log in again.
#[utoipa::path(post, path = "/api/v1/settings/password", tag = "settings", request_body = Password, responses((status = 200, description = "Whether there is one now"), (status = 400, body = Problem)))]
pub(super) async fn password(State(app): Shared, Sent(said): Sent<Password>) -> Answer {
    let web = said.password.map_or(Web::ClearPassword, Web::SetPassword);
    ask(&app, Request::Web(web)).await
}

/// An app.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct NewApp {
    /// What it is called in the list.
    name: String,
}

/// Makes a password for an app, which is told this once.
#[utoipa::path(post, path = "/api/v1/settings/apps", tag = "settings", request_body = NewApp, responses((status = 201, description = "User and password"), (status = 400, body = Problem)))]
pub(super) async fn add_app(
    State(app): Shared,
    Sent(new): Sent<NewApp>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let name = new.name.trim().to_owned();
    if name.is_empty() {
        return Err(Problem::bad("An app needs a name."));
    }
    Ok((StatusCode::CREATED, ask(&app, Request::Web(Web::AddApp(name))).await?))
}

/// Takes an app's password away.
#[utoipa::path(delete, path = "/api/v1/settings/apps/{id}", tag = "settings", params(("id" = u64, Path, description = "Number of the app")), responses((status = 200, description = "It is revoked"), (status = 404, body = Problem)))]
pub(super) async fn revoke_app(State(app): Shared, Named(id): Named<u64>) -> Answer {
    ask(&app, Request::Web(Web::RevokeApp(id))).await
}
