//! What the server says of itself and its user, and lyrics.

use super::super::tree::Node;

/// Whether apps may be used with this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct License {
    /// Always.
    pub valid: bool,
    /// Of whom.
    pub email: Option<String>,
}

impl Default for License {
    fn default() -> Self {
        Self { valid: true, email: None }
    }
}

impl License {
    pub(super) fn node(&self) -> Node {
        Node::new().with("valid", self.valid).maybe("email", self.email.as_ref())
    }
}

/// A user, and what is allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub username: String,
    /// An address.
    pub email: Option<String>,
    /// Whether plays are kept.
    pub scrobbling: bool,
    /// Most thousands of bits a second; none: no bound.
    pub max_bit_rate: Option<u32>,
    /// Whether the server is the user's to run.
    pub admin: bool,
    /// Whether settings may be changed.
    pub settings: bool,
    /// Whether files may be had.
    pub download: bool,
    /// Whether files may be brought.
    pub upload: bool,
    /// Whether playlists may be made.
    pub playlist: bool,
    /// Whether pictures may be changed.
    pub cover_art: bool,
    /// Whether there may be ratings and remarks.
    pub comment: bool,
    /// Whether podcasts may be had.
    pub podcast: bool,
    /// Whether songs may be heard.
    pub stream: bool,
    /// Whether the server's own loudspeakers may be used.
    pub jukebox: bool,
    /// Whether songs may be shared by a link.
    pub share: bool,
    /// Whether films may be converted.
    pub video_conversion: bool,
    /// Numbers of the music folders.
    pub folders: Vec<u32>,
}

impl User {
    pub(super) fn node(&self) -> Node {
        Node::new()
            .with("username", &self.username)
            .maybe("email", self.email.as_ref())
            .with("scrobblingEnabled", self.scrobbling)
            .maybe("maxBitRate", self.max_bit_rate)
            .with("adminRole", self.admin)
            .with("settingsRole", self.settings)
            .with("downloadRole", self.download)
            .with("uploadRole", self.upload)
            .with("playlistRole", self.playlist)
            .with("coverArtRole", self.cover_art)
            .with("commentRole", self.comment)
            .with("podcastRole", self.podcast)
            .with("streamRole", self.stream)
            .with("jukeboxRole", self.jukebox)
            .with("shareRole", self.share)
            .with("videoConversionRole", self.video_conversion)
            .words("folder", self.folders.iter().copied())
    }
}

/// How a scan goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanStatus {
    /// Whether one is under way.
    pub scanning: bool,
    /// Songs so far.
    pub count: u64,
}

impl ScanStatus {
    pub(super) fn node(&self) -> Node {
        Node::new().with("scanning", self.scanning).with("count", self.count)
    }
}

/// Something that not every server can do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extension {
    /// Its name.
    pub name: String,
    /// In which versions.
    pub versions: Vec<u32>,
}

impl Extension {
    pub(super) fn node(&self) -> Node {
        Node::new().with("name", &self.name).words("versions", self.versions.iter().copied())
    }
}

/// The words of a song.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lyrics {
    /// Its artist.
    pub artist: Option<String>,
    /// Its title.
    pub title: Option<String>,
    /// The words.
    pub text: String,
}

impl Lyrics {
    pub(super) fn node(&self) -> Node {
        Node::new()
            .maybe("artist", self.artist.as_ref())
            .maybe("title", self.title.as_ref())
            .text(self.text.as_str())
    }
}

/// A line of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    /// Milliseconds from the beginning of the song, where that is known.
    pub start: Option<u64>,
    /// The words.
    pub text: String,
}

/// The words of a song, line by line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StructuredLyrics {
    /// Its artist.
    pub artist: Option<String>,
    /// Its title.
    pub title: Option<String>,
    /// The language; `und` when nobody knows.
    pub lang: String,
    /// Milliseconds by which all lines come sooner.
    pub offset: i64,
    /// Whether lines have times.
    pub synced: bool,
    /// The lines.
    pub lines: Vec<Line>,
}

impl Default for StructuredLyrics {
    fn default() -> Self {
        let lang = "und".to_owned();
        Self { artist: None, title: None, lang, offset: 0, synced: false, lines: Vec::new() }
    }
}

impl StructuredLyrics {
    pub(super) fn node(&self) -> Node {
        // Lines of lyrics without times must have none.
        let line = |line: &Line| {
            Node::new().maybe("start", line.start.filter(|_| self.synced)).text(line.text.as_str())
        };
        Node::new()
            .maybe("displayArtist", self.artist.as_ref())
            .maybe("displayTitle", self.title.as_ref())
            .with("lang", &self.lang)
            .with("offset", self.offset)
            .with("synced", self.synced)
            .many("line", self.lines.iter().map(line))
    }
}
