//! A domain's jq programs, run within the process's accounts of memory and of CPU time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::resources::{
    ComputeQueue, MemoryShare, NO_MEMORY, RUN_MAX, RunClock, WorkMemory, thread_cpu_time,
};
use crate::shape::{Budget, MEMORY_STEP_BYTES, Program, RunError, RunErrorKind};

/// Why a program gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgramError {
    /// The program failed, or took more than a run may: the text gives the reason, without data.
    Failed(String),
    /// It yields more bytes than it may; the same in words.
    OutputTooLong(String),
    /// The process had no thread or no memory for it in time.
    Overloaded(&'static str),
}

/// The most that a version's shape may render.
pub const SHAPE_OUTPUT_BYTES_MAX: usize = 16 << 20;
/// How often a program is run of which the time passed while its threads had less than half of it.
const RUNS_MAX: usize = 4;
/// The most memory that one run may hold.
const RUN_BYTES_MAX: u64 = 128 << 20;

/// Runs the programs of one domain. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct ProgramRunner {
    /// The domain's share of memory.
    share: MemoryShare,
    /// Where the domain's programs run.
    queue: ComputeQueue,
}

impl ProgramRunner {
    pub(super) fn new(share: MemoryShare, queue: ComputeQueue) -> Self {
        Self { share, queue }
    }

    /// Runs `program` over a dataset's body, by `until`, for at most `output_bytes` of JSON, and
    /// `read` over the JSON there where the program ran. A run holds memory of this domain's share.
    ///
    /// A run takes memory as it goes and never waits for it while it holds some: where there is
    /// none it ends, and begins anew once twice as much as it had come to is reserved for it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        program: Arc<Program>,
        input: Bytes,
        output_bytes: usize,
        until: Instant,
        read: fn(Vec<u8>) -> T,
    ) -> Result<T, ProgramError> {
        let memory_bytes = RUN_BYTES_MAX.min(self.share.limit());
        let mut reserve_bytes = MEMORY_STEP_BYTES.min(memory_bytes);
        let mut cpu_time = Duration::ZERO;
        let mut runs = 0;
        loop {
            let reserved = self.share.reserve(reserve_bytes, until).await;
            let reserved = reserved.map_err(|_| ProgramError::Overloaded(NO_MEMORY))?;
            let program = program.clone();
            let input = input.clone();
            let run = self.queue.run(until, move |clock| {
                let memory = WorkMemory::new(reserved, until);
                let budget = Budget { output_bytes, memory_bytes, ..Budget::default() };
                let before = thread_cpu_time();
                let result = run(&program, &input, budget, clock, &memory);
                (result.map(read), memory.reserved(), thread_cpu_time().saturating_sub(before))
            });
            let (result, reached, used) =
                run.await.map_err(|_| ProgramError::Overloaded(NO_THREAD))?;
            cpu_time += used;
            runs += 1;
            match result {
                Ok(read) => return Ok(read),
                Err(RunError { kind: RunErrorKind::MemoryRefused, .. })
                    if reached < memory_bytes =>
                {
                    reserve_bytes = reached.saturating_mul(2).min(memory_bytes);
                }
                // The machine, or the process, was suspended meanwhile: the program is not to
                // blame.
                Err(RunError { kind: RunErrorKind::TimedOut, .. })
                    if cpu_time < RUN_MAX / 2 && runs < RUNS_MAX && Instant::now() < until => {}
                Err(error) => return Err(ProgramError::of(error)),
            }
        }
    }
}

impl ProgramError {
    pub(super) fn of(error: RunError) -> Self {
        match error.kind {
            RunErrorKind::Cancelled => Self::Overloaded(NO_THREAD),
            RunErrorKind::OutputTooLong => Self::OutputTooLong(error.message),
            RunErrorKind::Program | RunErrorKind::MemoryRefused | RunErrorKind::TimedOut => {
                Self::Failed(error.message)
            }
        }
    }
}

const NO_THREAD: &str = "no thread came free for the program";

fn run(
    program: &Program,
    input: &[u8],
    budget: Budget<'_>,
    clock: &RunClock,
    memory: &WorkMemory,
) -> Result<Vec<u8>, RunError> {
    let until = Some(clock.until());
    let cancelled = Some(clock.cancelled());
    program.run(
        input,
        Budget { until, cancelled, memory: Some(&|bytes| memory.try_take(bytes)), ..budget },
    )
}
