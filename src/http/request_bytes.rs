//! The bytes that the requests of a port hold, and the pace at which more of them are read.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::port::PortLimits;

/// Bytes that an open HTTP/2 stream takes in hyper and h2, beside the bytes of its request's head:
/// measured with short answers that are not read, and with the largest such answer
/// (`cache/entry.rs`).
pub(super) const STREAM_BYTES: usize = 4 * 1024;

/// The bytes that the requests of a port hold: heads, bodies, open HTTP/2 streams.
#[derive(Debug)]
pub(super) struct RequestBytes {
    pub(super) held_bytes: AtomicUsize,
    /// The part of it that open HTTP/2 streams take.
    pub(super) stream_bytes: AtomicUsize,
    max: usize,
    /// The bytes that each connection may hold, whatever the others do.
    pub(super) connection_share: usize,
    /// Streams of one connection that may be open; hyper resets a further one at once.
    pub(super) streams_max: usize,
}

impl RequestBytes {
    pub(super) fn new(limits: &PortLimits) -> Self {
        let max = limits.request_bytes_max;
        let share = limits.request_bytes_max / limits.connections_max;
        let streams_max = usize::try_from(limits.streams_max).unwrap_or(usize::MAX);
        Self {
            held_bytes: AtomicUsize::new(0),
            stream_bytes: AtomicUsize::new(0),
            max,
            connection_share: share,
            streams_max,
        }
    }

    /// By how much all requests together hold too much.
    pub(super) fn excess(&self) -> usize {
        self.held_bytes.load(Ordering::SeqCst).saturating_sub(self.max)
    }

    /// By how much open streams take more than three quarters of that: then reads are slowed down.
    pub(super) fn streams_excess(&self) -> usize {
        self.stream_bytes.load(Ordering::SeqCst).saturating_sub(self.max / 4 * 3)
    }

    /// The bytes that connections with an overdue peer should give back.
    pub(super) fn bytes_to_free(&self) -> usize {
        self.excess().max(self.streams_excess())
    }
}

/// How a connection's next bytes are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadPace {
    /// As they come.
    Full,
    /// A few at a time: they open few streams.
    Small,
    /// A few at a time, with a pause before.
    Slow,
}
