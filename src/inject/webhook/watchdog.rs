//! Pods that should have a sidecar and have none: where API servers let pods pass while nobody answers
//! (`failurePolicy: Ignore`), the leader looks for those that did, and says so: in a metric, the log, and an event of the pod.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::super::Defaults;
use super::cluster::{Cluster, ClusterError, encoded};
use super::configuration::Configuration;
use super::keeper::Found;
use super::metrics::Metrics;
use super::namespaces::Namespaces;
use super::verdict::{Verdict, within};

/// Pods in one page of the list.
const PAGE: usize = 250;
/// The most pages of one look.
const PAGES_MAX: usize = 1000;
/// The most pods that are told of by name in one look; the metric counts all.
const TOLD_MAX: usize = 100;
/// The most pods that are remembered to have been told of.
const REMEMBERED_MAX: usize = 100_000;

/// Looks for pods without their sidecar.
#[derive(Debug)]
pub(super) struct Watchdog {
    /// The API server.
    pub cluster: Cluster,
    /// What holds for pods that do not say otherwise.
    pub defaults: Arc<Defaults>,
    /// The labels of namespaces.
    pub namespaces: Namespaces,
    /// Whether we lead.
    pub leads: watch::Receiver<bool>,
    /// The configuration.
    pub found: watch::Receiver<Found>,
    /// How often to look.
    pub every: Duration,
    /// The counters.
    pub metrics: Arc<Metrics>,
}

/// What one look came to.
#[derive(Default)]
struct Look {
    counts: BTreeMap<String, usize>,
    /// Those that lack their sidecar, by their uid.
    lacking: HashSet<String>,
    told: usize,
}

impl Watchdog {
    /// Looks, again and again, while we lead. Never returns; drop it to stop it.
    pub(super) async fn run(mut self) {
        let (mut remembered, mut counted) = (HashSet::new(), BTreeMap::new());
        loop {
            let configuration = self.found.borrow().configuration.clone();
            let looks = *self.leads.borrow() && self.namespaces.are_known();
            let looked = match configuration.filter(|configuration| looks && configuration.lets_pods_pass()) {
                Some(configuration) => self.look(&configuration, &mut remembered).await,
                None => Ok(BTreeMap::new()),
            };
            match looked {
                Ok(counts) => {
                    self.metrics.set_without_sidecar(&counts, &counted);
                    counted = counts;
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
                () = tokio::time::sleep(self.every) => {}
                () = woken => {}
            }
        }
    }

    async fn look(
        &self,
        configuration: &Configuration,
        remembered: &mut HashSet<String>,
    ) -> Result<BTreeMap<String, usize>, ClusterError> {
        let (mut look, mut next) = (Look::default(), String::new());
        for _ in 0..PAGES_MAX {
            let page = self.cluster.get(&format!("/api/v1/pods?limit={PAGE}{next}")).await?;
            for pod in page.get("items").and_then(Value::as_array).into_iter().flatten() {
                if let Some(domains) = self.lacks(configuration, pod) {
                    self.tell(pod, &domains, &mut look, remembered).await;
                }
            }
            match page.pointer("/metadata/continue").and_then(Value::as_str).filter(|token| !token.is_empty()) {
                Some(token) => next = format!("&continue={}", encoded(token)),
                None => break,
            }
        }
        // Those that are gone, or have theirs now, need not be remembered.
        remembered.retain(|uid| look.lacking.contains(uid));
        Ok(look.counts)
    }

    /// What a pod lacks, in words; `None` where it lacks nothing.
    fn lacks(&self, configuration: &Configuration, pod: &Value) -> Option<String> {
        let namespace = text(pod, "/metadata/namespace");
        let labels = self.namespaces.labels(namespace)?;
        let pod_labels = pod.pointer("/metadata/labels").unwrap_or(&Value::Null);
        if is_over(pod) || !configuration.hooks().any(|hook| hook.selects(&labels, pod_labels)) {
            return None;
        }
        let label = labels.get(super::verdict::LABEL).and_then(Value::as_str);
        match within(pod, &self.defaults, namespace, label) {
            Verdict::Leave(_) => None,
            Verdict::Inject(injection) => Some(format!("`{}`", injection.domains.join(","))),
            Verdict::Refuse(causes) => Some(causes.first().map(|cause| cause.message.clone()).unwrap_or_default()),
        }
    }

    async fn tell(&self, pod: &Value, lacks: &str, look: &mut Look, remembered: &mut HashSet<String>) {
        let (namespace, name) = (text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
        let uid = text(pod, "/metadata/uid");
        *look.counts.entry(namespace.to_owned()).or_default() += 1;
        look.lacking.insert(uid.to_owned());
        if remembered.contains(uid) || look.told >= TOLD_MAX || remembered.len() >= REMEMBERED_MAX {
            return;
        }
        look.told += 1;
        tracing::warn!(
            namespace,
            pod = name,
            lacks,
            "a pod has no sidecar and should have one; hint: delete it, so that it is created anew"
        );
        let path = format!("/api/v1/namespaces/{}/events", encoded(namespace));
        match self.cluster.create(&path, &event(pod, lacks, SystemTime::now())).await {
            Err(error) if !error.is_conflict() => {
                self.metrics.cluster_failures.inc();
                tracing::warn!(%error, "an event of a pod without its sidecar could not be written");
            }
            // A leader before us may have told of it.
            _ => drop(remembered.insert(uid.to_owned())),
        }
    }
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a pod has ended or is about to, or was never asked about: one that a kubelet has from a file.
fn is_over(pod: &Value) -> bool {
    let ends = pod.pointer("/metadata/deletionTimestamp").is_some_and(Value::is_string);
    let mirrored = pod.pointer("/metadata/annotations/kubernetes.io~1config.mirror").is_some();
    ends || mirrored || matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// An event whose name is the pod's alone: a second one of the same kind is refused by the API server.
fn event(pod: &Value, lacks: &str, now: SystemTime) -> Value {
    let (namespace, name, uid) =
        (text(pod, "/metadata/namespace"), text(pod, "/metadata/name"), text(pod, "/metadata/uid"));
    let short: String = name.chars().take(200).collect();
    let tail: String = uid.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
    let at = humantime::format_rfc3339_seconds(now).to_string();
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": format!("{}.bfb-{tail}", short.trim_end_matches(['.', '-'])), "namespace": namespace},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name, "uid": uid},
        "type": "Warning",
        "reason": "SidecarMissing",
        "message": format!("this pod lacks its sidecar: {lacks}; it was created while `bfb webhook` did not answer, or before it was asked for one (hint: delete it, so that it is created anew)").chars().take(1000).collect::<String>(),
        "source": {"component": "bfb-webhook"},
        "reportingComponent": "bfb.dev/webhook",
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    })
}
