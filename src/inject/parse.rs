//! Parses the values of annotations. The error of each parser is the expected form of the value,
//! for a message. Annotations that stand for a flag are parsed by the types of `settings` instead.

use std::net::SocketAddr;

/// The expected form of a value, for a message.
pub(super) type ExpectedText = &'static str;

/// The longest value of an annotation of a pod's author, in bytes: 64 domains of 63 characters,
/// with commas between them.
pub(super) const VALUE_MAX_BYTES: usize = 4096;
/// The longest value of an annotation that `bfb` writes, in bytes: the limit of Kubernetes for all
/// annotations of one object.
pub(super) const BFB_VALUE_MAX_BYTES: usize = 256 * 1024;
/// The longest value that is a line of text, in bytes.
const LINE_MAX_BYTES: usize = 1024;
/// The most domains of one sidecar.
const DOMAINS_MAX: usize = 64;

/// The value of `bfb.dev/inject`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum InjectRequest {
    /// `false`: no sidecar.
    NoSidecar,
    /// `true`: a sidecar with the default domains.
    Default,
    /// A sidecar with these domains.
    Domains(Vec<String>),
}

pub(super) fn inject_request(text: &str) -> Result<InjectRequest, ExpectedText> {
    match text {
        "false" => Ok(InjectRequest::NoSidecar),
        "true" => Ok(InjectRequest::Default),
        _ => domains(text).map(InjectRequest::Domains).map_err(|_| {
            "the names of domains with commas between them (a lower-case letter, then lower-case \
             letters, digits, `_` or `-`), or `true` or `false`"
        }),
    }
}

/// Domains' names, with commas between them.
pub(super) fn domains(text: &str) -> Result<Vec<String>, ExpectedText> {
    const EXPECTED: ExpectedText = "names of domains, each once: a lower-case letter, then \
                                    lower-case letters, digits, `_` or `-`";
    let mut names: Vec<String> = Vec::new();
    for name in text.split(',').map(str::trim) {
        let is_later_char =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
        let fits = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(is_later_char)
            && name.len() <= 63;
        let is_reserved = matches!(name, "true" | "false") || name.ends_with(['-', '_']);
        let is_repeated = names.iter().any(|other| config_map_name(other) == config_map_name(name));
        if !fits || is_reserved || is_repeated || names.len() == DOMAINS_MAX {
            return Err(EXPECTED);
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

/// The name of a domain's `ConfigMap`. Kubernetes allows no `_` in names.
pub(super) fn config_map_name(domain: &str) -> String {
    format!("bfb-domain-{}", domain.replace('_', "-"))
}

pub(super) fn boolean(text: &str) -> Result<bool, ExpectedText> {
    text.parse().map_err(|_| "`\"true\"` or `\"false\"`")
}

/// A line of text, without control characters.
pub(super) fn line(text: &str) -> Result<(), ExpectedText> {
    let fits = !text.is_empty() && text.len() <= LINE_MAX_BYTES && !text.contains(char::is_control);
    if fits { Ok(()) } else { Err("one line of text, of at most 1024 bytes") }
}

/// The value of `bfb.dev/undo`, for `bfb inject --uninject`. It may be long: it lists every empty
/// collection that injection filled.
pub(super) fn undo(text: &str) -> Result<(), ExpectedText> {
    let fits = !text.is_empty() && !text.contains(char::is_control);
    if fits { Ok(()) } else { Err("what `bfb inject` noted there") }
}

pub(super) fn image(text: &str) -> Result<(), ExpectedText> {
    let fits = !text.is_empty()
        && text.len() <= LINE_MAX_BYTES
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(()) } else { Err("the name of an image") }
}

/// The sidecar's user; `None` if the platform chooses it.
pub(super) fn user(text: &str) -> Result<Option<u32>, ExpectedText> {
    match text.parse::<u32>() {
        _ if text == "platform" => Ok(None),
        Ok(user) if user > 0 => Ok(Some(user)),
        _ => Err("a user id above 0, or `platform` where the platform chooses it (OpenShift)"),
    }
}

/// The addresses on which the sidecar serves consumers.
pub(super) fn listen(text: &str) -> Result<Vec<SocketAddr>, ExpectedText> {
    const EXPECTED: ExpectedText = "addresses on loopback such as `127.0.0.1:7080`, with commas \
                                    between them (others would be open to the whole cluster; a \
                                    Unix socket is `bfb.dev/unix-socket`)";
    let addresses = text.split(',').map(|address| {
        let address = address.trim().replace("localhost:", "127.0.0.1:");
        let parsed = address.parse::<SocketAddr>().ok();
        parsed.filter(|address| address.ip().is_loopback() && address.port() > 0).ok_or(EXPECTED)
    });
    addresses.collect()
}

pub(super) fn probes(text: &str) -> Result<SocketAddr, ExpectedText> {
    let address = text.parse::<SocketAddr>().ok();
    let reachable = address.filter(|address| !address.ip().is_loopback() && address.port() > 0);
    reachable.ok_or(
        "an address that the kubelet reaches: `0.0.0.0:7072`, or `[::]:7072` where pods have IPv6 \
         only",
    )
}

/// The source of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UrlSource {
    /// The annotation itself.
    Plain(String),
    /// A key of a Secret.
    Secret(KeyRef),
}

/// One key of a Secret or of a `ConfigMap`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyRef {
    pub(super) object: ObjectRef,
    pub(super) key: String,
}

/// A Secret or a `ConfigMap` of the pod's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ObjectRef {
    Secret(String),
    ConfigMap(String),
}

/// A URL without a password, or the key of the Secret that holds one with a password: annotations
/// are not confidential.
pub(super) fn url(text: &str) -> Result<UrlSource, ExpectedText> {
    const EXPECTED: ExpectedText =
        "`secret:NAME/KEY`, or a URL without a password: `SCHEME://HOST:PORT`";
    if text.starts_with("secret:") {
        return key(text).map(UrlSource::Secret).map_err(|_| EXPECTED);
    }
    let (scheme, rest) = text.split_once("://").ok_or(EXPECTED)?;
    let scheme_fits =
        !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    let fits = scheme_fits
        && !rest.is_empty()
        && !rest.contains('@')
        && line(text).is_ok()
        && !text.contains(' ');
    if fits { Ok(UrlSource::Plain(text.to_owned())) } else { Err(EXPECTED) }
}

/// `secret:NAME/KEY`
pub(super) fn secret_key(text: &str) -> Result<KeyRef, ExpectedText> {
    let key = key(text).ok().filter(|key| matches!(key.object, ObjectRef::Secret(_)));
    key.ok_or("`secret:NAME/KEY`")
}

/// `secret:NAME/KEY` or `configmap:NAME/KEY`
pub(super) fn key(text: &str) -> Result<KeyRef, ExpectedText> {
    const EXPECTED: ExpectedText = "`secret:NAME/KEY` or `configmap:NAME/KEY`";
    let (name, key) = text.rsplit_once('/').ok_or(EXPECTED)?;
    let is_key_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let key_fits = !key.is_empty()
        && key.len() <= 253
        && key.chars().all(is_key_char)
        && !key.starts_with("..")
        && key != ".";
    let object = object(name).map_err(|_| EXPECTED)?;
    if key_fits { Ok(KeyRef { object, key: key.to_owned() }) } else { Err(EXPECTED) }
}

/// `secret:NAME`
pub(super) fn secret(text: &str) -> Result<String, ExpectedText> {
    match object(text) {
        Ok(ObjectRef::Secret(name)) => Ok(name),
        _ => Err("`secret:NAME`"),
    }
}

/// `secret:NAME` and `configmap:NAME`, with commas between them.
pub(super) fn objects(text: &str) -> Result<Vec<ObjectRef>, ExpectedText> {
    let objects: Result<Vec<_>, _> = text.split(',').map(|one| object(one.trim())).collect();
    objects.map_err(|_| "`secret:NAME` or `configmap:NAME`, or several with commas between them")
}

fn object(text: &str) -> Result<ObjectRef, ExpectedText> {
    match text.split_once(':') {
        Some(("secret", name)) if is_object_name(name) => Ok(ObjectRef::Secret(name.to_owned())),
        Some(("configmap", name)) if is_object_name(name) => {
            Ok(ObjectRef::ConfigMap(name.to_owned()))
        }
        _ => Err("`secret:NAME` or `configmap:NAME`"),
    }
}

/// Whether an object of Kubernetes can have this name (a DNS subdomain, RFC 1123).
fn is_object_name(name: &str) -> bool {
    let label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty()
            && label.bytes().all(fits)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// The source of the sidecar's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum IdentitySource {
    /// A Secret with `tls.crt`, `tls.key` and `ca.crt`.
    Secret(String),
    /// cert-manager's csi-driver.
    Issuer {
        /// `Issuer` or `ClusterIssuer`.
        kind: &'static str,
        name: String,
    },
    /// cert-manager's csi-driver-spiffe.
    Spiffe,
    /// No certificate, where no source requires one.
    None,
}

pub(super) fn identity(text: &str) -> Result<IdentitySource, ExpectedText> {
    let issuer = |kind, name: &str| {
        is_object_name(name).then(|| IdentitySource::Issuer { kind, name: name.to_owned() })
    };
    let identity = match text.split_once(':') {
        Some(("secret", name)) if is_object_name(name) => {
            Some(IdentitySource::Secret(name.to_owned()))
        }
        Some(("issuer", name)) => issuer("Issuer", name),
        Some(("cluster-issuer", name)) => issuer("ClusterIssuer", name),
        None if text == "spiffe" => Some(IdentitySource::Spiffe),
        None if text == "none" => Some(IdentitySource::None),
        _ => None,
    };
    identity.ok_or("`secret:NAME`, `issuer:NAME`, `cluster-issuer:NAME`, `spiffe` or `none`")
}

/// The names in a certificate, split into URIs and DNS names.
pub(super) fn names(text: &str) -> Result<(Vec<String>, Vec<String>), ExpectedText> {
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    let fits = |name: &String| {
        !name.is_empty() && name.len() <= 253 && name.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if names.iter().all(fits) {
        Ok(names.into_iter().partition(|name| name.contains("://")))
    } else {
        Err("URIs and DNS names with commas between them; `${POD_NAMESPACE}` and \
             `${SERVICE_ACCOUNT_NAME}` may stand in them")
    }
}

/// A quantity of Kubernetes as a number: `50m` is 0.05, and `1Ki` is 1024.
pub(super) fn quantity(text: &str) -> Result<f64, ExpectedText> {
    const SUFFIXES: [(&str, f64); 16] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
        ("", 1.0),
    ];
    let with_suffix = |(suffix, factor): (&str, f64)| {
        let number = text.strip_suffix(suffix)?;
        let is_plain = number.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            && number.bytes().all(|byte| {
                byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'-' | b'+')
            });
        let number: f64 = number.parse().ok().filter(|_| is_plain)?;
        Some(number * factor)
    };
    SUFFIXES
        .into_iter()
        .find_map(with_suffix)
        .ok_or("a quantity of Kubernetes such as `50m`, `0.5` or `128Mi`")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::float_cmp, reason = "each is exact")]
    fn quantities_are_read_as_kubernetes_reads_them() {
        let numbers =
            ["50m", "0.5", "1", "128Mi", "1Gi", "1e3", "1E3", "2E", "1.5Ki", ".5", "100k"]
                .map(quantity);
        let expected =
            [0.05, 0.5, 1.0, 134_217_728.0, 1_073_741_824.0, 1e3, 1e3, 2e18, 1536.0, 0.5, 1e5];
        for (number, expected) in numbers.into_iter().zip(expected) {
            assert!(
                (number.unwrap() - expected).abs() <= expected * 1e-12,
                "{number:?} {expected}"
            );
        }
        for wrong in ["", "m", "-1", "1mi", "1 Mi", "64MiB", "inf", "nan", "0x10", "1_000"] {
            assert!(quantity(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn domains_are_named_as_their_files_name_them() {
        assert_eq!(
            inject_request("customer").unwrap(),
            InjectRequest::Domains(vec!["customer".into()])
        );
        assert_eq!(domains("a, b_c").unwrap(), ["a", "b_c"]);
        assert_eq!(
            (inject_request("true").unwrap(), inject_request("false").unwrap()),
            (InjectRequest::Default, InjectRequest::NoSidecar)
        );
        for wrong in ["", "Customer", "a,", "a,a", "a-b,a_b", "a,true", "9a", "a b", "a-", "yes/no"]
        {
            assert!(domains(wrong).is_err(), "{wrong}");
        }
        assert_eq!(config_map_name("a_b"), "bfb-domain-a-b");
    }

    #[test]
    fn only_loopback_is_listened_on_and_only_the_rest_is_probed() {
        assert_eq!(listen("localhost:7080,[::1]:7080").unwrap().len(), 2);
        for wrong in ["0.0.0.0:7070", "7070", "unix:/run/x", "127.0.0.1:0", "", "10.0.0.1:7070"] {
            assert!(listen(wrong).is_err(), "{wrong}");
        }
        assert!(
            probes("[::]:7072").is_ok()
                && probes("127.0.0.1:7072").is_err()
                && probes("7072").is_err()
        );
    }

    #[test]
    fn a_url_with_a_password_has_no_place_in_an_annotation() {
        assert!(matches!(url("rediss://redis.cache:6379"), Ok(UrlSource::Plain(_))));
        assert!(matches!(url("secret:redis/url"), Ok(UrlSource::Secret(_))));
        for wrong in [
            "redis://user:word@redis:6379",
            "redis",
            "secret:redis",
            "configmap:redis/url",
            "redis://",
            "://x",
        ] {
            assert!(url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn places_are_told_apart() {
        assert_eq!(key("configmap:ca/ca.crt").unwrap().key, "ca.crt");
        assert!(secret_key("configmap:ca/ca.crt").is_err() && secret_key("secret:a/b").is_ok());
        assert_eq!(objects("secret:a, configmap:b.c").unwrap().len(), 2);
        for wrong in
            ["secret:", "secret:A", "secret:-a", "a", "secret:a/..", "secret:a/b/c", "secret:a/"]
        {
            assert!(key(wrong).is_err(), "{wrong}");
        }
        for (text, right) in [
            ("secret:a", true),
            ("issuer:a", true),
            ("cluster-issuer:a.b", true),
            ("spiffe", true),
            ("none", true),
            ("csi", false),
            ("issuer:", false),
            ("Secret:a", false),
        ] {
            assert_eq!(identity(text).is_ok(), right, "{text}");
        }
        let (uris, dns) = names("spiffe://a/ns/${POD_NAMESPACE}, b.example").unwrap();
        assert_eq!((uris.len(), dns.len()), (1, 1));
    }
}
