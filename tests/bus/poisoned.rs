//! What anybody may have left in Redis: too many tags, too large a dataset, registry, entry or claim. A script walks and reads
//! no more of it than of what is ours. Work is counted in commands that Redis ran, not in time.

use std::sync::Arc;
use std::time::Duration;

use bfb::bus::{Claimed, Fault, LIMITS, Lookup, Names, READY_BYTES, Scripts, What, answer};
use bfb::coherence::{Answer, Call, Epoch, Fence, PROTOCOL, Place, Request, Scope, Why};

use super::support::{DOMAIN, Member};
use crate::support::redis::Redis;

fn names() -> Names {
    Names::new("default", DOMAIN)
}

fn place(key: &str) -> Place {
    Place { key: key.into(), plan: "p".into() }
}

/// How often Redis ran a command since its start, in scripts too.
fn calls(redis: &Redis, command: &str) -> u64 {
    let stats: String = redis.command(&["INFO", "commandstats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

/// Leaves a dataset that a sidecar would believe, but for what is odd about it.
fn plant(redis: &Redis, member: &Member, key: &str, tags: &str, body_bytes: usize) {
    let fence = member.domain.fence().unwrap();
    let script = "redis.call('HSET', KEYS[1], 'format', '1', 'epoch', ARGV[1], 'seq', ARGV[2], 'tags', ARGV[3], 'body', \
        string.rep('x', tonumber(ARGV[4]))) redis.call('PEXPIRE', KEYS[1], 60000)";
    let (epoch, seq) = (format!("{:032x}", fence.epoch.0), fence.seq.to_string());
    let at = names().dataset(&place(key));
    redis.command::<()>(&["EVAL", script, "1", &at, &epoch, &seq, tags, &body_bytes.to_string()]);
}

async fn claim(member: &Member, key: &str, bytes_max: Option<u64>) -> Result<Claimed, Fault> {
    let (holder, fence) = (member.domain.claimant(), member.domain.fence().unwrap());
    member.domain.claim(&place(key), &holder, fence, Duration::from_secs(1), bytes_max).await
}

async fn looked(member: &Member, key: &str) -> Lookup {
    member.domain.fetch(place(key), READY_BYTES).await.unwrap()
}

#[tokio::test]
async fn a_dataset_with_300_000_tags_is_a_miss_and_holds_redis_for_none_of_them() {
    let redis = Redis::start();
    let member = Member::join(redis.addr()).await;
    let tags =
        |many: usize| serde_json::to_string(&(0..many).map(|nth| format!("t{nth}")).collect::<Vec<_>>()).unwrap();
    for (key, many, is_there) in [("fits", 64, true), ("many", 65, false), ("far too many", 300_000, false)] {
        plant(&redis, &member, key, &tags(many), 10);
        let before = calls(&redis, "zscore");
        let found = looked(&member, key).await;
        assert_eq!(matches!(found, Lookup::Hit(_)), is_there, "{many} tags");
        let claimed = claim(&member, key, Some(READY_BYTES)).await;
        assert_eq!(matches!(claimed, Ok(Claimed::There(_))), is_there, "{many} tags");
        let walked = calls(&redis, "zscore") - before;
        assert!(walked <= 2 * (64 + 1), "{many} tags: {walked} stamps were looked up");
    }
    for odd in [
        "[[[[",
        "7",
        r#"[["a"]]"#,
        "",
        &format!("[{}]", "1,".repeat(50_000) + "1"),
        &format!("[\"{}\"]", "a".repeat(513)),
    ] {
        plant(&redis, &member, "odd", odd, 10);
        assert_eq!(looked(&member, "odd").await, Lookup::Miss, "{}", &odd[..odd.len().min(20)]);
    }
}

#[tokio::test]
async fn a_dataset_of_300_mb_is_answered_with_its_size() {
    let redis = Redis::start();
    let member = Member::join(redis.addr()).await;
    plant(&redis, &member, "42", "[]", 300_000_000);
    let before = calls(&redis, "hget");
    assert_eq!(looked(&member, "42").await, Lookup::Large(300_000_000));
    assert_eq!(calls(&redis, "hget"), before, "its body was read");
    plant(&redis, &member, "42", "[]", 3_000_000);
    assert_eq!(looked(&member, "42").await, Lookup::Large(3_000_000));
    let Lookup::Hit(found) = member.domain.fetch(place("42"), 3_000_000).await.unwrap() else { panic!("no dataset") };
    assert_eq!(found.dataset.body.len(), 3_000_000, "what was asked for comes, on a connection of its own");
    assert_eq!(claim(&member, "42", Some(READY_BYTES)).await, Ok(Claimed::Large(3_000_000)));
    assert_eq!(claim(&member, "42", None).await, Ok(Claimed::Mine), "of no use to this flight");
}

#[tokio::test]
async fn a_claim_that_is_longer_than_any_of_ours_binds_nobody() {
    let redis = Redis::start();
    let member = Member::join(redis.addr()).await;
    let script = "redis.call('SET', KEYS[1], string.rep('x', 50000000) .. ' ff 1')";
    redis.command::<()>(&["EVAL", script, "1", &names().claim(&place("42"))]);
    let before = calls(&redis, "get");
    assert_eq!(claim(&member, "42", Some(0)).await, Ok(Claimed::Mine));
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
        member.until_it(|what| matches!(what, What::Emptied(Why::Epoch))).await;
        member.until("hold its lease", |member| member.domain.lease_held()).await;
        let sent = member.domain.invalidate(Arc::new([Scope::Key("42".into())])).await.unwrap();
        let acknowledged = member.domain.wait_fleet(&sent, super::support::PATIENCE).await.unwrap();
        assert!(acknowledged.sidecars <= 1);
        let walked = calls(&redis, "hgetall") - before;
        assert!(redis.command::<u64>(&["HLEN", &names().meta()]) < 20, "walked {walked} times");
    }
}

/// Asks a script as the administrator.
fn ask(redis: &Redis, call: Call) -> Result<Answer, redis::RedisError> {
    let scripts = Scripts::new(LIMITS);
    let request = Request { protocol: PROTOCOL, fresh: Epoch(7), call };
    let ask = scripts.ask(&names(), &request, Duration::from_secs(1));
    ask.by_text().query(&mut redis.control()).map(|value| answer(value).unwrap())
}

fn keys(many: usize, bytes: usize) -> Arc<[Scope]> {
    (0..many).map(|nth| Scope::Key(format!("{nth:0bytes$}").into())).collect()
}

#[test]
fn an_invalidation_takes_a_thousand_keys_and_64_kib_and_no_more() {
    let redis = Redis::start();
    let invalidate = |scopes| ask(&redis, Call::Invalidate { scopes, unless_above: None });
    for (many, bytes, fits) in [(1_000, 10, true), (1_001, 10, false), (100, 600, true), (120, 600, false)] {
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
        ask(&redis, Call::Invalidate { scopes: keys(100, 600), unless_above: None }).unwrap();
    }
    let long = "redis.call('XADD', KEYS[1], '21-0', 'scopes', '[[\"key\",\"' .. string.rep('k', 5000000) .. '\"]]') \
        redis.call('HSET', KEYS[2], 'seq', '21')";
    redis.command::<()>(&["EVAL", long, "2", &names().log(), &names().meta()]);
    let (mut seq, mut pages) = (0, Vec::new());
    loop {
        let after = Fence { epoch: Epoch(7), seq };
        let Answer::Log { entries, .. } = ask(&redis, Call::ReadLog { after, max: 1_024 }).unwrap() else {
            panic!("no page")
        };
        let Some(last) = entries.last() else { break };
        assert!(entries.iter().map(|entry| entry.seq).eq(seq + 1..=last.seq), "a page has a gap");
        seq = last.seq;
        if seq == 21 {
            assert_eq!(*last.scopes, [Scope::All]);
        }
        pages.push(entries.len());
    }
    assert_eq!(seq, 21);
    // 61 KB each: nine make 512 KiB full.
    assert!(pages.iter().all(|entries| *entries <= 10), "{pages:?}");
}

#[tokio::test]
async fn a_hint_of_more_than_an_entry_may_name_means_all_of_the_domain() {
    let redis = Redis::start();
    let mut member = Member::join(redis.addr()).await;
    let many: Vec<_> = (0..1_001).map(|nth| nth.to_string()).collect();
    let long = format!("{{\"keys\": [\"42\"], \"more\": \"{}\"}}", "x".repeat(300_000));
    for hint in [serde_json::json!({"keys": many}).to_string(), long] {
        member.forget();
        let mark = member.domain.may_store(member.domain.begin(), "other", &[]).unwrap();
        redis.command::<()>(&["PUBLISH", &names().hints(), &hint]);
        member.until_it(|what| matches!(what, What::Applied(entry) if *entry.scopes == [Scope::All])).await;
        assert!(!member.domain.believes(mark, "other", &[]));
    }
}
