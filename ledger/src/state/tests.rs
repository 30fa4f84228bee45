//! The state machine over a model in memory: every rule once, and the limits at their edges.

use proptest::prelude::*;

use super::*;
use crate::testing::{Artist, START_MS, genesis_of, key, member};

/// A ledger as plain maps. Songs are alike when their fingerprints begin with the same byte.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Memory {
    contents: BTreeMap<ContentHash, ContentEntry>,
    songs: BTreeMap<SongId, u64>,
    fingerprints: Vec<(u64, u8)>,
    others: Vec<u64>,
}

impl View for Memory {
    fn content(&mut self, hash: &ContentHash) -> Result<Option<ContentEntry>, Fault> {
        Ok(self.contents.get(hash).copied())
    }

    fn song_index(&mut self, id: &SongId) -> Result<Option<u64>, Fault> {
        Ok(self.songs.get(id).copied())
    }

    fn song_id(&mut self, index: u64) -> Result<Option<SongId>, Fault> {
        Ok(self.songs.iter().find(|(_, at)| **at == index).map(|(id, _)| *id))
    }

    fn similar(&mut self, song: &Song) -> Result<Option<Similar>, Fault> {
        if song.fingerprint[0] == 0xff {
            return Err(RuleError::BadFingerprint("ff".to_owned()).into());
        }
        let found = self.fingerprints.iter().find(|(_, first)| *first == song.fingerprint[0]);
        Ok(found.map(|(index, _)| Similar { index: *index, error_per_10_000: 42 }))
    }

    fn accept_song(&mut self, index: u64, song: &Song) -> Result<(), Fault> {
        self.fingerprints.push((index, song.fingerprint[0]));
        Ok(())
    }

    fn accept_other(&mut self, index: u64) {
        self.others.push(index);
    }

    fn song(&mut self, _: u64) -> Result<Option<Song>, Fault> {
        Ok(None)
    }

    fn state(&mut self, _: &StateKey) -> Result<Option<Vec<u8>>, Fault> {
        Ok(None)
    }
}

struct Bench {
    params: Params,
    artist: Artist,
    position: Position,
    memory: Memory,
}

impl Bench {
    fn new(quota: u32) -> Self {
        let genesis = genesis_of(member().public(), quota);
        let params = Params::of(&genesis);
        Self {
            params,
            artist: Artist::new(1, &genesis),
            position: Position::start(&params.network),
            memory: Memory::default(),
        }
    }

    fn song(&self, number: u64, first: u8) -> Song {
        let mut song = self.artist.bare_song(number, 40);
        song.fingerprint[0] = first;
        self.artist.prove_song(song)
    }

    /// The next block, with whatever is changed, as it would come from outside.
    fn block(
        &self,
        at: &Position,
        first: bool,
        body: block::Body,
        change: impl Fn(&mut Block),
    ) -> Result<Checked, Invalid> {
        let mut block = Block {
            version: BLOCK_VERSION,
            index: at.size,
            prev: at.link.0.to_vec(),
            height: if first { at.height + 1 } else { at.height },
            time_ms: at.time_ms.max(START_MS),
            body: Some(body),
        };
        change(&mut block);
        Checked::parse(&self.params, &block.to_bytes())
    }

    /// Applies bodies as one batch and keeps what was accepted.
    fn batch(&mut self, bodies: Vec<block::Body>) -> Vec<Result<Receipt, Refusal>> {
        let Self { params, artist: _, position, memory } = &*self;
        let (params, start) = (*params, *position);
        let mut view = memory.clone();
        let roster = Roster::genesis(&crate::testing::genesis().member_keys());
        let mut batch = Batch::begin(&params, start, &roster, Tokens::start(&params), &mut view);
        let mut verdicts = Vec::new();
        let mut accepted = 0;
        for body in bodies {
            let at = batch.position();
            let checked = self.block(&at, accepted == 0, body, |_| ()).unwrap();
            verdicts.push(match batch.apply(&checked) {
                Ok(receipt) => {
                    accepted += 1;
                    assert_eq!(receipt.hash, checked.hash());
                    Ok(receipt)
                }
                Err(ApplyError::Refused(refusal)) => {
                    assert_eq!(batch.position(), at, "a refusal changes nothing");
                    Err(refusal)
                }
                Err(ApplyError::Fault(fault)) => panic!("{fault}"),
            });
        }
        let end = batch.position();
        for (entry, index) in batch.finish().entries.into_iter().zip(start.size..) {
            let Some(entry) = entry else { continue };
            let place = ContentEntry { index, song_index: entry.song_index, song_id: entry.song_id };
            view.contents.insert(entry.content, place);
            if entry.song_index == index {
                view.songs.insert(entry.song_id, index);
            }
        }
        (self.position, self.memory) = (end, view);
        verdicts
    }
}

fn song(song: Song) -> block::Body {
    block::Body::Song(song)
}

#[test]
fn a_song_and_its_variants_in_one_batch_and_later() {
    let mut bench = Bench::new(64);
    let first = bench.song(1, 1);
    let variant = |n| block::Body::Variant(bench.artist.variant(&first, n));
    let (one, two, three) = (variant(1), variant(2), variant(3));
    let early = bench.batch(vec![one.clone()]);
    assert_eq!(early, [Err(Refusal::UnknownSong(first.id()))]);
    let verdicts = bench.batch(vec![song(first.clone()), one.clone(), two, one.clone()]);
    assert!(verdicts[..3].iter().all(Result::is_ok));
    assert!(
        matches!(&verdicts[3], Err(Refusal::Duplicate { index: 1, song_index: 0, song_id, .. }) if *song_id == first.id())
    );
    let verdicts = bench.batch(vec![three, song(first.clone()), one]);
    assert_eq!(verdicts[0].as_ref().map(|receipt| (receipt.index, receipt.height)), Ok((3, 2)));
    assert!(matches!(verdicts[1], Err(Refusal::Duplicate { index: 0, song_index: 0, .. })));
    assert!(matches!(verdicts[2], Err(Refusal::Duplicate { index: 1, song_index: 0, .. })));
    assert_eq!((bench.memory.fingerprints.len(), bench.memory.others.len()), (1, 3));
}

#[test]
fn near_duplicates_in_the_batch_and_before_it() {
    let mut bench = Bench::new(64);
    let (first, again, bad) = (bench.song(1, 9), bench.song(2, 9), bench.song(3, 0xff));
    let alike = Refusal::NearDuplicate { index: 0, song_id: first.id(), error_per_10_000: 42 };
    let verdicts = bench.batch(vec![song(first), song(again.clone()), song(bad)]);
    assert_eq!(verdicts[1], Err(alike.clone()));
    assert_eq!(verdicts[2], Err(Refusal::BadFingerprint("ff".to_owned())));
    assert_eq!(bench.batch(vec![song(again)]), [Err(alike)]);
}

#[test]
fn the_quota_counts_accepted_records_of_one_batch() {
    let mut bench = Bench::new(3);
    let songs: Vec<Song> = (0..5).map(|n| bench.song(n.into(), n)).collect();
    let mut bodies: Vec<_> = songs.iter().cloned().map(song).collect();
    // A duplicate is refused as such and costs no place.
    bodies.insert(1, song(songs[0].clone()));
    let verdicts = bench.batch(bodies);
    let outcome: Vec<_> = verdicts.iter().map(|verdict| verdict.as_ref().err().map(Refusal::code)).collect();
    use antiphon_proto::wire::RefusalCode::{DuplicateContent, Quota};
    assert_eq!(outcome, [None, Some(DuplicateContent), None, None, Some(Quota), Some(Quota)]);
    assert_eq!(verdicts[4], Err(Refusal::Quota { limit: 3 }));
    // Another registrant has a quota of its own, and the next batch a new one.
    let other = Artist::new(2, &genesis_of(member().public(), 3));
    let mut theirs = other.bare_song(77, 40);
    theirs.fingerprint[0] = 77;
    let theirs = other.prove_song(theirs);
    let verdicts = bench.batch(vec![song(songs[3].clone()), song(songs[4].clone()), song(theirs)]);
    assert!(verdicts.iter().all(Result::is_ok));
}

#[test]
fn variants_count_against_the_quota_too() {
    let mut bench = Bench::new(3);
    let first = bench.song(1, 1);
    let mut bodies = vec![song(first.clone())];
    bodies.extend((0..3).map(|n| block::Body::Variant(bench.artist.variant(&first, n))));
    let verdicts = bench.batch(bodies);
    assert!(verdicts[..3].iter().all(Result::is_ok));
    assert_eq!(verdicts[3], Err(Refusal::Quota { limit: 3 }));
}

#[test]
fn clocks_ahead_are_refused_at_the_first_millisecond_too_many() {
    let mut bench = Bench::new(64);
    let at = |bench: &Bench, number: u64, ahead: u64| {
        let mut song = bench.artist.bare_song(number, 40);
        song.created_ms = START_MS + limits::CLOCK_AHEAD_MS + ahead;
        bench.artist.prove_song(song)
    };
    let (edge, beyond) = (song(at(&bench, 1, 0)), song(at(&bench, 2, 1)));
    let verdicts = bench.batch(vec![edge, beyond]);
    assert!(verdicts[0].is_ok());
    assert!(matches!(verdicts[1], Err(Refusal::FromTheFuture { block_ms: START_MS, .. })));
}

#[test]
fn frames_must_fit() {
    let mut bench = Bench::new(64);
    let (one, two) = (bench.song(1, 1), bench.song(2, 2));
    bench.batch(vec![song(bench.song(0, 0))]);
    let try_block = |first: bool, change: &dyn Fn(&mut Block)| {
        let mut view = bench.memory.clone();
        let roster = Roster::genesis(&crate::testing::genesis().member_keys());
        let mut batch =
            Batch::begin(&bench.params, bench.position, &roster, Tokens::start(&bench.params), &mut view);
        if !first {
            let checked = bench.block(&bench.position, true, song(one.clone()), |_| ()).unwrap();
            batch.apply(&checked).unwrap();
        }
        let checked = bench.block(&batch.position(), first, song(two.clone()), change).unwrap();
        match batch.apply(&checked) {
            Ok(_) => None,
            Err(ApplyError::Refused(refusal)) => Some(refusal),
            Err(ApplyError::Fault(fault)) => panic!("{fault}"),
        }
    };
    for first in [true, false] {
        assert_eq!(try_block(first, &|_| ()), None);
        let size = if first { 1 } else { 2 };
        for wrong in [0, size - 1, size + 1, u64::MAX] {
            if wrong != size {
                let refused = try_block(first, &|block| block.index = wrong);
                assert_eq!(refused, Some(Refusal::Index { expected: size, got: wrong }));
            }
        }
        assert!(matches!(try_block(first, &|block| block.prev[31] ^= 1), Some(Refusal::Link { .. })));
        for wrong in [1, 3, u64::MAX] {
            let refused = try_block(first, &|block| block.height = wrong);
            assert_eq!(refused, Some(Refusal::Height { expected: 2, got: wrong }));
        }
        assert!(matches!(try_block(first, &|block| block.time_ms -= 1), Some(Refusal::Time { .. })));
    }
    // Later is right at the start of a batch, and wrong inside.
    assert_eq!(try_block(true, &|block| block.time_ms += 1), None);
    assert!(matches!(try_block(false, &|block| block.time_ms += 1), Some(Refusal::Time { .. })));
}

#[test]
fn proofs_belong_to_the_block() {
    let bench = Bench::new(64);
    let good = bench.song(1, 1);
    let parse = |song: Song| bench.block(&bench.position, true, block::Body::Song(song), |_| ());
    assert!(parse(good.clone()).is_ok());
    let forged = Song { year: 1999, ..good.clone() };
    assert!(matches!(parse(forged).unwrap_err(), Invalid::Signature | Invalid::Stamp(_)));
    let elsewhere = Artist { network: NetworkId([1; 32]), key: key(1), stamp_bits: 0 };
    let foreign = elsewhere.prove_song(elsewhere.bare_song(1, 40));
    assert!(matches!(parse(foreign).unwrap_err(), Invalid::Signature | Invalid::Stamp(_)));
    let variant = bench.artist.variant(&good, 1);
    let forged = Variant { bytes: 6, ..variant };
    let parsed = bench.block(&bench.position, true, block::Body::Variant(forged), |_| ());
    assert!(matches!(parsed.unwrap_err(), Invalid::Signature | Invalid::Stamp(_)));
}

#[test]
fn a_batch_holds_340_blocks_and_a_mebibyte() {
    let fill = |fingerprint: usize| {
        let mut bench = Bench::new(u32::MAX);
        let bodies = (0..400u64)
            .map(|number| {
                let mut bare = bench.artist.bare_song(number, fingerprint);
                // All different: the rule of this test looks at one byte only.
                bare.fingerprint[0] = 0;
                song(bench.artist.prove_song(bare))
            })
            .collect::<Vec<_>>();
        let view = &mut Unlike(Memory::default());
        let params = bench.params;
        let roster = Roster::genesis(&crate::testing::genesis().member_keys());
        let mut batch = Batch::begin(&params, bench.position, &roster, Tokens::start(&params), view);
        let (mut count, mut bytes) = (0, 0);
        for body in bodies {
            let checked = bench.block(&batch.position(), count == 0, body, |_| ()).unwrap();
            match batch.apply(&checked) {
                Ok(_) => (count, bytes) = (count + 1, bytes + checked.bytes),
                Err(ApplyError::Refused(Refusal::BatchFull)) => {
                    let full = count == limits::BATCH_BLOCKS || bytes + checked.bytes > limits::BATCH_BYTES;
                    assert!(full, "{count} blocks, {bytes} bytes");
                }
                Err(other) => panic!("{other}"),
            }
        }
        bench.position = batch.position();
        (count, bytes)
    };
    assert_eq!(fill(40).0, limits::BATCH_BLOCKS);
    let (count, bytes) = fill(limits::FINGERPRINT_BYTES);
    assert!(count < limits::BATCH_BLOCKS && bytes <= limits::BATCH_BYTES, "{count} {bytes}");
    assert!(bytes > limits::BATCH_BYTES - limits::SONG_BLOCK_BYTES);
}

/// A view in which nothing is alike.
struct Unlike(Memory);

impl View for Unlike {
    fn content(&mut self, hash: &ContentHash) -> Result<Option<ContentEntry>, Fault> {
        self.0.content(hash)
    }
    fn song_index(&mut self, id: &SongId) -> Result<Option<u64>, Fault> {
        self.0.song_index(id)
    }
    fn song_id(&mut self, index: u64) -> Result<Option<SongId>, Fault> {
        self.0.song_id(index)
    }
    fn similar(&mut self, _: &Song) -> Result<Option<Similar>, Fault> {
        Ok(None)
    }
    fn accept_song(&mut self, _: u64, _: &Song) -> Result<(), Fault> {
        Ok(())
    }
    fn accept_other(&mut self, _: u64) {}
    fn song(&mut self, _: u64) -> Result<Option<Song>, Fault> {
        Ok(None)
    }
    fn state(&mut self, _: &StateKey) -> Result<Option<Vec<u8>>, Fault> {
        Ok(None)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    /// However blocks are cut into batches (within the limits), the same ones are accepted and the same is known.
    #[test]
    fn verdicts_do_not_depend_on_the_cut(
        picks in proptest::collection::vec((0..12u64, 0..8u8, any::<bool>()), 1..20),
        cuts in proptest::collection::vec(1..6usize, 1..8)) {
        let template = Bench::new(u32::MAX);
        let bodies: Vec<block::Body> = picks.iter().map(|(number, first, is_song)| {
            let of = template.song(*number, *first);
            if *is_song { song(of) } else { block::Body::Variant(template.artist.variant(&of, *number)) }
        }).collect();
        let mut whole = Bench::new(u32::MAX);
        let expected: Vec<_> =
            whole.batch(bodies.clone()).into_iter().map(|verdict| verdict.map(|receipt| receipt.index)).collect();
        let mut parts = Bench::new(u32::MAX);
        let mut got = Vec::new();
        let mut rest = &bodies[..];
        for cut in cuts.into_iter().chain(std::iter::repeat(3)) {
            let (now, later) = rest.split_at(cut.min(rest.len()));
            got.extend(parts.batch(now.to_vec()).into_iter().map(|verdict| verdict.map(|receipt| receipt.index)));
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(got, expected);
        prop_assert_eq!(&parts.memory, &whole.memory);
        prop_assert_eq!(parts.position.size, whole.position.size);
    }

    #[test]
    fn garbage_is_no_block_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let bench = Bench::new(1);
        prop_assert!(Checked::parse(&bench.params, &bytes).is_err());
    }
}
