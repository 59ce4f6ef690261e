//! How a long-running process lives and ends, whatever it answers: its tasks, its signals, its
//! drain. The sidecar, the webhook and the demo stand on it.
//!
//! The order is the same for all: [`Supervisor::run_until_stopped`], then the owner says that it is
//! not ready, [`Supervisor::drain`] goes on answering until it is quiet (within a deadline, or
//! until the second signal), [`Supervisor::stop_tasks`] stops listening, and
//! [`Supervisor::close_connections`] lets connections write what they still hold.

mod control;
mod graceful_task;

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::task::TaskTracker;

use crate::http::{Activity, DrainPhase, Port, PortMetrics, drain_until_quiet};

pub use control::Control;
pub use graceful_task::GracefulTask;

/// How long connections get to write what they still hold.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Owns the tasks and connections of a process.
#[derive(Debug)]
pub struct Supervisor {
    /// The tasks that end only with the process.
    tasks: JoinSet<()>,
    /// The connections' tasks, which outlive the process's own.
    connections: TaskTracker,
    drain: watch::Sender<DrainPhase>,
    /// The requests under way, for which a drain waits.
    activity: Activity,
}

/// A task ended that should run for as long as the process.
#[derive(Debug, thiserror::Error)]
#[error("{0:?}")]
pub struct TaskEnded(Result<(), JoinError>);

/// How long a drain takes.
#[derive(Debug, Clone, Copy)]
pub struct DrainTimes {
    /// The minimum: requests are answered for so long, however quiet it is.
    pub least: Duration,
    /// The deadline.
    pub most: Duration,
}

impl Supervisor {
    /// Runs nothing yet; a drain will wait for what `activity` counts.
    pub fn new(activity: Activity) -> Self {
        let (drain, _) = watch::channel(DrainPhase::Serving);
        Self { tasks: JoinSet::new(), connections: TaskTracker::new(), drain, activity }
    }

    /// Runs a task that should not end by itself.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// What the connections of a port share, for whose requests a drain waits.
    pub fn port(&self, metrics: &PortMetrics) -> Port {
        self.port_with(self.activity.clone(), metrics)
    }

    /// The same for a port whose requests a drain does not wait for.
    pub fn auxiliary_port(&self, metrics: &PortMetrics) -> Port {
        self.port_with(Activity::default(), metrics)
    }

    fn port_with(&self, activity: Activity, metrics: &PortMetrics) -> Port {
        Port {
            activity,
            drain: self.drain.subscribe(),
            metrics: metrics.clone(),
            tasks: self.connections.clone(),
        }
    }

    /// Returns when the process is told to stop, or when a task ends that should not.
    /// `become_ready` runs meanwhile.
    pub async fn run_until_stopped(
        &mut self,
        control: &mut Control,
        become_ready: impl Future<Output = ()>,
    ) -> Result<(), TaskEnded> {
        let stay_ready = async {
            become_ready.await;
            std::future::pending::<std::convert::Infallible>().await
        };
        tokio::select! {
            () = control.stopped() => Ok(()),
            never = stay_ready => match never {},
            Some(ended) = self.tasks.join_next() => Err(TaskEnded(ended)),
        }
    }

    /// Goes on answering until it is quiet, and no longer than until the process is told to stop
    /// again.
    pub async fn drain(&self, control: &mut Control, times: DrainTimes) {
        let DrainTimes { least, most } = times;
        drain_until_quiet(&self.drain, &self.activity, least, most, control.stopped()).await;
    }

    /// Stops all tasks: nothing more is listened to.
    pub fn stop_tasks(&mut self) {
        self.tasks.abort_all();
    }

    /// Closes the connections that are still open, once they have written what they hold.
    pub async fn close_connections(self) {
        self.drain.send_replace(DrainPhase::Closing);
        self.connections.close();
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.connections.wait()).await;
    }
}
