//! The order of eviction: the facts about a connection by which a port's table decides which one
//! ends for a new one.

use tokio::time::Instant;

/// What a connection is doing, where it may be evicted.
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
    /// The peer chose to wait: a stream of events, an invalidation that waits for the fleet.
    Stream,
}

/// The order of eviction, with its reason: the smallest is evicted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EvictionRank {
    /// Something unfinished is [`OVERDUE`](super::progress::OVERDUE).
    Overdue,
    /// We wait for the peer, or for its next request.
    Waiting,
    /// The peer waits, as it chose to.
    Stream,
}

/// A connection that can be ended for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EvictionCandidate {
    /// The smaller ends first.
    pub(super) rank: EvictionRank,
    /// Of one rank, the earlier ends first.
    pub(super) since: Instant,
    /// What the connection is doing.
    pub(super) state: ConnectionState,
}

impl EvictionCandidate {
    /// Whether nothing has happened on the connection since it was this candidate, but that time
    /// has passed.
    pub(super) fn is_still(self, before: Self) -> bool {
        (self.since, self.state) == (before.since, before.state)
    }
}

/// The way in which a connection is evicted.
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
