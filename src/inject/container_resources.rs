//! The resource requests and limits of the sidecar's container. They follow from its memory for
//! datasets, and keep the pod in the quality-of-service class that it had.

use serde_json::{Value, json};

use super::parse;
use super::pod_annotations::{PodAnnotations, annotation_path};
use super::refusal::{InjectionRefusal, RefusalReason};
use crate::resources::MemoryLimit;
use crate::settings::{DEFAULT_CPU_REQUEST, MemorySize};

const MI: u64 = 1 << 20;
/// The memory of the process beside its datasets.
const PROCESS_BYTES: u64 = 32 * MI;
/// The memory of datasets in flight, and of datasets that are still held while they are replaced.
const IN_FLIGHT_BYTES: u64 = 192 * MI;
/// The CPU request in a pod of the class Guaranteed, where it is the limit too.
const CPU_GUARANTEED: &str = "250m";

/// Requests and limits, as quantities of Kubernetes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ContainerResources {
    cpu_request: String,
    cpu_limit: Option<String>,
    memory_request: String,
    memory_limit: String,
}

impl ContainerResources {
    /// The `resources` of the container.
    pub(super) fn to_value(&self) -> Value {
        let mut value = json!({
            "requests": {"cpu": self.cpu_request, "memory": self.memory_request},
            "limits": {"memory": self.memory_limit},
        });
        if let Some(limit) = &self.cpu_limit {
            value["limits"]["cpu"] = json!(limit);
        }
        value
    }
}

/// The resources of the sidecar, or every contradiction between them.
pub(super) fn container_resources(
    annotations: &PodAnnotations<'_>,
    is_guaranteed: bool,
) -> Result<ContainerResources, Vec<InjectionRefusal>> {
    let annotation = |name: &str| annotations.get(name).map(str::to_owned);
    let memory = annotations.get("memory").and_then(|text| text.parse::<MemorySize>().ok());
    let MemorySize(datasets) = memory.unwrap_or_default();
    let memory_request = annotation("memory-request");
    let memory_limit = annotation("memory-limit");
    let cpu_request = annotation("cpu-request");
    let cpu_limit = annotation("cpu-limit");

    let limit = memory_limit.clone().unwrap_or_else(|| {
        let usual = mebibytes(
            datasets.saturating_add(IN_FLIGHT_BYTES).max(MemoryLimit::least_container(datasets)),
        );
        memory_request
            .clone()
            .filter(|request| is_guaranteed || is_above(request, &usual))
            .unwrap_or(usual)
    });
    let request = memory_request.unwrap_or_else(|| {
        let usual = mebibytes(datasets.saturating_add(PROCESS_BYTES));
        if is_guaranteed || is_above(&usual, &limit) { limit.clone() } else { usual }
    });
    let cpu = cpu_request.unwrap_or_else(|| {
        let usual = if is_guaranteed { CPU_GUARANTEED } else { DEFAULT_CPU_REQUEST };
        let lower_limit = cpu_limit.clone().filter(|limit| is_guaranteed || is_above(usual, limit));
        lower_limit.unwrap_or_else(|| usual.to_owned())
    });
    let cpu_limit = cpu_limit.or_else(|| is_guaranteed.then(|| cpu.clone()));

    let mut refusals = Vec::new();
    let mut compare = |resource, name, request: &str, limit: &str| {
        if is_above(request, limit) {
            let reason = RefusalReason::RequestAboveLimit {
                resource,
                request: request.to_owned(),
                limit: limit.to_owned(),
            };
            refusals.push(InjectionRefusal { at: annotation_path(name), reason });
        }
    };
    compare("memory", "memory-request", &request, &limit);
    if let Some(limit) = &cpu_limit {
        compare("cpu", "cpu-request", &cpu, limit);
    }
    let least = MemoryLimit::least_container(datasets);
    if is_above(&least.to_string(), &limit) {
        let at =
            if annotations.pod.contains_key("memory-limit") { "memory-limit" } else { "memory" };
        let limit = limit.clone();
        let memory = mebibytes(datasets);
        let least = mebibytes(least);
        let reason = RefusalReason::LimitTooLow { limit, memory, least };
        refusals.push(InjectionRefusal { at: annotation_path(at), reason });
    }
    let resources = ContainerResources {
        cpu_request: cpu,
        cpu_limit,
        memory_request: request,
        memory_limit: limit,
    };
    if refusals.is_empty() { Ok(resources) } else { Err(refusals) }
}

/// Whether a pod with these containers has the quality-of-service class Guaranteed: every container
/// has limits, and its requests are equal to them.
pub(super) fn is_guaranteed<'v>(containers: impl Iterator<Item = &'v Value>) -> bool {
    let mut has_containers = false;
    for container in containers {
        has_containers = true;
        for resource in ["cpu", "memory"] {
            let quantity =
                |kind: &str| parse_quantity(container.get("resources")?.get(kind)?.get(resource)?);
            let is_fixed = match (quantity("requests"), quantity("limits")) {
                (None, Some(limit)) => limit > 0.0,
                (Some(request), Some(limit)) => {
                    limit > 0.0 && (request - limit).abs() <= limit * 1e-9
                }
                _ => false,
            };
            if !is_fixed {
                return false;
            }
        }
    }
    has_containers
}

/// A quantity in a pod, which is a text or a number.
fn parse_quantity(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => parse::quantity(text).ok(),
        Value::Number(number) => number.as_f64(),
        _ => None,
    }
}

/// Whether one quantity is greater than another.
fn is_above(one: &str, other: &str) -> bool {
    match (parse::quantity(one), parse::quantity(other)) {
        (Ok(one), Ok(other)) => one > other * (1.0 + 1e-9),
        _ => false,
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{}Mi", bytes.div_ceil(MI))
}
