//! Messages on streams, in frames, cut anywhere.
#![no_main]

use antiphon_p2p::frame::FrameDecoder;
use antiphon_proto::{
    canonical, limits,
    wire::{LedgerFrame, LedgerRequest, RegisterReply, RegisterRequest},
};

libfuzzer_sys::fuzz_target!(|input: (Vec<u8>, u8)| {
    let (bytes, cut) = input;
    let mut reader = FrameDecoder::new(4_096);
    for piece in bytes.chunks(usize::from(cut).max(1)) {
        reader.push(piece);
        while let Ok(Some(frame)) = reader.next_frame() {
            assert!(frame.len() <= 4_096);
            let _ = canonical::decode_lenient::<LedgerRequest>("", limits::CONTROL_MESSAGE_BYTES, &frame);
            let _ = canonical::decode_lenient::<LedgerFrame>("", limits::BATCH_MESSAGE_BYTES, &frame);
            let _ = canonical::decode_lenient::<RegisterRequest>("", limits::CONTROL_MESSAGE_BYTES, &frame);
            let _ = canonical::decode_lenient::<RegisterReply>("", limits::CONTROL_MESSAGE_BYTES, &frame);
        }
    }
});
