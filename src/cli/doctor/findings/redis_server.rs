//! The findings about a Redis server: its permissions for us, its scripts, its speed.

use std::net::IpAddr;
use std::time::SystemTime;

use humantime::format_duration;

use super::certificate::expiry_finding;
use super::finding::Finding;
use super::redis_settings::info_findings;
use crate::bus::examine::{CommandRefusals, ExaminedServer, ProbeError, ScriptProbe, SilentServer};
use crate::bus::{BusConfig, READ_MAX, RedisFault, RedisKind, acl_rules};

/// The finding about a server that could not say which servers there are.
pub(in super::super) fn silent_server_finding(
    silent: &SilentServer,
    settings: &BusConfig,
) -> Finding {
    let finding = match &silent.error {
        ProbeError::Fault(fault) if fault.is_no_permission() => Finding::error(
            "no-permission",
            "its user may not ask who holds which slot: it lacks `+cluster|slots`",
        ),
        error => probe_error_finding(error, settings),
    };
    let is_named = finding.met.contains(&silent.address);
    let text = if is_named { finding.met } else { format!("{}: {}", silent.address, finding.met) };
    Finding { met: text, ..finding }
}

/// The findings about a server.
pub(in super::super) fn server_findings(
    found: &ExaminedServer,
    kind: RedisKind,
    settings: &BusConfig,
    now: SystemTime,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(found.error.as_ref().map(|it| probe_error_finding(it, settings)));
    findings.extend(refusal_findings(&found.refusals, kind, &settings.namespace));
    if let Some(ScriptProbe::Failed { script, fault }) = &found.script_probe {
        let text = format!("the script `{script}` does not run here: {fault}");
        findings.push(
            Finding::error("script-failed", text)
                .hint("is it Redis, or something that is only like it?"),
        );
    }
    let certificate = found.tls.as_ref().and_then(|seen| seen.certificate.as_ref());
    findings.extend(certificate.and_then(|it| expiry_finding("its certificate", it, now)));
    if found.tls.is_none() && !is_local(&found.address) {
        let warning = Finding::warning(
            "plain",
            "without TLS: anyone on the way can read, change and invalidate",
        );
        findings.push(warning.expected("`rediss://`"));
    }
    findings.extend(latency_finding(found, settings));
    if let Some(info) = &found.info {
        findings.extend(info_findings(info, settings));
    }
    findings
}

/// Whether `address` is a socket or a loopback address.
fn is_local(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    address.starts_with('/') || host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

fn probe_error_finding(error: &ProbeError, settings: &BusConfig) -> Finding {
    match error {
        ProbeError::Unreachable(detail) => Finding::error("unreachable", detail.clone()),
        ProbeError::Tls(detail) => {
            let hint = "`--redis-ca` names the authorities that may have signed its certificate";
            let finding = Finding::error("tls", detail.clone());
            if settings.ca.is_some() { finding } else { finding.hint(hint) }
        }
        ProbeError::NoCertificate => {
            Finding::error("no-certificate", "it demands a client certificate, and none was given")
                .hint("`--redis-identity` names the folder with `tls.crt` and `tls.key`")
        }
        ProbeError::Fault(fault) => fault_finding(fault),
    }
}

fn fault_finding(fault: &RedisFault) -> Finding {
    match fault {
        RedisFault::Refused(code) if code == "WRONGPASS" || code == "NOAUTH" => Finding::error(
            "not-authenticated",
            format!("it refuses the user or the password (`{code}`)"),
        )
        .hint("`--redis-auth` names a file with `user:password`"),
        RedisFault::NoPrimary => Finding::error("no-primary", fault.to_string())
            .hint("is the service's name the sentinels'?"),
        RedisFault::File(_) => Finding::error("file", fault.to_string()),
        _ => Finding::error("no-answer", fault.to_string()),
    }
}

fn refusal_findings(refused: &CommandRefusals, kind: RedisKind, namespace: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !refused.commands.is_empty() {
        let commands: Vec<_> =
            refused.commands.iter().map(|command| format!("+{command}")).collect();
        let text = format!(
            "its user may not do all that a sidecar does: it lacks `{}`",
            commands.join(" ")
        );
        findings.push(Finding::error("no-permission", text));
    }
    if refused.keys {
        let text =
            format!("its user may not touch the namespace's keys: it lacks `~bfb:{{{namespace}/*`");
        findings.push(Finding::error("no-permission-keys", text));
    }
    if refused.channels {
        let text = format!(
            "its user may not touch the namespace's channels: it lacks `&bfb:{{{namespace}/*`"
        );
        findings.push(Finding::error("no-permission-channels", text));
    }
    if let Some(last) = findings.last_mut() {
        last.hint = Some(format!(
            "all it needs: `ACL SETUSER NAME on >PASSWORD {}`",
            acl_rules(namespace, kind)
        ));
    }
    if !refused.unknown.is_empty() {
        let text = format!("it does not know `{}`", refused.unknown.join("`, `"));
        findings.push(
            Finding::error("unknown-command", text)
                .hint("is a command renamed there, or is it not Redis?"),
        );
    }
    findings.extend(refused.state.as_ref().map(|code| state_finding(code)));
    findings
}

/// The finding about an error code with which the server refuses every command.
fn state_finding(code: &str) -> Finding {
    let (name, means, hint) = match code {
        "READONLY" => ("read-only", "it is a replica", "name the primary, or its sentinels"),
        "MISCONF" => (
            "refuses-writes",
            "it cannot write its snapshots",
            "`stop-writes-on-bgsave-error`, or its disk",
        ),
        "NOREPLICAS" => (
            "refuses-writes",
            "it has too few replicas to write to (`min-replicas-to-write`)",
            "are they up?",
        ),
        "OOM" => (
            "refuses-writes",
            "its memory is full",
            "raise `maxmemory`, or let it evict: `volatile-ttl`",
        ),
        "CLUSTERDOWN" => ("refuses-writes", "its Cluster is down", "is a server of it lost?"),
        "LOADING" => ("refuses-writes", "it is still loading its data", "ask again"),
        _ => ("refuses-writes", "it refuses commands", "what do its own logs say?"),
    };
    Finding::error(name, format!("{means} (`{code}`), so no sidecar can take part")).hint(hint)
}

fn latency_finding(found: &ExaminedServer, settings: &BusConfig) -> Option<Finding> {
    let took = match &found.script_probe {
        Some(ScriptProbe::Ran(took)) => *took,
        _ => found.round_trip?,
    };
    let text = format!("a script takes {:.1} ms (median)", took.as_secs_f64() * 1000.0);
    if took >= READ_MAX {
        let expected =
            format!("less than {}, which is what a read waits for it", format_duration(READ_MAX));
        return Some(Finding::error("too-slow", text).expected(expected));
    }
    let patience = settings.lease / 8;
    if took >= READ_MAX / 4 || took >= patience {
        let expected = format!(
            "far less than {}: each read of Redis and each acknowledgement waits for it",
            format_duration(READ_MAX)
        );
        return Some(
            Finding::warning("slow", text).expected(expected).hint("is it in another zone?"),
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_and_loopback_go_without_tls() {
        for near in ["/run/redis.sock", "localhost:6379", "127.0.0.1:6379", "[::1]:6379"] {
            assert!(is_local(near), "{near}");
        }
        for far in ["redis:6379", "10.0.0.1:6379", "[fd00::1]:6379"] {
            assert!(!is_local(far), "{far}");
        }
    }
}
