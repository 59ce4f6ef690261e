//! Oversized values that any client may have left in Redis: too many tags, too large a dataset,
//! registry, entry or claim. A script walks and reads no more of them than of our own values. Work
//! is counted in commands that Redis ran, not in time.

use std::sync::Arc;
use std::time::Duration;

use bfb::bus::{BusEventKind, LIMITS, RedisNames, Scripts, parse_reply};
use bfb::coherence::{
    DatasetPlace, EmptyReason, Epoch, Fence, InvalidationScope, MemberName, PROTOCOL, ScriptCall,
    ScriptReply, ScriptRequest, TierDataset,
};

use super::support::{DOMAIN, Member, READY_BYTES};
use crate::support::redis::Redis;

const EPOCH: Epoch = Epoch(7);

fn names() -> RedisNames {
    RedisNames::new("default", DOMAIN)
}

fn place(key: &str) -> DatasetPlace {
    DatasetPlace { key: key.into(), plan: "p".into() }
}

/// How often Redis ran a command since its start, in scripts too.
fn calls(redis: &Redis, command: &str) -> u64 {
    let stats: String = redis.command(&["INFO", "commandstats"]);
    let line =
        stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

/// Runs a script as the administrator, without a timeout.
fn ask(redis: &Redis, call: ScriptCall) -> Result<ScriptReply, redis::RedisError> {
    let scripts = Scripts::new(LIMITS);
    let request = ScriptRequest { protocol: PROTOCOL, fresh_epoch: EPOCH, call };
    let ask = scripts.prepare(&names(), &request, Duration::from_mins(1));
    ask.eval().query(&mut redis.control()).map(|value| parse_reply(value).unwrap())
}

/// A log with one entry.
fn log() -> (Redis, Fence) {
    let redis = Redis::start();
    ask(&redis, ScriptCall::Invalidate { scopes: keys(1, 1), unless_above: None }).unwrap();
    (redis, Fence { epoch: EPOCH, seq: 1 })
}

/// Stores a dataset that a script would accept as valid, except for its odd member.
fn plant(redis: &Redis, key: &str, tags: &str, body_bytes: usize) {
    let script = "redis.call('HSET', KEYS[1], 'format', '1', 'epoch', ARGV[1], 'seq', '1', \
        'tags', ARGV[2], 'body', string.rep('x', tonumber(ARGV[3]))) \
        redis.call('PEXPIRE', KEYS[1], 60000)";
    let at = names().dataset(&place(key));
    redis.command::<()>(&[
        "EVAL",
        script,
        "1",
        &at,
        &format!("{:032x}", EPOCH.0),
        tags,
        &body_bytes.to_string(),
    ]);
}

fn fetch(redis: &Redis, key: &str, bytes_max: u64) -> ScriptReply {
    ask(redis, ScriptCall::Fetch { place: place(key), bytes_max }).unwrap()
}

fn claim(redis: &Redis, key: &str, fence: Fence, bytes_max: Option<u64>) -> ScriptReply {
    ask(
        redis,
        ScriptCall::Claim { place: place(key), holder: MemberName("ann".into()), fence, bytes_max },
    )
    .unwrap()
}

#[test]
fn a_dataset_with_300_000_tags_is_a_miss_and_holds_redis_for_none_of_them() {
    let (redis, fence) = log();
    let tags = |many: usize| (0..many).map(|nth| format!("t{nth}")).collect::<Vec<_>>();
    for (key, many, is_there) in
        [("fits", 64, true), ("many", 65, false), ("far too many", 300_000, false)]
    {
        let tags = tags(many);
        plant(&redis, key, &serde_json::to_string(&tags).unwrap(), 10);
        let before = calls(&redis, "zscore");
        let fetched = fetch(&redis, key, READY_BYTES);
        let claimed = claim(&redis, key, fence, Some(READY_BYTES));
        assert_eq!(matches!(fetched, ScriptReply::Hit(_)), is_there, "{many} tags");
        assert_eq!(matches!(claimed, ScriptReply::Hit(_)), is_there, "{many} tags");
        let tags: Vec<Arc<str>> = tags.iter().map(|tag| tag.as_str().into()).collect();
        let dataset = TierDataset { fence, tags, body: Arc::from(&b"{}"[..]) };
        let store = ScriptCall::Store { place: place("kept"), dataset, age: Duration::ZERO };
        assert_eq!(ask(&redis, store).unwrap(), ScriptReply::Done(is_there), "{many} tags");
        let walked = calls(&redis, "zscore") - before;
        assert!(walked <= 4 * (64 + 1), "{many} tags: {walked} stamps were looked up");
    }
    let (many, long) =
        (format!("[{}1]", "1,".repeat(50_000)), format!("[\"{}\"]", "a".repeat(513)));
    for odd in ["[[[[", "7", r#"[["a"]]"#, "", &many, &long] {
        plant(&redis, "odd", odd, 10);
        assert_eq!(
            fetch(&redis, "odd", READY_BYTES),
            ScriptReply::Miss,
            "{}",
            &odd[..odd.len().min(20)]
        );
    }
}

#[test]
fn a_dataset_of_300_mb_is_answered_with_its_size() {
    let (redis, fence) = log();
    plant(&redis, "42", "[]", 300_000_000);
    let before = calls(&redis, "hget");
    assert_eq!(fetch(&redis, "42", READY_BYTES), ScriptReply::Large(300_000_000));
    assert_eq!(claim(&redis, "42", fence, Some(READY_BYTES)), ScriptReply::Large(300_000_000));
    assert_eq!(calls(&redis, "hget"), before, "its body was read");
    assert_eq!(
        claim(&redis, "42", fence, None),
        ScriptReply::Done(true),
        "of no use to this flight"
    );
    plant(&redis, "42", "[]", 3_000_000);
    assert_eq!(fetch(&redis, "42", READY_BYTES), ScriptReply::Large(3_000_000));
    assert!(
        matches!(fetch(&redis, "42", 3_000_000), ScriptReply::Hit(_)),
        "what was asked for comes"
    );
}

#[test]
fn a_claim_that_is_longer_than_any_of_ours_binds_nobody() {
    let (redis, fence) = log();
    let script = "redis.call('SET', KEYS[1], 'bob ff 1' .. string.rep('x', 50000000))";
    redis.command::<()>(&["EVAL", script, "1", &names().claim(&place("42"))]);
    let before = calls(&redis, "get");
    assert_eq!(claim(&redis, "42", fence, Some(0)), ScriptReply::Done(true));
    assert_eq!(calls(&redis, "get"), before, "it was read");
}

#[tokio::test]
async fn a_registry_of_more_than_any_fleet_is_not_walked_and_begins_a_new_log() {
    let redis = Redis::start();
    let mut member = Member::join(redis.addr()).await;
    let grows = "for n = 1, 30000 do redis.call('HSET', KEYS[1], 'r:' .. n, '0 0 3000') end";
    let long = "redis.call('HSET', KEYS[1], 'leases', string.rep('3000=1 ', 100000))";
    let odd = "redis.call('HSET', KEYS[1], 'seq', 'many')";
    for poison in [grows, long, odd] {
        member.forget();
        let before = calls(&redis, "hgetall");
        redis.command::<()>(&["EVAL", poison, "1", &names().meta()]);
        member
            .until_it(|what| matches!(what, BusEventKind::MemoryEmptied(EmptyReason::Epoch)))
            .await;
        assert_eq!(calls(&redis, "hgetall"), before, "the registry was walked");
        member.until("hold its lease", |member| member.domain.has_lease()).await;
        let sent = member
            .domain
            .invalidate(Arc::new([InvalidationScope::Key("42".into())]))
            .await
            .unwrap();
        let acknowledged =
            member.domain.wait_for_fleet(&sent, super::support::TEST_TIMEOUT).await.unwrap();
        assert!(acknowledged.sidecars <= 1);
        let fields = redis.command::<u64>(&["HLEN", &names().meta()]);
        assert!(fields < 20, "{fields} fields are left");
    }
}

fn keys(many: usize, bytes: usize) -> Arc<[InvalidationScope]> {
    (0..many).map(|nth| InvalidationScope::Key(format!("{nth:0bytes$}").into())).collect()
}

#[test]
fn an_invalidation_takes_a_thousand_keys_and_64_kib_and_no_more() {
    let redis = Redis::start();
    let invalidate = |scopes| ask(&redis, ScriptCall::Invalidate { scopes, unless_above: None });
    for (many, bytes, fits) in
        [(1_000, 10, true), (1_001, 10, false), (100, 600, true), (120, 600, false)]
    {
        let before = calls(&redis, "zadd");
        let answered = invalidate(keys(many, bytes));
        assert_eq!(answered.is_ok(), fits, "{many} keys of {bytes} bytes: {answered:?}");
        let stamped = calls(&redis, "zadd") - before;
        assert_eq!(stamped, if fits { many as u64 } else { 0 });
        if let Err(refused) = answered {
            assert!(refused.to_string().contains("send several calls"), "{refused}");
        }
    }
}

#[test]
fn a_page_of_the_log_ends_once_it_is_long_and_an_entry_that_is_too_long_means_all() {
    let redis = Redis::start();
    for _ in 0..20 {
        ask(&redis, ScriptCall::Invalidate { scopes: keys(100, 600), unless_above: None }).unwrap();
    }
    let long = "redis.call('XADD', KEYS[1], '21-0', 'scopes', \
        '[[\"key\",\"' .. string.rep('k', 5000000) .. '\"]]') \
        redis.call('HSET', KEYS[2], 'seq', '21')";
    redis.command::<()>(&["EVAL", long, "2", &names().log(), &names().meta()]);
    let mut seq = 0;
    let mut pages = Vec::new();
    loop {
        let after = Fence { epoch: EPOCH, seq };
        let ScriptReply::Log { entries, .. } =
            ask(&redis, ScriptCall::ReadLog { after, max: 1_024 }).unwrap()
        else {
            panic!("no page")
        };
        let Some(last) = entries.last() else { break };
        assert!(entries.iter().map(|entry| entry.seq).eq(seq + 1..=last.seq), "a page has a gap");
        seq = last.seq;
        if seq == 21 {
            assert_eq!(*last.scopes, [InvalidationScope::All]);
        }
        pages.push(entries.len());
    }
    assert_eq!(seq, 21);
    // Entries of 61 KB each: nine fill 512 KiB.
    assert!(pages.iter().all(|entries| *entries <= 10), "{pages:?}");
}

#[test]
fn a_page_of_the_log_ends_with_the_first_entry_that_is_too_long() {
    let redis = Redis::start();
    ask(&redis, ScriptCall::Invalidate { scopes: keys(1, 1), unless_above: None }).unwrap();
    let long = "for n = 2, 101 do \
        redis.call('XADD', KEYS[1], n .. '-0', 'scopes', string.rep('k', 600000)) end \
        redis.call('HSET', KEYS[2], 'seq', '101')";
    redis.command::<()>(&["EVAL", long, "2", &names().log(), &names().meta()]);
    let mut seq = 0;
    let mut pages = Vec::new();
    while seq < 101 {
        let before = calls(&redis, "xrange");
        let after = Fence { epoch: EPOCH, seq };
        let ScriptReply::Log { entries, .. } =
            ask(&redis, ScriptCall::ReadLog { after, max: 1_024 }).unwrap()
        else {
            panic!("no page")
        };
        seq = entries.last().unwrap().seq;
        pages.push((entries.len(), calls(&redis, "xrange") - before));
    }
    // The first page also has the short entry before the long ones; a call begins with a read of
    // the oldest entry.
    assert!(pages.iter().all(|(entries, reads)| *entries <= 2 && *reads <= 3), "{pages:?}");
}

#[tokio::test]
async fn a_hint_of_more_than_an_entry_may_name_means_all_of_the_domain() {
    let redis = Redis::start();
    let mut member = Member::join(redis.addr()).await;
    let many: Vec<_> = (0..1_001).map(|nth| nth.to_string()).collect();
    let long = format!("{{\"keys\": [\"42\"], \"more\": \"{}\"}}", "x".repeat(300_000));
    for hint in [serde_json::json!({"keys": many}).to_string(), long] {
        member.forget();
        let mark = member.domain.may_store(member.domain.start_point(), "other", &[]).unwrap();
        redis.command::<()>(&["PUBLISH", &names().hints_channel(), &hint]);
        member
            .until_it(|kind| {
                matches!(kind, BusEventKind::InvalidationApplied(entry)
                if *entry.scopes == [InvalidationScope::All])
            })
            .await;
        assert!(!member.domain.is_valid(mark, "other", &[]));
    }
}
