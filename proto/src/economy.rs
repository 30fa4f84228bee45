//! Parameters of the economy, and the arithmetic that follows from them: integers only.

use crate::{limits, record::Invalid, wire::Economy};

/// Units of one token.
pub const TOKEN: u64 = 100_000_000;
/// Supply up to which nothing is burned, by default: 10^9 tokens.
pub const DEFAULT_FLOOR: u64 = 1_000_000_000 * TOKEN;
/// Supply beyond which nothing is minted, by default: 2 * 10^9 tokens.
pub const DEFAULT_CAP: u64 = 2 * DEFAULT_FLOOR;
/// What a play burns when the supply is at the cap.
const BURN_AT_CAP: u128 = 1_000 * TOKEN as u128;

/// The economy of a network that says nothing of it.
pub const DEFAULT: Economy = Economy {
    floor_units: DEFAULT_FLOOR,
    cap_units: DEFAULT_CAP,
    threshold_plays: 10_000,
    coverage_basis_points: 5_000,
    heartbeat_ms: 5_000,
    epoch_ms: 10 * 60 * 1_000,
    // A server at home that was off for a day still hands in what it has witnessed.
    window_ms: 24 * 60 * 60 * 1_000,
};

impl Economy {
    /// Checks every rule.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), Invalid> {
        let rule = |holds: bool, text| if holds { Ok(()) } else { Err(Invalid::Economy(text)) };
        rule(self.floor_units < self.cap_units, "the floor is not below the cap")?;
        rule(self.cap_units <= limits::UNITS_MAX, "the cap is above 10^10 tokens")?;
        rule(self.threshold_plays > 0, "the threshold is 0 plays")?;
        let coverage = 1..=limits::BASIS_POINTS;
        rule(coverage.contains(&self.coverage_basis_points), "the coverage is not 1 to 10,000 basis points")?;
        rule((100..=60_000).contains(&self.heartbeat_ms), "a heartbeat is not every 100 ms to 60 s")?;
        rule(self.epoch_ms >= self.heartbeat_ms, "an epoch is shorter than a heartbeat")?;
        rule(self.window_ms >= self.epoch_ms, "the window is shorter than an epoch")?;
        rule(self.window_ms <= limits::WINDOW_MS_MAX, "the window is longer than a week")
    }

    /// Units that a play of a song beyond its discovery burns at this supply: 1,000 tokens times the cube of how far the
    /// supply is from floor to cap, rounded down at each step.
    #[must_use]
    pub fn burn(&self, supply: u64) -> u64 {
        let above = u128::from(supply.min(self.cap_units).saturating_sub(self.floor_units));
        let range = u128::from(self.cap_units.saturating_sub(self.floor_units).max(1));
        // Below 2^60 each: every product fits.
        let square = above * above / range;
        let cube = square * above / range;
        u64::try_from(cube * BURN_AT_CAP / range).unwrap_or(u64::MAX)
    }

    /// Milliseconds of a song of this duration that must be heard for a play, rounded up.
    #[must_use]
    pub fn needed_ms(&self, duration_ms: u32) -> u64 {
        let product = u64::from(duration_ms).saturating_mul(self.coverage_basis_points.into());
        product.div_ceil(limits::BASIS_POINTS.into())
    }
}

/// Divides units by weights: each gets its share rounded down, and what is left goes to the first. Nothing is lost, unless
/// there is nobody with a weight.
#[must_use]
pub fn divide(units: u64, weights: &[u64]) -> Vec<u64> {
    let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    if total == 0 {
        return vec![0; weights.len()];
    }
    let share =
        |weight: &u64| u64::try_from(u128::from(units) * u128::from(*weight) / total).unwrap_or(units);
    let mut shares: Vec<u64> = weights.iter().map(share).collect();
    let given: u64 = shares.iter().sum();
    if let Some(first) = shares.first_mut() {
        *first = first.saturating_add(units.saturating_sub(given));
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_default_is_valid_and_so_are_its_burns() {
        DEFAULT.check().unwrap();
        // Billions of tokens, and what a play burns.
        for (supply, burned) in [
            (0, 0),
            (1_000_000_000, 0),
            (1_500_000_000, 125),
            (1_800_000_000, 512),
            (1_900_000_000, 729),
            (2_000_000_000, 1_000),
            (2_500_000_000, 1_000),
        ] {
            assert_eq!(DEFAULT.burn(supply * TOKEN), burned * TOKEN, "{supply}");
        }
        // One unit above the floor burns nothing yet; the first unit is burned at 10^-4.3 of the range.
        assert_eq!(DEFAULT.burn(DEFAULT_FLOOR + 1), 0);
        assert_eq!(DEFAULT.burn(DEFAULT_FLOOR + DEFAULT_FLOOR / 1_000), 100);
        assert_eq!(DEFAULT.needed_ms(180_001), 90_001);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let with = |change: &dyn Fn(&mut Economy)| {
            let mut economy = DEFAULT;
            change(&mut economy);
            economy.check()
        };
        assert_eq!(with(&|economy| economy.floor_units = 0), Ok(()));
        assert!(with(&|economy| economy.floor_units = economy.cap_units).is_err());
        assert!(with(&|economy| economy.cap_units = u64::MAX).is_err());
        assert!(with(&|economy| economy.threshold_plays = 0).is_err());
        assert!(with(&|economy| economy.coverage_basis_points = 10_001).is_err());
        assert!(with(&|economy| economy.heartbeat_ms = 0).is_err());
        assert!(with(&|economy| economy.epoch_ms = 1).is_err());
        assert!(with(&|economy| economy.window_ms = 1).is_err());
    }

    proptest! {
        #[test]
        fn no_unit_is_lost(units in any::<u64>(), weights in proptest::collection::vec(any::<u32>(), 1..17)) {
            let weights: Vec<u64> = weights.into_iter().map(u64::from).collect();
            let shares = divide(units, &weights);
            let given: u128 = shares.iter().map(|share| u128::from(*share)).sum();
            let expected = if weights.iter().all(|weight| *weight == 0) { 0 } else { u128::from(units) };
            prop_assert_eq!(given, expected);
        }

        #[test]
        fn burning_grows_with_the_supply(low in any::<u64>(), high in any::<u64>()) {
            prop_assert!(DEFAULT.burn(low.min(high)) <= DEFAULT.burn(low.max(high)));
        }
    }
}
