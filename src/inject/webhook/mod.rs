//! The mutating admission webhook: an API server asks about each pod that is created, and is told
//! what to add.
//!
//! ```text
//!   answer          HTTP: `/mutate`, probes, metrics
//!     │
//!     ├── workload           what reviews under way may hold together
//!   review ── verdict        an `AdmissionReview` in, its answer out. Pure
//!     │           └── namespaces       the labels of all namespaces, followed
//!   tls             the certificate that is served
//!     │
//!   keeper          what is served, what API servers trust, and the steps between
//!     │   └── rotation · certificate · configuration       Pure
//!   leader          who does those steps: a Lease
//!     │   └── lease       Pure
//!   watchdog        pods that should have a sidecar and have none
//!     │
//!   cluster         the API server, as far as all these need it
//! ```
//!
//! # What it promises
//!
//! - A review of anything but the creation of a pod is answered with `allowed`. So is one of a pod
//!   that has its sidecar.
//! - What cannot be read is a 400 that says what was expected. What cannot be decided, because the
//!   API server does not tell the label of a namespace, is a 503: then the `failurePolicy` decides.
//! - Reviews are decided off the event loop, in time and memory in proportion to their size; what
//!   all of them hold is bounded, and small ones do not wait for large ones. What there is no room
//!   or time for is a 429.
//! - A certificate of its own is served only while all webhooks of the configuration trust it, if
//!   they did before; how is written in `rotation.rs`. What somebody does to the bundles is undone
//!   within seconds.
//!
//! # What it needs to be allowed
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
mod leader_election;
mod leader_lease;
mod metrics;
mod namespace_watcher;
mod review;
mod review_budget;
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

/// The name of the Lease and of the Secret in our namespace.
const OBJECT_NAME: &str = "bfb-webhook";
/// What all requests under way may hold together: twice what `workload.rs` lets the bodies of
/// reviews hold, so that reviews wait there, and this is for heads and for what is no review.
const REQUEST_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long to try to reach the API server at the start.
const REACH_TIMEOUT: Duration = Duration::from_secs(10);
/// How long until API servers have learned that we are about to end.
const DEREGISTRATION_TIME: Duration = Duration::from_secs(3);

/// All that a webhook is told.
#[derive(Debug)]
pub struct WebhookConfig {
    /// Where API servers ask.
    pub listen: SocketAddr,
    /// The cluster, where this is no pod of it.
    pub kubeconfig: Option<PathBuf>,
    /// Our namespace, where neither the kubeconfig nor the pod is to say.
    pub namespace: Option<String>,
    /// The `MutatingWebhookConfiguration` whose bundles are kept right.
    pub configuration: String,
    /// The folder of our certificate; without it we make our own.
    pub identity_dir: Option<PathBuf>,
    /// What holds for pods that do not say otherwise.
    pub defaults: Defaults,
    /// Who we are among the replicas, and how long the others wait for us.
    pub candidate: LeaseCandidate,
    /// How long a certificate of our own lasts.
    pub certificate_lifetime: Duration,
    /// How often to look for pods without their sidecar.
    pub watchdog_interval: Duration,
    /// How long the end may take.
    pub drain: Duration,
    /// The bounds of the port.
    pub limits: PortLimits,
}

/// Why a webhook did not start.
#[derive(Debug, thiserror::Error)]
pub enum WebhookStartError {
    /// There is no cluster to speak to.
    #[error(transparent)]
    Connect(#[from] ClusterConnectError),
    /// The cluster does not answer.
    #[error("{0} (hint: is it the right cluster, and does it run?)")]
    Cluster(#[from] ClusterError),
    /// The cluster does not know native sidecars.
    #[error(
        "the cluster is Kubernetes {0}, which would wait for a sidecar to end before it starts the \
         application; expected 1.29 or \
         newer (hint: upgrade the cluster, or run `bfb serve` as a container of your own)"
    )]
    TooOld(String),
    /// The folder holds no usable certificate.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The port cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A fault of ours.
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

/// Why a webhook ended that was not told to.
#[derive(Debug, thiserror::Error)]
#[error("a part of the webhook ended: {0}")]
pub struct WebhookRunError(TaskEnded);

impl Webhook {
    /// Asks the cluster what it is, reads the certificate, opens the port.
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

    /// Where it answers.
    pub fn address(&self) -> &ListenAddress {
        self.listener.address()
    }

    /// Answers until it is told to stop, then drains; told again, it drains no longer. Returns
    /// early if a part ends that should not.
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
        let leads = election.subscribe();
        let election = GracefulTask::spawn(|end| election.run(end));
        let mut supervisor = Supervisor::new(Activity::default());
        let admissions = self.spawn_parts(&mut supervisor, &leads, &metrics, review_budget);
        let result = supervisor.run_until_stopped(&mut control, async {}).await;
        admissions.mark_ending();
        election.end();
        supervisor.drain(&mut control, drain).await;
        election.ended().await;
        supervisor.stop_tasks();
        supervisor.close_connections().await;
        result.map_err(WebhookRunError)
    }

    /// Everything that runs for as long as the webhook does.
    fn spawn_parts(
        self,
        supervisor: &mut Supervisor,
        leads: &watch::Receiver<bool>,
        metrics: &Arc<WebhookMetrics>,
        review_budget: ReviewBudget,
    ) -> AdmissionHandler {
        let Self { config, cluster, listener, identity, serving_certificate, tls_config } = self;
        let source = match identity {
            Some((paths, identity)) => {
                let source = CertificateSource::Folder {
                    identity: identity.subscribe(),
                    ca: paths.dir.join("ca.crt"),
                };
                supervisor.spawn(identity::follow(paths, identity, metrics.identity.clone()));
                source
            }
            None => CertificateSource::Generated {
                secret: OBJECT_NAME.to_owned(),
                schedule: RotationSchedule::for_lifetime(config.certificate_lifetime),
            },
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
            leads: leads.clone(),
            trust_status,
            interval: config.watchdog_interval,
            metrics: metrics.clone(),
        };
        supervisor.spawn(watchdog.run());
        let controller = CertificateController {
            cluster,
            configuration: config.configuration,
            source,
            serving_certificate,
            leads: leads.clone(),
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

/// Asks for the version, for a while: a cluster may be just about to start.
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

/// Reads the folder. A folder without `ca.crt` is as good as another: who trusts us is then
/// somebody else's business.
fn read_identity(
    dir: &Path,
) -> Result<(IdentityPaths, watch::Sender<Arc<Identity>>), IdentityError> {
    let ca = if dir.join("ca.crt").exists() { None } else { Some(dir.join("tls.crt")) };
    let paths = IdentityPaths { dir: dir.to_owned(), ca };
    let identity = Identity::load(&paths, 0)?;
    Ok((paths, watch::Sender::new(Arc::new(identity))))
}

/// A certificate that nobody trusts, so that probes are answered before there is a real one.
fn placeholder_certificate() -> Result<Arc<rustls::sign::CertifiedKey>, WebhookStartError> {
    let names = BTreeSet::from([OBJECT_NAME.to_owned()]);
    let pair = KeyPair::issue(&names, SystemTime::now(), Duration::from_hours(1))
        .map_err(|error| WebhookStartError::Tls(error.to_string()))?;
    pair.certified_key()
        .ok_or_else(|| WebhookStartError::Tls("a certificate of our own cannot be used".to_owned()))
}
