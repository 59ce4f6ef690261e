//! Objects with pods: an application that keeps to the *restricted* standard by itself, and
//! everything that makes pods of it.

use serde_json::{Value, json};

/// The annotation of pods that ask for a sidecar.
pub(crate) const ASKS: (&str, &str) = ("bfb.dev/inject", "customer");

/// Annotations of one member.
pub(crate) fn annotations((name, value): (&str, &str)) -> Value {
    json!({ name: value })
}

/// A pod's own part, the application alone.
pub(crate) fn spec() -> Value {
    json!({
        "securityContext": {"runAsNonRoot": true, "runAsUser": 1000,
            "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "app",
            "image": "shop/web:1",
            "securityContext": {"allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]}},
        }],
    })
}

/// A bare pod.
pub(crate) fn pod(namespace: &str, name: &str, annotations: &Value) -> Value {
    let metadata = json!({"name": name, "namespace": namespace, "annotations": annotations});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec()})
}

/// An object of each kind that makes pods, each with a template that carries these annotations.
pub(crate) fn owners(namespace: &str, annotations: &Value) -> Vec<Value> {
    let template = |name: &str, restart: Option<&str>| {
        let mut spec = spec();
        if let Some(restart) = restart {
            spec["restartPolicy"] = restart.into();
        }
        json!({"metadata": {"labels": {"app": name}, "annotations": annotations}, "spec": spec})
    };
    let object = |version: &str, kind: &str, spec: Value| {
        let metadata = json!({"name": kind.to_lowercase(), "namespace": namespace});
        json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})
    };
    let selected = |version: &str, kind: &str, more: Value| {
        let name = kind.to_lowercase();
        let selector = if version == "v1" {
            json!({"app": name})
        } else {
            json!({"matchLabels": {"app": name}})
        };
        let mut spec = json!({"selector": selector, "template": template(&name, None)});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        object(version, kind, spec)
    };
    vec![
        selected("apps/v1", "Deployment", json!({"replicas": 1})),
        selected("apps/v1", "ReplicaSet", json!({"replicas": 1})),
        selected("apps/v1", "StatefulSet", json!({"replicas": 1, "serviceName": "statefulset"})),
        selected("apps/v1", "DaemonSet", json!({})),
        selected("v1", "ReplicationController", json!({"replicas": 1})),
        object("batch/v1", "Job", json!({"template": template("job", Some("Never"))})),
        object(
            "batch/v1",
            "CronJob",
            json!({
                "schedule": "* * * * *",
                "jobTemplate": {"spec": {"template": template("cronjob", Some("OnFailure"))}},
            }),
        ),
    ]
}

/// Makes a `CronJob` count a run as missed, so that the test does not wait for the next minute.
pub(crate) fn overdue() -> Value {
    let before = humantime::format_rfc3339_seconds(
        std::time::SystemTime::now() - std::time::Duration::from_mins(2),
    );
    json!({"status": {"lastScheduleTime": before.to_string()}})
}

/// The names of a pod's init containers, in their order.
pub(crate) fn init_containers(pod: &Value) -> Vec<&str> {
    let list = pod.pointer("/spec/initContainers").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|container| container["name"].as_str()).collect()
}

/// Whether the pod has its sidecar.
pub(crate) fn is_injected(pod: &Value) -> bool {
    init_containers(pod).contains(&"bfb")
        && pod.pointer("/metadata/annotations/bfb.dev~1status").is_some()
}

/// Asserts that the pod has its sidecar, once, before all others.
#[track_caller]
pub(crate) fn assert_injected(pod: &Value) {
    assert_eq!(pod["metadata"]["annotations"]["bfb.dev/status"], "injected", "{pod:#}");
    let names = init_containers(pod);
    assert_eq!(names.iter().position(|name| *name == "bfb"), Some(0), "{pod:#}");
    assert_eq!(names.iter().filter(|name| **name == "bfb").count(), 1, "{pod:#}");
    assert_eq!(pod["spec"]["initContainers"][0]["restartPolicy"], "Always", "{pod:#}");
}

/// Asserts that the webhook has changed nothing in the pod.
#[track_caller]
pub(crate) fn assert_untouched(pod: &Value) {
    assert_eq!(init_containers(pod), Vec::<&str>::new(), "{pod:#}");
    assert!(pod.pointer("/metadata/annotations/bfb.dev~1status").is_none(), "{pod:#}");
}
