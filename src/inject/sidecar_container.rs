//! The container of the sidecar: a native sidecar container, which complies with the *restricted*
//! Pod Security Standard.
//!
//! It is configured by variables alone, so that `kubectl exec POD -c bfb -- bfb status` finds the
//! same ports by the same variables. Its admin port is a socket in a volume that no other container
//! mounts.

use serde_json::{Value, json};

use super::parse::{IdentitySource, KeyRef, ObjectRef, UrlSource};
use super::sidecar_settings::SidecarSettings;
use super::volumes::{DOMAINS_DIR, IDENTITY_DIR, REDIS_DIR, REDIS_IDENTITY_DIR, VolumeName};

/// The container's name.
pub(super) const CONTAINER_NAME: &str = "bfb";
/// The folder of the socket of `bfb.dev/unix-socket`, in every container.
pub(super) const SOCKET_DIR: &str = "/run/bfb";
/// The folder of the admin port's socket, in the sidecar alone.
const ADMIN_DIR: &str = "/run/bfb-admin";

/// The container of a sidecar with these settings.
pub(super) fn build_container(settings: &SidecarSettings) -> Value {
    let port = settings.probes.port();
    let probe = |path: &str, period: u32, failures: u32| {
        json!({
            "httpGet": {"path": path, "port": port},
            "periodSeconds": period, "timeoutSeconds": 2, "failureThreshold": failures,
        })
    };
    let mut container = json!({
        "name": CONTAINER_NAME,
        "image": settings.image,
        "restartPolicy": "Always",
        "args": ["serve", DOMAINS_DIR],
        "env": env_vars(settings),
        "ports": [{"name": "bfb-probes", "containerPort": port, "protocol": "TCP"}],
        // The application starts after this probe has succeeded: it runs each second, and gives the
        // sidecar a minute.
        "startupProbe": probe("/startupz", 1, 60),
        "livenessProbe": probe("/livez", 10, 3),
        "readinessProbe": probe("/readyz", 5, 3),
        "resources": settings.resources.to_value(),
        "securityContext": security_context(settings.user),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": volume_mounts(settings),
    });
    if !settings.env_from.is_empty() {
        let source = |object: &ObjectRef| match object {
            ObjectRef::Secret(name) => json!({"secretRef": {"name": name}}),
            ObjectRef::ConfigMap(name) => json!({"configMapRef": {"name": name}}),
        };
        container["envFrom"] = settings.env_from.iter().map(source).collect();
    }
    container
}

/// The mount by which another container of the pod reaches the sidecar's socket.
pub(super) fn shared_mount() -> Value {
    volume_mount(VolumeName::SOCKET, SOCKET_DIR, true)
}

fn security_context(user: Option<u32>) -> Value {
    let mut context = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    if let Some(user) = user {
        context["runAsUser"] = json!(user);
        context["runAsGroup"] = json!(user);
    }
    context
}

fn env_vars(settings: &SidecarSettings) -> Value {
    let var_from = |name: &str, source: Value| json!({"name": name, "valueFrom": source});
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    let mut env = vec![
        var_from("POD_NAME", field("metadata.name")),
        var_from("POD_NAMESPACE", field("metadata.namespace")),
    ];
    if settings.env_from.is_empty() {
        // Variables of `env-from` may set the attributes too, and `env` would override them.
        let attributes = "k8s.pod.name=$(POD_NAME),k8s.namespace.name=$(POD_NAMESPACE)";
        env.push(json!({"name": "OTEL_RESOURCE_ATTRIBUTES", "value": attributes}));
    }
    let mut set_var =
        |name: &str, value: &str| env.push(json!({"name": name, "value": escape_dollars(value)}));
    set_var("BFB_ADMIN", &format!("unix:{ADMIN_DIR}/admin.sock"));
    set_var("BFB_PROBES", &settings.probes.to_string());
    if let Some(listen) = listen_addresses(settings) {
        set_var("BFB_LISTEN", &listen);
    }
    if settings.unix_socket {
        // Only the containers of this pod mount the volume, so users of any id may connect.
        set_var("BFB_SOCKET_MODE", "0666");
    }
    if settings.identity != IdentitySource::None {
        set_var("BFB_IDENTITY", IDENTITY_DIR);
    }
    if let Some(drain) = &settings.drain {
        set_var("BFB_DRAIN", drain);
    }
    let files = [
        (settings.redis_auth.is_some(), "BFB_REDIS_AUTH", format!("{REDIS_DIR}/auth")),
        (settings.redis_ca.is_some(), "BFB_REDIS_CA", format!("{REDIS_DIR}/ca.crt")),
        (settings.redis_identity.is_some(), "BFB_REDIS_IDENTITY", REDIS_IDENTITY_DIR.to_owned()),
        (settings.seal_key.is_some(), "BFB_SEAL_KEY", format!("{REDIS_DIR}/seal")),
    ];
    for (_, name, path) in files.iter().filter(|(is_set, ..)| *is_set) {
        set_var(name, path);
    }
    for (name, value) in &settings.passthrough_env {
        set_var(name, value);
    }
    env.extend(settings.redis.as_ref().and_then(redis_var));
    Value::Array(env)
}

fn redis_var(url: &UrlSource) -> Option<Value> {
    let name = "BFB_REDIS";
    match url {
        UrlSource::Plain(url) => Some(json!({"name": name, "value": escape_dollars(url)})),
        UrlSource::Secret(KeyRef { object: ObjectRef::Secret(secret), key }) => {
            let source = json!({"secretKeyRef": {"name": secret, "key": key}});
            Some(json!({"name": name, "valueFrom": source}))
        }
        UrlSource::Secret(_) => None,
    }
}

/// Escapes dollars: Kubernetes expands `$(NAME)` in a variable, and reads `$$` as a dollar.
fn escape_dollars(value: &str) -> String {
    value.replace('$', "$$")
}

/// The value of `BFB_LISTEN`, if it is not the default of `bfb serve`.
fn listen_addresses(settings: &SidecarSettings) -> Option<String> {
    let tcp_addresses = settings
        .listen
        .as_ref()
        .map(|addresses| addresses.iter().map(ToString::to_string).collect::<Vec<_>>());
    if !settings.unix_socket {
        return tcp_addresses.map(|addresses| addresses.join(","));
    }
    // Without `[::1]`: an address that is named here must exist, and a node may have no IPv6.
    let mut addresses = tcp_addresses.unwrap_or_else(|| vec!["127.0.0.1:7070".to_owned()]);
    addresses.push(format!("unix:{SOCKET_DIR}/bfb.sock"));
    Some(addresses.join(","))
}

fn volume_mounts(settings: &SidecarSettings) -> Value {
    let has_redis_files = [&settings.redis_auth, &settings.redis_ca, &settings.seal_key]
        .iter()
        .any(|key| key.is_some());
    let mounts = [
        (true, volume_mount(VolumeName::DOMAINS, DOMAINS_DIR, true)),
        (
            settings.identity != IdentitySource::None,
            volume_mount(VolumeName::IDENTITY, IDENTITY_DIR, true),
        ),
        (true, volume_mount(VolumeName::ADMIN, ADMIN_DIR, false)),
        (settings.unix_socket, volume_mount(VolumeName::SOCKET, SOCKET_DIR, false)),
        (has_redis_files, volume_mount(VolumeName::REDIS, REDIS_DIR, true)),
        (
            settings.redis_identity.is_some(),
            volume_mount(VolumeName::REDIS_IDENTITY, REDIS_IDENTITY_DIR, true),
        ),
    ];
    mounts.into_iter().filter(|(is_needed, _)| *is_needed).map(|(_, mount)| mount).collect()
}

fn volume_mount(volume: &str, path: &str, is_read_only: bool) -> Value {
    if is_read_only {
        json!({"name": volume, "mountPath": path, "readOnly": true})
    } else {
        json!({"name": volume, "mountPath": path})
    }
}
