//! The webhook's own certificate: made, trusted, renewed and repaired while pods are created all
//! the time.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::api::text;
use crate::support::control_plane::ControlPlane;
use crate::support::installation::{Installation, SHORT_LIVED};
use crate::support::kustomize::Overlay;
use crate::support::objects::{ASKS, annotations, assert_injected, pod};
use crate::support::stream::Stream;
use crate::support::until;

/// How many certificates, and authorities, are replaced in a test.
const GENERATIONS: usize = 4;
/// How many handshakes there are between two looks at the certificate.
const HANDSHAKES: usize = 20;

#[tokio::test]
async fn certificates_rotate_under_a_stream_of_admissions_with_none_failed() {
    let plane = ControlPlane::shared().await;
    let mut webhook = Installation::of(plane, "rotation", Overlay::Fail).await;
    webhook.namespace("rotation", &json!({})).await;
    webhook.start("one", &[SHORT_LIVED]).await;
    webhook.start("two", &[SHORT_LIVED]).await;
    webhook.serves("rotation").await;
    let stream = Stream::start(&plane.admin(), "rotation");
    let mut leaves = BTreeSet::new();
    let mut bundles = BTreeSet::new();
    until("certificates and authorities come and go", async || {
        leaves.insert(text(&webhook.secret().await?, "/data/tls.crt"));
        bundles.insert(webhook.bundle().await);
        (leaves.len() > GENERATIONS && bundles.len() > GENERATIONS).then_some(())
    })
    .await;
    stream.more(100).await;
    let tally = stream.end().await;
    assert_eq!((tally.wrong, tally.unanswered), (0, 0), "{tally:?}");
}

/// Connections live long, and a certificate matters only at a handshake: here each admission has
/// its own connection.
#[tokio::test]
async fn every_connection_that_an_api_server_begins_meets_a_certificate_that_it_trusts() {
    let plane = ControlPlane::shared().await;
    let mut webhook = Installation::of(plane, "handshakes", Overlay::Fail).await;
    webhook.namespace("handshakes", &json!({})).await;
    webhook.start("one", &[SHORT_LIVED]).await;
    webhook.start("two", &[SHORT_LIVED]).await;
    webhook.serves("handshakes").await;
    let admin = plane.admin();
    let asks = pod("handshakes", "asks", &annotations(ASKS));
    let mut leaves = BTreeSet::new();
    until("certificates come and go", async || {
        for _ in 0..HANDSHAKES {
            webhook.cut().await;
            assert_injected(&admin.rehearse(&asks).await.unwrap().object());
        }
        leaves.insert(text(&webhook.secret().await?, "/data/tls.crt"));
        (leaves.len() > GENERATIONS).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_bundle_that_somebody_overwrites_is_repaired() {
    let plane = ControlPlane::shared().await;
    let mut webhook = Installation::of(plane, "repair", Overlay::Fail).await;
    webhook.namespace("repair", &json!({})).await;
    webhook.start("one", &[]).await;
    webhook.serves("repair").await;
    let right = webhook.bundle().await;
    // As an operator who applies the manifests again: they hold no bundle.
    let mut webhooks = webhook.configuration().await["webhooks"].clone();
    for webhook in webhooks.as_array_mut().unwrap() {
        webhook["clientConfig"]["caBundle"] = json!(null);
    }
    webhook.change_configuration(&json!({"webhooks": webhooks})).await;
    until("the bundle is as it was", async || (webhook.bundle().await == right).then_some(()))
        .await;
    webhook.serves("repair").await;
}

#[tokio::test]
async fn a_certificate_that_somebody_deletes_is_made_anew() {
    let plane = ControlPlane::shared().await;
    let mut webhook = Installation::of(plane, "deleted", Overlay::Fail).await;
    webhook.namespace("deleted", &json!({})).await;
    webhook.start("one", &[]).await;
    webhook.serves("deleted").await;
    let before = text(&webhook.secret().await.unwrap(), "/data/tls.crt");
    webhook.delete_secret().await;
    until("there is another certificate", async || {
        let after = webhook.secret().await?;
        (text(&after, "/data/tls.crt") != before).then_some(())
    })
    .await;
    webhook.serves("deleted").await;
}
