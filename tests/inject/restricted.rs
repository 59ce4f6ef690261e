//! The *restricted* Pod Security Standard, as its checks are written in Kubernetes' own
//! documentation, over the sidecar and its volumes. (Whether the application keeps to it is the
//! application's business.)

use serde_json::{Value, json};

/// The objects of a document: the document itself, or the items of a list.
pub(crate) fn objects(document: &Value) -> Vec<Value> {
    let Some(items) = document["items"].as_array() else { return vec![document.clone()] };
    let kind = document["kind"].as_str().unwrap_or_default().trim_end_matches("List").to_owned();
    let with_kind = |item: &Value| {
        let mut item = item.clone();
        if item["kind"].is_null() {
            item["kind"] = json!(kind);
            item["apiVersion"] = document["apiVersion"].clone();
        }
        item
    };
    items.iter().map(with_kind).flat_map(|item| objects(&item)).collect()
}

/// Whether the kind of an object is one of Kubernetes' kinds that have pods.
pub(crate) fn has_pods(object: &Value) -> bool {
    pod(object).is_some()
}

/// The pod, or pod template, of an object.
pub(crate) fn pod(object: &Value) -> Option<&Value> {
    let kind = (object["apiVersion"].as_str()?, object["kind"].as_str()?);
    match kind {
        ("v1", "Pod") => Some(object),
        ("v1", "PodTemplate") => object.pointer("/template"),
        ("v1", "ReplicationController")
        | ("apps/v1", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("batch/v1", "Job") => object.pointer("/spec/template"),
        ("batch/v1", "CronJob") => object.pointer("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}

/// Asserts that the sidecar of every pod of a document complies with the standard.
#[track_caller]
pub(crate) fn assert_restricted(name: &str, document: &Value) {
    for object in objects(document) {
        let Some(pod) = pod(&object) else { continue };
        if pod.pointer("/metadata/annotations/bfb.dev~1status").is_none() {
            continue;
        }
        let first = &pod["spec"]["initContainers"][0];
        assert_eq!(first["name"], "bfb", "{name}: the sidecar is not the first");
        assert_eq!(violations(first, pod), Vec::<String>::new(), "{name}");
    }
}

/// The violations of the standard by a container and the volumes that it mounts.
pub(crate) fn violations(container: &Value, pod: &Value) -> Vec<String> {
    let security = &container["securityContext"];
    let mut wrong = Vec::new();
    let mut must = |holds: bool, rule: &str| {
        if !holds {
            wrong.push(rule.to_owned());
        }
    };
    must(pod["spec"]["hostNetwork"] != true, "no network of the host");
    must(security["allowPrivilegeEscalation"] == false, "no escalation of privileges");
    must(security["privileged"] != true, "no privileges");
    must(security["runAsNonRoot"] == true, "runs as no root");
    must(security["runAsUser"] != 0, "runs as a user that is not root");
    must(security["capabilities"]["drop"] == json!(["ALL"]), "drops all capabilities");
    let added = security["capabilities"]["add"].as_array().into_iter().flatten();
    must(added.into_iter().all(|one| one == "NET_BIND_SERVICE"), "adds no capabilities");
    let seccomp = security["seccompProfile"]["type"].as_str();
    must(matches!(seccomp, Some("RuntimeDefault" | "Localhost")), "has a seccomp profile");
    must(security["procMount"].is_null(), "has the usual /proc");
    let ports = container["ports"].as_array().into_iter().flatten();
    must(ports.into_iter().all(|port| port["hostPort"].is_null()), "has no port of the host");

    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mounted: Vec<Value> =
        list(&container["volumeMounts"]).iter().map(|mount| mount["name"].clone()).collect();
    let volumes = list(&pod["spec"]["volumes"]);
    must(
        mounted.iter().all(|name| volumes.iter().any(|volume| volume["name"] == *name)),
        "mounts what there is",
    );
    for volume in volumes.iter().filter(|volume| mounted.contains(&volume["name"])) {
        const KINDS: [&str; 8] = [
            "configMap",
            "csi",
            "downwardAPI",
            "emptyDir",
            "ephemeral",
            "persistentVolumeClaim",
            "projected",
            "secret",
        ];
        let kinds = volume.as_object().into_iter().flatten().map(|(key, _)| key.as_str());
        must(
            kinds.filter(|key| *key != "name").all(|kind| KINDS.contains(&kind)),
            "mounts volumes of the allowed kinds",
        );
    }
    // The standard does not require this, but `bfb` promises it.
    must(security["readOnlyRootFilesystem"] == true, "writes nothing into its image");
    wrong
}

#[test]
fn each_rule_can_be_broken() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers: \
                [{name: app, image: x}]\n";
    let pod = &super::documents(&super::injected(&["--domain", "customer"], text))[0];
    let good = &pod["spec"]["initContainers"][0];
    assert_eq!(violations(good, pod), Vec::<String>::new());
    for (member, value) in [
        ("/securityContext/allowPrivilegeEscalation", json!(true)),
        ("/securityContext/runAsNonRoot", Value::Null),
        ("/securityContext/runAsUser", json!(0)),
        ("/securityContext/capabilities", json!({"drop": ["NET_RAW"]})),
        ("/securityContext/capabilities", json!({"drop": ["ALL"], "add": ["SYS_TIME"]})),
        ("/securityContext/seccompProfile/type", json!("Unconfined")),
        ("/securityContext/readOnlyRootFilesystem", json!(false)),
        ("/ports/0", json!({"containerPort": 1, "hostPort": 1})),
        ("/volumeMounts/0/name", json!("none")),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(member).unwrap() = value;
        assert_eq!(violations(&bad, pod).len(), 1, "{member}");
    }
    let mut host = pod.clone();
    host["spec"]["volumes"][0] = json!({"name": "bfb-domains", "hostPath": {"path": "/"}});
    assert_eq!(violations(good, &host).len(), 1);
}
