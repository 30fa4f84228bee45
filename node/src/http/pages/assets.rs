//! Styles, scripts and icons, which are part of the program.

use std::{collections::BTreeMap, sync::LazyLock};

use axum::{
    extract::{Path, Query},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use data_encoding::HEXLOWER;
use rust_embed::RustEmbed;
use serde::Deserialize;

use crate::http::range;

#[derive(RustEmbed)]
#[folder = "assets/"]
struct Assets;

/// Content hashes by name. They never change while the program runs.
static HASHES: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let hash = |name: &str| Assets::get(name).map(|file| HEXLOWER.encode(&file.metadata.sha256_hash()));
    let names = Assets::iter().map(|name| name.into_owned());
    names.filter_map(|name| Some((name.clone(), hash(&name)?.chars().take(16).collect()))).collect()
});

/// One hash over all of them.
static ALL: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = blake3::Hasher::new();
    for (name, hash) in HASHES.iter() {
        hasher.update(name.as_bytes()).update(hash.as_bytes());
    }
    hasher.finalize().to_hex().chars().take(16).collect()
});

/// Addresses of the assets that a page names itself.
pub(super) struct Links {
    /// The style sheet.
    pub(super) style: String,
    /// The script that loads the others.
    pub(super) script: String,
}

impl Links {
    /// With the hashes of this program's assets.
    pub(super) fn get() -> Self {
        // Scripts name each other without a hash, so that all of them are asked for anew.
        Self { style: link("app.css"), script: "/assets/app.js".to_owned() }
    }
}

fn link(name: &str) -> String {
    format!("/assets/{name}?v={}", HASHES.get(name).map(String::as_str).unwrap_or_default())
}

/// Which version of an asset is meant.
#[derive(Debug, Deserialize)]
pub(super) struct Version {
    v: Option<String>,
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("webmanifest") => "application/manifest+json",
        _ => "application/octet-stream",
    }
}

fn send(name: &str, headers: &HeaderMap, lasts: bool) -> Response {
    let (Some(file), Some(hash)) = (Assets::get(name), HASHES.get(name)) else {
        return (StatusCode::NOT_FOUND, "there is no such asset\n").into_response();
    };
    let tag = format!("\"{hash}\"");
    let asked = headers.get(header::IF_NONE_MATCH).and_then(|asked| asked.to_str().ok());
    let cache = if lasts { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mut response = if range::is_known(asked, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, media_type(name))], file.data.into_owned()).into_response()
    };
    let out = response.headers_mut();
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        out.insert(header::ETAG, tag);
    }
    response
}

/// An asset. One that is asked for with its own hash never changes.
pub(super) async fn asset(
    Path(name): Path<String>,
    Query(version): Query<Version>,
    headers: HeaderMap,
) -> Response {
    let lasts = version.v.is_some() && version.v.as_ref() == HASHES.get(&name);
    send(&name, &headers, lasts)
}

/// What a phone needs to install the player.
pub(super) async fn manifest(headers: HeaderMap) -> Response {
    send("manifest.webmanifest", &headers, false)
}

/// The icon, for browsers that look for it in the old place.
pub(super) async fn favicon(headers: HeaderMap) -> Response {
    send("icon-192.png", &headers, false)
}

/// The service worker. It is told which version of the assets it keeps.
pub(super) async fn worker() -> Response {
    let Some(file) = Assets::get("sw.js") else { return StatusCode::NOT_FOUND.into_response() };
    let text = String::from_utf8_lossy(&file.data).replace("@VERSION@", &ALL);
    let headers =
        [(header::CONTENT_TYPE, "text/javascript; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    (headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pages_name_is_there() {
        assert!(Links::get().style.len() > "/assets/app.css?v=".len());
        for name in ["app.js", "icon.svg", "icon-192.png", "icon-512.png", "manifest.webmanifest", "sw.js"] {
            assert!(HASHES.contains_key(name), "{name}");
        }
    }

    #[test]
    fn an_asset_is_sent_once() {
        let first = send("app.css", &HeaderMap::new(), true);
        assert_eq!(first.headers()[header::CACHE_CONTROL], "public, max-age=31536000, immutable");
        let mut again = HeaderMap::new();
        again.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        assert_eq!(send("app.css", &again, false).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(send("../Cargo.toml", &again, false).status(), StatusCode::NOT_FOUND);
    }
}
