//! Refusals: why a pod gets no sidecar. Each has a reason, the path of the field in the pod, and a
//! message with the expected value and a hint.

use std::fmt;

use super::annotations::{self, PodSetting};
use super::change::FieldPath;
use crate::diagnostics::quote;

/// One refusal: a reason, and the field that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InjectionRefusal {
    /// The path of the field in the pod (or pod template).
    pub(super) at: FieldPath,
    /// The reason.
    pub(super) reason: RefusalReason,
}

/// The most refusals of one pod that are kept; further ones are only counted.
const REFUSALS_MAX: usize = 32;

/// The longest excerpt of a text of the pod's author in a message, in characters.
const EXCERPT_MAX_CHARS: usize = 100;

/// The beginning of `text`. A message shows no more of it, and a refusal must not be as long as the
/// pod.
pub(super) fn excerpt(text: &str) -> String {
    text.chars().take(EXCERPT_MAX_CHARS).collect()
}

/// The refusals of one pod, at most [`REFUSALS_MAX`]: the response for a pod with a hundred
/// thousand mistakes is as long as the one for a pod with thirty.
#[derive(Debug, Default)]
pub(super) struct InjectionRefusals {
    list: Vec<InjectionRefusal>,
    omitted: usize,
    /// The path of the first refusal that is only counted.
    first_omitted_at: Option<FieldPath>,
}

impl InjectionRefusals {
    /// Whether further refusals are only counted.
    pub(super) fn is_full(&self) -> bool {
        self.list.len() >= REFUSALS_MAX
    }

    /// Adds a refusal. `refusal` is called if it is kept, or is the first that is only counted.
    pub(super) fn push(&mut self, refusal: impl FnOnce() -> InjectionRefusal) {
        if !self.is_full() {
            return self.list.push(refusal());
        }
        if self.first_omitted_at.is_none() {
            self.first_omitted_at = Some(refusal().at);
        }
        self.omitted += 1;
    }

    /// The refusals; the last one says how many more there were.
    pub(super) fn into_list(mut self) -> Vec<InjectionRefusal> {
        let more = self.first_omitted_at.take().map(|at| InjectionRefusal {
            at,
            reason: RefusalReason::MoreRefusals { count: self.omitted },
        });
        self.list.extend(more);
        self.list
    }

    /// `value` if there are no refusals.
    pub(super) fn into_result<T>(self, value: T) -> Result<T, Vec<InjectionRefusal>> {
        if self.list.is_empty() { Ok(value) } else { Err(self.into_list()) }
    }
}

/// The reason of a refusal. Names of annotations have no prefix `bfb.dev/`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RefusalReason {
    /// An annotation `bfb.dev/…` that does not exist.
    #[error("there is no annotation {}", quote(&format!("bfb.dev/{name}")))]
    UnknownAnnotation {
        /// The name in the pod.
        name: String,
        /// The annotation with the most similar name.
        nearest: Option<&'static str>,
    },
    /// An annotation whose value is a number, a boolean, a list or a mapping.
    #[error("{} is no text, and Kubernetes takes nothing else", quote(name))]
    NotText {
        /// The name with the prefix.
        name: String,
    },
    /// A value that the annotation does not allow.
    #[error("`bfb.dev/{name}` cannot be {}", quote_or_hide(value.as_deref()))]
    BadValue {
        /// The annotation.
        name: &'static str,
        /// The value; `None` if it may be a password or a key.
        value: Option<String>,
        /// The values that it allows.
        expected: &'static str,
    },
    /// `inject: "true"` without a default domain.
    #[error("`bfb.dev/inject` names no domain, and there is no default")]
    NoDomain,
    /// A setting in a pod that gets no sidecar.
    #[error("`bfb.dev/{name}` stands here without `bfb.dev/inject`")]
    SettingWithoutInject {
        /// The annotation.
        name: &'static str,
    },
    /// An annotation that has no effect without another one.
    #[error("`bfb.dev/{name}` means nothing without {needs}")]
    MissingPrerequisite {
        /// The annotation.
        name: &'static str,
        /// The annotation that it needs, in backticks, or a value of it.
        needs: &'static str,
    },
    /// A request above its limit.
    #[error("the sidecar's {resource} request {request} is above its limit {limit}")]
    RequestAboveLimit {
        /// `cpu` or `memory`.
        resource: &'static str,
        /// The request.
        request: String,
        /// The limit.
        limit: String,
    },
    /// A memory limit with which `bfb serve` would not start: it derives `--memory-limit` from it.
    #[error(
        "the sidecar's memory limit {limit} leaves too little beside the {memory} for datasets"
    )]
    LimitTooLow {
        /// The limit.
        limit: String,
        /// `bfb.dev/memory`.
        memory: String,
        /// The smallest sufficient limit.
        least: String,
    },
    /// A drain time longer than the pod's grace period.
    #[error("`bfb.dev/drain` is {drain}, but the pod is killed after {grace}s")]
    DrainTooLong {
        /// The drain time.
        drain: String,
        /// `terminationGracePeriodSeconds`.
        grace: u64,
    },
    /// Two annotations give the sidecar the same port.
    #[error("`bfb.dev/listen` and `bfb.dev/probes` both want the port {port}")]
    SamePort {
        /// The port.
        port: u16,
    },
    /// A container of the pod has a port of the sidecar.
    #[error("the container {} has the port {port}, which the sidecar listens on", quote(container))]
    PortTaken {
        /// The port.
        port: u16,
        /// The container.
        container: String,
        /// The annotation that sets the sidecar's port.
        annotation: &'static str,
    },
    /// A container or a volume of the pod has a name that the sidecar needs.
    #[error("the pod has a {what} {} of its own", quote(name))]
    NameTaken {
        /// `container` or `volume`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A container has a mount at or below the path of the shared socket.
    #[error(
        "the container {} mounts {} where the sidecar's socket goes",
        quote(container),
        quote(mount)
    )]
    MountTaken {
        /// The container.
        container: String,
        /// The path of its mount.
        mount: String,
    },
    /// The pod uses the node's network.
    #[error("the pod uses the node's network: its localhost is that of every pod on the node")]
    HostNetwork,
    /// The pod does not run on Linux.
    #[error("the pod runs on Windows, and the sidecar on Linux only")]
    Windows,
    /// The pod is marked as injected, but has no sidecar.
    #[error("the pod is marked as injected, but has no container `bfb`")]
    HalfInjected,
    /// A field does not have the form that Kubernetes' API specifies.
    #[error("this is no pod: `{at}` is something else")]
    NotAPod {
        /// The expected form.
        expected: &'static str,
        /// The path of the field.
        at: String,
    },
    /// There are more refusals than are kept.
    #[error("there are {count} more problems like those before")]
    MoreRefusals {
        /// Their number.
        count: usize,
    },
}

impl RefusalReason {
    /// The expected value, for a message.
    pub(super) fn expected(&self) -> String {
        match self {
            Self::UnknownAnnotation { .. } => {
                "one of the annotations in docs/kubernetes.md".to_owned()
            }
            Self::NotText { .. } => "text in quotes".to_owned(),
            Self::BadValue { expected, .. } | Self::NotAPod { expected, .. } => {
                (*expected).to_owned()
            }
            Self::NoDomain => "the name of a domain".to_owned(),
            Self::SettingWithoutInject { .. } => "`bfb.dev/inject` beside it".to_owned(),
            Self::MissingPrerequisite { needs, .. } => format!("{needs} beside it"),
            Self::RequestAboveLimit { limit, .. } => format!("at most {limit}"),
            Self::LimitTooLow { least, .. } => format!("at least {least}"),
            Self::DrainTooLong { grace, .. } => format!("at most {grace}s"),
            Self::SamePort { .. } | Self::PortTaken { .. } => "a port that is free".to_owned(),
            Self::NameTaken { .. } => "another name".to_owned(),
            Self::MountTaken { .. } => "another path".to_owned(),
            Self::HostNetwork => "a network of the pod's own".to_owned(),
            Self::Windows => "Linux".to_owned(),
            Self::HalfInjected => "the container, or no mark".to_owned(),
            Self::MoreRefusals { .. } => format!("at most {REFUSALS_MAX} at once"),
        }
    }

    /// The hint, for a message.
    pub(super) fn hint(&self) -> String {
        const LEAVE_ALONE: &str = "`bfb.dev/inject: \"false\"` leaves it alone";
        match self {
            Self::UnknownAnnotation { nearest: Some(nearest), .. } => {
                format!("did you mean `bfb.dev/{nearest}`?")
            }
            Self::UnknownAnnotation { .. } => {
                "remove it; annotations of your own need a prefix of your own".to_owned()
            }
            Self::NotText { .. } => "put the value in quotes: `\"true\"`, `\"5\"`".to_owned(),
            Self::BadValue { name, .. } => {
                let default = annotations::find(name).map(PodSetting::default_text);
                match default.as_deref().unwrap_or_default() {
                    "" => "write such a value, or remove the annotation".to_owned(),
                    default => {
                        format!(
                            "write such a value, or remove the annotation: its default is {}",
                            default.replace('`', "")
                        )
                    }
                }
            }
            Self::NoDomain => "write the domain's name: `bfb.dev/inject: \"customer\"`".to_owned(),
            Self::SettingWithoutInject { .. } => {
                "add `bfb.dev/inject: \"DOMAIN\"`, or give a default with `--domain`".to_owned()
            }
            Self::MissingPrerequisite { needs, .. } => format!("add {needs}, or remove this"),
            Self::RequestAboveLimit { resource, .. } => {
                format!("lower `bfb.dev/{resource}-request`, or raise `bfb.dev/{resource}-limit`")
            }
            Self::LimitTooLow { .. } => {
                "raise `bfb.dev/memory-limit`, or lower `bfb.dev/memory`".to_owned()
            }
            Self::DrainTooLong { .. } => {
                "shorten it, or raise `terminationGracePeriodSeconds`: the application stops \
                 first, in the same time"
                    .to_owned()
            }
            Self::SamePort { .. } => "move one of them".to_owned(),
            Self::PortTaken { annotation, .. } => {
                format!("move the sidecar with `bfb.dev/{annotation}`")
            }
            Self::NameTaken { what, .. } => {
                format!("rename the {what}: the sidecar needs this name")
            }
            Self::MountTaken { .. } => {
                "mount it elsewhere, or do without `bfb.dev/unix-socket`".to_owned()
            }
            Self::HostNetwork => {
                format!("{LEAVE_ALONE}; a sidecar there would answer the whole node")
            }
            Self::Windows => LEAVE_ALONE.to_owned(),
            Self::HalfInjected => {
                "remove `bfb.dev/status`, or begin with `bfb inject --uninject`".to_owned()
            }
            Self::MoreRefusals { .. } => {
                "mend the first ones: one mistake often brings many".to_owned()
            }
            Self::NotAPod { .. } => "a patch is no manifest: inject what comes of it".to_owned(),
        }
    }
}

/// The refusal in one line, for the response to an admission review.
impl fmt::Display for InjectionRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: expected {} (hint: {})",
            self.reason,
            self.reason.expected(),
            self.reason.hint()
        )
    }
}

/// A value in quotes; a confidential one (`None`) is not shown.
fn quote_or_hide(value: Option<&str>) -> String {
    value.map_or("what it is here".to_owned(), quote)
}
