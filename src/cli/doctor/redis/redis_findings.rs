//! From what a Redis is to what follows for a fleet. Pure.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use humantime::format_duration as span;

use super::super::finding::Finding;
use super::super::source_findings;
use crate::bus::examine::{
    CommandRefusals, ExaminedServer, LogStatus, ProbeError, RedisServerConfig, RedisServerInfo,
    ScriptProbe, SilentServer,
};
use crate::bus::{BusConfig, READ_MAX, RedisFault, RedisKind, acl_rules};
use crate::coherence::PROTOCOL;

/// The oldest Redis that will do.
const VERSION_MIN: (u32, u32) = (6, 2);
/// A limit for subscribers below which a burst of invalidations may cost them their connection.
const SUBSCRIBER_BYTES_MIN: u64 = 1024 * 1024;

/// One of those that could not say which servers there are.
pub(super) fn silent_finding(silent: &SilentServer, settings: &BusConfig) -> Finding {
    let finding = match &silent.error {
        ProbeError::Fault(fault) if fault.is_no_permission() => Finding::error(
            "no-permission",
            "its user may not ask who holds which slot: it lacks `+cluster|slots`",
        ),
        trouble => self::trouble_finding(trouble, settings),
    };
    let is_named = finding.met.contains(&silent.address);
    let met = if is_named { finding.met } else { format!("{}: {}", silent.address, finding.met) };
    Finding { met, ..finding }
}

/// What is to be said of a server.
pub(super) fn server_findings(
    found: &ExaminedServer,
    kind: RedisKind,
    settings: &BusConfig,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(found.error.as_ref().map(|it| trouble_finding(it, settings)));
    findings.extend(refusal_findings(&found.refusals, kind, &settings.namespace));
    if let Some(ScriptProbe::Failed { script, fault }) = &found.script_probe {
        let met = format!("the script `{script}` does not run here: {fault}");
        findings.push(
            Finding::error("script-failed", met)
                .hint("is it Redis, or something that is only like it?"),
        );
    }
    let certificate = found.tls.as_ref().and_then(|seen| seen.certificate.as_ref());
    findings.extend(
        certificate.and_then(|it| {
            source_findings::expiry_finding("its certificate", it, SystemTime::now())
        }),
    );
    if found.tls.is_none() && !is_local(&found.address) {
        let warning = Finding::warning(
            "plain",
            "without TLS: anyone on the way can read, change and invalidate",
        );
        findings.push(warning.expected("`rediss://`"));
    }
    findings.extend(latency_finding(found, settings));
    if let Some(facts) = &found.info {
        findings.extend(self::facts_findings(facts, settings));
    }
    findings
}

/// A socket, or a loopback address.
fn is_local(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    address.starts_with('/') || host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

fn trouble_finding(trouble: &ProbeError, settings: &BusConfig) -> Finding {
    match trouble {
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
        ProbeError::Fault(fault) => self::fault_finding(fault),
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
        let met = format!(
            "its user may not do all that a sidecar does: it lacks `{}`",
            commands.join(" ")
        );
        findings.push(Finding::error("no-permission", met));
    }
    if refused.keys {
        let met =
            format!("its user may not touch the namespace's keys: it lacks `~bfb:{{{namespace}/*`");
        findings.push(Finding::error("no-permission-keys", met));
    }
    if refused.channels {
        let met = format!(
            "its user may not touch the namespace's channels: it lacks `&bfb:{{{namespace}/*`"
        );
        findings.push(Finding::error("no-permission-channels", met));
    }
    if let Some(last) = findings.last_mut() {
        last.hint = Some(format!(
            "all it needs: `ACL SETUSER NAME on >PASSWORD {}`",
            acl_rules(namespace, kind)
        ));
    }
    if !refused.unknown.is_empty() {
        let met = format!("it does not know `{}`", refused.unknown.join("`, `"));
        findings.push(
            Finding::error("unknown-command", met)
                .hint("is a command renamed there, or is it not Redis?"),
        );
    }
    findings.extend(refused.state.as_ref().map(|code| state_finding(code)));
    findings
}

/// Why it does nothing at present.
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
    let met = format!("a script takes {:.1} ms (median)", took.as_secs_f64() * 1000.0);
    if took >= READ_MAX {
        let expected = format!("less than {}, which is what a read waits for it", span(READ_MAX));
        return Some(Finding::error("too-slow", met).expected(expected));
    }
    let patience = settings.lease / 8;
    if took >= READ_MAX / 4 || took >= patience {
        let expected = format!(
            "far less than {}: each read of Redis and each acknowledgement waits for it",
            span(READ_MAX)
        );
        return Some(
            Finding::warning("slow", met).expected(expected).hint("is it in another zone?"),
        );
    }
    None
}

fn facts_findings(facts: &RedisServerInfo, settings: &BusConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    if facts.compatible < VERSION_MIN {
        let met = format!("it is {} {}", facts.product, facts.version);
        findings.push(Finding::error("too-old", met).expected("Redis 6.2 or newer, or Valkey"));
    }
    findings.extend(eviction_finding(facts));
    if facts.snapshot_failed {
        let warning = Finding::warning("snapshot-failed", "it could not write its last snapshot");
        findings.push(warning.hint("by default it then refuses all writes, and the bus is lost"));
    }
    match &facts.config {
        Some(config) => findings.extend(self::config_findings(facts, config, settings)),
        None => findings.push(unknown_finding(facts)),
    }
    findings
}

fn eviction_finding(facts: &RedisServerInfo) -> Option<Finding> {
    match facts.eviction.as_deref()? {
        policy if policy.starts_with("allkeys") => Some(
            Finding::error(
                "evicts",
                format!(
                    "`maxmemory-policy` is `{policy}`: it evicts the log, \
                         and memory is emptied with it"
                ),
            )
            .expected(
                "`volatile-ttl` or another `volatile-…`: only datasets have a time to live; \
                       or `noeviction`",
            ),
        ),
        "noeviction" if facts.memory_max.is_some_and(|max| max > 0) => Some(
            Finding::note(
                "no-eviction",
                "`maxmemory-policy` is `noeviction`: when it is full, \
                 all writes are refused and the bus is lost",
            )
            .expected("`volatile-ttl`, with which datasets make room for the log"),
        ),
        _ => None,
    }
}

/// What is not known where `CONFIG GET` is refused.
fn unknown_finding(facts: &RedisServerInfo) -> Finding {
    let replicas = if facts.replicas > 0 { "`min-replicas-to-write`, " } else { "" };
    let cluster = if facts.is_cluster { "`cluster-node-timeout`, " } else { "" };
    let met = format!(
        "it does not tell its settings (`CONFIG GET`), so \
         {replicas}{cluster}`client-output-buffer-limit` and `timeout` are not known"
    );
    Finding::note("settings-unknown", met)
        .hint("ask as a user who may, or look at what its provider says")
}

fn config_findings(
    facts: &RedisServerInfo,
    config: &RedisServerConfig,
    settings: &BusConfig,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if facts.is_cluster {
        findings.extend(cluster_findings(facts, config, settings));
    } else if facts.replicas > 0 {
        findings.extend(failover_finding(config, settings));
    }
    findings.extend(subscribers_finding(config));
    if let Some(idle) = config.idle.filter(|idle| !idle.is_zero()) {
        let met = format!(
            "`timeout` is {}: it closes the connection for datasets when none is read for so long, \
             and the bus connects anew",
            span(idle)
        );
        findings.push(Finding::warning("idle-timeout", met).expected("0"));
    }
    if facts.appends && config.append_sync.as_deref() == Some("always") {
        let note = Finding::note(
            "append-always",
            "`appendfsync` is `always`: each heartbeat waits for its disk",
        );
        findings.push(note.hint(
            "bfb needs no data of an earlier life: `appendonly no`, or `everysec`, is as good",
        ));
    }
    findings
}

/// With replicas that sentinels, or people, promote.
fn failover_finding(config: &RedisServerConfig, settings: &BusConfig) -> Option<Finding> {
    let hint = "two primaries that both take invalidations are outside of what acknowledged means";
    match (config.min_replicas?, config.min_replicas_max_lag?) {
        (0, _) => Some(
            Finding::warning(
                "split-brain",
                "it has replicas, and `min-replicas-to-write` is 0: \
                              once it is replaced it may go on taking invalidations, \
                              for as long as it is not told",
            )
            .expected("1 or more")
            .hint(hint),
        ),
        (_, lag) if settings.failover_grace < lag => {
            Some(grace_finding("min-replicas-max-lag", lag, settings))
        }
        _ => None,
    }
}

fn grace_finding(setting: &str, for_so_long: Duration, settings: &BusConfig) -> Finding {
    let met = format!(
        "once it is replaced it may go on answering for {} (`{setting}`), \
         and `--failover-grace` is {}",
        span(for_so_long),
        span(settings.failover_grace)
    );
    Finding::warning("failover-grace", met)
        .expected(format!("`--failover-grace {}`", span(for_so_long)))
        .hint("only the first acknowledgements after a failover take so much longer")
}

fn cluster_findings(
    facts: &RedisServerInfo,
    config: &RedisServerConfig,
    settings: &BusConfig,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(timeout) = config.node_timeout {
        if facts.replicas > 0 && settings.failover_grace < timeout {
            findings.push(grace_finding("cluster-node-timeout", timeout, settings));
        }
        if timeout > settings.lease {
            let met = format!(
                "`cluster-node-timeout` is {} and the lease {}: when a server is lost its domains \
                 are without a lease for {} at least, before it is replaced",
                span(timeout),
                span(settings.lease),
                span(timeout.saturating_sub(settings.lease))
            );
            findings.push(
                Finding::note("failover-outlasts-lease", met)
                    .hint("`--bus-loss` says what holds meanwhile"),
            );
        }
    }
    if config.full_coverage == Some(true) {
        let met = "`cluster-require-full-coverage` is `yes`: one server that is lost takes all \
                   domains with it, not only its own";
        findings.push(Finding::note("full-coverage", met).expected("`no`"));
    }
    findings
}

/// What a subscriber gets that does not keep up.
fn subscribers_finding(config: &RedisServerConfig) -> Option<Finding> {
    let limit = config.subscriber_limit?;
    let size = |bytes| bytesize::ByteSize(bytes).display().iec().to_string();
    let least = [limit.hard, limit.soft].into_iter().filter(|bytes| *bytes > 0).min();
    match least {
        None => {
            let met = "`client-output-buffer-limit pubsub` is without end: \
                       for a sidecar that stands still it holds messages until its memory is full";
            Some(Finding::warning("subscriber-limit", met).expected("`32mb 8mb 60`"))
        }
        Some(least) if least < SUBSCRIBER_BYTES_MIN => {
            let met = format!(
                "`client-output-buffer-limit pubsub` is {}: a burst of invalidations may cost \
                 sidecars their connection",
                size(least)
            );
            Some(
                Finding::warning("subscriber-limit", met)
                    .expected("1 MiB or more; the usual is `32mb 8mb 60`"),
            )
        }
        Some(_) => None,
    }
}

/// What is to be said of a domain's log.
pub(super) fn log_findings(
    found: &Result<Option<LogStatus>, RedisFault>,
    settings: &BusConfig,
) -> Vec<Finding> {
    let log = match found {
        Ok(Some(log)) => log,
        // Why not is said of its server.
        Ok(None) | Err(RedisFault::Lost) => return Vec::new(),
        Err(fault) if fault.is_no_permission() => return Vec::new(),
        Err(fault) => {
            return vec![Finding::error(
                "log-unreadable",
                format!("its log cannot be read: {fault}"),
            )];
        }
    };
    let mut findings = Vec::new();
    if log.protocol > PROTOCOL {
        let met = format!(
            "its log speaks protocol {}, this release {PROTOCOL}: it would take no part",
            log.protocol
        );
        findings.push(
            Finding::error("newer-protocol", met)
                .expected("a release as new as the newest of the fleet"),
        );
    }
    if log.is_alive == Some(false) {
        let met = "its log is of an earlier life of the server; the next heartbeat begins an epoch";
        findings.push(Finding::note("other-life", met));
        return findings;
    }
    findings.extend(leases_finding(log, settings));
    let behind = log.registered.iter().filter(|sidecar| sidecar.reported_seq < log.seq).count();
    if behind > 0 {
        let met = format!(
            "{behind} of {} sidecars had not said that they applied everything",
            log.registered.len()
        );
        findings.push(
            Finding::note("behind", met)
                .hint("is it so again in a lease? `bfb status` there says why"),
        );
    }
    findings
}

/// An invalidator that never heard of the longest lease may not meet a new epoch.
fn leases_finding(log: &LogStatus, settings: &BusConfig) -> Option<Finding> {
    let mut leases: Vec<Duration> = log.registered.iter().map(|sidecar| sidecar.lease).collect();
    leases.sort_unstable();
    leases.dedup();
    let shown = leases.iter().map(|lease| span(*lease).to_string()).collect::<Vec<_>>().join(", ");
    let hint = "while an epoch changes, acknowledgements are only as good as the longest lease \
                that was heard of";
    match leases.as_slice() {
        [] => None,
        [one] if *one == settings.lease => None,
        [_] => {
            let met = format!(
                "its sidecars have a lease of {shown}, and `--lease` here is {}",
                span(settings.lease)
            );
            Some(Finding::warning("leases-differ", met).expected("one lease").hint(hint))
        }
        _ => {
            let met = format!("its sidecars have leases of {shown}");
            Some(
                Finding::warning("leases-differ", met)
                    .expected("one lease, but for a rolling change")
                    .hint(hint),
            )
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bus::examine::{BufferLimit, RegisteredMember};

    const LEASE: Duration = Duration::from_secs(3);

    fn settings() -> BusConfig {
        BusConfig::new("redis://localhost".parse().unwrap(), LEASE)
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A server of which there is nothing to say.
    fn good() -> RedisServerInfo {
        let limit = BufferLimit { hard: 32 << 20, soft: 8 << 20, soft_for: Duration::from_mins(1) };
        let config = RedisServerConfig {
            subscriber_limit: Some(limit),
            idle: Some(Duration::ZERO),
            ..RedisServerConfig::default()
        };
        RedisServerInfo {
            product: "Redis",
            version: "7.0.15".to_owned(),
            compatible: (7, 0),
            eviction: Some("volatile-ttl".to_owned()),
            config: Some(config),
            ..RedisServerInfo::default()
        }
    }

    fn with(change: impl FnOnce(&mut RedisServerConfig)) -> RedisServerInfo {
        let mut facts = good();
        change(facts.config.as_mut().unwrap());
        facts
    }

    fn names(findings: &[Finding]) -> Vec<&'static str> {
        findings.iter().map(|finding| finding.name).collect()
    }

    fn finding_names(facts: &RedisServerInfo) -> Vec<&'static str> {
        names(&super::facts_findings(facts, &settings()))
    }

    #[test]
    fn a_server_that_will_do_is_not_talked_about() {
        assert_eq!(finding_names(&good()), [""; 0]);
        assert_eq!(
            finding_names(&RedisServerInfo {
                eviction: Some("noeviction".into()),
                memory_max: Some(0),
                ..good()
            }),
            [""; 0]
        );
    }

    #[test]
    fn versions_before_the_oldest_and_eviction_of_the_log_are_refused() {
        assert_eq!(finding_names(&RedisServerInfo { compatible: (6, 0), ..good() }), ["too-old"]);
        assert_eq!(finding_names(&RedisServerInfo { compatible: (6, 2), ..good() }), [""; 0]);
        for policy in ["allkeys-lru", "allkeys-lfu", "allkeys-random"] {
            assert_eq!(
                finding_names(&RedisServerInfo { eviction: Some(policy.into()), ..good() }),
                ["evicts"]
            );
        }
        assert_eq!(
            finding_names(&RedisServerInfo {
                eviction: Some("noeviction".into()),
                memory_max: Some(1),
                ..good()
            }),
            ["no-eviction"]
        );
        assert_eq!(
            finding_names(&RedisServerInfo { eviction: None, ..good() }),
            [""; 0],
            "what is not told is not guessed"
        );
    }

    #[test]
    fn what_a_managed_redis_does_not_tell_is_said_to_be_unknown() {
        let found = super::facts_findings(
            &RedisServerInfo { config: None, replicas: 1, ..good() },
            &settings(),
        );
        assert_eq!(names(&found), ["settings-unknown"]);
        assert!(
            found[0].met.contains("min-replicas-to-write") && !found[0].met.contains("cluster")
        );
        let found = super::facts_findings(
            &RedisServerInfo { config: None, is_cluster: true, ..good() },
            &settings(),
        );
        assert!(found[0].met.contains("cluster-node-timeout"));
    }

    #[test]
    fn a_primary_that_may_outlive_its_replacement_is_a_warning() {
        let replicated = |min, lag| RedisServerInfo {
            replicas: 1,
            ..with(|config| {
                (config.min_replicas, config.min_replicas_max_lag) =
                    (Some(min), Some(seconds(lag)));
            })
        };
        assert_eq!(finding_names(&replicated(0, 10)), ["split-brain"]);
        assert_eq!(finding_names(&replicated(1, 10)), ["failover-grace"]);
        let patient = BusConfig { failover_grace: Duration::from_secs(10), ..settings() };
        assert_eq!(names(&super::facts_findings(&replicated(1, 10), &patient)), [""; 0]);
        assert_eq!(
            finding_names(&RedisServerInfo { replicas: 0, ..replicated(0, 10) }),
            [""; 0],
            "nobody can replace it"
        );
    }

    #[test]
    fn what_follows_from_a_clusters_timeout_is_said() {
        let cluster = |timeout, replicas| RedisServerInfo {
            is_cluster: true,
            replicas,
            ..with(|config| {
                (config.node_timeout, config.full_coverage) = (Some(seconds(timeout)), Some(false));
            })
        };
        assert_eq!(finding_names(&cluster(15, 1)), ["failover-grace", "failover-outlasts-lease"]);
        assert_eq!(finding_names(&cluster(15, 0)), ["failover-outlasts-lease"]);
        assert_eq!(finding_names(&cluster(2, 0)), [""; 0]);
        let covered = with(|config| config.full_coverage = Some(true));
        assert_eq!(
            finding_names(&RedisServerInfo { is_cluster: true, ..covered }),
            ["full-coverage"]
        );
    }

    #[test]
    fn connections_that_a_server_closes_are_a_warning() {
        let limit = |hard, soft| BufferLimit { hard, soft, soft_for: Duration::from_mins(1) };
        assert_eq!(
            finding_names(&with(|config| config.idle = Some(seconds(300)))),
            ["idle-timeout"]
        );
        assert_eq!(
            finding_names(&with(|config| config.subscriber_limit = Some(limit(0, 0)))),
            ["subscriber-limit"]
        );
        assert_eq!(
            finding_names(&with(|config| config.subscriber_limit = Some(limit(0, 4096)))),
            ["subscriber-limit"]
        );
        assert_eq!(
            finding_names(&with(|config| config.subscriber_limit = Some(limit(8 << 20, 0)))),
            [""; 0]
        );
    }

    #[test]
    fn only_sockets_and_loopback_go_without_tls() {
        for near in ["/run/redis.sock", "localhost:6379", "127.0.0.1:6379", "[::1]:6379"] {
            assert!(is_local(near), "{near}");
        }
        for far in ["redis:6379", "10.0.0.1:6379", "[fd00::1]:6379"] {
            assert!(!is_local(far), "{far}");
        }
    }

    fn log(leases: &[u64]) -> LogStatus {
        let registered = leases.iter().map(|lease| RegisteredMember {
            name: String::new(),
            told_seq: 1,
            reported_seq: 1,
            lease: Duration::from_secs(*lease),
        });
        LogStatus {
            protocol: PROTOCOL,
            is_alive: Some(true),
            epoch: "ff".to_owned(),
            seq: 1,
            settled: true,
            stamps: 0,
            registered: registered.collect(),
        }
    }

    fn log_finding_names(log: LogStatus) -> Vec<&'static str> {
        names(&super::log_findings(&Ok(Some(log)), &settings()))
    }

    #[test]
    fn leases_that_differ_are_a_warning() {
        assert_eq!(log_finding_names(log(&[3, 3])), [""; 0]);
        assert_eq!(log_finding_names(log(&[])), [""; 0]);
        assert_eq!(log_finding_names(log(&[3, 5])), ["leases-differ"]);
        assert_eq!(
            log_finding_names(log(&[5, 5])),
            ["leases-differ"],
            "from what it would have here"
        );
    }

    #[test]
    fn a_newer_protocol_is_an_error_and_another_life_is_not() {
        assert_eq!(
            log_finding_names(LogStatus { protocol: PROTOCOL + 1, ..log(&[3]) }),
            ["newer-protocol"]
        );
        assert_eq!(
            log_finding_names(LogStatus { is_alive: Some(false), ..log(&[3, 5]) }),
            ["other-life"]
        );
        assert_eq!(log_finding_names(LogStatus { seq: 2, ..log(&[3]) }), ["behind"]);
    }
}
