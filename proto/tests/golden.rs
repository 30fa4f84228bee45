//! The bytes of every format, frozen. A change here is a breaking change and is named so; `ANTIPHON_BLESS=1`
//! writes the files anew, on purpose only.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use antiphon_proto::{
    ContentHash, RootHash,
    announcement::{Announcement, Event, Flags},
    canonical,
    note::{Checkpoint, CosignedCheckpoint, cosigner_key, origin, verifier_key},
    wire::{self, block},
};
use common::golden;

#[test]
fn genesis() {
    golden("genesis", &canonical::encode(&common::genesis()));
    golden("network_id", common::network().as_bytes());
}

#[test]
fn song() {
    golden("song", &canonical::encode(&common::song()));
    golden("song_id", common::song().id().as_bytes());
}

#[test]
fn variant() {
    golden("variant", &canonical::encode(&common::variant()));
}

#[test]
fn blocks() {
    golden("song_block", &common::block(0, block::Body::Song(common::song())).to_bytes());
    golden("variant_block", &common::block(7, block::Body::Variant(common::variant())).to_bytes());
}

#[test]
fn audio() {
    golden("audio_request", &canonical::encode(&common::audio_request()));
}

#[test]
fn announcements() {
    let base = Announcement {
        event: Event::Add(ContentHash([0xc0; 32])),
        flags: Flags { relayed_only: true, mini_node: false },
        songs: 500,
        sequence: 0x0102_0304_0506_0708,
        time_ms: 1_700_000_000_000,
        ledger_size: 513,
        digest: [0xd1; 32],
    };
    golden("announcement_add", &base.to_bytes());
    golden("announcement_goodbye", &Announcement { event: Event::Goodbye, songs: 0, ..base }.to_bytes());
}

#[test]
fn checkpoint() {
    let checkpoint = Checkpoint { origin: origin(&common::network()), size: 513, root: RootHash([0xee; 32]) };
    golden("checkpoint", checkpoint.sign(&common::secret()).as_bytes());
    golden("verifier_key", verifier_key(&checkpoint.origin, &common::secret().public()).as_bytes());
    let mut cosigned = CosignedCheckpoint::new(checkpoint.clone());
    cosigned.log_signatures = vec![(common::secret().public(), checkpoint.log_signature(&common::secret()))];
    cosigned.cosignatures = vec![checkpoint.cosign(&common::secret(), 1_700_000_000)];
    golden("cosigned_checkpoint", cosigned.encode().as_bytes());
    golden("cosigner_key", cosigner_key(&common::secret().public()).as_bytes());
}

#[test]
fn stream_messages() {
    let follow = wire::LedgerRequest {
        body: Some(wire::ledger_request::Body::Follow(wire::FollowRequest {
            network: common::network().0.to_vec(),
            from: 300,
        })),
    };
    golden("follow_request", &canonical::encode(&follow));
    let frame = wire::LedgerFrame {
        body: Some(wire::ledger_frame::Body::Batch(wire::Batch {
            first: 300,
            blocks: vec![vec![1, 2], vec![3]],
            seal: b"seal".to_vec(),
        })),
    };
    golden("ledger_frame", &canonical::encode(&frame));
    let register = wire::RegisterRequest {
        network: common::network().0.to_vec(),
        registration: Some(wire::Registration::of_variant(common::variant())),
        hops: 1,
    };
    golden("register_request", &canonical::encode(&register));
    let reply = wire::RegisterReply {
        body: Some(wire::register_reply::Body::Refused(wire::Refused {
            code: wire::RefusalCode::NearDuplicate.into(),
            detail: "matches".into(),
            song_id: vec![9; 32],
            index: 12,
        })),
    };
    golden("register_reply", &canonical::encode(&reply));
}

#[test]
fn ledger_reading() {
    use wire::{ledger_reply::Body as Reply, ledger_request::Body as Request, proof_request::Query};
    let network = common::network().0.to_vec();
    let request = |body| canonical::encode(&wire::LedgerRequest { body: Some(body) });
    let checkpoint = wire::CheckpointRequest { network: network.clone() };
    golden("checkpoint_request", &request(Request::Checkpoint(checkpoint)));
    let bundle = wire::BundleRequest { network: network.clone(), index: 7, width: 256, skip: 3 };
    golden("bundle_request", &request(Request::Bundle(bundle)));
    let tile = wire::TileRequest { network: network.clone(), level: 1, index: 300, width: 12 };
    golden("tile_request", &request(Request::Tile(tile)));
    for (name, query) in [
        ("proof_request_index", Query::Index(300)),
        ("proof_request_song", Query::SongId(vec![5; 32])),
        ("proof_request_content", Query::ContentHash(vec![0xc0; 32])),
    ] {
        let proof = wire::ProofRequest { network: network.clone(), query: Some(query) };
        golden(name, &request(Request::Proof(proof)));
    }
    let reply = |body| canonical::encode(&wire::LedgerReply { body: Some(body) });
    golden("checkpoint_reply", &reply(Reply::Checkpoint(b"note".to_vec())));
    let mut bundle = wire::Bundle::default();
    assert!(bundle.push_block(&[1; 300]) && bundle.push_block(&[2]));
    bundle.seals.push(wire::BatchSeal { end: 258, seal: b"seal".to_vec() });
    golden("bundle_reply", &reply(Reply::Bundle(bundle)));
    golden("tile_reply", &reply(Reply::Tile(vec![9; 64])));
    golden("proof_reply", &reply(Reply::Proof(b"proof".to_vec())));
    let error = wire::StreamError { code: wire::StreamErrorCode::NotFound.into(), detail: "no".into() };
    golden("ledger_reply_error", &reply(Reply::Error(error.clone())));
    let frame = wire::LedgerFrame { body: Some(wire::ledger_frame::Body::Error(error.clone())) };
    assert_eq!(canonical::encode(&frame), reply(Reply::Error(error)), "both say no in the same bytes");
    let frame = wire::LedgerFrame { body: Some(wire::ledger_frame::Body::Checkpoint(b"note".to_vec())) };
    golden("ledger_frame_checkpoint", &canonical::encode(&frame));
}

#[test]
fn council_messages() {
    let binding = common::binding();
    golden("binding", &canonical::encode(&binding));
    let hello = wire::CouncilHello { binding: Some(binding.clone()), class: wire::CouncilClass::Body.into() };
    golden("council_hello", &canonical::encode(&hello));
    let welcome = wire::CouncilWelcome { body: Some(wire::council_welcome::Body::Binding(binding.clone())) };
    golden("council_welcome", &canonical::encode(&welcome));
    let frame = |body| canonical::encode(&wire::CouncilFrame { body: Some(body) });
    golden("council_message", &frame(wire::council_frame::Body::Message(vec![0xab; 300].into())));
    golden("council_heartbeat", &frame(wire::council_frame::Body::Heartbeat(wire::Heartbeat {})));
    let entry = wire::RosterEntry { binding: Some(binding), addresses: vec![vec![4, 127, 0, 0, 1]] };
    let roster = wire::Roster { entries: vec![entry] };
    golden("council_roster", &frame(wire::council_frame::Body::Roster(roster)));
}

/// The golden records are valid: the frozen bytes are of the format, not of an accident.
#[test]
fn golden_records_hold_the_rules() {
    let song = common::song();
    song.check_form().unwrap();
    song.check_proofs(&common::network(), 8).unwrap();
    let variant = common::variant();
    variant.check_form().unwrap();
    variant.check_proofs(&common::network(), 8).unwrap();
    common::genesis().check().unwrap();
    common::audio_request().check().unwrap();
    common::binding().check(&common::network()).unwrap();
}
