//! Programs that use only the script and the hints channel of bfb: they invalidate, and running
//! sidecars apply it.

use std::process::{Command, Stdio};

use bfb::bus::{BusEventKind, RedisNames};
use bfb::coherence::InvalidationScope;

use super::support::{DOMAIN, Member};
use crate::support::redis::Redis;

/// Runs `redis-cli`, a program that is not part of bfb, as the namespace's user.
fn redis_cli(redis: &Redis, words: &[&str]) -> String {
    let output = Command::new("redis-cli")
        .args(["-h", &redis.addr().ip().to_string(), "-p", &redis.addr().port().to_string()])
        .args(["--user", "bfb", "--pass", "secret", "--no-auth-warning"])
        .args(words)
        .stderr(Stdio::inherit())
        .output()
        .expect("`redis-cli` comes with `redis-server`");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn what_print_script_prints_invalidates_running_sidecars() {
    let redis = Redis::start();
    let mut one = Member::join(redis.addr()).await;
    let mut two = Member::join(redis.addr()).await;
    let mark = two.domain.may_store(two.domain.start_point(), "42", &[]).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let printed = Command::new(env!("CARGO_BIN_EXE_bfb"))
        .args(["invalidate", "--print-script"])
        .output()
        .unwrap();
    std::fs::write(file.path(), printed.stdout).unwrap();

    let names = RedisNames::new("default", DOMAIN);
    let meta = names.meta();
    let log = names.log();
    let stamps = names.stamps();
    let fresh = "0f".repeat(16);
    let script = file.path().to_str().unwrap();
    let words =
        ["--eval", script, &meta, &log, &stamps, ",", "1", &fresh, "", "key", "42", "tag", "gold"];
    let lines = redis_cli(&redis, &words);
    let lines: Vec<_> = lines.lines().collect();
    assert_eq!((lines[0], lines[2], lines[5]), ("issued", "1", "2"), "{lines:?}");
    let named = [InvalidationScope::Key("42".into()), InvalidationScope::Tag("gold".into())];
    for member in [&mut one, &mut two] {
        member
            .until_it(|kind| {
                matches!(kind, BusEventKind::InvalidationApplied(entry)
                if *entry.scopes == named)
            })
            .await;
    }
    assert!(!two.domain.is_valid(mark, "42", &[]));
}

#[tokio::test]
async fn a_plain_publish_of_another_program_invalidates() {
    let redis = Redis::start();
    let mut one = Member::join(redis.addr()).await;
    let mark = one.domain.may_store(one.domain.start_point(), "42", &[]).unwrap();
    let channel = RedisNames::new("default", DOMAIN).hints_channel();
    assert_eq!(redis_cli(&redis, &["PUBLISH", &channel, r#"{"keys": ["42"]}"#]).trim(), "1");
    one.until_it(|what| matches!(what, BusEventKind::InvalidationApplied(_))).await;
    assert!(!one.domain.is_valid(mark, "42", &[]));
}
