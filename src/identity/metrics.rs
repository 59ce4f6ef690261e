//! The counters and gauges of this module. No label holds a name, let alone a key.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The counters and gauges of this module. The default counts without being registered anywhere.
#[derive(Debug, Clone, Default)]
pub struct IdentityMetrics {
    pub(super) handshakes: Family<HandshakeLabel, Counter>,
    pub(super) not_mutual: Counter,
    pub(super) failures: Family<ReasonLabel, Counter>,
    pub(super) expiry: Family<CertificateLabel, Gauge>,
    pub(super) reloads: Counter,
    pub(super) reload_failures: Counter,
    /// 1 while the files are not those in force, because they are not usable.
    pub(super) broken: Gauge,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct HandshakeLabel {
    pub(super) kind: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct ReasonLabel {
    pub(super) reason: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct CertificateLabel {
    pub(super) which: &'static str,
}

impl IdentityMetrics {
    /// Creates and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "tls_handshakes",
            "TLS handshakes with upstreams that succeeded",
            metrics.handshakes.clone(),
        );
        registry.register(
            "not_mutual",
            "Connections refused: no client certificate was asked for",
            metrics.not_mutual.clone(),
        );
        registry.register(
            "tls_failures",
            "TLS handshakes with upstreams that failed",
            metrics.failures.clone(),
        );
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "When our certificate, and the first of the trusted ones, expire",
            metrics.expiry.clone(),
        );
        let help =
            "1 while the certificate files are not usable and the identity before them stays";
        registry.register("identity_files_broken", help, metrics.broken.clone());
        registry.register(
            "identity_reloads",
            "Changed certificate files taken over",
            metrics.reloads.clone(),
        );
        registry.register(
            "identity_reload_failures",
            "Changed certificate files that were refused; the old identity stayed",
            metrics.reload_failures.clone(),
        );
        metrics
    }

    /// Whether the files are not usable now, and the identity before them stays.
    pub fn files_are_broken(&self) -> bool {
        self.broken.get() != 0
    }

    /// How many connections were refused because the server did not ask for our certificate.
    pub fn not_mutual(&self) -> u64 {
        self.not_mutual.get()
    }

    /// How many handshakes succeeded, as (full, resumed).
    pub fn handshakes(&self) -> (u64, u64) {
        let of = |kind| self.handshakes.get_or_create(&HandshakeLabel { kind }).get();
        (of("full"), of("resumed"))
    }

    /// How many handshakes failed for `reason`.
    pub fn failures(&self, reason: &'static str) -> u64 {
        self.failures.get_or_create(&ReasonLabel { reason }).get()
    }

    /// How often changed files were taken over, and how often refused.
    pub fn reloads(&self) -> (u64, u64) {
        (self.reloads.get(), self.reload_failures.get())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_documentation() {
        let mut registry = Registry::with_prefix("bfb");
        let metrics = IdentityMetrics::register(&mut registry);
        metrics.handshakes.get_or_create(&HandshakeLabel { kind: "full" }).inc();
        metrics.not_mutual.inc();
        metrics.failures.get_or_create(&ReasonLabel { reason: "expired" }).inc();
        metrics.expiry.get_or_create(&CertificateLabel { which: "identity" }).set(7);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "bfb_tls_handshakes_total{kind=\"full\"} 1",
            "bfb_not_mutual_total 1",
            "bfb_tls_failures_total{reason=\"expired\"} 1",
            "bfb_certificate_expiry_timestamp_seconds{which=\"identity\"} 7",
            "bfb_identity_reloads_total 0",
            "bfb_identity_reload_failures_total 0",
        ] {
            assert!(text.lines().any(|met| met == line), "{line} is not in\n{text}");
        }
    }
}
