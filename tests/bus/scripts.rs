//! Each script does the same as its model: random calls run against a real server and against the
//! reference, and every answer and every published message must be the same.
#![allow(clippy::default_constructed_unit_structs, reason = "guards have content in some builds")]

use std::sync::Arc;
use std::time::Duration;

use bfb::bus::{LIMITS, RedisNames, Scripts, parse_published, parse_reply};
use bfb::coherence::{
    DatasetPlace, Epoch, Fence, Heartbeat, InvalidationScope, LogLimits, MemberName,
    PublishedEntries, ReferenceServer, ScriptCall, ScriptReply, ScriptRequest, ServerLife,
    TierDataset,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;

use super::support::READY_BYTES;
use crate::support::redis::Redis;

/// Small limits, so that random calls reach them.
const FEW: LogLimits = LogLimits { entries_max: 4, stamps_max: 3 };
/// Longer than any case takes: keys expire through [`Step::Expire`] only.
const TTL: Duration = Duration::from_mins(10);

#[derive(Debug, Clone)]
enum Step {
    Ask {
        protocol: u32,
        idea: Idea,
    },
    /// The server restarts with its data.
    NewLife,
    Flush,
    Expire(DatasetPlace),
}

/// A call whose fences are given as (how many epochs ago, seq).
type Ago = (usize, u64);

#[derive(Debug, Clone)]
enum Idea {
    Heartbeat { name: MemberName, lease: u64, applied: Option<Ago>, settles: bool },
    Deregister(MemberName),
    Invalidate { scopes: Vec<InvalidationScope>, unless_above: Option<Ago> },
    Progress { token: Ago, lapsed: bool, settles: bool, laggard: Option<MemberName> },
    ReadLog { after: Ago, max: usize },
    Store { place: DatasetPlace, fence: Ago, tags: Vec<Arc<str>>, body: Vec<u8> },
    Fetch { place: DatasetPlace, bytes_max: u64 },
    Claim { place: DatasetPlace, holder: MemberName, fence: Ago, bytes_max: Option<u64> },
    Release { place: DatasetPlace, holder: MemberName },
}

fn name() -> impl Strategy<Value = MemberName> {
    select(vec!["ann", "bob", "cho"]).prop_map(|name| MemberName(name.into()))
}

fn key() -> impl Strategy<Value = Arc<str>> {
    select(vec!["42", "43", "a b\"c\\/é\n", ""]).prop_map(Arc::from)
}

fn tags() -> impl Strategy<Value = Vec<Arc<str>>> {
    vec(select(vec!["gold", "silver", "42"]).prop_map(Arc::from), 0..3)
}

fn place() -> impl Strategy<Value = DatasetPlace> {
    (key(), select(vec!["p1", "p2"]))
        .prop_map(|(key, plan)| DatasetPlace { key, plan: plan.into() })
}

fn ago() -> impl Strategy<Value = Ago> {
    (prop_oneof![9 => Just(0), 1 => 1..3_usize], 0..12_u64)
}

fn scope() -> impl Strategy<Value = InvalidationScope> {
    let tag = select(vec!["gold", "silver", "42"]);
    prop_oneof![
        6 => key().prop_map(InvalidationScope::Key),
        3 => tag.prop_map(|tag| InvalidationScope::Tag(tag.into())),
        1 => Just(InvalidationScope::All),
    ]
}

fn idea() -> impl Strategy<Value = Idea> {
    let lease = select(vec![100, 3_000, 5_000]);
    let often = || prop::option::of(ago());
    prop_oneof![
        4 => (name(), lease, often(), any::<bool>())
            .prop_map(|(name, lease, applied, settles)| {
                Idea::Heartbeat { name, lease, applied, settles }
            }),
        1 => name().prop_map(Idea::Deregister),
        6 => (vec(scope(), 1..4), often())
            .prop_map(|(scopes, unless_above)| Idea::Invalidate { scopes, unless_above }),
        2 => (ago(), any::<bool>(), any::<bool>(), prop::option::of(name()))
            .prop_map(|(token, lapsed, settles, laggard)| {
                Idea::Progress { token, lapsed, settles, laggard }
            }),
        3 => (ago(), 1..5_usize).prop_map(|(after, max)| Idea::ReadLog { after, max }),
        4 => (place(), ago(), tags(), vec(any::<u8>(), 1..8))
            .prop_map(|(place, fence, tags, body)| Idea::Store { place, fence, tags, body }),
        4 => (place(), 0..8_u64).prop_map(|(place, bytes_max)| Idea::Fetch { place, bytes_max }),
        3 => (place(), name(), ago(), prop::option::of(0..8_u64))
            .prop_map(|(place, holder, fence, bytes_max)| {
                Idea::Claim { place, holder, fence, bytes_max }
            }),
        1 => (place(), name()).prop_map(|(place, holder)| Idea::Release { place, holder }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let protocol = prop_oneof![40 => Just(1), 1 => Just(2)];
    prop_oneof![
        60 => (protocol, idea()).prop_map(|(protocol, idea)| Step::Ask { protocol, idea }),
        1 => Just(Step::NewLife),
        1 => Just(Step::Flush),
        1 => place().prop_map(Step::Expire),
    ]
}

/// A real server and the reference, which get the same calls.
struct Twins {
    scripts: Scripts,
    names: RedisNames,
    control: redis::Connection,
    subscription: redis::PubSub<'static>,
    model: ReferenceServer,
    life: u128,
    /// The epochs that the answers named, the newest last.
    epochs: Vec<Epoch>,
    fresh: u128,
}

impl Twins {
    fn new(redis: &Redis, limits: LogLimits) -> Self {
        let names = RedisNames::new("default", "customer");
        let listener: &'static mut redis::Connection = Box::leak(Box::new(redis.control()));
        let mut subscription = listener.as_pubsub();
        subscription.subscribe(names.invalidations_channel()).unwrap();
        Self {
            scripts: Scripts::new(limits),
            names,
            control: redis.control(),
            subscription,
            model: ReferenceServer::new(limits),
            life: 0,
            epochs: vec![Epoch(1)],
            fresh: 1,
        }
    }

    fn fence(&self, (ago, seq): Ago) -> Fence {
        let epochs = self.epochs.len();
        Fence { epoch: self.epochs[epochs.saturating_sub(ago + 1)], seq }
    }

    fn call(&self, idea: Idea) -> ScriptCall {
        let fence = |ago| self.fence(ago);
        match idea {
            Idea::Heartbeat { name, lease, applied, settles } => ScriptCall::Heartbeat(Heartbeat {
                name,
                lease: Duration::from_millis(lease),
                applied: applied.map(fence),
                marks_settled: settles,
                store: None,
            }),
            Idea::Deregister(name) => ScriptCall::Deregister(name),
            Idea::Invalidate { scopes, unless_above } => ScriptCall::Invalidate {
                scopes: scopes.into(),
                unless_above: unless_above.map(fence),
            },
            Idea::Progress { token, lapsed, settles, laggard } => ScriptCall::Progress {
                token: fence(token),
                lease_has_passed: lapsed,
                marks_settled: settles,
                laggard,
            },
            Idea::ReadLog { after, max } => ScriptCall::ReadLog { after: fence(after), max },
            Idea::Store { place, fence: ago, tags, body } => ScriptCall::Store {
                place,
                dataset: TierDataset { fence: fence(ago), tags, body: body.into() },
                age: Duration::ZERO,
            },
            Idea::Fetch { place, bytes_max } => ScriptCall::Fetch { place, bytes_max },
            Idea::Claim { place, holder, fence: ago, bytes_max } => {
                ScriptCall::Claim { place, holder, fence: fence(ago), bytes_max }
            }
            Idea::Release { place, holder } => ScriptCall::Release { place, holder },
        }
    }

    /// Runs a call on the real server, and reads the entries that it published.
    fn ask(&mut self, request: &ScriptRequest) -> (ScriptReply, Option<PublishedEntries>) {
        let ask = self.scripts.prepare(&self.names, request, TTL);
        let value = match ask.evalsha().query(&mut self.control) {
            Err(error) if error.code() == Some("NOSCRIPT") => ask.eval().query(&mut self.control),
            other => other,
        };
        let mut answered = parse_reply(value.unwrap()).unwrap();
        if let ScriptReply::Hit(fetched) = &mut answered {
            assert!(!fetched.ttl_left.is_zero() && fetched.ttl_left <= TTL);
            fetched.ttl_left = Duration::ZERO;
        }
        redis::cmd("PUBLISH")
            .arg(self.names.invalidations_channel())
            .arg("end")
            .exec(&mut self.control)
            .unwrap();
        let mut published = None;
        loop {
            let payload = self.subscription.get_message().unwrap().get_payload_bytes().to_vec();
            if payload == b"end" {
                return (answered, published);
            }
            assert!(published.is_none(), "two messages of one call");
            published = Some(parse_published(&payload).unwrap());
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::NewLife => {
                redis::cmd("DEBUG").arg("CHANGE-REPL-ID").exec(&mut self.control).unwrap();
                self.life += 1;
            }
            Step::Flush => {
                redis::cmd("FLUSHALL").exec(&mut self.control).unwrap();
                self.model = ReferenceServer::new(FEW);
            }
            Step::Expire(place) => {
                redis::cmd("DEL").arg(self.names.claim(&place)).exec(&mut self.control).unwrap();
                self.model.expire_claim(&place);
            }
            Step::Ask { protocol, idea } => {
                self.fresh += 1;
                let request = ScriptRequest {
                    protocol,
                    fresh_epoch: Epoch(self.fresh << 64),
                    call: self.call(idea),
                };
                let (real, published) = self.ask(&request);
                let outcome = self.model.run(ServerLife(self.life), &request);
                assert_eq!(
                    (&real, &published),
                    (&outcome.answer, &outcome.published),
                    "to {request:?}"
                );
                self.note(&real);
            }
        }
    }

    fn note(&mut self, answer: &ScriptReply) {
        let epoch = match answer {
            ScriptReply::Heartbeat(reply) => reply.log_end.epoch,
            ScriptReply::Issued(issued) => issued.token.epoch,
            _ => return,
        };
        if !self.epochs.contains(&epoch) {
            self.epochs.push(epoch);
        }
    }
}

#[test]
fn every_script_answers_and_publishes_what_its_model_does() {
    let redis = Redis::start();
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let twins = std::cell::RefCell::new(Twins::new(&redis, FEW));
    let ran = runner.run(&vec(step(), 1..80), |steps| {
        let mut twins = twins.borrow_mut();
        twins.take(Step::Flush);
        twins.epochs = vec![Epoch(1)];
        for step in steps {
            twins.take(step);
        }
        Ok(())
    });
    ran.unwrap();
}

fn invalidate(keys: &[&str]) -> Idea {
    Idea::Invalidate {
        scopes: keys.iter().map(|&key| InvalidationScope::Key(key.into())).collect(),
        unless_above: None,
    }
}

fn ask(idea: Idea) -> Step {
    Step::Ask { protocol: 1, idea }
}

#[test]
fn a_server_that_restarts_begins_a_new_epoch_with_its_data_and_without() {
    let mut redis = Redis::start();
    for keeps in [true, false] {
        let mut twins = Twins::new(&redis, LIMITS);
        twins.take(Step::Flush);
        twins.take(ask(invalidate(&["42"])));
        let place = DatasetPlace { key: "43".into(), plan: "p".into() };
        let store =
            Idea::Store { place: place.clone(), fence: (0, 1), tags: vec![], body: b"{}".to_vec() };
        twins.take(ask(store));
        let before = twins.epochs.clone();
        if keeps {
            redis.restart_with_data();
        } else {
            redis.restart_without_data();
        }
        let mut after = Twins::new(&redis, LIMITS);
        after.fresh = twins.fresh + 1;
        let (answered, _) = after.ask(&request(
            &after,
            ScriptCall::Fetch { place: place.clone(), bytes_max: READY_BYTES },
        ));
        assert_eq!(answered, ScriptReply::OtherLife, "with data: {keeps}");
        let idea = Idea::Heartbeat {
            name: MemberName("ann".into()),
            lease: 3_000,
            applied: None,
            settles: false,
        };
        let (reply, _) = after.ask(&request(&after, after.call(idea)));
        let ScriptReply::Heartbeat(reply) = reply else { panic!("{reply:?}") };
        assert!(reply.log_end.seq == 0 && !before.contains(&reply.log_end.epoch) && !reply.settled);
        let (answered, _) =
            after.ask(&request(&after, ScriptCall::Fetch { place, bytes_max: READY_BYTES }));
        assert_eq!(
            answered,
            ScriptReply::Miss,
            "what was stored in the life before is not believed"
        );
    }
}

fn request(twins: &Twins, call: ScriptCall) -> ScriptRequest {
    ScriptRequest { protocol: 1, fresh_epoch: Epoch(twins.fresh << 64), call }
}

#[test]
fn stamps_that_were_evicted_are_another_life() {
    let redis = Redis::start();
    let mut twins = Twins::new(&redis, LIMITS);
    twins.take(ask(invalidate(&["42"])));
    redis.command::<()>(&["DEL", &twins.names.stamps()]);
    let place = DatasetPlace { key: "42".into(), plan: "p1".into() };
    let fetch = ScriptCall::Fetch { place, bytes_max: 8 };
    let (answered, _) = twins.ask(&request(&twins, fetch));
    assert_eq!(answered, ScriptReply::OtherLife);
}
