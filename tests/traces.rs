//! Traces, in and out: the consumer's context goes on to the sources, and the spans go out over
//! OTLP if the standard variables configure it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::client::get;
use crate::support::domain::DomainFile;
use crate::support::port;
use crate::support::sidecar::{NO_AUTHORITIES, Setup, Sidecar};
use crate::support::upstream::{Reply, Upstream};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A collector of traces, which keeps what the sidecar exports until its end.
struct Collector {
    endpoint: String,
    bodies: Arc<Mutex<Vec<Bytes>>>,
    _server: JoinSet<()>,
}

impl Collector {
    async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn on(listener: TcpListener) -> Self {
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let mut server = JoinSet::new();
        server.spawn(collect(listener, bodies.clone()));
        Self { endpoint, bodies, _server: server }
    }

    fn spans(&self) -> Vec<Span> {
        let bodies = self.bodies.lock().unwrap();
        let requests =
            bodies.iter().map(|body| ExportTraceServiceRequest::decode(body.clone()).unwrap());
        let scopes =
            requests.flat_map(|request| request.resource_spans).flat_map(|spans| spans.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }
}

async fn collect(listener: TcpListener, bodies: Arc<Mutex<Vec<Bytes>>>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let bodies = bodies.clone();
        connections.spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let bodies = bodies.clone();
                async move {
                    assert_eq!(request.uri().path(), "/v1/traces");
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    bodies.lock().unwrap().push(body);
                    Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
                }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn sidecar(
    upstream: &Upstream,
    collector: &Collector,
    environment: &[(&str, &str)],
) -> Sidecar {
    let domain = DomainFile::of("customer").source("profile", upstream, "/{key}", &[]);
    let setup =
        Setup::of(&[&domain]).insecure().env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint);
    environment.iter().fold(setup, |setup, (name, value)| setup.env(name, value)).start().await
}

async fn end(sidecar: &Sidecar) {
    sidecar.signal("TERM");
    assert_eq!(sidecar.exit_status().await.code(), Some(0));
}

#[tokio::test]
async fn a_request_and_each_request_to_a_source_become_spans_of_the_consumers_trace() {
    let upstream = Upstream::plain().await;
    let collector = Collector::start().await;
    upstream.answers("/secret-key", [Reply::status(503), Reply::json("{}")]);
    let sidecar = sidecar(&upstream, &collector, &[]).await;
    let mut request = get("/v2/customers/secret-key");
    request.headers_mut().insert("traceparent", format!("00-{TRACE}-{PARENT}-01").parse().unwrap());
    assert_eq!(sidecar.send(request).await.status, 200);
    end(&sidecar).await;

    let spans = collector.spans();
    let of =
        |kind: SpanKind| spans.iter().filter(|span| span.kind == kind as i32).collect::<Vec<_>>();
    let servers = of(SpanKind::Server);
    let clients = of(SpanKind::Client);
    assert_eq!((servers.len(), clients.len(), spans.len()), (1, 2, 3));
    let server = servers[0];
    assert_eq!(server.name, "GET /v2/customers/{key}");
    assert_eq!(hex(&server.parent_span_id), PARENT);
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));
    assert!(
        clients
            .iter()
            .all(|client| client.parent_span_id == server.span_id && client.name == "GET profile")
    );
    assert!(spans.iter().all(|span| span.start_time_unix_nano <= span.end_time_unix_nano));
    // The ids are those that the source received.
    let sent: Vec<_> = upstream
        .received()
        .iter()
        .map(|received| received.header("traceparent").to_owned())
        .collect();
    let exported: Vec<_> =
        clients.iter().map(|client| format!("00-{TRACE}-{}-01", hex(&client.span_id))).collect();
    assert_eq!(sent, exported);
    assert!(!format!("{spans:?}").contains("secret-key"), "a key is personal data");
}

#[tokio::test]
async fn where_the_machine_has_no_authorities_spans_go_out_all_the_same() {
    let upstream = Upstream::plain().await;
    let collector = Collector::start().await;
    upstream.answers("/1", [Reply::json("{}")]);
    let sidecar = sidecar(&upstream, &collector, &NO_AUTHORITIES).await;
    assert_eq!(sidecar.get("/v2/customers/1").await.status, 200);
    end(&sidecar).await;
    assert_eq!(collector.spans().len(), 2);
}

#[tokio::test]
async fn a_trace_that_the_consumer_does_not_sample_is_not_exported() {
    let upstream = Upstream::plain().await;
    let collector = Collector::start().await;
    upstream.answers("/1", [Reply::json("{}")]);
    let sidecar = sidecar(&upstream, &collector, &[]).await;
    let mut request = get("/v2/customers/1");
    request.headers_mut().insert("traceparent", format!("00-{TRACE}-{PARENT}-00").parse().unwrap());
    assert_eq!(sidecar.send(request).await.status, 200);
    end(&sidecar).await;
    assert_eq!(collector.spans().len(), 0);
    assert!(upstream.received()[0].header("traceparent").ends_with("-00"));
}

#[tokio::test]
async fn the_standard_variables_switch_it_off_and_a_wrong_one_is_refused() {
    let (upstream, collector) = (Upstream::plain().await, Collector::start().await);
    upstream.answers("/1", [Reply::json("{}")]);
    let sidecar = sidecar(&upstream, &collector, &[("OTEL_TRACES_EXPORTER", "none")]).await;
    assert_eq!(sidecar.get("/v2/customers/1").await.status, 200);
    end(&sidecar).await;
    assert_eq!(collector.spans().len(), 0);

    let domain = DomainFile::of("customer").source("profile", &upstream, "/{key}", &[]);
    let setup =
        Setup::of(&[&domain]).insecure().env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint);
    let refused = setup.env("OTEL_TRACES_SAMPLER", "sometimes").refused().await;
    assert_eq!(refused.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("OTEL_TRACES_SAMPLER"));
}

/// The delay between exports, which are made one after another.
const OFTEN: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "50");

async fn until_lost(sidecar: &Sidecar, spans: f64) {
    sidecar.until_metric("bfb_spans_lost_total", spans).await;
}

#[tokio::test]
async fn a_collector_that_is_out_of_reach_is_said_once_as_it_begins_and_once_as_it_ends() {
    let upstream = Upstream::plain().await;
    upstream.handles("/1", |_| Reply::json("{}"));
    let address = port::free();
    let domain = DomainFile::of("customer").source("profile", &upstream, "/{key}", &[]);
    let setup = Setup::of(&[&domain]).insecure().env(OFTEN.0, OFTEN.1);
    let endpoint = format!("http://user:s3cret@{address}/v1/traces?token=s3cret");
    let sidecar = setup.env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &endpoint).start().await;
    until_lost(&sidecar, 0.0).await;
    for requests in 1..=3 {
        assert_eq!(sidecar.get("/v2/customers/1").await.status, 200);
        until_lost(&sidecar, f64::from(requests) * 2.0).await;
    }
    let warnings = |sidecar: &Sidecar| {
        let lines = sidecar.lines();
        let about = |line: &&serde_json::Value| {
            line["message"].as_str().unwrap_or_default().contains("spans")
        };
        lines
            .iter()
            .filter(about)
            .map(|line| line["level"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(warnings(&sidecar), ["WARN"], "{}", sidecar.log());
    let log = sidecar.log();
    assert!(log.contains("Connection refused") && !log.contains("s3cret"), "{log}");

    let collector = Collector::on(TcpListener::bind(address).await.unwrap());
    assert_eq!(sidecar.get("/v2/customers/1").await.status, 200);
    sidecar.logged("the collector of traces takes spans again").await;
    assert_eq!(warnings(&sidecar), ["WARN", "INFO"]);
    assert_eq!(sidecar.metric("bfb_spans_lost_total", &[]).await, Some(6.0));
    end(&sidecar).await;
    assert_eq!(collector.spans().len(), 2);
}

#[tokio::test]
async fn spans_for_which_the_queue_has_no_room_are_counted_as_lost() {
    let upstream = Upstream::plain().await;
    upstream.handles("/1", |_| Reply::json("{}"));
    // Connections there are never accepted: an export is under way for as long as the test.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let domain = DomainFile::of("customer").source("profile", &upstream, "/{key}", &[]);
    let setup =
        Setup::of(&[&domain]).insecure().env("OTEL_BSP_MAX_QUEUE_SIZE", "4").env(OFTEN.0, OFTEN.1);
    let setup = setup.env("OTEL_EXPORTER_OTLP_TIMEOUT", "600000");
    let sidecar = setup.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint).start().await;
    for _ in 0..5 {
        assert_eq!(sidecar.get("/v2/customers/1").await.status, 200);
    }
    until_lost(&sidecar, 6.0).await;
    drop(silent);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
