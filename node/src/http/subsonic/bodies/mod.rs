//! What answers say: one variant for each element that may stand in the envelope.

mod about;
mod browse;
mod media;
mod own;

pub use about::{Extension, License, Line, Lyrics, ScanStatus, StructuredLyrics, User};
pub use browse::{
    Album, Artist, Artists, Directory, FolderArtist, Found, Genre, Index, Indexes, Info, MusicFolder,
};
pub use media::{ArtistRef, Child, Media, NowPlaying, Place};
pub use own::{Bookmark, PlayQueue, Playlist};

use super::tree::{Inner, Node};

/// Artists and albums as folders.
pub type FoundFolders = Found<FolderArtist, Child>;
/// Artists and albums by their tags.
pub type FoundTags = Found<Artist, Album>;

/// What is in an answer. Boxes keep an answer without a body small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Nothing: it was done.
    Empty,
    /// `license`
    License(License),
    /// `musicFolders`
    MusicFolders(Vec<MusicFolder>),
    /// `indexes`
    Indexes(Indexes),
    /// `directory`
    Directory(Box<Directory>),
    /// `genres`
    Genres(Vec<Genre>),
    /// `artists`
    Artists(Artists),
    /// `artist`, with its albums
    Artist(Box<Artist>, Vec<Album>),
    /// `album`, with its songs
    Album(Box<Album>, Vec<Child>),
    /// `song`
    Song(Box<Child>),
    /// `artistInfo`, with similar artists
    ArtistInfo(Box<Info>, Vec<FolderArtist>),
    /// `artistInfo2`, with similar artists
    ArtistInfo2(Box<Info>, Vec<Artist>),
    /// `albumInfo`
    AlbumInfo(Box<Info>),
    /// `similarSongs`
    SimilarSongs(Vec<Child>),
    /// `similarSongs2`
    SimilarSongs2(Vec<Child>),
    /// `topSongs`
    TopSongs(Vec<Child>),
    /// `randomSongs`
    RandomSongs(Vec<Child>),
    /// `songsByGenre`
    SongsByGenre(Vec<Child>),
    /// `albumList`
    AlbumList(Vec<Child>),
    /// `albumList2`
    AlbumList2(Vec<Album>),
    /// `nowPlaying`
    NowPlaying(Vec<NowPlaying>),
    /// `starred`
    Starred(FoundFolders),
    /// `starred2`
    Starred2(FoundTags),
    /// `searchResult`: which songs were found, behind how many others, and of how many
    SearchResult(Vec<Child>, u64, u64),
    /// `searchResult2`
    SearchResult2(FoundFolders),
    /// `searchResult3`
    SearchResult3(FoundTags),
    /// `playlists`
    Playlists(Vec<Playlist>),
    /// `playlist`, with its songs
    Playlist(Box<Playlist>, Vec<Child>),
    /// `playQueue`, which tells by its id what plays
    PlayQueue(PlayQueue<String>),
    /// `playQueueByIndex`
    PlayQueueByIndex(PlayQueue<u64>),
    /// `bookmarks`
    Bookmarks(Vec<Bookmark>),
    /// `lyrics`
    Lyrics(Lyrics),
    /// `lyricsList`
    LyricsList(Vec<StructuredLyrics>),
    /// `user`
    User(Box<User>),
    /// `users`
    Users(Vec<User>),
    /// `scanStatus`
    ScanStatus(ScanStatus),
    /// `openSubsonicExtensions`
    Extensions(Vec<Extension>),
    /// `tokenInfo`: the user's name
    TokenInfo(String),
    /// `internetRadioStations`: there are none
    InternetRadioStations,
    /// `podcasts`: there are none
    Podcasts,
    /// `newestPodcasts`: there are none
    NewestPodcasts,
    /// `shares`: there are none
    Shares,
}

fn songs(songs: &[Child]) -> Node {
    Node::new().many("song", songs.iter().map(Child::node))
}

impl Body {
    /// What stands in the envelope, and its name.
    pub(super) fn inner(&self) -> Option<(&'static str, Inner)> {
        let (name, node) = match self {
            Self::Empty => return None,
            // In JSON the only answer that is an array itself.
            Self::Extensions(all) => {
                let nodes = all.iter().map(Extension::node).collect();
                return Some(("openSubsonicExtensions", Inner::Many(nodes)));
            }
            Self::License(license) => ("license", license.node()),
            Self::User(user) => ("user", user.node()),
            Self::Users(all) => ("users", Node::new().many("user", all.iter().map(User::node))),
            Self::ScanStatus(status) => ("scanStatus", status.node()),
            Self::TokenInfo(user) => ("tokenInfo", Node::new().with("username", user)),
            Self::Lyrics(lyrics) => ("lyrics", lyrics.node()),
            Self::LyricsList(all) => {
                ("lyricsList", Node::new().many("structuredLyrics", all.iter().map(StructuredLyrics::node)))
            }
            Self::InternetRadioStations => {
                ("internetRadioStations", Node::new().many("internetRadioStation", []))
            }
            Self::Podcasts => ("podcasts", Node::new().many("channel", [])),
            Self::NewestPodcasts => ("newestPodcasts", Node::new().many("episode", [])),
            Self::Shares => ("shares", Node::new().many("share", [])),
            other => return other.music().map(|(name, node)| (name, Inner::One(node))),
        };
        Some((name, Inner::One(node)))
    }

    /// What there is to hear.
    fn music(&self) -> Option<(&'static str, Node)> {
        Some(match self {
            Self::MusicFolders(all) => {
                ("musicFolders", Node::new().many("musicFolder", all.iter().map(MusicFolder::node)))
            }
            Self::Indexes(indexes) => ("indexes", indexes.node()),
            Self::Directory(directory) => ("directory", directory.node()),
            Self::Genres(all) => ("genres", Node::new().many("genre", all.iter().map(Genre::node))),
            Self::Artists(artists) => ("artists", artists.node()),
            Self::Artist(artist, albums) => {
                ("artist", artist.node().many("album", albums.iter().map(Album::node)))
            }
            Self::Album(album, songs) => ("album", album.node().many("song", songs.iter().map(Child::node))),
            Self::Song(song) => ("song", song.node()),
            Self::ArtistInfo(info, similar) => {
                let similar = similar.iter().map(FolderArtist::node);
                ("artistInfo", info.node("biography").many("similarArtist", similar))
            }
            Self::ArtistInfo2(info, similar) => {
                let similar = similar.iter().map(Artist::node);
                ("artistInfo2", info.node("biography").many("similarArtist", similar))
            }
            Self::AlbumInfo(info) => ("albumInfo", info.node("notes")),
            other => return other.lists(),
        })
    }

    /// Lists, of which some are the listener's own.
    fn lists(&self) -> Option<(&'static str, Node)> {
        Some(match self {
            Self::SimilarSongs(all) => ("similarSongs", songs(all)),
            Self::SimilarSongs2(all) => ("similarSongs2", songs(all)),
            Self::TopSongs(all) => ("topSongs", songs(all)),
            Self::RandomSongs(all) => ("randomSongs", songs(all)),
            Self::SongsByGenre(all) => ("songsByGenre", songs(all)),
            Self::AlbumList(all) => ("albumList", Node::new().many("album", all.iter().map(Child::node))),
            Self::AlbumList2(all) => ("albumList2", Node::new().many("album", all.iter().map(Album::node))),
            Self::NowPlaying(all) => {
                ("nowPlaying", Node::new().many("entry", all.iter().map(NowPlaying::node)))
            }
            Self::Starred(found) => ("starred", found.node(FolderArtist::node, Child::node)),
            Self::Starred2(found) => ("starred2", found.node(Artist::node, Album::node)),
            Self::SearchResult(found, offset, total) => {
                let node = Node::new().with("offset", *offset).with("totalHits", *total);
                ("searchResult", node.many("match", found.iter().map(Child::node)))
            }
            Self::SearchResult2(found) => ("searchResult2", found.node(FolderArtist::node, Child::node)),
            Self::SearchResult3(found) => ("searchResult3", found.node(Artist::node, Album::node)),
            Self::Playlists(all) => {
                ("playlists", Node::new().many("playlist", all.iter().map(Playlist::node)))
            }
            Self::Playlist(playlist, entries) => {
                ("playlist", playlist.node().many("entry", entries.iter().map(Child::node)))
            }
            Self::PlayQueue(queue) => ("playQueue", queue.node("current")),
            Self::PlayQueueByIndex(queue) => ("playQueueByIndex", queue.node("currentIndex")),
            Self::Bookmarks(all) => {
                ("bookmarks", Node::new().many("bookmark", all.iter().map(Bookmark::node)))
            }
            _ => return None,
        })
    }
}
