//! The index against a look at every song.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{
    super::{distance::within, query, words},
    Shelf, song,
};
use crate::search::query::Accept;

/// Few letters and short words, so that words are near one another.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ab]{1,4}",
        "[abc]{3,9}",
        "[ab]{1,2}/[ab]{1,2}",
        "[ab]{1,3}1",
        Just("é東a".to_owned()),
        Just("ßä".to_owned()),
    ]
}

fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(word(), 0..4).prop_map(|words| words.join(" "))
}

/// Whether a run of letters of a song is what a word of the query may be.
fn is(found: &str, wanted: &str, accept: Accept, last: bool) -> bool {
    let begins = found.starts_with(wanted);
    match accept {
        Accept::Whole => found == wanted,
        Accept::Beginnings => begins,
        Accept::Guesses => {
            let letters = wanted.chars().count();
            let may_err = wanted.chars().all(|letter| letter.is_alphabetic() && !words::stands_alone(letter));
            let errors = match letters {
                _ if !may_err => 0,
                8.. => 2,
                4.. => 1,
                _ => 0,
            };
            let starts = || (0..=found.len()).filter(|at| found.is_char_boundary(*at)).map(|at| &found[..at]);
            found == wanted
                || (last && begins)
                || (errors > 0 && within(wanted, found, errors))
                || (last && may_err && letters >= 5 && starts().any(|start| within(wanted, start, 1)))
        }
    }
}

/// Whether a song is to be found, by the definition.
fn wanted(fields: &[String; 4], query: &str, accept: Accept) -> bool {
    let query = words::query_words(query);
    let count = query.len();
    !query.is_empty()
        && query.iter().enumerate().all(|(at, word)| {
            let last = at + 1 == count;
            fields.iter().any(|field| {
                let runs: Vec<String> = words::words(field)
                    .into_iter()
                    .flat_map(|word| word.parts.into_iter().chain(word.joined))
                    .collect();
                let prefix = accept == Accept::Beginnings || (accept == Accept::Guesses && last);
                runs.iter().any(|run| is(run, word.whole(), accept, last))
                    || (word.parts.len() > 1
                        && word.parts.iter().enumerate().all(|(at, part)| {
                            let begins = prefix && at + 1 == word.parts.len();
                            runs.iter().any(|run| run == part || (begins && run.starts_with(part)))
                        }))
            })
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn finds_what_a_look_at_every_song_finds(
        songs in proptest::collection::vec([text(), text(), text(), text()], 1..40),
        queries in proptest::collection::vec(text(), 12),
        split in any::<proptest::sample::Index>(),
    ) {
        let shelf = Shelf::new();
        // Two commits: more than one segment.
        for (at, [title, artist, album, genre]) in songs.iter().enumerate() {
            if at == split.index(songs.len()) {
                shelf.update();
            }
            shelf.add(song([title, artist, album, genre]));
        }
        shelf.update();
        let view = shelf.index.view().unwrap();
        for query in &queries {
            for accept in [Accept::Whole, Accept::Beginnings, Accept::Guesses] {
                let (found, total) = query::find(&view, query, accept, 1_000, None).unwrap();
                prop_assert_eq!(found.len() as u64, total);
                let found: BTreeSet<u64> = found.iter().map(query::Found::index).collect();
                let expected: BTreeSet<u64> = (0u64..)
                    .zip(&songs)
                    .filter(|(_, fields)| wanted(fields, query, accept))
                    .map(|(at, _)| at)
                    .collect();
                prop_assert_eq!(found, expected, "{:?} {:?}", query, accept);
            }
        }
    }
}
