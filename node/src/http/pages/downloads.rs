//! What is on its way to the own library, and what came of it.

use askama::Template;
use axum::extract::State;

use super::{
    Answer, Page as Shown, Shared, blocking, marks,
    views::{self, Both},
};
use crate::{
    keep::{Counts, State as Stage},
    music::id::Id,
};

/// Songs on the page.
const SHOWN: usize = 300;

/// A song that is to be kept.
struct Line {
    id: String,
    title: String,
    artist: String,
    /// How far it is, in words.
    words: String,
    /// What it waits for, or why it did not come.
    why: String,
    size: String,
    stage: Stage,
}

#[derive(Template)]
#[template(path = "downloads.html")]
struct DownloadsMain {
    summary: String,
    lines: Vec<Line>,
    /// Songs beyond those that are shown.
    more: usize,
}

/// `2 come, 5 wait`; nothing when all have ended.
pub(super) fn summary(counts: Counts) -> String {
    let parts = [(counts.running, "coming"), (counts.waiting, "waiting"), (counts.paused, "paused")];
    let words: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    words.join(", ")
}

/// All of them, those first that are still to come.
pub(super) async fn downloads(State(app): Shared) -> Answer {
    let (both, ledger) = (Both::of(&app), app.peer.ledger.clone());
    let (mut all, summary) = (app.downloads.list(), summary(app.downloads.counts()));
    // In the order in which they come; what has ended, the newest first.
    all.sort_by_key(|one| match one.state {
        Stage::Running => (0, one.id),
        Stage::Waiting => (1, one.id),
        Stage::Paused => (2, one.id),
        Stage::Done | Stage::Failed | Stage::Cancelled => (3, u64::MAX - one.id),
    });
    let more = all.len().saturating_sub(SHOWN);
    all.truncate(SHOWN);
    let main = blocking(move || {
        let lines = all.into_iter().map(|one| {
            let (title, artist) = both.named(&ledger, one.song);
            let words = match one.state {
                Stage::Done => "In library".to_owned(),
                Stage::Failed => "Did not come".to_owned(),
                Stage::Cancelled => "Stopped".to_owned(),
                Stage::Waiting | Stage::Paused | Stage::Running => marks::how_far(&one),
            };
            let size = if one.bytes == 0 { String::new() } else { views::bytes(one.bytes) };
            let why = one.error.unwrap_or_default();
            Line { id: Id::Song(one.song).to_string(), title, artist, words, why, size, stage: one.state }
        });
        Ok::<_, super::Failed>(DownloadsMain { summary, lines: lines.collect(), more })
    });
    Shown::show("Downloads", "library", &main.await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_words() {
        assert_eq!(summary(Counts::default()), "");
        assert_eq!(summary(Counts { done: 9, failed: 1, ..Counts::default() }), "");
        assert_eq!(summary(Counts { running: 2, paused: 1, ..Counts::default() }), "2 coming, 1 paused");
    }
}
