//! Rewritten manifests are valid by the schemas of Kubernetes: in the oldest version with native
//! sidecars, in one between, and in the newest. The schemas are the strict ones of the Python
//! package `kubernetes-validate`, cut down by `schemas/make.py` to the kinds that have pods, so
//! that the tests need neither Python nor the network.

use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::{Value, json};

use super::{injected, restricted};

pub(crate) const VERSIONS: [(&str, &str); 3] = [
    ("1.29", include_str!("schemas/kubernetes-1.29.json")),
    ("1.31", include_str!("schemas/kubernetes-1.31.json")),
    ("1.37", include_str!("schemas/kubernetes-1.37.json")),
];

/// Kinds that have pods, with the names of their schemas.
const KINDS: [(&str, &str, &str); 9] = [
    ("v1", "Pod", "pod-v1"),
    ("v1", "PodTemplate", "podtemplate-v1"),
    ("v1", "ReplicationController", "replicationcontroller-v1"),
    ("apps/v1", "Deployment", "deployment-apps-v1"),
    ("apps/v1", "StatefulSet", "statefulset-apps-v1"),
    ("apps/v1", "DaemonSet", "daemonset-apps-v1"),
    ("apps/v1", "ReplicaSet", "replicaset-apps-v1"),
    ("batch/v1", "Job", "job-batch-v1"),
    ("batch/v1", "CronJob", "cronjob-batch-v1"),
];

/// Kinds without pods, which stand beside them in `k8s/`.
const OTHERS: [(&str, &str, &str); 12] = [
    ("v1", "Namespace", "namespace-v1"),
    ("v1", "ConfigMap", "configmap-v1"),
    ("v1", "Secret", "secret-v1"),
    ("v1", "Service", "service-v1"),
    ("v1", "ServiceAccount", "serviceaccount-v1"),
    ("policy/v1", "PodDisruptionBudget", "poddisruptionbudget-policy-v1"),
    ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicy-networking-v1"),
    ("rbac.authorization.k8s.io/v1", "Role", "role-rbac-v1"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebinding-rbac-v1"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterrole-rbac-v1"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebinding-rbac-v1"),
    (
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfiguration-admissionregistration-v1",
    ),
];

struct Kind {
    kubernetes: &'static str,
    version: &'static str,
    name: &'static str,
    validator: Validator,
}

static SCHEMAS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    let of_version = |(kubernetes, text): (&'static str, &str)| {
        let schema: Value = serde_json::from_str(text).unwrap();
        let all = KINDS.into_iter().chain(OTHERS);
        all.map(|(version, name, root)| {
            assert!(schema["$defs"][root].is_object(), "{kubernetes} has no schema {root}");
            let mut schema = schema.clone();
            schema["$ref"] = json!(format!("#/$defs/{root}"));
            Kind {
                kubernetes,
                version,
                name,
                validator: jsonschema::validator_for(&schema).unwrap(),
            }
        })
        .collect::<Vec<_>>()
    };
    VERSIONS.into_iter().flat_map(of_version).collect()
});

/// The errors of an object by every version of Kubernetes, and the number of schemas that know its
/// kind.
pub(crate) fn judged(object: &Value) -> (Vec<String>, usize) {
    let mut wrong = Vec::new();
    let mut known = 0;
    for kind in SCHEMAS.iter() {
        if object["apiVersion"] == kind.version && object["kind"] == kind.name {
            known += 1;
            let errors = kind.validator.iter_errors(object);
            wrong.extend(
                errors.map(|error| {
                    format!("{}: {error} at {}", kind.kubernetes, error.instance_path())
                }),
            );
        }
    }
    (wrong, known)
}

/// Asserts that the objects with pods of a document are valid in every version. (Other objects stay
/// unchanged, valid or not.)
#[track_caller]
pub(crate) fn assert_valid(name: &str, document: &Value) {
    for object in restricted::objects(document).iter().filter(|object| restricted::has_pods(object))
    {
        let (wrong, known) = judged(object);
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
        assert_eq!(known, VERSIONS.len(), "{name}");
    }
}

#[test]
fn a_wrong_pod_is_refused_by_every_version() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers: \
                [{name: app, image: x}]\n";
    let good = &super::documents(&injected(&["--domain", "customer"], text))[0];
    assert_eq!(judged(good), (Vec::new(), 3));
    let sidecar = |key: &str, value: Value| {
        let mut pod = good.clone();
        pod["spec"]["initContainers"][0][key] = value;
        judged(&pod).0.len()
    };
    assert_eq!(sidecar("restartpolicy", json!("Always")), 3, "an unknown member");
    assert_eq!(sidecar("args", json!("serve")), 3, "a text for a list");
    assert_eq!(sidecar("env", json!([{"value": "x"}])), 3, "a variable without a name");
    assert_eq!(sidecar("ports", json!([{"containerPort": "7072"}])), 3, "a text for a number");
    assert_eq!(sidecar("resources", json!({"request": {}})), 3, "a member that is none");
}
