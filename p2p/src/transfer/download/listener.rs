//! Reading a file in order while it is downloaded.

use std::{fs::File, sync::Arc};

use antiphon_proto::limits::BAO_GROUP_BYTES;
use bao_tree::io::sync::ReadAt;
use bytes::Bytes;
use tokio::sync::watch;

use crate::transfer::partial::Present;

/// Bytes given out at once at most: what a player takes in a second or two.
const READ_BYTES: u64 = 256 * 1024;

/// Where the reader is, and how often it jumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Cursor {
    pub(super) byte: u64,
    pub(super) jumps: u64,
}

/// What a listener reads from.
#[derive(Debug, Clone)]
pub(super) struct Readable {
    pub(super) data: Arc<File>,
    pub(super) present: Present,
    /// Changes whenever something was verified; ends with the download.
    pub(super) verified: watch::Receiver<u64>,
}

/// The download's end of a listener.
#[derive(Debug)]
pub(super) struct Playback {
    /// Bytes a second.
    pub(super) rate: u64,
    pub(super) cursor: watch::Receiver<Cursor>,
    pub(super) readable: watch::Sender<Option<Readable>>,
}

/// Reads a song in order while it comes. Each clone reads for itself, and what comes first is what the one needs that read
/// or jumped last. Dropping all of them lets the download go on as if nobody listened.
#[derive(Debug, Clone)]
pub struct Listener {
    size: u64,
    position: u64,
    cursor: watch::Sender<Cursor>,
    readable: watch::Receiver<Option<Readable>>,
}

pub(super) fn pair(size: u64, rate: u64) -> (Playback, Listener) {
    let (cursor, moved) = watch::channel(Cursor::default());
    let (open, readable) = watch::channel(None);
    let playback = Playback { rate, cursor: moved, readable: open };
    (playback, Listener { size, position: 0, cursor, readable })
}

impl Listener {
    /// The next bytes, at most `max` and at most 256 KiB: waits until some are there. None at the end of the file, or
    /// when the download ended without them; [`Self::is_at_end`] tells which. Can be dropped at any time and called
    /// again, nothing is lost.
    pub async fn read(&mut self, max: usize) -> Option<Bytes> {
        let readable = self.readable.wait_for(Option::is_some).await.ok()?.clone();
        let mut readable = readable?;
        while !self.is_at_end() {
            readable.verified.mark_unchanged();
            let length = self.available(&readable.present).min(max.max(1) as u64).min(READ_BYTES);
            if length > 0 {
                let bytes = read_at(readable.data, self.position, length).await?;
                self.position += bytes.len() as u64;
                self.tell();
                return Some(bytes);
            }
            if readable.verified.changed().await.is_err() && self.available(&readable.present) == 0 {
                return None;
            }
        }
        None
    }

    /// Goes on at this byte of the file.
    pub fn seek(&mut self, byte: u64) {
        self.position = byte.min(self.size);
        self.cursor.send_modify(|cursor| {
            cursor.byte = self.position;
            cursor.jumps = cursor.jumps.wrapping_add(1);
        });
    }

    /// First byte that was not given out yet.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Bytes of the file.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether everything up to the end was given out.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.position >= self.size
    }

    fn tell(&self) {
        self.cursor.send_modify(|cursor| cursor.byte = self.position);
    }

    /// Verified bytes from here on without a gap.
    fn available(&self, present: &Present) -> u64 {
        let next = present.lock().next(self.position / BAO_GROUP_BYTES, false);
        let end = next.map_or(self.size, |group| group.saturating_mul(BAO_GROUP_BYTES).min(self.size));
        end.saturating_sub(self.position)
    }
}

/// None when the disk fails, which is in the log.
async fn read_at(data: Arc<File>, offset: u64, length: u64) -> Option<Bytes> {
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        data.read_exact_at(offset, &mut bytes).map(|()| Bytes::from(bytes))
    });
    match reading.await.ok()? {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            tracing::warn!(%error, offset, "what was downloaded cannot be read");
            None
        }
    }
}
