//! The last rows as sums over all rows and bands before, so that any rectangle's sum takes four look-ups.

use std::ops::Range;

use super::{BANDS, Row};

/// Rows that an item is made of.
pub(super) const WIDTH: usize = 16;
/// Rows of sums that are kept: one more than [`WIDTH`] are needed, and a power of two is quick to wrap at.
const KEPT: usize = 32;
const _: () = assert!(KEPT > WIDTH && KEPT.is_power_of_two());

/// Sums of the last rows.
pub(super) struct Image {
    /// `sums[n % KEPT][b]`: all of the first `n` rows in the bands below `b`. They grow by less than 4 a row, and
    /// are kept as the reference keeps them, since another order of additions would round otherwise.
    sums: [[f64; BANDS + 1]; KEPT],
    rows: usize,
}

impl Image {
    pub(super) fn new() -> Self {
        Self { sums: [[0.0; BANDS + 1]; KEPT], rows: 0 }
    }

    /// Adds the next row.
    pub(super) fn push(&mut self, row: &Row) {
        let before = self.sums[self.rows % KEPT];
        self.rows += 1;
        let sums = &mut self.sums[self.rows % KEPT];
        let mut sum = 0.0;
        for ((to, before), value) in sums[1..].iter_mut().zip(&before[1..]).zip(row) {
            sum += value;
            *to = sum + before;
        }
    }

    /// Whether there are rows for an item.
    pub(super) fn is_filled(&self) -> bool {
        self.rows >= WIDTH
    }

    /// Sum of a rectangle in the last [`WIDTH`] rows, of which the oldest is number 0.
    pub(super) fn sum(&self, rows: Range<usize>, bands: Range<usize>) -> f64 {
        let oldest = self.rows.saturating_sub(WIDTH);
        let (from, to) = (&self.sums[(oldest + rows.start) % KEPT], &self.sums[(oldest + rows.end) % KEPT]);
        to[bands.end] - from[bands.end] - to[bands.start] + from[bands.start]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rectangles_are_the_sums_of_their_cells() {
        let cell =
            |row: usize, band: usize| f64::from(u32::try_from((row * 31 + band * 7) % 64).unwrap()) / 64.0;
        let mut image = Image::new();
        for number in 0..100 {
            image.push(&std::array::from_fn(|band| cell(number, band)));
            assert_eq!(image.is_filled(), number + 1 >= WIDTH);
            if !image.is_filled() {
                continue;
            }
            let oldest = number + 1 - WIDTH;
            for rows in [0..WIDTH, 0..1, 15..16, 3..9, 5..5] {
                for bands in [0..BANDS, 0..1, 11..12, 2..7, 4..4] {
                    let expected: f64 =
                        rows.clone().flat_map(|r| bands.clone().map(move |b| cell(oldest + r, b))).sum();
                    assert_eq!(image.sum(rows.clone(), bands), expected, "{number}");
                }
            }
        }
    }
}
