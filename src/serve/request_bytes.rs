//! What the requests of a port hold, and how fast more of them may come.

use std::sync::atomic::{AtomicUsize, Ordering};

/// What an open HTTP/2 stream takes in hyper and h2, beside the bytes of its request's head: measured of short answers that
/// are not read, and what such an answer may be (`cache::kept`).
pub(super) const STREAM_BYTES: usize = 4 * 1024;

/// What the requests of a port hold: heads, bodies, open HTTP/2 streams.
#[derive(Debug)]
pub(super) struct RequestBytes {
    pub(super) held: AtomicUsize,
    /// The part of it that open HTTP/2 streams take.
    pub(super) in_streams: AtomicUsize,
    max: usize,
    /// What each connection may hold, whatever the others do.
    pub(super) share: usize,
}

impl RequestBytes {
    pub(super) fn new(max: usize, connections_max: usize) -> Self {
        Self { held: AtomicUsize::new(0), in_streams: AtomicUsize::new(0), max, share: max / connections_max }
    }

    /// By how much all requests together hold too much.
    pub(super) fn excess(&self) -> usize {
        self.held.load(Ordering::SeqCst).saturating_sub(self.max)
    }

    /// Whether the open streams take most of what all requests may hold.
    pub(super) fn streams_are_many(&self) -> bool {
        self.in_streams.load(Ordering::SeqCst) > self.max / 4 * 3
    }
}

/// How a connection's next bytes are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// As they come.
    Full,
    /// A few at a time: they open few streams.
    Small,
    /// A few at a time, with a pause before.
    Slow,
}
