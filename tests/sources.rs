//! The promises of one source's client, over real sockets: the answers that are a part, the
//! failures, and the cost of either for the source.

mod answers;
mod mutual;
mod pages;
mod recording;
mod refused_streams;
mod requests;
mod template;
mod timeouts;
mod unsolicited_bytes;

use std::num::NonZeroUsize;
use std::time::Duration;

use bfb::domain::{
    HttpSource, Missing, Pages, ServerIdentity, Source, SourceKind, UrlTemplate, WrittenHeaders,
};
use bfb::identity;
use bfb::resources::WorkMemory;
use bfb::sources::{
    Attempt, Client, Outstanding, Part, PartRequest, Recording, RequestTarget, SharedSources,
    SourceAnswer, SourceError, SourcesMetrics, TraceContext, Validator,
};
use http::{HeaderMap, HeaderValue, Uri};
use tokio::time::Instant;

use crate::support::client::TEST_TIMEOUT;

/// A source and its client's settings; tests change the ones that they are about.
struct Setup {
    source: Source,
    shared: SharedSources,
}

fn setup(origin: Uri) -> Setup {
    let source = Source {
        name: "orders".into(),
        kind: SourceKind::Http(HttpSource {
            url: UrlTemplate { origin, pieces: Vec::new() },
            server: ServerIdentity::Dns("localhost".into()),
            headers: HeaderMap::new(),
            written_headers: WrittenHeaders::default(),
            pages: Pages::Refuse,
        }),
        missing: Missing::Failure,
        timeout: None,
        retries: 0,
        concurrency: NonZeroUsize::new(64).unwrap(),
        max_body: NonZeroUsize::new(64 * 1024).unwrap(),
        needs: Vec::new(),
    };
    let shared = SharedSources {
        identity: None,
        tls: identity::TlsOptions::default(),
        identity_metrics: identity::IdentityMetrics::default(),
        metrics: SourcesMetrics::default(),
        recording: Recording::Off,
    };
    Setup { source, shared }
}

/// The HTTP service of a source.
fn http(source: &mut Source) -> &mut HttpSource {
    let SourceKind::Http(http) = &mut source.kind else { panic!("a source of another kind") };
    http
}

impl Setup {
    fn with(mut self, change: impl FnOnce(&mut Source)) -> Self {
        change(&mut self.source);
        self
    }

    fn tape(mut self, tape: Recording) -> Self {
        self.shared.recording = tape;
        self
    }

    fn client(self) -> Client {
        Client::new(self.source, &self.shared)
    }
}

/// One request with everything at its default.
struct TestRequest<'a> {
    previous_part: Option<&'a Part>,
    no_cache: bool,
    within: Duration,
    trace: TraceContext,
}

fn default_request() -> TestRequest<'static> {
    TestRequest {
        previous_part: None,
        no_cache: false,
        within: TEST_TIMEOUT,
        trace: TraceContext::fresh(),
    }
}

impl TestRequest<'_> {
    async fn of(
        &self,
        client: &Client,
        target: &str,
    ) -> (Result<SourceAnswer, SourceError>, Vec<Attempt>) {
        let mut attempts = Vec::new();
        let deadline = Instant::now() + self.within;
        let target = RequestTarget::Url(target.parse().unwrap());
        let memory = WorkMemory::unshared();
        let outstanding = Outstanding::default();
        let ask = PartRequest {
            target: &target,
            known_part: self.previous_part,
            no_cache: self.no_cache,
            deadline,
            trace: &self.trace,
            memory: &memory,
            outstanding: &outstanding,
        };
        let answer = client.fetch(ask, &mut attempts).await;
        (answer, attempts)
    }
}

async fn fetch(client: &Client, target: &str) -> Result<SourceAnswer, SourceError> {
    default_request().of(client, target).await.0
}

async fn fetch_error(client: &Client, target: &str) -> SourceError {
    fetch(client, target).await.unwrap_err()
}

fn part(answer: SourceAnswer) -> Part {
    match answer {
        SourceAnswer::Part(part) => part,
        other => panic!("{other:?} is no part"),
    }
}

fn known_part(json: &str, validator: Validator) -> Part {
    Part { json: json.to_owned().into(), validator }
}

fn strong(tag: &'static str) -> Validator {
    Validator::Strong(HeaderValue::from_static(tag))
}
