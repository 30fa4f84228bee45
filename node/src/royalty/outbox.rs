//! Receipts on their way to the council.
//!
//! One file each, named by its id, in the data directory's folder `receipts`. A receipt is on disk before anybody is told
//! that it is kept, and goes when it is settled, refused for good, or older than the window in which it counts. A member
//! of the council that has it on its own disk is asked again once in an epoch, until a settlement holds it.
//!
//! Two locks: `disk` is held by whoever writes or removes files, `waiting` for a moment by whoever looks what is there.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use antiphon_proto::{
    NetworkId, canonical, limits,
    play::ReceiptId,
    wire::{Economy, Receipt, RefusalCode, Registration, registration::Body},
};
use anyhow::Context;
use data_encoding::HEXLOWER;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    peer::orders::{Orders, Verdict},
    system::{clock, durable},
};

/// Receipts that wait: 10 MB, and a week of a server that witnesses a play a minute.
const RECEIPTS: usize = 10_000;
/// Receipts handed in at once: registrations of songs go the same way, and come first.
const AT_ONCE: usize = 4;
/// First and longest pause while nobody takes them.
const RETRIES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// What a receipt that is beyond repair is called from then on.
const DAMAGED: &str = "damaged";

/// When receipts are asked about again, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// From one settlement to the next.
    pub epoch: Duration,
    /// How long after its end a play may be settled.
    pub window: Duration,
}

impl Pace {
    /// Of a network's rules.
    #[must_use]
    pub fn of(economy: &Economy) -> Self {
        let millis = |ms: u32| Duration::from_millis(ms.into());
        Self { epoch: millis(economy.epoch_ms), window: millis(economy.window_ms) }
    }

    /// Whether a play that ended then can be settled no more, whoever's clock is right.
    fn is_over(&self, end_ms: u64, now_ms: u64) -> bool {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let last = end_ms.saturating_add(millis(self.window)).saturating_add(millis(self.epoch));
        now_ms > last.saturating_add(limits::CLOCK_AHEAD_MS)
    }
}

/// A receipt that waits.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    /// When its play ended.
    end_ms: u64,
    /// When it is handed in next; at once when there is no time.
    next: Option<Instant>,
}

/// The receipts that wait.
#[derive(Debug)]
pub struct Outbox {
    folder: PathBuf,
    network: NetworkId,
    most: usize,
    disk: Mutex<()>,
    waiting: Mutex<BTreeMap<ReceiptId, Waiting>>,
    /// There is a new one.
    arrived: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Both are whole at every unlock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outbox {
    /// Opens the folder, or makes it. A file that cannot be read is put aside, with a warning. Blocks on the disk.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn open(folder: &Path, network: NetworkId) -> anyhow::Result<Self> {
        Self::bounded(folder, network, RECEIPTS)
    }

    fn bounded(folder: &Path, network: NetworkId, most: usize) -> anyhow::Result<Self> {
        let shown = folder.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("cannot make the folder {shown}"))?;
        let outbox = Self {
            folder: folder.to_owned(),
            network,
            most,
            disk: Mutex::default(),
            waiting: Mutex::default(),
            arrived: Notify::new(),
        };
        let mut waiting = BTreeMap::new();
        for entry in fs::read_dir(folder).with_context(|| format!("cannot read the folder {shown}"))? {
            let path = entry?.path();
            match path.extension().and_then(OsStr::to_str) {
                None => {}
                // Half a receipt of a crash.
                Some("new") => fs::remove_file(&path)?,
                Some(_) => continue,
            }
            let Some(id) = path.file_stem().and_then(OsStr::to_str).and_then(id_of) else { continue };
            if path.extension().is_none() {
                match outbox.read(&id) {
                    Ok(receipt) => {
                        let end_ms = receipt.body().map_or(0, |body| body.end_ms);
                        waiting.insert(id, Waiting { end_ms, next: None });
                    }
                    Err(error) => outbox.put_aside(&id, &error),
                }
            }
        }
        *lock(&outbox.waiting) = waiting;
        outbox.make_room(0);
        Ok(outbox)
    }

    /// Keeps a receipt: it is on disk when this returns. One that is there already changes nothing. When there are too
    /// many, the oldest goes, with a warning. Blocks on the disk.
    ///
    /// # Errors
    /// Whatever the file system says, and receipts that are not signed by both.
    pub fn put(&self, receipt: &Receipt) -> io::Result<ReceiptId> {
        let checked = receipt.check_form().and_then(|()| receipt.check_proofs(&self.network));
        checked.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let (id, end_ms) = (receipt.id(), receipt.body().map_or(0, |body| body.end_ms));
        let _disk = lock(&self.disk);
        if lock(&self.waiting).contains_key(&id) {
            return Ok(id);
        }
        durable::write(&self.path(&id), &canonical::encode(receipt), 0o600)?;
        self.make_room(1);
        lock(&self.waiting).insert(id, Waiting { end_ms, next: None });
        self.arrived.notify_one();
        Ok(id)
    }

    /// Receipts that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.waiting).len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hands them in, as they come and again as [`Pace`] has it, until `cancel`.
    pub async fn hand_in(self: Arc<Self>, orders: Arc<dyn Orders>, pace: Pace, cancel: CancellationToken) {
        let mut asked: JoinSet<(ReceiptId, Option<Verdict>)> = JoinSet::new();
        let (mut pause, mut not_before) = (RETRIES.0, Instant::now());
        loop {
            self.drop_old(&pace).await;
            let now = Instant::now();
            if now >= not_before {
                while asked.len() < AT_ONCE {
                    let Some(id) = self.take_due(now, now + pace.epoch) else { break };
                    asked.spawn(self.clone().ask(id, orders.clone()));
                }
            }
            let next = self.next_due().max(not_before).min(now + pace.epoch);
            let is_full = asked.len() >= AT_ONCE;
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.arrived.notified(), if !is_full => {}
                () = sleep_until(next.max(now + Duration::from_millis(1))), if !is_full => {}
                Some(answer) = asked.join_next(), if !asked.is_empty() => {
                    let Ok((id, verdict)) = answer else { continue };
                    match verdict {
                        Some(Verdict::Unavailable(reason)) => {
                            tracing::debug!(reason, "nobody takes receipts; they are kept");
                            self.again_at(&id, None);
                            not_before = Instant::now() + pause;
                            pause = (pause * 2).min(RETRIES.1);
                        }
                        verdict => {
                            (pause, not_before) = (RETRIES.0, now);
                            self.answered(id, verdict).await;
                        }
                    }
                }
            }
        }
    }

    /// Hands one in; none when it cannot be read.
    async fn ask(self: Arc<Self>, id: ReceiptId, orders: Arc<dyn Orders>) -> (ReceiptId, Option<Verdict>) {
        let this = self.clone();
        let read = tokio::task::spawn_blocking(move || match this.read(&id) {
            Ok(receipt) => Some(receipt),
            Err(error) => {
                let _disk = lock(&this.disk);
                // It may have gone meanwhile, in order.
                if lock(&this.waiting).contains_key(&id) {
                    this.put_aside(&id, &error);
                }
                None
            }
        });
        let Ok(Some(receipt)) = read.await else { return (id, None) };
        let verdict = orders.submit(Registration { body: Some(Body::Receipt(receipt)) }, 0).await;
        (id, Some(verdict))
    }

    async fn answered(self: &Arc<Self>, id: ReceiptId, verdict: Option<Verdict>) {
        let shown = HEXLOWER.encode(&id);
        match verdict {
            Some(Verdict::Accepted { index, .. }) => {
                tracing::debug!(receipt = shown, index, "settled");
                self.remove(id).await;
            }
            Some(Verdict::Refused(refused)) if is_final(refused.code()) => {
                tracing::warn!(receipt = shown, code = ?refused.code(), detail = refused.detail, "a play is not paid");
                self.remove(id).await;
            }
            Some(Verdict::Refused(refused)) => {
                tracing::debug!(
                    receipt = shown,
                    detail = refused.detail,
                    "not now; asked again in the next epoch"
                );
            }
            Some(Verdict::Kept | Verdict::Unavailable(_)) => {}
            // It is put aside.
            None => {
                lock(&self.waiting).remove(&id);
            }
        }
    }

    /// The oldest that is due; from now on it is due at `again`, whatever the answer.
    fn take_due(&self, now: Instant, again: Instant) -> Option<ReceiptId> {
        let mut waiting = lock(&self.waiting);
        let due = waiting.iter_mut().filter(|(_, waiting)| waiting.next.is_none_or(|next| next <= now));
        let (id, oldest) = due.min_by_key(|(_, waiting)| waiting.end_ms)?;
        oldest.next = Some(again);
        Some(*id)
    }

    fn again_at(&self, id: &ReceiptId, next: Option<Instant>) {
        if let Some(waiting) = lock(&self.waiting).get_mut(id) {
            waiting.next = next;
        }
    }

    /// When the first one is due; far away when there is none.
    fn next_due(&self) -> Instant {
        let now = Instant::now();
        let waiting = lock(&self.waiting);
        let first = waiting.values().map(|waiting| waiting.next.unwrap_or(now)).min();
        first.unwrap_or(now + Duration::from_secs(3_600))
    }

    /// Removes those that count no more.
    async fn drop_old(self: &Arc<Self>, pace: &Pace) {
        let now_ms = clock::now_ms();
        let old: Vec<ReceiptId> = lock(&self.waiting)
            .iter()
            .filter(|(_, waiting)| pace.is_over(waiting.end_ms, now_ms))
            .map(|(id, _)| *id)
            .collect();
        for id in old {
            let receipt = HEXLOWER.encode(&id);
            tracing::warn!(receipt, "a play was not settled in time, and counts no more");
            self.remove(id).await;
        }
    }

    async fn remove(self: &Arc<Self>, id: ReceiptId) {
        let this = self.clone();
        let _ = tokio::task::spawn_blocking(move || {
            let _disk = lock(&this.disk);
            this.forget(&id);
        })
        .await;
    }

    /// Whoever calls holds `disk`, or is alone.
    fn forget(&self, id: &ReceiptId) {
        lock(&self.waiting).remove(id);
        // If the removal is lost in a power cut, the receipt is handed in once more, which is safe.
        if let Err(error) = fs::remove_file(self.path(id)) {
            tracing::warn!(%error, receipt = HEXLOWER.encode(id), "a receipt cannot be removed");
        }
    }

    /// The oldest go until there is room for so many.
    fn make_room(&self, more: usize) {
        loop {
            let oldest = {
                let waiting = lock(&self.waiting);
                if waiting.len().saturating_add(more) <= self.most {
                    return;
                }
                waiting.iter().min_by_key(|(_, waiting)| waiting.end_ms).map(|(id, _)| *id)
            };
            let Some(oldest) = oldest else { return };
            tracing::warn!(
                receipt = HEXLOWER.encode(&oldest),
                "too many receipts wait; the oldest is dropped"
            );
            self.forget(&oldest);
        }
    }

    fn read(&self, id: &ReceiptId) -> io::Result<Receipt> {
        let bytes = fs::read(self.path(id))?;
        let invalid = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
        let receipt: Receipt = canonical::decode("receipt", limits::RECEIPT_BYTES, &bytes)
            .map_err(|error| invalid(error.to_string()))?;
        if receipt.id() != *id {
            return Err(invalid("it is not the receipt that its name says".to_owned()));
        }
        receipt.check_form().map_err(|error| invalid(error.to_string()))?;
        Ok(receipt)
    }

    fn put_aside(&self, id: &ReceiptId, error: &io::Error) {
        let path = self.path(id);
        tracing::warn!(%error, path = %path.display(), "a receipt is damaged; it is put aside");
        if let Err(error) = fs::rename(&path, path.with_extension(DAMAGED)) {
            tracing::warn!(%error, path = %path.display(), "a damaged receipt cannot be put aside");
        }
    }

    fn path(&self, id: &ReceiptId) -> PathBuf {
        self.folder.join(HEXLOWER.encode(id))
    }
}

fn id_of(name: &str) -> Option<ReceiptId> {
    HEXLOWER.decode(name.as_bytes()).ok()?.try_into().ok()
}

/// Whether what is wrong is the receipt itself. All else may pass: clocks, a song that is on its way, an account that is
/// filled, a council that changes.
fn is_final(code: RefusalCode) -> bool {
    matches!(
        code,
        RefusalCode::Malformed
            | RefusalCode::Limit
            | RefusalCode::BadSignature
            | RefusalCode::Terms
            | RefusalCode::Forbidden
            | RefusalCode::Receipt
    )
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::VecDeque;

    use antiphon_proto::{
        SecretKey,
        wire::{ReceiptBody, Refused, Served, Span},
    };
    use futures::future::BoxFuture;
    use tokio::time::sleep;

    use super::*;

    pub(crate) const NETWORK: NetworkId = NetworkId([1; 32]);
    const PACE: Pace = Pace { epoch: Duration::from_secs(600), window: Duration::from_secs(86_400) };

    fn receipt(session: u8, end_ms: u64) -> Receipt {
        let (listener, witness) = (SecretKey::from_seed(&[3; 32]), SecretKey::from_seed(&[4; 32]));
        let body = ReceiptBody {
            session: vec![session; 16],
            song_id: vec![2; 32],
            listener: listener.public().0.to_vec(),
            witness: witness.public().0.to_vec(),
            start_ms: end_ms - 100_000,
            end_ms,
            heard: vec![Span { start: 0, end: 60_000 }],
            beats: 20,
            chain: vec![5; 32],
            served: vec![Served { key: witness.public().0.to_vec(), bytes: 3_000_000 }],
        };
        let message = body.to_sign(&NETWORK);
        Receipt::new(body, &listener.sign(&message), &witness.sign(&message))
    }

    /// Says what it was told to, then that it keeps everything.
    #[derive(Default)]
    struct Council {
        answers: Mutex<VecDeque<Verdict>>,
        asked: Mutex<Vec<(ReceiptId, Instant)>>,
    }

    impl Council {
        fn with(answers: impl IntoIterator<Item = Verdict>) -> Arc<Self> {
            Arc::new(Self { answers: Mutex::new(answers.into_iter().collect()), asked: Mutex::default() })
        }

        fn asked(&self) -> Vec<(ReceiptId, Instant)> {
            lock(&self.asked).clone()
        }
    }

    impl Orders for Council {
        fn submit(&self, registration: Registration, hops: u32) -> BoxFuture<'static, Verdict> {
            assert_eq!(hops, 0);
            let Some(Body::Receipt(receipt)) = registration.body else { panic!("no receipt") };
            lock(&self.asked).push((receipt.id(), Instant::now()));
            let answer = lock(&self.answers).pop_front().unwrap_or(Verdict::Kept);
            Box::pin(async move { answer })
        }
    }

    fn refused(code: RefusalCode) -> Verdict {
        Verdict::Refused(Refused { code: code.into(), ..Refused::default() })
    }

    fn files(folder: &Path) -> Vec<String> {
        let names =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_kept_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("receipts");
        let (one, two) = (receipt(1, clock::now_ms()), receipt(2, clock::now_ms()));
        let outbox = Outbox::open(&at, NETWORK).unwrap();
        assert!(outbox.is_empty());
        let id = outbox.put(&one).unwrap();
        assert_eq!((outbox.put(&one).unwrap(), outbox.put(&two).unwrap()), (id, two.id()));
        let mut forged = receipt(3, clock::now_ms());
        forged.witness_signature = forged.listener_signature.clone();
        assert!(outbox.put(&forged).is_err());
        drop(outbox);
        // A crash in the middle, a disk that errs, and a file of somebody else's.
        fs::write(at.join(format!("{}.new", HEXLOWER.encode(&[9; 32]))), b"half").unwrap();
        let damaged = HEXLOWER.encode(&two.id());
        fs::write(at.join(&damaged), b"damaged").unwrap();
        fs::write(at.join("README"), b"mine").unwrap();
        let outbox = Outbox::open(&at, NETWORK).unwrap();
        assert_eq!((outbox.len(), outbox.read(&id).unwrap()), (1, one));
        let mut left = vec!["README".to_owned(), HEXLOWER.encode(&id), format!("{damaged}.damaged")];
        left.sort();
        assert_eq!(files(&at), left);
        assert_eq!(Outbox::open(&at, NETWORK).unwrap().len(), 1);
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::bounded(folder.path(), NETWORK, 2).unwrap();
        let now = clock::now_ms();
        let ids: Vec<_> =
            [(1, 5), (2, 0), (3, 9)].map(|(n, later)| outbox.put(&receipt(n, now + later)).unwrap()).into();
        let left = |outbox: &Outbox| lock(&outbox.waiting).keys().copied().collect::<Vec<_>>();
        let mut expected = vec![ids[0], ids[2]];
        expected.sort_unstable();
        assert_eq!((left(&outbox), files(folder.path()).len()), (expected, 2));
        assert_eq!(left(&Outbox::bounded(folder.path(), NETWORK, 1).unwrap()), [ids[2]]);
    }

    #[tokio::test(start_paused = true)]
    async fn asked_until_it_is_settled() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Arc::new(Outbox::open(folder.path(), NETWORK).unwrap());
        let unavailable = || Verdict::Unavailable("nobody".to_owned());
        let settled = Verdict::Accepted { index: 7, height: 3 };
        let answers =
            [unavailable(), unavailable(), Verdict::Kept, refused(RefusalCode::UnknownSong), settled];
        let council = Council::with(answers);
        let (cancel, began) = (CancellationToken::new(), Instant::now());
        let task = tokio::spawn(outbox.clone().hand_in(council.clone(), PACE, cancel.clone()));
        sleep(Duration::from_secs(1)).await;
        let id = outbox.put(&receipt(1, clock::now_ms())).unwrap();
        sleep(Duration::from_secs(3_600)).await;
        let asked = council.asked();
        assert!(asked.iter().all(|(asked, _)| *asked == id));
        let times: Vec<u64> = asked.iter().map(|(_, at)| at.duration_since(began).as_secs()).collect();
        assert_eq!(times, [1, 3, 7, 607, 1_207]);
        assert!(outbox.is_empty() && files(folder.path()).is_empty());
        cancel.cancel();
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn refused_for_good_or_too_old_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Arc::new(Outbox::open(folder.path(), NETWORK).unwrap());
        let now = clock::now_ms();
        let day = 86_400_000;
        let old = outbox.put(&receipt(1, now - day - 2 * 600_000 - 10_000)).unwrap();
        let almost = outbox.put(&receipt(2, now - day)).unwrap();
        let fresh = outbox.put(&receipt(3, now)).unwrap();
        let council = Council::with([Verdict::Kept, refused(RefusalCode::Receipt)]);
        let task = tokio::spawn(outbox.clone().hand_in(council.clone(), PACE, CancellationToken::new()));
        sleep(Duration::from_secs(60)).await;
        let asked: Vec<_> = council.asked().into_iter().map(|(id, _)| id).collect();
        assert_eq!(asked, [almost, fresh]);
        assert_eq!(files(folder.path()), [HEXLOWER.encode(&almost)]);
        assert!(!files(folder.path()).contains(&HEXLOWER.encode(&old)));
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn many_are_handed_in_few_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Arc::new(Outbox::open(folder.path(), NETWORK).unwrap());
        for n in 0..30 {
            outbox.put(&receipt(n, clock::now_ms())).unwrap();
        }
        let settled = (0..30).map(|n| Verdict::Accepted { index: n, height: 1 });
        let council = Council::with(settled);
        let task = tokio::spawn(outbox.clone().hand_in(council.clone(), PACE, CancellationToken::new()));
        sleep(Duration::from_secs(60)).await;
        assert_eq!((council.asked().len(), outbox.len()), (30, 0));
        task.abort();
    }
}
