//! Which method is whose.

use super::{
    super::bodies::Body, Answer, ask::Ask, browse, find, lists, media, own, playlists, queue, system,
};
use crate::http::App;

/// How a method is answered.
#[derive(Clone, Copy)]
pub(super) enum Handler {
    /// By anybody, without a login.
    Open(fn(&App) -> Body),
    /// Where blocking is allowed.
    Plain(fn(&Ask) -> Answer),
    /// A song's bytes, maybe in another encoding.
    Stream,
    /// A song's bytes.
    Download,
    /// A picture.
    Cover,
    /// Where a player is.
    Report,
}

const PLAIN: &[(&str, fn(&Ask) -> Answer)] = &[
    ("ping", system::ping),
    ("getLicense", system::license),
    ("tokenInfo", system::token_info),
    ("getUser", system::user),
    ("getUsers", system::users),
    ("getScanStatus", system::scan_status),
    ("startScan", system::start_scan),
    ("getInternetRadioStations", system::stations),
    ("getPodcasts", system::podcasts),
    ("getNewestPodcasts", system::newest_podcasts),
    ("getShares", system::shares),
    ("getAvatar", system::avatar),
    ("getMusicFolders", browse::folders),
    ("getIndexes", browse::indexes),
    ("getMusicDirectory", browse::directory),
    ("getGenres", browse::genres),
    ("getArtists", browse::artists),
    ("getArtist", browse::artist),
    ("getAlbum", browse::album),
    ("getSong", browse::song),
    ("getArtistInfo", browse::artist_info),
    ("getArtistInfo2", browse::artist_info2),
    ("getAlbumInfo", browse::album_info),
    ("getAlbumInfo2", browse::album_info),
    ("getSimilarSongs", lists::similar),
    ("getSimilarSongs2", lists::similar2),
    ("getTopSongs", lists::top),
    ("getAlbumList", lists::albums),
    ("getAlbumList2", lists::albums2),
    ("getRandomSongs", lists::random),
    ("getSongsByGenre", lists::by_genre),
    ("getStarred", lists::starred),
    ("getStarred2", lists::starred2),
    ("search", find::search),
    ("search2", find::search2),
    ("search3", find::search3),
    ("getNowPlaying", own::now_playing),
    ("star", own::star),
    ("unstar", own::unstar),
    ("setRating", own::set_rating),
    ("scrobble", own::scrobble),
    ("getPlaylists", playlists::all),
    ("getPlaylist", playlists::one),
    ("createPlaylist", playlists::create),
    ("updatePlaylist", playlists::update),
    ("deletePlaylist", playlists::delete),
    ("getPlayQueue", queue::get),
    ("savePlayQueue", queue::save),
    ("getPlayQueueByIndex", queue::get_by_index),
    ("savePlayQueueByIndex", queue::save_by_index),
    ("getBookmarks", queue::bookmarks),
    ("createBookmark", queue::create_bookmark),
    ("deleteBookmark", queue::delete_bookmark),
    ("getLyrics", media::lyrics),
    ("getLyricsBySongId", media::lyrics_by_id),
];

/// Who answers the method of this name.
pub(super) fn handler(name: &str) -> Option<Handler> {
    Some(match name {
        "getOpenSubsonicExtensions" => Handler::Open(system::extensions),
        "stream" => Handler::Stream,
        "download" => Handler::Download,
        "getCoverArt" => Handler::Cover,
        "reportPlayback" => Handler::Report,
        _ => Handler::Plain(PLAIN.iter().find(|(known, _)| *known == name)?.1),
    })
}

#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    PLAIN.iter().map(|(name, _)| *name)
}
