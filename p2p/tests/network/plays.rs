//! `/antiphon/play/1`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use antiphon_p2p::{
    Hearing, PlayError, PlayStream, RequestError,
    play::{BEATS_AT_ONCE, CLOCK_APART_MS, Listening},
};
use antiphon_proto::{
    NetworkId, SecretKey,
    wire::{
        PlayBeat, PlayMessage, PlayRefusalCode, PlayReply, PlayStart, Receipt, StreamErrorCode, WhoRequest,
        play_message, play_reply,
    },
};
use futures::AsyncWriteExt;
use tokio::time::{Instant, sleep};

use crate::{
    harness::{Peer, QUIC, TCP, eventually, peer, within},
    raw::{self, RawPeer},
};

const HEARING: Hearing = Hearing { duration_ms: 60_000, heartbeat_ms: 100 };
const BEAT: Duration = Duration::from_millis(100);

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// A peer that witnesses plays.
async fn witness(transport: &str) -> Peer {
    let witness = peer(&[transport]).await;
    *witness.scribe.hearing.lock().unwrap() = Some(HEARING);
    witness
}

fn listener() -> SecretKey {
    SecretKey::from_seed(&[3; 32])
}

/// What begins a play at this witness.
async fn start(from: &Peer, witness: &Peer, key: &SecretKey) -> PlayStart {
    let network = from.ledger.network();
    let wallet = within(from.network.wallet_of(witness.id(), network)).await.unwrap();
    let mut start = PlayStart {
        session: vec![7; 16],
        song_id: vec![2; 32],
        content_hash: vec![9; 32],
        listener: key.public().0.to_vec(),
        witness: wallet.0.to_vec(),
        start_ms: now_ms(),
        signature: Vec::new(),
    };
    start.sign(&network, key);
    start
}

/// Somebody who listens, in real time.
struct Ear {
    key: SecretKey,
    stream: PlayStream,
    listening: Listening,
    began: Instant,
}

impl Ear {
    async fn begin(from: &Peer, witness: &Peer, key: SecretKey) -> Result<Self, PlayError> {
        let start = start(from, witness, &key).await;
        let stream = within(from.network.begin_play(witness.id(), start.clone())).await?;
        let listening = Listening::new(from.ledger.network(), start, HEARING.duration_ms);
        Ok(Self { key, stream, listening, began: Instant::now() })
    }

    fn next(&mut self) -> PlayBeat {
        let elapsed = u32::try_from(self.began.elapsed().as_millis()).unwrap();
        let served = [(SecretKey::from_seed(&[8; 32]).public(), 1_000)];
        let mut beat = self.listening.beat(elapsed, elapsed, &served);
        self.listening.sign(&mut beat, &self.key);
        beat
    }

    async fn say(&mut self, beat: PlayBeat) -> Result<(), PlayError> {
        let signature = within(self.stream.beat(beat.clone())).await?;
        self.listening.answered(beat, &signature).unwrap();
        Ok(())
    }

    async fn beat(&mut self) -> Result<(), PlayError> {
        let beat = self.next();
        self.say(beat).await
    }
}

fn code<T: std::fmt::Debug>(answer: Result<T, PlayError>) -> PlayRefusalCode {
    let Err(PlayError::Refused(refused)) = answer else { panic!("{answer:?}") };
    refused.code
}

async fn done(witness: &Peer) -> Vec<Receipt> {
    eventually(|| async { !witness.scribe.done.lock().unwrap().is_empty() }).await;
    // Only once.
    sleep(BEAT).await;
    witness.scribe.done.lock().unwrap().clone()
}

#[tokio::test]
async fn a_whole_play_is_a_receipt_that_both_have() {
    for transport in [QUIC, TCP] {
        let (one, two) = (witness(transport).await, peer(&[]).await);
        two.join(&one).await;
        let mut ear = Ear::begin(&two, &one, listener()).await.unwrap();
        ear.beat().await.unwrap();
        assert_eq!(ear.listening.receipt(), None);
        for _ in 0..5 {
            sleep(BEAT).await;
            ear.beat().await.unwrap();
        }
        assert!(one.scribe.done.lock().unwrap().is_empty());
        ear.stream.end().await;
        let receipt = ear.listening.into_receipt().unwrap();
        receipt.check_form().unwrap();
        receipt.check_proofs(&one.ledger.network()).unwrap();
        let body = receipt.body().unwrap();
        assert_eq!((body.beats, body.heard.len()), (6, 1));
        assert!(body.heard().unwrap().total_ms() >= 500);
        assert_eq!(done(&one).await, [receipt]);
    }
}

#[tokio::test]
async fn a_listener_that_is_cut_off_loses_one_heartbeat_at_most() {
    let (one, two) = (witness(QUIC).await, peer(&[]).await);
    two.join(&one).await;
    let mut ear = Ear::begin(&two, &one, listener()).await.unwrap();
    for _ in 0..4 {
        ear.beat().await.unwrap();
        sleep(BEAT).await;
    }
    let last = ear.listening.receipt().cloned();
    one.network.disconnect(two.id(), "a cable was pulled").await;
    sleep(BEAT).await;
    let lost = ear.beat().await;
    assert!(matches!(lost, Err(PlayError::Request(RequestError::Closed { .. }))), "{lost:?}");
    // It is not taken for over by mistake.
    let beat = ear.next();
    assert!(ear.stream.beat(beat).await.is_err());
    assert_eq!(ear.listening.receipt().cloned(), last);
    assert_eq!(done(&one).await, [last.unwrap()]);
}

#[tokio::test]
async fn a_witness_that_stops_keeps_its_receipt() {
    let (one, two) = (witness(QUIC).await, peer(&[]).await);
    two.join(&one).await;
    let mut ear = Ear::begin(&two, &one, listener()).await.unwrap();
    ear.beat().await.unwrap();
    sleep(BEAT).await;
    ear.beat().await.unwrap();
    within(one.network.shutdown()).await;
    assert_eq!(*one.scribe.done.lock().unwrap(), [ear.listening.into_receipt().unwrap()]);
}

#[tokio::test]
async fn a_listener_hears_one_thing_at_a_time() {
    let (one, two, three) = (witness(QUIC).await, peer(&[]).await, peer(&[]).await);
    two.join(&one).await;
    three.join(&one).await;
    let mut ear = Ear::begin(&two, &one, listener()).await.unwrap();
    ear.beat().await.unwrap();
    for other in [&two, &three] {
        let second = Ear::begin(other, &one, listener()).await.map(|_| ());
        assert_eq!(code(second), PlayRefusalCode::TwoSessions);
    }
    // Somebody else may.
    Ear::begin(&two, &one, SecretKey::from_seed(&[4; 32])).await.unwrap();
    ear.beat().await.unwrap();
    ear.stream.end().await;
    eventually(|| async { Ear::begin(&three, &one, listener()).await.is_ok() }).await;
}

#[tokio::test]
async fn plays_of_one_peer_are_bounded() {
    let (one, two) = (witness(QUIC).await, peer(&[]).await);
    two.join(&one).await;
    let mut ears = Vec::new();
    for n in 10..18 {
        ears.push(Ear::begin(&two, &one, SecretKey::from_seed(&[n; 32])).await.unwrap());
    }
    let more = Ear::begin(&two, &one, listener()).await.map(|_| ());
    assert_eq!(code(more), PlayRefusalCode::Busy);
    drop(ears.pop());
    eventually(|| async { Ear::begin(&two, &one, listener()).await.is_ok() }).await;
    // None of them keeps the places of others: one peer may have 32 streams.
    within(two.network.ledger_info(one.id())).await.unwrap();
}

#[tokio::test]
async fn what_is_forged_or_faster_than_time_is_refused() {
    let (one, two) = (witness(QUIC).await, peer(&[]).await);
    two.join(&one).await;
    let mut ear = Ear::begin(&two, &one, listener()).await.unwrap();
    ear.beat().await.unwrap();
    sleep(BEAT).await;
    ear.beat().await.unwrap();
    let last = ear.listening.receipt().cloned().unwrap();
    let mut forged = ear.next();
    ear.listening.sign(&mut forged, &SecretKey::from_seed(&[5; 32]));
    assert_eq!(code(ear.say(forged).await), PlayRefusalCode::BadSignature);
    assert_eq!(done(&one).await, [last]);

    let mut ear = Ear::begin(&two, &one, listener()).await.unwrap();
    ear.beat().await.unwrap();
    let mut ahead = ear.listening.beat(3_000, 3_000, &[]);
    ear.listening.sign(&mut ahead, &ear.key);
    assert_eq!(code(ear.say(ahead).await), PlayRefusalCode::Time);

    let mut ear = Ear::begin(&two, &one, listener()).await.unwrap();
    let mut answer = Ok(());
    for _ in 0..4 * BEATS_AT_ONCE + 100 {
        answer = ear.beat().await;
        if answer.is_err() {
            break;
        }
    }
    assert_eq!(code(answer), PlayRefusalCode::Time);
}

#[tokio::test]
async fn starts_that_are_refused() {
    let (one, two) = (witness(QUIC).await, peer(&[]).await);
    two.join(&one).await;
    let network = two.ledger.network();
    let good = start(&two, &one, &listener()).await;
    let refused = async |change: &dyn Fn(&mut PlayStart)| {
        let mut start = good.clone();
        change(&mut start);
        start.sign(&network, &listener());
        within(two.network.begin_play(one.id(), start)).await.map(|_| ())
    };
    let off = |start: &mut PlayStart| start.start_ms -= CLOCK_APART_MS + 60_000;
    assert_eq!(code(refused(&off).await), PlayRefusalCode::Time);
    let elsewhere = |start: &mut PlayStart| start.witness = vec![5; 32];
    assert_eq!(code(refused(&elsewhere).await), PlayRefusalCode::Disagrees);
    assert!(refused(&|_| {}).await.is_ok());
    *one.scribe.hearing.lock().unwrap() = None;
    eventually(|| async { code(refused(&|_| {}).await) == PlayRefusalCode::UnknownSong }).await;
    let other = within(two.network.wallet_of(one.id(), NetworkId([5; 32]))).await;
    let Err(RequestError::Refused { code: StreamErrorCode::OtherNetwork, .. }) = other else {
        panic!("{other:?}")
    };
}

#[tokio::test]
async fn a_hand_written_listener_is_understood_and_a_wrong_one_banned() {
    let (mut one, raw) = (witness(QUIC).await, RawPeer::start().await);
    let network = one.ledger.network();
    let say = |body| raw::frame(&PlayMessage { body: Some(body) });
    let mut stream = raw.open(&one, raw::PLAY).await;
    let who = WhoRequest { network: network.0.to_vec() };
    stream.write_all(&say(play_message::Body::Who(who))).await.unwrap();
    stream.flush().await.unwrap();
    let reply: PlayReply = within(raw::read_frame(&mut stream)).await.unwrap();
    let Some(play_reply::Body::Wallet(wallet)) = reply.body else { panic!("{reply:?}") };

    let mut start = PlayStart {
        session: vec![7; 16],
        song_id: vec![2; 32],
        content_hash: vec![9; 32],
        listener: listener().public().0.to_vec(),
        witness: wallet.clone(),
        start_ms: now_ms(),
        signature: Vec::new(),
    };
    start.sign(&network, &listener());
    let mut stream = raw.open(&one, raw::PLAY).await;
    stream.write_all(&say(play_message::Body::Start(start.clone()))).await.unwrap();
    let reply: PlayReply = within(raw::read_frame(&mut stream)).await.unwrap();
    assert_eq!(reply.body, Some(play_reply::Body::Wallet(wallet)));
    let beat = PlayBeat { sequence: 1, ..PlayBeat::default() };
    stream.write_all(&say(play_message::Body::Beat(beat.clone()))).await.unwrap();
    let reply: PlayReply = within(raw::read_frame(&mut stream)).await.unwrap();
    assert_eq!(reply.body, Some(play_reply::Body::Signature(Vec::new())));
    // Out of turn.
    stream.write_all(&say(play_message::Body::Beat(beat.clone()))).await.unwrap();
    let reply: PlayReply = within(raw::read_frame(&mut stream)).await.unwrap();
    let Some(play_reply::Body::Refused(refused)) = reply.body else { panic!("{reply:?}") };
    assert_eq!(refused.code(), PlayRefusalCode::Malformed);

    start.signature = vec![5; 64];
    let wrong = [
        say(play_message::Body::Beat(beat)),
        say(play_message::Body::Start(start)),
        vec![0, 0, 0, 2, 0xff, 0xff],
        vec![0xff; 4],
    ];
    for bytes in wrong.iter().cycle().take(8) {
        let mut control = raw.control.clone();
        let Ok(mut stream) = within(control.open_stream(one.id(), raw::PLAY)).await else { break };
        let _ = stream.write_all(bytes).await;
        let _ = stream.flush().await;
        let _ = within(raw::read_frame::<PlayReply>(&mut stream)).await;
    }
    one.banned(raw.id).await;
}
