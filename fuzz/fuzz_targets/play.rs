//! What listeners and witnesses say to each other, receipts, and the right to hear.
#![no_main]

use std::time::{Duration, Instant};

use antiphon_p2p::play::{Hearing, Listening, Witnessing};
use antiphon_proto::{
    NetworkId, SecretKey,
    canonical, limits,
    wire::{AccessToken, PlayMessage, PlayReply, PlayStart, Receipt, play_message},
};

const NETWORK: NetworkId = NetworkId([1; 32]);

libfuzzer_sys::fuzz_target!(|input: (Vec<u8>, Vec<(u32, u16, u32)>)| {
    let (bytes, beats) = input;
    if let Ok(receipt) = canonical::decode::<Receipt>("receipt", limits::RECEIPT_BYTES, &bytes) {
        assert_eq!(canonical::encode(&receipt), bytes);
        let _ = receipt.check_form();
        assert!(receipt.check_proofs(&NETWORK).is_err(), "a forged receipt");
    }
    let _ = canonical::decode_lenient::<PlayReply>("", limits::CONTROL_MESSAGE_BYTES, &bytes);
    assert!(AccessToken::check(&bytes, &NETWORK, b"peer", 5).is_err(), "a forged token");

    let (began, hearing) = (Instant::now(), Hearing { duration_ms: 200_000, heartbeat_ms: 5_000 });
    let listener = SecretKey::from_seed(&[2; 32]);
    let mut start = PlayStart {
        session: vec![1; 16],
        song_id: vec![2; 32],
        content_hash: vec![3; 32],
        listener: listener.public().0.to_vec(),
        witness: vec![4; 32],
        start_ms: 1_000,
        signature: Vec::new(),
    };
    start.sign(&NETWORK, &listener);
    let Ok(mut witnessing) = Witnessing::begin(NETWORK, start.clone(), hearing, 1_000, began) else { return };
    match canonical::decode_lenient::<PlayMessage>("", limits::PLAY_MESSAGE_BYTES, &bytes)
        .map(|said| said.body)
    {
        Ok(Some(play_message::Body::Start(forged))) => {
            assert!(forged.check(&NETWORK).is_err(), "a forged start");
        }
        Ok(Some(play_message::Body::Beat(beat))) => {
            let signed = witnessing.beat(&beat, began + Duration::from_secs(30));
            assert!(!matches!(signed, Ok(Some(_))), "a forged heartbeat");
            return;
        }
        _ => {}
    }
    let mut listening = Listening::new(NETWORK, start, hearing.duration_ms);
    let mut passed = 0u32;
    for (position_ms, waited, ahead) in beats {
        passed = passed.saturating_add(waited.into());
        let served = [(listener.public(), u64::from(position_ms))];
        let mut beat = listening.beat(position_ms, passed.saturating_add(ahead), &served);
        listening.sign(&mut beat, &listener);
        match witnessing.beat(&beat, began + Duration::from_millis(passed.into())) {
            Ok(body) => assert_eq!(body, beat.receipt),
            Err(_) => return,
        }
        assert!(witnessing.heard_ms() <= u64::from(passed) + 4_000);
    }
});
