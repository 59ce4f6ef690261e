//! What stands in a pod already: its annotations, its containers, and what there would be in a
//! sidecar's way.

use std::collections::BTreeMap;

use serde_json::Value;

use super::annotations::{self, By, INJECTED, PREFIX};
use super::change::Path;
use super::refusal::{Refusal, Refusals, Why, excerpt};
use super::resources;
use super::settings::{Facts, GRACE_SECONDS, Settings, place};
use super::sidecar::{CONTAINER, SOCKET_DIR, VOLUMES};

/// Annotations whose values may be passwords, or personal data: no message repeats them.
const UNSPOKEN: [&str; 3] = ["redis", "store", "trace-key"];

/// The annotations of ours that a pod carries, by their names without the prefix; or all that is
/// wrong with them.
pub(super) fn annotations_of(pod: &Value) -> Result<BTreeMap<&'static str, &str>, Vec<Refusal>> {
    let at = Path::root().key("metadata").key("annotations");
    let found = match at.of(pod) {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(found)) => found,
        Some(_) => return Err(vec![shape("a mapping", at)]),
    };
    let (mut annotations, mut refusals) = (BTreeMap::new(), Refusals::default());
    for (whole, value) in found {
        let Some(name) = whole.strip_prefix(PREFIX) else { continue };
        match read(name, value, refusals.are_full()) {
            Ok((annotation, text)) => drop(annotations.insert(annotation, text)),
            Err(why) => refusals.push(|| Refusal { at: at.key(whole), why }),
        }
    }
    refusals.or(annotations)
}

/// `counted`: whether what is wrong is only counted, so that no near name need be looked for.
fn read<'v>(name: &str, value: &'v Value, counted: bool) -> Result<(&'static str, &'v str), Why> {
    let Some(row) = annotations::find(name) else {
        let nearest = if counted { None } else { annotations::nearest_to(name) };
        return Err(Why::Unknown { name: excerpt(name), nearest });
    };
    let Value::String(text) = value else { return Err(Why::NotText { name: row.whole() }) };
    let shown = || (!UNSPOKEN.contains(&row.name)).then(|| excerpt(text));
    let bad = |expected| Why::BadValue { name: row.name, value: shown(), expected };
    row.check(text).map_err(bad)?;
    if row.by == By::Us && row.name == "status" && text != INJECTED {
        return Err(bad("`injected`, which is set by `bfb` itself"));
    }
    Ok((row.name, text))
}

/// Whether the pod has its sidecar already; it may not be half there.
pub(super) fn is_injected(
    pod: &Value,
    annotations: &BTreeMap<&'static str, &str>,
) -> Result<bool, Refusal> {
    if !annotations.contains_key("status") {
        return Ok(false);
    }
    let there = items(pod, "initContainers").any(|container| name_of(container) == Some(CONTAINER));
    if there { Ok(true) } else { Err(Refusal { at: place("status"), why: Why::HalfInjected }) }
}

/// What the pod says of itself that its sidecar must fit.
pub(super) fn facts(pod: &Value) -> Facts {
    let grace = pod.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_u64);
    let containers = items(pod, "containers").chain(items(pod, "initContainers"));
    Facts {
        grace_seconds: grace.unwrap_or(GRACE_SECONDS),
        guaranteed: resources::is_guaranteed(containers),
    }
}

/// Everything that is no pod at all; nothing else is looked at where there is any.
pub(super) fn malformed(pod: &Value) -> Vec<Refusal> {
    let spec = Path::root().key("spec");
    let mut refusals = Refusals::default();
    for (name, needed) in [("containers", true), ("initContainers", false), ("volumes", false)] {
        let at = spec.key(name);
        let fits = match at.of(pod) {
            Some(Value::Array(list)) => {
                !(needed && list.is_empty()) && list.iter().all(Value::is_object)
            }
            None | Some(Value::Null) => !needed,
            Some(_) => false,
        };
        if !fits {
            let expected = if needed { "a list of containers" } else { "a list of mappings" };
            refusals.push(|| shape(expected, at));
        }
    }
    if Path::root().key("metadata").of(pod).is_some_and(|it| !it.is_object() && !it.is_null()) {
        refusals.push(|| shape("a mapping", Path::root().key("metadata")));
    }
    for (index, container) in items(pod, "containers").enumerate() {
        if container.get("volumeMounts").is_some_and(|it| !it.is_array() && !it.is_null()) {
            refusals
                .push(|| shape("a list", spec.key("containers").item(index).key("volumeMounts")));
        }
    }
    refusals.into_list()
}

/// Everything in the way of a sidecar that is told this.
pub(super) fn obstacles(pod: &Value, settings: &Settings) -> Vec<Refusal> {
    let spec = Path::root().key("spec");
    let mut refusals = Refusals::default();
    if pod.pointer("/spec/hostNetwork") == Some(&Value::Bool(true)) {
        refusals.push(|| Refusal { at: spec.key("hostNetwork"), why: Why::HostNetwork });
    }
    let windows = |path: &Path| path.of(pod).and_then(Value::as_str) == Some("windows");
    for at in [spec.key("os").key("name"), spec.key("nodeSelector").key("kubernetes.io/os")] {
        if windows(&at) {
            refusals.push(|| Refusal { at, why: Why::Windows });
        }
    }
    let ours = ours(settings);
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        let list_at = spec.key(list);
        for (index, container) in items(pod, list).enumerate() {
            of_container(container, &|| list_at.item(index), settings, &ours, &mut refusals);
        }
    }
    for (index, volume) in items(pod, "volumes").enumerate() {
        if let Some(name) = name_of(volume).filter(|name| VOLUMES.contains(name)) {
            let why = Why::NameTaken { what: "volume", name: name.to_owned() };
            refusals.push(|| Refusal { at: spec.key("volumes").item(index).key("name"), why });
        }
    }
    refusals.into_list()
}

/// The ports that the sidecar listens on, each with the annotation that moves it.
fn ours(settings: &Settings) -> BTreeMap<u64, &'static str> {
    let probes = (u64::from(settings.probes.port()), "probes");
    settings.ports().into_iter().map(|port| (u64::from(port), "listen")).chain([probes]).collect()
}

fn of_container(
    container: &Value,
    at: &dyn Fn() -> Path,
    settings: &Settings,
    ours: &BTreeMap<u64, &'static str>,
    refusals: &mut Refusals,
) {
    let name = name_of(container).unwrap_or_default();
    if name == CONTAINER {
        let why = Why::NameTaken { what: "container", name: name.to_owned() };
        refusals.push(|| Refusal { at: at().key("name"), why });
    }
    let entries =
        |key| container.get(key).and_then(Value::as_array).into_iter().flatten().enumerate();
    for (index, port) in entries("ports") {
        let Some(port) = port.get("containerPort").and_then(Value::as_u64) else { continue };
        let Some(moves) = ours.get(&port).copied() else { continue };
        refusals.push(|| {
            let why = Why::PortTaken {
                port: u16::try_from(port).unwrap_or(0),
                container: excerpt(name),
                moves,
            };
            Refusal { at: at().key("ports").item(index).key("containerPort"), why }
        });
    }
    for (index, mount) in entries("volumeMounts").filter(|_| settings.unix_socket) {
        let path = mount.get("mountPath").and_then(Value::as_str).unwrap_or_default();
        let below = path.trim_end_matches('/').strip_prefix(SOCKET_DIR);
        if below.is_some_and(|below| below.is_empty() || below.starts_with('/')) {
            refusals.push(|| {
                let why = Why::MountTaken { container: excerpt(name), mount: excerpt(path) };
                Refusal { at: at().key("volumeMounts").item(index).key("mountPath"), why }
            });
        }
    }
}

/// The items of a list of the pod's spec.
pub(super) fn items<'v>(pod: &'v Value, list: &str) -> impl Iterator<Item = &'v Value> + use<'v> {
    let list = pod.get("spec").and_then(|spec| spec.get(list));
    list.and_then(Value::as_array).into_iter().flatten()
}

pub(super) fn name_of(value: &Value) -> Option<&str> {
    value.get("name").and_then(Value::as_str)
}

fn shape(expected: &'static str, at: Path) -> Refusal {
    Refusal { why: Why::NotAPod { expected, at: at.to_string() }, at }
}
