//! What happens on the bus, for whoever listens: memory, which frees what an entry names, and
//! `GET /events`.

use std::sync::Arc;
use std::time::SystemTime;

use super::fault::Fault;
use crate::coherence::{Entry, Why};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    /// When.
    pub at: SystemTime,
    /// To which domain; `None`: to the connections, which all domains share.
    pub domain: Option<Arc<str>>,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// An invalidation was applied. It names keys and tags: personal data.
    Applied(Entry),
    /// A hint was turned into an entry of the log, or had been by another sidecar.
    Hinted,
    /// Nothing that memory holds is believed any more.
    Emptied(Why),
    /// Memory may be served from.
    LeaseHeld,
    /// Memory may not be served from, until the lease is held again.
    LeaseLost,
    /// The connections to Redis stand.
    Connected,
    /// They broke, or cannot be made, or not for the reason known before.
    Disconnected(Fault),
}
