//! The exporter of spans, watched: a collector that cannot be reached is said once as it begins and
//! once as it ends, and every span that is lost is counted.
//!
//! Spans are lost in two places: an export fails, or the queue before it is full. The SDK counts
//! neither where we could read it, so the queue's length is kept here as well, and a span for which
//! it has no room is not handed over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;

/// The usual length of the queue, as OpenTelemetry's specification has it.
const QUEUE_LENGTH: usize = 2048;

/// What became of spans.
#[derive(Debug, Clone)]
pub(super) struct Losses(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Spans that were handed over and are not exported yet.
    queued: AtomicUsize,
    queue_length: usize,
    lost: Counter,
    /// Whether the last export failed.
    is_failing: AtomicBool,
    /// What was lost since then.
    lost_in_a_row: AtomicU64,
    /// Why the last request to the collector failed. The exporter's thread writes and reads it, one
    /// after the other.
    cause: Mutex<Option<String>>,
}

impl Losses {
    /// None yet; `queue_length` is `OTEL_BSP_MAX_QUEUE_SIZE`, if it is set.
    pub(super) fn new(queue_length: Option<&str>) -> Self {
        let queue_length = queue_length.and_then(|text| text.parse().ok()).unwrap_or(QUEUE_LENGTH);
        Self(Arc::new(Inner {
            queued: AtomicUsize::new(0),
            queue_length,
            lost: Counter::default(),
            is_failing: AtomicBool::new(false),
            lost_in_a_row: AtomicU64::new(0),
            cause: Mutex::new(None),
        }))
    }

    /// How many were lost.
    pub(super) fn counter(&self) -> Counter {
        self.0.lost.clone()
    }

    /// Whether the queue has room for one more span, which is then in it.
    pub(super) fn enqueue(&self) -> bool {
        let has_room = |queued| (queued < self.0.queue_length).then_some(queued + 1);
        let enqueued = self.0.queued.fetch_update(Ordering::SeqCst, Ordering::SeqCst, has_room).is_ok();
        if !enqueued {
            self.lose(1);
        }
        enqueued
    }

    fn lose(&self, spans: usize) {
        let spans = spans as u64;
        self.0.lost.inc_by(spans);
        self.0.lost_in_a_row.fetch_add(spans, Ordering::SeqCst);
    }

    /// Notes why a request failed, without the address, which may hold a secret.
    pub(super) fn note_cause(&self, error: &(dyn std::error::Error + 'static)) {
        let causes = std::iter::successors(Some(error), |error| error.source());
        *self.0.cause.lock() = causes.last().map(ToString::to_string);
    }

    /// Notes how an export of so many spans went.
    fn note(&self, spans: usize, exported: &OTelSdkResult) {
        self.0.queued.fetch_sub(spans, Ordering::SeqCst);
        match exported {
            Ok(()) => {
                if self.0.is_failing.swap(false, Ordering::SeqCst) {
                    let lost = self.0.lost_in_a_row.swap(0, Ordering::SeqCst);
                    tracing::info!(lost, "the collector of traces takes spans again");
                }
            }
            Err(error) => {
                self.lose(spans);
                // The exporter says no more of a request that failed than that.
                let error = self.0.cause.lock().take().unwrap_or_else(|| error.to_string());
                if !self.0.is_failing.swap(true, Ordering::SeqCst) {
                    tracing::warn!(
                        error,
                        "spans cannot be exported, and are lost until the collector of traces takes them again; \
                         bfb_spans_lost_total counts them (hint: look at OTEL_EXPORTER_OTLP_ENDPOINT)"
                    );
                }
            }
        }
    }
}

/// An exporter whose exports are noted.
#[derive(Debug)]
pub(super) struct WatchedExporter<E> {
    exporter: E,
    losses: Losses,
}

impl<E> WatchedExporter<E> {
    pub(super) fn new(exporter: E, losses: Losses) -> Self {
        Self { exporter, losses }
    }
}

impl<E: SpanExporter> SpanExporter for WatchedExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let exported = self.exporter.export(batch).await;
        self.losses.note(spans, &exported);
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::error::OTelSdkError;

    use super::*;

    #[test]
    fn a_span_for_which_the_queue_has_no_room_is_counted_as_lost() {
        let losses = Losses::new(Some("2"));
        assert_eq!([0; 4].map(|_| losses.enqueue()), [true, true, false, false]);
        assert_eq!(losses.counter().get(), 2);
        losses.note(2, &Ok(()));
        assert!(losses.enqueue(), "an export makes room");
        losses.note(1, &Err(OTelSdkError::InternalFailure("refused".to_owned())));
        assert_eq!(losses.counter().get(), 3);
        assert!(losses.enqueue(), "one that failed too");
    }

    #[test]
    fn the_queue_is_as_long_as_the_variable_says_or_the_specification() {
        for (text, length) in [(None, 2048), (Some("7"), 7), (Some("many"), 2048)] {
            assert_eq!(Losses::new(text).0.queue_length, length);
        }
    }
}
