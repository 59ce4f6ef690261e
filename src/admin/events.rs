//! `GET /events` (server-sent events): the events of this sidecar, as they occur.
//!
//! A stream begins with a `listening` event, sends a comment every few seconds while there are no
//! events, and ends when the sidecar drains, so that it does not delay the drain. The sidecar never
//! waits for a listener: a listener that is too slow loses events, and a `missed` event counts
//! them. The number of listeners is bounded. Keys and tags are personal data: events hold them only
//! with `?keys=1`.

mod conversion;
mod listener;

use std::convert::Infallible;
use std::sync::Arc;

use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::admin_problem::AdminProblem;
use super::{AdminBody, AdminState};
use listener::EventListener;

/// The most listeners at once.
const LISTENERS_MAX: usize = 16;

/// The listeners' bound and their metrics. Clones share them.
#[derive(Debug, Clone)]
pub struct EventListeners {
    slots: Arc<Semaphore>,
    listening: Gauge,
    refused: Counter,
    missed: Counter,
}

impl EventListeners {
    /// Starts without listeners. `registry` has the prefix `bfb`.
    pub fn register(registry: &mut Registry) -> Self {
        let listeners = Self {
            slots: Arc::new(Semaphore::new(LISTENERS_MAX)),
            listening: Gauge::default(),
            refused: Counter::default(),
            missed: Counter::default(),
        };
        registry.register(
            "event_listeners",
            "Who listens to the events",
            listeners.listening.clone(),
        );
        let help = "Listeners refused because there were too many";
        registry.register("event_listeners_refused", help, listeners.refused.clone());
        registry.register(
            "events_missed",
            "Events that listeners were too slow for",
            listeners.missed.clone(),
        );
        listeners
    }

    fn acquire_slot(&self) -> Result<ListenerSlot, AdminProblem> {
        let Ok(permit) = self.slots.clone().try_acquire_owned() else {
            self.refused.inc();
            return Err(AdminProblem::Overloaded {
                detail: format!("{LISTENERS_MAX} listen already"),
            });
        };
        self.listening.inc();
        Ok(ListenerSlot { listening: self.listening.clone(), _permit: permit })
    }
}

/// One of the [`LISTENERS_MAX`] slots; released on drop.
struct ListenerSlot {
    listening: Gauge,
    _permit: OwnedSemaphorePermit,
}

impl Drop for ListenerSlot {
    fn drop(&mut self) {
        self.listening.dec();
    }
}

/// The query of `GET /events`.
#[derive(Debug, Default, PartialEq, Eq)]
struct EventQuery {
    /// `keys=1`: events hold keys and tags.
    keys: bool,
    /// `domain=NAME`: only events of this domain, and those of no domain.
    domain: Option<String>,
}

impl EventQuery {
    fn from_query(query: Option<&str>) -> Result<Self, String> {
        let mut event_query = Self::default();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("keys", "1")) => event_query.keys = true,
                Some(("domain", name)) => event_query.domain = Some(name.to_owned()),
                _ => {
                    return Err(
                        "expected `keys=1` and `domain=NAME` and nothing else in the query"
                            .to_owned(),
                    );
                }
            }
        }
        Ok(event_query)
    }
}

/// The stream of events for this query.
pub(super) fn stream(state: &AdminState, query: Option<&str>) -> Result<AdminBody, AdminProblem> {
    let event_query =
        EventQuery::from_query(query).map_err(|detail| AdminProblem::BadRequest { detail })?;
    if let Some(name) = &event_query.domain {
        state.find_cache(name)?;
    }
    let listener = EventListener::new(state, state.listeners.acquire_slot()?, event_query);
    let frames = stream::unfold(listener, |mut listener| async {
        let frame = listener.next_frame().await?;
        Some((Ok::<_, Infallible>(Frame::data(frame)), listener))
    });
    Ok(StreamBody::new(frames).boxed_unsync())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_asks_for_keys_and_for_a_domain_and_for_nothing_else() {
        let asked = |query| EventQuery::from_query(query);
        assert_eq!(asked(None), Ok(EventQuery::default()));
        assert_eq!(asked(Some("")), Ok(EventQuery::default()));
        let both = EventQuery { keys: true, domain: Some("customer".to_owned()) };
        assert_eq!(asked(Some("keys=1&domain=customer")), Ok(both));
        for wrong in ["keys", "keys=yes", "key=1", "domain", "keys=1&x=1"] {
            assert!(asked(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
