//! From annotations and defaults to what a sidecar is told, or to everything that contradicts
//! itself in them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::annotations::{self, PREFIX, PodSetting, annotations};
use super::change::FieldPath;
use super::container_resources::{self, ContainerResources};
use super::parse::{
    self, ExpectedText, IdentitySource, InjectRequest, KeyRef, ObjectRef, UrlSource,
};
use super::refusal::{InjectionRefusal, RefusalReason};
use crate::diagnostics::quote;
use crate::settings::{self, AnnotationWriter, DrainTime};

/// How long Kubernetes waits for a pod to stop where the pod does not say.
pub(super) const DEFAULT_GRACE_SECONDS: u64 = 30;
/// What is left of the grace once the drain is over.
const AFTER_DRAIN_SECONDS: u64 = 5;

/// What holds for all pods that do not say otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Defaults {
    /// The domains of a pod that names none; empty where only pods that ask get a sidecar.
    domains: Vec<String>,
    annotations: BTreeMap<&'static str, String>,
}

impl Defaults {
    /// `domains` go to every pod that names none; `set` are annotations (without their prefix) that
    /// every pod has unless it has its own. What is wrong with them comes back in words, all of it.
    pub fn new(domains: &[String], annotations: &[(String, String)]) -> Result<Self, Vec<String>> {
        let mut wrong = Vec::new();
        let mut defaults = Self::default();
        if !domains.is_empty() {
            match parse::domains(&domains.join(",")) {
                Ok(domains) => defaults.domains = domains,
                Err(expected) => {
                    wrong.push(format!(
                        "{} cannot be domains: expected {expected}",
                        quote(&domains.join(","))
                    ));
                }
            }
        }
        for (name, value) in annotations {
            let name = name.strip_prefix(PREFIX).unwrap_or(name);
            let has_default =
                |row: &PodSetting| row.annotation.writer == AnnotationWriter::PodOrDefault;
            let row = annotations::find(name).filter(has_default);
            match row.map(|row| (row, row.check(value))) {
                Some((row, Ok(()))) => drop(defaults.annotations.insert(row.name(), value.clone())),
                Some((_, Err(expected))) => {
                    wrong.push(format!("`{name}` cannot be {}: expected {expected}", quote(value)));
                }
                None => {
                    let near = annotations::nearest_to(name).filter(|near| *near != name);
                    let hint =
                        near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                    wrong.push(format!("there is no default {}{hint}", quote(name)));
                }
            }
        }
        if wrong.is_empty() { Ok(defaults) } else { Err(wrong) }
    }

    /// The same for the pods of a namespace whose label `bfb.dev/inject` says `label`: the domains
    /// of those that name none, with dots between them, since a label takes no comma; or `false`.
    pub fn of_namespace(&self, label: &str) -> Result<Self, String> {
        let domains = match label {
            "false" => Vec::new(),
            _ => parse::domains(&label.replace('.', ",")).map_err(str::to_owned)?,
        };
        Ok(Self { domains, ..self.clone() })
    }

    /// The domains of a pod that names none.
    pub fn domains(&self) -> &[String] {
        &self.domains
    }
}

/// What a pod says of itself that its sidecar must fit.
#[derive(Debug, Clone, Copy)]
pub(super) struct PodFacts {
    /// How long it has to stop.
    pub(super) grace_seconds: u64,
    /// Whether it is of the class Guaranteed.
    pub(super) is_guaranteed: bool,
}

/// What one sidecar is told.
#[derive(Debug)]
pub(super) struct SidecarSettings {
    pub(super) domains: Vec<String>,
    pub(super) image: String,
    pub(super) identity: IdentitySource,
    /// URIs and DNS names.
    pub(super) identity_names: (Vec<String>, Vec<String>),
    pub(super) env_from: Vec<ObjectRef>,
    pub(super) redis: Option<UrlSource>,
    pub(super) redis_auth: Option<KeyRef>,
    pub(super) redis_ca: Option<KeyRef>,
    pub(super) redis_identity: Option<String>,
    pub(super) seal_key: Option<KeyRef>,
    pub(super) listen: Option<Vec<SocketAddr>>,
    pub(super) unix_socket: bool,
    pub(super) probes: SocketAddr,
    /// `None`: as long as `bfb serve` does.
    pub(super) drain: Option<String>,
    pub(super) user: Option<u32>,
    pub(super) resources: ContainerResources,
    /// Variables that are values as they were written.
    pub(super) passthrough_env: Vec<(String, String)>,
}

/// The annotations of one pod, each known and right in itself, over the defaults.
#[derive(Debug)]
pub(super) struct PodAnnotations<'a> {
    pub(super) pod: BTreeMap<&'static str, &'a str>,
    pub(super) defaults: &'a Defaults,
}

/// Where an annotation stands in a pod.
pub(super) fn annotation_path(name: &str) -> FieldPath {
    FieldPath::root().key("metadata").key("annotations").key(&format!("{PREFIX}{name}"))
}

impl PodAnnotations<'_> {
    /// The domains, or `None` for a pod that shall have no sidecar, or why that cannot be told.
    pub(super) fn domains(&self) -> Result<Option<Vec<String>>, InjectionRefusal> {
        let request = self.pod.get("inject").and_then(|text| parse::inject_request(text).ok());
        match request {
            Some(InjectRequest::NoSidecar) => Ok(None),
            Some(InjectRequest::Domains(domains)) => Ok(Some(domains)),
            _ if !self.defaults.domains.is_empty() => Ok(Some(self.defaults.domains.clone())),
            Some(InjectRequest::Default) => Err(InjectionRefusal {
                at: annotation_path("inject"),
                reason: RefusalReason::NoDomain,
            }),
            None => match self.pod.keys().find(|name| !matches!(**name, "status" | "undo")) {
                Some(name) => Err(InjectionRefusal {
                    at: annotation_path(name),
                    reason: RefusalReason::SettingWithoutInject { name },
                }),
                None => Ok(None),
            },
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.pod
            .get(name)
            .copied()
            .or_else(|| self.defaults.annotations.get(name).map(String::as_str))
    }

    fn parse<T, E>(&self, name: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        self.get(name).and_then(|text| parse(text).ok())
    }

    fn is_true(&self, name: &str) -> bool {
        self.parse(name, parse::boolean).unwrap_or(false)
    }

    /// Whether there may be a Redis: one that is named, or one in variables that we do not see.
    fn has_redis(&self) -> bool {
        self.get("redis").is_some() || self.get("env-from").is_some()
    }
}

impl SidecarSettings {
    /// What the sidecar of such a pod is told, or everything that contradicts itself.
    pub(super) fn from_annotations(
        annotations: &PodAnnotations<'_>,
        domains: Vec<String>,
        facts: PodFacts,
    ) -> Result<Self, Vec<InjectionRefusal>> {
        let mut refusals = check_prerequisites(annotations);
        let resources = container_resources::container_resources(annotations, facts.is_guaranteed)
            .unwrap_or_else(|refused| {
                refusals.extend(refused);
                ContainerResources::default()
            });
        let drain = drain_time(annotations, facts.grace_seconds).unwrap_or_else(|refused| {
            refusals.push(refused);
            None
        });
        let redis = annotations.has_redis();
        let identity = annotations.parse("identity", parse::identity);
        let settings = Self {
            domains,
            image: annotations.get("image").unwrap_or(settings::DEFAULT_IMAGE).to_owned(),
            identity: identity
                .unwrap_or_else(|| parse_default(parse::identity, settings::DEFAULT_IDENTITY)),
            identity_names: annotations
                .parse("identity-names", parse::names)
                .unwrap_or_else(|| parse_default(parse::names, settings::DEFAULT_IDENTITY_NAMES)),
            env_from: annotations.parse("env-from", parse::objects).unwrap_or_default(),
            redis: annotations.parse("redis", parse::url),
            redis_auth: annotations.parse("redis-auth", parse::secret_key).filter(|_| redis),
            redis_ca: annotations.parse("redis-ca", parse::key).filter(|_| redis),
            redis_identity: annotations.parse("redis-identity", parse::secret).filter(|_| redis),
            seal_key: annotations.parse("seal-key", parse::secret_key).filter(|_| redis),
            listen: annotations.parse("listen", parse::listen),
            unix_socket: annotations.is_true("unix-socket"),
            probes: annotations
                .parse("probes", parse::probes)
                .unwrap_or_else(|| parse_default(parse::probes, settings::DEFAULT_PROBES)),
            drain,
            user: annotations
                .parse("user", parse::user)
                .unwrap_or_else(|| parse_default(parse::user, settings::DEFAULT_USER)),
            resources,
            passthrough_env: passthrough_env(annotations, redis),
        };
        if settings.ports().contains(&settings.probes.port()) {
            let reason = RefusalReason::SamePort { port: settings.probes.port() };
            refusals.push(InjectionRefusal {
                at: annotation_path(if annotations.get("probes").is_some() {
                    "probes"
                } else {
                    "listen"
                }),
                reason,
            });
        }
        if refusals.is_empty() { Ok(settings) } else { Err(refusals) }
    }

    /// The ports that the pod's containers are answered on.
    pub(super) fn ports(&self) -> Vec<u16> {
        self.listen.as_ref().map_or_else(
            || vec![7070],
            |addresses| addresses.iter().map(SocketAddr::port).collect(),
        )
    }
}

/// A default of the table, read; the table's tests show that each can be.
fn parse_default<T>(parse: fn(&str) -> Result<T, ExpectedText>, default: &str) -> T {
    parse(default)
        .unwrap_or_else(|expected| unreachable!("the default `{default}` is not {expected}"))
}

fn passthrough_env(pod_annotations: &PodAnnotations<'_>, redis: bool) -> Vec<(String, String)> {
    let rows = annotations().filter(|row| redis || !row.annotation.needs_redis);
    let variable = |row: PodSetting| {
        let value = pod_annotations.get(row.name())?;
        Some((row.passthrough_variable()?, value.to_owned()))
    };
    rows.filter_map(variable).collect()
}

/// Annotations of the pod that mean nothing without another one. A default that means nothing is
/// just left out.
fn check_prerequisites(pod_annotations: &PodAnnotations<'_>) -> Vec<InjectionRefusal> {
    let refusal = |name: &'static str, needs| {
        pod_annotations.pod.contains_key(name).then(|| InjectionRefusal {
            at: annotation_path(name),
            reason: RefusalReason::MissingPrerequisite { name, needs },
        })
    };
    let mut refusals = Vec::new();
    if !pod_annotations.has_redis() {
        let needy = annotations().filter(|row| row.annotation.needs_redis);
        refusals.extend(needy.filter_map(|row| refusal(row.name(), "`bfb.dev/redis`")));
    }
    if !matches!(
        pod_annotations.parse("identity", parse::identity),
        Some(IdentitySource::Issuer { .. })
    ) {
        refusals.extend(refusal("identity-names", "an issuer in `bfb.dev/identity`"));
    }
    refusals
}

/// How long the sidecar may drain, if not as long as it does by itself. The pod's own word is kept
/// or refused; what holds for all pods is shortened for one that has less time.
fn drain_time(
    annotations: &PodAnnotations<'_>,
    grace: u64,
) -> Result<Option<String>, InjectionRefusal> {
    let longest = Duration::from_secs(grace.saturating_sub(AFTER_DRAIN_SECONDS).max(1));
    let shortened = || Some(format!("{}s", longest.as_secs()));
    match (annotations.get("drain"), annotations.parse("drain", str::parse::<DrainTime>)) {
        (Some(text), Some(drain)) if annotations.pod.contains_key("drain") => {
            if drain.duration() > Duration::from_secs(grace) {
                let reason = RefusalReason::DrainTooLong { drain: text.to_owned(), grace };
                return Err(InjectionRefusal { at: annotation_path("drain"), reason });
            }
            Ok(Some(text.to_owned()))
        }
        (Some(text), Some(drain)) if drain.duration() <= longest => Ok(Some(text.to_owned())),
        (None, _) if DrainTime::default().duration() <= longest => Ok(None),
        _ => Ok(shortened()),
    }
}
