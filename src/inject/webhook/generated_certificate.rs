//! The webhook's own certificate: the leader generates it, keeps it in a Secret, and rotates it by
//! the steps of [`super::rotation`]; every replica serves what the Secret holds.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use super::certificate_secret::{CertificateSecret, KeyPair};
use super::cluster::{Cluster, percent_encode};
use super::configuration::MutatingWebhookConfiguration;
use super::configuration_client::ConfigurationClient;
use super::metrics::WebhookMetrics;
use super::reconcile_error::{ReconcileError, ignore_conflict};
use super::rotation::{self, BundleTrust, RotationSchedule, RotationStep};
use super::serving_certificate::ServingCertificate;

/// A certificate in a Secret of the webhook's namespace.
#[derive(Debug)]
pub(super) struct GeneratedCertificate {
    cluster: Cluster,
    secret_name: String,
    schedule: RotationSchedule,
    metrics: Arc<WebhookMetrics>,
    /// The bundle that every webhook of the configuration holds, and the time since when this
    /// replica, as the leader, has seen it there.
    observed_bundle: Option<(String, Instant)>,
}

impl GeneratedCertificate {
    /// A certificate in the Secret `secret_name`, rotated by `schedule`.
    pub(super) fn new(
        cluster: Cluster,
        secret_name: &str,
        schedule: RotationSchedule,
        metrics: Arc<WebhookMetrics>,
    ) -> Self {
        let secret_name = secret_name.to_owned();
        Self { cluster, secret_name, schedule, metrics, observed_bundle: None }
    }

    /// The schedule of its rotation.
    pub(super) fn schedule(&self) -> RotationSchedule {
        self.schedule
    }

    /// Serves the certificate of the Secret; the leader takes the next step of its rotation.
    /// Returns whether there was a step, after which everything is to be read again.
    pub(super) async fn reconcile(
        &mut self,
        configuration: &MutatingWebhookConfiguration,
        client: &ConfigurationClient,
        serving_certificate: &ServingCertificate,
        is_leader: &watch::Receiver<bool>,
    ) -> Result<bool, ReconcileError> {
        let object = self.cluster.get_opt(&self.secret_path()).await?;
        let secret = object.as_ref().map(CertificateSecret::from_secret).unwrap_or_default();
        serve_current(&secret, serving_certificate);
        if !*is_leader.borrow() {
            self.observed_bundle = None;
            return Ok(false);
        }
        let names = configuration.names();
        if names.is_empty() {
            let message = "no webhook of the configuration has a `clientConfig` that names us; \
                           expected a `service` or a `url`";
            return Err(ReconcileError::Other(message.to_owned()));
        }
        let now = SystemTime::now();
        let trust = self.observe_trust(configuration, &secret);
        let step = rotation::next_step(&secret, trust, &names, now, self.schedule);
        let secret = match step {
            RotationStep::Wait => return Ok(false),
            RotationStep::WriteBundle => {
                client.write_bundle(configuration, &secret.bundle()).await?;
                return Ok(true);
            }
            RotationStep::MakeCurrent => {
                CertificateSecret { current: Some(self.issue_pair(&names)?), next: None, ..secret }
            }
            RotationStep::MakeNext => {
                CertificateSecret { next: Some(self.issue_pair(&names)?), ..secret }
            }
            RotationStep::Promote => secret.promote_next(),
            RotationStep::ForgetExpired => secret.without_expired(now),
        };
        tracing::info!(?step, "the certificate is turned over");
        self.write_secret(object.as_ref(), &secret).await?;
        Ok(true)
    }

    /// Whether every webhook of the configuration holds the bundle of the Secret, and for how long
    /// this replica has seen it there.
    fn observe_trust(
        &mut self,
        configuration: &MutatingWebhookConfiguration,
        secret: &CertificateSecret,
    ) -> BundleTrust {
        let bundle = secret.bundle();
        if !configuration.has_bundle(&bundle) {
            self.observed_bundle = None;
            return BundleTrust::Other;
        }
        let since = match &self.observed_bundle {
            Some((observed, since)) if *observed == bundle => *since,
            _ => self.observed_bundle.insert((bundle, Instant::now())).1,
        };
        BundleTrust::Current(since.elapsed())
    }

    fn issue_pair(&self, names: &BTreeSet<String>) -> Result<KeyPair, ReconcileError> {
        self.metrics.certificates.inc();
        KeyPair::issue(names, SystemTime::now(), self.schedule.lifetime)
            .map_err(|error| ReconcileError::Other(error.to_string()))
    }

    /// Writes the Secret over `existing`, or creates it.
    async fn write_secret(
        &self,
        existing: Option<&Value>,
        secret: &CertificateSecret,
    ) -> Result<(), ReconcileError> {
        let object = secret.to_secret(existing, &self.secret_name, self.cluster.namespace());
        ignore_conflict(match existing {
            Some(_) => self.cluster.replace(&self.secret_path(), &object).await,
            None => self.cluster.create(&self.collection_path(), &object).await,
        })
    }

    fn collection_path(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets", percent_encode(self.cluster.namespace()))
    }

    fn secret_path(&self) -> String {
        format!("{}/{}", self.collection_path(), percent_encode(&self.secret_name))
    }
}

/// Serves the current pair of the Secret, if another one is served.
fn serve_current(secret: &CertificateSecret, serving_certificate: &ServingCertificate) {
    let Some(pair) = &secret.current else { return };
    let Some(key) = pair.certified_key() else { return };
    if key.cert == serving_certificate.get().cert {
        return;
    }
    serving_certificate.set(key);
    let not_after = Some(humantime::format_rfc3339_seconds(pair.not_after).to_string());
    tracing::info!(?not_after, "a new certificate is served");
}
