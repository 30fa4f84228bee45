//! What a relay and the peers that it connects say to one another.
#![no_main]

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use antiphon_p2p::relay::wire::{self, HopMessage, MESSAGE_BYTES, StopMessage, WireError};

/// What is read at once; bytes in memory never wait.
fn now<M>(reading: impl Future<Output = Result<M, WireError>>) -> Option<M> {
    match pin!(reading).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(read) => read.ok(),
        Poll::Pending => unreachable!("bytes in memory"),
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Some(message) = now(wire::read::<HopMessage, _>(&mut rest)) {
        // Negative numbers may take more bytes than they came in.
        let again = wire::encode(&message);
        let read = now(wire::read::<HopMessage, _>(&mut &again[..]));
        assert!(read.as_ref() == Some(&message) || again.len() > MESSAGE_BYTES);
    }
    let mut rest = bytes;
    while let Some(message) = now(wire::read::<StopMessage, _>(&mut rest)) {
        let again = wire::encode(&message);
        let read = now(wire::read::<StopMessage, _>(&mut &again[..]));
        assert!(read.as_ref() == Some(&message) || again.len() > MESSAGE_BYTES);
    }
});
