//! Moves the bytes of a circuit.
//!
//! Each direction has one buffer: what was read is written before more is read, so that a slow reader slows its writer
//! down, and nothing piles up here. A direction that waits holds a small buffer; one that finds it full gets a large one
//! for as long as bytes come without a pause.

use std::{io, time::Duration};

use antiphon_proto::wire::AudioMode;
use futures::{
    AsyncReadExt, AsyncWriteExt, FutureExt,
    future::try_join,
    io::{ReadHalf, WriteHalf},
};
use libp2p::PeerId;
use tokio::{sync::watch, task, time};

use super::{book::Book, refusal::Refusal};
use crate::{
    pacing::{LONGEST_PIECE, Pacer, Sharer},
    streams::PeerStream,
};

/// The buffer of a direction in which bytes flow: as long as the longest piece that pacing lets go, and long enough that
/// the cost of each turn does not show.
const FLOWING_BYTES: usize = 64 * 1024;
const _: () = assert!(FLOWING_BYTES as u64 == LONGEST_PIECE);
/// The buffer of a direction that waits: pings and small requests fit, and 1,024 circuits hold 4 MiB of them.
const WAITING_BYTES: usize = 2 * 1024;

/// Two peers, whatever the number of circuits between them: they share the rate as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Pair {
    smaller: PeerId,
    larger: PeerId,
}

impl Pair {
    pub(super) fn new(one: PeerId, other: PeerId) -> Self {
        Self { smaller: one.min(other), larger: one.max(other) }
    }
}

impl Sharer for Pair {
    type Peer = PeerId;

    fn peers(&self) -> impl Iterator<Item = PeerId> {
        [self.smaller, self.larger].into_iter()
    }
}

/// Why a circuit ended before its peers ended it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("it lasted {0:?}")]
    TooLong(Duration),
    #[error("a peer takes nothing for {0:?}")]
    Stuck(Duration),
    #[error("one half has ended, and the other says nothing for {0:?}")]
    Left(Duration),
    #[error("{0}")]
    Broken(#[from] io::Error),
}

/// What a circuit needs.
pub(super) struct Carrier<'a> {
    pub(super) book: &'a Book,
    pub(super) pacer: &'a Pacer<Pair>,
    pub(super) pair: Pair,
    /// A reader that takes nothing for so long ends its circuit, and so does a writer that brings nothing when the other
    /// has ended its half.
    pub(super) write: Duration,
    /// How long it may last.
    pub(super) duration: Duration,
}

impl Carrier<'_> {
    /// Carries until both directions have ended, or one breaks, or it has to be cut.
    pub(super) async fn carry(&self, source: PeerStream, destination: PeerStream) -> Result<(), Cut> {
        let mut spent = self.book.spent();
        let (from_source, to_source) = source.split();
        let (from_destination, to_destination) = destination.split();
        let half = watch::channel(false).0;
        let there = self.direction(from_source, to_destination, &half);
        let back = self.direction(from_destination, to_source, &half);
        tokio::select! {
            ended = try_join(there, back) => ended.map(|_| ()),
            () = time::sleep(self.duration) => Err(Cut::TooLong(self.duration)),
            // Its sender lives as long as the book.
            _ = spent.changed() => Err(Refusal::Month.into()),
        }
    }

    /// Carries one direction, and its end.
    async fn direction(
        &self,
        mut from: ReadHalf<PeerStream>,
        mut to: WriteHalf<PeerStream>,
        half: &watch::Sender<bool>,
    ) -> Result<(), Cut> {
        let mut other_ended = half.subscribe();
        let mut buffer = vec![0; WAITING_BYTES];
        loop {
            let at_once = from.read(&mut buffer).now_or_never();
            let read = match at_once {
                Some(read) => read?,
                None => {
                    self.in_time(to.flush()).await?;
                    if buffer.len() > WAITING_BYTES {
                        buffer = vec![0; WAITING_BYTES];
                    }
                    let left = async {
                        // Its sender outlives both directions.
                        let _ = other_ended.wait_for(|ended| *ended).await;
                        time::sleep(self.write).await;
                    };
                    tokio::select! {
                        read = from.read(&mut buffer) => read?,
                        () = left => return Err(Cut::Left(self.write)),
                    }
                }
            };
            if read == 0 {
                half.send_replace(true);
                return self.in_time(to.close()).await;
            }
            self.write(&mut to, &buffer[..read]).await?;
            // Two fast peers never make this task wait, and other tasks want their turn.
            task::consume_budget().await;
            if read == buffer.len() && read < FLOWING_BYTES {
                buffer = vec![0; FLOWING_BYTES];
            }
        }
    }

    async fn write(&self, to: &mut WriteHalf<PeerStream>, bytes: &[u8]) -> Result<(), Cut> {
        let mut rest = bytes;
        while !rest.is_empty() {
            // Nobody can see what a circuit is for, so all of them are alike.
            let permitted = self.pacer.permit(self.pair, AudioMode::Bulk, rest.len()).await;
            let (mut now, later) = rest.split_at(permitted.min(rest.len()));
            self.book.spend([self.pair.smaller, self.pair.larger], now.len() as u64)?;
            while !now.is_empty() {
                match self.in_time(to.write(now)).await? {
                    0 => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                    written => now = &now[written..],
                }
            }
            rest = later;
        }
        Ok(())
    }

    async fn in_time<T>(&self, work: impl Future<Output = io::Result<T>>) -> Result<T, Cut> {
        match time::timeout(self.write, work).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(Cut::Stuck(self.write)),
        }
    }
}
