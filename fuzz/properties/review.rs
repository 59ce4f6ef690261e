//! Admission reviews: whatever the bytes are, they are refused with what was expected, or answered:
//! with the same `uid`, and with a patch that fits the pod and after which there is nothing more to
//! add.
//!
//! The fuzz target runs this on what it makes up; the tests replay its corpus with it, and damage
//! it.

use bfb::inject::webhook::{
    AdmissionReview, AdmissionVerdict, ReviewSubject, decide_pod, decide_without_namespace,
};
use bfb::inject::{Defaults, SkipReason};

/// What the label of the namespace may say.
const LABELS: [Option<&str>; 4] = [None, Some("customer"), Some("false"), Some("no good")];

/// Panics where the property does not hold; says whether the bytes were a review of a pod.
pub(crate) fn holds(data: &[u8]) -> bool {
    let review = match AdmissionReview::read(data) {
        Ok(review) => review,
        Err(error) => {
            assert!(error.to_string().contains("expected"), "{error}");
            return false;
        }
    };
    let ReviewSubject::Pod { namespace, pod } = &review.subject else {
        let answer = review.answer_unrelated();
        assert_eq!(
            (&answer["response"]["uid"], &answer["response"]["allowed"]),
            (&review.uid.clone().into(), &true.into())
        );
        return false;
    };
    let defaults = Defaults::default();
    for label in LABELS {
        let verdict = decide_pod(pod, &defaults, namespace, label);
        if let Some(early) = decide_without_namespace(pod, &defaults) {
            assert_eq!(early, verdict, "a label changed what the pod had decided by itself");
        }
        let answer = review.answer(&verdict);
        let response = &answer["response"];
        assert_eq!(response["uid"], review.uid.as_str());
        assert_eq!(response["allowed"], !matches!(verdict, AdmissionVerdict::Refuse(_)));
        assert_eq!(response["patch"].is_string(), matches!(verdict, AdmissionVerdict::Inject(_)));
        match verdict {
            AdmissionVerdict::Inject(injection) => {
                let mut patched = pod.clone();
                assert!(injection.additions.apply(&mut patched), "the patch does not fit");
                assert_eq!(
                    decide_pod(&patched, &defaults, namespace, label),
                    AdmissionVerdict::Skip(SkipReason::AlreadyInjected)
                );
            }
            AdmissionVerdict::Refuse(causes) => {
                assert!(
                    !causes.is_empty()
                        && !response["status"]["message"].as_str().unwrap_or_default().is_empty()
                );
            }
            AdmissionVerdict::Skip(_) => {}
        }
    }
    true
}
