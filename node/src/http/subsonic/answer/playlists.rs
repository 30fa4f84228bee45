//! Playlists.

use std::str::FromStr;

use super::{
    super::{
        bodies::{self, Body},
        error::{Code, SubsonicError},
    },
    Answer,
    ask::{Ask, Heard},
    convert, kept,
};
use crate::{
    listener::{Edit, Playlist, PlaylistId},
    system::{clock, random::random},
};

fn id(ask: &Ask, name: &str) -> Result<PlaylistId, SubsonicError> {
    let text = ask.params.filled(name).ok_or_else(|| SubsonicError::missing(name))?;
    PlaylistId::from_str(text).map_err(|_| SubsonicError::not_found())
}

fn form(ask: &Ask, id: PlaylistId, head: Playlist, songs: &[Heard]) -> bodies::Playlist {
    bodies::Playlist {
        id: id.to_string(),
        name: head.name,
        comment: head.comment,
        owner: ask.device.user.clone(),
        public: head.public,
        song_count: u32::try_from(songs.len()).unwrap_or(u32::MAX),
        duration: convert::seconds(songs.iter().map(|heard| u64::from(heard.song.duration_ms)).sum()),
        created: head.created_ms,
        changed: head.changed_ms,
        cover_art: (!songs.is_empty()).then(|| id.to_string()),
        readonly: false,
    }
}

/// There is one listener. Whoever asks for what others have is told that it is not theirs.
fn mine(ask: &Ask) -> Result<(), SubsonicError> {
    match ask.params.filled("username") {
        Some(user) if user != ask.device.user => Err(SubsonicError::new(Code::NotAllowed)),
        _ => Ok(()),
    }
}

pub(super) fn all(ask: &Ask) -> Answer {
    mine(ask)?;
    let listener = &ask.app().listener;
    let mut found = Vec::new();
    for (id, _) in kept(listener.playlists())? {
        if let Some((head, songs)) = kept(listener.playlist(id))? {
            found.push(form(ask, id, head, &ask.songs(songs)?));
        }
    }
    Ok(Body::Playlists(found))
}

fn shown(ask: &Ask, id: PlaylistId) -> Answer {
    let (head, songs) = kept(ask.app().listener.playlist(id))?.ok_or_else(SubsonicError::not_found)?;
    let songs = ask.songs(songs)?;
    Ok(Body::Playlist(Box::new(form(ask, id, head, &songs)), ask.children(&songs)?))
}

pub(super) fn one(ask: &Ask) -> Answer {
    shown(ask, id(ask, "id")?)
}

pub(super) fn create(ask: &Ask) -> Answer {
    let listener = &ask.app().listener;
    let songs = ask.song_indexes("songId")?;
    let name = ask.params.filled("name");
    if ask.params.filled("playlistId").is_some() {
        let id = id(ask, "playlistId")?;
        let edit = Edit { name: name.map(str::to_owned), songs: Some(songs), ..Edit::default() };
        kept(listener.edit_playlist(id, &edit, clock::now_ms()))?;
        return shown(ask, id);
    }
    let name = name.ok_or_else(|| SubsonicError::missing("name"))?;
    let random = random().map_err(|error| SubsonicError::saying(Code::Generic, error.to_string()))?;
    let id = kept(listener.create_playlist(name, &songs, random, clock::now_ms()))?;
    shown(ask, id)
}

pub(super) fn update(ask: &Ask) -> Answer {
    let id = id(ask, "playlistId")?;
    let edit = Edit {
        name: ask.params.filled("name").map(str::to_owned),
        // An empty remark takes the one before away.
        comment: ask.params.first("comment").map(str::to_owned),
        public: ask.params.flag("public")?,
        songs: None,
        remove: ask.params.numbers("songIndexToRemove")?,
        append: ask.song_indexes("songIdToAdd")?,
    };
    kept(ask.app().listener.edit_playlist(id, &edit, clock::now_ms()))?;
    Ok(Body::Empty)
}

pub(super) fn delete(ask: &Ask) -> Answer {
    let was = kept(ask.app().listener.delete_playlist(id(ask, "id")?))?;
    if was { Ok(Body::Empty) } else { Err(SubsonicError::not_found()) }
}
