//! The probes `/livez`, `/readyz` and `/startupz`: the phase of the process and its troubles.
//!
//! Trouble with a source or a file is in the body and never changes the status: a sidecar that is
//! not ready makes its whole pod not ready.

use serde::Serialize;
use tokio::sync::watch;

use super::AdminState;

/// The phase of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The listeners are not open yet.
    Starting,
    /// The listeners are open.
    Ready,
    /// The process drains: it still answers, and ends once no request is in flight.
    Draining,
}

impl Phase {
    /// The phase's name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

/// The process's phase, read by the probes.
#[derive(Debug, Clone)]
pub struct ProcessHealth(watch::Receiver<Phase>);

#[derive(Debug, Serialize)]
pub(super) struct ProbeBody {
    status: &'static str,
    trouble: Vec<String>,
}

impl ProcessHealth {
    /// The health of a process whose phase is in `phase`.
    pub fn new(phase: watch::Receiver<Phase>) -> Self {
        Self(phase)
    }

    /// The current phase.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Phase> {
        self.0.clone()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.phase() == Phase::Ready
    }

    pub(super) fn is_started(&self) -> bool {
        self.phase() != Phase::Starting
    }

    pub(super) fn probe_body(&self, state: &AdminState) -> ProbeBody {
        ProbeBody { status: self.phase().as_str(), trouble: super::status::list_troubles(state) }
    }
}
