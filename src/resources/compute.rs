//! One account of CPU time, for work whose duration input decides: jq programs, admission reviews.
//!
//! Such work runs on the blocking pool, never on the event loop, and no more of it at once than
//! [`ComputePool`] has slots. A domain takes its turn through a [`ComputeQueue`]: a slot that comes
//! free goes to the queue that has used the least CPU time of late (start-time fair queuing, after
//! Goyal, Vin and Cheng, 1996), and with several queues the last slot is never taken by the holder
//! of all others, so that one domain's slow programs leave the others a way through. Each run gets
//! a [`RunClock`] that it must check: it must stop when its time is over, when its caller has left,
//! or when the process ends.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::oneshot;

/// The longest that one run may take.
pub const RUN_MAX: Duration = Duration::from_secs(1);

/// Places for work on the CPU, shared by the process. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct ComputePool(Arc<ComputePoolShared>);

struct ComputePoolShared {
    slots: usize,
    /// How many places one queue may hold while there are others.
    slots_per_queue: usize,
    /// Held to take, pass on or give back a place, never across an `.await`.
    state: Mutex<PoolState>,
    /// The process ends: every run stops.
    closed: Arc<AtomicBool>,
    metrics: ComputeMetrics,
}

#[derive(Default)]
struct PoolState {
    slots_taken: usize,
    /// CPU time, in nanoseconds, up to which the queue that was last given a place had come: a
    /// queue that comes back after a rest starts there, so that rest is not credit.
    virtual_time: u64,
    queues: BTreeMap<u64, QueueState>,
    queues_made: u64,
}

#[derive(Default)]
struct QueueState {
    slots_held: usize,
    used_ns: u64,
    /// The queue was dropped, but a run of it still holds a slot.
    is_abandoned: bool,
    /// The runs that wait for a slot; bounded by the requests under way.
    waiters: VecDeque<oneshot::Sender<ComputeSlot>>,
}

/// The counters of the pool.
#[derive(Debug, Clone, Default)]
pub struct ComputeMetrics {
    seconds: Counter<f64, std::sync::atomic::AtomicU64>,
    waits: Counter,
    refused: Counter,
}

/// One domain's way to the CPU. Cheap to clone; clones are the same queue.
#[derive(Clone)]
pub struct ComputeQueue(Arc<DomainQueue>);

struct DomainQueue {
    pool: Arc<ComputePoolShared>,
    id: u64,
}

/// A place for one run, given back when it is dropped.
struct ComputeSlot {
    pool: Arc<ComputePoolShared>,
    queue: u64,
    started_at: Option<Instant>,
}

/// When a run has to stop. Cheap to look at; look at it every few microseconds of work.
#[derive(Debug, Clone)]
pub struct RunClock {
    until: Instant,
    cancelled: Arc<AtomicBool>,
    closed: Arc<AtomicBool>,
}

/// No place came free in time, or the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no thread came free in time")]
pub struct ComputeBusy;

impl ComputeMetrics {
    /// Creates and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "CPU time of programs and reviews";
        registry.register_with_unit("compute", help, Unit::Seconds, metrics.seconds.clone());
        registry.register(
            "compute_waits",
            "Programs and reviews that waited for a thread",
            metrics.waits.clone(),
        );
        let help = "Programs and reviews for which no thread came free in time";
        registry.register("compute_refused", help, metrics.refused.clone());
        metrics
    }
}

impl ComputePool {
    /// A pool for a machine of `processors`. It has a place more than that, so that the operating
    /// system shares the processors out even where one queue's runs are all slow.
    pub fn new(processors: usize, metrics: ComputeMetrics) -> Self {
        let places_of_one = processors.max(1);
        Self(Arc::new(ComputePoolShared {
            slots: places_of_one + 1,
            slots_per_queue: places_of_one,
            state: Mutex::default(),
            closed: Arc::default(),
            metrics,
        }))
    }

    /// A queue of its own: a domain's.
    pub fn queue(&self) -> ComputeQueue {
        let mut state = self.0.state.lock();
        state.queues_made += 1;
        let id = state.queues_made;
        state.queues.insert(id, QueueState::default());
        drop(state);
        ComputeQueue(Arc::new(DomainQueue { pool: self.0.clone(), id }))
    }

    /// Stops every run, and those to come as well: the process ends.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::Relaxed);
    }
}

impl ComputeQueue {
    /// Runs `work` on a thread of its own once it is this queue's turn, which has to come before
    /// `until`. The clock that `work` is given stops at `until`, after a second, or when this
    /// future is dropped.
    ///
    /// Panics of `work` are passed on.
    pub async fn run<T: Send + 'static>(
        &self,
        until: tokio::time::Instant,
        work: impl FnOnce(&RunClock) -> T + Send + 'static,
    ) -> Result<T, ComputeBusy> {
        let mut place = self.acquire_slot(until).await?;
        let unwanted = CancelOnDrop(Arc::default());
        let clock = RunClock {
            until: until.into_std().min(Instant::now() + RUN_MAX),
            cancelled: unwanted.0.clone(),
            closed: self.0.pool.closed.clone(),
        };
        let run = tokio::task::spawn_blocking(move || {
            place.started_at = Some(Instant::now());
            let result = work(&clock);
            drop(place);
            result
        });
        match run.await {
            Ok(result) => Ok(result),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(ComputeBusy),
        }
    }

    async fn acquire_slot(&self, until: tokio::time::Instant) -> Result<ComputeSlot, ComputeBusy> {
        let pool = &self.0.pool;
        if pool.closed.load(Ordering::Relaxed) {
            return Err(ComputeBusy);
        }
        let waits = {
            let mut state = pool.state.lock();
            if state.try_take_slot(self.0.id, pool) {
                return Ok(ComputeSlot { pool: pool.clone(), queue: self.0.id, started_at: None });
            }
            let (granted, receiver) = oneshot::channel();
            state.queues.entry(self.0.id).or_default().waiters.push_back(granted);
            receiver
        };
        pool.metrics.waits.inc();
        if let Ok(Ok(place)) = tokio::time::timeout_at(until, waits).await {
            return Ok(place);
        }
        pool.metrics.refused.inc();
        Err(ComputeBusy)
    }
}

impl Drop for DomainQueue {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        let Some(queue) = state.queues.get_mut(&self.id) else { return };
        // An abandoned run may still hold a slot: it removes the queue when it ends.
        queue.is_abandoned = true;
        if queue.slots_held == 0 {
            state.queues.remove(&self.id);
        }
    }
}

impl PoolState {
    /// Takes a place for `queue`, if it may have one now.
    fn try_take_slot(&mut self, queue: u64, pool: &ComputePoolShared) -> bool {
        let most = if self.queues.len() > 1 { pool.slots_per_queue } else { pool.slots };
        let Some(state) = self.queues.get_mut(&queue) else { return false };
        if self.slots_taken >= pool.slots || state.slots_held >= most {
            return false;
        }
        self.slots_taken += 1;
        state.slots_held += 1;
        state.used_ns = state.used_ns.max(self.virtual_time);
        self.virtual_time = state.used_ns;
        true
    }

    /// The next to be given a place, which is taken for them: of the queues that may have one, that
    /// which has used the least.
    fn next_waiter(
        &mut self,
        pool: &ComputePoolShared,
    ) -> Option<(u64, oneshot::Sender<ComputeSlot>)> {
        for queue in self.queues.values_mut() {
            while queue.waiters.front().is_some_and(oneshot::Sender::is_closed) {
                queue.waiters.pop_front();
            }
        }
        let waiting = self.queues.iter().filter(|(_, queue)| !queue.waiters.is_empty());
        let mut by_use: Vec<(u64, u64)> = waiting.map(|(id, queue)| (queue.used_ns, *id)).collect();
        by_use.sort_unstable();
        let (_, id) = by_use.into_iter().find(|(_, id)| self.try_take_slot(*id, pool))?;
        let granted = self.queues.get_mut(&id)?.waiters.pop_front()?;
        Some((id, granted))
    }
}

impl Drop for ComputeSlot {
    fn drop(&mut self) {
        let ran = self.started_at.map(|since| since.elapsed()).unwrap_or_default();
        self.pool.metrics.seconds.inc_by(ran.as_secs_f64());
        // Slots whose waiters went away meanwhile are given back once the lock is released.
        let mut unwanted = Vec::new();
        let mut state = self.pool.state.lock();
        state.slots_taken -= 1;
        if let Some(queue) = state.queues.get_mut(&self.queue) {
            queue.slots_held -= 1;
            queue.used_ns =
                queue.used_ns.saturating_add(u64::try_from(ran.as_nanos()).unwrap_or(u64::MAX));
            if queue.is_abandoned && queue.slots_held == 0 {
                state.queues.remove(&self.queue);
            }
        }
        while let Some((queue, granted)) = state.next_waiter(&self.pool) {
            let place = Self { pool: self.pool.clone(), queue, started_at: None };
            unwanted.extend(granted.send(place).err());
        }
        drop(state);
    }
}

impl RunClock {
    /// When the run's time is over.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// Set once the caller has left, or the process ends: for code that reads the time by itself.
    pub fn cancelled(&self) -> &AtomicBool {
        &self.cancelled
    }

    /// Whether the caller has left, or the process ends.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed) || self.closed.load(Ordering::Relaxed)
    }
}

/// The CPU time that this thread has had.
pub fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or_default());
    seconds + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or_default())
}

/// Cancels a run when its caller is dropped.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for ComputePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComputePool").field("places", &self.0.slots).finish_non_exhaustive()
    }
}

impl fmt::Debug for ComputeQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComputeQueue").field("id", &self.0.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn pool(processors: usize) -> ComputePool {
        ComputePool::new(processors, ComputeMetrics::default())
    }

    fn later() -> tokio::time::Instant {
        tokio::time::Instant::now() + Duration::from_mins(1)
    }

    /// Runs that go on until they are stopped, as many as one queue may have; returns once all have
    /// begun.
    async fn hog(
        queue: &ComputeQueue,
        runs: usize,
    ) -> (Vec<tokio::task::JoinHandle<()>>, Vec<mpsc::Sender<()>>) {
        let mut ends = Vec::new();
        let mut tasks = Vec::new();
        for _ in 0..runs {
            let (end, ended) = mpsc::channel::<()>();
            let (began, begins) = oneshot::channel();
            let queue = queue.clone();
            tasks.push(tokio::spawn(async move {
                let _ = queue
                    .run(later(), move |_| {
                        let _ = began.send(());
                        let _ = ended.recv();
                    })
                    .await;
            }));
            begins.await.unwrap();
            ends.push(end);
        }
        (tasks, ends)
    }

    /// Lets runs end, and waits until they have.
    async fn end(tasks: Vec<tokio::task::JoinHandle<()>>, ends: Vec<mpsc::Sender<()>>) {
        drop(ends);
        for task in tasks {
            task.await.unwrap();
        }
    }

    #[tokio::test]
    async fn one_queue_that_holds_all_it_may_leaves_a_place_to_the_others() {
        let pool = pool(2);
        let greedy = pool.queue();
        let modest = pool.queue();
        let (tasks, ends) = hog(&greedy, 2).await;
        let now = tokio::time::Instant::now();
        assert_eq!(greedy.run(now, |_| ()).await, Err(ComputeBusy), "it holds all that it may");
        assert_eq!(modest.run(later(), |_| 7).await, Ok(7));
        end(tasks, ends).await;
        assert_eq!(greedy.run(later(), |_| 1).await, Ok(1));
    }

    #[tokio::test]
    async fn alone_a_queue_has_every_place() {
        let pool = pool(1);
        let only = pool.queue();
        let (tasks, ends) = hog(&only, 2).await;
        end(tasks, ends).await;
    }

    #[tokio::test]
    async fn a_place_goes_to_the_queue_that_has_used_the_least() {
        let pool = pool(1);
        let queues = [pool.queue(), pool.queue(), pool.queue()];
        let (first, first_end) = hog(&queues[0], 1).await;
        let (second, second_end) = hog(&queues[1], 1).await;
        // The first queue has used much, the third little.
        pool.0.state.lock().queues.get_mut(&queues[0].0.id).unwrap().used_ns = 1 << 40;
        let (order, came) = mpsc::channel();
        let waiting: Vec<_> = [0, 2]
            .map(|nth| {
                let queue = queues[nth].clone();
                let order = order.clone();
                tokio::spawn(
                    async move { queue.run(later(), move |_| order.send(nth).unwrap()).await },
                )
            })
            .into();
        while pool.0.state.lock().queues.values().map(|queue| queue.waiters.len()).sum::<usize>()
            < 2
        {
            tokio::task::yield_now().await;
        }
        end(second, second_end).await;
        assert_eq!(tokio::task::spawn_blocking(move || came.recv().unwrap()).await.unwrap(), 2);
        end(first, first_end).await;
        for task in waiting {
            drop(task.await);
        }
    }

    #[tokio::test]
    async fn a_run_that_nobody_waits_for_is_told_to_stop_and_its_place_comes_back() {
        let pool = pool(1);
        let queue = pool.queue();
        let (told, tells) = mpsc::channel();
        let (began, begins) = oneshot::channel();
        let run = tokio::spawn({
            let queue = queue.clone();
            async move {
                queue
                    .run(later(), move |clock| {
                        let _ = began.send(());
                        while !clock.is_cancelled() {
                            std::thread::yield_now();
                        }
                        let _ = told.send(());
                    })
                    .await
            }
        });
        begins.await.unwrap();
        run.abort();
        tokio::task::spawn_blocking(move || tells.recv().unwrap()).await.unwrap();
        let (tasks, ends) = hog(&queue, 2).await;
        end(tasks, ends).await;
    }

    #[tokio::test]
    async fn a_queue_that_is_left_while_it_runs_goes_with_its_last_run() {
        let pool = pool(2);
        let queue = pool.queue();
        let (tasks, ends) = hog(&queue, 2).await;
        for task in &tasks {
            task.abort();
        }
        drop(queue);
        drop(ends);
        while !pool.0.state.lock().queues.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.0.state.lock().slots_taken, 0);
    }

    #[tokio::test]
    async fn a_pool_that_is_closed_stops_what_runs_and_takes_no_more() {
        let pool = pool(1);
        let queue = pool.queue();
        let (began, begins) = oneshot::channel();
        let run = tokio::spawn({
            let queue = queue.clone();
            async move {
                queue
                    .run(later(), move |clock| {
                        let _ = began.send(());
                        while !clock.is_cancelled() && Instant::now() < clock.until() {
                            std::thread::yield_now();
                        }
                    })
                    .await
            }
        });
        begins.await.unwrap();
        pool.close();
        run.await.unwrap().unwrap();
        assert_eq!(queue.run(later(), |_| ()).await, Err(ComputeBusy));
    }

    #[tokio::test]
    async fn who_stops_waiting_leaves_the_line() {
        let pool = pool(1);
        let queue = pool.queue();
        let (tasks, ends) = hog(&queue, 2).await;
        for _ in 0..3 {
            assert_eq!(queue.run(tokio::time::Instant::now(), |_| ()).await, Err(ComputeBusy));
        }
        end(tasks, ends).await;
        assert_eq!(queue.run(later(), |_| 3).await, Ok(3));
    }
}
