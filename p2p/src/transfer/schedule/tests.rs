//! The plan against a simulated network.

use proptest::prelude::*;

use super::{
    sim::{Character, Sim, Turn, bad, good},
    *,
};

const MB: u64 = 1_000_000;
/// Bytes a second of a song with 320 kbit/s, and of a lossless one.
const MP3: u64 = 40_000;
const FLAC: u64 = 125_000;

#[test]
fn one_source_gets_one_request() {
    let mut sim = Sim::bulk(40 * MB, &[good(10 * MB, 20)]);
    sim.run(60_000);
    assert!(sim.complete && sim.wasted() == 0);
    assert_eq!(sim.requests, 1);
    assert!(sim.ms < 4_100, "{} ms", sim.ms);
}

#[test]
fn bandwidths_add_up() {
    for count in [2, 3, 4, 8] {
        let mut sim = Sim::bulk(64 * MB, &vec![good(2 * MB, 40); count]);
        sim.run(100_000);
        let ideal = 32_000 / count as u64;
        assert!(sim.complete);
        assert!(sim.ms < ideal * 105 / 100 + 400, "{count}: {} ms instead of {ideal}", sim.ms);
        assert!(sim.wasted() < 64, "{count}: {}", sim.wasted());
    }
}

#[test]
fn five_sources_of_which_two_are_good() {
    for (first, size) in [(0, 30 * MB), (1_500, 30 * MB), (700, 8 * MB), (3_000, 100 * MB)] {
        let two = [good(2 * MB, 30), good(2 * MB, 60)];
        let mut alone = Sim::bulk(size, &two);
        alone.run(200_000);
        let others = [
            bad(2 * MB, 10, Turn::Dies, first),
            bad(2 * MB, 20, Turn::Stalls, first),
            bad(2 * MB, 15, Turn::Lies, first),
            good(20_000, 25),
        ];
        let mut all = two.to_vec();
        all.extend(others);
        let mut sim = Sim::bulk(size, &all);
        sim.run(200_000);
        assert!(sim.complete && alone.complete);
        assert!(sim.ms * 2 < alone.ms * 3, "{} ms, {} ms alone", sim.ms, alone.ms);
        assert!(sim.came.iter().all(|times| *times <= 2));
        assert_eq!(sim.dropped.get(&4), Some(&Why::Ended(End::BadBytes)));
    }
}

#[test]
fn a_slow_source_holds_up_nobody() {
    let mut sim = Sim::bulk(20 * MB, &[good(2 * MB, 20), good(5_000, 20)]);
    sim.run(60_000);
    assert!(sim.complete && sim.ms < 11_000, "{} ms", sim.ms);
    let mut sim = Sim::bulk(20 * MB, &[good(2 * MB, 20), bad(2 * MB, 20, Turn::Drips, 500)]);
    sim.run(60_000);
    assert!(sim.complete && sim.ms < 12_000, "{} ms", sim.ms);
}

#[test]
fn a_shared_line_is_used_up_and_no_more_is_wasted() {
    let mut sim = Sim::bulk(30 * MB, &[good(5 * MB, 30); 6]);
    sim.bottleneck = Some(3 * MB);
    sim.run(60_000);
    assert!(sim.complete && sim.ms < 11_500, "{} ms", sim.ms);
    assert!(sim.wasted() < 100, "{}", sim.wasted());
}

#[test]
fn reserves_come_in_when_others_fail() {
    let mut all = vec![bad(MB, 10, Turn::Dies, 400); 8];
    all.extend([good(MB, 100), good(MB, 100)]);
    let mut sim = Sim::bulk(10 * MB, &all);
    sim.run(60_000);
    assert!(sim.complete && sim.ms < 6_500, "{} ms", sim.ms);
    // Eight slow ones have every seat until a fast one is tried.
    let mut all = vec![good(30_000, 10); 7];
    all.extend([good(MB, 10), good(MB, 100), good(MB, 100)]);
    let mut sim = Sim::bulk(30 * MB, &all);
    sim.run(60_000);
    assert!(sim.complete && sim.ms < 16_000, "{} ms", sim.ms);
}

#[test]
fn busy_and_missing_sources() {
    let mut sim = Sim::bulk(5 * MB, &[bad(MB, 20, Turn::Busy(7_000), 0), bad(MB, 5, Turn::Lacks, 0)]);
    sim.run(60_000);
    assert!(sim.complete, "it waits for the one that is busy");
    assert!(sim.ms < 14_000, "{} ms", sim.ms);
    assert_eq!(sim.dropped, [(1, Why::Ended(End::Gone))].into());
    let lost = [bad(MB, 20, Turn::Dies, 1_000), bad(MB, 20, Turn::Lies, 0), bad(MB, 9, Turn::Stops, 0)];
    let mut sim = Sim::bulk(50 * MB, &lost);
    sim.run(600_000);
    assert!(sim.no_sources && !sim.complete && sim.dropped.len() == 3);
    // Another source, and it goes on.
    let mut sim = Sim::bulk(50 * MB, &[bad(MB, 20, Turn::Lies, 0), bad(9 * MB, 20, Turn::Lacks, 0)]);
    sim.run(600_000);
    assert!(sim.no_sources);
}

#[test]
fn only_what_is_missing_is_asked_for() {
    let mut have = Groups::new(400 * BAO_GROUP_BYTES - 5);
    (0..400).filter(|group| group % 2 == 0).for_each(|group| {
        have.insert_at(group * BAO_GROUP_BYTES);
    });
    for count in [1, 3] {
        let mut sim = Sim::new(have.clone(), Mode::Bulk, &vec![good(MB, 20); count]);
        sim.run(60_000);
        assert!(sim.complete && sim.wasted() < 16, "{}", sim.wasted());
        assert!(sim.came.iter().step_by(2).all(|times| *times == 0));
    }
    let mut whole = Groups::new(10);
    whole.insert_at(0);
    let mut sim = Sim::new(whole, Mode::Bulk, &[]);
    sim.run(10);
    assert!(sim.complete && !sim.no_sources);
}

#[test]
fn the_first_notes_come_from_whoever_is_first() {
    // The one that seems best does not answer.
    let all = [bad(MB, 10, Turn::Stalls, 0), good(MB, 50), good(MB, 80), good(MB, 90)];
    let mut sim = Sim::play(8 * MB, MP3, 65_536, &all);
    sim.run(400);
    let first = sim.listener.unwrap().first_sound_ms.unwrap();
    assert!(first <= 50 + 66 + 2, "{first} ms");
    sim.run(600_000);
    assert_eq!(sim.listener.unwrap().underruns, 0);
}

#[test]
fn no_underrun_when_the_sum_of_bandwidths_suffices() {
    let cases: [(&str, u64, Vec<Character>); 7] = [
        ("one", FLAC, vec![good(FLAC * 12 / 10, 80)]),
        ("two halves", FLAC, vec![good(FLAC * 7 / 10, 80), good(FLAC * 7 / 10, 30)]),
        ("many slow ones", FLAC, vec![good(FLAC / 4, 60); 7]),
        (
            "one fast, three slow",
            FLAC,
            vec![good(FLAC, 60), good(5_000, 10), good(5_000, 10), good(50_000, 90)],
        ),
        ("far away", MP3, vec![good(MP3, 300), good(MP3, 400)]),
        (
            "two go",
            FLAC,
            vec![
                good(FLAC * 13 / 10, 60),
                bad(2 * FLAC, 20, Turn::Stalls, 9_000),
                bad(2 * FLAC, 20, Turn::Dies, 3_000),
            ],
        ),
        ("one drips", MP3, vec![good(MP3 * 13 / 10, 60), bad(MP3 * 2, 20, Turn::Drips, 2_000)]),
    ];
    for (name, rate, all) in cases {
        let size = rate * 120;
        let mut sim = Sim::play(size, rate, rate * 2, &all);
        for _ in 0..140_000 {
            sim.step();
        }
        let listener = sim.listener.unwrap();
        assert!(sim.complete, "{name}");
        assert_eq!(listener.underruns, 0, "{name}");
        assert!(sim.wasted() < sim.came.len() as u64 / 4, "{name}: {}", sim.wasted());
    }
}

#[test]
fn a_jump_is_served_within_a_round_trip() {
    let all = [good(MB, 40), good(MB, 60), good(MB, 80)];
    for (before_ms, to) in [(300, 20 * MB), (1_000, 5 * MB), (2_000, 29 * MB)] {
        let mut sim = Sim::play(30 * MB, FLAC, 65_536, &all);
        sim.run(before_ms);
        let begin = sim.ms;
        sim.seek(to);
        let group = to / BAO_GROUP_BYTES;
        assert!(!sim.has(group), "a jump into the unknown");
        while !sim.has(group) {
            sim.step();
        }
        // A round trip to the best, and a group while another request may share the line.
        assert!(sim.ms - begin <= 40 + 2 * 17 + 2, "{} ms", sim.ms - begin);
        while !(group..group + 4).all(|group| sim.has(group)) {
            sim.step();
        }
        assert!(sim.ms - begin <= 40 + 2 * 66 + 2, "{} ms", sim.ms - begin);
        sim.run(200_000);
        assert!(sim.complete, "the rest comes too");
        assert_eq!(sim.listener.unwrap().underruns, 0);
    }
}

#[test]
fn a_jump_into_what_is_there_disturbs_nothing() {
    let mut sim = Sim::play(30 * MB, FLAC, 65_536, &[good(MB, 40), good(MB, 60)]);
    sim.run(10_000);
    let before: Vec<u64> = sim.plan.requests.keys().copied().collect();
    sim.seek(MB);
    assert!(before.iter().all(|id| sim.plan.requests.contains_key(id)));
}

#[test]
fn who_is_added_later_helps_at_once() {
    let mut sim = Sim::bulk(40 * MB, &[good(MB, 40), good(3 * MB, 40)]);
    let now = sim.now();
    sim.plan.remove_source(&1, now);
    sim.run(5_000);
    let now = sim.now();
    sim.plan.add_source(1, None, now);
    sim.run(60_000);
    // 5 s alone, 35 MB with 4 MB/s.
    assert!(sim.complete && sim.ms < 14_500, "{} ms", sim.ms);
    assert!(sim.wasted() < 32, "{}", sim.wasted());
}

#[test]
fn a_better_connection_is_used_at_once_and_nothing_comes_twice() {
    for play in [false, true] {
        let one = good(MB, 200);
        let mut sim =
            if play { Sim::play(40 * MB, FLAC, 65_536, &[one]) } else { Sim::bulk(40 * MB, &[one]) };
        sim.run(5_000);
        let had = sim.brought[&0];
        sim.supersede(0);
        sim.set_rate(0, 10 * MB);
        sim.run(60_000);
        assert!(sim.complete && sim.wasted() == 0 && sim.dropped.is_empty() && sim.calls.is_empty());
        assert!((1..=2).contains(&sim.moves), "{}", sim.moves);
        // What was left at the new rate, and a round trip or two.
        let left = 40_000 - had * BAO_GROUP_BYTES / 1_000;
        assert!(sim.ms < 5_000 + left / 10 + 1_000, "{} ms", sim.ms);
        assert!(sim.listener.is_none_or(|listener| listener.underruns == 0));
    }
}

#[test]
fn connections_that_come_and_go_do_no_harm() {
    let flapping = bad(MB, 20, Turn::Moves(100), 1_000);
    let mut sim = Sim::bulk(20 * MB, &[flapping]);
    sim.run(60_000);
    assert!(sim.complete && sim.wasted() == 0 && sim.dropped.is_empty());
    // Once a second.
    assert!((18..=22).contains(&sim.moves), "{}", sim.moves);
    assert!(sim.ms < 22_000, "{} ms", sim.ms);
    // Beside others it is asked as before.
    let mut sim = Sim::bulk(30 * MB, &[flapping, good(MB, 20)]);
    sim.run(60_000);
    assert!(sim.complete && sim.ms < 17_500, "{} ms", sim.ms);
    assert!(sim.brought[&0] > 700 && sim.wasted() < 32, "{:?} {}", sim.brought, sim.wasted());
}

#[test]
fn a_source_that_vanishes_is_used_again_when_it_is_back() {
    // Back before it counts as gone, alone.
    let mut sim = Sim::bulk(20 * MB, &[bad(MB, 20, Turn::Vanishes(3_000), 2_000)]);
    sim.run(60_000);
    assert!(sim.complete && sim.wasted() == 0 && sim.dropped.is_empty());
    assert!(sim.ms < 23_600, "{} ms", sim.ms);
    // Beside another one: nobody waits for it, and it helps again.
    let all = [bad(MB, 20, Turn::Vanishes(8_000), 2_000), good(MB, 20)];
    let mut sim = Sim::bulk(40 * MB, &all);
    sim.run(60_000);
    assert!(sim.complete && sim.dropped.is_empty());
    assert!(sim.ms < 25_500, "{} ms", sim.ms);
    assert!(sim.wasted() < 32, "{}", sim.wasted());
    // Alone and for longer: that is told, and it goes on all the same.
    let mut sim = Sim::bulk(20 * MB, &[bad(MB, 20, Turn::Vanishes(9_000), 2_000)]);
    sim.run(60_000);
    assert!(sim.no_sources && !sim.complete);
    assert!((6_000..6_500).contains(&sim.ms), "{} ms", sim.ms);
    sim.no_sources = false;
    sim.run(60_000);
    assert!(sim.complete && sim.ms < 30_000, "{} ms", sim.ms);
}

#[test]
fn who_is_waited_for_is_called() {
    let called = |sim: &Sim| sim.calls.iter().map(|(_, ms)| *ms).collect::<Vec<_>>();
    // Silent, with a listener: after two seconds, and every two from then on.
    let mut sim = Sim::play(20 * MB, MP3, 65_536, &[bad(MB, 20, Turn::Stalls, 3_000)]);
    sim.run(9_500);
    let calls = called(&sim);
    assert_eq!(calls.len(), 3, "{calls:?}");
    assert!((4_900..5_200).contains(&calls[0]) && calls.windows(2).all(|two| two[1] - two[0] >= 2_000));
    // Without one, after five.
    let mut sim = Sim::bulk(20 * MB, &[bad(MB, 20, Turn::Stalls, 3_000)]);
    sim.run(9_500);
    assert_eq!(called(&sim).len(), 1);
    // Without a connection as well.
    let mut sim = Sim::play(20 * MB, MP3, 65_536, &[bad(MB, 20, Turn::Vanishes(60_000), 3_000)]);
    sim.run(5_500);
    assert_eq!(called(&sim).len(), 1);
    // Not while somebody else sends, nor when there is nothing to hear of but that it is busy.
    for other in [good(MB, 20), bad(MB, 20, Turn::Lacks, 0)] {
        let mut sim = Sim::bulk(10 * MB, &[bad(MB, 30, Turn::Busy(1_500), 0), other]);
        sim.run(30_000);
        assert!(sim.complete && sim.calls.is_empty());
    }
}

#[test]
fn a_source_without_a_connection_is_not_asked_and_is_no_hope() {
    let mut sim = Sim::bulk(5 * MB, &[]);
    let now = sim.now();
    sim.plan.add_source(0, None, now);
    sim.plan.not_connected(&0, now);
    assert_eq!(sim.plan.sources(now).collect::<Vec<_>>(), [(0, Activity::Away)]);
    assert!(!sim.plan.has_hope(now));
    assert_eq!(sim.plan.poll(now), Some(Output::NoSources));
    sim.plan.came(&0, None, now);
    assert!(sim.plan.has_hope(now));
    assert!(matches!(sim.plan.poll(now), Some(Output::Start { peer: 0, .. })));
}

#[test]
fn those_who_are_no_help_do_not_take_turns_for_ever() {
    let mut all =
        vec![good(1_200_000, 60), bad(330_000, 81, Turn::Stops, 0), bad(440_000, 95, Turn::Drips, 870)];
    all.extend([good(3_000, 354), bad(55_000, 234, Turn::Drips, 1_200), bad(730_000, 222, Turn::Dies, 112)]);
    all.extend([good(3_000, 4), bad(2 * MB, 215, Turn::Lies, 2_400), bad(4 * MB, 317, Turn::Busy(100), 0)]);
    all.extend([bad(3 * MB, 55, Turn::Stalls, 4_245), bad(3 * MB, 30, Turn::Busy(4_200), 340)]);
    all.iter_mut().skip(1).for_each(|one| one.hinted = false);
    let mut sim = Sim::bulk(MB / 2, &all);
    sim.bottleneck = Some(176_000);
    sim.run(60_000);
    assert!(sim.complete && sim.ms < 10_000, "{} ms", sim.ms);
}

fn any_character() -> impl Strategy<Value = Character> {
    let turns = prop_oneof![
        2 => Just(Turn::Good),
        1 => Just(Turn::Stalls),
        1 => Just(Turn::Dies),
        1 => Just(Turn::Lies),
        1 => (100u64..20_000).prop_map(Turn::Busy),
        1 => Just(Turn::Drips),
        1 => Just(Turn::Stops),
        1 => Just(Turn::Lacks),
        1 => (100u64..10_000).prop_map(Turn::Vanishes),
        1 => (10u64..3_000).prop_map(Turn::Moves),
    ];
    (1u64..500, 3_000u64..5_000_000, turns, 0u64..5_000, any::<bool>())
        .prop_map(|(rtt_ms, rate, turn, at_ms, hinted)| Character { rtt_ms, rate, turn, at_ms, hinted })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// With one good source among any others, everything comes, no group more than twice, within the bounds.
    #[test]
    fn one_good_source_is_enough(
        mut all in prop::collection::vec(any_character(), 0..14),
        place in any::<prop::sample::Index>(),
        rate in 200_000u64..2_000_000,
        size in 1u64..6_000_000,
        there in prop::collection::vec(0u64..300, 0..40),
        play in any::<bool>(),
        bottleneck in prop::option::of(100_000u64..3_000_000),
        seeks in prop::collection::vec((0u64..6_000_000, 1u64..3_000), 0..4),
    ) {
        all.insert(place.index(all.len() + 1), good(rate, 60));
        let mut have = Groups::new(size);
        there.iter().for_each(|group| { have.insert_at(group * BAO_GROUP_BYTES); });
        let mode = if play { Mode::Play { rate: FLAC } } else { Mode::Bulk };
        let mut sim = Sim::new(have, mode, &all);
        sim.bottleneck = bottleneck;
        for (byte, ms) in seeks {
            sim.run(ms);
            if play && !sim.complete && byte < size {
                sim.seek(byte);
            }
        }
        sim.run(300_000);
        prop_assert!(sim.complete, "{} of {} groups after {} ms", sim.came.iter().filter(|times| **times > 0).count(), sim.came.len(), sim.ms);
        prop_assert!(sim.came.iter().all(|times| *times <= 2), "{:?}", sim.came.iter().max());
        // Those who are no help cost time to find out, and hold a part of the line until then.
        let slowest = bottleneck.map_or(rate, |line| line.min(rate) / 3);
        let patience = 10_000 + size * 1_000 * 2 / slowest.max(1);
        prop_assert!(sim.ms < patience, "{} ms for {size} bytes", sim.ms);
    }

    /// The sources together have half as much again as the song needs: no more than a moment is missed, while nobody
    /// knows yet how slow each of them is.
    #[test]
    fn enough_bandwidth_is_enough(
        mut all in prop::collection::vec((1u64..200, 20u64..100), 1..6),
        rate in prop_oneof![Just(MP3), Just(FLAC)],
    ) {
        let parts: u64 = all.iter().map(|(_, part)| part).sum();
        let good = all.drain(..).map(|(rtt, part)| good(rate * 3 / 2 * part / parts + 1, rtt));
        let all: Vec<Character> = good.collect();
        let mut sim = Sim::play(rate * 60, rate, rate * 2, &all);
        for _ in 0..70_000 {
            sim.step();
        }
        let listener = sim.listener.unwrap();
        prop_assert!(sim.complete);
        prop_assert!(listener.underruns < 1_000, "{} ms, first sound after {:?}", listener.underruns, listener.first_sound_ms);
    }
}
