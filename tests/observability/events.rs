//! `GET /events`: the events in the stream, their order, and those that are not in it.

use http::header::CACHE_CONTROL;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{PATH, invalidate, single_sidecar};
use crate::cache::{counting, file};
use crate::fleet::{fleet, until_lease};
use crate::support::client::{get, with_header};
use crate::support::domain::DomainFile;
use crate::support::events::Listener;
use crate::support::sidecar::Setup;
use crate::support::upstream::{Reply, Upstream};

/// Asserts the members of an event that a test names, and ignores others.
#[track_caller]
fn holds(event: &Value, expected: &Value) {
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&event[name], value, "{name} of {event}");
    }
}

#[tokio::test]
async fn what_happens_is_told_in_the_order_in_which_it_happens() {
    let (sidecar, upstream) = single_sidecar("{ttl: 60s, tags: '[\"t\"]'}").await;
    upstream.answers("/42", [Reply::json("1"), Reply::status(500), Reply::json("2")]);
    let mut listener = Listener::to(sidecar.admin_address(), "").await;
    sidecar.get(PATH).await.dataset();
    invalidate(&sidecar, "keys", &json!(["42", "43"])).await;
    sidecar.get(PATH).await.problem("source-failed", 502);
    sidecar.get(PATH).await.dataset();
    invalidate(&sidecar, "tags", &json!(["t"])).await;
    invalidate(&sidecar, "all", &json!(true)).await;
    let domain = json!("customer");
    let expected = [
        json!({"event": "filled", "domain": domain, "bytes": 10, "rounds": 1}),
        json!({"event": "invalidated", "domain": domain, "seq": 1, "keys": 2, "tags": 0,
            "all": false}),
        json!({"event": "failed", "domain": domain, "deadline_passed": false}),
        json!({"event": "filled", "domain": domain}),
        json!({"event": "invalidated", "seq": 2, "keys": 0, "tags": 1, "all": false}),
        json!({"event": "invalidated", "seq": 3, "keys": 0, "tags": 0, "all": true}),
    ];
    let mut at = String::new();
    for expected in &expected {
        let event = listener.next().await.unwrap();
        holds(&event, expected);
        let next = event["at"].as_str().unwrap().to_owned();
        assert!(next >= at && next.ends_with('Z'), "{next} after {at}");
        at = next;
        if event["event"] == "failed" {
            let why = json!({"source": "part", "reason": "status",
                "detail": "answered 500, expected 200"});
            assert_eq!(event["failed"], json!([why]));
        } else if event["event"] == "filled" {
            assert_eq!(event["dataset"].as_str().unwrap().len(), 32);
            assert!(event["took_ms"].is_number(), "{event}");
        }
    }
}

#[tokio::test]
async fn keys_and_tags_are_told_only_to_who_asks_for_them() {
    let (sidecar, upstream) = single_sidecar("{ttl: 60s, tags: '[\"s3cret-tag\"]'}").await;
    upstream.answers("/s3cret-key", [Reply::json("\"s3cret-data\""), Reply::status(500)]);
    let mut discreet = Listener::to(sidecar.admin_address(), "").await;
    let mut asking = Listener::to(sidecar.admin_address(), "?keys=1").await;
    sidecar.get("/v2/customers/s3cret-key").await.dataset();
    invalidate(&sidecar, "keys", &json!(["s3cret-key"])).await;
    sidecar.get("/v2/customers/s3cret-key").await.problem("source-failed", 502);
    invalidate(&sidecar, "tags", &json!(["s3cret-tag"])).await;
    for listener in [&mut discreet, &mut asking] {
        while listener.until("invalidated").await["tags"] != 1 {}
    }
    assert!(!discreet.text.contains("s3cret"), "{}", discreet.text);
    assert!(!asking.text.contains("s3cret-data"), "{}", asking.text);
    let events: Vec<Value> = asking
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    assert_eq!(events[1]["key"], "s3cret-key");
    assert_eq!(events[2]["named"], json!({"keys": ["s3cret-key"], "tags": []}));
    assert_eq!(events[3]["key"], "s3cret-key");
    assert_eq!(events[4]["named"], json!({"keys": [], "tags": ["s3cret-tag"]}));
}

#[tokio::test]
async fn what_is_not_kept_says_why() {
    let (sidecar, upstream) =
        single_sidecar("{ttl: 60s, tags: 'if .part == 3 then error else [] end'}").await;
    let gate = watch::Sender::new(false);
    let answers =
        [Reply::json("1").held_until(gate.subscribe()), Reply::json("2"), Reply::json("3")];
    upstream.answers("/42", answers);
    let mut listener = Listener::to(sidecar.admin_address(), "").await;
    let (_, ()) = tokio::join!(sidecar.get(PATH), async {
        upstream.requests(1).await;
        invalidate(&sidecar, "all", &json!(true)).await;
        gate.send_replace(true);
    });
    assert_eq!(listener.until("not-kept").await["because"], "fenced");
    sidecar.send(with_header(get(PATH), CACHE_CONTROL.as_str(), "no-store")).await.dataset();
    assert_eq!(listener.until("not-kept").await["because"], "no-store");
    sidecar.get(PATH).await.dataset();
    assert_eq!(listener.until("not-kept").await["because"], "no-tags");
    assert_eq!(
        sidecar.metric("bfb_cache_fenced_total", &[]).await,
        Some(1.0),
        "only what the fence refused"
    );
}

#[tokio::test]
async fn without_a_memory_collections_are_told_all_the_same() {
    let upstream = Upstream::plain().await;
    upstream.answers("/42", [Reply::json("1"), Reply::status(404)]);
    let domain =
        DomainFile::of("customer").source("part", &upstream, "/{key}", &["missing: not-found"]);
    let sidecar = Setup::of(&[&domain]).insecure().start().await;
    let mut listener = Listener::to(sidecar.admin_address(), "").await;
    sidecar.get(PATH).await.dataset();
    holds(
        &listener.next().await.unwrap(),
        &json!({"event": "not-kept", "because": "off", "bytes": 10}),
    );
    sidecar.get(PATH).await.problem("not-found", 404);
    holds(
        &listener.next().await.unwrap(),
        &json!({"event": "not-kept", "because": "off", "dataset": null}),
    );
}

#[tokio::test]
async fn a_fleets_lease_connection_and_log_are_told() {
    let (mut redis, _upstream, members) = fleet(1, &["--lease", "1s"]).await;
    let sidecar = &members[0];
    let mut listener = Listener::to(sidecar.admin_address(), "").await;
    redis.command::<i64>(&["PUBLISH", "bfb:{default/customer}:invalidate", r#"{"keys": ["42"]}"#]);
    let mut hinted = false;
    let mut invalidated = false;
    while !(hinted && invalidated) {
        let event = listener.next().await.unwrap();
        hinted |= event["event"] == "hinted";
        invalidated |= event["event"] == "invalidated" && event["keys"] == 1;
    }
    redis.kill();
    assert!(
        listener.until("redis-disconnected").await["because"]
            .as_str()
            .unwrap()
            .contains("no connection")
    );
    holds(&listener.until("lease-lost").await, &json!({"domain": "customer"}));
    sidecar.get(PATH).await.dataset();
    assert_eq!(listener.until("not-kept").await["because"], "lease-lost");
    redis.revive();
    assert_eq!(listener.until("redis-connected").await["domain"], Value::Null);
    let mut emptied = false;
    let mut held = false;
    while !(emptied && held) {
        let event = listener.next().await.unwrap();
        emptied |= event["event"] == "emptied" && event["because"] == "epoch";
        held |= event["event"] == "lease-held";
    }
    until_lease(sidecar, true).await;
}

#[tokio::test]
async fn reloads_are_told_and_so_are_those_that_were_refused() {
    let (sidecar, upstream) = single_sidecar("{ttl: 60s}").await;
    let mut listener = Listener::to(sidecar.admin_address(), "").await;
    sidecar.replace("customer", &file(&upstream, "{ttl: 7s}").text());
    listener.until("reloaded").await;
    sidecar.replace("customer", "domain: customer\n");
    let refused = listener.until("reload-refused").await;
    assert!(
        refused["problems"]
            .as_array()
            .unwrap()
            .iter()
            .any(|p| p.as_str().unwrap().contains("customer.yaml")),
        "{refused}"
    );
}

#[tokio::test]
async fn a_listener_of_one_domain_hears_nothing_of_another() {
    let upstream = Upstream::plain().await;
    counting(&upstream, "/42");
    let one = file(&upstream, "{ttl: 60s}");
    let other = DomainFile::of("account").source("part", &upstream, "/{key}", &[]);
    let sidecar = Setup::of(&[&one, &other]).insecure().args(&["--memory", "64MiB"]).start().await;
    let mut listener = Listener::to(sidecar.admin_address(), "?domain=account").await;
    sidecar.get(PATH).await.dataset();
    invalidate(&sidecar, "all", &json!(true)).await;
    sidecar.get("/v2/accounts/42").await.dataset();
    holds(&listener.next().await.unwrap(), &json!({"event": "filled", "domain": "account"}));
    let nowhere = sidecar.admin("/events?domain=elsewhere").await;
    assert!(
        nowhere.problem("bad-request", 400)["detail"].as_str().unwrap().contains("`account`"),
        "{nowhere:?}"
    );
}
