//! Songs, and albums and artists as they looked when everything was a file or a folder.

use super::super::tree::{Node, Scalar};

/// What a [`Child`] is. Albums and artists are folders to older apps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Media {
    /// Something to hear.
    #[default]
    Song,
    /// A folder of songs.
    Album,
    /// A folder of albums.
    Artist,
}

impl Media {
    const fn name(self) -> &'static str {
        match self {
            Self::Song => "song",
            Self::Album => "album",
            Self::Artist => "artist",
        }
    }
}

/// An artist where it is only named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArtistRef {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

impl ArtistRef {
    pub(super) fn node(&self) -> Node {
        Node::new().with("id", &self.id).with("name", &self.name)
    }
}

/// A song, or a folder in a directory.
///
/// OpenSubsonic wants a text or a list that a server knows of to be there even when it is empty, so those are not optional.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Child {
    /// Its id.
    pub id: String,
    /// What it is; folders are told by it as well.
    pub media: Media,
    /// Id of the folder that it is in.
    pub parent: Option<String>,
    /// Its title.
    pub title: String,
    /// Its album's title.
    pub album: Option<String>,
    /// Its artist.
    pub artist: Option<String>,
    /// Which track of its disc.
    pub track: Option<u32>,
    /// Which disc of its album.
    pub disc_number: Option<u32>,
    /// When it came out.
    pub year: Option<u32>,
    /// The first of its genres.
    pub genre: Option<String>,
    /// By what name its picture is had.
    pub cover_art: Option<String>,
    /// Bytes of the file.
    pub size: Option<u64>,
    /// MIME type of the file.
    pub content_type: Option<String>,
    /// The file's extension, without its dot.
    pub suffix: Option<String>,
    /// Where it would lie. No file has this name; apps show it, and name downloads by it.
    pub path: Option<String>,
    /// Seconds.
    pub duration: u32,
    /// Thousands of bits a second.
    pub bit_rate: Option<u32>,
    /// Bits of a sample.
    pub bit_depth: Option<u32>,
    /// Samples a second.
    pub sampling_rate: Option<u32>,
    /// Channels.
    pub channel_count: Option<u32>,
    /// 1 to 5.
    pub user_rating: Option<u32>,
    /// How often it was played here.
    pub play_count: u64,
    /// When it was played last.
    pub played: Option<u64>,
    /// When it was added.
    pub created: u64,
    /// When it got its star.
    pub starred: Option<u64>,
    /// Its album's id.
    pub album_id: Option<String>,
    /// Its artist's id.
    pub artist_id: Option<String>,
    /// Milliseconds at which a bookmark is set.
    pub bookmark_position: Option<u64>,
    /// The title as it is sorted by.
    pub sort_name: String,
    /// Its MusicBrainz id.
    pub musicbrainz_id: String,
    /// Its recording codes.
    pub isrc: Vec<String>,
    /// All of its genres.
    pub genres: Vec<String>,
    /// All of its artists.
    pub artists: Vec<ArtistRef>,
    /// Its artists in one line.
    pub display_artist: String,
    /// All artists of its album.
    pub album_artists: Vec<ArtistRef>,
    /// The album's artists in one line.
    pub display_album_artist: String,
}

pub(super) fn genre_nodes(genres: &[String]) -> impl Iterator<Item = Node> {
    genres.iter().map(|genre| Node::new().with("name", genre))
}

impl Child {
    pub(super) fn node(&self) -> Node {
        let node = Node::new()
            .with("id", &self.id)
            .maybe("parent", self.parent.as_ref())
            .with("isDir", self.media != Media::Song)
            .with("title", &self.title)
            .maybe("album", self.album.as_ref())
            .maybe("artist", self.artist.as_ref())
            .maybe("track", self.track)
            .maybe("year", self.year)
            .maybe("genre", self.genre.as_ref())
            .maybe("coverArt", self.cover_art.as_ref())
            .with("duration", self.duration)
            .with("playCount", self.play_count)
            .maybe("discNumber", self.disc_number)
            .date("created", self.created)
            .maybe_date("starred", self.starred)
            .maybe("albumId", self.album_id.as_ref())
            .maybe("artistId", self.artist_id.as_ref())
            .with("type", "music")
            .with("mediaType", self.media.name())
            .with("isVideo", false)
            .maybe_date("played", self.played)
            .maybe("userRating", self.user_rating)
            .maybe("bookmarkPosition", self.bookmark_position);
        self.open(self.file(node))
    }

    /// What only files have.
    fn file(&self, node: Node) -> Node {
        node.maybe("size", self.size)
            .maybe("contentType", self.content_type.as_ref())
            .maybe("suffix", self.suffix.as_ref())
            .maybe("bitRate", self.bit_rate)
            .maybe("bitDepth", self.bit_depth)
            .maybe("samplingRate", self.sampling_rate)
            .maybe("channelCount", self.channel_count)
            .maybe("path", self.path.as_ref())
    }

    /// What OpenSubsonic has added.
    fn open(&self, node: Node) -> Node {
        node.with("sortName", &self.sort_name)
            .with("musicBrainzId", &self.musicbrainz_id)
            .with("displayArtist", &self.display_artist)
            .with("displayAlbumArtist", &self.display_album_artist)
            .words("isrc", &self.isrc)
            .many("genres", genre_nodes(&self.genres))
            .many("artists", self.artists.iter().map(ArtistRef::node))
            .many("albumArtists", self.album_artists.iter().map(ArtistRef::node))
    }
}

/// Where in a song somebody is who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Milliseconds from its start.
    pub position_ms: u32,
    /// How fast it is played, in thousandths of its own pace.
    pub rate: u32,
}

/// A song that somebody hears.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NowPlaying {
    /// The song.
    pub song: Child,
    /// Who hears it.
    pub username: String,
    /// When it began.
    pub minutes_ago: u32,
    /// Which of the players.
    pub player_id: u32,
    /// The player's name.
    pub player_name: String,
    /// Where it is, when the player says so.
    pub place: Option<Place>,
}

impl NowPlaying {
    pub(super) fn node(&self) -> Node {
        self.song
            .node()
            .with("username", &self.username)
            .with("minutesAgo", self.minutes_ago)
            .with("playerId", self.player_id)
            .with("playerName", &self.player_name)
            // Only what can be heard is told.
            .maybe("state", self.place.map(|_| "playing"))
            .maybe("positionMs", self.place.map(|place| place.position_ms))
            .maybe("playbackRate", self.place.map(|place| Scalar::Thousandths(place.rate)))
    }
}
