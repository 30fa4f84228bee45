//! Messages on streams, in frames, cut anywhere.
#![no_main]

use antiphon_p2p::frame::FrameDecoder;
use antiphon_proto::{
    NetworkId, canonical, limits,
    wire::{
        Binding, CouncilFrame, CouncilHello, CouncilWelcome, LedgerFrame, LedgerReply, LedgerRequest,
        RegisterReply, RegisterRequest, ledger_reply,
    },
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
            let reply = canonical::decode_lenient::<LedgerReply>("", limits::BUNDLE_MESSAGE_BYTES, &frame);
            if let Ok(Some(ledger_reply::Body::Bundle(bundle))) = reply.map(|reply| reply.body) {
                let checked = bundle.check(256, 256);
                let part = bundle.part(256, 3);
                assert!(checked.is_err() || part.is_ok());
            }
            let _ = canonical::decode_lenient::<CouncilHello>("", limits::CONTROL_MESSAGE_BYTES, &frame);
            let _ = canonical::decode_lenient::<CouncilWelcome>("", limits::CONTROL_MESSAGE_BYTES, &frame);
            let _ = canonical::decode_lenient::<CouncilFrame>("", limits::COUNCIL_MESSAGE_BYTES, &frame);
            if let Ok(binding) =
                canonical::decode_lenient::<Binding>("", limits::CONTROL_MESSAGE_BYTES, &frame)
            {
                assert!(binding.check(&NetworkId([1; 32])).is_err(), "a forged binding");
            }
            let _ = canonical::decode_lenient::<RegisterReply>("", limits::CONTROL_MESSAGE_BYTES, &frame);
        }
    }
});
