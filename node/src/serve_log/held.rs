//! A body that counts against the bytes which may wait, until it is sent or dropped.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::WAITING_KB;

/// Bytes that are handed over at a time. The next ones are asked for when these are nearly sent, so that what a slow
/// client has not taken yet stays counted.
const PIECE_BYTES: usize = 32 * 1024;

/// Bytes to be sent, and the place that they take.
pub(super) struct Held {
    bytes: Bytes,
    _place: Option<OwnedSemaphorePermit>,
}

impl Held {
    /// A few bytes that take no place.
    pub(super) fn short(text: impl Into<Bytes>) -> Self {
        Self { bytes: text.into(), _place: None }
    }

    /// Waits for a place. `None` when the server ends.
    pub(super) async fn new(bytes: Vec<u8>, waiting: &Arc<Semaphore>) -> Option<Self> {
        let kilobytes = u32::try_from(bytes.len().div_ceil(1024)).unwrap_or(WAITING_KB).min(WAITING_KB);
        let place = waiting.clone().acquire_many_owned(kilobytes).await.ok()?;
        Some(Self { bytes: bytes.into(), _place: Some(place) })
    }
}

impl Body for Held {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.bytes.len().min(PIECE_BYTES);
        let piece = self.bytes.split_to(next);
        Poll::Ready((next > 0).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}
