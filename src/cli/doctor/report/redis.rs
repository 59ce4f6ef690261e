//! The fleet's Redis in the report: the facts from `bus` as the members that `--format json`
//! prints, each with its findings.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::super::findings::{
    Finding, FindingLevel, log_findings, server_findings, silent_server_finding,
};
use super::super::units::ms;
use super::connection::CertificateReport;
use crate::bus::examine::{
    Examination, ExaminedServer, LogStatus, RedisServerConfig, RedisServerInfo, ScriptProbe,
};
use crate::bus::{BusConfig, RedisFault, RedisKind, RedisServers};

/// The fleet's Redis.
#[derive(Debug, Serialize)]
pub(in super::super) struct RedisReport {
    /// `server`, `sentinel` or `cluster`.
    pub(in super::super) kind: &'static str,
    pub(in super::super) namespace: String,
    /// The server, the primary that the sentinels name, or the primaries of the Cluster.
    pub(in super::super) servers: Vec<ServerReport>,
    pub(in super::super) logs: Vec<LogReport>,
    /// The findings where no server was found.
    pub(in super::super) findings: Vec<Finding>,
}

/// One server.
#[derive(Debug, Serialize)]
pub(in super::super) struct ServerReport {
    pub(in super::super) address: String,
    /// `Valkey 9.1.2`.
    pub(in super::super) version: Option<String>,
    /// `None`: without TLS.
    pub(in super::super) tls: Option<TlsReport>,
    /// The median of a command that does nothing.
    pub(in super::super) round_trip_ms: Option<f64>,
    /// The median of a heartbeat.
    pub(in super::super) script_ms: Option<f64>,
    /// `maxmemory-policy`.
    pub(in super::super) eviction: Option<String>,
    pub(in super::super) replicas: Option<u64>,
    /// `None`: the server refuses `CONFIG GET`.
    pub(in super::super) settings: Option<ServerSettings>,
    pub(in super::super) findings: Vec<Finding>,
}

/// The result of a TLS handshake with a server.
#[derive(Debug, Serialize)]
pub(in super::super) struct TlsReport {
    pub(in super::super) certificate: Option<CertificateReport>,
    pub(in super::super) protocol: Option<&'static str>,
    pub(in super::super) key_exchange: Option<&'static str>,
    pub(in super::super) asks_for_certificate: bool,
}

/// The settings that only `CONFIG GET` shows; a `null` is one that this version does not have.
#[derive(Debug, Serialize)]
pub(in super::super) struct ServerSettings {
    min_replicas_to_write: Option<u64>,
    min_replicas_max_lag_ms: Option<u64>,
    cluster_node_timeout_ms: Option<u64>,
    subscriber_hard_limit_bytes: Option<u64>,
    subscriber_soft_limit_bytes: Option<u64>,
    subscriber_soft_limit_ms: Option<u64>,
    idle_timeout_ms: Option<u64>,
}

/// The log of one domain.
#[derive(Debug, Serialize)]
pub(in super::super) struct LogReport {
    pub(in super::super) domain: String,
    /// `None`: there is no log, or it cannot be read.
    pub(in super::super) state: Option<LogStateReport>,
    pub(in super::super) findings: Vec<Finding>,
}

/// The state of a log.
#[derive(Debug, Serialize)]
pub(in super::super) struct LogStateReport {
    pub(in super::super) protocol: u32,
    pub(in super::super) epoch: String,
    pub(in super::super) seq: u64,
    pub(in super::super) settled: bool,
    pub(in super::super) stamps: u64,
    /// How many sidecars are registered, and how many of them have not reported the log's end.
    pub(in super::super) sidecars: usize,
    pub(in super::super) behind: usize,
    pub(in super::super) leases: Vec<LeaseReport>,
}

/// How many sidecars are registered with one lease.
#[derive(Debug, Serialize)]
pub(in super::super) struct LeaseReport {
    pub(in super::super) lease_ms: u64,
    pub(in super::super) sidecars: usize,
}

impl RedisReport {
    /// The report of an examination, with its findings.
    pub(in super::super) fn of(
        examination: &Examination,
        settings: &BusConfig,
        now: SystemTime,
    ) -> Self {
        let kind = match settings.servers {
            RedisServers::One(_) => "server",
            RedisServers::Sentinel { .. } => "sentinel",
            RedisServers::Cluster(_) => "cluster",
        };
        let servers = examination
            .servers
            .iter()
            .map(|server| ServerReport::of(server, examination.kind, settings, now))
            .collect();
        let logs = examination
            .logs
            .iter()
            .map(|(domain, log)| LogReport::of(domain, log, settings))
            .collect();
        let findings = examination
            .silent_servers
            .iter()
            .map(|silent| silent_server_finding(silent, settings))
            .collect();
        Self { kind, namespace: settings.namespace.clone(), servers, logs, findings }
    }

    /// All findings about the fleet's Redis.
    pub(in super::super) fn findings(&self) -> impl Iterator<Item = &Finding> {
        let of_servers = self.servers.iter().flat_map(|server| &server.findings);
        let of_logs = self.logs.iter().flat_map(|log| &log.findings);
        self.findings.iter().chain(of_servers).chain(of_logs)
    }
}

impl ServerReport {
    fn of(found: &ExaminedServer, kind: RedisKind, settings: &BusConfig, now: SystemTime) -> Self {
        let facts = found.info.as_ref();
        let tls = found.tls.as_ref().map(|seen| TlsReport {
            certificate: seen.certificate.as_ref().map(CertificateReport::of),
            protocol: seen.protocol,
            key_exchange: seen.group,
            asks_for_certificate: seen.asked_for_certificate,
        });
        let script = match &found.script_probe {
            Some(ScriptProbe::Ran(took)) => Some(*took),
            _ => None,
        };
        Self {
            address: found.address.clone(),
            version: facts.map(version),
            tls,
            round_trip_ms: found.round_trip.map(ms),
            script_ms: script.map(ms),
            eviction: facts.and_then(|facts| facts.eviction.clone()),
            replicas: facts.map(|facts| facts.replicas),
            settings: facts.and_then(|facts| facts.config.as_ref()).map(ServerSettings::of),
            findings: server_findings(found, kind, settings, now),
        }
    }

    /// The worst level of its findings.
    pub(in super::super) fn level(&self) -> Option<FindingLevel> {
        self.findings.iter().map(|finding| finding.level).min()
    }
}

fn version(facts: &RedisServerInfo) -> String {
    format!("{} {}", facts.product, facts.version)
}

impl ServerSettings {
    fn of(config: &RedisServerConfig) -> Self {
        Self {
            min_replicas_to_write: config.min_replicas,
            min_replicas_max_lag_ms: config.min_replicas_max_lag.map(whole_ms),
            cluster_node_timeout_ms: config.node_timeout.map(whole_ms),
            subscriber_hard_limit_bytes: config.subscriber_limit.map(|limit| limit.hard),
            subscriber_soft_limit_bytes: config.subscriber_limit.map(|limit| limit.soft),
            subscriber_soft_limit_ms: config.subscriber_limit.map(|limit| whole_ms(limit.soft_for)),
            idle_timeout_ms: config.idle.map(whole_ms),
        }
    }
}

impl ServerSettings {
    /// The limit at which the server cuts off a subscriber that does not keep up, for people.
    pub(in super::super) fn slow_subscriber(&self) -> Option<String> {
        let size = |bytes| bytesize::ByteSize(bytes).display().iec().to_string();
        let hard = self.subscriber_hard_limit_bytes.filter(|bytes| *bytes > 0).map(size);
        let soft = self.subscriber_soft_limit_bytes.filter(|bytes| *bytes > 0).map(|bytes| {
            let span = Duration::from_millis(self.subscriber_soft_limit_ms.unwrap_or_default());
            format!("{} for {}", size(bytes), humantime::format_duration(span))
        });
        let limits: Vec<_> = hard.into_iter().chain(soft).collect();
        (!limits.is_empty())
            .then(|| format!("cuts off a sidecar that lags by {}", limits.join(" or ")))
    }
}

fn whole_ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl LogReport {
    fn of(
        domain: &str,
        found: &Result<Option<LogStatus>, RedisFault>,
        settings: &BusConfig,
    ) -> Self {
        let state = found.as_ref().ok().and_then(Option::as_ref).map(LogStateReport::of);
        Self { domain: domain.to_owned(), state, findings: log_findings(found, settings) }
    }

    /// The worst level of its findings.
    pub(in super::super) fn level(&self) -> Option<FindingLevel> {
        self.findings.iter().map(|finding| finding.level).min()
    }
}

impl LogStateReport {
    fn of(log: &LogStatus) -> Self {
        let mut leases: Vec<LeaseReport> = Vec::new();
        let mut all: Vec<u64> =
            log.registered.iter().map(|sidecar| whole_ms(sidecar.lease)).collect();
        all.sort_unstable();
        for same in all.chunk_by(|one, other| one == other) {
            leases.push(LeaseReport { lease_ms: same[0], sidecars: same.len() });
        }
        Self {
            protocol: log.protocol,
            epoch: log.epoch.clone(),
            seq: log.seq,
            settled: log.settled,
            stamps: log.stamps,
            sidecars: log.registered.len(),
            behind: log.registered.iter().filter(|sidecar| sidecar.reported_seq < log.seq).count(),
            leases,
        }
    }
}
