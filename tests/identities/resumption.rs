//! Sessions: a proven session is resumed and inherits its proof, one without proof never is.

use std::time::{Duration, SystemTime};

use bfb::identity::ConnectErrorKind;
use bfb::identity::issue::Validity;
use rustls::HandshakeKind;

use super::recorder::Recorder;
use super::{Client, TLS12};
use crate::support::pki::{Asks, Pki, expected, profile};

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] =
    [&rustls::version::TLS13, &rustls::version::TLS12];

#[tokio::test]
async fn a_proven_connection_is_resumed_and_inherits_the_proof() {
    let pki = Pki::new();
    for version in VERSIONS {
        let mut server = Recorder::start(pki.server_speaking(Asks::Always, &[version])).await;
        let client = Client::with(pki.identity(), expected(), TLS12);
        assert!(!client.visit(server.uri()).await.unwrap());
        for _ in 0..3 {
            assert!(client.visit(server.uri()).await.unwrap(), "{version:?}");
        }
        assert_eq!(server.next_connection().await.handshake, Some(HandshakeKind::Full));
        assert_eq!(server.next_connection().await.handshake, Some(HandshakeKind::Resumed));
        assert_eq!(client.metrics.handshakes(), (1, 3));
    }
}

#[tokio::test]
async fn a_connection_that_failed_the_proof_leaves_nothing_to_resume() {
    let pki = Pki::new();
    for version in VERSIONS {
        let mut server = Recorder::start(pki.server_speaking(Asks::Never, &[version])).await;
        let client = Client::with(pki.identity(), expected(), TLS12);
        for _ in 0..5 {
            assert_eq!(
                client.open(server.uri()).await.unwrap_err().kind,
                ConnectErrorKind::NotMutual
            );
            let connection = server.next_connection().await;
            assert_ne!(connection.handshake, Some(HandshakeKind::Resumed), "{version:?}");
            assert_eq!(connection.bytes, b"");
        }
        assert_eq!(client.metrics.not_mutual(), 5);
    }
}

#[tokio::test]
async fn a_server_that_stops_asking_and_asks_again_is_judged_each_time() {
    let pki = Pki::new();
    for version in VERSIONS {
        let never = pki.server_speaking(Asks::Never, &[version]);
        // The same session cache, as if the setting of one server had changed.
        let mut always = pki.server_speaking(Asks::Always, &[version]);
        always.session_storage = never.session_storage.clone();

        let server = Recorder::start(never.clone()).await;
        let client = Client::with(pki.identity(), expected(), TLS12);
        assert!(client.open(server.uri()).await.is_err());
        server.become_like(always);
        assert!(
            !client.visit(server.uri()).await.unwrap(),
            "nothing to resume from the first connection"
        );
        assert!(client.visit(server.uri()).await.unwrap());

        let unrelated = pki.server_speaking(Asks::Never, &[version]);
        server.become_like(unrelated);
        for _ in 0..3 {
            assert_eq!(
                client.open(server.uri()).await.unwrap_err().kind,
                ConnectErrorKind::NotMutual
            );
        }
    }
}

#[tokio::test]
async fn another_generation_or_another_source_resumes_nothing() {
    let pki = Pki::new();
    let server = Recorder::start(pki.server(&profile(), Asks::Always)).await;
    assert!(!Client::of(&pki).visit(server.uri()).await.unwrap());
    assert!(!Client::of(&pki).visit(server.uri()).await.unwrap());
}

#[tokio::test]
async fn a_session_does_not_outlive_the_certificate_it_was_proven_with() {
    let pki = Pki::new();
    let valid = Validity::lasting(Duration::from_secs(6));
    let short = pki.server(&profile().valid(valid), Asks::Always);
    let mut renewed = pki.server(&profile(), Asks::Always);
    renewed.session_storage = short.session_storage.clone();
    let server = Recorder::start(short).await;
    let client = Client::of(&pki);
    assert!(!client.visit(server.uri()).await.unwrap());
    assert!(client.visit(server.uri()).await.unwrap());
    // The last second of a certificate's validity is part of it.
    let left = (valid.not_after + Duration::from_secs(1))
        .duration_since(SystemTime::now())
        .unwrap_or_default();
    tokio::time::sleep(left).await;
    assert!(client.open(server.uri()).await.unwrap_err().detail.contains("expired at"));
    server.become_like(renewed);
    assert!(!client.visit(server.uri()).await.unwrap());
    assert!(client.visit(server.uri()).await.unwrap());
}
