//! Random registrations and random restarts: the ledger on disk against a model in memory.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use antiphon_ledger::{
    IdPrefix, Ledger, Options, Refusal, Verdict,
    state::{ApplyError, ContentEntry},
};
use antiphon_proto::{
    ContentHash, SongId, limits,
    record::Invalid,
    wire::{RefusalCode, Registration, Song, Split, Terms, registration},
};
use common::{Artist, START_MS, genesis_of, member, sealed};
use proptest::prelude::*;

/// What a registrant may do, right or wrong.
#[derive(Debug, Clone)]
enum Act {
    Song {
        artist: u8,
        number: u64,
    },
    Variant {
        artist: u8,
        of: u64,
        number: u64,
    },
    /// A file that a song holds, as a variant of the same or another song.
    SongAsVariant {
        artist: u8,
        of: u64,
        number: u64,
    },
    BadSignature {
        number: u64,
    },
    BadStamp {
        number: u64,
    },
    WrongSplits {
        number: u64,
    },
    LongTitle {
        number: u64,
    },
    FromTheFuture {
        number: u64,
    },
    OpenTerms {
        number: u64,
    },
    Nothing,
}

#[derive(Debug, Clone)]
enum Step {
    Batch(Vec<Act>),
    /// Dropped as by a kill, opened again.
    Reopen,
    /// Closed, opened again.
    Close,
    /// The index removed while it was closed.
    LoseIndex,
}

fn act() -> impl Strategy<Value = Act> {
    // Few numbers, so that duplicates and known songs are common.
    let number = 0..30u64;
    prop_oneof![
        8 => (0..3u8, number.clone()).prop_map(|(artist, number)| Act::Song { artist, number }),
        4 => (0..3u8, number.clone(), number.clone())
            .prop_map(|(artist, of, number)| Act::Variant { artist, of, number }),
        1 => (0..3u8, number.clone(), number.clone())
            .prop_map(|(artist, of, number)| Act::SongAsVariant { artist, of, number }),
        1 => number.clone().prop_map(|number| Act::BadSignature { number }),
        1 => number.clone().prop_map(|number| Act::BadStamp { number }),
        1 => number.clone().prop_map(|number| Act::WrongSplits { number }),
        1 => number.clone().prop_map(|number| Act::LongTitle { number }),
        1 => number.clone().prop_map(|number| Act::FromTheFuture { number }),
        1 => number.prop_map(|number| Act::OpenTerms { number }),
        1 => Just(Act::Nothing),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => proptest::collection::vec(act(), 0..14).prop_map(Step::Batch),
        2 => Just(Step::Reopen),
        1 => Just(Step::Close),
        1 => Just(Step::LoseIndex),
    ]
}

/// Quota of the model's network: small, so that batches run into it.
const QUOTA: u32 = 3;

struct Artists(Vec<Artist>);

impl Artists {
    fn song(&self, artist: u8, number: u64) -> Song {
        self.0[usize::from(artist)].song(number)
    }

    /// The registration, and the verdict that form and proofs alone give.
    fn registration(&self, act: &Act) -> (Registration, Option<RefusalCode>) {
        let first = &self.0[0];
        let changed = |number, change: &dyn Fn(&mut Song)| {
            let mut song = first.bare_song(number, 40);
            change(&mut song);
            Registration::of_song(first.prove_song(song))
        };
        match *act {
            Act::Song { artist, number } => (Registration::of_song(self.song(artist, number)), None),
            Act::Variant { artist, of, number } => {
                let variant = self.0[usize::from(artist)].variant(&self.song(0, of), number);
                (Registration::of_variant(variant), None)
            }
            Act::SongAsVariant { artist, of, number } => {
                let who = &self.0[usize::from(artist)];
                let mut variant = who.variant(&self.song(0, of), number);
                variant.content_hash = self.song(0, number).content_hash;
                variant.stamp =
                    variant.stamp_challenge(&who.network).search(who.stamp_bits, 0, 1 << 30).unwrap();
                variant.sign(&who.network, &who.key);
                (Registration::of_variant(variant), None)
            }
            Act::BadSignature { number } => {
                let mut song = self.song(0, number);
                song.signature[3] ^= 1;
                (Registration::of_song(song), Some(RefusalCode::BadSignature))
            }
            Act::BadStamp { number } => {
                let mut song = self.song(0, number);
                let challenge = song.stamp_challenge(&first.network);
                song.stamp = (0..).find(|stamp| !challenge.accepts(*stamp, first.stamp_bits)).unwrap();
                song.sign(&first.network, &first.key);
                (Registration::of_song(song), Some(RefusalCode::BadStamp))
            }
            Act::WrongSplits { number } => {
                let splits = |song: &mut Song| {
                    song.artist_key = first.key.public().0.to_vec();
                    song.splits = vec![Split { key: song.artist_key.clone(), basis_points: 9_999 }];
                };
                (changed(number, &splits), Some(RefusalCode::WrongSplits))
            }
            Act::LongTitle { number } => {
                (changed(number, &|song| song.title = "x".repeat(257)), Some(RefusalCode::Limit))
            }
            Act::FromTheFuture { number } => {
                let future = START_MS + limits::CLOCK_AHEAD_MS + 1;
                (changed(number, &|song| song.created_ms = future), Some(RefusalCode::Time))
            }
            Act::OpenTerms { number } => {
                (changed(number, &|song| song.terms = Some(Terms::default())), Some(RefusalCode::Malformed))
            }
            Act::Nothing => (Registration { body: None }, Some(RefusalCode::Malformed)),
        }
    }
}

/// What the ledger should hold, written as plainly as possible.
#[derive(Default)]
struct Model {
    /// Registration of each block, and where the batches begin.
    blocks: Vec<Registration>,
    starts: Vec<u64>,
    contents: BTreeMap<Vec<u8>, ContentEntry>,
    songs: BTreeMap<[u8; 32], u64>,
    variants: BTreeMap<[u8; 32], Vec<u64>>,
}

impl Model {
    /// The verdict on one more registration in a batch, in which registrants have so many records already.
    fn apply(
        &mut self,
        registration: &Registration,
        records: &mut BTreeMap<Vec<u8>, u32>,
    ) -> Option<RefusalCode> {
        let index = self.blocks.len() as u64;
        let (content, registrant, song_id, is_song) = match registration.body.as_ref().unwrap() {
            registration::Body::Song(song) => (&song.content_hash, &song.registrant, song.id(), true),
            registration::Body::Variant(variant) => {
                (&variant.content_hash, &variant.registrant, variant.song().unwrap(), false)
            }
            _ => unreachable!("this test makes none"),
        };
        if self.contents.contains_key(content) {
            return Some(RefusalCode::DuplicateContent);
        }
        if !is_song && !self.songs.contains_key(&song_id.0) {
            return Some(RefusalCode::UnknownSong);
        }
        let count = records.entry(registrant.clone()).or_default();
        if *count == QUOTA {
            return Some(RefusalCode::Quota);
        }
        *count += 1;
        if is_song {
            self.songs.insert(song_id.0, index);
        } else {
            self.variants.entry(song_id.0).or_default().push(index);
        }
        let song_index = self.songs[&song_id.0];
        self.contents.insert(content.clone(), ContentEntry { index, song_index, song_id });
        self.blocks.push(registration.clone());
        None
    }

    fn compare(&self, ledger: &Ledger) {
        let info = ledger.info();
        assert_eq!(info.size, self.blocks.len() as u64);
        assert_eq!((info.songs, info.height), (self.songs.len() as u64, self.starts.len() as u64));
        let mut bytes = 0;
        for (registration, index) in self.blocks.iter().zip(0u64..) {
            bytes += ledger.block(index).unwrap().unwrap().len() as u64;
            match registration.body.as_ref().unwrap() {
                registration::Body::Song(song) => {
                    assert_eq!(ledger.song(index).unwrap().as_ref(), Some(song));
                    let short: IdPrefix = song.id().to_string()[..9].parse().unwrap();
                    assert_eq!(ledger.songs_with_id_prefix(&short, 2).unwrap(), [(song.id(), index)]);
                }
                _ => assert_eq!(ledger.song(index).unwrap(), None),
            }
            let first = self.starts.iter().rfind(|start| **start <= index);
            assert_eq!(ledger.batch_from(index).unwrap().map(|batch| batch.first), first.copied());
        }
        assert_eq!(info.bytes, bytes);
        assert_eq!(ledger.batch_from(info.size).unwrap(), None);
        assert_eq!(ledger.block(info.size).unwrap(), None);
        for (content, entry) in &self.contents {
            let content = ContentHash::try_from(&content[..]).unwrap();
            assert_eq!(ledger.by_content(&content).unwrap(), Some(*entry));
        }
        for (id, index) in &self.songs {
            assert_eq!(ledger.by_song_id(&SongId(*id)).unwrap(), Some(*index));
            let variants = self.variants.get(id).cloned().unwrap_or_default();
            assert_eq!(ledger.variants_of(&SongId(*id)).unwrap(), variants);
        }
        let all: IdPrefix = "0".parse().unwrap();
        let expected: BTreeSet<SongId> =
            self.songs.keys().filter(|id| id[0] < 16).map(|id| SongId(*id)).collect();
        let listed: Vec<SongId> =
            ledger.songs_with_id_prefix(&all, 1000).unwrap().into_iter().map(|(id, _)| id).collect();
        assert_eq!(listed, expected.into_iter().collect::<Vec<_>>());
        assert_eq!(ledger.by_content(&ContentHash([0xee; 32])).unwrap(), None);
        assert_eq!(ledger.by_song_id(&SongId([0xee; 32])).unwrap(), None);
    }
}

fn run(steps: &[Step]) {
    let dir = tempfile::tempdir().unwrap();
    let genesis = genesis_of(member().public(), QUOTA);
    let open = || {
        let tuning = antiphon_ledger::Tuning { segment_bytes: 4_000, fold_blocks: 5 };
        Ledger::open_with(dir.path(), Options::without_rule(Some(genesis.clone())), tuning).unwrap()
    };
    let artists = Artists((0..3).map(|number| Artist::new(number, &genesis)).collect());
    let mut model = Model::default();
    let mut ledger = open();
    for step in steps {
        match step {
            Step::Batch(acts) => batch(&ledger, &mut model, &artists, acts),
            Step::Reopen => {
                drop(ledger);
                ledger = open();
            }
            Step::Close | Step::LoseIndex => {
                ledger.close().unwrap();
                drop(ledger);
                if matches!(step, Step::LoseIndex) {
                    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
                }
                ledger = open();
            }
        }
        model.compare(&ledger);
    }
    let report = ledger.verify(false, &mut |_| {}).unwrap();
    assert_eq!((report.blocks, report.batches), (model.blocks.len() as u64, model.starts.len() as u64));
}

fn batch(ledger: &Ledger, model: &mut Model, artists: &Artists, acts: &[Act]) {
    let (registrations, formal): (Vec<_>, Vec<_>) = acts.iter().map(|act| artists.registration(act)).unzip();
    let before = ledger.info();
    let (batch, proposal) = sealed(ledger, START_MS, &registrations);
    assert_eq!(ledger.info().root, before.root, "a proposal changes nothing");
    let (first, mut records) = (model.blocks.len(), BTreeMap::new());
    for ((registration, formal), verdict) in registrations.iter().zip(formal).zip(&proposal.verdicts) {
        let expected = formal.or_else(|| model.apply(registration, &mut records));
        match (expected, verdict) {
            (None, Verdict::Accepted { position }) => {
                assert_eq!(*position, model.blocks.len() - first - 1);
            }
            (Some(RefusalCode::Quota), Verdict::NotThisBatch) => {}
            (Some(code), Verdict::Refused(refusal)) => assert_eq!(refusal.code(), code, "{refusal}"),
            (expected, verdict) => panic!("{verdict:?} instead of {expected:?} for {registration:?}"),
        }
    }
    if !batch.blocks.is_empty() {
        model.starts.push(batch.first);
        ledger.append(&batch).unwrap();
    }
    assert_eq!(ledger.root(), proposal.root);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn the_ledger_is_the_model(steps in proptest::collection::vec(step(), 1..14)) {
        run(&steps);
    }
}

/// The verdicts are errors that people read: each says what stands in the way.
#[test]
fn refusals_name_what_stands_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = common::open(dir.path());
    let artist = Artist::new(1, ledger.genesis());
    let song = artist.song(1);
    common::extend(&ledger, &[Registration::of_song(song.clone())]).unwrap();
    let again = common::extend(&ledger, &[Registration::of_song(song.clone())]).unwrap();
    match &again[..] {
        [Verdict::Refused(refusal @ Refusal::Duplicate { index: 0, song_index: 0, song_id, .. })] => {
            assert_eq!(*song_id, song.id());
            assert_eq!(refusal.to_wire().song_id, song.id().0);
        }
        other => panic!("{other:?}"),
    }
    // The type that the state machine answers with keeps faults of the machine apart from verdicts.
    let refused = ApplyError::from(Refusal::from(Invalid::Signature));
    assert!(matches!(refused, ApplyError::Refused(_)));
}
