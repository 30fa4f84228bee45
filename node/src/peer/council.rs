//! This peer's seat in the council: the member's key, the thread that votes, and the streams to the other members.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use antiphon_ledger::{
    Ledger,
    council::{Council, Options, Pace, Transport, Voting},
};
use antiphon_p2p::{Class, CouncilConfig, CouncilEvent, CouncilSender, Network};
use antiphon_proto::{
    PublicKey, SecretKey,
    wire::{Binding, Registration},
};
use anyhow::{Context, bail};
use bytes::Bytes;
use futures::future::BoxFuture;
use rustix::fs::{FlockOperation, flock};

use super::orders::{Local, Orders, Verdict};
use crate::{
    config,
    failure::{Failure, Kind},
    system::{clock, datadir::DataDir, keyfile},
};

/// Folder of the member's write-ahead log, in the data directory.
const FOLDER: &str = "council";

/// A seat: the member, and what keeps its key to this process.
pub struct Seat {
    /// The member.
    pub council: Arc<Council>,
    /// Its key.
    pub key: PublicKey,
    _key_file: File,
}

impl Seat {
    /// Whether this peer is in the council now.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.council.report().is_member()
    }
}

/// The streams to the other members, once they are there.
#[derive(Default)]
struct Streams(OnceLock<CouncilSender>);

impl Transport for Streams {
    fn send(&self, to: Option<PublicKey>, bulk: bool, message: Vec<u8>) {
        let Some(streams) = self.0.get() else { return };
        let (class, message) = (if bulk { Class::Body } else { Class::Vote }, Bytes::from(message));
        let sent = match to {
            Some(to) => streams.send(to, class, message),
            None => streams.broadcast(class, &message).map(drop),
        };
        if let Err(error) = sent {
            // Whoever is not connected is told again when it is.
            tracing::trace!(%error, "a message to a member");
        }
    }
}

/// File of the member's key: the one that was named, or the data directory's own.
///
/// # Errors
/// A named file that is not there.
pub fn key_path(config: &config::Council, data: &DataDir) -> anyhow::Result<Option<PathBuf>> {
    let own = data.key("member");
    match &config.key {
        Some(path) if path.exists() => Ok(Some(path.clone())),
        Some(path) => {
            let shown = path.display();
            let message =
                format!("there is no council key {shown}; `antiphon council key {shown}` makes one");
            Err(Failure::new(Kind::NotFound, message).into())
        }
        None => Ok(own.exists().then_some(own)),
    }
}

/// Reads a member's key and keeps it to this process.
fn hold_key(path: &Path) -> anyhow::Result<(SecretKey, File)> {
    let key = keyfile::load(path)?.with_context(|| format!("there is no council key {}", path.display()))?;
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        bail!(
            "another process votes with the key {} ({error}): one process a key, or it may sign two things",
            path.display()
        );
    }
    Ok((key, file))
}

/// Takes the seat that the settings ask for, if they do: a key that was named, or the own one of a network that was
/// begun here.
///
/// # Errors
/// A key or a write-ahead log that cannot be used.
pub fn take(
    config: &config::Council,
    data: &DataDir,
    ledger: &Ledger,
    network: Option<&Network>,
) -> anyhow::Result<Option<Seat>> {
    let Some(path) = key_path(config, data)? else { return Ok(None) };
    let (secret, key_file) = hold_key(&path)?;
    let key = secret.public();
    let streams = Arc::new(Streams::default());
    let binding = network.map(|network| {
        Binding::new(&secret, &ledger.network(), &network.local_peer_id().to_bytes(), clock::now_ms().max(1))
    });
    let options = Options {
        dir: data.root().join(FOLDER),
        key: secret,
        clock: Arc::new(clock::now_ms),
        pace: Pace { height: config.height_ms, ..Pace::default() },
        rejoin: config.rejoin,
    };
    let council = Arc::new(Council::start(ledger.clone(), streams.clone(), options)?);
    if let (Some(network), Some(binding)) = (network, binding) {
        let config = CouncilConfig { network: ledger.network(), binding, members: council.members() };
        let (sender, mut events) = network.council(config)?;
        let _ = streams.0.set(sender);
        let member = Arc::downgrade(&council);
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                // The member is gone, and this task with it.
                let Some(member) = member.upgrade() else { return };
                match event {
                    CouncilEvent::Connected(key) => {
                        tracing::info!(member = %key, "connected to a member of the council");
                        member.connected(key);
                    }
                    CouncilEvent::Disconnected(key) => {
                        tracing::info!(member = %key, "a member of the council is gone");
                        member.disconnected(key);
                    }
                    CouncilEvent::Message { from, message } => member.hear(from, &message),
                }
            }
        });
    }
    Ok(Some(Seat { council, key, _key_file: key_file }))
}

/// Registrations of a peer with a seat: ordered here while it is a member, handed on otherwise.
pub struct Seated {
    council: Arc<Council>,
    here: Local,
    elsewhere: Arc<dyn Orders>,
}

impl Seated {
    /// Orders through `council`, or `elsewhere` while it is no member's.
    #[must_use]
    pub fn new(council: Arc<Council>, elsewhere: Arc<dyn Orders>) -> Self {
        Self { here: Local(council.clone()), council, elsewhere }
    }
}

impl Orders for Seated {
    fn submit(&self, registration: Registration, hops: u32) -> BoxFuture<'static, Verdict> {
        match self.council.report().voting {
            Voting::NotAMember | Voting::Halted(_) => self.elsewhere.submit(registration, hops),
            _ => self.here.submit(registration, hops),
        }
    }
}
