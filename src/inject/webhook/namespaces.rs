//! The labels of all namespaces, followed as they change.
//!
//! What is known is believed while the API server is heard from. A namespace that is not known, or
//! that is known to say nothing, is asked for directly, at most once a second: an API server that
//! asks about a pod may know of a label that has not arrived here yet.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::core::WatchEvent;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::cluster::{Cluster, ClusterError, encoded};
use super::metrics::Metrics;
use super::verdict::LABEL;

/// How long what is known is believed without a word of the API server.
const STALE: Duration = Duration::from_mins(1);
/// How long a watch lasts: its end, too, is a word of the API server.
const WATCH_SECONDS: u64 = 25;
/// How long a namespace that says nothing is believed to.
const NOTHING: Duration = Duration::from_secs(1);
/// Namespaces in one page of a list.
const PAGE: usize = 500;
/// The most pages of one list.
const PAGES_MAX: usize = 200;
/// Those asked for at once.
const ASKED_MAX: usize = 16;
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// The labels of all namespaces. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Namespaces(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    cluster: Cluster,
    metrics: Arc<Metrics>,
    /// Short sections, none across an await: the map, and when the API server was last heard from.
    known: Mutex<Known>,
    /// One at a time of those namespaces that share a place here, so that each is asked for once.
    asking: [tokio::sync::Mutex<()>; ASKED_MAX],
}

#[derive(Debug, Default)]
struct Known {
    labels: BTreeMap<String, Namespace>,
    heard: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Namespace {
    labels: Value,
    since: Instant,
}

impl Namespace {
    fn label(&self) -> Option<String> {
        self.labels.get(LABEL).and_then(Value::as_str).map(str::to_owned)
    }
}

#[derive(Debug, Clone, Deserialize)]
struct Named {
    metadata: Metadata,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    labels: Value,
    resource_version: String,
    #[serde(rename = "continue")]
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
struct List {
    metadata: Metadata,
    items: Vec<Named>,
}

impl Namespaces {
    /// Knows nothing yet.
    pub(super) fn new(cluster: Cluster, metrics: Arc<Metrics>) -> Self {
        let asking = std::array::from_fn(|_| tokio::sync::Mutex::new(()));
        Self(Arc::new(Inner { cluster, metrics, known: Mutex::default(), asking }))
    }

    /// Whether all were read once.
    pub(super) fn are_known(&self) -> bool {
        self.known().heard.is_some()
    }

    /// What the label [`LABEL`] of a namespace says; `None` where it has none.
    pub(super) async fn label(&self, name: &str) -> Result<Option<String>, ClusterError> {
        if let Some(namespace) = self.believed(name) {
            return Ok(namespace.label());
        }
        let place = usize::try_from(BuildHasherDefault::<DefaultHasher>::default().hash_one(name))
            .unwrap_or(0);
        let _alone = self.0.asking[place % ASKED_MAX].lock().await;
        // Whoever was here before may have asked for the same one.
        if let Some(namespace) = self.believed(name) {
            return Ok(namespace.label());
        }
        let path = format!("/api/v1/namespaces/{}", encoded(name));
        let found = self.0.cluster.find(&path).await.inspect_err(|_| {
            self.0.metrics.cluster_failures.inc();
        })?;
        let Some(found) = found else { return Ok(None) };
        let labels = found.pointer("/metadata/labels").cloned().unwrap_or_default();
        let namespace = Namespace { labels, since: Instant::now() };
        self.known().labels.insert(name.to_owned(), namespace.clone());
        Ok(namespace.label())
    }

    /// All labels of a namespace, as they were last heard of.
    pub(super) fn labels(&self, name: &str) -> Option<Value> {
        self.known().labels.get(name).map(|namespace| namespace.labels.clone())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn believed(&self, name: &str) -> Option<Namespace> {
        let known = self.known();
        let namespace = known.labels.get(name)?;
        let just_asked = namespace.since.elapsed() < NOTHING;
        let fresh = known.heard.is_some_and(|heard| heard.elapsed() < STALE);
        (just_asked || (fresh && namespace.label().is_some())).then(|| namespace.clone())
    }

    /// Follows all namespaces. Never returns; drop it to stop it.
    pub(super) async fn follow(self) {
        let mut backoff = BACKOFF_MIN;
        loop {
            let Err(error) = self.list_and_watch(&mut backoff).await else { continue };
            self.0.metrics.cluster_failures.inc();
            if !error.is_gone() {
                tracing::warn!(%error, "the namespaces cannot be followed; \
                                        those that matter are asked for one by one");
            }
            tokio::time::sleep(backoff.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn list_and_watch(&self, backoff: &mut Duration) -> Result<(), ClusterError> {
        let mut version = self.list().await?;
        loop {
            let path = format!(
                "/api/v1/namespaces?watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={version}"
            );
            let mut events = pin!(self.0.cluster.watch::<Named>(&path).await?);
            self.heard();
            let (began, limit) = (Instant::now(), Duration::from_secs(WATCH_SECONDS + 10));
            let watched = async {
                while let Some(event) = events.next().await {
                    self.take(event, &path, &mut version)?;
                    *backoff = BACKOFF_MIN;
                }
                Ok(())
            };
            // A watch that does not end when it should is one whose other side is gone.
            if let Ok(ended) = tokio::time::timeout(limit, watched).await {
                ended?;
                self.heard();
            }
            // A watch that ends at once is not begun again at once.
            tokio::time::sleep_until(began + BACKOFF_MIN).await;
        }
    }

    async fn list(&self) -> Result<String, ClusterError> {
        let (mut labels, mut next, mut page) = (BTreeMap::new(), String::new(), PAGE);
        for _ in 0..PAGES_MAX {
            let since = Instant::now();
            let path = format!("/api/v1/namespaces?limit={page}{next}");
            let List { metadata, items } = match self.0.cluster.list(&path).await {
                Err(error) if error.is_too_long() && page > 1 => {
                    page /= 2;
                    continue;
                }
                listed => listed?,
            };
            labels.extend(
                items
                    .into_iter()
                    .map(|it| (it.metadata.name, Namespace { labels: it.metadata.labels, since })),
            );
            let Some(token) = metadata.next.filter(|token| !token.is_empty()) else {
                *self.known() = Known { labels, heard: Some(Instant::now()) };
                return Ok(metadata.resource_version);
            };
            next = format!("&continue={}", encoded(&token));
        }
        let why = format!("the list has more than {PAGES_MAX} pages of {PAGE}");
        Err(ClusterError::NoAnswer { request: "GET /api/v1/namespaces".to_owned(), why })
    }

    fn heard(&self) {
        self.known().heard = Some(Instant::now());
    }

    fn take(
        &self,
        event: Result<WatchEvent<Named>, kube::Error>,
        path: &str,
        version: &mut String,
    ) -> Result<(), ClusterError> {
        let mut known = self.known();
        match event.map_err(|error| ClusterError::of(&format!("WATCH {path}"), &error))? {
            WatchEvent::Added(it) | WatchEvent::Modified(it) => {
                *version = it.metadata.resource_version;
                known.labels.insert(
                    it.metadata.name,
                    Namespace { labels: it.metadata.labels, since: Instant::now() },
                );
            }
            WatchEvent::Deleted(it) => {
                *version = it.metadata.resource_version;
                known.labels.remove(&it.metadata.name);
            }
            WatchEvent::Bookmark(it) => *version = it.metadata.resource_version,
            WatchEvent::Error(status) => {
                return Err(ClusterError::of(path, &kube::Error::Api(status)));
            }
        }
        known.heard = Some(Instant::now());
        Ok(())
    }
}
