//! From a dataset to a version's bytes, without ever holding up the event loop.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::answer::strong_etag;
use super::problem::Problem;
use super::table::Published;
use crate::cache::{Kept, Rendered};
use crate::shape::{Budget, Program};

/// Runs shapes on the blocking pool, no more at once than there are processors.
#[derive(Debug, Clone)]
pub(super) struct Renderer {
    slots: Arc<Semaphore>,
    waited: prometheus_client::metrics::counter::Counter,
}

/// How long a shape may wait for a thread before the request is refused.
const WAIT_MAX: Duration = Duration::from_secs(1);

impl Renderer {
    pub(super) fn new(slots: Arc<Semaphore>, waited: prometheus_client::metrics::counter::Counter) -> Self {
        Self { slots, waited }
    }

    /// What `published` makes of a kept dataset: rendered on first use, then kept with it.
    pub(super) async fn render(&self, published: &Published, key: &str, kept: &Arc<Kept>) -> Result<Rendered, Problem> {
        if let Some(rendered) = kept.rendered(published.id) {
            return Ok(rendered);
        }
        let Some(dataset) = kept.dataset() else {
            return Err(Problem::NotFound { domain: published.domain().name.to_string() });
        };
        let body = match published.shape.clone() {
            None => dataset.body.clone(),
            Some(shape) => self.run(published, shape, dataset.body.clone()).await?,
        };
        let rendered = Rendered { etag: strong_etag(&body).into(), body };
        kept.keep_rendered(published.id, rendered.clone());
        if published.shape.is_some() {
            published.cache.reweigh(key, kept);
        }
        Ok(rendered)
    }

    async fn run(&self, published: &Published, shape: Arc<Program>, input: Bytes) -> Result<Bytes, Problem> {
        let slot = self.slot().await?;
        let run = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            shape.run(&input, Budget::default())
        });
        let failed = |detail| Problem::ShapeFailed { version: published.version.name.to_string(), detail };
        match run.await {
            Ok(Ok(rendered)) => Ok(Bytes::from(rendered)),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed("the program could not be run".to_owned())),
        }
    }

    async fn slot(&self) -> Result<tokio::sync::OwnedSemaphorePermit, Problem> {
        if let Ok(slot) = self.slots.clone().try_acquire_owned() {
            return Ok(slot);
        }
        self.waited.inc();
        let full = |_| Problem::Overloaded { detail: "no thread came free for the version's shape".to_owned() };
        let slot = tokio::time::timeout(WAIT_MAX, self.slots.clone().acquire_owned()).await;
        slot.map_err(full)?.map_err(|_| Problem::Overloaded { detail: "the sidecar is stopping".to_owned() })
    }
}
