//! Which songs are meant by some words.
//!
//! Every word must be found somewhere in a song's title, artist, album or genre. A word counts by how it was found
//! (whole, as a beginning, with typing errors), then by where, and a song by the sum over its words: numbers that
//! depend on nothing but the song and the query. Words are looked up one after the other in each segment, with one byte
//! for each document.

use std::{cmp::Reverse, collections::BinaryHeap};

use tantivy::{
    Term,
    index::InvertedIndexReader,
    postings::TermInfo,
    query::FuzzyTermQuery,
    schema::{Field, IndexRecordOption},
};

use super::{
    distance::within,
    error::Result,
    online::Online,
    parts::{Part, Snapshot},
    schema::number,
    words::{self, Word},
};

/// Letters from which on a word may have a typing error: shorter ones are all near one another.
const ONE_ERROR: usize = 4;
/// Letters from which on it may have two.
const TWO_ERRORS: usize = 8;
/// Letters from which on a beginning may have an error.
const PREFIX_ERROR: usize = 5;
/// Letters up to which errors are looked for: the automaton grows with the word.
const LONGEST: usize = 32;

/// What counts as finding a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accept {
    /// The whole word only.
    Whole,
    /// Beginnings too, for every word.
    Beginnings,
    /// The last word may be a beginning, and words may have typing errors.
    Guesses,
}

/// How a word was found, from the worst to the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum How {
    /// A beginning with an error.
    WrongPrefix = 1,
    /// Two errors.
    TwoErrors,
    /// One error.
    OneError,
    /// A beginning.
    Prefix,
    /// The very word.
    Whole,
}

/// Fields with words.
const FIELDS: u8 = 4;
/// The field that counts most.
const TITLE: u8 = FIELDS - 1;

/// How and where a word was found, as one byte that sorts by both; 0 is not at all.
fn code(how: How, field: u8) -> u8 {
    how as u8 * FIELDS + field
}

/// What a byte of [`code`] adds to a song. One step of how outweighs all that sixteen words can differ in where.
fn weight(code: u8) -> u32 {
    u32::from(code / FIELDS) * 128 + u32::from(code % FIELDS) * 2
}

/// What a song counts whose title is the query, before anything else.
const WHOLE_TITLE: u32 = 1 << 28;
/// Room below the weight of words for the length of the title.
const LENGTHS: u32 = 256;

/// A song that was found; the best is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    score: u32,
    index: Reverse<u64>,
}

impl Found {
    /// Ledger index.
    pub(super) fn index(&self) -> u64 {
        self.index.0
    }

    /// Whether the title consists of the words of the query.
    pub(super) fn is_whole_title(&self) -> bool {
        self.score >= WHOLE_TITLE
    }
}

/// The best songs for a query, best first, and the number of all.
pub(super) fn find(
    snapshot: &Snapshot,
    text: &str,
    accept: Accept,
    most: usize,
    online: Option<&Online>,
) -> Result<(Vec<Found>, u64)> {
    let query = words::query_words(text);
    let all = u32::try_from(query.len()).unwrap_or(u32::MAX).saturating_mul(weight(code(How::Whole, TITLE)));
    let letters = u32::try_from(words::letters(&query)).unwrap_or(u32::MAX);
    let mut best = Best { most, heap: BinaryHeap::new(), total: 0, whole: (all, letters) };
    if query.is_empty() {
        return Ok((Vec::new(), 0));
    }
    let lookups: Vec<Lookup> =
        query.iter().enumerate().map(|(at, word)| Lookup::new(word, accept, at + 1 == query.len())).collect();
    for part in snapshot.parts()?.iter() {
        if let Some(totals) = totals(part, snapshot.fields(), &lookups)? {
            best.take(part, &totals, online)?;
        }
    }
    let mut found: Vec<Found> = best.heap.into_iter().map(|Reverse(found)| found).collect();
    found.sort_unstable_by(|one, other| other.cmp(one));
    Ok((found, best.total))
}

/// The sum of weights for each document of a segment, 0 where a word is missing; `None` when all are.
fn totals(part: &Part, fields: [Field; 4], lookups: &[Lookup]) -> Result<Option<Vec<u32>>> {
    let documents = part.documents() as usize;
    let mut totals = vec![0u32; documents];
    let mut codes = vec![0u8; documents];
    for (at, lookup) in lookups.iter().enumerate() {
        codes.fill(0);
        for (place, field) in (0u8..).zip(fields) {
            let words = part.reader.inverted_index(field)?;
            lookup.run(&words, field, place, &mut codes)?;
        }
        let mut any = false;
        for (total, code) in totals.iter_mut().zip(&codes) {
            *total = match (*code, *total) {
                (0, _) => 0,
                (_, 0) if at > 0 => 0,
                (code, sum) => {
                    any = true;
                    sum + weight(code)
                }
            };
        }
        if !any {
            return Ok(None);
        }
    }
    Ok(Some(totals))
}

/// A word, ready to be looked up.
struct Lookup<'q> {
    word: &'q Word,
    prefix: bool,
    /// Errors that are allowed, and the same for a beginning.
    errors: (u8, u8),
}

impl<'q> Lookup<'q> {
    fn new(word: &'q Word, accept: Accept, last: bool) -> Self {
        let whole = word.whole();
        let letters = whole.chars().count();
        // One digit more or less is another number, and one sign another word.
        let may_err = accept == Accept::Guesses
            && letters <= LONGEST
            && whole.chars().all(|letter| letter.is_alphabetic() && !words::stands_alone(letter));
        let errors = match letters {
            _ if !may_err => 0,
            TWO_ERRORS.. => 2,
            ONE_ERROR.. => 1,
            _ => 0,
        };
        Self {
            word,
            prefix: accept == Accept::Beginnings || (accept == Accept::Guesses && last),
            errors: (errors, u8::from(may_err && last && letters >= PREFIX_ERROR)),
        }
    }

    /// Raises the codes of all documents that have the word in a field.
    fn run(&self, words: &InvertedIndexReader, field: Field, place: u8, codes: &mut [u8]) -> Result<()> {
        let mut raise = |info: &TermInfo, how| -> Result<()> {
            let code = code(how, place);
            each_document(words, info, |document| {
                if let Some(found) = codes.get_mut(document as usize) {
                    *found = code.max(*found);
                }
            })
        };
        let whole = self.word.whole();
        if let Some(info) = words.terms().get(whole)? {
            raise(&info, How::Whole)?;
        }
        if self.prefix {
            each_beginning(words, whole, |info| raise(info, How::Prefix))?;
        }
        let (errors, prefix_errors) = self.errors;
        if errors > 0 {
            let automaton =
                FuzzyTermQuery::new(Term::from_field_text(field, whole), errors, true).automaton()?;
            let mut stream = words.terms().search(&automaton).into_stream()?;
            while stream.advance() {
                let near = std::str::from_utf8(stream.key()).is_ok_and(|found| within(whole, found, 1));
                raise(stream.value(), if near { How::OneError } else { How::TwoErrors })?;
            }
        }
        if prefix_errors > 0 {
            let term = Term::from_field_text(field, whole);
            let automaton = FuzzyTermQuery::new_prefix(term, prefix_errors, true).automaton()?;
            let mut stream = words.terms().search(&automaton).into_stream()?;
            while stream.advance() {
                raise(stream.value(), How::WrongPrefix)?;
            }
        }
        if self.word.joined.is_some() {
            self.run_parts(words, place, codes)?;
        }
        Ok(())
    }

    /// The same for a word of several runs that stands apart in the field: "AC DC".
    fn run_parts(&self, words: &InvertedIndexReader, place: u8, codes: &mut [u8]) -> Result<()> {
        let mut met = vec![0u8; codes.len()];
        let mut needed = 0u8;
        let mut how = How::Whole;
        for (at, part) in self.word.parts.iter().enumerate() {
            let mut meet = |info: &TermInfo| {
                each_document(words, info, |document| {
                    if let Some(met) = met.get_mut(document as usize)
                        && *met == needed
                    {
                        *met = needed + 1;
                    }
                })
            };
            if let Some(info) = words.terms().get(part)? {
                meet(&info)?;
            }
            if self.prefix && at + 1 == self.word.parts.len() {
                how = How::Prefix;
                each_beginning(words, part, meet)?;
            }
            needed += 1;
        }
        let code = code(how, place);
        for (found, met) in codes.iter_mut().zip(&met) {
            if *met == needed {
                *found = code.max(*found);
            }
        }
        Ok(())
    }
}

/// All longer words that begin so.
fn each_beginning(
    words: &InvertedIndexReader,
    beginning: &str,
    mut each: impl FnMut(&TermInfo) -> Result<()>,
) -> Result<()> {
    // No byte of UTF-8 is 255, so the next higher one exists.
    let mut end = beginning.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    let mut stream = words.terms().range().gt(beginning).lt(end).into_stream()?;
    while stream.advance() {
        each(stream.value())?;
    }
    Ok(())
}

fn each_document(words: &InvertedIndexReader, info: &TermInfo, mut each: impl FnMut(u32)) -> Result<()> {
    let mut postings = words.read_block_postings_from_terminfo(info, IndexRecordOption::Basic)?;
    loop {
        let documents = postings.docs();
        if documents.is_empty() {
            return Ok(());
        }
        documents.iter().copied().for_each(&mut each);
        postings.advance();
    }
}

/// The best songs so far.
struct Best {
    most: usize,
    heap: BinaryHeap<Reverse<Found>>,
    total: u64,
    /// Weight and letters of a title that is the query.
    whole: (u32, u32),
}

impl Best {
    fn take(&mut self, part: &Part, totals: &[u32], online: Option<&Online>) -> Result<()> {
        let (index, letters) = (part.numbers(number::INDEX)?, part.numbers(number::LETTERS)?);
        for (document, total) in (0u32..).zip(totals) {
            if *total == 0 {
                continue;
            }
            let index = index.of(document);
            if online.is_some_and(|online| !online.has(index)) {
                continue;
            }
            self.total += 1;
            let letters = u32::try_from(letters.of(document)).unwrap_or(u32::MAX).min(LENGTHS - 1);
            let mut score = total * LENGTHS + (LENGTHS - 1 - letters);
            if (*total, letters) == self.whole {
                score += WHOLE_TITLE;
            }
            self.offer(Found { score, index: Reverse(index) });
        }
        Ok(())
    }

    fn offer(&mut self, found: Found) {
        if self.heap.len() < self.most {
            self.heap.push(Reverse(found));
        } else if let Some(mut worst) = self.heap.peek_mut()
            && worst.0 < found
        {
            *worst = Reverse(found);
        }
    }
}
