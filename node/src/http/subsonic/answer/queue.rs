//! The queue and bookmarks.

use super::{
    super::{
        bodies::{self, Body, PlayQueue},
        error::SubsonicError,
    },
    Answer,
    ask::Ask,
    kept,
};
use crate::{listener::Queue, music::id::Id, system::clock};

/// The queue; `current` says how the song that plays is told.
fn shown<T>(ask: &Ask, current: impl Fn(&Queue) -> Option<T>) -> Result<Option<PlayQueue<T>>, SubsonicError> {
    let Some(queue) = kept(ask.app().listener.queue())?.filter(|queue| !queue.songs.is_empty()) else {
        return Ok(None);
    };
    Ok(Some(PlayQueue {
        current: current(&queue),
        position: queue.position_ms,
        username: ask.device.user.clone(),
        changed: queue.changed_ms,
        changed_by: queue.changed_by.clone(),
        entries: ask.children(&ask.songs(queue.songs)?)?,
    }))
}

pub(super) fn get(ask: &Ask) -> Answer {
    let current = |queue: &Queue| {
        let place = usize::try_from(queue.current).ok()?;
        queue.songs.get(place).map(|song| Id::Song(*song).to_string())
    };
    Ok(shown(ask, current)?.map_or(Body::Empty, Body::PlayQueue))
}

pub(super) fn get_by_index(ask: &Ask) -> Answer {
    let found = shown(ask, |queue| Some(u64::from(queue.current)))?;
    Ok(found.map_or(Body::Empty, Body::PlayQueueByIndex))
}

fn keep(ask: &Ask, songs: Vec<u64>, current: usize) -> Answer {
    let queue = Queue {
        songs,
        current: u32::try_from(current).unwrap_or(u32::MAX),
        position_ms: ask.params.number("position")?.unwrap_or(0),
        changed_ms: clock::now_ms(),
        changed_by: ask.app_name().to_owned(),
    };
    kept(ask.app().listener.set_queue(&queue))?;
    Ok(Body::Empty)
}

pub(super) fn save(ask: &Ask) -> Answer {
    let songs = ask.song_indexes("id")?;
    let current = match ask.params.filled("current") {
        None => 0,
        Some(_) => {
            let playing = ask.song_index("current")?;
            let place = songs.iter().position(|song| *song == playing);
            place.ok_or_else(|| SubsonicError::wrong("current", "one of the songs of the queue"))?
        }
    };
    keep(ask, songs, current)
}

pub(super) fn save_by_index(ask: &Ask) -> Answer {
    let songs = ask.song_indexes("id")?;
    let current = ask.params.number::<usize>("currentIndex")?;
    let current = match (songs.len(), current) {
        (0, None) => 0,
        (_, None) => return Err(SubsonicError::missing("currentIndex")),
        (length, Some(current)) if current < length => current,
        _ => return Err(SubsonicError::wrong("currentIndex", "a place in the queue")),
    };
    keep(ask, songs, current)
}

pub(super) fn bookmarks(ask: &Ask) -> Answer {
    let (shelves, mut found, mut songs) = (ask.both(), Vec::new(), Vec::new());
    for (index, mark) in kept(ask.app().listener.bookmarks())? {
        if let Some(song) = ask.song(&shelves, index)? {
            songs.push(song);
            found.push(mark);
        }
    }
    let children = ask.children(&songs)?.into_iter();
    let form = |(mark, mut entry): (crate::listener::Bookmark, bodies::Child)| {
        entry.bookmark_position = Some(mark.position_ms);
        bodies::Bookmark {
            position: mark.position_ms,
            username: ask.device.user.clone(),
            comment: mark.comment,
            created: mark.created_ms,
            changed: mark.changed_ms,
            entry,
        }
    };
    Ok(Body::Bookmarks(found.into_iter().zip(children).map(form).collect()))
}

pub(super) fn create_bookmark(ask: &Ask) -> Answer {
    let song = ask.song_index("id")?;
    let position = ask.params.needed_number("position")?;
    ask.song(&ask.both(), song)?.ok_or_else(SubsonicError::not_found)?;
    let comment = ask.params.first("comment").unwrap_or_default();
    kept(ask.app().listener.set_bookmark(song, position, comment, clock::now_ms()))?;
    Ok(Body::Empty)
}

pub(super) fn delete_bookmark(ask: &Ask) -> Answer {
    let was = kept(ask.app().listener.remove_bookmark(ask.song_index("id")?))?;
    if was { Ok(Body::Empty) } else { Err(SubsonicError::not_found()) }
}
