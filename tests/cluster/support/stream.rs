//! An uninterrupted stream of admissions: pods that ask, one after another and several at once, all
//! by dry run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::api::{Answer, Api};
use super::objects::{ASKS, annotations, is_injected, pod};
use super::{GLANCE, until};

/// How many pods are created at once.
pub(crate) const LANES: usize = 4;

/// The results of the admissions so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Pods that were injected.
    pub(crate) injected: usize,
    /// Pods that the API server refused, or let in without a sidecar.
    pub(crate) wrong: usize,
    /// The reason for the first of those.
    pub(crate) first_reason: Option<String>,
    /// Pods that got no answer.
    pub(crate) unanswered: usize,
}

/// The stream.
pub(crate) struct Stream {
    tally: watch::Sender<Tally>,
    over: Arc<AtomicBool>,
    lanes: JoinSet<()>,
}

impl Stream {
    /// Begins to create pods in a namespace.
    pub(crate) fn start(api: &Api, namespace: &str) -> Self {
        let tally = watch::Sender::new(Tally::default());
        let over = Arc::new(AtomicBool::new(false));
        let mut lanes = JoinSet::new();
        for lane in 0..LANES {
            let api = api.clone();
            let tally = tally.clone();
            let over = Arc::clone(&over);
            let pod = pod(namespace, &format!("stream-{lane}"), &annotations(ASKS));
            lanes.spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let answer = api.rehearse(&pod).await;
                    let unanswered = answer.is_err();
                    note(&tally, answer);
                    if unanswered {
                        tokio::time::sleep(GLANCE).await;
                    }
                }
            });
        }
        Self { tally, over, lanes }
    }

    /// Waits until so many more pods have been injected, by admissions that began after this call.
    pub(crate) async fn more(&self, pods: usize) {
        // Each lane may have one request under way.
        let goal = self.tally.borrow().injected + LANES + pods;
        until(&format!("{pods} more pods come out injected"), async || {
            (self.tally.borrow().injected >= goal).then_some(())
        })
        .await;
    }

    /// The results so far.
    pub(crate) fn tally(&self) -> Tally {
        self.tally.borrow().clone()
    }

    /// Ends the stream once the last pod has its answer.
    pub(crate) async fn end(self) -> Tally {
        self.over.store(true, Ordering::Relaxed);
        self.lanes.join_all().await;
        self.tally.borrow().clone()
    }
}

fn note(tally: &watch::Sender<Tally>, answer: Result<Answer, String>) {
    tally.send_modify(|tally| match answer {
        Ok(answer) if answer.is_done() && is_injected(&answer.body) => tally.injected += 1,
        Ok(answer) => {
            tally.wrong += 1;
            tally
                .first_reason
                .get_or_insert_with(|| format!("{}: {}", answer.status, reason(&answer.body)));
        }
        Err(_) => tally.unanswered += 1,
    });
}

fn reason(body: &Value) -> String {
    body["message"].as_str().map_or_else(|| "let in without a sidecar".to_owned(), str::to_owned)
}
