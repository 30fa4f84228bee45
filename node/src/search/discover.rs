//! What somebody online serves right now, by artist, genre, album and track.
//!
//! A song counts for its artist and for whoever its album is by, where these are two. Songs without an album are tracks
//! only.

use serde::{Deserialize, Serialize};

use crate::peer::select::SongLine;

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Nothing: how many there are of each.
    Counts,
    /// Artists.
    Artists,
    /// Genres.
    Genres,
    /// Albums.
    Albums,
    /// Tracks.
    Tracks,
}

/// Only songs that have all of these, up to case, accents and punctuation; an empty name is that of songs without one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// The artist, or whose album it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artist: Option<String>,
    /// The genre.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genre: Option<String>,
    /// The album.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub album: Option<String>,
}

/// How many there are of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Artists.
    pub artists: u64,
    /// Genres.
    pub genres: u64,
    /// Albums.
    pub albums: u64,
    /// Tracks.
    pub tracks: u64,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed<T> {
    /// Entries on all pages.
    pub total: u64,
    /// Of these, left out before the first here.
    pub offset: u64,
    /// The entries.
    pub items: Vec<T>,
}

/// `antiphon discover --json`: what was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discovered {
    /// Version of this form.
    pub schema: u32,
    /// Blocks of the ledger that the index has not looked at yet.
    pub behind: u64,
    /// How many there are of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
    /// By name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artists: Option<Listed<ArtistLine>>,
    /// By name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genres: Option<Listed<GenreLine>>,
    /// By album artist and title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub albums: Option<Listed<AlbumLine>>,
    /// By album artist, album, disc and track.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracks: Option<Listed<TrackLine>>,
}

impl Discovered {
    /// Takes in the lists of another answer.
    pub fn add(&mut self, other: Self) {
        self.schema = other.schema;
        self.behind = self.behind.max(other.behind);
        self.counts = other.counts.or(self.counts);
        self.artists = other.artists.or(self.artists.take());
        self.genres = other.genres.or(self.genres.take());
        self.albums = other.albums.or(self.albums.take());
        self.tracks = other.tracks.or(self.tracks.take());
    }
}

/// An artist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtistLine {
    /// As most songs spell it; empty for songs that name none.
    pub name: String,
    /// Albums with a track that counts for the artist.
    pub albums: u64,
    /// Tracks.
    pub tracks: u64,
    /// Distinct peers online that serve any of it.
    pub sources: u32,
}

/// A genre.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenreLine {
    /// As most songs spell it; empty for songs that name none.
    pub name: String,
    /// Artists of its tracks.
    pub artists: u64,
    /// Tracks.
    pub tracks: u64,
    /// Distinct peers online that serve any of it.
    pub sources: u32,
}

/// An album.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlbumLine {
    /// Whose it is.
    pub artist: String,
    /// Title.
    pub title: String,
    /// Earliest year that its tracks name, 0 when unknown.
    pub year: u64,
    /// Tracks.
    pub tracks: u64,
    /// Distinct peers online that serve any of it.
    pub sources: u32,
}

/// A track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackLine {
    /// The song.
    #[serde(flatten)]
    pub song: SongLine,
    /// Position on the disc, 0 when unknown.
    pub track: u32,
    /// Disc of the set, 0 when unknown.
    pub disc: u32,
    /// Year of release, 0 when unknown.
    pub year: u32,
    /// Distinct peers online that serve it in any encoding.
    pub sources: u32,
}
