//! Which replica leads: the one that holds the Lease. It alone makes certificates, writes bundles
//! and looks for pods without a sidecar; all replicas answer.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::cluster::{Cluster, ClusterError, percent_encode};
use super::leader_lease::{LeaseAction, LeaseCandidate, ObservedLease};
use super::metrics::WebhookMetrics;

/// Takes part in the election.
#[derive(Debug)]
pub(super) struct LeaderElection {
    cluster: Cluster,
    name: String,
    candidate: LeaseCandidate,
    leads: watch::Sender<bool>,
    metrics: Arc<WebhookMetrics>,
}

impl LeaderElection {
    /// For the Lease `name` of our namespace.
    pub(super) fn new(
        cluster: Cluster,
        name: &str,
        candidate: LeaseCandidate,
        metrics: Arc<WebhookMetrics>,
    ) -> Self {
        Self {
            cluster,
            name: name.to_owned(),
            candidate,
            leads: watch::Sender::new(false),
            metrics,
        }
    }

    /// Whether we lead, as it changes.
    pub(super) fn subscribe(&self) -> watch::Receiver<bool> {
        self.leads.subscribe()
    }

    /// Takes part until `stopped`; then gives up what we hold, so that another replica leads at
    /// once.
    pub(super) async fn run(self, stopped: impl Future<Output = ()>) {
        tokio::select! {
            () = self.acquire_and_renew() => {}
            () = stopped => {}
        }
        let led = *self.leads.borrow();
        self.set_leading(false);
        if led && let Err(error) = self.release().await {
            tracing::warn!(%error, "the lease could not be given up; it lapses by itself");
        }
    }

    async fn acquire_and_renew(&self) {
        let mut observed = ObservedLease::default();
        let mut renewed = Instant::now();
        let mut is_failure_logged = false;
        loop {
            let began = Instant::now();
            // Who leads must know in time that it does no longer: before others may take the lease.
            let until = renewed + self.candidate.duration * 2 / 3;
            let limit = if *self.leads.borrow() {
                until.saturating_duration_since(began)
            } else {
                self.candidate.duration
            };
            match self
                .try_acquire_or_renew(&mut observed, limit.min(self.candidate.duration / 3))
                .await
            {
                Ok(leads) => {
                    if leads {
                        renewed = began;
                    }
                    is_failure_logged = false;
                    self.set_leading(leads);
                }
                Err(error) => {
                    self.metrics.cluster_failures.inc();
                    if !is_failure_logged {
                        tracing::warn!(%error, "the lease cannot be looked at");
                    }
                    is_failure_logged = true;
                }
            }
            let pause = (self.candidate.duration / 10).mul_f64(0.9 + fastrand::f64() / 5.0);
            if Instant::now() + pause > renewed + self.candidate.duration * 2 / 3 {
                self.set_leading(false);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Looks, and takes or renews the lease where that is ours to do; whether we lead then.
    async fn try_acquire_or_renew(
        &self,
        observed: &mut ObservedLease,
        limit: Duration,
    ) -> Result<bool, ClusterError> {
        let attempt = tokio::time::timeout(limit, async {
            let lease = self.cluster.get_opt(&self.path()).await?;
            match observed.next_action(
                lease.as_ref(),
                &self.candidate,
                Instant::now(),
                SystemTime::now(),
            ) {
                LeaseAction::Follow => Ok(false),
                LeaseAction::Write(written) => self.write(lease.is_some(), written).await,
            }
        });
        attempt.await.unwrap_or_else(|_| {
            Err(ClusterError::NoAnswer {
                request: format!("GET {}", self.path()),
                why: format!("not within {limit:?}"),
            })
        })
    }

    async fn write(&self, exists: bool, mut lease: Value) -> Result<bool, ClusterError> {
        let written = if exists {
            self.cluster.replace(&self.path(), &lease).await
        } else {
            lease["apiVersion"] = "coordination.k8s.io/v1".into();
            lease["kind"] = "Lease".into();
            lease["metadata"] = json!({"name": self.name, "namespace": self.cluster.namespace()});
            self.cluster.create(&self.collection(), &lease).await
        };
        match written {
            Ok(_) => Ok(true),
            // Another one was faster.
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn release(&self) -> Result<(), ClusterError> {
        /// Whoever waits for us to end does not wait for long.
        const LIMIT: Duration = Duration::from_secs(2);
        let released = async {
            let lease = self.cluster.get(&self.path()).await?;
            match self.candidate.released_lease(&lease, SystemTime::now()) {
                Some(released) => self.cluster.replace(&self.path(), &released).await.map(drop),
                None => Ok(()),
            }
        };
        let late = |_| ClusterError::NoAnswer {
            request: format!("PUT {}", self.path()),
            why: format!("not within {LIMIT:?}"),
        };
        tokio::time::timeout(LIMIT, released).await.unwrap_or_else(|error| Err(late(error)))
    }

    fn set_leading(&self, leads: bool) {
        let changed =
            self.leads.send_if_modified(|before| std::mem::replace(before, leads) != leads);
        if changed {
            self.metrics.leader.set(i64::from(leads));
            if leads {
                tracing::info!(me = self.candidate.name, "this replica leads");
            } else {
                tracing::info!(me = self.candidate.name, "this replica leads no longer");
            }
        }
    }

    fn collection(&self) -> String {
        format!(
            "/apis/coordination.k8s.io/v1/namespaces/{}/leases",
            percent_encode(self.cluster.namespace())
        )
    }

    fn path(&self) -> String {
        format!("{}/{}", self.collection(), percent_encode(&self.name))
    }
}
