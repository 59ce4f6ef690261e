//! Which replica leads: the one that holds the Lease. It alone makes certificates, writes bundles
//! and looks for pods without a sidecar; all replicas answer.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::cluster::{Cluster, ClusterError, encoded};
use super::lease::{Me, Move, Watched};
use super::metrics::Metrics;

/// Takes part in the election.
#[derive(Debug)]
pub(super) struct Election {
    cluster: Cluster,
    name: String,
    me: Me,
    leads: watch::Sender<bool>,
    metrics: Arc<Metrics>,
}

impl Election {
    /// For the Lease `name` of our namespace.
    pub(super) fn new(cluster: Cluster, name: &str, me: Me, metrics: Arc<Metrics>) -> Self {
        Self { cluster, name: name.to_owned(), me, leads: watch::Sender::new(false), metrics }
    }

    /// Whether we lead, as it changes.
    pub(super) fn leads(&self) -> watch::Receiver<bool> {
        self.leads.subscribe()
    }

    /// Takes part until `stopped`; then gives up what we hold, so that another replica leads at
    /// once.
    pub(super) async fn run(self, stopped: impl Future<Output = ()>) {
        tokio::select! {
            () = self.take_part() => {}
            () = stopped => {}
        }
        let led = *self.leads.borrow();
        self.set(false);
        if led && let Err(error) = self.release().await {
            tracing::warn!(%error, "the lease could not be given up; it lapses by itself");
        }
    }

    async fn take_part(&self) {
        let mut watched = Watched::default();
        let mut renewed = Instant::now();
        let mut told = false;
        loop {
            let began = Instant::now();
            // Who leads must know in time that it does no longer: before others may take the lease.
            let until = renewed + self.me.duration * 2 / 3;
            let limit = if *self.leads.borrow() {
                until.saturating_duration_since(began)
            } else {
                self.me.duration
            };
            match self.once(&mut watched, limit.min(self.me.duration / 3)).await {
                Ok(leads) => {
                    if leads {
                        renewed = began;
                    }
                    told = false;
                    self.set(leads);
                }
                Err(error) => {
                    self.metrics.cluster_failures.inc();
                    if !told {
                        tracing::warn!(%error, "the lease cannot be looked at");
                    }
                    told = true;
                }
            }
            let pause = (self.me.duration / 10).mul_f64(0.9 + fastrand::f64() / 5.0);
            if Instant::now() + pause > renewed + self.me.duration * 2 / 3 {
                self.set(false);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Looks, and takes or renews the lease where that is ours to do; whether we lead then.
    async fn once(&self, watched: &mut Watched, limit: Duration) -> Result<bool, ClusterError> {
        let looked = tokio::time::timeout(limit, async {
            let lease = self.cluster.find(&self.path()).await?;
            match watched.look(lease.as_ref(), &self.me, Instant::now(), SystemTime::now()) {
                Move::Follow => Ok(false),
                Move::Write(written) => self.write(lease.is_some(), written).await,
            }
        });
        looked.await.unwrap_or_else(|_| {
            Err(ClusterError::NoAnswer {
                request: format!("GET {}", self.path()),
                why: format!("not within {limit:?}"),
            })
        })
    }

    async fn write(&self, there: bool, mut lease: Value) -> Result<bool, ClusterError> {
        let written = if there {
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
            match self.me.released(&lease, SystemTime::now()) {
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

    fn set(&self, leads: bool) {
        let changed =
            self.leads.send_if_modified(|before| std::mem::replace(before, leads) != leads);
        if changed {
            self.metrics.leader.set(i64::from(leads));
            if leads {
                tracing::info!(me = self.me.name, "this replica leads");
            } else {
                tracing::info!(me = self.me.name, "this replica leads no longer");
            }
        }
    }

    fn collection(&self) -> String {
        format!(
            "/apis/coordination.k8s.io/v1/namespaces/{}/leases",
            encoded(self.cluster.namespace())
        )
    }

    fn path(&self) -> String {
        format!("{}/{}", self.collection(), encoded(&self.name))
    }
}
