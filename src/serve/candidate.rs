//! What a port's table of connections decides by, and what it decides: who ends where another one
//! needs the place.

use tokio::time::Instant;

/// What a connection is doing, where it can be ended for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Doing {
    /// A TLS handshake arrives.
    Handshake,
    /// A request's head or body, or a frame, arrives.
    Request,
    /// An answer is being read.
    Answer,
    /// Nothing.
    Idle,
    /// The peer has asked to be kept waiting: a stream of events, an invalidation that waits for
    /// the fleet.
    Stream,
}

/// Who of those that can end ends first, and why: the smallest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Something unfinished is [`OVERDUE`](super::progress::OVERDUE).
    Overdue,
    /// We wait for the peer, or for its next request.
    Waiting,
    /// The peer waits, as it asked to.
    Stream,
}

/// A connection that can be ended for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The smaller ends first.
    pub(super) rank: Rank,
    /// Of one rank, the earlier ends first.
    pub(super) since: Instant,
    /// What it does.
    pub(super) doing: Doing,
}

impl Candidate {
    /// Whether nothing has happened on the connection since it was this candidate, but that time
    /// has passed.
    pub(super) fn is_still(self, before: Self) -> bool {
        (self.since, self.doing) == (before.since, before.doing)
    }
}

/// What the table has told a connection to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Go on.
    Stay,
    /// End as soon as nothing is under way.
    Leave,
    /// End.
    End,
}

/// A bound in time that a connection has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expired {
    /// A handshake.
    Handshake,
    /// A request's head, or a frame.
    Request,
    /// An answer was not read.
    Answer,
}
