//! The plan against simulated peers, in simulated time.

use super::*;
use proptest::prelude::*;

/// How a simulated peer behaves.
#[derive(Debug, Clone, Copy)]
struct Behaviour {
    round_trip_ms: u64,
    /// Bytes in a millisecond, shared by its requests.
    rate: u64,
    /// After so many answers it does `then`.
    turns_after: usize,
    then: Turn,
    /// It has this many bundles.
    has: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Stays,
    Lies,
    Dies,
    Hangs,
    Busy,
}

const GOOD: Behaviour =
    Behaviour { round_trip_ms: 20, rate: 10_000, turns_after: 0, then: Turn::Stays, has: u64::MAX };

#[derive(Debug)]
struct Running {
    assignment: Assignment<usize>,
    starts: u64,
    left: u64,
}

/// What came of a run.
#[derive(Debug)]
struct Outcome {
    took_ms: u64,
    given: Vec<u64>,
    asked: usize,
    most_ahead: u64,
    stuck: bool,
}

const BYTES: u64 = 800_000;

/// Runs a catch-up in steps of a millisecond.
fn run(start: u64, target: u64, limits: Limits, peers: &[Behaviour], longest_ms: u64) -> Outcome {
    let begin = Instant::now();
    let mut plan: Plan<usize, u64> = Plan::new(start, target, limits.clone());
    (0..peers.len()).for_each(|peer| plan.add(peer));
    let mut answered = vec![0; peers.len()];
    let mut running: Vec<Running> = Vec::new();
    let mut outcome = Outcome { took_ms: 0, given: vec![], asked: 0, most_ahead: 0, stuck: false };
    for ms in 0..longest_ms {
        let now = begin + Duration::from_millis(ms);
        outcome.took_ms = ms;
        plan.expire(now);
        while let Some(assignment) = plan.next_request(now) {
            outcome.asked += 1;
            assert!(plan.requests.len() <= limits.in_flight);
            assert!(plan.sources[&assignment.peer].in_flight <= limits.per_peer);
            let starts = ms + peers[assignment.peer].round_trip_ms;
            running.push(Running { assignment, starts, left: BYTES });
        }
        while let Some(id) = plan.next_cancelled() {
            running.retain(|request| request.assignment.id != id);
        }
        outcome.most_ahead = outcome.most_ahead.max(plan.waiting_bytes);
        step(&mut plan, &mut running, peers, &mut answered, ms, now);
        while let Some((index, bundle)) = plan.take() {
            assert_eq!(index, bundle);
            outcome.given.push(index);
        }
        if plan.is_done() {
            return outcome;
        }
        if plan.is_stuck() {
            outcome.stuck = true;
            return outcome;
        }
    }
    outcome
}

fn step(
    plan: &mut Plan<usize, u64>,
    running: &mut Vec<Running>,
    peers: &[Behaviour],
    answered: &mut [usize],
    ms: u64,
    now: Instant,
) {
    for (number, peer) in peers.iter().enumerate() {
        let turned = peer.then != Turn::Stays && answered[number] >= peer.turns_after;
        let mut theirs: Vec<&mut Running> = running
            .iter_mut()
            .filter(|request| request.assignment.peer == number && request.starts <= ms)
            .collect();
        if theirs.is_empty() || (turned && peer.then == Turn::Hangs) {
            continue;
        }
        let share = (peer.rate / theirs.len() as u64).max(1);
        theirs.iter_mut().for_each(|request| request.left = request.left.saturating_sub(share));
        let over = |request: &&mut Running| {
            request.left == 0
                || request.assignment.index >= peer.has
                || (turned && matches!(peer.then, Turn::Dies | Turn::Busy))
        };
        let over: Vec<Assignment<usize>> =
            theirs.into_iter().filter(over).map(|request| request.assignment).collect();
        for Assignment { id, index, .. } in over {
            running.retain(|request| request.assignment.id != id);
            answered[number] += 1;
            match peer.then {
                _ if index >= peer.has => plan.failed(id, Failure::Missing, now),
                Turn::Lies | Turn::Dies if turned => plan.failed(id, Failure::Lost, now),
                Turn::Busy if turned => plan.failed(id, Failure::Passing, now),
                _ => {
                    plan.done(id, index, BYTES, now);
                }
            }
        }
    }
}

fn blocks(bundles: u64) -> u64 {
    bundles * 256
}

#[test]
fn the_order_and_the_widths_are_right() {
    let mut plan: Plan<u8, ()> = Plan::new(300, 900, Limits::default());
    plan.add(1);
    let now = Instant::now();
    let mut found = Vec::new();
    for step in 0..3 {
        let asked = plan.next_request(now + Duration::from_millis(step)).unwrap();
        found.push((asked.index, asked.width));
        assert!(plan.done(asked.id, (), 1_000, now + Duration::from_millis(step + 1)));
        assert!(!plan.done(asked.id, (), 1_000, now), "once only");
        assert_eq!(plan.take().map(|(index, ())| index), Some(asked.index));
    }
    assert_eq!(found, [(1, 256), (2, 256), (3, 132)]);
    assert!(plan.is_done() && plan.next_request(now).is_none());
    for (start, target) in [(0, 0), (900, 900), (901, 900), (u64::MAX, u64::MAX)] {
        assert!(Plan::<u8, ()>::new(start, target, Limits::default()).is_done(), "{start} {target}");
    }
}

#[test]
fn rates_add_up() {
    // 100 bundles of 0.8 MB at 10 MB/s from each.
    for count in [1, 2, 4] {
        let outcome = run(0, blocks(100), Limits::default(), &vec![GOOD; count], 60_000);
        let ideal = 8_000 / count as u64;
        assert_eq!(outcome.given, (0..100).collect::<Vec<_>>());
        assert!(outcome.took_ms < ideal * 14 / 10 + 200, "{count} peers: {} ms", outcome.took_ms);
        assert!(outcome.asked <= 102, "{}", outcome.asked);
    }
}

#[test]
fn one_slow_peer_stalls_nobody() {
    let slow = Behaviour { rate: 50, ..GOOD };
    let alone = run(0, blocks(100), Limits::default(), &[GOOD, GOOD], 60_000).took_ms;
    let outcome = run(0, blocks(100), Limits::default(), &[GOOD, slow, GOOD], 60_000);
    assert_eq!(outcome.given.len(), 100);
    assert!(outcome.took_ms < alone + 800, "{} ms instead of {alone}", outcome.took_ms);
}

#[test]
fn who_hangs_lies_or_dies_is_worked_around() {
    for then in [Turn::Hangs, Turn::Lies, Turn::Dies, Turn::Busy] {
        for turns_after in [0, 3] {
            let bad = Behaviour { then, turns_after, ..GOOD };
            let outcome = run(0, blocks(60), Limits::default(), &[bad, GOOD, bad], 60_000);
            assert_eq!(outcome.given, (0..60).collect::<Vec<_>>(), "{then:?}");
            assert!(outcome.took_ms < 9_000, "{then:?}: {} ms", outcome.took_ms);
        }
    }
}

#[test]
fn what_nobody_has_ends_the_run_where_it_is() {
    let short = Behaviour { has: 7, ..GOOD };
    let shorter = Behaviour { has: 3, ..GOOD };
    let outcome = run(0, blocks(20), Limits::default(), &[shorter, short], 60_000);
    assert!(outcome.stuck);
    assert_eq!(outcome.given, (0..7).collect::<Vec<_>>());
    let dead = Behaviour { then: Turn::Dies, turns_after: 4, ..GOOD };
    assert!(run(0, blocks(20), Limits::default(), &[dead, dead], 60_000).stuck);
    assert!(run(0, blocks(1), Limits::default(), &[], 10).stuck);
}

#[test]
fn a_head_that_hangs_holds_back_no_more_than_is_allowed() {
    let limits = Limits { ahead_bytes: 4_000_000, ..Limits::default() };
    let hangs = Behaviour { then: Turn::Hangs, ..GOOD };
    let outcome = run(0, blocks(50), limits, &[hangs, GOOD], 60_000);
    assert_eq!(outcome.given.len(), 50);
    assert!(outcome.most_ahead <= 4_800_000, "{}", outcome.most_ahead);
    // The head was asked of the other one when there was nothing else to do.
    assert!(outcome.took_ms < 9_000, "{}", outcome.took_ms);
}

fn any_peer() -> impl Strategy<Value = Behaviour> {
    let turns = prop_oneof![
        Just(Turn::Stays),
        Just(Turn::Lies),
        Just(Turn::Dies),
        Just(Turn::Hangs),
        Just(Turn::Busy)
    ];
    (1u64..300, 100u64..50_000, 0usize..20, turns, prop_oneof![Just(u64::MAX), 0u64..40]).prop_map(
        |(round_trip_ms, rate, turns_after, then, has)| Behaviour {
            round_trip_ms,
            rate,
            turns_after,
            then,
            has,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// With one good peer among any others, everything comes, in order and once.
    #[test]
    fn one_good_peer_is_enough(
        mut peers in prop::collection::vec(any_peer(), 0..6),
        place in any::<prop::sample::Index>(),
        start in 0u64..3_000,
        length in 1u64..10_000,
        in_flight in 1usize..20,
        per_peer in 1usize..6,
        ahead_bytes in 0u64..8_000_000,
    ) {
        peers.insert(place.index(peers.len() + 1), GOOD);
        let target = start + length;
        let outcome = run(start, target, Limits { in_flight, per_peer, ahead_bytes }, &peers, 300_000);
        let expected: Vec<u64> = (start / 256..target.div_ceil(256)).collect();
        prop_assert_eq!(outcome.given, expected);
        prop_assert!(outcome.most_ahead <= ahead_bytes + 2 * BYTES);
    }
}
