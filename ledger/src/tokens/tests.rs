//! The rules over a model in memory: what adds up, what is refused, what does not depend on order.

use std::collections::BTreeMap;

use antiphon_proto::{
    PublicKey, SongId,
    council::Change,
    economy::{DEFAULT, TOKEN},
    epoch::Escrow,
    play::ReceiptId,
    wire::{
        AccountState, Claim, Economy, Epoch, EscrowState, Grant, Purchase, Receipt, ReceiptBody, RightState,
        Served, Song, SongState, Span, Split, Terms, TermsKind, Transfer,
    },
};
use proptest::prelude::*;
use prost::Message;

use super::{book::Changes, *};
use crate::{
    error::Fault,
    refusal::Refusal,
    state::{ApplyError, Params},
    testing::{START_MS, genesis},
};

const MINUTES_3: u32 = 180_000;
/// When settlements of these tests are.
const NOW: u64 = START_MS + 24 * 3_600_000;

/// A ledger's songs and state as plain maps.
#[derive(Default)]
struct Memory {
    songs: Vec<Song>,
    state: BTreeMap<StateKey, Vec<u8>>,
}

impl TokenView for Memory {
    fn state(&mut self, key: &StateKey) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.state.get(key).cloned())
    }

    fn song_at(&mut self, index: u64) -> Result<Option<Song>, Fault> {
        Ok(self.songs.get(usize::try_from(index).unwrap()).cloned())
    }

    fn index_of(&mut self, id: &SongId) -> Result<Option<u64>, Fault> {
        Ok(self.songs.iter().position(|song| song.id() == *id).map(|at| at as u64))
    }
}

/// A network of which only the tokens are looked at.
struct Town {
    memory: Memory,
    pending: Pending,
}

fn key(number: u8) -> PublicKey {
    PublicKey([number; 32])
}

fn song(number: u8) -> Song {
    Song {
        title: format!("song {number}"),
        artist: "The  Fans".into(),
        duration_ms: MINUTES_3,
        ..Song::default()
    }
}

/// A song by an artist who shares with another.
fn shared(number: u8) -> Song {
    let split = |who: u8, basis_points| Split { key: key(who).0.to_vec(), basis_points };
    Song {
        artist_key: key(100).0.to_vec(),
        splits: vec![split(100, 6_667), split(101, 3_333)],
        ..song(number)
    }
}

impl Town {
    fn with(economy: Economy, songs: Vec<Song>) -> Self {
        let params = Params { economy, ..Params::of(&genesis()) };
        let pending = Pending::new(Tokens::start(&params));
        Self { memory: Memory { songs, ..Memory::default() }, pending }
    }

    fn new(songs: Vec<Song>) -> Self {
        Self::with(DEFAULT, songs)
    }

    fn apply<T>(
        &mut self,
        work: impl FnOnce(&mut Draft<'_, Memory>) -> Result<T, ApplyError>,
    ) -> Result<T, Refusal> {
        let mut draft = Draft::new(&mut self.memory, &self.pending);
        match work(&mut draft) {
            Ok(done) => {
                let changes: Changes = draft.finish();
                self.pending.take(changes);
                Ok(done)
            }
            Err(ApplyError::Refused(refusal)) => Err(refusal),
            Err(ApplyError::Fault(fault)) => panic!("{fault}"),
        }
    }

    fn value<M: Message + Default>(&mut self, key: &StateKey) -> M {
        Draft::new(&mut self.memory, &self.pending).get(key).unwrap()
    }

    fn units(&mut self, who: u8) -> u64 {
        self.value::<AccountState>(&StateKey::Account(key(who))).units
    }

    fn escrow(&mut self, escrow: Escrow) -> u64 {
        self.value::<EscrowState>(&StateKey::Escrow(escrow)).units
    }

    fn plays(&mut self, song: u64) -> u64 {
        self.value::<SongState>(&StateKey::Song(song)).plays
    }

    /// Gives an account units that come from nowhere but are counted.
    fn endow(&mut self, who: u8, units: u64) {
        self.apply(|draft| {
            draft.tokens.totals.minted += units;
            draft.update(StateKey::Account(key(who)), |account: &mut AccountState| {
                account.units += units;
                Ok(())
            })
        })
        .unwrap();
    }

    fn settlement(&mut self, time_ms: u64, receipts: &[Receipt]) -> Settlement {
        let mut draft = Draft::new(&mut self.memory, &self.pending);
        settle(&mut draft, time_ms, receipts, &NoEarlier).unwrap()
    }

    /// Settles and applies; how many receipts were settled.
    fn settle(&mut self, time_ms: u64, receipts: &[Receipt]) -> usize {
        let Settlement { epoch: settled, settled: positions, .. } = self.settlement(time_ms, receipts);
        if let Some(settled) = settled {
            settled.check_form().unwrap();
            self.apply(|draft| epoch(draft, &settled, time_ms)).unwrap();
        }
        self.adds_up();
        positions.len()
    }

    /// The supply is what was minted less what was burned, and lies in accounts and escrows; never above the cap.
    fn adds_up(&mut self) {
        let tokens = self.pending.tokens;
        let mut sum = 0u128;
        for (key, value) in &self.pending.entries {
            sum += u128::from(match key {
                StateKey::Account(_) => AccountState::decode(&value[..]).unwrap().units,
                StateKey::Escrow(_) => EscrowState::decode(&value[..]).unwrap().units,
                _ => 0,
            });
        }
        assert!(tokens.totals.burned <= tokens.totals.minted);
        assert_eq!(sum, u128::from(tokens.supply()));
        assert!(tokens.supply() <= tokens.economy().cap_units);
        let there = self.pending.entries.values().filter(|value| !value.is_empty()).count();
        assert_eq!(tokens.totals.entries, there as u64);
    }
}

/// A play of three minutes that ends at `end_ms`, heard from the start for so many seconds.
struct Heard {
    listener: u8,
    song: Song,
    end_ms: u64,
    seconds: u32,
    served: Vec<(u8, u64)>,
    session: u8,
}

impl Heard {
    fn new(listener: u8, song: &Song, end_ms: u64) -> Self {
        Self { listener, song: song.clone(), end_ms, seconds: 100, served: vec![(50, 1_000)], session: 1 }
    }

    fn receipt(&self) -> Receipt {
        let body = ReceiptBody {
            session: vec![self.session; 16],
            song_id: self.song.id().0.to_vec(),
            listener: key(self.listener).0.to_vec(),
            witness: key(self.served[0].0).0.to_vec(),
            start_ms: self.end_ms - u64::from(self.seconds) * 1_000,
            end_ms: self.end_ms,
            heard: vec![Span { start: 0, end: self.seconds * 1_000 }],
            beats: 20,
            chain: vec![0; 32],
            served: self
                .served
                .iter()
                .map(|(who, bytes)| Served { key: key(*who).0.to_vec(), bytes: *bytes })
                .collect(),
        };
        Receipt::new(body, &[0; 64], &[0; 64])
    }
}

fn why(town: &mut Town, receipts: &[Receipt]) -> Vec<Unsettled> {
    town.settlement(NOW, receipts).unsettled.into_iter().map(|(_, why)| why).collect()
}

#[test]
fn a_discovery_pays_listener_server_and_escrow() {
    let (fans, theirs) = (song(0), shared(1));
    let mut town = Town::new(vec![fans.clone(), theirs.clone()]);
    let receipts =
        [Heard::new(1, &fans, NOW).receipt(), Heard { listener: 2, ..Heard::new(2, &theirs, NOW) }.receipt()];
    assert_eq!(town.settle(NOW, &receipts), 2);
    assert_eq!((town.units(1), town.units(2), town.units(50)), (TOKEN, TOKEN, 2 * TOKEN));
    assert_eq!(town.escrow(Escrow::Name("the fans".into())), TOKEN);
    // Also the artist who has registered waits for the council.
    assert_eq!((town.escrow(Escrow::Key(key(100))), town.units(100)), (TOKEN, 0));
    assert_eq!((town.plays(0), town.plays(1), town.pending.tokens.supply()), (1, 1, 6 * TOKEN));
}

#[test]
fn beyond_the_threshold_the_splits_are_paid_and_the_listener_burns() {
    let theirs = shared(0);
    // The supply is 40 tokens of at most 1,000: a play burns 1,000 * (40 / 1,000)^3 = 0.064 tokens.
    let economy = Economy { floor_units: 0, cap_units: 1_000 * TOKEN, threshold_plays: 2, ..DEFAULT };
    let mut town = Town::with(economy, vec![theirs.clone()]);
    town.endow(1, 40 * TOKEN);
    let play = |listener: u8, end_ms| Heard::new(listener, &theirs, end_ms).receipt();
    // Three in one settlement: the first two to end are discoveries, whatever the order in which they came.
    let receipts = [play(1, NOW), play(2, NOW - 2), play(3, NOW - 1)];
    assert_eq!(town.settle(NOW, &receipts), 3);
    let burn = TOKEN * 64 / 1_000;
    assert_eq!(town.units(1), 40 * TOKEN - burn);
    assert_eq!((town.units(2), town.units(3), town.units(50)), (TOKEN, TOKEN, 3 * TOKEN));
    assert_eq!(town.escrow(Escrow::Key(key(100))), 2 * TOKEN);
    // 6,667 and 3,333 of 10,000.
    assert_eq!((town.units(100), town.units(101)), (66_670_000, 33_330_000));
    assert_eq!(town.pending.tokens.totals.burned, burn);
    // Who has nothing cannot pay: the play does not count, and may later.
    let later = NOW + 600_000;
    let poor = town.settlement(later, &[play(9, later)]);
    assert!(
        matches!(poor.unsettled[..], [(0, Unsettled::CannotPay { there: 0, .. })]) && poor.epoch.is_none()
    );
}

#[test]
fn a_server_is_paid_by_its_bytes_and_not_for_its_own_listening() {
    let fans = song(0);
    let mut town = Town::new(vec![fans.clone()]);
    let three = Heard { served: vec![(50, 700), (51, 200), (1, 100)], ..Heard::new(1, &fans, NOW) };
    assert_eq!(town.settle(NOW, &[three.receipt()]), 1);
    // The listener served itself a tenth: the rest is shared by those who did something.
    assert_eq!((town.units(50), town.units(51), town.units(1)), (77_777_778, 22_222_222, TOKEN));
    let mut alone = Town::new(vec![fans.clone()]);
    let own = Heard { served: vec![(1, 100)], ..Heard::new(1, &fans, NOW) };
    assert_eq!(alone.settle(NOW, &[own.receipt()]), 1);
    assert_eq!((alone.units(1), alone.pending.tokens.supply()), (TOKEN, 2 * TOKEN));
}

#[test]
fn a_song_without_an_artist_pays_no_artist() {
    let nameless = Song { artist: "  ".into(), ..song(0) };
    let mut town = Town::new(vec![nameless.clone(), with_terms(nameless.clone(), TermsKind::Purchase, 5)]);
    assert_eq!(town.settle(NOW, &[Heard::new(1, &nameless, NOW).receipt()]), 1);
    assert_eq!((town.units(1), town.units(50), town.pending.tokens.supply()), (TOKEN, TOKEN, 2 * TOKEN));
    let sold = town.memory.songs[1].id();
    let record = Purchase {
        buyer: key(1).0.to_vec(),
        song_id: sold.0.to_vec(),
        price: 5,
        sequence: 1,
        ..Purchase::default()
    };
    assert!(matches!(town.apply(|draft| purchase(draft, &record, 9, NOW)), Err(Refusal::Terms(_))));
}

#[test]
fn nothing_is_minted_past_the_cap() {
    let fans = song(0);
    let economy = Economy { floor_units: 0, cap_units: 10 * TOKEN, ..DEFAULT };
    let mut town = Town::with(economy, vec![fans.clone()]);
    town.endow(9, 4 * TOKEN);
    let receipts: Vec<Receipt> = (1..5).map(|n| Heard::new(n, &fans, NOW + u64::from(n)).receipt()).collect();
    assert_eq!(town.settle(NOW + 9, &receipts), 4);
    // Two plays fit; the others count, and bring nothing.
    assert_eq!((town.plays(0), town.pending.tokens.supply()), (4, 10 * TOKEN));
    assert_eq!((town.units(1), town.units(2), town.units(3), town.units(4)), (TOKEN, TOKEN, 0, 0));
}

#[test]
fn plays_that_are_none() {
    let fans = song(0);
    let mut town = Town::new(vec![fans.clone()]);
    let good = Heard::new(1, &fans, NOW).receipt();
    let with = |change: &dyn Fn(&mut Heard)| {
        let mut heard = Heard::new(1, &fans, NOW);
        change(&mut heard);
        heard.receipt()
    };
    assert!(why(&mut town, std::slice::from_ref(&good)).is_empty());
    assert_eq!(why(&mut town, &[good.clone(), good.clone()]), [Unsettled::TwoAtOnce]);
    // Elsewhere at the same time, whoever has witnessed it.
    let other = with(&|heard| (heard.session, heard.served) = (2, vec![(51, 5)]));
    assert_eq!(why(&mut town, &[good.clone(), other]), [Unsettled::TwoAtOnce]);
    let future = with(&|heard| heard.end_ms = NOW + 600_001);
    assert_eq!(why(&mut town, &[future]), [Unsettled::Future]);
    let ancient = with(&|heard| heard.end_ms = NOW - u64::from(DEFAULT.window_ms) - 1);
    assert_eq!(why(&mut town, &[ancient]), [Unsettled::Ancient]);
    let short = with(&|heard| heard.seconds = 89);
    let (heard_ms, needed_ms) = (89_000, 90_000);
    assert_eq!(why(&mut town, &[short]), [Unsettled::NotEnough { heard_ms, needed_ms }]);
    let long = with(&|heard| heard.seconds = 181);
    assert_eq!(why(&mut town, &[long]), [Unsettled::BeyondTheEnd]);
    let unknown = with(&|heard| heard.song = song(9));
    assert_eq!(why(&mut town, &[unknown]), [Unsettled::UnknownSong(song(9).id())]);
    town.apply(|draft| act(draft, Change::Song { song: fans.id(), withheld: true })).unwrap();
    assert_eq!(why(&mut town, &[good]), [Unsettled::Withheld]);
}

#[test]
fn what_was_settled_is_not_settled_again() {
    struct Once(ReceiptId, PublicKey);
    impl Earlier for Once {
        fn overlaps(&self, listener: &PublicKey, start_ms: u64, end_ms: u64) -> bool {
            *listener == self.1 && start_ms <= NOW && end_ms >= NOW - 100_000
        }
    }
    let fans = song(0);
    let mut town = Town::new(vec![fans.clone()]);
    let receipt = Heard::new(1, &fans, NOW).receipt();
    let earlier = Once(receipt.id(), key(1));
    assert_ne!(earlier.0, [0; 32]);
    let mut draft = Draft::new(&mut town.memory, &town.pending);
    let again = settle(&mut draft, NOW, &[receipt], &earlier).unwrap();
    assert_eq!((again.epoch, again.unsettled), (None, vec![(0, Unsettled::TwoAtOnce)]));
}

#[test]
fn a_play_goes_on_with_another_witness() {
    let fans = song(0);
    let mut town = Town::new(vec![fans.clone()]);
    let part = |end_ms, from: u32, to: u32, server| {
        let mut receipt =
            Heard { served: vec![(server, 500)], seconds: to - from, ..Heard::new(1, &fans, end_ms) }
                .receipt();
        receipt.body.as_mut().unwrap().heard = vec![Span { start: from * 1_000, end: to * 1_000 }];
        receipt
    };
    let (one, two) = (part(NOW - 60_000, 0, 50, 50), part(NOW, 45, 95, 51));
    assert!(matches!(why(&mut town, std::slice::from_ref(&one))[..], [Unsettled::NotEnough { .. }]));
    // Five seconds were heard twice: 95 of the 90 that are needed.
    assert_eq!(town.settle(NOW, &[two.clone(), one.clone()]), 2);
    assert_eq!(
        (town.plays(0), town.units(1), town.units(50), town.units(51)),
        (1, TOKEN, TOKEN / 2, TOKEN / 2)
    );
    // Two who claim the same minute: one of them is not believed, and what is left is not enough.
    let mut other = Town::new(vec![fans.clone()]);
    let double = part(NOW - 30_000, 45, 95, 51);
    let found = other.settlement(NOW, &[one, double]);
    assert!(found.epoch.is_none() && found.unsettled.iter().any(|(_, why)| *why == Unsettled::TwoAtOnce));
}

#[test]
fn of_two_receipts_of_one_witness_the_longer_counts() {
    let fans = song(0);
    let mut town = Town::new(vec![fans.clone()]);
    // Began at the same time; 80 seconds are not enough, 100 are.
    let short = Heard { seconds: 80, ..Heard::new(1, &fans, NOW - 20_000) }.receipt();
    let long = Heard::new(1, &fans, NOW).receipt();
    for receipts in [[short.clone(), long.clone()], [long, short]] {
        let found = town.settlement(NOW, &receipts);
        assert_eq!((found.settled.len(), found.unsettled.len()), (1, 1));
    }
}

#[test]
fn a_settlement_that_says_something_else_is_refused() {
    let fans = song(0);
    let mut town = Town::new(vec![fans.clone()]);
    let receipts = [Heard::new(1, &fans, NOW).receipt()];
    let right = town.settlement(NOW, &receipts).epoch.unwrap();
    let refused = |town: &mut Town, change: &dyn Fn(&mut Epoch)| {
        let mut wrong = right.clone();
        change(&mut wrong);
        wrong.check_form().is_err() || town.apply(|draft| epoch(draft, &wrong, NOW)).is_err()
    };
    assert!(refused(&mut town, &|epoch| epoch.number = 2));
    assert!(refused(&mut town, &|epoch| epoch.songs[0].song = 7));
    assert!(refused(&mut town, &|epoch| epoch.songs[0].discovered = 0));
    assert!(refused(&mut town, &|epoch| epoch.credits[0].units += 1));
    assert!(refused(&mut town, &|epoch| epoch.minted += TOKEN));
    assert!(refused(&mut town, &|epoch| epoch.state[0] ^= 1));
    assert!(refused(&mut town, &|epoch| {
        epoch.credits[0].units += TOKEN;
        epoch.minted += TOKEN;
        epoch.songs[0].minted += TOKEN;
    }));
    assert!(!refused(&mut town, &|_| {}));
    // The next one is not due yet.
    let early = NOW + u64::from(DEFAULT.epoch_ms) - 1;
    let next = town.settlement(early + 1, &[Heard::new(2, &fans, NOW).receipt()]).epoch.unwrap();
    assert!(town.apply(|draft| epoch(draft, &next, early)).is_err());
    assert!(town.apply(|draft| epoch(draft, &next, early + 1)).is_ok());
}

fn transfer_of(from: u8, to: u8, amount: u64, sequence: u64) -> Transfer {
    Transfer { from: key(from).0.to_vec(), to: key(to).0.to_vec(), amount, sequence, ..Transfer::default() }
}

#[test]
fn transfers_move_what_is_there_once() {
    let mut town = Town::new(Vec::new());
    town.endow(1, 100);
    let mut send = |transfer_of: Transfer| town.apply(|draft| transfer(draft, &transfer_of, 7)).map(drop);
    assert_eq!(send(transfer_of(1, 2, 60, 1)), Ok(()));
    let replayed = Refusal::Sequence { expected: 2, got: 1, last: Some(7) };
    assert_eq!(send(transfer_of(1, 2, 60, 1)), Err(replayed));
    assert_eq!(send(transfer_of(1, 2, 60, 2)), Err(Refusal::Balance { there: 40, needed: 60 }));
    assert_eq!(send(transfer_of(1, 2, 40, 3)), Err(Refusal::Sequence { expected: 2, got: 3, last: None }));
    assert!(matches!(send(transfer_of(1, 1, 40, 2)), Err(Refusal::Forbidden(_))));
    assert_eq!(send(transfer_of(1, 2, 40, 2)), Ok(()));
    town.adds_up();
    assert_eq!((town.units(1), town.units(2)), (0, 100));
}

fn with_terms(mut song: Song, kind: TermsKind, price: u64) -> Song {
    song.terms = Some(Terms { kind: kind.into(), price });
    song
}

#[test]
fn a_purchase_is_payment_shares_and_right_at_once() {
    let sold = with_terms(shared(0), TermsKind::Purchase, 1_000);
    let fans = with_terms(song(1), TermsKind::PayPerPlay, 10);
    let granted = with_terms(shared(2), TermsKind::Grant, 0);
    let mut town = Town::new(vec![sold.clone(), fans.clone(), granted.clone(), song(3)]);
    town.endow(1, 2_000);
    let mut buy = |song: &Song, price, sequence| {
        let record = Purchase {
            buyer: key(1).0.to_vec(),
            song_id: song.id().0.to_vec(),
            price,
            sequence,
            ..Purchase::default()
        };
        town.apply(|draft| purchase(draft, &record, 9, NOW)).map(drop)
    };
    assert_eq!(buy(&sold, 999, 1), Err(Refusal::Price { price: 1_000, got: 999 }));
    assert!(matches!(buy(&granted, 1, 1), Err(Refusal::Terms(_))));
    assert!(matches!(buy(&song(3), 1, 1), Err(Refusal::Terms(_))));
    assert_eq!(buy(&sold, 1_000, 1), Ok(()));
    assert!(matches!(buy(&sold, 1_000, 1), Err(Refusal::Sequence { .. })));
    assert!(matches!(buy(&sold, 1_000, 2), Err(Refusal::Terms(_))), "it is bought already");
    assert_eq!(buy(&fans, 10, 2), Ok(()));
    town.adds_up();
    assert_eq!((town.units(1), town.units(100), town.units(101)), (990, 667, 333));
    assert_eq!(town.escrow(Escrow::Name("the fans".into())), 10);
    let right = |town: &mut Town, song, who| town.value::<RightState>(&StateKey::Right(song, key(who)));
    let (owned, once) = (right(&mut town, 0, 1), right(&mut town, 1, 1));
    assert_eq!(may_hear(&sold, &owned, &key(1), u64::MAX - 1), Ok(()));
    assert!(may_hear(&sold, &RightState::default(), &key(2), NOW).unwrap_err().contains("0.00001000"));
    // The song's three minutes and a quarter of an hour.
    assert_eq!(may_hear(&fans, &once, &key(1), NOW + 1_079_999), Ok(()));
    assert!(may_hear(&fans, &once, &key(1), NOW + 1_080_000).is_err());
    // The artist and those who share may hear it anyway.
    assert_eq!(may_hear(&sold, &RightState::default(), &key(101), NOW), Ok(()));

    let mut give = |by: u8, until_ms, sequence| {
        let record = Grant {
            grantor: key(by).0.to_vec(),
            song_id: granted.id().0.to_vec(),
            holder: key(5).0.to_vec(),
            until_ms,
            sequence,
            ..Grant::default()
        };
        town.apply(|draft| grant(draft, &record, 11, NOW)).map(drop)
    };
    assert!(matches!(give(101, 0, 1), Err(Refusal::Forbidden(_))));
    assert_eq!(give(100, NOW + 5, 1), Ok(()));
    let held = town.value::<RightState>(&StateKey::Right(2, key(5)));
    assert_eq!(may_hear(&granted, &held, &key(5), NOW + 4), Ok(()));
    assert!(may_hear(&granted, &held, &key(5), NOW + 5).unwrap_err().contains("expired"));
    // Taken back.
    let back = Grant {
        grantor: key(100).0.to_vec(),
        song_id: granted.id().0.to_vec(),
        holder: key(5).0.to_vec(),
        until_ms: 1,
        sequence: 2,
        ..Grant::default()
    };
    town.apply(|draft| grant(draft, &back, 12, NOW)).unwrap();
    assert_eq!(town.value::<RightState>(&StateKey::Right(2, key(5))), RightState::default());
    town.adds_up();
}

#[test]
fn escrow_is_released_to_the_artist_alone() {
    let fans = song(0);
    let mut town = Town::new(vec![fans.clone(), shared(1)]);
    town.settle(NOW, &[Heard::new(1, &fans, NOW).receipt(), Heard::new(2, &shared(1), NOW).receipt()]);
    let name = || Escrow::Name("the fans".to_owned());
    let release = |escrow: Escrow, to: u8| Change::Release { escrow, to: key(to) };
    assert!(matches!(town.apply(|draft| act(draft, release(name(), 7))), Err(Refusal::Claim(_))));
    let claimed = |who: u8, sequence| Claim {
        claimant: key(who).0.to_vec(),
        artist: "the fans".into(),
        sequence,
        ..Claim::default()
    };
    town.apply(|draft| claim(draft, &claimed(7, 1), 3)).unwrap();
    town.apply(|draft| claim(draft, &claimed(8, 1), 4)).unwrap();
    assert!(matches!(town.apply(|draft| act(draft, release(name(), 9))), Err(Refusal::Claim(_))));
    town.apply(|draft| act(draft, release(name(), 7))).unwrap();
    assert_eq!((town.units(7), town.escrow(name())), (TOKEN, 0));
    // The name is taken now: not to the other claimant, whose claim is gone.
    assert!(matches!(town.apply(|draft| act(draft, release(name(), 8))), Err(Refusal::Claim(_))));
    assert!(matches!(town.apply(|draft| claim(draft, &claimed(7, 2), 5)), Err(Refusal::Claim(_))));
    // A key's escrow is that key's.
    town.apply(|draft| act(draft, release(Escrow::Key(key(100)), 100))).unwrap();
    assert_eq!(town.units(100), TOKEN);
    assert!(town.apply(|draft| act(draft, release(Escrow::Key(key(100)), 100))).is_err());
    town.adds_up();
    // A dispute: the name goes to another who claims it, or to nobody.
    let ruling = |owner: Option<u8>| Change::Name { artist: "the fans".into(), owner: owner.map(key) };
    assert!(town.apply(|draft| act(draft, ruling(Some(8)))).is_err());
    town.apply(|draft| claim(draft, &claimed(8, 2), 6)).unwrap();
    town.apply(|draft| act(draft, ruling(Some(8)))).unwrap();
    town.apply(|draft| act(draft, ruling(None))).unwrap();
    assert!(town.apply(|draft| act(draft, ruling(None))).is_err());
}

#[test]
fn parameters_change_but_floor_and_cap() {
    let mut town = Town::new(Vec::new());
    let change = |economy| Change::Parameters(economy);
    let capped = Economy { cap_units: DEFAULT.cap_units + 1, ..DEFAULT };
    assert!(town.apply(|draft| act(draft, change(capped))).is_err());
    assert!(town.apply(|draft| act(draft, change(DEFAULT))).is_err());
    let lower = Economy { threshold_plays: 5, ..DEFAULT };
    town.apply(|draft| act(draft, change(lower))).unwrap();
    assert_eq!(town.pending.tokens.economy().threshold_plays, 5);
}

/// Listener, song, servers with bytes, seconds heard, how long ago it ended.
type RandomPlay = (u8, u8, Vec<(u8, u16)>, u32, u32);

/// One thing that happens in a random history.
#[derive(Debug, Clone)]
enum Step {
    Plays(Vec<RandomPlay>),
    Transfer(u8, u8, u64),
    Buy(u8, u8),
    Grant(u8),
    Claim(u8),
    Release(bool, u8),
    Withhold(u8, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let server = (0..6u8, 1..1_000u16);
    let play = (0..6u8, 0..4u8, proptest::collection::vec(server, 1..4), 60..181u32, 0..90_000_000u32);
    prop_oneof![
        6 => proptest::collection::vec(play, 1..12).prop_map(Step::Plays),
        3 => (0..6u8, 0..6u8, 1..3 * TOKEN).prop_map(|(from, to, units)| Step::Transfer(from, to, units)),
        1 => (0..6u8, 0..4u8).prop_map(|(who, song)| Step::Buy(who, song)),
        1 => (0..6u8).prop_map(Step::Grant),
        1 => (0..6u8).prop_map(Step::Claim),
        1 => (any::<bool>(), 0..6u8).prop_map(|(named, to)| Step::Release(named, to)),
        1 => (0..4u8, any::<bool>()).prop_map(|(song, withheld)| Step::Withhold(song, withheld)),
    ]
}

/// Runs a history. Settlements see their receipts turned by so much: it makes no difference.
fn run(steps: &[Step], turn: usize) -> (Town, [u8; 32]) {
    let songs = vec![
        song(0),
        shared(1),
        with_terms(shared(2), TermsKind::Purchase, TOKEN / 3),
        with_terms(song(3), TermsKind::PayPerPlay, 7),
    ];
    let economy = Economy { floor_units: 20 * TOKEN, cap_units: 400 * TOKEN, threshold_plays: 6, ..DEFAULT };
    let mut town = Town::with(economy, songs.clone());
    let mut now = NOW;
    let sequence =
        |town: &mut Town, who| town.value::<AccountState>(&StateKey::Account(key(who))).sequence + 1;
    for (number, step) in steps.iter().enumerate() {
        now += 600_000;
        let index = number as u64;
        match step.clone() {
            Step::Plays(plays) => {
                let mut receipts: Vec<Receipt> = plays
                    .into_iter()
                    .enumerate()
                    .map(|(at, (listener, song, servers, seconds, ago))| {
                        let mut served: Vec<(u8, u64)> = Vec::new();
                        for (who, bytes) in servers {
                            if !served.iter().any(|(other, _)| *other == who) {
                                served.push((who, bytes.into()));
                            }
                        }
                        let session = u8::try_from(at).unwrap();
                        let end_ms = now - u64::from(ago);
                        Heard {
                            listener,
                            song: songs[usize::from(song)].clone(),
                            end_ms,
                            seconds,
                            served,
                            session,
                        }
                        .receipt()
                    })
                    .collect();
                let length = receipts.len();
                receipts.rotate_left(turn % length);
                town.settle(now, &receipts);
            }
            Step::Transfer(from, to, units) => {
                let record = transfer_of(from, to, units, sequence(&mut town, from));
                let _ = town.apply(|draft| transfer(draft, &record, index));
            }
            Step::Buy(who, song) => {
                let song = &songs[usize::from(song)];
                let record = Purchase {
                    buyer: key(who).0.to_vec(),
                    song_id: song.id().0.to_vec(),
                    price: song.terms.map_or(1, |terms| terms.price),
                    sequence: sequence(&mut town, who),
                    ..Purchase::default()
                };
                let _ = town.apply(|draft| purchase(draft, &record, index, now));
            }
            Step::Grant(holder) => {
                let record = Grant {
                    grantor: key(100).0.to_vec(),
                    song_id: songs[2].id().0.to_vec(),
                    holder: key(holder).0.to_vec(),
                    sequence: sequence(&mut town, 100),
                    ..Grant::default()
                };
                let _ = town.apply(|draft| grant(draft, &record, index, now));
            }
            Step::Claim(who) => {
                let record = Claim {
                    claimant: key(who).0.to_vec(),
                    artist: "the fans".into(),
                    sequence: sequence(&mut town, who),
                    ..Claim::default()
                };
                let _ = town.apply(|draft| claim(draft, &record, index));
            }
            Step::Release(named, to) => {
                let escrow = if named { Escrow::Name("the fans".into()) } else { Escrow::Key(key(100)) };
                let to = if named { key(to) } else { key(100) };
                let _ = town.apply(|draft| act(draft, Change::Release { escrow, to }));
            }
            Step::Withhold(song, withheld) => {
                let song = songs[usize::from(song)].id();
                let _ = town.apply(|draft| act(draft, Change::Song { song, withheld }));
            }
        }
        town.adds_up();
    }
    let digest = town.pending.tokens.digest();
    (town, digest)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]
    /// After every step of every history: supply = minted - burned = accounts + escrows, within the cap; and the same
    /// history gives the same state, in whatever order receipts came.
    #[test]
    fn every_history_adds_up(steps in proptest::collection::vec(step(), 1..24), turn in 0..12usize) {
        let (town, digest) = run(&steps, 0);
        let (other, turned) = run(&steps, turn);
        prop_assert_eq!(digest, turned);
        prop_assert_eq!(&town.pending, &other.pending);
        // The digest that was kept up step by step is that of the entries that are there.
        let mut anew = Pending::new(Tokens::start(&Params::of(&genesis())));
        anew.tokens.totals = town.pending.tokens.totals;
        anew.tokens.totals.entries = 0;
        let mut empty = Memory::default();
        let mut draft = Draft::new(&mut empty, &anew);
        for (key, value) in town.pending.entries.iter().filter(|(_, value)| !value.is_empty()) {
            match key {
                StateKey::Account(_) => draft.put(key.clone(), &AccountState::decode(&value[..]).unwrap()),
                StateKey::Escrow(_) => draft.put(key.clone(), &EscrowState::decode(&value[..]).unwrap()),
                StateKey::Song(_) => draft.put(key.clone(), &SongState::decode(&value[..]).unwrap()),
                StateKey::Right(..) => draft.put(key.clone(), &RightState::decode(&value[..]).unwrap()),
                StateKey::Artist(_) => {
                    let artist = antiphon_proto::wire::ArtistState::decode(&value[..]).unwrap();
                    draft.put(key.clone(), &artist)
                }
            }
            .unwrap();
        }
        let digest_anew = draft.digest();
        prop_assert_eq!(digest_anew, digest);
    }
}
