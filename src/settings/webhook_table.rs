//! The settings of `bfb webhook`: its flags, two of which `bfb inject` shares.

use super::choices::LogFormat;
use super::setting::DefaultValue::{InWords, Text};
use super::setting::{Setting, flag};
use super::texts::LogFilter;
use super::times::{CertificateLifetime, DrainTime, LeaderLease, WatchdogInterval};

/// Every setting of a webhook that `--help` shows.
pub(super) const WEBHOOK: &[Setting] = &[
    flag("listen", "IP:PORT", "Where API servers ask, over HTTPS")
        .defaults_to(Text("0.0.0.0:8443"))
        .documented(
            "where API servers ask, over HTTPS: `/mutate`, and `/healthz`, `/readyz`, `/metrics`",
        ),
    flag(
        "identity",
        "DIR",
        "Our certificate: a folder with `tls.crt`, `tls.key` and, if there is one, `ca.crt`; \
         re-read when it changes. Without it, the webhook makes its own, keeps it in the Secret \
         `bfb-webhook` and turns it over",
    )
    .defaults_to(InWords("one of its own"))
    .documented(
        "the certificate (`tls.crt`, `tls.key`; `ca.crt`, where it is there, becomes the \
         `caBundle`, unless cert-manager writes that: `cert-manager.io/inject-ca-from`)",
    ),
    flag(
        "configuration",
        "NAME",
        "The `MutatingWebhookConfiguration` whose `caBundle` is kept right",
    )
    .defaults_to(Text("bfb")),
    flag(
        "kubeconfig",
        "FILE",
        "The cluster; without it, the one that this is a pod of, by its service account",
    )
    .defaults_to(InWords("the pod's service account"))
    .documented("the cluster"),
    flag("image", "IMAGE", "The sidecars' image, where a pod's `bfb.dev/image` names none"),
    flag(
        "set",
        "NAME=VALUE",
        "An annotation (without `bfb.dev/`) for every pod that has no such one of its own, such as \
         `memory=128MiB`; may be given several times",
    ),
    flag("drain", "TIME", "How long the end may take").of::<DrainTime>(),
    flag("log", "LEVEL", "The log's level, or a filter such as `info,bfb::inject=debug`")
        .of::<LogFilter>(),
    flag("log-format", "LOG_FORMAT", "The log's format")
        .of::<LogFormat>()
        .documented("`text` for people or `json` for machines"),
];

/// Those that are for tests alone: no help and no page shows them.
pub(super) const WEBHOOK_HIDDEN: &[Setting] = &[
    flag("certificate-lifetime", "TIME", "For tests: how long a certificate of our own lasts")
        .of::<CertificateLifetime>(),
    flag(
        "leader-lease",
        "TIME",
        "For tests: how long other replicas wait for a leader that is silent",
    )
    .of::<LeaderLease>(),
    flag(
        "watchdog-every",
        "TIME",
        "For tests: how often the leader looks for pods without their sidecar",
    )
    .of::<WatchdogInterval>(),
];
