//! Watches the labels of all namespaces.
//!
//! A known label is used as long as the watch hears from the API server. A namespace that is not
//! known, or is known to have no label, is read directly, at most once a second: the API server
//! that sends a review may know of a label that has not reached this watch yet.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::core::WatchEvent;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::cluster::{Cluster, ClusterError, percent_encode};
use super::metrics::WebhookMetrics;
use super::verdict::INJECT_LABEL;

/// The time after the last event of the API server for which known labels are used.
const STALE_AFTER: Duration = Duration::from_mins(1);
/// The duration of one watch. Its end counts as an event of the API server.
const WATCH_SECONDS: u64 = 25;
/// The time for which a namespace counts as unlabelled without being read again.
const UNLABELLED_TTL: Duration = Duration::from_secs(1);
/// The number of namespaces in one page of a list.
const PAGE_SIZE: usize = 500;
/// The most pages of one list.
const PAGES_MAX: usize = 200;
/// The most namespaces that are read directly at once.
const LOOKUPS_MAX: usize = 16;
/// The pause after the first failure of the list or the watch; each further failure doubles it.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// The labels of all namespaces. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct NamespaceWatcher(Arc<NamespaceWatcherInner>);

#[derive(Debug)]
struct NamespaceWatcherInner {
    cluster: Cluster,
    metrics: Arc<WebhookMetrics>,
    /// Locked in short sections only, none across an await.
    table: Mutex<NamespaceTable>,
    /// Held while a namespace is read directly, so that concurrent reviews read it once. Namespaces
    /// share the locks by their hash.
    lookup_locks: [tokio::sync::Mutex<()>; LOOKUPS_MAX],
}

#[derive(Debug, Default)]
struct NamespaceTable {
    labels: BTreeMap<String, NamespaceEntry>,
    /// The time of the last event of the API server; `None` before the first complete list.
    heard_at: Option<Instant>,
}

#[derive(Debug, Clone)]
struct NamespaceEntry {
    labels: Value,
    /// When the labels were read.
    since: Instant,
}

impl NamespaceEntry {
    fn label(&self) -> Option<String> {
        self.labels.get(INJECT_LABEL).and_then(Value::as_str).map(str::to_owned)
    }
}

#[derive(Debug, Clone, Deserialize)]
struct PartialObject {
    metadata: ObjectMetadata,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectMetadata {
    name: String,
    labels: Value,
    resource_version: String,
    #[serde(rename = "continue")]
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
struct PartialObjectList {
    metadata: ObjectMetadata,
    items: Vec<PartialObject>,
}

impl NamespaceWatcher {
    /// A watcher that knows no namespace yet.
    pub(super) fn new(cluster: Cluster, metrics: Arc<WebhookMetrics>) -> Self {
        let lookup_locks = std::array::from_fn(|_| tokio::sync::Mutex::new(()));
        Self(Arc::new(NamespaceWatcherInner {
            cluster,
            metrics,
            table: Mutex::default(),
            lookup_locks,
        }))
    }

    /// Whether all namespaces have been listed once.
    pub(super) fn has_listed(&self) -> bool {
        self.lock_table().heard_at.is_some()
    }

    /// The value of the label [`INJECT_LABEL`] of a namespace; `None` if it has none.
    pub(super) async fn inject_label(&self, name: &str) -> Result<Option<String>, ClusterError> {
        if let Some(namespace) = self.fresh_entry(name) {
            return Ok(namespace.label());
        }
        let lock_index =
            usize::try_from(BuildHasherDefault::<DefaultHasher>::default().hash_one(name))
                .unwrap_or(0);
        let _lookup = self.0.lookup_locks[lock_index % LOOKUPS_MAX].lock().await;
        // The previous holder of the lock may have read the same namespace.
        if let Some(namespace) = self.fresh_entry(name) {
            return Ok(namespace.label());
        }
        let path = format!("/api/v1/namespaces/{}", percent_encode(name));
        let object = self.0.cluster.get_opt(&path).await.inspect_err(|_| {
            self.0.metrics.cluster_failures.inc();
        })?;
        let Some(object) = object else { return Ok(None) };
        let labels = object.pointer("/metadata/labels").cloned().unwrap_or_default();
        let namespace = NamespaceEntry { labels, since: Instant::now() };
        self.lock_table().labels.insert(name.to_owned(), namespace.clone());
        Ok(namespace.label())
    }

    /// All labels of a namespace, as they were last read.
    pub(super) fn labels(&self, name: &str) -> Option<Value> {
        self.lock_table().labels.get(name).map(|namespace| namespace.labels.clone())
    }

    fn lock_table(&self) -> parking_lot::MutexGuard<'_, NamespaceTable> {
        self.0.table.lock()
    }

    fn fresh_entry(&self, name: &str) -> Option<NamespaceEntry> {
        let table = self.lock_table();
        let namespace = table.labels.get(name)?;
        let is_recent = namespace.since.elapsed() < UNLABELLED_TTL;
        let is_fresh = table.heard_at.is_some_and(|heard| heard.elapsed() < STALE_AFTER);
        (is_recent || (is_fresh && namespace.label().is_some())).then(|| namespace.clone())
    }

    /// Lists and watches all namespaces. Never returns; drop it to stop it.
    pub(super) async fn run(self) {
        let mut backoff = BACKOFF_MIN;
        loop {
            let Err(error) = self.list_and_watch(&mut backoff).await else { continue };
            self.0.metrics.cluster_failures.inc();
            if !error.is_gone() {
                tracing::warn!(
                    %error,
                    "the namespaces cannot be followed; those that matter are asked for one by one"
                );
            }
            tokio::time::sleep(backoff.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn list_and_watch(&self, backoff: &mut Duration) -> Result<(), ClusterError> {
        let mut version = self.list().await?;
        loop {
            let path = format!(
                "/api/v1/namespaces?watch=true&allowWatchBookmarks=true\
                 &timeoutSeconds={WATCH_SECONDS}&resourceVersion={version}"
            );
            let mut events = pin!(self.0.cluster.watch::<PartialObject>(&path).await?);
            self.note_heard();
            let began = Instant::now();
            let limit = Duration::from_secs(WATCH_SECONDS + 10);
            let watched = async {
                while let Some(event) = events.next().await {
                    self.apply_event(event, &path, &mut version)?;
                    *backoff = BACKOFF_MIN;
                }
                Ok(())
            };
            // A watch that does not end in time has lost its API server; it is begun again.
            if let Ok(ended) = tokio::time::timeout(limit, watched).await {
                ended?;
                self.note_heard();
            }
            // A watch that ends at once is begun again after a pause.
            tokio::time::sleep_until(began + BACKOFF_MIN).await;
        }
    }

    async fn list(&self) -> Result<String, ClusterError> {
        let mut labels = BTreeMap::new();
        let mut next = String::new();
        let mut page_size = PAGE_SIZE;
        for _ in 0..PAGES_MAX {
            let since = Instant::now();
            let path = format!("/api/v1/namespaces?limit={page_size}{next}");
            let PartialObjectList { metadata, items } = match self.0.cluster.list(&path).await {
                Err(error) if error.is_too_long() && page_size > 1 => {
                    page_size /= 2;
                    continue;
                }
                result => result?,
            };
            labels.extend(items.into_iter().map(|it| {
                (it.metadata.name, NamespaceEntry { labels: it.metadata.labels, since })
            }));
            let Some(token) = metadata.next.filter(|token| !token.is_empty()) else {
                *self.lock_table() = NamespaceTable { labels, heard_at: Some(Instant::now()) };
                return Ok(metadata.resource_version);
            };
            next = format!("&continue={}", percent_encode(&token));
        }
        let why = format!("the list has more than {PAGES_MAX} pages of {PAGE_SIZE}");
        Err(ClusterError::NoAnswer { request: "GET /api/v1/namespaces".to_owned(), why })
    }

    fn note_heard(&self) {
        self.lock_table().heard_at = Some(Instant::now());
    }

    fn apply_event(
        &self,
        event: Result<WatchEvent<PartialObject>, kube::Error>,
        path: &str,
        version: &mut String,
    ) -> Result<(), ClusterError> {
        let mut table = self.lock_table();
        match event.map_err(|error| ClusterError::from_kube(&format!("WATCH {path}"), &error))? {
            WatchEvent::Added(it) | WatchEvent::Modified(it) => {
                *version = it.metadata.resource_version;
                table.labels.insert(
                    it.metadata.name,
                    NamespaceEntry { labels: it.metadata.labels, since: Instant::now() },
                );
            }
            WatchEvent::Deleted(it) => {
                *version = it.metadata.resource_version;
                table.labels.remove(&it.metadata.name);
            }
            WatchEvent::Bookmark(it) => *version = it.metadata.resource_version,
            WatchEvent::Error(status) => {
                return Err(ClusterError::from_kube(path, &kube::Error::Api(status)));
            }
        }
        table.heard_at = Some(Instant::now());
        Ok(())
    }
}
