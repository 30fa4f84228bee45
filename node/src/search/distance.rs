//! How far apart two words are in typing errors.

/// Whether a word becomes another by at most so many errors: a letter left out, added, exchanged, or two neighbours
/// swapped (optimal string alignment).
pub(super) fn within(one: &str, other: &str, errors: usize) -> bool {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    if one.len().abs_diff(other.len()) > errors {
        return false;
    }
    // Rows of the table of distances between beginnings: two back, the last, and this one.
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in one.iter().enumerate() {
        let mut this = vec![row + 1];
        for (column, against) in other.iter().enumerate() {
            let exchanged = last[column] + usize::from(letter != against);
            let mut least = exchanged.min(last[column + 1] + 1).min(this[column] + 1);
            if row > 0 && column > 0 && *letter == other[column - 1] && one[row - 1] == *against {
                least = least.min(before[column - 1] + 1);
            }
            this.push(least);
        }
        before = std::mem::replace(&mut last, this);
    }
    last.last().is_some_and(|distance| *distance <= errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted() {
        for (one, other, errors) in [
            ("", "", 0),
            ("beatles", "beatles", 0),
            ("beatles", "beatle", 1),
            ("beatles", "beetles", 1),
            ("beatles", "baetles", 1),
            ("beatles", "beattles", 1),
            ("metallica", "metalica", 1),
            ("metallica", "matelica", 3),
            ("metallica", "metalcia", 2),
            ("été", "ete", 2),
        ] {
            assert!(within(one, other, errors), "{one} {other}");
            assert!(errors == 0 || !within(one, other, errors - 1), "{one} {other}");
        }
    }
}
