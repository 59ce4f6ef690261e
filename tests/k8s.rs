//! `k8s/`, which a platform team applies. Its files name each other, Kubernetes accepts the output
//! of kustomize for them, and everything that they watch, allow and call exists.

mod manifests;
mod monitoring;
mod try_overlay;
mod webhook;

use std::fs;
use std::path::{Path, PathBuf};

use bfb::inject::manifest;
use serde_json::Value;

const OVERLAYS: [&str; 5] = ["cert-manager", "fail", "ignore", "monitoring", "try"];

/// A path below the repository's root.
fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(root(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The documents of a file.
fn documents(path: &str) -> Vec<Value> {
    manifest::documents(Path::new(path), &read(path)).unwrap()
}

/// All objects that an overlay comes to.
fn rendered(overlay: &str) -> Vec<Value> {
    documents(&format!("tests/k8s/rendered/{overlay}.yaml"))
}

/// The one object of a kind and a name.
#[track_caller]
fn object<'o>(objects: &'o [Value], kind: &str, name: &str) -> &'o Value {
    let mut found =
        objects.iter().filter(|it| it["kind"] == kind && it["metadata"]["name"] == name);
    let object = found.next().unwrap_or_else(|| panic!("there is no {kind} {name}"));
    assert!(found.next().is_none(), "{kind} {name} is there twice");
    object
}

/// The items of a list; none where there is no list.
fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A text.
#[track_caller]
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}
