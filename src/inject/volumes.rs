//! The volumes of a sidecar: its domain files, its certificates, and the folders of its sockets.

use serde_json::{Value, json};

use super::parse::{IdentitySource, KeyRef, ObjectRef, config_map_name};
use super::sidecar_settings::SidecarSettings;

/// Where the domain files are.
pub(super) const DOMAINS_DIR: &str = "/etc/bfb/domains";
/// Where the certificate is.
pub(super) const IDENTITY_DIR: &str = "/etc/bfb/identity";
/// Where Redis's password and authorities are, and the keys that seal what it keeps.
pub(super) const REDIS_DIR: &str = "/etc/bfb/redis";
/// Where our certificate towards Redis is.
pub(super) const REDIS_IDENTITY_DIR: &str = "/etc/bfb/redis-identity";

/// Every volume that a sidecar may have, by its name.
pub(super) const VOLUME_NAMES: [&str; 6] = [
    VolumeName::DOMAINS,
    VolumeName::IDENTITY,
    VolumeName::ADMIN,
    VolumeName::SOCKET,
    VolumeName::REDIS,
    VolumeName::REDIS_IDENTITY,
];

/// The names of the volumes.
pub(super) struct VolumeName;

impl VolumeName {
    pub(super) const DOMAINS: &str = "bfb-domains";
    pub(super) const IDENTITY: &str = "bfb-identity";
    pub(super) const ADMIN: &str = "bfb-admin";
    pub(super) const SOCKET: &str = "bfb-socket";
    pub(super) const REDIS: &str = "bfb-redis";
    pub(super) const REDIS_IDENTITY: &str = "bfb-redis-identity";
}

/// Every volume that the sidecar needs.
pub(super) fn build_volumes(settings: &SidecarSettings) -> Vec<Value> {
    let configs = settings
        .domains
        .iter()
        .map(|domain| json!({"configMap": {"name": config_map_name(domain)}}));
    let sources: Vec<Value> = configs.collect();
    let mut volumes = vec![json!({"name": VolumeName::DOMAINS, "projected": {"sources": sources}})];
    volumes.extend(identity_volume(settings));
    volumes.push(socket_volume(VolumeName::ADMIN));
    if settings.unix_socket {
        volumes.push(socket_volume(VolumeName::SOCKET));
    }
    let redis = [
        (&settings.redis_auth, "auth"),
        (&settings.redis_ca, "ca.crt"),
        (&settings.seal_key, "seal"),
    ];
    let sources: Vec<Value> = redis
        .into_iter()
        .filter_map(|(key, file)| Some(key_projection(key.as_ref()?, file)))
        .collect();
    if !sources.is_empty() {
        volumes.push(json!({"name": VolumeName::REDIS, "projected": {"sources": sources}}));
    }
    if let Some(secret) = &settings.redis_identity {
        volumes.push(json!({"name": VolumeName::REDIS_IDENTITY, "secret": {"secretName": secret}}));
    }
    volumes
}

/// A folder for a socket. In memory, since a volume on the node's disk keeps the cluster's
/// autoscaler from removing the node (kubernetes/autoscaler#5551).
fn socket_volume(name: &str) -> Value {
    json!({"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}})
}

fn identity_volume(settings: &SidecarSettings) -> Option<Value> {
    let csi = |driver: &str, attributes: Value| {
        let mut csi = json!({"driver": driver, "readOnly": true});
        if attributes.as_object().is_some_and(|attributes| !attributes.is_empty()) {
            csi["volumeAttributes"] = attributes;
        }
        json!({"name": VolumeName::IDENTITY, "csi": csi})
    };
    match &settings.identity {
        IdentitySource::None => None,
        IdentitySource::Secret(name) => {
            Some(json!({"name": VolumeName::IDENTITY, "secret": {"secretName": name}}))
        }
        IdentitySource::Issuer { kind, name } => {
            const DRIVER: &str = "csi.cert-manager.io";
            let (uris, dns) = &settings.identity_names;
            let mut attributes = json!({
                format!("{DRIVER}/issuer-kind"): kind,
                format!("{DRIVER}/issuer-name"): name,
                format!("{DRIVER}/key-usages"): "digital signature,client auth",
            });
            for (key, names) in [("uri-sans", uris), ("dns-names", dns)] {
                if !names.is_empty() {
                    attributes[format!("{DRIVER}/{key}")] = json!(names.join(","));
                }
            }
            set_group(&mut attributes, DRIVER, settings.user);
            Some(csi(DRIVER, attributes))
        }
        IdentitySource::Spiffe => {
            const DRIVER: &str = "spiffe.csi.cert-manager.io";
            let mut attributes = json!({});
            set_group(&mut attributes, DRIVER, settings.user);
            Some(csi(DRIVER, attributes))
        }
    }
}

/// These drivers give the key to root alone unless they are told the group that may read it.
fn set_group(attributes: &mut Value, driver: &str, user: Option<u32>) {
    if let Some(group) = user {
        attributes[format!("{driver}/fs-group")] = json!(group.to_string());
    }
}

/// One key of a Secret or of a `ConfigMap` as a file.
fn key_projection(key: &KeyRef, file: &str) -> Value {
    let items = json!([{"key": key.key, "path": file}]);
    match &key.object {
        ObjectRef::Secret(name) => json!({"secret": {"name": name, "items": items}}),
        ObjectRef::ConfigMap(name) => json!({"configMap": {"name": name, "items": items}}),
    }
}
