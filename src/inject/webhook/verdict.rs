//! The verdict on a pod, for an admission review and for the watchdog: the decision of [`inject`],
//! with the label of the pod's namespace where the pod does not name its domains. Pure.

use std::fmt::Write as _;

use serde_json::Value;

use super::super::Defaults;
use super::super::decide::{InjectOutcome, Injection, SkipReason, inject};
use super::super::pod;
use super::super::refusal::{InjectionRefusal, RefusalReason};
use super::super::sidecar_settings::DEFAULT_GRACE_SECONDS;
use crate::diagnostics::quote;

/// The label of a namespace that names the domains of its pods.
pub(super) const INJECT_LABEL: &str = "bfb.dev/inject";

/// The verdict on one pod.
#[derive(Debug, Clone, PartialEq)]
pub enum AdmissionVerdict {
    /// The pod stays unchanged.
    Skip(SkipReason),
    /// The pod gets a sidecar.
    Inject(Injection),
    /// The pod is refused, for these reasons.
    Refuse(Vec<StatusCause>),
}

/// One reason against a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusCause {
    /// The field of the pod, as `kubectl` writes it; empty for a reason outside of the pod.
    pub field: String,
    /// The problem, the expected value, and a hint, in one line.
    pub message: String,
}

/// Decides on a pod without its namespace; `None` if the decision depends on the namespace's label.
///
/// A pod that names its domains, opts out, or is refused with any label needs no label, and gets
/// its verdict even while the namespaces are not known.
pub fn decide_without_namespace(pod: &Value, defaults: &Defaults) -> Option<AdmissionVerdict> {
    match inject(pod, defaults) {
        Ok(InjectOutcome::Skip(SkipReason::NotRequested)) => None,
        Err(refusals) if refusals.iter().any(needs_default_domain) => None,
        result => Some(to_verdict(result)),
    }
}

/// Decides on a pod of `namespace`, whose label `bfb.dev/inject` has the value `label`.
pub fn decide_pod(
    pod: &Value,
    defaults: &Defaults,
    namespace: &str,
    label: Option<&str>,
) -> AdmissionVerdict {
    decide_without_namespace(pod, defaults)
        .unwrap_or_else(|| decide_by_label(pod, defaults, namespace, label))
}

/// Decides on a pod for which [`decide_without_namespace`] returned `None`.
pub(super) fn decide_by_label(
    pod: &Value,
    defaults: &Defaults,
    namespace: &str,
    label: Option<&str>,
) -> AdmissionVerdict {
    let Some(label) = label else { return to_verdict(inject(pod, defaults)) };
    match defaults.of_namespace(label) {
        Ok(defaults) => to_verdict(inject(pod, &defaults)),
        Err(expected) => AdmissionVerdict::Refuse(vec![StatusCause {
            field: String::new(),
            message: format!(
                "the label `{INJECT_LABEL}` of the namespace {} cannot be {}: expected {expected} \
                 (hint: domains have dots between them; correct the label, or write \
                 `{INJECT_LABEL}` into the pod)",
                quote(namespace),
                quote(label)
            ),
        }]),
    }
}

/// The warnings for the author of a pod that is injected.
pub(super) fn warnings(pod: &Value) -> Vec<String> {
    let grace = pod::pod_facts(pod).grace_seconds;
    let is_drain_shortened = grace < DEFAULT_GRACE_SECONDS
        && pod.pointer("/metadata/annotations/bfb.dev~1drain").is_none();
    let warning = format!(
        "the pod is killed {grace}s after it is told to stop: its sidecar drains for less than \
         usual (hint: raise `terminationGracePeriodSeconds`)"
    );
    is_drain_shortened.then_some(warning).into_iter().collect()
}

/// Whether the pod would not be refused for this if the defaults named a domain.
fn needs_default_domain(refusal: &InjectionRefusal) -> bool {
    matches!(refusal.reason, RefusalReason::NoDomain | RefusalReason::SettingWithoutInject { .. })
}

fn to_verdict(result: Result<InjectOutcome, Vec<InjectionRefusal>>) -> AdmissionVerdict {
    match result {
        Ok(InjectOutcome::Skip(reason)) => AdmissionVerdict::Skip(reason),
        Ok(InjectOutcome::Inject(injection)) => AdmissionVerdict::Inject(injection),
        Err(refusals) => {
            let causes = refusals.iter().map(StatusCause::from_refusal).collect();
            AdmissionVerdict::Refuse(causes)
        }
    }
}

impl StatusCause {
    fn from_refusal(refusal: &InjectionRefusal) -> Self {
        use super::super::change::PathStep;

        let mut field = String::new();
        // Writing to a String does not fail.
        for step in refusal.at.steps() {
            match step {
                PathStep::Key(key) if key.contains(['.', '/']) => drop(write!(field, "[{key}]")),
                PathStep::Key(key) if field.is_empty() => field.push_str(key),
                PathStep::Key(key) => drop(write!(field, ".{key}")),
                PathStep::Item(index) => drop(write!(field, "[{index}]")),
            }
        }
        Self { field, message: refusal.to_string() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(annotations: &Value) -> Value {
        json!({"metadata": {"annotations": annotations}, "spec": {"containers": [{"name": "app"}]}})
    }

    fn domains(verdict: AdmissionVerdict) -> Vec<String> {
        match verdict {
            AdmissionVerdict::Inject(injection) => injection.domains,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_pod_that_says_it_all_needs_no_namespace() {
        let defaults = Defaults::default();
        let of = |annotations: Value| decide_without_namespace(&pod(&annotations), &defaults);
        assert_eq!(domains(of(json!({"bfb.dev/inject": "a,b"})).unwrap()), ["a", "b"]);
        assert_eq!(
            of(json!({"bfb.dev/inject": "false"})),
            Some(AdmissionVerdict::Skip(SkipReason::OptedOut))
        );
        assert!(matches!(of(json!({"bfb.dev/injct": "a"})), Some(AdmissionVerdict::Refuse(_))));
        assert_eq!(of(json!({})), None);
        assert_eq!(of(json!({"bfb.dev/inject": "true"})), None);
        assert_eq!(of(json!({"bfb.dev/log": "debug"})), None);
    }

    #[test]
    fn the_namespace_decides_where_the_pod_does_not() {
        let defaults = Defaults::default();
        let of =
            |annotations: Value, label| decide_pod(&pod(&annotations), &defaults, "shop", label);
        assert_eq!(domains(of(json!({}), Some("a.b"))), ["a", "b"]);
        assert_eq!(domains(of(json!({"bfb.dev/inject": "true"}), Some("a"))), ["a"]);
        assert_eq!(domains(of(json!({"bfb.dev/inject": "c"}), Some("a"))), ["c"]);
        assert_eq!(of(json!({}), Some("false")), AdmissionVerdict::Skip(SkipReason::NotRequested));
        assert_eq!(of(json!({}), None), AdmissionVerdict::Skip(SkipReason::NotRequested));
        assert_eq!(
            of(json!({"bfb.dev/inject": "false"}), Some("a")),
            AdmissionVerdict::Skip(SkipReason::OptedOut)
        );
        for (annotations, label, field, message) in [
            (
                json!({"bfb.dev/inject": "true"}),
                None,
                "metadata.annotations[bfb.dev/inject]",
                "names no domain",
            ),
            (
                json!({"bfb.dev/log": "debug"}),
                None,
                "metadata.annotations[bfb.dev/log]",
                "`bfb.dev/log` stands here",
            ),
            (
                json!({}),
                Some("A b"),
                "",
                "the label `bfb.dev/inject` of the namespace `shop` cannot be `A b`",
            ),
        ] {
            let AdmissionVerdict::Refuse(causes) = of(annotations, label) else { panic!() };
            assert_eq!(causes[0].field, field);
            assert!(
                causes[0].message.contains(message) && causes[0].message.contains("hint"),
                "{causes:?}"
            );
        }
    }

    #[test]
    fn a_pod_with_little_time_to_stop_is_warned_of() {
        let mut short = pod(&json!({"bfb.dev/inject": "a"}));
        assert!(warnings(&short).is_empty());
        short["spec"]["terminationGracePeriodSeconds"] = json!(10);
        assert!(
            warnings(&short)[0].starts_with("the pod is killed 10s after"),
            "{:?}",
            warnings(&short)
        );
        short["metadata"]["annotations"]["bfb.dev/drain"] = json!("5s");
        assert!(warnings(&short).is_empty(), "whoever chose a drain knows");
    }
}
