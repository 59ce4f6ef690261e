//! Where pods are in the objects of Kubernetes: of each kind that makes pods, the place of its
//! template.

use serde_json::Value;

use crate::inject::annotations::PREFIX;
use crate::inject::change::FieldPath;

/// How deep lists of objects may hold each other.
const LIST_DEPTH_MAX: usize = 4;

/// A pod, or the template of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PodTemplate {
    /// Where it is in its document.
    pub(super) at: FieldPath,
    /// Whose it is, for people: `Deployment shop/web`.
    pub(super) owner: String,
    /// Annotations and labels of ours that stand where nobody looks.
    pub(super) misplaced: Vec<FieldPath>,
}

/// What a document holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DocumentTemplates {
    pub(super) templates: Vec<PodTemplate>,
    /// Objects of kinds that we do not know, whose pod template asks for a sidecar: the place where
    /// it does.
    pub(super) unknown: Vec<(String, FieldPath)>,
}

/// Finds every pod template of a document.
pub(super) fn find_templates(document: &Value) -> DocumentTemplates {
    let mut found = DocumentTemplates::default();
    search_object(document, &FieldPath::root(), None, 0, &mut found);
    found
}

/// Where a kind keeps the template of its pods; `None` for one that we do not know.
fn template_path(group: &str, kind: &str) -> Option<FieldPath> {
    let spec = FieldPath::root().key("spec");
    match (group, kind) {
        ("", "Pod") => Some(FieldPath::root()),
        ("", "PodTemplate") => Some(FieldPath::root().key("template")),
        ("", "ReplicationController")
        | ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("batch", "Job") => Some(spec.key("template")),
        ("batch", "CronJob") => Some(spec.key("jobTemplate").key("spec").key("template")),
        _ => None,
    }
}

/// `item_of`: the version and kind that the items of a typed list (`DeploymentList`) need not
/// repeat.
fn search_object(
    value: &Value,
    at: &FieldPath,
    item_of: Option<(&str, &str)>,
    depth: usize,
    found: &mut DocumentTemplates,
) {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let version = text("apiVersion").or(item_of.map(|(version, _)| version)).unwrap_or_default();
    let kind = text("kind").or(item_of.map(|(_, kind)| kind)).unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    if let (Some(item), Some(Value::Array(items))) = (kind.strip_suffix("List"), value.get("items"))
    {
        let item_of = (!item.is_empty()).then_some((version, item));
        for (index, item) in items.iter().enumerate().filter(|_| depth < LIST_DEPTH_MAX) {
            search_object(item, &at.key("items").item(index), item_of, depth + 1, found);
        }
        return;
    }
    let owner = owner(kind, value);
    match template_path(group, kind) {
        Some(below) if below.find_in(value).is_some_and(Value::is_object) => {
            let misplaced = find_misplaced(value, at, &below);
            found.templates.push(PodTemplate { at: at.join(&below), owner, misplaced });
        }
        Some(_) => {}
        None => {
            let place = ["template", "podTemplate"]
                .into_iter()
                .map(|name| FieldPath::root().key("spec").key(name));
            let annotations = place.map(|template| template.key("metadata").key("annotations"));
            let asks = annotations.map(|annotations| annotations.key(&format!("{PREFIX}inject")));
            let asks = asks.filter(|asks| {
                asks.find_in(value).is_some_and(|value| value.as_str() != Some("false"))
            });
            found.unknown.extend(asks.map(|asks| (owner.clone(), at.join(&asks))));
        }
    }
}

fn owner(kind: &str, value: &Value) -> String {
    let of = |name: &str| value.pointer(&format!("/metadata/{name}")).and_then(Value::as_str);
    let name = of("name").or(of("generateName")).unwrap_or("(without a name)");
    match of("namespace") {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// Ours on the object instead of its template, or among labels instead of annotations.
fn find_misplaced(value: &Value, at: &FieldPath, below: &FieldPath) -> Vec<FieldPath> {
    let metadata = |of: &FieldPath, name: &str| of.key("metadata").key(name);
    let mut places = vec![metadata(below, "labels")];
    // On the object itself, and on what it makes before it makes pods (a CronJob's Jobs).
    for above in [FieldPath::root(), FieldPath::root().key("spec").key("jobTemplate")]
        .iter()
        .filter(|above| *above != below)
    {
        places.extend(["annotations", "labels"].map(|name| metadata(above, name)));
    }
    let keys = |place: FieldPath| {
        let entries = place.find_in(value).and_then(Value::as_object).into_iter().flatten();
        let prefixed = entries.filter(|(key, _)| key.starts_with(PREFIX));
        prefixed.map(|(key, _)| at.join(&place.key(key))).collect::<Vec<_>>()
    };
    places.into_iter().flat_map(keys).collect()
}
