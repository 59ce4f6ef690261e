//! What the sidecar asks of its node, and what it may take: requests and limits that fit its memory
//! for datasets, and that leave the pod in the class of service that it had.

use serde_json::{Value, json};

use super::parse;
use super::pod_annotations::{PodAnnotations, annotation_path};
use super::refusal::{InjectionRefusal, RefusalReason};
use crate::resources::MemoryLimit;
use crate::settings::{DEFAULT_CPU_REQUEST, MemorySize};

const MI: u64 = 1 << 20;
/// The process itself, beside its datasets.
const PROCESS_BYTES: u64 = 32 * MI;
/// Datasets in the air, and those that memory holds while they are being replaced.
const IN_FLIGHT_BYTES: u64 = 192 * MI;
/// The share of a CPU in a pod of class Guaranteed, where the request is the limit too.
const CPU_GUARANTEED: &str = "250m";

/// Quantities, as Kubernetes writes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ContainerResources {
    cpu_request: String,
    cpu_limit: Option<String>,
    memory_request: String,
    memory_limit: String,
}

impl ContainerResources {
    /// As a container has them.
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

/// The sidecar's, or what contradicts itself in them.
pub(super) fn container_resources(
    annotations: &PodAnnotations<'_>,
    guaranteed: bool,
) -> Result<ContainerResources, Vec<InjectionRefusal>> {
    let annotation = |name: &str| annotations.get(name).map(str::to_owned);
    let memory = annotations.get("memory").and_then(|text| text.parse::<MemorySize>().ok());
    let MemorySize(datasets) = memory.unwrap_or_default();
    let (memory_request, memory_limit) = (annotation("memory-request"), annotation("memory-limit"));
    let (cpu_request, cpu_limit) = (annotation("cpu-request"), annotation("cpu-limit"));

    let limit = memory_limit.clone().unwrap_or_else(|| {
        let usual = mebibytes(
            datasets.saturating_add(IN_FLIGHT_BYTES).max(MemoryLimit::least_container(datasets)),
        );
        memory_request
            .clone()
            .filter(|request| guaranteed || is_above(request, &usual))
            .unwrap_or(usual)
    });
    let request = memory_request.unwrap_or_else(|| {
        let usual = mebibytes(datasets.saturating_add(PROCESS_BYTES));
        if guaranteed || is_above(&usual, &limit) { limit.clone() } else { usual }
    });
    let cpu = cpu_request.unwrap_or_else(|| {
        let usual = if guaranteed { CPU_GUARANTEED } else { DEFAULT_CPU_REQUEST };
        let less = cpu_limit.clone().filter(|limit| guaranteed || is_above(usual, limit));
        less.unwrap_or_else(|| usual.to_owned())
    });
    let cpu_limit = cpu_limit.or_else(|| guaranteed.then(|| cpu.clone()));

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

/// Whether the pod is of the class Guaranteed: every container has limits, and requests nothing
/// else.
pub(super) fn is_guaranteed<'v>(containers: impl Iterator<Item = &'v Value>) -> bool {
    let mut has_containers = false;
    for container in containers {
        has_containers = true;
        for resource in ["cpu", "memory"] {
            let of =
                |kind: &str| parse_quantity(container.get("resources")?.get(kind)?.get(resource)?);
            let is_fixed = match (of("requests"), of("limits")) {
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

/// A quantity as it stands in a pod: text, or a number.
fn parse_quantity(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => parse::quantity(text).ok(),
        Value::Number(number) => number.as_f64(),
        _ => None,
    }
}

/// Whether one quantity is more than another.
fn is_above(one: &str, other: &str) -> bool {
    match (parse::quantity(one), parse::quantity(other)) {
        (Ok(one), Ok(other)) => one > other * (1.0 + 1e-9),
        _ => false,
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{}Mi", bytes.div_ceil(MI))
}
