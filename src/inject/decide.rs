//! The decision on one pod: what is added to it, or why nothing is; and what is taken away again.
//! Pure.
//!
//! Everything that is added can be told from what was there by its name, and what cannot is noted
//! in `bfb.dev/undo`: whether `kubectl`'s default container is ours, and which collections were
//! there and empty.

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

/// The annotation by which `kubectl logs` and `kubectl exec` know the application.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// What becomes of a pod.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum InjectOutcome {
    /// It stays as it is.
    Skip(SkipReason),
    /// It gets a sidecar.
    Inject(Injection),
}

/// Why a pod stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// Nothing in it asks for a sidecar.
    NotRequested,
    /// It says `bfb.dev/inject: "false"`.
    OptedOut,
    /// It has one.
    AlreadyInjected,
}

/// A sidecar for a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Injection {
    /// Its domains.
    pub domains: Vec<String>,
    /// All that is added to the pod.
    pub additions: Additions,
}

/// Decides on `pod`: an object with `metadata` and `spec`, a Pod or the template of one.
///
/// Looks at nothing but its arguments. Every reason against it comes back, not only the first.
pub(super) fn inject(
    pod: &Value,
    defaults: &Defaults,
) -> Result<InjectOutcome, Vec<InjectionRefusal>> {
    let annotations = parse_annotations(pod)?;
    if is_injected(pod, &annotations).map_err(|refusal| vec![refusal])? {
        return Ok(InjectOutcome::Skip(SkipReason::AlreadyInjected));
    }
    let opted_out = annotations.contains_key("inject");
    let annotations = PodAnnotations { pod: annotations, defaults };
    let Some(domains) = annotations.domains().map_err(|refusal| vec![refusal])? else {
        return Ok(InjectOutcome::Skip(if opted_out {
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
    let shared = if settings.unix_socket { list_items(pod, "containers").count() } else { 0 };
    let mounts: Vec<_> =
        (0..shared).map(|index| spec.key("containers").item(index).key("volumeMounts")).collect();

    let mut additions = Additions::default();
    additions.add_items(pod, &sidecars, vec![build_container(settings)]);
    additions.add_items(pod, &volumes, build_volumes(settings));
    for path in &mounts {
        additions.add_items(pod, path, vec![shared_mount()]);
    }

    let touched = [&metadata, &annotations, &sidecars, &volumes].into_iter().chain(&mounts);
    let mut undo: Vec<String> =
        touched.filter(|path| is_empty(path.find_in(pod))).map(ToString::to_string).collect();
    let mut marks = vec![(format!("{PREFIX}status"), json!(STATUS_INJECTED))];
    let application = list_items(pod, "containers").next().and_then(name_of);
    if let Some(name) =
        application.filter(|_| annotations.key(DEFAULT_CONTAINER).find_in(pod).is_none())
    {
        marks.push((DEFAULT_CONTAINER.to_owned(), json!(name)));
        undo.insert(0, "default-container".to_owned());
    }
    if !undo.is_empty() {
        marks.push((format!("{PREFIX}undo"), json!(undo.join(" "))));
    }
    additions.add_members(pod, &annotations, marks);
    additions
}

/// Whether a collection is there and holds nothing.
fn is_empty(value: Option<&Value>) -> bool {
    value.is_some_and(|value| match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        _ => false,
    })
}

/// What must be taken from `pod` so that it is what it was before [`inject`]; `None` where it is
/// not marked as injected.
pub(super) fn uninject(pod: &Value) -> Option<Removals> {
    let annotations = FieldPath::root().key("metadata").key("annotations");
    let of = |name: &str| {
        annotations.key(&format!("{PREFIX}{name}")).find_in(pod).and_then(Value::as_str)
    };
    if of("status") != Some(STATUS_INJECTED) {
        return None;
    }
    let undo: HashSet<&str> = of("undo").unwrap_or_default().split_whitespace().collect();
    let must_keep = |path: &FieldPath| undo.contains(path.to_string().as_str());
    let mut removals = Removals::default();

    let mut keys: Vec<String> =
        ["status", "undo"].iter().map(|name| format!("{PREFIX}{name}")).collect();
    if undo.contains("default-container") {
        keys.push(DEFAULT_CONTAINER.to_owned());
    }
    keys.retain(|key| annotations.key(key).find_in(pod).is_some());
    removals.remove(pod, &annotations, RemovedEntries::Keys(keys), &must_keep);

    let spec = FieldPath::root().key("spec");
    let mut remove_named = |list: FieldPath, is_sidecar_name: &dyn Fn(&str) -> bool| {
        let Some(Value::Array(existing)) = list.find_in(pod) else { return };
        let is_sidecar_item =
            |(_, item): &(usize, &Value)| name_of(item).is_some_and(is_sidecar_name);
        let indices: Vec<usize> =
            existing.iter().enumerate().filter(is_sidecar_item).map(|(index, _)| index).collect();
        if !indices.is_empty() {
            removals.remove(pod, &list, RemovedEntries::Items(indices), &must_keep);
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
