//! Follows the domain files: a valid change is swapped in whole, a broken one is reported and
//! changes nothing.
//!
//! Files are looked at twice a second and on SIGHUP. Watching by notification breaks on the symlink
//! swap that Kubernetes does, and a look costs less than a millisecond.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::sync::{Notify, watch};

use super::assembly::DomainCaches;
use super::{DomainsConfig, SidecarStartError};
use crate::admin::ReloadStatus;
use crate::cache::Cache;
use crate::diagnostics::{self, Problem};
use crate::domain::{Domains, Loaded};
use crate::serve::{Routes, ServeMetrics};

/// How often the files are looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The counters of reloading.
#[derive(Debug, Clone, Default)]
pub(super) struct ReloadMetrics {
    reloads: Counter,
    failures: Counter,
}

impl ReloadMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "reloads",
            "Changes of domain files that took effect",
            metrics.reloads.clone(),
        );
        registry.register(
            "reload_failures",
            "Changes of domain files that were refused, one a file",
            metrics.failures.clone(),
        );
        metrics
    }
}

/// The domains in force, and the channels on which their successors are published.
#[derive(Debug)]
pub(super) struct Reloader {
    loaded: Loaded,
    domain_caches: DomainCaches,
    pub(super) routes: watch::Sender<Arc<Routes>>,
    pub(super) caches: watch::Sender<Arc<[Cache]>>,
    pub(super) reloads: watch::Sender<ReloadStatus>,
    metrics: ReloadMetrics,
    serve_metrics: ServeMetrics,
}

impl Reloader {
    /// Puts the loaded domains in force.
    pub(super) fn new(
        loaded: Loaded,
        mut domain_caches: DomainCaches,
        serve_metrics: ServeMetrics,
        registry: &mut Registry,
    ) -> Result<Self, SidecarStartError> {
        let caches = domain_caches.update(loaded.domains());
        let caches = caches.map_err(|error| SidecarStartError::Shape(error.message))?;
        let routes = Routes::new(&caches, &serve_metrics)
            .map_err(|error| SidecarStartError::Shape(error.message))?;
        Ok(Self {
            loaded,
            domain_caches,
            routes: watch::Sender::new(Arc::new(routes)),
            caches: watch::Sender::new(caches.into()),
            reloads: watch::Sender::new(ReloadStatus::default()),
            metrics: ReloadMetrics::register(registry),
            serve_metrics,
        })
    }

    /// Follows the files until it is dropped.
    pub(super) async fn run(mut self, domains: DomainsConfig, reload_requested: Arc<Notify>) {
        let mut tick = tokio::time::interval(POLL_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = reload_requested.notified() => {
                    tracing::info!("told to read the domain files again");
                }
            }
            let loaded = self.loaded.clone();
            let DomainsConfig { paths, options } = domains.clone();
            let read = move || options.reload_if_changed(&loaded, &paths);
            if let Ok(Some(next)) = tokio::task::spawn_blocking(read).await {
                self.apply(next).await;
            }
        }
    }

    async fn apply(&mut self, next: Loaded) {
        let has_changed = !are_same_domains(next.domains(), self.loaded.domains());
        self.report_problems(&next);
        if has_changed {
            let caches = self.domain_caches.update(next.domains());
            let table =
                caches.and_then(|caches| Ok((Routes::new(&caches, &self.serve_metrics)?, caches)));
            match table {
                Ok((routes, caches)) => {
                    // A domain that is new answers once its lease is held, as at the start.
                    self.domain_caches.wait_for_heartbeat().await;
                    self.routes.send_replace(Arc::new(routes));
                    self.caches.send_replace(caches.into());
                    self.metrics.reloads.inc();
                    self.reloads.send_modify(|reloads| reloads.done += 1);
                    let domains: Vec<&str> = next.domains().keys().map(AsRef::as_ref).collect();
                    tracing::info!(
                        domains = domains.join(","),
                        "the domain files have changed and are in force"
                    );
                }
                Err(error) => tracing::error!(
                    error = error.message,
                    "a shape that was checked does not compile"
                ),
            }
        }
        self.loaded = next;
    }

    fn report_problems(&self, next: &Loaded) {
        let new_problems = next.new_problems(&self.loaded);
        let refused =
            new_problems.iter().map(|problem| &problem.file).collect::<BTreeSet<_>>().len() as u64;
        if refused > 0 {
            self.metrics.failures.inc_by(refused);
            let text = diagnostics::render(&new_problems, false);
            tracing::warn!(
                "a change of the domain files was refused, the old version stays\n{text}"
            );
        }
        let problems: Vec<String> = next.problems().iter().map(problem_text).collect();
        self.reloads.send_modify(|reloads| {
            reloads.failed += refused;
            reloads.problems = problems;
        });
    }
}

/// A file that did not change keeps its very domain.
fn are_same_domains(a: &Domains, b: &Domains) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|((_, a), (_, b))| Arc::ptr_eq(a, b))
}

fn problem_text(problem: &Problem) -> String {
    format!("{}:{}:{}: {}", problem.file.display(), problem.line, problem.column, problem.message)
}
