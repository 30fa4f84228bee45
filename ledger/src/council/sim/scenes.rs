//! Scenes that are told by hand.

use antiphon_proto::wire::CouncilAct;

use super::{World, chain::CrashAt};
use crate::{
    council::{Chain as _, Voting},
    refusal::Refusal,
    seal,
    sequencer::Answer,
};

/// Hands a song in and waits for its answer.
fn accepted(world: &mut World, node: usize, within_ms: u64) {
    let song = world.submit(node);
    world.until(within_ms, "an answer", |world| world.answers.iter().any(|(_, of, _)| *of == song));
    let (_, _, answer) = world.answers.last().unwrap();
    assert!(matches!(answer, Answer::Accepted { .. }), "{answer:?}");
}

#[test]
fn a_council_of_one_answers_at_once() {
    let mut world = World::new(1, 1, 0);
    for _ in 0..5 {
        accepted(&mut world, 0, 1_100);
    }
    assert_eq!(world.height(0), 5);
    assert!(world.checkpoints >= 5);
}

#[test]
fn four_members_agree_and_rest_when_there_is_nothing_to_do() {
    let mut world = World::new(2, 4, 0);
    for node in 0..4 {
        accepted(&mut world, node, 3_000);
    }
    world.run(5_000);
    let heights: Vec<_> = (0..4).map(|node| world.height(node)).collect();
    assert_eq!(heights, [world.height(0); 4]);
    let (before, decided) = (world.height(0), world.decided.len());
    world.run(600_000);
    assert_eq!((world.height(0), world.decided.len()), (before, decided), "no heights when idle");
    assert!(world.checkpoints >= 4);
    assert_eq!(world.nodes[0].chain.end().seal.len(), 3 + 237);
}

#[test]
fn heights_are_paced() {
    let mut world = World::new(3, 4, 0);
    for _ in 0..40 {
        world.submit(0);
        world.run(250);
    }
    world.run(3_000);
    assert_eq!(world.answers.len(), 40);
    assert!((8..=13).contains(&world.height(0)), "ten seconds, a height each: {}", world.height(0));
}

#[test]
fn one_member_may_be_away() {
    let mut world = World::new(4, 4, 0);
    accepted(&mut world, 0, 3_000);
    world.stop(3);
    for _ in 0..8 {
        accepted(&mut world, 0, 10_000);
    }
    // Whoever is away is not waited for any more.
    for _ in 0..8 {
        accepted(&mut world, 1, 1_500);
    }
    assert_eq!(world.height(3), 1);
    world.start(3, false);
    world.until(5_000, "it catches up", |world| world.height(3) == world.height(0));
    world.until(5_000, "it votes", |world| world.voting(3) == Voting::Ready);
    for _ in 0..4 {
        accepted(&mut world, 3, 10_000);
    }
    let end = world.nodes[0].chain.end();
    let key = world.nodes[3].key.public();
    assert!(end.roster.seen(&key).unwrap().signed > 10, "its signatures are in the ledger again");
    assert!(!end.roster.is_absent(&key, end.position.height + 1));
}

#[test]
fn without_a_quorum_nothing_moves_and_everybody_says_why() {
    let mut world = World::new(5, 4, 0);
    accepted(&mut world, 0, 3_000);
    world.stop(2);
    world.stop(3);
    let song = world.submit(0);
    world.run(120_000);
    assert_eq!((world.height(0), world.height(1)), (1, 1));
    let report = world.nodes[0].member.as_ref().unwrap().report(world.now());
    let mut missing = [world.nodes[2].key.public(), world.nodes[3].key.public()];
    missing.sort();
    assert_eq!(report.missing(), missing);
    assert!(!report.has_quorum());
    world.start(2, false);
    world.until(15_000, "progress", |world| world.answers.iter().any(|(_, of, _)| *of == song));
}

#[test]
fn the_same_song_twice_is_one_block_and_one_answer() {
    let mut world = World::new(6, 4, 0);
    let song = world.submit(0);
    world.submit_again(1, song.clone());
    world.submit_again(1, song.clone());
    world.run(3_000);
    world.submit_again(2, song.clone());
    world.run(3_000);
    assert_eq!(world.answers.len(), 4);
    assert!(world.answers.iter().all(|(_, _, answer)| *answer == Answer::Accepted { index: 0, height: 1 }));
    assert_eq!(world.nodes[0].chain.end().position.size, 1);
}

#[test]
fn what_cannot_be_in_the_ledger_is_refused_and_starts_no_height() {
    let mut world = World::new(7, 4, 0);
    accepted(&mut world, 0, 3_000);
    let height = world.height(0);
    let again = world.artist.variant(&world.artist.song(99), 1);
    world.submit_again(1, antiphon_proto::wire::Registration::of_variant(again));
    world.run(20_000);
    let (_, _, answer) = world.answers.last().unwrap();
    assert!(matches!(answer, Answer::Refused(Refusal::UnknownSong(_))), "{answer:?}");
    assert_eq!(world.height(0), height);
}

/// The power of every machine goes at once, at every moment of a height.
#[test]
fn what_was_acknowledged_survives_a_power_cut_of_all() {
    for flushes in 0..12 {
        for reaches in [false, true] {
            let mut world = World::new(100 + u64::from(flushes), 4, 0);
            accepted(&mut world, 0, 3_000);
            for node in 0..4 {
                let later = u32::try_from(world.dice.below(3)).unwrap();
                world.nodes[node].journal.crash_at(CrashAt { flushes: flushes + later, reaches });
            }
            for node in 0..4 {
                world.submit(node);
            }
            world.run(20_000);
            for node in 0..4 {
                world.stop(node);
            }
            let acknowledged = world.answers.clone();
            world.run(1_000);
            for node in 0..4 {
                world.start(node, false);
            }
            accepted(&mut world, 1, 60_000);
            world.run(5_000);
            for (node, song, answer) in acknowledged {
                assert!(matches!(answer, Answer::Accepted { .. }));
                assert!((0..4).all(|other| world.nodes[other].chain.holds(&song)), "of {node}");
            }
        }
    }
}

#[test]
fn a_member_without_its_log_does_not_vote_until_it_is_safe() {
    for stale in [false, true] {
        let mut world = World::new(8, 4, 0);
        accepted(&mut world, 0, 3_000);
        let old = world.nodes[2].journal.restart();
        for _ in 0..3 {
            accepted(&mut world, 0, 5_000);
        }
        world.run(2_000);
        world.stop(2);
        world.nodes[2].journal.replace(if stale { old } else { Vec::new() });
        world.start(2, false);
        world.run(3_000);
        assert!(matches!(world.voting(2), Voting::Refused(_)), "{:?}", world.voting(2));
        accepted(&mut world, 0, 10_000);
        // It follows, but does not sign.
        world.run(3_000);
        assert_eq!(world.height(2), world.height(0));
        world.stop(2);
        world.start(2, true);
        world.run(3_000);
        assert!(matches!(world.voting(2), Voting::Silent { .. }), "{:?}", world.voting(2));
        for _ in 0..4 {
            accepted(&mut world, 0, 10_000);
        }
        world.run(3_000);
        assert_eq!(world.voting(2), Voting::Ready);
        // The others stop: it is needed, and it votes.
        world.stop(3);
        accepted(&mut world, 0, 20_000);
        world.stop(2);
        world.start(2, false);
        accepted(&mut world, 2, 20_000);
    }
}

#[test]
fn members_come_and_go() {
    let mut world = World::new(9, 4, 1);
    accepted(&mut world, 0, 3_000);
    let (joins, leaves) = (world.nodes[4].key.public(), world.nodes[1].key.public());
    let act = CouncilAct::change_member(Some(joins), Some(leaves), 1_000, [1; 16]);
    let now = world.now();
    let id = world.nodes[0].member.as_mut().unwrap().propose_act(now, act).unwrap();
    world.settle(0);
    world.run(1_000);
    for node in [2, 3] {
        let now = world.now();
        world.nodes[node].member.as_mut().unwrap().vote_act(now, &id).unwrap();
        world.settle(node);
    }
    world.until(10_000, "the act is decided", |world| world.nodes[0].chain.end().roster.has_decided(&id));
    let decided = world.height(0);
    assert!(world.nodes[0].chain.end().roster.next().contains(&joins));
    accepted(&mut world, 0, 10_000);
    accepted(&mut world, 0, 10_000);
    // The newcomer follows by other means until it is a member; here it is given what was decided.
    let batches = world.nodes[0].chain.batches();
    for batch in &batches[usize::try_from(world.height(4)).unwrap()..] {
        world.nodes[4].chain.commit(batch, &[]).unwrap().unwrap();
        let now = world.now();
        world.nodes[4].member.as_mut().unwrap().grown(now, batch).unwrap();
        world.settle(4);
    }
    world.greet(4);
    world.run(3_000);
    assert_eq!(world.voting(4), Voting::Ready);
    assert_eq!(world.voting(1), Voting::NotAMember);
    world.stop(1);
    for _ in 0..3 {
        accepted(&mut world, 4, 10_000);
    }
    let council = world.nodes[0].chain.end().roster.current().clone();
    assert!(council.contains(&joins) && !council.contains(&leaves) && council.len() == 4);
    // Every batch is sealed by the council of its height.
    let batches = world.nodes[0].chain.batches();
    assert!(batches.len() as u64 > decided + 2);
    assert!(batches.iter().all(|batch| seal::certificate(&batch.seal, 4).is_some()));
}

#[test]
fn a_lost_vote_does_not_stop_the_council() {
    let mut world = World::new(10, 4, 0);
    world.weather.loss_percent = 30;
    for node in 0..4 {
        accepted(&mut world, node, 120_000);
    }
}

/// Plays that are handed in at each member, while members come and go.
#[test]
fn plays_are_settled_once_whoever_is_away() {
    let mut world = World::new(9, 4, 0);
    accepted(&mut world, 0, 3_000);
    for round in 0..12 {
        let away = round % 4;
        for node in (0..4).filter(|node| *node != away) {
            world.submit_play(node);
        }
        world.stop(away);
        world.run(3_000);
        world.start(away, false);
        world.run(2_000);
    }
    world.until(60_000, "every receipt is settled", |world| world.all_settled(&[0, 1, 2, 3]));
    world.run(5_000);
    world.check_plays(&[0, 1, 2, 3]);
    assert!(world.nodes[0].chain.plays() >= 36);
}
