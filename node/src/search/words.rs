//! What a text is made of, for finding it again: folding, words, and the key under which names are one.
//!
//! The same functions run over what is indexed and over what is asked for, so both always agree. Changing any of
//! them changes what an index holds: raise [`super::store::VERSION`] with it.

use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};

/// Bytes of a query that are looked at: the longest title fits.
pub(super) const QUERY_BYTES: usize = 256;
/// Words of a query that are looked at: each costs a pass over the dictionaries.
pub(super) const QUERY_WORDS: usize = 16;
/// Bytes of a word that count: nobody tells words apart behind that.
const WORD_BYTES: usize = 64;
/// Bytes of a key that count: names have 256 bytes, and folding may lengthen them.
const KEY_BYTES: usize = 256;
/// Parts of one word with punctuation inside, such as `R.E.M.`; what is longer is taken for several words.
const PARTS: usize = 8;

/// A word: a run of letters and digits, or one character of a script that has no spaces, or several runs with only
/// punctuation between them ("AC/DC"), which people also write without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// The runs, at least one.
    pub(super) parts: Vec<String>,
    /// All of them as one, where there are several.
    pub(super) joined: Option<String>,
}

impl Word {
    fn of(parts: Vec<String>) -> Self {
        let joined = (parts.len() > 1).then(|| cut(parts.concat(), WORD_BYTES));
        Self { parts, joined }
    }

    /// As one run: what typos and beginnings are compared with.
    pub(super) fn whole(&self) -> &str {
        self.joined.as_deref().unwrap_or(&self.parts[0])
    }
}

/// Lower case, without accents, in one of the ways that Unicode has of writing the same.
pub(super) fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    // Compatibility forms (full-width letters, ligatures, circled digits) become what they look like, and accents
    // stand behind their letters, from where they can be dropped.
    let apart = DecomposingNormalizerBorrowed::new_nfkd().normalize(text).to_lowercase();
    let mut plain = String::with_capacity(apart.len());
    for letter in apart.chars().filter(|letter| !is_mark(*letter)) {
        match spelled(letter) {
            Some(spelled) => plain.push_str(spelled),
            None => plain.push(letter),
        }
    }
    // What is left apart (Hangul, voiced kana) is put together again.
    ComposingNormalizerBorrowed::new_nfc().normalize(&plain).into_owned()
}

/// Accents, vowel points that Arabic and Hebrew can do without, and what is not seen at all.
fn is_mark(letter: char) -> bool {
    matches!(letter,
        '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}'
        | '\u{fe20}'..='\u{fe2f}' | '\u{591}'..='\u{5bd}' | '\u{5bf}' | '\u{5c1}' | '\u{5c2}' | '\u{5c4}' | '\u{5c5}'
        | '\u{5c7}' | '\u{64b}'..='\u{65f}' | '\u{670}' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'
        | '\u{feff}' | '\u{fe00}'..='\u{fe0f}')
}

/// Letters that are no accented form of another, as people without the key type them.
fn spelled(letter: char) -> Option<&'static str> {
    Some(match letter {
        'ß' => "ss",
        'æ' => "ae",
        'œ' => "oe",
        'ø' => "o",
        'đ' | 'ð' => "d",
        'þ' => "th",
        'ł' => "l",
        'ħ' => "h",
        'ŧ' => "t",
        'ŋ' => "n",
        'ı' => "i",
        'ĸ' => "k",
        'ς' => "σ",
        _ => return None,
    })
}

/// Whether a letter is of a script that puts no spaces between words, or hangs endings on them: Han, kana, Hangul,
/// Thai, Lao, Burmese, Khmer. Each such letter is a word.
pub(super) fn stands_alone(letter: char) -> bool {
    matches!(letter,
        '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{2e80}'..='\u{2fdf}'
        | '\u{3005}'..='\u{3007}' | '\u{3021}'..='\u{3029}' | '\u{3041}'..='\u{30ff}' | '\u{3105}'..='\u{312f}'
        | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
        && letter.is_alphanumeric()
}

/// The words of a text, in order. A text of nothing but signs ("!!!") is one word.
pub(super) fn words(text: &str) -> Vec<Word> {
    let folded = fold(text);
    let mut words = Vec::new();
    for chunk in folded.split_whitespace() {
        let mut parts: Vec<String> = Vec::new();
        let mut run = String::new();
        for letter in chunk.chars() {
            if stands_alone(letter) {
                end_run(&mut run, &mut parts, &mut words);
                end_word(&mut parts, &mut words);
                words.push(Word::of(vec![letter.to_string()]));
            } else if letter.is_alphanumeric() {
                run.push(letter);
            } else {
                end_run(&mut run, &mut parts, &mut words);
            }
        }
        end_run(&mut run, &mut parts, &mut words);
        end_word(&mut parts, &mut words);
    }
    if words.is_empty() {
        let signs = collapsed(&folded);
        if !signs.is_empty() {
            words.push(Word::of(vec![cut(signs, WORD_BYTES)]));
        }
    }
    words
}

fn end_run(run: &mut String, parts: &mut Vec<String>, words: &mut Vec<Word>) {
    if run.is_empty() {
        return;
    }
    parts.push(cut(std::mem::take(run), WORD_BYTES));
    if parts.len() == PARTS {
        end_word(parts, words);
    }
}

fn end_word(parts: &mut Vec<String>, words: &mut Vec<Word>) {
    if !parts.is_empty() {
        words.push(Word::of(std::mem::take(parts)));
    }
}

/// The words of a query, the first [`QUERY_WORDS`] of them.
pub(super) fn query_words(text: &str) -> Vec<Word> {
    let mut words = words(cut_str(text, QUERY_BYTES));
    words.truncate(QUERY_WORDS);
    words
}

/// Letters of some words: what tells a whole title from a part of one.
pub(super) fn letters(words: &[Word]) -> usize {
    words.iter().flat_map(|word| &word.parts).map(|part| part.chars().count()).sum()
}

/// One key for all spellings of a name: case, accents, punctuation and spaces do not count ("Jay-Z", "JAY Z").
pub(super) fn key(name: &str) -> String {
    let folded = fold(name);
    let key: String = folded.chars().filter(|letter| letter.is_alphanumeric()).collect();
    cut(if key.is_empty() { collapsed(&folded) } else { key }, KEY_BYTES)
}

/// Without control characters, and with one space where there was more.
fn collapsed(text: &str) -> String {
    let visible: String =
        text.chars().filter(|letter| !letter.is_control() || letter.is_whitespace()).collect();
    visible.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// At most so many bytes, cut between two characters.
pub(super) fn cut_str(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

fn cut(mut text: String, bytes: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes));
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(text: &str) -> Vec<String> {
        words(text).into_iter().map(|word| word.parts.join("|")).collect()
    }

    #[test]
    fn words_of_titles() {
        for (text, expected) in [
            ("Björk", vec!["bjork"]),
            ("Bjo\u{308}rk", vec!["bjork"]),
            ("AC/DC", vec!["ac|dc"]),
            ("R.E.M.", vec!["r|e|m"]),
            ("01 - Title", vec!["01", "title"]),
            ("don’t stop", vec!["don|t", "stop"]),
            ("STRASSE straße", vec!["strasse", "strasse"]),
            ("ＦＵＬＬ width ﬁ", vec!["full", "width", "fi"]),
            ("東京事変 live", vec!["東", "京", "事", "変", "live"]),
            ("X-ジャパン", vec!["x", "シ\u{3099}", "ャ", "ハ\u{309a}", "ン"]),
            ("사랑", vec!["사", "랑"]),
            ("Łódź Øresund Þór", vec!["lodz", "oresund", "thor"]),
            ("ΣΊΣΥΦΟΣ", vec!["σισυφοσ"]),
            ("Ёлка Й", vec!["елка", "и"]),
            ("!!!", vec!["!!!"]),
            ("!!! live", vec!["live"]),
            ("a.b.c.d.e.f.g.h.i", vec!["a|b|c|d|e|f|g|h", "i"]),
            ("", vec![]),
            (" \t ", vec![]),
        ] {
            let expected: Vec<String> = expected
                .into_iter()
                .map(|word| ComposingNormalizerBorrowed::new_nfc().normalize(word).into_owned())
                .collect();
            assert_eq!(plain(text), expected, "{text:?}");
        }
        assert_eq!(words("AC/DC")[0].whole(), "acdc");
    }

    #[test]
    fn keys_of_names() {
        for (one, other) in [
            ("AC/DC", "acdc"),
            ("Jay-Z", "JAY Z"),
            ("Hip-Hop", "hiphop"),
            ("R.E.M.", "REM"),
            ("Sigur Rós", " sigur  ros "),
            ("Guns N’ Roses", "guns n roses"),
            ("Beyoncé", "BEYONCE\u{301}"),
            ("!!!", " !!!"),
        ] {
            assert_eq!(key(one), key(other), "{one:?} {other:?}");
        }
        for (one, other) in [("Air", "Aïr Force"), ("!!!", "???"), ("", "!")] {
            assert_ne!(key(one), key(other), "{one:?} {other:?}");
        }
        assert_eq!(key("A - b!"), "ab");
    }

    proptest! {
        #[test]
        fn anything_has_short_words_that_stay_the_same(text in any::<String>()) {
            for word in words(&text) {
                prop_assert!(!word.parts.is_empty() && word.parts.len() <= PARTS);
                for part in word.parts.iter().chain(&word.joined) {
                    prop_assert!(!part.is_empty() && part.len() <= WORD_BYTES);
                }
            }
            prop_assert!(query_words(&text).len() <= QUERY_WORDS);
            prop_assert!(key(&text).len() <= KEY_BYTES);
            prop_assert!(!key(&text).contains('\0'));
        }
    }
}
