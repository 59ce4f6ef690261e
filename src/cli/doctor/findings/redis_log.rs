//! The findings about a domain's log in Redis.

use std::time::Duration;

use humantime::format_duration as span;

use super::finding::Finding;
use crate::bus::examine::LogStatus;
use crate::bus::{BusConfig, RedisFault};
use crate::coherence::PROTOCOL;

/// The findings about a domain's log.
pub(in super::super) fn log_findings(
    found: &Result<Option<LogStatus>, RedisFault>,
    settings: &BusConfig,
) -> Vec<Finding> {
    let log = match found {
        Ok(Some(log)) => log,
        // The findings about its server say why the log could not be read.
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
        let text = format!(
            "its log speaks protocol {}, this release {PROTOCOL}: it would take no part",
            log.protocol
        );
        findings.push(
            Finding::error("newer-protocol", text)
                .expected("a release as new as the newest of the fleet"),
        );
    }
    if log.is_alive == Some(false) {
        let text =
            "its log is of an earlier life of the server; the next heartbeat begins an epoch";
        findings.push(Finding::note("other-life", text));
        return findings;
    }
    findings.extend(leases_finding(log, settings));
    let behind = log.registered.iter().filter(|sidecar| sidecar.reported_seq < log.seq).count();
    if behind > 0 {
        let text = format!(
            "{behind} of {} sidecars had not said that they applied everything",
            log.registered.len()
        );
        findings.push(
            Finding::note("behind", text)
                .hint("is it so again in a lease? `bfb status` there says why"),
        );
    }
    findings
}

/// The finding about leases that differ: an invalidator that never heard of the longest one must
/// not meet a new epoch.
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
            let text = format!(
                "its sidecars have a lease of {shown}, and `--lease` here is {}",
                span(settings.lease)
            );
            Some(Finding::warning("leases-differ", text).expected("one lease").hint(hint))
        }
        _ => {
            let text = format!("its sidecars have leases of {shown}");
            Some(
                Finding::warning("leases-differ", text)
                    .expected("one lease, but for a rolling change")
                    .hint(hint),
            )
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::bus::examine::RegisteredMember;

    const LEASE: Duration = Duration::from_secs(3);

    fn settings() -> BusConfig {
        BusConfig::new("redis://localhost".parse().unwrap(), LEASE)
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
        log_findings(&Ok(Some(log)), &settings()).iter().map(|finding| finding.name).collect()
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
