//! Admission reviews: whatever the bytes are, they are refused with what was expected, or answered:
//! with the same `uid`, and with a patch that fits the pod and after which there is nothing more to
//! add.
//!
//! The fuzz target runs this on what it makes up; the tests replay its corpus with it, and damage
//! it.

use bfb::inject::webhook::{Review, Subject, Verdict, within, without_namespace};
use bfb::inject::{Defaults, Left};

/// What the label of the namespace may say.
const LABELS: [Option<&str>; 4] = [None, Some("customer"), Some("false"), Some("no good")];

/// Panics where the property does not hold; says whether the bytes were a review of a pod.
pub(crate) fn holds(data: &[u8]) -> bool {
    let review = match Review::read(data) {
        Ok(review) => review,
        Err(error) => {
            assert!(error.to_string().contains("expected"), "{error}");
            return false;
        }
    };
    let Subject::Pod { namespace, pod } = &review.subject else {
        let answer = review.answer_other();
        assert_eq!(
            (&answer["response"]["uid"], &answer["response"]["allowed"]),
            (&review.uid.clone().into(), &true.into())
        );
        return false;
    };
    let defaults = Defaults::default();
    for label in LABELS {
        let verdict = within(pod, &defaults, namespace, label);
        if let Some(early) = without_namespace(pod, &defaults) {
            assert_eq!(early, verdict, "a label changed what the pod had decided by itself");
        }
        let answer = review.answer(&verdict);
        let response = &answer["response"];
        assert_eq!(response["uid"], review.uid.as_str());
        assert_eq!(response["allowed"], !matches!(verdict, Verdict::Refuse(_)));
        assert_eq!(response["patch"].is_string(), matches!(verdict, Verdict::Inject(_)));
        match verdict {
            Verdict::Inject(injection) => {
                let mut patched = pod.clone();
                assert!(injection.additions.apply(&mut patched), "the patch does not fit");
                assert_eq!(
                    within(&patched, &defaults, namespace, label),
                    Verdict::Leave(Left::Injected)
                );
            }
            Verdict::Refuse(causes) => {
                assert!(
                    !causes.is_empty()
                        && !response["status"]["message"].as_str().unwrap_or_default().is_empty()
                );
            }
            Verdict::Leave(_) => {}
        }
    }
    true
}
