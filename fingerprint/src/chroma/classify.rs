//! The sixteen comparisons that make an item.

use super::image::Image;

/// Which parts of a classifier's rectangle are compared: the first named against the others.
#[derive(Debug, Clone, Copy)]
enum Pattern {
    /// All of it against nothing.
    Whole,
    /// Upper bands against lower ones.
    UpperBands,
    /// Later rows against earlier ones.
    LaterRows,
    /// One diagonal's quarters against the other's.
    Diagonal,
    /// The middle third of the bands against the outer ones.
    MiddleBands,
    /// The middle third of the rows against the outer ones.
    MiddleRows,
}

/// A rectangle of 16 rows by 12 bands, and the levels between the four values of a comparison in it.
struct Classifier {
    pattern: Pattern,
    /// Lowest band.
    band: usize,
    bands: usize,
    /// Rows, from the oldest one on.
    rows: usize,
    levels: [f64; 3],
}

const fn classifier(
    pattern: Pattern,
    band: usize,
    bands: usize,
    rows: usize,
    levels: [f64; 3],
) -> Classifier {
    Classifier { pattern, band, bands, rows, levels }
}

/// Chromaprint's classifiers of algorithm `TEST2`, trained by its author; from its
/// `src/fingerprinter_configuration.cpp`. The first one gives the highest bits.
const CLASSIFIERS: [Classifier; 16] = {
    use Pattern::*;
    [
        classifier(Whole, 4, 3, 15, [1.98215, 2.35817, 2.63523]),
        classifier(MiddleBands, 4, 6, 15, [-1.03809, -0.651211, -0.282167]),
        classifier(UpperBands, 0, 4, 16, [-0.298702, 0.119262, 0.558497]),
        classifier(Diagonal, 8, 2, 12, [-0.105439, 0.0153946, 0.135898]),
        classifier(Diagonal, 4, 4, 8, [-0.142891, 0.0258736, 0.200632]),
        classifier(MiddleBands, 0, 3, 5, [-0.826319, -0.590612, -0.368214]),
        classifier(UpperBands, 2, 2, 9, [-0.557409, -0.233035, 0.0534525]),
        classifier(LaterRows, 7, 3, 4, [-0.0646826, 0.00620476, 0.0784847]),
        classifier(LaterRows, 6, 2, 16, [-0.192387, -0.029699, 0.215855]),
        classifier(LaterRows, 1, 3, 2, [-0.0397818, -0.00568076, 0.0292026]),
        classifier(MiddleRows, 10, 1, 15, [-0.53823, -0.369934, -0.190235]),
        classifier(Diagonal, 6, 2, 10, [-0.124877, 0.0296483, 0.139239]),
        classifier(LaterRows, 1, 1, 14, [-0.101475, 0.0225617, 0.231971]),
        classifier(Diagonal, 5, 6, 4, [-0.0799915, -0.00729616, 0.063262]),
        classifier(UpperBands, 9, 2, 12, [-0.272556, 0.019424, 0.302559]),
        classifier(Diagonal, 4, 2, 14, [-0.164292, -0.0321188, 0.0846339]),
    ]
};

/// The item of the last rows, once there are enough.
pub(super) fn item(image: &Image) -> Option<u32> {
    image.is_filled().then(|| {
        CLASSIFIERS.iter().fold(0, |bits, classifier| bits << 2 | gray_code(classifier.value(image)))
    })
}

/// Two bits of which neighbouring values differ in one.
fn gray_code(value: u32) -> u32 {
    value ^ (value >> 1)
}

impl Classifier {
    /// 0 to 3.
    fn value(&self, image: &Image) -> u32 {
        let (one, other) = self.sums(image);
        let difference = ((1.0 + one) / (1.0 + other)).ln();
        self.levels.iter().map(|level| u32::from(difference >= *level)).sum()
    }

    /// The sums of the two sides.
    fn sums(&self, image: &Image) -> (f64, f64) {
        let (low, high, end) = (self.band, self.band + self.bands, self.rows);
        match self.pattern {
            Pattern::Whole => (image.sum(0..end, low..high), 0.0),
            Pattern::UpperBands => {
                let middle = low + self.bands / 2;
                (image.sum(0..end, middle..high), image.sum(0..end, low..middle))
            }
            Pattern::LaterRows => {
                let half = end / 2;
                (image.sum(half..end, low..high), image.sum(0..half, low..high))
            }
            Pattern::Diagonal => {
                let (half, middle) = (end / 2, low + self.bands / 2);
                (
                    image.sum(0..half, middle..high) + image.sum(half..end, low..middle),
                    image.sum(0..half, low..middle) + image.sum(half..end, middle..high),
                )
            }
            Pattern::MiddleBands => {
                let (first, second) = (low + self.bands / 3, low + 2 * (self.bands / 3));
                let outer = image.sum(0..end, low..first) + image.sum(0..end, second..high);
                (image.sum(0..end, first..second), outer)
            }
            Pattern::MiddleRows => {
                let (first, second) = (end / 3, 2 * (end / 3));
                let outer = image.sum(0..first, low..high) + image.sum(second..end, low..high);
                (image.sum(first..second, low..high), outer)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::BANDS;
    use super::super::image::WIDTH;
    use super::*;

    /// An image of the last rows, by row and band.
    fn image(cell: impl Fn(usize, usize) -> f64) -> Image {
        let mut image = Image::new();
        for row in 0..WIDTH {
            assert_eq!(item(&image), None);
            image.push(&std::array::from_fn(|band| cell(row, band)));
        }
        image
    }

    #[test]
    fn classifiers_fit_the_image_and_their_levels_rise() {
        for classifier in &CLASSIFIERS {
            assert!(classifier.band + classifier.bands <= BANDS && classifier.bands > 0);
            assert!(classifier.rows <= WIDTH && classifier.rows > 1);
            assert!(classifier.levels.is_sorted());
        }
        assert_eq!(CLASSIFIERS.iter().map(|classifier| classifier.rows).max(), Some(WIDTH));
    }

    #[test]
    fn patterns_compare_what_they_say() {
        // Each cell counts by itself: the row in the ones, the band in the hundreds.
        let image = image(|row, band| row as f64 + 100.0 * band as f64);
        let sums = |pattern| classifier(pattern, 2, 3, 4, [0.0; 3]).sums(&image);
        let total = |rows: &[usize], bands: &[usize]| -> f64 {
            bands.iter().flat_map(|band| rows.iter().map(move |row| (row + 100 * band) as f64)).sum()
        };
        let all = total(&[0, 1, 2, 3], &[2, 3, 4]);
        assert_eq!(sums(Pattern::Whole), (all, 0.0));
        let upper = total(&[0, 1, 2, 3], &[3, 4]);
        assert_eq!(sums(Pattern::UpperBands), (upper, all - upper));
        let later = total(&[2, 3], &[2, 3, 4]);
        assert_eq!(sums(Pattern::LaterRows), (later, all - later));
        let diagonal = total(&[0, 1], &[3, 4]) + total(&[2, 3], &[2]);
        assert_eq!(sums(Pattern::Diagonal), (diagonal, all - diagonal));
        let middle = total(&[0, 1, 2, 3], &[3]);
        assert_eq!(sums(Pattern::MiddleBands), (middle, all - middle));
        // A length that three does not divide leaves its rest to the last part.
        let middle = total(&[1], &[2, 3, 4]);
        assert_eq!(sums(Pattern::MiddleRows), (middle, all - middle));
    }

    #[test]
    fn gray_code_changes_one_bit_a_step() {
        assert_eq!([0, 1, 2, 3].map(gray_code), [0, 1, 3, 2]);
    }

    #[test]
    fn silence_is_the_well_known_item() {
        assert_eq!(item(&image(|_, _| 0.0)), Some(627_964_279));
    }
}
