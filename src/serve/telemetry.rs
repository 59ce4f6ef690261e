//! The configuration of the request log and of traces: flags and `OTEL_*` variables.

use prometheus_client::registry::Registry;

use super::{KeyLogPolicy, Reporter, Spans};

/// Where reports of requests go.
#[derive(Debug, Default)]
pub struct TelemetryConfig {
    /// Which keys may be logged.
    pub key_log: KeyLogPolicy,
    /// Where traces go.
    pub spans: Option<Spans>,
}

impl TelemetryConfig {
    /// Builds the reporter of requests; registers the counter of lost spans.
    pub fn build(self, registry: &mut Registry) -> Reporter {
        if let Some(spans) = &self.spans {
            spans.register(registry);
        }
        Reporter::new(self.key_log, self.spans)
    }
}
