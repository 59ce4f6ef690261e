//! The volumes of a sidecar, for its domain files, its certificates and keys, and its sockets.

use serde_json::{Value, json};

use super::parse::{IdentitySource, KeyRef, ObjectRef, config_map_name};
use super::sidecar_settings::SidecarSettings;

/// The folder of the domain files, in the sidecar's container.
pub(super) const DOMAINS_DIR: &str = "/etc/bfb/domains";
/// The folder of the certificate.
pub(super) const IDENTITY_DIR: &str = "/etc/bfb/identity";
/// The folder of Redis's password, of its authorities, and of the keys that seal entries in Redis.
pub(super) const REDIS_DIR: &str = "/etc/bfb/redis";
/// The folder of the sidecar's certificate for Redis.
pub(super) const REDIS_IDENTITY_DIR: &str = "/etc/bfb/redis-identity";

/// The names of all volumes that a sidecar may have.
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

/// The volumes that a sidecar of these settings needs.
pub(super) fn build_volumes(settings: &SidecarSettings) -> Vec<Value> {
    let config_maps = settings
        .domains
        .iter()
        .map(|domain| json!({"configMap": {"name": config_map_name(domain)}}));
    let sources: Vec<Value> = config_maps.collect();
    let mut volumes = vec![json!({"name": VolumeName::DOMAINS, "projected": {"sources": sources}})];
    volumes.extend(identity_volume(settings));
    volumes.push(socket_volume(VolumeName::ADMIN));
    if settings.unix_socket {
        volumes.push(socket_volume(VolumeName::SOCKET));
    }
    let redis_files = [
        (&settings.redis_auth, "auth"),
        (&settings.redis_ca, "ca.crt"),
        (&settings.seal_key, "seal"),
    ];
    let sources: Vec<Value> = redis_files
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

/// The volume of a socket. It is in memory: a volume on the node's disk would keep the cluster
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

/// Sets the group that may read the key; without it, these drivers let only root read it.
fn set_group(attributes: &mut Value, driver: &str, user: Option<u32>) {
    if let Some(group) = user {
        attributes[format!("{driver}/fs-group")] = json!(group.to_string());
    }
}

/// The projection of one key of a Secret or `ConfigMap` as a file.
fn key_projection(key: &KeyRef, file: &str) -> Value {
    let items = json!([{"key": key.key, "path": file}]);
    match &key.object {
        ObjectRef::Secret(name) => json!({"secret": {"name": name, "items": items}}),
        ObjectRef::ConfigMap(name) => json!({"configMap": {"name": name, "items": items}}),
    }
}
