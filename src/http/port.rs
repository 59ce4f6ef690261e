//! The bounds of a port, and the state that its connections share: counters, activity, drain.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::port_metrics::PortMetrics;

/// The bounds of a port.
#[derive(Debug, Clone, Copy)]
pub struct PortLimits {
    /// Connections open at once, an eighth of them reserved for new ones.
    pub connections_max: usize,
    /// How long a request's head may take to arrive, from its first byte on; also a TLS handshake,
    /// and an HTTP/2 frame.
    pub head: Duration,
    /// How long a request's body may take to arrive, counted from when the handler reads it.
    pub body: Duration,
    /// How long an answer may take to be read, from when its reader first lags.
    pub answer: Duration,
    /// Bytes of a request's head.
    pub head_bytes_max: usize,
    /// Header fields of a request.
    pub headers_max: usize,
    /// HTTP/2 streams of one connection.
    pub streams_max: u32,
    /// Bytes that all requests under way may hold: heads, bodies, and the overhead of each, but not
    /// the memory of their handlers.
    pub request_bytes_max: usize,
}

/// The same for the admin port and the probes: dozens of bodies of the longest, and each
/// connection's share a few requests.
const AUXILIARY_REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
/// HTTP/2 streams of one connection there: no honest client opens so many at once.
const AUXILIARY_STREAMS_MAX: u32 = 16;

impl PortLimits {
    /// The bounds of a port with little traffic: the admin port, probes.
    #[must_use]
    pub fn auxiliary(self) -> Self {
        Self {
            streams_max: AUXILIARY_STREAMS_MAX,
            request_bytes_max: AUXILIARY_REQUEST_BYTES_MAX,
            ..self
        }
    }
}

impl Default for PortLimits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            head: Duration::from_secs(10),
            body: Duration::from_secs(5),
            answer: Duration::from_secs(20),
            // Of this size on 1024 connections at once, heads that are still arriving hold 32 MiB.
            head_bytes_max: 32 * 1024,
            headers_max: 100,
            // RFC 9113 section 6.5.2 recommends at least 100.
            streams_max: 128,
            // The 4096 requests of consumers that may be under way, with heads of up to 2 KiB.
            request_bytes_max: 24 * 1024 * 1024,
        }
    }
}

/// The state that the connections of a port share.
#[derive(Debug, Clone)]
pub struct Port {
    /// The requests under way.
    pub activity: Activity,
    /// How far the end has come.
    pub drain: watch::Receiver<DrainPhase>,
    /// The counters.
    pub metrics: PortMetrics,
    /// Owns the connections' tasks.
    pub tasks: TaskTracker,
}

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrainPhase {
    /// Not at all.
    Serving,
    /// Every answer asks the consumer to go elsewhere; requests are still answered.
    Draining,
    /// Idle connections are closed.
    Closing,
}

/// The requests under way on all connections of a port, so that a drain sees when it is quiet.
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
        let in_flight = AtomicUsize::new(0);
        let last_ms = AtomicU64::new(0);
        Self(Arc::new(ActivityInner { since: Instant::now(), in_flight, last_ms }))
    }
}

impl Activity {
    /// Requests that were taken and whose answers are not yet written.
    pub fn in_flight(&self) -> usize {
        self.0.in_flight.load(Ordering::SeqCst)
    }

    /// Whether nothing is under way and nothing came or ended for `quiet`.
    pub(super) fn is_quiet_for(&self, quiet: Duration) -> bool {
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
