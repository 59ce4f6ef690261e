//! The decision on one pod: the additions that inject its sidecar, or the reason why there are
//! none; and the removals that uninject it. Pure.
//!
//! Removals find the sidecar's container, volumes, mounts and annotations by their names. The rest
//! is written to `bfb.dev/undo` at injection: whether `kubectl`'s default container was added, and
//! which collections were empty.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::annotations::{PREFIX, STATUS_INJECTED};
use super::change::{Additions, FieldPath, Removals, RemovedEntries};
use super::pod::{
    find_malformed, find_obstacles, is_injected, list_items, name_of, parse_annotations, pod_facts,
};
use super::pod_annotations::{Defaults, PodAnnotations};
use super::refusal::InjectionRefusal;
use super::sidecar_container::{CONTAINER_NAME, build_container, shared_mount};
use super::sidecar_settings::SidecarSettings;
use super::volumes::{VOLUME_NAMES, build_volumes};

/// The annotation that names the container for `kubectl logs` and `kubectl exec`.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// The decision on a pod.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum InjectOutcome {
    /// The pod stays unchanged.
    Skip(SkipReason),
    /// The pod gets a sidecar.
    Inject(Injection),
}

/// Why a pod stays unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// Neither the pod nor a default asks for a sidecar.
    NotRequested,
    /// The pod has `bfb.dev/inject: "false"`.
    OptedOut,
    /// The pod has its sidecar.
    AlreadyInjected,
}

/// The injection of a sidecar into a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Injection {
    /// The sidecar's domains.
    pub domains: Vec<String>,
    /// Everything that is added to the pod.
    pub additions: Additions,
}

/// Decides on `pod`, an object with `metadata` and `spec`: a Pod or a pod template. The error is
/// every reason against the injection, not only the first.
pub(super) fn inject(
    pod: &Value,
    defaults: &Defaults,
) -> Result<InjectOutcome, Vec<InjectionRefusal>> {
    let annotations = parse_annotations(pod)?;
    if is_injected(pod, &annotations).map_err(|refusal| vec![refusal])? {
        return Ok(InjectOutcome::Skip(SkipReason::AlreadyInjected));
    }
    let has_inject = annotations.contains_key("inject");
    let annotations = PodAnnotations { pod: annotations, defaults };
    let Some(domains) = annotations.domains().map_err(|refusal| vec![refusal])? else {
        return Ok(InjectOutcome::Skip(if has_inject {
            SkipReason::OptedOut
        } else {
            SkipReason::NotRequested
        }));
    };
    let malformed = find_malformed(pod);
    if !malformed.is_empty() {
        return Err(malformed);
    }
    let settings = SidecarSettings::from_annotations(&annotations, domains, pod_facts(pod))?;
    let obstacles = find_obstacles(pod, &settings);
    if !obstacles.is_empty() {
        return Err(obstacles);
    }
    let additions = build_additions(pod, &settings);
    Ok(InjectOutcome::Inject(Injection { domains: settings.domains, additions }))
}

fn build_additions(pod: &Value, settings: &SidecarSettings) -> Additions {
    let metadata = FieldPath::root().key("metadata");
    let spec = FieldPath::root().key("spec");
    let annotations = metadata.key("annotations");
    let sidecars = spec.key("initContainers");
    let volumes = spec.key("volumes");
    let mount_count = if settings.unix_socket { list_items(pod, "containers").count() } else { 0 };
    let mounts: Vec<_> = (0..mount_count)
        .map(|index| spec.key("containers").item(index).key("volumeMounts"))
        .collect();

    let mut additions = Additions::default();
    additions.add_items(pod, &sidecars, vec![build_container(settings)]);
    additions.add_items(pod, &volumes, build_volumes(settings));
    for path in &mounts {
        additions.add_items(pod, path, vec![shared_mount()]);
    }

    let changed = [&metadata, &annotations, &sidecars, &volumes].into_iter().chain(&mounts);
    let mut undo: Vec<String> =
        changed.filter(|path| is_empty(path.find_in(pod))).map(ToString::to_string).collect();
    let mut new_annotations = vec![(format!("{PREFIX}status"), json!(STATUS_INJECTED))];
    let application = list_items(pod, "containers").next().and_then(name_of);
    if let Some(name) =
        application.filter(|_| annotations.key(DEFAULT_CONTAINER).find_in(pod).is_none())
    {
        new_annotations.push((DEFAULT_CONTAINER.to_owned(), json!(name)));
        undo.insert(0, "default-container".to_owned());
    }
    if !undo.is_empty() {
        new_annotations.push((format!("{PREFIX}undo"), json!(undo.join(" "))));
    }
    additions.add_members(pod, &annotations, new_annotations);
    additions
}

/// Whether `value` is an empty collection, or `null`.
fn is_empty(value: Option<&Value>) -> bool {
    value.is_some_and(|value| match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        _ => false,
    })
}

/// The removals that make `pod` what it was before [`inject`]; `None` if it is not marked as
/// injected.
pub(super) fn uninject(pod: &Value) -> Option<Removals> {
    let annotations = FieldPath::root().key("metadata").key("annotations");
    let annotation = |name: &str| {
        annotations.key(&format!("{PREFIX}{name}")).find_in(pod).and_then(Value::as_str)
    };
    if annotation("status") != Some(STATUS_INJECTED) {
        return None;
    }
    let undo: HashSet<&str> = annotation("undo").unwrap_or_default().split_whitespace().collect();
    let was_empty = |path: &FieldPath| undo.contains(path.to_string().as_str());
    let mut removals = Removals::default();

    let mut keys: Vec<String> =
        ["status", "undo"].iter().map(|name| format!("{PREFIX}{name}")).collect();
    if undo.contains("default-container") {
        keys.push(DEFAULT_CONTAINER.to_owned());
    }
    keys.retain(|key| annotations.key(key).find_in(pod).is_some());
    removals.remove(pod, &annotations, RemovedEntries::Keys(keys), &was_empty);

    let spec = FieldPath::root().key("spec");
    let mut remove_named = |list: FieldPath, is_sidecar_name: &dyn Fn(&str) -> bool| {
        let Some(Value::Array(items)) = list.find_in(pod) else { return };
        let is_sidecar_item =
            |(_, item): &(usize, &Value)| name_of(item).is_some_and(is_sidecar_name);
        let indices: Vec<usize> =
            items.iter().enumerate().filter(is_sidecar_item).map(|(index, _)| index).collect();
        if !indices.is_empty() {
            removals.remove(pod, &list, RemovedEntries::Items(indices), &was_empty);
        }
    };
    remove_named(spec.key("initContainers"), &|name| name == CONTAINER_NAME);
    remove_named(spec.key("volumes"), &|name| VOLUME_NAMES.contains(&name));
    for index in 0..list_items(pod, "containers").count() {
        remove_named(spec.key("containers").item(index).key("volumeMounts"), &|name| {
            VOLUME_NAMES.contains(&name)
        });
    }
    Some(removals)
}
