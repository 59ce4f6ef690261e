//! The memory and the threads of all reviews under way, in two lanes: small reviews and large ones.
//!
//! One lane may hold three quarters of the memory and all threads but one, so that pods of
//! megabytes never hold up pods of kilobytes, nor the other way round. A review that does not fit
//! waits, at most until its API server would stop waiting, and is then refused.

use std::time::Duration;

use http::Uri;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use crate::resources::{
    ComputeMetrics, ComputePool, ComputeQueue, MemoryAccount, MemoryLimit, MemoryMetrics,
    MemoryShare, cgroup_limit,
};

const MIB: u64 = 1 << 20;
/// The most memory of all bodies together.
const BODIES_MAX_BYTES: u64 = 32 * MIB;
/// The most memory of all parsed reviews together.
const PARSED_MAX_BYTES: u64 = 96 * MIB;
/// The largest body in the lane of small reviews: twice Kubernetes' limit for annotations.
const SMALL_BODY_BYTES: u64 = 512 * 1024;
/// The most memory of a parsed review in the lane of small reviews.
const SMALL_PARSED_BYTES: u64 = 16 * MIB;

/// The timeout of a review whose API server sends none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest timeout of an API server (`timeoutSeconds` is at most 30).
const TIMEOUT_MAX: Duration = Duration::from_secs(30);
/// The time by which the last response precedes the API server's timeout.
const ANSWER_MARGIN: Duration = Duration::from_millis(500);

/// The memory and the threads of all reviews.
#[derive(Debug, Clone)]
pub(super) struct ReviewBudget {
    bodies: [MemoryShare; 2],
    parsed: [MemoryShare; 2],
    queues: [ComputeQueue; 2],
}

/// The lane of a review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReviewLane {
    /// Reviews of ordinary pods.
    Small,
    /// Reviews of pods of megabytes.
    Large,
}

impl ReviewBudget {
    /// A budget that fits into the memory limit of the process's cgroup. Its metrics go to
    /// `registry`.
    pub(super) fn new(registry: &mut Registry) -> Self {
        let limit = MemoryLimit::new(None, cgroup_limit()).bytes();
        let bodies = MemoryMetrics::register(registry.sub_registry_with_prefix("bodies"));
        let bodies = MemoryAccount::new(BODIES_MAX_BYTES.min(limit / 8), bodies);
        let parsed = MemoryMetrics::register(registry.sub_registry_with_prefix("reviews"));
        let parsed = MemoryAccount::new(PARSED_MAX_BYTES.min(limit / 8 * 3), parsed);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let pool = ComputePool::new(processors, ComputeMetrics::register(registry));
        Self {
            bodies: [bodies.share(), bodies.share()],
            parsed: [parsed.share(), parsed.share()],
            queues: [pool.queue(), pool.queue()],
        }
    }

    /// The memory of bodies.
    pub(super) fn bodies(&self, lane: ReviewLane) -> &MemoryShare {
        &self.bodies[lane as usize]
    }

    /// The memory of parsed reviews.
    pub(super) fn parsed(&self, lane: ReviewLane) -> &MemoryShare {
        &self.parsed[lane as usize]
    }

    /// The queue for a thread.
    pub(super) fn queue(&self, lane: ReviewLane) -> &ComputeQueue {
        &self.queues[lane as usize]
    }
}

impl ReviewLane {
    /// The lane of a body of so many bytes.
    pub(super) fn of_body(bytes: u64) -> Self {
        if bytes <= SMALL_BODY_BYTES { Self::Small } else { Self::Large }
    }

    /// The lane of a review that takes so many bytes of memory once it is parsed.
    pub(super) fn of_parsed(bytes: u64) -> Self {
        if bytes <= SMALL_PARSED_BYTES { Self::Small } else { Self::Large }
    }
}

/// The deadline of a review that arrives now: [`ANSWER_MARGIN`] before the timeout that the API
/// server sends in the query (`timeout=5s`).
pub(super) fn deadline(uri: &Uri, now: Instant) -> Instant {
    let mut parameters = uri.query().unwrap_or_default().split('&');
    let timeout = parameters.find_map(|parameter| parameter.strip_prefix("timeout="));
    let time =
        timeout.and_then(|text| humantime::parse_duration(text).ok()).unwrap_or(DEFAULT_TIMEOUT);
    now + time.min(TIMEOUT_MAX).saturating_sub(ANSWER_MARGIN)
}

/// The memory of one JSON value beside its text: the value itself, and the spare capacity of the
/// list that holds it.
const VALUE_BYTES: u64 = 96;
/// The memory of one JSON object beside its texts: a node of the B-tree that holds its members,
/// which has the same size for few members as for many.
const OBJECT_BYTES: u64 = 900;
/// The memory of one container's mount of the shared socket: its part of the patch, as a tree and
/// as text.
const MOUNT_BYTES: u64 = 1792;

/// The most memory that the JSON of this text takes once it is parsed, in bytes: up to a hundred
/// times its text (`[{},{},…`).
pub(super) fn parsed_bytes(json: &[u8]) -> u64 {
    let mut objects = 0_u64;
    let mut values = 1_u64;
    let mut in_text = false;
    let mut escaped = false;
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' => objects += 1,
            b',' | b'[' => values += 1,
            _ => {}
        }
    }
    2 * json.len() as u64 + values * VALUE_BYTES + objects * OBJECT_BYTES
}

/// The memory of a patch that mounts the shared socket into so many containers.
pub(super) fn mounts_bytes(containers: usize) -> u64 {
    containers as u64 * MOUNT_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_review_is_answered_before_its_api_server_stops_to_listen() {
        let now = Instant::now();
        let of = |uri: &'static str| deadline(&Uri::from_static(uri), now) - now;
        assert_eq!(of("/mutate?timeout=10s"), Duration::from_millis(9500));
        assert_eq!(of("/mutate?a=b&timeout=2s"), Duration::from_millis(1500));
        assert_eq!(of("/mutate"), Duration::from_millis(4500));
        assert_eq!(of("/mutate?timeout=soon"), Duration::from_millis(4500));
        assert_eq!(of("/mutate?timeout=99999d"), Duration::from_millis(29_500));
    }

    #[test]
    fn what_stands_in_a_text_is_text() {
        let text = br#"{"a": "{[,\"{[,\\", "b": [1, 2]}"#;
        assert_eq!(parsed_bytes(text), 2 * text.len() as u64 + 4 * VALUE_BYTES + OBJECT_BYTES);
    }

    #[test]
    fn one_lane_leaves_the_other_a_quarter_and_a_thread() {
        let budget = ReviewBudget::new(&mut Registry::default());
        let large = budget.parsed(ReviewLane::Large);
        let _all = large.try_reserve(large.limit()).expect("nobody else is here");
        assert!(large.try_reserve(1).is_none());
        assert!(budget.parsed(ReviewLane::Small).try_reserve(SMALL_PARSED_BYTES).is_some());
    }
}
