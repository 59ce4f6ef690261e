//! The API server, as far as the webhook needs it: a few objects as JSON, each request within a
//! time.
//!
//! Objects are written back as they were read, with their `resourceVersion`: a write over something
//! that has changed meanwhile fails ([`ClusterError::is_conflict`]), and nothing that we do not
//! know is lost.

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

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer that is read, in bytes. A list that is longer is asked for in shorter pages:
/// one object has at most 1.5 MiB (etcd's limit for a request).
const ANSWER_MAX_BYTES: u64 = 8 << 20;
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The oldest minor version of Kubernetes 1 that knows native sidecars without being told to.
const OLDEST_MINOR: u64 = 29;

/// What may stand in a segment of a path, or in a query's value, as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `text` for a segment of a path, or for a query's value.
pub(super) fn percent_encode(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, PLAIN)
}

/// A client of the API server, and the namespace that we are in.
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
    /// The kubeconfig is not usable.
    #[error(
        "`--kubeconfig {path}` cannot be used: {why}; expected what `kubectl config view --raw` \
         prints"
    )]
    Kubeconfig {
        /// Its path.
        path: String,
        /// Why not.
        why: String,
        /// Whether the file cannot be had at all.
        is_missing: bool,
    },
    /// There is no kubeconfig, and this is no pod.
    #[error(
        "there is no cluster: {0}; expected a pod with a service account (hint: elsewhere, \
         give `--kubeconfig FILE`)"
    )]
    NoPod(String),
    /// The client cannot be made.
    #[error("there is no client for the cluster: {0}")]
    Client(String),
}

/// Why a request to the API server failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClusterError {
    /// It said no.
    #[error("the API server answered {code} {reason} to `{request}`: {message}")]
    Refused {
        /// What was asked.
        request: String,
        /// The status.
        code: u16,
        /// In a word.
        reason: String,
        /// In words.
        message: String,
    },
    /// It did not answer, or not with what was expected.
    #[error("the API server did not answer `{request}`: {why}")]
    NoAnswer {
        /// What was asked.
        request: String,
        /// Why not.
        why: String,
    },
    /// It answered more than is read.
    #[error("the API server answered `{request}` with more than {} MiB", ANSWER_MAX_BYTES >> 20)]
    TooLong {
        /// What was asked.
        request: String,
    },
}

impl ClusterError {
    fn code(&self) -> u16 {
        if let Self::Refused { code, .. } = self { *code } else { 0 }
    }

    /// Whether there is no such object.
    pub(super) fn is_not_found(&self) -> bool {
        self.code() == 404
    }

    /// Whether the object has changed since it was read, or is there already.
    pub(super) fn is_conflict(&self) -> bool {
        self.code() == 409
    }

    /// Whether less has to be asked for at once.
    pub(super) fn is_too_long(&self) -> bool {
        matches!(self, Self::TooLong { .. })
    }

    /// Whether what a watch or a list went on from is forgotten.
    pub(super) fn is_gone(&self) -> bool {
        self.code() == 410
    }

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

/// An error with its causes, each of which says more than the one before.
fn error_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut messages: Vec<String> = causes.map(ToString::to_string).collect();
    messages.dedup_by(|later, earlier| earlier.contains(later.as_str()));
    messages.join(": ")
}

/// What the cluster is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClusterVersion {
    /// As it calls itself.
    pub name: String,
    /// Whether pods there can have native sidecars.
    pub has_native_sidecars: bool,
}

impl Cluster {
    /// A client by a kubeconfig, or by the pod's service account; nothing is asked yet. `namespace`
    /// overrules the one that either names.
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

    /// The namespace that we are in.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Asks what the cluster is.
    pub(super) async fn version(&self) -> Result<ClusterVersion, ClusterError> {
        let version = self.get("/version").await?;
        let text = |key: &str| version.get(key).and_then(Value::as_str).unwrap_or_default();
        // Some say `29+`.
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

    /// Reads an object or a list as text, for those who need only some of it.
    pub(super) async fn get_text(&self, path: &str) -> Result<String, ClusterError> {
        let named = format!("GET {path}");
        let request = build_request(Method::GET, path, "application/json", Vec::new());
        self.fetch_text(&named, request.map_err(|error| no_answer(&named, &error))?).await
    }

    /// Reads an object; `None` where there is none.
    pub(super) async fn get_opt(&self, path: &str) -> Result<Option<Value>, ClusterError> {
        match self.get(path).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes an object over the one that was read.
    pub(super) async fn replace(&self, path: &str, object: &Value) -> Result<Value, ClusterError> {
        self.send(Method::PUT, path, Some(object)).await
    }

    /// Creates an object in a collection.
    pub(super) async fn create(&self, path: &str, object: &Value) -> Result<Value, ClusterError> {
        self.send(Method::POST, path, Some(object)).await
    }

    /// Reads `path` as metadata only.
    pub(super) async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClusterError> {
        let named = format!("GET {path}");
        let accept =
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
        let request = build_request(Method::GET, path, accept, Vec::new())
            .map_err(|error| no_answer(&named, &error))?;
        serde_json::from_str(&self.fetch_text(&named, request).await?)
            .map_err(|error| no_answer(&named, &error))
    }

    /// What happens to the objects of `path`, as metadata only.
    pub(super) async fn watch<T>(
        &self,
        path: &str,
    ) -> Result<impl TryStream<Item = Result<WatchEvent<T>, kube::Error>> + use<T>, ClusterError>
    where
        T: Clone + DeserializeOwned,
    {
        let named = format!("WATCH {path}");
        let accept =
            "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
        let request = build_request(Method::GET, path, accept, Vec::new())
            .map_err(|error| no_answer(&named, &error))?;
        let begun =
            tokio::time::timeout(REQUEST_TIMEOUT, self.client.request_events(request)).await;
        let begun = begun.map_err(|error| no_answer(&named, &error))?;
        begun.map_err(|error| ClusterError::from_kube(&named, &error))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ClusterError> {
        let named = format!("{method} {path}");
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = build_request(method, path, "application/json", body)
            .map_err(|error| no_answer(&named, &error))?;
        serde_json::from_str(&self.fetch_text(&named, request).await?)
            .map_err(|error| no_answer(&named, &error))
    }

    /// As text: kube's own decoding would log an answer that it cannot read, and with it a Secret;
    /// and it reads answers of any length.
    async fn fetch_text(
        &self,
        named: &str,
        request: Request<Vec<u8>>,
    ) -> Result<String, ClusterError> {
        let answer = async {
            let stream = self
                .client
                .request_stream(request)
                .await
                .map_err(|error| ClusterError::from_kube(named, &error))?;
            let mut bytes = Vec::new();
            let read = pin!(stream.take(ANSWER_MAX_BYTES + 1)).read_to_end(&mut bytes).await;
            read.map_err(|error| no_answer(named, &error))?;
            if bytes.len() as u64 > ANSWER_MAX_BYTES {
                return Err(ClusterError::TooLong { request: named.to_owned() });
            }
            String::from_utf8(bytes).map_err(|error| no_answer(named, &error.utf8_error()))
        };
        match tokio::time::timeout(REQUEST_TIMEOUT, answer).await {
            Ok(result) => result,
            Err(_) => Err(ClusterError::NoAnswer {
                request: named.to_owned(),
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

fn no_answer(named: &str, error: &dyn std::error::Error) -> ClusterError {
    ClusterError::NoAnswer { request: named.to_owned(), why: error_chain(error) }
}

/// Whether the kubeconfig cannot be had. A file that is no text is an error of reading as well.
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
