//! Follows the domain files: a valid change is swapped in whole, a broken one is reported and
//! changes nothing.
//!
//! Files are looked at twice a second and on SIGHUP. Watching by notification breaks on the symlink
//! swap that Kubernetes does, and a look costs less than a millisecond.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::sync::{Notify, watch};

use super::plans::{Plans, Reading};
use crate::admin::Reloads;
use crate::domain::{self, Domains, Loaded, Problem};
use crate::serve::{self, Table};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// The counters of reloading.
#[derive(Debug, Clone, Default)]
pub(super) struct Metrics {
    reloads: Counter,
    failures: Counter,
}

impl Metrics {
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

/// What is in force, and where the next goes.
pub(super) struct Following {
    pub(super) loaded: Loaded,
    pub(super) plans: Plans,
    pub(super) table: watch::Sender<Arc<Table>>,
    pub(super) reloads: watch::Sender<Reloads>,
    pub(super) metrics: Metrics,
    pub(super) serve_metrics: serve::Metrics,
}

impl Following {
    /// Follows the files until it is dropped.
    pub(super) async fn follow(mut self, paths: Vec<PathBuf>, reading: Reading, now: Arc<Notify>) {
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = now.notified() => tracing::info!("told to read the domain files again"),
            }
            let (loaded, paths, reading) = (self.loaded.clone(), paths.clone(), reading);
            let read = tokio::task::spawn_blocking(move || reading.again(&loaded, &paths));
            if let Ok(Some(next)) = read.await {
                self.swap(next).await;
            }
        }
    }

    async fn swap(&mut self, next: Loaded) {
        let changed = !same(next.domains(), self.loaded.domains());
        self.report(&next);
        if changed {
            let caches = self.plans.update(next.domains());
            match caches.and_then(|caches| Table::new(caches, &self.serve_metrics)) {
                Ok(table) => {
                    // A domain that is new answers once its lease is held, as at the start.
                    self.plans.first_heartbeat().await;
                    self.table.send_replace(Arc::new(table));
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

    fn report(&self, next: &Loaded) {
        let news = next.new_problems(&self.loaded);
        let refused =
            news.iter().map(|problem| &problem.file).collect::<BTreeSet<_>>().len() as u64;
        if refused > 0 {
            self.metrics.failures.inc_by(refused);
            let text = domain::render(&news, false);
            tracing::warn!(
                "a change of the domain files was refused, the old version stays\n{text}"
            );
        }
        let problems: Vec<String> = next.problems().iter().map(in_words).collect();
        self.reloads.send_modify(|reloads| {
            reloads.failed += refused;
            reloads.problems = problems;
        });
    }
}

/// A file that did not change keeps its very domain.
fn same(a: &Domains, b: &Domains) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|((_, a), (_, b))| Arc::ptr_eq(a, b))
}

fn in_words(problem: &Problem) -> String {
    format!("{}:{}:{}: {}", problem.file.display(), problem.line, problem.column, problem.message)
}
