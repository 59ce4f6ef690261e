//! What one connection is doing, and since when its peer keeps it waiting.
//!
//! The peer keeps it waiting while a handshake, a request's head or body, or an HTTP/2 frame has
//! begun and not ended, and while an answer is not read. The port keeps the peer waiting while a
//! request that arrived whole is being answered. A connection on which neither waits is idle. By
//! these three the table of a port's connections decides which one is evicted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::eviction_candidate::{
    ConnectionState, ConnectionTimeout, EvictionCandidate, EvictionRank, EvictionSignal,
};
use super::frames::FrameHead;
use super::port::PortLimits;
use super::request_bytes::{ReadPace, RequestBytes, STREAM_BYTES};

/// An honest peer on the same machine sends or reads within a millisecond; a connection that takes
/// longer than this is the first to be evicted. Before that, no connection ends for an unread
/// answer.
pub(super) const OVERDUE: Duration = Duration::from_millis(500);

/// The state of one connection.
#[derive(Debug)]
pub(super) struct Progress {
    /// Short and private: its connection's tasks write it, the port's table reads it.
    state: Mutex<ProgressState>,
    /// Notified of an eviction.
    eviction_signalled: Notify,
    /// Bytes that its requests hold, its open HTTP/2 streams among them.
    held_bytes: AtomicUsize,
    /// How many HTTP/2 streams are open.
    open_streams: AtomicUsize,
    /// The bytes that all requests of its port hold, with those of this connection.
    port: Arc<RequestBytes>,
    /// Bytes that were read since the connection's task last gave others their turn.
    turn_bytes: AtomicUsize,
}

#[derive(Debug)]
struct ProgressState {
    handshake_since: Option<Instant>,
    /// Since when the head of a request, or an HTTP/2 frame or header block, arrives.
    head_since: Option<Instant>,
    /// Since when each body arrives of those that do, the oldest first.
    bodies: VecDeque<Instant>,
    /// Requests that are not answered yet, with those whose body is arriving.
    unanswered: usize,
    /// Those of them whose callers chose to wait.
    waiting_requests: usize,
    /// Answers without an end.
    endless_answers: usize,
    /// Since when the peer has not taken all that we wrote.
    unwritten_since: Option<Instant>,
    /// HTTP/2 streams that are open, and since when an answer on each has begun and not ended.
    streams: BTreeMap<u32, Option<Instant>>,
    /// The last stream that the peer has opened. Each has a greater number than the one before (RFC
    /// 9113 section 5.1.1).
    last_opened: u32,
    /// When something last ended.
    quiet_since: Instant,
    eviction: EvictionSignal,
    /// When it was evicted.
    leaving_since: Option<Instant>,
}

impl Progress {
    /// A connection that was just taken.
    pub(super) fn new(handshakes: bool, port: Arc<RequestBytes>) -> Self {
        let now = Instant::now();
        let state = ProgressState {
            handshake_since: handshakes.then_some(now),
            head_since: None,
            bodies: VecDeque::new(),
            unanswered: 0,
            waiting_requests: 0,
            endless_answers: 0,
            unwritten_since: None,
            streams: BTreeMap::new(),
            last_opened: 0,
            quiet_since: now,
            eviction: EvictionSignal::Stay,
            leaving_since: None,
        };
        Self {
            state: Mutex::new(state),
            eviction_signalled: Notify::new(),
            held_bytes: AtomicUsize::new(0),
            open_streams: AtomicUsize::new(0),
            port,
            turn_bytes: AtomicUsize::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, ProgressState> {
        self.state.lock()
    }

    /// The TLS handshake is over.
    pub(super) fn end_handshake(&self) {
        let mut state = self.lock();
        state.handshake_since = None;
        state.quiet_since = Instant::now();
    }

    /// Bytes of HTTP/1.1 came: between requests they begin the next one.
    pub(super) fn receive_http1(&self) {
        let mut state = self.lock();
        if state.unanswered == 0 {
            state.head_since.get_or_insert_with(Instant::now);
        }
    }

    /// Records that bytes of HTTP/2 arrived. `within`: they end inside a frame. `completed`:
    /// another frame ended before that.
    pub(super) fn receive_http2(&self, within: bool, completed: bool) {
        let mut state = self.lock();
        if !within {
            state.head_since = None;
        } else if completed || state.head_since.is_none() {
            state.head_since = Some(Instant::now());
        }
    }

    /// The peer began a frame: one that opens a stream, perhaps, or gives one up.
    pub(super) fn receive_frame(&self, head: FrameHead) {
        let mut state = self.lock();
        if head.resets_stream() {
            self.close_stream(&mut state, head.stream);
        } else if head.is_headers() && head.stream > state.last_opened {
            state.last_opened = head.stream;
            // A further one is reset at once, or not looked at where the connection is to end.
            if state.streams.len() >= self.port.streams_max {
                return;
            }
            state.streams.insert(head.stream, None);
            self.open_streams.fetch_add(1, Ordering::SeqCst);
            self.port.stream_bytes.fetch_add(STREAM_BYTES, Ordering::SeqCst);
            self.add_held_bytes(STREAM_BYTES);
        }
    }

    fn close_stream(&self, state: &mut ProgressState, stream: u32) {
        if state.streams.remove(&stream).is_some() {
            self.count_closed(1);
        }
    }

    fn count_closed(&self, streams: usize) {
        self.open_streams.fetch_sub(streams, Ordering::SeqCst);
        self.port.stream_bytes.fetch_sub(streams * STREAM_BYTES, Ordering::SeqCst);
        self.release_bytes(streams * STREAM_BYTES);
    }

    /// A frame is sent.
    pub(super) fn send_frame(&self, head: FrameHead) {
        let mut state = self.lock();
        if head.ends_stream() {
            self.close_stream(&mut state, head.stream);
        } else if head.is_headers()
            && let Some(since) = state.streams.get_mut(&head.stream)
        {
            since.get_or_insert_with(Instant::now);
        }
    }

    /// The connection is gone, and its streams with it.
    pub(super) fn close(&self) {
        let closed = std::mem::take(&mut self.lock().streams).len();
        self.count_closed(closed);
    }

    /// Whether the system took all that we had to write.
    pub(super) fn set_written(&self, all: bool) {
        let mut state = self.lock();
        if all {
            state.unwritten_since = None;
        } else {
            state.unwritten_since.get_or_insert_with(Instant::now);
        }
    }

    /// A request's head has arrived.
    pub(super) fn begin_request(&self, http2: bool) {
        let mut state = self.lock();
        state.unanswered += 1;
        if !http2 {
            state.head_since = None;
        }
    }

    /// A request is answered (its answer's body may still be sent), or given up.
    pub(super) fn end_request(&self, was_waiting: bool) {
        let mut state = self.lock();
        state.unanswered -= 1;
        state.waiting_requests -= usize::from(was_waiting);
        state.quiet_since = Instant::now();
    }

    /// A request asks to be kept waiting.
    pub(super) fn begin_wait(&self) {
        self.lock().waiting_requests += 1;
    }

    /// A request's body begins to arrive. Until the handler reads it, the peer is not late.
    pub(super) fn begin_body(&self) -> Instant {
        let mut state = self.lock();
        let since = Instant::now();
        state.bodies.push_back(since);
        since
    }

    /// The body that began then has arrived, or the handler has dropped it.
    pub(super) fn end_body(&self, since: Instant) {
        let mut state = self.lock();
        if let Ok(at) = state.bodies.binary_search(&since) {
            state.bodies.remove(at);
        }
    }

    /// An answer without an end begins.
    pub(super) fn begin_endless(&self) {
        self.lock().endless_answers += 1;
    }

    /// An answer without an end is over.
    pub(super) fn end_endless(&self) {
        let mut state = self.lock();
        state.endless_answers -= 1;
        state.quiet_since = Instant::now();
    }

    /// Whether an answer without an end is under way.
    pub(super) fn has_endless(&self) -> bool {
        self.lock().endless_answers > 0
    }

    /// Whether this connection is evicted.
    pub(super) fn is_leaving(&self) -> bool {
        self.lock().eviction != EvictionSignal::Stay
    }

    /// Whether it was evicted longer ago than `limit`, and no request is under way on it.
    pub(super) fn is_overdue_to_leave(&self, now: Instant, limit: Duration) -> bool {
        self.leaving_since().is_some_and(|since| now.duration_since(since) > limit)
            && self.eviction_candidate(now).is_some()
    }

    /// When it was evicted.
    pub(super) fn leaving_since(&self) -> Option<Instant> {
        self.lock().leaving_since
    }

    /// Signals the connection to end. A signal is not taken back.
    pub(super) fn signal_eviction(&self, signal: EvictionSignal) {
        let mut state = self.lock();
        if state.eviction != EvictionSignal::CloseNow {
            state.eviction = signal;
            state.leaving_since.get_or_insert_with(Instant::now);
            self.eviction_signalled.notify_one();
        }
    }

    /// Waits for an eviction signal.
    pub(super) async fn wait_for_eviction(&self) -> EvictionSignal {
        self.eviction_signalled.notified().await;
        self.lock().eviction
    }

    /// Whether, and how urgently, this connection can end for another one. One that was told to
    /// close at once cannot.
    pub(super) fn eviction_candidate(&self, now: Instant) -> Option<EvictionCandidate> {
        let state = self.lock();
        if state.eviction == EvictionSignal::CloseNow {
            return None;
        }
        if state.unanswered > state.bodies.len() + state.waiting_requests {
            return None;
        }
        let waiting = |doing, since| {
            Some(EvictionCandidate { rank: EvictionRank::Waiting, since, state: doing })
        };
        match state.oldest_unfinished() {
            Some((doing, since)) if now.duration_since(since) >= OVERDUE => {
                Some(EvictionCandidate { rank: EvictionRank::Overdue, since, state: doing })
            }
            // It has hardly had the time to read.
            Some((ConnectionState::Answer, _)) => None,
            Some((doing, since)) => waiting(doing, since),
            None if state.endless_answers + state.waiting_requests > 0 => Some(EvictionCandidate {
                rank: EvictionRank::Stream,
                since: state.quiet_since,
                state: ConnectionState::Stream,
            }),
            None => waiting(ConnectionState::Idle, state.quiet_since),
        }
    }

    /// Since when the peer has left a frame unfinished or an answer unread, where that is
    /// [`OVERDUE`], whatever else is under way.
    pub(super) fn overdue_since(&self, now: Instant) -> Option<Instant> {
        let state = self.lock();
        let (_, since) =
            state.oldest_unfinished().filter(|_| state.eviction != EvictionSignal::CloseNow)?;
        (now.duration_since(since) >= OVERDUE).then_some(since)
    }

    /// Adds `bytes` to those that its requests hold.
    pub(super) fn add_held_bytes(&self, bytes: usize) {
        self.held_bytes.fetch_add(bytes, Ordering::SeqCst);
        self.port.held_bytes.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Takes `bytes` off those that its requests hold.
    pub(super) fn release_bytes(&self, bytes: usize) {
        self.held_bytes.fetch_sub(bytes, Ordering::SeqCst);
        self.port.held_bytes.fetch_sub(bytes, Ordering::SeqCst);
    }

    /// The bytes that its requests hold.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::SeqCst)
    }

    /// The connection's task begins a turn.
    pub(super) fn begin_turn(&self) {
        self.turn_bytes.store(0, Ordering::Relaxed);
    }

    /// So many bytes were read in this turn.
    pub(super) fn count_turn_bytes(&self, bytes: usize) {
        self.turn_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that were read in this turn.
    pub(super) fn turn_bytes(&self) -> usize {
        self.turn_bytes.load(Ordering::Relaxed)
    }

    /// How the next bytes of HTTP/2 are to be read, so that the streams which they open fit.
    pub(super) fn read_pace(&self) -> ReadPace {
        if self.port.streams_excess() == 0 {
            ReadPace::Full
        } else if self.open_streams.load(Ordering::SeqCst) * STREAM_BYTES
            > self.port.connection_share
        {
            ReadPace::Slow
        } else {
            ReadPace::Small
        }
    }

    /// The bytes that its requests hold, where the body of one of them is arriving.
    pub(super) fn held_bytes_if_arriving(&self) -> Option<usize> {
        let state = self.lock();
        (!state.bodies.is_empty() && state.eviction != EvictionSignal::CloseNow)
            .then(|| self.held_bytes())
    }

    /// The bound in time that has passed.
    pub(super) fn exceeded_timeout(
        &self,
        now: Instant,
        limits: &PortLimits,
    ) -> Option<ConnectionTimeout> {
        let state = self.lock();
        let passed = |since: Option<Instant>, limit| {
            since.is_some_and(|since| now.duration_since(since) > limit)
        };
        if state.eviction == EvictionSignal::CloseNow {
            None
        } else if passed(state.handshake_since, limits.head) {
            Some(ConnectionTimeout::Handshake)
        } else if passed(state.head_since, limits.head) {
            Some(ConnectionTimeout::Request)
        } else if passed(state.unread_since(), limits.answer) {
            Some(ConnectionTimeout::Answer)
        } else {
            None
        }
    }
}

impl ProgressState {
    /// The oldest thing that the peer owes us, and since when.
    fn oldest_unfinished(&self) -> Option<(ConnectionState, Instant)> {
        let arriving = [self.head_since, self.bodies.front().copied()].into_iter().flatten().min();
        let owed = [
            (ConnectionState::Handshake, self.handshake_since),
            (ConnectionState::Request, arriving),
            (ConnectionState::Answer, self.unread_since()),
        ];
        let owed = owed.into_iter().filter_map(|(doing, since)| Some((doing, since?)));
        owed.min_by_key(|(_, since)| *since)
    }

    /// Since when an answer is not read. One without an end is read as long as the system takes it.
    fn unread_since(&self) -> Option<Instant> {
        let unread =
            self.streams.values().flatten().min().filter(|_| self.endless_answers == 0).copied();
        [self.unwritten_since, unread].into_iter().flatten().min()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]
mod tests {
    use super::super::frames::FrameReader;
    use super::*;

    const A_WHILE: Duration = Duration::from_millis(10);

    fn a_connection(handshakes: bool) -> Progress {
        Progress::new(handshakes, Arc::new(RequestBytes::new(&PortLimits::default())))
    }

    fn rank(progress: &Progress, after: Duration) -> Option<(EvictionRank, ConnectionState)> {
        progress
            .eviction_candidate(Instant::now() + after)
            .map(|candidate| (candidate.rank, candidate.state))
    }

    #[test]
    fn a_request_that_arrived_whole_ends_for_nobody() {
        let progress = a_connection(false);
        assert_eq!(rank(&progress, A_WHILE), Some((EvictionRank::Waiting, ConnectionState::Idle)));
        progress.receive_http1();
        assert_eq!(
            rank(&progress, A_WHILE),
            Some((EvictionRank::Waiting, ConnectionState::Request))
        );
        assert_eq!(
            rank(&progress, OVERDUE * 2),
            Some((EvictionRank::Overdue, ConnectionState::Request))
        );
        progress.begin_request(false);
        assert_eq!(rank(&progress, OVERDUE * 100), None);
        progress.end_request(false);
        assert_eq!(
            rank(&progress, OVERDUE * 100),
            Some((EvictionRank::Waiting, ConnectionState::Idle))
        );
    }

    #[test]
    fn a_body_that_arrives_is_an_unfinished_request_until_it_has_arrived() {
        let progress = a_connection(false);
        progress.begin_request(false);
        let body = progress.begin_body();
        assert_eq!(
            rank(&progress, OVERDUE * 2),
            Some((EvictionRank::Overdue, ConnectionState::Request))
        );
        progress.end_body(body);
        assert_eq!(rank(&progress, OVERDUE * 2), None);
    }

    #[tokio::test(start_paused = true)]
    async fn of_bodies_one_after_the_other_none_is_overdue() {
        let progress = a_connection(false);
        let mut last = progress.begin_body();
        for _ in 0..10 {
            tokio::time::advance(OVERDUE / 2).await;
            let next = progress.begin_body();
            progress.end_body(last);
            last = next;
            assert_eq!(progress.overdue_since(Instant::now()), None);
        }
    }

    #[test]
    fn heads_that_open_no_stream_weigh_nothing() {
        let progress = a_connection(false);
        let mut received = FrameReader::default();
        // After a GOAWAY they are not answered, not even with a reset.
        for stream in 0..=255 {
            received.read(&[0, 0, 0, 1, 5, 0, 0, stream, 1], |head| progress.receive_frame(head));
        }
        assert_eq!(
            progress.held_bytes(),
            PortLimits::default().streams_max as usize * STREAM_BYTES
        );
        progress.close();
        assert_eq!(progress.held_bytes(), 0);
    }

    #[test]
    fn beside_another_request_an_unfinished_one_ends_for_nobody_but_in_time() {
        let progress = a_connection(false);
        progress.begin_request(true);
        progress.receive_http2(true, true);
        assert_eq!(rank(&progress, OVERDUE * 2), None);
        let limits = PortLimits::default();
        let later =
            |times| progress.exceeded_timeout(Instant::now() + limits.head * times / 2, &limits);
        assert_eq!((later(1), later(3)), (None, Some(ConnectionTimeout::Request)));
        // A frame that ends and begins anew has the whole time again; one that ends is over.
        progress.receive_http2(true, true);
        progress.receive_http2(false, true);
        assert_eq!(later(3), None);
    }

    #[test]
    fn an_answer_that_is_not_read_ends_once_its_reader_had_time() {
        for unread in [
            |progress: &Progress| progress.set_written(false),
            |progress: &Progress| {
                let headers = [0, 0, 0, 1, 4, 0, 0, 0, 1];
                FrameReader::default().read(&headers, |head| progress.receive_frame(head));
                FrameReader::default().read(&headers, |head| progress.send_frame(head));
            },
        ] {
            let progress = a_connection(false);
            unread(&progress);
            assert_eq!(rank(&progress, A_WHILE), None);
            assert_eq!(
                rank(&progress, OVERDUE * 2),
                Some((EvictionRank::Overdue, ConnectionState::Answer))
            );
            let limits = PortLimits::default();
            assert_eq!(
                progress.exceeded_timeout(Instant::now() + limits.answer * 2, &limits),
                Some(ConnectionTimeout::Answer)
            );
        }
    }

    #[test]
    fn who_asked_to_be_kept_waiting_ends_last() {
        let stream = a_connection(false);
        let wait = a_connection(false);
        stream.begin_endless();
        wait.begin_request(false);
        wait.begin_wait();
        for progress in [&stream, &wait] {
            assert_eq!(
                rank(progress, OVERDUE * 2),
                Some((EvictionRank::Stream, ConnectionState::Stream))
            );
        }
        wait.end_request(true);
        stream.end_endless();
        for progress in [&stream, &wait] {
            assert_eq!(
                rank(progress, OVERDUE * 2),
                Some((EvictionRank::Waiting, ConnectionState::Idle))
            );
        }
    }

    #[test]
    fn an_order_to_end_is_not_taken_back() {
        let progress = a_connection(true);
        progress.signal_eviction(EvictionSignal::CloseNow);
        progress.signal_eviction(EvictionSignal::CloseWhenIdle);
        assert_eq!((rank(&progress, OVERDUE), progress.is_leaving()), (None, true));
        assert_eq!(progress.lock().eviction, EvictionSignal::CloseNow);
    }
}
