//! What a source answers: first as a sidecar would ask it, which says whether it is a part; then
//! the headers and the time.
//!
//! Bodies are read within the source's bound and thrown away.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AGE, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH,
    LAST_MODIFIED,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, Version};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use tokio::time::{Instant, timeout, timeout_at};

use super::super::units::ms;
use super::context::DoctorContext;
use crate::domain::{HttpSource, Pages, Source};
use crate::identity::{Connector, IdentityMetrics};
use crate::resources::WorkMemory;
use crate::sources::{
    self, Attempt, Client, Outstanding, Part, PartRequest, Reason, RequestTarget, SourceAnswer,
    SourceError, TraceContext,
};

/// How many warm answers are timed.
const WARM_ANSWERS: usize = 5;

/// The facts about an answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a member of the report, and none depends on another"
)]
pub(in super::super) struct AnswerFacts {
    pub(in super::super) status: u16,
    /// `HTTP/2`.
    pub(in super::super) http: &'static str,
    pub(in super::super) content_type: Option<String>,
    pub(in super::super) etag: EtagStrength,
    pub(in super::super) last_modified: bool,
    /// Whether it answered 304 to its own `ETag`; `None`: there is no strong one to ask with.
    pub(in super::super) not_modified: Option<bool>,
    pub(in super::super) no_store: bool,
    /// It has an `Age`: a cache gave it.
    pub(in super::super) aged: bool,
    pub(in super::super) next_page: bool,
    pub(in super::super) body_bytes: usize,
    /// With a new connection.
    pub(in super::super) first_ms: f64,
    /// The median over a connection that is there.
    pub(in super::super) warm_ms: Option<f64>,
}

/// The facts about the rows of a database.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in super::super) struct RowsFacts {
    /// The part's size.
    pub(in super::super) body_bytes: usize,
    /// With a new connection.
    pub(in super::super) first_ms: f64,
    /// The median over a connection that is there.
    pub(in super::super) warm_ms: Option<f64>,
}

/// What the `ETag` of a source promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum EtagStrength {
    Strong,
    Weak,
    None,
}

/// The result of asking one source.
#[derive(Debug)]
pub(in super::super) enum AnswerProbe {
    /// Its URL needs a source that gave no part.
    NotAsked {
        /// That source.
        needed: String,
    },
    /// It gave no part.
    Failed {
        error: SourceError,
        /// It answered with a link to a next page, but the file has no `pages` for it.
        has_next_page: bool,
    },
    /// It answered 404, or has no row, to which the file gives a meaning.
    NotFound,
    /// It is a database, and has rows or a value for none.
    Rows(RowsFacts),
    /// It answered once, and then it did not.
    Unsteady,
    /// It answered 200.
    Answered(AnswerFacts),
}

/// Asks `source` for `target`, as a sidecar would, but once; then, where a 200 came, looks at it.
pub(super) async fn probe_answer(
    source: &Source,
    target: &RequestTarget,
    context: &DoctorContext,
) -> (AnswerProbe, Option<Part>) {
    let client = Client::new(Source { retries: 0, ..source.clone() }, &context.shared);
    let mut attempts = Vec::new();
    let trace = TraceContext::fresh();
    let memory = WorkMemory::unshared();
    let outstanding = Outstanding::default();
    let ask = PartRequest {
        target,
        known_part: None,
        no_cache: true,
        deadline: Instant::now() + context.timeout,
        trace: &trace,
        memory: &memory,
        outstanding: &outstanding,
    };
    let answers = AnswerClient::new(source, target, context);
    let part = match client.fetch(ask, &mut attempts).await {
        Ok(SourceAnswer::Part(part)) => Some(part),
        Ok(SourceAnswer::NotFound | SourceAnswer::Unchanged) => None,
        Err(error) => {
            let may_have_pages = error.reason == Reason::Incomplete
                && answers.as_ref().is_some_and(|it| it.http_source.pages == Pages::Refuse);
            let has_next_page = match &answers {
                Some(answers) if may_have_pages => answers.has_next_page().await,
                _ => false,
            };
            return (AnswerProbe::Failed { error, has_next_page }, None);
        }
    };
    let Some(answers) = answers else {
        let first = attempts.first().zip(part.as_ref());
        let rows = match first {
            Some((first, part)) => {
                let warm = time_warm_reads(&client, ask, context.timeout).await;
                let body_bytes = part.json.len();
                let warm_ms = warm.map(ms);
                AnswerProbe::Rows(RowsFacts { first_ms: ms(first.took), warm_ms, body_bytes })
            }
            None => AnswerProbe::NotFound,
        };
        return (rows, part);
    };
    let answered = attempts.first().filter(|attempt| attempt.status == Some(200));
    let Some(first) = answered else { return (AnswerProbe::NotFound, part) };
    let facts = answers.probe(first).await;
    (facts.map_or(AnswerProbe::Unsteady, AnswerProbe::Answered), part)
}

/// The median of a few reads, one after the other, within the limit together.
async fn time_warm_reads(
    client: &Client,
    ask: PartRequest<'_>,
    limit: Duration,
) -> Option<Duration> {
    let end = Instant::now() + limit;
    let mut took = Vec::with_capacity(WARM_ANSWERS);
    for _ in 0..WARM_ANSWERS {
        let mut attempts = Vec::new();
        let ask = PartRequest { deadline: end, ..ask };
        if client.fetch(ask, &mut attempts).await.is_err() {
            break;
        }
        took.extend(attempts.first().map(|attempt| attempt.took));
    }
    took.sort_unstable();
    took.get(took.len() / 2).copied()
}

/// A client of the doctor's own: the one that collects parts hands out no headers.
struct AnswerClient<'a> {
    http: legacy::Client<Connector, Empty<Bytes>>,
    source: &'a Source,
    http_source: &'a HttpSource,
    target: &'a PathAndQuery,
    limit: Duration,
}

/// The head of an answer whose body was read.
struct AnswerHead {
    status: StatusCode,
    version: Version,
    headers: HeaderMap,
    bytes: usize,
}

impl<'a> AnswerClient<'a> {
    /// `None`: the source is a database.
    fn new(source: &'a Source, target: &'a RequestTarget, context: &DoctorContext) -> Option<Self> {
        let http_source = source.http()?;
        let target = target.as_url()?;
        let server = http_source.server.clone();
        let connector = match &context.identity {
            Some(identity) if http_source.url.origin.scheme_str() == Some("https") => {
                Connector::mutual(identity.clone(), server, context.tls, IdentityMetrics::default())
            }
            _ => Connector::plain(),
        };
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(connector);
        Some(Self { http, source, http_source, target, limit: context.timeout })
    }

    async fn has_next_page(&self) -> bool {
        let head = self.get(None).await;
        head.is_some_and(|head| sources::has_next_page(&head.headers))
    }

    async fn probe(&self, first: &Attempt) -> Option<AnswerFacts> {
        let head = self.get(None).await?;
        let tag = strong_etag(&head.headers);
        let not_modified = match &tag {
            Some(tag) => {
                self.get(Some(tag)).await.map(|head| head.status == StatusCode::NOT_MODIFIED)
            }
            None => None,
        };
        let warm_ms = self.time_warm_answers().await.map(ms);
        Some(AnswerFacts { not_modified, warm_ms, ..answer_facts(&head, first.took) })
    }

    /// The median of a few answers, one after the other, within the limit together.
    async fn time_warm_answers(&self) -> Option<Duration> {
        let end = Instant::now() + self.limit;
        let mut took = Vec::with_capacity(WARM_ANSWERS);
        for _ in 0..WARM_ANSWERS {
            let began = Instant::now();
            let Ok(Some(_)) = timeout_at(end, self.get(None)).await else { break };
            took.push(began.elapsed());
        }
        took.sort_unstable();
        took.get(took.len() / 2).copied()
    }

    async fn get(&self, condition: Option<&HeaderValue>) -> Option<AnswerHead> {
        let request = self.request(condition)?;
        let exchange = async {
            let (head, body) = self.http.request(request).await.ok()?.into_parts();
            let body =
                Limited::new(body, self.source.max_body.get()).collect().await.ok()?.to_bytes();
            Some(AnswerHead {
                status: head.status,
                version: head.version,
                headers: head.headers,
                bytes: body.len(),
            })
        };
        timeout(self.limit, exchange).await.ok().flatten()
    }

    fn request(&self, condition: Option<&HeaderValue>) -> Option<Request<Empty<Bytes>>> {
        let mut uri = self.http_source.url.origin.clone().into_parts();
        uri.path_and_query = Some(self.target.clone());
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = Uri::from_parts(uri).ok()?;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(
            http::header::USER_AGENT,
            HeaderValue::from_static(concat!("bfb/", env!("CARGO_PKG_VERSION"))),
        );
        headers.extend(self.http_source.headers.clone());
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.extend(condition.map(|tag| (IF_NONE_MATCH, tag.clone())));
        Some(request)
    }
}

fn answer_facts(head: &AnswerHead, first: Duration) -> AnswerFacts {
    let headers = &head.headers;
    let has_directive = |name: HeaderName, directive: &str| {
        let texts = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        texts
            .flat_map(|text| text.split([',', ';']))
            .any(|word| word.trim().eq_ignore_ascii_case(directive))
    };
    AnswerFacts {
        status: head.status.as_u16(),
        http: version_name(head.version),
        content_type: headers.get(CONTENT_TYPE).and_then(media_type),
        etag: etag_strength(headers),
        last_modified: headers.contains_key(LAST_MODIFIED),
        not_modified: None,
        no_store: has_directive(CACHE_CONTROL, "no-store"),
        aged: headers.contains_key(AGE),
        next_page: sources::has_next_page(headers),
        body_bytes: head.bytes,
        first_ms: ms(first),
        warm_ms: None,
    }
}

/// Without its parameters, which may say anything.
fn media_type(value: &HeaderValue) -> Option<String> {
    value.to_str().ok()?.split(';').next().map(|media| media.trim().to_ascii_lowercase())
}

fn etag_strength(headers: &HeaderMap) -> EtagStrength {
    match headers.get(ETAG).map(HeaderValue::as_bytes) {
        Some([b'"', .., b'"']) => EtagStrength::Strong,
        Some([b'W', b'/', b'"', .., b'"']) => EtagStrength::Weak,
        _ => EtagStrength::None,
    }
}

fn strong_etag(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(ETAG).filter(|_| etag_strength(headers) == EtagStrength::Strong).cloned()
}

fn version_name(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP",
    }
}
