//! The results of an invalidation, as values: the invalidation that is in the log, the fleet's
//! acknowledgement of it, and the error where the caller's time limit came first. `invalidate`
//! makes them.

use std::time::Duration;

use crate::coherence::{Fence, IssuedInvalidation, MemberName, Moment};

/// An invalidation that is in the log.
#[derive(Debug, Clone)]
pub struct SentInvalidation {
    pub(super) issued: IssuedInvalidation,
    pub(super) answered_at: Moment,
}

/// The fleet has acknowledged an invalidation: no sidecar serves what was read before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The invalidation.
    pub token: Fence,
    /// How many sidecars were registered when it was issued.
    pub sidecars: usize,
    /// The sidecars that did not report: their leases were waited for instead.
    pub silent_members: Vec<MemberName>,
    /// The time since the script's answer arrived.
    pub took: Duration,
}

/// The caller's time limit came before the acknowledgement. The invalidation stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", describe_laggards(*sidecars, laggards.len()))]
pub struct NotAcknowledged {
    /// The invalidation.
    pub token: Fence,
    /// How many sidecars were registered when it was issued.
    pub sidecars: usize,
    /// The sidecars that had not reported. Empty where the registry is not known to name every
    /// sidecar: then the whole lease has to pass.
    pub laggards: Vec<MemberName>,
}

fn describe_laggards(sidecars: usize, behind: usize) -> String {
    match behind {
        0 => "it is not known yet whether everybody has heard, so the whole lease has to pass"
            .to_owned(),
        _ => format!("{behind} of {} sidecars had not reported", sidecars.max(behind)),
    }
}

impl SentInvalidation {
    /// The token: its place in the log.
    pub const fn token(&self) -> Fence {
        self.issued.token
    }

    /// How many sidecars were registered when it was issued.
    pub const fn sidecars(&self) -> usize {
        self.issued.registered_members
    }
}
