//! Sample formats of decoders.

/// A sample in a decoder's own format.
pub(crate) trait Sample: Copy {
    /// As 16 bits, in the way FFmpeg converts this format.
    fn to_i16(self) -> i16;
    /// As a float, 1.0 being full scale.
    fn to_f32(self) -> f32;
}

impl Sample for i16 {
    fn to_i16(self) -> i16 {
        self
    }

    fn to_f32(self) -> f32 {
        f32::from(self) / 32_768.0
    }
}

impl Sample for i32 {
    /// Left-aligned in 32 bits; the low half is cut, not rounded.
    #[allow(clippy::cast_possible_truncation, reason = "the high half is 16 bits")]
    fn to_i16(self) -> i16 {
        (self >> 16) as i16
    }

    #[allow(clippy::cast_precision_loss, reason = "24 bits are what a float keeps")]
    fn to_f32(self) -> f32 {
        self as f32 / 2_147_483_648.0
    }
}

impl Sample for u8 {
    fn to_i16(self) -> i16 {
        (i16::from(self) - 128) << 8
    }

    fn to_f32(self) -> f32 {
        (f32::from(self) - 128.0) / 128.0
    }
}

impl Sample for f32 {
    /// Nearest integer, halves to even, clipped. Adding 1.5 * 2^23 leaves the rounded integer in the low bits of
    /// the mantissa (and a zero for a value that is no number); unlike a call to `round_ties_even` this vectorises on every target.
    #[allow(clippy::cast_possible_truncation, reason = "clipped to 16 bits before")]
    fn to_i16(self) -> i16 {
        const MAGIC: f32 = 12_582_912.0;
        let clipped = (self * 32_768.0).clamp(-32_768.0, 32_767.0);
        ((clipped + MAGIC).to_bits().cast_signed() - MAGIC.to_bits().cast_signed()) as i16
    }

    fn to_f32(self) -> f32 {
        self
    }
}

impl Sample for f64 {
    #[allow(clippy::cast_possible_truncation, reason = "clipped to 16 bits before; NaN gives 0")]
    fn to_i16(self) -> i16 {
        (self * 32_768.0).round_ties_even().clamp(-32_768.0, 32_767.0) as i16
    }

    #[allow(clippy::cast_possible_truncation, reason = "the analysis works in single precision")]
    fn to_f32(self) -> f32 {
        self as f32
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers of test data")]
mod tests {
    use super::*;

    #[test]
    fn floats_round_half_to_even_and_clip() {
        let cases = [
            (0.0, 0),
            (0.5 / 32768.0, 0),
            (1.5 / 32768.0, 2),
            (2.5 / 32768.0, 2),
            (-0.5 / 32768.0, 0),
            (-1.5 / 32768.0, -2),
            (1.0, i16::MAX),
            (-1.0, i16::MIN),
            (3.0e30, i16::MAX),
            (-3.0e30, i16::MIN),
            (f32::INFINITY, i16::MAX),
        ];
        for (value, expected) in cases {
            assert_eq!(value.to_i16(), expected, "{value}");
            assert_eq!(f64::from(value).to_i16(), expected, "{value}");
        }
        for value in -40_000i32..40_000 {
            let sample = value as f32 / 40_000.0;
            let expected = (sample * 32_768.0).round_ties_even().clamp(-32_768.0, 32_767.0) as i16;
            assert_eq!(sample.to_i16(), expected);
        }
    }

    #[test]
    fn integers_are_cut() {
        assert_eq!((-1i32).to_i16(), -1);
        assert_eq!(0x1234_ffffi32.to_i16(), 0x1234);
        assert_eq!(0u8.to_i16(), i16::MIN);
        assert_eq!(128u8.to_i16(), 0);
        assert_eq!(i32::MIN.to_f32(), -1.0);
        assert_eq!(i16::MIN.to_f32(), -1.0);
        assert_eq!(0u8.to_f32(), -1.0);
    }
}
