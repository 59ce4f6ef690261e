//! Inspects a pod before injection: its annotations, its form, the properties that the sidecar
//! depends on, and everything that is in the sidecar's way.

use std::collections::BTreeMap;

use serde_json::Value;

use super::annotations::{self, PREFIX, STATUS_INJECTED};
use super::change::FieldPath;
use super::container_resources;
use super::pod_annotations::annotation_path;
use super::refusal::{InjectionRefusal, InjectionRefusals, RefusalReason, excerpt};
use super::sidecar_container::{CONTAINER_NAME, SOCKET_DIR};
use super::sidecar_settings::{DEFAULT_GRACE_SECONDS, PodFacts, SidecarSettings};
use super::volumes::VOLUME_NAMES;
use crate::settings::AnnotationWriter;

/// The `bfb.dev/` annotations of a pod, by their names without the prefix; or every problem with
/// them.
pub(super) fn parse_annotations(
    pod: &Value,
) -> Result<BTreeMap<&'static str, &str>, Vec<InjectionRefusal>> {
    let at = FieldPath::root().key("metadata").key("annotations");
    let object = match at.find_in(pod) {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(object)) => object,
        Some(_) => return Err(vec![not_a_pod("a mapping", at)]),
    };
    let mut annotations = BTreeMap::new();
    let mut refusals = InjectionRefusals::default();
    for (full_name, value) in object {
        let Some(name) = full_name.strip_prefix(PREFIX) else { continue };
        match parse_annotation(name, value, refusals.is_full()) {
            Ok((annotation, text)) => drop(annotations.insert(annotation, text)),
            Err(reason) => refusals.push(|| InjectionRefusal { at: at.key(full_name), reason }),
        }
    }
    refusals.into_result(annotations)
}

/// `is_only_counted`: whether a refusal would only be counted, and so needs no similar name for its
/// hint.
fn parse_annotation<'v>(
    name: &str,
    value: &'v Value,
    is_only_counted: bool,
) -> Result<(&'static str, &'v str), RefusalReason> {
    let Some(row) = annotations::find(name) else {
        let nearest = if is_only_counted { None } else { annotations::nearest_to(name) };
        return Err(RefusalReason::UnknownAnnotation { name: excerpt(name), nearest });
    };
    let Value::String(text) = value else {
        return Err(RefusalReason::NotText { name: row.full_name() });
    };
    let visible_value = || (!row.annotation.is_confidential).then(|| excerpt(text));
    let bad_value =
        |expected| RefusalReason::BadValue { name: row.name(), value: visible_value(), expected };
    row.check(text).map_err(bad_value)?;
    if row.annotation.writer == AnnotationWriter::Bfb
        && row.name() == "status"
        && text != STATUS_INJECTED
    {
        return Err(bad_value("`injected`, which is set by `bfb` itself"));
    }
    Ok((row.name(), text))
}

/// Whether the pod has its sidecar already. A pod that is marked as injected, but lacks the
/// container, is refused.
pub(super) fn is_injected(
    pod: &Value,
    annotations: &BTreeMap<&'static str, &str>,
) -> Result<bool, InjectionRefusal> {
    if !annotations.contains_key("status") {
        return Ok(false);
    }
    let has_sidecar = list_items(pod, "initContainers")
        .any(|container| name_of(container) == Some(CONTAINER_NAME));
    if has_sidecar {
        Ok(true)
    } else {
        Err(InjectionRefusal { at: annotation_path("status"), reason: RefusalReason::HalfInjected })
    }
}

/// The properties of the pod that its sidecar's settings depend on.
pub(super) fn pod_facts(pod: &Value) -> PodFacts {
    let grace = pod.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_u64);
    let containers = list_items(pod, "containers").chain(list_items(pod, "initContainers"));
    PodFacts {
        grace_seconds: grace.unwrap_or(DEFAULT_GRACE_SECONDS),
        is_guaranteed: container_resources::is_guaranteed(containers),
    }
}

/// Every field that does not have the form of a pod. If there is one, the pod is refused for these
/// alone.
pub(super) fn find_malformed(pod: &Value) -> Vec<InjectionRefusal> {
    let spec = FieldPath::root().key("spec");
    let mut refusals = InjectionRefusals::default();
    for (name, is_required) in [("containers", true), ("initContainers", false), ("volumes", false)]
    {
        let at = spec.key(name);
        let fits = match at.find_in(pod) {
            Some(Value::Array(list)) => {
                !(is_required && list.is_empty()) && list.iter().all(Value::is_object)
            }
            None | Some(Value::Null) => !is_required,
            Some(_) => false,
        };
        if !fits {
            let expected = if is_required { "a list of containers" } else { "a list of mappings" };
            refusals.push(|| not_a_pod(expected, at));
        }
    }
    let metadata = FieldPath::root().key("metadata");
    if metadata.find_in(pod).is_some_and(|it| !it.is_object() && !it.is_null()) {
        refusals.push(|| not_a_pod("a mapping", metadata));
    }
    for (index, container) in list_items(pod, "containers").enumerate() {
        if container.get("volumeMounts").is_some_and(|it| !it.is_array() && !it.is_null()) {
            refusals.push(|| {
                not_a_pod("a list", spec.key("containers").item(index).key("volumeMounts"))
            });
        }
    }
    refusals.into_list()
}

/// Everything in the pod that conflicts with a sidecar of these settings.
pub(super) fn find_obstacles(pod: &Value, settings: &SidecarSettings) -> Vec<InjectionRefusal> {
    let spec = FieldPath::root().key("spec");
    let mut refusals = InjectionRefusals::default();
    if pod.pointer("/spec/hostNetwork") == Some(&Value::Bool(true)) {
        refusals.push(|| InjectionRefusal {
            at: spec.key("hostNetwork"),
            reason: RefusalReason::HostNetwork,
        });
    }
    let is_windows =
        |path: &FieldPath| path.find_in(pod).and_then(Value::as_str) == Some("windows");
    for at in [spec.key("os").key("name"), spec.key("nodeSelector").key("kubernetes.io/os")] {
        if is_windows(&at) {
            refusals.push(|| InjectionRefusal { at, reason: RefusalReason::Windows });
        }
    }
    let sidecar_ports = sidecar_ports(settings);
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        let list_at = spec.key(list);
        for (index, container) in list_items(pod, list).enumerate() {
            find_container_obstacles(
                container,
                &|| list_at.item(index),
                settings,
                &sidecar_ports,
                &mut refusals,
            );
        }
    }
    for (index, volume) in list_items(pod, "volumes").enumerate() {
        if let Some(name) = name_of(volume).filter(|name| VOLUME_NAMES.contains(name)) {
            let reason = RefusalReason::NameTaken { what: "volume", name: name.to_owned() };
            refusals.push(|| InjectionRefusal {
                at: spec.key("volumes").item(index).key("name"),
                reason,
            });
        }
    }
    refusals.into_list()
}

/// The ports that the sidecar listens on, each with the annotation that sets it.
fn sidecar_ports(settings: &SidecarSettings) -> BTreeMap<u64, &'static str> {
    let probes = (u64::from(settings.probes.port()), "probes");
    settings.ports().into_iter().map(|port| (u64::from(port), "listen")).chain([probes]).collect()
}

fn find_container_obstacles(
    container: &Value,
    at: &dyn Fn() -> FieldPath,
    settings: &SidecarSettings,
    sidecar_ports: &BTreeMap<u64, &'static str>,
    refusals: &mut InjectionRefusals,
) {
    let name = name_of(container).unwrap_or_default();
    if name == CONTAINER_NAME {
        let reason = RefusalReason::NameTaken { what: "container", name: name.to_owned() };
        refusals.push(|| InjectionRefusal { at: at().key("name"), reason });
    }
    let items =
        |key| container.get(key).and_then(Value::as_array).into_iter().flatten().enumerate();
    for (index, port) in items("ports") {
        let Some(port) = port.get("containerPort").and_then(Value::as_u64) else { continue };
        let Some(annotation) = sidecar_ports.get(&port).copied() else { continue };
        refusals.push(|| {
            let reason = RefusalReason::PortTaken {
                port: u16::try_from(port).unwrap_or(0),
                container: excerpt(name),
                annotation,
            };
            InjectionRefusal { at: at().key("ports").item(index).key("containerPort"), reason }
        });
    }
    for (index, mount) in items("volumeMounts").filter(|_| settings.unix_socket) {
        let path = mount.get("mountPath").and_then(Value::as_str).unwrap_or_default();
        let rest = path.trim_end_matches('/').strip_prefix(SOCKET_DIR);
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            refusals.push(|| {
                let reason =
                    RefusalReason::MountTaken { container: excerpt(name), mount: excerpt(path) };
                InjectionRefusal {
                    at: at().key("volumeMounts").item(index).key("mountPath"),
                    reason,
                }
            });
        }
    }
}

/// The items of a list of the pod's spec.
pub(super) fn list_items<'v>(
    pod: &'v Value,
    list: &str,
) -> impl Iterator<Item = &'v Value> + use<'v> {
    let list = pod.get("spec").and_then(|spec| spec.get(list));
    list.and_then(Value::as_array).into_iter().flatten()
}

pub(super) fn name_of(value: &Value) -> Option<&str> {
    value.get("name").and_then(Value::as_str)
}

fn not_a_pod(expected: &'static str, at: FieldPath) -> InjectionRefusal {
    InjectionRefusal { reason: RefusalReason::NotAPod { expected, at: at.to_string() }, at }
}
