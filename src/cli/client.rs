//! The sidecar beside us: HTTP to its ports, on TCP or a Unix socket.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use reqwest::{Client, ClientBuilder, Method, RequestBuilder, Response};
use serde::de::DeserializeOwned;

use super::terminal::escape;
use crate::admin::api::SourceFailure;
use crate::http::ListenAddress;
use crate::serve::consumer_problem::ConsumerProblem;
use crate::sources::TraceContext;

/// An answer, whoever gave it.
pub(super) struct DatasetResponse {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl DatasetResponse {
    /// What a sidecar says to a key that is none in any domain.
    pub(super) fn bad_key() -> Self {
        let detail = "the key is empty, `.` or `..`, which no path can name".to_owned();
        let trace_id = TraceContext::from_headers(&HeaderMap::new()).trace_id_hex();
        let (parts, body) =
            ConsumerProblem::BadKey { detail }.into_response(&trace_id).into_parts();
        Self { status: parts.status, headers: parts.headers, body }
    }
}

/// A port of the sidecar beside us.
#[derive(Debug, Clone)]
pub(super) struct SidecarClient {
    client: Client,
    address: ListenAddress,
    base: String,
}

/// How long a command waits for a connection, and for an answer (a dataset's deadline is at most
/// five minutes).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(310);

/// Nobody answers there.
#[derive(Debug, thiserror::Error)]
#[error(
    "no sidecar answers at `{address}`: {why}\nhint: is it running? `--{flag}` says where else to \
     look"
)]
pub(super) struct NoSidecarError {
    address: ListenAddress,
    flag: &'static str,
    why: String,
}

impl SidecarClient {
    /// The port at `address`.
    pub(super) fn new(address: &ListenAddress) -> Result<Self, reqwest::Error> {
        Self::build(address, Client::builder().timeout(ANSWER_TIMEOUT))
    }

    /// The same, for an answer without an end that never says nothing for as long as `silence`.
    pub(super) fn streaming(
        address: &ListenAddress,
        silence: Duration,
    ) -> Result<Self, reqwest::Error> {
        Self::build(address, Client::builder().read_timeout(silence))
    }

    fn build(address: &ListenAddress, builder: ClientBuilder) -> Result<Self, reqwest::Error> {
        // Proxies are for other machines, as are certificates; a machine may have no list of
        // authorities to be read.
        let mut builder = builder.no_proxy().tls_certs_only([]).connect_timeout(CONNECT_TIMEOUT);
        let base = match address {
            ListenAddress::Tcp(tcp) => format!("http://{tcp}"),
            ListenAddress::Unix(path) => {
                builder = builder.unix_socket(path.clone());
                "http://localhost".to_owned()
            }
        };
        Ok(Self { client: builder.build()?, address: address.clone(), base })
    }

    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// Sends, or says where nobody answered; `flag` is the one that names the address.
    pub(super) async fn send(
        &self,
        request: RequestBuilder,
        flag: &'static str,
    ) -> Result<Response, NoSidecarError> {
        request.send().await.map_err(|error| {
            let why = root_cause(&error);
            NoSidecarError { address: self.address.clone(), flag, why }
        })
    }
}

/// A sidecar's answer that does not have the type that this release expects.
#[derive(Debug, thiserror::Error)]
#[error("the sidecar's answer is not understood: {0}")]
pub(super) struct UnreadableAnswer(String);

/// Reads an answer of the admin port. Members that this release does not know are ignored; a member
/// of another type than expected is an error that names it.
pub(super) fn read_answer<T: DeserializeOwned>(body: &[u8]) -> Result<T, UnreadableAnswer> {
    let mut json = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let text = format!("`{}`: {}", error.path(), error.inner());
        UnreadableAnswer(escape(&text).into_owned())
    })
}

/// What lies at the bottom of an error.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// What the commands read of a problem (RFC 9457), whichever port it came from.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct ProblemReport {
    r#type: Option<String>,
    title: Option<String>,
    detail: Option<String>,
    /// The sources that failed.
    pub(super) failed: Vec<SourceFailure>,
    pub(super) trace_id: Option<String>,
    /// The invalidation that was not acknowledged.
    pub(super) token: Option<String>,
    /// Who did not acknowledge it.
    pub(super) behind: Vec<String>,
}

impl ProblemReport {
    /// Reads a body; one that is no problem says nothing.
    pub(super) fn from_body(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }
}

/// What an answer that is no success says: a problem's title and detail, or its status.
pub(super) fn problem_text(status: u16, body: &[u8]) -> String {
    let problem = ProblemReport::from_body(body);
    let text = match (problem.r#type, problem.title, problem.detail) {
        (Some(kind), Some(title), Some(detail)) => format!("{status} {kind}: {title}: {detail}"),
        (Some(kind), Some(title), None) => format!("{status} {kind}: {title}"),
        _ => format!("status {status}"),
    };
    escape(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::api::Status;

    #[test]
    fn an_answer_of_another_type_is_an_error_that_names_the_member() {
        let wrong = br#"{"fleet": {"domains": [{"lag": 0}, {"lag": "none"}]}}"#;
        let error = read_answer::<Status>(wrong).expect_err("a text is no number");
        let expected = "the sidecar's answer is not understood: `fleet.domains[1].lag`: \
                        invalid type: string \"none\", expected u64";
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}
