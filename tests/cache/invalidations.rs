//! Fresh: once an invalidation is acknowledged, nothing older is served, from memory or from a
//! running flight.

use serde_json::json;
use tokio::sync::watch;

use super::{PATH, cache_status, counting, invalidate, over_one, write};
use crate::support::client::get;
use crate::support::client::with_header;
use crate::support::upstream::Reply;

#[tokio::test]
async fn an_invalidated_key_is_collected_again_and_others_stay() {
    let (sidecar, upstream) = over_one("{ttl: 60s}").await;
    counting(&upstream, "/42");
    counting(&upstream, "/43");
    for path in [PATH, "/v2/customers/43"] {
        assert_eq!(sidecar.get(path).await.text(), r#"{"part":{"n":1}}"#);
    }
    let done = invalidate(&sidecar, "keys", &json!(["42"])).await;
    assert_eq!(
        (&done["acknowledged"], &done["sidecars"], &done["seq"]),
        (&json!(true), &json!(1), &json!(1))
    );
    assert_eq!(sidecar.get(PATH).await.text(), r#"{"part":{"n":2}}"#);
    assert_eq!(sidecar.get("/v2/customers/43").await.text(), r#"{"part":{"n":1}}"#);
}

#[tokio::test]
async fn tags_and_all_name_what_they_name() {
    let (sidecar, upstream) =
        over_one("{ttl: 60s, tags: '[if .part.n > 1 then \"later\" else \"first\" end]'}").await;
    counting(&upstream, "/42");
    let n = |n: u32| format!("{{\"part\":{{\"n\":{n}}}}}");
    assert_eq!(sidecar.get(PATH).await.text(), n(1));
    invalidate(&sidecar, "tags", &json!(["later"])).await;
    assert_eq!(sidecar.get(PATH).await.text(), n(1), "it does not carry that tag");
    invalidate(&sidecar, "tags", &json!(["first", "other"])).await;
    assert_eq!(sidecar.get(PATH).await.text(), n(2));
    invalidate(&sidecar, "all", &json!(true)).await;
    assert_eq!(sidecar.get(PATH).await.text(), n(3));
}

#[tokio::test]
async fn invalidation_during_a_flight_is_not_lost() {
    let (sidecar, upstream) = over_one("{ttl: 60s}").await;
    let gate = watch::Sender::new(false);
    upstream.answers(
        "/42",
        [Reply::json("\"old\"").held_until(gate.subscribe()), Reply::json("\"new\"")],
    );
    let (before, ()) = tokio::join!(sidecar.get(PATH), async {
        upstream.requests(1).await;
        invalidate(&sidecar, "keys", &json!(["42"])).await;
        // A request after the invalidation joins no flight that began before it.
        assert_eq!(sidecar.get(PATH).await.text(), r#"{"part":"new"}"#);
        gate.send_replace(true);
    });
    // A request before the invalidation may get the old answer; later ones may not.
    assert_eq!(before.text(), r#"{"part":"old"}"#);
    assert_eq!(cache_status(&before), "bfb; fwd=miss", "what was outdated in the air is not kept");
    assert_eq!(sidecar.get(PATH).await.text(), r#"{"part":"new"}"#);
    assert_eq!(sidecar.metric("bfb_cache_fenced_total", &[]).await, Some(1.0));
}

#[tokio::test]
async fn an_invalidation_in_the_air_by_tag_is_not_lost_either() {
    let (sidecar, upstream) = over_one("{ttl: 60s, tags: '[.part]'}").await;
    let gate = watch::Sender::new(false);
    upstream.answers(
        "/42",
        [Reply::json("\"old\"").held_until(gate.subscribe()), Reply::json("\"new\"")],
    );
    let (before, ()) = tokio::join!(sidecar.get(PATH), async {
        upstream.requests(1).await;
        invalidate(&sidecar, "tags", &json!(["old"])).await;
        gate.send_replace(true);
    });
    assert_eq!(before.text(), r#"{"part":"old"}"#);
    assert_eq!(sidecar.get(PATH).await.text(), r#"{"part":"new"}"#);
}

#[tokio::test]
async fn bfb_after_collects_until_its_token_is_applied() {
    let (sidecar, upstream) = over_one("{ttl: 60s}").await;
    counting(&upstream, "/42");
    let n = |n: u32| format!("{{\"part\":{{\"n\":{n}}}}}");
    assert_eq!(sidecar.get(PATH).await.text(), n(1));
    let token =
        invalidate(&sidecar, "keys", &json!(["other"])).await["token"].as_str().unwrap().to_owned();
    let after = |token: &str| with_header(get(PATH), "bfb-after", token);
    assert_eq!(sidecar.send(after(&token)).await.text(), n(1), "applied: as usual");
    let (epoch, _) = token.split_once('-').unwrap();
    let ahead = sidecar.send(after(&format!("{epoch}-99"))).await;
    assert_eq!((ahead.text(), cache_status(&ahead)), (n(2).as_str(), "bfb; fwd=request; stored"));
    assert_eq!(
        sidecar.send(after(&format!("{}-1", "0".repeat(32)))).await.text(),
        n(3),
        "another epoch"
    );
    assert_eq!(sidecar.send(after("nonsense")).await.text(), n(4));
    let mut both = after(&token);
    both.headers_mut().append("bfb-after", format!("{epoch}-99").parse().unwrap());
    assert_eq!(
        sidecar.send(both).await.text(),
        n(5),
        "of several, one that is not applied is enough"
    );
}

#[tokio::test]
async fn what_has_no_tags_to_go_by_is_not_kept() {
    let (sidecar, upstream) = over_one("{ttl: 60s, tags: '.part.n'}").await;
    counting(&upstream, "/42");
    for n in 1..=2 {
        assert_eq!(sidecar.get(PATH).await.text(), format!("{{\"part\":{{\"n\":{n}}}}}"));
    }
    assert_eq!(
        sidecar.metric("bfb_tags_failed_total", &[("reason", "program-failed")]).await,
        Some(2.0)
    );
}

#[tokio::test]
async fn a_wrong_invalidation_is_refused_and_names_what_was_expected() {
    let (sidecar, _upstream) = over_one("{ttl: 60s}").await;
    for wrong in [
        json!({"domain": "customer"}),
        json!({"domain": "nobody", "all": true}),
        json!({"all": true}),
    ] {
        let got = sidecar.send_admin(write("/invalidate", &wrong)).await;
        got.problem("bad-request", 400);
    }
    let none =
        sidecar.send_admin(write("/invalidate", &json!({"domain": "customer", "all": true}))).await;
    assert_eq!((none.status, &none.json()["acknowledged"]), (202, &json!(false)));
}

#[tokio::test]
async fn what_is_kept_can_be_looked_at_without_its_data() {
    let (sidecar, upstream) = over_one("{ttl: 60s, tags: '[\"secret-tag\"]'}").await;
    upstream.answers("/42", [Reply::json("\"secret\"").etag("\"e1\"")]);
    assert_eq!(sidecar.admin("/datasets/customer/42").await.json()["memory"], json!(null));
    sidecar.get(PATH).await;
    let shown = sidecar.admin("/datasets/customer/42").await;
    assert!(!shown.text().contains("secret"), "{}", shown.text());
    let memory = &shown.json()["memory"];
    assert_eq!(
        (&memory["believed"], &memory["parts"][0]["etag"]),
        (&json!(true), &json!("\"e1\""))
    );
    assert_eq!(
        sidecar.admin("/datasets/customer/42?data=1").await.json()["memory"]["data"]["part"],
        "secret"
    );
    invalidate(&sidecar, "keys", &json!(["42"])).await;
    assert_eq!(sidecar.admin("/datasets/customer/42").await.json()["memory"]["believed"], false);
}
