//! How often somebody may try a password.

use std::{collections::HashMap, net::IpAddr, time::Duration};

/// Wrong passwords in a row from one place before it has to wait.
const FREE: u32 = 5;
/// And then one in so long.
const EACH: Duration = Duration::from_secs(10);
/// Places that are remembered. Beyond that the oldest are forgotten: guessing from so many is a matter of long passwords.
const PLACES: usize = 1_024;

/// Wrong passwords by where they came from. Time is given in milliseconds of a clock that only goes forward.
#[derive(Debug, Default)]
pub struct Attempts {
    places: HashMap<IpAddr, Tries>,
}

#[derive(Debug, Clone, Copy)]
struct Tries {
    wrong: u32,
    last_ms: u64,
}

impl Tries {
    /// What is left of them after a while.
    fn left(self, now_ms: u64) -> u32 {
        let each = u64::try_from(EACH.as_millis()).unwrap_or(u64::MAX);
        let forgiven = now_ms.saturating_sub(self.last_ms) / each;
        self.wrong.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX))
    }
}

/// One machine, or one line at home: an IPv6 customer has a whole /64.
fn place(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

impl Attempts {
    /// Whether somebody may try; else after how long.
    ///
    /// # Errors
    /// How long to wait.
    pub fn may(&self, ip: IpAddr, now_ms: u64) -> Result<(), Duration> {
        match self.places.get(&place(ip)) {
            Some(tries) if tries.left(now_ms) >= FREE => {
                let each = u64::try_from(EACH.as_millis()).unwrap_or(u64::MAX);
                let since = now_ms.saturating_sub(tries.last_ms) % each;
                Err(Duration::from_millis(each - since))
            }
            _ => Ok(()),
        }
    }

    /// It was wrong.
    pub fn wrong(&mut self, ip: IpAddr, now_ms: u64) {
        if self.places.len() >= PLACES && !self.places.contains_key(&place(ip)) {
            let oldest = self.places.iter().min_by_key(|(_, tries)| tries.last_ms).map(|(ip, _)| *ip);
            oldest.and_then(|ip| self.places.remove(&ip));
        }
        let tries = self.places.entry(place(ip)).or_insert(Tries { wrong: 0, last_ms: now_ms });
        let wrong = tries.left(now_ms).saturating_add(1);
        *tries = Tries { wrong, last_ms: now_ms };
    }

    /// It was right.
    pub fn right(&mut self, ip: IpAddr) {
        self.places.remove(&place(ip));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_then_one_in_ten_seconds() {
        let (mut attempts, ip) = (Attempts::default(), "10.0.0.1".parse().unwrap());
        for now in 0..5 {
            assert_eq!(attempts.may(ip, now), Ok(()));
            attempts.wrong(ip, now);
        }
        assert_eq!(attempts.may(ip, 5), Err(Duration::from_millis(9_999)));
        assert_eq!(attempts.may("10.0.0.2".parse().unwrap(), 5), Ok(()));
        assert_eq!(attempts.may(ip, 10_004), Ok(()));
        attempts.wrong(ip, 10_004);
        assert!(attempts.may(ip, 10_005).is_err());
        attempts.right(ip);
        assert_eq!(attempts.may(ip, 10_005), Ok(()));
    }

    #[test]
    fn a_home_with_many_addresses_is_one_and_the_table_is_bounded() {
        let mut attempts = Attempts::default();
        for n in 0..5u128 {
            attempts.wrong(IpAddr::V6((0x2001_0db8_u128 << 96 | n).into()), 0);
        }
        assert!(attempts.may(IpAddr::V6((0x2001_0db8_u128 << 96 | 99).into()), 0).is_err());
        for n in 0..5_000u32 {
            attempts.wrong(IpAddr::V4(n.into()), n.into());
        }
        assert!(attempts.places.len() <= PLACES);
    }
}
