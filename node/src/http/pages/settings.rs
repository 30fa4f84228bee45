//! Settings: folders, looks, passwords, and who is logged in.

use askama::Template;
use axum::{
    Form,
    extract::{Query, State},
};
use serde::Deserialize;

use super::{Answer, Page as Shown, Shared, blocking, see, views};
use crate::{
    http::{
        api::{library, settings},
        problem::Problem,
    },
    listener::{Device, ListenerError, SessionId},
    system::{clock, random::random},
    web_ops,
};

/// How long a new password is shown.
const SHOWN_MS: u64 = 600_000;

/// An app's password in the list.
struct AppRow {
    id: u64,
    name: String,
    user: String,
    used: String,
}

/// A browser that is logged in.
struct SessionRow {
    id: String,
    label: String,
    seen: String,
}

#[derive(Template)]
#[template(path = "settings.html")]
struct SettingsMain {
    folders: Vec<String>,
    theme: String,
    apps: Vec<AppRow>,
    fresh: Option<Device>,
    has_password: bool,
    sessions: Vec<SessionRow>,
    changed: bool,
}

/// What was just made.
#[derive(Debug, Deserialize)]
pub(super) struct Fresh {
    app: Option<u64>,
    changed: Option<String>,
}

/// All of them.
pub(super) async fn show(State(app): Shared, Query(fresh): Query<Fresh>) -> Answer {
    let (listener, library) = (app.listener.clone(), app.peer.library.clone());
    let main = blocking(move || {
        let now = clock::now_ms();
        let devices = listener.devices()?;
        let folders = library.folders();
        let is_fresh = |device: &&Device| {
            Some(device.id) == fresh.app
                && device.used_ms.is_none()
                && now.saturating_sub(device.created_ms) < SHOWN_MS
        };
        Ok::<_, ListenerError>(SettingsMain {
            folders: folders.iter().map(|folder| folder.display().to_string()).collect(),
            theme: settings::theme_of(&listener)?,
            fresh: devices.iter().find(is_fresh).cloned(),
            apps: devices.into_iter().map(AppRow::of).collect(),
            has_password: listener.has_password()?,
            sessions: listener.sessions(now)?.into_iter().map(SessionRow::of).collect(),
            changed: fresh.changed.is_some(),
        })
    });
    Shown::show("Settings", "settings", &main.await?)
}

impl AppRow {
    fn of(device: Device) -> Self {
        let used = device.used_ms.map_or_else(|| "never used".to_owned(), views::when);
        Self { id: device.id, name: device.name, user: device.user, used }
    }
}

impl SessionRow {
    fn of((id, session): (SessionId, crate::listener::Session)) -> Self {
        Self { id: id.to_string(), label: session.label, seen: views::when(session.seen_ms) }
    }
}

/// A folder, and what is to be done with it.
#[derive(Debug, Deserialize)]
pub(super) struct FolderForm {
    path: String,
    /// `add` or `remove`.
    action: String,
}

/// Adds or forgets a folder.
pub(super) async fn folders(State(app): Shared, Form(form): Form<FolderForm>) -> Answer {
    if form.action == "remove" {
        library::forget(&app, &form.path).await?;
        return Ok(see("/settings?changed=yes"));
    }
    library::begin_folder(&app, form.path.trim()).await?;
    Ok(see("/library"))
}

/// Looks.
#[derive(Debug, Deserialize)]
pub(super) struct ThemeForm {
    theme: String,
}

/// Sets the looks.
pub(super) async fn theme(State(app): Shared, Form(form): Form<ThemeForm>) -> Answer {
    settings::set_theme(&app, form.theme).await?;
    Ok(see("/settings?changed=yes"))
}

/// An app.
#[derive(Debug, Deserialize)]
pub(super) struct AppForm {
    /// `add` or `revoke`.
    action: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    user: String,
    id: Option<u64>,
}

/// Makes or revokes an app's password.
pub(super) async fn apps(State(app): Shared, Form(form): Form<AppForm>) -> Answer {
    let listener = app.listener.clone();
    if form.action == "revoke" {
        let id = form.id.ok_or_else(|| Problem::bad("Say which app."))?;
        blocking(move || listener.revoke_device(id)).await?;
        return Ok(see("/settings?changed=yes"));
    }
    let random = random()?;
    let made = blocking(move || {
        let name = if form.name.trim().is_empty() { "An app" } else { form.name.trim() };
        let user = if form.user.trim().is_empty() { web_ops::USER } else { form.user.trim() };
        listener.add_device(name, user, random, clock::now_ms())
    });
    Ok(see(&format!("/settings?app={}", made.await?.id)))
}

/// The password of the pages.
#[derive(Deserialize)]
pub(super) struct PasswordForm {
    /// `set` or `clear`.
    action: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    again: String,
}

/// Sets or clears the password of the pages.
pub(super) async fn password(State(app): Shared, Form(form): Form<PasswordForm>) -> Answer {
    let listener = app.listener.clone();
    if form.action == "clear" {
        blocking(move || listener.clear_password()).await?;
        return Ok(see("/settings?changed=yes"));
    }
    if form.password != form.again {
        return Err(Problem::bad("The two passwords are not the same.").into());
    }
    if form.password.chars().count() < web_ops::SHORTEST {
        let message = format!("A password needs {} letters or more.", web_ops::SHORTEST);
        return Err(Problem::bad(message).into());
    }
    let salt = random()?;
    blocking(move || listener.set_password(form.password.as_bytes(), salt)).await?;
    Ok(see("/login?next=/settings"))
}

/// A browser.
#[derive(Debug, Deserialize)]
pub(super) struct SessionForm {
    /// Nothing: all of them.
    id: Option<String>,
}

/// Ends a session, or all of them.
pub(super) async fn sessions(State(app): Shared, Form(form): Form<SessionForm>) -> Answer {
    let listener = app.listener.clone();
    let id = form.id.map(|id| id.parse::<SessionId>()).transpose()?;
    blocking(move || match id {
        Some(id) => listener.revoke_session(&id).map(drop),
        None => listener.revoke_sessions(),
    })
    .await?;
    Ok(see("/settings?changed=yes"))
}
