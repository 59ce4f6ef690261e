//! The counters of a port. The consumers' port has them without a prefix; those of another port are
//! registered under that port's name: `admin`, `probes`, `webhook`.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::eviction_candidate::ConnectionState;

/// The counters of one port; clones share them.
#[derive(Debug, Clone, Default)]
pub struct PortMetrics {
    /// Connections open now.
    pub connections: Gauge,
    /// Connections that came while all places but the kept ones were taken.
    pub(super) connections_full: Counter,
    /// Connections that were evicted, by what they were doing.
    evicted: Family<ConnectionStateLabel, Counter>,
    /// Connections closed because a request's head took too long to arrive.
    pub(super) slow_requests: Counter,
    /// Requests whose body took too long to arrive.
    pub(super) slow_bodies: Counter,
    /// Connections closed because an answer was not read.
    pub(super) slow_readers: Counter,
    /// Connections closed because requests held too much, and this one was not sending or reading.
    pub(super) requests_ended: Counter,
    /// Requests refused because those under way held too much.
    pub(super) requests_refused: Counter,
    /// TLS handshakes that failed, on a port that speaks TLS.
    pub handshakes_failed: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConnectionStateLabel {
    doing: &'static str,
}

impl PortMetrics {
    /// Creates them and registers all but those of TLS.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("connections", "Connections open now", metrics.connections.clone());
        let help = "Connections that came while all places were taken, \
                    but for those kept for whoever asks last";
        registry.register("connections_full", help, metrics.connections_full.clone());
        let help = "Connections that ended to make room, by what they were doing";
        registry.register("connections_evicted", help, metrics.evicted.clone());
        let help = "Connections closed because a request's head took too long to arrive";
        registry.register("slow_requests", help, metrics.slow_requests.clone());
        registry.register(
            "slow_bodies",
            "Requests whose body took too long to arrive",
            metrics.slow_bodies.clone(),
        );
        let help = "Connections closed because an answer was not read";
        registry.register("slow_readers", help, metrics.slow_readers.clone());
        let help = "Connections closed because requests held too much, \
                    and their peers neither sent nor read";
        registry.register("request_bytes_evicted", help, metrics.requests_ended.clone());
        let help = "Requests refused because those under way held too much";
        registry.register("request_bytes_refused", help, metrics.requests_refused.clone());
        metrics
    }

    pub(super) fn count_evicted(&self, doing: ConnectionState) {
        let doing = match doing {
            ConnectionState::Handshake => "handshake",
            ConnectionState::Request => "request",
            ConnectionState::Answer => "answer",
            ConnectionState::Idle => "idle",
            ConnectionState::Stream => "stream",
        };
        self.evicted.get_or_create(&ConnectionStateLabel { doing }).inc();
    }
}
