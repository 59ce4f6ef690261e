//! One account of memory for the whole process.
//!
//! A [`Reservation`] is taken before memory is allocated, and is given back when it is dropped, so
//! that the account knows at each moment how much is held. Work draws through a [`MemoryShare`],
//! one a domain, which may hold at most three quarters of the account: an overload of one domain
//! leaves room for the others. A reservation that does not fit waits in line until its deadline;
//! the first one that fits is granted, so that a large reservation never holds up the small ones
//! behind it.
//!
//! Resident memory is more than the reservations: the allocator keeps freed pages for a moment,
//! connections have buffers. Before a large reservation the account therefore measures the resident
//! memory ([`MemoryAccount::with_resident_watch`]), and counts the part that is unaccounted for as
//! taken.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::resident::ResidentWatch;

/// The most reservations that may wait at once; a further one is refused. Each waits for a request,
/// whose number is bounded as well.
const WAITERS_MAX: usize = 4096;

/// The text of a refusal for want of memory.
pub const NO_MEMORY: &str = "the process holds as much memory as it may (`--memory-limit`)";

/// One account of memory. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct MemoryAccount(Arc<Ledger>);

struct Ledger {
    /// Bytes that may be held.
    limit: u64,
    used: AtomicU64,
    /// The length of `waiters`, so that a release without waiters need not take the lock.
    waiting: AtomicUsize,
    /// The waiting reservations, in the order of their arrival. Locked to add, remove or wake one,
    /// never across an `.await`.
    waiters: Mutex<VecDeque<Waiter>>,
    resident: Option<ResidentWatch>,
    metrics: MemoryMetrics,
}

/// How often waiting reservations are tried again while no reservation ends: resident pages come
/// free by themselves.
const WAITERS_POLL: Duration = Duration::from_millis(20);

/// A reservation that waits for memory.
struct Waiter {
    bytes: u64,
    holder: Arc<Holder>,
    granted: Option<oneshot::Sender<Reservation>>,
}

impl Waiter {
    fn has_given_up(&self) -> bool {
        self.granted.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

/// A user of the account: its bytes, and how many it may hold.
struct Holder {
    ledger: Arc<Ledger>,
    limit: u64,
    used: AtomicU64,
}

/// The counters of the account.
#[derive(Debug, Clone, Default)]
pub struct MemoryMetrics {
    waits: Counter,
    refused: Counter,
}

/// The share of one domain (or another user of memory) in the account. Cheap to clone; clones are
/// the same share.
#[derive(Clone)]
pub struct MemoryShare(Arc<Holder>);

/// Memory that is spoken for. It is given back when this is dropped.
pub struct Reservation {
    holder: Arc<Holder>,
    bytes: u64,
}

/// There is no room, and none came free in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{bytes} bytes do not fit into the memory that the process may hold; \
     {used} of {limit} bytes are taken"
)]
pub struct MemoryFull {
    /// The bytes that were requested.
    pub bytes: u64,
    /// The bytes that others held.
    pub used: u64,
    /// The limit of the account.
    pub limit: u64,
}

impl MemoryMetrics {
    /// Creates and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("memory_waits", "Work that waited for memory", metrics.waits.clone());
        registry.register(
            "memory_refused",
            "Work refused for want of memory",
            metrics.refused.clone(),
        );
        metrics
    }
}

/// Reads the gauges when they are scraped: the bytes change with every request.
impl Collector for MemoryAccount {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name: &str, help: &str, value: u64| {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        gauge("memory_limit_bytes", "Bytes that the process may hold for its work", self.limit())?;
        gauge("memory_reserved_bytes", "Bytes that the process holds for its work", self.used())
    }
}

impl MemoryAccount {
    /// An account of `limit` bytes.
    pub fn new(limit: u64, metrics: MemoryMetrics) -> Self {
        Self::with_watch(limit, metrics, None)
    }

    /// An account of `limit` bytes for the work of this process, beside the memory that is resident
    /// now, and a little for connections. Resident memory beyond both counts as taken, up to half
    /// of the account: pages that the allocator keeps are no reason to refuse everything.
    pub fn with_resident_watch(limit: u64, metrics: MemoryMetrics) -> Self {
        Self::with_watch(limit, metrics, Some(ResidentWatch::of_this_process()))
    }

    fn with_watch(limit: u64, metrics: MemoryMetrics, resident: Option<ResidentWatch>) -> Self {
        Self(Arc::new(Ledger {
            limit,
            used: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            waiters: Mutex::default(),
            resident,
            metrics,
        }))
    }

    /// A share that may hold three quarters of the account: one domain's.
    pub fn share(&self) -> MemoryShare {
        self.share_with_limit(self.0.limit - self.0.limit / 4)
    }

    /// A share that may hold the whole account, for a user that is bounded elsewhere (the memory
    /// tier) or is alone.
    pub fn full_share(&self) -> MemoryShare {
        self.share_with_limit(self.0.limit)
    }

    fn share_with_limit(&self, limit: u64) -> MemoryShare {
        MemoryShare(Arc::new(Holder { ledger: self.0.clone(), limit, used: AtomicU64::new(0) }))
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
        self.0.try_take(bytes).then(|| self.reservation(bytes))
    }

    /// Reserves `bytes`, waiting for room until `until`.
    pub async fn reserve(&self, bytes: u64, until: Instant) -> Result<Reservation, MemoryFull> {
        if let Some(reservation) = self.try_reserve(bytes) {
            return Ok(reservation);
        }
        if bytes > self.0.limit {
            return Err(self.memory_full_error(bytes));
        }
        let ledger = &self.0.ledger;
        let Some(mut granted) = ledger.enqueue(bytes, &self.0) else {
            return Err(self.memory_full_error(bytes));
        };
        ledger.metrics.waits.inc();
        // It may have come free between the look and the place in line.
        ledger.grant_waiting();
        loop {
            let look = until.min(Instant::now() + WAITERS_POLL);
            match tokio::time::timeout_at(look, &mut granted).await {
                Ok(Ok(reservation)) => return Ok(reservation),
                Err(_) if look < until => ledger.grant_waiting(),
                _ => return Err(self.memory_full_error(bytes)),
            }
        }
    }

    /// Reserves memory that exists already and cannot be refused: it counts, and others wait for
    /// it.
    pub fn charge(&self, bytes: u64) -> Reservation {
        self.0.add(bytes);
        self.reservation(bytes)
    }

    /// Bytes that it may hold.
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    fn reservation(&self, bytes: u64) -> Reservation {
        Reservation { holder: self.0.clone(), bytes }
    }

    /// Counts a refusal and returns its error.
    fn memory_full_error(&self, bytes: u64) -> MemoryFull {
        self.0.ledger.metrics.refused.inc();
        MemoryFull { bytes, used: self.0.ledger.used.load(Ordering::Relaxed), limit: self.0.limit }
    }
}

impl Reservation {
    /// Bytes reserved.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes it larger if that fits now.
    pub fn try_grow(&mut self, more: u64) -> bool {
        let fits = self.holder.try_take(more);
        self.bytes += if fits { more } else { 0 };
        fits
    }

    /// Gives back all but `bytes`.
    pub fn shrink_to(&mut self, bytes: u64) {
        let less = self.bytes.saturating_sub(bytes);
        self.bytes -= less;
        self.holder.release(less);
    }

    /// Makes it exactly `bytes`, even where that does not fit: the memory exists already.
    pub fn settle(&mut self, bytes: u64) {
        if bytes <= self.bytes {
            return self.shrink_to(bytes);
        }
        self.holder.add(bytes - self.bytes);
        self.bytes = bytes;
    }

    /// Takes `bytes` (or all, if it is less) out into a reservation of their own.
    #[must_use]
    pub fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { holder: self.holder.clone(), bytes }
    }

    /// Takes another one in.
    pub fn merge(&mut self, mut other: Self) {
        let bytes = std::mem::take(&mut other.bytes);
        if !Arc::ptr_eq(&self.holder, &other.holder) {
            other.holder.used.fetch_sub(bytes, Ordering::SeqCst);
            self.holder.used.fetch_add(bytes, Ordering::SeqCst);
        }
        self.bytes += bytes;
    }

    /// The same bytes, held by another share from now on: a dataset that moves from a flight into
    /// memory.
    #[must_use]
    pub fn move_to(self, share: &MemoryShare) -> Self {
        let mut moved = share.reservation(0);
        moved.merge(self);
        moved
    }

    /// The share that it was taken from.
    pub(super) fn share(&self) -> MemoryShare {
        MemoryShare(self.holder.clone())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.holder.release(self.bytes);
    }
}

impl Holder {
    /// Takes `bytes` if both the account and this holder have them.
    fn try_take(&self, bytes: u64) -> bool {
        if !add_within(&self.used, bytes, self.limit) {
            return false;
        }
        let unaccounted = self.ledger.unaccounted(bytes);
        let fits = add_within(&self.ledger.used, bytes, self.ledger.limit - unaccounted);
        if !fits {
            self.used.fetch_sub(bytes, Ordering::SeqCst);
        }
        fits
    }

    /// Takes `bytes` whether they fit or not.
    fn add(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::SeqCst);
        self.ledger.used.fetch_add(bytes, Ordering::SeqCst);
    }

    fn release(&self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        self.used.fetch_sub(bytes, Ordering::SeqCst);
        self.ledger.used.fetch_sub(bytes, Ordering::SeqCst);
        if self.ledger.waiting.load(Ordering::SeqCst) > 0 {
            self.ledger.grant_waiting();
        }
    }
}

fn add_within(used: &AtomicU64, bytes: u64, limit: u64) -> bool {
    let add = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= limit);
    used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add).is_ok()
}

impl Ledger {
    /// Unreserved bytes that count as taken for a reservation of `bytes`: at most half of the
    /// account.
    fn unaccounted(&self, bytes: u64) -> u64 {
        let reserved = || self.used.load(Ordering::Relaxed);
        let unaccounted =
            self.resident.as_ref().map_or(0, |watch| watch.unaccounted(bytes, reserved));
        unaccounted.min(self.limit / 2)
    }

    /// A place in line.
    fn enqueue(&self, bytes: u64, holder: &Arc<Holder>) -> Option<oneshot::Receiver<Reservation>> {
        let mut waiters = self.waiters.lock();
        waiters.retain(|waiter| !waiter.has_given_up());
        if waiters.len() >= WAITERS_MAX {
            return None;
        }
        let (granted, receiver) = oneshot::channel();
        waiters.push_back(Waiter { bytes, holder: holder.clone(), granted: Some(granted) });
        self.waiting.store(waiters.len(), Ordering::SeqCst);
        Some(receiver)
    }

    /// Grants the waiting reservations that fit, first come, first served; one that does not fit is
    /// passed over.
    fn grant_waiting(&self) {
        // Grants that were not taken up are given back only once the lock is released: giving back
        // grants as well.
        let mut unwanted = Vec::new();
        let mut waiters = self.waiters.lock();
        waiters.retain_mut(|waiter| {
            if waiter.has_given_up() {
                return false;
            }
            if !waiter.holder.try_take(waiter.bytes) {
                return true;
            }
            let reservation = Reservation { holder: waiter.holder.clone(), bytes: waiter.bytes };
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
        let used = self.0.used.load(Ordering::Relaxed);
        f.debug_struct("MemoryShare")
            .field("used", &used)
            .field("limit", &self.0.limit)
            .finish_non_exhaustive()
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
        let share = account.full_share();
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
        let share = account.full_share();
        let held = share.try_reserve(60).unwrap();
        let small = share.try_reserve(20).unwrap();
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
        assert!(
            large.await.unwrap().is_err(),
            "the large one found no room until its time was over"
        );
        drop(held);
        assert_eq!(account.used(), 0);
    }

    #[tokio::test]
    async fn one_share_leaves_a_quarter_to_the_others() {
        let account = account(100);
        let greedy = account.share();
        let modest = account.share();
        let held = greedy.try_reserve(75).unwrap();
        assert!(greedy.try_reserve(1).is_none());
        assert!(
            greedy.reserve(76, Instant::now()).await.is_err(),
            "more than it may ever hold does not wait"
        );
        assert_eq!(modest.try_reserve(25).unwrap().bytes(), 25);
        drop(held);
        assert_eq!(greedy.try_reserve(75).unwrap().bytes(), 75);
    }

    #[test]
    fn what_is_resident_and_nobody_reserved_counts_as_taken_up_to_half() {
        let beside = |process| {
            MemoryAccount::with_watch(
                64 << 20,
                MemoryMetrics::default(),
                Some(ResidentWatch::with_process_bytes(process)),
            )
            .full_share()
        };
        // The test itself is resident, with more than a mebibyte.
        let share = beside(0);
        assert!(share.try_reserve(64 << 20).is_none());
        assert!(share.try_reserve(32 << 20).is_some(), "half of it is always there");
        assert!(beside(1 << 40).try_reserve(64 << 20).is_some(), "nothing is unaccounted for");
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_while_waiting_leaves_no_place_taken() {
        let account = account(10);
        let share = account.full_share();
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
        let flight = account.share();
        let memory = account.full_share();
        let mut all = flight.try_reserve(50).unwrap();
        assert!(all.try_grow(10) && !all.try_grow(60));
        let kept = all.split(20).move_to(&memory);
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
                        let held =
                            share.reserve(1 + (nth * 7 + round * 13) % 700, until).await.unwrap();
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
