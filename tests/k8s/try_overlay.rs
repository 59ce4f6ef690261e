//! The overlay `try`: its consumer gets a sidecar, finds everything that it names, and its
//! upstreams answer over mutual TLS with the certificates that the script makes.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::{items, object, read, rendered, root, text};
use crate::inject::{documents, injected, restricted, schemas};
use crate::support::sidecar::bfb;

/// The Secrets of `certificates.sh`.
fn certificates() -> Vec<Value> {
    let made = Command::new("sh").arg(root("k8s/overlays/try/certificates.sh")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    documents(&String::from_utf8(made.stdout).unwrap())
}

#[test]
fn the_consumer_gets_a_sidecar_that_finds_everything_it_names() {
    let text_of_all = read("tests/k8s/rendered/try.yaml");
    let after = documents(&injected(&[], &text_of_all));
    let consumer = object(&after, "Deployment", "consumer");
    schemas::assert_valid("the consumer", consumer);
    restricted::assert_restricted("the consumer", consumer);
    let pods: Vec<&Value> = after.iter().filter_map(restricted::pod).collect();
    assert_eq!(
        pods.iter().filter(|pod| pod["spec"]["initContainers"].is_array()).count(),
        1,
        "the consumer alone"
    );

    let secrets = certificates();
    let there: BTreeSet<(&str, &str)> = after
        .iter()
        .chain(&secrets)
        .filter(|it| matches!(text(&it["kind"]), "ConfigMap" | "Secret"))
        .inspect(|it| assert_eq!(it["metadata"]["namespace"], "bfb-try"))
        .map(|it| (text(&it["kind"]), text(&it["metadata"]["name"])))
        .collect();
    let mut named = BTreeSet::new();
    for pod in &pods {
        references(pod, &mut named);
    }
    assert!(named.len() >= 8, "{named:?}");
    assert_eq!(named.difference(&there).collect::<Vec<_>>(), Vec::<&(&str, &str)>::new());
}

/// The Secrets and the like that a pod names.
fn references<'v>(value: &'v Value, named: &mut BTreeSet<(&'v str, &'v str)>) {
    for (key, item) in value.as_object().into_iter().flatten() {
        let kind = match key.as_str() {
            "configMap" | "configMapRef" | "configMapKeyRef" => "ConfigMap",
            "secret" | "secretRef" | "secretKeyRef" => "Secret",
            _ => "",
        };
        let name = item.get("name").or_else(|| item.get("secretName")).and_then(Value::as_str);
        named.extend(name.filter(|_| !kind.is_empty()).map(|name| (kind, name)));
        references(item, named);
    }
    for item in items(value) {
        references(item, named);
    }
}

#[test]
fn the_domain_is_the_one_of_the_examples() {
    for file in ["customer.yaml", "customer.v2.json"] {
        assert_eq!(
            read(&format!("k8s/domains/customer/files/{file}")),
            read(&format!("examples/customer/{file}"))
        );
    }
    let objects = rendered("try");
    let domain = object(&objects, "ConfigMap", "bfb-domain-customer");
    assert_eq!(domain["data"]["customer.yaml"], read("examples/customer/customer.yaml"));
    let hosts = &object(&objects, "ConfigMap", "bfb-hosts")["data"];
    for (variable, host) in hosts.as_object().unwrap() {
        assert!(
            text(&domain["data"]["customer.yaml"]).contains(&format!("${{{variable}:-")),
            "{variable}"
        );
        let service = text(host).strip_suffix(".bfb-try:8443").unwrap();
        assert_eq!(object(&objects, "Service", service)["spec"]["ports"][0]["port"], 8443);
    }
}

/// Writes the Secrets as the kubelet mounts them: a folder each.
fn mount(secrets: &[Value], dir: &Path) {
    for secret in secrets {
        let name = text(&secret["metadata"]["name"]);
        let folder = dir.join(name.strip_prefix("upstream-").unwrap_or(name));
        fs::create_dir(&folder).unwrap();
        for (file, data) in secret["data"].as_object().unwrap() {
            fs::write(folder.join(file), decoded(text(data))).unwrap();
        }
    }
}

/// Base64, read.
fn decoded(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let value =
        |byte: u8| u32::try_from(LETTERS.iter().position(|it| *it == byte).unwrap()).unwrap();
    let mut decoded = Vec::new();
    let mut bits = 0;
    let mut held = 0;
    for byte in text.trim_end_matches('=').bytes() {
        bits = (bits << 6) | value(byte);
        held += 6;
        if held >= 8 {
            held -= 8;
            decoded.push(u8::try_from((bits >> held) & 0xff).unwrap());
        }
    }
    decoded
}

/// The upstreams; killed when dropped.
struct Upstreams(Child);

impl Drop for Upstreams {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_upstreams_answer_who_has_the_certificates_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    mount(&certificates(), dir.path());
    let mut command = bfb();
    // At ports that are free.
    command.args(["demo", "--control", "0", "--upstreams"]).arg(dir.path()).stdout(Stdio::piped());
    let mut upstreams = Upstreams(command.spawn().unwrap());
    let mut said = BufReader::new(upstreams.0.stdout.take().unwrap()).lines();
    let ports = said.next().unwrap().unwrap();
    let port = |name: &str| {
        let (_, rest) = ports.split_once(&format!("{name} ")).unwrap();
        rest.split(',').next().unwrap().to_owned()
    };
    let get = |identity: &str| {
        let mut command = bfb();
        command.args(["get", "--domain"]).arg(root("k8s/domains/customer/files"));
        command.arg("--identity").arg(dir.path().join(identity)).args(["customer", "42"]);
        for (name, host) in [
            ("profile", "127.0.0.1"),
            ("favorites", "localhost"),
            ("reviews", "localhost"),
            ("orders", "127.0.0.1"),
        ] {
            command.env(format!("{}_HOST", name.to_uppercase()), format!("{host}:{}", port(name)));
        }
        command.output().unwrap()
    };
    let got = get("bfb-identity");
    assert!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
    let dataset: Value = serde_json::from_slice(&got.stdout).unwrap();
    let members: Vec<&String> = dataset.as_object().unwrap().keys().collect();
    assert_eq!(json!(members), json!(["favorites", "orders", "profile", "reviews"]));

    // Of another authority: theirs, and ours is not known to them.
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    mount(&certificates(), &other);
    for file in ["tls.crt", "tls.key"] {
        fs::copy(other.join("bfb-identity").join(file), dir.path().join("bfb-identity").join(file))
            .unwrap();
    }
    let refused = get("bfb-identity");
    let err = String::from_utf8_lossy(&refused.stderr);
    assert_eq!((refused.status.code(), refused.stdout.as_slice()), (Some(1), &[][..]), "{err}");
    assert!(err.contains("urn:bfb:source-failed"), "{err}");
}

#[test]
fn upstreams_without_certificates_say_which_file_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let said =
        bfb().args(["demo", "--control", "0", "--upstreams"]).arg(dir.path()).output().unwrap();
    assert_eq!(said.status.code(), Some(69));
    let err = String::from_utf8_lossy(&said.stderr);
    assert!(
        err.contains("profile/tls.crt") && err.contains("holds no certificate for profile"),
        "{err}"
    );
}
