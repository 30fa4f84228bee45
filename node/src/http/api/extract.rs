//! Parts of requests, refused as problem documents.

use axum::{
    extract::{FromRequest, FromRequestParts, Json, Path, Query, Request},
    http::request::Parts,
};
use serde::{Deserialize, de::DeserializeOwned};

use super::super::problem::Problem;

/// What stands behind the `?`.
pub(in crate::http) struct Asked<T>(pub(in crate::http) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let found = Query::<T>::from_request_parts(parts, state).await;
        found.map(|Query(asked)| Self(asked)).map_err(|why| Problem::bad(why.body_text()))
    }
}

/// What stands in the path.
pub(in crate::http) struct Named<T>(pub(in crate::http) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let found = Path::<T>::from_request_parts(parts, state).await;
        found.map(|Path(named)| Self(named)).map_err(|why| Problem::bad(why.body_text()))
    }
}

/// A JSON body.
pub(in crate::http) struct Sent<T>(pub(in crate::http) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(sent)) => Ok(Self(sent)),
            Err(why) => Err(Problem::new(why.status(), why.body_text())),
        }
    }
}

/// Which part of a list: what comes after a cursor, and how much of it.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
pub(in crate::http) struct PageQuery {
    /// `next` of the page before; nothing for the first.
    pub cursor: Option<String>,
    /// Entries, 1 to 500.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<usize>,
}

/// Entries on a page where nothing is said.
const USUAL: usize = 50;
/// Entries on a page at most.
pub(in crate::http) const MOST: usize = 500;

impl PageQuery {
    /// How many entries.
    ///
    /// # Errors
    /// Not between 1 and [`MOST`].
    pub(in crate::http) fn limit(&self) -> Result<usize, Problem> {
        match self.limit.unwrap_or(USUAL) {
            limit @ 1..=MOST => Ok(limit),
            other => Err(Problem::bad(format!("limit is {other}; it goes from 1 to {MOST}"))),
        }
    }

    /// The cursor as the number below which the page begins.
    ///
    /// # Errors
    /// It is not one of ours.
    pub(in crate::http) fn below(&self) -> Result<u64, Problem> {
        match &self.cursor {
            None => Ok(u64::MAX),
            Some(cursor) => cursor.parse().map_err(|_| Problem::bad("this cursor is not from a page before")),
        }
    }

    /// The cursor as the place in a list.
    ///
    /// # Errors
    /// It is not one of ours.
    pub(in crate::http) fn offset(&self) -> Result<usize, Problem> {
        match &self.cursor {
            None => Ok(0),
            Some(cursor) => cursor.parse().map_err(|_| Problem::bad("this cursor is not from a page before")),
        }
    }
}
