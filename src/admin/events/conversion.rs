//! Converts the events of the bus and of the cache into events of the API, and writes an event as a
//! server-sent event.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use crate::admin::AdminState;
use crate::admin::api::{
    AdminEvent, AppliedInvalidation, CollectionReport, EventKind, FailedCollection,
    ListeningDomain, ListeningReport, NamedScopes, ReloadStatus, SourceFailure,
};
use crate::cache::NotStoredReason;
use crate::coherence::{EmptyReason, InvalidationScope, LogEntry};
use crate::collect::CollectError;
use crate::{bus, cache};

/// The most keys, and the most tags, that one event names. Its counts are of all of them.
const NAMED_MAX: usize = 100;

/// Writes a server-sent event: its name, and one line of JSON, which contains no line break. The
/// members are sorted by name.
pub(super) fn write(event: &AdminEvent, frame: &mut String) {
    let data = serde_json::to_value(event).unwrap_or_default();
    let name = data.get("event").and_then(|name| name.as_str()).unwrap_or_default();
    let _ = write!(frame, "event: {name}\ndata: {data}\n\n");
}

fn event_at(at: SystemTime, domain: Option<&str>, kind: EventKind) -> AdminEvent {
    AdminEvent {
        at: Some(humantime::format_rfc3339_millis(at).to_string()),
        domain: domain.map(str::to_owned),
        kind: Some(kind),
    }
}

fn event_now(kind: EventKind) -> AdminEvent {
    event_at(SystemTime::now(), None, kind)
}

/// The first event of a stream: the sidecar and the state of its domains.
pub(super) fn listening_event(state: &AdminState, keys: bool) -> AdminEvent {
    let bus_status = state.bus.status();
    let domains = bus_status.domains.iter().map(|domain| ListeningDomain {
        domain: Some(domain.domain.to_string()),
        lease_held: domain.lease_held,
        seq: domain.applied.map(|fence| fence.seq),
    });
    event_now(EventKind::Listening(ListeningReport {
        domains: domains.collect(),
        keys,
        pid: Some(std::process::id()),
        redis_connected: (!bus_status.is_standalone).then_some(bus_status.connected),
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
    }))
}

/// The event for a listener that lost `count` events.
pub(super) fn missed_event(count: u64) -> AdminEvent {
    event_now(EventKind::Missed { count: Some(count) })
}

/// The last event of a stream.
pub(super) fn end_event() -> AdminEvent {
    event_now(EventKind::Ends { because: "the sidecar drains".to_owned() })
}

/// The events of the reloads between two states.
pub(super) fn reload_events(before: &ReloadStatus, now: &ReloadStatus) -> Vec<AdminEvent> {
    let refused = (now.failed > before.failed)
        .then(|| event_now(EventKind::ReloadRefused { problems: now.problems.clone() }));
    let done = (now.done > before.done).then(|| event_now(EventKind::Reloaded));
    refused.into_iter().chain(done).collect()
}

/// An event of the bus. It names keys and tags if `keys`.
pub(super) fn fleet_event(event: &bus::BusEvent, keys: bool) -> AdminEvent {
    let kind = match &event.kind {
        bus::BusEventKind::InvalidationApplied(entry) => {
            EventKind::Invalidated(applied_invalidation(entry, keys))
        }
        bus::BusEventKind::HintHandled => EventKind::Hinted,
        bus::BusEventKind::MemoryEmptied(reason) => {
            EventKind::Emptied { because: empty_reason_name(*reason).to_owned() }
        }
        bus::BusEventKind::LeaseHeld => EventKind::LeaseHeld,
        bus::BusEventKind::LeaseLost => EventKind::LeaseLost,
        bus::BusEventKind::Connected => EventKind::RedisConnected,
        bus::BusEventKind::Disconnected(fault) => {
            EventKind::RedisDisconnected { because: fault.to_string() }
        }
    };
    event_at(event.at, event.domain.as_deref(), kind)
}

fn applied_invalidation(entry: &LogEntry, keys: bool) -> AppliedInvalidation {
    let scopes = entry.scopes.iter();
    let key_names = scopes.clone().filter_map(|scope| match scope {
        InvalidationScope::Key(key) => Some(&**key),
        _ => None,
    });
    let tag_names = scopes.clone().filter_map(|scope| match scope {
        InvalidationScope::Tag(tag) => Some(&**tag),
        _ => None,
    });
    let named = keys.then(|| NamedScopes {
        keys: key_names.clone().take(NAMED_MAX).map(str::to_owned).collect(),
        tags: tag_names.clone().take(NAMED_MAX).map(str::to_owned).collect(),
    });
    AppliedInvalidation {
        all: scopes.clone().any(|scope| matches!(scope, InvalidationScope::All)),
        keys: key_names.count(),
        named,
        seq: Some(entry.seq),
        tags: tag_names.count(),
    }
}

const fn empty_reason_name(reason: EmptyReason) -> &'static str {
    match reason {
        EmptyReason::Epoch => "epoch",
        EmptyReason::StreamEnd => "stream-end",
    }
}

/// An event of a collection. It names the key if `keys`.
pub(super) fn fill_event(event: &cache::CollectionEvent, keys: bool) -> AdminEvent {
    let key = keys.then(|| event.key.to_string());
    let took_ms = Some(tenths_of_millis(event.took));
    let kind = match &event.kind {
        cache::CollectionEventKind::Collected { dataset, bytes, rounds, not_stored } => {
            let report = CollectionReport {
                because: not_stored.map(|reason| not_kept_reason_name(reason).to_owned()),
                bytes: *bytes as u64,
                dataset: dataset.map(|id| id.to_string()),
                found_in: None,
                key,
                rounds: Some(*rounds),
                took_ms,
            };
            match not_stored {
                None => EventKind::Filled(report),
                Some(_) => EventKind::NotKept(report),
            }
        }
        cache::CollectionEventKind::Found { dataset, bytes } => {
            EventKind::Found(CollectionReport {
                because: None,
                bytes: *bytes as u64,
                dataset: dataset.map(|id| id.to_string()),
                found_in: Some("redis".to_owned()),
                key,
                rounds: None,
                took_ms,
            })
        }
        cache::CollectionEventKind::Failed(error) => {
            EventKind::Failed(FailedCollection { key, took_ms, ..failed_collection(error) })
        }
    };
    event_at(event.at, Some(&event.domain), kind)
}

/// The time in milliseconds, with one digit after the point.
fn tenths_of_millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 10.0
}

const fn not_kept_reason_name(reason: NotStoredReason) -> &'static str {
    match reason {
        NotStoredReason::Off => "off",
        NotStoredReason::NoStore => "no-store",
        NotStoredReason::NoTags => "no-tags",
        NotStoredReason::LeaseLost => "lease-lost",
        NotStoredReason::Fenced => "fenced",
    }
}

fn failed_collection(error: &CollectError) -> FailedCollection {
    match error {
        CollectError::NotFound { source_name } => {
            let failed = SourceFailure {
                detail: None,
                reason: "not-found".to_owned(),
                source: source_name.to_string(),
            };
            FailedCollection { failed: vec![failed], ..FailedCollection::default() }
        }
        CollectError::BadKey { source_name, detail } => {
            let failed = SourceFailure {
                detail: Some(detail.clone()),
                reason: "bad-key".to_owned(),
                source: source_name.to_string(),
            };
            FailedCollection { failed: vec![failed], ..FailedCollection::default() }
        }
        CollectError::Failed { failures, deadline_passed } => {
            let failures = failures.iter().map(|failure| SourceFailure {
                detail: Some(failure.detail.clone()),
                reason: failure.reason.as_str().to_owned(),
                source: failure.source_name.to_string(),
            });
            FailedCollection {
                deadline_passed: Some(*deadline_passed),
                failed: failures.collect(),
                ..FailedCollection::default()
            }
        }
        CollectError::Overloaded { detail } => {
            FailedCollection { overloaded: Some(detail.clone()), ..FailedCollection::default() }
        }
    }
}
