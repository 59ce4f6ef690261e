//! The events of the bus, for its subscribers: `cache`, which frees the memory of invalidated
//! entries, and `GET /events`.

use std::sync::Arc;
use std::time::SystemTime;

use super::fault::RedisFault;
use crate::coherence::{EmptyReason, LogEntry};

/// One event of the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusEvent {
    /// When it happened.
    pub at: SystemTime,
    /// The domain that it concerns; `None`: the connections, which all domains share.
    pub domain: Option<Arc<str>>,
    /// The kind of the event.
    pub kind: BusEventKind,
}

/// The kinds of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusEventKind {
    /// An invalidation was applied. It names keys and tags: personal data.
    InvalidationApplied(LogEntry),
    /// A hint was turned into an entry of the log, or had been by another sidecar.
    HintHandled,
    /// No dataset in memory is valid any more.
    MemoryEmptied(EmptyReason),
    /// The lease is held: memory may be served from.
    LeaseHeld,
    /// The lease has ended: memory may not be served from until it is held again.
    LeaseLost,
    /// The connections to Redis stand.
    Connected,
    /// The connections broke, or cannot be made, or the cause has changed.
    Disconnected(RedisFault),
}
