//! Says the heartbeats of a song that is heard, and collects the receipts.
//!
//! The source that has brought most is asked to witness. When it goes away, the next one is, under the same session and
//! with a receipt of its own. What the two have signed goes to the outbox as soon as its witness is gone.
//!
//! One task owns everything here ([`Play`]); wallets are asked for beside it, so that no heartbeat waits for them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use antiphon_p2p::{
    Network, PlayError, PlayStream, RequestError,
    play::{Listening, PlayRefused},
};
use antiphon_proto::{
    ContentHash, NetworkId, PublicKey, SecretKey, SongId,
    coverage::Heard,
    limits,
    play::Session,
    wire::{PlayBeat, PlayRefusalCode, PlayStart, Receipt},
};
use futures::future::BoxFuture;
use libp2p::PeerId;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::outbox::Outbox;
use crate::{peer::choice::GetProgress, system::clock};

/// A source that did not witness, or did not say its wallet, is asked again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Sources whose wallets are asked for: a receipt names eight, and some never answer.
const WALLETS: usize = 2 * limits::RECEIPT_SERVED;

/// Where whoever plays is in the song. It should be said once in a second: what a heartbeat finds is what was said last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// Milliseconds from its start.
    pub ms: u32,
    /// Whether it can be heard.
    pub playing: bool,
}

/// Which encoding is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    /// Ledger index of its block.
    pub index: u64,
    /// BLAKE3 of its file.
    pub content: ContentHash,
}

/// What is heard, and who hears it.
#[derive(Debug, Clone)]
pub struct Song {
    /// The network.
    pub network: NetworkId,
    /// Ledger index of the encoding, for the log.
    pub index: u64,
    /// The song.
    pub id: SongId,
    /// Its duration.
    pub duration_ms: u32,
    /// BLAKE3 of the encoding.
    pub content: ContentHash,
    /// From one heartbeat to the next, by the network's rules.
    pub heartbeat_ms: u32,
    /// The listener's wallet.
    pub wallet: Arc<SecretKey>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Different milliseconds of the song that its receipts prove.
    pub heard_ms: u64,
    /// Receipts that are kept to be handed in.
    pub receipts: usize,
}

/// The peers that may witness.
pub trait Witnesses: Clone + Send + Sync + 'static {
    /// A play that one of them witnesses.
    type Play: Witnessed;

    /// Whose wallet a peer is paid to.
    fn wallet_of(&self, peer: PeerId) -> BoxFuture<'static, Result<PublicKey, RequestError>>;

    /// Begins a play.
    fn begin(&self, peer: PeerId, start: PlayStart) -> BoxFuture<'static, Result<Self::Play, PlayError>>;
}

/// A play that a peer witnesses.
pub trait Witnessed: Send + 'static {
    /// Says a heartbeat, and gives the witness's signature.
    fn beat(&mut self, beat: PlayBeat) -> BoxFuture<'_, Result<Vec<u8>, PlayError>>;

    /// Ends in order.
    fn end(self) -> BoxFuture<'static, ()>;
}

/// The peers of a network.
#[derive(Clone)]
pub struct Connected {
    network: Network,
    id: NetworkId,
}

impl Connected {
    /// Those connected with this peer.
    #[must_use]
    pub fn new(network: Network, id: NetworkId) -> Self {
        Self { network, id }
    }
}

impl Witnesses for Connected {
    type Play = PlayStream;

    fn wallet_of(&self, peer: PeerId) -> BoxFuture<'static, Result<PublicKey, RequestError>> {
        let (network, id) = (self.network.clone(), self.id);
        Box::pin(async move { network.wallet_of(peer, id).await })
    }

    fn begin(&self, peer: PeerId, start: PlayStart) -> BoxFuture<'static, Result<PlayStream, PlayError>> {
        let network = self.network.clone();
        Box::pin(async move { network.begin_play(peer, start).await })
    }
}

impl Witnessed for PlayStream {
    fn beat(&mut self, beat: PlayBeat) -> BoxFuture<'_, Result<Vec<u8>, PlayError>> {
        Box::pin(Self::beat(self, beat))
    }

    fn end(self) -> BoxFuture<'static, ()> {
        Box::pin(Self::end(self))
    }
}

/// Accompanies a song until whoever plays drops the other end of `position`. Best spawned: nothing waits for it. If it is
/// dropped before, the last receipt is left to its witness.
pub async fn listen<W: Witnesses>(
    witnesses: W,
    song: Song,
    position: watch::Receiver<Position>,
    sources: watch::Receiver<GetProgress>,
    outbox: Arc<Outbox>,
) -> Report {
    let (began, wall_ms) = (Instant::now(), clock::now_ms());
    let mut play = Play {
        witnesses,
        song,
        position,
        sources,
        outbox,
        session: rand::random(),
        began,
        wall_ms,
        last_end_ms: 0,
        wallets: HashMap::new(),
        asking: JoinSet::new(),
        failed: HashMap::new(),
        heard: Heard::default(),
        receipts: 0,
    };
    play.run().await;
    let report = Report { heard_ms: play.heard.total_ms(), receipts: play.receipts };
    tracing::debug!(index = play.song.index, heard_ms = report.heard_ms, receipts = report.receipts, "heard");
    report
}

/// A song that is heard.
struct Play<W: Witnesses> {
    witnesses: W,
    song: Song,
    position: watch::Receiver<Position>,
    sources: watch::Receiver<GetProgress>,
    outbox: Arc<Outbox>,
    session: Session,
    began: Instant,
    /// What the clock said then; a clock that is set meanwhile changes nothing.
    wall_ms: u64,
    /// Of the receipt before.
    last_end_ms: u64,
    /// What the sources said; none: it did not say, at that time.
    wallets: HashMap<PeerId, Result<PublicKey, Instant>>,
    asking: JoinSet<(PeerId, Result<PublicKey, RequestError>)>,
    /// Sources that are not asked to witness until then.
    failed: HashMap<PeerId, Instant>,
    heard: Heard,
    receipts: usize,
}

/// A play with one witness.
struct Turn<P> {
    peer: PeerId,
    stream: P,
    listening: Listening,
    began: Instant,
}

/// How a turn went on.
enum Next {
    Over,
    WitnessGone,
}

impl<W: Witnesses> Play<W> {
    async fn run(&mut self) {
        if self.position.wait_for(|position| position.playing).await.is_err() {
            return;
        }
        while self.receipts < limits::PLAY_RECEIPTS {
            self.learn_wallets();
            let begun = match self.pick() {
                Some((peer, wallet)) => self.begin(peer, wallet).await,
                None => None,
            };
            let over = match begun {
                Some(turn) => matches!(self.accompany(turn).await, Next::Over),
                None => self.wait_a_moment().await,
            };
            if over {
                return;
            }
        }
        tracing::debug!(index = self.song.index, "too many witnesses went away; the rest is not counted");
    }

    fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.song.heartbeat_ms.max(1).into())
    }

    /// Sources with bytes, the most first.
    fn ranked(&self) -> Vec<(PeerId, u64)> {
        let progress = self.sources.borrow();
        let lines = progress.sources.iter().filter(|line| line.bytes > 0);
        let mut ranked: Vec<(PeerId, u64)> =
            lines.filter_map(|line| Some((line.peer.parse().ok()?, line.bytes))).collect();
        drop(progress);
        ranked.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        ranked
    }

    /// Takes in what sources said of their wallets, and asks those that have not.
    fn learn_wallets(&mut self) {
        while let Some(answer) = self.asking.try_join_next() {
            self.learnt(answer);
        }
        let now = Instant::now();
        for (peer, _) in self.ranked().into_iter().take(WALLETS) {
            let due = match self.wallets.get(&peer) {
                None => true,
                Some(Ok(_)) => false,
                Some(Err(asked)) => now >= *asked + AGAIN_AFTER,
            };
            if due && self.asking.len() < WALLETS {
                // Not again while it is on its way.
                self.wallets.insert(peer, Err(now));
                let asking = self.witnesses.wallet_of(peer);
                self.asking.spawn(async move { (peer, asking.await) });
            }
        }
    }

    fn learnt(&mut self, answer: Result<(PeerId, Result<PublicKey, RequestError>), tokio::task::JoinError>) {
        match answer {
            Ok((peer, Ok(key))) => {
                self.wallets.insert(peer, Ok(key));
            }
            Ok((peer, Err(error))) => tracing::debug!(%peer, %error, "a source does not say its wallet"),
            Err(error) => tracing::debug!(%error, "asking for a wallet failed"),
        }
    }

    /// Who has served so much, as far as their wallets are known.
    fn served(&self) -> Vec<(PublicKey, u64)> {
        let known = |(peer, bytes): (PeerId, u64)| match self.wallets.get(&peer) {
            Some(Ok(key)) => Some((*key, bytes)),
            _ => None,
        };
        self.ranked().into_iter().filter_map(known).collect()
    }

    /// The source that has brought most, of those that may witness.
    fn pick(&self) -> Option<(PeerId, PublicKey)> {
        let (now, own) = (Instant::now(), self.song.wallet.public());
        self.ranked().into_iter().find_map(|(peer, _)| {
            let rests = self.failed.get(&peer).is_some_and(|until| now < *until);
            match self.wallets.get(&peer) {
                // Another device of this listener's witnesses nothing.
                Some(Ok(key)) if *key != own && !rests => Some((peer, *key)),
                _ => None,
            }
        })
    }

    async fn begin(&mut self, peer: PeerId, wallet: PublicKey) -> Option<Turn<W::Play>> {
        let passed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut start = PlayStart {
            session: self.session.to_vec(),
            song_id: self.song.id.0.to_vec(),
            content_hash: self.song.content.0.to_vec(),
            listener: self.song.wallet.public().0.to_vec(),
            witness: wallet.0.to_vec(),
            start_ms: self.wall_ms.saturating_add(passed).max(self.last_end_ms.saturating_add(1)),
            signature: Vec::new(),
        };
        start.sign(&self.song.network, &self.song.wallet);
        match self.witnesses.begin(peer, start.clone()).await {
            Ok(stream) => {
                let listening = Listening::new(self.song.network, start, self.song.duration_ms);
                tracing::debug!(%peer, index = self.song.index, "witnesses what is heard");
                Some(Turn { peer, stream, listening, began: Instant::now() })
            }
            Err(error) => {
                self.fails(peer, &error);
                None
            }
        }
    }

    /// This source does not witness, for a time.
    fn fails(&mut self, peer: PeerId, error: &PlayError) {
        tracing::debug!(%peer, %error, index = self.song.index, "a source does not witness");
        let pause = match error {
            // The end of the song before was not noticed yet, or of a connection.
            PlayError::Refused(PlayRefused { code: PlayRefusalCode::TwoSessions, .. }) => self.heartbeat(),
            _ => AGAIN_AFTER,
        };
        self.failed.insert(peer, Instant::now() + pause);
    }

    /// Until there may be a witness; true when the song is over.
    async fn wait_a_moment(&mut self) -> bool {
        let later = Instant::now() + self.heartbeat();
        tokio::select! {
            ended = ended(&mut self.position) => ended,
            Some(answer) = self.asking.join_next(), if !self.asking.is_empty() => {
                self.learnt(answer);
                false
            }
            () = sleep_until(later) => false,
        }
    }

    /// Says heartbeats to one witness, until it or the song is over.
    async fn accompany(&mut self, mut turn: Turn<W::Play>) -> Next {
        let mut over = false;
        let next = loop {
            self.learn_wallets();
            if let Err(error) = self.beat(&mut turn).await {
                self.fails(turn.peer, &error);
                break if over { Next::Over } else { Next::WitnessGone };
            }
            if over {
                break Next::Over;
            }
            let due = Instant::now() + self.heartbeat();
            over = tokio::select! {
                ended = ended(&mut self.position) => ended,
                () = sleep_until(due) => false,
            };
        };
        let Turn { stream, listening, .. } = turn;
        self.last_end_ms = listening.end_ms();
        if matches!(next, Next::Over) {
            stream.end().await;
        }
        if let Some(receipt) = listening.into_receipt() {
            self.keep(receipt).await;
        }
        next
    }

    async fn beat(&self, turn: &mut Turn<W::Play>) -> Result<(), PlayError> {
        let elapsed = u32::try_from(turn.began.elapsed().as_millis()).unwrap_or(u32::MAX);
        let position = *self.position.borrow();
        let mut beat = turn.listening.beat(position.ms, elapsed, &self.served());
        turn.listening.sign(&mut beat, &self.song.wallet);
        let signature = turn.stream.beat(beat.clone()).await?;
        let answered = turn.listening.answered(beat, &signature);
        answered.map_err(|error| RequestError::Malformed(error.to_string()).into())
    }

    async fn keep(&mut self, receipt: Receipt) {
        let heard = receipt.body().and_then(antiphon_proto::wire::ReceiptBody::heard).unwrap_or_default();
        let outbox = self.outbox.clone();
        match tokio::task::spawn_blocking(move || outbox.put(&receipt)).await {
            Ok(Ok(_)) => {
                self.heard.merge(&heard);
                self.receipts += 1;
            }
            Ok(Err(error)) => tracing::warn!(%error, "the receipt of a play is lost"),
            Err(error) => tracing::warn!(%error, "the receipt of a play is lost"),
        }
    }
}

/// Waits until whoever plays is done.
async fn ended(position: &mut watch::Receiver<Position>) -> bool {
    while position.changed().await.is_ok() {}
    true
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, sync::Mutex};

    use antiphon_p2p::{Hearing, play::Witnessing};
    use tokio::time::sleep;

    use super::{super::outbox::tests::NETWORK, *};
    use crate::peer::choice::SourceLine;

    const DURATION_MS: u32 = 3_600_000;
    const HEARTBEAT_MS: u32 = 5_000;

    /// A witness that is as strict as the real one, and goes away after some heartbeats.
    #[derive(Clone)]
    struct Peers(Arc<Mutex<World>>);

    #[derive(Default)]
    struct World {
        /// Key, and how many heartbeats of each play it answers; none: it does not say its wallet.
        peers: HashMap<PeerId, (Option<u8>, VecDeque<u32>)>,
        begun: Vec<(PeerId, PlayStart)>,
        ended: usize,
    }

    struct Fake {
        world: Arc<Mutex<World>>,
        key: SecretKey,
        witnessing: Witnessing,
        answers: u32,
    }

    fn away() -> PlayError {
        RequestError::Closed { what: "reply", reason: "gone".to_owned() }.into()
    }

    fn wallet(n: u8) -> SecretKey {
        SecretKey::from_seed(&[n; 32])
    }

    impl Peers {
        fn of(peers: &[(PeerId, Option<u8>, &[u32])]) -> Self {
            let peers =
                peers.iter().map(|(peer, key, answers)| (*peer, (*key, answers.iter().copied().collect())));
            Self(Arc::new(Mutex::new(World { peers: peers.collect(), ..World::default() })))
        }

        fn begun(&self) -> Vec<(PeerId, PlayStart)> {
            self.0.lock().unwrap().begun.clone()
        }
    }

    impl Witnesses for Peers {
        type Play = Fake;

        fn wallet_of(&self, peer: PeerId) -> BoxFuture<'static, Result<PublicKey, RequestError>> {
            let key = self.0.lock().unwrap().peers.get(&peer).and_then(|(key, _)| *key);
            Box::pin(async move { Ok(wallet(key.ok_or(RequestError::NotConnected(peer))?).public()) })
        }

        fn begin(&self, peer: PeerId, start: PlayStart) -> BoxFuture<'static, Result<Fake, PlayError>> {
            let world = self.0.clone();
            Box::pin(async move {
                let mut locked = world.lock().unwrap();
                let (key, answers) = locked.peers.get_mut(&peer).unwrap();
                let (key, answers) = (wallet(key.unwrap()), answers.pop_front().ok_or_else(away)?);
                locked.begun.push((peer, start.clone()));
                let hearing = Hearing { duration_ms: DURATION_MS, heartbeat_ms: HEARTBEAT_MS };
                let (wall_ms, now) = (start.start_ms, Instant::now().into_std());
                let witnessing = Witnessing::begin(NETWORK, start, hearing, wall_ms, now)?;
                drop(locked);
                Ok(Fake { world, key, witnessing, answers })
            })
        }
    }

    impl Witnessed for Fake {
        fn beat(&mut self, beat: PlayBeat) -> BoxFuture<'_, Result<Vec<u8>, PlayError>> {
            Box::pin(async move {
                self.answers = self.answers.checked_sub(1).ok_or_else(away)?;
                let body = self.witnessing.beat(&beat, Instant::now().into_std())?;
                Ok(body.map(|body| self.key.sign(&body.to_sign(&NETWORK)).to_vec()).unwrap_or_default())
            })
        }

        fn end(self) -> BoxFuture<'static, ()> {
            self.world.lock().unwrap().ended += 1;
            Box::pin(async {})
        }
    }

    struct Room {
        _folder: tempfile::TempDir,
        outbox: Arc<Outbox>,
        song: Song,
    }

    fn room() -> Room {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Arc::new(Outbox::open(folder.path(), NETWORK).unwrap());
        let song = Song {
            network: NETWORK,
            index: 5,
            id: SongId([2; 32]),
            duration_ms: DURATION_MS,
            content: ContentHash([9; 32]),
            heartbeat_ms: HEARTBEAT_MS,
            wallet: Arc::new(wallet(3)),
        };
        Room { _folder: folder, outbox, song }
    }

    fn progress(lines: &[(PeerId, u64)]) -> GetProgress {
        let lines = lines.iter().map(|(peer, bytes)| SourceLine { peer: peer.to_string(), bytes: *bytes });
        GetProgress { sources: lines.collect(), ..GetProgress::default() }
    }

    /// Plays for so many seconds from the start, as a player does that says where it is once a second.
    async fn plays(seconds: u32, position: watch::Sender<Position>) {
        for second in 0..=seconds {
            position.send_replace(Position { ms: second * 1_000, playing: true });
            if second < seconds {
                sleep(Duration::from_secs(1)).await;
            }
        }
        sleep(Duration::from_millis(1)).await;
    }

    async fn hear(room: &Room, peers: &Peers, lines: &[(PeerId, u64)], seconds: u32) -> Report {
        let (position, where_it_is) = watch::channel(Position::default());
        let (_sources, sources) = watch::channel(progress(lines));
        let listening = listen(peers.clone(), room.song.clone(), where_it_is, sources, room.outbox.clone());
        tokio::join!(listening, plays(seconds, position)).0
    }

    #[tokio::test(start_paused = true)]
    async fn a_song_is_heard_with_whoever_brought_most() {
        let room = room();
        let (one, two, three) = (PeerId::random(), PeerId::random(), PeerId::random());
        let peers = Peers::of(&[(one, Some(4), &[]), (two, Some(5), &[1_000]), (three, None, &[])]);
        let report = hear(&room, &peers, &[(one, 10), (two, 30), (three, 20)], 60).await;
        assert_eq!(report.receipts, 1);
        assert!((59_000..=60_000).contains(&report.heard_ms), "{report:?}");
        assert_eq!((room.outbox.len(), peers.0.lock().unwrap().ended), (1, 1));
        let begun = peers.begun();
        assert_eq!((begun.len(), begun[0].0), (1, two));
    }

    #[tokio::test(start_paused = true)]
    async fn another_source_goes_on_when_the_witness_is_gone() {
        let room = room();
        let (one, two) = (PeerId::random(), PeerId::random());
        let peers = Peers::of(&[(one, Some(4), &[5, 1_000]), (two, Some(5), &[4, 0])]);
        let report = hear(&room, &peers, &[(one, 30), (two, 20)], 120).await;
        let begun = peers.begun();
        let who: Vec<PeerId> = begun.iter().map(|(peer, _)| *peer).collect();
        // The first has failed, and is asked again a minute later.
        assert_eq!(who, [one, two, one]);
        assert!(begun.iter().all(|(_, start)| start.session == begun[0].1.session));
        assert!(begun.is_sorted_by(|a, b| a.1.start_ms < b.1.start_ms));
        assert_eq!((report.receipts, room.outbox.len()), (3, 3));
        // 20 s and 15 s, then from a minute after the first failure on.
        assert!((65_000..=100_000).contains(&report.heard_ms), "{report:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_witness_nothing_counts_and_nothing_stops() {
        let room = room();
        let (own, mute) = (PeerId::random(), PeerId::random());
        let peers = Peers::of(&[(own, Some(3), &[1_000]), (mute, None, &[])]);
        let report = hear(&room, &peers, &[(own, 30), (mute, 20)], 30).await;
        assert_eq!((report, room.outbox.len()), (Report::default(), 0));
        assert_eq!(hear(&room, &peers, &[], 30).await, Report::default());
    }

    #[tokio::test(start_paused = true)]
    async fn witnesses_that_always_go_away_are_not_asked_for_ever() {
        let room = room();
        let peer = PeerId::random();
        let peers = Peers::of(&[(peer, Some(4), &[2; 100])]);
        let report = hear(&room, &peers, &[(peer, 30)], 3_600).await;
        assert_eq!((report.receipts, peers.begun().len()), (limits::PLAY_RECEIPTS, limits::PLAY_RECEIPTS));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_not_heard() {
        let room = room();
        let peer = PeerId::random();
        let peers = Peers::of(&[(peer, Some(4), &[1_000])]);
        let (position, where_it_is) = watch::channel(Position::default());
        let (_sources, sources) = watch::channel(progress(&[(peer, 30)]));
        let listening = listen(peers.clone(), room.song.clone(), where_it_is, sources, room.outbox.clone());
        let player = async {
            for second in 0..=10 {
                position.send_replace(Position { ms: second * 1_000, playing: second < 10 });
                sleep(Duration::from_secs(1)).await;
            }
            // A long telephone call.
            sleep(Duration::from_secs(3_600)).await;
            drop(position);
        };
        let (report, ()) = tokio::join!(listening, player);
        assert_eq!((report.heard_ms, report.receipts), (10_000, 1));
    }
}
