//! The shutdown of a replica, the leader's among them; and an API server that is away for a while.

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::support::apiserver::{Apiserver, CONFIGURATION, LEASE};
use crate::support::client::HttpVersion;
use crate::support::webhook::{Webhook, connect, creation, post, trust_any_certificate};

fn annotated() -> Value {
    creation("shop", &json!({"bfb.dev/inject": "customer"}))
}

fn holder(server: &Apiserver) -> String {
    let lease = server.find(LEASE).unwrap_or_default();
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

fn spoil(server: &Apiserver) {
    server.change(CONFIGURATION, |it| {
        it["webhooks"][0]["clientConfig"]["caBundle"] = BASE64.encode(b"spoilt").into();
    });
}

#[tokio::test]
async fn another_replica_leads_when_the_leader_is_killed() {
    let server = Apiserver::start().await;
    let one = Webhook::ready(&server, &[]).await;
    let two = Webhook::ready(&server, &[]).await;
    assert_eq!(
        (one.metric("bfb_webhook_leader", &[]).await, two.metric("bfb_webhook_leader", &[]).await),
        (Some(1.0), Some(0.0))
    );
    let before = holder(&server);
    let bundle = server.bundle();
    one.signal("KILL");
    one.exit_status().await;
    spoil(&server);
    two.admit(&server, &annotated()).await.expect_err("nobody is trusted until there is a leader");
    server.until("the bundle is repaired", |server| server.bundle() == bundle).await;
    assert_ne!(holder(&server), before);
    assert_eq!(server.object(LEASE)["spec"]["leaseTransitions"], 1);
    two.admit(&server, &annotated()).await.unwrap();
}

#[tokio::test]
async fn told_to_end_it_gives_up_the_lease_and_goes_on_answering_for_a_while() {
    let server = Apiserver::start().await;
    let one = Webhook::ready(&server, &["--leader-lease", "10m"]).await;
    let before = holder(&server);
    let two = Webhook::ready(&server, &[]).await;
    let mut kept = connect(one.address, trust_any_certificate(), HttpVersion::Http1).await.unwrap();
    one.signal("TERM");
    server
        .until("another one leads", |server| !holder(server).is_empty() && holder(server) != before)
        .await;
    // On a connection from before the signal, and on new ones.
    let got = kept.send(post(&annotated())).await.unwrap();
    assert_eq!((got.status, got.header("connection")), (200, "close"));
    one.admit(&server, &annotated()).await.unwrap();
    let probe = one.probe("/readyz").await;
    assert_eq!((probe.status, probe.text()), (503, "not ready\nthis replica is about to end\n"));
    assert!(one.exit_status().await.success(), "{}", one.log());
    two.logged("this replica leads").await;
    two.admit(&server, &annotated()).await.unwrap();
}

#[tokio::test]
async fn told_twice_it_ends_at_once() {
    let server = Apiserver::start().await;
    let webhook = Webhook::ready(&server, &["--drain", "10m"]).await;
    let mut kept =
        connect(webhook.address, trust_any_certificate(), HttpVersion::Http1).await.unwrap();
    webhook.signal("TERM");
    webhook.logged("draining").await;
    kept.send(post(&annotated())).await.unwrap();
    webhook.signal("INT");
    assert!(webhook.exit_status().await.success());
    assert!(webhook.log().contains("told again"), "{}", webhook.log());
}

#[tokio::test]
async fn an_api_server_that_was_away_finds_all_as_it_was() {
    let mut server = Apiserver::start().await;
    server.namespace("labelled", &json!({"bfb.dev/inject": "customer"}));
    let webhook = Webhook::ready(&server, &[]).await;
    server.stop().await;
    webhook.logged("API servers may not believe us").await;
    // The known labels are still used.
    webhook.admit(&server, &creation("labelled", &json!({}))).await.unwrap();
    server.restart().await;
    webhook.until_ready().await;
    let bundle = server.bundle();
    spoil(&server);
    server.until("the bundle is repaired", |server| server.bundle() == bundle).await;
    server.namespace("later", &json!({"bfb.dev/inject": "customer"}));
    let answer = webhook.admit(&server, &creation("later", &json!({}))).await.unwrap();
    assert!(answer["patch"].is_string());
}
