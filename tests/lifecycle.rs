//! Promise 7, *Nothing lost in a change*: new certificates, a new domain file, SIGTERM, all under
//! load: no failed request.

mod drain;
mod reload;
mod rotation;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::client::{ClientResponse, Consumer, HttpVersion, TEST_TIMEOUT};
use crate::support::sidecar::Sidecar;

/// A pause between two requests of a consumer, so that the load leaves the machine room for the
/// change itself.
const PACE: Duration = Duration::from_millis(2);

/// Consumers that send requests without end, and their results.
struct Load {
    stop: Arc<AtomicBool>,
    answered: watch::Sender<usize>,
    consumers: JoinSet<Result<(), String>>,
}

impl Load {
    /// So many consumers each over HTTP/1.1 and HTTP/2, which keep their connections.
    fn begin(sidecar: &Sidecar, each: usize, path: &'static str) -> Self {
        let both = [HttpVersion::Http1, HttpVersion::Http2];
        let consumers =
            (0..each).flat_map(|_| both).map(|http| sidecar.consumer(http)).collect::<Vec<_>>();
        let stop = Arc::new(AtomicBool::new(false));
        let answered = watch::Sender::new(0);
        let mut tasks = JoinSet::new();
        for consumer in consumers {
            tasks.spawn(consume(consumer, path, stop.clone(), answered.clone()));
        }
        Self { stop, answered, consumers: tasks }
    }

    /// Waits until so many more requests were answered.
    async fn answers(&self, more: usize) {
        let mut answered = self.answered.subscribe();
        let enough = *answered.borrow() + more;
        let waited =
            tokio::time::timeout(TEST_TIMEOUT, answered.wait_for(|count| *count >= enough)).await;
        assert!(waited.is_ok(), "{} of {enough} answers came", *self.answered.borrow());
    }

    /// Ends the load; none of its requests may have failed.
    async fn end(mut self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.consumers.join_next().await {
            ended.unwrap().unwrap();
        }
        self.answered.send_replace(0)
    }
}

async fn consume(
    mut consumer: Consumer,
    path: &'static str,
    stop: Arc<AtomicBool>,
    answered: watch::Sender<usize>,
) -> Result<(), String> {
    while !stop.load(Ordering::SeqCst) {
        let got: ClientResponse = consumer.get(path).await?;
        if got.status != 200 {
            return Err(format!("{got:?}"));
        }
        answered.send_modify(|count| *count += 1);
        tokio::time::sleep(PACE).await;
    }
    Ok(())
}
