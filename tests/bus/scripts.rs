//! Each script does what the model of it does: random calls run against a real server and against
//! the reference, and every answer and every message published must be the same.
#![allow(clippy::default_constructed_unit_structs, reason = "guards have content in some builds")]

use std::sync::Arc;
use std::time::Duration;

use bfb::bus::{LIMITS, Names, Scripts, answer, news};
use bfb::coherence::{
    Answer, Call, Epoch, Fence, Guards, Heartbeat, Life, Limits, Name, Place, Published, Request,
    Scope, Server, Stored,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;

use super::support::READY_BYTES;
use crate::support::redis::Redis;

/// Few, so that random calls reach the bounds.
const FEW: Limits = Limits { entries_max: 4, stamps_max: 3 };
/// Longer than any case takes: what expires does so through [`Step::Expire`].
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
    Expire(Place),
}

/// A call whose fences are given as (how many epochs ago, seq).
type Ago = (usize, u64);

#[derive(Debug, Clone)]
enum Idea {
    Heartbeat { name: Name, lease: u64, applied: Option<Ago>, settles: bool },
    Deregister(Name),
    Invalidate { scopes: Vec<Scope>, unless_above: Option<Ago> },
    Progress { token: Ago, lapsed: bool, settles: bool, laggard: Option<Name> },
    ReadLog { after: Ago, max: usize },
    Store { place: Place, fence: Ago, tags: Vec<Arc<str>>, body: Vec<u8> },
    Fetch { place: Place, bytes_max: u64 },
    Vouch { key: Arc<str>, tags: Vec<Arc<str>>, fence: Ago },
    Claim { place: Place, holder: Name, fence: Ago, bytes_max: Option<u64> },
    Release { place: Place, holder: Name },
}

fn name() -> impl Strategy<Value = Name> {
    select(vec!["ann", "bob", "cho"]).prop_map(|name| Name(name.into()))
}

fn key() -> impl Strategy<Value = Arc<str>> {
    select(vec!["42", "43", "a b\"c\\/é\n", ""]).prop_map(Arc::from)
}

fn tags() -> impl Strategy<Value = Vec<Arc<str>>> {
    vec(select(vec!["gold", "silver", "42"]).prop_map(Arc::from), 0..3)
}

fn place() -> impl Strategy<Value = Place> {
    (key(), select(vec!["p1", "p2"])).prop_map(|(key, plan)| Place { key, plan: plan.into() })
}

fn ago() -> impl Strategy<Value = Ago> {
    (prop_oneof![9 => Just(0), 1 => 1..3_usize], 0..12_u64)
}

fn scope() -> impl Strategy<Value = Scope> {
    let tag = select(vec!["gold", "silver", "42"]);
    prop_oneof![
        6 => key().prop_map(Scope::Key),
        3 => tag.prop_map(|tag| Scope::Tag(tag.into())),
        1 => Just(Scope::All),
    ]
}

fn idea() -> impl Strategy<Value = Idea> {
    let lease = select(vec![100, 3_000, 5_000]);
    let often = || prop::option::of(ago());
    prop_oneof![
        4 => (name(), lease, often(), any::<bool>())
            .prop_map(|(name, lease, applied, settles)| Idea::Heartbeat { name, lease, applied, settles }),
        1 => name().prop_map(Idea::Deregister),
        6 => (vec(scope(), 1..4), often())
            .prop_map(|(scopes, unless_above)| Idea::Invalidate { scopes, unless_above }),
        2 => (ago(), any::<bool>(), any::<bool>(), prop::option::of(name()))
            .prop_map(|(token, lapsed, settles, laggard)| Idea::Progress { token, lapsed, settles, laggard }),
        3 => (ago(), 1..5_usize).prop_map(|(after, max)| Idea::ReadLog { after, max }),
        4 => (place(), ago(), tags(), vec(any::<u8>(), 1..8))
            .prop_map(|(place, fence, tags, body)| Idea::Store { place, fence, tags, body }),
        4 => (place(), 0..8_u64).prop_map(|(place, bytes_max)| Idea::Fetch { place, bytes_max }),
        3 => (key(), tags(), ago()).prop_map(|(key, tags, fence)| Idea::Vouch { key, tags, fence }),
        3 => (place(), name(), ago(), prop::option::of(0..8_u64))
            .prop_map(|(place, holder, fence, bytes_max)| Idea::Claim { place, holder, fence, bytes_max }),
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

/// A real server and the reference, asked the same.
struct Twins {
    scripts: Scripts,
    names: Names,
    control: redis::Connection,
    news: redis::PubSub<'static>,
    model: Server,
    life: u128,
    /// Epochs as their answers named them, the newest last.
    epochs: Vec<Epoch>,
    fresh: u128,
}

impl Twins {
    fn new(redis: &Redis, limits: Limits) -> Self {
        let names = Names::new("default", "customer");
        let listener: &'static mut redis::Connection = Box::leak(Box::new(redis.control()));
        let mut news = listener.as_pubsub();
        news.subscribe(names.news()).unwrap();
        Self {
            scripts: Scripts::new(limits),
            names,
            control: redis.control(),
            news,
            model: Server::new(limits, Guards::default()),
            life: 0,
            epochs: vec![Epoch(1)],
            fresh: 1,
        }
    }

    fn fence(&self, (ago, seq): Ago) -> Fence {
        let epochs = self.epochs.len();
        Fence { epoch: self.epochs[epochs.saturating_sub(ago + 1)], seq }
    }

    fn call(&self, idea: Idea) -> Call {
        let fence = |ago| self.fence(ago);
        match idea {
            Idea::Heartbeat { name, lease, applied, settles } => Call::Heartbeat(Heartbeat {
                name,
                lease: Duration::from_millis(lease),
                applied: applied.map(fence),
                settles,
            }),
            Idea::Deregister(name) => Call::Deregister(name),
            Idea::Invalidate { scopes, unless_above } => {
                Call::Invalidate { scopes: scopes.into(), unless_above: unless_above.map(fence) }
            }
            Idea::Progress { token, lapsed, settles, laggard } => {
                Call::Progress { token: fence(token), lapsed, settles, laggard }
            }
            Idea::ReadLog { after, max } => Call::ReadLog { after: fence(after), max },
            Idea::Store { place, fence: ago, tags, body } => Call::Store {
                place,
                dataset: Stored { fence: fence(ago), tags, body: body.into() },
                age: Duration::ZERO,
            },
            Idea::Fetch { place, bytes_max } => Call::Fetch { place, bytes_max },
            Idea::Vouch { key, tags, fence: ago } => Call::Vouch { key, tags, fence: fence(ago) },
            Idea::Claim { place, holder, fence: ago, bytes_max } => {
                Call::Claim { place, holder, fence: fence(ago), bytes_max }
            }
            Idea::Release { place, holder } => Call::Release { place, holder },
        }
    }

    /// Asks the real server, and reads what it published on the way.
    fn ask(&mut self, request: &Request) -> (Answer, Option<Published>) {
        let ask = self.scripts.ask(&self.names, request, TTL);
        let value = match ask.by_digest().query(&mut self.control) {
            Err(error) if error.code() == Some("NOSCRIPT") => {
                ask.by_text().query(&mut self.control)
            }
            other => other,
        };
        let mut answered = answer(value.unwrap()).unwrap();
        if let Answer::Hit(fetched) = &mut answered {
            assert!(!fetched.left.is_zero() && fetched.left <= TTL);
            fetched.left = Duration::ZERO;
        }
        redis::cmd("PUBLISH").arg(self.names.news()).arg("end").exec(&mut self.control).unwrap();
        let mut published = None;
        loop {
            let payload = self.news.get_message().unwrap().get_payload_bytes().to_vec();
            if payload == b"end" {
                return (answered, published);
            }
            assert!(published.is_none(), "two messages of one call");
            published = Some(news(&payload).unwrap());
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
                self.model = Server::new(FEW, Guards::default());
            }
            Step::Expire(place) => {
                redis::cmd("DEL").arg(self.names.claim(&place)).exec(&mut self.control).unwrap();
                self.model.expire(&place);
            }
            Step::Ask { protocol, idea } => {
                self.fresh += 1;
                let request =
                    Request { protocol, fresh: Epoch(self.fresh << 64), call: self.call(idea) };
                let (real, published) = self.ask(&request);
                let outcome = self.model.run(Life(self.life), &request);
                assert_eq!(
                    (&real, &published),
                    (&outcome.answer, &outcome.published),
                    "to {request:?}"
                );
                self.note(&real);
            }
        }
    }

    fn note(&mut self, answer: &Answer) {
        let epoch = match answer {
            Answer::Told(told) => told.end.epoch,
            Answer::Issued(issued) => issued.token.epoch,
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
        scopes: keys.iter().map(|&key| Scope::Key(key.into())).collect(),
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
        let place = Place { key: "43".into(), plan: "p".into() };
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
        let (answered, _) = after
            .ask(&request(&after, Call::Fetch { place: place.clone(), bytes_max: READY_BYTES }));
        assert_eq!(answered, Answer::OtherLife, "with data: {keeps}");
        let idea = Idea::Heartbeat {
            name: Name("ann".into()),
            lease: 3_000,
            applied: None,
            settles: false,
        };
        let (told, _) = after.ask(&request(&after, after.call(idea)));
        let Answer::Told(told) = told else { panic!("{told:?}") };
        assert!(told.end.seq == 0 && !before.contains(&told.end.epoch) && !told.settled);
        let (answered, _) =
            after.ask(&request(&after, Call::Fetch { place, bytes_max: READY_BYTES }));
        assert_eq!(answered, Answer::Miss, "what was stored in the life before is not believed");
    }
}

fn request(twins: &Twins, call: Call) -> Request {
    Request { protocol: 1, fresh: Epoch(twins.fresh << 64), call }
}

#[test]
fn stamps_that_were_evicted_are_another_life() {
    let redis = Redis::start();
    let mut twins = Twins::new(&redis, LIMITS);
    twins.take(ask(invalidate(&["42"])));
    redis.command::<()>(&["DEL", &twins.names.stamps()]);
    let vouch = Call::Vouch { key: "42".into(), tags: vec![], fence: twins.fence((0, 0)) };
    let (answered, _) = twins.ask(&request(&twins, vouch));
    assert_eq!(answered, Answer::OtherLife);
}
