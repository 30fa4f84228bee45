//! Numbers of the mesh, each with its reason.

use std::time::Duration;

/// How much of the mesh a peer keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MeshParams {
    /// Connections to mini-nodes.
    pub(crate) keep: usize,
    /// Mini-nodes that relay for this peer when it cannot be reached.
    pub(crate) relays: usize,
}

impl MeshParams {
    /// A peer's: with three, two may die at once; a second relay stays while a lost one is replaced.
    pub(crate) const fn peer() -> Self {
        Self { keep: 3, relays: 2 }
    }

    /// A mini-node's: with eight a mesh of hundreds is a few hops wide. It can be reached, or is none.
    pub(crate) const fn mini_node() -> Self {
        Self { keep: 8, relays: 0 }
    }
}

/// Mini-nodes known: some 100 KB. More would not make a peer better connected.
pub(super) const KNOWN: usize = 128;
/// Of these, named by the operator: more than anybody types, and room is left for those that are heard of.
pub(super) const NAMED: usize = 32;
/// Addresses of each: two transports on a few interfaces.
pub(super) const ADDRESSES: usize = 8;
/// Connected peers that are not known as mini-nodes, whose address is kept until they say what they are: more than
/// the connections that open within a second or two, which is what identify takes.
pub(super) const STRANGERS: usize = 512;
/// Dials of named ones at once, beside those that fill the room: they may all be dead, so none waits for another.
pub(super) const NAMED_DIALS: usize = 8;
/// Connections beyond `keep` that are made because all connected mini-nodes refuse to relay.
pub(super) const EXTRA: usize = 3;

/// Dials that may go out at once, and the distance of those that follow: a table full of dead mini-nodes, which refuse
/// at once, is gone through in a minute and not in a second.
pub(super) const DIAL_BURST: u32 = 12;
/// See [`DIAL_BURST`].
pub(super) const DIAL_INTERVAL: Duration = Duration::from_millis(500);
/// A dial that takes longer does not hold up another one: an answer takes a few round trips, a dead machine never
/// answers.
pub(super) const SLOW_DIAL: Duration = Duration::from_secs(2);
/// A dial of which nothing was heard for so long has failed; the transport gives up earlier, so this is a net under it.
pub(super) const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// Failures in a row after which a mini-node leaves the rotation.
pub(super) const FAILURES: u32 = 3;
/// First and longest pause of one in rotation: a restarting program is back in seconds.
pub(super) const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// For so long after a failure others are tried first: what died a minute ago is probably still dead.
pub(super) const LATELY: Duration = Duration::from_secs(120);
/// First and longest pause of one out of rotation: a rebooting machine takes half a minute, and one that is away for
/// days costs six dials an hour.
pub(super) const RESTS: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));
/// The longest pause while no mini-node is connected: then it is probably this peer's own line that is down, which the
/// mini-nodes must not be blamed for, and nobody can reach it. A few dials in five seconds cost nothing.
pub(super) const ALONE_REST: Duration = Duration::from_secs(5);
/// Pauses are multiplied by a number from this range, so that peers that failed together do not come back together.
pub(super) const JITTER: (f64, f64) = (0.75, 1.25);
/// Rests after which one that was only heard of is forgotten: about an hour.
pub(super) const GIVE_UP: u32 = 8;
/// A connection that stood for so long clears the failures: shorter ones are what a crashing program gives.
pub(super) const SETTLED: Duration = Duration::from_secs(30);
/// A connected peer that has not said by then that it is a mini-node does not count as one.
pub(super) const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(10);
/// After a change of the network an old connection is held for dead until something comes back, or for this long: then
/// the pings of the connection decide.
pub(super) const DOUBT: Duration = Duration::from_secs(4);

/// First and longest pause after a reservation that failed or was lost again: reservations are cheap to ask for.
pub(super) const RESERVE_PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// The same after a refusal: a full relay has room when somebody leaves.
pub(super) const REFUSED_PAUSES: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));
/// A request for a reservation takes two round trips; without an answer by then it has failed.
pub(super) const RESERVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Not needing a relay must last this long before the reservations are given up: what says so wavers.
pub(super) const SURE: Duration = Duration::from_secs(30);

/// Addresses worth remembering: those of a dozen mini-nodes, so that some live after months.
pub(super) const REMEMBERED: usize = 32;
/// Of one mini-node.
pub(super) const REMEMBERED_EACH: usize = 3;
/// A reason kept, in bytes: a line for people.
pub(super) const REASON_BYTES: usize = 200;
