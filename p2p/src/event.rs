//! What the network tells its owner.

use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

/// Events that wait for their reader. A burst of connections fits; a reader that sleeps costs 100 KB, no more.
const QUEUE: usize = 1_024;

/// Something changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// First connection with a peer.
    Connected {
        /// Who.
        peer: PeerId,
        /// Where.
        addr: Multiaddr,
    },
    /// The peer told who it is.
    Identified {
        /// Who.
        peer: PeerId,
        /// Its program and version, printable characters only.
        agent: String,
    },
    /// A connected peer is another process than before; its dead connections were closed.
    Restarted {
        /// Who.
        peer: PeerId,
    },
    /// Last connection with a peer closed.
    Disconnected {
        /// Who.
        peer: PeerId,
        /// Why.
        reason: DisconnectReason,
    },
    /// A new address is listened on.
    ListenAddr {
        /// The address, without the peer id.
        addr: Multiaddr,
    },
    /// An address is no longer listened on.
    ListenAddrGone {
        /// The address, without the peer id.
        addr: Multiaddr,
    },
    /// A peer misbehaved and is not spoken to for a while.
    Banned {
        /// Who.
        peer: PeerId,
        /// For how long.
        duration: Duration,
    },
    /// Events were lost because nobody read them: ask [`crate::Network::peers`] for the present state.
    Lagged {
        /// How many.
        missed: u64,
    },
}

/// Why a peer is no longer connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DisconnectReason {
    /// Closed in order, by the other side or because nobody used it.
    Closed,
    /// The connection broke.
    Error(String),
    /// Pings stayed unanswered.
    Silent,
    /// This side was told to.
    Local(String),
    /// It is banned.
    Banned,
}

/// The sending end. It never waits: the swarm must go on when nobody listens. A full queue loses the newest events
/// and says how many as soon as there is room, because a reader that missed some must look at the whole state anyway.
#[derive(Debug)]
pub(crate) struct EventSender {
    sender: mpsc::Sender<Event>,
    missed: u64,
}

impl EventSender {
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self { sender, missed: 0 }, receiver)
    }

    pub(crate) fn send(&mut self, event: Event) {
        if self.missed > 0 && self.sender.try_send(Event::Lagged { missed: self.missed }).is_ok() {
            self.missed = 0;
        }
        let lost = self.missed > 0 || self.sender.try_send(event).is_err();
        self.missed = self.missed.saturating_add(u64::from(lost));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_sleeps_learns_how_much_it_missed() {
        let (mut sender, mut receiver) = EventSender::channel();
        let event = Event::Restarted { peer: PeerId::random() };
        for _ in 0..QUEUE + 5 {
            sender.send(event.clone());
        }
        for _ in 0..QUEUE {
            assert_eq!(receiver.try_recv(), Ok(event.clone()));
        }
        sender.send(event.clone());
        assert_eq!(receiver.try_recv(), Ok(Event::Lagged { missed: 5 }));
        assert_eq!(receiver.try_recv(), Ok(event));
    }
}
