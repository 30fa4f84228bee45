//! What members of a council read: messages, certificates, seals, batches that others propose, genesis documents.
#![no_main]

use antiphon_ledger::seal;
use antiphon_proto::{
    NetworkId, SecretKey, canonical,
    certificate::Certificate,
    limits,
    wire::{CouncilMessage, Motions, WalGroup},
};

libfuzzer_sys::fuzz_target!(|input: (Vec<u8>, u8)| {
    let (bytes, members) = input;
    let members = usize::from(members);
    if let Ok(certificate) = Certificate::decode(&bytes, members) {
        assert_eq!(certificate.encode(), bytes);
        let keys: Vec<_> = (0..members).map(|_| SecretKey::from_seed(&[1; 32]).public()).collect();
        assert!(certificate.verify(&NetworkId([1; 32]), &keys).is_err(), "a forged certificate");
    }
    let _ = seal::signers(&bytes);
    let _ = seal::certificate(&bytes, members);
    let _ = seal::check_order(&bytes, &bytes);
    if let Ok(message) =
        canonical::decode::<CouncilMessage>("council message", limits::COUNCIL_MESSAGE_BYTES, &bytes)
    {
        assert_eq!(canonical::encode(&message), bytes);
    }
    let _ = canonical::decode::<WalGroup>("record", limits::COUNCIL_MESSAGE_BYTES, &bytes);
    let _ = canonical::decode::<Motions>("motions", limits::COUNCIL_MESSAGE_BYTES, &bytes);
});
