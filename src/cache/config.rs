//! The configuration that the caches of all domains share, from the flags.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::{
    CacheContext, CacheMetrics, CollectionEvents, Memory, SampleVerifier, Seal, SealError, verifier,
};
use crate::resources::{ComputeMetrics, ComputePool, MemoryAccount, MemoryMetrics};
use crate::settings::{BusLoss, MemorySize, SampleRate};

/// The most jq programs at once that one domain may run, on any machine.
const PROGRAMS_AT_ONCE_MAX: usize = 4;

/// The most flights that run or wait at once: as many as requests.
const FLIGHTS_MAX: usize = 4096;

/// The most answers on their way to Redis at once; a further one is not kept there.
const STORES_AT_ONCE_MAX: usize = 64;

/// The least time that an invalidation may be on its way to where a hit is verified.
const VERIFY_PATIENCE_MIN: Duration = Duration::from_secs(1);

/// The cache's configuration.
#[derive(Debug, Clone)]
pub struct CacheConfig {
    /// How much memory datasets may take.
    pub memory: MemorySize,
    /// How many bytes all work may hold, those datasets among it.
    pub work_bytes: u64,
    /// `--no-cache`: nothing is kept.
    pub off: bool,
    /// How reads are answered while Redis is out of reach.
    pub bus_loss: BusLoss,
    /// The keys with which datasets in Redis are sealed.
    pub seal_key: Option<PathBuf>,
    /// The share of the hits that is compared with the sources.
    pub verify: SampleRate,
}

/// The file of seal keys holds none.
#[derive(Debug, thiserror::Error)]
#[error("`--seal-key {}` cannot be used: {error}", file.display())]
pub struct SealKeyError {
    /// The file.
    pub file: PathBuf,
    /// Why not.
    pub error: SealError,
}

/// The parts that a [`CacheConfig`] builds.
#[derive(Debug)]
pub struct CacheParts {
    /// The context that every cache is made with.
    pub context: CacheContext,
    /// Compares samples of the hits with the sources, if any are taken.
    pub samples: Option<SampleVerifier>,
}

impl CacheConfig {
    /// Nothing at all, and no bound on memory: for a command that collects once and ends.
    pub fn none() -> Self {
        Self {
            memory: MemorySize(0),
            work_bytes: u64::MAX / 2,
            off: true,
            bus_loss: BusLoss::Bypass,
            seal_key: None,
            verify: SampleRate::default(),
        }
    }

    /// Reads the seal keys, and registers the counters. `lease` is that of the fleet's Redis, where
    /// there is one.
    pub fn build(
        self,
        lease: Option<Duration>,
        registry: &mut Registry,
    ) -> Result<CacheParts, SealKeyError> {
        let seal = self.seal_key.as_deref().map(load_seal).transpose()?;
        let metrics = CacheMetrics::register(registry, lease.is_some());
        let account =
            MemoryAccount::with_resident_watch(self.work_bytes, MemoryMetrics::register(registry));
        registry.register_collector(Box::new(account.clone()));
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let compute_metrics = ComputeMetrics::register(registry);
        let compute = ComputePool::new(processors.min(PROGRAMS_AT_ONCE_MAX), compute_metrics);
        let sampling = (self.verify != SampleRate::default()).then(|| {
            // Alone there is no news that could be on its way; a source's own replicas may be
            // behind all the same.
            let patience = lease.unwrap_or_default().max(VERIFY_PATIENCE_MIN);
            verifier(self.verify, patience, registry)
        });
        let (verifier, samples) = sampling.unzip();
        let context = CacheContext {
            memory: Memory::new(self.memory, &account, &metrics),
            metrics,
            events: CollectionEvents::default(),
            tasks: TaskTracker::new(),
            compute,
            account,
            flights: Arc::new(Semaphore::new(FLIGHTS_MAX)),
            off: self.off,
            bus_loss: self.bus_loss,
            seal,
            verifier,
            stores: Arc::new(Semaphore::new(STORES_AT_ONCE_MAX)),
        };
        Ok(CacheParts { context, samples })
    }
}

fn load_seal(file: &Path) -> Result<Seal, SealKeyError> {
    Seal::load(file).map_err(|error| SealKeyError { file: file.to_owned(), error })
}
