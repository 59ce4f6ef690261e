//! The budget that is left of a run, and the ways in which the run stops.
//!
//! Every evaluation step, every byte touched, every allocation and every level of recursion is
//! charged here, so that a bound holds wherever the program spends. A program cannot catch the end
//! of its budget.
//!
//! Work is counted in units: one is about the cost of copying a byte, `STEP` of them are a step.
//! After every `UNITS_BETWEEN_LOOKS` the clock is read. Memory is the bytes that the thread's
//! values hold (`memory_count`) beyond those at the start of the run, with the allocation that is
//! about to be made.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::memory_count::held_bytes;
use super::value::Val;
use super::{Budget, MEMORY_STEP_BYTES, RunError, RunErrorKind};

/// No value is nested deeper.
pub(super) const MAX_DEPTH: u32 = 256;

/// How much of the caller's stack a run takes at most; callers have at least the double.
const STACK_BYTES: usize = 512 * 1024;

/// The bytes that a run holds beside its values: bindings, paths and callbacks, all bounded by its
/// stack.
const OVERHEAD_BYTES: u64 = 64 * 1024;

/// Units of work in a step.
const UNITS_PER_STEP: u64 = 64;

/// After so much work the clock is looked at: about 0.2 ms in a release build.
const UNITS_BETWEEN_CHECKS: u64 = 4096 * UNITS_PER_STEP;

/// The time limit of a run without a deadline, from its first search with a regular expression: the
/// cost of a search cannot be counted in steps.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(2);

/// Why an evaluation ended early.
#[derive(Debug)]
pub(super) enum Stop {
    /// An error that `try` may catch.
    Fault(Box<EvalError>),
    /// On the way to the label with this number.
    Break(u64),
    /// The budget is spent: nothing catches this.
    Spent(&'static str),
    /// Stopped from outside, or by the bound on the output: nothing catches this.
    External(RunErrorKind),
}

/// An error of the program. Its message names types, never data; the value that `error(x)` raised
/// stays beside it.
#[derive(Debug)]
pub(super) struct EvalError {
    pub(super) message: String,
    pub(super) raised: Option<Val>,
}

/// Whether to go on.
pub(super) type Flow<T = ()> = Result<T, Stop>;

/// An error with a message free of data.
pub(super) fn fault<T>(message: impl Into<String>) -> Flow<T> {
    Err(Stop::Fault(Box::new(EvalError { message: message.into(), raised: None })))
}

const NO_STEPS: Stop = Stop::Spent("takes more steps than a run may");
const NO_MEMORY: Stop = Stop::Spent("takes more memory than a run may");

/// The remaining budget of one run.
pub(super) struct BudgetMeter<'b> {
    budget: Budget<'b>,
    /// Units until the clock is looked at.
    slice: u64,
    /// Units beyond those.
    units: u64,
    /// The bytes that the thread held at the start of the run, less the run's bytes beside its
    /// values.
    held_before: u64,
    /// The bytes that the run may hold before it has to reserve more.
    granted: u64,
    /// Where the stack was when the run began.
    stack_base: usize,
}

impl<'b> BudgetMeter<'b> {
    pub(super) fn new(budget: &Budget<'b>) -> Self {
        Self {
            budget: *budget,
            slice: 0,
            units: budget.steps.saturating_mul(UNITS_PER_STEP),
            held_before: held_bytes().wrapping_sub(OVERHEAD_BYTES),
            granted: 0,
            stack_base: stack_address(),
        }
    }

    /// One step deeper.
    #[inline]
    pub(super) fn enter(&mut self) -> Flow {
        if self.stack_base.abs_diff(stack_address()) > STACK_BYTES {
            return Err(Stop::Spent("nests its calls too deeply"));
        }
        self.work(UNITS_PER_STEP)
    }

    /// Work of `n` steps.
    pub(super) fn spend(&mut self, n: u64) -> Flow {
        self.work(n.saturating_mul(UNITS_PER_STEP))
    }

    /// `bytes` looked at, compared or copied.
    #[inline]
    pub(super) fn touch(&mut self, bytes: usize) -> Flow {
        self.work(bytes as u64)
    }

    /// Work of so many units.
    #[inline]
    pub(super) fn work(&mut self, units: u64) -> Flow {
        match self.slice.checked_sub(units) {
            Some(rest) => {
                self.slice = rest;
                Ok(())
            }
            None => self.check_limits(units),
        }
    }

    /// Looks at the clock, and takes these units and the next slice.
    #[cold]
    fn check_limits(&mut self, units: u64) -> Flow {
        let left = self.units.saturating_add(self.slice).checked_sub(units).ok_or(NO_STEPS)?;
        if self.budget.cancelled.is_some_and(|cancelled| cancelled.load(Relaxed)) {
            return Err(Stop::External(RunErrorKind::Cancelled));
        }
        if self.budget.until.is_some_and(|until| Instant::now() >= until) {
            return Err(Stop::External(RunErrorKind::TimedOut));
        }
        self.slice = left.min(UNITS_BETWEEN_CHECKS);
        self.units = left - self.slice;
        Ok(())
    }

    /// A search with a regular expression over `bytes` of text, which looks at the clock in any
    /// case.
    pub(super) fn search(&mut self, bytes: usize) -> Flow {
        self.budget.until.get_or_insert_with(|| Instant::now() + SEARCH_TIMEOUT);
        self.check_limits((bytes as u64).saturating_mul(UNITS_PER_STEP))
    }

    /// Memory about to be taken, and the work of filling it.
    #[inline]
    pub(super) fn alloc(&mut self, bytes: usize) -> Flow {
        self.touch(bytes)?;
        self.require_memory(bytes)
    }

    /// Memory about to be taken.
    #[inline]
    pub(super) fn require_memory(&mut self, bytes: usize) -> Flow {
        let wanted = held_bytes().wrapping_sub(self.held_before).saturating_add(bytes as u64);
        if wanted > self.granted { self.request_memory(wanted) } else { Ok(()) }
    }

    #[cold]
    fn request_memory(&mut self, wanted: u64) -> Flow {
        if wanted > self.budget.memory_bytes {
            return Err(NO_MEMORY);
        }
        let more = (wanted - self.granted).next_multiple_of(MEMORY_STEP_BYTES);
        if self.budget.memory.is_some_and(|ask| !ask(more)) {
            return Err(Stop::External(RunErrorKind::MemoryRefused));
        }
        self.granted = self.granted.saturating_add(more).min(self.budget.memory_bytes);
        Ok(())
    }

    /// Admits a value just built: refuses one that is too large to walk or too deep to drop.
    #[inline]
    pub(super) fn admit(&mut self, val: Val) -> Flow<Val> {
        if val.depth() > MAX_DEPTH {
            return Err(Stop::Spent("builds a value nested more than 256 deep"));
        }
        if val.size() > self.budget.memory_bytes {
            return Err(NO_MEMORY);
        }
        self.require_memory(0)?;
        Ok(val)
    }
}

/// The message of a run that was stopped.
fn stop_message(kind: RunErrorKind) -> &'static str {
    match kind {
        RunErrorKind::Program => "the program was stopped",
        RunErrorKind::OutputTooLong => "the program yields more bytes than a run may",
        RunErrorKind::MemoryRefused => "there is not enough free memory to run the program now",
        RunErrorKind::TimedOut => "the program takes longer than there is time for it",
        RunErrorKind::Cancelled => "nobody waits for the program's result any more",
    }
}

/// An address in the current stack frame.
#[inline(always)]
#[expect(clippy::inline_always, reason = "it asks for its caller's frame")]
fn stack_address() -> usize {
    let mark = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&mark)).addr()
}

impl From<Stop> for RunError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Fault(fault) if fault.raised.is_some() => {
                Self::of_program("the program raised an error")
            }
            Stop::Fault(fault) => Self::of_program(fault.message),
            Stop::Break(_) => Self::of_program("break outside of its label"),
            Stop::Spent(what) => Self::of_program(format!("the program {what}")),
            Stop::External(kind) => Self { message: stop_message(kind).into(), kind },
        }
    }
}
