//! Both sides against each other, in a time of the tests' own.

use std::time::{Duration, Instant};

use antiphon_proto::{
    NetworkId, PublicKey, SecretKey, canonical,
    wire::{PlayBeat, PlayMessage, PlayRefusalCode, PlayStart, play_message},
};
use proptest::prelude::*;

use super::*;

const NETWORK: NetworkId = NetworkId([1; 32]);
const WALL: u64 = 1_800_000_000_000;
const HEARING: Hearing = Hearing { duration_ms: 240_000, heartbeat_ms: 5_000 };

fn secret(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

fn key(n: u8) -> PublicKey {
    secret(n).public()
}

fn start() -> PlayStart {
    let mut start = PlayStart {
        session: vec![7; 16],
        song_id: vec![2; 32],
        content_hash: vec![9; 32],
        listener: key(3).0.to_vec(),
        witness: key(4).0.to_vec(),
        start_ms: WALL,
        signature: Vec::new(),
    };
    start.sign(&NETWORK, &secret(3));
    start
}

/// Both sides, and the moment when it began.
struct Pair {
    listening: Listening,
    witnessing: Witnessing,
    began: Instant,
}

impl Pair {
    fn new() -> Self {
        let began = Instant::now();
        let witnessing = Witnessing::begin(NETWORK, start(), HEARING, WALL, began).unwrap();
        Self { listening: Listening::new(NETWORK, start(), HEARING.duration_ms), witnessing, began }
    }

    fn signed(&mut self, position_ms: u32, elapsed_ms: u32, served: &[(PublicKey, u64)]) -> PlayBeat {
        let mut beat = self.listening.beat(position_ms, elapsed_ms, served);
        self.listening.sign(&mut beat, &secret(3));
        beat
    }

    /// A heartbeat that the witness sees at the same time.
    fn beat(&mut self, position_ms: u32, elapsed_ms: u32) -> Result<(), PlayRefused> {
        let beat = self.signed(position_ms, elapsed_ms, &[(key(4), 1_000)]);
        let at = self.at(elapsed_ms);
        let body = self.witnessing.beat(&beat, at)?;
        let signature = body.map(|body| secret(4).sign(&body.to_sign(&NETWORK)).to_vec());
        self.listening.answered(beat, &signature.unwrap_or_default()).unwrap();
        Ok(())
    }

    fn at(&self, elapsed_ms: u32) -> Instant {
        self.began + Duration::from_millis(elapsed_ms.into())
    }

    fn refused(&mut self, beat: &PlayBeat, at: Instant) -> PlayRefusalCode {
        self.witnessing.beat(beat, at).unwrap_err().code
    }
}

#[test]
fn a_play_is_one_receipt_that_grows() {
    let mut pair = Pair::new();
    pair.beat(0, 0).unwrap();
    assert_eq!(pair.listening.receipt(), None);
    for second in (5..=60).step_by(5) {
        pair.beat(second * 1_000, second * 1_000).unwrap();
        let receipt = pair.listening.receipt().unwrap();
        assert_eq!((receipt.check_form(), receipt.check_proofs(&NETWORK)), (Ok(()), Ok(())));
        let body = receipt.body().unwrap();
        assert_eq!(body.heard().unwrap().total_ms(), u64::from(second) * 1_000);
        assert_eq!((body.start_ms, body.end_ms), (WALL, WALL + u64::from(second) * 1_000));
        assert_eq!(body.beats, second / 5 + 1);
    }
    // Paused, and on from elsewhere.
    pair.beat(60_000, 100_000).unwrap();
    pair.beat(90_000, 100_000).unwrap();
    pair.beat(100_000, 110_000).unwrap();
    assert_eq!(
        (pair.witnessing.heard_ms(), pair.listening.end_ms()),
        (60_000 + 2_000 + 10_000, WALL + 110_000)
    );
    let body = pair.listening.into_receipt().unwrap().body.unwrap();
    assert_eq!(body.heard().unwrap().total_ms(), 72_000);
}

#[test]
fn who_served_is_told_in_one_form() {
    let mut pair = Pair::new();
    pair.beat(0, 0).unwrap();
    let served = [(key(5), 10), (key(4), 30), (key(5), 25), (key(6), 0), (key(7), u64::MAX)];
    let beat = pair.signed(5_000, 5_000, &served);
    let told = &beat.receipt.as_ref().unwrap().served;
    let told: Vec<_> = told.iter().map(|served| (served.key.clone(), served.bytes)).collect();
    let line = |n, bytes| (key(n).0.to_vec(), bytes);
    assert_eq!(told, [line(7, limits::FILE_BYTES), line(5, 35), line(4, 30)]);
    let at = pair.at(5_000);
    assert!(pair.witnessing.beat(&beat, at).unwrap().is_some());
    // Nobody is known to have served: there is no receipt yet.
    assert_eq!(pair.signed(10_000, 10_000, &[]).receipt, None);
    let many: Vec<_> = (1..=20).map(|n| (key(n), u64::from(n))).collect();
    let beat = pair.signed(15_000, 15_000, &many);
    assert_eq!(beat.receipt.as_ref().unwrap().served.len(), limits::RECEIPT_SERVED);
    assert!(canonical::encode(&PlayMessage { body: Some(play_message::Body::Beat(beat)) }).len() < 1_000);
}

#[test]
fn starts_that_are_refused() {
    let begin = |start: PlayStart, wall_ms| {
        Witnessing::begin(NETWORK, start, HEARING, wall_ms, Instant::now()).map(|_| ()).map_err(|no| no.code)
    };
    assert_eq!(begin(start(), WALL), Ok(()));
    for apart in [CLOCK_APART_MS, CLOCK_APART_MS + 1] {
        let expected = if apart == CLOCK_APART_MS { Ok(()) } else { Err(PlayRefusalCode::Time) };
        assert_eq!(begin(start(), WALL + apart), expected);
        assert_eq!(begin(start(), WALL - apart), expected);
    }
    let mut forged = start();
    forged.sign(&NETWORK, &secret(4));
    assert_eq!(begin(forged, WALL), Err(PlayRefusalCode::BadSignature));
    let mut short = start();
    short.session.pop();
    short.sign(&NETWORK, &secret(3));
    assert_eq!(begin(short, WALL), Err(PlayRefusalCode::Malformed));
    let mut own = start();
    own.witness = own.listener.clone();
    own.sign(&NETWORK, &secret(3));
    assert_eq!(begin(own, WALL), Err(PlayRefusalCode::Forbidden));
}

#[test]
fn time_is_the_witnesss() {
    let mut pair = Pair::new();
    pair.beat(0, 0).unwrap();
    // Two seconds ahead are a slow line, more are not.
    let (ahead, at) = (pair.signed(7_000, 7_001, &[]), pair.at(5_000));
    assert_eq!(pair.refused(&ahead, at), PlayRefusalCode::Time);
    let mut pair = Pair::new();
    pair.beat(0, 0).unwrap();
    let (ahead, at) = (pair.signed(7_000, 7_000, &[(key(4), 1)]), pair.at(5_000));
    assert!(pair.witnessing.beat(&ahead, at).unwrap().is_some());
    // The listener's own side never says so.
    let mut back = pair.signed(8_000, 6_999, &[]);
    assert_eq!(back.elapsed_ms, 7_000);
    back.elapsed_ms = 6_999;
    let at = pair.at(8_000);
    assert_eq!(pair.refused(&back, at), PlayRefusalCode::Time);
    let mut pair = Pair::new();
    let (long, at) = (pair.signed(0, LONGEST_MS + 1, &[]), pair.at(LONGEST_MS));
    assert_eq!(pair.refused(&long, at), PlayRefusalCode::Time);
}

#[test]
fn heartbeats_have_a_pace() {
    let mut pair = Pair::new();
    for _ in 0..BEATS_AT_ONCE {
        pair.beat(0, 0).unwrap();
    }
    assert_eq!(pair.beat(0, 1_249).unwrap_err().code, PlayRefusalCode::Time);
    let mut pair = Pair::new();
    for beat in 0..100 {
        pair.beat(beat * 1_250, beat * 1_250).unwrap();
    }
}

#[test]
fn what_the_witness_has_not_seen_is_not_signed() {
    use antiphon_proto::wire::{ReceiptBody, Span};
    let refused = |change: &dyn Fn(&mut ReceiptBody)| {
        let mut pair = Pair::new();
        pair.beat(0, 0).unwrap();
        let mut beat = pair.listening.beat(5_000, 5_000, &[(key(4), 1_000)]);
        change(beat.receipt.as_mut().unwrap());
        pair.listening.sign(&mut beat, &secret(3));
        let at = pair.at(5_000);
        pair.witnessing.beat(&beat, at).err().map(|no| no.code)
    };
    assert_eq!(refused(&|_| {}), None);
    let disagrees = Some(PlayRefusalCode::Disagrees);
    assert_eq!(refused(&|body| body.heard = vec![Span { start: 0, end: 5_001 }]), disagrees);
    assert_eq!(refused(&|body| body.end_ms += 1), disagrees);
    assert_eq!(refused(&|body| body.start_ms -= 1), disagrees);
    assert_eq!(refused(&|body| body.beats += 1), disagrees);
    assert_eq!(refused(&|body| body.chain[0] ^= 1), disagrees);
    assert_eq!(refused(&|body| body.witness = key(5).0.to_vec()), disagrees);
    assert_eq!(refused(&|body| body.song_id[0] ^= 1), disagrees);
    assert_eq!(refused(&|body| body.served.clear()), disagrees);
    assert_eq!(refused(&|body| body.served[0].bytes = 0), disagrees);
    // Of who has served it takes the listener's word.
    assert_eq!(refused(&|body| body.served[0].bytes = 5), None);
    let mut pair = Pair::new();
    pair.beat(0, 0).unwrap();
    let mut forged = pair.listening.beat(5_000, 5_000, &[(key(4), 1_000)]);
    let at = pair.at(5_000);
    forged.signature = vec![5; 64];
    assert_eq!(pair.refused(&forged, at), PlayRefusalCode::BadSignature);
    let mut skipped = pair.signed(6_000, 6_000, &[]);
    skipped.sequence += 1;
    assert_eq!(pair.refused(&skipped, at), PlayRefusalCode::Malformed);
}

#[test]
fn a_witness_that_signs_badly_gives_no_receipt() {
    let mut pair = Pair::new();
    pair.beat(0, 0).unwrap();
    pair.beat(5_000, 5_000).unwrap();
    let before = pair.listening.receipt().cloned();
    let beat = pair.signed(10_000, 10_000, &[(key(4), 1_000)]);
    assert!(pair.listening.answered(beat.clone(), &[]).is_err());
    assert!(pair.listening.answered(beat, &[5; 64]).is_err());
    let bare = pair.signed(15_000, 15_000, &[]);
    assert!(pair.listening.answered(bare, &[5; 64]).is_err());
    assert_eq!(pair.listening.receipt().cloned(), before);
}

#[test]
fn silence_is_three_heartbeats_or_a_quarter_of_a_minute() {
    let silence = |heartbeat_ms| Hearing { duration_ms: 1, heartbeat_ms }.silence().as_secs();
    assert_eq!((silence(100), silence(5_000), silence(20_000)), (15, 15, 60));
}

proptest! {
    #[test]
    fn both_sides_always_agree(
        steps in prop::collection::vec((0u32..300_000, 0u32..20_000, 0u64..3), 1..40),
    ) {
        let mut pair = Pair::new();
        let mut elapsed = 0;
        for (position, passed, bytes) in steps {
            elapsed += 1_250 + passed;
            let beat = pair.signed(position, elapsed, &[(key(4), bytes)]);
            let at = pair.at(elapsed);
            let body = pair.witnessing.beat(&beat, at).unwrap();
            prop_assert_eq!(&body, &beat.receipt);
            if let Some(body) = &body {
                prop_assert_eq!(body.check_form(), Ok(()));
                prop_assert!(body.heard().unwrap().total_ms() <= u64::from(elapsed) + 2_000);
            }
            let signature = body.map(|body| secret(4).sign(&body.to_sign(&NETWORK)).to_vec());
            prop_assert!(pair.listening.answered(beat, &signature.unwrap_or_default()).is_ok());
        }
    }

    #[test]
    fn a_witness_never_signs_what_time_forbids(
        beats in prop::collection::vec((any::<u32>(), any::<u32>(), 0u32..30_000), 0..40),
    ) {
        let mut pair = Pair::new();
        let mut passed = 0;
        for (position, elapsed, wait) in beats {
            passed += wait;
            let beat = pair.signed(position, elapsed % 1_000_000, &[(key(4), 1)]);
            let at = pair.at(passed);
            match pair.witnessing.beat(&beat, at) {
                Ok(None) => {}
                Ok(Some(body)) => {
                    prop_assert!(body.heard().unwrap().total_ms() <= u64::from(passed) + 4_000);
                    prop_assert!(body.end_ms <= WALL + u64::from(passed) + 2_000);
                }
                Err(_) => break,
            }
        }
    }
}
