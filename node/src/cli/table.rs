//! Tables for people.

use std::fmt::Write as _;

/// Widest column. A title may have 256 bytes; `--json` has all of it.
const WIDEST: usize = 44;
/// Between two columns.
const GAP: &str = "  ";

/// Where a column's text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows under a head. Columns that are empty in every row are left out.
pub(super) struct Table<const N: usize> {
    head: [(&'static str, Align); N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(super) fn new(head: [(&'static str, Align); N]) -> Self {
        Self { head, rows: Vec::new() }
    }

    pub(super) fn row(&mut self, row: [String; N]) {
        self.rows.push(row.map(|text| shortened(&text)));
    }

    /// As lines.
    pub(super) fn text(&self) -> String {
        let widths: Vec<usize> = (0..N)
            .map(|column| {
                let widest = self.rows.iter().filter_map(|row| row.get(column)).map(|text| width(text)).max();
                match widest {
                    None | Some(0) => 0,
                    Some(widest) => widest.max(self.head.get(column).map_or(0, |(name, _)| name.len())),
                }
            })
            .collect();
        let mut text = String::new();
        let mut line = |cells: Vec<&str>| {
            let mut line = String::new();
            for ((cell, width), (_, align)) in cells.iter().zip(&widths).zip(&self.head) {
                if *width == 0 {
                    continue;
                }
                let pad = " ".repeat(width.saturating_sub(self::width(cell)));
                let gap = if line.is_empty() { "" } else { GAP };
                let _ = match align {
                    Align::Left => write!(line, "{gap}{cell}{pad}"),
                    Align::Right => write!(line, "{gap}{pad}{cell}"),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        };
        line(self.head.iter().map(|(name, _)| *name).collect());
        for row in &self.rows {
            line(row.iter().map(String::as_str).collect());
        }
        text
    }
}

/// What a terminal shows of a text from elsewhere: one line, and no control characters that would move its cursor.
fn shortened(text: &str) -> String {
    let mut shown = String::new();
    let mut wide = 0;
    for letter in text.chars() {
        let letter = if letter.is_control() { ' ' } else { letter };
        wide += letter_width(letter);
        if wide > WIDEST {
            while width(&shown) >= WIDEST {
                shown.pop();
            }
            shown.push('…');
            break;
        }
        shown.push(letter);
    }
    shown
}

fn width(text: &str) -> usize {
    text.chars().map(letter_width).sum()
}

/// Columns of a terminal: two for East Asian letters, none for accents that stand behind their letter.
fn letter_width(letter: char) -> usize {
    match letter {
        '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{303e}'
        | '\u{3041}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// A duration as players show it.
pub(super) fn clock(duration_ms: u32) -> String {
    let seconds = duration_ms / 1_000;
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new([("TITLE", Align::Left), ("NOTHING", Align::Left), ("N", Align::Right)]);
        table.row(["東京".into(), String::new(), "7".into()]);
        table.row(["a\u{1b}[31mb\n".into(), String::new(), "1000".into()]);
        table.row(["x".repeat(100), String::new(), "1".into()]);
        let text = table.text();
        let lines: Vec<&str> = text.lines().collect();
        assert!(!text.contains("NOTHING") && !text.contains('\u{1b}'), "{text}");
        assert_eq!(lines.len(), 4);
        let widths: Vec<usize> = lines.iter().map(|line| width(line)).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{text}");
        assert!(lines[3].contains("…"));
    }

    #[test]
    fn durations() {
        assert_eq!(
            (clock(999), clock(61_000), clock(3_661_000)),
            ("0:00".into(), "1:01".into(), "1:01:01".into())
        );
    }
}
