//! An event as its listeners read it: a name, and one line of JSON with `at`, `event` and what
//! belongs to it.

use std::fmt::Write as _;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::admin::AdminState;
use crate::admin::status::ReloadStatus;
use crate::cache::NotStoredReason;
use crate::coherence::{EmptyReason, InvalidationScope, LogEntry};
use crate::collect::CollectError;
use crate::{bus, cache};

/// The most keys and tags that one event names; it always says how many there are.
const NAMED_MAX: usize = 100;

/// One event.
pub(super) struct AdminEvent {
    name: &'static str,
    data: Value,
}

impl AdminEvent {
    fn new(name: &'static str, at: SystemTime, mut data: Value) -> Self {
        data["event"] = name.into();
        data["at"] = humantime::format_rfc3339_millis(at).to_string().into();
        Self { name, data }
    }

    fn now(name: &'static str, data: Value) -> Self {
        Self::new(name, SystemTime::now(), data)
    }

    /// JSON has no line break of its own.
    pub(super) fn write(&self, frame: &mut String) {
        let _ = write!(frame, "event: {}\ndata: {}\n\n", self.name, self.data);
    }
}

/// The first: who speaks, and how things stand.
pub(super) fn listening_event(state: &AdminState, keys: bool) -> AdminEvent {
    let standing = state.bus.status();
    let domains = standing.domains.iter().map(|domain| {
        let applied = domain.applied.map(|fence| fence.seq);
        json!({"domain": *domain.domain, "lease_held": domain.lease_held, "seq": applied})
    });
    let redis = if standing.is_standalone { Value::Null } else { standing.connected.into() };
    let data = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "keys": keys,
        "redis_connected": redis,
        "domains": domains.collect::<Vec<_>>(),
    });
    AdminEvent::now("listening", data)
}

/// So many were missed.
pub(super) fn missed_event(count: u64) -> AdminEvent {
    AdminEvent::now("missed", json!({"count": count}))
}

/// The last.
pub(super) fn end_event() -> AdminEvent {
    AdminEvent::now("ends", json!({"because": "the sidecar drains"}))
}

/// What changed of the reloads.
pub(super) fn reload_events(before: &ReloadStatus, now: &ReloadStatus) -> Vec<AdminEvent> {
    let refused = (now.failed > before.failed)
        .then(|| AdminEvent::now("reload-refused", json!({"problems": now.problems})));
    let done = (now.done > before.done).then(|| AdminEvent::now("reloaded", json!({})));
    refused.into_iter().chain(done).collect()
}

/// What happened to a domain in the fleet, or to the connections.
pub(super) fn fleet_event(happening: &bus::BusEvent, keys: bool) -> AdminEvent {
    let (name, mut data) = match &happening.kind {
        bus::BusEventKind::InvalidationApplied(entry) => ("invalidated", applied_json(entry, keys)),
        bus::BusEventKind::HintHandled => ("hinted", json!({})),
        bus::BusEventKind::MemoryEmptied(why) => {
            ("emptied", json!({"because": empty_reason_name(*why)}))
        }
        bus::BusEventKind::LeaseHeld => ("lease-held", json!({})),
        bus::BusEventKind::LeaseLost => ("lease-lost", json!({})),
        bus::BusEventKind::Connected => ("redis-connected", json!({})),
        bus::BusEventKind::Disconnected(fault) => {
            ("redis-disconnected", json!({"because": fault.to_string()}))
        }
    };
    if let Some(domain) = &happening.domain {
        data["domain"] = (**domain).into();
    }
    AdminEvent::new(name, happening.at, data)
}

fn applied_json(entry: &LogEntry, keys: bool) -> Value {
    let of_key = |scope: &&InvalidationScope| matches!(scope, InvalidationScope::Key(_));
    let of_tag = |scope: &&InvalidationScope| matches!(scope, InvalidationScope::Tag(_));
    let scopes = &entry.scopes;
    let mut data = json!({
        "seq": entry.seq,
        "keys": scopes.iter().filter(of_key).count(),
        "tags": scopes.iter().filter(of_tag).count(),
        "all": scopes.iter().any(|scope| matches!(scope, InvalidationScope::All)),
    });
    if keys {
        let names = |of: &dyn Fn(&&InvalidationScope) -> bool| -> Vec<&str> {
            scopes.iter().filter(of).filter_map(scope_name).take(NAMED_MAX).collect()
        };
        data["named"] = json!({"keys": names(&of_key), "tags": names(&of_tag)});
    }
    data
}

fn scope_name(scope: &InvalidationScope) -> Option<&str> {
    match scope {
        InvalidationScope::Key(text) | InvalidationScope::Tag(text) => Some(text),
        InvalidationScope::All => None,
    }
}

const fn empty_reason_name(reason: EmptyReason) -> &'static str {
    match reason {
        EmptyReason::Epoch => "epoch",
        EmptyReason::StreamEnd => "stream-end",
    }
}

/// What came of a collection.
pub(super) fn fill_event(happening: &cache::CollectionEvent, keys: bool) -> AdminEvent {
    let (name, mut data) = match &happening.kind {
        cache::CollectionEventKind::Collected { dataset, bytes, rounds, not_stored } => {
            let name = if not_stored.is_none() { "filled" } else { "not-kept" };
            let mut data = json!({
                "dataset": dataset.map(|id| id.to_string()),
                "bytes": bytes,
                "rounds": rounds,
            });
            if let Some(not_stored) = not_stored {
                data["because"] = not_kept_reason_name(*not_stored).into();
            }
            (name, data)
        }
        cache::CollectionEventKind::Found { dataset, bytes } => (
            "found",
            json!({"dataset": dataset.map(|id| id.to_string()), "bytes": bytes, "in": "redis"}),
        ),
        cache::CollectionEventKind::Failed(error) => ("failed", failed_json(error)),
    };
    data["domain"] = (*happening.domain).into();
    data["took_ms"] = ((happening.took.as_secs_f64() * 1e4).round() / 10.0).into();
    if keys {
        data["key"] = (*happening.key).into();
    }
    AdminEvent::new(name, happening.at, data)
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

fn failed_json(error: &CollectError) -> Value {
    match error {
        CollectError::NotFound { source_name } => {
            json!({"failed": [{"source": **source_name, "reason": "not-found"}]})
        }
        CollectError::Failed { failures, deadline_passed } => {
            let failures = failures.iter().map(|failure| {
                let (source, reason, detail) =
                    (&*failure.source_name, failure.reason.as_str(), &failure.detail);
                json!({"source": source, "reason": reason, "detail": detail})
            });
            json!({"failed": failures.collect::<Vec<_>>(), "deadline_passed": deadline_passed})
        }
        CollectError::Overloaded { detail } => json!({"failed": [], "overloaded": detail}),
    }
}
