//! Stars, ratings, and what is heard.

use std::{sync::PoisonError, time::Duration};

use super::{
    super::{
        bodies::{Body, NowPlaying},
        error::{Code, SubsonicError},
    },
    Answer, Rest,
    ask::Ask,
    blocking, kept,
};
use crate::{
    failure::{Failure, Kind},
    listener::{How, Play},
    music::id::Id,
    stream::plays::Said,
    system::clock,
};

/// An app that reports says each change, so a song goes on until then.
const LASTS: Duration = Duration::from_secs(3_600);
/// Players that are shown without being counted.
const SHOWN: usize = 64;
/// How long a song is shown beyond its end.
const GRACE_MS: u64 = 60_000;
/// Songs of one request that were heard.
const SCROBBLES: usize = 500;
/// Things that one request gives a star.
const STARRED: usize = 10_000;

/// What an app says that it plays.
pub(super) struct Shown {
    player: String,
    song: u64,
    since_ms: u64,
}

impl Rest {
    fn show(&self, player: String, song: u64) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.retain(|other| other.player != player);
        while shown.len() >= SHOWN {
            shown.remove(0);
        }
        shown.push(Shown { player, song, since_ms: clock::now_ms() });
    }

    fn hide(&self, player: &str) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.retain(|other| other.player != player);
    }
}

/// Everything that a request names, of whatever kind.
fn named(ask: &Ask) -> Result<Vec<Id>, SubsonicError> {
    let texts = ["id", "albumId", "artistId"].into_iter().flat_map(|name| ask.params.all(name));
    let ids = texts.filter(|text| !text.is_empty()).map(str::parse::<Id>);
    let ids: Vec<Id> = ids.collect::<Result<_, _>>().map_err(|_| SubsonicError::not_found())?;
    match ids.len() {
        0 => Err(SubsonicError::missing("id")),
        1..=STARRED => Ok(ids),
        _ => Err(SubsonicError::wrong("id", "given less often")),
    }
}

/// Whether each of these is there.
fn there(ask: &Ask, ids: &[Id]) -> Result<(), SubsonicError> {
    let shelves = ask.both();
    for id in ids {
        let there = match id {
            Id::Song(index) => ask.song(&shelves, *index)?.is_some(),
            Id::Album(_) => shelves.album(*id).is_some(),
            Id::Artist(_) => shelves.artist(*id).is_some(),
        };
        if !there {
            return Err(SubsonicError::not_found());
        }
    }
    Ok(())
}

pub(super) fn star(ask: &Ask) -> Answer {
    let ids = named(ask)?;
    there(ask, &ids)?;
    kept(ask.app().listener.star(&ids, clock::now_ms()))?;
    Ok(Body::Empty)
}

pub(super) fn unstar(ask: &Ask) -> Answer {
    kept(ask.app().listener.unstar(&named(ask)?))?;
    Ok(Body::Empty)
}

pub(super) fn set_rating(ask: &Ask) -> Answer {
    let id = ask.params.id("id")?;
    let rating = ask.params.needed_number::<u8>("rating")?;
    if rating > 5 {
        return Err(SubsonicError::wrong("rating", "a number from 0 to 5"));
    }
    there(ask, &[id])?;
    kept(ask.app().listener.rate(&id, rating))?;
    Ok(Body::Empty)
}

/// An app says that songs were heard, or that one is. Nobody is paid for that.
pub(super) fn scrobble(ask: &Ask) -> Answer {
    let songs = ask.song_indexes("id")?;
    let times = ask.params.numbers::<u64>("time")?;
    if songs.is_empty() {
        return Err(SubsonicError::missing("id"));
    }
    if songs.len() > SCROBBLES {
        return Err(SubsonicError::wrong("id", "given less often"));
    }
    if ask.params.flag("submission")? == Some(false) {
        if let Some(song) = songs.last() {
            ask.rest.show(ask.player(), *song);
        }
        return Ok(Body::Empty);
    }
    let (shelves, player) = (ask.both(), ask.player());
    // A player that reports where it is has its plays written down when they end.
    let reported: Vec<u64> =
        ask.app().plays.now().into_iter().filter(|now| now.player == player).map(|now| now.song).collect();
    for (at, song) in songs.into_iter().enumerate() {
        if reported.contains(&song) {
            continue;
        }
        let found = ask.song(&shelves, song)?.ok_or_else(SubsonicError::not_found)?;
        let duration_ms = u64::from(found.song.duration_ms);
        let time_ms = times.get(at).copied().unwrap_or_else(clock::now_ms);
        let play = Play {
            // A clock that is wrong must not make a song the newest for ever.
            time_ms: time_ms.min(clock::now_ms()),
            song,
            heard_ms: duration_ms,
            duration_ms,
            receipts: 0,
            cost_units: 0,
            how: How::App,
        };
        kept(ask.app().listener.played(&play))?;
    }
    Ok(Body::Empty)
}

pub(super) fn now_playing(ask: &Ask) -> Answer {
    let now = clock::now_ms();
    let playing = ask.app().plays.now().into_iter().filter(|now| now.playing);
    let mut found: Vec<(String, u64, u64)> =
        playing.map(|now| (now.player, now.song, now.started_ms)).collect();
    {
        let shown = ask.rest.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for other in shown.iter().rev() {
            if !found.iter().any(|(player, ..)| *player == other.player) {
                found.push((other.player.clone(), other.song, other.since_ms));
            }
        }
    }
    let (shelves, mut songs, mut players) = (ask.both(), Vec::new(), Vec::new());
    for (player, song, since) in found {
        let Some(heard) = ask.song(&shelves, song)? else { continue };
        let duration = u64::from(heard.song.duration_ms);
        let ago = now.saturating_sub(since);
        if ago <= duration.saturating_add(GRACE_MS) {
            songs.push(heard);
            players.push((player, ago));
        }
    }
    let entries = ask.children(&songs)?.into_iter().zip(players).zip(1..);
    let entry = |((song, (player_name, ago)), player_id)| NowPlaying {
        song,
        username: ask.device.user.clone(),
        minutes_ago: u32::try_from(ago / 60_000).unwrap_or(u32::MAX),
        player_id,
        player_name,
    };
    Ok(Body::NowPlaying(entries.map(entry).collect()))
}

/// What a failure is to an app.
pub(super) fn failed(failure: Failure) -> SubsonicError {
    let code = match failure.kind {
        Kind::Refused => Code::NotAllowed,
        Kind::NotFound | Kind::Offline => Code::NotFound,
        _ => Code::Generic,
    };
    SubsonicError::saying(code, failure.message)
}

/// An app says where it is in a song, so that whoever sends it is paid.
pub(super) async fn report(ask: Ask) -> Answer {
    let params = &ask.params;
    if params.filled("mediaType").is_some_and(|kind| kind != "song") {
        return Err(SubsonicError::not_found());
    }
    let song = ask.song_index("mediaId")?;
    let position = params.needed_number::<u64>("positionMs")?;
    let playing = match params.filled("state").ok_or_else(|| SubsonicError::missing("state"))? {
        "playing" => Some(true),
        "starting" | "paused" => Some(false),
        "stopped" => None,
        _ => return Err(SubsonicError::wrong("state", "starting, playing, paused or stopped")),
    };
    let (player, shown_only) = (ask.player(), params.flag("ignoreScrobble")? == Some(true));
    let Some(playing) = playing else {
        ask.rest.hide(&player);
        ask.app().plays.stop(&player);
        return Ok(Body::Empty);
    };
    if shown_only {
        let rest = ask.rest.clone();
        return blocking(move || {
            ask.song(&ask.both(), song)?.ok_or_else(SubsonicError::not_found)?;
            rest.show(player, song);
            Ok(Body::Empty)
        })
        .await;
    }
    ask.rest.hide(&player);
    let position_ms = u32::try_from(position).unwrap_or(u32::MAX);
    let said = Said { song, position_ms, playing, lasts: LASTS };
    ask.app().plays.say(&player, said).await.map_err(failed)?;
    Ok(Body::Empty)
}
