//! The connections of a port: how many there are, and which one ends where another needs its place.
//!
//! An eighth of a port's places is reserved for new connections: once the others are taken, each
//! new connection makes an old one end. First the one whose unfinished request, handshake or unread
//! answer is overdue; then the one that has waited longest for its peer, or for its next request;
//! last a stream that the peer keeps open. A connection whose request arrived whole and is being
//! answered is never evicted. A new connection is the last in this order, and has sent its request
//! before its turn comes.
//!
//! An idle connection is asked to leave, not cut off, so that a request which is on its way to it
//! is still answered.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::eviction_candidate::{
    ConnectionState, ConnectionTimeout, EvictionCandidate, EvictionSignal,
};
use super::millis;
use super::port::PortLimits;
use super::port_metrics::PortMetrics;
use super::progress::Progress;
use super::request_bytes::RequestBytes;

/// One place in so many is reserved for new connections.
const RESERVED_FRACTION: usize = 8;
/// How long an evicted connection may take to close, where no request is under way on it.
const LEAVING_MAX: Duration = Duration::from_secs(1);
/// How long it has at least, however many wait for a place: for a request that is on its way to it.
const LEAVING_MIN: Duration = Duration::from_millis(10);
/// How often to look again where every place has a request that is being answered.
const EVICTION_RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// How often to look for connections that have passed a bound in time.
pub(super) const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// How many candidates one look at all connections finds.
const CANDIDATES_MAX: usize = 32;

/// The connections of a port. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct ConnectionTable(Arc<ConnectionTableInner>);

#[derive(Debug)]
struct ConnectionTableInner {
    limits: PortLimits,
    metrics: PortMetrics,
    /// Short and private: taken as a connection comes and goes, and to look for one that can end.
    connections: Mutex<OpenConnections>,
    /// Notified when a connection has ended.
    ended: Notify,
    /// The bytes that the port's requests hold.
    request_bytes: Arc<RequestBytes>,
}

#[derive(Debug, Default)]
struct OpenConnections {
    all: HashMap<u64, Arc<Progress>>,
    next: u64,
    /// How many of them are evicted but still open.
    leaving: usize,
    /// The connections that are evicted next, the first one last. The wait of a connection only
    /// ever becomes shorter, so as long as one of these is unchanged, no other comes before it.
    candidates: Vec<(u64, EvictionCandidate)>,
    /// Until when it is not worth while to look again for one that holds too much.
    search_again_at: Option<Instant>,
}

impl OpenConnections {
    /// Evicts the best candidate, and returns what it was doing.
    fn evict(&mut self, now: Instant) -> Option<ConnectionState> {
        for must_rank in [false, true] {
            if must_rank {
                self.rank_candidates(now);
            }
            while let Some((number, before)) = self.candidates.pop() {
                let Some(connection) =
                    self.all.get(&number).filter(|connection| !connection.is_leaving())
                else {
                    continue;
                };
                if connection
                    .eviction_candidate(now)
                    .is_some_and(|candidate| candidate.is_still(before))
                {
                    connection.signal_eviction(if before.state == ConnectionState::Idle {
                        EvictionSignal::CloseWhenIdle
                    } else {
                        EvictionSignal::CloseNow
                    });
                    self.leaving += 1;
                    return Some(before.state);
                }
            }
        }
        None
    }

    /// Looks at all connections for those that end next.
    fn rank_candidates(&mut self, now: Instant) {
        let staying = self.all.iter().filter(|(_, connection)| !connection.is_leaving());
        self.candidates = staying
            .filter_map(|(number, progress)| Some((*number, progress.eviction_candidate(now)?)))
            .collect();
        let key = |(_, candidate): &(u64, EvictionCandidate)| (candidate.rank, candidate.since);
        if self.candidates.len() > CANDIDATES_MAX {
            self.candidates.select_nth_unstable_by_key(CANDIDATES_MAX, key);
            self.candidates.truncate(CANDIDATES_MAX);
        }
        self.candidates.sort_unstable_by_key(|candidate| std::cmp::Reverse(key(candidate)));
    }

    /// Ends a connection at once.
    fn end(&mut self, number: u64) {
        if let Some(connection) = self.all.get(&number) {
            self.leaving += usize::from(!connection.is_leaving());
            connection.signal_eviction(EvictionSignal::CloseNow);
        }
    }

    /// Ends as many overdue connections as hold `excess` bytes, the longest overdue first.
    fn end_overdue(&mut self, now: Instant, excess: usize) -> Vec<u64> {
        let held = self.all.iter().filter(|(_, connection)| connection.held_bytes() > 0);
        let overdue = held
            .filter_map(|(number, it)| Some((it.overdue_since(now)?, *number, it.held_bytes())));
        let mut overdue: Vec<_> = overdue.collect();
        overdue.sort_unstable();
        let mut covered = 0;
        let enough = |(_, _, held): &(Instant, u64, usize)| {
            let goes_on = covered < excess;
            covered += held;
            goes_on
        };
        let ended: Vec<_> =
            overdue.into_iter().take_while(enough).map(|(_, number, _)| number).collect();
        for number in &ended {
            self.end(*number);
        }
        ended
    }

    /// Ends the one that holds most of those on which a request's body arrives, if that is more
    /// than `bytes`.
    fn end_largest(&mut self, bytes: usize) -> Option<u64> {
        let arriving = self
            .all
            .iter()
            .filter_map(|(number, it)| Some((it.held_bytes_if_arriving()?, *number)));
        let (_, number) = arriving.max().filter(|(held, _)| *held > bytes)?;
        self.end(number);
        Some(number)
    }
}

impl ConnectionTable {
    pub(super) fn new(limits: PortLimits, metrics: PortMetrics) -> Self {
        let request_bytes = Arc::new(RequestBytes::new(&limits));
        let connections = Mutex::default();
        let ended = Notify::new();
        Self(Arc::new(ConnectionTableInner { limits, metrics, connections, ended, request_bytes }))
    }

    fn lock(&self) -> MutexGuard<'_, OpenConnections> {
        self.0.connections.lock()
    }

    pub(super) fn limits(&self) -> &PortLimits {
        &self.0.limits
    }

    pub(super) fn metrics(&self) -> &PortMetrics {
        &self.0.metrics
    }

    /// A place for a connection that has come. Where all but the kept ones are taken, another
    /// connection ends for it; where all are taken and each is answering a request, it waits.
    pub(super) async fn acquire_slot(&self, handshakes: bool) -> ConnectionSlot {
        let max = self.0.limits.connections_max;
        let reserve = (max / RESERVED_FRACTION).max(1);
        if self.count_staying() + reserve >= max {
            self.0.metrics.connections_full.inc();
            self.evict();
            // The new connection gets its turn before the next one is accepted.
            tokio::task::yield_now().await;
        }
        loop {
            let ended = self.0.ended.notified();
            if self.lock().all.len() < max {
                break;
            }
            if !self.end_longest_leaving() {
                self.evict();
            }
            let _ = tokio::time::timeout(EVICTION_RETRY_INTERVAL, ended).await;
            self.end_expired();
        }
        let progress = Arc::new(Progress::new(handshakes, self.0.request_bytes.clone()));
        let mut connections = self.lock();
        let number = connections.next;
        connections.next += 1;
        connections.all.insert(number, progress.clone());
        self.0.metrics.connections.inc();
        ConnectionSlot { table: self.clone(), number, progress }
    }

    /// Connections that are not evicted.
    fn count_staying(&self) -> usize {
        let connections = self.lock();
        connections.all.len() - connections.leaving
    }

    /// Waits until a connection has ended, but not longer than this.
    pub(super) async fn wait_for_end(&self, limit: Duration) {
        let _ = tokio::time::timeout(limit, self.0.ended.notified()).await;
    }

    /// Evicts the best candidate, if there is one.
    pub(super) fn evict(&self) {
        let evicted = self.lock().evict(Instant::now());
        if let Some(doing) = evicted {
            self.0.metrics.count_evicted(doing);
        }
    }

    /// Ends the connection that has been leaving longest and has nothing under way.
    fn end_longest_leaving(&self) -> bool {
        let now = Instant::now();
        let connections = self.lock();
        let leaving = connections.all.values().filter(|connection| connection.is_leaving());
        let has_had_time = |connection: &&Arc<Progress>| {
            connection.leaving_since().is_some_and(|since| now.duration_since(since) >= LEAVING_MIN)
        };
        let idle = leaving
            .filter(has_had_time)
            .filter(|connection| connection.eviction_candidate(now).is_some());
        let longest = idle.min_by_key(|connection| connection.leaving_since());
        longest.map(|connection| connection.signal_eviction(EvictionSignal::CloseNow)).is_some()
    }

    /// Ends the connections that have passed a bound in time.
    pub(super) fn end_expired(&self) {
        let now = Instant::now();
        let mut handshakes = 0;
        let mut requests = 0;
        let mut answers = 0;
        let mut connections = self.lock();
        let mut ending = Vec::new();
        for (number, connection) in &connections.all {
            match connection.exceeded_timeout(now, &self.0.limits) {
                Some(ConnectionTimeout::Handshake) => handshakes += 1,
                Some(ConnectionTimeout::Request) => requests += 1,
                Some(ConnectionTimeout::Answer) => answers += 1,
                None if connection.is_overdue_to_leave(now, LEAVING_MAX) => {}
                None => continue,
            }
            ending.push(*number);
        }
        for number in ending {
            connections.end(number);
        }
        let excess = self.0.request_bytes.bytes_to_free();
        let ended = if excess > 0 { connections.end_overdue(now, excess).len() } else { 0 };
        drop(connections);
        self.0.metrics.requests_ended.inc_by(ended as u64);
        self.0.metrics.handshakes_failed.inc_by(handshakes);
        self.0.metrics.slow_requests.inc_by(requests);
        self.0.metrics.slow_readers.inc_by(answers);
        if requests > 0 {
            let limit_ms = millis(self.0.limits.head);
            tracing::warn!(
                connections = requests,
                limit_ms,
                "closed connections whose request took too long to arrive"
            );
        }
        if answers > 0 {
            let limit_ms = millis(self.0.limits.answer);
            tracing::warn!(
                connections = answers,
                limit_ms,
                "closed connections whose answer was not read"
            );
        }
    }

    /// Reserves `bytes` for a request of this connection; `false`: the request has to be refused.
    ///
    /// Each connection has a share of the port's bytes that is its own, whatever the others do.
    /// Beyond that, where all requests together hold too much, or open streams most of it, those
    /// connections end that have left an answer unread or a request unfinished for too long;
    /// failing that, where the port's bytes are exhausted, one whose body is arriving and that
    /// holds more than this one.
    pub(super) fn reserve(&self, own: &Progress, bytes: usize) -> bool {
        own.add_held_bytes(bytes);
        let port = &self.0.request_bytes;
        let excess = port.bytes_to_free();
        if excess == 0 || own.held_bytes() <= port.connection_share {
            return true;
        }
        let is_full = port.excess() > 0;
        let now = Instant::now();
        let mut connections = self.lock();
        let may_search = connections.search_again_at.is_none_or(|after| now >= after);
        let mut ended = if may_search { connections.end_overdue(now, excess) } else { Vec::new() };
        if may_search && is_full && ended.is_empty() {
            ended.extend(connections.end_largest(own.held_bytes()));
        }
        if may_search && ended.is_empty() {
            // Each search looks at all connections, and a refused peer may ask again at once.
            connections.search_again_at = Some(now + EVICTION_RETRY_INTERVAL);
        }
        let is_own = |number: &u64| {
            connections.all.get(number).is_some_and(|it| std::ptr::eq(Arc::as_ptr(it), own))
        };
        let is_ended_itself = ended.iter().any(is_own);
        drop(connections);
        let is_refused = is_full && ended.is_empty();
        self.0.metrics.requests_ended.inc_by(ended.len() as u64);
        self.0.metrics.requests_refused.inc_by(u64::from(is_refused));
        !is_refused && !is_ended_itself
    }
}

/// A connection's place, given up when it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    pub(super) table: ConnectionTable,
    number: u64,
    pub(super) progress: Arc<Progress>,
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut connections = self.table.lock();
        connections.all.remove(&self.number);
        connections.leaving -= usize::from(self.progress.is_leaving());
        drop(connections);
        self.table.metrics().connections.dec();
        self.table.0.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::super::frames::FrameReader;
    use super::super::request_bytes::{ReadPace, STREAM_BYTES};
    use super::*;

    fn table(connections_max: usize) -> ConnectionTable {
        ConnectionTable::new(
            PortLimits { connections_max, ..PortLimits::default() },
            PortMetrics::default(),
        )
    }

    fn orders(places: &[ConnectionSlot]) -> Vec<bool> {
        places.iter().map(|place| place.progress.is_leaving()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_been_idle_longest_leaves_for_whoever_comes() {
        let table = table(16);
        let mut places = Vec::new();
        for _ in 0..14 {
            places.push(table.acquire_slot(false).await);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(orders(&places).iter().all(|leaving| !leaving));
        // The first sent a request in between: it is no longer the one that has waited longest.
        places[0].progress.begin_request(false);
        places[0].progress.end_request(false);
        places.push(table.acquire_slot(false).await);
        assert_eq!(orders(&places).iter().position(|leaving| *leaving), Some(1));
        assert_eq!(table.metrics().connections_full.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_waits_where_every_place_is_answering() {
        let table = table(8);
        let mut places = Vec::new();
        for _ in 0..8 {
            let place = table.acquire_slot(false).await;
            place.progress.begin_request(false);
            places.push(place);
        }
        assert!(orders(&places).iter().all(|leaving| !leaving));
        let waiting = table.clone();
        let waiter = tokio::spawn(async move { waiting.acquire_slot(false).await });
        tokio::time::sleep(EVICTION_RETRY_INTERVAL * 10).await;
        assert!(!waiter.is_finished() && orders(&places).iter().all(|leaving| !leaving));
        // Now one waits for its next request.
        places[3].progress.end_request(false);
        tokio::time::sleep(EVICTION_RETRY_INTERVAL * 10).await;
        assert_eq!(orders(&places).iter().position(|leaving| *leaving), Some(3));
        places.remove(3);
        assert!(waiter.await.is_ok());
    }

    /// The heads of answers go out on so many streams, and no end of one.
    fn answer_without_end(place: &ConnectionSlot, streams: std::ops::Range<u8>) {
        let mut received = FrameReader::default();
        let mut sent = FrameReader::default();
        for stream in streams {
            let headers = [0, 0, 0, 1, 4, 0, 0, 0, 2 * stream + 1];
            received.read(&headers, |head| place.progress.receive_frame(head));
            sent.read(&headers, |head| place.progress.send_frame(head));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_read_no_answer_end_once_all_that_is_not_read_is_too_much() {
        let limits = PortLimits {
            request_bytes_max: 32 * STREAM_BYTES,
            connections_max: 16,
            ..PortLimits::default()
        };
        let table = ConnectionTable::new(limits, PortMetrics::default());
        let places = [
            table.acquire_slot(false).await,
            table.acquire_slot(false).await,
            table.acquire_slot(false).await,
        ];
        let leaving = || places.each_ref().map(|place| place.progress.is_leaving());
        answer_without_end(&places[0], 0..26);
        answer_without_end(&places[1], 0..4);
        assert!(table.reserve(&places[0].progress, 1));
        answer_without_end(&places[2], 0..12);
        // They had no time to read; requests above a connection's share are refused meanwhile, and
        // no connection ends for them.
        assert!(!table.reserve(&places[2].progress, 1));
        assert_eq!(leaving(), [false; 3]);
        tokio::time::advance(super::super::progress::OVERDUE * 2).await;
        assert!(table.reserve(&places[2].progress, 1));
        assert_eq!(leaving(), [true, false, false], "as many as hold the excess");
        for place in &places {
            place.progress.close();
        }
        assert_eq!(
            table.0.request_bytes.excess(),
            0,
            "what a connection did not read goes with it"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn where_open_streams_are_many_little_is_read_at_once() {
        let limits = PortLimits {
            request_bytes_max: 32 * STREAM_BYTES,
            connections_max: 16,
            ..PortLimits::default()
        };
        let table = ConnectionTable::new(limits, PortMetrics::default());
        let many = table.acquire_slot(false).await;
        let few = table.acquire_slot(false).await;
        answer_without_end(&many, 0..24);
        assert_eq!(
            (many.progress.read_pace(), few.progress.read_pace()),
            (ReadPace::Full, ReadPace::Full)
        );
        answer_without_end(&few, 0..1);
        assert_eq!(
            (many.progress.read_pace(), few.progress.read_pace()),
            (ReadPace::Slow, ReadPace::Small)
        );
        many.progress.close();
        assert_eq!(
            (many.progress.read_pace(), few.progress.read_pace()),
            (ReadPace::Full, ReadPace::Full)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn where_requests_hold_too_much_an_unread_one_ends_then_a_greater_else_the_new() {
        let limits =
            PortLimits { request_bytes_max: 100, connections_max: 10, ..PortLimits::default() };
        let table = ConnectionTable::new(limits, PortMetrics::default());
        let own = table.acquire_slot(false).await;
        let other = table.acquire_slot(false).await;
        let leaving = || (own.progress.is_leaving(), other.progress.is_leaving());
        other.progress.begin_request(true);
        assert!(table.reserve(&other.progress, 90));
        // The other is being answered, and keeps its bytes; each has its share.
        assert!(table.reserve(&own.progress, 10) && !table.reserve(&own.progress, 20));
        assert_eq!(leaving(), (false, false));
        // Its body still arrives, and it is the greater.
        let _body = other.progress.begin_body();
        assert!(
            !table.reserve(&own.progress, 0),
            "a look at all connections is not worth while so soon"
        );
        tokio::time::advance(EVICTION_RETRY_INTERVAL).await;
        assert!(table.reserve(&own.progress, 20));
        assert_eq!(leaving(), (false, true));
        let third = table.acquire_slot(false).await;
        third.progress.add_held_bytes(1);
        third.progress.set_written(false);
        assert!(!table.reserve(&own.progress, 20), "it had no time to read yet");
        tokio::time::advance(super::super::progress::OVERDUE * 2).await;
        assert!(table.reserve(&own.progress, 20) && third.progress.is_leaving());
        own.progress.release_bytes(90);
        other.progress.release_bytes(90);
        assert!(table.reserve(&own.progress, 90));
        assert_eq!(
            (table.metrics().requests_refused.get(), table.metrics().requests_ended.get()),
            (3, 2)
        );
    }
}
