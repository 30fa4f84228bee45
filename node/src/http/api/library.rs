//! The own library: folders, and reading them.

use std::path::PathBuf;

use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Shared, blocking, extract::Sent};
use crate::{
    failure::{Failure, Kind},
    http::{App, problem::Problem},
    library::{folders::outermost, scan::Targets},
};

/// Folders, files, and how far a scan is.
#[utoipa::path(get, path = "/api/v1/library", tag = "library", responses((status = 200, description = "Folders and counts")))]
pub(super) async fn library(State(app): Shared) -> Answer {
    state(&app).await.map(Json)
}

/// What is known of the own library.
pub(in crate::http) async fn state(app: &App) -> Result<Value, Problem> {
    let library = app.peer.library.clone();
    let (folders, counts) = blocking(move || Ok((library.folders(), library.counts()?))).await?;
    Ok(json!({
        "folders": folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>(),
        "files": counts.files, "songs": counts.known, "pending": counts.pending, "skipped": counts.skipped,
        "scan": scanning(app),
    }))
}

/// How far a scan is.
pub(super) fn scanning(app: &App) -> Value {
    let scan = app.peer.library.progress().borrow().clone();
    json!({
        "running": scan.is_running(), "found": scan.found, "done": scan.done, "registered": scan.registered,
    })
}

/// A folder on the peer's machine.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct Folder {
    /// Absolute path.
    path: String,
}

/// Adds a folder and begins to read it.
#[utoipa::path(post, path = "/api/v1/library/folders", tag = "library", request_body = Folder, responses((status = 202, description = "It is being read"), (status = 404, body = Problem)))]
pub(super) async fn add(
    State(app): Shared,
    Sent(folder): Sent<Folder>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    begin_folder(&app, &folder.path).await?;
    Ok((StatusCode::ACCEPTED, Json(state(&app).await?)))
}

/// Adds a folder and begins to read it.
pub(in crate::http) async fn begin_folder(app: &App, path: &str) -> Result<(), Problem> {
    let path = existing(path).await?;
    let library = app.peer.library.clone();
    let remembered = path.clone();
    blocking(move || library.remember(&[remembered])).await?;
    begin(app, vec![path]);
    Ok(())
}

async fn existing(path: &str) -> Result<PathBuf, Problem> {
    let asked = PathBuf::from(path);
    if !asked.is_absolute() {
        return Err(Problem::bad(format!("{path:?} is not an absolute path; write it from / on")));
    }
    let found = tokio::task::spawn_blocking(move || {
        let path = asked.canonicalize()?;
        if path.is_dir() {
            Ok::<_, std::io::Error>(path)
        } else {
            Err(std::io::ErrorKind::NotADirectory.into())
        }
    });
    match found.await.map_err(anyhow::Error::from)? {
        Ok(path) => Ok(path),
        Err(error) => {
            Err(Failure::new(Kind::NotFound, format!("the folder {path:?} cannot be opened: {error}")).into())
        }
    }
}

/// Begins to read these folders.
pub(in crate::http) fn begin(app: &App, folders: Vec<PathBuf>) {
    let library = app.peer.library.clone();
    let targets = Targets { paths: outermost(folders), absent_is_gone: false };
    app.peer.spawn(async move {
        if let Err(error) = library.scan(targets).await {
            tracing::error!(%error, "the scan ended early");
        }
    });
}

/// Forgets a folder and what is in it; no file is touched.
#[utoipa::path(delete, path = "/api/v1/library/folders", tag = "library", request_body = Folder, responses((status = 200, description = "What is left")))]
pub(super) async fn remove(State(app): Shared, Sent(folder): Sent<Folder>) -> Answer {
    forget(&app, &folder.path).await?;
    library(State(app)).await
}

/// Forgets a folder and what is in it.
pub(in crate::http) async fn forget(app: &App, folder: &str) -> Result<(), Problem> {
    let path = PathBuf::from(folder);
    if !app.peer.library.folders().contains(&path) {
        return Err(Problem::not_found(format!("{folder:?} is not one of the library's folders")));
    }
    app.peer.library.forget(&[path]).await?;
    Ok(())
}

/// Reads all folders again.
#[utoipa::path(post, path = "/api/v1/library/scan", tag = "library", responses((status = 202, description = "It has begun")))]
pub(super) async fn scan(State(app): Shared) -> Result<(StatusCode, Json<Value>), Problem> {
    begin(&app, app.peer.library.folders());
    Ok((StatusCode::ACCEPTED, Json(state(&app).await?)))
}
