//! Which names have a word that begins with some letters: a sorted list of words, each with the names that have it.

use std::{collections::HashMap, ops::Range};

use crate::search;

/// Places of a list, as bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    bits: Vec<u64>,
    length: usize,
}

impl Places {
    pub(super) fn none(length: usize) -> Self {
        Self { bits: vec![0; length.div_ceil(64)], length }
    }

    pub(super) fn all(length: usize) -> Self {
        let mut places = Self::none(length);
        places.add_range(0..length);
        places
    }

    pub(super) fn add(&mut self, place: usize) {
        if let Some(bits) = self.bits.get_mut(place / 64) {
            *bits |= 1 << (place % 64);
        }
    }

    pub(super) fn add_range(&mut self, range: Range<usize>) {
        let range = range.start..range.end.min(self.length);
        for place in range {
            self.add(place);
        }
    }

    /// Of the list.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bits.iter().all(|bits| *bits == 0)
    }

    pub(super) fn keep(&mut self, other: &Self) {
        for (bits, other) in self.bits.iter_mut().zip(&other.bits) {
            *bits &= other;
        }
    }

    pub(super) fn join(&mut self, other: &Self) {
        for (bits, other) in self.bits.iter_mut().zip(&other.bits) {
            *bits |= other;
        }
    }

    pub(super) fn drop_all(&mut self, other: &Self) {
        for (bits, other) in self.bits.iter_mut().zip(&other.bits) {
            *bits &= !other;
        }
    }

    pub(super) fn count(&self) -> usize {
        self.bits.iter().map(|bits| bits.count_ones() as usize).sum()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.bits.iter().enumerate().filter(|(_, bits)| **bits != 0).flat_map(|(at, bits)| {
            let bits = *bits;
            (0..64usize).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| at * 64 + bit)
        })
    }
}

/// How much of a word a query's word must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// Its beginning.
    Beginning,
}

/// The words of a list of names.
#[derive(Debug, Default)]
pub(super) struct Words {
    /// All words, sorted, one behind the other.
    text: String,
    /// Where each ends.
    ends: Vec<u32>,
    /// Places in the list of names, word by word.
    places: Vec<u32>,
    /// Where those of each word end.
    places_end: Vec<u32>,
    names: usize,
}

fn short(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Words {
    pub(super) fn of<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let mut known: HashMap<String, u32> = HashMap::new();
        let mut pairs: Vec<(u32, u32)> = Vec::new();
        let mut count = 0;
        for (place, name) in names.enumerate() {
            count = place + 1;
            for word in search::name_words(name) {
                let next = short(known.len());
                let number = *known.entry(word).or_insert(next);
                pairs.push((number, short(place)));
            }
        }
        let mut sorted: Vec<(String, u32)> = known.into_iter().collect();
        sorted.sort_unstable();
        let mut order = vec![0u32; sorted.len()];
        let (mut text, mut ends) = (String::new(), Vec::with_capacity(sorted.len()));
        for (place, (word, number)) in sorted.into_iter().enumerate() {
            text.push_str(&word);
            ends.push(short(text.len()));
            if let Some(slot) = order.get_mut(number as usize) {
                *slot = short(place);
            }
        }
        text.shrink_to_fit();
        for (word, _) in &mut pairs {
            *word = order.get(*word as usize).copied().unwrap_or(0);
        }
        pairs.sort_unstable();
        pairs.dedup();
        let mut places_end = vec![0u32; ends.len()];
        for (at, (word, _)) in pairs.iter().enumerate() {
            if let Some(end) = places_end.get_mut(*word as usize) {
                *end = short(at + 1);
            }
        }
        // A list of its own: one made in place would keep the room of the pairs.
        let mut places = Vec::with_capacity(pairs.len());
        places.extend(pairs.into_iter().map(|(_, place)| place));
        Self { text, ends, places, places_end, names: count }
    }

    fn word(&self, number: usize) -> &str {
        self.text.get(span(&self.ends, number)).unwrap_or_default()
    }

    /// Names that have such a word.
    pub(super) fn having(&self, letters: &str, part: Part) -> Places {
        let mut found = Places::none(self.names);
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.word(middle) < letters { low = middle + 1 } else { high = middle }
        }
        let fits = |word: &str| match part {
            Part::Whole => word == letters,
            Part::Beginning => word.starts_with(letters),
        };
        let mut end = low;
        while end < self.ends.len() && fits(self.word(end)) {
            end += 1;
        }
        if end > low {
            let (first, last) = (span(&self.places_end, low), span(&self.places_end, end - 1));
            for place in self.places.get(first.start..last.end).unwrap_or_default() {
                found.add(*place as usize);
            }
        }
        found
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        self.text.capacity()
            + 4 * (self.ends.capacity() + self.places.capacity() + self.places_end.capacity())
    }
}

/// The part of a list between two ends.
fn span(ends: &[u32], number: usize) -> Range<usize> {
    let start = number.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
    start as usize..ends.get(number).copied().unwrap_or(start) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn having(words: &Words, letters: &str, part: Part) -> Vec<usize> {
        words.having(letters, part).iter().collect()
    }

    #[test]
    fn names_by_the_beginnings_of_their_words() {
        let words = Words::of(["Help!", "Helpless", "AC/DC", "Don’t help", "", "東京"].into_iter());
        assert_eq!(having(&words, "help", Part::Beginning), [0, 1, 3]);
        assert_eq!(having(&words, "help", Part::Whole), [0, 3]);
        assert_eq!(having(&words, "acdc", Part::Whole), [2]);
        assert_eq!(having(&words, "dc", Part::Beginning), [2]);
        assert_eq!(having(&words, "京", Part::Beginning), [5]);
        assert_eq!(having(&words, "zzz", Part::Beginning), [0usize; 0]);
        assert!(having(&Words::default(), "a", Part::Beginning).is_empty());
    }

    #[test]
    fn places_are_a_set() {
        let mut some = Places::none(130);
        some.add_range(60..70);
        some.add(129);
        some.add(1_000);
        assert!(some.iter().eq((60..70).chain([129])));
        let mut all = Places::all(130);
        assert_eq!(all.count(), 130);
        all.drop_all(&some);
        assert_eq!(all.count(), 119);
        all.keep(&some);
        assert!(all.is_empty());
        all.join(&some);
        assert_eq!(all, some);
    }
}
