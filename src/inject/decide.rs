//! The decision on one pod: what is added to it, or why nothing is; and what is taken away again.
//! Pure.
//!
//! Everything that is added can be told from what was there by its name, and what cannot is noted
//! in `bfb.dev/undo`: whether `kubectl`'s default container is ours, and which collections were
//! there and empty.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::annotations::{INJECTED, PREFIX};
use super::change::{Additions, Path, Removals, Which};
use super::pod::{annotations_of, facts, is_injected, items, malformed, name_of, obstacles};
use super::refusal::Refusal;
use super::settings::{Asked, Defaults, Settings};
use super::sidecar::{CONTAINER, VOLUMES, container, shared_mount};
use super::volumes;

/// The annotation by which `kubectl logs` and `kubectl exec` know the application.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// What becomes of a pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It stays as it is.
    Leave(Left),
    /// It gets a sidecar.
    Inject(Injection),
}

/// Why a pod stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Nothing in it asks for a sidecar.
    NotAsked,
    /// It says `bfb.dev/inject: "false"`.
    OptedOut,
    /// It has one.
    Injected,
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
pub fn inject(pod: &Value, defaults: &Defaults) -> Result<Outcome, Vec<Refusal>> {
    let annotations = annotations_of(pod)?;
    if is_injected(pod, &annotations).map_err(|refusal| vec![refusal])? {
        return Ok(Outcome::Leave(Left::Injected));
    }
    let opted_out = annotations.contains_key("inject");
    let asked = Asked { pod: annotations, defaults };
    let Some(domains) = asked.domains().map_err(|refusal| vec![refusal])? else {
        return Ok(Outcome::Leave(if opted_out { Left::OptedOut } else { Left::NotAsked }));
    };
    let malformed = malformed(pod);
    if !malformed.is_empty() {
        return Err(malformed);
    }
    let settings = Settings::of(&asked, domains, facts(pod))?;
    let obstacles = obstacles(pod, &settings);
    if !obstacles.is_empty() {
        return Err(obstacles);
    }
    let additions = additions(pod, &settings);
    Ok(Outcome::Inject(Injection { domains: settings.domains, additions }))
}

fn additions(pod: &Value, settings: &Settings) -> Additions {
    let (metadata, spec) = (Path::root().key("metadata"), Path::root().key("spec"));
    let annotations = metadata.key("annotations");
    let (sidecars, volumes) = (spec.key("initContainers"), spec.key("volumes"));
    let shared = if settings.unix_socket { items(pod, "containers").count() } else { 0 };
    let mounts: Vec<_> =
        (0..shared).map(|index| spec.key("containers").item(index).key("volumeMounts")).collect();

    let mut additions = Additions::default();
    additions.items(pod, &sidecars, vec![container(settings)]);
    additions.items(pod, &volumes, volumes::of(settings));
    for path in &mounts {
        additions.items(pod, path, vec![shared_mount()]);
    }

    let touched = [&metadata, &annotations, &sidecars, &volumes].into_iter().chain(&mounts);
    let mut undo: Vec<String> =
        touched.filter(|path| is_empty(path.of(pod))).map(ToString::to_string).collect();
    let mut marks = vec![(format!("{PREFIX}status"), json!(INJECTED))];
    let application = items(pod, "containers").next().and_then(name_of);
    if let Some(name) = application.filter(|_| annotations.key(DEFAULT_CONTAINER).of(pod).is_none())
    {
        marks.push((DEFAULT_CONTAINER.to_owned(), json!(name)));
        undo.insert(0, "default-container".to_owned());
    }
    if !undo.is_empty() {
        marks.push((format!("{PREFIX}undo"), json!(undo.join(" "))));
    }
    additions.members(pod, &annotations, marks);
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
pub fn uninject(pod: &Value) -> Option<Removals> {
    let annotations = Path::root().key("metadata").key("annotations");
    let of =
        |name: &str| annotations.key(&format!("{PREFIX}{name}")).of(pod).and_then(Value::as_str);
    if of("status") != Some(INJECTED) {
        return None;
    }
    let undo: HashSet<&str> = of("undo").unwrap_or_default().split_whitespace().collect();
    let stays = |path: &Path| undo.contains(path.to_string().as_str());
    let mut removals = Removals::default();

    let mut keys: Vec<String> =
        ["status", "undo"].iter().map(|name| format!("{PREFIX}{name}")).collect();
    if undo.contains("default-container") {
        keys.push(DEFAULT_CONTAINER.to_owned());
    }
    keys.retain(|key| annotations.key(key).of(pod).is_some());
    removals.take(pod, &annotations, Which::Keys(keys), &stays);

    let spec = Path::root().key("spec");
    let mut take = |list: Path, ours: &dyn Fn(&str) -> bool| {
        let Some(Value::Array(there)) = list.of(pod) else { return };
        let is_ours = |(_, item): &(usize, &Value)| name_of(item).is_some_and(ours);
        let which: Vec<usize> =
            there.iter().enumerate().filter(is_ours).map(|(index, _)| index).collect();
        if !which.is_empty() {
            removals.take(pod, &list, Which::Items(which), &stays);
        }
    };
    take(spec.key("initContainers"), &|name| name == CONTAINER);
    take(spec.key("volumes"), &|name| VOLUMES.contains(&name));
    for index in 0..items(pod, "containers").count() {
        take(spec.key("containers").item(index).key("volumeMounts"), &|name| {
            VOLUMES.contains(&name)
        });
    }
    Some(removals)
}
