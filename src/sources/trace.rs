//! W3C trace context: what comes in with a request and goes out with every one of ours.
//!
//! Source: <https://www.w3.org/TR/trace-context/>, section 3.

/// The trace a request belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// 16 bytes, never zero.
    pub trace_id: u128,
    /// The consumer's span, if it sent one.
    pub parent_id: Option<u64>,
    /// Our own span for the consumer's request, never zero.
    pub span_id: u64,
    /// The sampled flag.
    pub sampled: bool,
    /// `tracestate`, passed on as it came (at most 512 bytes).
    pub state: Option<String>,
}
