//! One account of memory for the whole process.
//!
//! A [`Reservation`] is taken before memory is, and is given back when it is dropped, so that the account knows what is held
//! at each moment. Work draws through a [`MemoryShare`], one a domain, which may hold at most three quarters of the account:
//! one domain's trouble leaves room for the others. What does not fit waits in line until its deadline; who fits is let in
//! first, so that a large reservation never holds up the small ones behind it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// The most reservations that may wait at once; a further one is refused. Each waits for a request, whose number is bounded
/// as well.
const WAITERS_MAX: usize = 4096;

/// One account of memory. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct MemoryAccount(Arc<Ledger>);

struct Ledger {
    /// Bytes that may be held.
    limit: u64,
    used: AtomicU64,
    /// How many wait, so that a release need not take the lock to find out that nobody does.
    waiting: AtomicUsize,
    /// Those who wait, in the order in which they came. Held to add, remove or wake one, never across an `.await`.
    waiters: Mutex<VecDeque<Waiter>>,
    metrics: MemoryMetrics,
}

/// Somebody who waits for memory.
struct Waiter {
    bytes: u64,
    holder: Arc<Holder>,
    granted: Option<oneshot::Sender<Reservation>>,
}

impl Waiter {
    fn has_left(&self) -> bool {
        self.granted.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

/// Who holds memory, and how much at most.
struct Holder {
    limit: u64,
    used: AtomicU64,
}

/// The counters and gauges of the account.
#[derive(Debug, Clone, Default)]
pub struct MemoryMetrics {
    limit: Gauge,
    used: Gauge,
    waits: Counter,
    refused: Counter,
}

/// What one domain (or another user of memory) draws from the account. Cheap to clone; clones are the same share.
#[derive(Clone)]
pub struct MemoryShare {
    ledger: Arc<Ledger>,
    holder: Arc<Holder>,
}

/// Memory that is spoken for. It is given back when this is dropped.
pub struct Reservation {
    ledger: Arc<Ledger>,
    holder: Arc<Holder>,
    bytes: u64,
}

/// There is no room, and none came free in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes do not fit into the memory that the process may hold; {used} of {limit} bytes are taken")]
pub struct MemoryFull {
    /// What was asked for.
    pub bytes: u64,
    /// What was held by others.
    pub used: u64,
    /// What may be held in all.
    pub limit: u64,
}

impl MemoryMetrics {
    /// Creates and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let mut gauge = |name: &str, help: &str, gauge: &Gauge| registry.register(name, help, gauge.clone());
        gauge("memory_limit_bytes", "Bytes that the process may hold for its work", &metrics.limit);
        gauge("memory_reserved_bytes", "Bytes that the process holds for its work", &metrics.used);
        let mut counter = |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        counter("memory_waits", "Work that waited for memory", &metrics.waits);
        counter("memory_refused", "Work that was refused for want of memory", &metrics.refused);
        metrics
    }
}

impl MemoryAccount {
    /// An account of `limit` bytes.
    pub fn new(limit: u64, metrics: MemoryMetrics) -> Self {
        metrics.limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
        Self(Arc::new(Ledger {
            limit,
            used: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            waiters: Mutex::default(),
            metrics,
        }))
    }

    /// A share that may hold three quarters of the account: one domain's.
    pub fn share(&self) -> MemoryShare {
        self.share_of(self.0.limit - self.0.limit / 4)
    }

    /// A share that may hold all of it, for what is bounded elsewhere (the memory tier) or has nobody beside it.
    pub fn whole(&self) -> MemoryShare {
        self.share_of(self.0.limit)
    }

    fn share_of(&self, limit: u64) -> MemoryShare {
        let holder = Arc::new(Holder { limit, used: AtomicU64::new(0) });
        MemoryShare { ledger: self.0.clone(), holder }
    }

    /// Bytes held now.
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Bytes that may be held.
    pub fn limit(&self) -> u64 {
        self.0.limit
    }
}

impl MemoryShare {
    /// Reserves `bytes` if they fit now.
    pub fn try_reserve(&self, bytes: u64) -> Option<Reservation> {
        take(&self.ledger, &self.holder, bytes).then(|| self.reservation(bytes))
    }

    /// Reserves `bytes`, waiting for room until `until`.
    pub async fn reserve(&self, bytes: u64, until: Instant) -> Result<Reservation, MemoryFull> {
        if let Some(reservation) = self.try_reserve(bytes) {
            return Ok(reservation);
        }
        if bytes > self.holder.limit {
            return Err(self.full(bytes));
        }
        let Some(granted) = self.ledger.enqueue(bytes, &self.holder) else { return Err(self.full(bytes)) };
        self.ledger.metrics.waits.inc();
        // It may have come free between the look and the place in line.
        self.ledger.wake();
        match tokio::time::timeout_at(until, granted).await {
            Ok(Ok(reservation)) => Ok(reservation),
            _ => Err(self.full(bytes)),
        }
    }

    /// Reserves what surely exists already and cannot be refused: it counts, and others wait for it.
    pub fn charge(&self, bytes: u64) -> Reservation {
        self.ledger.used.fetch_add(bytes, Ordering::Relaxed);
        self.holder.used.fetch_add(bytes, Ordering::Relaxed);
        self.ledger.note();
        self.reservation(bytes)
    }

    fn reservation(&self, bytes: u64) -> Reservation {
        Reservation { ledger: self.ledger.clone(), holder: self.holder.clone(), bytes }
    }

    /// Counts a refusal and says what stood in the way.
    fn full(&self, bytes: u64) -> MemoryFull {
        self.ledger.metrics.refused.inc();
        MemoryFull { bytes, used: self.ledger.used.load(Ordering::Relaxed), limit: self.holder.limit }
    }
}

impl Reservation {
    /// Bytes reserved.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes it larger if that fits now.
    pub fn try_grow(&mut self, more: u64) -> bool {
        let fits = take(&self.ledger, &self.holder, more);
        self.bytes += if fits { more } else { 0 };
        fits
    }

    /// Makes it larger, waiting for room until `until`. Who waits holds what is reserved already, so `until` is to be well
    /// before the deadline.
    pub async fn grow(&mut self, more: u64, until: Instant) -> Result<(), MemoryFull> {
        let share = MemoryShare { ledger: self.ledger.clone(), holder: self.holder.clone() };
        let added = share.reserve(more, until).await?;
        self.merge(added);
        Ok(())
    }

    /// Gives back what is more than `bytes`.
    pub fn shrink_to(&mut self, bytes: u64) {
        let less = self.bytes.saturating_sub(bytes);
        self.bytes -= less;
        release(&self.ledger, &self.holder, less);
    }

    /// Makes it exactly `bytes`, even where that does not fit: what it stands for exists already.
    pub fn settle(&mut self, bytes: u64) {
        if bytes <= self.bytes {
            return self.shrink_to(bytes);
        }
        let more = bytes - self.bytes;
        self.ledger.used.fetch_add(more, Ordering::Relaxed);
        self.holder.used.fetch_add(more, Ordering::Relaxed);
        self.bytes = bytes;
        self.ledger.note();
    }

    /// Takes `bytes` (or all, if it is less) out into a reservation of their own.
    #[must_use]
    pub fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { ledger: self.ledger.clone(), holder: self.holder.clone(), bytes }
    }

    /// Takes another one in.
    pub fn merge(&mut self, mut other: Self) {
        let bytes = std::mem::take(&mut other.bytes);
        if !Arc::ptr_eq(&self.holder, &other.holder) {
            other.holder.used.fetch_sub(bytes, Ordering::Relaxed);
            self.holder.used.fetch_add(bytes, Ordering::Relaxed);
        }
        self.bytes += bytes;
    }

    /// The same bytes, held by another share from now on: a dataset that moves from a flight into memory.
    #[must_use]
    pub fn moved_to(mut self, share: &MemoryShare) -> Self {
        let mut moved = share.reservation(0);
        moved.merge(std::mem::replace(&mut self, share.reservation(0)));
        moved
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        release(&self.ledger, &self.holder, self.bytes);
    }
}

/// Takes `bytes` if both the account and the holder have them.
fn take(ledger: &Ledger, holder: &Holder, bytes: u64) -> bool {
    if !add_within(&holder.used, bytes, holder.limit) {
        return false;
    }
    if !add_within(&ledger.used, bytes, ledger.limit) {
        holder.used.fetch_sub(bytes, Ordering::Relaxed);
        return false;
    }
    ledger.note();
    true
}

fn add_within(used: &AtomicU64, bytes: u64, limit: u64) -> bool {
    let add = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= limit);
    used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add).is_ok()
}

fn release(ledger: &Arc<Ledger>, holder: &Holder, bytes: u64) {
    if bytes == 0 {
        return;
    }
    holder.used.fetch_sub(bytes, Ordering::SeqCst);
    ledger.used.fetch_sub(bytes, Ordering::SeqCst);
    ledger.note();
    if ledger.waiting.load(Ordering::SeqCst) > 0 {
        ledger.wake();
    }
}

impl Ledger {
    fn note(&self) {
        self.metrics.used.set(i64::try_from(self.used.load(Ordering::Relaxed)).unwrap_or(i64::MAX));
    }

    /// A place in line.
    fn enqueue(&self, bytes: u64, holder: &Arc<Holder>) -> Option<oneshot::Receiver<Reservation>> {
        let mut waiters = self.waiters.lock();
        waiters.retain(|waiter| !waiter.has_left());
        if waiters.len() >= WAITERS_MAX {
            return None;
        }
        let (granted, receiver) = oneshot::channel();
        waiters.push_back(Waiter { bytes, holder: holder.clone(), granted: Some(granted) });
        self.waiting.store(waiters.len(), Ordering::SeqCst);
        Some(receiver)
    }

    /// Grants those in line who fit, first come, first served; who does not fit is passed over.
    fn wake(self: &Arc<Self>) {
        // What nobody took is given back only once the lock is gone: giving back wakes as well.
        let mut unwanted = Vec::new();
        let mut waiters = self.waiters.lock();
        waiters.retain_mut(|waiter| {
            if waiter.has_left() {
                return false;
            }
            if !take(self, &waiter.holder, waiter.bytes) {
                return true;
            }
            let reservation = Reservation { ledger: self.clone(), holder: waiter.holder.clone(), bytes: waiter.bytes };
            let granted = waiter.granted.take().map(|granted| granted.send(reservation));
            unwanted.extend(granted.and_then(Result::err));
            false
        });
        self.waiting.store(waiters.len(), Ordering::SeqCst);
        drop(waiters);
    }
}

impl fmt::Debug for MemoryAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryAccount")
            .field("used", &self.used())
            .field("limit", &self.limit())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for MemoryShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self.holder.used.load(Ordering::Relaxed);
        f.debug_struct("MemoryShare").field("used", &used).field("limit", &self.holder.limit).finish_non_exhaustive()
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]
mod tests {
    use std::time::Duration;

    use super::*;

    fn account(limit: u64) -> MemoryAccount {
        MemoryAccount::new(limit, MemoryMetrics::default())
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(50)
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_waits_until_room_comes_free_or_its_time_is_over() {
        let account = account(100);
        let share = account.whole();
        let held = share.try_reserve(80).unwrap();
        assert!(share.try_reserve(21).is_none());
        let full = share.reserve(21, soon()).await.unwrap_err();
        assert_eq!((full.bytes, full.used, full.limit), (21, 80, 100));
        let (waited, ()) = tokio::join!(share.reserve(60, soon()), async {
            tokio::task::yield_now().await;
            drop(held);
        });
        assert_eq!((waited.unwrap().bytes(), account.used()), (60, 60));
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_reservation_in_line_holds_up_no_small_one() {
        let account = account(100);
        let share = account.whole();
        let (held, small) = (share.try_reserve(60).unwrap(), share.try_reserve(20).unwrap());
        let large = tokio::spawn({
            let share = share.clone();
            async move { share.reserve(90, soon()).await.map(|_| ()) }
        });
        tokio::task::yield_now().await;
        assert!(share.try_reserve(20).is_some(), "what is free goes to whoever asks");
        let behind = tokio::spawn({
            let share = share.clone();
            async move { share.reserve(30, soon()).await.map(|held| held.bytes()) }
        });
        tokio::task::yield_now().await;
        drop(small);
        assert_eq!(behind.await.unwrap(), Ok(30));
        assert!(large.await.unwrap().is_err(), "the large one found no room until its time was over");
        drop(held);
        assert_eq!(account.used(), 0);
    }

    #[tokio::test]
    async fn one_share_leaves_a_quarter_to_the_others() {
        let account = account(100);
        let (greedy, modest) = (account.share(), account.share());
        let held = greedy.try_reserve(75).unwrap();
        assert!(greedy.try_reserve(1).is_none());
        assert!(greedy.reserve(76, Instant::now()).await.is_err(), "more than it may ever hold does not wait");
        assert_eq!(modest.try_reserve(25).unwrap().bytes(), 25);
        drop(held);
        assert_eq!(greedy.try_reserve(75).unwrap().bytes(), 75);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_while_waiting_leaves_no_place_taken() {
        let account = account(10);
        let share = account.whole();
        let held = share.try_reserve(10).unwrap();
        for _ in 0..3 {
            assert!(share.reserve(5, soon()).await.is_err());
        }
        drop(held);
        assert_eq!(account.used(), 0);
        assert_eq!(share.reserve(10, soon()).await.unwrap().bytes(), 10);
    }

    #[test]
    fn reservations_split_merge_move_and_settle_without_losing_a_byte() {
        let account = account(100);
        let (flight, memory) = (account.share(), account.whole());
        let mut all = flight.try_reserve(50).unwrap();
        assert!(all.try_grow(10) && !all.try_grow(60));
        let kept = all.split(20).moved_to(&memory);
        assert_eq!((all.bytes(), kept.bytes(), account.used()), (40, 20, 60));
        drop(all);
        assert_eq!(account.used(), 20);
        assert!(flight.try_reserve(75).is_some(), "what moved counts as the flight's no more");
        let mut kept = kept;
        kept.settle(120);
        assert_eq!(account.used(), 120, "what exists is counted even where it does not fit");
        kept.settle(10);
        let mut other = memory.charge(5);
        other.merge(kept);
        assert_eq!((other.bytes(), account.used()), (15, 15));
        drop(other);
        assert_eq!(account.used(), 0);
    }

    #[tokio::test]
    async fn many_tasks_never_hold_more_than_the_account_and_leave_nothing_behind() {
        let account = account(1_000);
        let tasks: Vec<_> = (0..64_u64)
            .map(|nth| {
                let (account, share) = (account.clone(), account.share());
                tokio::spawn(async move {
                    for round in 0..50 {
                        let until = Instant::now() + Duration::from_secs(30);
                        let held = share.reserve(1 + (nth * 7 + round * 13) % 700, until).await.unwrap();
                        assert!(account.used() <= 1_000);
                        tokio::task::yield_now().await;
                        drop(held);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(account.used(), 0);
    }
}
