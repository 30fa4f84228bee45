//! A connected peer, until both have said hello.

use std::time::{Duration, Instant};

/// Who did not dial waits so long for the other's hello before it says its own.
const PATIENCE: Duration = Duration::from_secs(3);
/// First and longest pause after a hello that failed.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Who does not follow the network's gossip after this is asked all the same: gossip says what it follows once, and what was
/// said on a connection that has gone is lost.
const STRANGE_FOR: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hello {
    Due(Instant),
    Running,
    Done,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Neighbour {
    dialled: bool,
    /// Known to be of this network.
    ours: bool,
    hello: Hello,
    failures: u32,
}

impl Neighbour {
    pub(super) fn new(dialled: bool, now: Instant) -> Self {
        Self { dialled, ours: false, hello: Hello::Due(now + STRANGE_FOR), failures: 0 }
    }

    pub(super) fn subscribed(&mut self, now: Instant) {
        if !self.ours {
            self.ours = true;
            if matches!(self.hello, Hello::Due(_)) {
                self.hello = Hello::Due(if self.dialled { now } else { now + PATIENCE });
            }
        }
    }

    pub(super) fn is_of_network(&self) -> bool {
        self.ours
    }

    /// Whether to say hello now; true once for each try.
    pub(super) fn hello_is_due(&mut self, now: Instant) -> bool {
        let due = matches!(self.hello, Hello::Due(at) if at <= now);
        if due {
            self.hello = Hello::Running;
        }
        due
    }

    /// Both have heard one another.
    pub(super) fn met(&mut self) {
        (self.ours, self.hello, self.failures) = (true, Hello::Done, 0);
    }

    pub(super) fn failed(&mut self, now: Instant) {
        if self.hello == Hello::Running {
            let pause = PAUSES.0.saturating_mul(1 << self.failures.min(8)).min(PAUSES.1);
            self.failures = self.failures.saturating_add(1);
            self.hello = Hello::Due(now + pause);
        }
    }
}
