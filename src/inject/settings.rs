//! From annotations and defaults to what a sidecar is told, or to everything that contradicts
//! itself in them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::annotations::{self, By, PREFIX, annotations};
use super::change::Path;
use super::refusal::{Refusal, Why};
use super::resources::{self, Resources};
use super::words::{self, Expected, Identity, KeyOf, Object, Url, Wanted};
use crate::domain::quote;

/// How long Kubernetes waits for a pod to stop where the pod does not say.
pub(super) const GRACE_SECONDS: u64 = 30;
/// How long `bfb serve` drains where nothing says otherwise.
const DRAIN_SECONDS: u64 = 25;
/// What is left of the grace once the drain is over.
const AFTER_DRAIN_SECONDS: u64 = 5;

/// Annotations that mean nothing without a Redis.
const OF_REDIS: [&str; 8] = [
    "redis-auth",
    "redis-ca",
    "redis-identity",
    "seal-key",
    "namespace",
    "lease",
    "failover-grace",
    "bus-loss",
];

/// What holds for all pods that do not say otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Defaults {
    /// The domains of a pod that names none; empty where only pods that ask get a sidecar.
    domains: Vec<String>,
    set: BTreeMap<&'static str, String>,
}

impl Defaults {
    /// `domains` go to every pod that names none; `set` are annotations (without their prefix) that
    /// every pod has unless it has its own. What is wrong with them comes back in words, all of it.
    pub fn new(domains: &[String], set: &[(String, String)]) -> Result<Self, Vec<String>> {
        let mut wrong = Vec::new();
        let mut defaults = Self::default();
        if !domains.is_empty() {
            match words::domains(&domains.join(",")) {
                Ok(domains) => defaults.domains = domains,
                Err(expected) => {
                    wrong.push(format!(
                        "{} cannot be domains: expected {expected}",
                        quote(&domains.join(","))
                    ));
                }
            }
        }
        for (name, value) in set {
            let name = name.strip_prefix(PREFIX).unwrap_or(name);
            let row = annotations::find(name).filter(|row| row.by == By::PodOrDefault);
            match row.map(|row| (row, row.check(value))) {
                Some((row, Ok(()))) => drop(defaults.set.insert(row.name, value.clone())),
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
            _ => words::domains(&label.replace('.', ",")).map_err(str::to_owned)?,
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
pub(super) struct Facts {
    /// How long it has to stop.
    pub(super) grace_seconds: u64,
    /// Whether it is of the class Guaranteed.
    pub(super) guaranteed: bool,
}

/// What one sidecar is told.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) domains: Vec<String>,
    pub(super) image: String,
    pub(super) identity: Identity,
    /// URIs and DNS names.
    pub(super) identity_names: (Vec<String>, Vec<String>),
    pub(super) env_from: Vec<Object>,
    pub(super) redis: Option<Url>,
    pub(super) redis_auth: Option<KeyOf>,
    pub(super) redis_ca: Option<KeyOf>,
    pub(super) redis_identity: Option<String>,
    pub(super) seal_key: Option<KeyOf>,
    pub(super) store: Option<Url>,
    pub(super) listen: Option<Vec<SocketAddr>>,
    pub(super) unix_socket: bool,
    pub(super) probes: SocketAddr,
    /// `None`: as long as `bfb serve` does.
    pub(super) drain: Option<String>,
    pub(super) user: Option<u32>,
    pub(super) resources: Resources,
    /// Variables that are values as they were written.
    pub(super) as_they_are: Vec<(String, String)>,
}

/// The annotations of one pod, each known and right in itself, over the defaults.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) pod: BTreeMap<&'static str, &'a str>,
    pub(super) defaults: &'a Defaults,
}

/// Where an annotation stands in a pod.
pub(super) fn place(name: &str) -> Path {
    Path::root().key("metadata").key("annotations").key(&format!("{PREFIX}{name}"))
}

impl Asked<'_> {
    /// The domains, or `None` for a pod that shall have no sidecar, or why that cannot be told.
    pub(super) fn domains(&self) -> Result<Option<Vec<String>>, Refusal> {
        let wanted = self.pod.get("inject").and_then(|text| words::wanted(text).ok());
        match wanted {
            Some(Wanted::Nothing) => Ok(None),
            Some(Wanted::Domains(domains)) => Ok(Some(domains)),
            _ if !self.defaults.domains.is_empty() => Ok(Some(self.defaults.domains.clone())),
            Some(Wanted::Default) => Err(Refusal { at: place("inject"), why: Why::NoDomain }),
            None => match self.pod.keys().find(|name| !matches!(**name, "status" | "undo")) {
                Some(name) => Err(Refusal { at: place(name), why: Why::NotAsked { name } }),
                None => Ok(None),
            },
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.pod.get(name).copied().or_else(|| self.defaults.set.get(name).map(String::as_str))
    }

    fn read<T>(&self, name: &str, parse: impl FnOnce(&str) -> Result<T, Expected>) -> Option<T> {
        self.get(name).and_then(|text| parse(text).ok())
    }

    fn is(&self, name: &str) -> bool {
        self.read(name, words::boolean).unwrap_or(false)
    }

    /// Whether there may be a Redis: one that is named, or one in variables that we do not see.
    fn has_redis(&self) -> bool {
        self.get("redis").is_some() || self.get("env-from").is_some()
    }
}

impl Settings {
    /// What the sidecar of such a pod is told, or everything that contradicts itself.
    pub(super) fn of(
        asked: &Asked<'_>,
        domains: Vec<String>,
        facts: Facts,
    ) -> Result<Self, Vec<Refusal>> {
        let mut refusals = needs(asked);
        let resources = resources::of(asked, facts.guaranteed).unwrap_or_else(|refused| {
            refusals.extend(refused);
            Resources::default()
        });
        let drain = drain(asked, facts.grace_seconds).unwrap_or_else(|refused| {
            refusals.push(refused);
            None
        });
        let redis = asked.has_redis();
        let identity = asked.read("identity", words::identity);
        let settings = Self {
            domains,
            image: asked.get("image").unwrap_or(annotations::IMAGE).to_owned(),
            identity: identity
                .unwrap_or_else(|| or_default(words::identity, annotations::IDENTITY)),
            identity_names: asked
                .read("identity-names", words::names)
                .unwrap_or_else(|| or_default(words::names, annotations::IDENTITY_NAMES)),
            env_from: asked.read("env-from", words::objects).unwrap_or_default(),
            redis: asked.read("redis", words::url),
            redis_auth: asked.read("redis-auth", words::secret_key).filter(|_| redis),
            redis_ca: asked.read("redis-ca", words::key).filter(|_| redis),
            redis_identity: asked.read("redis-identity", words::secret).filter(|_| redis),
            seal_key: asked.read("seal-key", words::secret_key).filter(|_| redis),
            store: asked.read("store", words::url),
            listen: asked.read("listen", words::listen),
            unix_socket: asked.is("unix-socket"),
            probes: asked
                .read("probes", words::probes)
                .unwrap_or_else(|| or_default(words::probes, annotations::PROBES)),
            drain,
            user: asked
                .read("user", words::user)
                .unwrap_or_else(|| or_default(words::user, annotations::USER)),
            resources,
            as_they_are: as_they_are(asked, redis),
        };
        if settings.ports().contains(&settings.probes.port()) {
            let why = Why::SamePort { port: settings.probes.port() };
            refusals.push(Refusal {
                at: place(if asked.get("probes").is_some() { "probes" } else { "listen" }),
                why,
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
fn or_default<T>(parse: fn(&str) -> Result<T, Expected>, default: &str) -> T {
    parse(default)
        .unwrap_or_else(|expected| unreachable!("the default `{default}` is not {expected}"))
}

fn as_they_are(asked: &Asked<'_>, redis: bool) -> Vec<(String, String)> {
    let rows =
        annotations().iter().filter(|row| row.as_it_is && (redis || !OF_REDIS.contains(&row.name)));
    rows.filter_map(|row| Some((row.variable()?, asked.get(row.name)?.to_owned()))).collect()
}

/// Annotations of the pod that mean nothing without another one. A default that means nothing is
/// just left out.
fn needs(asked: &Asked<'_>) -> Vec<Refusal> {
    let refused = |name: &'static str, needs| {
        asked
            .pod
            .contains_key(name)
            .then(|| Refusal { at: place(name), why: Why::Needs { name, needs } })
    };
    let mut refusals = Vec::new();
    if !asked.has_redis() {
        refusals.extend(OF_REDIS.into_iter().filter_map(|name| refused(name, "`bfb.dev/redis`")));
    }
    if !matches!(asked.read("identity", words::identity), Some(Identity::Issuer { .. })) {
        refusals.extend(refused("identity-names", "an issuer in `bfb.dev/identity`"));
    }
    refusals
}

/// How long the sidecar may drain, if not as long as it does by itself. The pod's own word is kept
/// or refused; what holds for all pods is shortened for one that has less time.
fn drain(asked: &Asked<'_>, grace: u64) -> Result<Option<String>, Refusal> {
    let room = Duration::from_secs(grace.saturating_sub(AFTER_DRAIN_SECONDS).max(1));
    let shortened = || Some(format!("{}s", room.as_secs()));
    match (asked.get("drain"), asked.read("drain", words::duration)) {
        (Some(text), Some(drain)) if asked.pod.contains_key("drain") => {
            if drain > Duration::from_secs(grace) {
                let why = Why::DrainTooLong { drain: text.to_owned(), grace };
                return Err(Refusal { at: place("drain"), why });
            }
            Ok(Some(text.to_owned()))
        }
        (Some(text), Some(drain)) if drain <= room => Ok(Some(text.to_owned())),
        (None, _) if Duration::from_secs(DRAIN_SECONDS) <= room => Ok(None),
        _ => Ok(shortened()),
    }
}
