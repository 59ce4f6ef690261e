//! Counts *one read*: the fate of the fleet's claim on a key, as Redis reports it, and so how often
//! the key may have been read on a machine that starves its processes.
//!
//! Where a sidecar is starved for longer than its claim lasts, another takes the claim over and
//! reads once more, as it should. Redis decides that, so its own keyspace notifications count it,
//! whatever the sidecars report. Where Redis is too slow to answer a sidecar, that one reads
//! without a claim: it counts that, and the fault of Redis that was the reason.

use bfb::cache::CLAIM_TTL;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::client::TEST_TIMEOUT;
use super::redis::Redis;
use super::sidecar::Sidecar;

/// Requests that Redis did not answer, or not in time.
const FAULTS: &str = "bfb_redis_faults_total";
/// A flight that has seen so many holders beyond the first collects without a claim.
const HOLDERS_MAX: usize = 2;
const CHANNEL: &str = "__keyspace@0__:";
/// A message on this channel arrives after all notifications before it.
const BARRIER: &str = "__keyspace@0__:barrier";

/// An event of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// It was granted, or renewed by its holder.
    Set,
    /// Its holder released it.
    Released,
    /// Its holder had not renewed it in time.
    Expired,
    /// A dataset was kept: there is nothing to collect any more.
    Kept,
    /// No event: all notifications before it have arrived.
    Barrier,
}

/// Listens to the events of claims.
pub(crate) struct Claims {
    events: watch::Receiver<Vec<Event>>,
    listening: AbortHandle,
}

impl Drop for Claims {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Claims {
    pub(crate) async fn listen(redis: &Redis) -> Self {
        redis.command::<()>(&["CONFIG", "SET", "notify-keyspace-events", "KA"]);
        let mut pubsub =
            redis::Client::open(redis.url()).unwrap().get_async_pubsub().await.unwrap();
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
    pub(crate) async fn until_renewed(&self, times: usize) {
        let mut events = self.events.clone();
        let renewed =
            tokio::time::timeout(TEST_TIMEOUT, events.wait_for(|events| renewals(events) >= times))
                .await;
        assert!(renewed.is_ok(), "no claim was renewed {times} times: {:?}", self.events.borrow());
    }

    /// The events until now.
    pub(crate) async fn tally(&self, redis: &Redis) -> Tally {
        let barriers =
            |events: &Vec<Event>| events.iter().filter(|event| **event == Event::Barrier).count();
        let before = barriers(&self.events.borrow());
        redis.command::<i64>(&["PUBLISH", BARRIER, ""]);
        let mut events = self.events.clone();
        let heard =
            tokio::time::timeout(TEST_TIMEOUT, events.wait_for(|events| barriers(events) > before))
                .await;
        Tally::of(&heard.expect("Redis tells what happens").unwrap())
    }
}

/// Why a claim was granted more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    /// It was not renewed in time.
    pub(crate) expired: usize,
    /// It was released before a dataset was kept.
    pub(crate) left_nothing: usize,
}

impl Tally {
    fn of(events: &[Event]) -> Self {
        let collecting = events.iter().take_while(|event| **event != Event::Kept);
        let mut expired = 0;
        let mut left_nothing = 0;
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
    let held =
        events.iter().rev().take_while(|event| !matches!(event, Event::Released | Event::Expired));
    held.filter(|event| **event == Event::Set).count().saturating_sub(1)
}

/// Watches a fleet before all its callers ask for one key.
pub(crate) struct OneRead {
    pub(crate) claims: Claims,
    /// The faults of Redis that each sidecar had counted before the first request: it was not
    /// connected yet.
    early_faults: Vec<usize>,
}

impl OneRead {
    /// Of a fleet that holds its lease.
    pub(crate) async fn of(redis: &Redis, sidecars: &[Sidecar]) -> Self {
        let early_faults = join_all(sidecars.iter().map(|sidecar| count(sidecar, FAULTS))).await;
        Self { claims: Claims::listen(redis).await, early_faults }
    }

    /// Asserts that so many reads are one, and one more at most for each claim that ended without a
    /// dataset and for each flight that collected without a claim; and that these had their
    /// reasons.
    pub(crate) async fn assert(
        &self,
        reads: usize,
        redis: &Redis,
        sidecars: &[Sidecar],
        killed: Option<usize>,
    ) {
        let Tally { expired, left_nothing } = self.claims.tally(redis).await;
        let mut faults = 0;
        let mut missed = 0;
        for (number, sidecar) in
            sidecars.iter().enumerate().filter(|(number, _)| Some(*number) != killed)
        {
            assert_eq!(
                count(sidecar, "bfb_lease_losses_total").await,
                0,
                "sidecar {number} lost its lease"
            );
            faults += count(sidecar, FAULTS).await - self.early_faults[number];
            missed += count(sidecar, "bfb_claims_missed_total").await;
        }
        let counted = format!(
            "{reads} reads; claims: {expired} expired, {left_nothing} left nothing, \
             {missed} missed; {faults} faults of Redis"
        );
        if expired < HOLDERS_MAX {
            assert!(missed + left_nothing <= faults, "without a reason: {counted}");
        }
        assert!((1..=1 + expired + left_nothing + missed).contains(&reads), "{counted}");
    }
}

/// The value of a counter; 0 where it is absent.
async fn count(sidecar: &Sidecar, name: &str) -> usize {
    let value = sidecar.metric(name, &[]).await.unwrap_or_default();
    value.to_string().parse().expect("a counter counts whole things")
}

/// The holder of the claim on the only claimed key, if there is one: the label of its sidecar.
pub(crate) fn holder(redis: &Redis) -> Option<String> {
    let claims: Vec<String> = redis.command(&["KEYS", "bfb:*:claim:*"]);
    let claim = claims.first()?;
    let left_ms: i128 = redis.command(&["PTTL", claim]);
    assert!(
        left_ms <= i128::try_from(CLAIM_TTL.as_millis()).unwrap(),
        "a claim that lasts {left_ms} ms"
    );
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
