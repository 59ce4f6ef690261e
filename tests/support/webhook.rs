//! `bfb webhook` as a process, and whoever asks it: an API server, which trusts what the
//! configuration says, or a kubelet's probe, which trusts anybody.

use std::net::SocketAddr;
use std::ops::Deref;
use std::process::Output;
use std::sync::Arc;

use bytes::Bytes;
use data_encoding::BASE64;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request};
use http_body_util::Full;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::apiserver::Apiserver;
use super::client::{
    ClientRequest, ClientResponse, Connection, HttpVersion, SendError, TEST_TIMEOUT, get,
};
use super::pki::crypto;
use super::process::{Process, metric};
use super::sidecar::bfb;

/// A webhook that runs.
pub(crate) struct Webhook {
    process: Process,
    pub(crate) address: SocketAddr,
}

impl Deref for Webhook {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

/// `bfb webhook` for this API server, on a free port, with a short lease.
fn command(server: &Apiserver, args: &[&str]) -> std::process::Command {
    let mut command = bfb();
    command
        .args(["webhook", "--listen", "127.0.0.1:0", "--log-format", "json", "--kubeconfig"])
        .arg(server.kubeconfig());
    command.env("BFB_LEADER_LEASE", "2s").env("BFB_WATCHDOG_EVERY", "500ms").args(args);
    command
}

impl Webhook {
    /// Starts it, and returns once its port is open.
    pub(crate) async fn start(server: &Apiserver, args: &[&str]) -> Self {
        let process = Process::start(command(server, args));
        let address = process.address("answering API servers").await;
        Self { process, address }
    }

    /// The same, and waits until it is ready.
    pub(crate) async fn ready(server: &Apiserver, args: &[&str]) -> Self {
        let webhook = Self::start(server, args).await;
        webhook.until_ready().await;
        webhook
    }

    /// Runs it where it must refuse to start.
    pub(crate) async fn refused(server: &Apiserver, args: &[&str]) -> Output {
        let mut command = command(server, args);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    pub(crate) async fn until_ready(&self) {
        let ready = async { while self.probe("/readyz").await.status != 200 {} };
        assert!(
            tokio::time::timeout(TEST_TIMEOUT, ready).await.is_ok(),
            "the webhook never became ready:\n{}",
            self.log()
        );
    }

    /// `GET path` as a kubelet asks.
    pub(crate) async fn probe(&self, path: &str) -> ClientResponse {
        self.send(HttpVersion::Http1, get(path)).await
    }

    /// Any request, whoever we are.
    pub(crate) async fn send(&self, http: HttpVersion, request: ClientRequest) -> ClientResponse {
        let mut connection = connect(self.address, trust_any_certificate(), http).await.unwrap();
        match connection.send(request).await {
            Ok(got) => got,
            Err(lost) => panic!("no answer: {lost:?}\n{}", self.log()),
        }
    }

    pub(crate) async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        metric(self.probe("/metrics").await.text(), name, labels)
    }

    /// Asks as the API server does: trusting its configuration, over a new connection. The answer's
    /// `response`.
    pub(crate) async fn admit(&self, server: &Apiserver, request: &Value) -> Result<Value, String> {
        let mut connection =
            connect(self.address, trusting(&server.bundle())?, HttpVersion::Http2).await?;
        match connection.send(post(request)).await {
            Ok(got) if got.status == 200 => Ok(got.json()["response"].clone()),
            Ok(got) => Err(format!("{} {}", got.status, got.text())),
            Err(SendError::Failed(why)) => Err(why),
            Err(SendError::Unsent(_)) => Err("unsent".to_owned()),
        }
    }
}

/// A review as a request.
pub(crate) fn post(request: &Value) -> ClientRequest {
    let review =
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    posted("application/json", review.to_string())
}

/// Any body as a request.
pub(crate) fn posted(kind: &str, body: impl Into<Bytes>) -> ClientRequest {
    let request = Request::builder()
        .method(Method::POST)
        .uri("/mutate?timeout=10s")
        .header(HOST, "localhost");
    request.header(CONTENT_TYPE, kind).body(Full::new(body.into())).unwrap()
}

/// The creation of a pod in `namespace`, as a `ReplicaSet` creates it.
pub(crate) fn creation(namespace: &str, annotations: &Value) -> Value {
    json!({
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": namespace,
        "operation": "CREATE",
        "object": {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"generateName": "web-5d9c-", "annotations": annotations},
            "spec": {"containers": [{"name": "web", "image": "shop/web:1"}]},
        },
    })
}

/// The patch of an answer, readable.
#[track_caller]
pub(crate) fn patch(response: &Value) -> Value {
    assert_eq!(
        (&response["allowed"], &response["patchType"]),
        (&json!(true), &json!("JSONPatch")),
        "{response}"
    );
    serde_json::from_slice(&BASE64.decode(response["patch"].as_str().unwrap().as_bytes()).unwrap())
        .unwrap()
}

/// A TLS client that trusts these authorities.
pub(crate) fn trusting(bundle: &str) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(der.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("the bundle is empty".to_owned());
    }
    let builder = ClientConfig::builder_with_provider(crypto())
        .with_safe_default_protocol_versions()
        .unwrap();
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// One that trusts anybody.
pub(crate) fn trust_any_certificate() -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(crypto())
        .with_safe_default_protocol_versions()
        .unwrap();
    builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAnyCertificate))
        .with_no_client_auth()
}

#[derive(Debug)]
struct AcceptAnyCertificate;

impl ServerCertVerifier for AcceptAnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        crypto().signature_verification_algorithms.supported_schemes()
    }
}

/// A connection to `127.0.0.1`, which must prove to be just that.
pub(crate) async fn connect(
    to: SocketAddr,
    config: ClientConfig,
    http: HttpVersion,
) -> Result<Connection, String> {
    Connection::over(connect_tls(to, config, http).await?, http).await
}

/// The same for bytes of the test's own.
pub(crate) async fn connect_raw(to: SocketAddr, config: ClientConfig) -> TlsStream<TcpStream> {
    connect_tls(to, config, HttpVersion::Http1).await.unwrap()
}

async fn connect_tls(
    to: SocketAddr,
    mut config: ClientConfig,
    http: HttpVersion,
) -> Result<TlsStream<TcpStream>, String> {
    config.alpn_protocols =
        vec![if http == HttpVersion::Http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    let tcp = TcpStream::connect(to).await.map_err(|error| error.to_string())?;
    tcp.set_nodelay(true).unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let tls = TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .map_err(|error| error.to_string())?;
    assert_eq!(
        tls.get_ref().1.alpn_protocol().is_some_and(|it| it == b"h2"),
        http == HttpVersion::Http2
    );
    Ok(tls)
}
