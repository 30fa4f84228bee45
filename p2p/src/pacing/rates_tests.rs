use std::time::Duration;

use proptest::prelude::*;

use super::*;

const PLAY: AudioMode = AudioMode::Play;
const BULK: AudioMode = AudioMode::Bulk;

fn rate(rate: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(rate)
}

const REMEMBERED_PEERS: usize = 256;

impl Sharer for u32 {
    type Peer = Self;

    fn peers(&self) -> impl Iterator<Item = Self> {
        std::iter::once(*self)
    }
}

impl Sharer for u64 {
    type Peer = Self;

    fn peers(&self) -> impl Iterator<Item = Self> {
        std::iter::once(*self)
    }
}

/// What goes between two.
impl Sharer for (u8, u8) {
    type Peer = u8;

    fn peers(&self) -> impl Iterator<Item = u8> {
        [self.0, self.1].into_iter()
    }
}

/// Somebody who always has more to send.
#[derive(Debug, Clone, Copy)]
struct Sender {
    peer: u32,
    mode: AudioMode,
    /// From, until, in seconds.
    active: (u64, u64),
}

fn sender(peer: u32, mode: AudioMode) -> Sender {
    Sender { peer, mode, active: (0, u64::MAX) }
}

/// What each of the senders was given in so many seconds, woken up when they are told to.
struct Run {
    sent: Vec<u64>,
    /// When, to whom, how much.
    grants: Vec<(Duration, usize, u64)>,
}

fn run(limits: Limits, senders: &[Sender], seconds: u64) -> Run {
    let start = Instant::now();
    let mut rates = Rates::new(limits, REMEMBERED_PEERS, start);
    let mut asking = vec![false; senders.len()];
    let mut run = Run { sent: vec![0; senders.len()], grants: Vec::new() };
    let (mut now, end) = (Duration::ZERO, Duration::from_secs(seconds));
    while now < end {
        for (index, sender) in senders.iter().enumerate() {
            let (from, until) = sender.active;
            if !asking[index] && (from..until).contains(&now.as_secs()) {
                rates.ask(index as Id, sender.peer, sender.mode, rates.piece().unwrap());
                asking[index] = true;
            }
        }
        let turn = rates.turn(start + now);
        let someone_asks_again = !turn.granted.is_empty();
        for (id, bytes) in turn.granted {
            let index = usize::try_from(id).unwrap();
            run.sent[index] += bytes;
            run.grants.push((now, index, bytes));
            asking[index] = false;
        }
        let a_moment_later = now + Duration::from_micros(50);
        let next_second = Duration::from_secs(now.as_secs() + 1);
        let wake = turn.wake.map_or(next_second, |wake| wake - start).min(next_second);
        now = if someone_asks_again { a_moment_later } else { wake.max(a_moment_later) };
    }
    run
}

fn total(limit: u64) -> Limits {
    Limits { total: rate(limit), peer: None }
}

#[test]
fn play_beats_bulk_but_for_a_twentieth() {
    let senders = [sender(1, PLAY), sender(2, BULK), sender(3, BULK)];
    let run = run(total(1_000_000), &senders, 100);
    let (play, bulk) = (run.sent[0], run.sent[1] + run.sent[2]);
    assert!((94_000_000..=96_000_000).contains(&play), "{play}");
    assert!((4_900_000..=5_200_000).contains(&bulk), "{bulk}");
    // Bulk has never to wait for long.
    let mut last = Duration::ZERO;
    for (at, _, _) in run.grants.iter().filter(|(_, index, _)| *index > 0) {
        assert!(*at - last < Duration::from_secs(2), "{last:?} to {at:?}");
        last = *at;
    }
}

#[test]
fn play_that_begins_is_served_at_once() {
    let mut senders = vec![sender(1, BULK); 8];
    senders.push(Sender { active: (5, 6), ..sender(2, PLAY) });
    let run = run(total(1_000_000), &senders, 7);
    let (first, _, _) = run.grants.iter().find(|(_, index, _)| *index == 8).unwrap();
    // Two pieces of 50,000 B: the one that was next, and its own.
    assert!(*first <= Duration::from_millis(5_110), "{first:?}");
    assert!(run.sent[8] > 850_000);
}

#[test]
fn peers_are_served_alike_however_much_they_ask() {
    let mut senders = vec![sender(1, BULK); 8];
    senders.extend([sender(2, BULK), sender(3, BULK)]);
    let run = run(total(2_000_000), &senders, 60);
    let greedy: u64 = run.sent[..8].iter().sum();
    for sent in [greedy, run.sent[8], run.sent[9]] {
        assert!((39_000_000..41_500_000).contains(&sent), "{sent}");
    }
}

#[test]
fn nobody_saves_up_while_away() {
    let senders = [sender(1, BULK), Sender { active: (30, 60), ..sender(2, BULK) }];
    let run = run(total(1_000_000), &senders, 40);
    let late: u64 =
        run.grants.iter().filter(|(at, index, _)| *index == 1 && at.as_secs() < 32).map(|g| g.2).sum();
    assert!((800_000..1_300_000).contains(&late), "{late}");
}

#[test]
fn a_peer_has_its_own_limit_and_holds_nobody_up() {
    let limits = Limits { total: rate(1_000_000), peer: rate(100_000) };
    let senders = [sender(1, PLAY), sender(1, PLAY), sender(2, BULK)];
    let run = run(limits, &senders, 50);
    for sent in [run.sent[0] + run.sent[1], run.sent[2]] {
        assert!((4_900_000..=5_070_000).contains(&sent), "{sent}");
    }
}

#[test]
fn limits_change_while_running() {
    let start = Instant::now();
    let mut rates = Rates::new(Limits::default(), REMEMBERED_PEERS, start);
    assert_eq!(rates.piece(), None);
    for id in 0..100 {
        rates.ask(id, id % 3, BULK, u64::MAX);
    }
    let turn = rates.turn(start);
    assert_eq!((turn.granted.len(), turn.wake), (100, None));
    rates.set(Limits { total: rate(64 * 1024), peer: rate(32 * 1024) }, start);
    assert_eq!(rates.piece(), Some(SHORTEST_PIECE));
    rates.ask(1, 1, BULK, LONGEST_PIECE);
    rates.ask(2, 1, PLAY, LONGEST_PIECE);
    let turn = rates.turn(start);
    // The burst; then the peer's own rate holds it up.
    assert_eq!((turn.granted, turn.wake), (vec![(2, LONGEST_PIECE)], Some(start + Duration::from_secs(2))));
    rates.set(total(64 * 1024), start);
    let turn = rates.turn(start);
    assert_eq!((turn.granted, turn.wake), (vec![], Some(start + Duration::from_secs(1))));
    rates.cancel(1, &1, BULK);
    assert_eq!(rates.turn(start), Turn::default());
    rates.ask(1, 1, BULK, LONGEST_PIECE);
    rates.set(Limits::default(), start);
    assert_eq!(rates.turn(start).granted, [(1, LONGEST_PIECE)]);
}

#[test]
fn what_is_remembered_is_bounded() {
    let start = Instant::now();
    let mut rates = Rates::new(Limits { total: None, peer: rate(100) }, REMEMBERED_PEERS, start);
    for peer in 0..10_000 {
        rates.ask(peer, peer, BULK, 100);
        assert_eq!(rates.turn(start).granted.len(), 1);
        assert!(rates.peers.len() <= REMEMBERED_PEERS && rates.bulk.sent.len() <= REMEMBERED_PEERS);
    }
    assert!(rates.bulk.waiting.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Never more than rate times time and one burst; all of the rate while enough of it is asked for; peers of equal
    /// demand alike; bulk never without its share.
    #[test]
    fn any_senders_share_any_rate(
        limit in 100_000..50_000_000u64,
        plays in prop::collection::vec(0..4u32, 0..5),
        bulks in prop::collection::vec(4..8u32, 0..9),
    ) {
        prop_assume!(!(plays.is_empty() && bulks.is_empty()));
        let senders: Vec<_> = plays.iter().map(|peer| sender(*peer, PLAY))
            .chain(bulks.iter().map(|peer| sender(*peer, BULK))).collect();
        let seconds = 20;
        let run = run(total(limit), &senders, seconds);
        let burst = burst(NonZeroU64::new(limit).unwrap());
        let mut sent = 0;
        for (at, _, bytes) in &run.grants {
            sent += u128::from(*bytes);
            let most = u128::from(limit) * at.as_nanos() / 1_000_000_000 + u128::from(burst);
            prop_assert!(sent <= most, "{sent} of {most} by {at:?}");
        }
        let all = u128::from(limit * seconds);
        prop_assert!(sent >= all * 99 / 100 - u128::from(LONGEST_PIECE), "{sent} of {all}");
        for (from, mode) in [(0, PLAY), (4, BULK)] {
            let mut by_peer = HashMap::new();
            for (sender, sent) in senders.iter().zip(&run.sent).filter(|(sender, _)| sender.mode == mode) {
                prop_assert!(sender.peer >= from);
                *by_peer.entry(sender.peer).or_insert(0) += sent;
            }
            let least = by_peer.values().min().copied().unwrap_or(0);
            let most = by_peer.values().max().copied().unwrap_or(0);
            // Nothing is scarce while the burst lasts: whoever asks more often has more of it.
            prop_assert!(most - least <= most / 50 + 2 * LONGEST_PIECE + burst, "{by_peer:?}");
        }
        if !plays.is_empty() && !bulks.is_empty() {
            let bulk: u64 = run.sent[plays.len()..].iter().sum();
            let share = limit * seconds / BULK_SHARE;
            prop_assert!(bulk + LONGEST_PIECE >= share * 98 / 100, "{bulk} of {share}");
            prop_assert!(bulk <= share * 102 / 100 + burst + LONGEST_PIECE, "{bulk} of {share}");
        }
    }
}

#[test]
fn what_goes_between_two_counts_against_both() {
    let start = Instant::now();
    let mut rates = Rates::new(Limits { total: None, peer: rate(64 * 1024) }, REMEMBERED_PEERS, start);
    rates.ask(1, (1, 2), BULK, LONGEST_PIECE);
    assert_eq!(rates.turn(start).granted, [(1, LONGEST_PIECE)]);
    rates.ask(2, (2, 3), BULK, LONGEST_PIECE);
    rates.ask(3, (3, 1), BULK, LONGEST_PIECE);
    rates.ask(4, (3, 4), BULK, LONGEST_PIECE);
    let turn = rates.turn(start);
    let second = start + Duration::from_secs(1);
    assert_eq!(turn, Turn { granted: vec![(4, LONGEST_PIECE)], wake: Some(second) });
    // Both wait for the third as well: one of them goes, and empties it for the other.
    assert_eq!(rates.turn(second).granted.len(), 1);
}
