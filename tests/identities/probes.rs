//! The probes of a server by `bfb doctor`: handshakes only.

use bfb::domain::ServerIdentity;
use bfb::identity::{ConnectErrorKind, ProbeRefusal, inspect, probe_without_certificate};

use super::recorder::Recorder;
use super::{TLS12, TLS13};
use crate::support::pki::{Asks, PROFILE, Pki, expected, profile};

#[tokio::test]
async fn whether_a_server_demands_a_certificate_is_found_by_trying_without() {
    let pki = Pki::new();
    let identity = pki.identity();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        for (asks, answer) in [
            (Asks::Always, ProbeRefusal::DemandsCertificate),
            (Asks::Optionally, ProbeRefusal::AcceptsWithout),
            (Asks::Never, ProbeRefusal::AcceptsWithout),
        ] {
            let mut server = Recorder::start(pki.server_speaking(asks, &[version])).await;
            let refusal =
                probe_without_certificate(&server.uri(), &identity, &expected(), TLS12).await;
            assert_eq!(refusal, Ok(answer), "{asks:?} {version:?}");
            assert_eq!(server.next_connection().await.bytes, b"");
        }
    }
    let server = Recorder::start(pki.stranger(&profile())).await;
    let refusal = probe_without_certificate(&server.uri(), &identity, &expected(), TLS13).await;
    assert_eq!(refusal.unwrap_err().kind, ConnectErrorKind::Tls);
}

#[tokio::test]
async fn an_inspection_tells_what_is_there_and_what_is_wrong() {
    let pki = Pki::new();
    let identity = pki.identity();
    let mut server = Recorder::start(pki.server(&profile(), Asks::Always)).await;
    let good = inspect(&server.uri(), &identity, &expected(), true, TLS13).await.unwrap();
    assert_eq!((good.problem, good.asked_for_certificate), (None, true));
    assert_eq!((good.protocol, good.group), (Some("TLS 1.3"), Some("X25519MLKEM768")));
    assert_eq!(good.certificate.unwrap().uris, [PROFILE]);
    assert_eq!(server.next_connection().await.bytes, b"");

    let other = ServerIdentity::Dns("orders.shop".to_owned());
    let wrong = inspect(&server.uri(), &identity, &other, true, TLS13).await.unwrap();
    assert!(wrong.problem.unwrap().ends_with("expected `orders.shop`"));
    assert_eq!(wrong.certificate.unwrap().dns, ["localhost"]);
    assert_eq!(server.next_connection().await.bytes, b"");

    let silent = Recorder::start(pki.server(&profile(), Asks::Never)).await;
    let silent = inspect(&silent.uri(), &identity, &expected(), true, TLS13).await.unwrap();
    assert_eq!(silent.problem.as_deref(), Some("it did not ask for a client certificate"));

    let old = Recorder::start(pki.server_speaking(Asks::Always, &[&rustls::version::TLS12])).await;
    let refused = inspect(&old.uri(), &identity, &expected(), true, TLS13).await.unwrap();
    assert!(refused.problem.unwrap().contains("`--tls12`"));
    let allowed = inspect(&old.uri(), &identity, &expected(), true, TLS12).await.unwrap();
    assert_eq!((allowed.problem, allowed.asked_for_certificate), (None, true));
}
