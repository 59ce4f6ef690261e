//! The client of the API server: objects as JSON, and each request with a timeout.
//!
//! An object is written back as it was read, with its `resourceVersion`: if it has changed since,
//! the write is a conflict ([`ClusterError::is_conflict`]), and fields that this version of the
//! webhook does not know are not lost.

use std::io::ErrorKind;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use futures_util::{AsyncReadExt as _, TryStream};
use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::core::WatchEvent;
use kube::{Client, Config};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The timeout of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest response that is read, in bytes. A longer list is requested again in shorter pages:
/// one object has at most 1.5 MiB (etcd's limit for a request).
const ANSWER_MAX_BYTES: u64 = 8 << 20;
/// The timeout of a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The oldest minor version of Kubernetes 1 that has native sidecars without a feature gate.
const OLDEST_MINOR: u64 = 29;

/// The characters that are percent-encoded in a segment of a path, and in the value of a query.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Percent-encodes `text` for a segment of a path, or for the value of a query.
pub(super) fn percent_encode(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, ENCODED)
}

/// The client, and the webhook's namespace.
#[derive(Clone)]
pub(super) struct Cluster {
    client: Client,
    namespace: String,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClusterConnectError {
    /// The kubeconfig cannot be used.
    #[error(
        "`--kubeconfig {path}` cannot be used: {why}; expected what `kubectl config view --raw` \
         prints"
    )]
    Kubeconfig {
        /// Its path.
        path: String,
        /// The reason.
        why: String,
        /// Whether the file cannot be read at all.
        is_missing: bool,
    },
    /// No kubeconfig is given, and the process does not run in a pod.
    #[error(
        "there is no cluster: {0}; expected a pod with a service account (hint: elsewhere, \
         give `--kubeconfig FILE`)"
    )]
    NoPod(String),
    /// The client cannot be built.
    #[error("there is no client for the cluster: {0}")]
    Client(String),
}

/// Why a request to the API server failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClusterError {
    /// The API server refused it.
    #[error("the API server answered {code} {reason} to `{request}`: {message}")]
    Refused {
        /// The request: its method and path.
        request: String,
        /// The status.
        code: u16,
        /// The machine-readable reason.
        reason: String,
        /// The message for people.
        message: String,
    },
    /// The API server sent no response, or one that cannot be parsed.
    #[error("the API server did not answer `{request}`: {why}")]
    NoAnswer {
        /// The request: its method and path.
        request: String,
        /// The reason.
        why: String,
    },
    /// The response is longer than `ANSWER_MAX_BYTES`.
    #[error("the API server answered `{request}` with more than {} MiB", ANSWER_MAX_BYTES >> 20)]
    TooLong {
        /// The request: its method and path.
        request: String,
    },
}

impl ClusterError {
    fn code(&self) -> u16 {
        if let Self::Refused { code, .. } = self { *code } else { 0 }
    }

    /// Whether the object does not exist.
    pub(super) fn is_not_found(&self) -> bool {
        self.code() == 404
    }

    /// Whether the object has changed since it was read, or exists already.
    pub(super) fn is_conflict(&self) -> bool {
        self.code() == 409
    }

    /// Whether the response is too long: a list must be requested in shorter pages.
    pub(super) fn is_too_long(&self) -> bool {
        matches!(self, Self::TooLong { .. })
    }

    /// Whether the `resourceVersion` of a watch, or the continuation of a list, has expired.
    pub(super) fn is_gone(&self) -> bool {
        self.code() == 410
    }

    /// The error of `request` that the `kube` crate reports.
    pub(super) fn from_kube(request: &str, error: &kube::Error) -> Self {
        let request = request.to_owned();
        match error {
            kube::Error::Api(status) => Self::Refused {
                request,
                code: status.code,
                reason: status.reason.clone(),
                message: status.message.clone(),
            },
            other => Self::NoAnswer { request, why: error_chain(other) },
        }
    }
}

/// The messages of an error and its causes, without those that an earlier one contains.
fn error_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut messages: Vec<String> = causes.map(ToString::to_string).collect();
    messages.dedup_by(|later, earlier| earlier.contains(later.as_str()));
    messages.join(": ")
}

/// The version of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClusterVersion {
    /// As the API server reports it, such as `1.31`.
    pub name: String,
    /// Whether its pods can have native sidecars.
    pub has_native_sidecars: bool,
}

impl Cluster {
    /// Builds a client from a kubeconfig, or from the pod's service account. Sends no request yet.
    /// `namespace` overrides the namespace of either.
    pub(super) async fn new(
        kubeconfig: Option<&Path>,
        namespace: Option<String>,
    ) -> Result<Self, ClusterConnectError> {
        let mut config = match kubeconfig {
            Some(path) => load_kubeconfig(path).await?,
            None => Config::incluster()
                .map_err(|error| ClusterConnectError::NoPod(error_chain(&error)))?,
        };
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config)
            .map_err(|error| ClusterConnectError::Client(error_chain(&error)))?;
        Ok(Self { client, namespace })
    }

    /// The webhook's namespace.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Requests the version of the cluster.
    pub(super) async fn version(&self) -> Result<ClusterVersion, ClusterError> {
        let version = self.get("/version").await?;
        let text = |key: &str| version.get(key).and_then(Value::as_str).unwrap_or_default();
        // Some clusters report `29+`.
        let number = |key| {
            text(key).trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().unwrap_or(0)
        };
        let major = number("major");
        let minor = number("minor");
        let name = format!("{}.{}", text("major"), text("minor"));
        Ok(ClusterVersion {
            name,
            has_native_sidecars: major > 1 || (major == 1 && minor >= OLDEST_MINOR),
        })
    }

    /// Reads an object or a list.
    pub(super) async fn get(&self, path: &str) -> Result<Value, ClusterError> {
        self.send(Method::GET, path, None).await
    }

    /// Reads an object or a list as text, for callers that parse only a part of it.
    pub(super) async fn get_text(&self, path: &str) -> Result<String, ClusterError> {
        let request_name = format!("GET {path}");
        let request = build_request(Method::GET, path, "application/json", Vec::new());
        self.fetch_text(&request_name, request.map_err(|error| no_answer(&request_name, &error))?)
            .await
    }

    /// Reads an object; `None` if it does not exist.
    pub(super) async fn get_opt(&self, path: &str) -> Result<Option<Value>, ClusterError> {
        match self.get(path).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces an object that was read.
    pub(super) async fn replace(&self, path: &str, object: &Value) -> Result<Value, ClusterError> {
        self.send(Method::PUT, path, Some(object)).await
    }

    /// Creates an object in a collection.
    pub(super) async fn create(&self, path: &str, object: &Value) -> Result<Value, ClusterError> {
        self.send(Method::POST, path, Some(object)).await
    }

    /// Lists the objects of `path`, with their metadata only.
    pub(super) async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClusterError> {
        let request_name = format!("GET {path}");
        let accept =
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
        let request = build_request(Method::GET, path, accept, Vec::new())
            .map_err(|error| no_answer(&request_name, &error))?;
        serde_json::from_str(&self.fetch_text(&request_name, request).await?)
            .map_err(|error| no_answer(&request_name, &error))
    }

    /// Watches the objects of `path`, with their metadata only.
    pub(super) async fn watch<T>(
        &self,
        path: &str,
    ) -> Result<impl TryStream<Item = Result<WatchEvent<T>, kube::Error>> + use<T>, ClusterError>
    where
        T: Clone + DeserializeOwned,
    {
        let request_name = format!("WATCH {path}");
        let accept =
            "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
        let request = build_request(Method::GET, path, accept, Vec::new())
            .map_err(|error| no_answer(&request_name, &error))?;
        let events = self.client.request_events(request);
        let response = tokio::time::timeout(REQUEST_TIMEOUT, events).await;
        let response = response.map_err(|error| no_answer(&request_name, &error))?;
        response.map_err(|error| ClusterError::from_kube(&request_name, &error))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ClusterError> {
        let request_name = format!("{method} {path}");
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = build_request(method, path, "application/json", body)
            .map_err(|error| no_answer(&request_name, &error))?;
        serde_json::from_str(&self.fetch_text(&request_name, request).await?)
            .map_err(|error| no_answer(&request_name, &error))
    }

    /// Sends a request, and reads the response as text. `kube`'s own decoding would log a response
    /// that it cannot parse, and so perhaps a Secret, and it reads responses of any length.
    async fn fetch_text(
        &self,
        request_name: &str,
        request: Request<Vec<u8>>,
    ) -> Result<String, ClusterError> {
        let response = async {
            let stream = self
                .client
                .request_stream(request)
                .await
                .map_err(|error| ClusterError::from_kube(request_name, &error))?;
            let mut bytes = Vec::new();
            let result = pin!(stream.take(ANSWER_MAX_BYTES + 1)).read_to_end(&mut bytes).await;
            result.map_err(|error| no_answer(request_name, &error))?;
            if bytes.len() as u64 > ANSWER_MAX_BYTES {
                return Err(ClusterError::TooLong { request: request_name.to_owned() });
            }
            String::from_utf8(bytes).map_err(|error| no_answer(request_name, &error.utf8_error()))
        };
        match tokio::time::timeout(REQUEST_TIMEOUT, response).await {
            Ok(result) => result,
            Err(_) => Err(ClusterError::NoAnswer {
                request: request_name.to_owned(),
                why: format!("not within {REQUEST_TIMEOUT:?}"),
            }),
        }
    }
}

fn build_request(
    method: Method,
    path: &str,
    accept: &str,
    body: Vec<u8>,
) -> Result<Request<Vec<u8>>, http::Error> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("accept", accept)
        .header("content-type", "application/json")
        .header("user-agent", concat!("bfb-webhook/", env!("CARGO_PKG_VERSION")))
        .body(body)
}

fn no_answer(request_name: &str, error: &dyn std::error::Error) -> ClusterError {
    ClusterError::NoAnswer { request: request_name.to_owned(), why: error_chain(error) }
}

/// Whether the kubeconfig cannot be read. (`kube` reports a file that is no text as an error of
/// reading too.)
fn is_unreadable(error: &KubeconfigError) -> bool {
    match error {
        KubeconfigError::ReadConfig(error, _) => error.kind() != ErrorKind::InvalidData,
        _ => false,
    }
}

async fn load_kubeconfig(path: &Path) -> Result<Config, ClusterConnectError> {
    let failed = |error: KubeconfigError| ClusterConnectError::Kubeconfig {
        path: path.display().to_string(),
        why: error_chain(&error),
        is_missing: is_unreadable(&error),
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(failed)
}
