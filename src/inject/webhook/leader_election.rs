//! The election of the leader: the replica that holds the Lease. Only the leader generates
//! certificates, writes bundles and scans for pods without a sidecar; every replica answers
//! reviews.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::cluster::{Cluster, ClusterError, percent_encode};
use super::leader_lease::{LeaseAction, LeaseCandidate, ObservedLease};
use super::metrics::WebhookMetrics;

/// A candidate of the election.
#[derive(Debug)]
pub(super) struct LeaderElection {
    cluster: Cluster,
    name: String,
    candidate: LeaseCandidate,
    is_leader: watch::Sender<bool>,
    metrics: Arc<WebhookMetrics>,
}

impl LeaderElection {
    /// A candidate for the Lease `name` in the webhook's namespace.
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
            is_leader: watch::Sender::new(false),
            metrics,
        }
    }

    /// Whether this replica is the leader, as it changes.
    pub(super) fn subscribe(&self) -> watch::Receiver<bool> {
        self.is_leader.subscribe()
    }

    /// Acquires and renews the lease until `stop`; then releases it, so that another replica can
    /// lead at once.
    pub(super) async fn run(self, stop: impl Future<Output = ()>) {
        tokio::select! {
            () = self.acquire_and_renew() => {}
            () = stop => {}
        }
        let was_leader = *self.is_leader.borrow();
        self.set_leader(false);
        if was_leader && let Err(error) = self.release().await {
            tracing::warn!(%error, "the lease could not be given up; it lapses by itself");
        }
    }

    async fn acquire_and_renew(&self) {
        let mut observed = ObservedLease::default();
        let mut renewed_at = Instant::now();
        let mut is_failure_logged = false;
        loop {
            let began = Instant::now();
            // A leader steps down after two thirds of the lease: before other replicas may take it.
            let until = renewed_at + self.candidate.duration * 2 / 3;
            let remaining = if *self.is_leader.borrow() {
                until.saturating_duration_since(began)
            } else {
                self.candidate.duration
            };
            let timeout = remaining.min(self.candidate.duration / 3);
            match self.try_acquire_or_renew(&mut observed, timeout).await {
                Ok(is_leader) => {
                    if is_leader {
                        renewed_at = began;
                    }
                    is_failure_logged = false;
                    self.set_leader(is_leader);
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
            if Instant::now() + pause > renewed_at + self.candidate.duration * 2 / 3 {
                self.set_leader(false);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads the lease, and acquires or renews it if it is free or held by this replica. Returns
    /// whether this replica is the leader.
    async fn try_acquire_or_renew(
        &self,
        observed: &mut ObservedLease,
        timeout: Duration,
    ) -> Result<bool, ClusterError> {
        let attempt = tokio::time::timeout(timeout, async {
            let lease = self.cluster.get_opt(&self.path()).await?;
            match observed.next_action(
                lease.as_ref(),
                &self.candidate,
                Instant::now(),
                SystemTime::now(),
            ) {
                LeaseAction::Follow => Ok(false),
                LeaseAction::Write(new_lease) => self.write(lease.is_some(), new_lease).await,
            }
        });
        attempt.await.unwrap_or_else(|_| {
            Err(ClusterError::NoAnswer {
                request: format!("GET {}", self.path()),
                why: format!("not within {timeout:?}"),
            })
        })
    }

    /// Replaces or creates the lease. Returns whether this replica is the leader.
    async fn write(&self, exists: bool, mut lease: Value) -> Result<bool, ClusterError> {
        let result = if exists {
            self.cluster.replace(&self.path(), &lease).await
        } else {
            lease["apiVersion"] = "coordination.k8s.io/v1".into();
            lease["kind"] = "Lease".into();
            lease["metadata"] = json!({"name": self.name, "namespace": self.cluster.namespace()});
            self.cluster.create(&self.collection_path(), &lease).await
        };
        match result {
            Ok(_) => Ok(true),
            // A conflict means that another replica wrote first.
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn release(&self) -> Result<(), ClusterError> {
        /// The release is part of the shutdown, whose drain is short.
        const TIMEOUT: Duration = Duration::from_secs(2);
        let release = async {
            let lease = self.cluster.get(&self.path()).await?;
            match self.candidate.released_lease(&lease, SystemTime::now()) {
                Some(new_lease) => self.cluster.replace(&self.path(), &new_lease).await.map(drop),
                None => Ok(()),
            }
        };
        let late = |_| ClusterError::NoAnswer {
            request: format!("PUT {}", self.path()),
            why: format!("not within {TIMEOUT:?}"),
        };
        tokio::time::timeout(TIMEOUT, release).await.unwrap_or_else(|error| Err(late(error)))
    }

    fn set_leader(&self, is_leader: bool) {
        let has_changed = self
            .is_leader
            .send_if_modified(|previous| std::mem::replace(previous, is_leader) != is_leader);
        if has_changed {
            self.metrics.leader.set(i64::from(is_leader));
            if is_leader {
                tracing::info!(me = self.candidate.name, "this replica leads");
            } else {
                tracing::info!(me = self.candidate.name, "this replica leads no longer");
            }
        }
    }

    fn collection_path(&self) -> String {
        format!(
            "/apis/coordination.k8s.io/v1/namespaces/{}/leases",
            percent_encode(self.cluster.namespace())
        )
    }

    fn path(&self) -> String {
        format!("{}/{}", self.collection_path(), percent_encode(&self.name))
    }
}
