//! A small API server of Kubernetes: objects as JSON behind TLS and a token, with
//! `resourceVersion`s that a write must name, lists in pages, and watches. It can be stopped and
//! started again on its port, and calls a webhook as a real one does: over a new connection,
//! trusting the configuration's `caBundle` and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bfb::identity::issue::Leaf;
use bytes::Bytes;
use data_encoding::BASE64;
use futures_util::stream::StreamExt as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Collected, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::pki::{Asks, Pki};

const TOKEN: &str = "token-of-the-tests";
pub(crate) const CONFIGURATION: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/bfb";
pub(crate) const LEASE: &str =
    "/apis/coordination.k8s.io/v1/namespaces/bfb-system/leases/bfb-webhook";
pub(crate) const SECRET: &str = "/api/v1/namespaces/bfb-system/secrets/bfb-webhook";

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// An API server that runs.
pub(crate) struct Apiserver {
    shared: Arc<Shared>,
    address: SocketAddr,
    dir: TempDir,
    tls: TlsAcceptor,
    running: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    version: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    /// The log of events: the path of the object, the kind of event, the object; its version is its
    /// index.
    events: Vec<(u64, String, &'static str, Value)>,
    version: u64,
    minor: String,
    asked: HashMap<String, usize>,
    writes: Vec<(String, Value)>,
    broken: Option<String>,
}

impl Apiserver {
    /// Of Kubernetes 1.33, with the namespaces `bfb-system` and `shop`, and a configuration with
    /// two webhooks that name the loopback address.
    pub(crate) async fn start() -> Self {
        Self::of_minor("33").await
    }

    pub(crate) async fn of_minor(minor: &str) -> Self {
        let pki = Pki::new();
        let config = pki.server(&Leaf::new("kubernetes").ip([127, 0, 0, 1]), Asks::Never);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("kubeconfig"), kubeconfig(address, pki.authority.ca_pem()))
            .unwrap();
        let state = State { minor: minor.to_owned(), ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), version: watch::Sender::new(0) });
        let mut server =
            Self { shared, address, dir, tls: TlsAcceptor::from(Arc::new(config)), running: None };
        server.put("/api/v1/namespaces/bfb-system", json!({"metadata": {"name": "bfb-system"}}));
        server.namespace("shop", &json!({}));
        server.put(CONFIGURATION, configuration("Fail"));
        server.serve(listener);
        server
    }

    fn serve(&mut self, listener: TcpListener) {
        let shared = self.shared.clone();
        let tls = self.tls.clone();
        self.running = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let shared = shared.clone();
                let tls = tls.clone();
                connections.spawn(async move {
                    let Ok(tls) = tls.accept(tcp).await else { return };
                    let service = service_fn(move |request| {
                        let shared = shared.clone();
                        async move { Ok::<_, Infallible>(shared.answer(request).await) }
                    });
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(tls), service)
                        .await;
                });
            }
        }));
    }

    /// Ends, with all connections; its objects stay.
    pub(crate) async fn stop(&mut self) {
        let running = self.running.take().unwrap();
        running.abort();
        let _ = running.await;
    }

    /// Starts again on the same port.
    pub(crate) async fn restart(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serve(listener);
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// Puts an object, replacing the present one.
    pub(crate) fn put(&self, path: &str, object: Value) {
        let mut state = self.shared.state.lock().unwrap();
        state.store(path, object);
        self.shared.version.send_replace(state.version);
    }

    /// Puts a namespace with these labels.
    pub(crate) fn namespace(&self, name: &str, labels: &Value) {
        self.put(
            &format!("/api/v1/namespaces/{name}"),
            json!({"metadata": {"name": name, "labels": labels}}),
        );
    }

    /// The same, without an event for watches.
    pub(crate) fn put_unheard(&self, path: &str, object: Value) {
        let mut state = self.shared.state.lock().unwrap();
        state.store(path, object);
        state.events.pop();
    }

    /// Changes an object.
    pub(crate) fn change(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.object(path);
        change(&mut object);
        self.put(path, object);
    }

    pub(crate) fn find(&self, path: &str) -> Option<Value> {
        self.shared.state.lock().unwrap().objects.get(path).cloned()
    }

    #[track_caller]
    pub(crate) fn object(&self, path: &str) -> Value {
        self.find(path).unwrap_or_else(|| panic!("there is no {path}"))
    }

    /// Objects below a path.
    pub(crate) fn below(&self, prefix: &str) -> Vec<Value> {
        let state = self.shared.state.lock().unwrap();
        let below = state.objects.iter().filter(|(path, _)| path.starts_with(prefix));
        below.map(|(_, object)| object.clone()).collect()
    }

    /// How many requests came for `METHOD PATH`.
    pub(crate) fn asked(&self, what: &str) -> usize {
        self.shared.state.lock().unwrap().asked.get(what).copied().unwrap_or_default()
    }

    /// Every object that was written, in order, with its path.
    pub(crate) fn writes(&self) -> Vec<(String, Value)> {
        self.shared.state.lock().unwrap().writes.clone()
    }

    /// Answers everything below this path with a 500; nothing, if it is `None`.
    pub(crate) fn breaks(&self, prefix: Option<&str>) {
        self.shared.state.lock().unwrap().broken = prefix.map(str::to_owned);
    }

    /// Waits until the objects are as wanted.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let mut version = self.shared.version.subscribe();
        let waited = tokio::time::timeout(super::client::TEST_TIMEOUT, async {
            while !wanted(self) {
                version.changed().await.unwrap();
            }
        });
        assert!(waited.await.is_ok(), "never: {what}");
    }

    /// The `caBundle` of the configuration's first webhook, as PEM; empty if it has none.
    pub(crate) fn bundle(&self) -> String {
        bundle_of(&self.object(CONFIGURATION))
    }
}

/// The `caBundle` of a configuration's first webhook, as PEM.
pub(crate) fn bundle_of(configuration: &Value) -> String {
    let encoded =
        configuration["webhooks"][0]["clientConfig"]["caBundle"].as_str().unwrap_or_default();
    String::from_utf8(BASE64.decode(encoded.as_bytes()).unwrap()).unwrap()
}

impl Drop for Apiserver {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

/// The configuration of the manifests, as far as it matters here.
pub(crate) fn configuration(failure_policy: &str) -> Value {
    let hook = |name: &str, selector: Value| {
        json!({
            "name": name,
            "clientConfig": {"url": "https://127.0.0.1:8443/mutate"},
            "failurePolicy": failure_policy,
            "namespaceSelector": {"matchExpressions": selector},
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
        })
    };
    let elsewhere = json!({"key": "kubernetes.io/metadata.name", "operator": "NotIn",
        "values": ["kube-system", "bfb-system"]});
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "bfb", "labels": {"kept": "as it is"}},
        "webhooks": [
            hook("annotated.bfb.dev", json!([elsewhere])),
            hook("labelled.bfb.dev", json!([elsewhere,
                {"key": "bfb.dev/inject", "operator": "Exists"}])),
        ],
    })
}

fn kubeconfig(address: SocketAddr, ca: &str) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "tests",
        "clusters": [{"name": "tests", "cluster": {
            "server": format!("https://{address}"),
            "certificate-authority-data": BASE64.encode(ca.as_bytes()),
        }}],
        "users": [{"name": "tests", "user": {"token": TOKEN}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests",
            "namespace": "bfb-system"}}],
    })
    .to_string()
}

impl State {
    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let kind = if self.objects.insert(path.to_owned(), object.clone()).is_some() {
            "MODIFIED"
        } else {
            "ADDED"
        };
        self.events.push((self.version, path.to_owned(), kind, object.clone()));
        object
    }

    /// Objects of a collection: those right below it, and those of all namespaces.
    fn of_collection<'a>(
        &'a self,
        collection: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.objects.iter().filter(move |(path, _)| is_in(path, collection))
    }
}

fn is_in(path: &str, collection: &str) -> bool {
    let own = path.strip_prefix(collection).and_then(|rest| rest.strip_prefix('/'));
    let (group, kind) = collection.rsplit_once('/').unwrap();
    let any =
        path.strip_prefix(&format!("{group}/namespaces/")).and_then(|rest| rest.split_once('/'));
    let any =
        any.and_then(|(_, rest)| rest.strip_prefix(kind)).and_then(|rest| rest.strip_prefix('/'));
    own.or(any).is_some_and(|name| !name.is_empty() && !name.contains('/'))
}

fn whole(status: u16, body: &Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    response
}

fn refusal(code: u16, reason: &str) -> Response<Body> {
    let message = format!("the tests say {reason}");
    whole(
        code,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "code": code, "reason": reason, "message": message}),
    )
}

impl Shared {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let authorized = request
            .headers()
            .get("authorization")
            .is_some_and(|it| it == &format!("Bearer {TOKEN}"));
        if !authorized {
            return refusal(401, "Unauthorized");
        }
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let query: HashMap<String, String> = request
            .uri()
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| {
                let (key, value) = pair.split_once('=')?;
                Some((key.to_owned(), value.to_owned()))
            })
            .collect();
        let body = request.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        {
            let mut state = self.state.lock().unwrap();
            *state.asked.entry(format!("{method} {path}")).or_default() += 1;
            if state.broken.as_ref().is_some_and(|broken| path.starts_with(broken.as_str())) {
                return refusal(500, "InternalError");
            }
        }
        if query.contains_key("watch") {
            return self.watch(path, &query);
        }
        let mut state = self.state.lock().unwrap();
        let answer = match method {
            Method::GET if path == "/version" => {
                whole(200, &json!({"major": "1", "minor": state.minor}))
            }
            Method::GET if state.objects.contains_key(&path) => whole(200, &state.objects[&path]),
            Method::GET if path.ends_with("/namespaces") || path.ends_with("/pods") => {
                list(&state, &path, &query)
            }
            Method::PUT => replace(&mut state, &path, body),
            Method::POST => create(&mut state, &path, body),
            _ => refusal(404, "NotFound"),
        };
        self.version.send_replace(state.version);
        answer
    }

    fn watch(
        self: Arc<Self>,
        collection: String,
        query: &HashMap<String, String>,
    ) -> Response<Body> {
        let from: u64 = query["resourceVersion"].parse().unwrap();
        let limit = Duration::from_secs(query["timeoutSeconds"].parse().unwrap());
        let changes = self.version.subscribe();
        let end = tokio::time::Instant::now() + limit;
        let lines = futures_util::stream::unfold(
            (self, changes, from),
            move |(shared, mut changes, from)| {
                let collection = collection.clone();
                async move {
                    loop {
                        let next = {
                            let state = shared.state.lock().unwrap();
                            let mut later = state.events.iter().filter(|(version, path, ..)| {
                                *version > from && is_in(path, &collection)
                            });
                            later.next().cloned()
                        };
                        if let Some((version, _, kind, object)) = next {
                            let line = format!("{}\n", json!({"type": kind, "object": object}));
                            return Some((line, (shared, changes, version)));
                        }
                        let changed = tokio::time::timeout_at(end, changes.changed()).await;
                        if !matches!(changed, Ok(Ok(()))) {
                            return None;
                        }
                    }
                }
            },
        );
        let frames = lines.map(|line| Ok::<_, Infallible>(Frame::data(Bytes::from(line))));
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

fn list(state: &State, path: &str, query: &HashMap<String, String>) -> Response<Body> {
    // Small pages, whatever limit is requested, so that every list has several.
    let from: usize = query.get("continue").map_or(0, |token| token.parse().unwrap());
    let all: Vec<_> = state.of_collection(path).map(|(_, object)| object.clone()).collect();
    let items: Vec<_> = all.iter().skip(from).take(2).cloned().collect();
    let more = from + items.len() < all.len();
    let next = if more { (from + items.len()).to_string() } else { String::new() };
    whole(
        200,
        &json!({"kind": "List", "metadata": {"resourceVersion": state.version.to_string(),
            "continue": next}, "items": items}),
    )
}

fn replace(state: &mut State, path: &str, object: Value) -> Response<Body> {
    let Some(there) = state.objects.get(path) else { return refusal(404, "NotFound") };
    if there["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
        return refusal(409, "Conflict");
    }
    let stored = state.store(path, object);
    state.writes.push((path.to_owned(), stored.clone()));
    whole(200, &stored)
}

fn create(state: &mut State, collection: &str, object: Value) -> Response<Body> {
    let path = format!("{collection}/{}", object["metadata"]["name"].as_str().unwrap());
    if state.objects.contains_key(&path) {
        return refusal(409, "AlreadyExists");
    }
    let stored = state.store(&path, object);
    state.writes.push((path, stored.clone()));
    whole(201, &stored)
}
