//! The servers that are refused, the text of each refusal, and that no byte was sent before.

use std::sync::Arc;

use bfb::domain::ServerIdentity;
use bfb::identity::issue::{Leaf, Usage, Validity};
use bfb::identity::{ConnectError, ConnectErrorKind};
use hyper_util::rt::TokioIo;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};

use super::recorder::{Recorder, answering};
use super::{Client, TLS12, TLS13, ping};
use crate::support::pki::{Asks, PROFILE, Pki, crypto, expected, profile};

/// Connects, and expects a refusal before the server has received anything.
async fn refused(client: &Client, config: ServerConfig) -> ConnectError {
    let mut server = Recorder::start(config).await;
    let error = client.open(server.uri()).await.unwrap_err();
    let connection = server.next_connection().await;
    assert_eq!(connection.bytes, b"", "bytes reached a server that was refused: {error}");
    error
}

async fn refused_by_tls(pki: &Pki, config: ServerConfig, reason: &'static str) -> String {
    let client = Client::of(pki);
    let error = refused(&client, config).await;
    assert_eq!(error.kind, ConnectErrorKind::Tls, "{error}");
    assert_eq!(client.metrics.failures(reason), 1, "{error}");
    error.detail
}

#[track_caller]
fn assert_says(detail: &str, words: &str) {
    assert!(detail.contains(words), "`{detail}` does not say `{words}`");
}

#[tokio::test]
async fn a_good_server_gets_our_bytes_over_a_post_quantum_key_exchange() {
    let pki = Pki::new();
    let mut server = Recorder::start(pki.server(&profile(), Asks::Always)).await;
    let client = Client::of(&pki);
    let connection = client.open(server.uri()).await.unwrap();
    let proof = connection.proof().unwrap().clone();
    assert_eq!(
        (proof.resumed, proof.protocol, proof.group),
        (false, "TLS 1.3", Some("X25519MLKEM768"))
    );
    assert_eq!(*proof.server, expected());
    let mut stream = TokioIo::new(connection);
    ping(&mut stream).await.unwrap();
    drop(stream);
    let recorded = server.next_connection().await;
    assert_eq!(
        (recorded.bytes.as_slice(), recorded.group),
        (b"ping".as_slice(), Some("X25519MLKEM768"))
    );
    assert!(recorded.client.is_some());
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused() {
    let pki = Pki::new();
    let detail = refused_by_tls(&pki, pki.stranger(&profile()), "unknown-issuer").await;
    assert_says(
        &detail,
        "issued by `CN=stranger`, which none of the trusted certificates vouches for",
    );
}

#[tokio::test]
async fn an_expired_and_an_upcoming_certificate_are_refused() {
    let pki = Pki::new();
    let config = pki.server(&profile().valid(Validity::expired()), Asks::Always);
    assert_says(&refused_by_tls(&pki, config, "expired").await, "its certificate expired at 20");
    let config = pki.server(&profile().valid(Validity::upcoming()), Asks::Always);
    assert_says(
        &refused_by_tls(&pki, config, "not-yet-valid").await,
        "its certificate is not valid before 20",
    );
}

#[tokio::test]
async fn another_identity_of_the_same_trust_domain_is_refused() {
    let pki = Pki::new();
    let other = Leaf::new("orders")
        .uri("spiffe://shop.example/ns/shop/sa/orders")
        .dns("localhost")
        .ip([127, 0, 0, 1]);
    let detail = refused_by_tls(&pki, pki.server(&other, Asks::Always), "wrong-identity").await;
    assert_says(
        &detail,
        "for `spiffe://shop.example/ns/shop/sa/orders`, `localhost`, `127.0.0.1`, \
         expected `spiffe://",
    );
}

#[tokio::test]
async fn two_uri_names_are_refused_even_if_one_is_right() {
    let pki = Pki::new();
    let two = profile().uri("spiffe://shop.example/ns/crm/sa/other");
    let detail = refused_by_tls(&pki, pki.server(&two, Asks::Always), "many-identities").await;
    assert_says(&detail, "carries 2 URI names");
}

#[tokio::test]
async fn a_host_name_is_met_exactly_and_no_wildcard_stands_in_for_it() {
    let pki = Pki::new();
    let client = Client::with(pki.identity(), ServerIdentity::Dns("profile.crm".to_owned()), TLS13);
    for (leaf, words) in [
        (Leaf::new("a").dns("*.crm"), "a wildcard does not stand in for it"),
        (Leaf::new("a").dns("orders.crm"), "for `orders.crm`, expected `profile.crm`"),
        (Leaf::new("profile.crm"), "for no name, expected `profile.crm`"),
    ] {
        assert_says(&refused(&client, pki.server(&leaf, Asks::Always)).await.detail, words);
    }
    let server =
        Recorder::start(pki.server(&Leaf::new("a").dns("profile.crm"), Asks::Always)).await;
    assert!(!client.visit(server.uri()).await.unwrap());
}

#[tokio::test]
async fn an_address_is_met_exactly() {
    let pki = Pki::new();
    let client = Client::with(pki.identity(), ServerIdentity::Ip([127, 0, 0, 1].into()), TLS13);
    let wrong = pki.server(&Leaf::new("a").ip([127, 0, 0, 2]).dns("127.0.0.1"), Asks::Always);
    assert_says(&refused(&client, wrong).await.detail, "expected `127.0.0.1`");
    let server = Recorder::start(pki.server(&profile(), Asks::Always)).await;
    assert!(!client.visit(server.uri()).await.unwrap());
}

#[tokio::test]
async fn a_certificate_that_is_not_for_servers_is_refused() {
    let pki = Pki::new();
    let config = pki.server(&profile().usage(Usage::Client), Asks::Always);
    assert_says(&refused_by_tls(&pki, config, "wrong-usage").await, "not for a TLS server");
}

#[tokio::test]
async fn a_server_that_does_not_ask_for_our_certificate_gets_no_byte() {
    let pki = Pki::new();
    for (tls, version) in [(TLS13, &rustls::version::TLS13), (TLS12, &rustls::version::TLS12)] {
        let client = Client::with(pki.identity(), expected(), tls);
        let error = refused(&client, pki.server_speaking(Asks::Never, &[version])).await;
        assert_eq!(error.kind, ConnectErrorKind::NotMutual, "{error}");
        assert_says(&error.detail, "did not ask for a client certificate");
        assert_eq!(client.metrics.not_mutual(), 1);
    }
}

#[tokio::test]
async fn a_server_that_asks_in_any_way_gets_our_certificate() {
    let pki = Pki::new();
    for asks in [Asks::Always, Asks::Optionally, Asks::NamingOthers] {
        let mut server = Recorder::start(pki.server(&profile(), asks)).await;
        assert!(!Client::of(&pki).visit(server.uri()).await.unwrap());
        assert!(server.next_connection().await.client.is_some(), "{asks:?}");
    }
}

#[tokio::test]
async fn a_server_that_cannot_take_our_signature_gets_no_byte() {
    let pki = Pki::new();
    let mut config = pki.server(&profile(), Asks::Never);
    config = {
        let resolver = config.cert_resolver.clone();
        ServerConfig::builder_with_provider(crypto())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(Arc::new(RsaOnly))
            .with_cert_resolver(resolver)
    };
    let detail = refused_by_tls(&pki, config, "unfit-key").await;
    assert_says(&detail, "it accepts no signature that our key can make");
}

#[tokio::test]
async fn tls_1_2_is_spoken_only_when_it_is_allowed() {
    let pki = Pki::new();
    let only = [&rustls::version::TLS12];
    let detail = refused_by_tls(&pki, pki.server_speaking(Asks::Always, &only), "version").await;
    assert_says(&detail, "hint: `--tls12`");
    let server = Recorder::start(pki.server_speaking(Asks::Always, &only)).await;
    let client = Client::with(pki.identity(), expected(), TLS12);
    let connection = client.open(server.uri()).await.unwrap();
    assert_eq!(connection.proof().unwrap().protocol, "TLS 1.2");
    ping(&mut TokioIo::new(connection)).await.unwrap();
}

#[tokio::test]
async fn tls_1_1_is_never_spoken() {
    let pki = Pki::new();
    let alert = vec![0x15, 3, 2, 0, 2, 2, 70];
    // A ServerHello of TLS 1.1: its version, 32 bytes of "random", no session, AES-128-CBC, no
    // compression.
    let mut hello = vec![0x16, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 0x2f, 0]);
    for answer in [alert, hello] {
        let (uri, _server) = answering(answer).await;
        for (tls, words) in
            [(TLS13, "does not speak TLS 1.3"), (TLS12, "neither TLS 1.3 nor TLS 1.2")]
        {
            let client = Client::with(pki.identity(), expected(), tls);
            let error = client.open(uri.clone()).await.unwrap_err();
            assert_eq!(
                (error.kind, client.metrics.failures("version")),
                (ConnectErrorKind::Tls, 1),
                "{error}"
            );
            assert_says(&error.detail, words);
        }
    }
}

#[tokio::test]
async fn what_is_not_tls_or_closes_says_so() {
    let pki = Pki::new();
    for (answer, reason, words) in [
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            "not-tls",
            "hint: is this the port of `http://`?",
        ),
        (Vec::new(), "closed", "closed the connection during the TLS handshake"),
        (vec![0x15, 3, 3, 0, 2, 2, 40], "no-shared-cipher", "no TLS parameters in common"),
        (vec![0x15, 3, 3, 0, 2, 2, 116], "refused-us", "alert `certificate_required`"),
    ] {
        let (uri, _server) = answering(answer).await;
        let client = Client::of(&pki);
        let error = client.open(uri).await.unwrap_err();
        assert_eq!(
            (error.kind, client.metrics.failures(reason)),
            (ConnectErrorKind::Tls, 1),
            "{error}"
        );
        assert_says(&error.detail, words);
    }
}

#[tokio::test]
async fn nobody_listening_and_unknown_names_are_no_tls_failures() {
    let pki = Pki::new();
    let port = {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.local_addr().unwrap().port()
    };
    let client = Client::of(&pki);
    let error =
        client.open(format!("https://127.0.0.1:{port}").parse().unwrap()).await.unwrap_err();
    assert_eq!(error.kind, ConnectErrorKind::Connect);
    assert_says(&error.detail, "refused the connection");
    let error = client.open("https://no-such-host.invalid:1".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.kind, ConnectErrorKind::Connect);
    assert_says(&error.detail, "the name in `no-such-host.invalid:1` does not resolve");
    let error = client.open(format!("http://127.0.0.1:{port}").parse().unwrap()).await.unwrap_err();
    assert_says(&error.detail, "met `http`, expected `https`");
}

#[tokio::test]
async fn a_server_that_refuses_our_certificate_is_quoted() {
    let pki = Pki::new();
    let server = Recorder::start(pki.server(&profile(), Asks::TrustingOthers)).await;
    let client = Client::of(&pki);
    let mut stream = TokioIo::new(client.open(server.uri()).await.unwrap());
    let error = ping(&mut stream).await.unwrap_err();
    let cause = ConnectError::cause_of(&*error).unwrap();
    assert_eq!(cause.kind, ConnectErrorKind::Tls);
    assert_says(&cause.detail, "it refused our certificate (alert `unknown_ca`)");
    assert_says(&cause.detail, PROFILE);
}

#[tokio::test]
async fn connections_on_one_thread_do_not_mix_their_proofs() {
    let pki = Pki::new();
    let asking = Recorder::start(pki.server(&profile(), Asks::Always)).await;
    let silent = Recorder::start(pki.server(&profile(), Asks::Never)).await;
    let client = Client::of(&pki);
    for _ in 0..20 {
        let (one, two, three, four) = tokio::join!(
            client.open(silent.uri()),
            client.visit(asking.uri()),
            client.open(silent.uri()),
            client.visit(asking.uri()),
        );
        assert!(two.is_ok() && four.is_ok());
        assert_eq!(one.unwrap_err().kind, ConnectErrorKind::NotMutual);
        assert_eq!(three.unwrap_err().kind, ConnectErrorKind::NotMutual);
    }
    assert_eq!(client.metrics.not_mutual(), 40);
}

/// Asks for a certificate, but takes RSA signatures only.
#[derive(Debug)]
struct RsaOnly;

impl ClientCertVerifier for RsaOnly {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::RSA_PSS_SHA256]
    }
}
