//! The command line. Help, man page and completions come from here.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::tokens;

/// A peer-to-peer music network: serve your own songs, stream others' straight from their peers.
#[derive(Debug, Parser)]
#[command(name = "antiphon", version, arg_required_else_help = true, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 no running peer, 5 verification failed.\n\
    Settings: flags, over ANTIPHON__SECTION__KEY, over the settings file, over defaults."
)]
pub struct Cli {
    /// What applies to every command.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What applies to every command.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Where this peer keeps keys, ledger and library [default: $STATE_DIRECTORY or the user's data folder]
    #[arg(long, global = true, value_name = "DIR", env = "ANTIPHON_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Settings file [default: antiphon/config.toml in the user's settings folder]
    #[arg(long, global = true, value_name = "FILE", env = "ANTIPHON_CONFIG")]
    pub config: Option<PathBuf>,
    /// Answer in JSON on stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more on stderr; twice for everything
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a peer: scan the music folders, serve them, follow the network
    Up(Up),
    /// Run a mini-node on a public address: peers join through it, it relays for those behind routers, keeps the whole
    /// ledger, and may vote in the council
    MiniNode(Serve),
    /// Scan music folders and register what is new
    Scan(Scan),
    /// Forget music folders: they are neither scanned nor served any more
    Forget {
        /// Folders, as `status` shows them
        #[arg(required = true, value_name = "DIR")]
        folders: Vec<PathBuf>,
    },
    /// Find songs of the ledger by words, typing errors forgiven
    Search(Search),
    /// See what is online right now: artists, genres, albums, tracks
    Discover(Discover),
    /// Get a song, an album or an artist's songs from other peers, verified, into files
    Get(Get),
    /// Play a song: its bytes in order as they arrive from other peers, verified
    Play(Play),
    /// Show how the peer is doing
    Status,
    /// Show who is connected and by which way, how this peer is reached, and which mini-nodes help
    Peers,
    /// Look into the ledger
    #[command(subcommand)]
    Ledger(Ledger),
    /// Make a network
    #[command(subcommand)]
    Network(Network),
    /// See, protect, back up and restore the wallet, which is the key of an artist or a listener
    #[command(subcommand)]
    Wallet(Wallet),
    /// Set the web password, and give passwords to apps
    #[command(subcommand)]
    Web(Web),
    /// See and steer the council, which decides the order of the ledger
    #[command(subcommand)]
    Council(Council),
    /// Print a file's duration and Chromaprint fingerprint
    Fingerprint(File),
    /// Tell which song of the ledger a file is, or why none
    Match(File),
    /// Check this machine and data directory and say what to do
    Doctor(Join),
    /// Print completions for a shell
    Completions {
        /// Shell.
        shell: Shell,
    },
    /// Print the manual page
    Man,
}

/// How a network is found.
#[derive(Debug, Clone, Default, Args)]
pub struct Join {
    /// Join through this peer; may be repeated. Without one, a new data directory starts its own network
    #[arg(long, value_name = "MULTIADDR")]
    pub peer_vps: Vec<String>,
    /// Insist on this network
    #[arg(long, value_name = "ID")]
    pub network: Option<String>,
    /// Keep no ledger: have each song proven by the peers that have it (`get` only, for now)
    #[arg(long)]
    pub light: bool,
}

/// `antiphon up`.
#[derive(Debug, Args)]
pub struct Up {
    /// Music folders, remembered for later starts [default: those remembered, the user's music folder, or a sample]
    #[arg(value_name = "DIR")]
    pub folders: Vec<PathBuf>,
    /// What a mini-node has too.
    #[command(flatten)]
    pub serve: Serve,
}

/// What a peer that runs is told.
#[derive(Debug, Args)]
pub struct Serve {
    /// Listen on this address; may be repeated [default: every interface, QUIC and TCP, on a port that stays]
    #[arg(long, value_name = "MULTIADDR")]
    pub listen: Vec<String>,
    /// Tell others that this peer is reached at this address; may be repeated. For clouds and routers that forward a port,
    /// where a machine cannot see its own public address
    #[arg(long, value_name = "MULTIADDR")]
    pub external: Vec<String>,
    /// Let a mini-node dial and announce private addresses too. Only in a network of your own: hosters take that for a scan
    #[arg(long)]
    pub allow_private: bool,
    /// How a network is found.
    #[command(flatten)]
    pub join: Join,
    /// Serve /healthz, /readyz and /metrics here [default: 127.0.0.1:7711]
    #[arg(long, value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// Serve the ledger here as static files that `ledger verify URL` and others check (C2SP tlog-tiles)
    #[arg(long, value_name = "ADDR")]
    pub serve_log: Option<SocketAddr>,
    /// Start on this network, as `antiphon network new` has written it, instead of asking a peer which one it is
    #[arg(long, value_name = "FILE")]
    pub genesis: Option<PathBuf>,
    /// Vote in the council with this key [default: the data directory's own, where it began the network]
    #[arg(long, value_name = "FILE")]
    pub council_key: Option<PathBuf>,
    /// Vote again after the council's folder of this data directory was lost or is old: the member stays silent until
    /// nothing that it can have signed matters any more
    #[arg(long)]
    pub council_rejoin: bool,
}

/// `antiphon network …`.
#[derive(Debug, Subcommand)]
pub enum Network {
    /// Write a genesis document (TOML) for a council of these members; every member starts with it
    New {
        /// Public key of a member, as `antiphon council key` prints it; may be repeated
        #[arg(long = "member", required = true, value_name = "KEY")]
        members: Vec<String>,
        /// A name for people
        #[arg(long, default_value = "", value_name = "NAME")]
        name: String,
        /// Work that a registration must show, in bits [default: 17]
        #[arg(long, value_name = "BITS")]
        stamp_bits: Option<u32>,
        /// Registrations of one registrant in one batch [default: 64]
        #[arg(long, value_name = "N")]
        batch_quota: Option<u32>,
        /// Supply up to which nothing is burned, in tokens [default: 1000000000]
        #[arg(long, value_name = "TOKENS", value_parser = tokens::parse)]
        floor: Option<u64>,
        /// Supply beyond which nothing is minted, in tokens [default: 2000000000]
        #[arg(long, value_name = "TOKENS", value_parser = tokens::parse)]
        cap: Option<u64>,
        /// What plays are.
        #[command(flatten)]
        parameters: Parameters,
        /// Write it here [default: standard output]
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Print a genesis document's network id and parameters
    Show {
        /// The document
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// What plays are. The defaults are those of a network that says nothing of it; for a change, what is so now.
#[derive(Debug, Clone, Copy, Default, Args)]
#[group(skip)]
pub struct Parameters {
    /// Plays of a song up to which its listeners are discoverers
    #[arg(long, value_name = "N")]
    pub threshold: Option<u32>,
    /// Share of a song that must be heard for a play, in hundredths of a percent
    #[arg(long, value_name = "BASIS_POINTS")]
    pub coverage: Option<u32>,
    /// From one heartbeat of a play to the next
    #[arg(long, value_name = "N")]
    pub heartbeat_ms: Option<u32>,
    /// From one settlement of plays to the next
    #[arg(long, value_name = "N")]
    pub epoch_ms: Option<u32>,
    /// How long after its end a play may be settled
    #[arg(long, value_name = "N")]
    pub window_ms: Option<u32>,
}

/// `antiphon web …`.
#[derive(Debug, Subcommand)]
pub enum Web {
    /// Set the password that browsers on other machines need; all of them have to log in again
    Password {
        /// Read it from a file of mode 600 [default: asked for on the terminal]
        #[arg(long, value_name = "FILE", conflicts_with = "clear")]
        file: Option<PathBuf>,
        /// Take it away: the player is open on this machine alone then
        #[arg(long)]
        clear: bool,
    },
    /// List the apps that have a password
    Apps,
    /// Make a password for an OpenSubsonic app, shown once
    AddApp {
        /// What the app or device is called
        #[arg(value_name = "NAME", required = true)]
        name: Vec<String>,
    },
    /// Take an app's password away
    RevokeApp {
        /// Its number in `antiphon web apps`
        #[arg(value_name = "ID")]
        id: u64,
    },
}

/// `antiphon wallet …`.
#[derive(Debug, Subcommand)]
pub enum Wallet {
    /// Show what is in an account, and what waits for it in escrow
    Balance {
        /// Public key of another wallet [default: the own one]
        #[arg(value_name = "KEY")]
        key: Option<String>,
    },
    /// List what has changed the own account, newest first
    History {
        /// Entries
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
        limit: u16,
    },
    /// Send tokens to another wallet
    Send {
        /// Public key of whoever gets them
        #[arg(value_name = "KEY")]
        key: String,
        /// How many, with up to 8 digits behind the point
        #[arg(value_name = "TOKENS", value_parser = tokens::parse)]
        units: u64,
        /// A word to go with it; everybody can read it
        #[arg(long, default_value = "", value_name = "TEXT")]
        memo: String,
    },
    /// Pay the price of a song, and have the right to hear it
    Buy {
        /// Song id or its beginning, content hash, #INDEX, or words of title, artist and album
        #[arg(required = true, value_name = "SONG")]
        song: Vec<String>,
        /// Do not ask whether the price is right
        #[arg(long)]
        yes: bool,
    },
    /// Give a listener the right to hear one of your songs, or take it away
    Grant {
        /// Song id or its beginning, content hash, or #INDEX
        #[arg(value_name = "SONG")]
        song: String,
        /// Public key of the listener
        #[arg(value_name = "KEY")]
        key: String,
        /// The right ends after so many days [default: never]
        #[arg(long, value_name = "N", conflicts_with = "revoke", value_parser = clap::value_parser!(u32).range(1..))]
        days: Option<u32>,
        /// Take it away
        #[arg(long)]
        revoke: bool,
    },
    /// Say that you are an artist, so that the council can release what waits for that name
    Claim {
        /// Name of the artist, as the songs have it
        #[arg(required = true, value_name = "ARTIST")]
        artist: Vec<String>,
        /// Where the council finds what proves it; everybody can read it
        #[arg(long, default_value = "", value_name = "TEXT")]
        statement: String,
    },
    /// Make a wallet before the first start [default: protected as a first start does it]
    New {
        /// Protect it with the password in this file
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// Where its password lies from then on.
        #[command(flatten)]
        keep: Keep,
    },
    /// Show the public key, the file, and how it is protected
    Show,
    /// Write an encrypted copy of the wallet, with a password of its own
    Backup {
        /// Write it here
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Encrypt it with the password in this file [default: ask on the terminal]
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Make a backup the wallet; the backup's password is the wallet's from then on
    Restore {
        /// The backup
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Open it with the password in this file [default: ask on the terminal]
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// Put it in the place of a wallet with another key, whose files are kept under other names
        #[arg(long)]
        replace: bool,
        /// Where its password lies from then on.
        #[command(flatten)]
        keep: Keep,
    },
    /// Protect the wallet with another password
    ChangePassword {
        /// Take the new password from this file [default: ask on the terminal]
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// Where its password lies from then on.
        #[command(flatten)]
        keep: Keep,
    },
    /// See whether the wallet can be unlocked here, and by what
    Unlock {
        /// Put its password into the keyring of the desktop
        #[arg(long)]
        remember: bool,
    },
}

/// Where a password lies.
#[derive(Debug, Clone, Copy, Args)]
pub struct Keep {
    /// Keep the password in a file beside the wallet, so that a peer starts without being asked
    #[arg(long)]
    pub keep_file: bool,
}

/// `antiphon council …`.
#[derive(Debug, Subcommand)]
pub enum Council {
    /// Print a member's public key; the key is made when the file does not exist
    Key {
        /// File of the key
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Who votes, who is missing, what is being decided
    Status,
    /// Propose something to the council, and vote for it: a change of its members, or what the subcommands say
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Propose {
        /// Public key of a member that joins
        #[arg(long, value_name = "KEY", required_unless_present = "remove")]
        add: Option<String>,
        /// Public key of a member that leaves
        #[arg(long, value_name = "KEY")]
        remove: Option<String>,
        /// How long it is open.
        #[command(flatten)]
        open: Open,
        /// Something else than members.
        #[command(subcommand)]
        what: Option<Propose>,
    },
    /// Vote for a change that another member has proposed
    Vote {
        /// Id of the motion, or its beginning, as `antiphon council status` shows it
        #[arg(value_name = "ID")]
        motion: String,
    },
}

/// How long a motion is open.
#[derive(Debug, Clone, Copy, Args)]
#[group(skip)]
pub struct Open {
    /// Heights from now on in which it may be decided
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub heights: u64,
}

/// `antiphon council propose …`.
#[derive(Debug, Subcommand)]
pub enum Propose {
    /// Release what waits in escrow: for an artist's name, to a key that has claimed it; or for a key, to its own account
    #[command(group = clap::ArgGroup::new("escrow").required(true).args(["artist", "key"]))]
    Release {
        /// Name of the artist
        #[arg(value_name = "ARTIST", requires = "to")]
        artist: Option<String>,
        /// Public key that has claimed the name, whose it is from then on
        #[arg(long, value_name = "KEY", requires = "artist")]
        to: Option<String>,
        /// Public key of an artist who has registered songs
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        /// How long it is open.
        #[command(flatten)]
        open: Open,
    },
    /// Change what plays are; what is not named stays as it is
    Parameters {
        /// What plays are.
        #[command(flatten)]
        parameters: Parameters,
        /// How long it is open.
        #[command(flatten)]
        open: Open,
    },
    /// End a dispute: whose an artist's name is, or whether plays of a song count
    #[command(group = clap::ArgGroup::new("subject").required(true).args(["artist", "song"]))]
    #[command(group = clap::ArgGroup::new("verdict").required(true).args(["owner", "nobody", "withhold", "restore"]))]
    Ruling {
        /// Name of the artist
        #[arg(long, value_name = "NAME", conflicts_with_all = ["withhold", "restore"])]
        artist: Option<String>,
        /// Public key whose the name is; it must have claimed it
        #[arg(long, value_name = "KEY", requires = "artist")]
        owner: Option<String>,
        /// The name is nobody's, and every claim on it is dismissed
        #[arg(long, requires = "artist")]
        nobody: bool,
        /// Song id or its beginning, content hash, #INDEX, or words
        #[arg(long, value_name = "SONG", conflicts_with_all = ["owner", "nobody"])]
        song: Option<String>,
        /// Plays of the song do not count
        #[arg(long, requires = "song")]
        withhold: bool,
        /// They count again
        #[arg(long, requires = "song")]
        restore: bool,
        /// How long it is open.
        #[command(flatten)]
        open: Open,
    },
}

/// `antiphon scan`.
#[derive(Debug, Args)]
pub struct Scan {
    /// Music folders, remembered for later [default: those remembered]
    #[arg(value_name = "DIR")]
    pub folders: Vec<PathBuf>,
    /// How a network is found.
    #[command(flatten)]
    pub join: Join,
}

/// `antiphon search`.
#[derive(Debug, Args)]
pub struct Search {
    /// Words of title, artist, album or genre; the last may be unfinished
    #[arg(required = true, value_name = "WORDS")]
    pub words: Vec<String>,
    /// Only what somebody online serves right now
    #[arg(long)]
    pub online: bool,
    /// Which part of the answer.
    #[command(flatten)]
    pub pages: Pages,
}

/// `antiphon discover`.
#[derive(Debug, Args)]
pub struct Discover {
    /// Only this artist: albums and tracks
    #[arg(long, value_name = "NAME")]
    pub artist: Option<String>,
    /// Only this genre: artists and albums
    #[arg(long, value_name = "NAME")]
    pub genre: Option<String>,
    /// Only this album: tracks
    #[arg(long, value_name = "NAME")]
    pub album: Option<String>,
    /// List artists
    #[arg(long, group = "view")]
    pub artists: bool,
    /// List genres
    #[arg(long, group = "view")]
    pub genres: bool,
    /// List albums
    #[arg(long, group = "view")]
    pub albums: bool,
    /// List tracks
    #[arg(long, group = "view")]
    pub tracks: bool,
    /// Which part of each list.
    #[command(flatten)]
    pub pages: Pages,
}

/// Which part of a list is shown.
#[derive(Debug, Clone, Args)]
pub struct Pages {
    /// Entries, at most 500
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
    pub limit: u16,
    /// Entries to leave out before the first
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub offset: usize,
}

/// `antiphon get`.
#[derive(Debug, Args)]
pub struct Get {
    /// Song id or its beginning, content hash, #INDEX, words of title, artist and album; or an album's or artist's whole
    /// name (album:NAME, artist:NAME)
    #[arg(required = true, value_name = "SONG")]
    pub song: Vec<String>,
    /// Folder to put the file in [default: this folder]
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Only this encoding: ogg, mp3, flac, m4a, aac, opus, wav, aiff, wma, ape, mka
    #[arg(long, value_name = "CONTAINER")]
    pub format: Option<String>,
    /// How a network is found.
    #[command(flatten)]
    pub join: Join,
}

/// `antiphon play`.
#[derive(Debug, Args)]
pub struct Play {
    /// Song id or its beginning, content hash, #INDEX, or words of title, artist and album
    #[arg(required = true, value_name = "SONG")]
    pub song: Vec<String>,
    /// Write the file's bytes to standard output, for another program [default: play with mpv or ffplay, if one is there]
    #[arg(long)]
    pub stdout: bool,
    /// With --stdout: the other program plays the bytes as they come, so the play counts; ends with the song
    #[arg(long, requires = "stdout")]
    pub counted: bool,
    /// Play without being counted: nobody is paid, nothing is burned
    #[arg(long, conflicts_with = "counted")]
    pub uncounted: bool,
    /// Only this encoding: ogg, mp3, flac, m4a, aac, opus, wav, aiff, wma, ape, mka
    #[arg(long, value_name = "CONTAINER")]
    pub format: Option<String>,
    /// How a network is found.
    #[command(flatten)]
    pub join: Join,
}

/// `antiphon ledger …`.
#[derive(Debug, Subcommand)]
pub enum Ledger {
    /// Size, songs, head and root
    Info,
    /// Show a block or a song
    Show {
        /// Block index, song id or its beginning, or words
        #[arg(required = true, value_name = "WHAT")]
        what: Vec<String>,
    },
    /// Show what a song's plays have brought, what it asks for, and what waits for its artist
    Song {
        /// Song id or its beginning, content hash, #INDEX, or words of title, artist and album
        #[arg(required = true, value_name = "SONG")]
        song: Vec<String>,
    },
    /// Check every block, link, signature, stamp and seal: of the own ledger, or of a dump that somebody offers
    Verify(Verify),
    /// Write the ledger as static files that any web server can offer and anybody can check (C2SP tlog-tiles)
    Dump(Dump),
    /// Fill a new data directory with the ledger of a dump, checking all of it
    Load {
        /// Folder or address of the dump
        #[arg(value_name = "DIR|URL")]
        dump: PathBuf,
        /// Insist on this network
        #[arg(long, value_name = "ID")]
        network: Option<String>,
    },
    /// Print a proof that a song is in the ledger, for somebody who has no ledger
    Proof {
        /// Block index, song id or its beginning, or words
        #[arg(required = true, value_name = "SONG")]
        what: Vec<String>,
    },
    /// Check a proof, offline
    VerifyProof(VerifyProof),
    /// Write the ledger as tables for DuckDB, pandas and other tools; only what is new is written
    Export(Export),
}

/// `antiphon ledger verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// Folder or address of a dump [default: the own ledger]
    #[arg(value_name = "DIR|URL")]
    pub dump: Option<PathBuf>,
    /// Check the rules of every block of a dump too, and print the digest of the state that they lead to
    #[arg(long, requires = "dump")]
    pub full: bool,
    /// Insist on this network
    #[arg(long, value_name = "ID", requires = "dump")]
    pub network: Option<String>,
}

/// `antiphon ledger dump`.
#[derive(Debug, Args)]
pub struct Dump {
    /// Folder of the dump; one that is there is continued
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// First block, a multiple of 256
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub from: u64,
}

/// `antiphon ledger verify-proof`.
#[derive(Debug, Args)]
pub struct VerifyProof {
    /// The proof; - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Trust the first council, which this genesis document names [default: the councils that the own ledger knows]
    #[arg(long, value_name = "FILE")]
    pub genesis: Option<PathBuf>,
    /// Insist on this network
    #[arg(long, value_name = "ID")]
    pub network: Option<String>,
}

/// `antiphon ledger export`.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct Export {
    /// Folder for Parquet files: blocks, songs, variants, splits, council, epochs, balances
    #[arg(long, value_name = "DIR")]
    pub parquet: Option<PathBuf>,
    /// Folder for JSON lines, a block a line; one file when the name ends in .jsonl, .ndjson or .json
    #[arg(long, value_name = "DIR|FILE")]
    pub jsonl: Option<PathBuf>,
}

/// A command on one file.
#[derive(Debug, Args)]
pub struct File {
    /// Audio file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    fn propose(args: &str) -> Result<Propose, clap::Error> {
        let cli = Cli::try_parse_from("antiphon council propose".split(' ').chain(args.split(' ')))?;
        let Command::Council(Council::Propose { what: Some(what), .. }) = cli.command else { panic!() };
        Ok(what)
    }

    #[test]
    fn motions() {
        for good in [
            "release name --to k",
            "release --key k --heights 5",
            "parameters --threshold 3",
            "ruling --artist a --owner k",
            "ruling --artist a --nobody",
            "ruling --song s --withhold",
            "ruling --song s --restore",
        ] {
            propose(good).unwrap();
        }
        for bad in [
            "release",
            "release name",
            "release --to k",
            "release name --to k --key k",
            "ruling --artist a",
            "ruling --artist a --owner k --nobody",
            "ruling --artist a --withhold",
            "ruling --song s --owner k",
            "ruling --nobody",
            "--add k release --key k",
        ] {
            assert!(propose(bad).is_err(), "{bad}");
        }
        let members = Cli::try_parse_from("antiphon council propose --add k --heights 7".split(' ')).unwrap();
        let Command::Council(Council::Propose { add: Some(_), what: None, open, .. }) = members.command
        else {
            panic!()
        };
        assert_eq!(open.heights, 7);
        assert!(Cli::try_parse_from(["antiphon", "council", "propose"]).is_err());
    }

    #[test]
    fn flags_of_up() {
        let cli = Cli::try_parse_from([
            "antiphon",
            "up",
            "/a",
            "/b",
            "--listen",
            "/ip4/127.0.0.1/tcp/0",
            "--peer-vps",
            "/ip4/127.0.0.1/tcp/1",
            "--peer-vps",
            "/ip4/127.0.0.1/tcp/2",
            "--http",
            "127.0.0.1:0",
            "--data-dir",
            "/d",
            "--json",
        ])
        .unwrap();
        let Command::Up(up) = cli.command else { panic!() };
        assert_eq!((up.folders.len(), up.serve.listen.len(), up.serve.join.peer_vps.len()), (2, 1, 2));
        assert!(cli.common.json && cli.common.data_dir.is_some());
    }
}
