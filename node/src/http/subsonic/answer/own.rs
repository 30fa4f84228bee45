//! Stars, ratings, and what is heard.

use std::{sync::PoisonError, time::Duration};

use super::{
    super::{
        bodies::{Body, NowPlaying, Place},
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
    stream::plays::{Now, Rate, Said},
    system::clock,
};

/// An app that reports says each change, so a song goes on until its end, and for so long it may be heard beyond that.
const BEYOND: Duration = Duration::from_secs(1_800);
/// Players that are shown without being counted.
const SHOWN: usize = 64;
/// How long a song is shown beyond its end.
const GRACE_MS: u64 = 60_000;
/// Songs of one request that were heard.
const SCROBBLES: usize = 500;
/// Things that one request gives a star.
const STARRED: usize = 10_000;

/// What an app says that it plays.
#[derive(Clone)]
pub(super) struct Shown {
    player: String,
    song: u64,
    since_ms: u64,
    /// Where it was then, and how fast it goes on.
    place: Option<(u32, Rate)>,
}

impl Shown {
    /// Where it is after so many milliseconds.
    fn place(&self, ago: u64, duration_ms: u32) -> Option<Place> {
        let (position, rate) = self.place?;
        let position_ms = position.saturating_add(rate.of(Duration::from_millis(ago))).min(duration_ms);
        Some(Place { position_ms, rate: rate.thousandths() })
    }
}

impl Rest {
    fn show(&self, player: String, song: u64, place: Option<(u32, Rate)>) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.retain(|other| other.player != player);
        while shown.len() >= SHOWN {
            shown.remove(0);
        }
        shown.push(Shown { player, song, since_ms: clock::now_ms(), place });
    }

    fn hide(&self, player: &str) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.retain(|other| other.player != player);
    }

    /// What is shown without being counted.
    fn shown(&self) -> Vec<Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
            ask.rest.show(ask.player(), *song, None);
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
    let shelves = ask.both();
    let (mut songs, mut entries) = (Vec::new(), Vec::<NowPlaying>::new());
    let mut add = |player: &str, song: u64, since: u64, place: &dyn Fn(u64, u32) -> Option<Place>| {
        let Some(heard) = ask.song(&shelves, song)? else { return Ok(()) };
        let (ago, duration_ms) = (now.saturating_sub(since), heard.song.duration_ms);
        let place = place(ago, duration_ms);
        // One that says where it is says when it stops.
        if place.is_some() || ago <= u64::from(duration_ms).saturating_add(GRACE_MS) {
            songs.push(heard);
            entries.push(NowPlaying {
                username: ask.device.user.clone(),
                minutes_ago: u32::try_from(ago / 60_000).unwrap_or(u32::MAX),
                player_name: player.to_owned(),
                place,
                ..NowPlaying::default()
            });
        }
        Ok::<_, SubsonicError>(())
    };
    let playing: Vec<Now> = ask.app().plays.now().into_iter().filter(|now| now.playing).collect();
    for Now { player, song, started_ms, position_ms, rate, .. } in &playing {
        let place = Place { position_ms: *position_ms, rate: rate.thousandths() };
        add(player, *song, *started_ms, &|_, _| Some(place))?;
    }
    for other in ask.rest.shown().iter().rev() {
        if !playing.iter().any(|now| now.player == other.player) {
            add(&other.player, other.song, other.since_ms, &|ago, duration| other.place(ago, duration))?;
        }
    }
    let songs = ask.children(&songs)?.into_iter().zip(1..);
    let entries =
        songs.zip(entries).map(|((song, player_id), entry)| NowPlaying { song, player_id, ..entry });
    Ok(Body::NowPlaying(entries.collect()))
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
    let rate = match params.filled("playbackRate") {
        None => Rate::NORMAL,
        Some(text) => text
            .parse()
            .ok()
            .and_then(Rate::new)
            .ok_or_else(|| SubsonicError::wrong("playbackRate", "a number from 0.01 to 16"))?,
    };
    // The beginning of a play, also of the song that was heard last.
    let anew = params.filled("state") == Some("starting");
    let (player, shown_only) = (ask.player(), params.flag("ignoreScrobble")? == Some(true));
    let rest = ask.rest.clone();
    let Some(playing) = playing else {
        rest.hide(&player);
        rest.app.plays.stop(&player);
        return Ok(Body::Empty);
    };
    let find = move || ask.song(&ask.both(), song)?.ok_or_else(SubsonicError::not_found);
    let duration_ms = blocking(find).await?.song.duration_ms;
    let position_ms = u32::try_from(position).unwrap_or(u32::MAX).min(duration_ms);
    if anew || shown_only {
        rest.app.plays.stop(&player);
    }
    if shown_only {
        if playing {
            rest.show(player, song, Some((position_ms, rate)));
        } else {
            rest.hide(&player);
        }
        return Ok(Body::Empty);
    }
    rest.hide(&player);
    let lasts = rate.takes(duration_ms - position_ms) + BEYOND;
    let said = Said { song, position_ms, playing, rate, lasts };
    rest.app.plays.say(&player, said).await.map_err(failed)?;
    Ok(Body::Empty)
}
