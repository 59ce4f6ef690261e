//! `bfb invalidate --wait`: the acknowledgement and its time, or the members that did not
//! acknowledge.

use serde_json::Value;

use crate::cache::file;
use crate::commands::run;
use crate::fleet::{fleet, until_lease};
use crate::support::link::{Direction, Link};
use crate::support::redis::Redis;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::Upstream;

/// Two members, of which one reaches Redis over a link; both names are settled.
async fn two_over_a_link(lease: &str) -> (Redis, Link, [Sidecar; 2]) {
    let redis = Redis::start();
    let upstream = Upstream::plain().await;
    let link = Link::to(redis.addr()).await;
    let domain = file(&upstream, "{ttl: 60s}");
    let member = async |url: String| {
        let sidecar = Setup::of(&[&domain])
            .insecure()
            .args(&["--redis", &url, "--lease", lease])
            .start()
            .await;
        until_lease(&sidecar, true).await;
        sidecar
    };
    let members = [member(redis.url()).await, member(format!("redis://{}", link.addr())).await];
    // In a young epoch an acknowledgement waits for the whole lease, even if all have reported:
    // this one lets the epoch grow old.
    invalidate(&members[0], &[]).await.with_code(0);
    (redis, link, members)
}

async fn invalidate(sidecar: &Sidecar, args: &[&str]) -> crate::commands::CommandOutput {
    let admin = sidecar.admin_address().to_string();
    run(&[&["invalidate", "customer", "42", "--wait", "--admin", &admin], args].concat()).await
}

/// The sidecar's name in the registry.
async fn name(sidecar: &Sidecar) -> String {
    sidecar.admin("/status").await.json()["fleet"]["domains"][0]["member"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn it_says_that_all_acknowledged_and_how_long_it_took() {
    let (_redis, _upstream, members) = fleet(3, &["--lease", "1s"]).await;
    let output = invalidate(&members[1], &[]).await.with_code(0);
    let first = output.out.lines().next().unwrap();
    let ms = first
        .strip_prefix("acknowledged by all 3 sidecars in ")
        .unwrap()
        .strip_suffix(" ms")
        .unwrap();
    assert!(ms.parse::<u64>().is_ok(), "{first}");
    assert!(output.out.lines().nth(1).unwrap().starts_with("token "), "{}", output.out);
    let json: Value = serde_json::from_str(
        &invalidate(&members[1], &["--format", "json"]).await.with_code(0).out,
    )
    .unwrap();
    assert_eq!(
        (&json["acknowledged"], &json["sidecars"], &json["seq"]),
        (&true.into(), &3.into(), &2.into())
    );
}

#[tokio::test]
async fn more_keys_than_one_request_takes_go_in_several_and_one_request_of_them_is_refused() {
    let (redis, _upstream, members) = fleet(1, &["--lease", "1s"]).await;
    let keys: Vec<_> = (0..2_500).map(|key| key.to_string()).collect();
    let args: Vec<_> = keys.iter().map(String::as_str).collect();
    invalidate(&members[0], &args).await.with_code(0);
    let stamps = bfb::bus::RedisNames::new("default", "customer").stamps();
    // `invalidate` also names `42`, which is one of them.
    assert_eq!(redis.command::<u64>(&["ZCARD", &stamps]), 2_500);
    let refused = |names: Vec<String>| {
        let request = serde_json::json!({"domain": "customer", "keys": names});
        members[0].send_admin(crate::cache::write("/invalidate", &request))
    };
    for (names, output) in
        [(keys, "at most 1000 keys or tags"), (vec!["k".repeat(500); 200], "at most 65536 bytes")]
    {
        let got = refused(names).await;
        got.problem("bad-request", 400);
        assert!(got.text().contains(output), "{}", got.text());
    }
}

#[tokio::test]
async fn it_names_who_was_silent_and_who_has_not_reported_yet() {
    let (_redis, link, members) = two_over_a_link("2s").await;
    let silent = name(&members[1]).await;
    link.black_hole(Direction::Up);
    link.black_hole(Direction::Down);
    let late = invalidate(&members[0], &["--timeout", "100ms"]).await.with_code(1);
    assert_eq!(late.out, "");
    for words in [
        "urn:bfb:not-acknowledged",
        "1 of 2 sidecars had not reported",
        &format!("  behind: {silent}\n"),
        "token ",
    ] {
        assert!(late.err.contains(words), "no `{words}`\n{}", late.err);
    }
    assert!(
        !late.err.contains(&name(&members[0]).await),
        "who reported is not behind: {}",
        late.err
    );
    let json =
        invalidate(&members[0], &["--timeout", "100ms", "--format", "json"]).await.with_code(1);
    let problem: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(
        (&problem["status"], &problem["behind"]),
        (&504.into(), &serde_json::json!([silent]))
    );
    assert!(
        problem["token"].as_str().unwrap().ends_with("-3"),
        "the invalidation stands: {problem}"
    );

    let waited = invalidate(&members[0], &[]).await.with_code(0);
    assert!(waited.out.starts_with("acknowledged by 1 of 2 sidecars in "), "{}", waited.out);
    assert!(waited.out.contains(&format!("silent: {silent};")), "{}", waited.out);
    let alone = invalidate(&members[0], &[]).await.with_code(0);
    assert!(
        alone.out.starts_with("acknowledged by the one sidecar in "),
        "it is waited for no more: {}",
        alone.out
    );
}

#[tokio::test]
async fn a_log_that_cannot_be_written_is_69_and_says_so() {
    let (mut redis, _upstream, members) = fleet(1, &["--lease", "1s"]).await;
    redis.kill();
    until_lease(&members[0], false).await;
    let output = invalidate(&members[0], &[]).await.with_code(69);
    output.says("urn:bfb:bus-lost");
    assert!(
        output.err.lines().all(|line| !line.is_empty()),
        "a line says nothing: {:?}",
        output.err
    );
}
