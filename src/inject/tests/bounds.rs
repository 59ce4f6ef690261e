//! The decision on a pod takes time in proportion to the pod's size, and refusals stay short,
//! whatever the pod's author writes.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::diagnostics::cpu_cost::assert_linear;
use crate::inject::Defaults;
use crate::inject::decide::{InjectOutcome, inject, uninject};
use crate::inject::refusal::RefusalReason;

/// A pod with these annotations and containers.
fn pod(annotations: &Value, containers: &[Value]) -> Value {
    json!({"metadata": {"annotations": annotations}, "spec": {"containers": containers}})
}

/// Containers with a name each, and with the members of `rest`.
fn containers(count: usize, rest: &Value) -> Vec<Value> {
    let one = |nth| {
        let mut container = rest.clone();
        container["name"] = json!(format!("c{nth}"));
        container
    };
    (0..count).map(one).collect()
}

fn requesting_annotations(more: &[(&str, &str)]) -> Value {
    let mut annotations = json!({"bfb.dev/inject": "customer"});
    for (name, value) in more {
        annotations[format!("bfb.dev/{name}")] = json!(value);
    }
    annotations
}

fn decide(pod: &Value) {
    let _ = inject(pod, &Defaults::default());
}

#[test]
fn a_socket_for_any_number_of_containers_costs_what_they_are_many() {
    for (name, rest) in [
        ("without mounts", json!({})),
        ("without any", json!({"volumeMounts": []})),
        ("null", json!({"volumeMounts": null})),
    ] {
        let of = |count| {
            pod(&requesting_annotations(&[("unix-socket", "true")]), &containers(count, &rest))
        };
        assert_linear(name, 500, of, decide);
        assert_linear(name, 500, of, |pod: &Value| {
            let Ok(InjectOutcome::Inject(injection)) = inject(pod, &Defaults::default()) else {
                panic!("refused")
            };
            let patch = serde_json::to_vec(&injection.additions.patch()).unwrap();
            assert!(
                patch.len() < 3000 + 250 * pod["spec"]["containers"].as_array().unwrap().len(),
                "{}",
                patch.len()
            );
        });
        let injected = |count| {
            let mut pod = of(count);
            let Ok(InjectOutcome::Inject(injection)) = inject(&pod, &Defaults::default()) else {
                panic!("refused")
            };
            assert!(injection.additions.apply(&mut pod));
            pod
        };
        assert_linear(name, 500, injected, |pod: &Value| {
            let mut back = pod.clone();
            assert!(uninject(pod).unwrap().apply(&mut back));
        });
    }
}

#[test]
fn what_is_noted_for_a_pod_with_many_empty_lists_is_read_again() {
    let mut pod = pod(
        &requesting_annotations(&[("unix-socket", "true")]),
        &containers(200, &json!({"volumeMounts": []})),
    );
    let before = pod.clone();
    let Ok(InjectOutcome::Inject(injection)) = inject(&pod, &Defaults::default()) else {
        panic!("refused")
    };
    assert!(injection.additions.apply(&mut pod));
    assert!(pod["metadata"]["annotations"]["bfb.dev/undo"].as_str().unwrap().len() > 1024);
    assert!(
        matches!(inject(&pod, &Defaults::default()), Ok(InjectOutcome::Skip(_))),
        "a second time changes nothing"
    );
    assert!(uninject(&pod).unwrap().apply(&mut pod));
    assert_eq!(pod, before);
}

#[test]
fn volumes_of_our_names_leave_a_pod_in_time_linear_in_them() {
    let of = |count: usize| {
        let mut volumes = vec![json!({"name": "bfb-socket"}); count];
        volumes.push(json!({"name": "of-its-own"}));
        json!({"metadata": {"annotations": {"bfb.dev/status": "injected"}},
            "spec": {"volumes": volumes}})
    };
    assert_linear("volumes", 5_000, of, |pod: &Value| {
        let mut back = pod.clone();
        assert!(uninject(pod).unwrap().apply(&mut back));
    });
}

#[test]
fn reasons_against_a_pod_are_counted_once_there_are_many() {
    let unknown = |count: usize| {
        let mut annotations = requesting_annotations(&[]);
        for nth in 0..count {
            annotations[format!("bfb.dev/inject-the-sidecar-please-{nth}")] = json!("x");
        }
        pod(&annotations, &containers(1, &json!({})))
    };
    let clashing = |count: usize| {
        let listen = (1..300).fold("127.0.0.1:7070".to_owned(), |mut all, port| {
            let _ = write!(all, ",[::1]:{port}");
            all
        });
        let ports = vec![json!({"containerPort": 299}); count];
        pod(
            &requesting_annotations(&[("listen", &listen)]),
            &containers(1, &json!({"ports": ports})),
        )
    };
    let mounts = |count: usize| {
        let mounts = vec![json!({"mountPath": "/run/bfb"}); count];
        pod(
            &requesting_annotations(&[("unix-socket", "true")]),
            &containers(1, &json!({"volumeMounts": mounts})),
        )
    };
    let named_alike =
        |count: usize| pod(&requesting_annotations(&[]), &vec![json!({"name": "bfb"}); count]);
    let malformed = |count: usize| {
        pod(&requesting_annotations(&[]), &containers(count, &json!({"volumeMounts": 1})))
    };
    for (name, of) in [
        ("unknown annotations", &unknown as &dyn Fn(usize) -> Value),
        ("ports", &clashing),
        ("mounts", &mounts),
        ("names", &named_alike),
        ("no lists", &malformed),
    ] {
        assert_linear(name, 2_000, of, decide);
        let refusals = inject(&of(1_000), &Defaults::default()).unwrap_err();
        let Some(RefusalReason::MoreRefusals { count }) = refusals.last().map(|last| &last.reason)
        else {
            panic!("{name}: {}", refusals.len())
        };
        assert_eq!((refusals.len(), *count), (33, 1_000 - 32), "{name}");
    }
}

#[test]
fn a_reason_holds_no_more_of_a_pod_than_a_line() {
    let long = "x".repeat(1 << 20);
    let ports = vec![json!({"containerPort": 7070}); 100];
    let long_name = json!({"name": long, "ports": ports,
        "volumeMounts": [{"mountPath": format!("/run/bfb/{long}")}]});
    let mut unknown = requesting_annotations(&[]);
    unknown[format!("bfb.dev/{long}")] = json!(long);
    let long_value =
        |name: &str| pod(&requesting_annotations(&[(name, &long)]), &containers(1, &json!({})));
    let mut pods = vec![
        pod(&requesting_annotations(&[("unix-socket", "true")]), &[long_name]),
        pod(&unknown, &containers(1, &json!({}))),
    ];
    pods.extend(
        ["log", "listen", "env-from", "memory", "drain", "redis", "cpu-limit", "undo", "status"]
            .map(long_value),
    );
    for pod in pods {
        let refusals = inject(&pod, &Defaults::default()).unwrap_err();
        for refusal in refusals {
            let rendered = format!("{refusal} {:?}", refusal.reason);
            assert!(rendered.len() < 2_000, "{} bytes: {}", rendered.len(), &rendered[..200]);
        }
    }
}

#[test]
fn every_value_is_checked_in_time_linear_in_it() {
    let texts: [(&str, &dyn Fn(usize) -> String); 6] = [
        ("inject", &|count| format!("a{}", ",b".repeat(count))),
        ("listen", &|count| format!("127.0.0.1:1{}", ",127.0.0.1:1".repeat(count))),
        ("log", &|count| format!("info{}", ",a[{b=(0|1)*1(0|1)}]=info".repeat(count))),
        ("drain", &|count| "1s ".repeat(count)),
        ("cpu-limit", &|count| "1".repeat(count)),
        ("identity-names", &|count| "spiffe://a,".repeat(count)),
    ];
    for (name, text) in texts {
        let of = |count: usize| {
            pod(&requesting_annotations(&[(name, &text(count))]), &containers(1, &json!({})))
        };
        assert_linear(name, 20_000, of, decide);
    }
}
