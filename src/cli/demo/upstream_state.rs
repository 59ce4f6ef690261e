//! The state behind the four upstreams: revisions, and the behaviour that was set for each.
//!
//! No I/O here: the upstreams read it, the control endpoint writes it. A revision only ever goes
//! up, so an `ETag` made of it never returns.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

use super::data::{self, CUSTOMERS};

/// The four upstreams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UpstreamKind {
    Profile,
    Favorites,
    Reviews,
    Orders,
}

impl UpstreamKind {
    pub(super) const ALL: [Self; 4] = [Self::Profile, Self::Favorites, Self::Reviews, Self::Orders];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::Favorites => "favorites",
            Self::Reviews => "reviews",
            Self::Orders => "orders",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The customer that a path of this upstream is about. An id is known in one spelling only:
    /// `042` is nobody.
    pub(super) fn customer(self, path: &str) -> Option<u32> {
        let customer = |id: &str| id.parse().ok().filter(|number: &u32| number.to_string() == id);
        match self {
            Self::Profile => customer(path.strip_prefix("/customers/")?),
            Self::Favorites => {
                customer(path.strip_prefix("/customers/")?.strip_suffix("/favorites")?)
            }
            Self::Reviews => customer(path.strip_prefix("/customers/")?.strip_suffix("/reviews")?),
            Self::Orders => {
                data::customer_of(path.strip_prefix("/accounts/")?.strip_suffix("/orders")?)
            }
        }
    }
}

/// The behaviour that was set for an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(super) struct Behaviour {
    /// Some or all requests fail.
    pub(super) fail: Option<FailureMode>,
    /// How long each answer takes longer, in milliseconds.
    pub(super) slow_ms: u64,
    /// No request is answered until it recovers.
    pub(super) hang: bool,
}

/// Which requests fail, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct FailureMode {
    /// With this status.
    pub(super) status: u16,
    /// How many of a hundred, at random.
    pub(super) percent: u8,
}

/// The document that an upstream has for a customer right now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UpstreamDocument {
    pub(super) json: String,
    /// Quotes included.
    pub(super) etag: String,
}

/// One upstream's state.
#[derive(Debug)]
pub(super) struct UpstreamState {
    pub(super) kind: UpstreamKind,
    seed: u64,
    /// By customer, from 1; they begin with revision 1.
    revisions: Vec<AtomicU64>,
    behaviour: watch::Sender<Behaviour>,
    requests: AtomicU64,
}

impl UpstreamState {
    pub(super) fn new(kind: UpstreamKind, seed: u64) -> Self {
        let revisions = (1..=CUSTOMERS).map(|_| AtomicU64::new(1)).collect();
        Self {
            kind,
            seed,
            revisions,
            behaviour: watch::Sender::default(),
            requests: AtomicU64::new(0),
        }
    }

    fn revision(&self, customer: u32) -> Option<&AtomicU64> {
        self.revisions.get(usize::try_from(customer.checked_sub(1)?).ok()?)
    }

    /// The customer's document; `None`: there is none.
    pub(super) fn document(&self, customer: u32) -> Option<UpstreamDocument> {
        let revision = self.revision(customer)?.load(Ordering::Acquire);
        let json = match self.kind {
            UpstreamKind::Profile => json(&data::profile(self.seed, customer, revision)),
            UpstreamKind::Favorites => json(&data::favorites(self.seed, customer, revision)?),
            UpstreamKind::Reviews => json(&data::reviews(self.seed, customer, revision)),
            UpstreamKind::Orders => json(&data::orders(self.seed, customer, revision)),
        };
        // With the seed in it: on the same port, another demo may have other data at the same
        // revision.
        Some(UpstreamDocument {
            json,
            etag: format!("\"{}-{:x}-{customer}-{revision}\"", self.kind.name(), self.seed),
        })
    }

    /// Changes what there is for the customer, and returns the new revision; `None`: no such
    /// customer.
    pub(super) fn change(&self, customer: u32) -> Option<u64> {
        Some(self.revision(customer)?.fetch_add(1, Ordering::AcqRel) + 1)
    }

    pub(super) fn behaviour(&self) -> Behaviour {
        *self.behaviour.borrow()
    }

    pub(super) fn change_behaviour(&self, change: impl FnOnce(&mut Behaviour)) {
        self.behaviour.send_modify(change);
    }

    /// Counts a request and takes as long as the upstream has been told to.
    pub(super) async fn delay(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut behaviour = self.behaviour.subscribe();
        // The sender lives as long as `self`: waiting cannot fail.
        let slow_ms = behaviour
            .wait_for(|behaviour| !behaviour.hang)
            .await
            .map_or(0, |behaviour| behaviour.slow_ms);
        if slow_ms > 0 {
            tokio::time::sleep(Duration::from_millis(slow_ms)).await;
        }
    }

    /// How many requests came.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain structs serialise")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_change_gives_other_bytes_and_an_etag_that_was_never_there() {
        for kind in UpstreamKind::ALL {
            let shop = UpstreamState::new(kind, 7);
            let mut etags = HashSet::new();
            let mut bodies = HashSet::new();
            for _ in 0..12 {
                let document = shop.document(42).unwrap();
                assert!(etags.insert(document.etag), "{kind:?}");
                bodies.insert(document.json);
                shop.change(42).unwrap();
            }
            assert!(bodies.len() > 8, "{kind:?}");
        }
    }

    #[test]
    fn a_change_of_one_customer_leaves_the_others() {
        let shop = UpstreamState::new(UpstreamKind::Orders, 7);
        let neighbour = shop.document(43);
        assert_eq!(shop.change(42), Some(2));
        assert_eq!(shop.document(43), neighbour);
    }

    #[test]
    fn another_seed_is_another_etag() {
        let etag =
            |seed| UpstreamState::new(UpstreamKind::Profile, seed).document(42).unwrap().etag;
        assert_ne!(etag(1), etag(2));
        assert_eq!(etag(1), etag(1));
    }

    #[test]
    fn only_customers_1_to_1000_exist() {
        let shop = UpstreamState::new(UpstreamKind::Profile, 7);
        assert!(shop.document(1).is_some() && shop.document(1_000).is_some());
        assert!(shop.document(0).is_none() && shop.document(1_001).is_none());
        assert_eq!((shop.change(0), shop.change(1_001)), (None, None));
    }

    #[test]
    fn a_path_names_a_customer_in_one_spelling() {
        assert_eq!(UpstreamKind::Profile.customer("/customers/42"), Some(42));
        assert_eq!(UpstreamKind::Favorites.customer("/customers/42/favorites"), Some(42));
        assert_eq!(UpstreamKind::Orders.customer("/accounts/A-501554/orders"), Some(42));
        for path in [
            "/customers/042",
            "/customers/+42",
            "/customers/",
            "/customers/42/",
            "/customers/42/favorites",
            "/",
        ] {
            assert_eq!(UpstreamKind::Profile.customer(path), None, "{path}");
        }
    }

    #[tokio::test]
    async fn a_hanging_upstream_answers_once_it_recovers() {
        let shop = UpstreamState::new(UpstreamKind::Profile, 7);
        shop.change_behaviour(|behaviour| behaviour.hang = true);
        let mut waiting = Box::pin(shop.delay());
        assert!(futures_poll(&mut waiting).await.is_pending());
        shop.change_behaviour(|behaviour| *behaviour = Behaviour::default());
        waiting.await;
        assert_eq!(shop.requests(), 1);
    }

    /// Polls once.
    async fn futures_poll<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context))
        })
        .await
    }
}
