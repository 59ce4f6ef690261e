//! From a dataset to a version's bytes, without ever holding up the event loop.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::problem::Problem;
use super::table::Published;
use crate::collect::Dataset;
use crate::shape::Budget;

/// Runs shapes on the blocking pool, no more at once than there are processors.
#[derive(Debug, Clone)]
pub(super) struct Renderer {
    slots: Arc<Semaphore>,
    waited: prometheus_client::metrics::counter::Counter,
}

/// The most shapes at once on any machine: one run may hold a few hundred MiB.
const AT_ONCE_MAX: usize = 4;
/// How long a shape may wait for a thread before the request is refused.
const WAIT_MAX: Duration = Duration::from_secs(1);

impl Renderer {
    pub(super) fn new(waited: prometheus_client::metrics::counter::Counter) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get).min(AT_ONCE_MAX);
        Self { slots: Arc::new(Semaphore::new(threads)), waited }
    }

    /// The bytes of `published` for `dataset`: the dataset's own where the version has no shape.
    pub(super) async fn render(&self, published: &Published, dataset: &Dataset) -> Result<Bytes, Problem> {
        let Some(shape) = published.shape.clone() else { return Ok(dataset.body.clone()) };
        let slot = self.slot().await?;
        let input = dataset.body.clone();
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
