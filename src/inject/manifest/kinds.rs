//! The pod templates in the objects of Kubernetes: each workload kind has its template at a path of
//! its own.

use serde_json::Value;

use crate::inject::annotations::PREFIX;
use crate::inject::change::FieldPath;

/// The deepest nesting of lists of objects.
const LIST_DEPTH_MAX: usize = 4;

/// A pod, or a pod template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PodTemplate {
    /// Its path in the document.
    pub(super) at: FieldPath,
    /// The object that holds it, for messages: `Deployment shop/web`.
    pub(super) owner: String,
    /// The paths of `bfb.dev/` annotations and labels that have no effect where they are.
    pub(super) misplaced: Vec<FieldPath>,
}

/// The pod templates of a document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DocumentTemplates {
    pub(super) templates: Vec<PodTemplate>,
    /// Objects of unknown kinds whose pod template asks for a sidecar: the object, and the path of
    /// the annotation.
    pub(super) unknown: Vec<(String, FieldPath)>,
}

/// Finds every pod template of a document.
pub(super) fn find_templates(document: &Value) -> DocumentTemplates {
    let mut templates = DocumentTemplates::default();
    search_object(document, &FieldPath::root(), None, 0, &mut templates);
    templates
}

/// The path of the pod template in an object of this kind; `None` for an unknown kind.
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

/// Collects the templates of one object, or of the items of a list. `list_item` is the version and
/// kind of the items of a typed list (`DeploymentList`), which the items may omit.
fn search_object(
    value: &Value,
    at: &FieldPath,
    list_item: Option<(&str, &str)>,
    depth: usize,
    templates: &mut DocumentTemplates,
) {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let version = text("apiVersion").or(list_item.map(|(version, _)| version)).unwrap_or_default();
    let kind = text("kind").or(list_item.map(|(_, kind)| kind)).unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    if let (Some(item), Some(Value::Array(items))) = (kind.strip_suffix("List"), value.get("items"))
    {
        let list_item = (!item.is_empty()).then_some((version, item));
        for (index, item) in items.iter().enumerate().filter(|_| depth < LIST_DEPTH_MAX) {
            search_object(item, &at.key("items").item(index), list_item, depth + 1, templates);
        }
        return;
    }
    let owner = owner(kind, value);
    match template_path(group, kind) {
        Some(template) if template.find_in(value).is_some_and(Value::is_object) => {
            let misplaced = find_misplaced(value, at, &template);
            templates.templates.push(PodTemplate { at: at.join(&template), owner, misplaced });
        }
        Some(_) => {}
        None => {
            let requests = ["template", "podTemplate"].into_iter().map(|name| {
                let template = FieldPath::root().key("spec").key(name);
                template.key("metadata").key("annotations").key(&format!("{PREFIX}inject"))
            });
            let requests = requests.filter(|request| {
                request.find_in(value).is_some_and(|value| value.as_str() != Some("false"))
            });
            templates.unknown.extend(requests.map(|request| (owner.clone(), at.join(&request))));
        }
    }
}

fn owner(kind: &str, value: &Value) -> String {
    let metadata = |name: &str| value.pointer(&format!("/metadata/{name}")).and_then(Value::as_str);
    let name = metadata("name").or(metadata("generateName")).unwrap_or("(without a name)");
    match metadata("namespace") {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// The paths of `bfb.dev/` annotations on the object instead of its template, and of `bfb.dev/`
/// labels.
fn find_misplaced(value: &Value, at: &FieldPath, template: &FieldPath) -> Vec<FieldPath> {
    let metadata = |of: &FieldPath, name: &str| of.key("metadata").key(name);
    let mut places = vec![metadata(template, "labels")];
    // The object itself, and the object between it and its pods (the Jobs of a CronJob).
    for above in [FieldPath::root(), FieldPath::root().key("spec").key("jobTemplate")]
        .iter()
        .filter(|above| *above != template)
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
