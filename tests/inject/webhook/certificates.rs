//! The certificate of the webhook, and the bundles by which API servers trust it.

use std::collections::BTreeSet;

use bfb::identity::issue::{Authority, Leaf, Usage, Validity};
use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::support::apiserver::{Apiserver, CONFIGURATION, SECRET, bundle_of};
use crate::support::webhook::{Webhook, creation};

fn annotated() -> Value {
    creation("shop", &json!({"bfb.dev/inject": "customer"}))
}

fn decoded(secret: &Value, name: &str) -> String {
    String::from_utf8(
        BASE64.decode(secret["data"][name].as_str().unwrap_or_default().as_bytes()).unwrap(),
    )
    .unwrap()
}

/// A configuration without the bundles, and without its `resourceVersion`.
fn bare(mut configuration: Value) -> Value {
    configuration["metadata"]["resourceVersion"].take();
    for hook in configuration["webhooks"].as_array_mut().unwrap() {
        hook["clientConfig"].as_object_mut().unwrap().remove("caBundle");
    }
    configuration
}

#[tokio::test]
async fn the_bundle_of_each_webhook_is_written_and_repaired() {
    let server = Apiserver::start().await;
    let before = bare(server.object(CONFIGURATION));
    let webhook = Webhook::ready(&server, &[]).await;
    let secret = server.object(SECRET);
    assert_eq!(
        (&secret["type"], &secret["metadata"]["namespace"]),
        (&json!("kubernetes.io/tls"), &json!("bfb-system"))
    );
    let ca = decoded(&secret, "ca.crt");
    let all = |server: &Apiserver| {
        let configuration = server.object(CONFIGURATION);
        let hooks = configuration["webhooks"].as_array().unwrap().clone();
        hooks.iter().all(|hook| hook["clientConfig"]["caBundle"] == BASE64.encode(ca.as_bytes()))
    };
    assert!(all(&server));
    assert_eq!(bare(server.object(CONFIGURATION)), before);
    // With another bundle, and by a manifest that is applied again.
    for overwritten in [json!(BASE64.encode(b"-----BEGIN CERTIFICATE-----\n")), Value::Null] {
        server.change(CONFIGURATION, |it| {
            it["webhooks"][1]["clientConfig"]["caBundle"] = overwritten;
        });
        server.until("the bundle is repaired", all).await;
    }
    webhook.until_ready().await;
    webhook.admit(&server, &annotated()).await.unwrap();
    assert_eq!(webhook.metric("bfb_webhook_bundles_written_total", &[]).await, Some(3.0));
    assert_eq!(webhook.metric("bfb_webhook_certificates_made_total", &[]).await, Some(1.0));
    assert!(
        webhook.metric("bfb_webhook_certificate_expiry_timestamp_seconds", &[]).await.unwrap()
            > 1.7e9
    );
    assert!(!webhook.log().contains("PRIVATE"));
}

#[tokio::test]
async fn certificates_are_turned_over_under_admissions_and_none_fails() {
    let server = Apiserver::start().await;
    let args = ["--certificate-lifetime", "6s"];
    let one = Webhook::ready(&server, &args).await;
    let two = Webhook::ready(&server, &args).await;
    let first = decoded(&server.object(SECRET), "ca.crt");
    let current = || decoded(&server.object(SECRET), "ca.crt");
    let mut served = BTreeSet::from([first.clone()]);
    let mut admissions = 0;
    // Until the certificate was replaced three times, and the first authority has left the bundle.
    while served.len() < 4 || server.bundle().contains(first.trim()) {
        for webhook in [&one, &two] {
            let answer = webhook.admit(&server, &annotated()).await;
            assert!(answer.is_ok(), "{answer:?} after {admissions}\n{}\n{}", one.log(), two.log());
            admissions += 1;
        }
        served.insert(current());
        assert!(served.len() < 20, "the certificates change without end");
    }
    assert!(admissions > 50, "{admissions}");
    // At every write of the Secret, the current certificate was already trusted.
    let mut bundle = String::new();
    for (path, object) in server.writes() {
        match path.as_str() {
            CONFIGURATION => bundle = bundle_of(&object),
            SECRET if !bundle.is_empty() => {
                assert!(bundle.contains(decoded(&object, "ca.crt").trim()));
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_secret_that_was_spoilt_or_deleted_is_made_anew() {
    let server = Apiserver::start().await;
    let webhook = Webhook::ready(&server, &[]).await;
    let first = server.bundle();
    server.change(SECRET, |secret| secret["data"]["tls.key"] = "bm9uc2Vuc2U=".into());
    server.until("another authority is trusted", |server| server.bundle() != first).await;
    webhook.until_ready().await;
    webhook.admit(&server, &annotated()).await.unwrap();
}

#[tokio::test]
async fn a_configuration_that_is_not_there_yet_is_waited_for() {
    let server = Apiserver::start().await;
    let webhook = Webhook::start(&server, &["--configuration", "later"]).await;
    webhook.logged("there is no MutatingWebhookConfiguration `later`").await;
    let probe = webhook.probe("/readyz").await;
    assert_eq!(probe.status, 503);
    assert!(
        probe.text().contains("there is no MutatingWebhookConfiguration `later`; expected"),
        "{}",
        probe.text()
    );
    let mut later = server.object(CONFIGURATION);
    later["metadata"]["name"] = "later".into();
    server.put(&CONFIGURATION.replace("/bfb", "/later"), later);
    webhook.until_ready().await;
}

fn issue(dir: &std::path::Path, authority: &Authority) {
    let leaf = Leaf::new("bfb-webhook").ip([127, 0, 0, 1]).usage(Usage::Server);
    authority.issue(&leaf).unwrap().write(dir, authority.ca_pem()).unwrap();
}

#[tokio::test]
async fn a_certificate_from_a_folder_is_followed_and_its_authority_is_trusted() {
    let server = Apiserver::start().await;
    let dir = tempfile::tempdir().unwrap();
    let authority = || Authority::new("platform", Validity::days(1)).unwrap();
    let one = authority();
    let two = authority();
    issue(dir.path(), &one);
    let folder = dir.path().to_str().unwrap();
    let webhook = Webhook::ready(&server, &["--identity", folder]).await;
    assert_eq!(server.bundle(), one.ca_pem());
    issue(dir.path(), &two);
    // Until only the new authority is trusted; no API server refuses the webhook meanwhile.
    while server.bundle() != two.ca_pem() {
        webhook.admit(&server, &annotated()).await.unwrap();
    }
    webhook.admit(&server, &annotated()).await.unwrap();
    assert_eq!(server.find(SECRET), None);
}

#[tokio::test]
async fn bundles_that_cert_manager_writes_are_left_alone() {
    let server = Apiserver::start().await;
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("platform", Validity::days(1)).unwrap();
    issue(dir.path(), &authority);
    server.change(CONFIGURATION, |it| {
        it["metadata"]["annotations"] =
            json!({"cert-manager.io/inject-ca-from": "bfb-system/bfb-webhook"});
    });
    let webhook = Webhook::start(&server, &["--identity", dir.path().to_str().unwrap()]).await;
    webhook.logged("its `caBundle` is empty").await;
    server.change(CONFIGURATION, |it| {
        for hook in it["webhooks"].as_array_mut().unwrap() {
            hook["clientConfig"]["caBundle"] = BASE64.encode(authority.ca_pem().as_bytes()).into();
        }
    });
    webhook.until_ready().await;
    webhook.admit(&server, &annotated()).await.unwrap();
    assert_eq!(webhook.metric("bfb_webhook_bundles_written_total", &[]).await, Some(0.0));
}
