//! What happens on the bus, for whoever listens: memory, which frees what an entry names, and
//! `GET /events`.

use std::sync::Arc;
use std::time::SystemTime;

use super::fault::RedisFault;
use crate::coherence::{EmptyReason, LogEntry};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusEvent {
    /// When.
    pub at: SystemTime,
    /// To which domain; `None`: to the connections, which all domains share.
    pub domain: Option<Arc<str>>,
    /// What.
    pub kind: BusEventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusEventKind {
    /// An invalidation was applied. It names keys and tags: personal data.
    InvalidationApplied(LogEntry),
    /// A hint was turned into an entry of the log, or had been by another sidecar.
    HintHandled,
    /// No dataset in memory is valid any more.
    MemoryEmptied(EmptyReason),
    /// Memory may be served from.
    LeaseHeld,
    /// Memory may not be served from, until the lease is held again.
    LeaseLost,
    /// The connections to Redis stand.
    Connected,
    /// They broke, or cannot be made, or not for the reason known before.
    Disconnected(RedisFault),
}
