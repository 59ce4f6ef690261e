//! `GET /status`: the sidecar's state, for people (`bfb status`) and programs.

use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Value, json};

use super::AdminState;
use crate::cache::{Cache, HitVerifier, InvalidationToken, TagsRefusals};
use crate::sources::{BreakerState, ClientState};

/// For how long a dataset that was not kept is trouble.
const NOT_KEPT_LATELY: std::time::Duration = std::time::Duration::from_mins(10);

/// How the reloads of the domain files went.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ReloadStatus {
    /// Reloads that took effect, the first load not counted.
    pub done: u64,
    /// Changes that were refused.
    pub failed: u64,
    /// The problems of the files as they are now; empty where all are in force.
    pub problems: Vec<String>,
}

pub(super) fn status_json(state: &AdminState) -> Value {
    let caches = state.caches.borrow().clone();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "phase": state.health.phase(),
        "in_flight": state.activity.in_flight(),
        "log": state.log.current(),
        "memory": {
            "entries": state.memory.entries(),
            "bytes": state.memory.bytes(),
            "capacity": state.memory.capacity(),
            "reserved_bytes": state.account.used(),
            "limit_bytes": state.account.limit(),
        },
        "verify": state.verifier.as_ref().map(HitVerifier::status),
        "fleet": fleet_json(state),
        "cache": super::cache_counters::cache_json(state),
        "domains": caches.iter().map(domain_json).collect::<Vec<_>>(),
        "identity": identity_json(state),
        "reloads": state.reloads.borrow().clone(),
        "trouble": list_troubles(state),
    })
}

fn domain_json(cache: &Cache) -> Value {
    let collector = cache.collector();
    let domain = collector.domain();
    let versions = domain.versions.iter().map(|version| {
        json!({
            "name": *version.name,
            "path": version.path.text,
            "deprecated": version.deprecated.map(|date| date.to_string()),
            "sunset": version.sunset.map(|date| date.to_string()),
        })
    });
    let sources = collector.clients().iter().map(|client| {
        let source = client.source();
        json!({
            "name": *source.name,
            "origin": source.http.url.origin.to_string().trim_end_matches('/'),
            "server": source.http.server.to_string(),
            "state": client_state_json(&client.state()),
        })
    });
    json!({
        "name": *domain.name,
        "file": domain.file,
        "plan": domain.plan.to_string(),
        "versions": versions.collect::<Vec<_>>(),
        "sources": sources.collect::<Vec<_>>(),
        "not_kept": cache.tags_refusals().iter().map(not_kept_json).collect::<Vec<_>>(),
    })
}

/// Datasets that were served and not kept for want of their tags.
fn not_kept_json(refusals: &TagsRefusals) -> Value {
    json!({
        "reason": refusals.reason.as_str(),
        "datasets": refusals.datasets,
        "since_seconds_ago": refusals.since.elapsed().as_secs(),
        "last_seconds_ago": refusals.last.elapsed().as_secs(),
    })
}

fn fleet_json(state: &AdminState) -> Value {
    let standing = state.bus.status();
    let domains = standing.domains.iter().map(|domain| {
        json!({
            "domain": *domain.domain,
            "member": *domain.member.0,
            "applied": domain.applied.map(|fence| InvalidationToken(fence).to_string()),
            "epoch": domain.applied.map(|fence| format!("{:032x}", fence.epoch.0)),
            "seq": domain.applied.map(|fence| fence.seq),
            "lag": domain.lag,
            "lease_held": domain.lease_held,
            "lease_left_ms": domain.lease_left.map(|left| left.as_millis()),
            "newer_protocol": domain.newer_protocol,
        })
    });
    json!({
        "alone": standing.is_standalone,
        "connected": standing.connected,
        "trouble": standing.fault.map(|fault| fault.to_string()),
        "domains": domains.collect::<Vec<_>>(),
    })
}

fn client_state_json(state: &ClientState) -> Value {
    let breaker = match state.breaker {
        BreakerState::Closed => "closed",
        BreakerState::Open => "open",
        BreakerState::HalfOpen => "half-open",
    };
    let failure = |(reason, when): (crate::sources::Reason, tokio::time::Instant)| {
        json!({"reason": reason.as_str(),
            "seconds_ago": when.elapsed().as_secs()})
    };
    json!({
        "breaker": breaker,
        "in_flight": state.inflight,
        "failed_in_a_row": state.failed_in_a_row,
        "last_failure": state.last_failure.map(failure),
    })
}

fn identity_json(state: &AdminState) -> Option<Value> {
    let identity = state.identity.as_ref()?.borrow().clone();
    Some(json!({
        "names": identity.certificate.names(),
        "generation": identity.generation,
        "not_after": crate::identity::moment(identity.not_after),
    }))
}

fn format_elapsed(since: tokio::time::Instant) -> impl std::fmt::Display {
    humantime::format_duration(std::time::Duration::from_secs(since.elapsed().as_secs()))
}

/// What an operator should look at, in words.
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
    let standing = state.bus.status();
    if !standing.is_standalone {
        if let Some(fault) = &standing.fault {
            trouble.push(format!("redis: {fault}"));
        }
        for domain in standing.domains.iter().filter(|domain| !domain.lease_held) {
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
