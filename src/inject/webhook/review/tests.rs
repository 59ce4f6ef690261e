//! The responses to admission reviews.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]

use super::*;
use crate::inject::Defaults;
use crate::inject::webhook::verdict::decide_pod;

fn review(request: &Value) -> Vec<u8> {
    json!({"apiVersion": VERSION, "kind": "AdmissionReview", "request": request})
        .to_string()
        .into_bytes()
}

/// The review of a pod of a `ReplicaSet`: its metadata has neither name nor namespace.
fn request(annotations: &Value) -> Value {
    json!({
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
        "requestResource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": "shop",
        "operation": "CREATE",
        "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
        "object": {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"generateName": "web-5d9c-", "annotations": annotations},
            "spec": {"containers": [{"name": "web", "image": "shop/web:1"}]},
        },
        "oldObject": null,
        "dryRun": false,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    })
}

fn answered(request: &Value, label: Option<&str>) -> Value {
    let review = AdmissionReview::read(&review(request)).unwrap();
    let ReviewSubject::Pod { namespace, pod } = &review.subject else {
        return review.answer_unrelated();
    };
    let defaults = Defaults::default();
    let verdict = decide_pod(pod, &defaults, namespace, label);
    review.answer(&verdict)
}

/// A response with its patch decoded.
fn legible(mut answer: Value) -> String {
    if let Some(patch) = answer["response"]["patch"].as_str() {
        let patch: Value =
            serde_json::from_slice(&BASE64.decode(patch.as_bytes()).unwrap()).unwrap();
        answer["response"]["patch"] = patch;
    }
    serde_json::to_string_pretty(&answer).unwrap()
}

#[test]
fn a_pod_that_asks_is_patched() {
    let mut short = request(&json!({"bfb.dev/inject": "customer", "bfb.dev/memory": "32MiB"}));
    short["object"]["spec"]["terminationGracePeriodSeconds"] = json!(12);
    insta::assert_snapshot!(legible(answered(&short, None)));
}

#[test]
fn a_pod_that_asks_for_what_cannot_be_is_refused_with_every_reason() {
    let request = request(
        &json!({"bfb.dev/inject": "customer", "bfb.dev/memry": "1", "bfb.dev/lease": "1h"}),
    );
    insta::assert_snapshot!(legible(answered(&request, None)));
}

#[test]
fn a_pod_that_does_not_ask_is_left_alone() {
    let uid = "705ab4f5-6393-11e8-b7cc-42010a800002";
    for (annotations, label, outcome) in [
        (json!({}), None, "not asked"),
        (json!({}), Some("false"), "not asked"),
        (json!({"bfb.dev/inject": "false"}), Some("customer"), "opted out"),
    ] {
        let response = &answered(&request(&annotations), label)["response"];
        assert_eq!(
            *response,
            json!({"uid": uid, "allowed": true, "auditAnnotations": {"outcome": outcome}})
        );
    }
}

#[test]
fn a_second_review_of_a_patched_pod_changes_nothing() {
    let mut request = request(&json!({}));
    let first = answered(&request, Some("customer"));
    assert!(first["response"]["patch"].is_string());
    let pod = &mut request["object"];
    let AdmissionVerdict::Inject(injection) =
        decide_pod(pod, &Defaults::default(), "shop", Some("customer"))
    else {
        panic!()
    };
    assert!(injection.additions.apply(pod));
    let second = &answered(&request, Some("orders"))["response"];
    assert_eq!((&second["allowed"], &second["patch"]), (&json!(true), &Value::Null));
    assert_eq!(second["auditAnnotations"]["outcome"], "injected before");
}

#[test]
fn whatever_is_no_creation_of_a_pod_is_allowed_as_it_is() {
    let request = request(&json!({"bfb.dev/inject": "customer"}));
    let changes: [(&str, Value); 5] = [
        ("/operation", json!("UPDATE")),
        ("/operation", json!("DELETE")),
        ("/resource/resource", json!("deployments")),
        ("/resource/group", json!("apps")),
        ("/subResource", json!("ephemeralcontainers")),
    ];
    for (place, value) in changes {
        let mut other = request.clone();
        other["subResource"] = Value::Null;
        *other.pointer_mut(place).unwrap() = value;
        let response = &answered(&other, None)["response"];
        assert_eq!(
            (&response["allowed"], &response["patch"]),
            (&json!(true), &Value::Null),
            "{place}"
        );
    }
}

#[test]
fn a_body_that_is_no_review_is_told_what_was_expected() {
    let version =
        |kind: &str, version: &str| json!({"kind": kind, "apiVersion": version}).to_string();
    let mut namespaceless = request(&json!({}));
    namespaceless.as_object_mut().unwrap().remove("namespace");
    let mut no_pod = request(&json!({}));
    no_pod["object"] = json!("pod");
    for (body, said) in [
        ("", "no `AdmissionReview`: EOF"),
        ("{", "no `AdmissionReview`: EOF"),
        ("[]", "no `AdmissionReview`: "),
        (&"[".repeat(10_000), "no `AdmissionReview`: "),
        ("{\"request\": 5}", "no `AdmissionReview`: "),
        (
            &version("AdmissionReview", "admission.k8s.io/v1beta1"),
            "`AdmissionReview` of `admission.k8s.io/v1beta1`",
        ),
        (&version("Pod", "v1"), "`Pod` of `v1`"),
        (&version("AdmissionReview", VERSION), "no `request`"),
        (std::str::from_utf8(&review(&json!({}))).unwrap(), "no `request.uid`"),
        (std::str::from_utf8(&review(&namespaceless)).unwrap(), "no `request.namespace`"),
        (std::str::from_utf8(&review(&no_pod)).unwrap(), "no `request.object`"),
    ] {
        let error = AdmissionReview::read(body.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(said) && error.contains("expected"), "{error}");
    }
}

#[test]
fn a_very_long_refusal_is_cut() {
    let annotations: serde_json::Map<_, _> =
        (0..200).map(|n| (format!("bfb.dev/x-{n}"), json!("é"))).collect();
    let status = &answered(&request(&Value::Object(annotations)), None)["response"]["status"];
    let message = status["message"].as_str().unwrap();
    assert_eq!(message.chars().count(), MESSAGE_MAX_CHARS + 1);
    let causes = status["details"]["causes"].as_array().unwrap();
    assert_eq!(
        (causes.len(), causes[32]["message"].as_str().unwrap().contains("168 more problems")),
        (33, true)
    );
}

#[test]
fn an_answer_is_short_however_long_the_review_is() {
    let long = "x".repeat(1 << 20);
    let mut pods = Vec::new();
    for name in ["log", "inject", "memory", &long] {
        let mut annotations = json!({"bfb.dev/inject": "customer"});
        annotations[format!("bfb.dev/{name}")] = json!(long);
        pods.push(request(&annotations));
    }
    let many: serde_json::Map<_, _> =
        (0..20_000).map(|n| (format!("bfb.dev/{n}-{long:.200}"), json!("x"))).collect();
    pods.push(request(&Value::Object(many)));
    let mut named = request(&json!({"bfb.dev/inject": "customer"}));
    let ports = vec![json!({"containerPort": 7070}); 10_000];
    named["object"]["metadata"]["name"] = json!(long);
    named["object"]["spec"]["containers"][0] = json!({"name": long, "ports": ports});
    pods.push(named);
    for pod in pods {
        let answer = answered(&pod, None).to_string();
        assert!(
            answer.contains("\"allowed\":false") && answer.len() < 64 * 1024,
            "{} bytes",
            answer.len()
        );
    }
    let mut refused = Vec::new();
    for member in ["uid", "namespace", "operation", "resource"] {
        let mut odd = request(&json!({"bfb.dev/inject": "customer"}));
        odd[member] = json!(long);
        refused.extend(AdmissionReview::read(&review(&odd)).err().map(|error| error.to_string()));
    }
    assert_eq!(refused.len(), 3, "another operation is none of our business");
    assert!(
        refused.iter().all(|said| said.len() < 1000 && said.contains("expected")),
        "{refused:?}"
    );
}
