//! The output of `kubectl kustomize` for `k8s/`, as far as its kustomizations go: the files that
//! they name, and patches (RFC 6902).

use std::path::Path;

use bfb::inject::manifest;
use serde_json::Value;

use super::api::text;

/// How the webhook is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overlay {
    /// While no replica answers, pods that ask are refused.
    Fail,
    /// While no replica answers, they are admitted without a sidecar, and the watchdog reports
    /// them.
    Ignore,
    /// As `Fail`, with a certificate that cert-manager makes and renews.
    CertManager,
}

/// The objects of an overlay, but for those of cert-manager itself.
pub(crate) fn objects(overlay: Overlay) -> Vec<Value> {
    let mut objects = resources("base");
    let component = match overlay {
        Overlay::Fail => return objects,
        Overlay::Ignore => "components/ignore",
        Overlay::CertManager => "components/cert-manager",
    };
    objects.extend(resources(component));
    objects.retain(|object| !text(object, "/apiVersion").starts_with("cert-manager.io/"));
    for patch in kustomization(component)["patches"].as_array().into_iter().flatten() {
        let mut targets: Vec<_> =
            objects.iter_mut().filter(|object| is_meant(object, &patch["target"])).collect();
        assert!(!targets.is_empty(), "{component} patches nothing: {patch:#}");
        let patch =
            manifest::documents(Path::new(component), &text(patch, "/patch")).unwrap().remove(0);
        let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
        for target in &mut targets {
            json_patch::patch(target, &patch)
                .unwrap_or_else(|error| panic!("{component}: {error}"));
        }
    }
    objects
}

fn is_meant(object: &Value, target: &Value) -> bool {
    object["kind"] == target["kind"] && object["metadata"]["name"] == target["name"]
}

fn resources(folder: &str) -> Vec<Value> {
    let kustomization = kustomization(folder);
    let files =
        kustomization["resources"].as_array().into_iter().flatten().filter_map(Value::as_str);
    files.flat_map(|file| documents(&format!("{folder}/{file}"))).collect()
}

fn kustomization(folder: &str) -> Value {
    documents(&format!("{folder}/kustomization.yaml")).remove(0)
}

fn documents(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("k8s").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
    manifest::documents(&path, &text).unwrap()
}
