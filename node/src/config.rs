//! Settings: defaults, under a TOML file, under `ANTIPHON__SECTION__KEY`, under flags. Unknown keys are errors.

use std::{
    net::SocketAddr,
    num::NonZeroU64,
    path::{Path, PathBuf},
};

use antiphon_fingerprint::{Analyzer, AnalyzerConfig, FfmpegChoice};
use antiphon_p2p::{RelayLimits, UploadLimits};
use antiphon_proto::wire::{self, TermsKind};
use anyhow::{Context, bail};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::tokens;

/// Prefix of settings in the environment.
const ENVIRONMENT: &str = "ANTIPHON__";

/// Everything that can be set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is scanned and how it is registered.
    pub library: Library,
    /// Who is reached, and how.
    pub network: Network,
    /// What others may take.
    pub upload: Upload,
    /// What a mini-node carries between others.
    pub relay: Relay,
    /// How much of the ledger is kept.
    pub ledger: Ledger,
    /// Pages and metrics.
    pub http: Http,
    /// A seat in the council.
    pub council: Council,
    /// Where the wallet's password is.
    pub wallet: Wallet,
}

/// What is scanned and how it is registered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Library {
    /// Music folders, scanned on start and watched. Files are only ever read.
    pub folders: Vec<PathBuf>,
    /// Whether changes in the folders are noticed while the peer runs. Off: the next scan notices them.
    pub watch: bool,
    /// Artist names that are yours. Songs by them are registered with your wallet key as the artist's and all of the
    /// artist's share to it; all others are registered as a fan, and the artist's share waits for the artist.
    pub artist_names: Vec<String>,
    /// What listeners owe for songs by these names: `open`, `pay_per_play`, `purchase` or `grant`. It stands in a song's
    /// record for ever; songs that are registered already keep what they have.
    pub terms: Terms,
    /// The price in tokens, in quotes: `"1.5"`. For pay_per_play and purchase.
    #[serde(deserialize_with = "price")]
    pub price: Option<u64>,
    /// The `ffmpeg` program, needed for WMA only. Unset: looked for in PATH.
    pub ffmpeg: Option<PathBuf>,
    /// Files read at the same time. 0: one for each core.
    pub workers: usize,
    /// Whether what this peer has got from others is served on: the network lives by it.
    pub share_downloads: bool,
    /// Whether songs that were played are kept in the data directory, so that the next time they are here.
    pub keep_played: bool,
    /// Where songs that are kept go. Unset: the folder `kept` of the data directory.
    pub kept: Option<PathBuf>,
    /// Bytes of songs that were played; the least recently fetched ones go first.
    pub played_bytes: u64,
}

impl Default for Library {
    fn default() -> Self {
        Self {
            folders: Vec::new(),
            watch: true,
            artist_names: Vec::new(),
            terms: Terms::default(),
            price: None,
            ffmpeg: None,
            workers: 0,
            share_downloads: true,
            keep_played: true,
            kept: None,
            played_bytes: 2 * 1024 * 1024 * 1024,
        }
    }
}

/// What listeners owe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Terms {
    /// Nothing.
    #[default]
    Open,
    /// The price for each play.
    PayPerPlay,
    /// The price once.
    Purchase,
    /// The artist's grant.
    Grant,
}

/// Tokens as text: a number of TOML with a point would be a float, which has no exact units.
fn price<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    match toml::Value::deserialize(from)? {
        toml::Value::String(text) => tokens::parse(&text).map(Some).map_err(de::Error::custom),
        toml::Value::Integer(whole) => tokens::parse(&whole.to_string()).map(Some).map_err(de::Error::custom),
        _ => Err(de::Error::custom("price: write the tokens in quotes, as in price = \"1.5\"")),
    }
}

impl Library {
    /// The terms of own songs; none when they are open.
    ///
    /// # Errors
    /// Settings that contradict each other, by their names.
    pub fn terms(&self) -> anyhow::Result<Option<wire::Terms>> {
        let kind = match self.terms {
            Terms::Open => TermsKind::Open,
            Terms::PayPerPlay => TermsKind::PayPerPlay,
            Terms::Purchase => TermsKind::Purchase,
            Terms::Grant => TermsKind::Grant,
        };
        let price = match (kind, self.price) {
            (TermsKind::PayPerPlay | TermsKind::Purchase, None) => {
                bail!("library.terms asks for a price: set library.price, as in price = \"1.5\"")
            }
            (TermsKind::PayPerPlay | TermsKind::Purchase, Some(0)) => {
                bail!("library.price is 0: leave library.terms and library.price out for songs that are free")
            }
            (TermsKind::PayPerPlay | TermsKind::Purchase, Some(price)) => price,
            (_, Some(_)) => {
                bail!("library.price is of use only with library.terms = \"pay_per_play\" or \"purchase\"")
            }
            (TermsKind::Open, None) => return Ok(None),
            (TermsKind::Grant, None) => 0,
        };
        if self.artist_names.is_empty() {
            bail!("library.terms are those of your own songs: name yourself in library.artist_names");
        }
        Ok(Some(wire::Terms { kind: kind.into(), price }))
    }

    /// Decoders as these settings want them.
    #[must_use]
    pub fn analyzer(&self) -> Analyzer {
        let ffmpeg = self.ffmpeg.clone().map_or(FfmpegChoice::Search, FfmpegChoice::Program);
        Analyzer::new(AnalyzerConfig { ffmpeg, ..AnalyzerConfig::default() })
    }
}

/// Who is reached, and how.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Addresses to listen on. Empty: every interface, QUIC and TCP, on a port that stays the same.
    pub listen: Vec<String>,
    /// Peers to join through. Empty on a new data directory: a network of one's own.
    pub peer_vps: Vec<String>,
    /// Network id to insist on. A peer of another network is then refused.
    pub id: Option<String>,
    /// Genesis document (TOML) to start a new data directory from. Unset: the first peer that answers says which
    /// network it is.
    pub genesis: Option<PathBuf>,
    /// Whether peers in the local network are found, and find this one, by multicast DNS.
    pub mdns: bool,
    /// Whether the router is asked by UPnP to forward the port.
    pub upnp: bool,
    /// Addresses under which this peer is reached from outside, where it cannot see them itself: of a cloud's router, or
    /// of a forwarded port.
    pub external: Vec<String>,
    /// Whether a mini-node dials and announces addresses that the internet cannot reach. Only in a network of one's own,
    /// a test for example: hosters take a packet to such an address for a scan. Peers at home always do both.
    pub allow_private: bool,
    /// Whether this is a mini-node. Not a setting: the command says so.
    #[serde(skip)]
    pub mini_node: bool,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            peer_vps: Vec::new(),
            id: None,
            genesis: None,
            mdns: true,
            upnp: true,
            external: Vec::new(),
            allow_private: false,
            mini_node: false,
        }
    }
}

/// What others may take: songs that they listen to come before songs that they download.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Upload {
    /// Kibibytes a second for all peers together. Unset: as fast as it goes. Set it a little below what the line can
    /// send, and everything else on the line stays quick.
    pub kib_per_second: Option<NonZeroU64>,
    /// Kibibytes a second for each peer.
    pub kib_per_second_each: Option<NonZeroU64>,
    /// Files sent at the same time. Some of the places are for listeners only.
    pub slots: usize,
    /// Files sent to one peer at the same time.
    pub slots_each: usize,
    /// Mebibytes a day (UTC). Unset: any number. Beyond, downloads are refused; a restart begins anew.
    pub mib_per_day: Option<NonZeroU64>,
    /// Whether listeners are refused too when the day is used up.
    pub day_stops_listeners: bool,
}

impl Default for Upload {
    fn default() -> Self {
        let limits = UploadLimits::default();
        Self {
            kib_per_second: None,
            kib_per_second_each: None,
            slots: limits.slots,
            slots_each: limits.slots_per_peer,
            mib_per_day: None,
            day_stops_listeners: false,
        }
    }
}

impl Upload {
    /// The same for the network.
    #[must_use]
    pub fn limits(&self) -> UploadLimits {
        let times = |number: Option<NonZeroU64>, factor: u64| {
            number.and_then(|number| NonZeroU64::new(number.get().saturating_mul(factor)))
        };
        let slots = self.slots.max(1);
        let limits = UploadLimits::default();
        UploadLimits {
            total_bytes_per_second: times(self.kib_per_second, 1 << 10),
            peer_bytes_per_second: times(self.kib_per_second_each, 1 << 10),
            slots,
            slots_per_peer: self.slots_each.max(1),
            // A quarter, as by default.
            play_reserve: limits.play_reserve.min(slots / 4),
            bytes_per_day: times(self.mib_per_day, 1 << 20),
            quota_stops_play: self.day_stops_listeners,
            ..limits
        }
    }
}

/// What a mini-node carries between others. What is refused or slowed down goes by another one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Relay {
    /// Whether it relays at all.
    pub enabled: bool,
    /// Kibibytes a second in all, shared evenly. Unset: as fast as it goes. Each byte comes in and goes out once.
    pub kib_per_second: Option<NonZeroU64>,
    /// Kibibytes a second of each peer.
    pub kib_per_second_each: Option<NonZeroU64>,
    /// Mebibytes a day (UTC) of each peer. Unset: any number.
    pub mib_per_day_each: Option<NonZeroU64>,
    /// Gibibytes in a month of the calendar (UTC). Unset: any number. At four fifths there is a warning in the log; with
    /// the last one every circuit ends. Where the hoster counts what comes in and what goes out, give half of it.
    pub gib_per_month: Option<NonZeroU64>,
    /// Circuits at the same time. Each takes up to 128 KiB.
    pub circuits: usize,
    /// Peers that may be reached through this one.
    pub reservations: usize,
}

impl Default for Relay {
    fn default() -> Self {
        Self {
            enabled: true,
            kib_per_second: None,
            kib_per_second_each: None,
            mib_per_day_each: None,
            gib_per_month: None,
            // With both buffers full, 96 MB.
            circuits: 768,
            // A little less than there is room for connections.
            reservations: 1_280,
        }
    }
}

impl Relay {
    /// The same for the network; none where it does not relay.
    #[must_use]
    pub fn limits(&self) -> Option<RelayLimits> {
        let times = |number: Option<NonZeroU64>, factor: u64| {
            number.and_then(|number| NonZeroU64::new(number.get().saturating_mul(factor)))
        };
        self.enabled.then(|| RelayLimits {
            reservations: self.reservations,
            circuits: self.circuits,
            total_bytes_per_second: times(self.kib_per_second, 1 << 10),
            peer_bytes_per_second: times(self.kib_per_second_each, 1 << 10),
            peer_bytes_per_day: times(self.mib_per_day_each, 1 << 20),
            bytes_per_month: times(self.gib_per_month, 1 << 30),
            ..RelayLimits::default()
        })
    }
}

/// A seat in the council.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Council {
    /// File of the member's key. One process at a time may vote with it. Unset: the data directory's own, if it began
    /// the network.
    pub key: Option<PathBuf>,
    /// Milliseconds from one height to the next, unless a full batch waits. Shorter answers registrants sooner, and
    /// costs every peer a certificate of some 240 bytes each time.
    pub height_ms: u64,
    /// The member does not know what it has signed, and joins again. Only ever a flag: it is for one start.
    #[serde(skip)]
    pub rejoin: bool,
}

impl Default for Council {
    fn default() -> Self {
        Self { key: None, height_ms: 1_000, rejoin: false }
    }
}

/// Where the wallet's password is. The systemd credential `antiphon-wallet-password` comes first, then these, then a
/// prompt on a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wallet {
    /// File that holds the password, readable by its owner only. Whoever reads it and the wallet has your key. Unset: the
    /// file beside the wallet, which is there until you set a password of your own.
    pub password_file: Option<PathBuf>,
    /// Whether the keyring of the desktop is asked. Whatever runs in your session can ask it too.
    pub keyring: bool,
    /// Whether somebody at a terminal may be asked. Not a setting: commands know.
    #[serde(skip)]
    pub prompt: bool,
}

impl Default for Wallet {
    fn default() -> Self {
        Self { password_file: None, keyring: true, prompt: false }
    }
}

/// How much of the ledger is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ledger {
    /// `full`: every block, checked by every rule. `light`: none but the proofs of songs that this peer got; it trusts the
    /// council that the network began with, and asks other peers.
    pub mode: Mode,
}

/// Kinds of peers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Keeps every block.
    #[default]
    Full,
    /// Keeps proofs.
    Light,
}

/// How the way from browsers and apps to this peer is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// A reverse proxy before it does TLS.
    Proxy,
    /// Not at all: whoever is in between can read passwords and change what is sent. For a network of one's own.
    None,
}

/// The player, what apps ask, and metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Where all of it is served. Anybody who reaches this address can read `/healthz` and `/metrics`; the rest needs the
    /// web password from everywhere but this machine, and [`Http::tls`].
    pub addr: Option<SocketAddr>,
    /// How the way is protected where others than this machine can reach it. Without a word on it, they are not let in.
    pub tls: Option<Tls>,
    /// Names under which browsers and apps reach this peer, beside its IP addresses: those of the reverse proxy.
    pub names: Vec<String>,
    /// Where the ledger is served as static files in the layout of C2SP tlog-tiles, for explorers and mirrors. Unset:
    /// nowhere. What is served is public; put a reverse proxy before it for TLS.
    pub serve_log: Option<SocketAddr>,
}

impl Config {
    /// Reads the file (which must exist when it was named, and may be absent at the default place), then the
    /// environment.
    ///
    /// # Errors
    /// Unreadable or malformed settings, with their place.
    pub fn load(
        named: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> anyhow::Result<Self> {
        let default = dirs::config_dir().map(|base| base.join("antiphon/config.toml"));
        let mut table = match (named, default) {
            (Some(path), _) => read(path)?,
            (None, Some(path)) if path.exists() => read(&path)?,
            _ => toml::Table::new(),
        };
        for (name, value) in environment {
            if let Some(path) = name.strip_prefix(ENVIRONMENT) {
                overlay(&mut table, path, &value)
                    .with_context(|| format!("in the environment variable {name}"))?;
            }
        }
        let config: Self = table.try_into().context("in the settings (see the README for every key)")?;
        config.library.terms().context("in the settings")?;
        Ok(config)
    }
}

fn read(path: &Path) -> anyhow::Result<toml::Table> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the settings {shown}"))?;
    // Checked by itself, so that the message points into this file.
    toml::from_str::<Config>(&text).with_context(|| format!("in the settings {shown}"))?;
    text.parse().with_context(|| format!("in the settings {shown}"))
}

/// Sets `SECTION__KEY`. A value that reads as TOML is taken as such, anything else as a string.
fn overlay(table: &mut toml::Table, path: &str, value: &str) -> anyhow::Result<()> {
    let path = path.to_ascii_lowercase();
    let mut parts: Vec<&str> = path.split("__").collect();
    let Some(key) = parts.pop().filter(|key| !key.is_empty()) else { bail!("the key is missing") };
    let mut section = table;
    for part in parts {
        let entry = section.entry(part).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        let toml::Value::Table(inner) = entry else { bail!("{part} is not a section") };
        section = inner;
    }
    let parsed =
        format!("value = {value}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("value"));
    section.insert(key.to_owned(), parsed.unwrap_or_else(|| toml::Value::String(value.to_owned())));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str, environment: &[(&str, &str)]) -> anyhow::Result<Config> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        std::fs::write(&path, file).unwrap();
        Config::load(Some(&path), environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn environment_over_file_over_defaults() {
        let config = load(
            "[library]\nfolders = [\"/music\"]\nworkers = 3\n[http]\naddr = \"127.0.0.1:80\"\n",
            &[
                ("ANTIPHON__LIBRARY__WORKERS", "1"),
                ("ANTIPHON__NETWORK__PEER_VPS", "[\"/ip4/192.0.2.1/tcp/1\"]"),
                ("ANTIPHON__NETWORK__ID", "abc"),
                ("ANTIPHON__HTTP__SERVE_LOG", "[::1]:90"),
                ("ANTIPHON__LEDGER__MODE", "light"),
                ("ANTIPHON__WALLET__PASSWORD_FILE", "/run/password"),
                ("ANTIPHON__UPLOAD__KIB_PER_SECOND", "500"),
                ("ANTIPHON__UPLOAD__SLOTS", "6"),
                ("ANTIPHON__RELAY__GIB_PER_MONTH", "2"),
                ("HOME", "/nowhere"),
            ],
        )
        .unwrap();
        assert_eq!(config.library.folders, [PathBuf::from("/music")]);
        assert_eq!((config.library.workers, config.library.watch), (1, true));
        let limits = config.upload.limits();
        assert_eq!(limits.total_bytes_per_second.map(NonZeroU64::get), Some(512_000));
        assert_eq!((limits.slots, limits.play_reserve, limits.peer_bytes_per_second), (6, 1, None));
        let relay = config.relay.limits().unwrap();
        assert_eq!(relay.bytes_per_month.map(NonZeroU64::get), Some(2 << 30));
        assert_eq!((Relay { enabled: false, ..Relay::default() }).limits(), None);
        assert_eq!(Upload::default().limits(), UploadLimits::default());
        let wallet = Wallet { password_file: Some("/run/password".into()), ..Wallet::default() };
        assert_eq!((config.wallet, Wallet::default().keyring), (wallet, true));
        assert_eq!(config.network.peer_vps, ["/ip4/192.0.2.1/tcp/1"]);
        assert_eq!((config.network.id.as_deref(), config.ledger.mode), (Some("abc"), Mode::Light));
        assert_eq!(
            (config.http.addr, config.http.serve_log),
            ("127.0.0.1:80".parse().ok(), "[::1]:90".parse().ok())
        );
    }

    #[test]
    fn terms_of_own_songs() {
        let named = "[library]\nartist_names = [\"me\"]\n";
        let terms =
            |more: &str| load(&format!("{named}{more}"), &[]).map(|config| config.library.terms().unwrap());
        assert_eq!(terms("").unwrap(), None);
        assert_eq!(terms("terms = \"open\"\n").unwrap(), None);
        let bought = terms("terms = \"purchase\"\nprice = \"1.5\"\n").unwrap().unwrap();
        assert_eq!((bought.kind(), bought.price), (TermsKind::Purchase, 150_000_000));
        let granted = terms("terms = \"grant\"\n").unwrap().unwrap();
        assert_eq!((granted.kind(), granted.price), (TermsKind::Grant, 0));
        let environment = [("ANTIPHON__LIBRARY__TERMS", "pay_per_play"), ("ANTIPHON__LIBRARY__PRICE", "2")];
        let paid = load(named, &environment).unwrap().library.terms().unwrap().unwrap();
        assert_eq!((paid.kind(), paid.price), (TermsKind::PayPerPlay, 200_000_000));
        for (bad, key) in [
            ("terms = \"purchase\"\n", "library.price"),
            ("terms = \"purchase\"\nprice = \"0\"\n", "library.price"),
            ("terms = \"purchase\"\nprice = 1.5\n", "price = \"1.5\""),
            ("terms = \"purchase\"\nprice = \"much\"\n", "much"),
            ("price = \"1\"\n", "library.price"),
            ("terms = \"grant\"\nprice = \"1\"\n", "library.price"),
            ("terms = \"free\"\n", "free"),
        ] {
            let error = format!("{:#}", terms(bad).unwrap_err());
            assert!(error.contains(key), "{bad}: {error}");
        }
        let error = load("[library]\nterms = \"grant\"\n", &[]).unwrap_err();
        assert!(format!("{error:#}").contains("library.artist_names"), "{error:#}");
    }

    #[test]
    fn unknown_keys_are_errors_that_name_the_key_and_the_place() {
        let error = format!("{:#}", load("[library]\nfolder = [\"/music\"]\n", &[]).unwrap_err());
        assert!(error.contains("folder") && error.contains("config.toml"), "{error}");
        let error = format!("{:#}", load("", &[("ANTIPHON__LIBRARY__FOLDER", "x")]).unwrap_err());
        assert!(error.contains("folder"), "{error}");
        assert!(load("", &[("ANTIPHON__", "x")]).is_err());
    }
}
