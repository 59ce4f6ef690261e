//! The annotations: the one table of what may be asked for, how it is checked, and which flag it
//! becomes. The table in `docs/kubernetes.md` is made from it.

use std::fmt::Write as _;

use super::parse::{self, ExpectedText};
use crate::diagnostics::nearest;

/// What all names begin with.
pub(super) const PREFIX: &str = "bfb.dev/";

/// What `bfb.dev/status` says of a pod that has its sidecar.
pub(super) const STATUS_INJECTED: &str = "injected";
/// The image where nothing says otherwise.
pub(super) const DEFAULT_IMAGE: &str = concat!("bfb:", env!("CARGO_PKG_VERSION"));
/// Where the certificate comes from where nothing says otherwise.
pub(super) const DEFAULT_IDENTITY: &str = "secret:bfb-identity";
/// Where probes and metrics are answered.
pub(super) const DEFAULT_PROBES: &str = "0.0.0.0:7072";
/// The names in a certificate that cert-manager makes.
pub(super) const DEFAULT_IDENTITY_NAMES: &str =
    "spiffe://cluster.local/ns/${POD_NAMESPACE}/sa/${SERVICE_ACCOUNT_NAME}";
/// The user that no image has.
pub(super) const DEFAULT_USER: &str = "65532";
/// What the sidecar asks of a CPU.
pub(super) const DEFAULT_CPU_REQUEST: &str = "50m";

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Annotation {
    /// Its name, without the prefix.
    pub name: &'static str,
    /// What it takes, in a word.
    pub placeholder: &'static str,
    /// The flag of `bfb serve` that it becomes.
    pub flag: Option<&'static str>,
    /// What holds without it.
    pub default: &'static str,
    /// What it does.
    pub description: &'static str,
    /// How its value is checked.
    pub(super) check: fn(&str) -> Result<(), ExpectedText>,
    /// Whether its value becomes the flag's as it is.
    pub(super) is_passthrough: bool,
    /// Who writes it.
    pub(super) writer: AnnotationWriter,
}

/// Who writes an annotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnnotationWriter {
    /// People, one pod at a time.
    Pod,
    /// People, and a default for all pods may be given.
    PodOrDefault,
    /// We do.
    Bfb,
}

impl Annotation {
    /// Its whole name.
    pub fn full_name(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }

    /// Checks a value. None is read that is longer than any can be, so that no check need be quick
    /// on long ones.
    pub(super) fn check(&self, text: &str) -> Result<(), ExpectedText> {
        let max_bytes = if self.writer == AnnotationWriter::Bfb {
            parse::BFB_VALUE_MAX_BYTES
        } else {
            parse::VALUE_MAX_BYTES
        };
        if text.len() > max_bytes {
            Err("a value of at most 4096 bytes")
        } else {
            (self.check)(text)
        }
    }

    /// The variable of its flag.
    pub fn variable(&self) -> Option<String> {
        self.flag.map(flag_variable)
    }
}

/// The variable of a flag: `--bus-loss` is `BFB_BUS_LOSS`.
fn flag_variable(flag: &str) -> String {
    format!("BFB_{}", flag.trim_start_matches("--").replace('-', "_").to_uppercase())
}

/// A row that the pod's author fills in and whose value is more than the flag's.
const fn row(
    name: &'static str,
    placeholder: &'static str,
    default: &'static str,
    check: fn(&str) -> Result<(), ExpectedText>,
    description: &'static str,
) -> Annotation {
    Annotation {
        name,
        placeholder,
        flag: None,
        default,
        description,
        check,
        is_passthrough: false,
        writer: AnnotationWriter::PodOrDefault,
    }
}

/// A row whose value is the flag's, as it is.
const fn flag_row(
    name: &'static str,
    flag: &'static str,
    placeholder: &'static str,
    default: &'static str,
    check: fn(&str) -> Result<(), ExpectedText>,
    description: &'static str,
) -> Annotation {
    Annotation {
        flag: Some(flag),
        is_passthrough: true,
        ..row(name, placeholder, default, check, description)
    }
}

/// A row that becomes a flag by way of a volume, a Secret or a check of the pod.
const fn with_flag(flag: &'static str, row: Annotation) -> Annotation {
    Annotation { flag: Some(flag), ..row }
}

const fn with_writer(writer: AnnotationWriter, row: Annotation) -> Annotation {
    Annotation { writer, ..row }
}

fn boolean(text: &str) -> Result<(), ExpectedText> {
    parse::boolean(text).map(drop)
}

fn time(text: &str) -> Result<(), ExpectedText> {
    parse::duration(text).map(drop)
}

fn quantity(text: &str) -> Result<(), ExpectedText> {
    parse::quantity(text).map(drop)
}

fn url(text: &str) -> Result<(), ExpectedText> {
    parse::url(text).map(drop)
}

/// Every annotation there is.
#[rustfmt::skip]
const TABLE: [Annotation; 37] = [
    with_writer(AnnotationWriter::Pod, row("inject", "DOMAIN", "no sidecar",
        |text| parse::inject_request(text).map(drop),
        "the domains, with commas between them; each is read from the ConfigMap \
         `bfb-domain-DOMAIN` of the pod's namespace \
         (`_` is written `-` there). `true`: those of `--domain`. `false`: no sidecar")),
    row("image", "IMAGE", DEFAULT_IMAGE, parse::image,
        "the sidecar's image"),
    with_flag("--identity", row("identity", "PLACE", DEFAULT_IDENTITY,
        |text| parse::identity(text).map(drop),
        "`secret:NAME` (`tls.crt`, `tls.key`, `ca.crt`); `issuer:NAME` or `cluster-issuer:NAME` of \
         cert-manager's csi-driver; \
         `spiffe`: its csi-driver-spiffe; `none`")),
    row("identity-names", "NAMES", DEFAULT_IDENTITY_NAMES, |text| parse::names(text).map(drop),
        "with an issuer: the URIs and DNS names of the certificate"),
    flag_row("insecure-upstreams", "--insecure-upstreams", "BOOL", "false", boolean,
        "allow `http://` sources (for trying out)"),
    flag_row("tls12", "--tls12", "BOOL", "false", boolean,
        "also speak TLS 1.2"),
    row("env-from", "PLACES", "", |text| parse::objects(text).map(drop),
        "`secret:NAME`, `configmap:NAME`: all their keys as variables, \
         for `${NAME}` in domain files and for `OTEL_*`"),
    flag_row("memory", "--memory", "SIZE", "64MiB", |text| parse::size(text).map(drop),
        "how much memory datasets may take"),
    with_flag("--redis", row("redis", "URL", "a fleet of one", url,
        "the fleet's Redis: `secret:NAME/KEY`, or a URL without a password")),
    with_flag("--redis-auth", row("redis-auth", "PLACE", "",
        |text| parse::secret_key(text).map(drop),
        "`secret:NAME/KEY`: `user:password`")),
    with_flag("--redis-ca", row("redis-ca", "PLACE", "", |text| parse::key(text).map(drop),
        "`secret:NAME/KEY` or `configmap:NAME/KEY`: the authorities of Redis's certificate")),
    with_flag("--redis-identity", row("redis-identity", "PLACE", "",
        |text| parse::secret(text).map(drop),
        "`secret:NAME` (`tls.crt`, `tls.key`): our certificate towards Redis")),
    with_flag("--seal-key", row("seal-key", "PLACE", "", |text| parse::secret_key(text).map(drop),
        "`secret:NAME/KEY`: the keys that seal what is kept in Redis")),
    flag_row("namespace", "--namespace", "NAME", "default", parse::namespace,
        "who shares a cache: one set of rights (not the namespace of Kubernetes)"),
    flag_row("lease", "--lease", "TIME", "3s", |text| parse::lease(text).map(drop),
        "how long memory may be served from without having heard from Redis"),
    flag_row("failover-grace", "--failover-grace", "TIME", "0s", time,
        "how long a deposed Redis primary may go on answering"),
    flag_row("bus-loss", "--bus-loss", "WORD", "bypass", parse::bus_loss,
        "what holds once the lease is lost: `bypass`, `stale` or `fail`"),
    flag_row("verify", "--verify", "RATE", "0", parse::rate,
        "the share of the hits that is compared with the sources: `0.01`, `1%`"),
    with_flag("--store", row("store", "URL", "", url,
        "the store: `secret:NAME/KEY`, or a URL without a password")),
    with_flag("--listen", row("listen", "ADDRESSES", "127.0.0.1:7070, [::1]:7070",
        |text| parse::listen(text).map(drop),
        "where the pod's containers are answered: loopback only")),
    row("unix-socket", "BOOL", "false", boolean,
        "also answer on `/run/bfb/bfb.sock`, mounted into every container of `containers`"),
    with_flag("--probes", row("probes", "ADDRESS", DEFAULT_PROBES,
        |text| parse::probes(text).map(drop),
        "where kubelet and Prometheus are answered; `[::]:7072` where pods have IPv6 only")),
    with_flag("--drain", row("drain", "TIME", "25s, and 5s less than the pod's grace", time,
        "how long a drain may take; at most `terminationGracePeriodSeconds`")),
    flag_row("request-cache-control", "--request-cache-control", "WORD", "honour",
        parse::request_cache_control,
        "whether a request's `Cache-Control` is obeyed: `honour` or `ignore`"),
    flag_row("log", "--log", "LEVEL", "info", parse::log,
        "the log's level, or a filter"),
    flag_row("log-format", "--log-format", "WORD", "text", parse::log_format,
        "`text` or `json`"),
    flag_row("log-keys", "--log-keys", "BOOL", "false", boolean,
        "put keys into logs and spans (personal data)"),
    flag_row("trace-key", "--trace-key", "KEY", "", parse::line,
        "log every request for this key (personal data, in an annotation)"),
    flag_row("explain", "--explain", "BOOL", "false", boolean,
        "say in every answer where the time went"),
    flag_row("no-cache", "--no-cache", "BOOL", "false", boolean,
        "store nothing"),
    row("cpu-request", "QUANTITY", DEFAULT_CPU_REQUEST, quantity,
        "what the sidecar asks of a CPU (250m in a pod of class Guaranteed)"),
    row("cpu-limit", "QUANTITY", "none", quantity,
        "its limit (the request in a pod of class Guaranteed, so that it stays one)"),
    row("memory-request", "QUANTITY", "`memory` and 32Mi", quantity,
        "what it asks of memory (the limit in a pod of class Guaranteed)"),
    row("memory-limit", "QUANTITY", "`memory` and 192Mi", quantity,
        "its limit; the default is more from a `memory` of 1GiB on, since `bfb serve` leaves an \
         eighth of it free"),
    row("user", "UID", DEFAULT_USER, |text| parse::user(text).map(drop),
        "its user and group; `platform` leaves them to the platform (OpenShift)"),
    with_writer(AnnotationWriter::Bfb, row("status", "", "", parse::line,
        "`injected`: set by us; nothing is added to a pod that has it")),
    with_writer(AnnotationWriter::Bfb, row("undo", "", "", parse::undo,
        "set by us: what `bfb inject --uninject` must know")),
];

/// Every annotation there is, in the order of the table.
pub fn annotations() -> &'static [Annotation] {
    &TABLE
}

/// The annotation with this name (without the prefix).
pub(super) fn find(name: &str) -> Option<&'static Annotation> {
    TABLE.iter().find(|annotation| annotation.name == name)
}

/// The annotation that was probably meant.
pub(super) fn nearest_to(name: &str) -> Option<&'static str> {
    nearest(
        name,
        TABLE
            .iter()
            .filter(|annotation| annotation.writer != AnnotationWriter::Bfb)
            .map(|annotation| annotation.name),
    )
}

/// The table in Markdown, as it stands in `docs/kubernetes.md`.
pub fn markdown_table() -> String {
    let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
    let mut out = String::from(
        "| annotation | flag | variable | default | |\n| --- | --- | --- | --- | --- |\n",
    );
    for row in annotations() {
        let name = format!("{} {}", row.full_name(), row.placeholder);
        let flag = row.flag.unwrap_or_default();
        let variable = row.variable().unwrap_or_default();
        let is_prose = row.default.contains(['`', ' ']) || matches!(row.default, "" | "none");
        let default = if is_prose { row.default.to_owned() } else { code(row.default) };
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {default} | {} |",
            name.trim_end(),
            code(flag),
            code(&variable),
            row.description
        );
    }
    out
}
