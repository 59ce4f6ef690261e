//! W3C trace context: taken from a request and sent with every request to a source.
//!
//! Source: <https://www.w3.org/TR/trace-context/>, section 3. A header that does not parse begins a
//! new trace; `tracestate` is passed on only with a `traceparent` that parses, and only up to
//! [`TRACESTATE_MAX_BYTES`] bytes.

use http::{HeaderMap, HeaderValue};

/// The longest `tracestate` passed on (section 3.3.1.5 asks for at least this).
const TRACESTATE_MAX_BYTES: usize = 512;

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
    pub tracestate: Option<String>,
}

impl TraceContext {
    /// A new trace, not sampled: the exporter of spans may change that.
    pub fn fresh() -> Self {
        let trace_id = fastrand::u128(1..);
        Self {
            trace_id,
            parent_id: None,
            span_id: Self::random_span_id(),
            sampled: false,
            tracestate: None,
        }
    }

    /// The trace that a request's headers name, or a new one where they name none.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let mut parents = headers.get_all("traceparent").iter();
        let (Some(parent), None) = (parents.next(), parents.next()) else { return Self::fresh() };
        let Some((trace_id, parent_id, sampled)) = parent.to_str().ok().and_then(parse_traceparent)
        else {
            return Self::fresh();
        };
        let span_id = Self::random_span_id();
        Self {
            trace_id,
            parent_id: Some(parent_id),
            span_id,
            sampled,
            tracestate: join_tracestate(headers),
        }
    }

    /// The trace id as 32 hexadecimal digits.
    pub fn trace_id_hex(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// A span id: random, never zero.
    pub(super) fn random_span_id() -> u64 {
        fastrand::u64(1..)
    }

    /// The `traceparent` to send in the name of `span_id`.
    pub fn traceparent(&self, span_id: u64) -> HeaderValue {
        let text =
            format!("00-{:032x}-{span_id:016x}-{:02x}", self.trace_id, u8::from(self.sampled));
        HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    /// The `tracestate` to send, if there is one.
    pub fn tracestate(&self) -> Option<HeaderValue> {
        self.tracestate.as_deref().and_then(|state| HeaderValue::from_str(state).ok())
    }
}

/// Trace, parent and sampled flag of a `traceparent`; of a version above 00 the fields of version
/// 00 (section 3.2.4).
fn parse_traceparent(text: &str) -> Option<(u128, u64, bool)> {
    let hex = |range: std::ops::Range<usize>| {
        let part = text.get(range)?;
        part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')).then_some(part)
    };
    let dashes = [2, 35, 52].iter().all(|&at| text.as_bytes().get(at) == Some(&b'-'));
    let version = hex(0..2)?;
    let length = match version {
        "00" => text.len() == 55,
        "ff" => false,
        _ => text.len() == 55 || text.as_bytes().get(55) == Some(&b'-'),
    };
    let trace_id = u128::from_str_radix(hex(3..35)?, 16).ok()?;
    let parent_id = u64::from_str_radix(hex(36..52)?, 16).ok()?;
    let flags = u8::from_str_radix(hex(53..55)?, 16).ok()?;
    (dashes && length && trace_id != 0 && parent_id != 0).then_some((
        trace_id,
        parent_id,
        flags & 1 == 1,
    ))
}

/// All `tracestate` headers as one, unless it is empty, longer than we pass on, or no visible
/// ASCII.
fn join_tracestate(headers: &HeaderMap) -> Option<String> {
    let lists: Option<Vec<_>> =
        headers.get_all("tracestate").iter().map(|value| value.to_str().ok()).collect();
    let joined = lists?.join(",");
    (!joined.trim().is_empty() && joined.len() <= TRACESTATE_MAX_BYTES).then_some(joined)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_valid_parent_is_continued_with_a_span_of_our_own() {
        let trace =
            TraceContext::from_headers(&headers(&[("traceparent", PARENT), ("tracestate", "a=1")]));
        assert_eq!(trace.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!(trace.parent_id, Some(0x00f0_67aa_0ba9_02b7));
        assert!(trace.sampled && trace.span_id != 0);
        assert_eq!(trace.tracestate.as_deref(), Some("a=1"));
        assert_eq!(trace.traceparent(1), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000001-01");
    }

    #[test]
    fn what_does_not_parse_begins_a_new_trace_without_state() {
        let long = format!("{PARENT}-x");
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            &long,
        ] {
            let trace = TraceContext::from_headers(&headers(&[
                ("traceparent", bad),
                ("tracestate", "a=1"),
            ]));
            assert_eq!((trace.parent_id, trace.tracestate), (None, None), "{bad}");
            assert_ne!(trace.trace_id, 0);
        }
    }

    #[test]
    fn two_parents_are_none() {
        let trace = TraceContext::from_headers(&headers(&[
            ("traceparent", PARENT),
            ("traceparent", PARENT),
        ]));
        // `FromIterator` of pairs appends, so both are there.
        assert_eq!(trace.parent_id, None);
    }

    #[test]
    fn a_later_version_is_read_as_far_as_we_know_it() {
        let later = format!("cc{}-what-comes", &PARENT[2..]);
        let trace = TraceContext::from_headers(&headers(&[("traceparent", &later)]));
        assert_eq!(trace.parent_id, Some(0x00f0_67aa_0ba9_02b7));
    }

    #[test]
    fn a_state_that_is_too_long_is_dropped() {
        for (length, kept) in [(512, true), (513, false)] {
            let state = "a".repeat(length);
            let trace = TraceContext::from_headers(&headers(&[
                ("traceparent", PARENT),
                ("tracestate", &state),
            ]));
            assert_eq!(trace.tracestate.is_some(), kept, "{length}");
        }
    }
}
