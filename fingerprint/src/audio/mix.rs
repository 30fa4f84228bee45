//! How channels become one: the weights of FFmpeg's automatic down-mix to mono.

use std::f64::consts::FRAC_1_SQRT_2;

/// Weights of the channels in the usual order of their number (front left, front right, centre, low frequency,
/// back, side), adding up to 1.
pub(crate) fn weights(channels: usize) -> Vec<f64> {
    const FRONT: f64 = FRAC_1_SQRT_2;
    const CENTRE: f64 = 1.0;
    const REAR: f64 = 0.5;
    const LOW: f64 = 0.0;
    let raw: &[f64] = match channels {
        3 => &[FRONT, FRONT, LOW],
        4 => &[FRONT, FRONT, CENTRE, REAR],
        5 => &[FRONT, FRONT, CENTRE, REAR, REAR],
        6 => &[FRONT, FRONT, CENTRE, LOW, REAR, REAR],
        7 => &[FRONT, FRONT, CENTRE, LOW, REAR, REAR, REAR],
        8 => &[FRONT, FRONT, CENTRE, LOW, REAR, REAR, REAR, REAR],
        _ => &[],
    };
    let raw = if raw.is_empty() { vec![1.0; channels] } else { raw.to_vec() };
    let sum: f64 = raw.iter().sum();
    raw.into_iter().map(|weight| weight / sum).collect()
}

/// The same in parts of 32,768. Each takes the rounding error of those before it, so that the sum is exact.
#[allow(clippy::cast_possible_truncation, reason = "weights are at most 1")]
pub(crate) fn integer_weights(channels: usize) -> Vec<i32> {
    let mut rest = 0.0;
    weights(channels)
        .into_iter()
        .map(|weight| {
            let target = weight * 32_768.0 + rest;
            let rounded = target.round_ties_even();
            rest = target - rounded;
            rounded as i32
        })
        .collect()
}

/// Mixes one sample of each channel with [`integer_weights`].
#[allow(clippy::cast_possible_truncation, reason = "a weighted mean of 16-bit samples has 16 bits")]
pub(crate) fn mix_integers(samples: impl Iterator<Item = i16>, weights: &[i32]) -> i16 {
    let sum: i32 = samples.zip(weights).map(|(sample, weight)| i32::from(sample) * weight).sum();
    ((sum + (1 << 14)) >> 15).clamp(-32_768, 32_767) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_add_up() {
        for channels in 1..=32 {
            assert_eq!(weights(channels).len(), channels);
            assert_eq!(integer_weights(channels).iter().sum::<i32>(), 32_768, "{channels}");
        }
        assert_eq!(integer_weights(1), [32_768]);
        assert_eq!(integer_weights(2), [16_384, 16_384]);
        assert_eq!(integer_weights(6)[3], 0);
    }

    #[test]
    fn means_round_half_up() {
        let stereo = integer_weights(2);
        let mean = |left, right| mix_integers([left, right].into_iter(), &stereo);
        assert_eq!(mean(1, 2), 2);
        assert_eq!(mean(-1, -2), -1);
        assert_eq!(mean(i16::MIN, i16::MIN), i16::MIN);
        assert_eq!(mean(i16::MAX, i16::MAX), i16::MAX);
    }
}
