//! What commands do, whether a running peer does it for them or they open the data directory themselves.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use antiphon_fingerprint::Analyzer;
use antiphon_ledger::Ledger;
use antiphon_p2p::Network;
use antiphon_proto::{
    BlockHash,
    wire::{Block, Song, block::Body},
};
use anyhow::Context;
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use crate::{
    config::Mode,
    council_ops::{self, Proposal},
    explorer::Explorer,
    export::{self, Outputs},
    failure::{Failure, Kind},
    ledger_ops::{self, Councils},
    library::{folders::outermost, scan::Targets},
    peer::{
        Peer,
        catchup::Progress,
        get::GetRequest,
        play::PlayRequest,
        select::{self, SongLine},
    },
    peer_ops,
    search::Index,
    search_ops::{self, DiscoverRequest, SearchRequest},
    system::pathhex,
    token_ops::{self, record},
    web_ops,
};

/// What a command asks of a peer. This is the control socket's language.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    /// How is it going?
    Status,
    /// Who is connected, and how is this peer reached?
    Peers,
    /// Scan these; none: all that are remembered.
    Scan {
        /// Absolute paths, as bytes in hexadecimal: paths need not be UTF-8.
        paths: Vec<String>,
    },
    /// Forget folders, and what is in them.
    Forget {
        /// Absolute paths, as bytes in hexadecimal.
        paths: Vec<String>,
    },
    /// Get a song.
    Get(GetRequest),
    /// Play a song: its bytes come with the answer.
    Play(PlayRequest),
    /// Find songs by words.
    Search(SearchRequest),
    /// What is online, by name.
    Discover(DiscoverRequest),
    /// Numbers of the ledger.
    LedgerInfo,
    /// Blocks.
    LedgerShow {
        /// Song id, its beginning, `#index`, an index, or words.
        what: String,
    },
    /// What a song has brought.
    LedgerSong {
        /// Id or words.
        what: String,
    },
    /// What is in an account.
    WalletBalance {
        /// Whose; none: the own one.
        key: Option<String>,
    },
    /// What has changed the own account.
    WalletHistory {
        /// Entries.
        limit: u16,
    },
    /// Make a record of the own account.
    WalletRecord {
        /// Which.
        wanted: record::Wanted,
    },
    /// Check everything.
    LedgerVerify,
    /// Write tables.
    LedgerExport {
        /// Folder for Parquet: absolute path, as bytes in hexadecimal.
        parquet: Option<String>,
        /// Folder or file for JSON lines: absolute path, as bytes in hexadecimal.
        jsonl: Option<String>,
    },
    /// Write a dump.
    LedgerDump {
        /// Folder: absolute path, as bytes in hexadecimal.
        dir: String,
        /// First block.
        from: u64,
    },
    /// Prove a block to somebody else.
    LedgerProof {
        /// As for [`Request::LedgerShow`].
        what: String,
    },
    /// Where is the council?
    CouncilStatus,
    /// Propose something to it.
    CouncilPropose {
        /// What.
        proposal: Proposal,
        /// Heights in which it may be decided.
        heights: u64,
    },
    /// Vote for a motion.
    CouncilVote {
        /// Its id, or the beginning of it.
        motion: String,
    },
    /// Who may cosign.
    LedgerCouncils,
    /// Passwords of browsers and apps.
    Web(web_ops::Web),
    /// Which song is this file?
    Match {
        /// Absolute path, as bytes in hexadecimal.
        path: String,
    },
}

/// `antiphon status --json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of this form.
    pub schema: u32,
    /// How much of the ledger is kept.
    #[serde(default)]
    pub mode: Mode,
    /// Whether a peer is running.
    pub running: bool,
    /// Version of the program.
    pub version: String,
    /// Process.
    pub pid: u32,
    /// libp2p peer id.
    pub peer_id: String,
    /// Wallet key.
    pub wallet: String,
    /// What is in its account; none where there is no wallet or no ledger.
    #[serde(default)]
    pub wallet_units: Option<u64>,
    /// The same in tokens.
    #[serde(default)]
    pub wallet_tokens: Option<String>,
    /// What waits in its escrow.
    #[serde(default)]
    pub wallet_escrow_units: Option<u64>,
    /// Network id.
    pub network: String,
    /// Whether this peer orders the ledger.
    pub sequencer: bool,
    /// Addresses listened on.
    pub listen: Vec<String>,
    /// Control socket.
    pub control: String,
    /// HTTP address.
    pub http: Option<String>,
    /// Address of the log's files.
    #[serde(default)]
    pub serve_log: Option<String>,
    /// Data directory.
    pub data_dir: String,
    /// Blocks.
    pub ledger_size: u64,
    /// The library.
    pub library: LibraryStatus,
    /// The peer that is followed.
    pub upstream: Option<String>,
    /// This peer's seat in the council, in words.
    #[serde(default)]
    pub council: Option<String>,
    /// A catch-up that runs.
    #[serde(default)]
    pub catching_up: Option<Progress>,
    /// What people must look into: the network has forked.
    #[serde(default)]
    pub alarm: Option<String>,
    /// Peers online, connected or heard of.
    #[serde(default)]
    pub online_peers: u64,
    /// Songs that they vouch for, each counted once.
    #[serde(default)]
    pub online_songs: u64,
    /// Connected peers.
    pub peers: Vec<PeerStatus>,
}

/// The library, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LibraryStatus {
    /// Folders that are scanned on start.
    pub folders: Vec<String>,
    /// Files looked at.
    pub files: u64,
    /// Files in the ledger, which are served.
    pub songs: u64,
    /// Registrations that wait for the network.
    pub pending: u64,
    /// Files left out.
    pub skipped: u64,
    /// Files found and done by the scan that runs or ran last.
    pub scan: Option<(u64, u64)>,
}

/// A connected peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// libp2p peer id.
    pub peer: String,
    /// Its address.
    pub address: String,
    /// `quic` or `tcp`.
    pub transport: String,
    /// Round trip, microseconds.
    pub rtt_us: Option<u64>,
    /// What it says it is.
    pub agent: String,
    /// `direct`, `punched` or `relayed`.
    #[serde(default)]
    pub path: String,
}

/// `antiphon ledger info --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerNumbers {
    /// Version of this form.
    pub schema: u32,
    /// Network id.
    pub network: String,
    /// Blocks.
    pub size: u64,
    /// Songs.
    pub songs: u64,
    /// Variants.
    pub variants: u64,
    /// BLAKE3 of the last block.
    pub head: Option<String>,
    /// RFC 6962 tree head.
    pub root: String,
    /// Bytes of all blocks.
    pub bytes: u64,
    /// Mean size of song blocks.
    pub mean_song_block_bytes: u64,
    /// Batches decided.
    pub height: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
}

/// `antiphon match --json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MatchReport {
    /// Version of this form.
    pub schema: u32,
    /// Whether the file is a recording of the ledger.
    pub matched: bool,
    /// Best candidate, matched or not.
    pub song: Option<SongLine>,
    /// Agreement of the bits that overlap, 0 to 1.
    pub score: Option<f64>,
    /// Bits that differ, in parts per 10,000.
    pub error_per_10_000: Option<u32>,
    /// Items (0.124 s each) that overlap.
    pub overlap_items: Option<u32>,
    /// Whether the very file is in the ledger.
    pub same_file: bool,
    /// Why there is no match.
    pub reason: Option<String>,
}

/// Pieces of music between the work and whoever takes them.
pub(crate) const PIECES_AHEAD: usize = 2;

/// Progress of a request, as it goes over the socket.
pub type Tell<'t> = &'t (dyn Fn(Value) + Send + Sync);

/// Does it. Where music is played, its bytes go to `music`, which is dropped when no more will come.
///
/// # Errors
/// Whatever stands in the way; [`Failure::of`] gives the class.
pub async fn execute(
    peer: &Peer,
    request: Request,
    running: Option<&Running>,
    tell: Tell<'_>,
    music: mpsc::Sender<Bytes>,
) -> anyhow::Result<Value> {
    Ok(match request {
        Request::Status => serde_json::to_value(status(peer, running).await?)?,
        Request::Peers => serde_json::to_value(peer_ops::peers(peer).await?)?,
        Request::Scan { paths } => scan(peer, &paths, tell).await?,
        Request::Forget { paths } => {
            let folders = paths.iter().map(|hex| pathhex::decode(hex)).collect::<anyhow::Result<Vec<_>>>()?;
            json!({ "schema": 1, "files": peer.library.forget(&folders).await? })
        }
        Request::Get(request) => {
            let (send, receive) = watch::channel(Default::default());
            let report = with_progress(Box::pin(peer.get(request, &send)), receive, tell).await?;
            serde_json::to_value(report)?
        }
        Request::Play(request) => {
            let (send, receive) = watch::channel(Default::default());
            let playing = Box::pin(peer.play(request, music, &send));
            serde_json::to_value(with_progress(playing, receive, tell).await?)?
        }
        Request::Search(request) => search_ops::search(peer, request, running, tell).await?,
        Request::Discover(request) => search_ops::discover(peer, request, running).await?,
        Request::LedgerInfo => serde_json::to_value(ledger_numbers(peer))?,
        Request::LedgerShow { what } => ledger_show(peer, what).await?,
        Request::LedgerSong { what } => serde_json::to_value(token_ops::song(peer, what).await?)?,
        Request::WalletBalance { key } => {
            serde_json::to_value(token_ops::balance(peer, key.as_deref()).await?)?
        }
        Request::WalletHistory { limit } => token_ops::history(peer, limit.into(), tell).await?,
        Request::WalletRecord { wanted } => serde_json::to_value(record::make(peer, wanted).await?)?,
        Request::LedgerVerify => ledger_verify(peer, tell).await?,
        Request::LedgerExport { parquet, jsonl } => {
            let (parquet, jsonl) = (ledger_ops::path(parquet.as_ref())?, ledger_ops::path(jsonl.as_ref())?);
            ledger_ops::export(peer, Outputs { parquet, jsonl }, running, tell).await?
        }
        Request::LedgerDump { dir, from } => {
            ledger_ops::dump(peer, pathhex::decode(&dir)?, from, running, tell).await?
        }
        Request::LedgerProof { what } => ledger_ops::proof(peer, what).await?,
        Request::LedgerCouncils => serde_json::to_value(Councils::of(&peer.ledger))?,
        Request::CouncilStatus => serde_json::to_value(council_ops::status(peer).await?)?,
        Request::CouncilPropose { proposal, heights } => {
            let id = council_ops::propose(peer, proposal, heights).await?;
            json!({ "schema": 1, "motion": id.to_string() })
        }
        Request::CouncilVote { motion } => {
            json!({ "schema": 1, "motion": council_ops::vote(peer, &motion).await?.to_string() })
        }
        Request::Web(what) => web_ops::execute(peer, what).await?,
        Request::Match { path } => serde_json::to_value(match_file(peer, pathhex::decode(&path)?).await?)?,
    })
}

/// What only a running peer knows.
#[derive(Debug, Clone, Default)]
pub struct Running {
    /// HTTP address.
    pub http: Option<String>,
    /// Address of the log's files.
    pub serve_log: Option<String>,
}

/// Runs work and passes on its progress until it ends.
pub(crate) async fn with_progress<P, T>(
    work: impl Future<Output = anyhow::Result<T>>,
    mut progress: watch::Receiver<P>,
    tell: Tell<'_>,
) -> anyhow::Result<T>
where
    P: Clone + Serialize,
{
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            Ok(()) = progress.changed() => {
                let now = progress.borrow_and_update().clone();
                tell(serde_json::to_value(now)?);
            }
        }
    }
}

async fn status(peer: &Peer, running: Option<&Running>) -> anyhow::Result<Status> {
    let mut listen = Vec::new();
    let mut peers = Vec::new();
    let mut peer_id = String::new();
    if let Some(network) = &peer.network {
        peer_id = network.local_peer_id().to_string();
        listen = network.listen_addrs().await.iter().map(ToString::to_string).collect();
        peers = network
            .peers()
            .await
            .into_iter()
            .map(|known| PeerStatus {
                peer: known.peer.to_string(),
                address: known.addr.to_string(),
                transport: known.transport.name().to_owned(),
                rtt_us: known.rtt.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
                path: peer_ops::path(known.path).to_owned(),
                agent: known.agent,
            })
            .collect();
    }
    let online = peer.network.as_ref().map(Network::online).unwrap_or_default();
    let (online_peers, online_songs) = (online.peers() as u64, online.indexes().count() as u64);
    let counts = peer.library.counts()?;
    let scan = peer.library.progress().borrow().clone();
    let balance = match &peer.wallet {
        Some(wallet) => Some(token_ops::balance(peer, Some(&wallet.public().to_string())).await?),
        None => None,
    };
    let following = peer.following.borrow().clone();
    Ok(Status {
        schema: 1,
        mode: Mode::Full,
        running: running.is_some(),
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        peer_id,
        wallet: peer.wallet.as_ref().map(|wallet| wallet.public().to_string()).unwrap_or_default(),
        wallet_units: balance.as_ref().map(|balance| balance.units),
        wallet_escrow_units: balance.as_ref().map(|balance| balance.escrow_units),
        wallet_tokens: balance.map(|balance| balance.tokens),
        network: peer.ledger.network().to_string(),
        sequencer: peer.orders_here(),
        listen,
        control: peer.data.control_socket().display().to_string(),
        http: running.and_then(|running| running.http.clone()),
        serve_log: running.and_then(|running| running.serve_log.clone()),
        data_dir: peer.data.root().display().to_string(),
        ledger_size: peer.ledger.size(),
        library: LibraryStatus {
            folders: peer.library.folders().iter().map(|folder| folder.display().to_string()).collect(),
            files: counts.files,
            songs: counts.known,
            pending: counts.pending,
            skipped: counts.skipped,
            scan: (scan.found > 0).then_some((scan.found, scan.done)),
        },
        upstream: peer.upstream.borrow().map(|upstream| upstream.to_string()),
        council: council_ops::sentence(peer),
        catching_up: following.catching_up,
        alarm: following.alarm,
        online_peers,
        online_songs,
        peers,
    })
}

async fn scan(peer: &Peer, paths: &[String], tell: Tell<'_>) -> anyhow::Result<Value> {
    let mut folders = Vec::new();
    for hex in paths {
        let path = pathhex::decode(hex)?;
        match path.canonicalize() {
            Ok(path) => folders.push(path),
            Err(error) => {
                return Err(
                    Failure::new(Kind::NotFound, format!("cannot scan {}: {error}", path.display())).into()
                );
            }
        }
    }
    peer.library.remember(&folders)?;
    if folders.is_empty() {
        folders = peer.library.folders();
    }
    let targets = Targets { paths: outermost(folders), absent_is_gone: false };
    let progress = peer.library.progress();
    let work = async { Ok(peer.library.scan(targets).await?) };
    Ok(serde_json::to_value(with_progress(work, progress, tell).await?)?)
}

fn ledger_numbers(peer: &Peer) -> LedgerNumbers {
    let info = peer.ledger.info();
    LedgerNumbers {
        schema: 1,
        network: info.network.to_string(),
        size: info.size,
        songs: info.songs,
        variants: info.variants,
        head: info.head.map(|head| head.to_string()),
        root: info.root.to_string(),
        bytes: info.bytes,
        mean_song_block_bytes: info.mean_song_block_bytes,
        height: info.height,
        disk_bytes: info.disk_bytes,
    }
}

async fn ledger_show(peer: &Peer, what: String) -> anyhow::Result<Value> {
    let (ledger, named) = (peer.ledger.clone(), NamedBlocks::of(peer));
    tokio::task::spawn_blocking(move || {
        let (index, size) = (named.index(&what)?, ledger.size());
        let bytes = ledger.block(index)?.ok_or_else(|| {
            Failure::new(Kind::NotFound, format!("there is no block {index}; the ledger has {size}"))
        })?;
        let block = Block::parse(&bytes)?;
        let variants = match &block.body {
            Some(Body::Song(song)) => Some(ledger.variants_of(&song.id())?),
            _ => None,
        };
        let mut shown = show(&block, &bytes);
        if let Some(variants) = variants {
            shown["variants"] = json!(variants);
        }
        Ok(shown)
    })
    .await?
}

/// Blocks as people name them.
pub(crate) struct NamedBlocks {
    ledger: Ledger,
    search: Arc<Index>,
    explorer: Option<Arc<Explorer>>,
}

impl NamedBlocks {
    /// Those of a peer.
    pub(crate) fn of(peer: &Peer) -> Self {
        Self { ledger: peer.ledger.clone(), search: peer.search.clone(), explorer: peer.open_explorer() }
    }

    /// The block that somebody means: an index, a song, or, where explorers are answered, the hash of a block.
    ///
    /// # Errors
    /// [`Kind::NotFound`] or [`Kind::Usage`], as [`select::select`].
    pub(crate) fn index(&self, what: &str) -> anyhow::Result<u64> {
        match what.trim_start_matches('#').parse::<u64>() {
            Ok(index) => Ok(index),
            Err(_) => match self.hashed(what)? {
                Some(index) => Ok(index),
                None => Ok(select::select(&self.ledger, &self.search, what)?.index),
            },
        }
    }

    fn hashed(&self, what: &str) -> anyhow::Result<Option<u64>> {
        let (Some(explorer), Ok(hash)) = (&self.explorer, what.parse::<BlockHash>()) else { return Ok(None) };
        for index in explorer.with_hash(&hash)? {
            if self.ledger.block(index)?.is_some_and(|bytes| BlockHash::of(&bytes) == hash) {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }
}

/// A block in words.
fn show(block: &Block, bytes: &[u8]) -> Value {
    let mut shown = export::json::block(block, bytes);
    shown["schema"] = json!(1);
    // A few kilobytes that say nothing to people.
    if let (Some(Body::Song(song)), Some(fields)) = (&block.body, shown["song"].as_object_mut()) {
        fields.remove("fingerprint");
        fields.insert("fingerprint_bytes".to_owned(), json!(song.fingerprint.len()));
    }
    shown
}

async fn ledger_verify(peer: &Peer, tell: Tell<'_>) -> anyhow::Result<Value> {
    let ledger = peer.ledger.clone();
    let (send, receive) = watch::channel(json!(null));
    let work = async {
        let verified = tokio::task::spawn_blocking(move || {
            ledger.verify(true, &mut |now| {
                send.send_replace(json!({"done": now.done, "total": now.total}));
            })
        });
        match verified.await? {
            Ok(report) => Ok(json!({
                "schema": 1, "ok": true, "blocks": report.blocks, "batches": report.batches,
                "root": report.root.to_string(),
            })),
            Err(error) => Err(Failure::new(Kind::Verification, error.to_string()).into()),
        }
    };
    with_progress(work, receive, tell).await
}

async fn match_file(peer: &Peer, path: PathBuf) -> anyhow::Result<MatchReport> {
    let (ledger, analyzer) = (peer.ledger.clone(), peer.analyzer.clone());
    tokio::task::spawn_blocking(move || {
        let analysis = analyze(&analyzer, &path)?;
        let mut file = std::fs::File::open(&path)?;
        let size = file.metadata()?.len();
        let content = antiphon_p2p::outboard::create(&mut file, size, &mut std::io::sink())
            .with_context(|| format!("cannot read {}", path.display()))?;
        let song = Song {
            fingerprint: analysis.fingerprint.compress(),
            duration_ms: analysis.duration_ms,
            ..Song::default()
        };
        let best = ledger.closest(&song)?;
        let mut report = MatchReport {
            schema: 1,
            same_file: ledger.by_content(&content)?.is_some(),
            ..MatchReport::default()
        };
        let Some(best) = best else {
            report.reason = Some("nothing in the ledger sounds alike".into());
            return Ok(report);
        };
        report.song = ledger.song(best.index)?.map(|song| SongLine::of(best.index, &song));
        report.error_per_10_000 = Some(best.error_per_10_000);
        report.overlap_items = Some(best.overlap_items);
        report.score = Some(f64::from(10_000_u32.saturating_sub(best.error_per_10_000)) / 10_000.0);
        report.matched = best.why_not.is_none();
        report.reason = best.why_not;
        Ok(report)
    })
    .await?
}

/// Analyses a file for a command, with the file's name in the error.
///
/// # Errors
/// [`Kind::NotFound`] for a file that does not exist, else why it cannot be analysed.
pub fn analyze(analyzer: &Analyzer, path: &Path) -> anyhow::Result<antiphon_fingerprint::Analysis> {
    if !path.exists() {
        return Err(Failure::new(Kind::NotFound, format!("there is no file {}", path.display())).into());
    }
    analyzer.analyze(path).with_context(|| path.display().to_string())
}

/// Reads an answer into its form.
///
/// # Errors
/// When the peer that answered is of another version.
pub fn read<T: DeserializeOwned>(value: Value) -> anyhow::Result<T> {
    serde_json::from_value(value).context("the running peer answers in another version; restart it")
}
