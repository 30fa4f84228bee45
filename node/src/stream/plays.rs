//! What is heard where, as players say it.
//!
//! A player says its position again and again; between two words it is taken to go on. A song that others send is
//! accompanied by heartbeats ([`crate::royalty::listen`]), so that whoever sends it is paid. A wallet hears one song at a
//! time: when another player begins, the play of the one before is over.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use antiphon_p2p::status::Path;
use antiphon_proto::{
    coverage::{Beat, Coverage},
    wire::Song,
};
use serde::Serialize;
use tokio::{sync::watch, task::JoinHandle, time::Instant};

use super::Streams;
use crate::{
    failure::{Failure, Kind},
    listener::How,
    peer::{Peer, choice::GetProgress},
    royalty::listen::{self, Encoding, Position},
    system::clock,
};

/// Players at the same time.
const PLAYERS: usize = 32;
/// Letters of a player's name.
const NAME_BYTES: usize = 128;
/// How often a position is carried on.
const EVERY: Duration = Duration::from_millis(200);
/// How often it is looked at over which way a song comes: others begin to send it, and connections get better.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A player that is paused for longer has gone.
const PAUSED: Duration = Duration::from_secs(1_800);

fn ms(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

/// How fast a song is played, in thousandths of its own pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(u32);

impl Rate {
    /// As it was recorded.
    pub const NORMAL: Self = Self(1_000);
    /// The slowest and the fastest that a player can mean, in thousandths.
    const BOUNDS: std::ops::RangeInclusive<u32> = 10..=16_000;

    /// So many times its own pace; none when no player plays like that.
    #[must_use]
    pub fn new(times: f64) -> Option<Self> {
        // What passes of the song in a second.
        let passes = Duration::try_from_secs_f64(times).ok()?;
        let thousandths = u32::try_from(passes.as_millis()).ok()?;
        Self::BOUNDS.contains(&thousandths).then_some(Self(thousandths))
    }

    /// In thousandths.
    #[must_use]
    pub const fn thousandths(self) -> u32 {
        self.0
    }

    /// How much of a song passes in this time.
    fn passes(self, time: Duration) -> Duration {
        time.saturating_mul(self.0) / 1_000
    }

    /// The same in milliseconds.
    #[must_use]
    pub fn of(self, time: Duration) -> u32 {
        ms(self.passes(time))
    }

    /// How long so many milliseconds of a song take.
    #[must_use]
    pub fn takes(self, ms: u32) -> Duration {
        Duration::from_millis(u64::from(ms) * 1_000 / u64::from(self.0))
    }
}

/// What a player says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// Ledger index of the song's block.
    pub song: u64,
    /// Milliseconds from its start.
    pub position_ms: u32,
    /// Whether it can be heard.
    pub playing: bool,
    /// How fast. Whoever plays faster has heard more of the song, but is not paid for more than the time it took.
    pub rate: Rate,
    /// How long it is taken to go on when nothing more is said.
    pub lasts: Duration,
}

/// A song that was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Play {
    /// Ledger index of the song's block.
    pub song: u64,
    /// When it began, milliseconds since 1970.
    pub started_ms: u64,
    /// Different milliseconds of it that were heard.
    pub heard_ms: u64,
    /// Its duration.
    pub duration_ms: u32,
    /// Receipts that are on their way to the council; none for a song from the own library.
    pub receipts: usize,
    /// Units that it burns when it is settled, as things stood when it began.
    pub burn_units: u64,
    /// How it came.
    pub how: How,
    /// Who played it.
    pub player: String,
}

/// Keeps what was heard.
pub trait Journal: Send + Sync {
    /// A play is over. Nothing that was heard for less than a second comes here.
    fn played(&self, play: Play);
}

/// What is playing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Now {
    /// Who plays.
    pub player: String,
    /// Ledger index of the song's block.
    pub song: u64,
    /// Milliseconds from its start.
    pub position_ms: u32,
    /// Whether it can be heard.
    pub playing: bool,
    /// How fast.
    #[serde(skip)]
    pub rate: Rate,
    /// When it began, milliseconds since 1970.
    pub started_ms: u64,
    /// Whether somebody is paid for it.
    pub counted: bool,
    /// Why not, where others send it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uncounted_because: Option<String>,
    /// How it comes: `library`, `direct`, `relayed` or `app`.
    pub how: &'static str,
}

/// What is heard here. A cheap handle.
#[derive(Clone)]
pub struct Plays(Arc<Inner>);

struct Inner {
    peer: Weak<Peer>,
    streams: Streams,
    journal: Arc<dyn Journal>,
    players: Mutex<HashMap<String, Playing>>,
    changed: watch::Sender<u64>,
}

/// A player's song.
struct Playing {
    now: Now,
    number: u64,
    duration_ms: u32,
    said: watch::Sender<(Said, Instant)>,
    _task: JoinHandle<()>,
}

impl Playing {
    fn by_now(&self) -> Now {
        let (said, at) = *self.said.borrow();
        let position_ms = carried_on(&said, at.elapsed(), self.duration_ms).ms;
        Now { position_ms, ..self.now.clone() }
    }
}

impl Plays {
    /// Nothing is heard yet.
    #[must_use]
    pub fn new(peer: &Arc<Peer>, streams: Streams, journal: Arc<dyn Journal>) -> Self {
        Self(Arc::new(Inner {
            peer: Arc::downgrade(peer),
            streams,
            journal,
            players: Mutex::default(),
            changed: watch::Sender::new(0),
        }))
    }

    fn players(&self) -> MutexGuard<'_, HashMap<String, Playing>> {
        self.0.players.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.0.changed.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    /// Changes whenever a song begins, ends, pauses or goes on.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// What is playing, the newest first, and where it is by now.
    #[must_use]
    pub fn now(&self) -> Vec<Now> {
        let mut all: Vec<Now> = self.players().values().map(Playing::by_now).collect();
        all.sort_by_key(|now| std::cmp::Reverse(now.started_ms));
        all
    }

    /// A player says where it is.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is no such song, [`Kind::Failed`] when there are too many players.
    pub async fn say(&self, player: &str, said: Said) -> Result<(), Failure> {
        let end = player.floor_char_boundary(NAME_BYTES);
        let player = &player[..end];
        if self.goes_on(player, said) {
            return Ok(());
        }
        let Some(peer) = self.0.peer.upgrade() else {
            return Err(Failure::new(Kind::Failed, "the peer is stopping"));
        };
        let failed = |error: anyhow::Error| Failure::of(&error);
        let (asked, index) = (peer.clone(), said.song);
        let song = tokio::task::spawn_blocking(move || asked.ledger.song(index)).await;
        let song = song.map_err(|error| failed(error.into()))?.map_err(|error| failed(error.into()))?;
        let none = || Failure::new(Kind::NotFound, format!("block {index} is not a song of the ledger"));
        self.begin(&peer, player, said, song.ok_or_else(none)?).await
    }

    /// Whether it is the song that the player was at.
    fn goes_on(&self, player: &str, said: Said) -> bool {
        let mut players = self.players();
        let Some(playing) = players.get_mut(player).filter(|playing| playing.now.song == said.song) else {
            return false;
        };
        let changed = playing.now.playing != said.playing;
        (playing.now.position_ms, playing.now.playing) = (said.position_ms, said.playing);
        playing.now.rate = said.rate;
        let heard = playing.said.send((said, Instant::now())).is_ok();
        if !heard {
            players.remove(player);
        }
        drop(players);
        if changed {
            self.tell();
        }
        heard
    }

    async fn begin(&self, peer: &Arc<Peer>, player: &str, said: Said, song: Song) -> Result<(), Failure> {
        let (say, hear) = watch::channel((said, Instant::now()));
        let Begun { counting, why, burn_units, how, sources } = self.counting(peer, said.song, &song).await;
        let number = rand::random();
        let now = Now {
            player: player.to_owned(),
            song: said.song,
            position_ms: said.position_ms,
            playing: said.playing,
            rate: said.rate,
            started_ms: clock::now_ms(),
            counted: counting.is_some(),
            uncounted_because: why,
            how: how.name(),
        };
        let play = Play {
            song: said.song,
            started_ms: now.started_ms,
            heard_ms: 0,
            duration_ms: song.duration_ms,
            receipts: 0,
            burn_units,
            how,
            player: player.to_owned(),
        };
        let mut players = self.players();
        if players.len() >= PLAYERS && !players.contains_key(player) {
            return Err(Failure::new(Kind::Failed, format!("{PLAYERS} players are playing already")));
        }
        if now.counted {
            // One wallet hears one song at a time.
            players.retain(|name, other| name == player || !other.now.counted);
        }
        let task = Accompanied { plays: self.clone(), number, hear, play, counting, sources };
        let task = tokio::spawn(task.run());
        let duration_ms = song.duration_ms;
        players.insert(player.to_owned(), Playing { now, number, duration_ms, said: say, _task: task });
        drop(players);
        self.tell();
        Ok(())
    }

    /// Begins to have a song paid for, if others send it; else why not.
    async fn counting(&self, peer: &Arc<Peer>, index: u64, song: &Song) -> Begun {
        // It is read already, or will be at once.
        let opened = match self.0.streams.open(index).await {
            Ok(opened) if opened.is_from_others() => opened,
            Ok(_) => return Begun::uncounted(How::Library, None),
            Err(failure) => return Begun::uncounted(How::App, Some(failure.message)),
        };
        let (sources, content) = (opened.progress(), opened.content);
        let sending = sources.borrow().clone();
        let how = how(peer, &sending).await.unwrap_or(How::Direct);
        let mut begun = Begun { sources: Some(sources.clone()), ..Begun::uncounted(how, None) };
        let Some(royalties) = peer.royalties.clone() else { return begun };
        let (asked, song) = (royalties.clone(), song.clone());
        let encoding = Encoding { index, content };
        let ledger = peer.ledger.clone();
        let found = tokio::task::spawn_blocking(move || {
            let song = asked.song(index, &song, encoding)?;
            anyhow::Ok((song, ledger.burn_for(index)?))
        });
        match found.await.map_err(anyhow::Error::from).and_then(|found| found) {
            Ok((song, burn)) => {
                let (position_in, position) = watch::channel(Position::default());
                let (peers, outbox) = (royalties.peers, royalties.outbox);
                // Not ended with the player: what was heard until then is handed in.
                let report = tokio::spawn(listen::listen(peers, song, position, sources, outbox));
                begun.counting = Some(Counting { position: position_in, report });
                begun.burn_units = burn;
            }
            Err(error) => begun.why = Some(Failure::of(&error).message),
        }
        begun
    }

    /// A song comes another way than it was said.
    fn came(&self, player: &str, number: u64, how: How) {
        let mut players = self.players();
        if let Some(playing) = players.get_mut(player).filter(|playing| playing.number == number) {
            playing.now.how = how.name();
            drop(players);
            self.tell();
        }
    }

    /// A player has stopped, or is at no song any more.
    pub fn stop(&self, player: &str) {
        let stopped = self.players().remove(player).is_some();
        if stopped {
            self.tell();
        }
    }

    fn ended(&self, player: &str, number: u64) {
        let mut players = self.players();
        if players.get(player).is_some_and(|playing| playing.number == number) {
            players.remove(player);
            drop(players);
            self.tell();
        }
    }
}

/// Over which way a song comes; nothing while nobody has sent any of it.
async fn how(peer: &Peer, progress: &GetProgress) -> Option<How> {
    let sending = || progress.sources.iter().filter(|source| source.bytes > 0);
    sending().next()?;
    let Some(network) = &peer.network else { return Some(How::Direct) };
    let peers = network.peers().await;
    let relayed = peers.iter().any(|known| {
        known.path == Path::Relayed && sending().any(|source| source.peer == known.peer.to_string())
    });
    Some(if relayed { How::Relayed } else { How::Direct })
}

/// How a play begins.
struct Begun {
    /// Nothing: nobody is paid for it.
    counting: Option<Counting>,
    /// Why not, where others send it.
    why: Option<String>,
    burn_units: u64,
    how: How,
    /// Who sends it, where others do.
    sources: Option<watch::Receiver<GetProgress>>,
}

impl Begun {
    fn uncounted(how: How, why: Option<String>) -> Self {
        Self { counting: None, why, burn_units: 0, how, sources: None }
    }
}

/// Heartbeats, and what becomes of them.
struct Counting {
    position: watch::Sender<Position>,
    report: JoinHandle<listen::Report>,
}

/// One song of one player.
struct Accompanied {
    plays: Plays,
    number: u64,
    hear: watch::Receiver<(Said, Instant)>,
    play: Play,
    counting: Option<Counting>,
    /// Who sends it; nothing once it is known how it has come.
    sources: Option<watch::Receiver<GetProgress>>,
}

impl Accompanied {
    async fn run(mut self) {
        let mut looked = Instant::now();
        let mut coverage = Coverage::new(self.play.duration_ms);
        let mut clock = Clock::new(*self.hear.borrow());
        loop {
            let (said, at) = *self.hear.borrow_and_update();
            let silent = at.elapsed();
            let position = carried_on(&said, silent, self.play.duration_ms);
            coverage.beat(Beat { position_ms: position.ms, elapsed_ms: clock.said(said, at, silent) });
            if let Some(counting) = &self.counting {
                counting.position.send_replace(position);
            }
            if silent > said.lasts.max(if said.playing { Duration::ZERO } else { PAUSED }) {
                break;
            }
            if let Ok(Err(_)) = tokio::time::timeout(EVERY, self.hear.changed()).await {
                break;
            }
            if looked.elapsed() >= LOOK_EVERY {
                self.look().await;
                looked = Instant::now();
            }
        }
        self.plays.ended(&self.play.player, self.number);
        self.play.heard_ms = coverage.heard().total_ms();
        if let Some(Counting { position, report }) = self.counting.take() {
            drop(position);
            let report = report.await.unwrap_or_default();
            self.play.receipts = report.receipts;
        }
        if self.play.heard_ms >= 1_000 {
            self.plays.0.journal.played(self.play);
        }
    }

    /// Looks at over which way the song comes.
    async fn look(&mut self) {
        let (Some(sources), Some(peer)) = (&self.sources, self.plays.0.peer.upgrade()) else { return };
        let progress = sources.borrow().clone();
        let Some(how) = how(&peer, &progress).await else { return };
        if how != self.play.how {
            self.play.how = how;
            self.plays.came(&self.play.player, self.number, how);
        }
        // All of it is here: whoever sent it may go.
        if progress.verified_bytes >= progress.total {
            self.sources = None;
        }
    }
}

/// Time at the pace of the song, by which it is told what was heard of it. (What is paid for goes by the time of its
/// witness.)
struct Clock {
    /// Until the last word.
    passed: Duration,
    said: Said,
    at: Instant,
}

impl Clock {
    fn new((said, at): (Said, Instant)) -> Self {
        Self { passed: Duration::ZERO, said, at }
    }

    /// Milliseconds that have passed when this was said last, so long ago.
    fn said(&mut self, said: Said, at: Instant, silent: Duration) -> u32 {
        self.passed += self.said.rate.passes(at.saturating_duration_since(self.at));
        (self.said, self.at) = (said, at);
        ms(self.passed + said.rate.passes(silent))
    }
}

/// Where a player is that has said nothing for a while.
fn carried_on(said: &Said, silent: Duration, duration_ms: u32) -> Position {
    let on = if said.playing { silent.min(said.lasts) } else { Duration::ZERO };
    let ms = said.position_ms.saturating_add(said.rate.of(on)).min(duration_ms);
    Position { ms, playing: said.playing && silent <= said.lasts }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(playing: bool, times: f64) -> Said {
        let rate = Rate::new(times).unwrap();
        Said { song: 1, position_ms: 5_000, playing, rate, lasts: Duration::from_secs(3) }
    }

    #[test]
    fn a_player_goes_on_for_as_long_as_it_said() {
        let at = |playing, seconds| carried_on(&said(playing, 1.0), Duration::from_secs(seconds), 7_000);
        assert_eq!(at(true, 1), Position { ms: 6_000, playing: true });
        assert_eq!(at(true, 3), Position { ms: 7_000, playing: true });
        assert_eq!(at(true, 4), Position { ms: 7_000, playing: false });
        assert_eq!(at(false, 1), Position { ms: 5_000, playing: false });
    }

    #[test]
    fn as_fast_as_it_plays() {
        let at = |times, seconds| carried_on(&said(true, times), Duration::from_secs(seconds), 60_000).ms;
        assert_eq!((at(2.0, 3), at(0.5, 2), at(1.25, 2)), (11_000, 6_000, 7_500));
        assert_eq!(Rate::new(2.0).unwrap().takes(5_000), Duration::from_millis(2_500));
        for none in [0.0, -1.0, 0.001, 17.0, f64::NAN, f64::INFINITY, 1e300] {
            assert_eq!(Rate::new(none), None, "{none}");
        }
    }

    /// Milliseconds that are heard of 100 seconds in so many seconds, with a beat each so many milliseconds, by the song's
    /// clock or by the wall's.
    fn heard(times: f64, seconds: u32, every_ms: usize, by_song: bool) -> u64 {
        let word = Said { position_ms: 0, lasts: Duration::from_secs(1_000), ..said(true, times) };
        let start = Instant::now();
        let (mut coverage, mut clock) = (Coverage::new(100_000), Clock::new((word, start)));
        for wall_ms in (0..=seconds * 1_000).step_by(every_ms) {
            let silent = Duration::from_millis(wall_ms.into());
            let position_ms = carried_on(&word, silent, 100_000).ms;
            let elapsed_ms = if by_song { clock.said(word, start, silent) } else { wall_ms };
            coverage.beat(Beat { position_ms, elapsed_ms });
        }
        coverage.heard().total_ms()
    }

    #[test]
    fn what_is_heard_and_what_is_paid() {
        let told = |times, seconds| heard(times, seconds, 200, true);
        assert_eq!((told(1.0, 40), told(0.5, 40), told(2.0, 40)), (40_000, 20_000, 80_000));
        assert_eq!((told(2.0, 50), told(2.0, 60), told(1.1, 40)), (100_000, 100_000, 44_000));
        // A witness knows no pace, only time, and lets a beat be two seconds ahead.
        let paid = |times, seconds| heard(times, seconds, 5_000, false);
        assert_eq!((paid(1.0, 40), paid(0.5, 40), paid(2.0, 40)), (40_000, 20_000, 42_000));
    }

    #[test]
    fn a_pace_that_changes() {
        let (start, slow, fast) = (Instant::now(), said(true, 0.5), said(true, 2.0));
        let mut clock = Clock::new((slow, start));
        let second = Duration::from_secs(1);
        assert_eq!(clock.said(slow, start, 4 * second), 2_000);
        assert_eq!(clock.said(fast, start + 4 * second, Duration::ZERO), 2_000);
        assert_eq!(clock.said(fast, start + 4 * second, second), 4_000);
    }
}
