//! How many requests of one collection are on their way: sent, and not yet answered whole.
//!
//! A collection that nobody waits for is given up, but not in the middle of a request: that would
//! cost the source its work and us the connection.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The requests of one collection that are on their way.
#[derive(Debug, Default)]
pub struct Outstanding {
    requests: AtomicUsize,
    none_left: Notify,
}

/// One request on its way, until this is dropped.
#[derive(Debug)]
pub struct OutstandingRequest<'a>(&'a Outstanding);

impl Outstanding {
    /// Counts one more.
    pub fn begin(&self) -> OutstandingRequest<'_> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        OutstandingRequest(self)
    }

    /// Returns once there are none.
    pub async fn wait_for_none(&self) {
        loop {
            let notified = self.none_left.notified();
            if self.requests.load(Ordering::SeqCst) == 0 {
                return;
            }
            notified.await;
        }
    }
}

impl Drop for OutstandingRequest<'_> {
    fn drop(&mut self) {
        if self.0.requests.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.none_left.notify_waiters();
        }
    }
}
