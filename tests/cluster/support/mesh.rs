//! Another injector, like those of Istio and Linkerd: it puts a native sidecar of its own before
//! all others, in pods that carry its annotation and have none, and is to be called again when
//! others change the pod after it.

use std::convert::Infallible;
use std::sync::Arc;

use bfb::identity::issue::{Authority, Leaf, Validity};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// The name of its sidecar.
pub(crate) const CONTAINER: &str = "mesh-proxy";
/// The annotation that asks for it.
pub(crate) const ASKS: &str = "mesh.example/inject";

/// Serves it on loopback as long as the runtime lives. Returns a configuration of this name, which
/// sends it the pods of the namespaces with this label.
pub(crate) async fn start(configuration: &str, label: (&str, &str)) -> Value {
    let authority = Authority::new("mesh", Validity::days(1)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, acceptor(&authority)));
    let (key, value) = label;
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": configuration},
        "webhooks": [{
            "name": "sidecar.mesh.example",
            "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": format!("https://{address}/inject"),
                "caBundle": encoded(authority.ca_pem())},
            "failurePolicy": "Fail",
            "reinvocationPolicy": "IfNeeded",
            "sideEffects": "None",
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
                "resources": ["pods"]}],
            "namespaceSelector": {"matchLabels": {key: value}},
        }],
    })
}

fn encoded(text: impl AsRef<[u8]>) -> String {
    data_encoding::BASE64.encode(text.as_ref())
}

fn acceptor(authority: &Authority) -> TlsAcceptor {
    let pair = authority.issue(&Leaf::new("mesh").ip([127, 0, 0, 1])).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(pair.cert_pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).unwrap();
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let stream = acceptor.accept(stream).await.ok()?;
            Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .await
                .ok()
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request
        .into_body()
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let review: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut response = json!({"uid": review["request"]["uid"], "allowed": true});
    let patch = patch(&review["request"]["object"]);
    if !patch.is_empty() {
        response["patchType"] = "JSONPatch".into();
        response["patch"] = encoded(json!(patch).to_string()).into();
    }
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": response});
    let answer = Response::builder().header("content-type", "application/json");
    Ok(answer.body(review.to_string().into()).expect("a response"))
}

/// The changes that it makes to a pod.
fn patch(pod: &Value) -> Vec<Value> {
    let list = pod.pointer("/spec/initContainers").and_then(Value::as_array);
    let is_injected = list.into_iter().flatten().any(|container| container["name"] == CONTAINER);
    if is_injected || pod["metadata"]["annotations"][ASKS] != "true" {
        return Vec::new();
    }
    let sidecar = json!({
        "name": CONTAINER,
        "image": "mesh/proxy:1",
        "restartPolicy": "Always",
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    });
    match list {
        Some(_) => vec![json!({"op": "add", "path": "/spec/initContainers/0", "value": sidecar})],
        None => vec![json!({"op": "add", "path": "/spec/initContainers", "value": [sidecar]})],
    }
}
