//! Traces over OTLP: a server span for each request, and a client span for each request to a
//! source.
//!
//! The spans are made from the collection's own record after the answer, with the ids that went out
//! in `traceparent`, so the hot path carries no tracing state. The standard `OTEL_*` variables say
//! where they go; without an endpoint there are none. The batch processor has a queue of bounded
//! length; spans that do not fit are lost, and counted ([`losses`]).

mod export_client;
mod losses;

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, Sampler, SamplingDecision, ShouldSample, SpanData, SpanEvents, SpanLinks,
    SpanProcessor,
};
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use self::export_client::LossCountingClient;
use self::losses::{LossCountingExporter, SpanLosses};
use super::request_report::RequestReport;
use crate::collect::TimelineStep;
use crate::sources::{Attempt, TraceContext};

/// Exports spans in batches, on a thread of its own.
#[derive(Debug)]
pub struct Spans {
    processor: BatchSpanProcessor,
    losses: SpanLosses,
    scope: InstrumentationScope,
    sampling: Sampling,
}

/// Which traces are exported: `OTEL_TRACES_SAMPLER` and its `_ARG`.
#[derive(Debug)]
struct Sampling {
    root: Sampler,
    /// Whether a consumer's own decision stands.
    parent_based: bool,
}

impl Sampling {
    /// By the standard names; without one, `parentbased_always_on`.
    fn from_names(name: Option<&str>, argument: Option<&str>) -> Result<Self, SpanError> {
        let name = name.unwrap_or("parentbased_always_on");
        let (root, parent_based) = match name.strip_prefix("parentbased_") {
            Some(root) => (root, true),
            None => (name, false),
        };
        let ratio = || {
            argument.unwrap_or("1").parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio))
        };
        let root = match root {
            "always_on" => Sampler::AlwaysOn,
            "always_off" => Sampler::AlwaysOff,
            "traceidratio" => Sampler::TraceIdRatioBased(ratio().ok_or_else(|| {
                SpanError("`OTEL_TRACES_SAMPLER_ARG` is no ratio from 0 to 1".to_owned())
            })?),
            _ => {
                return Err(SpanError(format!(
                    "`OTEL_TRACES_SAMPLER` is `{name}`, which is not known here"
                )));
            }
        };
        Ok(Self { root, parent_based })
    }

    fn is_sampled(&self, trace: &TraceContext) -> bool {
        if self.parent_based && trace.parent_id.is_some() {
            return trace.sampled;
        }
        let id = TraceId::from_bytes(trace.trace_id.to_be_bytes());
        let decided = self.root.should_sample(None, id, "", &SpanKind::Server, &[], &[]);
        decided.decision == SamplingDecision::RecordAndSample
    }
}

/// The reason why there is no exporter.
#[derive(Debug, thiserror::Error)]
#[error("traces cannot be exported: {0}")]
pub struct SpanError(String);

/// The exporter, as the variables say.
fn exporter(losses: &SpanLosses) -> Result<SpanExporter, SpanError> {
    let timeout = variable("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")
        .or_else(|| variable("OTEL_EXPORTER_OTLP_TIMEOUT"));
    let client = LossCountingClient::new(timeout.as_deref(), losses.clone()).map_err(SpanError)?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_http_client(client);
    exporter.build().map_err(|error| SpanError(error.to_string()))
}

/// A variable; an empty one counts as unset.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Spans {
    /// As the `OTEL_*` variables say; `None` where they name no endpoint, or switch traces off.
    pub fn from_environment() -> Result<Option<Self>, SpanError> {
        let endpoint = variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
            .or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT"));
        let disabled =
            variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let none = variable("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
        if endpoint.is_none() || disabled || none {
            return Ok(None);
        }
        let losses = SpanLosses::new(variable("OTEL_BSP_MAX_QUEUE_SIZE").as_deref());
        let exporter = LossCountingExporter::new(exporter(&losses)?, losses.clone());
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        let mut resource = Resource::builder();
        if variable("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("bfb");
        }
        processor.set_resource(&resource.build());
        let scope =
            InstrumentationScope::builder("bfb").with_version(env!("CARGO_PKG_VERSION")).build();
        let sampler = variable("OTEL_TRACES_SAMPLER");
        let argument = variable("OTEL_TRACES_SAMPLER_ARG");
        let sampling = Sampling::from_names(sampler.as_deref(), argument.as_deref())?;
        Ok(Some(Self { processor, losses, scope, sampling }))
    }

    /// Registers the counters of lost spans.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "spans_lost",
            "Spans that no collector of traces took: an export failed, or its queue was full",
            self.losses.counter(),
        );
    }

    /// Queues a span, if there is room.
    fn queue(&self, span: SpanData) {
        if self.losses.enqueue() {
            self.processor.on_end(span);
        }
    }

    /// Whether the trace is exported; the `traceparent` sent to sources carries the same flag.
    pub(super) fn is_sampled(&self, trace: &TraceContext) -> bool {
        self.sampling.is_sampled(trace)
    }

    pub(super) fn export(
        &self,
        trace: &TraceContext,
        started: Instant,
        report: &RequestReport<'_>,
        key: Option<&str>,
    ) {
        if !trace.sampled {
            return;
        }
        let took = started.elapsed();
        let began = SystemTime::now().checked_sub(took).unwrap_or(SystemTime::UNIX_EPOCH);
        self.queue(self.server_span(trace, began, took, report, key));
        let Some(timeline) = report.timeline else { return };
        let collect_began = began + timeline.started.saturating_duration_since(started);
        for step in &timeline.steps {
            for attempt in &step.attempts {
                let offset = attempt.started.saturating_duration_since(timeline.started);
                self.queue(self.client_span(trace, collect_began + offset, step, attempt));
            }
        }
    }

    fn server_span(
        &self,
        trace: &TraceContext,
        began: SystemTime,
        took: Duration,
        report: &RequestReport<'_>,
        key: Option<&str>,
    ) -> SpanData {
        let status = report.status();
        let path = report.route.map_or("", |published| &published.version.path.text);
        let (domain, _) = report.domain_and_version();
        let mut attributes = vec![
            KeyValue::new("http.request.method", "GET"),
            KeyValue::new("http.response.status_code", i64::from(status)),
            KeyValue::new("http.route", path.to_owned()),
            KeyValue::new("bfb.domain", domain.unwrap_or_default().to_owned()),
        ];
        attributes.extend(key.map(|key| KeyValue::new("bfb.key", key.to_owned())));
        let ended = match report.response {
            Err(problem) if status >= 500 => Status::error(problem.problem_type().name),
            _ => Status::Unset,
        };
        let parent = trace.parent_id.unwrap_or(0);
        let name = format!("GET {path}").trim_end().to_owned();
        self.span(
            trace,
            (trace.span_id, parent),
            SpanKind::Server,
            name,
            (began, took),
            attributes,
            ended,
        )
    }

    fn client_span(
        &self,
        trace: &TraceContext,
        began: SystemTime,
        step: &TimelineStep,
        attempt: &Attempt,
    ) -> SpanData {
        let mut attributes = vec![
            KeyValue::new("http.request.method", "GET"),
            KeyValue::new("bfb.source", step.source.to_string()),
            KeyValue::new("bfb.round", i64::from(step.round)),
        ];
        attributes.extend(
            attempt.status.map(|s| KeyValue::new("http.response.status_code", i64::from(s))),
        );
        let status = attempt.reason.map_or(Status::Unset, |reason| Status::error(reason.as_str()));
        let name = format!("GET {}", step.source);
        let ids = (attempt.span_id, trace.span_id);
        self.span(trace, ids, SpanKind::Client, name, (began, attempt.took), attributes, status)
    }

    #[allow(clippy::too_many_arguments, reason = "it fills one flat record of the SDK")]
    fn span(
        &self,
        trace: &TraceContext,
        (span_id, parent_id): (u64, u64),
        span_kind: SpanKind,
        name: String,
        (start_time, took): (SystemTime, Duration),
        attributes: Vec<KeyValue>,
        status: Status,
    ) -> SpanData {
        let trace_id = TraceId::from_bytes(trace.trace_id.to_be_bytes());
        let id = SpanId::from_bytes(span_id.to_be_bytes());
        SpanData {
            span_context: SpanContext::new(
                trace_id,
                id,
                TraceFlags::SAMPLED,
                false,
                TraceState::NONE,
            ),
            parent_span_id: SpanId::from_bytes(parent_id.to_be_bytes()),
            parent_span_is_remote: span_kind == SpanKind::Server && parent_id != 0,
            span_kind,
            name: name.into(),
            start_time,
            end_time: start_time + took,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: self.scope.clone(),
        }
    }
}

impl Drop for Spans {
    fn drop(&mut self) {
        // The spans in the queue still go out; the processor bounds how long that takes.
        let _ = self.processor.shutdown();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]
mod tests {
    use super::*;

    fn decides(name: Option<&str>, argument: Option<&str>, parent: Option<bool>) -> bool {
        let mut trace = TraceContext::fresh();
        (trace.parent_id, trace.sampled) = (parent.map(|_| 1), parent.unwrap_or(false));
        Sampling::from_names(name, argument).unwrap().is_sampled(&trace)
    }

    #[test]
    fn a_consumers_decision_stands_where_the_sampler_is_parent_based() {
        assert!(
            decides(None, None, None)
                && decides(None, None, Some(true))
                && !decides(None, None, Some(false))
        );
        assert!(decides(Some("always_on"), None, Some(false)));
        assert!(!decides(Some("parentbased_always_off"), None, None));
        assert!(decides(Some("parentbased_always_off"), None, Some(true)));
        assert!(
            !decides(Some("traceidratio"), Some("0"), None)
                && decides(Some("traceidratio"), Some("1.0"), None)
        );
    }

    #[test]
    fn a_sampler_that_is_not_known_is_refused() {
        assert!(Sampling::from_names(Some("jaeger_remote"), None).is_err());
        assert!(Sampling::from_names(Some("traceidratio"), Some("2")).is_err());
    }
}
