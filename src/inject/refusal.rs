//! Why a pod gets no sidecar: each reason with its place in the pod, in words that say what to do.

use std::fmt;

use super::annotations::{self, PodSetting};
use super::change::FieldPath;
use crate::diagnostics::quote;

/// One reason, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InjectionRefusal {
    /// The place in the pod (or pod template).
    pub(super) at: FieldPath,
    /// The reason.
    pub(super) reason: RefusalReason,
}

/// The most reasons against one pod that are kept; more are counted.
const REFUSALS_MAX: usize = 32;

/// As much of a text of the pod's author as a message may hold, in characters.
const EXCERPT_MAX_CHARS: usize = 100;

/// The beginning of `text`: what a message shows of it is cut anyway, and a reason must not be as
/// long as the pod.
pub(super) fn excerpt(text: &str) -> String {
    text.chars().take(EXCERPT_MAX_CHARS).collect()
}

/// The reasons against one pod, so many that a person reads them: whoever writes a pod with a
/// hundred thousand mistakes gets an answer of the same length as for thirty.
#[derive(Debug, Default)]
pub(super) struct InjectionRefusals {
    list: Vec<InjectionRefusal>,
    omitted: usize,
    /// Where the first stands that is only counted.
    first_omitted_at: Option<FieldPath>,
}

impl InjectionRefusals {
    /// Whether further ones are only counted.
    pub(super) fn is_full(&self) -> bool {
        self.list.len() >= REFUSALS_MAX
    }

    /// One more; `refusal` is made only if it is kept.
    pub(super) fn push(&mut self, refusal: impl FnOnce() -> InjectionRefusal) {
        if !self.is_full() {
            return self.list.push(refusal());
        }
        if self.first_omitted_at.is_none() {
            self.first_omitted_at = Some(refusal().at);
        }
        self.omitted += 1;
    }

    /// All of them, and how many more there were.
    pub(super) fn into_list(mut self) -> Vec<InjectionRefusal> {
        let more = self.first_omitted_at.take().map(|at| InjectionRefusal {
            at,
            reason: RefusalReason::MoreRefusals { count: self.omitted },
        });
        self.list.extend(more);
        self.list
    }

    /// `value` where there is none.
    pub(super) fn into_result<T>(self, value: T) -> Result<T, Vec<InjectionRefusal>> {
        if self.list.is_empty() { Ok(value) } else { Err(self.into_list()) }
    }
}

/// Why not. Names of annotations come without `bfb.dev/`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RefusalReason {
    /// A `bfb.dev/…` that there is not.
    #[error("there is no annotation {}", quote(&format!("bfb.dev/{name}")))]
    UnknownAnnotation {
        /// What was written.
        name: String,
        /// What was probably meant.
        nearest: Option<&'static str>,
    },
    /// An annotation that is a number, a boolean or more.
    #[error("{} is no text, and Kubernetes takes nothing else", quote(name))]
    NotText {
        /// The whole name.
        name: String,
    },
    /// A value that the annotation does not take.
    #[error("`bfb.dev/{name}` cannot be {}", quote_or_hide(value.as_deref()))]
    BadValue {
        /// The annotation.
        name: &'static str,
        /// What was written; `None` where it may be a password or a key.
        value: Option<String>,
        /// What it takes.
        expected: &'static str,
    },
    /// `inject: "true"` where no domain is named by default.
    #[error("`bfb.dev/inject` names no domain, and there is no default")]
    NoDomain,
    /// A setting in a pod that gets no sidecar.
    #[error("`bfb.dev/{name}` stands here without `bfb.dev/inject`")]
    SettingWithoutInject {
        /// The annotation.
        name: &'static str,
    },
    /// An annotation that means nothing without another one.
    #[error("`bfb.dev/{name}` means nothing without {needs}")]
    MissingPrerequisite {
        /// The annotation.
        name: &'static str,
        /// What it needs, with backticks.
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
    /// A limit with which `bfb serve` would refuse to start: it derives `--memory-limit` from it.
    #[error(
        "the sidecar's memory limit {limit} leaves too little beside the {memory} for datasets"
    )]
    LimitTooLow {
        /// The limit.
        limit: String,
        /// `bfb.dev/memory`.
        memory: String,
        /// The least that is enough.
        least: String,
    },
    /// A drain that the pod does not live to see the end of.
    #[error("`bfb.dev/drain` is {drain}, but the pod is killed after {grace}s")]
    DrainTooLong {
        /// The drain.
        drain: String,
        /// `terminationGracePeriodSeconds`.
        grace: u64,
    },
    /// Two things of the sidecar's want one port.
    #[error("`bfb.dev/listen` and `bfb.dev/probes` both want the port {port}")]
    SamePort {
        /// The port.
        port: u16,
    },
    /// A container of the pod listens where the sidecar would.
    #[error("the container {} has the port {port}, which the sidecar listens on", quote(container))]
    PortTaken {
        /// The port.
        port: u16,
        /// The container.
        container: String,
        /// The annotation that moves the sidecar.
        annotation: &'static str,
    },
    /// A container or a volume has a name that the sidecar needs.
    #[error("the pod has a {what} {} of its own", quote(name))]
    NameTaken {
        /// `container` or `volume`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A container mounts something where the shared socket goes.
    #[error(
        "the container {} mounts {} where the sidecar's socket goes",
        quote(container),
        quote(mount)
    )]
    MountTaken {
        /// The container.
        container: String,
        /// Its mount's path.
        mount: String,
    },
    /// The pod's localhost is the node's.
    #[error("the pod uses the node's network: its localhost is that of every pod on the node")]
    HostNetwork,
    /// The pod does not run on Linux.
    #[error("the pod runs on Windows, and the sidecar on Linux only")]
    Windows,
    /// Marked as injected, but there is no sidecar.
    #[error("the pod is marked as injected, but has no container `bfb`")]
    HalfInjected,
    /// A part of the pod is not what Kubernetes says it is.
    #[error("this is no pod: `{at}` is something else")]
    NotAPod {
        /// What was expected.
        expected: &'static str,
        /// Where.
        at: String,
    },
    /// There were more reasons than are told.
    #[error("there are {count} more problems like those before")]
    MoreRefusals {
        /// How many.
        count: usize,
    },
}

impl RefusalReason {
    /// What was expected instead.
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

    /// What to do.
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
            Self::DrainTooLong { .. } => "shorten it, or raise `terminationGracePeriodSeconds`: \
                 the application stops first, in the same time"
                .to_owned(),
            Self::SamePort { .. } => "move one of them".to_owned(),
            Self::PortTaken { annotation: moves, .. } => {
                format!("move the sidecar with `bfb.dev/{moves}`")
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

/// In one line, for an admission answer.
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

/// A value for a message, where it may be shown.
fn quote_or_hide(value: Option<&str>) -> String {
    value.map_or("what it is here".to_owned(), quote)
}
