//! What a block gives by itself (hashes, and what the chain is about), found out by other threads, bundle by bundle.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, Scope},
};

use antiphon_proto::{
    BlockHash,
    record::Invalid,
    wire::{Block, block},
};

use crate::{
    log::{
        proof::Hash,
        tile::{entries_up_to, fold},
    },
    tree::leaf_hash,
};

/// Threads at most: beyond this, what one thread must do in order is the limit.
const MOST_THREADS: usize = 8;

/// What one block gives by itself.
pub(super) struct Seen {
    pub(super) leaf: Hash,
    pub(super) hash: BlockHash,
    pub(super) frame: Result<Frame, Invalid>,
}

/// What the chain is about in a block.
pub(super) struct Frame {
    pub(super) index: u64,
    pub(super) prev: [u8; 32],
    pub(super) height: u64,
    pub(super) time_ms: u64,
    pub(super) song: bool,
    /// The block itself, when somebody will look at it: most are dropped by the thread that has read them.
    pub(super) block: Option<Block>,
}

impl Seen {
    fn of(bytes: &[u8], keep: bool) -> Self {
        Self { leaf: leaf_hash(bytes), hash: BlockHash::of(bytes), frame: Frame::of(bytes, keep) }
    }
}

impl Frame {
    fn of(bytes: &[u8], keep: bool) -> Result<Self, Invalid> {
        let block = Block::parse(bytes)?;
        let song = matches!(block.body, Some(block::Body::Song(_)));
        let usual = song || matches!(block.body, Some(block::Body::Variant(_)));
        Ok(Self {
            index: block.index,
            prev: block.prev_hash()?.0,
            height: block.height,
            time_ms: block.time_ms,
            song,
            block: (keep || !usual).then_some(block),
        })
    }
}

/// What the blocks of a bundle give.
pub(super) struct SeenBundle {
    /// One for each whole entry.
    pub(super) blocks: Vec<Seen>,
    /// Hash over all leaves; means something only when their number is a power of two.
    pub(super) root: Hash,
}

impl SeenBundle {
    fn of(bytes: &[u8], width: u16, keep: bool) -> Self {
        let (entries, _) = entries_up_to(bytes, width);
        let blocks: Vec<Seen> = entries.into_iter().map(|entry| Seen::of(entry, keep)).collect();
        let leaves: Vec<Hash> = blocks.iter().map(|seen| seen.leaf).collect();
        Self { blocks, root: fold(&leaves) }
    }
}

struct Job {
    bytes: Arc<Vec<u8>>,
    width: u16,
    keep: bool,
    done: SyncSender<SeenBundle>,
}

/// A bundle that is being looked at.
pub(super) struct Pending {
    bytes: Arc<Vec<u8>>,
    width: u16,
    keep: bool,
    done: Option<Receiver<SeenBundle>>,
}

impl Pending {
    /// Waits for the result. Without a thread that makes it, it is made here.
    pub(super) fn wait(self) -> (Arc<Vec<u8>>, SeenBundle) {
        let done = self.done.and_then(|done| done.recv().ok());
        let seen = done.unwrap_or_else(|| SeenBundle::of(&self.bytes, self.width, self.keep));
        (self.bytes, seen)
    }
}

/// The threads; they end when this is dropped.
pub(super) struct Lookers {
    jobs: SyncSender<Job>,
    threads: usize,
    keep: bool,
}

impl Lookers {
    /// As many as there are cores, for as long as the scope lasts. With `keep` every block comes back whole.
    pub(super) fn start<'scope>(scope: &'scope Scope<'scope, '_>, keep: bool) -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MOST_THREADS);
        let (jobs, waiting) = sync_channel::<Job>(cores);
        let waiting = Arc::new(Mutex::new(waiting));
        let threads = (0..cores)
            .filter(|_| {
                let waiting = Arc::clone(&waiting);
                let thread = thread::Builder::new().name("dump-verify".to_owned());
                thread.spawn_scoped(scope, move || look(&waiting)).is_ok()
            })
            .count();
        Self { jobs, threads, keep }
    }

    /// Bundles that are worth handing over before the first is waited for.
    pub(super) const fn ahead(&self) -> usize {
        self.threads
    }

    /// Hands a bundle over.
    pub(super) fn look(&self, bytes: Vec<u8>, width: u16) -> Pending {
        let bytes = Arc::new(bytes);
        let (done, result) = sync_channel(1);
        let job = Job { bytes: Arc::clone(&bytes), width, keep: self.keep, done };
        let taken = self.threads > 0 && self.jobs.send(job).is_ok();
        Pending { bytes, width, keep: self.keep, done: taken.then_some(result) }
    }
}

fn look(waiting: &Mutex<Receiver<Job>>) {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        // Nobody waits any more when something was wrong before.
        let _ = job.done.send(SeenBundle::of(&job.bytes, job.width, job.keep));
    }
}
