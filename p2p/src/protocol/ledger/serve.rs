//! Serving followers.
//!
//! A follower that falls behind is served at its own pace: one batch at a time is read from the store and written to
//! the stream, whose flow control is the only queue. One that takes nothing for [`Timeouts::write`] is dropped.
//!
//! [`Timeouts::write`]: crate::Timeouts::write

use antiphon_proto::wire::{FollowRequest, LedgerFrame, StreamErrorCode, ledger_frame};
use bytes::Bytes;
use futures::AsyncReadExt;
use libp2p::PeerId;

use super::{is_ours, refuse};
use crate::{
    protocol::{Fault, Server, frame, malformed},
    services::SourceError,
    streams::PeerStream,
};

/// A batch from this size on is a long one. New batches of a ledger that grows slowly are shorter: they pass by
/// followers that catch up slowly, and 128 of them are 4 MiB.
const LONG_BATCH_BYTES: usize = 32 * 1024;

/// Answers to a follow.
pub(super) async fn answer(
    server: &Server,
    peer: PeerId,
    stream: &mut PeerStream,
    follow: &FollowRequest,
) -> Result<(), Fault> {
    if !is_ours(server, &follow.network) {
        return refuse(server, stream, StreamErrorCode::OtherNetwork, "this is another network").await;
    }
    let mut sizes = server.services.ledger.watch();
    if follow.from > *sizes.borrow() {
        return refuse(server, stream, StreamErrorCode::NotFound, "the ledger is not that long").await;
    }
    tracing::debug!(%peer, from = follow.from, "a follower");
    let mut next = follow.from;
    let mut checkpoints = server.services.ledger.watch_checkpoint();
    let (mut told, mut more_come) = (Bytes::new(), true);
    loop {
        let size = *sizes.borrow_and_update();
        if !send_batches(server, stream, &mut next, size).await? {
            return Ok(());
        }
        let newest = checkpoints.borrow_and_update().clone();
        if newest != told {
            send_checkpoint(server, stream, &newest).await?;
            told = newest;
        }
        let mut byte = [0];
        tokio::select! {
            changed = sizes.changed() => {
                if changed.is_err() {
                    return server.close(stream).await;
                }
            }
            changed = checkpoints.changed(), if more_come => more_come = changed.is_ok(),
            read = stream.read(&mut byte) => {
                // Followers say nothing more: this is their end of the stream closing, or nonsense.
                return match read {
                    Ok(0) | Err(_) => Ok(()),
                    Ok(_) => Err(malformed("a follower that talks")),
                };
            }
        }
    }
}

async fn send_checkpoint(server: &Server, stream: &mut PeerStream, checkpoint: &Bytes) -> Result<(), Fault> {
    let frame = LedgerFrame { body: Some(ledger_frame::Body::Checkpoint(checkpoint.to_vec())) };
    server.write(stream, &frame::encode(&frame)).await?;
    server.flush(stream).await
}

/// Sends everything below `size`, and says whether the stream goes on.
async fn send_batches(
    server: &Server,
    stream: &mut PeerStream,
    next: &mut u64,
    size: u64,
) -> Result<bool, Fault> {
    let places = &server.ledger;
    let shutdown = |_| Fault::Internal("the network is shut down".to_owned());
    while *next < size {
        let mut turn = None;
        let read = loop {
            let read = read_batch(server, *next).await?;
            let long = matches!(&read, Ok(Some(batch)) if batch.frame.len() >= LONG_BATCH_BYTES);
            if !long || turn.is_some() {
                break read;
            }
            turn = places.long_messages.try_acquire().ok();
            if turn.is_some() {
                break read;
            }
            // Nothing is held while waiting.
            drop(read);
            turn = Some(places.long_messages.acquire().await.map_err(shutdown)?);
        };
        match read {
            Ok(Some(batch)) => {
                *next = batch.end;
                server.write(stream, &batch.frame).await?;
            }
            // The size ran ahead of the store; it will be announced again.
            Ok(None) => break,
            Err(error @ SourceError::NotFound(_)) => {
                refuse(server, stream, StreamErrorCode::NotFound, &error.to_string()).await?;
                return Ok(false);
            }
            Err(error @ SourceError::Internal(_)) => {
                tracing::error!(%error, "the ledger cannot be read");
                refuse(server, stream, StreamErrorCode::Internal, "the ledger failed").await?;
                return Ok(false);
            }
        }
    }
    server.flush(stream).await?;
    Ok(true)
}

/// A batch as it is sent.
struct Encoded {
    frame: Vec<u8>,
    /// Index after its last block.
    end: u64,
}

/// Reads the batch that starts with block `first` and encodes it; only the encoded form stays.
async fn read_batch(server: &Server, first: u64) -> Result<Result<Option<Encoded>, SourceError>, Fault> {
    let closed = |_| Fault::Internal("the network is shut down".to_owned());
    let _reading = server.ledger.reads.acquire().await.map_err(closed)?;
    let ledger = server.services.ledger.clone();
    let read = move || match ledger.batch_from(first) {
        Ok(Some(batch)) if batch.first == first && !batch.blocks.is_empty() => {
            let end = first.saturating_add(batch.blocks.len() as u64);
            let frame = frame::encode(&LedgerFrame { body: Some(ledger_frame::Body::Batch(batch)) });
            Ok(Some(Encoded { frame, end }))
        }
        Ok(Some(_)) => Err(SourceError::Internal(format!("the batch of block {first} starts elsewhere"))),
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    };
    server.blocking(read).await
}
