//! Registrations that wait for their batch: bounded, each once, and fair among registrants.

use std::collections::{BTreeMap, HashMap, VecDeque};

use antiphon_proto::{
    canonical, limits,
    wire::{Registration, registration},
};

/// Registrations that wait at most: twelve full batches, at most 14 MB.
const ITEMS: usize = 4_096;
/// Of one registrant: a quarter, so that one scan of a large library leaves room for others.
const PER_REGISTRANT: usize = ITEMS / 4;
/// Askers that wait for one registration's answer.
const TICKETS: usize = 1_024;

/// Names somebody who waits for an answer; the host knows who.
pub type Ticket = u64;

/// BLAKE3 of a registration's canonical bytes.
pub(crate) type ItemId = [u8; 32];

/// Why a registration cannot wait here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    #[error("{ITEMS} registrations are waiting already")]
    Pool,
    #[error("{PER_REGISTRANT} registrations of this registrant are waiting already")]
    Registrant,
    #[error("too many wait for this registration's answer already")]
    Askers,
}

/// A registration that waits.
#[derive(Debug)]
struct Item {
    registration: Registration,
    registrant: Vec<u8>,
    tickets: Vec<Ticket>,
    since_ms: u64,
}

/// The registrations that wait.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    items: HashMap<ItemId, Item>,
    /// Each registrant's, oldest first.
    queues: BTreeMap<Vec<u8>, VecDeque<ItemId>>,
    /// The registrants, whose turn is next first.
    turns: VecDeque<Vec<u8>>,
}

pub(crate) fn id_of(registration: &Registration) -> ItemId {
    *blake3::hash(&canonical::encode(registration)).as_bytes()
}

/// Whose registration it is. Acts of the council are nobody's, and few.
fn registrant(registration: &Registration) -> &[u8] {
    match &registration.body {
        Some(registration::Body::Song(song)) => &song.registrant,
        Some(registration::Body::Variant(variant)) => &variant.registrant,
        Some(registration::Body::Transfer(transfer)) => &transfer.from,
        Some(registration::Body::Purchase(purchase)) => &purchase.buyer,
        Some(registration::Body::Grant(grant)) => &grant.grantor,
        Some(registration::Body::Claim(claim)) => &claim.claimant,
        Some(registration::Body::Council(_) | registration::Body::Receipt(_)) | None => &[],
    }
}

impl Pool {
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Takes a registration in, which was checked. `true` when it is new.
    pub(crate) fn add(
        &mut self,
        registration: Registration,
        ticket: Option<Ticket>,
        now_ms: u64,
    ) -> Result<bool, Full> {
        let id = id_of(&registration);
        if let Some(item) = self.items.get_mut(&id) {
            if item.tickets.len() >= TICKETS {
                return Err(Full::Askers);
            }
            item.tickets.extend(ticket);
            return Ok(false);
        }
        if self.items.len() >= ITEMS {
            return Err(Full::Pool);
        }
        let registrant = registrant(&registration).to_vec();
        let queue = self.queues.entry(registrant.clone()).or_default();
        if queue.len() >= PER_REGISTRANT {
            return Err(Full::Registrant);
        }
        if queue.is_empty() {
            self.turns.push_back(registrant.clone());
        }
        queue.push_back(id);
        let tickets = ticket.into_iter().collect();
        self.items.insert(id, Item { registration, registrant, tickets, since_ms: now_ms });
        Ok(true)
    }

    /// Takes a registration out, and who waits for its answer.
    pub(crate) fn remove(&mut self, id: &ItemId) -> Option<Vec<Ticket>> {
        let item = self.items.remove(id)?;
        if let Some(queue) = self.queues.get_mut(&item.registrant) {
            queue.retain(|other| other != id);
            if queue.is_empty() {
                self.queues.remove(&item.registrant);
                self.turns.retain(|other| *other != item.registrant);
            }
        }
        Some(item.tickets)
    }

    /// What a batch could hold: of each registrant in turn the oldest, up to `quota` of each. They stay in the pool.
    pub(crate) fn select(&self, quota: usize) -> Vec<Registration> {
        let mut chosen = Vec::new();
        let mut bytes = 0usize;
        for round in 0..quota {
            let before = chosen.len();
            for registrant in &self.turns {
                let item = self.queues.get(registrant).and_then(|queue| queue.get(round));
                let Some(item) = item.and_then(|id| self.items.get(id)) else { continue };
                bytes = bytes.saturating_add(canonical::encode(&item.registration).len());
                if chosen.len() >= limits::BATCH_BLOCKS || bytes > limits::BATCH_BYTES {
                    return chosen;
                }
                chosen.push(item.registration.clone());
            }
            if chosen.len() == before {
                break;
            }
        }
        chosen
    }

    /// The registration whose turn is next.
    pub(crate) fn first(&self) -> Option<(ItemId, &Registration)> {
        let id = self.turns.front().and_then(|registrant| self.queues.get(registrant)?.front())?;
        self.items.get(id).map(|item| (*id, &item.registration))
    }

    /// Whether there is enough for a full batch.
    pub(crate) fn fills_a_batch(&self, quota: usize) -> bool {
        let mut blocks = 0usize;
        self.queues.values().any(|queue| {
            blocks = blocks.saturating_add(queue.len().min(quota));
            blocks >= limits::BATCH_BLOCKS
        })
    }

    /// The next batch begins with somebody else.
    pub(crate) fn next_turn(&mut self) {
        if !self.turns.is_empty() {
            self.turns.rotate_left(1);
        }
    }

    /// Registrations that somebody here waits for: what other members must know of.
    pub(crate) fn asked_for(&self) -> impl Iterator<Item = &Registration> {
        self.items.values().filter(|item| !item.tickets.is_empty()).map(|item| &item.registration)
    }

    /// Forgets everything, and tells who waited.
    pub(crate) fn drain(&mut self) -> Vec<Ticket> {
        let items = std::mem::take(self).items;
        items.into_values().flat_map(|item| item.tickets).collect()
    }

    /// Drops what nobody here waits for and what is older than `age_ms`.
    pub(crate) fn expire(&mut self, now_ms: u64, age_ms: u64) {
        let old = |item: &Item| item.tickets.is_empty() && item.since_ms.saturating_add(age_ms) < now_ms;
        let expired: Vec<ItemId> =
            self.items.iter().filter(|(_, item)| old(item)).map(|(id, _)| *id).collect();
        for id in expired {
            self.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Artist, genesis};
    use proptest::prelude::*;

    fn artists(count: u8) -> Vec<Artist> {
        (0..count).map(|number| Artist::new(number, &genesis())).collect()
    }

    fn song(artist: &Artist, number: u64) -> Registration {
        Registration::of_song(artist.bare_song(number, 40))
    }

    #[test]
    fn each_once_and_every_asker_is_known() {
        let artists = artists(1);
        let mut pool = Pool::default();
        assert_eq!(pool.add(song(&artists[0], 1), Some(1), 0), Ok(true));
        assert_eq!(pool.add(song(&artists[0], 1), Some(2), 0), Ok(false));
        assert_eq!(pool.add(song(&artists[0], 1), None, 0), Ok(false));
        assert_eq!(pool.remove(&id_of(&song(&artists[0], 1))), Some(vec![1, 2]));
        assert!(pool.is_empty() && pool.first().is_none() && pool.turns.is_empty());
    }

    #[test]
    fn one_registrant_leaves_room_for_others() {
        let artists = artists(2);
        let mut pool = Pool::default();
        for number in 0..2_000 {
            let _ = pool.add(song(&artists[0], number), None, 0);
        }
        assert_eq!(pool.len(), PER_REGISTRANT);
        assert_eq!(pool.add(song(&artists[0], 9_999), None, 0), Err(Full::Registrant));
        for number in 0..100 {
            pool.add(song(&artists[1], 10_000 + number), None, 0).unwrap();
        }
        let batch = pool.select(64);
        let of_second = batch.iter().filter(|one| registrant(one) == artists[1].key.public().0).count();
        assert_eq!((batch.len(), of_second), (128, 64));
    }

    #[test]
    fn what_nobody_waits_for_expires() {
        let artists = artists(1);
        let mut pool = Pool::default();
        pool.add(song(&artists[0], 1), None, 0).unwrap();
        pool.add(song(&artists[0], 2), Some(1), 0).unwrap();
        pool.expire(50, 100);
        assert_eq!(pool.len(), 2);
        pool.expire(101, 100);
        assert_eq!(pool.len(), 1);
    }

    proptest! {
        #[test]
        fn the_queues_and_the_items_agree(steps in proptest::collection::vec((0u8..4, 0u64..12, any::<bool>()), 0..200)) {
            let artists = artists(4);
            let mut pool = Pool::default();
            for (artist, number, add) in steps {
                let one = song(&artists[usize::from(artist)], number + u64::from(artist) * 100);
                if add {
                    let _ = pool.add(one, None, 0);
                } else {
                    pool.remove(&id_of(&one));
                }
                let queued: usize = pool.queues.values().map(VecDeque::len).sum();
                prop_assert_eq!(queued, pool.len());
                prop_assert_eq!(pool.turns.len(), pool.queues.len());
                prop_assert_eq!(pool.select(1_000).len(), pool.len());
                prop_assert_eq!(pool.first().is_none(), pool.is_empty());
            }
        }
    }
}
