//! The settings of one sidecar, made from the annotations of its pod and the defaults; or every
//! contradiction between them.

use std::net::SocketAddr;
use std::time::Duration;

use super::annotations::{PodSetting, annotations};
use super::container_resources::{self, ContainerResources};
use super::parse::{self, ExpectedText, IdentitySource, KeyRef, ObjectRef, UrlSource};
use super::pod_annotations::{PodAnnotations, annotation_path};
use super::refusal::{InjectionRefusal, RefusalReason};
use crate::settings::{self, DrainTime};

/// The default of a pod's `terminationGracePeriodSeconds`, in Kubernetes.
pub(super) const DEFAULT_GRACE_SECONDS: u64 = 30;
/// The part of the grace period that a shortened drain leaves to the rest of the shutdown.
const AFTER_DRAIN_SECONDS: u64 = 5;

/// The properties of a pod that its sidecar's settings depend on.
#[derive(Debug, Clone, Copy)]
pub(super) struct PodFacts {
    /// Its `terminationGracePeriodSeconds`.
    pub(super) grace_seconds: u64,
    /// Whether its quality-of-service class is Guaranteed.
    pub(super) is_guaranteed: bool,
}

/// The settings of one sidecar.
#[derive(Debug)]
pub(super) struct SidecarSettings {
    pub(super) domains: Vec<String>,
    pub(super) image: String,
    pub(super) identity: IdentitySource,
    /// The names in the certificate: URIs, and DNS names.
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
    /// `None` for the default of `bfb serve`.
    pub(super) drain: Option<String>,
    pub(super) user: Option<u32>,
    pub(super) resources: ContainerResources,
    /// Variables whose values are those of annotations, unchanged.
    pub(super) passthrough_env: Vec<(String, String)>,
}

impl SidecarSettings {
    /// The settings of the sidecar of a pod with these annotations, or every contradiction.
    pub(super) fn from_annotations(
        annotations: &PodAnnotations<'_>,
        domains: Vec<String>,
        facts: PodFacts,
    ) -> Result<Self, Vec<InjectionRefusal>> {
        let mut refusals = check_prerequisites(annotations);
        let resources = container_resources::container_resources(annotations, facts.is_guaranteed)
            .unwrap_or_else(|contradictions| {
                refusals.extend(contradictions);
                ContainerResources::default()
            });
        let drain = drain_time(annotations, facts.grace_seconds).unwrap_or_else(|refusal| {
            refusals.push(refusal);
            None
        });
        let has_redis = annotations.has_redis();
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
            redis_auth: annotations.parse("redis-auth", parse::secret_key).filter(|_| has_redis),
            redis_ca: annotations.parse("redis-ca", parse::key).filter(|_| has_redis),
            redis_identity: annotations
                .parse("redis-identity", parse::secret)
                .filter(|_| has_redis),
            seal_key: annotations.parse("seal-key", parse::secret_key).filter(|_| has_redis),
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
            passthrough_env: passthrough_env(annotations, has_redis),
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

    /// The ports on which the sidecar serves the pod's containers.
    pub(super) fn ports(&self) -> Vec<u16> {
        self.listen.as_ref().map_or_else(
            || vec![7070],
            |addresses| addresses.iter().map(SocketAddr::port).collect(),
        )
    }
}

/// The parsed default of an annotation. The tests of the table parse every default.
fn parse_default<T>(parse: fn(&str) -> Result<T, ExpectedText>, default: &str) -> T {
    parse(default)
        .unwrap_or_else(|expected| unreachable!("the default `{default}` is not {expected}"))
}

fn passthrough_env(pod_annotations: &PodAnnotations<'_>, has_redis: bool) -> Vec<(String, String)> {
    let rows = annotations().filter(|row| has_redis || !row.annotation.needs_redis);
    let variable = |row: PodSetting| {
        let value = pod_annotations.get(row.name())?;
        Some((row.passthrough_variable()?, value.to_owned()))
    };
    rows.filter_map(variable).collect()
}

/// Refuses annotations of the pod that have no effect without another one. Defaults without effect
/// are ignored.
fn check_prerequisites(pod_annotations: &PodAnnotations<'_>) -> Vec<InjectionRefusal> {
    let refusal = |name: &'static str, needs| {
        pod_annotations.pod.contains_key(name).then(|| InjectionRefusal {
            at: annotation_path(name),
            reason: RefusalReason::MissingPrerequisite { name, needs },
        })
    };
    let mut refusals = Vec::new();
    if !pod_annotations.has_redis() {
        let redis_settings = annotations().filter(|row| row.annotation.needs_redis);
        refusals.extend(redis_settings.filter_map(|row| refusal(row.name(), "`bfb.dev/redis`")));
    }
    if !matches!(
        pod_annotations.parse("identity", parse::identity),
        Some(IdentitySource::Issuer { .. })
    ) {
        refusals.extend(refusal("identity-names", "an issuer in `bfb.dev/identity`"));
    }
    refusals
}

/// The sidecar's drain time, or `None` for the default of `bfb serve`. A drain time of the pod's
/// own is taken or refused; a default is shortened to fit into the pod's grace period.
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
