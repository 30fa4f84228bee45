//! Artists, albums and genres, and how they are listed.

use super::{
    super::tree::Node,
    media::{ArtistRef, Child, genre_nodes},
};

/// A folder of music, of which there is at least one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MusicFolder {
    /// Its number.
    pub id: u32,
    /// Its name.
    pub name: String,
}

impl MusicFolder {
    pub(super) fn node(&self) -> Node {
        Node::new().with("id", self.id).with("name", &self.name)
    }
}

/// A genre.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Genre {
    /// Its name.
    pub name: String,
    /// Songs of it.
    pub song_count: u64,
    /// Albums of it.
    pub album_count: u64,
}

impl Genre {
    pub(super) fn node(&self) -> Node {
        Node::new()
            .with("songCount", self.song_count)
            .with("albumCount", self.album_count)
            .text(self.name.as_str())
    }
}

/// An artist as a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FolderArtist {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it got its star.
    pub starred: Option<u64>,
    /// 1 to 5.
    pub user_rating: Option<u32>,
}

impl FolderArtist {
    pub(super) fn node(&self) -> Node {
        Node::new()
            .with("id", &self.id)
            .with("name", &self.name)
            .maybe_date("starred", self.starred)
            .maybe("userRating", self.user_rating)
    }
}

/// An artist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Artist {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// By what name its picture is had.
    pub cover_art: Option<String>,
    /// Albums of it.
    pub album_count: u32,
    /// When it got its star.
    pub starred: Option<u64>,
    /// 1 to 5.
    pub user_rating: Option<u32>,
    /// Its MusicBrainz id.
    pub musicbrainz_id: String,
    /// The name as it is sorted by.
    pub sort_name: String,
    /// What it does: `artist`, `albumartist`.
    pub roles: Vec<String>,
}

impl Artist {
    pub(super) fn node(&self) -> Node {
        Node::new()
            .with("id", &self.id)
            .with("name", &self.name)
            .maybe("coverArt", self.cover_art.as_ref())
            .with("albumCount", self.album_count)
            .maybe_date("starred", self.starred)
            .maybe("userRating", self.user_rating)
            .with("musicBrainzId", &self.musicbrainz_id)
            .with("sortName", &self.sort_name)
            .words("roles", &self.roles)
    }
}

/// Artists below one letter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index<A> {
    /// The letter.
    pub name: String,
    /// The artists.
    pub artists: Vec<A>,
}

impl<A> Index<A> {
    pub(super) fn node(&self, artist: impl Fn(&A) -> Node) -> Node {
        Node::new().with("name", &self.name).many("artist", self.artists.iter().map(artist))
    }
}

/// Artists, by letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Artists {
    /// Words, with blanks between, that names are not sorted by.
    pub ignored_articles: String,
    /// The letters.
    pub index: Vec<Index<Artist>>,
}

impl Artists {
    pub(super) fn node(&self) -> Node {
        Node::new()
            .with("ignoredArticles", &self.ignored_articles)
            .many("index", self.index.iter().map(|index| index.node(Artist::node)))
    }
}

/// The same, as folders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Indexes {
    /// Words, with blanks between, that names are not sorted by.
    pub ignored_articles: String,
    /// When anything changed, in milliseconds since 1970.
    pub last_modified: u64,
    /// The letters.
    pub index: Vec<Index<FolderArtist>>,
    /// Songs that are in no folder.
    pub children: Vec<Child>,
}

impl Indexes {
    pub(super) fn node(&self) -> Node {
        Node::new()
            .with("lastModified", self.last_modified)
            .with("ignoredArticles", &self.ignored_articles)
            .many("shortcut", [])
            .many("index", self.index.iter().map(|index| index.node(FolderArtist::node)))
            .many("child", self.children.iter().map(Child::node))
    }
}

/// A folder and what is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    /// Its id.
    pub id: String,
    /// Id of the folder that it is in.
    pub parent: Option<String>,
    /// Its name.
    pub name: String,
    /// When it got its star.
    pub starred: Option<u64>,
    /// 1 to 5.
    pub user_rating: Option<u32>,
    /// How often songs of it were played.
    pub play_count: u64,
    /// What is in it.
    pub children: Vec<Child>,
}

impl Directory {
    pub(super) fn node(&self) -> Node {
        Node::new()
            .with("id", &self.id)
            .maybe("parent", self.parent.as_ref())
            .with("name", &self.name)
            .maybe_date("starred", self.starred)
            .maybe("userRating", self.user_rating)
            .with("playCount", self.play_count)
            .many("child", self.children.iter().map(Child::node))
    }
}

/// An album.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Album {
    /// Its id.
    pub id: String,
    /// Its title.
    pub name: String,
    /// Its artist.
    pub artist: Option<String>,
    /// Its artist's id.
    pub artist_id: Option<String>,
    /// By what name its picture is had.
    pub cover_art: Option<String>,
    /// Songs of it.
    pub song_count: u32,
    /// Seconds.
    pub duration: u32,
    /// How often songs of it were played.
    pub play_count: u64,
    /// When it was played last.
    pub played: Option<u64>,
    /// When it was added.
    pub created: u64,
    /// When it got its star.
    pub starred: Option<u64>,
    /// 1 to 5.
    pub user_rating: Option<u32>,
    /// When it came out.
    pub year: Option<u32>,
    /// The first of its genres.
    pub genre: Option<String>,
    /// All of its genres.
    pub genres: Vec<String>,
    /// All of its artists.
    pub artists: Vec<ArtistRef>,
    /// Its artists in one line.
    pub display_artist: String,
    /// Its MusicBrainz id.
    pub musicbrainz_id: String,
    /// The title as it is sorted by.
    pub sort_name: String,
    /// `Album`, `EP`, `Live` and so on.
    pub release_types: Vec<String>,
    /// Whether it is of many artists.
    pub is_compilation: bool,
}

impl Album {
    pub(super) fn node(&self) -> Node {
        Node::new()
            .with("id", &self.id)
            .with("name", &self.name)
            .maybe("artist", self.artist.as_ref())
            .maybe("artistId", self.artist_id.as_ref())
            .maybe("coverArt", self.cover_art.as_ref())
            .with("songCount", self.song_count)
            .with("duration", self.duration)
            .with("playCount", self.play_count)
            .date("created", self.created)
            .maybe_date("starred", self.starred)
            .maybe("year", self.year)
            .maybe("genre", self.genre.as_ref())
            .maybe_date("played", self.played)
            .maybe("userRating", self.user_rating)
            .with("musicBrainzId", &self.musicbrainz_id)
            .with("displayArtist", &self.display_artist)
            .with("sortName", &self.sort_name)
            .with("isCompilation", self.is_compilation)
            .words("releaseTypes", &self.release_types)
            .many("genres", genre_nodes(&self.genres))
            .many("artists", self.artists.iter().map(ArtistRef::node))
    }
}

/// What is told of an artist or an album.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info {
    /// A text.
    pub notes: Option<String>,
    /// A MusicBrainz id.
    pub musicbrainz_id: Option<String>,
    /// A page at Last.fm.
    pub last_fm_url: Option<String>,
    /// A picture.
    pub small_image_url: Option<String>,
    /// The same, larger.
    pub medium_image_url: Option<String>,
    /// The same, as large as there is.
    pub large_image_url: Option<String>,
}

impl Info {
    /// The text goes by different names.
    pub(super) fn node(&self, notes: &'static str) -> Node {
        Node::new()
            .word(notes, self.notes.as_ref())
            .word("musicBrainzId", self.musicbrainz_id.as_ref())
            .word("lastFmUrl", self.last_fm_url.as_ref())
            .word("smallImageUrl", self.small_image_url.as_ref())
            .word("mediumImageUrl", self.medium_image_url.as_ref())
            .word("largeImageUrl", self.large_image_url.as_ref())
    }
}

/// What was found, or has a star.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found<A, B> {
    /// Artists.
    pub artists: Vec<A>,
    /// Albums.
    pub albums: Vec<B>,
    /// Songs.
    pub songs: Vec<Child>,
}

impl<A, B> Found<A, B> {
    pub(super) fn node(&self, artist: impl Fn(&A) -> Node, album: impl Fn(&B) -> Node) -> Node {
        Node::new()
            .many("artist", self.artists.iter().map(artist))
            .many("album", self.albums.iter().map(album))
            .many("song", self.songs.iter().map(Child::node))
    }
}
