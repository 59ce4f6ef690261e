//! A certificate that cert-manager makes, and a bundle that it keeps. The test takes the part of
//! cert-manager: it writes the folder that a pod would have of a Secret, and the authority into the
//! configuration that asks for it.

use bfb::identity::issue::{Authority, Leaf, Validity};
use data_encoding::BASE64;
use serde_json::json;

use crate::support::control_plane::ControlPlane;
use crate::support::installation::Installation;
use crate::support::kustomize::Overlay;
use crate::support::stream::Stream;
use crate::support::until;

#[tokio::test]
async fn a_certificate_of_cert_managers_is_served_as_it_is_renewed_and_its_bundle_is_left_alone() {
    let plane = ControlPlane::shared().await;
    let mut webhook = Installation::of(plane, "cert-manager", Overlay::CertManager).await;
    webhook.namespace("cert-manager", &json!({})).await;
    let authority = Authority::new("cert-manager", Validity::days(40)).unwrap();
    let folder = webhook.identity();
    let name = format!("bfb-webhook.{}.svc", webhook.namespace);
    let renew = |days: u32| {
        let leaf = Leaf::new("webhook").dns(&name).valid(Validity::days(days));
        authority.issue(&leaf).unwrap().write(&folder, authority.ca_pem()).unwrap();
    };
    renew(10);
    let bundle = BASE64.encode(authority.ca_pem().as_bytes());
    let mut webhooks = webhook.configuration().await["webhooks"].clone();
    for webhook in webhooks.as_array_mut().unwrap() {
        webhook["clientConfig"]["caBundle"] = json!(bundle);
    }
    webhook.change_configuration(&json!({"webhooks": webhooks})).await;
    webhook.start("one", &[]).await;
    webhook.serves("cert-manager").await;
    let stream = Stream::start(&plane.admin(), "cert-manager");
    for days in [20, 30] {
        let expiry = async || {
            webhook.metric("one", "bfb_webhook_certificate_expiry_timestamp_seconds", "").await
        };
        let before = expiry().await;
        renew(days);
        until("the new certificate is served", async || (expiry().await > before).then_some(()))
            .await;
        stream.more(20).await;
    }
    let tally = stream.end().await;
    assert_eq!((tally.wrong, tally.unanswered), (0, 0), "{tally:?}");
    assert_eq!(webhook.bundle().await, bundle);
    assert!(webhook.secret().await.is_none(), "it makes none of its own");
}
