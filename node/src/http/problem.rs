//! Errors of the API as RFC 9457 problem documents.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::failure::{Failure, Kind};

/// What went wrong, for programs and people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// What kind of problem: `about:blank`, or a name that programs may know.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the kind is called.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What, where, and what to do.
    pub detail: String,
}

impl Problem {
    /// A problem of a status that needs no other name.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
        }
    }

    /// Nothing of this name.
    #[must_use]
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// The request is wrong.
    #[must_use]
    pub fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    fn named(mut self, name: &str, title: &str) -> Self {
        self.kind = format!("urn:antiphon:problem:{name}");
        title.clone_into(&mut self.title);
        self
    }
}

/// The status of a class of failures.
#[must_use]
pub const fn status_of(kind: Kind) -> StatusCode {
    match kind {
        Kind::Usage => StatusCode::BAD_REQUEST,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Offline | Kind::NoDaemon => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Refused => StatusCode::FORBIDDEN,
        Kind::Locked => StatusCode::LOCKED,
        Kind::Full => StatusCode::INSUFFICIENT_STORAGE,
        Kind::Failed | Kind::Verification => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let problem = Self::new(status_of(failure.kind), failure.message);
        match failure.kind {
            Kind::Offline => problem.named("offline", "Nobody who has it is online"),
            Kind::Refused => problem.named("terms", "Its terms do not allow it"),
            Kind::Locked => problem.named("wallet-locked", "The wallet is locked"),
            Kind::Full => problem.named("disk-full", "The disk is full"),
            Kind::Verification => problem.named("verification", "What was checked is wrong"),
            _ => problem,
        }
    }
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        Failure::of(&error).into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}
