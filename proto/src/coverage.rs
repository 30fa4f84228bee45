//! How much of a song was heard: from heartbeats to positions, as a pure function.
//!
//! Heartbeat i, at position p and followed after `wall_dt` by one at `next_p`, covers
//! `[p, p + min(wall_dt + 2 s, next_p - p, duration - p)]`; a position that does not rise covers nothing. What is covered
//! twice counts once. What was covered in all never exceeds the time that has passed by more than 2 s: whoever plays
//! faster hears no more for it.

use crate::{limits, wire::Span};

/// Positions that were heard: ascending, disjoint, not touching; milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard(Vec<Span>);

impl Heard {
    /// Of spans in this form.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn from_spans(spans: &[Span]) -> Result<Self, &'static str> {
        if spans.len() > limits::RECEIPT_SPANS {
            return Err("too many spans");
        }
        if spans.iter().any(|span| span.start >= span.end) {
            return Err("a span of nothing");
        }
        if !spans.is_sorted_by(|a, b| a.end < b.start) {
            return Err("spans that are not in ascending order, or touch");
        }
        Ok(Self(spans.to_vec()))
    }

    /// The spans.
    #[must_use]
    pub fn spans(&self) -> &[Span] {
        &self.0
    }

    /// Milliseconds in all.
    #[must_use]
    pub fn total_ms(&self) -> u64 {
        self.0.iter().map(|span| u64::from(span.end.saturating_sub(span.start))).sum()
    }

    /// Takes a span in; what is there already counts once.
    pub fn add(&mut self, start: u32, end: u32) {
        if start >= end {
            return;
        }
        let first = self.0.partition_point(|span| span.end < start);
        let after = self.0.partition_point(|span| span.start <= end);
        let merged =
            self.0.get(first..after).unwrap_or_default().iter().fold(Span { start, end }, |merged, span| {
                Span { start: merged.start.min(span.start), end: merged.end.max(span.end) }
            });
        self.0.splice(first..after, [merged]);
    }

    /// Everything of another one too.
    pub fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|span| self.add(span.start, span.end));
    }

    /// Takes a span in, but at most `room` milliseconds of what is new in it, from its start on. Returns how many.
    fn add_new(&mut self, start: u32, end: u32, room: u32) -> u32 {
        let mut left = room;
        let mut at = start;
        let mut upto = start;
        // Over the gaps between what is there already.
        for span in self.0.iter().chain([&Span { start: u32::MAX, end: u32::MAX }]) {
            if span.end <= at {
                continue;
            }
            let gap_end = span.start.min(end);
            let gap = gap_end.saturating_sub(at);
            let take = gap.min(left);
            left -= take;
            if take > 0 {
                upto = at.saturating_add(take);
            }
            if take < gap || span.start >= end {
                break;
            }
            at = span.end;
        }
        self.add(start, upto);
        room - left
    }
}

/// One heartbeat: where, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// Position in the song, milliseconds.
    pub position_ms: u32,
    /// Time since the start of the play, milliseconds.
    pub elapsed_ms: u32,
}

/// What a play has heard so far, beat by beat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    duration_ms: u32,
    last: Option<Beat>,
    heard: Heard,
    new_ms: u64,
}

impl Coverage {
    /// Of a song of this duration; 0 for an unknown one, of which nothing can be heard.
    #[must_use]
    pub fn new(duration_ms: u32) -> Self {
        let known = if duration_ms <= limits::DURATION_MS_MAX { duration_ms } else { 0 };
        Self { duration_ms: known, last: None, heard: Heard::default(), new_ms: 0 }
    }

    /// Takes the next beat in. One that goes back in time covers nothing.
    pub fn beat(&mut self, beat: Beat) {
        if let Some(last) = self.last.replace(beat) {
            let passed = beat.elapsed_ms.saturating_sub(last.elapsed_ms);
            let most = passed
                .saturating_add(limits::HEARD_AHEAD_MS)
                .min(beat.position_ms.saturating_sub(last.position_ms))
                .min(self.duration_ms.saturating_sub(last.position_ms));
            // Not faster than time, from the first beat to this one.
            let allowed = u64::from(beat.elapsed_ms).saturating_add(limits::HEARD_AHEAD_MS.into());
            let room = u32::try_from(allowed.saturating_sub(self.new_ms)).unwrap_or(u32::MAX);
            // More spans than a receipt holds: what is heard next is not counted, unless it adjoins.
            let (mut next, start) = (self.heard.clone(), last.position_ms);
            let new = next.add_new(start, start.saturating_add(most), room);
            if next.spans().len() <= limits::RECEIPT_SPANS {
                self.heard = next;
                self.new_ms = self.new_ms.saturating_add(new.into());
            }
        }
    }

    /// What was heard.
    #[must_use]
    pub const fn heard(&self) -> &Heard {
        &self.heard
    }
}

/// What these beats have covered of a song.
#[must_use]
pub fn heard(duration_ms: u32, beats: &[Beat]) -> Heard {
    let mut coverage = Coverage::new(duration_ms);
    beats.iter().for_each(|beat| coverage.beat(*beat));
    coverage.heard
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTES_4: u32 = 240_000;

    /// Plays from position to position, with a beat every five seconds, at a speed in percent.
    struct Player {
        beats: Vec<Beat>,
        elapsed_ms: u32,
    }

    impl Player {
        fn new() -> Self {
            Self { beats: Vec::new(), elapsed_ms: 0 }
        }

        fn at(&mut self, seconds: u32) {
            self.beats.push(Beat { position_ms: seconds * 1_000, elapsed_ms: self.elapsed_ms });
        }

        fn plays_at(mut self, from: u32, to: u32, percent: u32) -> Self {
            let mut position = from * 1_000;
            self.beats.push(Beat { position_ms: position, elapsed_ms: self.elapsed_ms });
            while position < to * 1_000 {
                let step = (5_000 * percent / 100).min(to * 1_000 - position);
                position += step;
                self.elapsed_ms += step * 100 / percent;
                self.beats.push(Beat { position_ms: position, elapsed_ms: self.elapsed_ms });
            }
            self
        }

        fn plays(self, from: u32, to: u32) -> Self {
            self.plays_at(from, to, 100)
        }

        /// Beats go on while nothing moves.
        fn pauses(mut self, at: u32, seconds: u32) -> Self {
            for _ in 0..seconds / 5 {
                self.elapsed_ms += 5_000;
                self.at(at);
            }
            self
        }

        fn heard(&self, duration_ms: u32) -> Vec<(u32, u32)> {
            heard(duration_ms, &self.beats).spans().iter().map(|span| (span.start, span.end)).collect()
        }

        fn total(&self, duration_ms: u32) -> u64 {
            heard(duration_ms, &self.beats).total_ms()
        }
    }

    #[test]
    fn a_minute_and_then_another_one_later() {
        let player = Player::new().plays(0, 60).plays(90, 150);
        // The jump from 60 to 90 took no time, but a beat may run two seconds ahead.
        assert_eq!(player.heard(MINUTES_4), [(0, 62_000), (90_000, 150_000)]);
        // The clock has run for 120 s, so that 122 s are the most that can have been heard: here no more than that.
        assert_eq!(player.total(MINUTES_4), 122_000);
        // A player that stops its beats before it jumps has heard just what it played.
        let mut whole = heard(MINUTES_4, &Player::new().plays(0, 60).beats);
        whole.merge(&heard(MINUTES_4, &Player::new().plays(90, 150).beats));
        assert_eq!(whole.total_ms(), 120_000);
    }

    #[test]
    fn a_chorus_on_a_loop_is_one_chorus() {
        let mut player = Player::new();
        for _ in 0..10 {
            player = player.plays(60, 90);
        }
        assert_eq!(player.heard(MINUTES_4), [(60_000, 90_000)]);
    }

    #[test]
    fn a_pause_is_not_heard() {
        let player = Player::new().plays(0, 30).pauses(30, 300);
        assert_eq!(player.heard(MINUTES_4), [(0, 30_000)]);
        let player = Player::new().plays(0, 30).pauses(30, 300).plays(30, 60);
        assert_eq!(player.heard(MINUTES_4), [(0, 60_000)]);
    }

    #[test]
    fn faster_than_time_is_not_heard() {
        // Twice as fast: seven of ten seconds by each beat, but no more in all than the clock has run.
        let player = Player::new().plays_at(0, 240, 200);
        assert_eq!(player.total(MINUTES_4), 122_000);
        let player = Player::new().plays_at(0, 240, 1_000);
        assert_eq!(player.total(MINUTES_4), 26_000);
        // Slower: every second of it.
        assert_eq!(Player::new().plays_at(0, 60, 50).total(MINUTES_4), 60_000);
    }

    #[test]
    fn seeking_back_and_forth() {
        let mut player = Player::new();
        // A beat each second, a jump each time: each covers at most three seconds, and going back nothing.
        for (second, position) in [0, 100, 20, 200, 5, 150].into_iter().enumerate() {
            player.elapsed_ms = u32::try_from(second).unwrap() * 1_000;
            player.at(position);
        }
        assert_eq!(player.heard(MINUTES_4), [(0, 3_000), (5_000, 7_000), (20_000, 22_000)]);
        // Three times three, but five seconds have passed.
        assert_eq!(player.total(MINUTES_4), 5_000 + 2_000);
    }

    #[test]
    fn durations_that_are_unknown_absurd_or_passed() {
        let player = Player::new().plays(0, 60);
        assert_eq!(player.heard(0), []);
        assert_eq!(player.heard(184 * 3_600_000), []);
        assert_eq!(player.heard(30_000), [(0, 30_000)]);
        assert_eq!(Player::new().plays(500, 600).heard(MINUTES_4), []);
    }

    #[test]
    fn one_beat_or_none_is_nothing() {
        assert_eq!(heard(MINUTES_4, &[]), Heard::default());
        let one = Beat { position_ms: 5, elapsed_ms: 5 };
        assert_eq!(heard(MINUTES_4, &[one]), Heard::default());
        assert_eq!(heard(MINUTES_4, &[one, one]), Heard::default());
    }

    #[test]
    fn spans_are_held_to_their_form() {
        let span = |start, end| Span { start, end };
        assert!(Heard::from_spans(&[span(0, 5), span(6, 9)]).is_ok());
        for wrong in [[span(0, 5), span(5, 9)], [span(6, 9), span(0, 5)], [span(0, 5), span(7, 7)]] {
            assert!(Heard::from_spans(&wrong).is_err());
        }
        let many: Vec<Span> = (0..33).map(|n| span(n * 10, n * 10 + 5)).collect();
        assert!(Heard::from_spans(&many).is_err());
    }

    proptest! {
        #[test]
        fn heard_is_never_more_than_time_or_song(
            duration in 1_000u32..400_000,
            steps in proptest::collection::vec((0u32..500_000, 0u32..20_000), 0..60),
        ) {
            let mut elapsed = 0;
            let beats: Vec<Beat> = steps.into_iter().map(|(position_ms, passed)| {
                elapsed += passed;
                Beat { position_ms, elapsed_ms: elapsed }
            }).collect();
            let heard = heard(duration, &beats);
            prop_assert!(heard.total_ms() <= u64::from(duration));
            prop_assert!(heard.total_ms() <= u64::from(elapsed) + 2_000);
            prop_assert_eq!(Heard::from_spans(heard.spans()).unwrap(), heard.clone());
            // As plain sets of milliseconds would have it, without the bounds on time and number.
            let mut model = std::collections::BTreeSet::new();
            for pair in beats.windows(2) {
                let most = (pair[1].elapsed_ms - pair[0].elapsed_ms + 2_000)
                    .min(pair[1].position_ms.saturating_sub(pair[0].position_ms))
                    .min(duration.saturating_sub(pair[0].position_ms));
                // In steps of a tenth of a second, to be quick.
                model.extend((pair[0].position_ms / 100)..(pair[0].position_ms + most).div_ceil(100));
            }
            for span in heard.spans() {
                for tenth in (span.start / 100)..(span.end / 100) {
                    prop_assert!(model.contains(&tenth));
                }
            }
        }

        #[test]
        fn merging_is_a_union(spans in proptest::collection::vec((0u32..300, 0u32..300), 0..40)) {
            let mut heard = Heard::default();
            let mut model = std::collections::BTreeSet::new();
            for (start, end) in spans {
                heard.add(start, end);
                model.extend(start..end);
            }
            prop_assert_eq!(heard.total_ms(), model.len() as u64);
            prop_assert!(heard.spans().is_sorted_by(|a, b| a.end < b.start));
            for span in heard.spans() {
                prop_assert!((span.start..span.end).all(|at| model.contains(&at)));
            }
        }
    }
}
