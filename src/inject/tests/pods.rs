//! Pods as JSON values: injection, uninjection and refusals.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Choices, choices, defaults, pod};
use crate::inject::Defaults;
use crate::inject::annotations::annotations;
use crate::inject::change::FieldPath;
use crate::inject::decide::{InjectOutcome, SkipReason, inject, uninject};
use crate::inject::refusal::RefusalReason;

/// Applies a JSON Patch with `add` operations only, as RFC 6902 specifies.
fn patched(mut document: Value, patch: &Value) -> Value {
    for operation in patch.as_array().unwrap() {
        assert_eq!(operation["op"], "add");
        let (parent, last) = operation["path"].as_str().unwrap().rsplit_once('/').unwrap();
        let value = operation["value"].clone();
        match document.pointer_mut(parent).expect("the parent is there") {
            Value::Object(object) => {
                drop(object.insert(last.replace("~1", "/").replace("~0", "~"), value));
            }
            Value::Array(list) => list.insert(last.parse().unwrap(), value),
            other => panic!("nothing can be added to {other}"),
        }
    }
    document
}

proptest! {
    #[test]
    fn a_pod_is_injected_once_and_uninjected_to_what_it_was(bytes in choices()) {
        let mut choices = Choices::of(bytes);
        let before = pod(&mut choices);
        let defaults = defaults(&mut choices);
        let Ok(InjectOutcome::Inject(injection)) = inject(&before, &defaults) else {
            panic!("refused: {before}")
        };
        let mut after = before.clone();
        prop_assert!(injection.additions.apply(&mut after));
        let patch = json!(injection.additions.patch());
        prop_assert_eq!(patched(before.clone(), &patch), after.clone());
        let skipped = Ok(InjectOutcome::Skip(SkipReason::AlreadyInjected));
        prop_assert_eq!(inject(&after, &defaults), skipped);
        prop_assert_eq!(&after["spec"]["initContainers"][0]["name"], "bfb");
        let mut back = after;
        prop_assert!(uninject(&back).unwrap().apply(&mut back));
        prop_assert_eq!(back, before);
    }

    /// No pod that an API server may be sent causes a panic.
    #[test]
    fn nonsense_is_decided_on_too(bytes in choices(), place in 0..40usize) {
        let mut choices = Choices::of(bytes);
        let mut pod = pod(&mut choices);
        let defaults = defaults(&mut choices);
        if let Ok(InjectOutcome::Inject(injection)) = inject(&pod, &defaults) && choices.yes() {
            prop_assert!(injection.additions.apply(&mut pod));
        }
        let mut places = vec![String::new()];
        let mut at = 0;
        while at < places.len() {
            let here = places[at].clone();
            match pod.pointer(&here).unwrap() {
                Value::Object(object) => places.extend(object.keys().map(|key| {
                    format!("{here}/{}", key.replace('~', "~0").replace('/', "~1"))
                })),
                Value::Array(list) => {
                    places.extend((0..list.len()).map(|nth| format!("{here}/{nth}")));
                }
                _ => {}
            }
            at += 1;
        }
        let place = places[place % places.len()].clone();
        for nonsense in [json!(null), json!(true), json!(-1), json!("x"), json!([]), json!([[]]),
            json!({}), json!({"a": 1})] {
            let mut pod = pod.clone();
            *pod.pointer_mut(&place).unwrap() = nonsense;
            let _ = inject(&pod, &defaults);
            let _ = uninject(&pod).map(|removals| removals.apply(&mut pod));
        }
    }
}

#[test]
fn every_default_of_the_table_can_be_read() {
    for row in annotations() {
        let default = row.default_text();
        if !default.contains(' ') && !matches!(&*default, "" | "none") {
            assert_eq!(row.check(&default), Ok(()), "bfb.dev/{}", row.name());
        }
    }
    let set = |name: &str| Defaults::new(&[], &[(name.to_owned(), "customer".to_owned())]);
    assert!(
        set("inject").is_err()
            && set("status").is_err()
            && set("undo").is_err()
            && set("bfb.dev/namespace").is_ok()
    );
}

#[test]
fn a_refusal_says_all_in_one_line_for_an_admission_answer() {
    let pod = json!({
        "metadata": {"annotations": {"bfb.dev/inject": "customer",
            "bfb.dev/redis": "redis://u:word@redis"}},
        "spec": {"containers": [{"name": "app"}]},
    });
    let refusals = inject(&pod, &Defaults::default()).unwrap_err();
    let [refusal] = &refusals[..] else { panic!("{refusals:?}") };
    assert_eq!(
        refusal.at,
        FieldPath::root().key("metadata").key("annotations").key("bfb.dev/redis")
    );
    assert!(
        matches!(refusal.reason, RefusalReason::BadValue { value: None, .. }),
        "a password is not repeated"
    );
    let message = refusal.to_string();
    assert_eq!(
        message,
        "`bfb.dev/redis` cannot be what it is here: expected `secret:NAME/KEY`, or a URL without a \
         password: `SCHEME://HOST:PORT` (hint: write such a value, or remove the annotation: its \
         default is a fleet of one)"
    );
    let pod = json!({"metadata": {"annotations": {"bfb.dev/injct": "customer"}}, "spec": {}});
    let message = inject(&pod, &Defaults::default()).unwrap_err()[0].to_string();
    assert!(message.ends_with("(hint: did you mean `bfb.dev/inject`?)"), "{message}");
}

#[test]
fn a_namespace_can_name_the_domains_of_its_pods() {
    let defaults =
        Defaults::new(&["customer".to_owned()], &[("log".to_owned(), "debug".to_owned())]).unwrap();
    let orders = defaults.of_namespace("orders.reviews").unwrap();
    assert_eq!(orders.domains(), ["orders", "reviews"]);
    let pod = json!({"spec": {"containers": [{"name": "app"}]}});
    let Ok(InjectOutcome::Inject(injection)) = inject(&pod, &orders) else { panic!() };
    assert_eq!(injection.domains, ["orders", "reviews"]);
    assert!(json!(injection.additions.patch()).to_string().contains("BFB_LOG"));
    assert_eq!(
        inject(&pod, &defaults.of_namespace("false").unwrap()),
        Ok(InjectOutcome::Skip(SkipReason::NotRequested))
    );
    assert!(defaults.of_namespace("Orders").is_err() && defaults.of_namespace("true").is_err());
}
