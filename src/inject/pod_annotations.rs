//! The annotations of one pod, over the defaults that hold for all pods.

use std::collections::BTreeMap;

use super::annotations::{self, PREFIX, PodSetting};
use super::change::FieldPath;
use super::parse::{self, InjectRequest};
use super::refusal::{InjectionRefusal, RefusalReason};
use crate::diagnostics::quote;
use crate::settings::AnnotationWriter;

/// The domains and annotations of pods that do not set their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Defaults {
    /// The domains of a pod that names none; empty where only pods that ask get a sidecar.
    domains: Vec<String>,
    /// Values by the annotations' names without their prefix, each checked.
    annotations: BTreeMap<&'static str, String>,
}

impl Defaults {
    /// Checks the defaults: `domains` for every pod that names none, and `annotations` (with or
    /// without their prefix) for every pod that has not its own. The error is every problem found,
    /// a message each.
    pub fn new(domains: &[String], annotations: &[(String, String)]) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut defaults = Self::default();
        if !domains.is_empty() {
            match parse::domains(&domains.join(",")) {
                Ok(domains) => defaults.domains = domains,
                Err(expected) => {
                    problems.push(format!(
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
                    let message =
                        format!("`{name}` cannot be {}: expected {expected}", quote(value));
                    problems.push(message);
                }
                None => {
                    let near = annotations::nearest_to(name).filter(|near| *near != name);
                    let hint =
                        near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                    problems.push(format!("there is no default {}{hint}", quote(name)));
                }
            }
        }
        if problems.is_empty() { Ok(defaults) } else { Err(problems) }
    }

    /// The defaults for the pods of a namespace whose label `bfb.dev/inject` has the value `label`:
    /// domain names with dots between them, since the value of a label holds no comma; or `false`.
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

/// The annotations of one pod, each with a known name and a checked value, over the defaults.
#[derive(Debug)]
pub(super) struct PodAnnotations<'a> {
    /// The pod's own, by their names without their prefix.
    pub(super) pod: BTreeMap<&'static str, &'a str>,
    pub(super) defaults: &'a Defaults,
}

/// The path of the annotation `name` (without its prefix) in a pod.
pub(super) fn annotation_path(name: &str) -> FieldPath {
    FieldPath::root().key("metadata").key("annotations").key(&format!("{PREFIX}{name}"))
}

impl PodAnnotations<'_> {
    /// The domains of the pod's sidecar, or `None` for a pod without one. The error is for a pod
    /// that has annotations of a sidecar, but neither domains nor a default for them.
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

    /// The value of an annotation: the pod's own, or else the default.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.pod
            .get(name)
            .copied()
            .or_else(|| self.defaults.annotations.get(name).map(String::as_str))
    }

    /// The parsed value of an annotation. Values were checked, so none fails to parse.
    pub(super) fn parse<T, E>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        self.get(name).and_then(|text| parse(text).ok())
    }

    pub(super) fn is_true(&self, name: &str) -> bool {
        self.parse(name, parse::boolean).unwrap_or(false)
    }

    /// Whether the sidecar may use Redis: `redis` names one, or `env-from` brings variables of
    /// which one may be `BFB_REDIS`.
    pub(super) fn has_redis(&self) -> bool {
        self.get("redis").is_some() || self.get("env-from").is_some()
    }
}
