//! What became of the fleet's claim on a key, in the words of Redis: each time that it was set, deleted or expired, in order.
//!
//! Redis decides who collects, so its own keyspace notifications say how often that changed, whatever the sidecars say.

use bfb::cache::CLAIM_LASTS;
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::support::client::PATIENCE;
use crate::support::redis::Redis;

const CHANNEL: &str = "__keyspace@0__:";
/// What is published on it comes behind all that happened before.
const BARRIER: &str = "__keyspace@0__:barrier";

/// What happened to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// It was granted, or renewed by its holder.
    Set,
    /// Its holder released it.
    Released,
    /// Its holder had not renewed it in time.
    Expired,
    /// A dataset was kept: there is nothing to collect any more.
    Kept,
    /// Nothing: everything before it has been heard.
    Barrier,
}

/// Listens to what happens to claims.
pub(super) struct Claims {
    events: watch::Receiver<Vec<Event>>,
    listening: AbortHandle,
}

impl Drop for Claims {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Claims {
    pub(super) async fn listen(redis: &Redis) -> Self {
        redis.command::<()>(&["CONFIG", "SET", "notify-keyspace-events", "KA"]);
        let mut pubsub = redis::Client::open(redis.url()).unwrap().get_async_pubsub().await.unwrap();
        pubsub.psubscribe(format!("{CHANNEL}*")).await.unwrap();
        let (heard, events) = watch::channel(Vec::new());
        let listening = tokio::spawn(async move {
            let mut messages = pubsub.into_on_message();
            while let Some(message) = messages.next().await {
                let what: String = message.get_payload().unwrap();
                if let Some(event) = event(message.get_channel_name(), &what) {
                    heard.send_modify(|events: &mut Vec<Event>| events.push(event));
                }
            }
        });
        Self { events, listening: listening.abort_handle() }
    }

    /// Waits until one holder has renewed its claim so often without losing it.
    pub(super) async fn until_renewed(&self, times: usize) {
        let mut events = self.events.clone();
        let renewed = tokio::time::timeout(PATIENCE, events.wait_for(|events| renewals(events) >= times)).await;
        assert!(renewed.is_ok(), "no claim was renewed {times} times: {:?}", self.events.borrow());
    }

    /// What has happened until now.
    pub(super) async fn tally(&self, redis: &Redis) -> Tally {
        let barriers = |events: &Vec<Event>| events.iter().filter(|event| **event == Event::Barrier).count();
        let before = barriers(&self.events.borrow());
        redis.command::<i64>(&["PUBLISH", BARRIER, ""]);
        let mut events = self.events.clone();
        let heard = tokio::time::timeout(PATIENCE, events.wait_for(|events| barriers(events) > before)).await;
        Tally::of(&heard.expect("Redis tells what happens").unwrap())
    }
}

/// Why a claim was granted more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    /// It was not renewed in time.
    pub(super) expired: usize,
    /// It was released before a dataset was kept.
    pub(super) left_nothing: usize,
}

impl Tally {
    fn of(events: &[Event]) -> Self {
        let collecting = events.iter().take_while(|event| **event != Event::Kept);
        let (mut expired, mut left_nothing) = (0, 0);
        for event in collecting {
            expired += usize::from(*event == Event::Expired);
            left_nothing += usize::from(*event == Event::Released);
        }
        Self { expired, left_nothing }
    }
}

fn event(channel: &str, what: &str) -> Option<Event> {
    if channel == BARRIER {
        return Some(Event::Barrier);
    }
    match what {
        "hset" if channel.contains(":dataset:") => Some(Event::Kept),
        "set" if channel.contains(":claim:") => Some(Event::Set),
        "del" if channel.contains(":claim:") => Some(Event::Released),
        "expired" if channel.contains(":claim:") => Some(Event::Expired),
        _ => None,
    }
}

/// How often the claim was set since it was granted.
fn renewals(events: &[Event]) -> usize {
    let held = events.iter().rev().take_while(|event| !matches!(event, Event::Released | Event::Expired));
    held.filter(|event| **event == Event::Set).count().saturating_sub(1)
}

/// Who holds the claim on a key of which there is one, if anybody does: the label of its sidecar.
pub(super) fn holder(redis: &Redis) -> Option<String> {
    let claims: Vec<String> = redis.command(&["KEYS", "bfb:*:claim:*"]);
    let claim = claims.first()?;
    let left_ms: i128 = redis.command(&["PTTL", claim]);
    assert!(left_ms <= i128::try_from(CLAIM_LASTS.as_millis()).unwrap(), "a claim that lasts {left_ms} ms");
    let value: Option<String> = redis.command(&["GET", claim]);
    // `LABEL-RANDOM/NUMBER EPOCH SEQ`
    Some(value?.rsplit_once('-')?.0.to_owned())
}

#[test]
fn renewals_are_counted_since_the_claim_was_granted() {
    use Event::{Barrier, Expired, Released, Set};

    for (events, expected) in [
        (&[][..], 0),
        (&[Set], 0),
        (&[Set, Set, Barrier, Set], 2),
        (&[Set, Set, Expired], 0),
        (&[Set, Set, Expired, Set, Set], 1),
        (&[Set, Set, Released, Set], 0),
    ] {
        assert_eq!(renewals(events), expected, "{events:?}");
    }
}

#[test]
fn what_happens_once_a_dataset_is_kept_is_no_reason_to_collect_again() {
    use Event::{Expired, Kept, Released, Set};

    let tally = |events: &[Event]| (Tally::of(events).expired, Tally::of(events).left_nothing);
    assert_eq!(tally(&[Set, Kept, Released]), (0, 0));
    assert_eq!(tally(&[Set, Released, Set, Expired, Set, Kept, Released, Set, Expired]), (1, 1));
}
