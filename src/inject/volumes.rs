//! The volumes of a sidecar: its domain files, its certificates, and the folders of its sockets.

use serde_json::{Value, json};

use super::settings::Settings;
use super::sidecar::Volume;
use super::words::{Identity, KeyOf, Object, config_map};

/// Where the domain files are.
pub(super) const DOMAINS_DIR: &str = "/etc/bfb/domains";
/// Where the certificate is.
pub(super) const IDENTITY_DIR: &str = "/etc/bfb/identity";
/// Where Redis's password and authorities are, and the keys that seal what it keeps.
pub(super) const REDIS_DIR: &str = "/etc/bfb/redis";
/// Where our certificate towards Redis is.
pub(super) const REDIS_IDENTITY_DIR: &str = "/etc/bfb/redis-identity";

/// Every volume that the sidecar needs.
pub(super) fn of(settings: &Settings) -> Vec<Value> {
    let configs =
        settings.domains.iter().map(|domain| json!({"configMap": {"name": config_map(domain)}}));
    let sources: Vec<Value> = configs.collect();
    let mut volumes = vec![json!({"name": Volume::DOMAINS, "projected": {"sources": sources}})];
    volumes.extend(identity(settings));
    volumes.push(sockets(Volume::ADMIN));
    if settings.unix_socket {
        volumes.push(sockets(Volume::SOCKET));
    }
    let redis = [
        (&settings.redis_auth, "auth"),
        (&settings.redis_ca, "ca.crt"),
        (&settings.seal_key, "seal"),
    ];
    let sources: Vec<Value> =
        redis.into_iter().filter_map(|(key, file)| Some(projection(key.as_ref()?, file))).collect();
    if !sources.is_empty() {
        volumes.push(json!({"name": Volume::REDIS, "projected": {"sources": sources}}));
    }
    if let Some(secret) = &settings.redis_identity {
        volumes.push(json!({"name": Volume::REDIS_IDENTITY, "secret": {"secretName": secret}}));
    }
    volumes
}

/// A folder for a socket. In memory, since a volume on the node's disk keeps the cluster's
/// autoscaler from removing the node (kubernetes/autoscaler#5551).
fn sockets(name: &str) -> Value {
    json!({"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}})
}

fn identity(settings: &Settings) -> Option<Value> {
    let csi = |driver: &str, attributes: Value| {
        let mut csi = json!({"driver": driver, "readOnly": true});
        if attributes.as_object().is_some_and(|attributes| !attributes.is_empty()) {
            csi["volumeAttributes"] = attributes;
        }
        json!({"name": Volume::IDENTITY, "csi": csi})
    };
    match &settings.identity {
        Identity::None => None,
        Identity::Secret(name) => {
            Some(json!({"name": Volume::IDENTITY, "secret": {"secretName": name}}))
        }
        Identity::Issuer { kind, name } => {
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
        Identity::Spiffe => {
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
fn projection(key: &KeyOf, file: &str) -> Value {
    let items = json!([{"key": key.key, "path": file}]);
    match &key.object {
        Object::Secret(name) => json!({"secret": {"name": name, "items": items}}),
        Object::ConfigMap(name) => json!({"configMap": {"name": name, "items": items}}),
    }
}
