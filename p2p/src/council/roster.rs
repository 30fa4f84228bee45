//! Who speaks for which member, and where it was reached. Knows no clock and no network.

use std::collections::{BTreeMap, BTreeSet};

use antiphon_proto::{
    NetworkId, PublicKey,
    binding::BindingError,
    limits,
    wire::{self, Binding, RosterEntry},
};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use crate::{reach::without_peer, score::Offence};

/// What is known of one member.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) binding: Binding,
    pub(super) peer: PeerId,
    /// Where we reached it ourselves.
    seen: Option<Multiaddr>,
    /// What it tells of itself, or, until it did, what others tell.
    addresses: Vec<Multiaddr>,
    /// Whether it told itself.
    told: bool,
}

impl Entry {
    fn new(binding: Binding, peer: PeerId) -> Self {
        Self { binding, peer, seen: None, addresses: Vec::new(), told: false }
    }

    /// Where to dial it, the best first.
    pub(super) fn addresses(&self) -> Vec<Multiaddr> {
        let mut all: Vec<Multiaddr> = self.seen.iter().cloned().collect();
        all.extend(self.addresses.iter().filter(|address| Some(*address) != self.seen.as_ref()).cloned());
        all.truncate(limits::MEMBER_ADDRESSES);
        all
    }
}

/// What a binding that a connected node shows means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Admission {
    /// As known before.
    Known,
    /// The first, or a later one of the same node: it has started anew.
    Fresh,
    /// Another node speaks for the member from now on.
    Moved {
        /// The one that did.
        from: PeerId,
    },
    /// Another node has said so later.
    Outdated,
}

/// A roster message that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RosterError {
    #[error("a roster of {0} entries")]
    Count(usize),
    #[error("an entry without a binding")]
    Missing,
    #[error(transparent)]
    Binding(#[from] BindingError),
    #[error("a binding whose peer id is none")]
    Peer,
    #[error("{0} addresses of one member")]
    Addresses(usize),
    #[error("an address that is none")]
    Address,
}

impl RosterError {
    /// What it costs who sent it.
    pub(super) fn offence(&self) -> Offence {
        match self {
            Self::Binding(BindingError::Signature) => Offence::BadBinding,
            _ => Offence::Malformed,
        }
    }
}

/// The table; bounded by the number of members.
#[derive(Debug)]
pub(super) struct Roster {
    network: NetworkId,
    local: PublicKey,
    members: BTreeSet<PublicKey>,
    entries: BTreeMap<PublicKey, Entry>,
}

impl Roster {
    /// A table that knows this node alone.
    pub(super) fn new(network: NetworkId, local: PublicKey, binding: Binding, peer: PeerId) -> Self {
        let entries = BTreeMap::from([(local, Entry { told: true, ..Entry::new(binding, peer) })]);
        Self { network, local, members: BTreeSet::new(), entries }
    }

    /// Replaces the set of members and forgets who is none.
    pub(super) fn set_members(&mut self, members: &[PublicKey]) {
        self.members = members.iter().take(limits::COUNCIL_MEMBERS).copied().collect();
        let (members, local) = (&self.members, self.local);
        self.entries.retain(|key, _| *key == local || members.contains(key));
    }

    pub(super) fn is_member(&self, key: &PublicKey) -> bool {
        self.members.contains(key)
    }

    /// Whether this node speaks for a member.
    pub(super) fn takes_part(&self) -> bool {
        self.is_member(&self.local)
    }

    /// The other members of which something is known.
    pub(super) fn others(&self) -> impl Iterator<Item = (&PublicKey, &Entry)> {
        let local = self.local;
        self.entries.iter().filter(move |(key, _)| **key != local)
    }

    /// The member for which the node speaks.
    pub(super) fn member_of(&self, peer: &PeerId) -> Option<PublicKey> {
        self.others().find(|(_, entry)| entry.peer == *peer).map(|(key, _)| *key)
    }

    /// Takes the checked binding of another member that the connected node itself has shown.
    pub(super) fn admit(&mut self, key: PublicKey, binding: &Binding, peer: PeerId) -> Admission {
        let Some(entry) = self.entries.get_mut(&key) else {
            self.entries.insert(key, Entry::new(binding.clone(), peer));
            return Admission::Fresh;
        };
        let later = binding.time_ms > entry.binding.time_ms;
        if entry.peer == peer {
            if later {
                entry.binding = binding.clone();
                return Admission::Fresh;
            }
            return Admission::Known;
        }
        if !later {
            return Admission::Outdated;
        }
        let from = entry.peer;
        *entry = Entry::new(binding.clone(), peer);
        Admission::Moved { from }
    }

    /// Notes where a member was reached; says whether that is new.
    pub(super) fn seen(&mut self, key: &PublicKey, address: &Multiaddr) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        let address = without_peer(address.clone());
        if !fits(&address) || entry.seen.as_ref() == Some(&address) {
            return false;
        }
        entry.seen = Some(address);
        true
    }

    /// Notes where this node listens; says whether that is new.
    pub(super) fn listens(&mut self, addresses: Vec<Multiaddr>) -> bool {
        let mut addresses: Vec<_> = addresses.into_iter().map(without_peer).filter(fits).collect();
        // The ones that help nobody elsewhere come last.
        addresses.sort_by_key(is_loopback);
        addresses.truncate(limits::MEMBER_ADDRESSES);
        let Some(own) = self.entries.get_mut(&self.local) else { return false };
        let news = own.addresses != addresses;
        own.addresses = addresses;
        news
    }

    /// Takes what the member `from` tells; gives the members of which something new was learned.
    pub(super) fn hear(
        &mut self,
        from: &PublicKey,
        roster: &wire::Roster,
    ) -> Result<Vec<PublicKey>, RosterError> {
        if roster.entries.len() > limits::ROSTER_ENTRIES {
            return Err(RosterError::Count(roster.entries.len()));
        }
        let mut changed = Vec::new();
        for entry in &roster.entries {
            changed.extend(self.hear_entry(from, entry)?);
        }
        Ok(changed)
    }

    fn hear_entry(
        &mut self,
        from: &PublicKey,
        entry: &RosterEntry,
    ) -> Result<Option<PublicKey>, RosterError> {
        let binding = entry.binding.as_ref().ok_or(RosterError::Missing)?;
        let claimed =
            PublicKey::try_from(&binding.member[..]).map_err(|_| BindingError::Form("member key"))?;
        let known = self.entries.get(&claimed).filter(|known| known.binding == *binding);
        // What is known was checked when it came.
        let peer = match known {
            Some(known) => known.peer,
            None => {
                binding.check(&self.network)?;
                PeerId::from_bytes(&binding.peer).map_err(|_| RosterError::Peer)?
            }
        };
        let addresses = read_addresses(&entry.addresses)?;
        if claimed == self.local {
            self.warn_of_double(peer, binding);
            return Ok(None);
        }
        if !self.is_member(&claimed) {
            return Ok(None);
        }
        let news = self.merge(claimed, binding, peer, addresses, *from == claimed);
        Ok(news.then_some(claimed))
    }

    fn merge(
        &mut self,
        key: PublicKey,
        binding: &Binding,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        by_itself: bool,
    ) -> bool {
        let fresh = || Entry::new(binding.clone(), peer);
        let mut news = !self.entries.contains_key(&key);
        let entry = self.entries.entry(key).or_insert_with(fresh);
        if binding.time_ms > entry.binding.time_ms {
            news = true;
            if entry.peer == peer { entry.binding = binding.clone() } else { *entry = fresh() }
        }
        if entry.peer != peer {
            return news;
        }
        if by_itself {
            news |= entry.addresses != addresses;
            (entry.addresses, entry.told) = (addresses, true);
        } else if !entry.told {
            for address in addresses {
                if entry.addresses.len() < limits::MEMBER_ADDRESSES && !entry.addresses.contains(&address) {
                    entry.addresses.push(address);
                    news = true;
                }
            }
        }
        news
    }

    fn warn_of_double(&self, peer: PeerId, binding: &Binding) {
        let Some(own) = self.entries.get(&self.local) else { return };
        if own.peer != peer && binding.time_ms > own.binding.time_ms {
            tracing::warn!(%peer, "another node speaks for this node's council member, and later than this one");
        }
    }

    /// Messages that tell of these members.
    pub(super) fn tell(&self, keys: &[PublicKey]) -> Vec<wire::Roster> {
        let entries = keys.iter().filter_map(|key| self.entries.get(key)).map(|entry| RosterEntry {
            binding: Some(entry.binding.clone()),
            addresses: entry.addresses().iter().map(Multiaddr::to_vec).collect(),
        });
        let entries: Vec<RosterEntry> = entries.collect();
        entries.chunks(limits::ROSTER_ENTRIES).map(|part| wire::Roster { entries: part.to_vec() }).collect()
    }

    /// Everybody known, this node first.
    pub(super) fn everybody(&self) -> Vec<PublicKey> {
        std::iter::once(self.local).chain(self.others().map(|(key, _)| *key)).collect()
    }
}

fn read_addresses(bytes: &[Vec<u8>]) -> Result<Vec<Multiaddr>, RosterError> {
    if bytes.len() > limits::MEMBER_ADDRESSES {
        return Err(RosterError::Addresses(bytes.len()));
    }
    let read = |bytes: &Vec<u8>| {
        let short = bytes.len() <= limits::ADDRESS_BYTES;
        let address = Multiaddr::try_from(bytes.clone()).ok().filter(|_| short);
        address.map(without_peer).ok_or(RosterError::Address)
    };
    bytes.iter().map(read).collect()
}

fn fits(address: &Multiaddr) -> bool {
    !address.is_empty() && address.len() <= limits::ADDRESS_BYTES
}

fn is_loopback(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use antiphon_proto::SecretKey;
    use proptest::prelude::*;

    const NETWORK: NetworkId = NetworkId([1; 32]);

    fn secret(number: u8) -> SecretKey {
        SecretKey::from_seed(&[number; 32])
    }

    fn key(number: u8) -> PublicKey {
        secret(number).public()
    }

    fn peer(number: u8) -> PeerId {
        let seed = libp2p::identity::ed25519::SecretKey::try_from_bytes([number; 32]).unwrap();
        let pair = libp2p::identity::Keypair::from(libp2p::identity::ed25519::Keypair::from(seed));
        pair.public().to_peer_id()
    }

    fn binding(number: u8, at: u8, time_ms: u64) -> Binding {
        Binding::new(&secret(number), &NETWORK, &peer(at).to_bytes(), time_ms)
    }

    /// The table of member 1, among members 1 to `members`.
    fn roster(members: u8) -> Roster {
        let mut roster = Roster::new(NETWORK, key(1), binding(1, 1, 1), peer(1));
        roster.set_members(&(1..=members).map(key).collect::<Vec<_>>());
        roster
    }

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/192.0.2.1/udp/{port}/quic-v1").parse().unwrap()
    }

    fn told(binding: Binding, ports: &[u16]) -> wire::Roster {
        let addresses = ports.iter().map(|port| address(*port).to_vec()).collect();
        wire::Roster { entries: vec![RosterEntry { binding: Some(binding), addresses }] }
    }

    fn known(roster: &Roster, number: u8) -> Vec<Multiaddr> {
        roster.others().find(|(found, _)| **found == key(number)).unwrap().1.addresses()
    }

    #[test]
    fn the_later_binding_holds() {
        let mut roster = roster(3);
        let mut admit = |at, time_ms| roster.admit(key(2), &binding(2, at, time_ms), peer(at));
        assert_eq!(admit(2, 10), Admission::Fresh);
        assert_eq!(admit(2, 10), Admission::Known);
        assert_eq!(admit(2, 9), Admission::Known);
        assert_eq!(admit(3, 10), Admission::Outdated);
        assert_eq!(admit(3, 11), Admission::Moved { from: peer(2) });
        assert_eq!(admit(2, 11), Admission::Outdated);
        assert_eq!(admit(3, 12), Admission::Fresh);
        assert_eq!(roster.member_of(&peer(3)), Some(key(2)));
        assert_eq!(roster.member_of(&peer(2)), None);
    }

    #[test]
    fn what_a_member_tells_of_itself_counts_for_more() {
        let mut roster = roster(3);
        assert_eq!(roster.hear(&key(3), &told(binding(2, 2, 5), &[7])), Ok(vec![key(2)]));
        assert_eq!(roster.hear(&key(3), &told(binding(2, 2, 5), &[7])), Ok(vec![]));
        assert_eq!(roster.hear(&key(3), &told(binding(2, 2, 5), &[8])), Ok(vec![key(2)]));
        assert_eq!(known(&roster, 2), [address(7), address(8)]);
        assert_eq!(roster.hear(&key(2), &told(binding(2, 2, 5), &[9])), Ok(vec![key(2)]));
        assert_eq!(roster.hear(&key(3), &told(binding(2, 2, 5), &[6])), Ok(vec![]));
        assert_eq!(known(&roster, 2), [address(9)]);
        // Where it was reached is the best.
        assert!(roster.seen(&key(2), &address(4).with(Protocol::P2p(peer(2)))));
        assert!(!roster.seen(&key(2), &address(4)));
        assert_eq!(known(&roster, 2), [address(4), address(9)]);
        // Another node of the member begins with nothing of this.
        assert_eq!(roster.hear(&key(3), &told(binding(2, 4, 6), &[5])), Ok(vec![key(2)]));
        assert_eq!(known(&roster, 2), [address(5)]);
        assert_eq!(roster.hear(&key(2), &told(binding(2, 2, 5), &[9])), Ok(vec![]));
        assert_eq!(known(&roster, 2), [address(5)]);
    }

    #[test]
    fn who_is_no_member_is_not_kept() {
        let mut roster = roster(3);
        assert_eq!(roster.hear(&key(2), &told(binding(4, 4, 1), &[7])), Ok(vec![]));
        assert_eq!(roster.hear(&key(2), &told(binding(3, 3, 1), &[7])), Ok(vec![key(3)]));
        // What is told of this node itself changes nothing.
        assert_eq!(roster.hear(&key(2), &told(binding(1, 5, 9), &[7])), Ok(vec![]));
        roster.set_members(&[key(1), key(2)]);
        assert_eq!(roster.others().count(), 0);
        roster.set_members(&[key(2)]);
        assert!(!roster.takes_part());
        assert_eq!(roster.everybody(), [key(1)]);
    }

    #[test]
    fn rules_are_kept() {
        let mut roster = roster(3);
        let good = told(binding(2, 2, 5), &[7]);
        let mut hear = |roster_message: wire::Roster| roster.hear(&key(3), &roster_message);
        let many = vec![good.entries[0].clone(); limits::ROSTER_ENTRIES + 1];
        assert_eq!(hear(wire::Roster { entries: many }), Err(RosterError::Count(17)));
        let entry = |change: &dyn Fn(&mut RosterEntry)| {
            let mut entry = good.entries[0].clone();
            change(&mut entry);
            wire::Roster { entries: vec![entry] }
        };
        assert_eq!(hear(entry(&|entry| entry.binding = None)), Err(RosterError::Missing));
        let nine = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        assert_eq!(hear(told(binding(2, 2, 5), &nine)), Err(RosterError::Addresses(9)));
        assert_eq!(hear(entry(&|entry| entry.addresses[0] = vec![255])), Err(RosterError::Address));
        let long = entry(&|entry| entry.addresses[0] = address(1).to_vec().repeat(20));
        assert_eq!(hear(long), Err(RosterError::Address));
        let forged = Binding { time_ms: 6, ..binding(2, 2, 5) };
        assert_eq!(hear(told(forged, &[])), Err(BindingError::Signature.into()));
        let nobody = Binding::new(&secret(2), &NETWORK, &[1, 2, 3], 5);
        assert_eq!(hear(told(nobody, &[])), Err(RosterError::Peer));
    }

    #[test]
    fn a_whole_council_is_told_in_parts_and_heard() {
        let mut one = roster(40);
        for number in 2..=40 {
            one.admit(key(number), &binding(number, number, 1), peer(number));
        }
        assert!(one.listens(vec!["/ip4/127.0.0.1/tcp/1".parse().unwrap(), address(1)]));
        assert!(!one.listens(vec![address(1), "/ip4/127.0.0.1/tcp/1".parse().unwrap()]));
        let messages = one.tell(&one.everybody());
        assert_eq!(messages.len(), 3);
        let mut other = Roster::new(NETWORK, key(40), binding(40, 40, 1), peer(40));
        other.set_members(&(1..=40).map(key).collect::<Vec<_>>());
        for message in &messages {
            assert!(antiphon_proto::canonical::encode(message).len() < limits::CONTROL_MESSAGE_BYTES);
            other.hear(&key(1), message).unwrap();
        }
        assert_eq!(other.others().count(), 39);
        assert_eq!(known(&other, 1)[0], address(1), "what is of use elsewhere comes first");
    }

    proptest! {
        /// Whatever order news comes in, all end with the latest binding of each member, and telling comes to an end.
        #[test]
        fn news_spreads_to_an_end(order in prop::collection::vec((2u8..5, 2u8..7, 1u64..4), 1..12)) {
            let mut tables = [roster(5), roster(5)];
            for (number, (member, at, time_ms)) in order.iter().enumerate() {
                let news = told(binding(*member, *at, *time_ms), &[u16::from(*at)]);
                tables[number % 2].hear(&key(5), &news).unwrap();
            }
            let mut rounds = 0;
            loop {
                let said = [0, 1].map(|number| tables[number].tell(&tables[number].everybody()));
                let mut changed = 0;
                for (listener, teller) in [(0, 1), (1, 0)] {
                    for message in &said[teller] {
                        changed += tables[listener].hear(&key(5), message).unwrap().len();
                    }
                }
                if changed == 0 {
                    break;
                }
                rounds += 1;
                prop_assert!(rounds < 20);
            }
            for member in 2..5 {
                let times = tables.each_ref().map(|table| {
                    table.entries.get(&key(member)).map(|entry| entry.binding.time_ms)
                });
                prop_assert_eq!(times[0], times[1]);
                let latest = order.iter().filter(|told| told.0 == member).map(|told| told.2).max();
                prop_assert_eq!(times[0], latest);
            }
        }
    }
}
