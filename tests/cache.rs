//! The cache of a fleet of one: *One read* in a pod, *Coherent versions*, and *Fresh* for
//! invalidations by its own admin port.

mod flights;
mod invalidations;
mod lifetimes;
mod request_cache_control;
mod sharing;
mod verified;

use serde_json::{Value, json};

use crate::support::client::{ClientRequest, ClientResponse, ask, get, with_header};
use crate::support::domain::DomainFile;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{ReceivedRequest, Reply, Upstream};

const PATH: &str = "/v2/customers/42";

/// A sidecar with a cache, over one source; `cache` is that section of its domain file.
async fn over_one(cache: &str) -> (Sidecar, Upstream) {
    let upstream = Upstream::plain().await;
    let domain = file(&upstream, cache);
    (with_memory(&domain).start().await, upstream)
}

fn with_memory(domain: &DomainFile) -> Setup {
    Setup::of(&[domain]).insecure().args(&["--memory", "64MiB"])
}

pub(crate) fn file(upstream: &Upstream, cache: &str) -> DomainFile {
    DomainFile::of("customer").head(&format!("cache: {cache}")).source(
        "part",
        upstream,
        "/{key}",
        &["retries: 0"],
    )
}

/// A part whose `n` counts the requests, with a strong `ETag` that never returns.
pub(crate) fn counting(upstream: &Upstream, path: &str) {
    let count = std::sync::atomic::AtomicUsize::new(0);
    upstream.handles(path, move |_: &ReceivedRequest| {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        Reply::json(format!("{{\"n\":{n}}}")).etag(&format!("\"{n}\""))
    });
}

/// The answer for [`PATH`] to a request with these directives.
pub(crate) async fn get_with_cache_control(sidecar: &Sidecar, directives: &str) -> ClientResponse {
    sidecar.send(with_header(get(PATH), "cache-control", directives)).await
}

pub(crate) fn write(path: &str, body: &Value) -> ClientRequest {
    let mut request =
        with_header(ask(http::Method::POST, path), "content-type", "application/json");
    *request.body_mut() = bytes::Bytes::from(body.to_string()).into();
    request
}

async fn invalidate(sidecar: &Sidecar, what: &str, names: &Value) -> Value {
    let got = sidecar
        .send_admin(write(
            "/invalidate",
            &json!({"domain": "customer", what: names, "wait": "fleet"}),
        ))
        .await;
    assert_eq!(got.status, 200, "{}", got.text());
    got.json()
}

pub(crate) fn cache_status(got: &ClientResponse) -> &str {
    got.header("cache-status")
}
