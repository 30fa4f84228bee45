//! Who may be reached through this relay, and who is connected with whom. Pure: the time is passed in.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use super::{meter::Meter, refusal::Refusal};
use crate::config::RelayLimits;

/// The network that a peer comes from: who has one IPv6 address has a /64 of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    V4(Ipv4Addr),
    V6([u16; 4]),
    /// No IP address in the peer's address: all of these share one.
    Unknown,
}

impl From<Option<IpAddr>> for Origin {
    fn from(ip: Option<IpAddr>) -> Self {
        match ip.map(|ip| ip.to_canonical()) {
            Some(IpAddr::V4(ip)) => Self::V4(ip),
            Some(IpAddr::V6(ip)) => {
                let [a, b, c, d, ..] = ip.segments();
                Self::V6([a, b, c, d])
            }
            None => Self::Unknown,
        }
    }
}

/// A circuit, by its ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends<P> {
    /// Who asked for it.
    pub(super) source: P,
    /// Where that is.
    pub(super) origin: Origin,
    /// Who is reached.
    pub(super) destination: P,
}

/// How many of each.
#[derive(Debug)]
struct Counts<K>(HashMap<K, usize>);

impl<K: Eq + Hash> Counts<K> {
    fn new() -> Self {
        Self(HashMap::new())
    }

    fn of(&self, key: &K) -> usize {
        self.0.get(key).copied().unwrap_or(0)
    }

    fn add(&mut self, key: K) {
        *self.0.entry(key).or_insert(0) += 1;
    }

    fn remove(&mut self, key: &K) {
        match self.0.get_mut(key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                self.0.remove(key);
            }
        }
    }
}

#[derive(Debug)]
struct Reservation<T> {
    origin: Origin,
    expires: Instant,
    /// How the peer is reached.
    via: T,
}

/// Reservations and circuits. `P` is a peer, `T` the connection over which it reserved.
#[derive(Debug)]
pub(super) struct Table<P, T> {
    limits: RelayLimits,
    reservations: HashMap<P, Reservation<T>>,
    reserved_from: Counts<Origin>,
    asked_by: Meter<P>,
    asked_from: Meter<Origin>,
    circuits: usize,
    circuits_from: Counts<Origin>,
    by_source: Counts<P>,
    by_destination: Counts<P>,
}

impl<P: Copy + Eq + Hash, T: Clone> Table<P, T> {
    pub(super) fn new(limits: RelayLimits) -> Self {
        let of_peer = limits.requests_per_minute;
        let all_at_once = limits.reservations_per_ip as u64;
        Self {
            reservations: HashMap::new(),
            reserved_from: Counts::new(),
            asked_by: Meter::new(of_peer, of_peer.get()),
            asked_from: Meter::new(limits.requests_per_ip_per_minute, all_at_once),
            circuits: 0,
            circuits_from: Counts::new(),
            by_source: Counts::new(),
            by_destination: Counts::new(),
            limits,
        }
    }

    /// Reserves, or renews.
    pub(super) fn reserve(&mut self, peer: P, origin: Origin, via: T, now: Instant) -> Result<(), Refusal> {
        let held = self.reservations.get(&peer).map(|reservation| reservation.origin);
        // Strangers behind the same address do not keep a peer from renewing.
        let renews = held == Some(origin);
        if !self.asked_by.has(&peer, now) || !(renews || self.asked_from.has(&origin, now)) {
            return Err(Refusal::TooOften);
        }
        self.asked_by.take(peer, now);
        if !renews {
            self.asked_from.take(origin, now);
        }
        if held.is_none() && self.reservations.len() >= self.limits.reservations {
            self.expire(now);
            if self.reservations.len() >= self.limits.reservations {
                return Err(Refusal::Reservations);
            }
        }
        if !renews && self.reserved_from.of(&origin) >= self.limits.reservations_per_ip {
            self.expire(now);
            if self.reserved_from.of(&origin) >= self.limits.reservations_per_ip {
                return Err(Refusal::ReservationsOfAddress);
            }
        }
        self.forget(&peer);
        let expires = now + self.limits.reservation_ttl;
        self.reservations.insert(peer, Reservation { origin, expires, via });
        self.reserved_from.add(origin);
        Ok(())
    }

    /// A peer that is not connected any more, but through relays, has no reservation any more.
    pub(super) fn forget(&mut self, peer: &P) {
        if let Some(gone) = self.reservations.remove(peer) {
            self.reserved_from.remove(&gone.origin);
        }
    }

    /// Ends the reservations that were not renewed.
    pub(super) fn expire(&mut self, now: Instant) {
        let Self { reservations, reserved_from, .. } = self;
        for (_, gone) in reservations.extract_if(|_, reservation| reservation.expires <= now) {
            reserved_from.remove(&gone.origin);
        }
    }

    /// Takes a place for a circuit, until it is released; gives how its destination is reached.
    pub(super) fn admit(&mut self, ends: &Ends<P>, now: Instant) -> Result<T, Refusal> {
        let limits = &self.limits;
        if ends.source == ends.destination {
            return Err(Refusal::Oneself);
        }
        let reserved = self.reservations.get(&ends.destination).filter(|reserved| reserved.expires > now);
        let via = reserved.ok_or(Refusal::NoReservation)?.via.clone();
        if self.by_source.of(&ends.source) >= limits.circuits_per_source {
            return Err(Refusal::CircuitsOfSource);
        }
        if self.by_destination.of(&ends.destination) >= limits.circuits_per_destination {
            return Err(Refusal::CircuitsOfDestination);
        }
        if self.circuits_from.of(&ends.origin) >= limits.circuits_per_ip {
            return Err(Refusal::CircuitsOfAddress);
        }
        if self.circuits >= limits.circuits {
            return Err(Refusal::Circuits);
        }
        self.circuits += 1;
        self.circuits_from.add(ends.origin);
        self.by_source.add(ends.source);
        self.by_destination.add(ends.destination);
        Ok(via)
    }

    /// Gives an admitted circuit's place back.
    pub(super) fn release(&mut self, ends: &Ends<P>) {
        self.circuits = self.circuits.saturating_sub(1);
        self.circuits_from.remove(&ends.origin);
        self.by_source.remove(&ends.source);
        self.by_destination.remove(&ends.destination);
    }

    pub(super) fn reservations(&self) -> usize {
        self.reservations.len()
    }

    pub(super) fn circuits(&self) -> usize {
        self.circuits
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
