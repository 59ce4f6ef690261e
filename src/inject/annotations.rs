//! The annotations: the one table of what may be asked for, how it is checked, and which flag it
//! becomes. The table in `docs/kubernetes.md` is made from it.

use std::fmt::Write as _;

use super::words::{self, Expected};
use crate::domain::nearest;

/// What all names begin with.
pub const PREFIX: &str = "bfb.dev/";

/// What `bfb.dev/status` says of a pod that has its sidecar.
pub(super) const INJECTED: &str = "injected";
/// The image where nothing says otherwise.
pub(super) const IMAGE: &str = concat!("bfb:", env!("CARGO_PKG_VERSION"));
/// Where the certificate comes from where nothing says otherwise.
pub(super) const IDENTITY: &str = "secret:bfb-identity";
/// Where probes and metrics are answered.
pub(super) const PROBES: &str = "0.0.0.0:7072";
/// The names in a certificate that cert-manager makes.
pub(super) const IDENTITY_NAMES: &str =
    "spiffe://cluster.local/ns/${POD_NAMESPACE}/sa/${SERVICE_ACCOUNT_NAME}";
/// The user that no image has.
pub(super) const USER: &str = "65532";
/// What the sidecar asks of a CPU.
pub(super) const CPU_REQUEST: &str = "50m";

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Annotation {
    /// Its name, without the prefix.
    pub name: &'static str,
    /// What it takes, in a word.
    pub takes: &'static str,
    /// The flag of `bfb serve` that it becomes.
    pub flag: Option<&'static str>,
    /// What holds without it.
    pub default: &'static str,
    /// What it does.
    pub does: &'static str,
    /// How its value is checked.
    pub(super) check: fn(&str) -> Result<(), Expected>,
    /// Whether its value becomes the flag's as it is.
    pub(super) as_it_is: bool,
    /// Who writes it.
    pub(super) by: By,
}

/// Who writes an annotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// People, one pod at a time.
    Pod,
    /// People, and a default for all pods may be given.
    PodOrDefault,
    /// We do.
    Us,
}

impl Annotation {
    /// Its whole name.
    pub fn whole(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }

    /// Checks a value. None is read that is longer than any can be, so that no check need be quick
    /// on long ones.
    pub(super) fn check(&self, text: &str) -> Result<(), Expected> {
        let most = if self.by == By::Us { words::OURS_MAX_BYTES } else { words::VALUE_MAX_BYTES };
        if text.len() > most { Err("a value of at most 4096 bytes") } else { (self.check)(text) }
    }

    /// The variable of its flag.
    pub fn variable(&self) -> Option<String> {
        self.flag.map(variable)
    }
}

/// The variable of a flag: `--bus-loss` is `BFB_BUS_LOSS`.
fn variable(flag: &str) -> String {
    format!("BFB_{}", flag.trim_start_matches("--").replace('-', "_").to_uppercase())
}

/// A row that the pod's author fills in and whose value is more than the flag's.
const fn own(
    name: &'static str,
    takes: &'static str,
    default: &'static str,
    check: fn(&str) -> Result<(), Expected>,
    does: &'static str,
) -> Annotation {
    Annotation {
        name,
        takes,
        flag: None,
        default,
        does,
        check,
        as_it_is: false,
        by: By::PodOrDefault,
    }
}

/// A row whose value is the flag's, as it is.
const fn flag(
    name: &'static str,
    flag: &'static str,
    takes: &'static str,
    default: &'static str,
    check: fn(&str) -> Result<(), Expected>,
    does: &'static str,
) -> Annotation {
    Annotation { flag: Some(flag), as_it_is: true, ..own(name, takes, default, check, does) }
}

/// A row that becomes a flag by way of a volume, a Secret or a check of the pod.
const fn placed(flag: &'static str, row: Annotation) -> Annotation {
    Annotation { flag: Some(flag), ..row }
}

const fn by(by: By, row: Annotation) -> Annotation {
    Annotation { by, ..row }
}

fn boolean(text: &str) -> Result<(), Expected> {
    words::boolean(text).map(drop)
}

fn time(text: &str) -> Result<(), Expected> {
    words::duration(text).map(drop)
}

fn quantity(text: &str) -> Result<(), Expected> {
    words::quantity(text).map(drop)
}

fn url(text: &str) -> Result<(), Expected> {
    words::url(text).map(drop)
}

/// Every annotation there is.
#[rustfmt::skip]
const TABLE: [Annotation; 37] = [
    by(By::Pod, own("inject", "DOMAIN", "no sidecar", |text| words::wanted(text).map(drop),
        "the domains, with commas between them; each is read from the ConfigMap \
         `bfb-domain-DOMAIN` of the pod's namespace \
         (`_` is written `-` there). `true`: those of `--domain`. `false`: no sidecar")),
    own("image", "IMAGE", IMAGE, words::image,
        "the sidecar's image"),
    placed("--identity", own("identity", "PLACE", IDENTITY, |text| words::identity(text).map(drop),
        "`secret:NAME` (`tls.crt`, `tls.key`, `ca.crt`); `issuer:NAME` or `cluster-issuer:NAME` of \
         cert-manager's csi-driver; \
         `spiffe`: its csi-driver-spiffe; `none`")),
    own("identity-names", "NAMES", IDENTITY_NAMES, |text| words::names(text).map(drop),
        "with an issuer: the URIs and DNS names of the certificate"),
    flag("insecure-upstreams", "--insecure-upstreams", "BOOL", "false", boolean,
        "allow `http://` sources (for trying out)"),
    flag("tls12", "--tls12", "BOOL", "false", boolean,
        "also speak TLS 1.2"),
    own("env-from", "PLACES", "", |text| words::objects(text).map(drop),
        "`secret:NAME`, `configmap:NAME`: all their keys as variables, \
         for `${NAME}` in domain files and for `OTEL_*`"),
    flag("memory", "--memory", "SIZE", "64MiB", |text| words::size(text).map(drop),
        "how much memory datasets may take"),
    placed("--redis", own("redis", "URL", "a fleet of one", url,
        "the fleet's Redis: `secret:NAME/KEY`, or a URL without a password")),
    placed("--redis-auth", own("redis-auth", "PLACE", "", |text| words::secret_key(text).map(drop),
        "`secret:NAME/KEY`: `user:password`")),
    placed("--redis-ca", own("redis-ca", "PLACE", "", |text| words::key(text).map(drop),
        "`secret:NAME/KEY` or `configmap:NAME/KEY`: the authorities of Redis's certificate")),
    placed("--redis-identity", own("redis-identity", "PLACE", "", |text| words::secret(text).map(drop),
        "`secret:NAME` (`tls.crt`, `tls.key`): our certificate towards Redis")),
    placed("--seal-key", own("seal-key", "PLACE", "", |text| words::secret_key(text).map(drop),
        "`secret:NAME/KEY`: the keys that seal what is kept in Redis")),
    flag("namespace", "--namespace", "NAME", "default", words::namespace,
        "who shares a cache: one set of rights (not the namespace of Kubernetes)"),
    flag("lease", "--lease", "TIME", "3s", |text| words::lease(text).map(drop),
        "how long memory may be served from without having heard from Redis"),
    flag("failover-grace", "--failover-grace", "TIME", "0s", time,
        "how long a deposed Redis primary may go on answering"),
    flag("bus-loss", "--bus-loss", "WORD", "bypass", words::bus_loss,
        "what holds once the lease is lost: `bypass`, `stale` or `fail`"),
    flag("verify", "--verify", "RATE", "0", words::rate,
        "the share of the hits that is compared with the sources: `0.01`, `1%`"),
    placed("--store", own("store", "URL", "", url,
        "the store: `secret:NAME/KEY`, or a URL without a password")),
    placed("--listen", own("listen", "ADDRESSES", "127.0.0.1:7070, [::1]:7070", |text| words::listen(text).map(drop),
        "where the pod's containers are answered: loopback only")),
    own("unix-socket", "BOOL", "false", boolean,
        "also answer on `/run/bfb/bfb.sock`, mounted into every container of `containers`"),
    placed("--probes", own("probes", "ADDRESS", PROBES, |text| words::probes(text).map(drop),
        "where kubelet and Prometheus are answered; `[::]:7072` where pods have IPv6 only")),
    placed("--drain", own("drain", "TIME", "25s, and 5s less than the pod's grace", time,
        "how long a drain may take; at most `terminationGracePeriodSeconds`")),
    flag("request-cache-control", "--request-cache-control", "WORD", "honour", words::request_cache_control,
        "whether a request's `Cache-Control` is obeyed: `honour` or `ignore`"),
    flag("log", "--log", "LEVEL", "info", words::log,
        "the log's level, or a filter"),
    flag("log-format", "--log-format", "WORD", "text", words::log_format,
        "`text` or `json`"),
    flag("log-keys", "--log-keys", "BOOL", "false", boolean,
        "put keys into logs and spans (personal data)"),
    flag("trace-key", "--trace-key", "KEY", "", words::line,
        "log every request for this key (personal data, in an annotation)"),
    flag("explain", "--explain", "BOOL", "false", boolean,
        "say in every answer where the time went"),
    flag("no-cache", "--no-cache", "BOOL", "false", boolean,
        "store nothing"),
    own("cpu-request", "QUANTITY", CPU_REQUEST, quantity,
        "what the sidecar asks of a CPU (250m in a pod of class Guaranteed)"),
    own("cpu-limit", "QUANTITY", "none", quantity,
        "its limit (the request in a pod of class Guaranteed, so that it stays one)"),
    own("memory-request", "QUANTITY", "`memory` and 32Mi", quantity,
        "what it asks of memory (the limit in a pod of class Guaranteed)"),
    own("memory-limit", "QUANTITY", "`memory` and 192Mi", quantity,
        "its limit; the default is more from a `memory` of 1GiB on, since `bfb serve` leaves an \
         eighth of it free"),
    own("user", "UID", USER, |text| words::user(text).map(drop),
        "its user and group; `platform` leaves them to the platform (OpenShift)"),
    by(By::Us, own("status", "", "", words::line, "`injected`: set by us; nothing is added to a pod that has it")),
    by(By::Us, own("undo", "", "", words::undo, "set by us: what `bfb inject --uninject` must know")),
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
        TABLE.iter().filter(|annotation| annotation.by != By::Us).map(|annotation| annotation.name),
    )
}

/// The table in Markdown, as it stands in `docs/kubernetes.md`.
pub fn markdown() -> String {
    let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
    let mut out = String::from(
        "| annotation | flag | variable | default | |\n| --- | --- | --- | --- | --- |\n",
    );
    for row in annotations() {
        let name = format!("{} {}", row.whole(), row.takes);
        let (flag, variable) = (row.flag.unwrap_or_default(), row.variable().unwrap_or_default());
        let words = row.default.contains(['`', ' ']) || matches!(row.default, "" | "none");
        let default = if words { row.default.to_owned() } else { code(row.default) };
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {default} | {} |",
            name.trim_end(),
            code(flag),
            code(&variable),
            row.does
        );
    }
    out
}
