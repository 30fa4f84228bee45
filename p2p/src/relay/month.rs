//! Months of the calendar, in UTC, from seconds since 1970.

/// A month: year, and 1 to 12.
pub(super) type Month = (u32, u8);

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;
/// Years after which the calendar repeats, and their days.
const ERA_YEARS: u64 = 400;
const ERA_DAYS: u64 = 146_097;
/// From 1 March of the year 0 to 1 January 1970. Years that begin in March have their leap day at the end.
const DAYS_BEFORE_1970: u64 = 719_468;

/// Days since 1970.
pub(super) fn day(unix_seconds: u64) -> u64 {
    unix_seconds / SECONDS_PER_DAY
}

/// The month of a time.
pub(super) fn month(unix_seconds: u64) -> Month {
    let days = day(unix_seconds) + DAYS_BEFORE_1970;
    let of_era = days % ERA_DAYS;
    // Without the leap days that have been: one in 4 years, but in 100, and again in 400.
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // From March on, five months have 153 days.
    let from_march = (5 * of_year + 2) / 153;
    let (month, next_year) = if from_march < 10 { (from_march + 3, 0) } else { (from_march - 9, 1) };
    let year = days / ERA_DAYS * ERA_YEARS + year_of_era + next_year;
    (u32::try_from(year).unwrap_or(u32::MAX), u8::try_from(month).unwrap_or(1))
}

/// Whether `one` is the month before `other`.
pub(super) fn is_before(one: Month, other: Month) -> bool {
    let number = |month: Month| u64::from(month.0) * 12 + u64::from(month.1);
    number(one) + 1 == number(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_four_centuries_is_in_its_month() {
        let (mut year, mut number, mut left) = (1970u32, 1u8, 31u32);
        for day in 0..ERA_DAYS {
            assert_eq!(month(day * SECONDS_PER_DAY), (year, number));
            assert_eq!(month(day * SECONDS_PER_DAY + SECONDS_PER_DAY - 1), (year, number));
            left -= 1;
            if left == 0 {
                let before = (year, number);
                (year, number) = if number == 12 { (year + 1, 1) } else { (year, number + 1) };
                assert!(is_before(before, (year, number)) && !is_before((year, number), before));
                let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
                left = match number {
                    2 => 28 + u32::from(leap),
                    4 | 6 | 9 | 11 => 30,
                    _ => 31,
                };
            }
        }
        let _ = month(u64::MAX);
    }
}
