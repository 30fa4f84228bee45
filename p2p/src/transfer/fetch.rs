//! Fetching a file from one peer: a download that has one source and gives it no second chance.

use std::path::PathBuf;

use antiphon_proto::{ContentHash, wire::AudioMode};
use libp2p::PeerId;
use tokio::sync::watch;

use super::download::{Context, Download, Downloaded, Driver};
use crate::error::{DownloadError, FetchError, RequestError};

/// What to fetch, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// BLAKE3 of the file.
    pub content: ContentHash,
    /// Its size in bytes, from the ledger.
    pub size: u64,
    /// Is somebody listening?
    pub mode: AudioMode,
    /// Right to hear it, or empty.
    pub access_token: Vec<u8>,
    /// The partial file; what is there already and verifies is not fetched again.
    pub part: PathBuf,
}

/// How far a fetch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FetchProgress {
    /// Bytes of the file that are on disk and verified.
    pub verified_bytes: u64,
    /// Bytes of the file.
    pub total: u64,
}

/// Fetches everything that is missing.
pub(crate) async fn fetch(
    context: Context,
    peer: PeerId,
    fetch: Fetch,
    progress: watch::Sender<FetchProgress>,
) -> Result<Downloaded, FetchError> {
    let Fetch { content, size, mode, access_token, part } = fetch;
    let mut download = Download::new(content, size, part).once(mode);
    download.access_token = access_token;
    let report = |now: super::download::DownloadProgress| {
        progress.send_replace(FetchProgress { verified_bytes: now.verified_bytes, total: now.total });
    };
    let sources = watch::channel(vec![peer]).1;
    let driver = Driver::open(context, download, &report).await;
    let ended = match driver {
        Ok(driver) => driver.run(sources).await,
        Err(error) => Err(error),
    };
    ended.map_err(|error| match error {
        DownloadError::NoSources { verified, total, sources } => {
            let failure = sources.into_iter().find_map(|source| source.failure);
            failure.unwrap_or(FetchError::Closed { verified, total })
        }
        DownloadError::Disk(error) => error.into(),
        DownloadError::Shutdown => RequestError::Shutdown.into(),
        DownloadError::Internal => FetchError::Internal,
    })
}
