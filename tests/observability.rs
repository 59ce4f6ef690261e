//! Observability: events as they happen (`GET /events`, `bfb tail`), the present state (`bfb
//! status`), the result of an invalidation (`bfb invalidate --wait`), and the counters behind them.

mod events;
mod invalidate;
mod listeners;
mod metrics;
mod status;
mod tail;

use serde_json::{Value, json};

use crate::cache::{file, write};
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::Upstream;

const PATH: &str = "/v2/customers/42";

/// A sidecar with a cache in memory, over one source, alone; `cache` is that section of its domain
/// file.
async fn single_sidecar(cache: &str) -> (Sidecar, Upstream) {
    let upstream = Upstream::plain().await;
    let sidecar =
        Setup::of(&[&file(&upstream, cache)]).insecure().args(&["--memory", "64MiB"]).start().await;
    (sidecar, upstream)
}

async fn invalidate(sidecar: &Sidecar, what: &str, names: &Value) {
    let got =
        sidecar.send_admin(write("/invalidate", &json!({"domain": "customer", what: names}))).await;
    assert_eq!(got.status, 202, "{}", got.text());
}
