//! `GET /status`: the sidecar's state, for people (`bfb status`) and programs.

use std::time::SystemTime;

use super::AdminState;
use super::api::{
    DomainStatus, FleetDomainStatus, FleetStatus, IdentityStatus, LastFailure, MemoryStatus,
    NotKeptStatus, SourceState, SourceStatus, Status, VerifyStatus, VersionStatus,
};
use super::invalidate::whole_millis;
use crate::cache::{Cache, HitVerifier, InvalidationToken, TagsRefusals};
use crate::sources::{BreakerState, ClientState};

/// For how long after it was not kept a dataset is reported as trouble.
const NOT_KEPT_LATELY: std::time::Duration = std::time::Duration::from_mins(10);

pub(super) fn status(state: &AdminState) -> Status {
    let caches = state.caches.borrow().clone();
    Status {
        cache: super::cache_counters::cache_status(state),
        domains: caches.iter().map(domain_status).collect(),
        fleet: fleet_status(state),
        identity: identity_status(state),
        in_flight: Some(state.activity.in_flight()),
        log: Some(state.log.current()),
        memory: Some(MemoryStatus {
            bytes: state.memory.bytes(),
            capacity: state.memory.capacity(),
            entries: state.memory.entries(),
            limit_bytes: state.account.limit(),
            reserved_bytes: state.account.used(),
        }),
        phase: Some(state.health.phase().as_str().to_owned()),
        pid: Some(std::process::id()),
        reloads: Some(state.reloads.borrow().clone()),
        trouble: list_troubles(state),
        verify: state.verifier.as_ref().map(verify_status),
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
    }
}

fn verify_status(verifier: &HitVerifier) -> VerifyStatus {
    let status = verifier.status();
    VerifyStatus {
        checked: status.checked,
        nines: Some(status.nines),
        oldest_wrong_seconds: status.oldest_wrong_seconds,
        rate: status.rate,
        unknown: status.unknown,
        wrong: status.wrong,
    }
}

fn domain_status(cache: &Cache) -> DomainStatus {
    let collector = cache.collector();
    let domain = collector.domain();
    let versions = domain.versions.iter().map(|version| VersionStatus {
        deprecated: version.deprecated.map(|date| date.to_string()),
        name: Some(version.name.to_string()),
        path: Some(version.path.text.clone()),
        sunset: version.sunset.map(|date| date.to_string()),
    });
    let sources = collector.clients().iter().map(|client| {
        let source = client.source();
        SourceStatus {
            name: Some(source.name.to_string()),
            mutual: Some(source.mutual().as_str().to_owned()),
            origin: Some(source.address()),
            server: source.server().map(ToString::to_string),
            state: source_state(&client.state()),
        }
    });
    DomainStatus {
        file: Some(domain.file.to_string_lossy().into_owned()),
        name: Some(domain.name.to_string()),
        not_kept: cache.tags_refusals().iter().map(not_kept_status).collect(),
        plan: Some(domain.plan.to_string()),
        sources: sources.collect(),
        versions: versions.collect(),
    }
}

fn not_kept_status(refusals: &TagsRefusals) -> NotKeptStatus {
    NotKeptStatus {
        datasets: refusals.datasets,
        last_seconds_ago: refusals.last.elapsed().as_secs(),
        reason: refusals.reason.as_str().to_owned(),
        since_seconds_ago: refusals.since.elapsed().as_secs(),
    }
}

fn fleet_status(state: &AdminState) -> FleetStatus {
    let bus_status = state.bus.status();
    let domains = bus_status.domains.iter().map(|domain| FleetDomainStatus {
        applied: domain.applied.map(|fence| InvalidationToken(fence).to_string()),
        domain: Some(domain.domain.to_string()),
        epoch: domain.applied.map(|fence| format!("{:032x}", fence.epoch.0)),
        lag: Some(domain.lag),
        lease_held: domain.lease_held,
        lease_left_ms: domain.lease_left.map(whole_millis),
        member: Some(domain.member.0.to_string()),
        newer_protocol: domain.newer_protocol,
        seq: domain.applied.map(|fence| fence.seq),
    });
    FleetStatus {
        alone: bus_status.is_standalone,
        connected: bus_status.connected,
        domains: domains.collect(),
        trouble: bus_status.fault.map(|fault| fault.to_string()),
    }
}

fn source_state(state: &ClientState) -> SourceState {
    let breaker = match state.breaker {
        BreakerState::Closed => "closed",
        BreakerState::Open => "open",
        BreakerState::HalfOpen => "half-open",
    };
    SourceState {
        breaker: Some(breaker.to_owned()),
        failed_in_a_row: Some(state.failed_in_a_row),
        in_flight: Some(state.inflight),
        last_failure: state.last_failure.map(|(reason, when)| LastFailure {
            reason: Some(reason.as_str().to_owned()),
            seconds_ago: Some(when.elapsed().as_secs()),
        }),
    }
}

fn identity_status(state: &AdminState) -> Option<IdentityStatus> {
    let identity = state.identity.as_ref()?.borrow().clone();
    Some(IdentityStatus {
        generation: Some(identity.generation),
        names: Some(identity.certificate.describe_names()),
        not_after: Some(crate::identity::format_timestamp(identity.not_after)),
    })
}

fn format_elapsed(since: tokio::time::Instant) -> impl std::fmt::Display {
    humantime::format_duration(std::time::Duration::from_secs(since.elapsed().as_secs()))
}

/// The troubles of the sidecar, each as a sentence for the operator.
pub(super) fn list_troubles(state: &AdminState) -> Vec<String> {
    let mut trouble = Vec::new();
    let reloads = state.reloads.borrow();
    if !reloads.problems.is_empty() {
        let first = reloads.problems.first().map_or("", String::as_str);
        let more = reloads.problems.len() - 1;
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        trouble.push(format!(
            "a changed domain file is refused, its old version stays: {first}{more}"
        ));
    }
    for cache in state.caches.borrow().iter() {
        let lately = |refusals: &TagsRefusals| refusals.last.elapsed() < NOT_KEPT_LATELY;
        for refusals in cache.tags_refusals().into_iter().filter(lately) {
            trouble.push(format!(
                "domain `{}`: {} datasets were served and not kept since {} ago, the last {} ago: \
                 {}",
                cache.domain().name,
                refusals.datasets,
                format_elapsed(refusals.since),
                format_elapsed(refusals.last),
                refusals.reason.in_words(),
            ));
        }
        for client in cache.collector().clients() {
            if client.state().breaker != BreakerState::Closed {
                trouble.push(format!(
                    "source `{}`: the circuit breaker is open",
                    client.source().name
                ));
            }
        }
    }
    let bus_status = state.bus.status();
    if !bus_status.is_standalone {
        if let Some(fault) = &bus_status.fault {
            trouble.push(format!("redis: {fault}"));
        }
        for domain in bus_status.domains.iter().filter(|domain| !domain.lease_held) {
            trouble.push(format!(
                "domain `{}`: the lease is not held; {}",
                domain.domain,
                state.bus_loss.in_words()
            ));
        }
    }
    if state.identity_metrics.files_are_broken() {
        trouble.push(
            "the certificate files are not usable, the identity before them stays; \
             the log says why"
                .to_owned(),
        );
    }
    let expires = state.identity.as_ref().map(|identity| identity.borrow().not_after);
    if expires.is_some_and(|not_after| not_after <= SystemTime::now()) {
        trouble.push("the certificate of this sidecar has expired".to_owned());
    }
    trouble
}
