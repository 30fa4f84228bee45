//! Which node speaks for a council member.
//!
//! A member signs with its member key that a peer id is its own. The connection itself proves the peer id, so a
//! binding of another one is worth nothing to who shows it. Of two bindings of one member the later one holds.

use crate::{
    canonical,
    hash::NetworkId,
    keys::{Domain, PublicKey, SecretKey, signed_message},
    limits,
    wire::Binding,
};

/// A binding that proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// The key, the peer id, the network id or the signature is missing or of a wrong length, or the time is missing.
    #[error("the binding's {0} is missing or of a wrong length")]
    Form(&'static str),
    /// Made for another network.
    #[error("the binding is for the network {0}")]
    OtherNetwork(NetworkId),
    /// The member did not sign it.
    #[error("the binding is not signed by the member's key")]
    Signature,
}

impl Binding {
    /// Signs that the node with this peer id (its bytes) speaks for the member from `time_ms` on.
    #[must_use]
    pub fn new(member: &SecretKey, network: &NetworkId, peer: &[u8], time_ms: u64) -> Self {
        let mut binding = Self {
            member: member.public().0.to_vec(),
            peer: peer.to_vec(),
            network: network.0.to_vec(),
            time_ms,
            signature: Vec::new(),
        };
        binding.signature = member.sign(&binding.message(network)).to_vec();
        binding
    }

    /// Checks form, network and signature; gives the member. Whose peer id it is, is for the caller to check.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self, network: &NetworkId) -> Result<PublicKey, BindingError> {
        let form = |holds: bool, what| if holds { Ok(()) } else { Err(BindingError::Form(what)) };
        let member = PublicKey::try_from(&self.member[..]).map_err(|_| BindingError::Form("member key"))?;
        form((1..=limits::PEER_ID_BYTES).contains(&self.peer.len()), "peer id")?;
        let of = NetworkId::try_from(&self.network[..]).map_err(|_| BindingError::Form("network id"))?;
        form(self.time_ms > 0, "time")?;
        form(self.signature.len() == 64, "signature")?;
        if of != *network {
            return Err(BindingError::OtherNetwork(of));
        }
        let signed = member.verifies(&self.message(network), &self.signature);
        if signed { Ok(member) } else { Err(BindingError::Signature) }
    }

    fn message(&self, network: &NetworkId) -> Vec<u8> {
        let bare = canonical::encode(&Self { signature: Vec::new(), ..self.clone() });
        signed_message(Domain::Binding, network, &bare)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NETWORK: NetworkId = NetworkId([3; 32]);

    fn binding() -> Binding {
        Binding::new(&SecretKey::from_seed(&[7; 32]), &NETWORK, &[1; 38], 5)
    }

    #[test]
    fn every_field_is_covered() {
        let good = binding();
        assert_eq!(good.check(&NETWORK), Ok(SecretKey::from_seed(&[7; 32]).public()));
        let other = SecretKey::from_seed(&[8; 32]).public().0.to_vec();
        let forged = [
            Binding { member: other, ..good.clone() },
            Binding { peer: vec![2; 38], ..good.clone() },
            Binding { time_ms: 6, ..good.clone() },
            Binding { signature: vec![0; 64], ..good.clone() },
        ];
        for binding in forged {
            assert_eq!(binding.check(&NETWORK), Err(BindingError::Signature));
        }
        let elsewhere = NetworkId([4; 32]);
        assert_eq!(good.check(&elsewhere), Err(BindingError::OtherNetwork(NETWORK)));
        let moved = Binding { network: elsewhere.0.to_vec(), ..good };
        assert_eq!(moved.check(&elsewhere), Err(BindingError::Signature));
    }

    #[test]
    fn wrong_lengths_are_named() {
        let good = binding();
        let cases = [
            (Binding { member: vec![1; 31], ..good.clone() }, "member key"),
            (Binding { peer: vec![], ..good.clone() }, "peer id"),
            (Binding { peer: vec![1; limits::PEER_ID_BYTES + 1], ..good.clone() }, "peer id"),
            (Binding { network: vec![], ..good.clone() }, "network id"),
            (Binding { time_ms: 0, ..good.clone() }, "time"),
            (Binding { signature: vec![1; 65], ..good }, "signature"),
        ];
        for (binding, what) in cases {
            assert_eq!(binding.check(&NETWORK), Err(BindingError::Form(what)));
        }
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_noticed(at in 0usize..200, bit in 0u8..8) {
            let mut bytes = canonical::encode(&binding());
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let read = canonical::decode::<Binding>("binding", limits::CONTROL_MESSAGE_BYTES, &bytes);
            prop_assert!(read.is_err() || read.unwrap().check(&NETWORK).is_err());
        }
    }
}
