//! From a signed registration to its place in the ledger, whatever happens on the way.

use std::{sync::Arc, time::Duration};

use antiphon_ledger::Ledger;
use antiphon_proto::{
    ContentHash, SongId,
    wire::{RefusalCode, Refused, Registration, Song, registration},
};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::describe::{Registrant, content_of};
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

/// How long an answer from elsewhere may be ahead of the own ledger.
const CATCH_UP: Duration = Duration::from_secs(20);
/// An answer that only receipts get.
const KEPT: &str = "whoever was asked takes it for a receipt";

/// What the own ledger says, in which every block was checked here. An answer that came over the network is a hint
/// until the own ledger bears it out: a peer that lies must not make this one sign or forget anything.
pub trait Witness: Send + Sync {
    /// The block that holds a content. Blocks on the disk.
    fn holds(&self, content: &ContentHash) -> Option<u64>;
    /// The song that the near-duplicate rule takes this one for. Blocks on the disk.
    fn similar(&self, song: &Song) -> Option<SongId>;
    /// Changes when the ledger grows.
    fn grows(&self) -> watch::Receiver<u64>;
}

impl Witness for Ledger {
    fn holds(&self, content: &ContentHash) -> Option<u64> {
        self.by_content(content).ok().flatten().map(|entry| entry.index)
    }

    fn similar(&self, song: &Song) -> Option<SongId> {
        let similar = self.check_near_duplicate(song).ok().flatten()?;
        self.song(similar.index).ok().flatten().map(|song| song.id())
    }

    fn grows(&self) -> watch::Receiver<u64> {
        self.watch()
    }
}

/// Submits registrations and follows up on refusals that have a way out.
#[derive(Clone)]
pub struct Registrar {
    registrant: Arc<Registrant>,
    orders: Arc<dyn Orders>,
    witness: Arc<dyn Witness>,
}

impl Registrar {
    /// Submits for `registrant` through `orders`, and believes what `witness` bears out.
    #[must_use]
    pub fn new(registrant: Arc<Registrant>, orders: Arc<dyn Orders>, witness: Arc<dyn Witness>) -> Self {
        Self { registrant, orders, witness }
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
            Verdict::Accepted { .. } => return self.confirm(registration, true).await,
            Verdict::Unavailable(reason) => return Settled::Waiting(Box::new(registration), reason),
            Verdict::Kept => return Settled::Waiting(Box::new(registration), KEPT.into()),
            Verdict::Refused(refused) => refused,
        };
        if RefusalCode::try_from(refused.code) != Ok(RefusalCode::NearDuplicate) {
            return self.conclude(registration, &refused).await;
        }
        let Some(variant) = self.as_variant(&registration).await else {
            let reason = "the network knows a song like it that is not in the own ledger yet";
            return Settled::Waiting(Box::new(registration), reason.into());
        };
        match self.orders.submit(variant.clone(), 0).await {
            Verdict::Accepted { .. } => self.confirm(variant, true).await,
            Verdict::Unavailable(reason) => Settled::Waiting(Box::new(variant), reason),
            Verdict::Kept => Settled::Waiting(Box::new(variant), KEPT.into()),
            Verdict::Refused(refused) => self.conclude(variant, &refused).await,
        }
    }

    /// The signed variant of the song that our own rule takes this one for; waits for the ledger to have it.
    async fn as_variant(&self, registration: &Registration) -> Option<Registration> {
        let Some(registration::Body::Song(song)) = registration.body.clone() else { return None };
        let (this, sought) = (self.clone(), song.clone());
        let of = self.ask(move || this.witness.similar(&sought)).await?;
        let this = self.clone();
        let variant = Registration::of_variant(self.registrant.variant(&of, &song));
        tokio::task::spawn_blocking(move || this.registrant.seal(variant, &|| true)).await.ok().flatten()
    }

    async fn conclude(&self, registration: Registration, refused: &Refused) -> Settled {
        match RefusalCode::try_from(refused.code) {
            Ok(RefusalCode::DuplicateContent) => self.confirm(registration, false).await,
            // What is wrong with a registration itself, we see too. All else may pass: clocks, quotas, a song that is
            // on its way, a peer that errs.
            _ => match registration.check(&self.registrant.network, self.registrant.stamp_bits) {
                Err(_) => Settled::Refused(refused.detail.clone()),
                Ok(()) => Settled::Waiting(Box::new(registration), refused.detail.clone()),
            },
        }
    }

    /// Waits until the own ledger holds the content.
    async fn confirm(&self, registration: Registration, new: bool) -> Settled {
        let Some(content) = content_of(&registration) else {
            return Settled::Refused("no content hash".into());
        };
        let this = self.clone();
        let index = self.ask(move || this.witness.holds(&content)).await;
        match (index, new, &registration.body) {
            (None, _, _) => {
                Settled::Waiting(Box::new(registration), "accepted, but not in the own ledger yet".into())
            }
            (Some(index), false, _) => Settled::Known(index),
            (Some(index), true, Some(registration::Body::Variant(_))) => Settled::Variant(index),
            (Some(index), true, _) => Settled::Song(index),
        }
    }

    /// Asks the own ledger, again whenever it grows, until it knows or too much time has passed.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl Fn() -> Option<T> + Clone + Send + 'static,
    ) -> Option<T> {
        let mut grows = self.witness.grows();
        let deadline = Instant::now() + CATCH_UP;
        loop {
            grows.borrow_and_update();
            let asked = tokio::task::spawn_blocking(question.clone()).await.ok().flatten();
            if asked.is_some() {
                return asked;
            }
            match timeout_at(deadline, grows.changed()).await {
                Ok(Ok(())) => {}
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use antiphon_proto::{NetworkId, SecretKey, wire::Variant};
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

    /// A ledger that holds and likes what it is told to.
    struct Says {
        holds: Option<u64>,
        similar: Option<SongId>,
        grows: watch::Sender<u64>,
    }

    impl Witness for Says {
        fn holds(&self, _: &ContentHash) -> Option<u64> {
            self.holds
        }

        fn similar(&self, _: &Song) -> Option<SongId> {
            self.similar
        }

        fn grows(&self) -> watch::Receiver<u64> {
            self.grows.subscribe()
        }
    }

    async fn run(
        answers: Vec<Verdict>,
        holds: Option<u64>,
        similar: Option<SongId>,
    ) -> (Settled, Vec<Registration>) {
        let registrant = Registrant {
            wallet: Some(SecretKey::from_seed(&[1; 32]).into()),
            artist_names: vec![],
            network: NetworkId([2; 32]),
            stamp_bits: 4,
            terms: None,
        };
        let script = Arc::new(Script(Mutex::new((answers, vec![]))));
        let witness = Says { holds, similar, grows: watch::Sender::new(0) };
        let registrar = Registrar::new(Arc::new(registrant), script.clone(), Arc::new(witness));
        let song = Song {
            registrant: SecretKey::from_seed(&[1; 32]).public().0.to_vec(),
            fingerprint: vec![1],
            content_hash: vec![7; 32],
            bytes: 16_000,
            duration_ms: 1_000,
            title: "t".into(),
            created_ms: 1,
            ..Song::default()
        };
        let signed = registrar.registrant().seal(Registration::of_song(song), &|| true).unwrap();
        let settled = registrar.settle(signed).await;
        let asked = script.0.lock().unwrap().1.clone();
        (settled, asked)
    }

    const ACCEPTED: Verdict = Verdict::Accepted { index: 5, height: 2 };

    #[tokio::test]
    async fn a_near_duplicate_becomes_a_signed_variant_of_what_the_own_rule_finds() {
        // The answer names song 8…; the own ledger says 9….
        let answers = vec![refused(RefusalCode::NearDuplicate, 3), ACCEPTED];
        let (settled, asked) = run(answers, Some(6), Some(SongId([9; 32]))).await;
        assert_eq!(settled, Settled::Variant(6));
        let Some(registration::Body::Variant(variant)) = &asked[1].body else { panic!() };
        assert_eq!((variant.song_id.clone(), variant.bitrate_kbps), (vec![9; 32], 128));
        variant.check_form().unwrap();
        variant.check_proofs(&NetworkId([2; 32]), 4).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_signed_or_believed_on_a_strangers_word() {
        let (settled, asked) = run(vec![refused(RefusalCode::NearDuplicate, 3)], None, None).await;
        assert!(matches!(settled, Settled::Waiting(..)));
        assert_eq!(asked.len(), 1);
        for answer in [ACCEPTED, refused(RefusalCode::DuplicateContent, 4), refused(RefusalCode::BadStamp, 0)]
        {
            let (settled, _) = run(vec![answer], None, None).await;
            assert!(matches!(settled, Settled::Waiting(..)), "{settled:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_followed() {
        assert_eq!(run(vec![ACCEPTED], Some(1), None).await.0, Settled::Song(1));
        assert_eq!(
            run(vec![refused(RefusalCode::DuplicateContent, 4)], Some(4), None).await.0,
            Settled::Known(4)
        );
        let (settled, _) = run(vec![refused(RefusalCode::Time, 0)], None, None).await;
        assert!(matches!(settled, Settled::Waiting(..)));
        let (settled, _) = run(vec![Verdict::Unavailable("later".into())], None, None).await;
        assert!(matches!(settled, Settled::Waiting(_, reason) if reason == "later"));
        let answers = vec![refused(RefusalCode::NearDuplicate, 3), Verdict::Unavailable("later".into())];
        let (settled, _) = run(answers, None, Some(SongId([9; 32]))).await;
        let Settled::Waiting(kept, _) = settled else { panic!() };
        assert!(matches!(kept.body, Some(registration::Body::Variant(Variant { .. }))));
    }
}
