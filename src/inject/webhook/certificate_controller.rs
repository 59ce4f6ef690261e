//! Reconciles the served certificate with its source (a Secret or a folder), and the bundles of the
//! configuration with the certificate. Every replica serves the certificate of the source and
//! checks that API servers trust it; only the leader writes.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::configuration::MutatingWebhookConfiguration;
use super::configuration_client::ConfigurationClient;
use super::folder_certificate::FolderCertificate;
use super::generated_certificate::GeneratedCertificate;
use super::metrics::WebhookMetrics;
use super::reconcile_error::ReconcileError;
use super::serving_certificate::{ServingCertificate, distrust_reason};

/// The longest time between two reconciliations.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(2);
/// The most steps of one reconciliation; the next one continues.
const STEPS_MAX: usize = 8;

/// The source of the certificate.
#[derive(Debug)]
pub(super) enum CertificateSource {
    /// A Secret, whose certificate the leader generates and rotates.
    Generated(GeneratedCertificate),
    /// A folder, which somebody else fills.
    Folder(FolderCertificate),
}

/// Reconciles the certificate and the bundles.
#[derive(Debug)]
pub(super) struct CertificateController {
    /// The configuration, and the writes of its bundles.
    pub configuration: ConfigurationClient,
    /// The source of the certificate.
    pub source: CertificateSource,
    /// The certificate that is served.
    pub serving_certificate: ServingCertificate,
    /// Whether this replica is the leader.
    pub is_leader: watch::Receiver<bool>,
    /// Publishes the result of the last reconciliation.
    pub status: watch::Sender<TrustStatus>,
    /// The counters.
    pub metrics: Arc<WebhookMetrics>,
}

/// The result of the last reconciliation.
#[derive(Debug, Clone)]
pub(super) struct TrustStatus {
    /// The configuration that was read last.
    pub configuration: Option<Arc<MutatingWebhookConfiguration>>,
    /// The reason why API servers may not trust the served certificate; `None` if they do.
    pub problem: Option<String>,
}

impl TrustStatus {
    /// The status before the first reconciliation, with which no replica is ready.
    pub(super) fn unknown() -> Self {
        Self { configuration: None, problem: Some("nothing is known yet".to_owned()) }
    }
}

impl CertificateController {
    /// Reconciles at each interval, and when the leader changes. Never returns; drop it to stop it.
    pub(super) async fn run(mut self) {
        let interval = match &self.source {
            CertificateSource::Generated(certificate) => {
                RECONCILE_INTERVAL.min(certificate.schedule().propagation_time / 2)
            }
            CertificateSource::Folder(_) => RECONCILE_INTERVAL,
        };
        loop {
            self.replace_expired();
            let result = self.reconcile().await;
            self.publish(self.trust_status(result));
            let leader_change = async {
                if self.is_leader.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = leader_change => {}
            }
        }
    }

    /// Serves the certificate of the folder instead of an expired one, even while the API server
    /// does not answer: no API server accepts an expired certificate.
    fn replace_expired(&self) {
        if self.serving_certificate.not_after().is_none_or(|end| end <= SystemTime::now())
            && let CertificateSource::Folder(certificate) = &self.source
        {
            self.serving_certificate.set(certificate.newest());
        }
    }

    /// Takes one step after the other until none is left. The configuration is read before the
    /// source: `rotation.rs` says why.
    async fn reconcile(&mut self) -> Result<MutatingWebhookConfiguration, ReconcileError> {
        for _ in 0..STEPS_MAX {
            let configuration = self.configuration.read().await?;
            let client = &self.configuration;
            let serving = &self.serving_certificate;
            let has_changed = match &mut self.source {
                CertificateSource::Generated(certificate) => {
                    certificate.reconcile(&configuration, client, serving, &self.is_leader).await?
                }
                CertificateSource::Folder(certificate) => {
                    certificate.reconcile(&configuration, client, serving, &self.is_leader).await?;
                    // The newest certificate is served from the next reconciliation on.
                    false
                }
            };
            if !has_changed {
                return Ok(configuration);
            }
        }
        self.configuration.read().await
    }

    /// The status that follows from a reconciliation. After a failed one, the configuration is the
    /// one that was read before.
    fn trust_status(
        &self,
        result: Result<MutatingWebhookConfiguration, ReconcileError>,
    ) -> TrustStatus {
        match result {
            Ok(configuration) => {
                let problem = distrust_reason(&configuration, &self.serving_certificate.get());
                TrustStatus { configuration: Some(Arc::new(configuration)), problem }
            }
            Err(error) => {
                if matches!(error, ReconcileError::Cluster(_)) {
                    self.metrics.cluster_failures.inc();
                }
                let configuration = self.status.borrow().configuration.clone();
                TrustStatus { configuration, problem: Some(error.to_string()) }
            }
        }
    }

    fn publish(&self, status: TrustStatus) {
        let previous = self.status.borrow().problem.clone();
        match &status.problem {
            Some(problem) if previous.as_ref() != Some(problem) => {
                tracing::warn!(trouble = problem, "API servers may not believe us");
            }
            None if previous.is_some() => tracing::info!("API servers believe us"),
            _ => {}
        }
        self.metrics.trusted.set(i64::from(status.problem.is_none()));
        self.metrics.set_not_after(self.serving_certificate.not_after());
        self.status.send_replace(status);
    }
}
