//! Reports pods that should have a sidecar and have none. With `failurePolicy: Ignore`, API servers
//! create pods without a sidecar while no replica answers; the leader lists all pods, finds those,
//! and reports each in a metric, in the log, and in an event of the pod.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::super::Defaults;
use super::certificate_controller::TrustStatus;
use super::cluster::{Cluster, ClusterError, percent_encode};
use super::configuration::MutatingWebhookConfiguration;
use super::metrics::WebhookMetrics;
use super::namespace_watcher::NamespaceWatcher;
use super::review_budget::parsed_bytes;
use super::verdict::{AdmissionVerdict, decide_pod};

/// The number of pods in one page of the list.
const PAGE_SIZE: usize = 250;
/// The most memory of one parsed pod, in bytes. Larger ones are skipped.
const POD_MAX_BYTES: u64 = 48 << 20;
/// The most pages of one scan.
const PAGES_MAX: usize = 1000;
/// The most pods that one scan reports by name; the metric counts all.
const REPORTED_MAX: usize = 100;
/// The most reported pods that are remembered.
const REPORTED_UIDS_MAX: usize = 100_000;

/// Scans for pods without their sidecar.
#[derive(Debug)]
pub(super) struct Watchdog {
    /// The API server.
    pub cluster: Cluster,
    /// The defaults of pods that do not set their own.
    pub defaults: Arc<Defaults>,
    /// The labels of namespaces.
    pub namespaces: NamespaceWatcher,
    /// Whether this replica is the leader.
    pub is_leader: watch::Receiver<bool>,
    /// The source of the configuration.
    pub trust_status: watch::Receiver<TrustStatus>,
    /// The time between two scans.
    pub interval: Duration,
    /// The counters.
    pub metrics: Arc<WebhookMetrics>,
}

/// The result of one scan.
#[derive(Default)]
struct PodScan {
    /// The number of pods that lack their sidecar, by namespace.
    counts: BTreeMap<String, usize>,
    /// The uids of the pods that lack their sidecar.
    missing_uids: HashSet<String>,
    /// The number of pods that were reported by name.
    reported: usize,
}

/// A page of the list. Each pod is still text, so that only one at a time is parsed.
#[derive(Deserialize)]
struct PodPage<'a> {
    #[serde(default)]
    metadata: PodPageMetadata,
    #[serde(borrow, default)]
    items: Vec<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct PodPageMetadata {
    #[serde(rename = "continue")]
    next: Option<String>,
}

impl Watchdog {
    /// Scans at each interval while this replica leads. Never returns; drop it to stop it.
    pub(super) async fn run(mut self) {
        let mut reported_uids = HashSet::new();
        let mut last_counts = BTreeMap::new();
        loop {
            let configuration = self.trust_status.borrow().configuration.clone();
            let is_enabled = *self.is_leader.borrow() && self.namespaces.has_listed();
            let result = match configuration
                .filter(|configuration| is_enabled && configuration.ignores_failures())
            {
                Some(configuration) => self.scan_pods(&configuration, &mut reported_uids).await,
                None => Ok(BTreeMap::new()),
            };
            match result {
                Ok(counts) => {
                    self.metrics.set_without_sidecar(&counts, &last_counts);
                    last_counts = counts;
                }
                Err(error) => {
                    self.metrics.cluster_failures.inc();
                    tracing::warn!(%error, "pods without their sidecar could not be looked for");
                }
            }
            let leader_change = async {
                if self.is_leader.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = tokio::time::sleep(self.interval) => {}
                () = leader_change => {}
            }
        }
    }

    async fn scan_pods(
        &self,
        configuration: &MutatingWebhookConfiguration,
        reported_uids: &mut HashSet<String>,
    ) -> Result<BTreeMap<String, usize>, ClusterError> {
        let mut scan = PodScan::default();
        let mut next = String::new();
        let mut page_size = PAGE_SIZE;
        for _ in 0..PAGES_MAX {
            let path = format!("/api/v1/pods?limit={page_size}{next}");
            let text = match self.cluster.get_text(&path).await {
                Err(error) if error.is_too_long() && page_size > 1 => {
                    page_size /= 2;
                    continue;
                }
                result => result?,
            };
            let Ok(page) = serde_json::from_str::<PodPage<'_>>(&text) else {
                return Err(not_a_pod_list());
            };
            for pod in &page.items {
                if let Some(pod) = read_pod(pod)
                    && let Some(lacks) = self.missing_sidecar(configuration, &pod)
                {
                    self.report_pod(&pod, &lacks, &mut scan, reported_uids).await;
                }
                // Parsing a long pod takes time, and other tasks wait for this thread.
                tokio::task::yield_now().await;
            }
            match page.metadata.next.filter(|token| !token.is_empty()) {
                Some(token) => next = format!("&continue={}", percent_encode(&token)),
                None => break,
            }
        }
        // Pods that are gone, or have their sidecar now, need not be remembered.
        reported_uids.retain(|uid| scan.missing_uids.contains(uid));
        Ok(scan.counts)
    }

    /// What a pod lacks, for a message: the domains of its sidecar, or the first reason why it
    /// could not get one. `None` for a pod that lacks nothing.
    fn missing_sidecar(
        &self,
        configuration: &MutatingWebhookConfiguration,
        pod: &Value,
    ) -> Option<String> {
        let namespace = text(pod, "/metadata/namespace");
        let labels = self.namespaces.labels(namespace)?;
        let pod_labels = pod.pointer("/metadata/labels").unwrap_or(&Value::Null);
        if is_finished(pod) || !configuration.hooks().any(|hook| hook.selects(&labels, pod_labels))
        {
            return None;
        }
        let label = labels.get(super::verdict::INJECT_LABEL).and_then(Value::as_str);
        match decide_pod(pod, &self.defaults, namespace, label) {
            AdmissionVerdict::Skip(_) => None,
            AdmissionVerdict::Inject(injection) => {
                Some(format!("`{}`", injection.domains.join(",")))
            }
            AdmissionVerdict::Refuse(causes) => {
                Some(causes.first().map(|cause| cause.message.clone()).unwrap_or_default())
            }
        }
    }

    async fn report_pod(
        &self,
        pod: &Value,
        lacks: &str,
        scan: &mut PodScan,
        reported_uids: &mut HashSet<String>,
    ) {
        let namespace = text(pod, "/metadata/namespace");
        let name = text(pod, "/metadata/name");
        let uid = text(pod, "/metadata/uid");
        *scan.counts.entry(namespace.to_owned()).or_default() += 1;
        scan.missing_uids.insert(uid.to_owned());
        if reported_uids.contains(uid)
            || scan.reported >= REPORTED_MAX
            || reported_uids.len() >= REPORTED_UIDS_MAX
        {
            return;
        }
        scan.reported += 1;
        tracing::warn!(
            namespace,
            pod = name,
            lacks,
            "a pod has no sidecar and should have one; hint: delete it, so that it is created anew"
        );
        let path = format!("/api/v1/namespaces/{}/events", percent_encode(namespace));
        match self.cluster.create(&path, &event(pod, lacks, SystemTime::now())).await {
            Err(error) if !error.is_conflict() => {
                self.metrics.cluster_failures.inc();
                tracing::warn!(
                    %error,
                    "an event of a pod without its sidecar could not be written"
                );
            }
            // A conflict means that an earlier leader has written this event.
            _ => drop(reported_uids.insert(uid.to_owned())),
        }
    }
}

fn not_a_pod_list() -> ClusterError {
    ClusterError::NoAnswer {
        request: "GET /api/v1/pods".to_owned(),
        why: "this is no list of pods".to_owned(),
    }
}

/// Parses a pod of the list; `None`, with a warning in the log, for one that would take more than
/// [`POD_MAX_BYTES`] of memory.
fn read_pod(text: &RawValue) -> Option<Value> {
    let bytes = parsed_bytes(text.get().as_bytes());
    if bytes > POD_MAX_BYTES {
        tracing::warn!(bytes, "a pod is too large to be looked at for its sidecar");
        return None;
    }
    serde_json::from_str(text.get()).ok()
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a pod needs no sidecar any more, since it has ended or is being deleted; or never needed
/// one: no admission review is sent for a mirror pod, which a kubelet makes from a file.
fn is_finished(pod: &Value) -> bool {
    let is_deleted = pod.pointer("/metadata/deletionTimestamp").is_some_and(Value::is_string);
    let is_mirror = pod.pointer("/metadata/annotations/kubernetes.io~1config.mirror").is_some();
    is_deleted || is_mirror || matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// The event of a pod. Its name is derived from the pod's uid, so that the API server refuses a
/// second event for the same pod.
fn event(pod: &Value, lacks: &str, now: SystemTime) -> Value {
    let namespace = text(pod, "/metadata/namespace");
    let name = text(pod, "/metadata/name");
    let uid = text(pod, "/metadata/uid");
    let prefix: String = name.chars().take(200).collect();
    let suffix: String = uid.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
    let at = humantime::format_rfc3339_seconds(now).to_string();
    let message = format!(
        "this pod lacks its sidecar: {lacks}; it was created while `bfb webhook` did not answer, \
         or before it was asked for one (hint: delete it, so that it is created anew)"
    );
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": format!("{}.bfb-{suffix}", prefix.trim_end_matches(['.', '-'])),
            "namespace": namespace},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name,
            "uid": uid},
        "type": "Warning",
        "reason": "SidecarMissing",
        "message": message.chars().take(1000).collect::<String>(),
        "source": {"component": "bfb-webhook"},
        "reportingComponent": "bfb.dev/webhook",
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    })
}
