//! Learning a library, by the real encodings.

use antiphon_p2p::presence::{
    Learned, pages,
    reconcile::{Learner, Teacher},
};
use roaring::RoaringBitmap;

use super::{FRAME, Kind, World, at};
use crate::presence::{Rng, memory::library};

impl World {
    /// A library with the bytes and round trips that it takes to learn it.
    pub(super) fn learn(&mut self, of: u32, known: Option<&RoaringBitmap>) -> Option<(Learned, u64, u64)> {
        let settings = &self.settings;
        let (sequence, sum, set) = match &self.peers[at(of)].kind {
            Kind::Core(core) => {
                let own = core.own_library();
                (own.sequence, own.sum, (*own.set).clone())
            }
            Kind::Model(model) => {
                let mut rng = Rng::new(settings.seed ^ (u64::from(of) << 32));
                let set = library(&mut rng, settings.songs, settings.ledger, settings.albums);
                (model.sequence, model.sum, set)
            }
            Kind::Off => return None,
        };
        let (set, bytes, trips) = match known {
            None => {
                let bytes: usize = pages::encode(&set).iter().map(Vec::len).sum();
                (set, u64::try_from(bytes).unwrap_or(0) + 2 * FRAME, 1)
            }
            Some(known) => reconcile(known.clone(), set)?,
        };
        Some((Learned { sequence, set, sum }, bytes, trips))
    }
}

fn reconcile(known: RoaringBitmap, real: RoaringBitmap) -> Option<(RoaringBitmap, u64, u64)> {
    let (mut learner, mut message) = Learner::new(known).ok()?;
    let mut teacher = Teacher::new(real).ok()?;
    let (mut bytes, mut trips) = (0, 0);
    loop {
        let answer = teacher.step(&message).ok()?;
        trips += 1;
        bytes += u64::try_from(message.len() + answer.len()).unwrap_or(0) + 2 * FRAME;
        match learner.step(&answer).ok()? {
            Some(next) => message = next,
            None => return Some((learner.finish(), bytes, trips)),
        }
    }
}
