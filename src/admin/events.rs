//! `GET /events` (server-sent events): what happens in this sidecar, as it happens.
//!
//! Whoever is too slow misses events and is told how many; nobody waits for a listener. Listeners
//! are bounded in number. A stream says at once what it listens to, shows every few seconds that it
//! lives, and ends when the sidecar drains, so that it never holds a drain up. Keys and tags are
//! personal data: they are told only with `?keys=1`.

mod listening;
mod words;

use std::convert::Infallible;
use std::sync::Arc;

use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Body, Told};
use crate::serve::problem::Problem;
use listening::Listening;

/// The most that listen at once.
const LISTENERS_MAX: usize = 16;

/// Who listens: bounded, and counted. Clones share it.
#[derive(Debug, Clone)]
pub struct Listeners {
    places: Arc<Semaphore>,
    listening: Gauge,
    refused: Counter,
    missed: Counter,
}

impl Listeners {
    /// Nobody yet; the counters go into a registry whose prefix is `bfb`.
    pub fn register(registry: &mut Registry) -> Self {
        let listeners = Self {
            places: Arc::new(Semaphore::new(LISTENERS_MAX)),
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

    fn enter(&self) -> Result<Place, Problem> {
        let Ok(permit) = self.places.clone().try_acquire_owned() else {
            self.refused.inc();
            return Err(Problem::Overloaded { detail: format!("{LISTENERS_MAX} listen already") });
        };
        self.listening.inc();
        Ok(Place { listening: self.listening.clone(), _permit: permit })
    }
}

/// A listener's place, given up when it goes.
struct Place {
    listening: Gauge,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.listening.dec();
    }
}

/// What a listener asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    /// `keys=1`: with keys and tags.
    keys: bool,
    /// `domain=NAME`: of this domain, and of what all share.
    domain: Option<String>,
}

impl Asked {
    fn from_query(query: Option<&str>) -> Result<Self, String> {
        let mut asked = Self::default();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("keys", "1")) => asked.keys = true,
                Some(("domain", name)) => asked.domain = Some(name.to_owned()),
                _ => {
                    return Err(
                        "expected `keys=1` and `domain=NAME` and nothing else in the query"
                            .to_owned(),
                    );
                }
            }
        }
        Ok(asked)
    }
}

/// The stream for whoever asks with this query.
pub(super) fn stream(told: &Told, query: Option<&str>) -> Result<Body, Problem> {
    let asked = Asked::from_query(query).map_err(|detail| Problem::BadRequest { detail })?;
    if let Some(name) = &asked.domain {
        told.known_domain(name)?;
    }
    let listening = Listening::to(told, told.listeners.enter()?, asked);
    let frames = stream::unfold(listening, |mut listening| async {
        let frame = listening.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(frame)), listening))
    });
    Ok(StreamBody::new(frames).boxed_unsync())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_asks_for_keys_and_for_a_domain_and_for_nothing_else() {
        let asked = |query| Asked::from_query(query);
        assert_eq!(asked(None), Ok(Asked::default()));
        assert_eq!(asked(Some("")), Ok(Asked::default()));
        let both = Asked { keys: true, domain: Some("customer".to_owned()) };
        assert_eq!(asked(Some("keys=1&domain=customer")), Ok(both));
        for wrong in ["keys", "keys=yes", "key=1", "domain", "keys=1&x=1"] {
            assert!(asked(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
