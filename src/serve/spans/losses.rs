//! The exporter of spans, watched: a collector that cannot be reached is said once as it begins and
//! once as it ends, and every span that is lost is counted.
//!
//! Spans are lost in two places: an export fails, or the queue before it is full. The SDK counts
//! neither where we could read it, so the queue's length is kept here as well, and a span for which
//! it has no room is not handed over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;

/// The usual length of the queue, as OpenTelemetry's specification has it.
const QUEUE_LENGTH: usize = 2048;

/// The spans that were exported and lost.
#[derive(Debug, Clone)]
pub(super) struct SpanLosses(Arc<SpanLossesInner>);

#[derive(Debug)]
struct SpanLossesInner {
    /// Spans that were handed over and are not exported yet.
    queued: AtomicUsize,
    queue_length: usize,
    lost: Counter,
    /// How many spans were lost since exports began to fail, those of the first such export
    /// included; `None` where the last export worked.
    lost_in_a_row: Mutex<Option<u64>>,
    /// Why the last request to the collector failed; `None` where it was answered. The exporter's
    /// thread writes and reads it, one after the other.
    cause: Mutex<Option<String>>,
}

impl SpanLosses {
    /// None yet; `queue_length` is `OTEL_BSP_MAX_QUEUE_SIZE`, if it is set.
    pub(super) fn new(queue_length: Option<&str>) -> Self {
        let queue_length = queue_length.and_then(|text| text.parse().ok()).unwrap_or(QUEUE_LENGTH);
        Self(Arc::new(SpanLossesInner {
            queued: AtomicUsize::new(0),
            queue_length,
            lost: Counter::default(),
            lost_in_a_row: Mutex::new(None),
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
        let enqueued =
            self.0.queued.fetch_update(Ordering::SeqCst, Ordering::SeqCst, has_room).is_ok();
        if !enqueued {
            self.0.lost.inc();
            if let Some(lost) = self.0.lost_in_a_row.lock().as_mut() {
                *lost += 1;
            }
        }
        enqueued
    }

    /// Notes why a request failed, without the address, which may hold a secret; `None` where it
    /// was answered. An export repeats a request that failed, and only the last one says how it
    /// ended.
    pub(super) fn record_request(&self, error: Option<&(dyn std::error::Error + 'static)>) {
        let causes = std::iter::successors(error, |error| error.source());
        *self.0.cause.lock() = causes.last().map(ToString::to_string);
    }

    /// Why the last request failed.
    pub(super) fn take_cause(&self) -> Option<String> {
        self.0.cause.lock().take()
    }

    /// Notes how an export of so many spans went.
    fn record_export(&self, spans: usize, exported: &OTelSdkResult) {
        self.0.queued.fetch_sub(spans, Ordering::SeqCst);
        let cause = self.take_cause();
        match exported {
            Ok(()) => {
                let lost_in_a_row = self.0.lost_in_a_row.lock().take();
                if let Some(lost) = lost_in_a_row {
                    tracing::info!(lost, "the collector of traces takes spans again");
                }
            }
            Err(error) => {
                let spans = spans as u64;
                self.0.lost.inc_by(spans);
                let mut lost_in_a_row = self.0.lost_in_a_row.lock();
                let is_first = lost_in_a_row.is_none();
                *lost_in_a_row.get_or_insert(0) += spans;
                drop(lost_in_a_row);
                if is_first {
                    // The exporter says no more of a request that failed than that it did.
                    let error = cause.unwrap_or_else(|| error.to_string());
                    tracing::warn!(
                        error,
                        "spans cannot be exported, and are lost until the collector of traces \
                         takes them again; \
                         bfb_spans_lost_total counts them (hint: look at \
                         OTEL_EXPORTER_OTLP_ENDPOINT)"
                    );
                }
            }
        }
    }
}

/// An exporter whose exports are counted.
#[derive(Debug)]
pub(super) struct LossCountingExporter<E> {
    exporter: E,
    losses: SpanLosses,
}

impl<E> LossCountingExporter<E> {
    pub(super) fn new(exporter: E, losses: SpanLosses) -> Self {
        Self { exporter, losses }
    }
}

impl<E: SpanExporter> SpanExporter for LossCountingExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let exported = self.exporter.export(batch).await;
        self.losses.record_export(spans, &exported);
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
#[allow(clippy::unwrap_used)]
mod tests {
    use opentelemetry_sdk::error::OTelSdkError;

    use super::*;

    fn refusal(text: &str) -> OTelSdkResult {
        Err(OTelSdkError::InternalFailure(text.to_owned()))
    }

    /// The log lines that are written while `run` runs.
    fn log_of(run: impl FnOnce()) -> String {
        let log = tempfile::NamedTempFile::new().unwrap();
        let writer = Arc::new(log.reopen().unwrap());
        let subscriber = tracing_subscriber::fmt().with_writer(writer).with_ansi(false).finish();
        tracing::subscriber::with_default(subscriber, run);
        std::fs::read_to_string(log.path()).unwrap()
    }

    #[test]
    fn the_cause_of_a_request_that_was_repeated_is_not_that_of_a_later_export() {
        let losses = SpanLosses::new(None);
        losses.record_request(Some(&std::io::Error::other("Connection refused")));
        losses.record_export(1, &Ok(()));
        let log = log_of(|| losses.record_export(1, &refusal("status code 401")));
        assert!(log.contains("status code 401") && !log.contains("Connection refused"), "{log}");
    }

    #[test]
    fn losses_in_a_row_are_those_since_the_first_export_that_failed() {
        let losses = SpanLosses::new(Some("3"));
        let overflow = || {
            for _ in 0..5 {
                losses.enqueue();
            }
        };
        overflow();
        let log = log_of(|| {
            losses.record_export(3, &refusal("refused"));
            overflow();
            losses.record_export(3, &Ok(()));
            overflow();
            losses.record_export(3, &Ok(()));
        });
        assert!(log.contains("lost=5"), "three of the export and two of the queue: {log}");
        assert_eq!(log.lines().count(), 2, "{log}");
        assert_eq!(losses.counter().get(), 9);
    }

    #[test]
    fn a_span_for_which_the_queue_has_no_room_is_counted_as_lost() {
        let losses = SpanLosses::new(Some("2"));
        assert_eq!([0; 4].map(|_| losses.enqueue()), [true, true, false, false]);
        assert_eq!(losses.counter().get(), 2);
        losses.record_export(2, &Ok(()));
        assert!(losses.enqueue(), "an export makes room");
        losses.record_export(1, &Err(OTelSdkError::InternalFailure("refused".to_owned())));
        assert_eq!(losses.counter().get(), 3);
        assert!(losses.enqueue(), "one that failed too");
    }

    #[test]
    fn the_queue_is_as_long_as_the_variable_says_or_the_specification() {
        for (text, length) in [(None, 2048), (Some("7"), 7), (Some("many"), 2048)] {
            assert_eq!(SpanLosses::new(text).0.queue_length, length);
        }
    }
}
