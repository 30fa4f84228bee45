//! Records of tokens, plays and settlements: their frozen bytes, what they refuse, and that their decoders are total.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use antiphon_proto::{
    SecretKey, SongId, canonical,
    economy::DEFAULT,
    record::Invalid,
    wire::{
        AccessToken, AccountState, Amount, ArtistState, Block, Claim, ClaimState, Council, CouncilAct,
        Economy, Epoch, EscrowAmount, EscrowRelease, EscrowState, Genesis, Grant, NameRuling,
        ParameterChange, PlayBeat, PlayMessage, PlayReply, PlayStart, Purchase, Receipt, ReceiptBody,
        RightState, Ruling, Served, SettledReceipts, SongPlays, SongRuling, SongState, Span, StateTotals,
        Transfer, block, council_act, play_message, play_reply, ruling,
    },
};
use common::golden;
use proptest::prelude::*;

fn key(number: u8) -> Vec<u8> {
    vec![number; 32]
}

/// Finds the stamp and signs, for every kind of record that has both.
macro_rules! proven {
    ($record:expr) => {{
        let mut record = $record;
        record.stamp = record.stamp_challenge(&common::network()).search(8, 0, 1 << 16).unwrap();
        record.sign(&common::network(), &common::secret());
        record
    }};
}

fn transfer() -> Transfer {
    let from = common::secret().public().0.to_vec();
    proven!(Transfer {
        from,
        to: key(0x44),
        amount: 123_456_789,
        sequence: 7,
        memo: "für die Chöre".into(),
        ..Transfer::default()
    })
}

fn purchase() -> Purchase {
    let buyer = common::secret().public().0.to_vec();
    proven!(Purchase { buyer, song_id: key(0x51), price: 12_345, sequence: 8, ..Purchase::default() })
}

fn grant() -> Grant {
    let grantor = common::secret().public().0.to_vec();
    let (song_id, holder, until_ms) = (key(0x51), key(0x52), 1_800_000_000_000);
    proven!(Grant { grantor, song_id, holder, until_ms, sequence: 9, ..Grant::default() })
}

fn claim() -> Claim {
    let claimant = common::secret().public().0.to_vec();
    let (artist, statement) = ("the example choir".to_owned(), "https://example.org/choir".to_owned());
    proven!(Claim { claimant, artist, statement, sequence: 10, ..Claim::default() })
}

fn receipt() -> Receipt {
    let (listener, witness) = (common::secret(), SecretKey::from_seed(&[0x12; 32]));
    let body = ReceiptBody {
        session: vec![0x61; 16],
        song_id: key(0x51),
        listener: listener.public().0.to_vec(),
        witness: witness.public().0.to_vec(),
        start_ms: 1_700_000_000_000,
        end_ms: 1_700_000_150_000,
        heard: vec![Span { start: 0, end: 60_000 }, Span { start: 90_000, end: 150_000 }],
        beats: 31,
        chain: key(0x62),
        served: vec![
            Served { key: key(0x63), bytes: 3_000_000 },
            Served { key: key(0x64), bytes: 1_000_000 },
        ],
    };
    let message = body.to_sign(&common::network());
    Receipt::new(body, &listener.sign(&message), &witness.sign(&message))
}

fn epoch() -> Epoch {
    Epoch {
        number: 3,
        receipts: 3,
        plays: 2,
        receipts_root: key(0x71),
        minted: 500_000_000,
        burned: 12_500,
        songs: vec![
            SongPlays { song: 4, plays: 1, discovered: 1, minted: 300_000_000 },
            SongPlays { song: 9, plays: 1, discovered: 0, minted: 200_000_000 },
        ],
        credits: vec![Amount { key: key(1), units: 200_000_000 }, Amount { key: key(2), units: 100_000_000 }],
        burns: vec![Amount { key: key(2), units: 12_500 }],
        escrows: vec![
            EscrowAmount { key: key(3), units: 100_000_000, ..EscrowAmount::default() },
            EscrowAmount { name: "the example choir".into(), units: 100_000_000, ..EscrowAmount::default() },
        ],
        state: key(0x72),
    }
}

fn council(change: council_act::Change) -> Council {
    let act = CouncilAct::new(change, 1_000, [0x21; 16]);
    let votes = vec![act.vote(&common::network(), &common::secret())];
    Council { act: Some(act), votes }
}

fn acts() -> Vec<(&'static str, Council)> {
    let name = || "the example choir".to_owned();
    let name_ruling = NameRuling { artist: name(), owner: key(0x22) };
    let song_ruling = SongRuling { song_id: key(0x51), withheld: true };
    let subject = |subject| council_act::Change::Ruling(Ruling { subject: Some(subject) });
    let economy = Some(Economy { threshold_plays: 500, ..DEFAULT });
    vec![
        (
            "act_release",
            council(council_act::Change::Release(EscrowRelease { artist: name(), to: key(0x22) })),
        ),
        ("act_parameters", council(council_act::Change::Parameters(ParameterChange { economy }))),
        ("act_ruling_name", council(subject(ruling::Subject::Name(name_ruling)))),
        ("act_ruling_song", council(subject(ruling::Subject::Song(song_ruling)))),
    ]
}

#[test]
fn records() {
    golden("transfer", &canonical::encode(&transfer()));
    golden("purchase", &canonical::encode(&purchase()));
    golden("grant", &canonical::encode(&grant()));
    golden("claim", &canonical::encode(&claim()));
    golden("transfer_block", &common::block(9, block::Body::Transfer(transfer())).to_bytes());
    golden("epoch_block", &common::block(10, block::Body::Epoch(epoch())).to_bytes());
    for (name, council) in acts() {
        assert_eq!(council.check_form(), Ok(()));
        assert_eq!(council.check_proofs(&common::network()), Ok(()));
        golden(name, &common::block(11, block::Body::Council(council)).to_bytes());
    }
}

#[test]
fn genesis_with_an_economy() {
    let economy = Economy { floor_units: 0, threshold_plays: 2, ..DEFAULT };
    let genesis = Genesis { economy: Some(economy), ..common::genesis() };
    assert_eq!(genesis.check(), Ok(()));
    golden("genesis_economy", &canonical::encode(&genesis));
    let defaults = Genesis { economy: Some(DEFAULT), ..common::genesis() };
    assert!(defaults.check().is_err(), "the same network must not have two ids");
    assert_eq!(common::genesis().economy(), DEFAULT);
}

#[test]
fn plays() {
    let (listener, network) = (common::secret(), common::network());
    let mut start = PlayStart {
        session: vec![0x61; 16],
        song_id: key(0x51),
        content_hash: key(0xc0),
        listener: listener.public().0.to_vec(),
        witness: key(0x63),
        start_ms: 1_700_000_000_000,
        signature: Vec::new(),
    };
    start.sign(&network, &listener);
    let receipt = receipt();
    assert_eq!((receipt.check_form(), receipt.check_proofs(&network)), (Ok(()), Ok(())));
    let beat = PlayBeat {
        sequence: 31,
        position_ms: 150_000,
        elapsed_ms: 150_000,
        receipt: receipt.body.clone(),
        signature: receipt.listener_signature.clone(),
    };
    let message = |body| canonical::encode(&PlayMessage { body: Some(body) });
    golden("play_start", &message(play_message::Body::Start(start)));
    golden("play_beat", &message(play_message::Body::Beat(beat)));
    let signed = play_reply::Body::Signature(receipt.witness_signature.clone());
    golden("play_signed", &canonical::encode(&PlayReply { body: Some(signed) }));
    golden("receipt", &canonical::encode(&receipt));
    golden("settled_receipts", &canonical::encode(&SettledReceipts { index: 10, receipts: vec![receipt] }));
    let token = AccessToken::new(&network, &SongId([0x51; 32]), &listener, &[0x24; 38], 1_700_000_600_000);
    golden("access_token", &canonical::encode(&token));
}

#[test]
fn states() {
    golden("state_account", &canonical::encode(&AccountState { units: 5, sequence: 2, last: 10 }));
    golden("state_escrow", &canonical::encode(&EscrowState { units: 6 }));
    let claims = vec![ClaimState { key: key(2), index: 9 }];
    golden("state_artist", &canonical::encode(&ArtistState { owner: key(1), claims }));
    let song = SongState { plays: 1, minted: 2, burned: 3, paid: 4, withheld: true };
    golden("state_song", &canonical::encode(&song));
    golden("state_right", &canonical::encode(&RightState { until_ms: u64::MAX, index: 3 }));
    let totals = StateTotals {
        minted: 1,
        burned: 2,
        epoch: 3,
        epoch_ms: 4,
        epoch_full: true,
        entries: 5,
        economy: Some(DEFAULT),
    };
    golden("state_totals", &canonical::encode(&totals));
}

#[test]
fn each_breach_of_form_is_refused() {
    let refused = |check: Result<(), Invalid>| assert!(check.is_err());
    let with = |change: &dyn Fn(&mut Transfer)| {
        let mut record = transfer();
        change(&mut record);
        record.check_form()
    };
    assert_eq!(with(&|_| {}), Ok(()));
    refused(with(&|record| record.amount = 0));
    refused(with(&|record| record.amount = u64::MAX));
    refused(with(&|record| record.sequence = 0));
    refused(with(&|record| record.memo = "x".repeat(129)));
    refused(with(&|record| record.to.truncate(31)));
    refused(Purchase { price: 0, ..purchase() }.check_form());
    refused(Grant { holder: Vec::new(), ..grant() }.check_form());
    refused(Claim { artist: "The Example Choir".into(), ..claim() }.check_form());
    refused(Claim { artist: String::new(), ..claim() }.check_form());
    let with = |change: &dyn Fn(&mut Epoch)| {
        let mut epoch = epoch();
        change(&mut epoch);
        epoch.check_form()
    };
    assert_eq!(with(&|_| {}), Ok(()));
    refused(with(&|epoch| epoch.number = 0));
    refused(with(&|epoch| epoch.plays = 4));
    refused(with(&|epoch| epoch.songs.swap(0, 1)));
    refused(with(&|epoch| epoch.songs[0].minted += 1));
    refused(with(&|epoch| epoch.credits[0].units += 1));
    refused(with(&|epoch| epoch.credits.swap(0, 1)));
    refused(with(&|epoch| epoch.burned += 1));
    refused(with(&|epoch| epoch.escrows.swap(0, 1)));
    refused(with(&|epoch| epoch.escrows[0].name = "both".into()));
    refused(with(&|epoch| epoch.credits[0].units = 0));
    refused(with(&|epoch| epoch.receipts = 2_000));
    refused(with(&|epoch| epoch.credits[0].units = u64::MAX));
    for change in [
        council_act::Change::Parameters(ParameterChange { economy: None }),
        council_act::Change::Parameters(ParameterChange {
            economy: Some(Economy { cap_units: 0, ..DEFAULT }),
        }),
        council_act::Change::Release(EscrowRelease { artist: "Not Normal".into(), to: key(1) }),
        council_act::Change::Release(EscrowRelease { artist: String::new(), to: Vec::new() }),
        council_act::Change::Ruling(Ruling { subject: None }),
    ] {
        refused(council(change).check_form());
    }
}

#[test]
fn proofs_bind_every_field() {
    let network = common::network();
    assert_eq!(transfer().check_proofs(&network, 8), Ok(()));
    let mut changed = transfer();
    changed.amount += 1;
    assert!(changed.check_proofs(&network, 0).is_err());
    let mut other = purchase();
    other.signature = transfer().signature;
    assert_eq!(other.check_proofs(&network, 8), Err(Invalid::Signature));
}

proptest! {
    #[test]
    fn decoders_are_total(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Block::parse(&bytes);
        if let Ok(receipt) = canonical::decode::<Receipt>("receipt", 1_024, &bytes) {
            let _ = receipt.check_form();
        }
        if let Ok(epoch) = canonical::decode::<Epoch>("epoch", 65_535, &bytes) {
            let _ = epoch.check_form();
        }
        let _ = AccessToken::check(&bytes, &common::network(), b"peer", 5);
    }

    #[test]
    fn a_flipped_bit_never_reads_as_the_same(at in 0usize..600, bit in 0u8..8) {
        for whole in [canonical::encode(&receipt()), canonical::encode(&transfer())] {
            let mut bytes = whole;
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            if let Ok(receipt) = canonical::decode::<Receipt>("receipt", 1_024, &bytes) {
                prop_assert!(receipt.check_form().is_err() || receipt.check_proofs(&common::network()).is_err());
            }
            if let Ok(transfer) = canonical::decode::<Transfer>("transfer", 1_024, &bytes) {
                let holds = transfer.check_form().is_ok() && transfer.check_proofs(&common::network(), 8).is_ok();
                prop_assert!(!holds);
            }
        }
    }
}
