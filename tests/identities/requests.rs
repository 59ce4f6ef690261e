//! The connector under the HTTP client that uses it: the proof comes with each response, errors
//! keep their cause.

use std::convert::Infallible;
use std::sync::Arc;

use bfb::identity::{ConnectError, ConnectErrorKind, Connector, MutualityProof};
use bytes::Bytes;
use http::{Response, Uri, Version};
use http_body_util::{Empty, Full};
use hyper::service::service_fn;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::Client;
use crate::support::pki::{Asks, Pki, profile};

/// Answers every request with `{}`.
async fn serve(config: ServerConfig) -> (Uri, JoinSet<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let uri = format!("https://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let answer = service_fn(async |_| {
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("{}"))))
                });
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), answer)
                    .await;
            });
        }
    });
    (uri, tasks)
}

fn http(pki: &Pki) -> HttpClient<Connector, Empty<Bytes>> {
    HttpClient::builder(TokioExecutor::new()).build(Client::of(pki).connector)
}

#[tokio::test]
async fn the_protocol_is_agreed_on_and_each_response_carries_the_proof() {
    let pki = Pki::new();
    for (alpn, version) in [
        (b"h2".as_slice(), Version::HTTP_2),
        (b"http/1.1", Version::HTTP_11),
        (b"", Version::HTTP_11),
    ] {
        let mut config = pki.server(&profile(), Asks::Always);
        if !alpn.is_empty() {
            config.alpn_protocols = vec![alpn.to_vec()];
        }
        let (uri, _server) = serve(config).await;
        let client = http(&pki);
        for _ in 0..2 {
            let response = client.get(uri.clone()).await.unwrap();
            assert_eq!(response.version(), version);
            let proof = response.extensions().get::<MutualityProof>().unwrap();
            assert_eq!((proof.protocol, proof.resumed, proof.generation), ("TLS 1.3", false, 0));
        }
    }
}

#[tokio::test]
async fn the_cause_is_found_in_the_error_of_the_http_client() {
    let pki = Pki::new();
    for (asks, kind) in
        [(Asks::Never, ConnectErrorKind::NotMutual), (Asks::TrustingOthers, ConnectErrorKind::Tls)]
    {
        for alpn in [b"h2".to_vec(), b"http/1.1".to_vec()] {
            let mut config = pki.server(&profile(), asks);
            config.alpn_protocols = vec![alpn];
            let (uri, _server) = serve(config).await;
            let error = http(&pki).get(uri).await.unwrap_err();
            let cause =
                ConnectError::cause_of(&error).unwrap_or_else(|| panic!("no cause in {error:?}"));
            assert_eq!(cause.kind, kind, "{cause}");
        }
    }
}
