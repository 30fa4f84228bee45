//! Cuts the stream into frames that overlap by two thirds.

/// Samples in a frame: 372 ms.
pub(super) const FRAME: usize = 4_096;
/// Samples from one frame's start to the next one's.
pub(super) const HOP: usize = FRAME / 3;

/// Holds the samples of the frame that is not yet full.
pub(super) struct Frames {
    samples: Box<[i16; FRAME]>,
    filled: usize,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self { samples: Box::new([0; FRAME]), filled: 0 }
    }

    /// Takes samples; gives each frame that becomes full to `each`.
    pub(super) fn push(&mut self, mut samples: &[i16], mut each: impl FnMut(&[i16; FRAME])) {
        while !samples.is_empty() {
            let (now, later) = samples.split_at(samples.len().min(FRAME - self.filled));
            self.samples[self.filled..self.filled + now.len()].copy_from_slice(now);
            self.filled += now.len();
            samples = later;
            if self.filled == FRAME {
                each(&self.samples);
                self.samples.copy_within(HOP.., 0);
                self.filled = FRAME - HOP;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_start_a_hop_apart_whatever_the_pieces() {
        let samples: Vec<i16> = (0..30_000).collect();
        for piece in [1, 7, HOP, FRAME - 1, FRAME, FRAME + 1, 30_000] {
            let mut frames = Frames::new();
            let mut count = 0;
            for part in samples.chunks(piece) {
                frames.push(part, |frame| {
                    assert_eq!(frame[..], samples[count * HOP..count * HOP + FRAME], "{piece}");
                    count += 1;
                });
            }
            assert_eq!(count, (30_000 - FRAME) / HOP + 1, "{piece}");
        }
    }
}
