//! A task with work to do at its end.

use std::time::Duration;

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;

/// A task that is told to end and then waited for: it gives up a lease, or a registration.
#[derive(Debug)]
pub struct GracefulTask {
    end: CancellationToken,
    task: TaskTracker,
}

impl GracefulTask {
    /// Runs what `task` makes of the future that resolves when it is to end.
    pub fn spawn<T>(task: impl FnOnce(WaitForCancellationFutureOwned) -> T) -> Self
    where
        T: Future<Output = ()> + Send + 'static,
    {
        let end = CancellationToken::new();
        let tracker = TaskTracker::new();
        tracker.spawn(task(end.clone().cancelled_owned()));
        tracker.close();
        Self { end, task: tracker }
    }

    /// Tells it to end.
    pub fn end(&self) {
        self.end.cancel();
    }

    /// Waits until it has ended.
    pub async fn ended(&self) {
        self.task.wait().await;
    }

    /// The same for so long at most; false if it has not ended then.
    pub async fn ended_within(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.ended()).await.is_ok()
    }
}
