//! Pods that should have a sidecar and have none: where API servers let pods pass while nobody
//! answers (`failurePolicy: Ignore`), the leader looks for those that did, and says so: in a
//! metric, the log, and an event of the pod.

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

/// Pods in one page of the list.
const PAGE: usize = 250;
/// What a pod may take once it is read, in bytes.
const POD_MAX_BYTES: u64 = 48 << 20;
/// The most pages of one look.
const PAGES_MAX: usize = 1000;
/// The most pods that are told of by name in one look; the metric counts all.
const REPORTED_MAX: usize = 100;
/// The most pods that are remembered to have been told of.
const REPORTED_UIDS_MAX: usize = 100_000;

/// Looks for pods without their sidecar.
#[derive(Debug)]
pub(super) struct Watchdog {
    /// The API server.
    pub cluster: Cluster,
    /// What holds for pods that do not say otherwise.
    pub defaults: Arc<Defaults>,
    /// The labels of namespaces.
    pub namespaces: NamespaceWatcher,
    /// Whether we lead.
    pub leads: watch::Receiver<bool>,
    /// The configuration.
    pub trust_status: watch::Receiver<TrustStatus>,
    /// How often to look.
    pub interval: Duration,
    /// The counters.
    pub metrics: Arc<WebhookMetrics>,
}

/// What one look came to.
#[derive(Default)]
struct PodScan {
    counts: BTreeMap<String, usize>,
    /// Those that lack their sidecar, by their uid.
    missing_uids: HashSet<String>,
    reported: usize,
}

/// A list of pods, each still a text: one at a time is read.
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
    /// Looks, again and again, while we lead. Never returns; drop it to stop it.
    pub(super) async fn run(mut self) {
        let mut reported_uids = HashSet::new();
        let mut last_counts = BTreeMap::new();
        loop {
            let configuration = self.trust_status.borrow().configuration.clone();
            let is_enabled = *self.leads.borrow() && self.namespaces.has_listed();
            let scanned = match configuration
                .filter(|configuration| is_enabled && configuration.ignores_failures())
            {
                Some(configuration) => self.scan_pods(&configuration, &mut reported_uids).await,
                None => Ok(BTreeMap::new()),
            };
            match scanned {
                Ok(counts) => {
                    self.metrics.set_without_sidecar(&counts, &last_counts);
                    last_counts = counts;
                }
                Err(error) => {
                    self.metrics.cluster_failures.inc();
                    tracing::warn!(%error, "pods without their sidecar could not be looked for");
                }
            }
            let woken = async {
                if self.leads.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = tokio::time::sleep(self.interval) => {}
                () = woken => {}
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
        let mut pods = PAGE;
        for _ in 0..PAGES_MAX {
            let text =
                match self.cluster.get_text(&format!("/api/v1/pods?limit={pods}{next}")).await {
                    Err(error) if error.is_too_long() && pods > 1 => {
                        pods /= 2;
                        continue;
                    }
                    result => result?,
                };
            let Ok(page) = serde_json::from_str::<PodPage<'_>>(&text) else {
                return Err(not_a_pod_list());
            };
            for pod in &page.items {
                if let Some(pod) = read_pod(pod)
                    && let Some(domains) = self.missing_sidecar(configuration, &pod)
                {
                    self.report_pod(&pod, &domains, &mut scan, reported_uids).await;
                }
                // A pod may be long; others wait for this thread.
                tokio::task::yield_now().await;
            }
            match page.metadata.next.filter(|token| !token.is_empty()) {
                Some(token) => next = format!("&continue={}", percent_encode(&token)),
                None => break,
            }
        }
        // Those that are gone, or have theirs now, need not be remembered.
        reported_uids.retain(|uid| scan.missing_uids.contains(uid));
        Ok(scan.counts)
    }

    /// What a pod lacks, in words; `None` where it lacks nothing.
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
                tracing::warn!(%error, "an event of a pod without its sidecar could not be \
                                        written");
            }
            // A leader before us may have told of it.
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

/// A pod of a list; `None`, with a word in the log, for one that would take too much memory once it
/// is read.
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

/// Whether a pod has ended or is about to, or was never asked about: one that a kubelet has from a
/// file.
fn is_finished(pod: &Value) -> bool {
    let ends = pod.pointer("/metadata/deletionTimestamp").is_some_and(Value::is_string);
    let mirrored = pod.pointer("/metadata/annotations/kubernetes.io~1config.mirror").is_some();
    ends || mirrored || matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// An event whose name is the pod's alone: a second one of the same kind is refused by the API
/// server.
fn event(pod: &Value, lacks: &str, now: SystemTime) -> Value {
    let namespace = text(pod, "/metadata/namespace");
    let name = text(pod, "/metadata/name");
    let uid = text(pod, "/metadata/uid");
    let short: String = name.chars().take(200).collect();
    let tail: String = uid.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
    let at = humantime::format_rfc3339_seconds(now).to_string();
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": format!("{}.bfb-{tail}", short.trim_end_matches(['.', '-'])),
            "namespace": namespace},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name,
            "uid": uid},
        "type": "Warning",
        "reason": "SidecarMissing",
        "message": format!("this pod lacks its sidecar: {lacks}; it was created while \
         `bfb webhook` did not answer, or before it was asked for one (hint: delete it, \
         so that it is created anew)").chars().take(1000).collect::<String>(),
        "source": {"component": "bfb-webhook"},
        "reportingComponent": "bfb.dev/webhook",
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    })
}
