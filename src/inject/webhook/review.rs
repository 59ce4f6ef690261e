//! `AdmissionReview` of `admission.k8s.io/v1`: parses the request and builds the response. Pure.
//!
//! Only the creation of a pod is decided on; every other request is allowed without a patch. A
//! patch only adds to the pod, and marks it as injected, so a second review of a patched pod gets
//! no patch (reinvocation).

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::SkipReason;
use super::verdict::{AdmissionVerdict, StatusCause, warnings};

const VERSION: &str = "admission.k8s.io/v1";

/// The longest message of a refusal, in characters: the limit of Kubernetes' events.
const MESSAGE_MAX_CHARS: usize = 1000;

/// The longest `uid`, in bytes, which the response repeats: those of Kubernetes have 36.
const UID_MAX_BYTES: usize = 256;

/// The longest name of a namespace, in bytes (a DNS label, RFC 1123).
const NAMESPACE_MAX_BYTES: usize = 63;

/// The longest message about malformed JSON, in characters.
const ERROR_MAX_CHARS: usize = 300;

/// The longest field of a cause, in characters: the longest name of an annotation has 317.
const FIELD_MAX_CHARS: usize = 400;

/// The longest name of a pod in a response, in characters: the limit of Kubernetes for names.
const NAME_MAX_CHARS: usize = 253;

/// The request of one admission review.
#[derive(Debug, Clone, PartialEq)]
pub struct AdmissionReview {
    /// The identifier of the request, which the response repeats.
    pub uid: String,
    /// The object under review.
    pub subject: ReviewSubject,
}

/// The object under review.
#[derive(Debug, Clone, PartialEq)]
pub enum ReviewSubject {
    /// A pod that is to be created.
    Pod {
        /// Its namespace. The metadata of a pod made from a template may lack it.
        namespace: String,
        /// The pod.
        pod: Value,
    },
    /// Another object, or another operation on a pod.
    Other,
}

/// Why a body is no review.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MalformedReview {
    /// It is no JSON, or not that of a review.
    #[error("the body is no `AdmissionReview`: {0}; expected JSON of `{VERSION}`")]
    Json(String),
    /// It is a review of another version, or an object of another kind.
    #[error(
        "the body is {0}; expected `AdmissionReview` of `{VERSION}` (hint: \
         `admissionReviewVersions: [v1]`)"
    )]
    Version(String),
    /// The review lacks a field.
    #[error("the review has no `{0}`; expected what an API server sends")]
    MissingField(&'static str),
    /// A field of the review is longer than Kubernetes allows.
    #[error("the review has a `{0}` that is none; expected {1}")]
    InvalidField(&'static str, &'static str),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawReview<'a> {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(borrow)]
    request: Option<RawRequest<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRequest<'a> {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    resource: RawResource,
    sub_resource: Option<String>,
    namespace: Option<String>,
    #[serde(default)]
    operation: String,
    /// Parsed only for the creation of a pod: other objects may be as large.
    #[serde(borrow)]
    object: Option<&'a RawValue>,
}

#[derive(Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct RawResource {
    group: String,
    version: String,
    #[serde(rename = "resource")]
    plural: String,
}

impl RawRequest<'_> {
    fn is_pod_creation(&self) -> bool {
        let pods = RawResource {
            group: String::new(),
            version: "v1".to_owned(),
            plural: "pods".to_owned(),
        };
        self.operation == "CREATE"
            && self.resource == pods
            && self.sub_resource.as_deref().unwrap_or_default().is_empty()
    }
}

impl AdmissionReview {
    /// Parses the body of a request.
    pub fn read(body: &[u8]) -> Result<Self, MalformedReview> {
        let raw: RawReview<'_> = serde_json::from_slice(body).map_err(|error| {
            MalformedReview::Json(truncate(&error.to_string(), ERROR_MAX_CHARS))
        })?;
        if raw.api_version != VERSION || raw.kind != "AdmissionReview" {
            let excerpt =
                |text: &str| text.chars().take(80).flat_map(char::escape_debug).collect::<String>();
            return Err(MalformedReview::Version(format!(
                "`{}` of `{}`",
                excerpt(&raw.kind),
                excerpt(&raw.api_version)
            )));
        }
        let request = raw.request.ok_or(MalformedReview::MissingField("request"))?;
        if request.uid.is_empty() {
            return Err(MalformedReview::MissingField("request.uid"));
        }
        if request.uid.len() > UID_MAX_BYTES {
            return Err(MalformedReview::InvalidField("request.uid", "at most 256 bytes"));
        }
        let subject = if request.is_pod_creation() {
            let object = request.object.ok_or(MalformedReview::MissingField("request.object"))?;
            let pod: Value = serde_json::from_str(object.get())
                .map_err(|error| MalformedReview::Json(error.to_string()))?;
            if !pod.is_object() {
                return Err(MalformedReview::MissingField("request.object"));
            }
            let namespace_of_pod =
                || pod.pointer("/metadata/namespace").and_then(Value::as_str).map(str::to_owned);
            let namespace =
                request.namespace.filter(|name| !name.is_empty()).or_else(namespace_of_pod);
            let namespace = namespace.ok_or(MalformedReview::MissingField("request.namespace"))?;
            if namespace.len() > NAMESPACE_MAX_BYTES {
                return Err(MalformedReview::InvalidField("request.namespace", "at most 63 bytes"));
            }
            ReviewSubject::Pod { namespace, pod }
        } else {
            ReviewSubject::Other
        };
        Ok(Self { uid: request.uid, subject })
    }

    /// The response with this verdict.
    pub fn answer(&self, verdict: &AdmissionVerdict) -> Value {
        let mut response = json!({"uid": self.uid, "allowed": true});
        match verdict {
            AdmissionVerdict::Skip(reason) => {
                response["auditAnnotations"] = json!({"outcome": outcome_text(*reason)});
            }
            AdmissionVerdict::Inject(injection) => {
                response["patchType"] = "JSONPatch".into();
                response["patch"] = BASE64.encode(&json_text(&injection.additions.patch())).into();
                response["auditAnnotations"] =
                    json!({"outcome": "injected", "domains": injection.domains.join(",")});
                if let ReviewSubject::Pod { pod, .. } = &self.subject {
                    let warnings = warnings(pod);
                    if !warnings.is_empty() {
                        response["warnings"] = warnings.into();
                    }
                }
            }
            AdmissionVerdict::Refuse(causes) => {
                response["allowed"] = false.into();
                response["status"] = status_json(&self.pod_name(), causes);
            }
        }
        json!({"apiVersion": VERSION, "kind": "AdmissionReview", "response": response})
    }

    /// The pod's name, or its `generateName`.
    fn pod_name(&self) -> String {
        let ReviewSubject::Pod { pod, .. } = &self.subject else { return String::new() };
        let text =
            |field| pod.pointer(field).and_then(Value::as_str).filter(|name| !name.is_empty());
        let name = text("/metadata/name").or_else(|| text("/metadata/generateName"));
        name.unwrap_or_default().chars().take(NAME_MAX_CHARS).collect()
    }

    /// The response to a review of anything but the creation of a pod.
    pub fn answer_unrelated(&self) -> Value {
        self.answer(&AdmissionVerdict::Skip(SkipReason::NotRequested))
    }
}

/// Serializes a value whose serialization cannot fail: its keys are text.
fn json_text(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

fn outcome_text(reason: SkipReason) -> &'static str {
    match reason {
        SkipReason::NotRequested => "not asked",
        SkipReason::OptedOut => "opted out",
        SkipReason::AlreadyInjected => "injected before",
    }
}

/// `text`, cut to `max_chars` characters.
fn truncate(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The `Status` (`meta/v1`) of a refusal. `kubectl` prints it, and events of a `ReplicaSet` hold
/// it.
fn status_json(name: &str, causes: &[StatusCause]) -> Value {
    let messages: Vec<_> = causes.iter().map(|cause| cause.message.as_str()).collect();
    let message = truncate(&messages.join("; "), MESSAGE_MAX_CHARS);
    let cause = |cause: &StatusCause| {
        let field = truncate(&cause.field, FIELD_MAX_CHARS);
        let message = truncate(&cause.message, MESSAGE_MAX_CHARS);
        json!({"reason": "FieldValueInvalid", "field": field, "message": message})
    };
    let causes: Vec<_> = causes.iter().map(cause).collect();
    json!({
        "status": "Failure",
        "code": 400,
        "reason": "Invalid",
        "message": message,
        "details": {"name": name, "kind": "pods", "causes": causes},
    })
}

#[cfg(test)]
mod tests;
