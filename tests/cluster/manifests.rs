//! A real API server accepts the output of `bfb inject`, field by field, in a namespace that
//! enforces the *restricted* Pod Security Standard, and pods come of it.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use bfb::inject::manifest;
use serde_json::{Value, json};

use crate::support::control_plane::ControlPlane;
use crate::support::objects::{ASKS, annotations, assert_injected, overdue, owners, pod};

/// The output of `bfb inject` for an object.
fn injected(object: &Value) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bfb"));
    command.env_clear().args(["inject", "-f", "-"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(object.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    manifest::documents(Path::new("result"), std::str::from_utf8(&output.stdout).unwrap())
        .unwrap()
        .remove(0)
}

#[tokio::test]
async fn injected_manifests_of_every_kind_are_taken_under_the_restricted_standard() {
    let plane = ControlPlane::shared().await;
    plane
        .namespace("manifests", &json!({"pod-security.kubernetes.io/enforce": "restricted"}))
        .await;
    let admin = plane.admin();
    let bare = injected(&pod("manifests", "bare", &annotations(ASKS)));
    assert_injected(&admin.apply(&bare).await);
    for owner in owners("manifests", &annotations(ASKS)) {
        // Field by field: the API server refuses an unknown one.
        admin.apply(&injected(&owner)).await;
        if owner["kind"] == "CronJob" {
            let status = "/apis/batch/v1/namespaces/manifests/cronjobs/cronjob/status";
            admin.merge_at(status, &overdue()).await.object();
        }
        assert_injected(&admin.pod_of(&owner).await);
    }
}

#[tokio::test]
async fn the_standard_that_is_enforced_can_be_broken() {
    let plane = ControlPlane::shared().await;
    plane
        .namespace("broken-standard", &json!({"pod-security.kubernetes.io/enforce": "restricted"}))
        .await;
    let mut pod = injected(&pod("broken-standard", "bare", &annotations(ASKS)));
    pod["spec"]["initContainers"][0]["securityContext"]["allowPrivilegeEscalation"] = true.into();
    let refused = plane.admin().create(&pod).await;
    assert!(
        refused.refusal().contains("violates PodSecurity \"restricted:latest\""),
        "{refused:?}"
    );
}
