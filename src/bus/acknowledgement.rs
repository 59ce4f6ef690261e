//! What the caller of an invalidation holds and receives: the invalidation that is in the log, the
//! fleet's acknowledgement of it, and the error where the caller's time was over first. Values only;
//! `invalidate` makes them.

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
    /// Those that said nothing: the time that they could hold a lease was waited for.
    pub silent_members: Vec<MemberName>,
    /// Since the invalidation was in the log.
    pub took: Duration,
}

/// The time that the caller gave was over first. The invalidation stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", in_words(*sidecars, laggards.len()))]
pub struct NotAcknowledged {
    /// The invalidation.
    pub token: Fence,
    /// How many sidecars were registered when it was issued.
    pub sidecars: usize,
    /// Who had not reported. Nobody, where it is not known that the registry names everybody: then
    /// a whole lease is waited.
    pub laggards: Vec<MemberName>,
}

fn in_words(sidecars: usize, behind: usize) -> String {
    match behind {
        0 => "it is not known yet whether everybody has heard, so the whole lease has to pass"
            .to_owned(),
        _ => format!("{behind} of {} sidecars had not reported", sidecars.max(behind)),
    }
}

impl SentInvalidation {
    /// What it is known by.
    pub const fn token(&self) -> Fence {
        self.issued.token
    }

    /// How many sidecars were registered.
    pub const fn sidecars(&self) -> usize {
        self.issued.registered_members
    }
}
