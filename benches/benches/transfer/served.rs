//! A peer that serves one file, and nothing else.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use antiphon_p2p::{
    AudioFile, AudioRefusal, AudioSource, Config, LedgerSource, Network, NoWitness, PeerId, Registrar,
    Services, SourceError, outboard,
};
use antiphon_proto::{
    ContentHash,
    wire::{
        AudioRequest, Batch, LedgerInfo, RegisterReply, RegisterRequest, StreamError, StreamErrorCode,
        register_reply,
    },
};
use futures::future::BoxFuture;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

/// A file of one group is proven by its content hash alone.
const GROUP_BYTES: u64 = 16 * 1024;

/// One file, no ledger.
pub(crate) struct OneFile {
    pub(crate) content: ContentHash,
    pub(crate) size: u64,
    pub(crate) path: PathBuf,
    outboard: PathBuf,
}

impl OneFile {
    /// Makes a file of so many random bytes, and its outboard.
    pub(crate) fn make(folder: &Path, bytes: u64) -> Arc<Self> {
        let (path, outboard) = (folder.join(format!("{bytes}")), folder.join(format!("{bytes}.obao")));
        let mut out = File::create(&path).unwrap();
        let mut random = blake3::Hasher::new().finalize_xof().take(bytes);
        std::io::copy(&mut random, &mut out).unwrap();
        out.sync_all().unwrap();
        let (content, size) = outboard::create_file(&path, &outboard).unwrap();
        Arc::new(Self { content, size, path, outboard })
    }

    /// A peer that serves it, or only asks when it listens nowhere.
    pub(crate) async fn start(self: &Arc<Self>, listen: Option<&str>, seed: u8) -> Network {
        let listen = listen.iter().map(|address| address.parse().unwrap()).collect();
        self.start_with(Config { listen, ..Config::default() }, [seed; 32]).await
    }

    /// The same with these settings.
    pub(crate) async fn start_with(self: &Arc<Self>, config: Config, seed: [u8; 32]) -> Network {
        let services = Services {
            ledger: self.clone(),
            registrar: self.clone(),
            audio: self.clone(),
            witness: Arc::new(NoWitness),
        };
        Box::pin(Network::start(config, &seed, services, &mut Registry::default())).await.unwrap().0
    }
}

impl AudioSource for OneFile {
    fn open(&self, _: PeerId, _: &AudioRequest) -> Result<AudioFile, AudioRefusal> {
        let open = |path: &Path| File::open(path).map_err(|_| AudioRefusal::Gone);
        let outboard = if self.size > GROUP_BYTES { Some(open(&self.outboard)?) } else { None };
        Ok(AudioFile { size: self.size, data: open(&self.path)?, outboard })
    }

    fn failed(&self, _: ContentHash) {}
}

impl LedgerSource for OneFile {
    fn info(&self) -> LedgerInfo {
        LedgerInfo::default()
    }

    fn batch_from(&self, _: u64) -> Result<Option<Batch>, SourceError> {
        Ok(None)
    }

    fn watch(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}

impl Registrar for OneFile {
    fn register(&self, _: PeerId, _: RegisterRequest) -> BoxFuture<'static, RegisterReply> {
        let error = StreamError { code: StreamErrorCode::Busy.into(), detail: String::new() };
        Box::pin(async { RegisterReply { body: Some(register_reply::Body::Unavailable(error)) } })
    }
}
