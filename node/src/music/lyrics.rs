//! Texts of songs: beside the file or in it, with the times of their lines where they are known.

use std::path::Path;

use antiphon_fingerprint::Analyzer;

use super::cover::bounded;

/// Bytes of a text that are read: the longest opera is less.
pub const TEXT_BYTES: usize = 256 * 1024;
/// Lines of a text.
pub const LINES: usize = 5_000;
/// Stamps in front of one line: a refrain may come back often.
const STAMPS: usize = 100;
/// Longest song, in milliseconds.
const LONGEST_MS: u64 = 12 * 3_600_000;

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When it is heard, in milliseconds; none in a text without times.
    pub start_ms: Option<u32>,
    /// The words; may be empty between verses.
    pub text: String,
}

/// The text of a song.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lyrics {
    /// Lines, in the order in which they are heard; all have times, or none.
    pub lines: Vec<Line>,
}

impl Lyrics {
    /// Whether the times of the lines are known.
    #[must_use]
    pub fn is_timed(&self) -> bool {
        self.lines.first().is_some_and(|line| line.start_ms.is_some())
    }

    /// Reads the bytes of a text: UTF-8 or, where it says so at its beginning, UTF-16.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self::parse(&decoded(bytes))
    }

    /// Reads a text: LRC when any line has a stamp (`[mm:ss.xx]`, several in front of a line that comes back; `[offset:ms]`
    /// makes all lines earlier), else line by line. What is beyond [`LINES`] is left out.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let (mut timed, mut plain) = (Vec::new(), Vec::new());
        let mut offset = 0i64;
        for line in text.lines() {
            if timed.len() >= LINES || plain.len() >= LINES {
                break;
            }
            let (stamps, rest) = stamps(line);
            match tag(line) {
                Some(("offset", value)) => offset = value.trim().parse().unwrap_or(0),
                Some(_) if stamps.is_empty() => {}
                _ if stamps.is_empty() => plain.push(line.trim_end()),
                _ => {
                    let room = LINES - timed.len();
                    timed.extend(
                        stamps.into_iter().take(room).map(|stamp| (stamp, without_word_stamps(rest))),
                    );
                }
            }
        }
        if timed.is_empty() {
            return Self::untimed(plain);
        }
        timed.sort_by_key(|(stamp, _)| *stamp);
        let shifted = |stamp: u32| i64::from(stamp).saturating_sub(offset).clamp(0, i64::from(u32::MAX));
        let line = |(stamp, text)| Line { start_ms: u32::try_from(shifted(stamp)).ok(), text };
        Self { lines: timed.into_iter().map(line).collect() }
    }

    fn untimed(mut lines: Vec<&str>) -> Self {
        while lines.last().is_some_and(|line| line.is_empty()) {
            lines.pop();
        }
        let lines = lines.into_iter().skip_while(|line| line.trim().is_empty());
        Self { lines: lines.map(|text| Line { start_ms: None, text: text.to_owned() }).collect() }
    }

    /// The text of a music file: beside it with times (`.lrc`), else in its tags, else beside it without (`.txt`). Blocks
    /// the calling thread.
    #[must_use]
    pub fn of_file(path: &Path, analyzer: &Analyzer) -> Option<Self> {
        let beside =
            |extension| bounded(&path.with_extension(extension), TEXT_BYTES).map(|bytes| decoded(&bytes));
        let embedded = || analyzer.lyrics(path).ok().flatten();
        let read = |text: String| Some(Self::parse(&text)).filter(|lyrics| !lyrics.lines.is_empty());
        beside("lrc")
            .and_then(read)
            .or_else(|| embedded().and_then(read))
            .or_else(|| beside("txt").and_then(read))
    }
}

/// A line such as `[ar:Somebody]`.
fn tag(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.trim().strip_prefix('[')?.strip_suffix(']')?.split_once(':')?;
    (!name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphabetic())).then_some((name, value))
}

/// The stamps in front of a line, and the rest.
fn stamps(line: &str) -> (Vec<u32>, &str) {
    let (mut found, mut rest) = (Vec::new(), line.trim());
    while found.len() < STAMPS
        && let Some((inside, behind)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'))
        && let Some(stamp) = stamp(inside)
    {
        found.push(stamp);
        rest = behind.trim_start();
    }
    (found, rest)
}

/// `mm:ss`, `mm:ss.x` to `.xxx`, or `mm:ss:xx`, in milliseconds.
fn stamp(text: &str) -> Option<u32> {
    let (minutes, rest) = text.trim().split_once(':')?;
    let (seconds, part) = rest.split_once(['.', ':', ',']).unwrap_or((rest, "0"));
    let number = |text: &str| -> Option<u64> {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
    };
    let scale = match part.len() {
        1 => 100,
        2 => 10,
        3 => 1,
        _ => return None,
    };
    let (minutes, seconds) = (number(minutes)?, number(seconds)?);
    let all = minutes.checked_mul(60_000)?.checked_add(seconds.checked_mul(1_000)?)?;
    let all = all.checked_add(number(part)? * scale)?;
    u32::try_from(all).ok().filter(|_| seconds < 60 && all <= LONGEST_MS)
}

/// Without stamps inside the line (`<mm:ss.xx>`), which tell when each word is heard.
fn without_word_stamps(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('<') {
        plain.push_str(before);
        match after.split_once('>').filter(|(inside, _)| stamp(inside).is_some()) {
            Some((_, behind)) => rest = behind,
            None => {
                plain.push('<');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain.trim().to_owned()
}

/// UTF-8 or, where it says so at its beginning, UTF-16.
fn decoded(bytes: &[u8]) -> String {
    let wide = |bytes: &[u8], number: fn([u8; 2]) -> u16| {
        let numbers = bytes.as_chunks::<2>().0.iter().map(|pair| number(*pair));
        char::decode_utf16(numbers).map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use antiphon_fingerprint::AnalyzerConfig;
    use proptest::prelude::*;

    use super::*;

    fn lines(text: &str) -> Vec<(Option<u32>, String)> {
        Lyrics::parse(text).lines.into_iter().map(|line| (line.start_ms, line.text)).collect()
    }

    fn timed(stamp: u32, text: &str) -> (Option<u32>, String) {
        (Some(stamp), text.to_owned())
    }

    #[test]
    fn lines_with_times() {
        let text = "[ar:Somebody]\r\n[00:12.50] Two\r\n\r\n[00:01][01:02.345]One\nno time\n[0:59:07]<00:59.07>a <00:59.50>b";
        assert_eq!(
            lines(text),
            [timed(1_000, "One"), timed(12_500, "Two"), timed(59_070, "a b"), timed(62_345, "One")]
        );
        assert!(Lyrics::parse(text).is_timed());
        assert_eq!(lines("[offset:+1500]\n[00:01.0]a\n[00:02.0]b"), [timed(0, "a"), timed(500, "b")]);
        assert_eq!(lines("[offset: -500]\n[00:01.0]a < b"), [timed(1_500, "a < b")]);
    }

    #[test]
    fn lines_without() {
        let plain = lines("\n[Verse 1]\nOne\n\nTwo [loud]\n[99:99]x\n\n");
        let expected = ["[Verse 1]", "One", "", "Two [loud]", "[99:99]x"];
        assert_eq!(plain, expected.map(|text| (None, text.to_owned())));
        assert!(!Lyrics::parse("").is_timed() && lines("[ti:only tags]").is_empty());
    }

    #[test]
    fn no_stamp() {
        for text in
            ["", ":", "1", "a:b", "1:60", "-1:00", "+1:00", "1:00.", "1:00.1234", "999999:00", "1:2:3:4"]
        {
            assert_eq!(stamp(text), None, "{text}");
        }
    }

    #[test]
    fn texts_have_an_end() {
        let long: String = (0..LINES + 9).map(|number| format!("[00:01.00][00:02.00]{number}\n")).collect();
        assert_eq!(Lyrics::parse(&long).lines.len(), LINES);
        assert_eq!(Lyrics::parse(&"x\n".repeat(LINES + 9)).lines.len(), LINES);
        assert_eq!(Lyrics::parse(&"[0:01]".repeat(1_000)).lines.len(), STAMPS);
    }

    #[test]
    fn the_best_text_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let song = folder.path().join("song.ogg");
        let analyzer = Analyzer::new(AnalyzerConfig::default());
        assert_eq!(Lyrics::of_file(&song, &analyzer), None);
        std::fs::write(folder.path().join("song.txt"), b"\xff\xfeO\0n\0e\0").unwrap();
        assert_eq!(Lyrics::of_file(&song, &analyzer).unwrap().lines[0].text, "One");
        std::fs::write(folder.path().join("song.lrc"), "\u{feff}[0:01]Two").unwrap();
        assert_eq!(Lyrics::of_file(&song, &analyzer).unwrap().lines[0].text, "Two");
    }

    proptest! {
        #[test]
        fn anything_is_a_text(text in "([\\[\\]<>:.0-9a-z\n]|\\PC)*", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let lyrics = Lyrics::parse(&text);
            prop_assert!(lyrics.lines.len() <= LINES);
            prop_assert!(lyrics.lines.iter().all(|line| line.start_ms.is_some() == lyrics.is_timed()));
            prop_assert!(lyrics.lines.is_sorted_by_key(|line| line.start_ms));
            let _ = Lyrics::parse(&decoded(&bytes));
        }
    }
}
