//! Values in Redis are verified, not trusted: fences, leases, published entries, and a log that our
//! scripts did not write.

use std::time::Duration;

use bfb::bus::{BusEventKind, BusMetrics, LIMITS, RedisNames, Scripts, parse_reply};
use bfb::coherence::{
    DatasetPlace, Epoch, Fence, Heartbeat, MemberName, PROTOCOL, ScriptCall, ScriptReply,
    ScriptRequest, TierDataset,
};
use prometheus_client::registry::Registry;

use super::support::{
    DOMAIN, Member, READY_BYTES, TEST_TIMEOUT, fetched, keys, patiently, settings,
};
use crate::support::process::metric;
use crate::support::redis::Redis;

fn names() -> RedisNames {
    RedisNames::new("default", DOMAIN)
}

fn place(key: &str) -> DatasetPlace {
    DatasetPlace { key: key.into(), plan: "p".into() }
}

fn ask(redis: &Redis, fresh: u128, call: ScriptCall) -> ScriptReply {
    parse_reply(run_script(redis, fresh, call).unwrap()).unwrap()
}

fn run_script(redis: &Redis, fresh: u128, call: ScriptCall) -> redis::RedisResult<redis::Value> {
    let request = ScriptRequest { protocol: PROTOCOL, fresh_epoch: Epoch(fresh), call };
    let scripts = Scripts::new(LIMITS);
    let ask = scripts.prepare(&names(), &request, Duration::from_mins(1));
    ask.eval().query(&mut redis.control())
}

fn dataset(fence: Fence) -> TierDataset {
    TierDataset { fence, tags: vec![], body: b"{}".as_slice().into() }
}

fn store(redis: &Redis, key: &str, fence: Fence, age_ms: u64) -> ScriptReply {
    let age = Duration::from_millis(age_ms);
    ask(redis, 1, ScriptCall::Store { place: place(key), dataset: dataset(fence), age })
}

fn fetch(redis: &Redis, key: &str) -> ScriptReply {
    ask(redis, 1, ScriptCall::Fetch { place: place(key), bytes_max: READY_BYTES })
}

/// A log with one entry, and the fence of its end.
fn log() -> (Redis, Fence) {
    let redis = Redis::start();
    let invalidation = ScriptCall::Invalidate { scopes: keys(&["other"]), unless_above: None };
    let ScriptReply::Issued(issued) = ask(&redis, 1, invalidation) else { panic!("not issued") };
    (redis, issued.token)
}

#[test]
fn a_fence_beyond_the_log_s_end_is_no_fence() {
    let (redis, fence) = log();
    let ahead = Fence { seq: 900_719_925_474_099, ..fence };
    assert_eq!(store(&redis, "42", ahead, 0), ScriptReply::Done(false));
    assert_eq!(store(&redis, "42", fence, 0), ScriptReply::Done(true));
    assert!(matches!(fetch(&redis, "42"), ScriptReply::Hit(_)));
    redis.command::<()>(&["HSET", &names().dataset(&place("42")), "seq", &ahead.seq.to_string()]);
    assert_eq!(fetch(&redis, "42"), ScriptReply::Miss);
    let claim = ScriptCall::Claim {
        place: place("42"),
        holder: MemberName("a".into()),
        fence,
        bytes_max: Some(READY_BYTES),
    };
    assert_eq!(ask(&redis, 1, claim), ScriptReply::Done(true), "there is nothing to be had");
}

#[test]
fn a_dataset_that_does_not_expire_is_none() {
    let (redis, fence) = log();
    store(&redis, "42", fence, 0);
    redis.command::<()>(&["PERSIST", &names().dataset(&place("42"))]);
    assert_eq!(fetch(&redis, "42"), ScriptReply::Miss);
}

#[test]
fn a_claim_without_an_end_or_with_one_far_off_binds_nobody() {
    let (redis, fence) = log();
    let claim = |holder: &str| ScriptCall::Claim {
        place: place("42"),
        holder: MemberName(holder.into()),
        fence,
        bytes_max: None,
    };
    for ends in [None, Some("6000000")] {
        assert_eq!(ask(&redis, 1, claim("a")), ScriptReply::Done(true));
        assert_eq!(ask(&redis, 1, claim("b")), ScriptReply::HeldBy(MemberName("a".into())));
        let key = names().claim(&place("42"));
        match ends {
            None => redis.command::<()>(&["PERSIST", &key]),
            Some(ms) => redis.command::<()>(&["PEXPIRE", &key, ms]),
        }
        assert_eq!(ask(&redis, 1, claim("b")), ScriptReply::Done(true), "{ends:?}");
        redis.command::<()>(&["DEL", &key]);
    }
}

#[test]
fn what_was_collected_earlier_does_not_replace_what_is_believed_and_was_collected_later() {
    let (redis, fence) = log();
    assert_eq!(store(&redis, "42", fence, 1_000), ScriptReply::Done(true));
    assert_eq!(
        store(&redis, "42", fence, 60_000),
        ScriptReply::Done(false),
        "collected a minute ago"
    );
    assert_eq!(store(&redis, "42", fence, 500), ScriptReply::Done(true));
    let ScriptReply::Issued(issued) =
        ask(&redis, 1, ScriptCall::Invalidate { scopes: keys(&["42"]), unless_above: None })
    else {
        panic!("not issued")
    };
    assert_eq!(
        store(&redis, "42", issued.token, 60_000),
        ScriptReply::Done(true),
        "what is there is outdated"
    );
    redis.command::<()>(&["HSET", &names().dataset(&place("42")), "age", "soon"]);
    assert_eq!(
        store(&redis, "42", issued.token, 60_000),
        ScriptReply::Done(true),
        "nobody knows how old it is"
    );
}

#[test]
fn a_lease_that_no_sidecar_can_have_is_ignored() {
    let redis = Redis::start();
    let beat = |lease| {
        ScriptCall::Heartbeat(Heartbeat {
            name: MemberName("a".into()),
            lease,
            applied: None,
            marks_settled: false,
            store: None,
        })
    };
    ask(&redis, 1, beat(Duration::from_secs(2)));
    redis.command::<()>(&["HSET", &names().meta(), "leases", "2000=1 9000000000000000=1"]);
    let ScriptReply::Heartbeat(reply) = ask(&redis, 1, beat(Duration::from_secs(2))) else {
        panic!("not told")
    };
    assert_eq!(reply.longest_lease, Duration::from_secs(2));
}

#[test]
fn one_kind_of_lease_too_many_is_refused_and_the_log_stays() {
    let redis = Redis::start();
    let beat = |lease_s: u64| {
        let name = MemberName(format!("a{lease_s}").into());
        let lease = Duration::from_secs(lease_s);
        ScriptCall::Heartbeat(Heartbeat {
            name,
            lease,
            applied: None,
            marks_settled: false,
            store: None,
        })
    };
    for lease_s in 1..=64 {
        ask(&redis, 1, beat(lease_s));
    }
    let refusal = run_script(&redis, 2, beat(65)).unwrap_err();
    assert!(refusal.to_string().contains("too many different leases"), "{refusal}");
    let ScriptReply::Heartbeat(reply) = ask(&redis, 3, beat(1)) else { panic!("not told") };
    assert_eq!(reply.log_end.epoch, Epoch(1), "nobody began another log");
}

#[tokio::test]
async fn a_planted_lease_holds_up_no_acknowledgement() {
    let redis = Redis::start();
    let member = Member::join(redis.addr()).await;
    redis.command::<()>(&["HSET", &names().meta(), "leases", "9000000000000000=1"]);
    for _ in 0..2 {
        let sent = member.domain.invalidate(keys(&["42"])).await.unwrap();
        assert!(member.domain.wait_for_fleet(&sent, TEST_TIMEOUT).await.is_ok());
        redis.flush();
    }
}

#[tokio::test]
async fn news_of_what_the_log_does_not_have_are_one_reading_of_it() {
    let redis = Redis::start();
    let mut registry = Registry::with_prefix("bfb");
    let mut member = Member::counting(settings(redis.addr()), BusMetrics::register(&mut registry));
    member.until("hold its lease", |member| member.domain.has_lease()).await;
    let count = |name: &str| {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        metric(&text, name, &[]).unwrap_or_default()
    };
    let epoch = member.domain.applied_fence().unwrap().epoch;
    let entries = r#"[{"seq":18446744073709551615,"scopes":[["key","42"]]}]"#;
    let published = format!(r#"{{"epoch":"{:032x}","entries":{entries}}}"#, epoch.0);
    redis.command::<()>(&["PUBLISH", &names().invalidations_channel(), &published]);
    let beats = || redis.command::<String>(&["INFO", "commandstats"]);
    let evaluated = |stats: &str| {
        let line =
            stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")).unwrap();
        line.split(',').next().unwrap().parse::<u64>().unwrap()
    };
    let before = evaluated(&beats());
    // A heartbeat runs every 200 ms; this test is about a read of the log every 20 ms.
    while evaluated(&beats()) < before + 12 {
        tokio::task::yield_now().await;
    }
    assert!((0.5..1.5).contains(&count("bfb_bus_catch_ups_total")), "it was not read once");
    assert_eq!(member.bus.status().domains[0].lag, 0);
    let sent = member.domain.invalidate(keys(&["42"])).await.unwrap();
    assert!(
        member.domain.wait_for_fleet(&sent, TEST_TIMEOUT).await.unwrap().silent_members.is_empty(),
        "and it goes on"
    );
}

#[tokio::test]
async fn a_damaged_log_is_healed_as_another_life_is() {
    let redis = Redis::start();
    let mut member = Member::join(redis.addr()).await;
    let meta = names().meta();
    let log = names().log();
    let stamps = names().stamps();
    let many_leases = (1..=400).map(|ms| format!("{ms}=1")).collect::<Vec<_>>().join(" ");
    let damages: [&[&[&str]]; 15] = [
        &[&["DEL", &meta], &["SET", &meta, "x"]],
        &[&["DEL", &log], &["SET", &log, "x"]],
        &[&["DEL", &stamps], &["SET", &stamps, "x"]],
        &[&["HSET", &meta, "seq", "many"]],
        &[&["HSET", &meta, "epoch", "zzz"]],
        &[&["HSET", &meta, "protocol", "99999999999"]],
        &[&["HSET", &meta, "leases", "7=99999999999999999999"]],
        &[&["HSET", &meta, "leases", &many_leases]],
        &[&["HDEL", &meta, "stamps"], &["DEL", &stamps], &["SET", &stamps, "x"]],
        &[&["XSETID", &log, "18446744073709551615-18446744073709551615"]],
        &[&["HSET", &meta, "seq", "0"]],
        &[&["HSET", &meta, "floor", "900719925474099"]],
        &[&["HSET", &meta, "tag", "900719925474099"]],
        &[&["XADD", &log, "900719925474099-0", "scopes", "[]"]],
        &[
            &["XADD", &log, "900719925474099-0", "scopes", "[]"],
            &["XDEL", &log, "900719925474099-0"],
        ],
    ];
    for damage in damages {
        for _ in 0..2 {
            member.domain.invalidate(keys(&["42"])).await.unwrap();
        }
        let before = member.domain.applied_fence().unwrap().epoch;
        for command in damage {
            redis.command::<redis::Value>(command);
        }
        let sent = patiently(|| member.domain.invalidate(keys(&["42"]))).await;
        member
            .until("begin another epoch", |member| {
                member.domain.applied_fence().is_some_and(|at| at.epoch != before)
            })
            .await;
        assert!(sent.is_ok(), "{damage:?}: {sent:?}");
        member.until("hold its lease", |member| member.domain.has_lease()).await;
        let sent = member.domain.invalidate(keys(&["42"])).await.unwrap();
        assert!(member.domain.wait_for_fleet(&sent, TEST_TIMEOUT).await.is_ok(), "{damage:?}");
        let fence = member.domain.applied_fence().unwrap();
        let stored = patiently(|| {
            member.domain.store(place("43"), dataset(fence), Duration::ZERO, TEST_TIMEOUT)
        })
        .await;
        assert_eq!(stored, Ok(true), "{damage:?}");
        assert!(
            patiently(|| fetched(&member.domain, place("43"))).await.unwrap().is_some(),
            "{damage:?}"
        );
    }
}

#[tokio::test]
async fn a_hole_in_the_log_empties_memory_instead_of_being_read_for_ever() {
    let redis = Redis::start();
    let mut member = Member::join(redis.addr()).await;
    member.domain.invalidate(keys(&["1"])).await.unwrap();
    member
        .until("apply it", |member| member.domain.applied_fence().is_some_and(|at| at.seq == 1))
        .await;
    // Two entries that are never published, one of which is deleted.
    let script = "redis.call('XADD', KEYS[1], '3-0', 'scopes', '[[\"key\",\"42\"]]') \
        redis.call('HSET', KEYS[2], 'seq', '3')";
    redis.command::<()>(&["EVAL", script, "2", &names().log(), &names().meta()]);
    member
        .until_it(|what| {
            matches!(what, BusEventKind::MemoryEmptied(bfb::coherence::EmptyReason::StreamEnd))
        })
        .await;
    member
        .until("stand at the end", |member| {
            member.domain.applied_fence().is_some_and(|at| at.seq == 3)
        })
        .await;
}
