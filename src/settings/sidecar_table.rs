//! The settings of a sidecar: the flags of `bfb serve`, which other commands share, and the
//! annotations of a pod that gets one.

use super::amounts::{MemorySize, SampleRate, SocketMode};
use super::choices::{BusLoss, CacheControlPolicy, LogFormat};
use super::setting::AnnotationForm::{
    self, Domains, Drain, FlagValue, IdentityNames, Image, Key, Line, LoopbackAddresses, Objects,
    ProbesAddress, Quantity, Secret, SecretKey, Switch, Undo, Url, User,
};
use super::setting::DefaultValue::{InWords, Text};
use super::setting::{AnnotationWriter, Setting, annotation, flag, pod_setting, switch};
use super::texts::{LogFilter, Namespace};
use super::times::{DrainTime, FailoverGrace, Lease};

/// The default of the sidecar's image.
pub const DEFAULT_IMAGE: &str = concat!("bfb:", env!("CARGO_PKG_VERSION"));
/// The default of a pod's certificate.
pub const DEFAULT_IDENTITY: &str = "secret:bfb-identity";
/// Where probes and metrics of a pod are answered.
pub const DEFAULT_PROBES: &str = "0.0.0.0:7072";
/// The names in a certificate that cert-manager makes.
pub const DEFAULT_IDENTITY_NAMES: &str =
    "spiffe://cluster.local/ns/${POD_NAMESPACE}/sa/${SERVICE_ACCOUNT_NAME}";
/// The user that no image has.
pub const DEFAULT_USER: &str = "65532";
/// The sidecar's CPU request.
pub const DEFAULT_CPU_REQUEST: &str = "50m";
/// Where the admin port is.
const DEFAULT_ADMIN: &str = "127.0.0.1:7071";

/// The form of a time in an annotation; flags have other examples.
const TIME_OF_ANNOTATION: &str = "a time such as `3s` or `400ms`";

/// Every setting of a sidecar. Where annotations become variables as they are, they stand in the
/// container in this order.
pub(super) const SIDECAR: &[Setting] = &[
    pod_setting(
        "inject",
        annotation("DOMAIN", Domains)
            .written_by(AnnotationWriter::Pod)
            .defaults_to(InWords("no sidecar"))
            .described(
                "the domains, with commas between them; each is read from the ConfigMap \
                 `bfb-domain-DOMAIN` of the pod's namespace (`_` is written `-` there). \
                 `true`: those of `--domain`. `false`: no sidecar",
            ),
    ),
    pod_setting(
        "image",
        annotation("IMAGE", Image)
            .defaults_to(Text(DEFAULT_IMAGE))
            .described("the sidecar's image"),
    ),
    flag(
        "listen",
        "ADDRESS",
        "Where consumers are answered: `IP:PORT` or `unix:/path`; may be given several times \
         (default: port 7070 of `127.0.0.1` and, where IPv6 exists, of `[::1]`)",
    )
    .defaults_to(InWords("127.0.0.1:7070, [::1]:7070"))
    .documented(
        "where consumers are answered: `IP:PORT` or `unix:/path`, with `--socket-mode`; \
         may be given several times",
    )
    .annotated(
        annotation("ADDRESSES", LoopbackAddresses)
            .described("where the pod's containers are answered: loopback only"),
    ),
    flag("admin", "ADDRESS", "The admin port: `IP:PORT` or `unix:/path`")
        .defaults_to(Text(DEFAULT_ADMIN))
        .documented(
            "the admin port: `IP:PORT`, or `unix:/path` for its owner alone (0600) whatever \
             `--socket-mode` says",
        ),
    flag(
        "socket-mode",
        "MODE",
        "The permissions of consumers' Unix sockets, in octal; the admin port's is for its owner \
         alone",
    )
    .of::<SocketMode>(),
    pod_setting(
        "unix-socket",
        annotation("BOOL", Switch).defaults_to(Text("false")).described(
            "also answer on `/run/bfb/bfb.sock`, mounted into every container of `containers`",
        ),
    ),
    flag(
        "probes",
        "IP:PORT",
        "Also answer probes and metrics here, for kubelet and Prometheus: no key, no data, \
         no write",
    )
    .annotated(
        annotation("ADDRESS", ProbesAddress).defaults_to(Text(DEFAULT_PROBES)).described(
            "where kubelet and Prometheus are answered; `[::]:7072` where pods have IPv6 only",
        ),
    ),
    switch("allow-remote", "Allow addresses that others can reach"),
    flag("allow-host", "NAME", "Also answer to this `Host`; may be given several times")
        .documented(
            "also answer to this `Host`; others than loopback get a 421; \
             may be given several times",
        ),
    flag(
        "identity",
        "DIR",
        "Our identity: a folder with `tls.crt`, `tls.key` and `ca.crt`; re-read when it changes",
    )
    .documented(
        "our identity: `tls.crt`, `tls.key`, `ca.crt`, the layout of a Kubernetes TLS secret and \
         of cert-manager; `crl.pem`, where it is there: [certificates](security.md#certificates)",
    )
    .annotated(
        annotation("PLACE", AnnotationForm::Identity)
            .defaults_to(Text(DEFAULT_IDENTITY))
            .described(
                "`secret:NAME` (`tls.crt`, `tls.key`, `ca.crt`); `issuer:NAME` or \
                 `cluster-issuer:NAME` of cert-manager's csi-driver; `spiffe`: its \
                 csi-driver-spiffe; `none`",
            ),
    ),
    flag("ca", "FILE", "Where `ca.crt` is instead").defaults_to(InWords("`DIR/ca.crt`")),
    pod_setting(
        "identity-names",
        annotation("NAMES", IdentityNames)
            .defaults_to(Text(DEFAULT_IDENTITY_NAMES))
            .described("with an issuer: the URIs and DNS names of the certificate"),
    ),
    switch("insecure-upstreams", "Allow `http://` sources (development)").annotated(
        annotation("BOOL", Switch).described("allow `http://` sources (for trying out)"),
    ),
    switch("tls12", "Also speak TLS 1.2").annotated(annotation("BOOL", Switch)),
    pod_setting(
        "env-from",
        annotation("PLACES", Objects).described(
            "`secret:NAME`, `configmap:NAME`: all their keys as variables, \
             for `${NAME}` in domain files and for `OTEL_*`",
        ),
    ),
    flag("memory", "SIZE", "How much memory datasets may take; `0` keeps none there")
        .of::<MemorySize>()
        .annotated(annotation("SIZE", FlagValue).described("how much memory datasets may take")),
    flag(
        "memory-limit",
        "SIZE",
        "How much memory the process may hold for all its work, datasets among it \
         (default: the container's limit less an eighth, else 256MiB)",
    )
    .checked_as::<MemorySize>()
    .defaults_to(InWords("the container's limit less an eighth, else 256MiB"))
    .documented(
        "all that the process may hold for its work, datasets among it; what does not fit waits \
         within its deadline, then is `overloaded`; a `--memory` that does not fit is refused",
    ),
    flag(
        "redis",
        "URL",
        "The fleet's Redis: `redis://HOST:PORT`, `rediss://…`, `unix:///PATH`, \
         `redis-sentinel://…/SERVICE`, `redis-cluster://…`; without it a sidecar is a fleet of one",
    )
    .defaults_to(InWords("a fleet of one"))
    .documented(
        "the fleet's Redis: `redis://HOST:PORT`, `rediss://…`, `unix:///PATH`, \
         `redis-sentinel://…/SERVICE`, `redis-cluster://…`: [Redis](redis.md)",
    )
    .annotated(
        annotation("URL", Url)
            .confidential()
            .described("the fleet's Redis: `secret:NAME/KEY`, or a URL without a password"),
    ),
    flag(
        "redis-auth",
        "FILE",
        "A file with `user:password`; re-read when the connection is made anew",
    )
    .annotated(
        annotation("PLACE", SecretKey)
            .needing_redis()
            .described("`secret:NAME/KEY`: `user:password`"),
    ),
    flag("redis-ca", "FILE", "The authorities of Redis's certificate").annotated(
        annotation("PLACE", Key).needing_redis().described(
            "`secret:NAME/KEY` or `configmap:NAME/KEY`: the authorities of Redis's certificate",
        ),
    ),
    flag(
        "redis-identity",
        "DIR",
        "Our identity towards Redis: a folder with `tls.crt` and `tls.key`",
    )
    .annotated(
        annotation("PLACE", Secret)
            .needing_redis()
            .described("`secret:NAME` (`tls.crt`, `tls.key`): our certificate towards Redis"),
    ),
    flag(
        "seal-key",
        "FILE",
        "Seal what is kept in Redis with the keys of this file (64 hexadecimal digits a line: the \
         first seals, all open); re-read when it changes",
    )
    .documented("seal datasets in Redis: [sealing](redis.md#sealing)")
    .annotated(
        annotation("PLACE", SecretKey)
            .needing_redis()
            .described("`secret:NAME/KEY`: the keys that seal what is kept in Redis"),
    ),
    flag(
        "namespace",
        "NAME",
        "Who shares a cache: whoever is in a namespace shares its data and may invalidate it",
    )
    .of::<Namespace>()
    .annotated(
        annotation("NAME", FlagValue)
            .needing_redis()
            .described("who shares a cache: one set of rights (not the namespace of Kubernetes)"),
    ),
    flag("lease", "TIME", "How long memory may be served from without having heard from Redis")
        .of::<Lease>()
        .documented(
            "how long memory may be served from without having heard from Redis; the longest that \
             an acknowledgement waits for a silent sidecar. From 200ms to 5m",
        )
        .annotated(
            annotation("TIME", FlagValue)
                .needing_redis()
                .described("how long memory may be served from without having heard from Redis"),
        ),
    flag("failover-grace", "TIME", "How long a deposed Redis primary may go on answering")
        .of::<FailoverGrace>()
        .annotated(annotation("TIME", FlagValue).needing_redis().expecting(TIME_OF_ANNOTATION)),
    flag("bus-loss", "BUS_LOSS", "What holds while Redis has not been heard from for a lease")
        .of::<BusLoss>()
        .documented(
            "what holds once the lease is lost: `bypass` collects afresh, `stale` serves memory \
             up to its ttl and says so, `fail` answers 503",
        )
        .annotated(
            annotation("WORD", FlagValue)
                .needing_redis()
                .described("what holds once the lease is lost: `bypass`, `stale` or `fail`"),
        ),
    flag(
        "verify",
        "RATE",
        "Compare this share of the hits (`0.01`, `1%`) with the sources in the background, and \
         count wrong answers",
    )
    .of::<SampleRate>()
    .documented(
        "compare this share of the hits (`0.01`, `1%`) with the sources \
         [in the background](operations.md#is-the-cache-right), and count wrong answers",
    )
    .annotated(
        annotation("RATE", FlagValue)
            .described("the share of the hits that is compared with the sources: `0.01`, `1%`"),
    ),
    flag("drain", "TIME", "How long a drain may take").of::<DrainTime>().annotated(
        annotation("TIME", Drain)
            .defaults_to(InWords("25s, and 5s less than the pod's grace"))
            .expecting(TIME_OF_ANNOTATION)
            .described("how long a drain may take; at most `terminationGracePeriodSeconds`"),
    ),
    flag(
        "request-cache-control",
        "REQUEST_CACHE_CONTROL",
        "Whether the `Cache-Control` of a request is obeyed",
    )
    .of::<CacheControlPolicy>()
    .documented("`ignore`: a request's `Cache-Control` changes nothing")
    .annotated(
        annotation("WORD", FlagValue)
            .described("whether a request's `Cache-Control` is obeyed: `honour` or `ignore`"),
    ),
    flag("log", "LEVEL", "The log's level, or a filter such as `info,bfb::sources=debug`")
        .of::<LogFilter>()
        .documented(
            "the log's level, or a filter such as `info,bfb::sources=debug` of at most 1 024 bytes \
             and 32 directives (values of fields are text, not patterns); to standard error. The \
             HTTP/2 library is heard only where a filter names it (`info,h2=debug`)",
        )
        .annotated(annotation("LEVEL", FlagValue).described("the log's level, or a filter")),
    flag("log-format", "LOG_FORMAT", "The log's format")
        .of::<LogFormat>()
        .documented("`text` for people or `json` for machines")
        .annotated(annotation("WORD", FlagValue).described("`text` or `json`")),
    switch("log-keys", "Put keys into logs and spans (keys are personal data)").annotated(
        annotation("BOOL", Switch).described("put keys into logs and spans (personal data)"),
    ),
    flag("trace-key", "KEY", "Log every request for this key, source by source").annotated(
        annotation("KEY", Line)
            .confidential()
            .described("log every request for this key (personal data, in an annotation)"),
    ),
    switch("explain", "Say in every answer (`Server-Timing`) where the time went")
        .documented(
            "`Server-Timing` in every answer, hits and errors too (a request with \
             `Bfb-Explain: 1` gets it anyway)",
        )
        .annotated(annotation("BOOL", Switch).described("say in every answer where the time went")),
    switch("no-cache", "Store nothing: every request collects (debugging)")
        .annotated(annotation("BOOL", Switch).described("store nothing")),
    flag("record", "DIR", "Write every upstream answer into a folder (it holds personal data)")
        .documented(
            "write every upstream answer into a folder (it holds personal data), which is made for \
         its owner alone, or refused where it is there and open to others",
        ),
    flag("replay", "DIR", "Answer from a folder that was recorded; no upstream is asked"),
    pod_setting(
        "cpu-request",
        annotation("QUANTITY", Quantity)
            .defaults_to(Text(DEFAULT_CPU_REQUEST))
            .described("what the sidecar asks of a CPU (250m in a pod of class Guaranteed)"),
    ),
    pod_setting(
        "cpu-limit",
        annotation("QUANTITY", Quantity).defaults_to(InWords("none")).described(
            "its limit (the request in a pod of class Guaranteed, so that it stays one)",
        ),
    ),
    pod_setting(
        "memory-request",
        annotation("QUANTITY", Quantity)
            .defaults_to(InWords("`memory` and 32Mi"))
            .described("what it asks of memory (the limit in a pod of class Guaranteed)"),
    ),
    // The container's limit, from which the flag of this name follows.
    pod_setting(
        "memory-limit",
        annotation("QUANTITY", Quantity).defaults_to(InWords("`memory` and 192Mi")).described(
            "its limit; the default is more from a `memory` of 1GiB on, since `bfb serve` \
                 leaves an eighth of it free",
        ),
    ),
    pod_setting(
        "user",
        annotation("UID", User)
            .defaults_to(Text(DEFAULT_USER))
            .described("its user and group; `platform` leaves them to the platform (OpenShift)"),
    ),
    pod_setting(
        "status",
        annotation("", Line)
            .written_by(AnnotationWriter::Bfb)
            .described("`injected`: set by us; nothing is added to a pod that has it"),
    ),
    pod_setting(
        "undo",
        annotation("", Undo)
            .written_by(AnnotationWriter::Bfb)
            .described("set by us: what `bfb inject --uninject` must know"),
    ),
];
