//! Over mutual TLS: both versions of HTTP, a wrong or careless server, and a new identity while
//! requests run.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bfb::domain::ServerIdentity;
use bfb::identity::issue::{Authority, IssuedCertificate, Leaf, Validity};
use bfb::identity::{Identity, IdentityPaths};
use bfb::sources::{BreakerState, Reason, SourceAnswer};
use http::Version;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;

use super::{
    Setup, TestRequest, default_request, fetch, fetch_error, http, known_part, part, setup, strong,
};
use crate::support::client::TEST_TIMEOUT;
use crate::support::upstream::{Reply, Upstream};

/// One authority, and a client identity that it has issued.
pub(super) struct World {
    authority: Authority,
    paths: IdentityPaths,
    client_identity: watch::Sender<Arc<Identity>>,
    _dir: tempfile::TempDir,
}

impl World {
    pub(super) fn new() -> Self {
        bfb::identity::install_provider();
        let authority = Authority::new("shop", Validity::days(1)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let paths = IdentityPaths { dir: dir.path().to_owned(), ca: None };
        let client_identity = watch::Sender::new(identity(&authority, &paths, 1));
        Self { authority, paths, client_identity, _dir: dir }
    }

    /// A server that requires a certificate of this authority.
    async fn upstream(&self, alpn: &[&str]) -> Upstream {
        Upstream::tls(self.server(alpn)).await
    }

    pub(super) fn server(&self, alpn: &[&str]) -> Arc<ServerConfig> {
        self.server_of(&self.authority.issue(&Leaf::new("orders").dns("localhost")).unwrap(), alpn)
    }

    pub(super) fn identity(&self) -> watch::Receiver<Arc<Identity>> {
        self.client_identity.subscribe()
    }

    /// The same with this certificate.
    fn server_of(&self, leaf: &IssuedCertificate, alpn: &[&str]) -> Arc<ServerConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.authority.ca_pem().as_bytes()).unwrap())
            .unwrap();
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
        config(ServerConfig::builder().with_client_cert_verifier(verifier), leaf, alpn)
    }

    /// A server that requests no client certificate.
    async fn careless(&self) -> Upstream {
        let leaf = self.authority.issue(&Leaf::new("orders").dns("localhost")).unwrap();
        Upstream::tls(config(ServerConfig::builder().with_no_client_auth(), &leaf, &["h2"])).await
    }

    fn setup(&self, upstream: &Upstream) -> Setup {
        let mut setup = setup(upstream.origin_as("localhost"));
        setup.shared.identity = Some(self.client_identity.subscribe());
        setup
    }

    fn renew(&self, generation: u64) {
        self.client_identity.send_replace(identity(&self.authority, &self.paths, generation));
    }
}

fn identity(authority: &Authority, paths: &IdentityPaths, generation: u64) -> Arc<Identity> {
    let leaf = Leaf::new("bfb").uri("spiffe://shop.example/ns/shop/sa/web");
    authority.issue(&leaf).unwrap().write(&paths.dir, authority.ca_pem()).unwrap();
    Arc::new(Identity::load(paths, generation).unwrap())
}

fn config(
    builder: rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>,
    leaf: &IssuedCertificate,
    alpn: &[&str],
) -> Arc<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_slice(leaf.cert_pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).unwrap();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

#[tokio::test]
async fn the_server_chooses_the_version_of_http() {
    let world = World::new();
    for (alpn, version) in [
        (&["h2", "http/1.1"][..], Version::HTTP_2),
        (&["http/1.1"], Version::HTTP_11),
        (&[], Version::HTTP_11),
    ] {
        let upstream = world.upstream(alpn).await;
        upstream.answers("/", [Reply::json("1").etag("\"a\"")]);
        let client = world.setup(&upstream).client();
        let first = part(fetch(&client, "/").await.unwrap());
        assert_eq!(first, known_part("1", strong("\"a\"")));
        let again = TestRequest { previous_part: Some(&first), ..default_request() };
        assert!(matches!(again.of(&client, "/").await.0, Ok(SourceAnswer::Unchanged)));
        assert!(upstream.received().iter().all(|request| request.version == version), "{alpn:?}");
        assert_eq!(upstream.connections(), 1);
    }
}

#[tokio::test]
async fn over_http_2_the_bounds_are_the_same() {
    let world = World::new();
    let upstream = world.upstream(&["h2"]).await;
    let client = world.setup(&upstream).client();
    for (reply, reason) in [
        (Reply::json("1").header("x-long", &"x".repeat(40_000)), Reason::TooLarge),
        (Reply::json("1").header("x-long", &"x".repeat(100_000)), Reason::TooLarge),
        (Reply::json("1").header("x-long", &"x".repeat(200_000)), Reason::Status),
        (Reply::json("").endless(), Reason::TooLarge),
        (Reply::json("[1,").cut(), Reason::Incomplete),
        (Reply::json("[1,").header("content-length", "9").cut(), Reason::Incomplete),
        (Reply::json("[1,").stuck(), Reason::Timeout),
        (Reply::never(), Reason::Timeout),
        (Reply::status(503), Reason::Status),
    ] {
        upstream.answers("/", [reply]);
        // Only the endless answers are limited to this time.
        let within =
            if reason == Reason::Timeout { Duration::from_millis(300) } else { TEST_TIMEOUT };
        let failure =
            TestRequest { within, ..default_request() }.of(&client, "/").await.0.unwrap_err();
        assert_eq!(failure.reason, reason, "{failure}");
        assert!(!failure.detail.contains("broke the connection off"), "{failure}");
        upstream.answers("/", [Reply::json("1")]);
        part(fetch(&client, "/").await.unwrap());
    }
    assert_eq!(upstream.connections(), 1, "one request's failure is not its connection's");
}

#[tokio::test]
async fn over_http_2_a_body_of_another_length_than_announced_is_tried_again() {
    let world = World::new();
    let upstream = world.upstream(&["h2"]).await;
    for length in ["9", "3"] {
        let broken = Reply::json("[1,2]").header("content-length", length);
        upstream.answers("/", [broken, Reply::json("1")]);
        let client = world.setup(&upstream).with(|source| source.retries = 1).client();
        let (answer, attempts) = default_request().of(&client, "/").await;
        part(answer.unwrap());
        assert_eq!((attempts.len(), attempts[0].reason), (2, Some(Reason::Incomplete)), "{length}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_mutual_or_another_gets_no_request_and_no_second_chance() {
    let world = World::new();
    let careless = world.careless().await;
    let client = world.setup(&careless).with(|source| source.retries = 3).client();
    let (answer, attempts) = default_request().of(&client, "/secret").await;
    let failure = answer.unwrap_err();
    assert_eq!(
        (failure.reason, failure.retry, attempts.len()),
        (Reason::NotMutual, false, 1),
        "{failure}"
    );
    assert!(careless.received().is_empty());

    let other = world.upstream(&["h2"]).await;
    let server = ServerIdentity::Spiffe("spiffe://shop.example/ns/shop/sa/orders".into());
    let client = world
        .setup(&other)
        .with(|source| {
            source.retries = 3;
            http(source).server = server;
        })
        .client();
    let (answer, attempts) = default_request().of(&client, "/secret").await;
    let failure = answer.unwrap_err();
    assert_eq!(
        (failure.reason, failure.retry, attempts.len()),
        (Reason::Tls, false, 1),
        "{failure}"
    );
    assert!(other.received().is_empty() && !failure.detail.contains("secret"));
    for _ in 1..20 {
        fetch_error(&client, "/").await;
    }
    assert_eq!(client.state().breaker, BreakerState::Open);
}

#[tokio::test]
async fn a_new_identity_gets_new_connections_and_the_old_ones_finish() {
    for alpn in ["h2", "http/1.1"] {
        let world = World::new();
        let upstream = world.upstream(&[alpn]).await;
        upstream.answers("/", [Reply::json("1")]);
        let gate = watch::Sender::new(false);
        upstream.answers("/slow", [Reply::json("2").held_until(gate.subscribe())]);
        let client = world.setup(&upstream).client();
        part(fetch(&client, "/").await.unwrap());
        let slow = async { part(fetch(&client, "/slow").await.unwrap()) };
        let renewed = async {
            upstream.requests(2).await;
            world.renew(2);
            part(fetch(&client, "/").await.unwrap());
            part(fetch(&client, "/").await.unwrap());
            gate.send_replace(true);
        };
        tokio::join!(slow, renewed);
        part(fetch(&client, "/").await.unwrap());
        let on: Vec<_> = upstream
            .received()
            .iter()
            .map(|request| (request.target.clone(), request.connection))
            .collect();
        assert_eq!(on[0].1, on[1].1, "the slow one began on the old connection");
        assert!(on[2..].iter().all(|(_, connection)| *connection == 2), "{on:?}");
        upstream.closed(1).await;
    }
}

/// The server keeps its connections open, and its certificate, after the certificate has expired.
#[tokio::test]
async fn a_kept_alive_connection_is_not_used_past_the_end_of_the_servers_certificate() {
    let world = World::new();
    // On a busy machine a short-lived certificate may expire before the first request.
    for lifetime in [4, 8, 16, 32].map(Duration::from_secs) {
        let leaf = Leaf::new("orders").dns("localhost").valid(Validity::lasting(lifetime));
        let leaf = world.authority.issue(&leaf).unwrap();
        let end = SystemTime::now() + lifetime;
        let mut servers = Vec::new();
        for alpn in ["h2", "http/1.1"] {
            let upstream = Upstream::tls(world.server_of(&leaf, &[alpn])).await;
            upstream.answers("/", [Reply::json("1")]);
            let client = world.setup(&upstream).client();
            let first = fetch(&client, "/").await;
            servers.push((alpn, upstream, client, first));
        }
        if servers.iter().any(|(.., first)| first.is_err()) {
            assert!(SystemTime::now() > end, "{:?}", servers[0].3);
            continue;
        }
        // The last second is part of the validity.
        while SystemTime::now() < end + Duration::from_secs(1) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for (alpn, upstream, client, _) in &servers {
            let failure = fetch_error(client, "/").await;
            assert_eq!(failure.reason, Reason::Tls, "{alpn}: {failure}");
            assert!(failure.detail.contains("expired at"), "{alpn}: {failure}");
            assert_eq!(upstream.received().len(), 1, "{alpn}: the old connection was used");
        }
        return;
    }
    panic!("every certificate was over before the first request");
}

#[tokio::test]
async fn a_connection_to_a_server_whose_certificate_was_revoked_is_not_used_again() {
    for alpn in ["h2", "http/1.1"] {
        let world = World::new();
        let leaf = world.authority.issue(&Leaf::new("orders").dns("localhost")).unwrap();
        let upstream = Upstream::tls(world.server_of(&leaf, &[alpn])).await;
        upstream.answers("/", [Reply::json("1")]);
        let client = world.setup(&upstream).client();
        part(fetch(&client, "/").await.unwrap());
        std::fs::write(world.paths.dir.join("crl.pem"), world.authority.revoke(&[&leaf]).unwrap())
            .unwrap();
        world.client_identity.send_replace(Arc::new(Identity::load(&world.paths, 2).unwrap()));
        let failure = fetch_error(&client, "/").await;
        assert_eq!((failure.reason, failure.retry), (Reason::Tls, false), "{alpn}: {failure}");
        assert!(failure.detail.contains("was revoked (`crl.pem`)"), "{failure}");
        assert_eq!(upstream.received().len(), 1, "{alpn}");
        std::fs::write(world.paths.dir.join("crl.pem"), world.authority.revoke(&[]).unwrap())
            .unwrap();
        world.client_identity.send_replace(Arc::new(Identity::load(&world.paths, 3).unwrap()));
        part(fetch(&client, "/").await.unwrap());
    }
}

#[tokio::test]
async fn a_servers_certificate_dated_before_1970_is_refused_in_words() {
    let world = World::new();
    let not_before = SystemTime::UNIX_EPOCH - Duration::from_hours(24 * 3_653);
    for not_after in
        [SystemTime::now() + Duration::from_hours(1), not_before + Duration::from_hours(24)]
    {
        let valid = Validity { not_before, not_after };
        let leaf =
            world.authority.issue(&Leaf::new("orders").dns("localhost").valid(valid)).unwrap();
        let upstream = Upstream::tls(world.server_of(&leaf, &["h2"])).await;
        let failure = fetch_error(&world.setup(&upstream).client(), "/").await;
        assert_eq!(failure.reason, Reason::Tls, "{failure}");
        assert!(
            failure.detail.contains("dated before 1970 (from 1960-01-01T00:00:00Z to "),
            "{failure}"
        );
    }
}
