//! What waits to be sent to one member.

use std::{collections::VecDeque, sync::Mutex};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{Class, lock};

/// Votes that wait: those of several heights of a large council.
const VOTES: usize = 1_024;
/// Bytes of bodies that wait: a few proposals of a member that is slow for a moment.
const BODY_BYTES: usize = 8 * 1024 * 1024;
/// Rosters that wait: a whole one in parts, and some changes. One that is lost comes with the next connection.
const ROSTERS: usize = 32;

/// A bounded queue that gives up its oldest.
#[derive(Debug)]
struct Queue {
    items: VecDeque<Bytes>,
    bytes: usize,
    max_items: usize,
    max_bytes: usize,
}

impl Queue {
    fn new(max_items: usize, max_bytes: usize) -> Self {
        Self { items: VecDeque::new(), bytes: 0, max_items, max_bytes }
    }

    /// Adds a message; gives the number of those that had to go.
    fn push(&mut self, message: Bytes) -> usize {
        let mut dropped = 0;
        while !self.items.is_empty()
            && (self.items.len() >= self.max_items || self.bytes + message.len() > self.max_bytes)
        {
            self.pop();
            dropped += 1;
        }
        self.bytes += message.len();
        self.items.push_back(message);
        dropped
    }

    fn pop(&mut self) -> Option<Bytes> {
        let message = self.items.pop_front()?;
        self.bytes -= message.len();
        Some(message)
    }
}

/// What is sent next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outgoing {
    /// A message of the caller's.
    Message(Bytes),
    /// The encoded frame of a roster.
    Frame(Bytes),
}

#[derive(Debug)]
struct Queues {
    votes: Queue,
    bodies: Queue,
    rosters: Queue,
}

/// The queues of one member. One task takes from each class.
#[derive(Debug)]
pub(super) struct Outbox {
    queues: Mutex<Queues>,
    votes_ready: Notify,
    bodies_ready: Notify,
}

impl Outbox {
    pub(super) fn new() -> Self {
        let queues = Queues {
            votes: Queue::new(VOTES, usize::MAX),
            bodies: Queue::new(usize::MAX, BODY_BYTES),
            rosters: Queue::new(ROSTERS, usize::MAX),
        };
        Self { queues: Mutex::new(queues), votes_ready: Notify::new(), bodies_ready: Notify::new() }
    }

    /// Queues a message; gives the number of older ones that were dropped for it.
    pub(super) fn push(&self, class: Class, message: Bytes) -> usize {
        let dropped = {
            let mut queues = lock(&self.queues);
            match class {
                Class::Vote => queues.votes.push(message),
                Class::Body => queues.bodies.push(message),
            }
        };
        self.ready(class).notify_one();
        dropped
    }

    /// Queues the frame of a roster, which goes before all votes.
    pub(super) fn push_roster(&self, frame: Bytes) {
        lock(&self.queues).rosters.push(frame);
        self.votes_ready.notify_one();
    }

    /// Waits for the next one. Can be dropped and called again, nothing is lost.
    pub(super) async fn next(&self, class: Class) -> Outgoing {
        loop {
            if let Some(next) = self.take(class) {
                return next;
            }
            // One task takes from each class, and a notice that came before it waits is kept for it.
            self.ready(class).notified().await;
        }
    }

    /// Forgets the messages that wait.
    pub(super) fn clear(&self) {
        let mut queues = lock(&self.queues);
        while queues.votes.pop().is_some() {}
        while queues.bodies.pop().is_some() {}
    }

    fn take(&self, class: Class) -> Option<Outgoing> {
        let mut queues = lock(&self.queues);
        match class {
            Class::Vote => match queues.rosters.pop() {
                Some(frame) => Some(Outgoing::Frame(frame)),
                None => queues.votes.pop().map(Outgoing::Message),
            },
            Class::Body => queues.bodies.pop().map(Outgoing::Message),
        }
    }

    fn ready(&self, class: Class) -> &Notify {
        match class {
            Class::Vote => &self.votes_ready,
            Class::Body => &self.bodies_ready,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use proptest::prelude::*;

    fn drain(outbox: &Outbox, class: Class) -> Vec<Outgoing> {
        std::iter::from_fn(|| outbox.next(class).now_or_never()).collect()
    }

    #[test]
    fn the_oldest_votes_go() {
        let outbox = Outbox::new();
        let message = |number: usize| Bytes::from(number.to_le_bytes().to_vec());
        let dropped: usize = (0..VOTES + 3).map(|number| outbox.push(Class::Vote, message(number))).sum();
        assert_eq!(dropped, 3);
        outbox.push_roster(Bytes::from_static(b"roster"));
        let all = drain(&outbox, Class::Vote);
        assert_eq!(all.len(), VOTES + 1);
        assert_eq!(all[0], Outgoing::Frame(Bytes::from_static(b"roster")));
        assert_eq!(all[1], Outgoing::Message(message(3)));
        assert_eq!(all[VOTES], Outgoing::Message(message(VOTES + 2)));
    }

    #[test]
    fn bodies_are_bounded_by_their_bytes() {
        let outbox = Outbox::new();
        let megabyte = Bytes::from(vec![0; 1024 * 1024]);
        let dropped: usize = (0..20).map(|_| outbox.push(Class::Body, megabyte.clone())).sum();
        assert_eq!((dropped, drain(&outbox, Class::Body).len()), (12, 8));
        assert!(drain(&outbox, Class::Vote).is_empty());
    }

    proptest! {
        #[test]
        fn a_queue_keeps_the_newest_that_fit(
            lengths in prop::collection::vec(0usize..50, 0..60),
            max_items in 1usize..10,
            max_bytes in 50usize..120,
        ) {
            let mut queue = Queue::new(max_items, max_bytes);
            let mut dropped = 0;
            for length in &lengths {
                dropped += queue.push(Bytes::from(vec![7; *length]));
                prop_assert!(queue.items.len() <= max_items && queue.bytes <= max_bytes);
                prop_assert_eq!(queue.bytes, queue.items.iter().map(Bytes::len).sum::<usize>());
            }
            let kept: Vec<usize> = queue.items.iter().map(Bytes::len).collect();
            prop_assert_eq!(&lengths[dropped..], &kept[..]);
        }
    }
}
