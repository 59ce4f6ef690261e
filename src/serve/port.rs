//! What the connections of a port share: its bounds, its counters, and how far its end has come.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::metrics::Metrics;

/// The bounds of a port.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections open at once; more wait in the kernel's queue.
    pub connections_max: usize,
    /// How long a request's head may take to arrive, from its first byte on.
    pub head: Duration,
    /// Bytes of a request's head.
    pub head_bytes_max: usize,
    /// Header fields of a request.
    pub headers_max: usize,
    /// HTTP/2 streams of one connection.
    pub streams_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            head: Duration::from_secs(10),
            head_bytes_max: 32 * 1024,
            headers_max: 100,
            streams_max: 256,
        }
    }
}

/// What the connections of a port share.
#[derive(Debug, Clone)]
pub struct Port {
    /// What is under way.
    pub activity: Activity,
    /// How far the end has come.
    pub drain: watch::Receiver<Drain>,
    /// The counters.
    pub metrics: Metrics,
    /// Owns the connections' tasks.
    pub tasks: TaskTracker,
}

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drain {
    /// Not at all.
    Serving,
    /// Every answer asks the consumer to go elsewhere; requests are still answered.
    Draining,
    /// Idle connections are closed.
    Closing,
}

/// What is under way on all connections of a port, so that a drain knows when it is quiet.
#[derive(Debug, Clone)]
pub struct Activity(Arc<ActivityInner>);

#[derive(Debug)]
struct ActivityInner {
    since: Instant,
    in_flight: AtomicUsize,
    last_ms: AtomicU64,
}

impl Default for Activity {
    fn default() -> Self {
        let (in_flight, last_ms) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self(Arc::new(ActivityInner { since: Instant::now(), in_flight, last_ms }))
    }
}

impl Activity {
    /// Requests that were taken and whose answers are not yet written.
    pub fn in_flight(&self) -> usize {
        self.0.in_flight.load(Ordering::SeqCst)
    }

    /// Whether nothing is under way and nothing came or ended for `quiet`.
    pub fn quiet_for(&self, quiet: Duration) -> bool {
        let last = Duration::from_millis(self.0.last_ms.load(Ordering::SeqCst));
        self.in_flight() == 0 && self.0.since.elapsed().saturating_sub(last) >= quiet
    }

    pub(super) fn begin(&self) {
        self.0.in_flight.fetch_add(1, Ordering::SeqCst);
        self.touch();
    }

    pub(super) fn end(&self) {
        self.touch();
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    fn touch(&self) {
        let now = u64::try_from(self.0.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last_ms.fetch_max(now, Ordering::SeqCst);
    }
}
