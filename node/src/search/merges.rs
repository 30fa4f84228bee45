//! Which segments are made one, so that few are left to look into.
//!
//! Segments are kept in the order of the ledger: only neighbours are merged, and only at the end, where the new ones
//! are.

/// Segments below this many documents count as equally small: merging them costs next to nothing.
const SMALL: u32 = 128;
/// So many segments of about one size are made one. Lower means fewer to look into and more written: with six, a
/// document is written again once for each time that the ledger grows sixfold.
const FACTOR: u32 = 6;
/// Segments of this many documents stay as they are: merging takes memory in proportion, and a Pi has little.
const LARGEST: u32 = 512 * 1_024;

/// The level of a segment: 0 is small, and each further one is [`FACTOR`] times larger.
fn level(documents: u32) -> u32 {
    (documents / SMALL).checked_ilog(FACTOR).map_or(0, |log| log + 1)
}

/// Where the segments begin that are to be made one, given the number of documents in each, oldest first; `None` when
/// all may stay. The smaller ones behind them go along.
pub(super) fn due(documents: &[u32]) -> Option<usize> {
    let (mut highest, mut alike, mut sum) = (0, 0, 0u32);
    let mut due = None;
    for (start, documents) in documents.iter().enumerate().rev() {
        sum = sum.saturating_add(*documents);
        if sum > LARGEST {
            break;
        }
        match level(*documents) {
            level if level > highest => (highest, alike) = (level, 1),
            level if level == highest => alike += 1,
            _ => {}
        }
        if alike >= FACTOR {
            due = Some(start);
        }
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_are_merged_at_the_end() {
        assert_eq!(due(&[]), None);
        assert_eq!(due(&[5; 5]), None);
        assert_eq!(due(&[5; 6]), Some(0));
        assert_eq!(due(&[400_000, 5, 5, 5, 5, 5, 5]), Some(1));
        assert_eq!(due(&[LARGEST; 20]), None);
        // A small one in between goes along.
        assert_eq!(due(&[8_000, 8_000, 8_000, 8_000, 8_000, 5, 8_000]), Some(0));
    }

    #[test]
    fn few_segments_and_few_rewrites() {
        for batch in [1u32, 40, 8_192] {
            let mut segments: Vec<u32> = Vec::new();
            let (mut most, mut written, mut total) = (0, 0u64, 0u64);
            let batches = if batch == 1 { 30_000 } else { 1_500_000 / batch };
            for _ in 0..batches {
                segments.push(batch);
                total += u64::from(batch);
                while let Some(start) = due(&segments) {
                    let merged: u32 = segments.drain(start..).sum();
                    assert!(merged <= LARGEST);
                    written += u64::from(merged);
                    segments.push(merged);
                }
                most = most.max(segments.len());
            }
            assert!(most <= 30, "{most} segments of {total} documents");
            // Small ones are merged often; what is not small is written a few times.
            let limit = if batch < SMALL { 20 } else { 5 };
            assert!(
                written <= limit * total,
                "batches of {batch}: {total} documents, {written} written again"
            );
        }
    }
}
