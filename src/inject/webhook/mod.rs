//! The mutating admission webhook: an API server sends an admission review for each pod that is
//! created, and gets the patch that adds the sidecar.
//!
//! ```text
//!   admission_handler         HTTP: `/mutate`, probes, metrics
//!     ├── review_body         receives a review's body · review_budget: the memory and the threads
//!     ├── pending_review      a parsed review on its way to a decision
//!     │     └── review · verdict            an `AdmissionReview` in, its response out. Pure
//!     ├── review_error · responses
//!     └── namespace_watcher   the labels of all namespaces
//!
//!   certificate_controller    reconciles the served certificate and the bundles
//!     ├── generated_certificate             a certificate of our own, in a Secret
//!     │     └── rotation · certificate_secret               Pure
//!     ├── folder_certificate                a certificate of `--identity`
//!     ├── serving_certificate               the certificate that TLS serves
//!     └── configuration_client · configuration (pure)       the `MutatingWebhookConfiguration`
//!
//!   leader_election           the Lease of the replica that writes · leader_lease (pure)
//!   watchdog                  pods that should have a sidecar and have none
//!   cluster                   the client of the API server
//! ```
//!
//! # What it promises
//!
//! - A review of anything but the creation of a pod gets the response `allowed`. So does the review
//!   of a pod that has its sidecar.
//! - A body that is no review gets a 400 that says what was expected. A review whose decision needs
//!   the label of a namespace that the API server does not tell gets a 503: the `failurePolicy`
//!   then decides.
//! - Reviews are decided off the event loop, in time and memory in proportion to their size; the
//!   memory of all of them is bounded, and small reviews do not wait for large ones. A review for
//!   which there is no memory or no time gets a 429.
//! - Rotation keeps the served certificate trusted: a certificate of the webhook's own that all
//!   webhooks of the configuration trust is only replaced by one that they trust too. `rotation.rs`
//!   says how. A bundle that somebody else changes is written again within seconds.
//!
//! # The rights that it needs
//!
//! Of the `mutatingwebhookconfigurations` it needs the one that `--configuration` names.
//!
//! | group | resource | verbs | where |
//! | --- | --- | --- | --- |
//! | `admissionregistration.k8s.io` | `mutatingwebhookconfigurations` | `get`, `update` | cluster |
//! | | `namespaces` | `get`, `list`, `watch` | cluster |
//! | | `pods` (with `failurePolicy: Ignore`) | `list` | cluster |
//! | | `events` (with `failurePolicy: Ignore`) | `create` | cluster |
//! | `coordination.k8s.io` | `leases`: `bfb-webhook` | `get`, `update` | its own namespace |
//! | `coordination.k8s.io` | `leases` | `create` | its own namespace |
//! | | `secrets`: `bfb-webhook` (without `--identity`) | `get`, `update` | its own namespace |
//! | | `secrets` (without `--identity`) | `create` | its own namespace |

mod admission_handler;
mod certificate_controller;
mod certificate_secret;
mod cluster;
mod configuration;
mod configuration_client;
mod folder_certificate;
mod generated_certificate;
mod leader_election;
mod leader_lease;
mod metrics;
mod namespace_watcher;
mod pending_review;
mod reconcile_error;
mod responses;
mod review;
mod review_body;
mod review_budget;
mod review_error;
mod rotation;
mod selector;
mod serving_certificate;
mod verdict;
mod watchdog;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Defaults;
use crate::http::{Activity, BindError, ListenAddress, Listener, PortLimits, accept_tls};
use crate::identity::{self, Identity, IdentityError, IdentityPaths};
use crate::supervisor::{Control, DrainTimes, GracefulTask, Supervisor, TaskEnded};
use admission_handler::AdmissionHandler;
use certificate_controller::{CertificateController, CertificateSource, TrustStatus};
use certificate_secret::KeyPair;
use cluster::Cluster;
use configuration_client::ConfigurationClient;
use folder_certificate::FolderCertificate;
use generated_certificate::GeneratedCertificate;
use leader_election::LeaderElection;
use metrics::WebhookMetrics;
use namespace_watcher::NamespaceWatcher;
use review_budget::ReviewBudget;
use rotation::RotationSchedule;
use serving_certificate::ServingCertificate;
use watchdog::Watchdog;

pub use cluster::{ClusterConnectError, ClusterError};
pub use leader_lease::LeaseCandidate;
pub use review::{AdmissionReview, MalformedReview, ReviewSubject};
pub use verdict::{AdmissionVerdict, StatusCause, decide_pod, decide_without_namespace};

/// The name of the Lease and of the Secret in the webhook's namespace.
const OBJECT_NAME: &str = "bfb-webhook";
/// The memory of all requests under way, in bytes: twice what `review_budget.rs` gives to the
/// bodies of reviews. So reviews wait for that budget, and the rest is for heads and for other
/// requests.
const REQUEST_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long the start waits for a first answer of the API server.
const REACH_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a replica that ends still answers, until API servers send their reviews elsewhere.
const DEREGISTRATION_TIME: Duration = Duration::from_secs(3);

/// The settings of a webhook.
#[derive(Debug)]
pub struct WebhookConfig {
    /// The address that API servers connect to.
    pub listen: SocketAddr,
    /// The kubeconfig, for a webhook outside of the cluster; `None` in a pod.
    pub kubeconfig: Option<PathBuf>,
    /// The webhook's namespace, if not that of the kubeconfig or of the pod.
    pub namespace: Option<String>,
    /// The name of the `MutatingWebhookConfiguration` whose bundles are reconciled.
    pub configuration: String,
    /// The folder of the certificate; `None` for a generated one.
    pub identity_dir: Option<PathBuf>,
    /// The defaults of pods that do not set their own.
    pub defaults: Defaults,
    /// The name of this replica, and the duration of the leader's Lease.
    pub candidate: LeaseCandidate,
    /// The lifetime of a generated certificate.
    pub certificate_lifetime: Duration,
    /// The time between two scans for pods without their sidecar.
    pub watchdog_interval: Duration,
    /// The longest drain.
    pub drain: Duration,
    /// The limits of the port.
    pub limits: PortLimits,
}

/// Why a webhook did not start.
#[derive(Debug, thiserror::Error)]
pub enum WebhookStartError {
    /// There is no client for the cluster.
    #[error(transparent)]
    Connect(#[from] ClusterConnectError),
    /// The cluster does not answer.
    #[error("{0} (hint: is it the right cluster, and does it run?)")]
    Cluster(#[from] ClusterError),
    /// The cluster is older than native sidecars.
    #[error(
        "the cluster is Kubernetes {0}, which would wait for a sidecar to end before it starts the \
         application; expected 1.29 or newer (hint: upgrade the cluster, or run `bfb serve` as a \
         container of your own)"
    )]
    TooOld(String),
    /// The folder holds no usable certificate.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The port cannot be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The TLS server cannot be configured: a fault of the program.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// A webhook whose port is open.
#[derive(Debug)]
pub struct Webhook {
    config: WebhookConfig,
    cluster: Cluster,
    listener: Listener,
    identity: Option<(IdentityPaths, watch::Sender<Arc<Identity>>)>,
    serving_certificate: ServingCertificate,
    tls_config: Arc<ServerConfig>,
}

/// Why a webhook ended without being stopped.
#[derive(Debug, thiserror::Error)]
#[error("a part of the webhook ended: {0}")]
pub struct WebhookRunError(TaskEnded);

impl Webhook {
    /// Checks the version of the cluster, reads the certificate, and opens the port.
    pub async fn start(config: WebhookConfig) -> Result<Self, WebhookStartError> {
        let cluster = Cluster::new(config.kubeconfig.as_deref(), config.namespace.clone()).await?;
        let version = wait_for_cluster(&cluster).await?;
        if !version.has_native_sidecars {
            return Err(WebhookStartError::TooOld(version.name));
        }
        let identity = config.identity_dir.as_deref().map(read_identity).transpose()?;
        let first = match &identity {
            Some((_, identity)) => identity.borrow().certified_key(),
            None => placeholder_certificate()?,
        };
        let serving_certificate = ServingCertificate::new(first);
        let tls_config = serving_certificate
            .server_config()
            .map_err(|error| WebhookStartError::Tls(error.to_string()))?;
        let listener = Listener::bind(&ListenAddress::Tcp(config.listen), 0).await?;
        tracing::info!(
            kubernetes = version.name,
            namespace = cluster.namespace(),
            "the cluster is reached"
        );
        Ok(Self { config, cluster, listener, identity, serving_certificate, tls_config })
    }

    /// The address of the port.
    pub fn address(&self) -> &ListenAddress {
        self.listener.address()
    }

    /// Serves until `control` stops it, then drains; a second stop ends the drain. Returns early if
    /// one of its parts ends unexpectedly.
    pub async fn run(self, mut control: Control) -> Result<(), WebhookRunError> {
        let drain = DrainTimes { least: DEREGISTRATION_TIME, most: self.config.drain };
        let mut metrics = WebhookMetrics::new();
        let review_budget = ReviewBudget::new(metrics.registry());
        let metrics = Arc::new(metrics);
        let election = LeaderElection::new(
            self.cluster.clone(),
            OBJECT_NAME,
            self.config.candidate.clone(),
            metrics.clone(),
        );
        let is_leader = election.subscribe();
        let election = GracefulTask::spawn(|end| election.run(end));
        let mut supervisor = Supervisor::new(Activity::default());
        let admissions = self.spawn_parts(&mut supervisor, &is_leader, &metrics, review_budget);
        let result = supervisor.run_until_stopped(&mut control, async {}).await;
        admissions.mark_ending();
        election.end();
        supervisor.drain(&mut control, drain).await;
        election.ended().await;
        supervisor.stop_tasks();
        supervisor.close_connections().await;
        result.map_err(WebhookRunError)
    }

    /// Spawns the tasks that run for as long as the webhook does.
    fn spawn_parts(
        self,
        supervisor: &mut Supervisor,
        is_leader: &watch::Receiver<bool>,
        metrics: &Arc<WebhookMetrics>,
        review_budget: ReviewBudget,
    ) -> AdmissionHandler {
        let Self { config, cluster, listener, identity, serving_certificate, tls_config } = self;
        let source = match identity {
            Some((paths, identity)) => {
                let certificate = FolderCertificate {
                    identity: identity.subscribe(),
                    bundle_path: paths.dir.join("ca.crt"),
                };
                supervisor.spawn(identity::follow_files(paths, identity, metrics.identity.clone()));
                CertificateSource::Folder(certificate)
            }
            None => CertificateSource::Generated(GeneratedCertificate::new(
                cluster.clone(),
                OBJECT_NAME,
                RotationSchedule::for_lifetime(config.certificate_lifetime),
                metrics.clone(),
            )),
        };
        let namespaces = NamespaceWatcher::new(cluster.clone(), metrics.clone());
        let (status_sender, trust_status) = watch::channel(TrustStatus::unknown());
        let defaults = Arc::new(config.defaults);
        let admissions = AdmissionHandler::new(
            defaults.clone(),
            namespaces.clone(),
            trust_status.clone(),
            review_budget,
            metrics.clone(),
        );
        supervisor.spawn(namespaces.clone().run());
        let watchdog = Watchdog {
            cluster: cluster.clone(),
            defaults,
            namespaces,
            is_leader: is_leader.clone(),
            trust_status,
            interval: config.watchdog_interval,
            metrics: metrics.clone(),
        };
        supervisor.spawn(watchdog.run());
        let controller = CertificateController {
            configuration: ConfigurationClient {
                cluster,
                name: config.configuration,
                metrics: metrics.clone(),
            },
            source,
            serving_certificate,
            is_leader: is_leader.clone(),
            status: status_sender,
            metrics: metrics.clone(),
        };
        supervisor.spawn(controller.run());
        let limits = PortLimits { request_bytes_max: REQUEST_BYTES_MAX, ..config.limits };
        let port = supervisor.port(&metrics.port);
        supervisor.spawn(accept_tls(listener, tls_config, admissions.clone(), limits, port));
        admissions
    }
}

/// Asks for the cluster's version, and again until [`REACH_TIMEOUT`] while there is no answer: the
/// cluster may just be starting.
async fn wait_for_cluster(cluster: &Cluster) -> Result<cluster::ClusterVersion, ClusterError> {
    let began = Instant::now();
    loop {
        match cluster.version().await {
            Err(ClusterError::NoAnswer { request, why }) if began.elapsed() < REACH_TIMEOUT => {
                tracing::info!(request, why, "the API server does not answer yet");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            result => return result,
        }
    }
}

/// Reads the folder of `--identity`. `ca.crt` may be missing from it: somebody else then writes the
/// bundles.
fn read_identity(
    dir: &Path,
) -> Result<(IdentityPaths, watch::Sender<Arc<Identity>>), IdentityError> {
    let ca = if dir.join("ca.crt").exists() { None } else { Some(dir.join("tls.crt")) };
    let paths = IdentityPaths { dir: dir.to_owned(), ca };
    let identity = Identity::load(&paths, 0)?;
    Ok((paths, watch::Sender::new(Arc::new(identity))))
}

/// A certificate that no API server trusts: it lets the kubelet's probes connect before the real
/// one is known.
fn placeholder_certificate() -> Result<Arc<rustls::sign::CertifiedKey>, WebhookStartError> {
    let names = BTreeSet::from([OBJECT_NAME.to_owned()]);
    let pair = KeyPair::issue(&names, SystemTime::now(), Duration::from_hours(1))
        .map_err(|error| WebhookStartError::Tls(error.to_string()))?;
    pair.certified_key()
        .ok_or_else(|| WebhookStartError::Tls("a certificate of our own cannot be used".to_owned()))
}
