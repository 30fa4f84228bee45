//! `/antiphon/register/1`.

use antiphon_p2p::RequestError;
use antiphon_proto::{
    limits,
    wire::{
        RegisterReply, RegisterRequest, Registration, Song, StreamErrorCode, register_reply, registration,
    },
};
use futures::AsyncWriteExt;

use crate::{
    harness::{QUIC, TCP, peer, within},
    raw::{self, RawPeer},
};

fn request(hops: u32) -> RegisterRequest {
    let song = Song { title: "A song".to_owned(), fingerprint: vec![3; 2_500], ..Song::default() };
    let registration = Registration { body: Some(registration::Body::Song(song)) };
    RegisterRequest { network: vec![9; 32], registration: Some(registration), hops }
}

#[tokio::test]
async fn a_registration_goes_there_and_its_answer_back() {
    for transport in [QUIC, TCP] {
        let (one, two) = (peer(&[transport]).await, peer(&[]).await);
        two.join(&one).await;
        let reply = within(two.network.register(one.id(), request(1))).await.unwrap();
        let Some(register_reply::Body::Accepted(accepted)) = reply.body else { panic!("{reply:?}") };
        assert_eq!((accepted.index, accepted.height), (1, 7));
        assert_eq!(*one.notary.seen.lock().unwrap(), [(two.id(), request(1))]);
    }
}

#[tokio::test]
async fn registrations_that_break_a_rule_are_not_sent_nor_taken() {
    let (mut one, two) = (peer(&[QUIC]).await, peer(&[]).await);
    two.join(&one).await;
    let bad = [
        request(limits::REGISTER_HOPS + 1),
        RegisterRequest { network: vec![1; 31], ..request(0) },
        RegisterRequest { registration: None, ..request(0) },
    ];
    let raw = RawPeer::start().await;
    // A kind of registration that is not known yet: an answer, no offence, however often.
    let newer = RegisterRequest { registration: Some(Registration { body: None }), ..request(0) };
    for request in std::iter::repeat_n(&newer, 6).chain(&bad) {
        let refused = two.network.register(one.id(), request.clone()).await;
        assert!(matches!(refused, Err(RequestError::Invalid(_))), "{refused:?}");
        let mut stream = raw.open(&one, raw::REGISTER).await;
        stream.write_all(&raw::frame(request)).await.unwrap();
        let reply: RegisterReply = within(raw::read_frame(&mut stream)).await.unwrap();
        let Some(register_reply::Body::Unavailable(error)) = reply.body else { panic!("{reply:?}") };
        assert_eq!(error.code(), StreamErrorCode::Malformed);
    }
    // The fourth broken request is one too many.
    let mut stream = raw.open(&one, raw::REGISTER).await;
    stream.write_all(b"\0\0\0\x03abc").await.unwrap();
    stream.flush().await.unwrap();
    one.banned(raw.id).await;
    assert!(one.notary.seen.lock().unwrap().is_empty());
}
