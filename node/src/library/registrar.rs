//! From a signed registration to its place in the ledger, whatever happens on the way.

use std::sync::Arc;

use antiphon_proto::{
    SongId,
    wire::{RefusalCode, Refused, Registration, registration},
};

use super::describe::Registrant;
use crate::peer::orders::{Orders, Verdict};

/// How a registration ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Settled {
    /// A new song at this ledger index.
    Song(u64),
    /// A new variant at this ledger index.
    Variant(u64),
    /// The content was there already.
    Known(u64),
    /// The ledger does not take it.
    Refused(String),
    /// Not decided; the registration as it now stands, to be handed in again.
    Waiting(Box<Registration>, String),
}

/// Submits registrations and follows up on refusals that have a way out.
#[derive(Clone)]
pub struct Registrar {
    registrant: Arc<Registrant>,
    orders: Arc<dyn Orders>,
}

impl Registrar {
    /// Submits for `registrant` through `orders`.
    #[must_use]
    pub fn new(registrant: Arc<Registrant>, orders: Arc<dyn Orders>) -> Self {
        Self { registrant, orders }
    }

    /// Who registers.
    #[must_use]
    pub fn registrant(&self) -> &Registrant {
        &self.registrant
    }

    /// Submits until there is an answer. A song that turns out to be another encoding of one in the ledger becomes a
    /// variant of it.
    pub async fn settle(&self, registration: Registration) -> Settled {
        let refused = match self.orders.submit(registration.clone(), 0).await {
            Verdict::Accepted { index, .. } => return settled(&registration, index),
            Verdict::Unavailable(reason) => return Settled::Waiting(Box::new(registration), reason),
            Verdict::Refused(refused) => refused,
        };
        let Some(variant) = self.as_variant(&registration, &refused) else { return conclude(&refused) };
        let this = self.clone();
        let sealed = tokio::task::spawn_blocking(move || this.registrant.seal(variant, &|| true)).await;
        let Ok(Some(variant)) = sealed else {
            return Settled::Waiting(Box::new(registration), "interrupted".into());
        };
        match self.orders.submit(variant.clone(), 0).await {
            Verdict::Accepted { index, .. } => settled(&variant, index),
            Verdict::Unavailable(reason) => Settled::Waiting(Box::new(variant), reason),
            Verdict::Refused(refused) => conclude(&refused),
        }
    }

    /// The variant that a song becomes when it is refused as a near-duplicate.
    fn as_variant(&self, registration: &Registration, refused: &Refused) -> Option<Registration> {
        let Some(registration::Body::Song(song)) = &registration.body else { return None };
        if RefusalCode::try_from(refused.code) != Ok(RefusalCode::NearDuplicate) {
            return None;
        }
        let of = SongId::try_from(&refused.song_id[..]).ok()?;
        Some(Registration::of_variant(self.registrant.variant(&of, song)))
    }
}

fn settled(registration: &Registration, index: u64) -> Settled {
    match &registration.body {
        Some(registration::Body::Variant(_)) => Settled::Variant(index),
        _ => Settled::Song(index),
    }
}

fn conclude(refused: &Refused) -> Settled {
    if RefusalCode::try_from(refused.code) == Ok(RefusalCode::DuplicateContent) {
        return Settled::Known(refused.index);
    }
    Settled::Refused(refused.detail.clone())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use antiphon_proto::{
        NetworkId, SecretKey,
        wire::{Song, Variant},
    };
    use futures::future::BoxFuture;

    use super::*;

    /// Answers from a list and remembers what it was asked.
    struct Script(Mutex<(Vec<Verdict>, Vec<Registration>)>);

    impl Orders for Script {
        fn submit(&self, registration: Registration, _hops: u32) -> BoxFuture<'static, Verdict> {
            let mut script = self.0.lock().unwrap();
            script.1.push(registration);
            let verdict = script.0.remove(0);
            Box::pin(async move { verdict })
        }
    }

    fn refused(code: RefusalCode, index: u64) -> Verdict {
        Verdict::Refused(Refused { code: code.into(), detail: "no".into(), song_id: vec![8; 32], index })
    }

    async fn run(answers: Vec<Verdict>) -> (Settled, Vec<Registration>) {
        let registrant = Registrant {
            wallet: SecretKey::from_seed(&[1; 32]),
            artist_names: vec![],
            network: NetworkId([2; 32]),
            stamp_bits: 4,
        };
        let script = Arc::new(Script(Mutex::new((answers, vec![]))));
        let registrar = Registrar::new(Arc::new(registrant), script.clone());
        let song = Song { content_hash: vec![7; 32], bytes: 16_000, duration_ms: 1_000, ..Song::default() };
        let settled = registrar.settle(Registration::of_song(song)).await;
        let asked = script.0.lock().unwrap().1.clone();
        (settled, asked)
    }

    #[tokio::test]
    async fn a_near_duplicate_becomes_a_signed_variant() {
        let accepted = Verdict::Accepted { index: 5, height: 2 };
        let (settled, asked) = run(vec![refused(RefusalCode::NearDuplicate, 3), accepted]).await;
        assert_eq!(settled, Settled::Variant(5));
        let Some(registration::Body::Variant(variant)) = &asked[1].body else { panic!() };
        assert_eq!((variant.song_id.clone(), variant.bitrate_kbps), (vec![8; 32], 128));
        variant.check_form().unwrap();
        variant.check_proofs(&NetworkId([2; 32]), 4).unwrap();
    }

    #[tokio::test]
    async fn answers_are_followed() {
        assert_eq!(run(vec![Verdict::Accepted { index: 1, height: 1 }]).await.0, Settled::Song(1));
        assert_eq!(run(vec![refused(RefusalCode::DuplicateContent, 4)]).await.0, Settled::Known(4));
        assert_eq!(run(vec![refused(RefusalCode::BadStamp, 0)]).await.0, Settled::Refused("no".into()));
        let (settled, _) = run(vec![Verdict::Unavailable("later".into())]).await;
        assert!(matches!(settled, Settled::Waiting(_, reason) if reason == "later"));
        let answers = vec![refused(RefusalCode::NearDuplicate, 3), Verdict::Unavailable("later".into())];
        let (settled, _) = run(answers).await;
        let Settled::Waiting(kept, _) = settled else { panic!() };
        assert!(matches!(kept.body, Some(registration::Body::Variant(Variant { .. }))));
    }
}
