//! Smooths rows over time, then scales them so that loudness does not matter.

use super::{BANDS, Row};

/// Weights of a row and its four neighbours in time.
const WEIGHTS: [f64; 5] = [0.25, 0.75, 1.0, 0.75, 0.25];
/// Length below which a row is silence.
const SILENCE: f64 = 0.01;

/// Holds the last five rows, the oldest first.
pub(super) struct Smoother {
    rows: [Row; WEIGHTS.len()],
    filled: usize,
}

impl Smoother {
    pub(super) fn new() -> Self {
        Self { rows: [[0.0; BANDS]; WEIGHTS.len()], filled: 0 }
    }

    /// Takes a row; gives the smoothed one of two rows ago, once there are five.
    pub(super) fn push(&mut self, row: Row) -> Option<Row> {
        self.rows.rotate_left(1);
        self.rows[WEIGHTS.len() - 1] = row;
        self.filled = (self.filled + 1).min(WEIGHTS.len());
        (self.filled == WEIGHTS.len()).then(|| normalised(self.weighted()))
    }

    fn weighted(&self) -> Row {
        let mut sums = [0.0; BANDS];
        for (row, weight) in self.rows.iter().zip(WEIGHTS) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += value * weight;
            }
        }
        sums
    }
}

fn normalised(row: Row) -> Row {
    let length = row.iter().map(|value| value * value).sum::<f64>().sqrt();
    if length < SILENCE { [0.0; BANDS] } else { row.map(|value| value / length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_impulse_becomes_the_weights() {
        let mut smoother = Smoother::new();
        let mut seen = Vec::new();
        for number in 0..12 {
            let mut row = [0.0; BANDS];
            row[0] = if number == 6 { 3.0 } else { 0.0 };
            row[1] = 4.0;
            let out = smoother.push(row);
            assert_eq!(out.is_some(), number >= 4, "{number}");
            seen.extend(out.map(|row| row[0] / row[1] * 4.0));
        }
        let expected = [0.0, 0.0, 0.25, 0.75, 1.0, 0.75, 0.25, 0.0];
        assert!(seen.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{seen:?}");
    }

    #[test]
    fn rows_get_length_one_or_are_silence() {
        let mut row = [0.0; BANDS];
        (row[2], row[7]) = (30.0, 40.0);
        let out = normalised(row);
        assert!((out[2] - 0.6).abs() < 1e-12 && (out[7] - 0.8).abs() < 1e-12, "{out:?}");
        row = [0.0; BANDS];
        row[0] = 0.009_999;
        assert_eq!(normalised(row), [0.0; BANDS]);
        row[0] = 0.01;
        assert_eq!(normalised(row)[0], 1.0);
    }
}
