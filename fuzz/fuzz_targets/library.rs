//! What a peer may say about libraries: announcements, pages, reconciliations, addresses.
#![no_main]

use std::time::{Duration, Instant};

use antiphon_p2p::{
    PeerId,
    presence::{
        Params, Presence, pages,
        reconcile::{Learner, Teacher},
    },
};
use antiphon_proto::{
    canonical, limits,
    wire::{LibraryReconcileRequest, LibraryReply, LibraryRequest, library_reply},
};

libfuzzer_sys::fuzz_target!(|input: (Vec<Vec<u8>>, Vec<u16>)| {
    let (messages, songs) = input;
    let known: roaring::RoaringBitmap = songs.into_iter().map(u32::from).collect();
    let start = Instant::now();
    let mut presence = Presence::new(PeerId::random(), Params::default(), 0, start);
    let author = PeerId::random();
    presence.handle_connected(author, true, start);
    presence.handle_subscribed(&author, start);
    let mut decoder = pages::Pages::default();
    let mut whole = true;
    let Ok((mut learner, _)) = Learner::new(known.clone()) else { return };
    let Ok(mut teacher) = Teacher::new(known) else { return };
    for (message, second) in messages.iter().zip(0u64..) {
        let now = start + Duration::from_secs(second);
        let _ = presence.handle_announcement(author, message, now);
        while presence.poll(now, second).is_some() {}
        whole &= decoder.push(message).is_ok();
        let _ = learner.step(message);
        let _ = teacher.step(message);
        let limit = limits::LIBRARY_MESSAGE_BYTES;
        let _ = canonical::decode_lenient::<LibraryRequest>("", limit, message);
        let _ = canonical::decode_lenient::<LibraryReconcileRequest>("", limit, message);
        if let Ok(LibraryReply { body: Some(library_reply::Body::Page(page)) }) =
            canonical::decode_lenient("", limit, message)
        {
            let _ = pages::Pages::default().push(&page.indexes);
        }
    }
    if whole {
        // What was read is written the same way.
        let set = decoder.finish();
        let mut again = pages::Pages::default();
        assert!(pages::encode(&set).iter().all(|page| again.push(page).is_ok()));
        assert_eq!(again.finish(), set);
    }
});
