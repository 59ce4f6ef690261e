//! A client of the API server, in plain JSON over HTTPS, with the identity of its token.

use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::until;

/// The name under which objects are applied.
const MANAGER: &str = "tests";

/// A client with a token.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    client: Client,
    base: String,
    token: String,
}

/// An answer of the API server.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The object, or the `Status` that gives the reason of a refusal.
    pub(crate) body: Value,
    /// The `Warning` headers, as `kubectl` prints them.
    pub(crate) warnings: Vec<String>,
}

impl Answer {
    /// The object.
    #[track_caller]
    pub(crate) fn object(self) -> Value {
        assert!((200..300).contains(&self.status), "refused: {self:#?}");
        self.body
    }

    /// The reason of a refusal, as `kubectl` prints it.
    #[track_caller]
    pub(crate) fn refusal(&self) -> &str {
        assert!(self.status >= 400, "not refused: {self:#?}");
        self.body["message"].as_str().unwrap_or_else(|| panic!("no message: {self:#?}"))
    }

    /// Whether the request succeeded.
    pub(crate) fn is_done(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Api {
    /// A client of the API server at `base` (`https://…`), which must have a certificate of this
    /// authority.
    pub(crate) fn new(base: &str, authority_pem: &str, token: &str) -> Self {
        let authority = reqwest::Certificate::from_pem(authority_pem.as_bytes()).unwrap();
        let client = Client::builder().tls_certs_only([authority]).no_proxy().build().unwrap();
        Self { client, base: base.to_owned(), token: token.to_owned() }
    }

    /// One request; an error where there was no answer at all.
    pub(crate) async fn try_ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, String> {
        let patch = match path {
            _ if method != Method::PATCH => "application/json",
            path if path.contains("fieldManager") => "application/apply-patch+yaml",
            _ => "application/merge-patch+json",
        };
        let mut request =
            self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header("content-type", patch).body(body.to_string());
        }
        let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
        let status = answer.status().as_u16();
        let warnings = answer.headers().get_all("warning").iter();
        let warnings = warnings
            .map(|warning| String::from_utf8_lossy(warning.as_bytes()).into_owned())
            .collect();
        let text = answer.text().await.map_err(|error| format!("{error:?}"))?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Answer { status, body, warnings })
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        self.try_ask(method.clone(), path, body)
            .await
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Creates an object, in its own namespace.
    pub(crate) async fn create(&self, object: &Value) -> Answer {
        self.ask(Method::POST, &folder(object), Some(object)).await
    }

    /// The result of creating an object: admitted as usual, and not stored (a dry run). An error
    /// where there was no answer.
    pub(crate) async fn rehearse(&self, object: &Value) -> Result<Answer, String> {
        self.try_ask(Method::POST, &format!("{}?dryRun=All", folder(object)), Some(object)).await
    }

    /// Replaces an object, whatever its present state: `kubectl apply --server-side
    /// --force-conflicts`.
    pub(crate) async fn apply(&self, object: &Value) -> Value {
        let path =
            format!("{}?fieldManager={MANAGER}&force=true&fieldValidation=Strict", path_of(object));
        self.ask(Method::PATCH, &path, Some(object)).await.object()
    }

    /// The object in its present state.
    pub(crate) async fn current(&self, object: &Value) -> Answer {
        self.get(&path_of(object)).await
    }

    /// Merges a change into an object.
    pub(crate) async fn merge(&self, object: &Value, change: &Value) -> Answer {
        self.merge_at(&path_of(object), change).await
    }

    /// Merges a change into the object at a path.
    pub(crate) async fn merge_at(&self, path: &str, change: &Value) -> Answer {
        self.ask(Method::PATCH, path, Some(change)).await
    }

    /// Deletes an object.
    pub(crate) async fn delete(&self, object: &Value) -> Answer {
        self.delete_at(&path_of(object)).await
    }

    /// Deletes the object at a path, at once.
    pub(crate) async fn delete_at(&self, path: &str) -> Answer {
        self.ask(Method::DELETE, path, Some(&json!({"gracePeriodSeconds": 0}))).await
    }

    /// The object at a path.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, None).await
    }

    /// Posts a body that is no stored object, such as a request for a token.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask(Method::POST, path, Some(body)).await
    }

    /// The pods of a namespace.
    pub(crate) async fn pods(&self, namespace: &str) -> Vec<Value> {
        let list = self.get(&format!("/api/v1/namespaces/{namespace}/pods")).await.object();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Waits for the first pod that this object's controllers make, directly or through other
    /// objects.
    pub(crate) async fn pod_of(&self, owner: &Value) -> Value {
        let namespace = text(owner, "/metadata/namespace");
        let name = text(owner, "/metadata/name");
        let made = |pod: &Value| {
            let generated = text(pod, "/metadata/name").starts_with(&format!("{name}-"));
            generated && pod.pointer("/metadata/ownerReferences/0").is_some()
        };
        until(&format!("{} {name} has a pod", text(owner, "/kind")), async || {
            self.pods(&namespace).await.into_iter().find(made)
        })
        .await
    }
}

/// A text in an object; empty where there is none.
pub(crate) fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The collection path of objects like this one.
fn folder(object: &Value) -> String {
    let version = text(object, "/apiVersion");
    let kind = text(object, "/kind");
    let group =
        if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    let plural = match kind.to_lowercase() {
        kind if kind.ends_with('s') => format!("{kind}es"),
        kind if kind.ends_with('y') => format!("{}ies", kind.trim_end_matches('y')),
        kind => format!("{kind}s"),
    };
    match text(object, "/metadata/namespace").as_str() {
        "" => format!("{group}/{plural}"),
        namespace => format!("{group}/namespaces/{namespace}/{plural}"),
    }
}

/// The path of this object.
fn path_of(object: &Value) -> String {
    format!("{}/{}", folder(object), text(object, "/metadata/name"))
}
