//! What a port's table of connections decides by, and what it decides: who ends where another one
//! needs the place.

use tokio::time::Instant;

/// What a connection is doing, where it can be ended for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ConnectionState {
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
pub(super) enum EvictionRank {
    /// Something unfinished is [`OVERDUE`](super::progress::OVERDUE).
    Overdue,
    /// We wait for the peer, or for its next request.
    Waiting,
    /// The peer waits, as it asked to.
    Stream,
}

/// A connection that can be ended for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EvictionCandidate {
    /// The smaller ends first.
    pub(super) rank: EvictionRank,
    /// Of one rank, the earlier ends first.
    pub(super) since: Instant,
    /// What it does.
    pub(super) state: ConnectionState,
}

impl EvictionCandidate {
    /// Whether nothing has happened on the connection since it was this candidate, but that time
    /// has passed.
    pub(super) fn is_still(self, before: Self) -> bool {
        (self.since, self.state) == (before.since, before.state)
    }
}

/// What the table has told a connection to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EvictionSignal {
    /// Go on.
    Stay,
    /// End as soon as nothing is under way.
    CloseWhenIdle,
    /// End.
    CloseNow,
}

/// A bound in time that a connection has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionTimeout {
    /// A handshake.
    Handshake,
    /// A request's head, or a frame.
    Request,
    /// An answer was not read.
    Answer,
}
