//! Tables of results as Markdown, and in the file where they are kept.

use std::{env, fs, path::Path};

/// Names the file, from the root of the repository, in which the section of a table is replaced.
const FILE: &str = "ANTIPHON_NAT_TABLE";

pub(crate) fn markdown(columns: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n|{}\n", columns.join(" | "), "---|".repeat(columns.len()));
    for row in rows {
        text += &format!("| {} |\n", row.join(" | "));
    }
    text
}

/// Puts a table between its two marks in the file that the environment names, if it names one.
pub(crate) fn write_to_file(section: &str, table: &str) {
    let Some(file) = env::var_os(FILE) else { return };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, replaced(&text, section, table)).unwrap();
}

fn replaced(text: &str, section: &str, table: &str) -> String {
    let [begin, end] = ["begin", "end"].map(|mark| format!("<!-- {section}: {mark} -->"));
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("no {begin}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("no {end}"));
    format!("{before}{begin}\n\n{table}\n{end}{after}")
}

#[test]
fn only_the_section_is_replaced() {
    let text = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n";
    let table = markdown(&["p", "q"], &[vec!["1".to_owned(), "2".to_owned()]]);
    let once = replaced(text, "x", &table);
    assert_eq!(once, "a\n<!-- x: begin -->\n\n| p | q |\n|---|---|\n| 1 | 2 |\n\n<!-- x: end -->\nb\n");
    assert_eq!(replaced(&once, "x", &table), once);
}
