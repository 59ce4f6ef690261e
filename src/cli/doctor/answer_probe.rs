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

use super::finding::Finding;
use super::probe::DoctorContext;
use super::report::ms;
use crate::domain::{Missing, Pages, Source};
use crate::identity::{Connector, IdentityMetrics};
use crate::resources::WorkMemory;
use crate::sources::{
    self, Attempt, Client, Outstanding, Part, PartRequest, Reason, SourceAnswer, TraceContext,
};

/// How many warm answers are timed.
const WARM_ANSWERS: usize = 5;

/// What is known of an answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a member of the report, and none depends on another"
)]
pub(super) struct AnswerFacts {
    pub(super) status: u16,
    /// `HTTP/2`.
    pub(super) http: &'static str,
    pub(super) content_type: Option<String>,
    pub(super) etag: EtagStrength,
    pub(super) last_modified: bool,
    /// Whether it answered 304 to its own `ETag`; `None`: there is no strong one to ask with.
    pub(super) not_modified: Option<bool>,
    pub(super) no_store: bool,
    /// It has an `Age`: a cache gave it.
    pub(super) aged: bool,
    pub(super) next_page: bool,
    pub(super) body_bytes: usize,
    /// With a new connection.
    pub(super) first_ms: f64,
    /// The median over a connection that is there.
    pub(super) warm_ms: Option<f64>,
}

/// What an `ETag` can prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum EtagStrength {
    Strong,
    Weak,
    None,
}

/// What came of asking one source.
#[derive(Debug)]
pub(super) struct AnswerCheck {
    pub(super) part: Option<Part>,
    pub(super) facts: Option<AnswerFacts>,
    pub(super) findings: Vec<Finding>,
}

/// Asks `source` for `target`, as a sidecar would, but once; then, where a 200 came, looks at it.
pub(super) async fn probe_answer(
    source: &Source,
    target: &PathAndQuery,
    context: &DoctorContext,
) -> AnswerCheck {
    let client = Client::new(Source { retries: 0, ..source.clone() }, &context.shared);
    let mut attempts = Vec::new();
    let (deadline, trace) = (Instant::now() + context.timeout, TraceContext::fresh());
    let (memory, outstanding) = (WorkMemory::alone(), Outstanding::default());
    let (memory, outstanding) = (&memory, &outstanding);
    let ask = PartRequest {
        target,
        known: None,
        no_cache: true,
        deadline,
        trace: &trace,
        memory,
        outstanding,
    };
    let part = match client.fetch(ask, &mut attempts).await {
        Ok(SourceAnswer::Part(part)) => Some(part),
        Ok(SourceAnswer::NotFound | SourceAnswer::Unchanged) => None,
        Err(failure) => {
            let mut findings = vec![Finding::error(failure.reason.as_str(), failure.detail)];
            if failure.reason == Reason::Incomplete && source.http.pages == Pages::Refuse {
                findings
                    .extend(AnswerProbe::new(source, target, context).next_page_finding().await);
            }
            return AnswerCheck { part: None, facts: None, findings };
        }
    };
    let Some(first) = attempts.first().filter(|attempt| attempt.status == Some(200)) else {
        return AnswerCheck { part, facts: None, findings: vec![missing_finding(&source.missing)] };
    };
    let facts = AnswerProbe::new(source, target, context).probe(first).await;
    let unsteady_finding = || {
        Finding::warning("unsteady", "answered once, and then it did not")
            .expected("the same again")
    };
    let findings = facts.is_none().then(unsteady_finding).into_iter().collect();
    AnswerCheck { part, facts, findings }
}

/// A 404 that the file gives a meaning.
fn missing_finding(meaning: &Missing) -> Finding {
    let hint = "give `--key` one that it has, to see what its answers are like";
    match meaning {
        Missing::Value(_) => {
            Finding::note("missing", "answered 404, which stands for a value").hint(hint)
        }
        _ => Finding::warning("not-found", "answered 404, which says that there is no such key")
            .hint(hint),
    }
}

/// A client of our own: what a part is made from shows no headers.
struct AnswerProbe<'a> {
    http: legacy::Client<Connector, Empty<Bytes>>,
    source: &'a Source,
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

impl<'a> AnswerProbe<'a> {
    fn new(source: &'a Source, target: &'a PathAndQuery, context: &DoctorContext) -> Self {
        let server = source.http.server.clone();
        let connector = match &context.identity {
            Some(identity) if source.http.url.origin.scheme_str() == Some("https") => {
                Connector::mutual(identity.clone(), server, context.tls, IdentityMetrics::default())
            }
            _ => Connector::plain(),
        };
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self { http, source, target, limit: context.timeout }
    }

    /// What is to be said of a source whose pages the file says nothing about.
    async fn next_page_finding(&self) -> Option<Finding> {
        let head = self.get(None).await?;
        let warning = || {
            let observation = "sends a next page (`Link` with `rel=\"next\"`), \
                               and the file says nothing of its pages";
            Finding::warning("pages", observation)
                .expected("`pages: follow` or `pages: first`")
                .hint("without, a key with one page is answered, and every other one fails")
        };
        sources::has_next_page(&head.headers).then(warning)
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
        let mut uri = self.source.http.url.origin.clone().into_parts();
        uri.path_and_query = Some(self.target.clone());
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = Uri::from_parts(uri).ok()?;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(
            http::header::USER_AGENT,
            HeaderValue::from_static(concat!("bfb/", env!("CARGO_PKG_VERSION"))),
        );
        headers.extend(self.source.http.headers.clone());
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
