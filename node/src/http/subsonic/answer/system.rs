//! The server and its user.

use super::{
    super::{
        bodies::{Body, Extension, License, ScanStatus, User},
        error::{Code, SubsonicError},
    },
    Answer,
    ask::Ask,
};
use crate::{
    http::{App, api::library},
    music::Folder,
};

pub(super) fn ping(_: &Ask) -> Answer {
    Ok(Body::Empty)
}

pub(super) fn license(_: &Ask) -> Answer {
    Ok(Body::License(License::default()))
}

pub(super) fn token_info(ask: &Ask) -> Answer {
    Ok(Body::TokenInfo(ask.device.user.clone()))
}

/// What this server can do that others may not.
pub(super) fn extensions(app: &App) -> Body {
    let names = [
        "apiKeyAuthentication",
        "formPost",
        "indexBasedQueue",
        "playbackReport",
        "songLyrics",
        "topSongsByArtistId",
    ];
    let offset = app.transcoder.works().then_some("transcodeOffset");
    let extension = |name: &str| Extension { name: name.to_owned(), versions: vec![1] };
    Body::Extensions(names.into_iter().chain(offset).map(extension).collect())
}

/// An app's password is good for the music, and for nothing else of this peer.
fn listener(ask: &Ask) -> User {
    User {
        username: ask.device.user.clone(),
        scrobbling: true,
        download: true,
        playlist: true,
        stream: true,
        comment: true,
        folders: vec![1, 2],
        ..User::default()
    }
}

pub(super) fn user(ask: &Ask) -> Answer {
    match ask.params.filled("username") {
        Some(user) if user != ask.device.user => Err(SubsonicError::new(Code::NotAllowed)),
        _ => Ok(Body::User(Box::new(listener(ask)))),
    }
}

pub(super) fn users(ask: &Ask) -> Answer {
    Ok(Body::Users(vec![listener(ask)]))
}

fn scanning(ask: &Ask) -> Answer {
    let peer = &ask.app().peer;
    let scanning = peer.library.progress().borrow().is_running();
    // As listed: counting the files would be a walk over all of them, and apps ask each second.
    let count = peer.music.shelf(Folder::Own).len() as u64;
    Ok(Body::ScanStatus(ScanStatus { scanning, count }))
}

pub(super) fn scan_status(ask: &Ask) -> Answer {
    scanning(ask)
}

pub(super) fn start_scan(ask: &Ask) -> Answer {
    library::begin(ask.app(), ask.app().peer.library.folders());
    scanning(ask)
}

pub(super) fn stations(_: &Ask) -> Answer {
    Ok(Body::InternetRadioStations)
}

pub(super) fn podcasts(_: &Ask) -> Answer {
    Ok(Body::Podcasts)
}

pub(super) fn newest_podcasts(_: &Ask) -> Answer {
    Ok(Body::NewestPodcasts)
}

pub(super) fn shares(_: &Ask) -> Answer {
    Ok(Body::Shares)
}

/// The listener has no picture.
pub(super) fn avatar(_: &Ask) -> Answer {
    Err(SubsonicError::not_found())
}
