//! The findings about a Redis server's settings.

use std::time::Duration;

use humantime::format_duration as span;

use super::finding::Finding;
use crate::bus::BusConfig;
use crate::bus::examine::{RedisServerConfig, RedisServerInfo};

/// The oldest Redis that will do.
const VERSION_MIN: (u32, u32) = (6, 2);
/// A limit for subscribers below which a burst of invalidations may cost them their connection.
const SUBSCRIBER_BYTES_MIN: u64 = 1024 * 1024;

/// The findings about how a server is set.
pub(super) fn info_findings(facts: &RedisServerInfo, settings: &BusConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    if facts.compatible < VERSION_MIN {
        let text = format!("it is {} {}", facts.product, facts.version);
        findings.push(Finding::error("too-old", text).expected("Redis 6.2 or newer, or Valkey"));
    }
    findings.extend(eviction_finding(facts));
    if facts.snapshot_failed {
        let warning = Finding::warning("snapshot-failed", "it could not write its last snapshot");
        findings.push(warning.hint("by default it then refuses all writes, and the bus is lost"));
    }
    match &facts.config {
        Some(config) => findings.extend(config_findings(facts, config, settings)),
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

/// The finding about settings that are unknown because `CONFIG GET` is refused.
fn unknown_finding(facts: &RedisServerInfo) -> Finding {
    let replicas = if facts.replicas > 0 { "`min-replicas-to-write`, " } else { "" };
    let cluster = if facts.is_cluster { "`cluster-node-timeout`, " } else { "" };
    let text = format!(
        "it does not tell its settings (`CONFIG GET`), so \
         {replicas}{cluster}`client-output-buffer-limit` and `timeout` are not known"
    );
    Finding::note("settings-unknown", text)
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
        let text = format!(
            "`timeout` is {}: it closes the connection for datasets when none is read for so long, \
             and the bus connects anew",
            span(idle)
        );
        findings.push(Finding::warning("idle-timeout", text).expected("0"));
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

/// The finding about a primary whose replicas sentinels, or people, promote.
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
    let text = format!(
        "once it is replaced it may go on answering for {} (`{setting}`), \
         and `--failover-grace` is {}",
        span(for_so_long),
        span(settings.failover_grace)
    );
    Finding::warning("failover-grace", text)
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
            let text = format!(
                "`cluster-node-timeout` is {} and the lease {}: when a server is lost its domains \
                 are without a lease for {} at least, before it is replaced",
                span(timeout),
                span(settings.lease),
                span(timeout.saturating_sub(settings.lease))
            );
            findings.push(
                Finding::note("failover-outlasts-lease", text)
                    .hint("`--bus-loss` says what holds meanwhile"),
            );
        }
    }
    if config.full_coverage == Some(true) {
        let text = "`cluster-require-full-coverage` is `yes`: one server that is lost takes all \
                   domains with it, not only its own";
        findings.push(Finding::note("full-coverage", text).expected("`no`"));
    }
    findings
}

/// The finding about the limit for subscribers that do not keep up.
fn subscribers_finding(config: &RedisServerConfig) -> Option<Finding> {
    let limit = config.subscriber_limit?;
    let size = |bytes| bytesize::ByteSize(bytes).display().iec().to_string();
    let least = [limit.hard, limit.soft].into_iter().filter(|bytes| *bytes > 0).min();
    match least {
        None => {
            let text = "`client-output-buffer-limit pubsub` is without end: \
                       for a sidecar that stands still it holds messages until its memory is full";
            Some(Finding::warning("subscriber-limit", text).expected("`32mb 8mb 60`"))
        }
        Some(least) if least < SUBSCRIBER_BYTES_MIN => {
            let text = format!(
                "`client-output-buffer-limit pubsub` is {}: a burst of invalidations may cost \
                 sidecars their connection",
                size(least)
            );
            Some(
                Finding::warning("subscriber-limit", text)
                    .expected("1 MiB or more; the usual is `32mb 8mb 60`"),
            )
        }
        Some(_) => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bus::examine::BufferLimit;

    const LEASE: Duration = Duration::from_secs(3);

    fn settings() -> BusConfig {
        BusConfig::new("redis://localhost".parse().unwrap(), LEASE)
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A server without findings.
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
        names(&info_findings(facts, &settings()))
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
        let found =
            info_findings(&RedisServerInfo { config: None, replicas: 1, ..good() }, &settings());
        assert_eq!(names(&found), ["settings-unknown"]);
        assert!(
            found[0].met.contains("min-replicas-to-write") && !found[0].met.contains("cluster")
        );
        let found = info_findings(
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
        assert_eq!(names(&info_findings(&replicated(1, 10), &patient)), [""; 0]);
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
}
