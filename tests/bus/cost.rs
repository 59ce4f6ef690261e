//! The cost of the protocol for Redis: round trips, bytes and time, of a heartbeat, an
//! invalidation, an acknowledgement.
//!
//! `cargo test --release --test promises -- bus::cost --nocapture --test-threads=1` prints the
//! figures.
#![allow(clippy::print_stdout, reason = "the figures are half of the purpose")]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bfb::bus::{LIMITS, RedisNames, Scripts, parse_reply};
use bfb::coherence::{
    Epoch, Fence, Heartbeat, MemberName, PROTOCOL, ScriptCall, ScriptReply, ScriptRequest,
};

use super::support::{DOMAIN, LEASE, Member, TEST_TIMEOUT, keys, settings};
use crate::support::redis::Redis;

/// Redis's counters at one moment.
#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    /// Scripts that were run, and the time that they took.
    scripts: u64,
    micros: u64,
    bytes_in: u64,
    bytes_out: u64,
    /// Reads from a socket: one for each round trip, and one for each command that is sent outside
    /// of a pipeline.
    reads: u64,
}

/// Reads the counters, and counts the cost of these readings.
struct Meter {
    control: redis::Connection,
    own: Counters,
}

/// The bytes of the request for the counters, and the bytes around the text of the answer.
const QUESTION_BYTES: u64 = 33;
const AROUND_BYTES: u64 = 5;

impl Meter {
    fn new(redis: &Redis) -> Self {
        Self { control: redis.control(), own: Counters::default() }
    }

    /// The counters, less the cost of all readings.
    fn read(&mut self) -> Counters {
        let info: String = redis::cmd("INFO").arg("everything").query(&mut self.control).unwrap();
        let lines: HashMap<&str, &str> =
            info.lines().filter_map(|line| line.split_once(':')).collect();
        let number = |name: &str| {
            lines.get(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default()
        };
        let scripts = lines.get("cmdstat_evalsha").copied().unwrap_or_default();
        let of_scripts = |name: &str| {
            let mut fields = scripts.split(',').filter_map(|field| field.split_once('='));
            fields.find(|(field, _)| *field == name).map_or(0, |(_, text)| text.parse().unwrap())
        };
        // Redis counts the bytes of this answer after it has formatted it.
        self.own.bytes_in += QUESTION_BYTES;
        self.own.reads += 1;
        let counted = Counters {
            scripts: of_scripts("calls"),
            micros: of_scripts("usec"),
            bytes_in: number("total_net_input_bytes") - self.own.bytes_in,
            bytes_out: number("total_net_output_bytes") - self.own.bytes_out,
            reads: number("total_reads_processed") - self.own.reads,
        };
        self.own.bytes_out += (info.len() + info.len().to_string().len()) as u64 + AROUND_BYTES;
        counted
    }

    /// Waits until so many scripts have run: heartbeats, if no other request is sent.
    async fn heartbeats(&mut self, count: u64) -> Counters {
        let before = self.read();
        let mut often = tokio::time::interval(Duration::from_millis(20));
        let until = Instant::now() + TEST_TIMEOUT;
        loop {
            often.tick().await;
            let so_far = self.read().less(before);
            if so_far.scripts >= count {
                return so_far;
            }
            assert!(Instant::now() < until, "only {so_far:?}");
        }
    }
}

impl Counters {
    fn less(self, before: Self) -> Self {
        Self {
            scripts: self.scripts - before.scripts,
            micros: self.micros - before.micros,
            bytes_in: self.bytes_in.saturating_sub(before.bytes_in),
            bytes_out: self.bytes_out.saturating_sub(before.bytes_out),
            reads: self.reads.saturating_sub(before.reads),
        }
    }

    /// Bytes in, bytes out, microseconds, of each script.
    fn of_each(self) -> [u64; 3] {
        [self.bytes_in, self.bytes_out, self.micros].map(|sum| sum / self.scripts.max(1))
    }
}

async fn at_rest(member: &mut Member, domains: &[String]) {
    let buses: Vec<_> = domains.iter().map(|name| member.bus.domain(name).unwrap()).collect();
    member.until("hold its leases", |_| buses.iter().all(bfb::bus::DomainBus::has_lease)).await;
}

#[tokio::test]
async fn heartbeats_of_many_domains_share_a_round_trip() {
    let redis = Redis::start();
    let mut meter = Meter::new(&redis);
    let domains: Vec<_> = (0..20).map(|number| format!("domain-{number}")).collect();
    let names: Vec<_> = domains.iter().map(String::as_str).collect();
    let mut one = Member::serving(settings(redis.addr()), &names);
    at_rest(&mut one, &domains).await;
    meter.heartbeats(40).await;

    let rested = meter.heartbeats(100).await;
    println!(
        "20 domains at rest: {} heartbeats in {} reads, each {:?}",
        rested.scripts,
        rested.reads,
        rested.of_each()
    );
    assert!(rested.scripts >= 15 * rested.reads, "{rested:?}");

    // Each domain sends a report at a different moment; after that their heartbeats share a
    // pipeline again.
    for name in &names {
        let sent = one.bus.domain(name).unwrap().invalidate(keys(&["42"])).await.unwrap();
        let domain = one.bus.domain(name).unwrap();
        one.until("apply it", |_| domain.has_applied(sent.token())).await;
        meter.heartbeats(1).await;
    }
    meter.heartbeats(40).await;
    let apart = meter.heartbeats(100).await;
    println!(
        "20 domains after each was invalidated for itself: {} heartbeats in {} reads",
        apart.scripts, apart.reads
    );
    assert!(apart.scripts >= 15 * apart.reads, "{apart:?}");
}

/// Fills a registry, as if so many sidecars had just registered and reported the end of the log, or
/// nothing yet.
fn fill_registry(redis: &Redis, sidecars: usize, reported: bool) {
    const FILL: &str = "for i = 1, ARGV[1] do
        local name = string.format('r:customers-web-7d9c5b6f4d-%05d-%016x', i, i)
        redis.call('HSET', KEYS[1], name, ARGV[2])
        end redis.call('HSET', KEYS[1], 'leases', '3000=' .. ARGV[1])";
    let meta = RedisNames::new("default", DOMAIN).meta();
    let seq: String = redis.command(&["HGET", &meta, "seq"]);
    let of_each = format!("{seq} {} 3000", if reported { &seq } else { "0" });
    redis.command::<()>(&["EVAL", FILL, "1", &meta, &sidecars.to_string(), &of_each]);
}

/// A client that sends the protocol's requests one by one.
struct Hand {
    scripts: Scripts,
    names: RedisNames,
    connection: redis::Connection,
}

impl Hand {
    fn new(redis: &Redis) -> Self {
        let scripts = Scripts::new(LIMITS);
        let names = RedisNames::new("default", DOMAIN);
        Self { scripts, names, connection: redis.control() }
    }

    fn ask(&mut self, call: ScriptCall) -> ScriptReply {
        let request = ScriptRequest { protocol: PROTOCOL, fresh_epoch: Epoch(7), call };
        let ask = self.scripts.prepare(&self.names, &request, Duration::ZERO);
        let value = match ask.evalsha().query(&mut self.connection) {
            Err(error) if error.code() == Some("NOSCRIPT") => {
                ask.eval().query(&mut self.connection)
            }
            other => other,
        };
        parse_reply(value.unwrap()).unwrap()
    }

    fn heartbeat(&mut self, applied: Option<Fence>) -> Fence {
        let name = MemberName("by-hand".into());
        let lease = Duration::from_secs(3);
        match self.ask(ScriptCall::Heartbeat(Heartbeat {
            name,
            lease,
            applied,
            marks_settled: false,
            store: None,
        })) {
            ScriptReply::Heartbeat(reply) => reply.log_end,
            other => panic!("{other:?}"),
        }
    }

    fn invalidate(&mut self, key: &str) -> Fence {
        match self.ask(ScriptCall::Invalidate { scopes: keys(&[key]), unless_above: None }) {
            ScriptReply::Issued(issued) => issued.token,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_heartbeat_and_an_invalidation_cost_the_same_in_a_registry_of_any_size() {
    let redis = Redis::start();
    let mut hand = Hand::new(&redis);
    let mut meter = Meter::new(&redis);
    let mut cost = HashMap::new();
    for sidecars in [1, 100, 1_000, 10_000] {
        let mut end = hand.heartbeat(None);
        fill_registry(&redis, sidecars, true);
        let before = meter.read();
        for _ in 0..200 {
            hand.heartbeat(Some(end));
        }
        let beats = meter.read().less(before);
        let before = meter.read();
        (0..200).for_each(|key| end = hand.invalidate(&key.to_string()));
        let invalidations = meter.read().less(before);
        println!(
            "{sidecars:>6} registered: a heartbeat {:?}, an invalidation {:?} (bytes in, \
             bytes out, us)",
            beats.of_each(),
            invalidations.of_each()
        );
        cost.insert(sidecars, beats.of_each()[2] + invalidations.of_each()[2]);
    }
    assert!(cost[&10_000] < 3 * cost[&1].max(50), "{cost:?}");
}

#[test]
fn asking_whether_all_have_reported_costs_as_little_while_one_has_not() {
    let redis = Redis::start();
    let mut hand = Hand::new(&redis);
    let mut meter = Meter::new(&redis);
    for sidecars in [1, 100, 1_000, 10_000] {
        hand.heartbeat(None);
        let token = hand.invalidate("42");
        let mut progress = |reported: bool, laggard: Option<&str>| {
            fill_registry(&redis, sidecars, reported);
            hand.heartbeat(Some(token).filter(|_| reported));
            let laggard = laggard.map(|name| MemberName(name.into()));
            let before = meter.read();
            for _ in 0..10 {
                let call = ScriptCall::Progress {
                    token,
                    lease_has_passed: false,
                    marks_settled: false,
                    laggard: laggard.clone(),
                };
                let ScriptReply::Progress { laggards: behind, .. } = hand.ask(call) else {
                    panic!("no progress")
                };
                let expected =
                    if reported { 0 } else { laggard.as_ref().map_or(sidecars + 1, |_| 1) };
                assert_eq!(behind.len(), expected);
            }
            meter.read().less(before).of_each()
        };
        let all = progress(false, None);
        let one = progress(false, Some("by-hand"));
        let none = progress(true, Some("by-hand"));
        println!(
            "{sidecars:>6} registered: who is behind, when all are {all:?}, \
             when one is asked for {one:?}, when none is {none:?}"
        );
        assert!(one[1] < 200 && one[2] < 1_000, "{one:?}");
        hand.ask(ScriptCall::Deregister(MemberName("by-hand".into())));
    }
}

#[tokio::test]
async fn what_a_fleet_costs_at_rest_and_when_it_is_invalidated() {
    let sizes = if std::env::var_os("BFB_COST").is_some() { vec![5, 20, 50] } else { vec![5] };
    for size in sizes {
        let redis = Redis::start();
        let mut meter = Meter::new(&redis);
        let mut fleet = Vec::new();
        for _ in 0..size {
            fleet.push(Member::join(redis.addr()).await);
        }
        let young = fleet[0].domain.invalidate(keys(&["1"])).await.unwrap();
        fleet[0].domain.wait_for_fleet(&young, TEST_TIMEOUT).await.unwrap();
        meter.heartbeats(4 * size).await;
        let rest = meter.heartbeats(8 * size).await;
        let [bytes_in, bytes_out, micros] = rest.of_each();
        // With the usual lease of 3 s a sidecar sends 4 / 3 heartbeats a second.
        let a_second = |each: u64| each * size * 4 / 3;
        println!(
            "{size:>3} sidecars at rest: a heartbeat is {bytes_in} B in, {bytes_out} B out, \
             {micros} us; with a lease of 3s \
             {} a second, {} B/s in, {} B/s out, {} us/s",
            a_second(1),
            a_second(bytes_in),
            a_second(bytes_out),
            a_second(micros)
        );

        let mut took = Vec::new();
        let mut all = Counters::default();
        let rounds = 20;
        for round in 0..rounds {
            let before = meter.read();
            let sent = fleet[0].domain.invalidate(keys(&[&round.to_string()])).await.unwrap();
            let acknowledged = fleet[0].domain.wait_for_fleet(&sent, TEST_TIMEOUT).await.unwrap();
            assert_eq!(
                (acknowledged.sidecars as u64, acknowledged.silent_members.len()),
                (size, 0)
            );
            took.push(acknowledged.took);
            let cost = meter.read().less(before);
            all.scripts += cost.scripts;
            all.micros += cost.micros;
            all.bytes_in += cost.bytes_in;
            all.bytes_out += cost.bytes_out;
        }
        took.sort_unstable();
        println!(
            "{size:>3} sidecars, an invalidation until it is acknowledged: {} scripts, {} B in, \
             {} B out, {} us in redis; \
             median {:?}, slowest {:?}",
            all.scripts / rounds,
            all.bytes_in / rounds,
            all.bytes_out / rounds,
            all.micros / rounds,
            took[took.len() / 2],
            took[took.len() - 1]
        );
        // One entry, a report of each, some requests for progress; heartbeats of the usual pace may
        // come between.
        assert!(all.scripts / rounds <= 1 + 2 * size + 16, "{all:?}");
        assert!(took[took.len() / 2] < LEASE / 4, "{took:?}");
    }
}
