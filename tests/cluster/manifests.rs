//! `bfb inject`: what it writes is what a real API server takes, field by field, in a namespace that enforces the *restricted*
//! Pod Security Standard.

use std::path::Path;
use std::process::{Command, Stdio};

use bfb::inject::manifest;
use serde_json::{Value, json};

use crate::support::api::text;
use crate::support::control_plane::ControlPlane;

/// What `bfb inject` makes of a manifest.
fn injected(object: &Value) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bfb"));
    command.env_clear().args(["inject", "-f", "-", "--domain", "customer"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), object.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    manifest::documents(Path::new("result"), std::str::from_utf8(&output.stdout).unwrap()).unwrap().remove(0)
}

#[tokio::test]
async fn injected_manifests_of_every_kind_are_taken_under_the_restricted_standard() {
    let plane = ControlPlane::shared().await;
    plane.namespace("manifests", &json!({"pod-security.kubernetes.io/enforce": "restricted"})).await;
    let admin = plane.admin();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "manifests"}, "spec": {"containers": [{"name": "app", "image": "x"}]}});
    println!("{}", admin.create(&injected(&pod)).await.refusal());
    println!("{}", text(&pod, "/kind"));
}
