//! Keeps the certificate and the trust in it right: every replica serves what the Secret (or the
//! folder) holds and looks whether API servers believe it; the leader does the steps of
//! [`super::rotation`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::sign::CertifiedKey;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use super::certificate_secret::{CertificateSecret, KeyPair};
use super::cluster::{Cluster, ClusterError, percent_encode};
use super::configuration::{Hook, MutatingWebhookConfiguration};
use super::metrics::WebhookMetrics;
use super::rotation::{self, BundleTrust, RotationSchedule, RotationStep};
use super::serving_certificate::{ServingCertificate, verify_trust};
use crate::identity::Identity;

/// How often to look, at most.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(2);
/// The most steps of one look; the next look goes on.
const STEPS_MAX: usize = 8;
/// The largest bundle that is read from a folder, in bytes.
const BUNDLE_MAX_BYTES: u64 = 256 * 1024;

/// Where the certificate comes from.
#[derive(Debug)]
pub(super) enum CertificateSource {
    /// It is made here, and kept in the Secret of this name in our namespace.
    Generated {
        /// The Secret.
        secret: String,
        /// How it is turned over.
        schedule: RotationSchedule,
    },
    /// It is somebody else's business.
    Folder {
        /// What the folder holds, as it changes.
        identity: watch::Receiver<Arc<Identity>>,
        /// Its `ca.crt`.
        ca: PathBuf,
    },
}

/// Keeps it.
#[derive(Debug)]
pub(super) struct CertificateController {
    /// The API server.
    pub cluster: Cluster,
    /// The name of the configuration.
    pub configuration: String,
    /// Where the certificate comes from.
    pub source: CertificateSource,
    /// What is served.
    pub serving_certificate: ServingCertificate,
    /// Whether we lead.
    pub leads: watch::Receiver<bool>,
    /// Where what was found is told.
    pub status: watch::Sender<TrustStatus>,
    /// The counters.
    pub metrics: Arc<WebhookMetrics>,
}

/// What the last look found.
#[derive(Debug, Clone)]
pub(super) struct TrustStatus {
    /// The configuration.
    pub configuration: Option<Arc<MutatingWebhookConfiguration>>,
    /// What is wrong; nothing, if API servers believe us.
    pub problem: Option<String>,
}

impl TrustStatus {
    /// Before the first look, which is when nobody may be told that we are ready.
    pub(super) fn unknown() -> Self {
        Self { configuration: None, problem: Some("nothing is known yet".to_owned()) }
    }
}

/// Why a look ended early.
#[derive(Debug, thiserror::Error)]
enum ControllerError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("{0}")]
    Other(String),
}

/// Since when the bundle is what it is.
type ObservedBundle = Option<(String, Instant)>;

impl CertificateController {
    /// Looks, again and again. Never returns; drop it to stop it.
    pub(super) async fn run(mut self) {
        let pause = match &self.source {
            CertificateSource::Generated { schedule, .. } => {
                RECONCILE_INTERVAL.min(schedule.propagation_time / 2)
            }
            CertificateSource::Folder { .. } => RECONCILE_INTERVAL,
        };
        let mut observed_bundle = None;
        loop {
            // Whatever the API server says or does not: one that is over is of no use.
            if self.serving_certificate.not_after().is_none_or(|end| end <= SystemTime::now())
                && let CertificateSource::Folder { identity, .. } = &self.source
            {
                self.serving_certificate.set(identity.borrow().certified_key());
            }
            let (configuration, trouble) = match self.reconcile(&mut observed_bundle).await {
                Ok(configuration) => {
                    let trouble = distrust_reason(&configuration, &self.serving_certificate.get());
                    (Some(Arc::new(configuration)), trouble)
                }
                Err(trouble) => {
                    if matches!(trouble, ControllerError::Cluster(_)) {
                        self.metrics.cluster_failures.inc();
                    }
                    (self.status.borrow().configuration.clone(), Some(trouble.to_string()))
                }
            };
            self.publish_status(configuration, trouble);
            let woken = async {
                if self.leads.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = woken => {}
            }
        }
    }

    fn publish_status(
        &self,
        configuration: Option<Arc<MutatingWebhookConfiguration>>,
        trouble: Option<String>,
    ) {
        let before = self.status.borrow().problem.clone();
        match &trouble {
            Some(trouble) if before.as_ref() != Some(trouble) => {
                tracing::warn!(trouble, "API servers may not believe us");
            }
            None if before.is_some() => tracing::info!("API servers believe us"),
            _ => {}
        }
        self.metrics.trusted.set(i64::from(trouble.is_none()));
        self.metrics.set_not_after(self.serving_certificate.not_after());
        self.status.send_replace(TrustStatus { configuration, problem: trouble });
    }

    /// Reads, serves what is to be served, and does what is to be done.
    async fn reconcile(
        &self,
        observed_bundle: &mut ObservedBundle,
    ) -> Result<MutatingWebhookConfiguration, ControllerError> {
        for _ in 0..STEPS_MAX {
            let configuration = self.read_configuration().await?;
            let done = match &self.source {
                CertificateSource::Generated { secret, schedule } => {
                    self.reconcile_secret(&configuration, secret, *schedule, observed_bundle)
                        .await?
                }
                CertificateSource::Folder { identity, ca } => {
                    let newest = identity.borrow().certified_key();
                    self.reconcile_folder(&configuration, &newest, ca).await?
                }
            };
            if !done {
                return Ok(configuration);
            }
        }
        self.read_configuration().await
    }

    async fn read_configuration(&self) -> Result<MutatingWebhookConfiguration, ControllerError> {
        let found = self.cluster.get_opt(&self.configuration_path()).await?;
        let found = found.ok_or_else(|| {
            ControllerError::Other(format!(
                "there is no MutatingWebhookConfiguration `{}`; expected the one that names us \
                 (hint: apply it, or correct \
                 `--configuration`)",
                self.configuration
            ))
        })?;
        let configuration = MutatingWebhookConfiguration::new(found);
        if configuration.hooks().next().is_none() {
            let name = &self.configuration;
            return Err(ControllerError::Other(format!(
                "the MutatingWebhookConfiguration `{name}` has no `webhooks`"
            )));
        }
        Ok(configuration)
    }

    /// One step of the certificate of our own; whether something was done.
    async fn reconcile_secret(
        &self,
        configuration: &MutatingWebhookConfiguration,
        name: &str,
        schedule: RotationSchedule,
        observed_bundle: &mut ObservedBundle,
    ) -> Result<bool, ControllerError> {
        let secret = self.cluster.get_opt(&self.secret_path(name)).await?;
        let stored = secret.as_ref().map(CertificateSecret::from_secret).unwrap_or_default();
        if let Some(key) = stored.current.as_ref().and_then(KeyPair::certified_key)
            && key.cert != self.serving_certificate.get().cert
        {
            self.serving_certificate.set(key);
            let not_after = stored.current.as_ref().map(|pair| {
                let not_after = humantime::format_rfc3339_seconds(pair.not_after);
                not_after.to_string()
            });
            tracing::info!(?not_after, "a new certificate is served");
        }
        if !*self.leads.borrow() {
            *observed_bundle = None;
            return Ok(false);
        }
        let names = configuration.names();
        if names.is_empty() {
            let message = "no webhook of the configuration has a `clientConfig` that names us; \
                        expected a `service` or a `url`";
            return Err(ControllerError::Other(message.to_owned()));
        }
        let now = SystemTime::now();
        let step = rotation::next_step(
            &stored,
            observe_trust(configuration, &stored, observed_bundle),
            &names,
            now,
            schedule,
        );
        let stored = match step {
            RotationStep::Wait => return Ok(false),
            RotationStep::WriteBundle => {
                return self.write_bundle(configuration, &stored.bundle()).await;
            }
            RotationStep::MakeCurrent => CertificateSecret {
                current: Some(self.issue_pair(&names, schedule)?),
                next: None,
                ..stored
            },
            RotationStep::MakeNext => {
                CertificateSecret { next: Some(self.issue_pair(&names, schedule)?), ..stored }
            }
            RotationStep::Promote => stored.promote_next(),
            RotationStep::ForgetExpired => stored.without_expired(now),
        };
        tracing::info!(?step, "the certificate is turned over");
        self.write_secret(name, secret.as_ref(), &stored).await
    }

    fn issue_pair(
        &self,
        names: &std::collections::BTreeSet<String>,
        schedule: RotationSchedule,
    ) -> Result<KeyPair, ControllerError> {
        self.metrics.certificates.inc();
        KeyPair::issue(names, SystemTime::now(), schedule.lifetime)
            .map_err(|error| ControllerError::Other(error.to_string()))
    }

    async fn write_secret(
        &self,
        name: &str,
        existing: Option<&Value>,
        stored: &CertificateSecret,
    ) -> Result<bool, ControllerError> {
        let secret = stored.to_secret(existing, name, self.cluster.namespace());
        let written = match existing {
            Some(_) => self.cluster.replace(&self.secret_path(name), &secret).await,
            None => self.cluster.create(&self.secrets_path(), &secret).await,
        };
        ignore_conflict(written)
    }

    /// One step of a certificate from a folder: whoever is served is trusted until its successor
    /// is, which is served from the next look on.
    async fn reconcile_folder(
        &self,
        configuration: &MutatingWebhookConfiguration,
        newest: &Arc<CertifiedKey>,
        ca: &Path,
    ) -> Result<bool, ControllerError> {
        let served = self.serving_certificate.get();
        let is_new = served.cert != newest.cert;
        if is_new
            && (distrust_reason(configuration, newest).is_none()
                || distrust_reason(configuration, &served).is_some())
        {
            tracing::info!("the certificate of the folder is served");
            self.serving_certificate.set(newest.clone());
            return Ok(false);
        }
        if !*self.leads.borrow() || configuration.is_managed_by_cert_manager() {
            return Ok(false);
        }
        let Some(mut bundle) = read_bundle(ca).await? else { return Ok(false) };
        let distrust = |bundle: &str, key| {
            distrust_reason(
                &MutatingWebhookConfiguration::new(configuration.with_bundle(bundle)),
                key,
            )
        };
        let is_trusted = |bundle: &str, key| distrust(bundle, key).is_none();
        if let Some(why) = distrust(&bundle, newest) {
            // Or a writer is between two files.
            return Err(ControllerError::Other(format!(
                "`{}` is not the authority of the certificate beside it: {why}",
                ca.display()
            )));
        }
        if is_new && !is_trusted(&bundle, &served) {
            let before = configuration.hooks().find_map(Hook::bundle).unwrap_or_default();
            let before = String::from_utf8_lossy(&before).into_owned();
            // Once it is there, it stays as it is until the successor is served.
            if is_trusted(&before, newest) {
                return Ok(false);
            }
            bundle = format!("{}\n{}", bundle.trim_end(), before);
        }
        if configuration.has_bundle(&bundle) {
            return Ok(false);
        }
        self.write_bundle(configuration, &bundle).await?;
        Ok(false)
    }

    async fn write_bundle(
        &self,
        configuration: &MutatingWebhookConfiguration,
        bundle: &str,
    ) -> Result<bool, ControllerError> {
        self.metrics.bundles.inc();
        tracing::info!(configuration = self.configuration, "the bundles are written");
        ignore_conflict(
            self.cluster
                .replace(&self.configuration_path(), &configuration.with_bundle(bundle))
                .await,
        )
    }

    fn configuration_path(&self) -> String {
        let name = percent_encode(&self.configuration);
        format!("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{name}")
    }

    fn secrets_path(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets", percent_encode(self.cluster.namespace()))
    }

    fn secret_path(&self, name: &str) -> String {
        format!("{}/{}", self.secrets_path(), percent_encode(name))
    }
}

/// Whoever was faster has done something: all is read again.
fn ignore_conflict(written: Result<Value, ClusterError>) -> Result<bool, ControllerError> {
    match written {
        Err(error) if !error.is_conflict() => Err(error.into()),
        _ => Ok(true),
    }
}

/// Whether API servers trust what they should, and for how long that has been seen.
fn observe_trust(
    configuration: &MutatingWebhookConfiguration,
    stored: &CertificateSecret,
    observed_bundle: &mut ObservedBundle,
) -> BundleTrust {
    let bundle = stored.bundle();
    if !configuration.has_bundle(&bundle) {
        *observed_bundle = None;
        return BundleTrust::Other;
    }
    let since = match observed_bundle {
        Some((same, since)) if *same == bundle => *since,
        _ => observed_bundle.insert((bundle, Instant::now())).1,
    };
    BundleTrust::Current(since.elapsed())
}

/// Why an API server would not believe `key`, by the first webhook that does not.
fn distrust_reason(
    configuration: &MutatingWebhookConfiguration,
    key: &CertifiedKey,
) -> Option<String> {
    let now = SystemTime::now();
    configuration.hooks().find_map(|hook| {
        let name = hook.server_name().ok_or("its `clientConfig` names nobody".to_owned());
        let bundle = hook.bundle().ok_or("its `caBundle` is empty".to_owned());
        let verified = name.and_then(|name| verify_trust(&bundle?, key, &name, now));
        verified.err().map(|why| format!("the webhook `{}`: {why}", hook.name()))
    })
}

/// The bundle of a folder; `None` where there is none.
async fn read_bundle(path: &Path) -> Result<Option<String>, ControllerError> {
    use tokio::io::AsyncReadExt as _;

    let unreadable = |error: &std::io::Error| {
        ControllerError::Other(format!("`{}` cannot be read: {error}", path.display()))
    };
    let file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(&error)),
    };
    let mut text = String::new();
    file.take(BUNDLE_MAX_BYTES)
        .read_to_string(&mut text)
        .await
        .map_err(|error| unreadable(&error))?;
    Ok(Some(text).filter(|text| text.contains("BEGIN CERTIFICATE")))
}
